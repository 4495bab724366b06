"""A U-Net (Ronneberger et al., 2015; Çiçek et al., 2016) in 2-D and 3-D, plain or residual, with a strided stem.

MONAI's has no strided stem: behind a stem of stride 2 the network costs an eighth per step in 3-D, which on a
CPU buys more accuracy than the lost resolution costs (measured in benchmarks/README.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class UNet(nn.Module):
    """Encoder, decoder, skip connections; instance norm and leaky ReLU as in nnU-Net.

    Args:
        in_channels: channels of the image.
        out_channels: classes, background included.
        channels: width of each level, finest first.
        strides: stride into each level, one per axis; the first is usually all ones.
        stem_stride: stride of the convolution that the image passes first; full resolution comes back by a
            learned upsampling of the logits.
        blocks: convolutions per level.
        residual: add each level's input to its output (He et al., 2016).
        deep_supervision: in training mode, return logits of every decoder level, finest first.
        dimension: 2 or 3.

    Raises:
        ValueError: lists that do not fit together.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        stem_stride: Sequence[int] | None = None,
        blocks: int = 2,
        residual: bool = False,
        deep_supervision: bool = False,
        dimension: int = 3,
    ) -> None:
        super().__init__()
        stem = list(stem_stride or [1] * dimension)
        if len(channels) != len(strides) or not channels:
            raise ValueError(f"{len(channels)} widths but {len(strides)} strides: one of each per level")
        if any(len(stride) != dimension for stride in [stem, *strides]):
            raise ValueError(f"a stride has {dimension} numbers in {dimension}-D")
        self.deep_supervision = deep_supervision
        self.divisor = [math.prod([stem[axis], *[s[axis] for s in strides]]) for axis in range(dimension)]
        kernels = [_kernel(level, [stem, *strides]) for level in range(len(strides))]
        conv, transposed = _layer("Conv", dimension), _layer("ConvTranspose", dimension)
        strided = max(stem) > 1
        # Space to channels by a convolution whose kernel is its stride: every voxel is seen exactly once.
        self.stem = conv(in_channels, channels[0], stem, stem) if strided else nn.Identity()
        width = channels[0] if strided else in_channels
        self.encoder = nn.ModuleList()
        for size, stride, kernel in zip(channels, strides, kernels, strict=True):
            self.encoder.append(_Level(width, size, stride, kernel, blocks, residual, dimension))
            width = size
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in range(len(channels) - 1, 0, -1):
            self.up.append(transposed(channels[level], channels[level - 1], list(strides[level]), list(strides[level])))
            self.decoder.append(
                _Level(
                    2 * channels[level - 1],
                    channels[level - 1],
                    [1] * dimension,
                    kernels[level - 1],
                    blocks,
                    residual,
                    dimension,
                )
            )
        if strided:
            self.head: nn.Module = transposed(channels[0], out_channels, stem, stem)
        else:
            self.head = conv(channels[0], out_channels, 1)
        self.side_heads = nn.ModuleList(
            [conv(channels[level], out_channels, 1) for level in range(1, len(channels) - 1)]
            if deep_supervision
            else []
        )

    def forward(self, image: Float[Tensor, "b c *grid"]) -> Any:
        """Logits ``(b, classes, *grid)``; with deep supervision in training mode a list of them, finest first.

        Raises:
            ValueError: the grid is not a multiple of ``divisor``.
        """
        if any(size % step for size, step in zip(image.shape[2:], self.divisor, strict=True)):
            raise ValueError(f"the grid {tuple(image.shape[2:])} must be a multiple of {tuple(self.divisor)}")
        x = self.stem(image)
        skips = []
        for level in self.encoder:
            x = level(x)
            skips.append(x)
        skips.pop()
        sides = []
        for up, level in zip(self.up, self.decoder, strict=True):
            x = level(torch.cat([up(x), skips.pop()], 1))
            sides.append(x)
        logits = self.head(x)
        if not (self.deep_supervision and self.training):
            return logits
        coarse = sides[-2::-1]
        return [logits, *[head(side) for head, side in zip(self.side_heads, coarse, strict=True)]]


class _Level(nn.Module):
    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: Sequence[int],
        kernel: Sequence[int],
        blocks: int,
        residual: bool,
        dimension: int,
    ) -> None:
        super().__init__()
        conv, norm = _layer("Conv", dimension), _layer("InstanceNorm", dimension)
        layers: list[nn.Module] = []
        for number in range(blocks):
            step = list(stride) if number == 0 else [1] * dimension
            width = inputs if number == 0 else outputs
            # A bias would be taken away by the norm that follows.
            layers.append(conv(width, outputs, list(kernel), step, [k // 2 for k in kernel], bias=False))
            layers.append(norm(outputs, affine=True))
            if number < blocks - 1:
                layers.append(nn.LeakyReLU(0.01, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.shortcut = conv(inputs, outputs, 1, list(stride), bias=False) if residual else None
        self.last = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return self.last(y if self.shortcut is None else y + self.shortcut(x))


def _layer(kind: str, dimension: int) -> Any:
    return getattr(nn, f"{kind}{dimension}d")


def _kernel(level: int, strides: Sequence[Sequence[int]]) -> list[int]:
    """Three along an axis that is strided up to this level or right after it, else one; three in the last level.

    An axis that is not strided with the others is much coarser than they are: neighbours along it say little until
    the others have caught up (Isensee et al., 2021).
    """
    dimension = len(strides[0])
    strided = [max(axis) > 1 for axis in zip(*strides[: level + 3], strict=True)]
    if level == len(strides) - 2 or not any(strided):
        return [3] * dimension
    return [3 if yes else 1 for yes in strided]
