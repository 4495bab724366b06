"""Metrics over cases, and their aggregation."""

from segue.evaluate.aggregation import Evaluation, aggregate, common_pixel_ml, distance_unit
from segue.evaluate.classes import ClassEvaluation, ClassScores, aggregate_classes
from segue.evaluate.comparing import RISES, Comparison, MeasuredRun, Versus, compare, paired_figures, read_measured
from segue.evaluate.comparison_report import comparison_table, write_comparison
from segue.evaluate.keeping import ScoreTask, score_task
from segue.evaluate.measures import BY_NAME, PRESETS, Lesionwise, Measures, measures_for
from segue.evaluate.naming import read_dataset_name, read_label_names
from segue.evaluate.pairs import Pair, Probabilities, SuvImage, Wanted, names_of, pair_folders, pairs_of, suv_of
from segue.evaluate.postprocessing import CaseComponents, choose_postprocessing, measure_components
from segue.evaluate.report import metrics_table, write_metrics
from segue.evaluate.scores import CaseScores, score_pair

__all__ = [
    "BY_NAME",
    "PRESETS",
    "RISES",
    "CaseComponents",
    "CaseScores",
    "ClassEvaluation",
    "ClassScores",
    "Comparison",
    "Evaluation",
    "Lesionwise",
    "MeasuredRun",
    "Measures",
    "Pair",
    "Probabilities",
    "ScoreTask",
    "SuvImage",
    "Versus",
    "Wanted",
    "aggregate",
    "aggregate_classes",
    "choose_postprocessing",
    "common_pixel_ml",
    "compare",
    "comparison_table",
    "distance_unit",
    "measure_components",
    "measures_for",
    "metrics_table",
    "names_of",
    "pair_folders",
    "paired_figures",
    "pairs_of",
    "read_dataset_name",
    "read_label_names",
    "read_measured",
    "score_pair",
    "score_task",
    "suv_of",
    "write_comparison",
    "write_metrics",
]
