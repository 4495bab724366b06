"""Counting, ordering and finding voxels of large images a part at a time, so that no copy of the whole is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int64, Integer, Num, Shaped

_AT_ONCE = 1 << 20
_MOST_COUNTED = 65_535


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
    """As :func:`numpy.percentile`; of whole numbers that are not too far apart by counting, else by partition."""
    counts = _counted(values) if values.dtype.kind in "iu" and values.dtype.itemsize <= 2 else _counted_whole(values)
    if counts is None:
        found = np.percentile(values.flatten(order="K"), wanted, overwrite_input=True)
        return tuple(float(value) for value in found)
    lowest, counted = counts
    places = np.asarray(wanted) / 100 * (values.size - 1)
    below = places.astype(np.int64)
    part = places - below
    ranks = np.minimum([below, below + 1], values.size - 1)
    low, high = (lowest + np.searchsorted(np.cumsum(counted), ranks, side="right")).astype(np.float64)
    return tuple(np.where(part < 0.5, low + (high - low) * part, high - (high - low) * (1 - part)).tolist())


def _counted_whole(values: Num[np.ndarray, "*shape"]) -> tuple[int, Int64[np.ndarray, " m"]] | None:
    """Counts as :func:`_counted` has them; None where not all are whole numbers within the range of 16 bits."""
    if not values.size or values.dtype.kind not in "iuf" or values.dtype.itemsize < 4:
        return None
    flat = values.ravel(order="K")
    lowest, highest = flat.min(), flat.max()
    if not float(highest) - float(lowest) <= _MOST_COUNTED or lowest != np.rint(lowest):  # also of NaN and infinities
        return None
    counted = np.zeros(int(highest - lowest) + 1, np.int64)
    for part in _parts(flat):
        above = part - lowest
        whole = above.astype(np.int64)
        if not np.array_equal(whole, above):
            return None
        counted += np.bincount(whole, minlength=len(counted))
    return int(lowest), counted


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
