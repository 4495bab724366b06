"""Pure functions of arrays: overlap, lesions, classes, intervals."""

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
from segue.metrics.intervals import bootstrap_ci95
from segue.metrics.lesions import (
    CONNECTIVITY,
    ComponentRule,
    Components,
    match_components,
    postprocessed,
    unmatched_voxels,
)
from segue.metrics.overlap import Overlap, overlap

__all__ = [
    "CALIBRATION_BINS",
    "CONNECTIVITY",
    "ComponentRule",
    "Components",
    "Counts",
    "Kind",
    "Overlap",
    "Reliability",
    "Resampled",
    "accuracy",
    "answer_table",
    "balanced_accuracy",
    "bootstrap_ci95",
    "brier_score",
    "class_aucs",
    "confusion",
    "count",
    "macro_f1",
    "match_components",
    "mean_auc",
    "overlap",
    "percentile_ci95",
    "postprocessed",
    "quadratic_kappa",
    "reliability",
    "resample_classes",
    "roc_points",
    "truth_table",
    "unmatched_voxels",
]
