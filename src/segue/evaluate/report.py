"""Evaluations as files and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segue.core.console import table
from segue.core.files import write_json, write_text
from segue.evaluate.aggregation import Evaluation
from segue.evaluate.classes import ClassEvaluation
from segue.evaluate.part import ALL
from segue.evaluate.tables import interval, mask_table

_MISTAKES = 3
_OVERALL = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "kappa": "weighted kappa",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
_PER_CLASS = ("auc", "sensitivity", "specificity", "precision", "f1")


def write_metrics(path: Path, evaluations: Sequence[Evaluation | ClassEvaluation]) -> None:
    """``metrics.json``, and beside it the per-case table as ``metrics.csv``; all evaluations are of one task."""
    content: dict[str, object] = {}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(dict.fromkeys(column for evaluation in evaluations for column in evaluation.columns()))
    if evaluations:
        writer.writerow(["part", "case", "patient", *columns])
    for evaluation in evaluations:
        content.update(evaluation.as_json())
        own = evaluation.columns()
        for case, cells in evaluation.rows():
            told = dict(zip(own, cells, strict=True))
            writer.writerow([evaluation.part, case.case, case.patient, *(told.get(column, "") for column in columns)])
    write_json(path, content)
    write_text(path.with_suffix(".csv"), text.getvalue())


def metrics_table(evaluation: Evaluation | ClassEvaluation) -> str:
    """What a person wants to see first: the figures with their intervals, by label, and the worst cases."""
    return _of_classes(evaluation) if isinstance(evaluation, ClassEvaluation) else mask_table(evaluation)


def _of_classes(evaluation: ClassEvaluation) -> str:
    overall = evaluation.aggregate.get(ALL)
    if overall is None:
        return "no case could be measured"
    rows: list[list[Any]] = [
        [words, overall[name]["value"], interval(overall[name]), overall[name]["n"]]
        for name, words in _OVERALL.items()
        if name in overall
    ]
    lines = [table(["", "value", "95 % interval", "cases"], rows), ""]
    rows = [
        [name, metrics["sensitivity"]["n"], *[metrics[metric]["value"] for metric in _PER_CLASS]]
        for name, metrics in evaluation.aggregate.items()
        if name != ALL
    ]
    lines.append(table(["class", "cases", "AUC", "sensitivity", "specificity", "precision", "F1"], rows))
    mistakes = evaluation.mistakes()
    if mistakes:
        told = [f"{case} ({what}, {confidence:.3f})" for confidence, case, what in mistakes[:_MISTAKES]]
        lines.append("most confident mistakes: " + ", ".join(told))
    return "\n".join(lines)
