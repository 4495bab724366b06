"""Contours as voxels: which voxel centres of a grid lie inside closed planar polygons.

**Inside.** A centre is inside a polygon if a ray from it to lower ``u`` crosses its edges an odd number of times. An
edge counts at its lower end and not at its upper one, and a crossing exactly at the centre counts: of two polygons
that share an edge, one claims the centres on it and the other does not. Even-odd makes keyholes right (PS3.3
C.8.8.6.3): the two sides of their channel cancel.

**Several polygons on a plane.** Of those declared to be combined by exclusive or, a centre must be inside an odd
number. Others are taken from the largest to the smallest: one that lies in what is already filled is a hole in it, one
that lies outside is an island, one that crosses its edge is united with it, and a repeated one counts once.

**Between planes.** A plane speaks for the slab that reaches half way to its neighbours. Planes further apart than
``GAP`` times the usual spacing are not neighbours: between them the structure is absent, and towards such a gap, as at
its ends, a plane reaches half the usual spacing. A slice of the grid shows the plane in whose slab its centre lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float64

from segue.dicom.errors import DicomError
from segue.volume import Geometry, bounding_box

GAP = 1.5
# Planes further apart are no neighbours whatever their spacing seems to be, unless the image's own slices are thicker:
# the thickest slices of clinical images. Two islands of one plane each would else be bridged.
FURTHEST_MM = 10.0
# Contours that rise by no more than this part of a slice lie in it.
FLAT_VOXELS = 0.25
# Written coordinates are rounded: planes this close, and closer than a tenth of a slice, are one.
_SAME_PLANE_MM = 0.1
# Contours are often drawn exactly through voxel centres: without rounding (in voxels), noise would decide about them.
_DECIMALS = 4
_ON_EDGE = 1e-6
# A polygon that lies in another by this part of its voxels is a hole in it: a hole may touch the outer edge.
_HOLE = 0.9
_MOST_PAIRS = 2_000_000  # of an edge and a row at a time, which bounds the memory

Selection = tuple[slice, slice] | slice
Inside = Callable[[np.ndarray], tuple[Selection, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Contour:
    """A closed planar polygon.

    Attributes:
        points: RAS millimetres of its corners; the last is joined to the first.
        exclusive: combined with the others of its plane by exclusive or.
    """

    points: Float64[np.ndarray, "n 3"]
    exclusive: bool = False


@dataclass(frozen=True, eq=False)
class Layer:
    """The polygons of one plane: ``(n, 2)`` corners ``(u, v)`` each, at a height in millimetres."""

    height_mm: float
    rings: list[np.ndarray]
    exclusive: bool


@dataclass(frozen=True, eq=False)
class Drawing:
    """The contours of one structure, in coordinates in which they are flat.

    Attributes:
        grid: whose voxels are to be filled.
        into: ``(3, 4)``, voxel index ``(i, j, k, 1)`` to ``(u, v, height in millimetres)``.
        axes: the axes of the grid along ``u``, ``v`` (in voxels) and height; None where no axis of the grid is
            normal to the contours, and ``u``, ``v`` are millimetres.
        layers: from low to high.
        span: the least and the greatest voxel index of the corners.
    """

    grid: Geometry
    into: Float64[np.ndarray, "3 4"]
    axes: tuple[int, int, int] | None
    layers: list[Layer]
    span: Float64[np.ndarray, "2 3"]

    @property
    def beyond_mm(self) -> float:
        """How far the contours reach out of the image: out of the outer faces of its voxels."""
        return max(0.0, float((self._outwards() * self.grid.spacing_mm).max()))

    @property
    def away_mm(self) -> float:
        """How far the contours are from the image."""
        low, high = self._outwards()
        sizes = (self.span[1] - self.span[0]) * self.grid.spacing_mm
        apart = np.maximum(low * self.grid.spacing_mm, high * self.grid.spacing_mm) - sizes
        return float(np.linalg.norm(np.maximum(apart, 0)))

    def _outwards(self) -> Float64[np.ndarray, "2 3"]:
        return np.array([-0.5 - self.span[0], self.span[1] + 0.5 - self.grid.shape])

    @property
    def step_mm(self) -> float:
        """Between the slices of the grid that are the most parallel to the contours."""
        return float(np.abs(self.into[2, :3]).max())

    @property
    def gaps_mm(self) -> Float64[np.ndarray, " n"]:
        """Between planes that can be neighbours."""
        gaps = np.diff([layer.height_mm for layer in self.layers])
        return gaps[gaps <= max(FURTHEST_MM, GAP * self.step_mm)]


def drawing(contours: Sequence[Contour], grid: Geometry, where: object) -> Drawing:
    """The planes of a structure's contours.

    Raises:
        DicomError: ``CONTOUR_ORIENTATION``: they are not flat, or not parallel to each other.
    """
    inverse = np.linalg.inv(grid.affine)
    index = [np.round(contour.points @ inverse[:3, :3].T + inverse[:3, 3], _DECIMALS) for contour in contours]
    ends = np.array([[points.min(axis=0), points.max(axis=0)] for points in index])
    rise = (ends[:, 1] - ends[:, 0]).max(axis=0)
    steps = 1 / np.linalg.norm(inverse[:3, :3], axis=1)
    flat = [axis for axis in (2, 1, 0) if rise[axis] <= FLAT_VOXELS]
    into = np.zeros((3, 4))
    if flat:
        height = min(flat, key=lambda axis: rise[axis] * steps[axis])
        u, v = (axis for axis in range(3) if axis != height)
        into[[0, 1, 2], [u, v, height]] = 1, 1, steps[height]
        axes = (u, v, height)
    else:
        into[:] = _frame(contours, grid, where) @ grid.affine[:3]
        axes = None
    flattened = [points @ into[:, :3].T + into[:, 3] for points in index]
    layers = _layers(flattened, contours, float(np.abs(into[2, :3]).max()))
    return Drawing(grid, into, axes, layers, np.array([ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)]))


def _frame(contours: Sequence[Contour], grid: Geometry, where: object) -> Float64[np.ndarray, "3 3"]:
    """Two directions in the contours' planes and their normal, as rows: that of the contour with the largest area."""
    normals = [_area_mm2(contour.points) for contour in contours]
    largest = max(normals, key=lambda normal: float(normal @ normal))
    length = float(np.linalg.norm(largest))
    limit = FLAT_VOXELS * min(grid.spacing_mm)
    if length > 0:
        # The SVD's other right singular vectors are any two directions at right angles to the normal.
        normal = largest / length
        across = np.linalg.svd(normal[None])[2][1:]
        rise = max(float(np.ptp(contour.points @ normal)) for contour in contours)
        if rise <= limit:
            return np.vstack([across, normal])
        value = f"points up to {rise:.2f} mm from a common plane, at most {limit:.2f} mm allowed"
    else:
        value = "contours without an area"
    raise DicomError(
        "the contours of a structure are not flat, or not parallel to each other",
        where=where,
        value=value,
        reason="CONTOUR_ORIENTATION",
    )


def _area_mm2(points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, " 3"]:
    """The area of a polygon in space, as a vector along its normal (Newell)."""
    points = points - points[0]
    return 0.5 * np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)


def _layers(flattened: list[np.ndarray], contours: Sequence[Contour], step_mm: float) -> list[Layer]:
    heights = np.array([points[:, 2].mean() for points in flattened])
    planes: list[list[int]] = []
    for index in np.argsort(heights, kind="stable"):
        if planes and heights[index] - heights[planes[-1][0]] <= min(_SAME_PLANE_MM, step_mm / 10):
            planes[-1].append(int(index))
        else:
            planes.append([int(index)])
    layers = []
    for members in planes:
        rings = [flattened[index][:, :2] for index in members]
        exclusive = any(contours[index].exclusive for index in members)
        if len(rings) > 1 and not exclusive:
            rings = list({np.unique(np.round(ring, 3), axis=0).tobytes(): ring for ring in rings}.values())
        layers.append(Layer(float(heights[members].mean()), rings, exclusive))
    return layers


def usual_mm(gaps_mm: np.ndarray) -> float | None:
    """The usual one of the gaps between planes: their lower median, as a few long ones are absences."""
    return float(np.sort(gaps_mm)[(len(gaps_mm) - 1) // 2]) if len(gaps_mm) else None


def filled(drawn: Drawing, spacing_mm: float) -> tuple[tuple[int, int, int], Bool[np.ndarray, "i j k"]] | None:
    """The voxels whose centres lie inside: where their box begins, and the box; None if there are none.

    Args:
        spacing_mm: the usual one between the planes.
    """
    heights = np.array([layer.height_mm for layer in drawn.layers])
    gaps = np.diff(heights)
    half = np.where(gaps <= GAP * spacing_mm + _ON_EDGE, gaps, spacing_mm) / 2
    low = heights - np.concatenate([[spacing_mm / 2], half])
    high = heights + np.concatenate([half, [spacing_mm / 2]])
    found = _aligned(drawn, low, high) if drawn.axes else _oblique(drawn, low, high)
    return None if found is None else _tight(*found)


def _tight(start: np.ndarray, block: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray] | None:
    box = bounding_box(block)
    if box is None:
        return None
    i, j, k = (int(begin) + part.start for begin, part in zip(start, box, strict=True))
    tight = block[box]
    return (i, j, k), tight if tight.size == block.size else tight.copy()


def _aligned(drawn: Drawing, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The contours lie in slices of the grid: rows of voxels are filled from edge to edge."""
    assert drawn.axes is not None
    size = np.array(drawn.grid.shape)[list(drawn.axes)]
    first = np.maximum(np.ceil(low / drawn.step_mm - _ON_EDGE), 0).astype(int)
    last = np.minimum(np.ceil(high / drawn.step_mm - _ON_EDGE), size[2]).astype(int)
    shown = [(layer, a, b) for layer, a, b in zip(drawn.layers, first, last, strict=True) if a < b]
    if not shown:
        return None
    begin, end = _bounds([ring for layer, _, _ in shown for ring in layer.rings], size[:2])
    if (begin >= end).any():
        return None
    bottom, top = min(a for _, a, _ in shown), max(b for _, _, b in shown)
    block = np.zeros((top - bottom, end[1] - begin[1], end[0] - begin[0]), bool)
    for layer, a, b in shown:
        _combine(layer, block[a - bottom], partial(_in_rows, begin=begin, end=end))
        block[a - bottom + 1 : b - bottom] = block[a - bottom]
    order = [(2, 1, 0)[drawn.axes.index(axis)] for axis in range(3)]
    start = np.empty(3, int)
    start[list(drawn.axes)] = begin[0], begin[1], bottom
    return start, block.transpose(order)


def _oblique(drawn: Drawing, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The contours lie across the slices of the grid: each voxel's centre is tried on its own."""
    inverse = np.linalg.inv(np.vstack([drawn.into, [0, 0, 0, 1]]))[:3]
    boxes = []
    for layer, bottom, top in zip(drawn.layers, low, high, strict=True):
        ring = np.vstack(layer.rings)
        ends = [np.column_stack([ring, np.full(len(ring), height)]) for height in (bottom, top)]
        boxes.append(_bounds([np.vstack(ends) @ inverse[:, :3].T + inverse[:, 3]], np.array(drawn.grid.shape)))
    boxes = [(begin, np.maximum(begin, end)) for begin, end in boxes]
    inhabited = [box for box in boxes if (box[0] < box[1]).all()]
    if not inhabited:
        return None
    start = np.min([begin for begin, _ in inhabited], axis=0)
    block = np.zeros(np.max([end for _, end in inhabited], axis=0) - start, bool)
    for layer, bottom, top, (begin, end) in zip(drawn.layers, low, high, boxes, strict=True):
        index = _slab(drawn.into, begin, end, bottom, top)
        if len(index):
            places = index @ drawn.into[:2, :3].T + drawn.into[:2, 3]
            result = np.zeros(len(index), bool)
            order = np.argsort(places[:, 1])
            _combine(layer, result, partial(_in_points, places=places, order=order))
            block[tuple((index - start).T)] = result
    return start, block


def _slab(into: np.ndarray, begin: np.ndarray, end: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """The voxels ``(n, 3)`` of a box whose centres are from ``bottom`` to below ``top``."""
    steep = int(np.argmax(np.abs(into[2, :3])))
    others = [axis for axis in range(3) if axis != steep]
    across = np.stack(np.meshgrid(*[np.arange(begin[axis], end[axis]) for axis in others], indexing="ij"), -1)
    across = across.reshape(-1, 2)
    height = across @ into[2, others] + into[2, 3]
    # Along the steepest axis each column of voxels is in the slab from one place to another.
    low, high = (bottom - height) / into[2, steep], (top - height) / into[2, steep]
    first, last = (np.ceil(low), np.ceil(high)) if into[2, steep] > 0 else (np.floor(high) + 1, np.floor(low) + 1)
    first, last = (np.clip(place, begin[steep], end[steep]).astype(int) for place in (first, last))
    parts = []
    for column, place in _pairs(first, last):
        index = np.empty((len(place), 3), int)
        index[:, others], index[:, steep] = across[column], place
        parts.append(index)
    return np.concatenate(parts) if parts else np.empty((0, 3), int)


def _bounds(points: list[np.ndarray], size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of a grid that can lie inside: from ``begin`` to before ``end``."""
    low = np.min([part.min(axis=0) for part in points], axis=0)
    high = np.max([part.max(axis=0) for part in points], axis=0)
    return (
        np.clip(np.ceil(low - _ON_EDGE), 0, size).astype(int),
        np.clip(np.floor(high + _ON_EDGE) + 1, 0, size).astype(int),
    )


def _combine(layer: Layer, result: np.ndarray, inside: Inside) -> None:
    """Put the polygons of a plane together, in place."""
    for place, ring in enumerate(_by_size(layer.rings)):
        selection, fill = inside(ring)
        part = result[selection]
        if place == 0:
            part[...] = fill
        elif layer.exclusive:
            part ^= fill
        elif np.count_nonzero(part & fill) >= max(1.0, _HOLE * np.count_nonzero(fill)):
            part &= ~fill
        else:
            part |= fill


def _by_size(rings: list[np.ndarray]) -> list[np.ndarray]:
    return sorted(rings, key=_size, reverse=True) if len(rings) > 1 else rings


def _size(ring: np.ndarray) -> float:
    u, v = (ring - ring[0]).T
    return abs(float(u @ np.roll(v, -1) - v @ np.roll(u, -1)))


def _edges(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``u`` and ``v`` of the lower end of each edge, ``v`` of its upper end, and how ``u`` changes with ``v``.

    From the lower end, whichever way the polygon runs: an edge that two polygons share is crossed at the same place.
    """
    following = np.roll(ring, -1, axis=0)
    rises = ring[:, 1] < following[:, 1]
    lower, upper = np.where(rises[:, None], ring, following), np.where(rises[:, None], following, ring)
    keep = upper[:, 1] > lower[:, 1]
    lower, upper = lower[keep], upper[keep]
    slope = (upper[:, 0] - lower[:, 0]) / (upper[:, 1] - lower[:, 1])
    return lower[:, 0], lower[:, 1], upper[:, 1], slope


def _pairs(first: np.ndarray, last: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each edge with each of the rows ``first`` to before ``last`` that it crosses, so many at a time."""
    count = np.maximum(last - first, 0)
    done = np.concatenate([[0], np.cumsum(count)])
    begin = 0
    while begin < len(count):
        end = max(begin + 1, int(np.searchsorted(done, done[begin] + _MOST_PAIRS, side="right")) - 1)
        part = count[begin:end]
        edge = np.repeat(np.arange(begin, end), part)
        yield edge, first[edge] + np.arange(len(edge)) - (done[edge] - done[begin])
        begin = end


def _in_rows(ring: np.ndarray, begin: np.ndarray, end: np.ndarray) -> tuple[Selection, np.ndarray]:
    """The voxels ``(v, u)`` of a window of the grid that lie inside a polygon, in the polygon's own part of it."""
    low, high = (np.clip(bound, begin, end) for bound in _bounds([ring], end))
    high = np.maximum(low, high)
    columns, rows = (int(size) for size in high - low)
    selection = tuple(slice(a, b) for a, b in zip((low - begin)[::-1], (high - begin)[::-1], strict=True))
    u, v, v_end, slope = _edges(ring)
    first, last = (np.clip(np.ceil(ends), low[1], high[1]).astype(int) for ends in (v, v_end))
    crossings = np.zeros(rows * (columns + 1), np.int64)
    for edge, row in _pairs(first, last):
        column = np.ceil(u[edge] + (row - v[edge]) * slope[edge] - _ON_EDGE)
        column = np.clip(column, low[0], high[0]).astype(int)
        place = (row - low[1]) * (columns + 1) + column - low[0]
        crossings += np.bincount(place, minlength=len(crossings))
    # Only parity counts.
    odd = (crossings.reshape(rows, columns + 1)[:, :columns] & 1).astype(bool)
    return (selection[0], selection[1]), np.logical_xor.accumulate(odd, axis=1)


def _in_points(ring: np.ndarray, places: np.ndarray, order: np.ndarray) -> tuple[Selection, np.ndarray]:
    """Which of the places ``(n, 2)``, whose ``order`` is by ``v``, lie inside a polygon."""
    u, v, v_end, slope = _edges(ring)
    sorted_u, sorted_v = places[order].T
    crossings = np.zeros(len(places), np.int64)
    for edge, row in _pairs(np.searchsorted(sorted_v, v), np.searchsorted(sorted_v, v_end)):
        before = u[edge] + (sorted_v[row] - v[edge]) * slope[edge] <= sorted_u[row]
        crossings += np.bincount(row[before], minlength=len(crossings))
    inside = np.empty(len(places), bool)
    inside[order] = crossings % 2 == 1
    return slice(None), inside
