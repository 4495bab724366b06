"""Pure functions of arrays: overlap, surfaces, lesions, PET, classes, intervals, comparisons."""

from segue.metrics.brats import LesionwiseScores, brats_lesionwise
from segue.metrics.calibration import VoxelCalibration, voxel_calibration
from segue.metrics.class_intervals import Resampled, percentile_ci95, resample_classes
from segue.metrics.classes import (
    CALIBRATION_BINS,
    Counts,
    Kind,
    Reliability,
    accuracy,
    answer_table,
    balanced_accuracy,
    brier_score,
    class_aucs,
    confusion,
    count,
    macro_f1,
    mean_auc,
    quadratic_kappa,
    reliability,
    roc_points,
    truth_table,
)
from segue.metrics.columns import bootstrap_columns
from segue.metrics.comparing import Paired, holm, paired
from segue.metrics.intervals import bootstrap_ci95
from segue.metrics.lesions import (
    CONNECTIVITY,
    ComponentRule,
    Components,
    LesionCounts,
    lesion_counts,
    match_components,
    postprocessed,
    unmatched_voxels,
)
from segue.metrics.overlap import Overlap, overlap
from segue.metrics.pet import PetMeasures, pet_measures
from segue.metrics.surfaces import SurfaceScores, surface_scores

__all__ = [
    "CALIBRATION_BINS",
    "CONNECTIVITY",
    "ComponentRule",
    "Components",
    "Counts",
    "Kind",
    "LesionCounts",
    "LesionwiseScores",
    "Overlap",
    "Paired",
    "PetMeasures",
    "Reliability",
    "Resampled",
    "SurfaceScores",
    "VoxelCalibration",
    "accuracy",
    "answer_table",
    "balanced_accuracy",
    "bootstrap_ci95",
    "bootstrap_columns",
    "brats_lesionwise",
    "brier_score",
    "class_aucs",
    "confusion",
    "count",
    "holm",
    "lesion_counts",
    "macro_f1",
    "match_components",
    "mean_auc",
    "overlap",
    "paired",
    "percentile_ci95",
    "pet_measures",
    "postprocessed",
    "quadratic_kappa",
    "reliability",
    "resample_classes",
    "roc_points",
    "surface_scores",
    "truth_table",
    "unmatched_voxels",
    "voxel_calibration",
]
