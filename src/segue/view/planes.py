"""Where to cut a volume for a picture, and which way round it is drawn.

Everything here is in canonical (RAS) voxel order. Slices are drawn as radiologists read them: the patient's right
on the left of an axial or coronal slice, the front on the left of a sagittal one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
from jaxtyping import Bool, Shaped

# A lesion of a centimetre in a whole body is a dot: slices show this much around what they are centred on.
_LEAST_WINDOW_MM = 120.0
_WINDOW_PER_EXTENT = 3.0
# A window that would hide less than this part of the image shows all of it instead.
_NEARLY_ALL = 0.7


@dataclass(frozen=True)
class Plane:
    """One of the three ways to cut; axes are those of RAS order (0 right, 1 front, 2 head).

    ``across`` is drawn with its index growing to the left of the picture, ``up`` with its index growing upwards, so
    that the ``left`` edge of the picture is the patient's right (or front).
    """

    name: str
    normal: int
    across: int
    up: int
    left: str
    right: str


PLANES = (
    Plane("axial", 2, 0, 1, "R", "L"),
    Plane("coronal", 1, 0, 2, "R", "L"),
    Plane("sagittal", 0, 1, 2, "A", "P"),
)
CORONAL = PLANES[1]


@dataclass(frozen=True)
class Focus:
    """The voxel that the slices go through, and the box (first and last voxel) of what lies around it."""

    voxel: tuple[int, int, int]
    low: tuple[int, int, int]
    high: tuple[int, int, int]
    found: bool


def find_focus(
    truth: Bool[np.ndarray, "i j k"] | None,
    prediction: Bool[np.ndarray, "i j k"] | None,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> Focus:
    """The middle of the largest 18-connected component of the truth; of the prediction where the truth is empty;
    of the image where both are.

    The middle is the component's voxel that is nearest to its centre of mass, so that a ring or a crescent is
    cut and not missed.
    """
    for mask in (truth, prediction):
        if mask is not None and mask.any():
            return _largest_component(mask, spacing_mm)
    i, j, k = shape
    return Focus((i // 2, j // 2, k // 2), (0, 0, 0), (i - 1, j - 1, k - 1), found=False)


def _largest_component(mask: Bool[np.ndarray, "i j k"], spacing_mm: tuple[float, float, float]) -> Focus:
    start = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        start.append(int(used[0]))
        mask = mask.take(range(used[0], used[-1] + 1), axis=axis)
    components = np.asarray(cc3d.connected_components(np.ascontiguousarray(mask), connectivity=18))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    voxels = np.argwhere(components == sizes.argmax())
    spacing = np.array(spacing_mm)
    distance = np.square((voxels - voxels.mean(axis=0)) * spacing).sum(axis=1)
    offset = np.array(start)
    return Focus(
        _triple(voxels[distance.argmin()] + offset),
        _triple(voxels.min(axis=0) + offset),
        _triple(voxels.max(axis=0) + offset),
        found=True,
    )


def window_mm(
    focus: Focus, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """From where to where a picture shows each axis, in mm from the centre of the first voxel."""
    shown = []
    for axis in range(3):
        step = spacing_mm[axis]
        first, last = -0.5 * step, (shape[axis] - 0.5) * step
        extent = (focus.high[axis] - focus.low[axis] + 1) * step
        size = max(_LEAST_WINDOW_MM, _WINDOW_PER_EXTENT * extent)
        if not focus.found or size >= _NEARLY_ALL * (last - first):
            shown.append((first, last))
            continue
        middle = 0.5 * (focus.high[axis] + focus.low[axis]) * step
        # Moved inwards at the border of the image rather than cut, so that all windows keep their size.
        begin = min(max(middle - size / 2, first), last - size)
        shown.append((begin, begin + size))
    return shown[0], shown[1], shown[2]


def cut(
    array: Shaped[np.ndarray, "i j k"], plane: Plane, voxel: tuple[int, int, int]
) -> Shaped[np.ndarray, "up across"]:
    """The slice through ``voxel``: rows along ``plane.up``, columns along ``plane.across``."""
    section = array.take(voxel[plane.normal], axis=plane.normal)
    return section.T  # the axes that are left stand in the order (across, up)


def project(array: Shaped[np.ndarray, "i j k"], plane: Plane) -> Shaped[np.ndarray, "up across"]:
    """The maximum along the plane's normal (of a mask: wherever it is met at all)."""
    return array.max(axis=plane.normal).T


def _triple(values: np.ndarray) -> tuple[int, int, int]:
    return int(values[0]), int(values[1]), int(values[2])
