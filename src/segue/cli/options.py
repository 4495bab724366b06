"""Options that several commands share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", help="Where datasets lie.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes over cases (default: one per core).")]
Dataset = Annotated[
    str,
    typer.Argument(help="A dataset's name, a card (.yaml), a folder or its address, or an experiment (.yaml)."),
]
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


def at_hand(given: str | Path, data: Path) -> Path:
    """An input's path on this disk. What has an address (``s3://...``) is brought below ``data`` first.

    Raises:
        UsageError, DataError, MachineError: see :func:`segue.acquire.bring_reference`.
    """
    from segue.core.addresses import is_address

    if not is_address(given) and Path(given).suffix not in (".yaml", ".yml"):
        return Path(given)
    from segue.acquire import bring_reference

    return Path(bring_reference(str(given), data))


_WRITTEN = ("-o", "--output", "--data", "--cache", "--runs", "--fix")


def require_local(words: Sequence[str]) -> None:
    """Results are written to a disk: an address would become a folder of that name.

    Raises:
        UsageError: an address where something is written.
    """
    from segue.core.addresses import is_address

    for option, value in [*itertools.pairwise(words), *(word.split("=", 1) for word in words if "=" in word)]:
        if option in _WRITTEN and is_address(value):
            from segue.core.errors import UsageError

            raise UsageError(
                "this is a folder to write to, and must lie on a disk",
                where=option,
                remedy="give a folder here; a dataset elsewhere is named by its whole address, s3://BUCKET/DATASET",
            )


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
