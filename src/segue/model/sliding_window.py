"""A network over an image larger than its patch: overlapping windows with Gaussian weights.

Windows go along one axis, row after row, and what no later window reaches is handed out at once: logits of the whole
image need not exist.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

_KNOWN_ANSWERS = 2  # to windows of one value: air, and what stands outside the image


@torch.inference_mode()
def sliding_window(
    network: Callable[[Tensor], Any],
    image: Float[Tensor, "c i j k"],
    *,
    patch: Sequence[int],
    overlap: float,
    batch: int,
    device: torch.device,
    padding: Float[Tensor, " c"],
) -> Float32[Tensor, "n i j k"]:
    """Logits of the whole image, in float32 on ``device``; see :func:`sliding_slabs`."""
    total: Tensor | None = None
    begun = 0
    for slab in sliding_slabs(
        network, image, patch=patch, overlap=overlap, batch=batch, device=device, padding=padding
    ):
        if slab.shape[1] == image.shape[1]:
            return slab
        if total is None:
            total = slab.new_empty((slab.shape[0], *image.shape[1:]))
        total[:, begun : begun + slab.shape[1]] = slab
        begun += slab.shape[1]
    assert total is not None, "there is at least one window"
    return total


@torch.inference_mode()
def sliding_slabs(
    network: Callable[[Tensor], Any],
    image: Float[Tensor, "c i j k"],
    *,
    patch: Sequence[int],
    overlap: float,
    batch: int,
    device: torch.device,
    padding: Float[Tensor, " c"],
    along: int = 0,
    precision: torch.dtype = torch.float32,
) -> Iterator[Float[Tensor, "n i j k"]]:
    """Logits of the image in slabs that follow each other along an axis, on ``device``.

    Windows overlap by at least ``overlap`` of the patch and are weighted by a Gaussian whose deviation is an
    eighth of the patch (Isensee et al., 2021). An image smaller than the patch is padded with ``padding`` per
    channel, and the padding's logits are cut off again. Windows of one and the same value in every voxel are answered
    once: the network knows of no place.

    Beyond the image there is a slab of logits as thick as the patch, and what is handed out is a part of it: it is gone
    when the next one is asked for.

    Args:
        along: 0, 1 or 2; :func:`thinnest_axis` names the one that takes the least memory.
        precision: what the mean of the windows is summed up in. Its weights add up to 1: where eight windows
            meet, in float16 it is off by at most two thousandths of the largest of their logits.
    """
    shape = image.shape[1:]
    before = [max(0, (p - n) // 2) for p, n in zip(patch, shape, strict=True)]
    after = [max(0, p - n - b) for p, n, b in zip(patch, shape, before, strict=True)]
    image = image.to(device)
    if any(before) or any(after):
        outside = padding.to(image)[:, None, None, None]
        pads = [side for pair in reversed(list(zip(before, after, strict=True))) for side in pair]
        image = functional.pad(image - outside, pads) + outside
    starts = [_starts(n, p, overlap) for n, p in zip(image.shape[1:], patch, strict=True)]
    # Stable: within a row windows follow each other as the other axes have it.
    windows = sorted(itertools.product(*starts), key=lambda window: window[along])
    i, j, k = (
        # Along the axis itself there is either no padding, or one slab that holds it all.
        slice(None) if axis == along and n >= p else slice(b, b + n)
        for axis, (b, n, p) in enumerate(zip(before, shape, patch, strict=True))
    )
    for slab in _blended(network, image, windows, _shares(image, patch, starts), patch, batch, along, precision):
        yield slab[:, i, j, k]


def mirrored(network: Callable[[Tensor], Any], axes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """The mean of a network's logits of windows mirrored along ``axes`` (0, 1, 2) in all combinations."""
    views = [
        [axis + 2 for axis in chosen]
        for count in range(len(axes) + 1)
        for chosen in itertools.combinations(axes, count)
    ]

    def answer(windows: Tensor) -> Tensor:
        total = network(windows).float()
        for view in views[1:]:
            total = total + network(_laid_out(windows.flip(view))).float().flip(view)
        return total / len(views)

    return answer


def window_count(shape: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    """How many windows an image of this size takes."""
    return math.prod(len(_starts(n, p, overlap)) for n, p in zip(shape, patch, strict=True))


def thinnest_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """The axis along which a patch is the smallest part of the image."""
    return min(range(len(patch)), key=lambda axis: min(1.0, patch[axis] / shape[axis]))


def _blended(
    network: Callable[[Tensor], Any],
    image: Tensor,
    windows: Sequence[tuple[int, ...]],
    shares: Sequence[dict[int, Tensor]],
    patch: Sequence[int],
    batch: int,
    along: int,
    precision: torch.dtype,
) -> Iterator[Tensor]:
    held: Tensor | None = None
    base = 0
    for window, logits in _answers(network, image, windows, patch, batch):
        if held is None:
            size = [*image.shape[1:]]
            size[along] = patch[along]
            held = torch.zeros((logits.shape[0], *size), dtype=precision, device=image.device)
        done = window[along] - base
        if done:
            yield held.narrow(along + 1, 0, done)
            left = patch[along] - done
            for first in range(0, left, done):  # pieces that do not overlap with where they go
                piece = held.narrow(along + 1, first + done, min(done, left - first))
                held.narrow(along + 1, first, piece.shape[along + 1]).copy_(piece)
            held.narrow(along + 1, left, done).zero_()
            base = window[along]
        i, j, k = (
            slice(0, side) if axis == along else slice(start, start + side)
            for axis, (start, side) in enumerate(zip(window, patch, strict=True))
        )
        lines = [shares[axis][start] for axis, start in enumerate(window)]
        weight = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
        held[:, i, j, k] += logits * weight
    assert held is not None, "there is at least one window"
    yield held


def _answers(
    network: Callable[[Tensor], Any],
    image: Tensor,
    windows: Sequence[tuple[int, ...]],
    patch: Sequence[int],
    batch: int,
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each window with its logits, in order; the network sees ``batch`` at a time."""
    known: dict[tuple[float, ...], Tensor] = {}
    waiting: list[tuple[tuple[int, ...], int | tuple[float, ...]]] = []
    asked: list[Tensor] = []
    asking: dict[tuple[float, ...], int] = {}

    def told() -> Iterator[tuple[tuple[int, ...], Tensor]]:
        answers = network(_laid_out(torch.stack(asked))).float() if asked else []
        for value, number in asking.items():
            if len(known) < _KNOWN_ANSWERS:
                known[value] = answers[number].clone()
        for window, place in waiting:
            yield window, known[place] if isinstance(place, tuple) else answers[place]

    for number, window in enumerate(windows):
        view = image[(slice(None), *(slice(start, start + side) for start, side in zip(window, patch, strict=True)))]
        # Asked only where there are windows enough that two may be alike.
        value = _one_value(view) if len(windows) > 1 else None
        if value is not None and value in known:
            waiting.append((window, value))
        elif value is not None and value in asking:
            waiting.append((window, asking[value]))
        else:
            if value is not None:
                asking[value] = len(asked)
            waiting.append((window, len(asked)))
            asked.append(view)
        if len(asked) == batch or number == len(windows) - 1:
            yield from told()
            waiting, asked, asking = [], [], {}


def _one_value(window: Tensor) -> tuple[float, ...] | None:
    """The value of each channel, if it is the same in every voxel."""
    first = window[:, :1, :1, :1]
    if not bool((window[:, -1:, -1:, -1:] == first).all()) or not bool((window == first).all()):
        return None
    return tuple(first.flatten().tolist())


def _shares(image: Tensor, patch: Sequence[int], starts: Sequence[Sequence[int]]) -> list[dict[int, Tensor]]:
    """Per axis and first voxel of a window the part that it has in the mean of all windows that reach a voxel.

    Windows are the product of their places along the axes, and so are the sums of their weights: parts of 1 along each
    axis multiply to parts of 1, and nothing is left to divide.
    """
    result = []
    for size, side, places in zip(image.shape[1:], patch, starts, strict=True):
        line = _gaussian(side)
        total = torch.zeros(size, dtype=torch.float64)
        for start in places:
            total[start : start + side] += line
        result.append({start: (line / total[start : start + side]).float().to(image.device) for start in places})
    return result


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last_3d) if images.device.type == "cpu" else images


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """First voxels of evenly spread windows that cover ``size`` and overlap by at least ``overlap``."""
    if size <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    number = -(-(size - side) // step) + 1
    return [round(n * (size - side) / (number - 1)) for n in range(number)]


def _gaussian(side: int) -> Float[Tensor, " n"]:
    offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    # No floor under the ends (3e-4 of the centre at least): where only ends meet, the nearer one still wins.
    return torch.exp(-0.5 * (offset / (side / 8)) ** 2)
