"""``check.html``: what quality control found, as one page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segue
from segue.catalogue import Dataset
from segue.core.files import write_text
from segue.prepare import SEVERITIES, Examination, Finding, Group, grouped
from segue.view.check_pictures import Shot, shots
from segue.view.distributions import HEIGHT, WIDTH, Chart, charts
from segue.view.page import Section, data_uri, render_page

_NAMED = 5
_MOST_KINDS = 100
_MOST_ROWS = 20_000  # of the table that can be sorted; the whole list is in check.csv


@dataclass(frozen=True)
class CheckFacts:
    """What the page is made from.

    Attributes:
        dataset: None where images were looked at each by itself.
        compared: what was measured, by what was compared with each other.
    """

    name: str
    looked_at: int
    findings: Sequence[Finding]
    dataset: Dataset | None
    compared: Sequence[tuple[Dataset, Sequence[Examination]]]

    @property
    def groups(self) -> list[Group]:
        return grouped(self.findings)


def _summary(facts: CheckFacts) -> dict[str, Any]:
    counts = {severity: sum(f.severity == severity for f in facts.findings) for severity in SEVERITIES}
    bad = len({f.case for f in facts.findings if f.severity == "error" and f.case})
    dataset = facts.dataset
    return {
        "counts": counts,
        "bad": bad,
        "looked_at": facts.looked_at,
        "told": [] if dataset is None else dataset.told_left_out,
        "card": None if dataset is None else dataset.card,
        "root": None if dataset is None else str(dataset.root),
    }


def _kinds(facts: CheckFacts) -> dict[str, Any]:
    groups = facts.groups
    rows = [
        {
            "severity": group.severity,
            "what": group.what,
            "cases": group.cases,
            "remedy": group.remedy,
            "worst": [(f.case, f.measured) for f in group.findings[:_NAMED]],
            "more": len(group.findings) - _NAMED,
        }
        for group in groups[:_MOST_KINDS]
    ]
    return {"rows": rows, "hidden": max(0, len(groups) - _MOST_KINDS)}


def _pictures(facts: CheckFacts) -> dict[str, Any]:
    cases = {case.id: (case, dataset.card) for dataset, _ in facts.compared for case in dataset.cases}
    made: list[Shot] = shots(facts.groups, cases)
    return {"shots": [{"finding": one.finding, "src": data_uri(one.png), "words": one.words} for one in made]}


def _distributions(facts: CheckFacts) -> dict[str, Any]:
    drawn: list[tuple[str, list[Chart]]] = []
    for dataset, examinations in facts.compared:
        of = f" of {dataset.card.title}" if facts.dataset is None else ""
        made = charts(examinations, dataset.card, facts.findings)
        drawn += [(heading + of, several) for heading, several in made]
    return {"headings": drawn, "width": WIDTH, "height": HEIGHT}


def _all(facts: CheckFacts) -> dict[str, Any]:
    count = len(facts.findings)
    return {"count": count, "hidden": max(0, count - _MOST_ROWS), "verdicts": bool(_verdicts(facts))}


def _verdicts(facts: CheckFacts) -> dict[str, str]:
    if facts.dataset is None:
        return {}
    found_in = {finding.case for finding in facts.findings}
    return {name: v.verdict for name, v in facts.dataset.verdicts.items() if name in found_in}


def _data(facts: CheckFacts) -> dict[str, Any]:
    """The list of all findings, for the script that sorts and filters it."""
    groups, verdicts = facts.groups, _verdicts(facts)
    rows = [
        [SEVERITIES.index(f.severity), f.case, number, f.measured, verdicts.get(f.case, "")]
        for number, group in enumerate(groups)
        for f in group.findings
    ]
    return {
        "severities": SEVERITIES,
        "kinds": [{"what": group.what, "remedy": group.remedy or ""} for group in groups],
        "rows": rows[:_MOST_ROWS],
    }


SECTIONS: tuple[Section[CheckFacts], ...] = (
    Section("summary", "Summary", _summary, "check_summary"),
    Section("kinds", "Findings by kind", _kinds, "check_kinds"),
    Section("pictures", "Worst cases", _pictures, "check_pictures"),
    Section("distributions", "Distributions", _distributions, "check_distributions"),
    Section("all", "All findings", _all, "check_all"),
)


def write_check_page(path: Path, facts: CheckFacts) -> Path:
    """Write the page, whole or not at all; it loads nothing and runs no script but its own.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    context = {
        "kicker": f"Quality control of {facts.name}",
        "title": facts.dataset.card.title if facts.dataset is not None else facts.name,
        "version": segue.__version__,
        "finished": None,
        "run": facts.name if facts.dataset is None else facts.dataset.root,
    }
    page = render_page(context, SECTIONS, facts, _data(facts), "check")
    # A file's name may hold bytes that are no text.
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
    return path
