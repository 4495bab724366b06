"""Where a prediction is wrong: the largest connected parts of the truth that it misses, and of what it invents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cc3d
import numpy as np
from jaxtyping import Bool, Integer

from segue.core.errors import DataError
from segue.volume import Geometry, Volume, bounding_box

_MOST_PER_KIND = 3


@dataclass(frozen=True)
class ErrorComponent:
    """One 26-connected part of the error of a label.

    Attributes:
        kind: ``missed`` (in the truth, not predicted) or ``invented`` (predicted, not in the truth).
        mm: RAS millimetres of its voxel nearest to its centre of mass.
    """

    label: int
    name: str
    kind: Literal["missed", "invented"]
    ml: float
    mm: tuple[float, float, float]


def largest_errors(
    truth: Volume, prediction: Volume, labels: Mapping[int, str], ignored: int | None = None
) -> list[ErrorComponent]:
    """The largest error components of every label, largest first: three of each label and kind.

    Args:
        ignored: a number in the truth that is neither background nor foreground; nothing there is an error.

    Raises:
        DataError: the two masks lie on different grids.
    """
    prediction = prediction.oriented(truth.geometry.axis_codes)
    difference = truth.geometry.difference(prediction.geometry)
    if difference is not None:
        raise DataError(
            "truth and prediction lie on different grids, so that their errors cannot be located",
            value=difference,
            remedy="predict again with this dataset as it is now",
        )
    true, found = truth.array[0], prediction.array[0]
    wrong = true != found
    if ignored is not None:
        wrong &= true != ignored
    errors: list[ErrorComponent] = []
    for number, name in labels.items():
        for kind, mask in (("missed", wrong & (true == number)), ("invented", wrong & (found == number))):
            errors += _components(mask, truth.geometry, number, name, kind)  # type: ignore[arg-type]
    return sorted(errors, key=lambda error: -error.ml)


def _components(
    mask: Bool[np.ndarray, "i j k"], grid: Geometry, label: int, name: str, kind: Literal["missed", "invented"]
) -> list[ErrorComponent]:
    box = bounding_box(mask)
    if box is None:
        return []
    parts: Integer[np.ndarray, "x y z"] = cc3d.connected_components(mask[box], connectivity=26)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    start = np.array([part.start for part in box])
    errors = []
    for part in np.argsort(-sizes, kind="stable")[:_MOST_PER_KIND]:
        if sizes[part] == 0:
            break
        voxels = np.argwhere(parts == part) + start
        places = voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        x, y, z = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
        ml = float(sizes[part] * grid.voxel_ml)
        errors.append(ErrorComponent(label, name, kind, ml, (float(x), float(y), float(z))))
    return errors
