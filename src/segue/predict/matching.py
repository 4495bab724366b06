"""A quick look at an image before any work: is it like those that the model was trained on?

What a model has not seen it still answers for, and often wrongly. Nothing here is an error: the numbers are told, and a
person decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segue.catalogue import Case, Row
from segue.core.errors import DataError, SegueError
from segue.images import read_header
from segue.prepare import Fingerprint
from segue.train import Run
from segue.volume import Geometry, Volume

_TIMES = 2.0  # beyond what was seen, along one axis
_AIR_HU = -200.0
_MOST_SUV = 200.0
_AXES = ("left-right", "front-back", "head-foot")


def read_fingerprint(run: Run) -> Fingerprint | None:
    """What was measured over the images that a run was trained on; None where an earlier version did not keep it.

    Raises:
        DataError, UsageError: the file is damaged.
    """
    if not run.fingerprint.exists():
        return None
    try:
        return Fingerprint.model_validate(run.json(run.fingerprint.name))
    except ValueError as error:
        raise DataError("this file of the run is damaged", where=run.fingerprint, value=error) from error


def unlike_headers(case: Case, seen: Fingerprint) -> list[str]:
    """What the headers of a case say that no training image comes near to, and channels that it lacks; of what cannot
    be read, nothing."""
    if not case.images or isinstance(case.images[0], Row):
        return []
    needed = [seen.channels[number].name for number in case.absent if not seen.channels[number].optional]
    told = [f"lacks {', '.join(needed)}, which the model needs"] if needed else []
    try:
        headers = [read_header(image) for image in case.images if isinstance(image, Path)]
    except SegueError:  # it is told when the case is read
        return told
    channels = sum(header.channels for header in headers)
    if seen.dimension == 3 and channels != len(case.present(len(seen.channels))):
        names = ", ".join(channel.name for channel in seen.channels)
        told.append(f"{channels} channels; the model needs {len(seen.channels)}: {names}")
    return told + unlike_grid(headers[0].geometry, seen)


def unlike_grid(grid: Geometry, seen: Fingerprint) -> list[str]:
    """Spacing or field of view more than twice, or less than half, of any training image's along an axis."""
    canonical = grid.oriented("RAS")
    if not seen.spacings_mm or len(seen.shapes) != len(seen.spacings_mm) or seen.dimension == 2:
        return []
    spacings = np.array(seen.spacings_mm)
    sizes = np.array(seen.shapes) * spacings
    mine = np.array(canonical.spacing_mm)
    told = []
    for what, values, trained in (
        ("voxels of", mine, spacings),
        ("a field of view of", mine * np.array(canonical.shape), sizes),
    ):
        low, high = trained.min(0), trained.max(0)
        far = [axis for axis in range(3) if not low[axis] / _TIMES <= values[axis] <= high[axis] * _TIMES]
        told += [
            f"{what} {values[axis]:.3g} mm {_AXES[axis]}; those of the training images: "
            f"{low[axis]:.3g} to {high[axis]:.3g} mm"
            for axis in far
        ]
    return told


def unlike_values(image: Volume, seen: Fingerprint, absent: Sequence[int] = ()) -> list[str]:
    """Values that are not what the channel's unit says: CT without anything like air, PET that is no SUV.

    Where every training image is so too, nothing is said.
    """
    told = []
    for number, (channel, values) in enumerate(zip(seen.channels, image.array, strict=False)):
        if number in absent or not values.size:
            continue
        least, greatest = float(values.min()), float(values.max())
        trained = seen.extremes[number] if number < len(seen.extremes) else None
        if least == greatest:
            told.append(f"{channel.name}: every voxel is {least:.4g}")
        elif channel.unit == "HU" and least > max(_AIR_HU, trained.least[1] if trained else _AIR_HU):
            told.append(
                f"{channel.name}: no value below {least:.4g}, where air is -1000 HU: not in Hounsfield units?"
                + (f" (training images begin at {trained.least[0]:.4g} to {trained.least[1]:.4g})" if trained else "")
            )
        elif channel.unit == "SUV" and greatest > max(_MOST_SUV, _TIMES * trained.greatest[1] if trained else 0.0):
            told.append(
                f"{channel.name}: values up to {greatest:.6g}: Bq/ml rather than SUV?"
                + (
                    f" (training images reach {trained.greatest[0]:.4g} to {trained.greatest[1]:.4g})"
                    if trained
                    else ""
                )
            )
    return told
