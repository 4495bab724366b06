"""Masks: whole numbers, one channel, the smallest type that holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.core.errors import DataError


def as_labels(array: np.ndarray, path: Path) -> np.ndarray:
    """The array as unsigned integers ``(1, i, j, k)``; a grey picture stored in colour counts as one channel.

    Raises:
        DataError: several channels that differ, fractions, or negative values.
    """
    if len(array) == 3 and (array[0] == array[1]).all() and (array[0] == array[2]).all():
        array = array[:1]
    if len(array) != 1:
        raise DataError("a mask has one channel", where=path, value=f"{len(array)} channels")
    if array.dtype.kind == "f":
        rounded = np.rint(array)
        wrong = ~np.isfinite(array) | (np.abs(array - rounded) > 1e-3)
        if wrong.any():
            raise DataError(
                "the mask holds values that are no whole numbers",
                where=path,
                value=f"{int(wrong.sum())} voxels such as {array[wrong][0]:.4g}",
                remedy="save the mask as integers (a mask resampled with interpolation looks like this)",
            )
        array = rounded
    low, high = array.min(), array.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        raise DataError("a mask's labels begin at 0", where=path, value=f"values from {low:.0f} to {high:.0f}")
    return array.astype(label_type(array), copy=False)


def label_type(array: np.ndarray) -> type[np.uint8] | type[np.uint16] | type[np.uint32]:
    """The smallest unsigned type that holds these labels."""
    high = int(array.max(initial=0))
    return np.uint8 if high < 256 else np.uint16 if high < 65536 else np.uint32
