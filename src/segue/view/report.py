"""The report of a run: one HTML file that needs nothing beside it, but for the images that open on a click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import segue
from segue.catalogue import Case
from segue.core.files import write_text
from segue.train import Run
from segue.view.classes import CLASS_SECTIONS
from segue.view.facts import read_facts
from segue.view.page import render_page
from segue.view.page_data import case_data, class_data, curve_data
from segue.view.sections import SECTIONS
from segue.view.volumes import write_volumes


def write_report(run: Run, truths: Mapping[str, Case]) -> Path:
    """Write ``report.html`` into the run folder, whole or not at all, and return its path.

    What the run does not have yet (metrics, predictions, events) or has no more (images) is said in words in its
    place. The page holds its style, its pictures, the data of its charts and one script, and loads nothing by itself;
    without the script every table and picture is there all the same. The viewer and the volumes that it opens on a
    click lie beside it in the folder ``report``.

    Args:
        run: the run folder.
        truths: the cases of the dataset by id, for the pictures; a case that is not among them has none.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    facts = read_facts(run, truths)
    facts = replace(facts, volumes=write_volumes(facts))
    card = facts.card
    page = render_page(
        {
            "kicker": "Report of a training" + (f" on {card.name}" if card else ""),
            "title": card.title if card else run.folder.name,
            "version": segue.__version__,
            "finished": facts.environment.get("finished"),
            "run": str(run.folder),
        },
        CLASS_SECTIONS if card is not None and card.task == "classification" else SECTIONS,
        facts,
        {
            "cases": case_data(facts),
            "curves": curve_data(facts),
            "classes": class_data(facts),
            "volumes": facts.volumes,
        },
    )
    write_text(run.report, page)
    return run.report
