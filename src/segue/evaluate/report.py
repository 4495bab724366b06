"""Evaluations as files and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from segue.core.console import table
from segue.core.files import write_json, write_text
from segue.evaluate.scores import ALL, Evaluation


def write_metrics(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """``metrics.json``, and beside it the per-case table as ``metrics.csv``."""
    content: dict[str, object] = {}
    for evaluation in evaluations:
        content.update(evaluation.as_json())
    write_json(path, content)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    metrics = ["dice", "volume_ml", "truth_volume_ml", "false_positive_ml", "false_negative_ml"]
    writer.writerow(["part", "case", "patient", "label", *metrics])
    for evaluation in evaluations:
        for case in evaluation.cases:
            for name, scores in case.labels.items():
                values = ["" if scores[metric] is None else f"{scores[metric]:.6g}" for metric in metrics]
                writer.writerow([evaluation.part, case.case, case.patient, name, *values])
    write_text(path.with_suffix(".csv"), text.getvalue())


def metrics_table(evaluation: Evaluation) -> str:
    """What a person wants to see first: Dice per label with its interval, volumes, and the worst cases."""
    rows = []
    for name, metrics in evaluation.aggregate.items():
        dice = metrics["dice"]
        interval = "" if dice["ci95"] is None else f"{dice['ci95'][0]:.3f} to {dice['ci95'][1]:.3f}"
        rows.append([
            name, dice["value"], interval, dice["n"],
            *[metrics[m]["value"] if m in metrics else "" for m in ("truth_volume_ml", "volume_ml")],
        ])  # fmt: skip
    lines = [table(["label", "Dice", "95 % interval", "cases", "truth ml", "predicted ml"], rows)]
    for name, metrics in evaluation.aggregate.items():
        invented = metrics.get("false_positive_ml_without_truth")
        if name != ALL and invented and invented["n"]:
            lines.append(
                f"{invented['n']} case(s) without {name}: {invented['value']:.3f} ml false positive on average"
            )
    scored = [(case.mean_dice, case.case) for case in evaluation.cases if case.mean_dice is not None]
    if len(scored) > 3:
        lines.append("worst: " + ", ".join(f"{name} {dice:.3f}" for dice, name in sorted(scored)[:3]))
    return "\n".join(lines)
