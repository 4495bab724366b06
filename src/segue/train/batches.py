"""Batches: which cases, which patches. Every step's batch follows from the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from segue.core.seeds import generator
from segue.prepare import Plan, PreparedCase

# Up to this much, the prepared cases are copied into memory once; beyond, patches come from the memory maps.
IN_MEMORY_BYTES = 2_000_000_000


# Of the patches that are not centred on foreground.
LOOK_ALIKE_SHARE = 0.5
# More than any label.
ANSWER = 2**16


def padding_values(plan: Plan) -> np.ndarray:
    """What stands outside an image, per channel, after normalisation: air, no uptake, or the image's mean."""
    return np.array([rule.outside for rule in plan.normalisation], dtype=np.float32)


class Batches:
    """Draws training batches from prepared cases.

    Cases come in shuffled passes, so each is seen equally often. ``plan.foreground_share`` of the patches are
    centred on a voxel of a random label of the case. The next batch is read while the device works.

    Args:
        rows: of every batch, only these are read.
        answers: what a low-resolution network answered for each case, on the case's grid. Label numbers are then
            those of the truth plus :data:`ANSWER` times those of the answer, so that both move together.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        plan: Plan,
        seed: int,
        rows: slice | None = None,
        answers: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.cases, self.plan, self.seed = list(cases), plan, seed
        self.rows = rows or slice(0, plan.batch)
        self._answers = answers
        self._padding = padding_values(plan)
        self._images = [case.image for case in self.cases]
        self._labels = [case.labels for case in self.cases]
        if sum(a.nbytes for a in [*self._images, *self._labels]) <= IN_MEMORY_BYTES:
            self._images = [np.array(image) for image in self._images]
            self._labels = [np.array(labels) for labels in self._labels]
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the training cases."""
        return -(-len(self.cases) // self.plan.batch)

    def names(self, step: int) -> list[str]:
        """The cases in the batch of a step."""
        return [self.cases[number].case.id for number in self._members(step)]

    def absent(self, step: int) -> Bool[Tensor, "b c"]:
        """Which channels the cases in the whole batch of a step lack."""
        lacks = torch.zeros(self.plan.batch, len(self._padding), dtype=torch.bool)
        for row, number in enumerate(self._members(step)):
            lacks[row, list(self.cases[number].case.absent)] = True
        return lacks

    def __call__(self, step: int) -> tuple[Float32[Tensor, "b c *patch"], Int64[Tensor, " b *patch"]]:
        """The batch of one step, on the CPU: images and label numbers."""
        if self._next is not None and self._next[0] == step:
            batch = self._next[1].result()
        else:
            batch = self._draw(step)
        self._next = (step + 1, self._pool.submit(self._draw, step + 1))
        return batch

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _members(self, step: int) -> list[int]:
        batch, total = self.plan.batch, len(self.cases)
        members = []
        for position in range(step * batch, (step + 1) * batch):
            order = generator(self.seed, "pass", position // total).permutation(total)
            members.append(int(order[position % total]))
        return members

    def _draw(self, step: int) -> tuple[Tensor, Tensor]:
        random = generator(self.seed, "batch", step)
        members = self._members(step)
        patch = self.plan.patch
        # Every process draws for the whole batch, and reads its own part.
        chosen = [(number, self._start(number, random)) for number in members][self.rows]
        images = np.empty((len(chosen), len(self._padding), *patch), dtype=np.float32)
        labels = np.zeros((len(chosen), *patch), dtype=np.int64)
        for row, (number, start) in enumerate(chosen):
            self._cut(images[row], labels[row], number, start)
        return torch.from_numpy(images), torch.from_numpy(labels)

    def _start(self, number: int, random: np.random.Generator) -> list[int]:
        """First voxel of the patch; negative where the image is smaller than the patch and is padded."""
        shape, patch = self._labels[number].shape, self.plan.patch
        wants_foreground = random.random() < self.plan.foreground_share
        centre: np.ndarray | None = None
        if wants_foreground:
            foreground = self.cases[number].foreground
            present = [label for label, voxels in foreground.items() if len(voxels) and label != self.plan.ignore_label]
            if present:
                voxels = foreground[present[int(random.integers(len(present)))]]
                centre = _one_of(voxels, shape, random)
        elif self.plan.look_alikes and self.plan.foreground_share and random.random() < LOOK_ALIKE_SHARE:
            # Uptake of kidneys and hearts is rare in random patches, and what a lesion must be told apart from.
            alike = self.cases[number].look_alikes
            centre = _one_of(alike, shape, random) if len(alike) else None
        start = []
        for axis in range(3):
            room = shape[axis] - patch[axis]
            if room <= 0:
                start.append(-(-room // 2))
            elif centre is not None:
                start.append(int(np.clip(centre[axis] - patch[axis] // 2, 0, room)))
            else:
                start.append(int(random.integers(room + 1)))
        return start

    def _cut(self, image: np.ndarray, labels: np.ndarray, number: int, start: list[int]) -> None:
        shape = self._labels[number].shape
        low = [max(0, first) for first in start]
        high = [min(size, first + side) for size, first, side in zip(shape, start, self.plan.patch, strict=True)]
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        place = tuple(slice(a - first, b - first) for a, b, first in zip(low, high, start, strict=True))
        if any(b - a < side for a, b, side in zip(low, high, self.plan.patch, strict=True)):
            image[...] = self._padding[:, None, None, None]
        values = np.ascontiguousarray(self._images[number][(slice(None), *source)])
        # torch makes float32 of float16 eight times as fast as numpy.
        torch.from_numpy(image)[(slice(None), *place)] = torch.from_numpy(values)
        labels[place] = self._labels[number][source]
        if self._answers is not None:
            labels[place] += ANSWER * np.asarray(self._answers[number][source], dtype=np.int64)


def _one_of(voxels: np.ndarray, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    return np.array(np.unravel_index(int(voxels[int(random.integers(len(voxels)))]), shape))
