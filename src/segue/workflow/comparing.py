"""Comparing runs, and folders of masks that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.core.console import say
from segue.evaluate import Comparison, MeasuredRun, compare, read_measured
from segue.train import Run


def compare_runs(paths: Sequence[Path], device: str = "auto", workers: int | None = None) -> Comparison:
    """The first against each of the others, by the figures in their ``metrics.json``; a run without any is measured.

    Raises:
        UsageError: nothing was measured in one of them. DataError: two of them have no case in common.
    """
    measured = []
    for path in paths:
        run = Run(path)
        if run.config.exists() and not run.metrics.exists():
            from segue.workflow.folds import evaluate_again  # brings torch, which comparing does without

            evaluate_again(run, device, workers)
        measured.append(read_measured(path))
        _say_what_is_missing(measured[-1])
    return compare(measured)


def _say_what_is_missing(run: MeasuredRun) -> None:
    values = [figures for cases in run.parts.values() for case in cases.values() for figures in case.values.values()]
    if any("dice" in figures for figures in values) and not any("hd95_mm" in figures for figures in values):
        say(f"note: {run.name} was measured without surfaces, by an older segue: measure it again to compare them")
