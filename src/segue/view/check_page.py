"""``check.html``: what quality control found, as one page that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import segue
from segue.catalogue import Dataset
from segue.core.files import write_text
from segue.prepare import SEVERITIES, Examination, Finding, Group, grouped
from segue.view.check_pictures import Shot, shots
from segue.view.distributions import HEIGHT, WIDTH, Chart, charts
from segue.view.sections import data_uri

_NAMED = 5
_MOST_KINDS = 100
_MOST_ROWS = 20_000  # of the table that can be sorted; the whole list is in check.csv


@dataclass(frozen=True)
class CheckFacts:
    """What the page is made from.

    Attributes:
        dataset: None where images were looked at each by itself.
    """

    name: str
    looked_at: int
    findings: Sequence[Finding]
    dataset: Dataset | None
    examinations: Sequence[Examination]

    @property
    def groups(self) -> list[Group]:
        return grouped(self.findings)


@dataclass(frozen=True)
class CheckSection:
    """One part of the page; its template is ``check_<name>.html``."""

    name: str
    title: str
    content: Callable[[CheckFacts], dict[str, Any]]


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
    dataset = facts.dataset
    made: list[Shot] = []
    if dataset is not None and dataset.card.task != "unlabelled":
        made = shots(facts.groups, {case.id: case for case in dataset.cases}, dataset.card)
    return {"shots": [{"finding": one.finding, "src": data_uri(one.png), "words": one.words} for one in made]}


def _distributions(facts: CheckFacts) -> dict[str, Any]:
    drawn: list[tuple[str, list[Chart]]] = []
    if facts.dataset is not None:
        drawn = charts(facts.examinations, facts.dataset.card, facts.findings)
    return {"headings": drawn, "width": WIDTH, "height": HEIGHT}


def _all(facts: CheckFacts) -> dict[str, Any]:
    groups = facts.groups
    verdicts = {} if facts.dataset is None else {name: v.verdict for name, v in facts.dataset.verdicts.items()}
    rows = [
        [SEVERITIES.index(f.severity), f.case, number, f.measured, verdicts.get(f.case, "")]
        for number, group in enumerate(groups)
        for f in group.findings
    ]
    data = {
        "severities": SEVERITIES,
        "kinds": [{"what": group.what, "remedy": group.remedy or ""} for group in groups],
        "rows": rows[:_MOST_ROWS],
    }
    return {"data": _script_safe(data), "count": len(rows), "hidden": max(0, len(rows) - _MOST_ROWS),
            "verdicts": any(row[4] for row in rows)}  # fmt: skip


def _script_safe(data: Any) -> Markup:
    """JSON for a ``<script>`` that is data: nothing in it can end the element."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


SECTIONS = (
    CheckSection("summary", "Summary", _summary),
    CheckSection("kinds", "Findings by kind", _kinds),
    CheckSection("pictures", "Worst cases", _pictures),
    CheckSection("distributions", "Distributions", _distributions),
    CheckSection("all", "All findings", _all),
)


def write_check_page(path: Path, facts: CheckFacts) -> Path:
    """Write the page, whole or not at all; it loads nothing and runs no script but its own.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    environment = Environment(
        loader=PackageLoader("segue.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [
        {
            "name": section.name,
            "title": section.title,
            "body": environment.get_template(f"check_{section.name}.html").render(section.content(facts)),
        }
        for section in SECTIONS
    ]
    script = files("segue.view").joinpath("templates", "check.js").read_text(encoding="utf-8")
    page = environment.get_template("check_page.html").render(
        title=facts.dataset.card.title if facts.dataset is not None else facts.name,
        name=facts.name,
        version=segue.__version__,
        sections=sections,
        script=Markup(script),
        # Only this very script runs, whatever a name in the data contains.
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
    return path
