"""Options that several commands share."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", help="Where datasets lie.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes over cases (default: one per core).")]
Dataset = Annotated[str, typer.Argument(help="A dataset's name, a card (.yaml), a folder, or an experiment (.yaml).")]
Minutes = Annotated[float | None, typer.Option(help="Budget: minutes of training.")]
Hours = Annotated[float | None, typer.Option(help="Budget: hours of training.")]
Epochs = Annotated[int | None, typer.Option(help="Budget: passes over the training cases.")]
Steps = Annotated[int | None, typer.Option(help="Budget: training steps.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting, for example train.learning_rate=1e-3.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad cases out instead of stopping.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help="Where cases are worked on: local:4, tcp://HOST:8786 (Dask), slurm:SETTINGS.yaml."),
]
Shard = Annotated[
    str | None, typer.Option("--shard", help="Only one part of the cases, such as 3/8. A run without it gathers.")
]
Memory = Annotated[str | None, typer.Option("--memory", help="What all workers may use together, for example 16GB.")]

Cache = Annotated[
    Path | None,
    typer.Option("--cache", help="Where prepared cases lie (default: DATA/prepared)."),
]


_WORK = ExitStack()


def begin_work(cluster: str | None, shard: str | None, memory: str | None) -> None:
    """Cases are worked on so until the command ends (:func:`end_work`).

    Raises:
        UsageError, MachineError: see :func:`segue.core.work.at_work` and :func:`segue.core.cluster.open_cluster`.
    """
    if cluster is shard is memory is None:
        return
    from segue.core.memory import memory_of
    from segue.core.work import at_work

    bound_gb = None if memory is None else memory_of(memory, "--memory")
    _WORK.enter_context(at_work(shard, bound_gb))  # what is wrong with these is told before anything starts
    if cluster is not None:
        from segue.core.cluster import open_cluster

        executor = _WORK.enter_context(open_cluster(cluster, bound_gb))
        _WORK.enter_context(at_work(shard, bound_gb, executor))


def end_work() -> None:
    """Close what :func:`begin_work` opened."""
    _WORK.close()
