"""Augmentation of a whole batch on the device that trains.

Drawing is apart from applying: :func:`draw_augmentation` gives plain numbers from a generator, :func:`augment` is a
pure function of them, so any batch can be replayed.

The list is that of nnU-Net 2.8's default trainer, which batchgeneratorsv2 applies: rotation, scaling, mirroring,
Gaussian noise, blur, brightness, contrast, low resolution, inverted gamma, gamma, in this order and with these
probabilities and ranges, elastic deformation off. What differs:

- Rotation and scaling are a little narrower (25 instead of 30 degrees, objects 0.75 to 1.3 times as large, evenly on a
  logarithmic scale, instead of 0.71 to 1.43). Pictures turn by no more than that either; nnU-Net turns square ones all
  round. More frequent ones (0.7) cost Dice on hippocampi (benchmarks/README.md).
- Rotations are made in millimetres, nnU-Net's in voxels.
- Labels are looked up at the nearest voxel; nnU-Net interpolates each label and takes the largest.
- The patch itself is turned, so its corners show what lies outside (``padding``); nnU-Net cuts a larger patch first.
- Mirroring follows what is known of the images (``mirror_axes``); nnU-Net mirrors along all axes.
- PET and CT are moved against each other (below); the default trainer does not.

Misalignment is that of LesionTracer, the winner of AutoPET III (Rokuss et al., arXiv:2409.09478; Kovacs et al.,
Scientific Reports 13:19570, 2023): the CT is turned by up to 5 degrees and, drawn apart, shifted in the axial plane by
up to 2 voxels of 2 mm, each in a tenth of the patches. The labels stay with the PET, on which lesions are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from segue.model import intensity
from segue.model.warping import Source, Warp, warp_into

_ELASTIC_POINTS = 7
# As nnU-Net: a patch more than so many times as wide as its thick slices are many is turned in their plane only.
_FLAT = 3
# Small images are changed together; large ones alone, in less memory.
_TOGETHER_VOXELS = 2**18


@dataclass(frozen=True)
class AugmentSettings:
    """Probability and range of each augmentation; angles in degrees, blur in voxels.

    Probabilities are those of an image; blur and low resolution then change each of its channels with a probability of
    one half, what follows changes all, each by its own number. ``elastic_mm`` is the largest displacement.

    ``thick_axis``, if any, crosses thick slices (:func:`thick_axis`): nothing turns out of their plane, is scaled,
    deformed or coarsened along it. ``misaligned_channels`` move against the others and against the labels.
    """

    mirror_axes: tuple[int, ...] = ()
    thick_axis: int | None = None
    rotation_probability: float = 0.2
    rotation_degrees: float = 25.0
    scaling_probability: float = 0.2
    scaling: tuple[float, float] = (0.75, 1.3)
    elastic_probability: float = 0.0
    elastic_mm: tuple[float, float] = (0.0, 8.0)
    misaligned_channels: tuple[int, ...] = ()
    misalignment_probability: float = 0.1
    misalignment_degrees: float = 5.0
    misalignment_mm: tuple[float, float, float] = (4.0, 4.0, 0.0)
    noise_probability: float = 0.1
    noise: tuple[float, float] = (0.0, 0.1)
    blur_probability: float = 0.2
    blur_voxels: tuple[float, float] = (0.5, 1.0)
    brightness_probability: float = 0.15
    brightness: tuple[float, float] = (0.75, 1.25)
    contrast_probability: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    low_resolution_probability: float = 0.25
    low_resolution: tuple[float, float] = (0.5, 1.0)
    inverted_gamma_probability: float = 0.1
    gamma_probability: float = 0.3
    gamma: tuple[float, float] = (0.7, 1.5)


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for one batch; 0 is none for what is added, 1 for what is multiplied.

    ``mirror`` is 1 or -1. ``angles`` and ``tilt`` are radians around each axis, ``elastic`` millimetres at the control
    points, ``tilt`` and ``shift_mm`` those of ``misaligned_channels``. Noise has its own seed for each image.
    """

    mirror: Float32[Tensor, "b 3"]
    angles: Float32[Tensor, "b 3"]
    scale: Float32[Tensor, "b 3"]
    elastic: Float32[Tensor, "b 3 p p p"]
    misaligned_channels: tuple[int, ...]
    tilt: Float32[Tensor, "b 3"]
    shift_mm: Float32[Tensor, "b 3"]
    noise: Float32[Tensor, " b"]
    blur: Float32[Tensor, "b c 3"]
    brightness: Float32[Tensor, "b c"]
    contrast: Float32[Tensor, "b c"]
    low_resolution: Float32[Tensor, "b c 3"]
    inverted_gamma: Float32[Tensor, "b c"]
    gamma: Float32[Tensor, "b c"]
    noise_seeds: Int64[Tensor, " b"]


def thick_axis(patch: Sequence[int], spacing_mm: Sequence[float]) -> int | None:
    """The axis across thick slices, where nnU-Net augments in their plane only: the patch is more than three times as
    wide as they are many. None for pictures, which have one."""
    axis = max(range(3), key=lambda number: spacing_mm[number])
    return axis if patch[axis] > 1 and max(patch) > _FLAT * patch[axis] else None


def draw_augmentation(settings: AugmentSettings, batch: int, channels: int, random: torch.Generator) -> Augmentation:
    """Draw the parameters for a batch of ``batch`` images with ``channels`` channels."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    def around_one(low: float, high: float) -> Tensor:
        """Below or above one with the same probability, if both can be."""
        below = torch.rand((batch, channels), generator=random) < 0.5
        amount = torch.rand((batch, channels), generator=random)
        if not low < 1 < high:
            return low + (high - low) * amount
        return torch.where(below, low + (1 - low) * amount, 1 + (high - 1) * amount)

    def sometimes(values: Tensor, probability: float, off: float, of_channels: float = 1.0) -> Tensor:
        """Of an image with ``probability``, then of its channels with ``of_channels``."""
        chosen = torch.rand((batch, 1), generator=random) < probability
        if of_channels < 1:
            chosen = chosen & (torch.rand((batch, channels), generator=random) < of_channels)
        return torch.where(chosen.view(*chosen.shape, *[1] * (values.ndim - 2)), values, torch.tensor(off))

    in_plane = torch.ones(3)
    around = torch.ones(3)
    limit = math.radians(settings.rotation_degrees)
    if settings.thick_axis is not None:
        in_plane[settings.thick_axis] = 0
        around = 1 - in_plane
        limit = math.pi
    shape = (batch, channels)
    flips = (torch.rand((batch, 3), generator=random) < 0.5) & torch.tensor(
        [axis in settings.mirror_axes for axis in range(3)]
    )
    angles = sometimes(uniform(-limit, limit, batch, 3), settings.rotation_probability, 0.0) * around
    low, high = (math.log(factor) for factor in settings.scaling)
    scale = sometimes(uniform(low, high, batch, 1), settings.scaling_probability, 0.0) * in_plane
    elastic = torch.zeros(1, 1, 1, 1, 1).expand(batch, 3, *[_ELASTIC_POINTS] * 3)
    if settings.elastic_probability:
        size = sometimes(uniform(*settings.elastic_mm, batch, 1), settings.elastic_probability, 0.0) * in_plane
        elastic = size[..., None, None, None] * uniform(-1, 1, batch, 3, *[_ELASTIC_POINTS] * 3)
    tilt, shift_mm = torch.zeros(batch, 3), torch.zeros(batch, 3)
    if settings.misaligned_channels:
        limit = math.radians(settings.misalignment_degrees)
        tilt = sometimes(uniform(-limit, limit, batch, 3), settings.misalignment_probability, 0.0)
        reach = torch.tensor(settings.misalignment_mm)
        shift_mm = sometimes(uniform(-1, 1, batch, 3) * reach, settings.misalignment_probability, 0.0)
    coarse = uniform(*settings.low_resolution, *shape)[..., None] ** in_plane
    return Augmentation(
        mirror=1.0 - 2.0 * flips,
        angles=angles,
        scale=scale.exp(),
        elastic=elastic,
        misaligned_channels=settings.misaligned_channels,
        tilt=tilt,
        shift_mm=shift_mm,
        noise=sometimes(uniform(*settings.noise, batch, 1), settings.noise_probability, 0.0)[:, 0],
        blur=sometimes(uniform(*settings.blur_voxels, *shape, 3), settings.blur_probability, 0.0, 0.5),
        brightness=sometimes(around_one(*settings.brightness), settings.brightness_probability, 1.0),
        contrast=sometimes(around_one(*settings.contrast), settings.contrast_probability, 1.0),
        low_resolution=sometimes(coarse, settings.low_resolution_probability, 1.0, 0.5),
        inverted_gamma=sometimes(around_one(*settings.gamma), settings.inverted_gamma_probability, 1.0),
        gamma=sometimes(around_one(*settings.gamma), settings.gamma_probability, 1.0),
        noise_seeds=torch.randint(2**62, (batch,), generator=random),
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
    from outside is ``padding`` and label 0. The arguments are left as they are."""
    images, labels = _moved(images, labels, drawn, spacing_mm, padding)
    _change_values(images, drawn)
    return images, labels


def affine_in_mm(
    angles: Float32[Tensor, "b 3"],
    scale: Float32[Tensor, "b 3"],
    grid: Sequence[int],
    spacing_mm: Sequence[float],
) -> Float32[Tensor, "b 3 3"]:
    """Where each output voxel looks in the input, both in voxels from the centre of the grid.

    Rotations are made in millimetres, so that they stay rotations on anisotropic grids. A grid with a single voxel
    along an axis is a 2-D image: it turns in its plane only. A scale above one magnifies: the output looks at a smaller
    part of the input; a negative one mirrors.
    """
    matrix = torch.eye(3).expand(len(angles), 3, 3)
    for axis in range(3):
        cos, sin = angles[:, axis].cos(), angles[:, axis].sin()
        a, b = [other for other in range(3) if other != axis]
        if min(grid[a], grid[b]) == 1:
            continue
        turn = torch.eye(3).repeat(len(cos), 1, 1)
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cos, cos, -sin, sin
        matrix = matrix @ turn
    size = torch.tensor([*spacing_mm], dtype=torch.float32)
    return matrix / scale[:, None, :] * size / size[:, None]


def _moved(
    images: Tensor, labels: Labels, drawn: Augmentation, spacing_mm: Sequence[float], padding: Tensor
) -> tuple[Tensor, Labels]:
    grid, channels = images.shape[2:], [*range(images.shape[1])]
    bent = (drawn.elastic != 0).flatten(1).any(1)
    moved = (drawn.angles != 0).any(1) | (drawn.scale != 1).any(1) | bent
    apart = (drawn.tilt != 0).any(1) | (drawn.shift_mm != 0).any(1)
    new_images = torch.empty_like(images, memory_format=torch.contiguous_format)
    new_labels = torch.empty_like(labels) if labels is not None else None
    for row in torch.nonzero(~moved).flatten().tolist():
        axes = [axis for axis in range(3) if drawn.mirror[row, axis] < 0]
        new_images[row] = images[row].flip([axis + 1 for axis in axes]) if axes else images[row]
        if labels is not None and new_labels is not None:
            new_labels[row] = labels[row].flip(axes) if axes else labels[row]
    # Displacements along an axis of a single voxel would leave the image.
    size = torch.tensor([math.inf if n == 1 else s for n, s in zip(grid, spacing_mm, strict=True)])
    matrix = affine_in_mm(drawn.angles, drawn.scale * drawn.mirror, grid, spacing_mm)
    tilted = affine_in_mm(drawn.tilt, torch.ones_like(drawn.scale), grid, spacing_mm) @ matrix
    shift = drawn.shift_mm / size
    loose = [channel for channel in channels if channel in drawn.misaligned_channels]
    steady = [channel for channel in channels if channel not in drawn.misaligned_channels]

    def warp(wanted: Bool[Tensor, " b"], chosen: list[int], matrix: Tensor, shift: Tensor, marks: bool) -> None:
        rows = torch.nonzero(wanted).flatten()
        if not len(rows) or not chosen:
            return
        control = None
        if bool(bent[rows].any()):
            bend = drawn.elastic[rows] / size.view(3, 1, 1, 1)
            control = torch.einsum("mab,mbxyz->maxyz", matrix[rows], bend)
        source = Source(images, labels if marks else None, rows.tolist(), chosen)
        warp_into(new_images, new_labels, source, Warp(matrix[rows], shift[rows], control), padding)

    together = torch.zeros_like(shift)
    warp(moved & ~apart, channels, matrix, together, True)
    warp(moved & apart, steady, matrix, together, True)
    warp(apart, loose, tilted, shift, False)
    return new_images, new_labels


def _change_values(images: Tensor, drawn: Augmentation) -> None:
    """In place, the images and channels that a change was drawn for."""
    for row in torch.nonzero(drawn.noise > 0).flatten().tolist():
        random = torch.Generator(images.device).manual_seed(int(drawn.noise_seeds[row]))
        images[row] = intensity.noisy(images[row], float(drawn.noise[row]), random)

    def change(wanted: Bool[Tensor, "b c"], by: Callable[..., Tensor], *numbers: Tensor) -> None:
        chosen = torch.nonzero(wanted)
        for part in chosen.split(max(1, _TOGETHER_VOXELS // images[0, 0].numel())) if len(chosen) else ():
            rows, channels = part.T
            values = [number[rows, channels] for number in numbers]
            if len(part) == 1:  # a view, where a list would be copied
                row, channel = part[0].tolist()
                images[row, channel] = by(images[row, channel, None], *values)[0]
            else:
                place = (rows.to(images.device), channels.to(images.device))
                images[place] = by(images[place], *values)

    change((drawn.blur > 0).any(2), intensity.blurred, drawn.blur)
    shone = (drawn.brightness != 1) | (drawn.contrast != 1)
    change(shone, intensity.brightened, drawn.brightness, drawn.contrast)
    change((drawn.low_resolution < 1).any(2), intensity.coarsened, drawn.low_resolution)
    change(drawn.inverted_gamma != 1, lambda v, gamma: -intensity.curved(-v, gamma), drawn.inverted_gamma)
    change(drawn.gamma != 1, intensity.curved, drawn.gamma)
