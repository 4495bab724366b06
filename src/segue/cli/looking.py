"""``check`` and ``view``: looking at data before training, and at what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segue.cli.options import Cache, Cluster, Data, Memory, Shard, Workers, begin_work
from segue.core.console import result


def check(
    what: Annotated[str, typer.Argument(help="A dataset's name, a card (.yaml), a folder, or an image.")],
    data: Data = Path("data"),
    workers: Workers = None,
    cluster: Cluster = None,
    shard: Shard = None,
    memory: Memory = None,
    cache: Cache = None,
) -> None:
    """Find what is wrong with images and labels.

    Exit code 3 if there are errors.

    Example: segue check msd/hippocampus
    """
    from segue.workflow.inspecting import describe
    from segue.workflow.look import check as run_check

    begin_work(cluster, shard, memory)
    checked = run_check(what, data, workers, cache)
    if Path(what).is_file() and not what.endswith((".yaml", ".yml")) and not checked.errors:
        for name, value in describe(Path(what)):
            result(f"{name:<12} {value}")
    order = {"error": 0, "warning": 1, "note": 2}
    for finding in sorted(checked.findings, key=lambda f: (order[f.severity], f.case)):
        result(f"{finding.severity}: {finding}")
    counts = [sum(f.severity == severity for f in checked.findings) for severity in order]
    result(f"{checked.looked_at} looked at: {counts[0]} errors, {counts[1]} warnings, {counts[2]} notes")
    if checked.errors:
        raise typer.Exit(3)


def view(run: Annotated[Path, typer.Argument(help="The run folder of a training.")]) -> None:
    """Open the report of a run in the browser.

    Example: segue view runs/hippo
    """
    from segue.workflow.reporting import open_report

    result(str(open_report(run)))
