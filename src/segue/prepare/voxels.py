"""Counting, ordering and finding voxels of large images a part at a time, so that no copy of the whole is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int64, Integer, Num, Shaped

_AT_ONCE = 1 << 20


def _parts(values: Shaped[np.ndarray, " n"]) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def counts_of(values: Integer[np.ndarray, "*shape"]) -> dict[int, int]:
    """How often each value is there, in ascending order."""
    if values.dtype.itemsize > 2 or not values.size:
        numbers, counts = np.unique(values, return_counts=True)
        return {int(number): int(count) for number, count in zip(numbers, counts, strict=True)}
    lowest, counted = _counted(values)
    return {lowest + int(place): int(counted[place]) for place in np.flatnonzero(counted)}


def _counted(values: Integer[np.ndarray, "*shape"]) -> tuple[int, Int64[np.ndarray, " m"]]:
    # Counting takes a tenth of the time of the sorting in np.unique, but eight bytes a voxel.
    flat = values.ravel(order="K")
    lowest, highest = int(flat.min()), int(flat.max())
    counted = np.zeros(highest - lowest + 1, np.int64)
    for part in _parts(flat):
        counted += np.bincount(part - np.int64(lowest) if lowest else part, minlength=len(counted))
    return lowest, counted


def between(values: Float16[np.ndarray, "*shape"], low: float, high: float | None) -> Bool[np.ndarray, "*shape"]:
    """``(low < values) & (values < high)`` of halves without NaN, the limits rounded to halves.

    By the numbers' bits: numpy takes fifty times as long to compare halves.
    """
    order = _ordered(values)
    inside = order > _ordered(np.float16(low) + np.float16(0))  # -0 comes before 0, and is not less
    if high is not None:
        inside &= order < _ordered(-(np.float16(-high) + np.float16(0)))
    return inside


def _ordered(halves: Any) -> Any:
    """Whole numbers that are in the order of the halves."""
    bits = halves.view(np.int16)
    return bits ^ ((bits >> 15) & 0x7FFF)


def percentiles(values: Num[np.ndarray, "*shape"], wanted: Sequence[float]) -> tuple[float, ...]:
    """As :func:`numpy.percentile`; of 8 and 16 bits by counting, else by partition of one copy."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2:
        found = np.percentile(values.flatten(order="K"), wanted, overwrite_input=True)
        return tuple(float(value) for value in found)
    lowest, counted = _counted(values)
    ends = np.cumsum(counted)
    result = []
    for percent in wanted:
        place = percent / 100 * (values.size - 1)
        below = int(place)
        low, high = (
            float(lowest + np.searchsorted(ends, min(rank, values.size - 1), side="right"))
            for rank in (below, below + 1)
        )
        part = place - below
        result.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))
    return tuple(result)


def where(
    values: Shaped[np.ndarray, " n"],
    test: Callable[[np.ndarray], np.ndarray],
    most: int,
    choose: Callable[[int], np.ndarray],
) -> Int64[np.ndarray, " m"]:
    """The indices at which ``test`` holds.

    Args:
        most: where it holds more often, those that ``choose`` names: it is given how often, and returns numbers from
            0 below that.
    """
    counts = [int(np.count_nonzero(test(part))) for part in _parts(values)]
    ends = np.cumsum(counts, dtype=np.int64)
    total = sum(counts)
    chosen = np.arange(total) if total <= most else choose(total)
    found = np.empty(len(chosen), np.int64)
    inside = np.searchsorted(ends, chosen, side="right")
    for number, part in enumerate(_parts(values)):
        here = inside == number
        if here.any():
            before = int(ends[number]) - counts[number]
            found[here] = np.flatnonzero(test(part))[chosen[here] - before] + number * _AT_ONCE
    return found
