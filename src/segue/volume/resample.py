"""Resampling between grids.

Where the two grids share their axes (by far the most frequent case: another spacing, a crop, a flip), a B-spline
along one axis, prefilter and boundary included, is one small matrix, and three matrix products do the whole
volume. Oblique pairs are sampled point by point, cubic ones by :func:`scipy.ndimage.affine_transform`. All follow ITK's
rules: coefficients mirrored at the borders (Unser, Splines: a perfect fit, 1999), values defined up to the outer faces
of the border voxels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Integer, Shaped

from segue.core.executor import cpu_count
from segue.volume.geometry import Geometry

# An off-diagonal entry of the index-to-index map that moves no voxel of the volume by more than this many voxels.
_ALIGNED_VOXELS = 1e-3
_SLAB_VOXELS = 4_000_000
# Of the result at a time, so that what is between stays in the processor's cache.
_CHUNK_VOXELS = 65_536
_LEAST_BITS = 16  # of a voxel, in coordinates of 32 bits
# What the prefilter leaves far from a sample: nothing at float32's precision, but numbers so small that processors
# need a hundred times as long for them.
_NOTHING = 1e-12


def resample_intensity(
    array: Shaped[np.ndarray, "i j k"],
    source: Geometry,
    target: Geometry,
    *,
    order: Literal[1, 3] = 3,
    fill: float = 0.0,
) -> Float32[np.ndarray, "x y z"]:
    """Sample ``array`` (on ``source``) at the voxel centres of ``target`` with a B-spline of ``order``.

    Values outside the field of view of ``source`` are ``fill``.
    """
    image = np.asarray(array, dtype=np.float32)
    axes = _shared_axes(source, target)
    if axes is None:
        return _oblique(image, source, target, order, fill)
    permutation, coordinates = axes
    return _separable(image.transpose(permutation), coordinates, order, fill)


def resample_labels(
    labels: Integer[np.ndarray, "i j k"], source: Geometry, target: Geometry
) -> Integer[np.ndarray, "x y z"]:
    """Each label's indicator interpolated linearly; the label with the largest weight wins.

    Ties and everything outside ``source`` go to the lower label (background first). Only each label's own
    bounding box is interpolated, so many small labels cost little.
    """
    from scipy import ndimage

    axes = _shared_axes(source, target)
    if axes is None:
        return _oblique_labels(labels, source, target)
    permutation, coordinates = axes
    moved = labels.transpose(permutation)
    inside = [_inside(c, n) for c, n in zip(coordinates, moved.shape, strict=True)]
    best = np.zeros(target.shape, dtype=np.float32)
    result = np.zeros(target.shape, dtype=labels.dtype)
    boxes = ndimage.find_objects(np.maximum(moved, 0).astype(np.int32, copy=False))
    if (moved == 0).any():
        boxes = [tuple(slice(0, n) for n in moved.shape), *boxes]
        first = 0
    else:
        first = 1
    for label, box in enumerate(boxes, start=first):
        if box is None:
            continue
        windows, weights = [], []
        for axis, part in enumerate(box):
            touched = (coordinates[axis] > part.start - 1) & (coordinates[axis] < part.stop) & inside[axis]
            where = np.flatnonzero(touched)
            window = slice(where[0], where[-1] + 1) if len(where) else slice(0, 0)
            windows.append(window)
            matrix = _matrix(coordinates[axis][window], moved.shape[axis], 1)
            weights.append(matrix[:, part] * inside[axis][window, None])
        if any(window.start == window.stop for window in windows):
            continue
        score = _apply((moved[box] == label).astype(np.float32), weights)
        place = (windows[0], windows[1], windows[2])
        wins = score > best[place] + 1e-6
        best[place][wins] = score[wins]
        result[place][wins] = label
    return result


def _shared_axes(
    source: Geometry, target: Geometry
) -> tuple[tuple[int, int, int], list[Float64[np.ndarray, _]]] | None:
    """For grids with common axes: the source's axis order, and per target axis the source coordinates."""
    index_map = np.linalg.inv(source.affine) @ target.affine
    linear = index_map[:3, :3]
    order = np.argmax(np.abs(linear), axis=0)
    if sorted(order) != [0, 1, 2]:
        return None
    stray = np.abs(linear)
    stray[order, [0, 1, 2]] = 0.0
    if (stray * np.array(target.shape)).max() > _ALIGNED_VOXELS:
        return None
    coordinates = [
        linear[order[axis], axis] * np.arange(target.shape[axis]) + index_map[order[axis], 3] for axis in range(3)
    ]
    return (int(order[0]), int(order[1]), int(order[2])), coordinates


def _inside(coordinate: Float64[np.ndarray, "*n"], size: int) -> Bool[np.ndarray, "*n"]:
    # The field of view ends at the outer faces; the tolerance keeps faces that rounding moved.
    return (coordinate >= -0.5 - 1e-6) & (coordinate <= size - 0.5 + 1e-6)


def _separable(
    image: Float32[np.ndarray, "i j k"], coordinates: list[Float64[np.ndarray, _]], order: int, fill: float
) -> Float32[np.ndarray, "x y z"]:
    inside = [_inside(c, n) for c, n in zip(coordinates, image.shape, strict=True)]
    matrices = [_matrix(c, n, order) for c, n in zip(coordinates, image.shape, strict=True)]
    result = _apply(image, matrices)
    if not all(mask.all() for mask in inside):
        outside = ~(inside[0][:, None, None] & inside[1][None, :, None] & inside[2][None, None, :])
        result[outside] = fill
    return result


def _apply(image: np.ndarray, matrices: list[np.ndarray]) -> Float32[np.ndarray, "x y z"]:
    """Three matrix products, those that shrink the volume first."""
    result = image
    for axis in sorted(range(3), key=lambda a: matrices[a].shape[0] / max(1, matrices[a].shape[1])):
        matrix = matrices[axis].astype(np.float32, copy=False)
        if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=np.float32)):
            continue
        if axis == 2:
            result = result @ matrix.T
        elif axis == 1:
            result = np.matmul(matrix, result)
        else:
            _, j, k = result.shape
            result = (matrix @ result.reshape(-1, j * k)).reshape(-1, j, k)
    return np.ascontiguousarray(result, dtype=np.float32)


def _matrix(coordinate: Float64[np.ndarray, " m"], size: int, order: int) -> Float[np.ndarray, "m {size}"]:
    """The matrix that takes ``size`` samples on an axis to the spline's values at ``coordinate``."""
    matrix = np.zeros((len(coordinate), size))
    rows = np.arange(len(coordinate))
    if size == 1:
        matrix[:, 0] = 1.0
        return matrix
    if order == 1:
        x = np.clip(coordinate, 0, size - 1)
        low = np.minimum(np.floor(x).astype(int), size - 2)
        matrix[rows, low] = 1 - (x - low)
        matrix[rows, low + 1] = x - low
        return matrix
    x = np.clip(coordinate, -0.5, size - 0.5)
    low = np.floor(x).astype(int)
    t = x - low
    weights = ((1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        np.add.at(matrix, (rows, _mirrored(low + offset, size)), weight)
    return _prefilter(matrix, size)


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    period = 2 * (size - 1)
    index = np.abs(index) % period
    return np.where(index >= size, period - index, index)


def _prefilter(matrix: np.ndarray, size: int) -> np.ndarray:
    """``matrix @ inv(B)``: B takes cubic spline coefficients, mirrored at the borders, to samples."""
    bands = np.zeros((3, size))  # of B transposed, as solve_banded wants them
    bands[1] = 4 / 6
    bands[0, 1:] = 1 / 6
    bands[2, :-1] = 1 / 6
    # B[0, 1] and B[-1, -2] are doubled by the mirror; in the transpose they stand below and above.
    bands[2, 0] = 2 / 6
    bands[0, -1] = 2 / 6
    from scipy.linalg import solve_banded  # scipy takes 0.1 s to import; most commands resample nothing

    result = np.ascontiguousarray(solve_banded((1, 1), bands, matrix.T).T)
    result[np.abs(result) < _NOTHING] = 0.0
    return result


def _slabs(
    source: Geometry, target: Geometry, shape: tuple[int, ...]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Source coordinates of the target's voxels, some target slices at a time."""
    index_map = np.linalg.inv(source.affine) @ target.affine
    thick = max(1, _SLAB_VOXELS // (target.shape[1] * target.shape[2]))
    for start in range(0, target.shape[0], thick):
        place = slice(start, min(target.shape[0], start + thick))
        index = np.meshgrid(
            np.arange(place.start, place.stop),
            np.arange(target.shape[1]),
            np.arange(target.shape[2]),
            indexing="ij",
        )
        points = np.tensordot(index_map[:3, :3], np.stack(index), 1) + index_map[:3, 3][:, None, None, None]
        inside = np.logical_and.reduce([_inside(points[axis], shape[axis]) for axis in range(3)])
        yield place, points, inside


def _oblique(
    image: Float32[np.ndarray, "i j k"], source: Geometry, target: Geometry, order: int, fill: float
) -> Float32[np.ndarray, "x y z"]:
    index_map = np.linalg.inv(source.affine) @ target.affine
    linear, shift = index_map[:3, :3], index_map[:3, 3]
    if order == 1:
        return _oblique_linear(image, linear, shift, target.shape, fill)
    from scipy import ndimage

    # The same samples on the same grid: what the prefilter alone does.
    filters = [_prefilter(np.eye(n), n) if n > 1 else np.eye(1) for n in image.shape]
    coefficients = _apply(image, filters)
    result = np.empty(target.shape, dtype=np.float32)

    def sample(start: int) -> None:
        place = result[start : start + thick]
        begin = linear @ [start, 0, 0] + shift
        ndimage.affine_transform(
            coefficients, linear, begin, place.shape, place, order=order, mode="mirror", prefilter=False
        )
        _outside(place, linear, begin, image.shape, fill)

    threads = _threads()
    thick = max(1, min(-(-target.shape[0] // threads), _SLAB_VOXELS // (target.shape[1] * target.shape[2])))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(sample, range(0, target.shape[0], thick)))
    return result


def _oblique_linear(
    image: Float32[np.ndarray, "i j k"],
    linear: Float64[np.ndarray, "3 3"],
    shift: Float64[np.ndarray, " 3"],
    shape: tuple[int, ...],
    fill: float,
) -> Float32[np.ndarray, "x y z"]:
    """The eight neighbours of ``linear @ index + shift``, weighted; three times as fast as scipy's general spline.

    Coordinates are whole numbers of 2^-22 voxel: integer sums, shifts and masks tell the neighbour and the weight.
    """
    # Voxels that lie side by side in memory are read side by side, whatever order the axes have.
    order = sorted(range(3), key=lambda axis: -image.strides[axis])
    image, linear, shift = np.ascontiguousarray(image.transpose(order)), linear[order], shift[order]
    along = [int(axis) for axis in np.argmax(np.abs(linear), axis=1)]
    turn = along if sorted(along) == [0, 1, 2] else [0, 1, 2]
    linear = linear[:, turn]
    result = np.empty([shape[axis] for axis in turn], dtype=np.float32)
    sizes = image.shape
    for axis in range(3):
        if image.shape[axis] == 1:  # a neighbour of the same value
            image = np.repeat(image, 2, axis)
    furthest = (np.abs(linear) @ np.array(result.shape) + np.abs(shift)).max() + max(image.shape)
    bits = min(22, 30 - int(np.ceil(np.log2(furthest))))
    whole: type[np.int32] | type[np.int64] = np.int32
    if bits < _LEAST_BITS or image.size > np.iinfo(np.int32).max:
        whole, bits = np.int64, 32
    flat, (_, j, k) = image.reshape(-1), image.shape
    neighbours = [flat[(a * j + b) * k + c :] for a in (0, 1) for b in (0, 1) for c in (0, 1)]

    def fixed(coordinate: Float64[np.ndarray, " n"]) -> np.ndarray:
        return np.rint(coordinate * (1 << bits)).astype(whole)

    lines = result.reshape(-1, result.shape[2])
    x, y = (index.reshape(-1) for index in np.indices(result.shape[:2]))
    begin = [fixed(linear[axis, 0] * x + linear[axis, 1] * y + shift[axis]) for axis in range(3)]
    along_z = [fixed(linear[axis, 2] * np.arange(result.shape[2])) for axis in range(3)]
    threads = _threads()
    rows = max(1, min(_CHUNK_VOXELS // result.shape[2], -(-len(lines) // threads)))

    def sample(starts: range) -> None:
        # Everything between is written into the same memory again and again: new memory takes longer than the sums.
        chunk = rows, result.shape[2]
        places, indices, weights, values = (
            np.empty((*n, *chunk), kind)
            for n, kind in (((2,), whole), ((), np.intp), ((3,), np.float32), ((8,), np.float32))
        )
        for start in starts:
            count = min(rows, len(lines) - start)
            place, index = places[:, :count]
            index[...] = 0
            for axis, size in enumerate(image.shape):
                np.add(begin[axis][start : start + count, None], along_z[axis], out=place)
                np.clip(place, 0, ((size - 1) << bits) - 1, out=place)
                weight = weights[axis, :count]
                np.bitwise_and(place, whole((1 << bits) - 1), out=weight, casting="same_kind")
                weight *= np.float32(2.0**-bits)
                np.right_shift(place, bits, out=place)
                index *= whole(size)
                index += place
            indices[:count] = index
            for value, neighbour in zip(values, neighbours, strict=True):
                np.take(neighbour, indices[:count], out=value[:count], mode="clip")
            # Of eight values four, of four two, of two the one between them.
            for axis, step in ((2, 1), (1, 2), (0, 4)):
                for first in range(0, 8, 2 * step):
                    low, high = values[first, :count], values[first + step, :count]
                    high -= low
                    high *= weights[axis, :count]
                    low += high
            lines[start : start + count] = values[0, :count]

    def fill_outside(x: int) -> None:
        _outside(result[x : x + 1], linear, linear[:, 0] * x + shift, sizes, fill)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(sample, [range(n * rows, len(lines), threads * rows) for n in range(threads)]))
        list(pool.map(fill_outside, range(len(result))))
    return result.transpose(np.argsort(turn))


def _outside(
    place: Float32[np.ndarray, "x y z"],
    linear: Float64[np.ndarray, "3 3"],
    shift: Float64[np.ndarray, " 3"],
    shape: tuple[int, ...],
    fill: float,
) -> None:
    """Put ``fill`` where the source coordinates ``linear @ index + shift`` lie outside its field of view."""
    x, y, z = (np.arange(n) for n in place.shape)
    for axis, size in enumerate(shape):
        rest = linear[axis, 0] * x[:, None] + linear[axis, 1] * y + shift[axis]
        along = linear[axis, 2] * z
        if _inside(rest + along.min(), size).all() and _inside(rest + along.max(), size).all():
            continue
        place[~_inside(rest[:, :, None] + along, size)] = fill


def _threads() -> int:
    """As many as matrix products may use: OMP_NUM_THREADS, else the cores of this process."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(asked)) if asked.isdigit() else cpu_count()


def _oblique_labels(
    labels: Integer[np.ndarray, "i j k"], source: Geometry, target: Geometry
) -> Integer[np.ndarray, "x y z"]:
    from scipy import ndimage

    result = np.zeros(target.shape, dtype=labels.dtype)
    present = np.unique(labels)
    for place, points, inside in _slabs(source, target, labels.shape):
        if not inside.any():
            continue
        best = np.zeros(int(inside.sum()), dtype=np.float32)
        winner = np.zeros(best.shape, dtype=labels.dtype)
        for label in present:
            score = ndimage.map_coordinates(
                (labels == label).astype(np.float32),
                points[:, inside],
                order=1,
                mode="nearest",
                output=np.float32,
            )
            wins = score > best + 1e-6
            best[wins] = score[wins]
            winner[wins] = label
        result[place][inside] = winner
    return result
