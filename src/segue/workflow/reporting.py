"""``view``: the report of a run in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from segue.catalogue import dataset_at
from segue.core.console import say
from segue.core.errors import DataError
from segue.train import Run
from segue.view import write_report


def open_report(folder: Path) -> Path:
    """Write the report if it is missing or older than the run's figures, and open it.

    Raises:
        UsageError: not a run folder.
    """
    run = Run(folder)
    run.plan()
    figures = [path for path in (run.metrics, run.events) if path.exists()]
    if not run.report.exists() or any(path.stat().st_mtime > run.report.stat().st_mtime for path in figures):
        try:
            dataset = dataset_at(run.card(), Path(run.settings()["root"]))
            truths = {case.id: case for case in (*dataset.cases, *dataset.set_aside)}
        except DataError as error:
            say(f"without pictures: {error}")
            truths = {}
        write_report(run, truths)
    if not webbrowser.open(run.report.resolve().as_uri()):
        say("no browser here: open the file by hand")
    return run.report
