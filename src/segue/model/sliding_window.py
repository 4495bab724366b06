"""A network over an image larger than its patch: overlapping windows with Gaussian weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional


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
    """Logits of the whole image, in float32 on ``device``.

    Windows overlap by at least ``overlap`` of the patch and are weighted by a Gaussian whose deviation is an
    eighth of the patch (Isensee et al., 2021). An image smaller than the patch is padded with ``padding`` per
    channel, and the padding's logits are cut off again.
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
    windows = list(itertools.product(*starts))
    if len(windows) == 1:
        total = network(_laid_out(image[None])).float()[0]
    else:
        total = _blended(network, image, windows, patch, batch)
    i, j, k = (slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return total[:, i, j, k]


def window_count(shape: Sequence[int], patch: Sequence[int], overlap: float) -> int:
    """How many windows an image of this size takes."""
    return math.prod(len(_starts(n, p, overlap)) for n, p in zip(shape, patch, strict=True))


def _blended(
    network: Callable[[Tensor], Any],
    image: Tensor,
    windows: Sequence[tuple[int, ...]],
    patch: Sequence[int],
    batch: int,
) -> Tensor:
    weight = _gaussian(patch).to(image.device)
    total: Tensor | None = None
    weights = torch.zeros(image.shape[1:], device=image.device)
    for first in range(0, len(windows), batch):
        places = [
            tuple(slice(start, start + side) for start, side in zip(window, patch, strict=True))
            for window in windows[first : first + batch]
        ]
        logits = network(_laid_out(torch.stack([image[(slice(None), *place)] for place in places]))).float()
        if total is None:
            total = torch.zeros((logits.shape[1], *image.shape[1:]), device=image.device)
        for part, place in zip(logits, places, strict=True):
            total[(slice(None), *place)] += part * weight
            weights[place] += weight
    assert total is not None, "there is at least one window"
    return total.div_(weights)


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last_3d) if images.device.type == "cpu" else images


def _starts(size: int, side: int, overlap: float) -> list[int]:
    """First voxels of evenly spread windows that cover ``size`` and overlap by at least ``overlap``."""
    if size <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    number = -(-(size - side) // step) + 1
    return [round(n * (size - side) / (number - 1)) for n in range(number)]


def _gaussian(patch: Sequence[int]) -> Float32[Tensor, "i j k"]:
    lines = []
    for side in patch:
        offset = torch.arange(side) - (side - 1) / 2
        lines.append(torch.exp(-0.5 * (offset / (side / 8)) ** 2))
    weight = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
    # No floor under the corners (2e-11 of the centre at least): where only corners meet, the nearer one still wins.
    return weight / weight.max()
