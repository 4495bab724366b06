"""Coarser levels of a volume: what a screen shows first, and of very large volumes all that it can show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Num, Shaped

from segue.volume import Geometry, Volume

Factors = tuple[int, int, int]
ONCE: Factors = (1, 1, 1)

# A browser keeps a volume several times over (file, values, texture of four bytes a voxel): beyond this it fails.
MOST_VOXELS = 1 << 27
# Axes whose steps are this much larger than the finest one keep their resolution: thick slices are coarse already.
_THICK = 1.5


def factors_for(shape: Sequence[int], spacing_mm: Sequence[float], most_voxels: int) -> Factors:
    """How many voxels along each axis become one, so that at most ``most_voxels`` are left: powers of two, the finest
    axes first, so that voxels become more cubic and never less."""
    factors = [1, 1, 1]

    def size() -> int:
        return math.prod(math.ceil(n / f) for n, f in zip(shape, factors, strict=True))

    while size() > most_voxels:
        steps = [s * f if n > f else math.inf for n, s, f in zip(shape, spacing_mm, factors, strict=True)]
        finest = min(steps)
        for axis in range(3):
            if steps[axis] < _THICK * finest:
                factors[axis] *= 2
    return factors[0], factors[1], factors[2]


def coarser(volume: Volume, factors: Factors) -> Volume:
    """Blocks of voxels as one: of intensities their mean, of labels the largest number.

    A lesion of one voxel is still seen in a mask that is eight times smaller (labels are not told apart by size here:
    where two meet in a block, the higher number is shown). A block at the border holds what is there of it.
    """
    if factors == ONCE:
        return volume
    shape = tuple(math.ceil(n / f) for n, f in zip(volume.geometry.shape, factors, strict=True))
    affine = volume.geometry.affine.copy()
    affine[:3, :3] = affine[:3, :3] * np.array(factors)
    affine[:3, 3] += volume.geometry.affine[:3, :3] @ ((np.array(factors) - 1) / 2)
    channels = [_blocks(channel, factors, volume.kind == "labels") for channel in volume.array]
    return Volume(np.stack(channels), Geometry((shape[0], shape[1], shape[2]), affine), volume.kind, volume.unit)


def _blocks(array: Num[np.ndarray, "i j k"], factors: Factors, labels: bool) -> Shaped[np.ndarray, "x y z"]:
    """Slab by slab along the slowest axis in memory, so that nothing beside the result is large."""
    # Files lie with i fastest: transposed, slabs of k are contiguous.
    turned, (fk, fj, fi) = array.T, factors[::-1]
    shape = tuple(math.ceil(n / f) for n, f in zip(turned.shape, (fk, fj, fi), strict=True))
    whole = array.dtype.kind in "iub"
    result = np.empty(shape, array.dtype if labels or whole else np.float32)
    counts = [np.add.reduceat(np.ones(n), np.arange(0, n, f)) for n, f in zip(turned.shape, (fk, fj, fi), strict=True)]
    shares = counts[1][:, None] * counts[2]
    for place in range(shape[0]):
        slab = turned[place * fk : (place + 1) * fk]
        if labels:
            result[place] = _along(_along(slab.max(axis=0), fj, 0, np.maximum), fi, 1, np.maximum)
            continue
        flat = slab.sum(axis=0, dtype=np.float32 if array.dtype.itemsize < 8 else np.float64)
        mean = _along(_along(flat, fj, 0, np.add), fi, 1, np.add) / (shares * counts[0][place])
        result[place] = np.rint(mean) if whole else mean
    return result.T


def _along(plane: Shaped[np.ndarray, "y x"], factor: int, axis: int, unite: np.ufunc) -> Shaped[np.ndarray, "v w"]:
    """``factor`` neighbours along an axis united; the last group may be smaller."""
    moved = plane if axis == 0 else plane.T
    length = math.ceil(len(moved) / factor)
    result = moved[::factor].copy()
    for offset in range(1, factor):
        part = moved[offset::factor]
        unite(result[: len(part)], part, out=result[: len(part)])
    assert len(result) == length, "one of each group"
    return result if axis == 0 else result.T
