"""Changes of the values of images, each as nnU-Net makes it; images are ``(m, i, j, k)``, each a channel of its own.

Every function is a pure one of its images and of one number for each image (and each axis).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def noisy(images: Float[Tensor, "c i j k"], deviation: float, random: torch.Generator) -> Float[Tensor, "c i j k"]:
    """All channels of one image with Gaussian noise of one deviation, from a generator on their device."""
    field = torch.randn(images.shape, generator=random, device=images.device, dtype=images.dtype)
    return field.mul_(deviation).add_(images)


def blurred(images: Float[Tensor, "m i j k"], sigma: Float[Tensor, "m 3"]) -> Float[Tensor, "m i j k"]:
    """By a Gaussian of so many voxels along each axis, cut off at three deviations, mirrored at the borders.

    Shifted images are added up: a convolution along one axis of many lines takes 5 to 20 times as long on a CPU.
    """
    for axis in (1, 2, 3):
        size, width = images.shape[axis], sigma[:, axis - 1, None]
        reach = min(math.ceil(3 * float(width.max())), size - 1)
        if reach < 1:
            continue
        offsets = torch.arange(reach + 1)
        # Each image is cut off at its own deviation, whatever the others' is.
        weights = torch.exp(-0.5 * (offsets / width) ** 2) * (offsets <= (3 * width).ceil())
        weights /= weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True)
        before = images.narrow(axis, 1, reach).flip(axis)
        after = images.narrow(axis, size - 1 - reach, reach).flip(axis)
        longer = torch.cat([before, images, after], axis)
        images = images * _each(weights[:, 0], images)
        for offset in range(1, reach + 1):
            pair = longer.narrow(axis, reach - offset, size) + longer.narrow(axis, reach + offset, size)
            images += pair.mul_(_each(weights[:, offset], images))
    return images


def brightened(
    images: Float[Tensor, "m i j k"], brightness: Float[Tensor, " m"], contrast: Float[Tensor, " m"]
) -> Float[Tensor, "m i j k"]:
    """Times ``brightness``; stretched around the mean by ``contrast`` within the range of values there was."""
    low, high, mean = _low(images), _high(images), _mean(images)
    factor, stretch = _each(brightness, images), _each(contrast, images)
    changed = (images - mean).mul_(stretch).add_(mean)
    return torch.minimum(torch.maximum(changed, low), high).mul_(factor)


def coarsened(images: Float[Tensor, "m i j k"], factor: Float[Tensor, "m 3"]) -> Float[Tensor, "m i j k"]:
    """At ``factor`` times the resolution along each axis: by the nearest voxels, and linearly back."""
    result = torch.empty_like(images)
    for row, factors in enumerate(factor.tolist()):
        grid = images.shape[1:]
        size = [max(1, round(voxels * along)) for voxels, along in zip(grid, factors, strict=True)]
        coarse = functional.interpolate(images[row, None, None], size=size, mode="nearest-exact")
        result[row] = functional.interpolate(coarse, size=tuple(grid), mode="trilinear", align_corners=False)[0, 0]
    return result


def curved(images: Float[Tensor, "m i j k"], gamma: Float[Tensor, " m"]) -> Float[Tensor, "m i j k"]:
    """Values from lowest to highest to the power ``gamma``; mean and deviation are kept, so that only the shape of the
    histogram changes."""
    low, mean = _low(images), _mean(images)
    reach = (_high(images) - low).clamp_(min=1e-6)
    # The norm of what was centred is the deviation, in an eighth of the time that torch takes for it.
    result = images - mean
    deviation = torch.linalg.vector_norm(result, dim=(1, 2, 3), keepdim=True)
    result.add_(mean - low).div_(reach).clamp_(min=0).pow_(_each(gamma, images))
    result -= _mean(result)
    new_deviation = torch.linalg.vector_norm(result, dim=(1, 2, 3), keepdim=True)
    return result.mul_(deviation / new_deviation.clamp(min=1e-6)).add_(mean)


def _each(values: Tensor, images: Tensor) -> Float[Tensor, "m 1 1 1"]:
    return values.to(images).view(-1, 1, 1, 1)


def _low(images: Tensor) -> Tensor:
    return images.amin((1, 2, 3), keepdim=True)


def _high(images: Tensor) -> Tensor:
    return images.amax((1, 2, 3), keepdim=True)


def _mean(images: Tensor) -> Tensor:
    return images.mean((1, 2, 3), keepdim=True)
