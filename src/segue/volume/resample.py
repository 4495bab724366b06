"""Resampling between grids.

Where the two grids share their axes (by far the most frequent case: another spacing, a crop, a flip), a B-spline
along one axis, prefilter and boundary included, is one small matrix, and three matrix products do the whole
volume. Oblique pairs are sampled point by point, cubic ones by :func:`scipy.ndimage.affine_transform`. All follow ITK's
rules: coefficients mirrored at the borders (Unser, Splines: a perfect fit, 1999), values defined up to the outer faces
of the border voxels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
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
_BLOCK_VOXELS = 1_000_000  # taken up at a time
_SLICES = 32  # written at a time: lines of 64 bytes in memory where they are not the fastest axis
_ROWS = 64  # of a matrix at a time
_LEAST_BITS = 16  # of a voxel, in coordinates of 32 bits
# What the prefilter leaves far from a sample: nothing at float32's precision, but numbers so small that processors
# need a hundred times as long for them.
_NOTHING = 1e-12
_TIE = 1e-6  # weights nearer than this are the same


def resample_intensity(
    array: Shaped[np.ndarray, "i j k"],
    source: Geometry,
    target: Geometry,
    *,
    order: Literal[1, 3] = 3,
    fill: float = 0.0,
    each: Callable[[np.ndarray], np.ndarray] | None = None,
    out: Float[np.ndarray, "x y z"] | None = None,
) -> Float[np.ndarray, "x y z"]:
    """Sample ``array`` (on ``source``) at the voxel centres of ``target`` with a B-spline of ``order``.

    Values outside the field of view of ``source`` are ``fill``. Sums are made in float32. Where the grids share their
    axes, slices are taken up as they are needed: beyond ``array`` and the result there is one volume in float32 at
    most, with as many slices as ``array`` and the size in a slice of the result.

    Args:
        each: what is done with some slices of ``array`` before, value by value; gives float32.
        out: what the result is written to, of any type and order in memory; a new float32 array if not given.
    """
    if out is None:
        out = np.empty(target.shape, dtype=np.float32)
    if source.shape == target.shape and np.array_equal(source.affine, target.affine):
        return _separable(array, [None, None, None], each, out)
    axes = _shared_axes(source, target)
    if axes is None:
        image = np.asarray(array if each is None else each(array), dtype=np.float32)
        out[...] = _oblique(image, source, target, order, fill)
        return out
    permutation, coordinates = axes
    moved = array.transpose(permutation)
    matrices = [_matrix(c, n, order) for c, n in zip(coordinates, moved.shape, strict=True)]
    _separable(moved, [None if _is_identity(matrix) else matrix for matrix in matrices], each, out)
    for axis, (coordinate, size) in enumerate(zip(coordinates, moved.shape, strict=True)):
        outside = ~_inside(coordinate, size)
        if outside.any():
            np.moveaxis(out, axis, 0)[outside] = fill
    return out


def resample_labels(
    labels: Integer[np.ndarray, "i j k"], source: Geometry, target: Geometry
) -> Integer[np.ndarray, "x y z"]:
    """Each label's indicator interpolated linearly; the label with the largest weight wins.

    Ties and everything outside ``source`` go to the lower label (background first). Only each label's own
    bounding box is interpolated, so many small labels cost little, and some slices at a time.
    """
    from scipy import ndimage

    axes = _shared_axes(source, target)
    if axes is None:
        return _oblique_labels(labels, source, target)
    permutation, coordinates = axes
    result = np.zeros(target.shape, dtype=labels.dtype)
    # The slowest axis in memory comes first.
    turn = _slowest_first(labels.transpose(permutation))
    moved, placed = labels.transpose(permutation).transpose(turn), result.transpose(turn)
    coordinates = [coordinates[axis] for axis in turn]
    inside = [_inside(c, n) for c, n in zip(coordinates, moved.shape, strict=True)]
    matrices = [
        (_matrix(c, n, 1) * within[:, None]).astype(np.float32)
        for c, n, within in zip(coordinates, moved.shape, inside, strict=True)
    ]
    parts = {
        label: part
        for label, box in enumerate(ndimage.find_objects(moved), start=1)
        if box is not None and (part := _reached(box, coordinates, inside)) is not None
    }
    # The weights of all labels, background too, add up to one.
    weight, best = (np.empty((0, *placed.shape[1:]), np.float32) for _ in range(2))
    thick = max(1, _SLAB_VOXELS // math.prod(placed.shape[1:]))
    for start in range(0, len(placed), thick):
        slab = slice(start, min(len(placed), start + thick))
        here = {
            label: part for label, part in parts.items() if part[1][0].start < slab.stop and part[1][0].stop > start
        }
        if not here:
            continue
        if len(best) != slab.stop - start:
            weight, best = (np.empty((slab.stop - start, *placed.shape[1:]), np.float32) for _ in range(2))
        weight[...] = best[...] = 0
        for label, (box, windows) in here.items():
            first = slice(max(start, windows[0].start), min(slab.stop, windows[0].stop))
            reached = np.flatnonzero(matrices[0][first, box[0]].any(axis=0))
            if not len(reached):
                continue
            slices = slice(box[0].start + int(reached[0]), box[0].start + int(reached[-1]) + 1)
            score = (moved[slices, box[1], box[2]] == label).astype(np.float32, order="C")
            pieces = [matrices[0][first, slices], *(matrices[axis][windows[axis], box[axis]] for axis in (1, 2))]
            for axis in sorted(range(3), key=lambda axis: pieces[axis].shape[0] / pieces[axis].shape[1]):
                score = _product(pieces[axis], score, axis)
            place = (slice(first.start - start, first.stop - start), windows[1], windows[2])
            weight[place] += score
            wins = score > best[place] + _TIE
            best[place][wins] = score[wins]
            placed[slab][place][wins] = label
        placed[slab][best <= 1 - weight + _TIE] = 0
    return result


_Box = tuple[slice, slice, slice]


def _reached(
    box: _Box, coordinates: list[Float64[np.ndarray, " _"]], inside: list[Bool[np.ndarray, " _"]]
) -> tuple[_Box, _Box] | None:
    """A box of the source, and that of the target's voxels that linear interpolation reaches it from."""
    windows = []
    for part, coordinate, within in zip(box, coordinates, inside, strict=True):
        where = np.flatnonzero((coordinate > part.start - 1) & (coordinate < part.stop) & within)
        if not len(where):
            return None
        windows.append(slice(int(where[0]), int(where[-1]) + 1))
    return box, (windows[0], windows[1], windows[2])


def _shared_axes(
    source: Geometry, target: Geometry
) -> tuple[tuple[int, int, int], list[Float64[np.ndarray, " _"]]] | None:
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


def _slowest_first(array: np.ndarray) -> list[int]:
    """The axes in the order in which they lie in memory, the one with the longest step first."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _separable(
    image: Shaped[np.ndarray, "i j k"],
    matrices: Sequence[np.ndarray | None],
    each: Callable[[np.ndarray], np.ndarray] | None,
    out: Float[np.ndarray, "x y z"],
) -> Float[np.ndarray, "x y z"]:
    """Three matrix products (None: as it is), slices in the slowest axis of ``image`` first, then along it."""
    turn = _slowest_first(image)
    source, target = image.transpose(turn), out.transpose(turn)
    along, *across = [None if (m := matrices[axis]) is None else m.astype(np.float32, copy=False) for axis in turn]
    _, rows, columns = target.shape
    at_once = max(1, _BLOCK_VOXELS // max(math.prod(source.shape[1:]), rows * columns))
    if along is None:
        at_once = max(at_once, min(_SLICES, len(source)))
    # Rows outermost: what is written at a time then lies together in memory, whichever axis is fastest there.
    between = np.empty((rows, min(at_once, len(source)) if along is None else len(source), columns), np.float32)
    steps = sorted((1, 2), key=lambda axis: target.shape[axis] / source.shape[axis])
    for start in range(0, len(source), at_once):
        slices = source[start : start + at_once]
        values = np.ascontiguousarray(slices if each is None else each(slices), dtype=np.float32)
        for axis in steps:
            if (matrix := across[axis - 1]) is not None:
                values = _product(matrix, values, axis)
        place = slice(0, len(values)) if along is None else slice(start, start + len(values))
        between[:, place] = values.transpose(1, 0, 2)
        if along is None:
            _write(between[:, place], target[start : start + len(values)])
    if along is not None:
        few = max(1, _CHUNK_VOXELS // (len(target) * columns))
        for row in range(0, rows, few):
            _write(_product(along, between[row : row + few], 1), target[:, row : row + few])
    return out


def _write(values: Float32[np.ndarray, "y x z"], target: Float[np.ndarray, "x y z"]) -> None:
    few = max(1, _CHUNK_VOXELS // (values.shape[1] * values.shape[2]))
    for row in range(0, len(values), few):
        # Another type first: numpy converts in wide registers only what lies side by side.
        part = values[row : row + few].astype(target.dtype, copy=False)
        target[:, row : row + few] = part.transpose(1, 0, 2)


def _product(
    matrix: Float32[np.ndarray, "m n"], values: Float32[np.ndarray, "a b c"], axis: int
) -> Float32[np.ndarray, "x y z"]:
    """``matrix`` times ``values`` along an axis. A sample reaches its neighbours only: some rows of the matrix at a
    time, without the columns where all of them are zero."""
    shape = [*values.shape[:axis], len(matrix), *values.shape[axis + 1 :]]
    result = np.empty(shape, np.float32)
    for start in range(0, len(matrix), _ROWS):
        rows = matrix[start : start + _ROWS]
        reached = np.flatnonzero(rows.any(axis=0))
        columns = slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 0)
        few, stop = rows[:, columns], start + len(rows)
        if axis == 2:
            flat = values.reshape(-1, values.shape[2])
            np.matmul(flat[:, columns], few.T, out=result.reshape(-1, len(matrix))[:, start:stop])
        elif axis == 1:
            np.matmul(few, values[:, columns], out=result[:, start:stop])
        else:
            flat = values.reshape(len(values), -1)
            np.matmul(few, flat[columns], out=result.reshape(len(matrix), -1)[start:stop])
    return result


def _is_identity(matrix: np.ndarray) -> bool:
    size = len(matrix)
    return matrix.shape == (size, size) and np.array_equal(matrix.astype(np.float32), np.eye(size, dtype=np.float32))


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
    filters = [_prefilter(np.eye(n), n) if n > 1 else None for n in image.shape]
    coefficients = _separable(image, filters, None, np.empty(image.shape, np.float32))
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
