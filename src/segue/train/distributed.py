"""The processes of one training: ``torchrun`` starts them, plain ``torch.distributed`` joins them.

One process is a world of its own, in which nothing here costs anything.
"""

from __future__ import annotations

import atexit
import datetime
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from segue.core.errors import MachineError

# The first process downloads, checks and prepares while the others wait for it.
_PATIENCE = datetime.timedelta(hours=24)

Anything = TypeVar("Anything")


@dataclass(frozen=True)
class World:
    """One of ``size`` processes."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """This process's part of a batch of ``total``; empty where there are more processes than rows."""
        return slice(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def total(self, sums: Tensor) -> Tensor:
        """The sum over all processes, with its gradient."""
        if self.size == 1:
            return sums
        from torch.distributed.nn.functional import all_reduce

        return all_reduce(sums)

    def same(self, value: Anything) -> Anything:
        """What the first process has."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, values: list[Anything]) -> list[Anything]:
        """The values of all processes, in the order of the processes."""
        if self.size == 1:
            return values
        boxes: list[list[Anything]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(boxes, values)
        return [value for box in boxes for value in box]

    def at_first(self, work: Callable[[], Anything]) -> Anything:
        """Done by the first process while the others wait; all get the result, or the error.

        The result must be something that can be pickled.
        """
        if self.size == 1:
            return work()
        outcome: tuple[Anything | None, BaseException | None] = (None, None)
        if self.first:
            try:
                outcome = (work(), None)
            except BaseException as error:
                outcome = (None, error)
        result, failed = self.same(outcome)
        if failed is not None:
            raise failed
        return result  # type: ignore[return-value]

    def shared(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network to train with: gradients are averaged over the processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(
            network, device_ids=[device] if device.type == "cuda" else None, broadcast_buffers=False
        )


def world() -> World:
    """This process's place among those that ``torchrun`` started; alone without it.

    Raises:
        MachineError: the processes do not find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return World()
    place = World(int(os.environ["RANK"]), size)
    if not distributed.is_initialized():
        # Imported later, its functions would keep this group for their default and alive for good: the threads of gloo
        # then ended with the interpreter, now and then by an abort.
        import torch.distributed.nn.functional

        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        try:
            distributed.init_process_group(backend, rank=place.rank, world_size=size, timeout=_PATIENCE)
            atexit.register(_leave)
        except (RuntimeError, ValueError) as error:
            raise MachineError(
                "the processes of this training do not find each other",
                where=f"rank {place.rank} of {size}",
                value=error,
                remedy="start them with torchrun, and see that the nodes reach MASTER_ADDR and MASTER_PORT",
            ) from error
    return place


def _leave() -> None:
    """End the threads of the group while there is an interpreter: their last act frees what Python may hold too."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()  # the network that was trained is a ring that holds the group
