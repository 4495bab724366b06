"""What a check found, as a table in the terminal, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segue
from segue.catalogue import spreadsheet_text
from segue.core.files import atomic_path, write_json
from segue.prepare import SEVERITIES, Group, grouped
from segue.workflow.checking import CheckResult

_NAMED = 5
_COLUMNS = ("severity", "case", "finding", "value", "remedy", "x_mm", "y_mm", "z_mm", "verdict")


def finding_lines(checked: CheckResult) -> list[str]:
    """A paragraph per kind of finding, errors first, with the worst cases; then the counts.

    Ten thousand findings are as many lines as there are kinds: the whole list is in ``check.csv``.
    """
    lines = []
    for group in grouped(checked.findings):
        lines += _paragraph(group)
    counts = [sum(f.severity == severity for f in checked.findings) for severity in SEVERITIES]
    lines.append(f"{checked.looked_at} looked at: {counts[0]} errors, {counts[1]} warnings, {counts[2]} notes")
    return lines


def _paragraph(group: Group) -> list[str]:
    if len(group.findings) == 1:
        first, *rest = str(group.findings[0]).split("\n")
        return [f"{group.severity}: {first}", *rest]
    worst = group.findings[:_NAMED]
    measured = {finding.measured for finding in group.findings}
    same = measured.pop() if len(measured) == 1 else ""
    what = group.what + (f" ({same})" if same else "")
    named = [(f.case or "the dataset") + (f" ({f.measured})" if f.measured and not same else "") for f in worst]
    more = len(group.findings) - _NAMED
    count = f"{group.cases} case{'s' if group.cases != 1 else ''}" if group.cases else f"{len(group.findings)} times"
    lines = [f"{group.severity}: {count}: {what}", "  " + ", ".join(named) + (f" and {more} more" if more > 0 else "")]
    return lines + ([f"  -> {group.remedy}"] if group.remedy else [])


def write_tables(checked: CheckResult, folder: Path) -> list[Path]:
    """``check.csv`` (a row per finding, no cell a formula) and ``check.json`` in ``folder``.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    verdicts = checked.dataset.verdicts if checked.dataset is not None else {}
    groups = grouped(checked.findings)
    rows: list[Sequence[Any]] = [_COLUMNS]
    for group in groups:
        for f in group.findings:
            verdict = verdicts[f.case].verdict if f.case in verdicts else ""
            texts = (f.severity, f.case, f.what, f.value or "", f.remedy or "")
            place = [f"{value:.1f}" for value in f.at_mm] if f.at_mm else ["", "", ""]
            # A number that begins with a minus is no formula.
            rows.append([*map(spreadsheet_text, texts), *place, verdict])
    table = io.StringIO(newline="")
    csv.writer(table, "unix").writerows(rows)
    listed, content = folder / "check.csv", folder / "check.json"
    with atomic_path(listed) as temporary:
        temporary.write_bytes(table.getvalue().encode("utf-8", "surrogateescape"))
    dataset = checked.dataset
    write_json(
        content,
        {
            "segue": segue.__version__,
            "name": checked.name,
            "root": None if dataset is None else dataset.root,
            "looked_at": checked.looked_at,
            "left_out": {} if dataset is None else dataset.left_out,
            "counts": {severity: sum(f.severity == severity for f in checked.findings) for severity in SEVERITIES},
            "kinds": [
                {
                    "severity": group.severity,
                    "finding": group.what,
                    "cases": group.cases,
                    "findings": len(group.findings),
                    "remedy": group.remedy,
                    "worst": [finding.case for finding in group.findings[:_NAMED]],
                }
                for group in groups
            ],
            "findings": [finding for group in groups for finding in group.findings],
        },
    )
    return [listed, content]
