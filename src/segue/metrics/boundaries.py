"""The boundary of a mask: its edge voxels, its surface elements, and how far it lies from another one.

All of it is on the smallest box that holds both masks. One mask's boundary is mostly a few voxels from the other's, so
its distance is looked up in the voxels around it first; a k-d tree answers only for what is further away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from segue.volume import bounding_box

Spacing = tuple[float, ...]

# Places looked up around a point before the tree is asked: at the most so many, which take as long as its answer does,
# and beyond the first ones only while each is what some of the points wait for.
_STEPS: Final = 256
_FIRST_STEPS: Final = 32
_WORTH: Final = 0.003
# Points in a leaf of the tree: a third faster than with scipy's 16 for points that lie far from it.
_LEAF: Final = 48
# Look-ups at a time: with their places they stay in the processor's cache.
_LOOKUPS: Final = 100_000


def boxed(
    first: Bool[np.ndarray, "*grid"], second: Bool[np.ndarray, "*grid"], spacing_mm: Sequence[float]
) -> tuple[Bool[np.ndarray, "*box"], Bool[np.ndarray, "*box"]] | None:
    """Both masks cut to the box around them and padded as `nearest_mm` needs it; None where both are empty."""
    boxes = [box for box in (bounding_box(first), bounding_box(second)) if box is not None]
    if not boxes:
        return None
    box = tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*boxes, strict=True)
    )
    steps = _near(tuple(map(float, spacing_mm))).steps
    margin = [(int(reach) + 1,) * 2 for reach in np.abs(steps).max(axis=0)]
    return np.pad(first[box], margin), np.pad(second[box], margin)


def edge_voxels(mask: Bool[np.ndarray, "*box"]) -> Bool[np.ndarray, "*box"]:
    """Voxels of the mask that erosion with neighbours that share a face takes away; no voxel may touch the border."""
    inner = mask.copy()
    whole = [slice(1, -1)] * mask.ndim
    core = inner[tuple(whole)]
    for axis in range(mask.ndim):
        for shifted in (slice(None, -2), slice(2, None)):
            core &= mask[tuple(whole[:axis] + [shifted] + whole[axis + 1 :])]
    return mask > inner


def element_codes(mask: Bool[np.ndarray, "*box"]) -> UInt8[np.ndarray, "*box"]:
    """Which corners of the cell between 2 x 2 x 2 voxel centres (2 x 2 in a plane) are in the mask, one bit each.

    The cell's place is that of its first voxel; no voxel of the mask may touch the border.
    """
    code = np.zeros(mask.shape, np.uint8)
    inside = tuple(slice(None, -1) for _ in range(mask.ndim))
    part = mask.view(np.uint8)
    for axis in range(mask.ndim):
        ahead = [slice(None)] * mask.ndim
        ahead[axis] = slice(1, None)
        behind = [slice(None)] * mask.ndim
        behind[axis] = slice(None, -1)
        part = part[tuple(behind)] | (part[tuple(ahead)] << np.uint8(2**axis))
    code[inside] = part
    return code


def is_element(codes: UInt8[np.ndarray, "*box"]) -> Bool[np.ndarray, "*box"]:
    """Cells that have corners both in the mask and outside of it."""
    return (codes != 0) & (codes != 2 ** (2**codes.ndim) - 1)


@lru_cache(maxsize=64)
def element_areas(spacing_mm: Spacing) -> Float[np.ndarray, " codes"]:
    """Area in mm2 (in a plane: length in mm) of the surface that marching cubes lays through a cell of each code.

    Its corners lie half-way along the cell's edges (Lorensen and Cline 1987), as in surface-distance (Nikolov et al.,
    JMIR 2021). A surface element is some plane pieces; what they cover along each axis is eighths of a cell's face.
    """
    axes = len(spacing_mm)
    codes, pieces = _all_pieces(axes)
    # The size of a cell's face across each axis.
    across = np.array([np.prod(spacing_mm[:axis] + spacing_mm[axis + 1 :]) for axis in range(axes)])
    return np.bincount(codes, np.sqrt(((pieces * across) ** 2).sum(axis=1)), 2 ** (2**axes))


Pieces = Float[np.ndarray, "pieces axes"]
Corners = Integer[np.ndarray, "corners axes"]


@lru_cache(maxsize=2)
def _all_pieces(axes: int) -> tuple[Integer[np.ndarray, " pieces"], Pieces]:
    """Of every plane piece of the surface in any cell: the cell's code, and the shares of a face that it covers."""
    # Corner number b of a cell lies ahead along axis a where bit a of b is set.
    corners = np.array([[number >> axis & 1 for axis in range(axes)] for number in range(2**axes)])
    codes, found = [], []
    for code in range(1, 2 ** len(corners) - 1):
        inside = np.array([code >> number & 1 for number in range(len(corners))], dtype=bool)
        # What lies inside and what lies outside have the same surface between them.
        fewer = min(corners[inside], corners[~inside], key=len)
        found.append(_contour_pieces(fewer) if axes == 2 else _surface_pieces(fewer))
        codes += [code] * len(found[-1])
    return np.array(codes), np.concatenate(found)


def _contour_pieces(fewer: Corners) -> Pieces:
    if len(fewer) == 2 and (fewer[0] == fewer[1]).any():
        return (fewer[:1] == fewer[1:]).astype(float)
    return np.full((len(fewer), 2), 1 / 2)


def _surface_pieces(fewer: Corners) -> Pieces:
    """Corners that no edge of the cell joins are cut off each on its own."""
    linked = _apart(fewer) <= 1
    together = np.linalg.matrix_power(linked.astype(int), len(fewer)) > 0
    firsts = np.flatnonzero(together.argmax(axis=1) == np.arange(len(fewer)))
    return np.concatenate([_group_eighths(fewer[together[first]]) for first in firsts]) / 8


def _group_eighths(group: Corners) -> Integer[np.ndarray, "pieces axes"]:
    """Of one to four corners that hang together."""
    shared = (group == group[0]).all(axis=0)
    cut = np.ones((1, 3), int)
    if len(group) == 1:
        return cut
    if len(group) == 2:  # an edge
        return 4 * shared[None]
    if len(group) == 3:  # two edges that meet
        return np.concatenate([4 * shared[None], 3 * cut])
    if shared.any():  # a face
        return 8 * shared[None]
    neighbours = (_apart(group) == 1).sum(axis=1)
    if neighbours.max() == 3:  # a corner and all its neighbours
        return 6 * cut
    # A chain of three edges, one along each axis.
    start, end = group[neighbours == 2]
    return np.concatenate([4 * cut, 2 - 2 * np.eye(3, dtype=int)[start == end]])


def _apart(corners: Corners) -> Integer[np.ndarray, "corners corners"]:
    return np.abs(corners[:, None] - corners[None]).sum(axis=2)


def nearest_mm(
    points: Integer[np.ndarray, " n"],
    target: Bool[np.ndarray, "*box"],
    spacing_mm: Sequence[float],
    limit_mm: float = np.inf,
) -> Float[np.ndarray, " n"]:
    """Distance in mm from each point (place in the flattened box) to the nearest voxel of a target that has some.

    Infinite where it is over ``limit_mm``. The box has the padding of `boxed`.
    """
    spacing = tuple(map(float, spacing_mm))
    near = _near(spacing)
    within = near.lengths_mm <= limit_mm
    enough = near.covers_mm >= limit_mm
    steps, lengths = near.steps[within], near.lengths_mm[within]
    strides = np.array([int(np.prod(target.shape[axis + 1 :])) for axis in range(target.ndim)])
    jumps = steps @ strides
    flat = target.ravel()
    found = np.full(len(points), np.inf)
    left, places, done = np.arange(len(points)), points, 0
    while len(left) and done < len(jumps):
        block = jumps[done : done + max(1, _LOOKUPS // len(left))]
        hits = flat[places[:, None] + block]
        first = hits.argmax(axis=1)
        hit = hits[np.arange(len(first)), first]
        found[left[hit]] = lengths[done + first[hit]]
        left, places = left[~hit], places[~hit]
        done += len(block)
        if not enough and done >= _FIRST_STEPS and hit.mean() < _WORTH * len(block):
            break
    if len(left) and not enough:
        found[left] = _by_tree(places, target, spacing, limit_mm)
    return found


def _by_tree(
    points: Integer[np.ndarray, " n"], target: Bool[np.ndarray, "*box"], spacing_mm: Spacing, limit_mm: float
) -> Float[np.ndarray, " n"]:
    from scipy.spatial import cKDTree  # 0.2 s, and seldom needed

    theirs = np.argwhere(target)
    ours = np.stack(np.unravel_index(points, target.shape), axis=1)
    tree = cKDTree(theirs * spacing_mm, balanced_tree=False, compact_nodes=False, leafsize=_LEAF)
    near, which = tree.query(ours * spacing_mm, distance_upper_bound=limit_mm * (1 + 1e-6))
    within = np.isfinite(near)
    # Differences of places are whole numbers: a distance of just the limit is not lost to rounding.
    apart = (ours[within] - theirs[which[within]]) * np.array(spacing_mm)
    result = np.full(len(points), np.inf)
    result[within] = np.sqrt((apart**2).sum(axis=1))
    result[result > limit_mm] = np.inf
    return result


@dataclass(frozen=True)
class _Steps:
    """Steps on the grid, by length: all those up to ``covers_mm``."""

    steps: Integer[np.ndarray, "n axes"]
    lengths_mm: Float[np.ndarray, " n"]
    covers_mm: float


@lru_cache(maxsize=64)
def _near(spacing_mm: Spacing) -> _Steps:
    axes = len(spacing_mm)
    ball = np.pi if axes == 2 else 4 / 3 * np.pi
    radius = float((_STEPS / ball * np.prod(spacing_mm)) ** (1 / axes))
    reach = [int(radius // step) for step in spacing_mm]
    steps = np.array(list(product(*(range(-most, most + 1) for most in reach))))
    lengths = np.sqrt(((steps * np.array(spacing_mm)) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    steps, lengths = steps[order], lengths[order]
    if len(lengths) > _STEPS:
        # Of steps of one length all are kept or none.
        radius = min(radius, float(np.nextafter(lengths[_STEPS], 0)))
    kept = lengths <= radius
    return _Steps(steps[kept], lengths[kept], radius)
