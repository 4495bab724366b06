"""Metrics over cases, and their aggregation."""

from segue.evaluate.classes import ClassEvaluation, ClassScores, aggregate_classes
from segue.evaluate.pairs import Pair, pair_folders, read_dataset_name, read_label_names
from segue.evaluate.postprocessing import CaseComponents, choose_postprocessing, measure_components
from segue.evaluate.report import metrics_table, write_metrics
from segue.evaluate.scores import CaseScores, Evaluation, aggregate, common_pixel_ml, score_pair

__all__ = [
    "CaseComponents",
    "CaseScores",
    "ClassEvaluation",
    "ClassScores",
    "Evaluation",
    "Pair",
    "aggregate",
    "aggregate_classes",
    "choose_postprocessing",
    "common_pixel_ml",
    "measure_components",
    "metrics_table",
    "pair_folders",
    "read_dataset_name",
    "read_label_names",
    "score_pair",
    "write_metrics",
]
