"""Evaluations as files and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segue.core.console import table
from segue.core.files import write_json, write_text
from segue.evaluate.classes import ClassEvaluation
from segue.evaluate.part import ALL
from segue.evaluate.scores import Evaluation

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
    if evaluations:
        writer.writerow(["part", "case", "patient", *evaluations[0].columns()])
    for evaluation in evaluations:
        content.update(evaluation.as_json())
        writer.writerows([evaluation.part, case.case, case.patient, *cells] for case, cells in evaluation.rows())
    write_json(path, content)
    write_text(path.with_suffix(".csv"), text.getvalue())


def metrics_table(evaluation: Evaluation | ClassEvaluation) -> str:
    """What a person wants to see first: the figures with their intervals, by label, and the worst cases."""
    return _of_classes(evaluation) if isinstance(evaluation, ClassEvaluation) else _of_masks(evaluation)


def _of_masks(evaluation: Evaluation) -> str:
    pixel_ml = evaluation.pixel_ml
    unit = "ml" if pixel_ml is None else "pixels"

    def told(volume_ml: float | None) -> float | str | None:
        return volume_ml if pixel_ml is None or volume_ml is None else f"{volume_ml / pixel_ml:.0f}"

    rows = []
    for name, metrics in evaluation.aggregate.items():
        dice = metrics["dice"]
        rows.append([
            name, dice["value"], _interval(dice), dice["n"],
            *[told(metrics[m]["value"]) if m in metrics else "" for m in ("truth_volume_ml", "volume_ml")],
        ])  # fmt: skip
    lines = [table(["label", "Dice", "95 % interval", "cases", f"truth {unit}", f"predicted {unit}"], rows)]
    for name, metrics in evaluation.aggregate.items():
        invented = metrics.get("false_positive_ml_without_truth")
        if name != ALL and invented and invented["n"]:
            volume = f"{invented['value']:.3f}" if pixel_ml is None else told(invented["value"])
            lines.append(f"{invented['n']} case(s) without {name}: {volume} {unit} false positive on average")
    if evaluation.postprocessed is not None:
        means = {name: metrics["dice"]["value"] for name, metrics in evaluation.postprocessed.items()}
        figures = ", ".join(f"{name} {value:.3f}" for name, value in means.items() if value is not None)
        lines.append(f"with post-processing, which was chosen on these cases: Dice {figures}")
    scored = [(case.mean_dice, case.case) for case in evaluation.cases if case.mean_dice is not None]
    if len(scored) > 3:
        lines.append("worst: " + ", ".join(f"{name} {dice:.3f}" for dice, name in sorted(scored)[:3]))
    return "\n".join(lines)


def _of_classes(evaluation: ClassEvaluation) -> str:
    overall = evaluation.aggregate.get(ALL)
    if overall is None:
        return "no case could be measured"
    rows: list[list[Any]] = [
        [words, overall[name]["value"], _interval(overall[name]), overall[name]["n"]]
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


def _interval(figure: dict[str, Any]) -> str:
    return "" if figure["ci95"] is None else f"{figure['ci95'][0]:.3f} to {figure['ci95'][1]:.3f}"
