"""Named masks on a grid, the common form of what DICOM-SEG, RTSTRUCT and label maps hold."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import Literal

import numpy as np
from jaxtyping import Bool

from segue.volume import Geometry, Volume, bounding_box
from segue.volume.resample import resample_intensity

# Voxels of two grids of the same spacing that lie less than this beside each other are taken for the same. A linear
# vote decides alike: the nearest voxel then has more than half of the weight, 0.8 cubed.
NEAREST_VOXELS = 0.2
_ROUNDING = 1e-6  # exactly half of the weight is not enough, however it was rounded
_Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Segment:
    """One named mask, cut to the box that holds it. Segments of a set may overlap.

    Attributes:
        number: from 1, unique in its set; what a label map shows it as.
        name: as its author called it; names need not be unique.
        start: first voxel ``(i, j, k)`` of the box.
        mask: the voxels of the box. An empty segment's has no voxels: shape ``(0, 0, 0)``.
        meaning: what is known of it beyond the name, such as coded terms: ``{"type": '(10200004, SCT, "Liver")'}``.
    """

    number: int
    name: str
    start: tuple[int, int, int]
    mask: Bool[np.ndarray, "i j k"] = field(repr=False)
    meaning: dict[str, str]

    @property
    def box(self) -> _Box:
        """Where the mask lies in the grid of its set."""
        i, j, k = (slice(start, start + size) for start, size in zip(self.start, self.mask.shape, strict=True))
        return i, j, k


@dataclass(frozen=True, eq=False)
class MaskSet:
    """The segments of one file.

    Attributes:
        geometry: the grid of all of them.
        source: ``"SEG"``, ``"RTSTRUCT"`` or ``"labels"``.
        series_uid: Series Instance UID (0020,000E) of the image on which they were drawn; empty where unknown.
    """

    geometry: Geometry
    segments: tuple[Segment, ...]
    source: Literal["SEG", "RTSTRUCT", "labels"]
    series_uid: str

    def overlaps(self) -> list[tuple[str, str]]:
        """The names of each two segments that share voxels."""
        return [(one.name, other.name) for one, other in combinations(self.segments, 2) if _share_voxels(one, other)]

    def layers(self) -> list[MaskSet]:
        """The segments apart that share voxels, the largest first: each is in the first set where it overlaps none."""
        layers: list[list[Segment]] = []
        for segment in sorted(self.segments, key=lambda segment: -np.count_nonzero(segment.mask)):
            free = (layer for layer in layers if not any(_share_voxels(segment, other) for other in layer))
            layer = next(free, None)
            if layer is None:
                layers.append([segment])
            else:
                layer.append(segment)
        return [replace(self, segments=tuple(layer)) for layer in layers]

    def label_map(self) -> Volume:
        """All segments on the whole grid by their numbers; where they share voxels the smaller one is shown."""
        largest = max((segment.number for segment in self.segments), default=0)
        array = np.zeros((1, *self.geometry.shape), np.min_scalar_type(largest))
        for segment in sorted(self.segments, key=lambda segment: -np.count_nonzero(segment.mask)):
            array[0][segment.box][segment.mask] = segment.number
        return Volume(array, self.geometry, "labels", "labels")

    def mask_of(self, segment: Segment) -> Volume:
        """One segment on the whole grid: labels of uint8, 1 inside."""
        array = np.zeros((1, *self.geometry.shape), np.uint8)
        array[0][segment.box] = segment.mask
        return Volume(array, self.geometry, "labels", "labels")

    def on(self, geometry: Geometry) -> MaskSet:
        """The same segments on another grid.

        Exact where one grid is the other turned, flipped, cut or enlarged by whole voxels. Else each mask is
        interpolated linearly, and a voxel is in where that gives more than one half. What lies outside ``geometry``
        is lost; a segment of which nothing is left stays, empty.
        """
        turn = _whole_steps(self.geometry, geometry)
        if turn is None:
            moved = (_resampled(segment, self.geometry, geometry) for segment in self.segments)
        else:
            moved = (_turned(segment, *turn, geometry) for segment in self.segments)
        return replace(self, geometry=geometry, segments=tuple(moved))


def cut(segment: Segment, shape: tuple[int, int, int]) -> Segment:
    """The segment in the smallest box, without what lies outside a grid of this shape."""
    part = tuple(
        slice(max(0, -start), max(0, min(size, limit - start)))
        for start, size, limit in zip(segment.start, segment.mask.shape, shape, strict=True)
    )
    inside = segment.mask[part]
    filled = bounding_box(inside)
    if filled is None:
        return replace(segment, start=(0, 0, 0), mask=np.zeros((0, 0, 0), np.bool_))
    smallest = inside[filled]
    i, j, k = (start + max(0, -start) + box.start for start, box in zip(segment.start, filled, strict=True))
    # A copy, so that the large box can go.
    return replace(segment, start=(i, j, k), mask=smallest.copy() if smallest.size < segment.mask.size else smallest)


def _share_voxels(one: Segment, other: Segment) -> bool:
    low = np.maximum(one.start, other.start)
    high = np.minimum(np.add(one.start, one.mask.shape), np.add(other.start, other.mask.shape))
    if (high <= low).any():
        return False
    parts = [
        segment.mask[tuple(slice(a - s, b - s) for a, b, s in zip(low, high, segment.start, strict=True))]
        for segment in (one, other)
    ]
    return bool((parts[0] & parts[1]).any())


def _whole_steps(source: Geometry, target: Geometry) -> tuple[list[int], np.ndarray, np.ndarray] | None:
    """The source axis, the direction and the shift of each target axis; None where voxels do not fall on voxels."""
    between = np.linalg.inv(target.affine) @ source.affine
    axes = [int(axis) for axis in np.argmax(np.abs(between[:3, :3]), axis=1)]
    if sorted(axes) != [0, 1, 2]:
        return None
    signs = np.sign(between[[0, 1, 2], axes]).astype(int)
    shift = np.rint(between[:3, 3]).astype(int)
    exact = np.zeros((3, 4))
    exact[[0, 1, 2], axes] = signs
    exact[:, 3] = shift
    corners = np.array([(*corner, 1) for corner in product(*[(0, size - 1) for size in source.shape])])
    if np.abs(corners @ (between[:3] - exact).T).max() > NEAREST_VOXELS:
        return None
    return axes, signs, shift


def _turned(segment: Segment, axes: list[int], signs: np.ndarray, shift: np.ndarray, target: Geometry) -> Segment:
    mask = segment.mask.transpose(axes)
    start = []
    for axis, (source, sign) in enumerate(zip(axes, signs, strict=True)):
        first = segment.start[source]
        if sign < 0:
            mask = np.flip(mask, axis)
            first = -(first + segment.mask.shape[source] - 1)
        start.append(int(first + shift[axis]))
    return cut(replace(segment, start=(start[0], start[1], start[2]), mask=mask), target.shape)


def _resampled(segment: Segment, source: Geometry, target: Geometry) -> Segment:
    empty = replace(segment, start=(0, 0, 0), mask=np.zeros((0, 0, 0), np.bool_))
    if not segment.mask.size:
        return empty
    # One voxel of background around the box, where the grid has it: there the weights fall to nothing.
    low = [max(0, start - 1) for start in segment.start]
    high = [
        min(limit, start + size + 1)
        for start, size, limit in zip(segment.start, segment.mask.shape, source.shape, strict=True)
    ]
    padded = np.pad(
        segment.mask.astype(np.float32),
        [(s - a, b - s - n) for s, a, b, n in zip(segment.start, low, high, segment.mask.shape, strict=True)],
    )
    box = source.cropped((low[0], low[1], low[2]), (padded.shape[0], padded.shape[1], padded.shape[2]))
    faces = np.array([(*corner, 1.0) for corner in product(*[(-0.5, size - 0.5) for size in padded.shape])])
    reached = faces @ (np.linalg.inv(target.affine) @ box.affine)[:3].T
    first = np.maximum(0, np.floor(reached.min(axis=0))).astype(int)
    last = np.minimum(target.shape, np.ceil(reached.max(axis=0)) + 1).astype(int)
    if (last <= first).any():
        return empty
    i, j, k = (int(at) for at in first)
    size = tuple(int(n) for n in last - first)
    window = target.cropped((i, j, k), (size[0], size[1], size[2]))
    mask = resample_intensity(padded, box, window, order=1) > 0.5 + _ROUNDING
    return cut(replace(segment, start=(i, j, k), mask=mask), target.shape)
