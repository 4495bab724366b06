"""The report of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import segue
from segue.catalogue import Case
from segue.core.errors import SegueError
from segue.core.files import write_text
from segue.train import Run
from segue.view.classes import CLASS_SECTIONS
from segue.view.facts import RunFacts, read_facts
from segue.view.page_data import case_data, class_data, curve_data
from segue.view.scripts import in_script, read_script, script_hash
from segue.view.sections import SECTIONS, Section
from segue.view.words import dice


def write_report(run: Run, truths: Mapping[str, Case]) -> Path:
    """Write ``report.html`` into the run folder, whole or not at all, and return its path.

    What the run does not have yet (metrics, predictions, events) or has no more (images) is said in words in its
    place. The page holds its style, its pictures, the data of its charts and one script, and loads nothing by itself;
    without the script every table and picture is there all the same.

    Args:
        run: the run folder.
        truths: the cases of the dataset by id, for the pictures; a case that is not among them has none.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    facts = read_facts(run, truths)
    environment = Environment(
        loader=PackageLoader("segue.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["dice"] = dice
    classified = facts.card is not None and facts.card.task == "classification"
    declared = CLASS_SECTIONS if classified else SECTIONS
    sections = [_rendered(environment, section, facts) for section in declared if section.applies(facts)]
    script = read_script("report")
    page = environment.get_template("page.html").render(
        title=facts.card.title if facts.card else run.folder.name,
        dataset=facts.card.name if facts.card else None,
        run=str(run.folder),
        version=segue.__version__,
        finished=facts.environment.get("finished"),
        sections=sections,
        data=in_script({"cases": case_data(facts), "curves": curve_data(facts), "classes": class_data(facts)}),
        script=script,
        script_source=script_hash(script) if script else "'none'",
    )
    write_text(run.report, page)
    return run.report


def _rendered(environment: Environment, section: Section, facts: RunFacts) -> dict[str, Any]:
    template = environment.get_template(section.template)
    try:
        # "problem" is what a section says instead of its content; only those that have one set it.
        body = template.render({"problem": None, **section.content(facts)})
    except SegueError as error:
        body = environment.get_template("problem.html").render(problem=str(error))
    return {"name": section.name, "title": section.title, "body": body}
