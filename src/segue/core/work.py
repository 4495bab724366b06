"""Where the work over cases is done, and which part of it: set once by a command, asked by whoever maps over cases."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from segue.core.errors import UsageError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """The ``number``-th of ``of`` parts of the cases, counted from 1."""

    number: int
    of: int

    def part(self, items: Sequence[Item]) -> list[Item]:
        """Every ``of``-th item: neighbours, which are often alike in size, go to different shards."""
        return list(items[self.number - 1 :: self.of])

    @property
    def name(self) -> str:
        return f"{self.number}-of-{self.of}"

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def shard_of(text: str) -> Shard:
    """``3/8`` as the third of eight shards.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text.strip())
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of:
        raise UsageError(
            "this is no part of a whole",
            where=f"--shard {text}",
            remedy="write I/N with I from 1 to N, such as 3/8; of a SLURM array from 1 to 8: "
            "--shard $SLURM_ARRAY_TASK_ID/8",
        )
    return Shard(number, of)


@dataclass(frozen=True)
class Work:
    """How the cases of a command are worked on.

    Attributes:
        executor: what runs them; None for processes of this machine.
        shard: the part of them that this command does; None for all of them.
        memory_gb: what this process and its workers may use together; None for no bound.
    """

    executor: Executor | None = None
    shard: Shard | None = None
    memory_gb: float | None = None


_CURRENT: ContextVar[Work] = ContextVar("work", default=Work())  # noqa: B039  (frozen)


def current_work() -> Work:
    return _CURRENT.get()


def mine(items: Sequence[Item]) -> list[Item]:
    """Those of the items that this command is to do: all of them, but for a shard."""
    shard = current_work().shard
    return list(items) if shard is None else shard.part(items)


@contextmanager
def at_work(
    shard: str | None = None, memory_gb: float | None = None, executor: Executor | None = None
) -> Iterator[Work]:
    """Within, cases are worked on as a command line asks for it.

    Args:
        shard: ``3/8``.
        memory_gb: see :class:`Work`, and ``executor`` too (:func:`segue.core.cluster.open_cluster` gives one).

    Raises:
        UsageError: no such shard.
    """
    part = None if shard is None else shard_of(shard)
    token = _CURRENT.set(Work(executor, part, memory_gb))
    try:
        yield _CURRENT.get()
    finally:
        _CURRENT.reset(token)
