"""A comparison as files and as a table."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path

from segue.core.console import table
from segue.core.files import write_json, write_text
from segue.evaluate.comparing import Change, Comparison, Difference, Versus
from segue.evaluate.part import ALL
from segue.evaluate.tables import listed, names_lesions, shortened

_SHOWN = ("dice", "nsd", "hd95_mm", "lesionwise_dice", "lesionwise_hd95_mm", "accuracy", "probability_of_truth")
_OF_LESIONS = ("lesion_sensitivity", "false_positive_lesions")
_WORDS = {
    "dice": "Dice",
    "nsd": "NSD",
    "hd95_mm": "HD95 mm",
    "lesion_sensitivity": "lesions found",
    "false_positive_lesions": "false lesions",
    "lesionwise_dice": "LW Dice",
    "lesionwise_hd95_mm": "LW HD95 mm",
    "probability_of_truth": "p of the truth",
}
_PARTS = {"val": "validation cases", "test": "test cases"}
_FEW = 0.001
_COLUMNS = [
    *("one", "other", "part", "label", "metric", "one_mean", "other_mean", "difference", "low", "high", "p", "p_holm"),
    *("cases", "one_better", "other_better", "equal"),
]


def write_comparison(path: Path, comparison: Comparison) -> None:
    """``comparison.json`` and ``comparison.csv`` in the folder ``path``; in its place where it ends in ``.json``."""
    file = path if path.suffix == ".json" else path / "comparison.json"
    pairs = [
        {**asdict(versus), "differences": [_told(difference) for difference in versus.differences]}
        for versus in comparison.pairs
    ]
    write_json(file, {"comparisons": pairs})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for versus in comparison.pairs:
        for row in versus.differences:
            low, high = row.found.ci95 or (None, None)
            values = [row.one, row.other, row.found.difference, low, high, row.found.p, row.p_holm]
            writer.writerow(
                [versus.one, versus.other, versus.part, row.label, row.metric]
                + ["" if value is None else f"{value:.6g}" for value in values]
                + [row.found.n, row.one_better, row.other_better, _equal(row)]
            )
    write_text(file.with_suffix(".csv"), text.getvalue())


def _told(row: Difference) -> dict[str, object]:
    return {
        "label": row.label,
        "metric": row.metric,
        "one": row.one,
        "other": row.other,
        "difference": {"value": row.found.difference, "ci95": row.found.ci95, "n": row.found.n},
        "p": row.found.p,
        "p_holm": row.p_holm,
        "one_better": row.one_better,
        "other_better": row.other_better,
        "equal": _equal(row),
    }


def _equal(row: Difference) -> int:
    return row.found.n - row.one_better - row.other_better


def comparison_table(comparison: Comparison) -> str:
    """Each pair of runs: the differences that a person wants to see first, and who wins where."""
    blocks = [_block(versus, number) for number, versus in enumerate(comparison.pairs)]
    note = (
        "intervals: bootstrap over patients; p: Wilcoxon's signed ranks over patients, corrected by Holm for\n"
        "all labels and runs of the same metric; wins: the cases in which one is better"
    )
    shown = {row.metric for versus in comparison.pairs for row in versus.differences}
    if "lesionwise_dice" in shown:
        note += "; LW: lesion-wise as BraTS"
    return "\n\n".join([*blocks, note])


def _block(versus: Versus, number: int) -> str:
    other = chr(ord("B") + number) if number < 25 else "Z"
    whom = f" of {versus.patients} patients" if versus.patients != versus.cases else ""
    left = f"; {versus.left_out} only one of them has" if versus.left_out else ""
    lines = [
        f"A: {versus.one}",
        f"{other}: {versus.other}",
        f"{versus.cases} {_PARTS.get(versus.part, 'cases')}{whom} that both have{left}",
        "",
    ]
    header = ["", "", "A", other, f"{other} - A", "95 % interval", "p", "A wins", f"{other} wins"]
    rows = [
        [
            "mean of labels" if row.label == ALL and row.metric not in ("accuracy", "probability_of_truth") else
            shortened(row.label, 18),
            _WORDS.get(row.metric, row.metric),
            _number(row.one, row.metric),
            _number(row.other, row.metric),
            _number(row.found.difference, row.metric, sign=True),
            "" if row.found.ci95 is None else " to ".join(_number(x, row.metric, sign=True) for x in row.found.ci95),
            "" if row.p_holm is None else f"<{_FEW:g}" if row.p_holm < _FEW else f"{row.p_holm:.3f}",
            row.one_better,
            row.other_better,
        ]
        for row in versus.differences
        if row.metric in _SHOWN or (row.metric in _OF_LESIONS and names_lesions(row.label))
    ]  # fmt: skip
    lines.append(table(header, rows, left=(0, 1)))
    for words, changes in ((f"{other} is better by most in", versus.gains), ("A is better by most in", versus.losses)):
        if changes:
            lines.append(listed(words, [_change(change) for change in changes]))
    return "\n".join([*lines, *(f"warning: {remark}" for remark in versus.remarks)])


def _change(change: Change) -> str:
    words = _WORDS.get(change.metric, change.metric)
    return f"{change.case} ({words} {_number(change.one, change.metric)} to {_number(change.other, change.metric)})"


def _number(value: float, metric: str, sign: bool = False) -> str:
    digits = 2 if metric.endswith("_mm") or metric == "false_positive_lesions" else 3
    return f"{value:{'+' if sign else ''}.{digits}f}"
