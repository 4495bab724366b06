"""``view --report``: the report of a run as one file, or the page that compares several."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segue.catalogue import Case, dataset_at
from segue.core.console import say
from segue.core.errors import DataError, UsageError
from segue.evaluate import Comparison
from segue.train import Run
from segue.view import write_comparison_page, write_report
from segue.workflow.comparing import compare_runs


def renew_report(folders: Sequence[Path], browser: bool = True) -> Path:
    """Write the report of one run again, or compare the first of several with each of the others, and open it.

    A comparison is written as ``comparison.html`` into the first folder.

    Raises:
        UsageError: not a run folder, or nothing was measured there. DataError: runs without a case in common.
    """
    if len(folders) == 1:
        run = Run(folders[0])
        run.plan()
        path = write_report(run, cases_of(run))
    else:
        path = write_compared(folders[0] / "comparison.html", compare_runs(folders))
    if browser and not webbrowser.open(path.resolve().as_uri()):
        say("no browser here: open the file by hand")
    return path


def write_compared(path: Path, comparison: Comparison) -> Path:
    """The page of a comparison, with what the dataset of the first run tells of its cases."""
    return write_comparison_page(path, comparison, _facts(comparison))


def _facts(comparison: Comparison) -> Mapping[str, Mapping[str, Any]]:
    for one in comparison.runs:
        run = Run(Path(one.name))
        if run.config.exists():
            try:
                return {name: case.facts for name, case in cases_of(run).items()}
            except UsageError:
                continue
    return {}


def cases_of(run: Run) -> dict[str, Case]:
    """The cases of a run's dataset by id; none, and a word about it, where the dataset is not there any more."""
    try:
        return {case.id: case for case in dataset_at(run.card(), Path(run.settings()["root"])).cases}
    except DataError as error:
        say(f"without pictures: {error}")
        return {}
