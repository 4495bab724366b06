"""Augmentation of a whole batch on the device that trains.

Drawing is apart from applying: :func:`draw_augmentation` gives plain numbers from a generator, :func:`augment` is a
pure function of them, so any batch can be replayed. The list is nnU-Net's (rotation, scaling, mirroring, noise, blur,
brightness, contrast, low resolution, gamma).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class AugmentSettings:
    """Probability per image and range of each augmentation; angles in degrees, blur in voxels."""

    mirror_axes: tuple[int, ...] = ()
    rotation_probability: float = 0.7
    rotation_degrees: float = 25.0
    scaling_probability: float = 0.7
    scaling: tuple[float, float] = (0.75, 1.3)
    noise_probability: float = 0.15
    noise: tuple[float, float] = (0.0, 0.2)
    blur_probability: float = 0.15
    blur_voxels: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.15
    low_resolution: tuple[float, float] = (0.5, 1.0)
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for one batch; ``off`` is 0 for additive and 1 for multiplicative parameters.

    Shapes: ``mirror`` and ``angles`` (radians) and ``scale`` ``(b, 3)``; all intensity parameters ``(b, c)``.
    """

    mirror: Float32[Tensor, "b 3"]
    angles: Float32[Tensor, "b 3"]
    scale: Float32[Tensor, "b 3"]
    noise: Float32[Tensor, "b c"]
    blur: Float32[Tensor, "b c"]
    brightness: Float32[Tensor, "b c"]
    contrast: Float32[Tensor, "b c"]
    low_resolution: Float32[Tensor, "b c"]
    gamma: Float32[Tensor, "b c"]
    noise_seed: int


def draw_augmentation(settings: AugmentSettings, batch: int, channels: int, random: torch.Generator) -> Augmentation:
    """Draw the parameters for a batch of ``batch`` images with ``channels`` channels."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    def sometimes(values: Tensor, probability: float, off: float) -> Tensor:
        chosen = torch.rand(values.shape if values.shape[1] == channels else (batch, 1), generator=random)
        return torch.where(chosen < probability, values, torch.tensor(off))

    limit = math.radians(settings.rotation_degrees)
    angles = uniform(-limit, limit, batch, 3)
    scale = torch.exp(uniform(math.log(settings.scaling[0]), math.log(settings.scaling[1]), batch, 1)).expand(batch, 3)
    rotated = (torch.rand((batch, 1), generator=random) < settings.rotation_probability).float()
    scaled = (torch.rand((batch, 1), generator=random) < settings.scaling_probability).float()
    mirror = torch.ones(batch, 3)
    flips = torch.rand((batch, 3), generator=random) < 0.5
    for axis in settings.mirror_axes:
        mirror[flips[:, axis], axis] = -1.0
    shape = (batch, channels)
    return Augmentation(
        mirror=mirror,
        angles=angles * rotated,
        scale=1 + (scale - 1) * scaled,
        noise=sometimes(uniform(*settings.noise, *shape), settings.noise_probability, 0.0),
        blur=sometimes(uniform(*settings.blur_voxels, *shape), settings.blur_probability, 0.0),
        brightness=sometimes(uniform(*settings.brightness, *shape), settings.brightness_probability, 1.0),
        contrast=sometimes(uniform(*settings.contrast, *shape), settings.contrast_probability, 1.0),
        low_resolution=sometimes(uniform(*settings.low_resolution, *shape), settings.low_resolution_probability, 1.0),
        gamma=sometimes(uniform(*settings.gamma, *shape), settings.gamma_probability, 1.0),
        noise_seed=int(torch.randint(2**62, (1,), generator=random)),
    )


Labels = TypeVar("Labels", Tensor, None)


def augment(
    images: Float[Tensor, "b c i j k"],
    labels: Labels,
    drawn: Augmentation,
    spacing_mm: Sequence[float],
    padding: Float[Tensor, " c"],
) -> tuple[Float[Tensor, "b c i j k"], Labels]:
    """Apply ``drawn``: images linearly, labels ``(b, i, j, k)``, where there are any, by the nearest voxel; what comes
    from outside is ``padding``."""
    images, labels = _spatial(images, labels, drawn, spacing_mm, padding)
    return _intensity(images, drawn), labels


def affine_in_mm(drawn: Augmentation, grid: Sequence[int], spacing_mm: Sequence[float]) -> Float[Tensor, "b 3 3"]:
    """Where each output voxel looks in the input, on axes that run from -1 to 1 over the grid (order i, j, k).

    Rotations are made in millimetres, so that they stay rotations on anisotropic grids. A grid with a single voxel
    along an axis is a 2-D image: it turns in its plane only.
    """
    half = torch.tensor([n * s / 2 for n, s in zip(grid, spacing_mm, strict=True)])
    matrix = torch.eye(3).expand(len(drawn.angles), 3, 3)
    for axis in range(3):
        cos, sin = drawn.angles[:, axis].cos(), drawn.angles[:, axis].sin()
        a, b = [other for other in range(3) if other != axis]
        if min(grid[a], grid[b]) == 1:
            continue
        turn = torch.eye(3).repeat(len(cos), 1, 1)
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cos, cos, -sin, sin
        matrix = matrix @ turn
    # A scale above one magnifies: the output looks at a smaller part of the input.
    matrix = matrix * (drawn.mirror / drawn.scale)[:, None, :]
    return matrix * half / half[:, None]


def _spatial(
    images: Tensor, labels: Labels, drawn: Augmentation, spacing_mm: Sequence[float], padding: Tensor
) -> tuple[Tensor, Labels]:
    still = (drawn.angles == 0).all(1) & (drawn.scale == 1).all(1)
    moved = torch.nonzero(~still).flatten()
    images = images.clone()
    labels = labels.clone() if labels is not None else None
    for row in torch.nonzero(still & (drawn.mirror < 0).any(1)).flatten().tolist():
        axes = [axis for axis in range(3) if drawn.mirror[row, axis] < 0]
        images[row] = images[row].flip([axis + 1 for axis in axes])
        if labels is not None:
            labels[row] = labels[row].flip(axes)
    if not len(moved):
        return images, labels
    # A picture's last axis has one voxel: it is sampled in its plane, with half the neighbours.
    sides: int = 2 if images.shape[-1] == 1 else 3
    matrix = affine_in_mm(drawn, images.shape[2:], spacing_mm)[moved, :sides, :sides].to(images.device)
    # torch's grids count the axes backwards: k, j, i.
    theta = torch.cat([matrix.flip(1).flip(2), matrix.new_zeros(len(moved), sides, 1)], 2)
    rows = moved.to(images.device)
    grid = functional.affine_grid(theta, [len(rows), 1, *images.shape[2 : 2 + sides]], align_corners=False)

    def sampled(values: Tensor, mode: str) -> Tensor:
        flat = values[..., 0] if sides == 2 else values
        return functional.grid_sample(flat, grid.to(images.dtype), mode=mode, align_corners=False).view(values.shape)

    outside = padding.to(images)[:, None, None, None]
    images[rows] = outside + sampled(images[rows] - outside, "bilinear")
    if labels is not None:
        labels[rows] = sampled(labels[rows][:, None].to(images.dtype), "nearest")[:, 0].to(labels.dtype)
    return images, labels


def _intensity(images: Tensor, drawn: Augmentation) -> Tensor:
    """All images and channels that an augmentation was drawn for at once."""
    random = torch.Generator(images.device).manual_seed(drawn.noise_seed)
    chosen, strength = _chosen(drawn.noise, drawn.noise > 0, images)
    if len(strength):
        shape = (len(strength), *images.shape[2:])
        field = torch.randn(shape, generator=random, device=images.device, dtype=images.dtype)
        images[chosen] += strength * field
    chosen, strength = _chosen(drawn.blur, drawn.blur > 0, images)
    if len(strength):
        images[chosen] = _blurred(images[chosen], strength.flatten())
    changed = (drawn.brightness != 1) | (drawn.contrast != 1)
    chosen, contrast = _chosen(drawn.contrast, changed, images)
    if len(contrast):
        values = images[chosen]
        low, high, mean = (of(values) for of in (_low, _high, _mean))
        values = ((values - mean) * contrast + mean).clamp(low, high)
        images[chosen] = values * _chosen(drawn.brightness, changed, images)[1]
    for row, channel in torch.nonzero(drawn.low_resolution < 1).tolist():
        images[row, channel] = _coarsened(images[row, channel], float(drawn.low_resolution[row, channel]))
    chosen, gamma = _chosen(drawn.gamma, drawn.gamma != 1, images)
    if len(gamma):
        values = images[chosen]
        low, mean, deviation = _low(values), _mean(values), _deviation(values)
        curved = ((values - low) / (_high(values) - low).clamp(min=1e-6)).pow(gamma)
        # Mean and deviation are kept (nnU-Net's retain_stats): only the shape of the histogram changes.
        images[chosen] = (curved - _mean(curved)) / _deviation(curved).clamp(min=1e-6) * deviation + mean
    return images


def _chosen(
    drawn: Float[Tensor, "b c"], wanted: Bool[Tensor, "b c"], images: Tensor
) -> tuple[tuple[Tensor, Tensor], Float[Tensor, "m 1 1 1"]]:
    """Which images and channels are changed, and what was drawn for them, to be multiplied with ``(m, i, j, k)``."""
    rows, channels = torch.nonzero(wanted, as_tuple=True)
    values = drawn[rows, channels].to(images).view(-1, 1, 1, 1)
    return (rows.to(images.device), channels.to(images.device)), values


def _low(values: Tensor) -> Tensor:
    return values.amin((1, 2, 3), keepdim=True)


def _high(values: Tensor) -> Tensor:
    return values.amax((1, 2, 3), keepdim=True)


def _mean(values: Tensor) -> Tensor:
    return values.mean((1, 2, 3), keepdim=True)


def _deviation(values: Tensor) -> Tensor:
    return values.std((1, 2, 3), keepdim=True)


def _blurred(images: Float[Tensor, "m i j k"], sigma: Float[Tensor, " m"]) -> Float[Tensor, "m i j k"]:
    """Each image by a Gaussian of its own deviation, in voxels."""
    radius = max(1, math.ceil(3 * float(sigma.max())))
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True))[:, None]
    for axis in (1, 2, 3):
        if images.shape[axis] == 1:
            continue
        lines = images.movedim(axis, -1)
        flat = lines.reshape(len(images), -1, lines.shape[-1]).transpose(0, 1)
        flat = functional.pad(flat, (radius, radius), mode="replicate")
        blurred = functional.conv1d(flat, kernels, groups=len(images))
        images = blurred.transpose(0, 1).reshape(lines.shape).movedim(-1, axis)
    return images


def _coarsened(image: Float[Tensor, "i j k"], factor: float) -> Float[Tensor, "i j k"]:
    size = [max(1, round(n * factor)) for n in image.shape]
    coarse = functional.interpolate(image[None, None], size=size, mode="nearest-exact")
    return functional.interpolate(coarse, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]
