"""Where the frames of a segmentation lie: on the slices of a reference, or on a grid of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from segue.dicom.errors import DicomError
from segue.dicom.files import number
from segue.dicom.masks import NEAREST_VOXELS
from segue.dicom.planes import ANGLE_TOLERANCE_DEGREES, GAP_TOLERANCE, SHIFT_TOLERANCE, Plane, require_parallel
from segue.volume import Geometry

# Positions nearer than this part of a pixel are one slice: writers round.
_SAME_SLICE = 0.01
# The smallest gap between frames may be so many steps of the grid: annotators skip slices.
_MOST_STEPS = 10
# A stated spacing below this part of the thickness is not one: some scanners state the empty space between slices.
_LEAST_OF_THICKNESS = 0.45
# More slices than any scanner makes come from a damaged position.
_MOST_SLICES = 5000
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class SegmentGrid:
    """A grid whose ``i`` grows along the columns of the frames, ``j`` along their rows, ``k`` along their normal.

    Attributes:
        first: the voxel of each frame's first pixel; may lie outside the grid.
    """

    geometry: Geometry
    first: Int64[np.ndarray, "frames 3"]


@dataclass(frozen=True, eq=False)
class _Slices:
    """The places of the frames along their normal.

    Attributes:
        position: LPS millimetres of the first pixel of each frame.
        level: of each frame, the number of its slice among those that have frames.
        gaps: millimetres from each such slice to the next.
        stated_mm: Spacing Between Slices (0018,0088), None where it is absent or makes no sense.
        thickness_mm: Slice Thickness (0018,0050), None where it is absent.
    """

    position: Float64[np.ndarray, "frames 3"]
    level: Int64[np.ndarray, " frames"]
    gaps: Float64[np.ndarray, " gaps"]
    stated_mm: float | None
    thickness_mm: float | None


def grid_of(planes: Sequence[Plane], header: Any, path: Path, reference: Geometry | None) -> SegmentGrid:
    """The grid of a segmentation's frames: that of the reference where they lie on its slices, else their own.

    Their own has the Spacing Between Slices that the file states, where the gaps between frames are multiples of it,
    else the largest spacing of which they are multiples.

    Raises:
        DicomError: ``MIXED_ORIENTATION``, ``MIXED_SIZE``, ``UNEVEN_GAPS``, ``SHIFTED_SLICES``, ``GANTRY_TILT``,
            ``DAMAGED``.
    """
    require_parallel(planes, path)
    size = int(number(header, "Columns", path, 0) or 0), int(number(header, "Rows", path, 0) or 0)
    try:
        slices = _slices(planes, header, path)
        matched = None if reference is None else _on_slices_of(reference, planes[0], slices, size)
        return matched or _own(planes[0], slices, size, path)
    except ValueError as error:
        raise DicomError(str(error), where=path) from error


def _slices(planes: Sequence[Plane], header: Any, path: Path) -> _Slices:
    position = np.array([plane.position for plane in planes])
    distance = position @ np.cross(*planes[0].axes)
    order = np.argsort(distance, kind="stable")
    steps = np.diff(distance[order]) > _SAME_SLICE * min(planes[0].spacing_mm)
    level = np.zeros(len(planes), np.int64)
    level[order[1:]] = np.cumsum(steps)
    means = np.bincount(level, distance) / np.bincount(level)
    thickness = _measure(header, "SliceThickness", path)
    stated = _measure(header, "SpacingBetweenSlices", path)
    gaps = np.diff(means)
    if stated and len(gaps) and _counts(gaps, stated) is None:
        stated = None
    if stated and thickness and stated < _LEAST_OF_THICKNESS * thickness and (not len(gaps) or stated < gaps.min() / 2):
        stated = None
    return _Slices(position, level, gaps, stated, thickness)


def _measure(header: Any, keyword: str, path: Path) -> float | None:
    """A positive length of the pixel measures, shared by all frames or of the first."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        groups = header.get(name)
        measures = groups[0].get("PixelMeasuresSequence") if groups else None
        found = number(measures[0], keyword, path) if measures else None
        if found is not None and found > 0:
            return found
    return None


def _counts(gaps: Float[np.ndarray, " gaps"], step_mm: float) -> Int64[np.ndarray, " gaps"] | None:
    """The steps in each gap; None where they are no multiples."""
    counts = np.rint(gaps / step_mm)
    if counts.min() < 1 or np.abs(gaps / counts - step_mm).max() > GAP_TOLERANCE * step_mm:
        return None
    return counts.astype(np.int64)


def _about(one_mm: float, other_mm: float) -> bool:
    return bool(abs(one_mm - other_mm) <= GAP_TOLERANCE * other_mm)


def _on_slices_of(reference: Geometry, plane: Plane, slices: _Slices, size: tuple[int, int]) -> SegmentGrid | None:
    """The reference, turned as the frames are; None where they are not frames of its slices."""
    frame = _affine(plane, plane.position, np.cross(*plane.axes) * min(plane.spacing_mm))
    turned = reference.oriented(Geometry((*size, 1), frame).axis_codes)
    to_index = np.linalg.inv(turned.affine)
    stray = (to_index @ frame)[:3, :2] - np.eye(3)[:, :2]
    index = (slices.position * [-1, -1, 1]) @ to_index[:3, :3].T + to_index[:3, 3]
    first = np.rint(index).astype(np.int64)
    if (np.abs(index - first) + np.abs(stray) @ size).max() > NEAREST_VOXELS:
        return None
    # Each slice with frames is one slice of the reference, and another one.
    pairs = np.unique(np.column_stack([first[:, 2], slices.level]), axis=0)
    if not len(pairs) == len(np.unique(pairs[:, 0])) == len(slices.gaps) + 1:
        return None
    step = turned.spacing_mm[2]
    spacing_mm = slices.stated_mm
    # A stack whose slices touch has a spacing of its own; one with holes between them may be cut from the reference.
    if spacing_mm is None and len(slices.gaps) and _about(slices.gaps.min(), slices.thickness_mm or 0.0):
        spacing_mm = slices.thickness_mm
    return SegmentGrid(turned, first) if spacing_mm is None or _about(spacing_mm, step) else None


def _own(plane: Plane, slices: _Slices, size: tuple[int, int], path: Path) -> SegmentGrid:
    normal = np.cross(*plane.axes)
    places = np.concatenate([[0], np.cumsum(_steps(slices, path))])
    k = places[slices.level]
    count = int(places[-1]) + 1
    if count > _MOST_SLICES:
        value = f"{count} slices between the first and the last of {len(places)}"
        raise DicomError("the frames lie too far apart", where=path, value=value, reason="UNEVEN_GAPS")
    origin = slices.position[int(np.argmin(k))]
    step = normal * (slices.stated_mm or slices.thickness_mm or 1.0)
    lean = 0.0
    if count > 1:
        last = slices.position[int(np.argmax(k))] - origin
        lean = float(np.degrees(np.arctan2(np.linalg.norm(last - (last @ normal) * normal), last @ normal)))
        # Frames that are cut to their segments lie beside each other by whole pixels.
        step = last / (count - 1) if lean <= ANGLE_TOLERANCE_DEGREES else normal * (last @ normal) / (count - 1)
    pixel = np.array([plane.spacing_mm[1], plane.spacing_mm[0]])
    beside = (slices.position - origin - k[:, None] * step) @ plane.axes.T / pixel
    shift = np.rint(beside).astype(np.int64)
    if np.abs(beside - shift).max() > SHIFT_TOLERANCE:
        value = f"by up to {np.abs(beside).max():.2f} pixels"
        reason = "GANTRY_TILT" if _is_straight(slices.position, k) else "SHIFTED_SLICES"
        what = "the gantry was tilted" if reason == "GANTRY_TILT" else "frames lie beside the others"
        raise DicomError(what, where=path, value=value, reason=reason)
    low = shift.min(axis=0)
    shape = np.array(size) + shift.max(axis=0) - low
    corner = origin + (low * pixel) @ plane.axes
    geometry = Geometry((int(shape[0]), int(shape[1]), count), _affine(plane, corner, step))
    return SegmentGrid(geometry, np.column_stack([shift - low, k]))


def _steps(slices: _Slices, path: Path) -> np.ndarray:
    """Steps of the grid from each slice that has frames to the next."""
    if not len(slices.gaps):
        return np.zeros(0, np.int64)
    smallest = float(slices.gaps.min())
    for step in (slices.stated_mm, *(smallest / parts for parts in range(1, _MOST_STEPS + 1))):
        counts = None if step is None else _counts(slices.gaps, step)
        if counts is not None:
            return counts
    value = f"{smallest:.3f} to {slices.gaps.max():.3f} mm"
    raise DicomError("the gaps between frames are uneven", where=path, value=value, reason="UNEVEN_GAPS")


def _is_straight(position: np.ndarray, k: np.ndarray) -> bool:
    line = np.polynomial.polynomial.polyfit(k, position, 1)
    return bool(np.abs(line[0] + k[:, None] * line[1] - position).max() < 0.1)


def _affine(plane: Plane, corner: np.ndarray, step: np.ndarray) -> Float64[np.ndarray, "4 4"]:
    affine = np.eye(4)
    affine[:3, 0] = plane.axes[0] * plane.spacing_mm[1]
    affine[:3, 1] = plane.axes[1] * plane.spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = corner
    return _LPS_TO_RAS @ affine
