"""The images of a classification as one array, so that a batch is one gather.

8-bit arrays of an ``.npz`` that have the plan's size already are used as they are, memory-mapped; everything else is
brought to one size once and kept in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num

from segue.catalogue import Card, Case, Row
from segue.core.errors import DataError
from segue.core.files import atomic_path, content_key
from segue.images import map_array
from segue.prepare.cache import normalised
from segue.prepare.choices import Plan
from segue.prepare.examine import case_digest
from segue.prepare.reading import in_axes, read_channels
from segue.volume import Volume
from segue.volume.resize import resized

_VERSION = 1


@dataclass(frozen=True)
class Stack:
    """Images of the plan's size, one after the other.

    Attributes:
        cases: whose images they are.
        arrays: ``(n, rows, columns)``, with colours ``(n, rows, columns, c)`` or ``(n, i, j, k)`` where they are an
            ``.npz``'s; ``(n, c, i, j, k)`` where they were prepared.
        which, row: of each case, the array and the item in it.
        prepared: whether the axes are ``(c, i, j, k)``.
        normalised: whether the plan's normalisation was applied.
    """

    cases: tuple[Case, ...]
    arrays: tuple[np.ndarray, ...]
    which: np.ndarray
    row: np.ndarray
    prepared: bool
    normalised: bool

    def __len__(self) -> int:
        return len(self.cases)

    def take(self, numbers: np.ndarray) -> Num[np.ndarray, "n ..."]:
        """The images of these cases, as stored, in one gather."""
        if len(self.arrays) == 1:
            return self.arrays[0][self.row[numbers]]
        first = self.arrays[int(self.which[numbers[0]])]
        images = np.empty((len(numbers), *first.shape[1:]), first.dtype)
        for number, array in enumerate(self.arrays):
            here = np.flatnonzero(self.which[numbers] == number)
            if len(here):
                images[here] = array[self.row[numbers[here]]]
        return images


@dataclass(frozen=True)
class StackTask:
    """What a worker needs to bring one image to the plan's size."""

    case: Case
    card: Card
    plan: Plan

    @property
    def id(self) -> str:
        return self.case.id


def is_eight_bit_array(cases: Sequence[Case], folder: Path) -> bool:
    """Whether all images are items of 8-bit arrays."""
    rows = [case.images[0] for case in cases if len(case.images) == 1 and isinstance(case.images[0], Row)]
    if len(rows) != len(cases):
        return False
    sources = {(row.path, row.key) for row in rows}
    return all(map_array(path, key, folder).dtype == np.uint8 for path, key in sources)


def map_stack(cases: Sequence[Case], plan: Plan, folder: Path) -> Stack | None:
    """The arrays as they lie in the ``.npz``, unpacked once into ``folder``; None where they need preparation.

    Raises:
        DataError: an array cannot be read. MachineError: the disk is full.
    """
    if any(rule.kind == "image" for rule in plan.normalisation) or not is_eight_bit_array(cases, folder):
        return None
    rows = [case.images[0] for case in cases]
    sources = list(dict.fromkeys((row.path, row.key) for row in rows if isinstance(row, Row)))
    arrays = tuple(map_array(path, key, folder) for path, key in sources)
    wanted = (len(plan.channels), *plan.patch)
    dimension = 2 if plan.slice_axis is not None else 3
    if any(in_axes(array[0], dimension).shape != wanted for array in arrays):
        return None
    number = {source: place for place, source in enumerate(sources)}
    which = np.array([number[row.path, row.key] for row in rows if isinstance(row, Row)], dtype=np.int32)
    row = np.array([row.index for row in rows if isinstance(row, Row)], dtype=np.int64)
    return Stack(tuple(cases), arrays, which, row, prepared=False, normalised=False)


def sized_image(image: Volume, plan: Plan) -> Num[np.ndarray, "c i j k"]:
    """An image as the network sees it but for the plan's normalisation by fixed numbers: in one order of axes, of the
    plan's size, 8-bit where the pictures are."""
    turned = image.oriented("LPS").array
    fixed = _is_fixed(plan)
    values = turned if fixed else normalised(turned, plan.normalisation)
    if values.shape[1:] == plan.patch:
        ready = values
    else:
        ready = resized(values, plan.patch)
    if all(rule.kind == "dataset" for rule in plan.normalisation):  # the rule of 8-bit pictures
        return np.rint(ready).astype(np.uint8)
    return ready.astype(np.float32)


def _is_fixed(plan: Plan) -> bool:
    return all(rule.kind != "image" for rule in plan.normalisation)


def sized_case(task: StackTask) -> np.ndarray:
    """One case, read and brought to the plan's size.

    Raises:
        DataError: unreadable, another number of channels, NaN.
    """
    image = read_channels(task.case, task.card)
    if not np.isfinite(image.array).all():
        raise DataError("the image holds NaN or infinite values", where=task.case.id, remedy="run segue check")
    return sized_image(image, task.plan)


def stack_file(cases: Sequence[Case], plan: Plan, cache: Path) -> Path:
    """Where the stack of these cases is kept."""
    rules = [plan.normalisation] if not _is_fixed(plan) else []
    key = content_key([case_digest(case) for case in cases], plan.patch, plan.channels, rules, _VERSION)
    return cache / plan.dataset / f"{key}.npy"


def write_stack(path: Path, count: int, images: Iterable[np.ndarray]) -> None:
    """Write ``count`` images of one shape one after the other, whole or not at all.

    Raises:
        MachineError: the disk is full.
    """
    with atomic_path(path) as temporary:
        target: np.memmap | None = None
        for number, image in enumerate(images):
            if target is None:
                target = np.lib.format.open_memmap(temporary, "w+", image.dtype, (count, *image.shape))
            target[number] = image
        if target is not None:
            target.flush()


def open_stack(path: Path, cases: Sequence[Case], plan: Plan) -> Stack:
    """A stack that :func:`write_stack` wrote."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    numbers = np.arange(len(cases))
    return Stack(tuple(cases), (array,), np.zeros(len(cases), np.int32), numbers, True, not _is_fixed(plan))
