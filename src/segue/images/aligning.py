"""Several images of one patient on one grid: what a network with several channels reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segue.core.errors import DataError
from segue.volume import Geometry, Volume

# Below this part of the reference in its field of view, an image does not show what the others show.
_LEAST_COVERED = 0.01


@dataclass(frozen=True, eq=False)
class Aligned:
    """Channels on one grid.

    Attributes:
        volume: ``(c, i, j, k)``: the channels of all images, in their order. Of one image its own type; of several
            float32 where one of them was interpolated, else the type that holds them all.
        moved: of each image, how its grid differed from the reference in words and numbers; None where it did not.
        covered: of each image, the part of the reference's voxel centres in its field of view, 0 to 1.
    """

    volume: Volume
    moved: tuple[str | None, ...]
    covered: tuple[float, ...]


def align(
    images: Sequence[Volume], reference: Geometry | None = None, *, fill: float | Sequence[float] = 0.0
) -> Aligned:
    """Bring the images of one case to one grid, by cubic B-splines; those that lie on it are taken as they are.

    Args:
        reference: the grid; by default that of the first image.
        fill: value outside an image's field of view, one for all or one per image (CT: -1024).

    Raises:
        DataError: an image shows less than 1 % of the reference: it lies elsewhere, or belongs to another patient.
        ValueError: no image, or another number of fills.
    """
    if not images:
        raise ValueError("there is no image to bring to a grid")
    fills = [float(fill)] * len(images) if isinstance(fill, int | float) else [float(value) for value in fill]
    if len(fills) != len(images):
        raise ValueError(f"{len(fills)} values of fill for {len(images)} images")
    grid = reference or images[0].geometry
    moved, parts, arrays = [], [], []
    for number, (image, outside) in enumerate(zip(images, fills, strict=True), start=1):
        difference = grid.difference(image.geometry)
        part = 1.0 if difference is None else image.geometry.coverage_of(grid)
        if part < _LEAST_COVERED:
            raise DataError(
                "the images of one case show different places",
                where=f"image {number} of {len(images)}",
                value=f"it covers {part:.1%} of the reference; {difference}",
                remedy="check that they belong to one patient and one examination",
            )
        moved.append(difference)
        parts.append(part)
        arrays.append(image.resampled_to(grid, order=3, fill=outside).array)
    unit = images[0].unit if len({image.unit for image in images}) == 1 else "arbitrary"
    volume = replace(images[0], array=np.concatenate(arrays), geometry=grid, unit=unit)
    return Aligned(volume, tuple(moved), tuple(parts))
