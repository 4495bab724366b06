"""Where the images of a series lie, and whether together they are one volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from segue.dicom.errors import DicomError
from segue.dicom.files import number, numbers, text
from segue.dicom.volumes import VOLUME_TAGS, Parts, parts
from segue.volume import Geometry

# A gap between neighbours may differ from the median gap by this part of it. Rounding of positions and the
# bed positions of PET give up to 2.5 % (3.19 mm among 3.27 mm); a missing slice is 100 %.
GAP_TOLERANCE = 0.05
# Slices whose normals differ by more are not parallel; a stack that leans by more is tilted. As volume.SHEAR_DEGREES.
ANGLE_TOLERANCE_DEGREES = 0.1
# A slice may lie beside the line through the others by this part of a pixel.
SHIFT_TOLERANCE = 0.25
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_RADIOGRAPHS = ("CR", "DX", "IO", "MG", "PX", "RG")
_MARKS = (*VOLUME_TAGS, "InstanceNumber")


@dataclass(frozen=True, eq=False)
class Plane:
    """One image of one file.

    Attributes:
        source: number of the file in the list that was read.
        frame: number of the image in the file.
        position: LPS millimetres of the centre of the first pixel, Image Position (Patient) (0020,0032).
        axes: ``(2, 3)`` unit vectors along a row and along a column, Image Orientation (Patient) (0020,0037).
        spacing_mm: between rows, between columns, Pixel Spacing (0028,0030).
        thickness_mm: Slice Thickness (0018,0050), or Spacing Between Slices (0018,0088), or 1.
        slope, intercept: stored value to real value (0028,1053), (0028,1052).
        marks: what tells volumes of a series apart, by keyword.
    """

    source: int
    frame: int
    position: Float64[np.ndarray, " 3"]
    axes: Float64[np.ndarray, "2 3"]
    spacing_mm: tuple[float, float]
    thickness_mm: float
    slope: float
    intercept: float
    marks: dict[str, str]


def planes_of(dataset: Any, source: int, path: Path, *, marked: bool = True) -> list[Plane]:
    """The images of one file: one, or those of its functional groups (PS3.3 C.7.6.16).

    Args:
        marked: look for the marks that tell volumes of a series apart. Masks have none, and many frames.

    Raises:
        DicomError: ``NO_POSITION``, ``NO_SPACING``, ``MODALITY_LUT``, ``DAMAGED``.
    """
    count = int(number(dataset, "NumberOfFrames", path, 1) or 1)
    shared, per_frame = _groups(dataset, path)
    if count > 1 and len(per_frame) != count:
        raise DicomError(
            "an image with several frames does not say where each of them lies",
            where=path,
            value=f"{count} frames, {len(per_frame)} positions",
            reason="NO_POSITION",
        )
    frames = per_frame[:count] or [None]
    try:
        return [_plane((frame, shared, dataset), source, index, path, marked) for index, frame in enumerate(frames)]
    except DicomError:
        raise
    except Exception as error:
        # Elements are parsed when they are asked for, with whatever pydicom raises on a damaged one.
        raise DicomError("the header cannot be read", where=path, value=error) from error


def stack(planes: Sequence[Plane], rows: int, columns: int, where: Path) -> tuple[Parts, Geometry]:
    """The volumes that the planes make, each in the order along the normal, and the grid ``(column, row, slice)`` that
    they share, in RAS.

    Slices are ordered by the projection of their positions onto the normal of the first. The step from slice
    to slice is the mean one, so the first and the last slice lie exactly where their headers say.

    Raises:
        DicomError: ``MIXED_ORIENTATION``, ``MIXED_SIZE``, ``SEVERAL_VOLUMES``, ``DUPLICATE_POSITION``,
            ``MISSING_SLICE``, ``UNEVEN_GAPS``, ``SHIFTED_SLICES``, ``GANTRY_TILT``, ``DAMAGED``.
    """
    first = planes[0]
    normal = np.cross(first.axes[0], first.axes[1])
    require_parallel(planes, where)
    positions = np.array([plane.position for plane in planes])
    distance = positions @ normal
    found = parts(planes, distance, where)
    found = replace(found, planes=[[int(n) for n in np.array(one)[np.argsort(distance[one])]] for one in found.planes])
    order = found.planes[0]
    pixel_mm = min(first.spacing_mm)
    step = normal * first.thickness_mm
    if len(order) > 1:
        _require_even(distance[order], where)
        step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
        _require_straight(positions[order], step, normal, pixel_mm, where)
    _require_same_places(positions, found, pixel_mm, where)
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * first.spacing_mm[1]
    affine[:3, 1] = first.axes[1] * first.spacing_mm[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[order[0]]
    try:
        return found, Geometry((columns, rows, len(order)), _LPS_TO_RAS @ affine)
    except ValueError as error:
        raise DicomError(str(error), where=where) from error


def _require_same_places(positions: np.ndarray, found: Parts, pixel_mm: float, where: Path) -> None:
    for place, one in enumerate(found.planes[1:], start=2):
        apart = float(np.linalg.norm(positions[one] - positions[found.planes[0]], axis=1).max())
        if apart > SHIFT_TOLERANCE * pixel_mm:
            value = f"volume {place} of {len(found.planes)} by up to {apart:.3f} mm"
            raise DicomError(
                "the volumes of the series lie beside each other", where=where, value=value, reason="SHIFTED_SLICES"
            )


def is_radiograph(dataset: Any) -> bool:
    """Whether it is a projection onto a detector, which has no place in the patient (PS3.3 C.8.11.3)."""
    return text(dataset, "Modality") in _RADIOGRAPHS


def _groups(dataset: Any, path: Path) -> tuple[Any, list[Any]]:
    try:
        shared = dataset.get("SharedFunctionalGroupsSequence")
        per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
        return (shared[0] if shared else None), list(per_frame or [])
    except Exception as error:
        # A sequence is parsed when it is asked for, with whatever pydicom raises on a damaged one.
        raise DicomError("the functional groups cannot be read", where=path, value=error) from error


def _plane(holders: tuple[Any, Any, Any], source: int, index: int, path: Path, marked: bool) -> Plane:
    position = _numbers(holders, "PlanePositionSequence", "ImagePositionPatient", path, 3)
    cosines = _numbers(holders, "PlaneOrientationSequence", "ImageOrientationPatient", path, 6)
    radiograph = position is None and cosines is None and is_radiograph(holders[2])
    if radiograph:  # nothing says where the detector stood: it lies in space as a picture does
        position, cosines = np.zeros(3), np.array([1.0, 0, 0, 0, 1.0, 0])
    if position is None or cosines is None:
        missing = "ImagePositionPatient" if position is None else "ImageOrientationPatient"
        raise DicomError(
            "the image does not say where it lies", where=path, value=f"no {missing}", reason="NO_POSITION"
        )
    spacing = _numbers(holders, "PixelMeasuresSequence", "PixelSpacing", path, 2)
    if radiograph and spacing is None:
        spacing = numbers(holders[2], "ImagerPixelSpacing", path, 2)  # on the detector, not in the patient
        spacing = np.ones(2) if spacing is None else spacing
    if spacing is None or spacing.min() <= 0:
        value = "no PixelSpacing" if spacing is None else f"{spacing.tolist()} mm"
        raise DicomError("the image does not say its pixel size", where=path, value=value, reason="NO_SPACING")
    axes = cosines.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(axes[0] @ axes[1]) > np.radians(ANGLE_TOLERANCE_DEGREES):
        raise DicomError("ImageOrientationPatient is not two directions at right angles", where=path, value=cosines)
    dataset = holders[2]
    if dataset.get("ModalityLUTSequence"):
        raise DicomError("values by a lookup table are not read", where=path, reason="MODALITY_LUT")
    slope = _numbers(holders, "PixelValueTransformationSequence", "RescaleSlope", path, 1)
    intercept = _numbers(holders, "PixelValueTransformationSequence", "RescaleIntercept", path, 1)
    return Plane(
        source=source,
        frame=index,
        position=position,
        axes=axes / lengths[:, None],
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        thickness_mm=_thickness(holders, path),
        slope=1.0 if slope is None else float(slope[0]),
        intercept=0.0 if intercept is None else float(intercept[0]),
        marks=_marks(holders) if marked else {},
    )


def _numbers(holders: tuple[Any, Any, Any], sequence: str, keyword: str, path: Path, count: int) -> np.ndarray | None:
    """From the frame's functional group, else the shared one, else the data set itself."""
    for holder in holders[:2]:
        inner = None if holder is None else holder.get(sequence)
        if inner:
            found = numbers(inner[0], keyword, path, count)
            if found is not None:
                return found
    return numbers(holders[2], keyword, path, count)


def _thickness(holders: tuple[Any, Any, Any], path: Path) -> float:
    for keyword in ("SliceThickness", "SpacingBetweenSlices"):
        found = _numbers(holders, "PixelMeasuresSequence", keyword, path, 1)
        if found is not None and found[0] > 0:
            return float(found[0])
    return 1.0


def _marks(holders: tuple[Any, Any, Any]) -> dict[str, str]:
    frame, _, dataset = holders
    marks = {tag: text(dataset, tag) for tag in _MARKS}
    for group in frame or []:
        if group.VR == "SQ" and len(group.value):
            marks |= {tag: text(group.value[0], tag) for tag in _MARKS if tag in group.value[0]}
    return marks


def require_parallel(planes: Sequence[Plane], where: Path) -> None:
    axes = np.array([plane.axes for plane in planes])
    # The chord between unit vectors, not their cosine: near 0 degrees a cosine has no digits left.
    chord = np.linalg.norm(axes - axes[0], axis=2).max()
    angle = float(np.degrees(2 * np.arcsin(min(1.0, chord / 2))))
    if angle > ANGLE_TOLERANCE_DEGREES:
        raise DicomError(
            "the slices are not parallel", where=where, value=f"up to {angle:.2f} degrees", reason="MIXED_ORIENTATION"
        )
    spacing = np.array([plane.spacing_mm for plane in planes])
    if np.abs(spacing - spacing[0]).max() > 1e-3 * spacing[0].min():
        value = f"{spacing.min():.4g} to {spacing.max():.4g} mm"
        raise DicomError("the slices differ in pixel spacing", where=where, value=value, reason="MIXED_SIZE")


def _require_even(distance: np.ndarray, where: Path) -> None:
    gaps = np.diff(distance)
    median = float(np.median(gaps))
    usual = float(gaps.min()) if len(gaps) < 3 else median
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) <= GAP_TOLERANCE * usual:
        return
    missing = np.rint(gaps / usual)
    after = f"after slice {worst + 1} of {len(distance)}"
    if np.abs(gaps - missing * usual).max() <= GAP_TOLERANCE * usual * missing.max() and missing.min() >= 1:
        raise DicomError(
            "slices are missing",
            where=where,
            value=f"a gap of {gaps[worst]:.3f} mm {after}, the usual one is {usual:.3f} mm: "
            f"{int((missing - 1).sum())} not there",
            reason="MISSING_SLICE",
        )
    raise DicomError(
        "the gaps between slices are uneven",
        where=where,
        value=f"{gaps.min():.3f} to {gaps.max():.3f} mm, {gaps[worst]:.3f} mm {after}",
        reason="UNEVEN_GAPS",
    )


def _require_straight(
    positions: np.ndarray, step: np.ndarray, normal: np.ndarray, pixel_mm: float, where: Path
) -> None:
    across = positions - positions[0]
    across = across - np.outer(across @ normal, normal)
    lean = step - (step @ normal) * normal
    beside = np.linalg.norm(across - np.outer(np.arange(len(positions)), lean), axis=1)
    if beside.max() > SHIFT_TOLERANCE * pixel_mm:
        value = f"by up to {beside.max():.3f} mm, slice {int(beside.argmax()) + 1}"
        raise DicomError("slices lie beside the others", where=where, value=value, reason="SHIFTED_SLICES")
    angle = float(np.degrees(np.arctan2(np.linalg.norm(lean), step @ normal)))
    if angle > ANGLE_TOLERANCE_DEGREES:
        raise DicomError(
            "the gantry was tilted: slices are not stacked along their normal",
            where=where,
            value=f"{angle:.2f} degrees",
            reason="GANTRY_TILT",
        )
