"""A network over an image larger than its window in numpy: what it answers comes in slabs and leaves as labels.

Windows, weights and padding are those of :func:`segue.model.sliding_window`. Logits of all classes exist for one slab
at a time, as thick as a window.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, UInt16

from segue.prepare import Plan, labels_of
from segue.volume import Geometry, resample_intensity

Network = Callable[[np.ndarray], np.ndarray]


def sliding_slabs(
    network: Network,
    image: Float32[np.ndarray, "c i j k"],
    *,
    patch: Sequence[int],
    overlap: float,
    batch: int,
    padding: Float32[np.ndarray, " c"],
    along: int,
) -> Iterator[Float32[np.ndarray, "n x y z"]]:
    """Logits of the image, slab after slab ``along`` an axis (0, 1 or 2), without gaps.

    Windows overlap by at least ``overlap`` of the patch and are weighted by a Gaussian whose deviation is an eighth of
    the patch (Isensee et al., 2021). An image smaller than the patch is padded with ``padding`` per channel, and the
    padding's logits are cut off again.
    """
    before = [max(0, (side - size) // 2) for side, size in zip(patch, image.shape[1:], strict=True)]
    inside = [slice(start, start + size) for start, size in zip(before, image.shape[1:], strict=True)]
    image = _padded(image, patch, inside, padding)
    starts = [_starts(n, p, overlap) for n, p in zip(image.shape[1:], patch, strict=True)]
    if all(len(places) == 1 for places in starts):
        yield network(image[None])[0][(slice(None), *inside)]
        return
    weight, side = _gaussian(patch), patch[along]
    firsts, starts[along] = starts[along], [0]
    windows = [[slice(s, s + p) for s, p in zip(window, patch, strict=True)] for window in itertools.product(*starts)]
    weights = np.zeros([side if axis == along else n for axis, n in enumerate(image.shape[1:])], np.float32)
    total: np.ndarray | None = None
    for first, following in itertools.zip_longest(firsts, firsts[1:], fillvalue=firsts[-1] + side):
        band = image[(slice(None), *_rows(along, first, first + side))]
        for number in range(0, len(windows), batch):
            places = windows[number : number + batch]
            logits = network(np.stack([band[(slice(None), *place)] for place in places]))
            if total is None:
                total = np.zeros((logits.shape[1], *weights.shape), np.float32)
            for part, place in zip(logits, places, strict=True):
                total[(slice(None), *place)] += part * weight
                weights[tuple(place)] += weight
        assert total is not None, "there is at least one window"
        done = following - first  # rows that no later window reaches
        shown = [slice(None), *inside]
        low, high = inside[along].start - first, inside[along].stop - first
        shown[along + 1] = slice(max(0, low), min(done, high))
        ready = total[(slice(None), *_rows(along, 0, done))] / weights[_rows(along, 0, done)]
        yield ready[tuple(shown)]
        _shift(total, along + 1, done)
        _shift(weights, along, done)


def _padded(
    image: np.ndarray, patch: Sequence[int], inside: Sequence[slice], padding: np.ndarray
) -> Float32[np.ndarray, "c i j k"]:
    grid = tuple(max(side, size) for side, size in zip(patch, image.shape[1:], strict=True))
    if grid == image.shape[1:]:
        return image
    padded = np.empty((len(image), *grid), np.float32)
    padded[...] = padding[:, None, None, None]
    padded[(slice(None), *inside)] = image
    return padded


def _rows(axis: int, first: int, last: int) -> tuple[slice, ...]:
    rows = [slice(None)] * 3
    rows[axis] = slice(first, last)
    return tuple(rows)


def _shift(array: np.ndarray, axis: int, rows: int) -> None:
    """Move rows to the front, in place; zeros follow."""
    moved = np.moveaxis(array, axis, 0)
    kept = len(moved) - rows
    moved[:kept] = moved[rows:].copy()
    moved[kept:] = 0


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """First voxels of evenly spread windows that cover ``size`` and overlap by at least ``overlap``."""
    if size <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    number = -(-(size - side) // step) + 1
    return [round(n * (size - side) / (number - 1)) for n in range(number)]


def _gaussian(patch: Sequence[int]) -> Float32[np.ndarray, "i j k"]:
    lines = []
    for side in patch:
        offset = np.arange(side) - (side - 1) / 2
        lines.append(np.exp(-0.5 * (offset / (side / 8)) ** 2))
    weight = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
    return (weight / weight.max()).astype(np.float32)


def thinnest_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """The axis along which a slab as thick as a window is smallest."""
    return min(range(3), key=lambda axis: patch[axis] / shape[axis])


def streamed_labels(
    slabs: Iterator[Float32[np.ndarray, "n x y z"]], plan: Plan, source: Geometry, target: Geometry, along: int
) -> UInt16[np.ndarray, "i j k"]:
    """The label map on ``target`` of scores that come in slabs on ``source``, a grid over the same field of view.

    Scores are interpolated linearly, one class at a time.
    """
    labels = np.empty(target.shape, np.uint16)
    size, wanted = source.shape[along], target.shape[along]
    same = source.difference(target) is None
    # Between which two rows of the source each row of the target lies.
    lower = np.floor((np.arange(wanted) + 0.5) * (size / wanted) - 0.5).astype(int).clip(0, size - 1)
    first_needed = np.arange(wanted) if same else lower
    last_needed = np.arange(wanted) if same else np.minimum(lower + 1, size - 1)
    held: np.ndarray | None = None
    begin = end = done = 0  # rows of the source that are held, and of the target that are made
    for slab in slabs:
        held = slab if held is None else np.concatenate([held, slab], along + 1)
        end += slab.shape[along + 1]
        ready = int(np.searchsorted(last_needed, end))
        if ready == done:
            continue
        place = _rows(along, done, ready)
        if same:
            labels[place] = labels_of(held, plan)
        else:
            labels[place] = _label_map(held, plan, _band(source, along, begin, end), _band(target, along, done, ready))
        done = ready
        # Where the target is coarser, rows between are not needed, but come all the same.
        keep = min(int(first_needed[done]), end) if done < wanted else end
        held = held[(slice(None), *_rows(along, keep - begin, end - begin))].copy() if keep < end else None
        begin = keep
    assert done == wanted, "slabs cover the grid"
    return labels


def _band(grid: Geometry, along: int, first: int, last: int) -> Geometry:
    i, j, k = (first if axis == along else 0 for axis in range(3))
    x, y, z = (last - first if axis == along else size for axis, size in enumerate(grid.shape))
    return grid.cropped((i, j, k), (x, y, z))


def _label_map(
    scores: Float32[np.ndarray, "n x y z"], plan: Plan, source: Geometry, target: Geometry
) -> UInt16[np.ndarray, "i j k"]:
    winner = np.zeros(target.shape, np.uint16)
    if plan.regions:
        for region, part in zip(plan.regions, scores, strict=True):
            winner[resample_intensity(part, source, target, order=1) > 0] = region.label
        return winner
    best = np.full(target.shape, -np.inf, dtype=np.float32)
    for number in (0, *plan.labels):
        score = resample_intensity(scores[number], source, target, order=1)
        wins = score > best
        best[wins] = score[wins]
        winner[wins] = number
    return winner
