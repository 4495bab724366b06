"""The one resampling of an augmentation: every image value is interpolated once, every label looked up once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

# Voxels at once on a CPU: the temporary arrays of so many stay in the cache of one core.
_CPU_VOXELS = 2**17


@dataclass(frozen=True)
class Warp:
    """Where each voxel of some images looks in its source, in voxels: ``matrix @ (voxel - centre) + centre + shift``,
    plus a cubic B-spline through ``control``.

    Shapes: ``matrix`` ``(m, 3, 3)``, ``shift`` ``(m, 3)``, ``control`` ``(m, 3, p, p, p)`` or none: displacements at
    ``p`` points along each axis, the first and the last one interval outside the image (free-form deformation: Rueckert
    et al., IEEE TMI 18, 1999).
    """

    matrix: Float32[Tensor, "m 3 3"]
    shift: Float32[Tensor, "m 3"]
    control: Float32[Tensor, "m 3 p p p"] | None = None

    def of(self, some: slice) -> Warp:
        control = None if self.control is None else self.control[some]
        return Warp(self.matrix[some], self.shift[some], control)

    def moves(self, axis: int) -> bool:
        """Whether any image must be interpolated along this axis; mirrored ones, say, need not be."""
        row = self.matrix[:, axis].abs()
        row[:, axis] -= 1
        turned = bool((row.abs() > 1e-6).any()) or bool((self.shift[:, axis] != 0).any())
        return turned or (self.control is not None and bool((self.control[:, axis] != 0).any()))


@dataclass(frozen=True)
class Source:
    """What is resampled: some ``channels`` of the images ``rows`` of a batch, and their labels if they follow."""

    images: Float[Tensor, "b c i j k"]
    labels: Int[Tensor, "b i j k"] | None
    rows: list[int]
    channels: list[int]


def warp_into(
    images: Float[Tensor, "b c i j k"],
    labels: Int[Tensor, "b i j k"] | None,
    source: Source,
    warp: Warp,
    padding: Float[Tensor, " c"],
) -> None:
    """Fill the same rows and channels: images by linear interpolation, labels by the nearest voxel; outside are
    ``padding`` and label 0.

    The same as ``torch.nn.functional.grid_sample`` with padding by zeros, ``align_corners=False``. That takes one
    voxel after the other in three dimensions on a CPU; here whole rows of coordinates are calculated and looked up at
    once, and no grid of coordinates is kept: a third of the time (128^3, one thread).
    """
    grid, device = images.shape[2:], images.device
    at_once = _CPU_VOXELS if device.type == "cpu" else len(source.rows) * grid.numel()
    per_image = max(1, at_once // grid.numel())
    axes = [axis for axis in range(3) if warp.moves(axis)]
    for first in range(0, len(source.rows), per_image):
        some = slice(first, min(first + per_image, len(source.rows)))
        numbers = source.rows[some]
        # One image as a view: what is listed is copied once more.
        rows = slice(numbers[0], numbers[0] + 1) if len(numbers) == 1 else torch.tensor(numbers, device=device)
        parts = [
            _padded(source.images[rows, channel], float(padding[channel]), images.dtype) for channel in source.channels
        ]
        # Numbers of labels fit 32 bits, and half of the memory is read so.
        marks = _padded(source.labels[rows], 0, torch.int32) if source.labels is not None else None
        places = _Places(warp.of(some), grid, axes, device)
        step = max(1, at_once // (len(numbers) * grid[1] * grid[2]))
        for start in range(0, grid[0], step):
            slices = slice(start, min(start + step, grid[0]))
            place = places.of(slices)
            if labels is not None and marks is not None:
                nearest = places.index([(along + 0.5).floor_() for along in place])
                labels[rows, slices] = marks.view(-1).index_select(0, nearest.view(-1)).view(nearest.shape).long()
            lower = [along.floor() for along in place]
            corner = places.index(lower)
            fractions = [place[axis].sub_(lower[axis]) for axis in axes]
            for channel, values in zip(source.channels, parts, strict=True):
                images[rows, channel, slices] = _interpolated(values, corner, fractions, axes)


def _padded(values: Tensor, outside: float, dtype: torch.dtype) -> Tensor:
    """With one voxel more on each side."""
    result = values.new_empty([values.shape[0], *(size + 2 for size in values.shape[1:])], dtype=dtype)
    for axis in (1, 2, 3):
        result.select(axis, 0).fill_(outside)
        result.select(axis, -1).fill_(outside)
    result[:, 1:-1, 1:-1, 1:-1] = values
    return result


class _Places:
    """The coordinates of some output slices in the padded source."""

    def __init__(self, warp: Warp, grid: torch.Size, axes: list[int], device: torch.device) -> None:
        self.grid, self.axes = grid, axes
        centre = (torch.tensor(grid) - 1) / 2
        offset = warp.shift + centre - warp.matrix @ centre + 1
        lines = [torch.arange(size, dtype=torch.float32) for size in grid]
        self._plane = (
            warp.matrix[:, :, 1, None, None] * lines[1][:, None]
            + warp.matrix[:, :, 2, None, None] * lines[2]
            + offset[:, :, None, None]
        ).to(device)
        self._slope = (warp.matrix[:, :, 0, None] * lines[0]).to(device)
        self._bend: Tensor | None = None
        if warp.control is not None and bool((warp.control != 0).any()):
            across = [_spline(size, warp.control.shape[-1]).to(device) for size in grid]
            self._along, self._bend = across[0], warp.control.to(device) @ across[2].T
            self._bend = torch.matmul(across[1], self._bend)
        sizes = [size + 2 for size in grid]
        self._strides = (sizes[1] * sizes[2], sizes[2])
        images = torch.arange(len(warp.matrix), dtype=torch.int32, device=device)
        self._images = (images * (sizes[0] * self._strides[0])).view(-1, 1, 1, 1)

    def of(self, slices: slice) -> list[Float32[Tensor, "m s j k"]]:
        """For these slices, along each axis."""
        found = []
        for axis in range(3):
            place = self._plane[:, axis, None] + self._slope[:, axis, slices, None, None]
            if axis not in self.axes:
                found.append(place.round_())
                continue
            if self._bend is not None:
                place += torch.einsum("ip,mpjk->mijk", self._along[slices], self._bend[:, axis])
            # Just below the last voxel, so that there always is a next one.
            found.append(place.clamp_(0, (self.grid[axis] + 1) * (1 - 2**-22)))
        return found

    def index(self, voxels: list[Float32[Tensor, "m s j k"]]) -> Int[Tensor, "m s j k"]:
        """Of whole voxels in the flat source. Floating point is exact within a slice, not within a large volume."""
        i, j, k = voxels
        in_slice = k.add(j, alpha=self._strides[1]).to(torch.int32)
        return in_slice.add_(i.to(torch.int32), alpha=self._strides[0]).add_(self._images)


def _interpolated(source: Tensor, corner: Tensor, fractions: list[Tensor], axes: list[int]) -> Tensor:
    flat, index = source.view(-1), corner.view(-1)

    def between(offset: int, done: int) -> Tensor:
        if done == len(axes):
            return flat[offset:].index_select(0, index).view(corner.shape)
        low = between(offset, done + 1)
        return low.lerp_(between(offset + source.stride(axes[done] + 1), done + 1), fractions[done])

    return between(0, 0)


def _spline(size: int, points: int) -> Float32[Tensor, "size points"]:
    """Weights of the control points for each voxel of a line: the uniform cubic B-spline."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size * (points - 3) + 1
    distance = (place[:, None] - torch.arange(points)).abs()
    near = 2 / 3 - distance**2 * (1 - distance / 2)
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far).float()
