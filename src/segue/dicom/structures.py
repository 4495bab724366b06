"""RTSTRUCT: structures drawn as contours, as masks on the grid of an image (PS3.3 A.19, C.8.8.5, C.8.8.6)."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from segue.dicom.contours import Contour, Drawing, drawing, filled, usual_mm
from segue.dicom.errors import DicomError
from segue.dicom.files import number, read_dataset, text
from segue.dicom.masks import MaskSet, Segment
from segue.volume import Geometry

# Further from the origin than any patient: a damaged number.
_FURTHEST_MM = 1e6
_LARGEST_LABEL = 65535
# All masks together: real sets have dozens of structures, few of which fill the image.
_MOST_IMAGES = 32
_ALWAYS_BYTES = 1_000_000_000
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_CODED = re.compile(r"[A-Z0-9_ ]{1,16}")  # a code string (PS3.5 6.2): nothing else is taken for one
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Structure:
    """One structure as it is written: its ROI Number (None where it has none), its contours, what is said of it."""

    number: int | None
    name: str
    frame: str
    contours: list[Contour]
    meaning: dict[str, str]


def read_structures(path: Path, reference: Geometry) -> MaskSet:
    """The structures of an RTSTRUCT as masks on the grid of an image.

    A voxel belongs to a structure if its centre lies inside its contours; of a centre exactly on an edge that two
    structures share, one of them has it. Holes, islands and keyholes, and what lies between the planes of the
    contours, follow the rules at the top of :mod:`segue.dicom.contours`. Contours may have been drawn on another image
    of the same frame of reference, on slices that are thicker, thinner, or in another direction.

    Structures that have no closed contour, or none around the centre of a voxel of the grid, are left out with a
    warning in the log. So are contours of other geometric types (POINT, OPEN_PLANAR, OPEN_NONPLANAR) or with fewer
    than three points; the structure's ``meaning`` tells how many were.

    A segment's number is its ROI Number where these are all different and from 1 to 65535; else they count from 1.
    Structures of one name are told apart as ``"NAME"``, ``"NAME (2)"``. ``meaning`` holds what is coded, of what there
    is: ``type`` (RT ROI Interpreted Type), ``code`` and ``code_meaning`` (RT ROI Identification Code Sequence),
    ``algorithm`` (ROI Generation Algorithm), ``skipped_contours``.

    Args:
        reference: the grid of the image on which the contours were drawn, or of one in the same frame of reference.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``, ``NO_CONTOURS``, ``CONTOUR_OUTSIDE``, ``CONTOUR_ORIENTATION``,
            ``NO_REFERENCE`` (structures in several frames of reference, and nothing says which is the image's).
        MachineError: pydicom is not installed.
    """
    path = Path(path)
    dataset = read_dataset(path)
    modality = text(dataset, "Modality")
    if modality != "RTSTRUCT":
        raise DicomError("this is not a structure set", where=path, value=modality or "no modality")
    try:
        series_uid, frame = _image_of(dataset)
        structures = _in_one_frame(list(_structures(dataset, path)), frame, path)
    except DicomError:
        raise
    except Exception as error:
        # Elements are parsed when they are asked for, with whatever pydicom raises on a damaged one.
        raise DicomError("the structures cannot be read", where=path, value=error) from error
    return MaskSet(reference, _segments(structures, reference, path), "RTSTRUCT", series_uid)


def structure_reference(path: Path) -> str:
    """The Series Instance UID of the image on which the contours of an RTSTRUCT were drawn.

    Of several series that it names, the one whose images the most contours name; empty where it does not say.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    dataset = read_dataset(path)
    try:
        return _image_of(dataset)[0]
    except Exception as error:
        # As above.
        raise DicomError("the structures cannot be read", where=path, value=error) from error


def structure_frame(path: Path) -> str:
    """The Frame of Reference UID of the coordinates of an RTSTRUCT; empty where it names none or several.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    dataset = read_dataset(path)
    try:
        named = {text(item, "FrameOfReferenceUID") for item in _items(dataset, "ReferencedFrameOfReferenceSequence")}
        return _image_of(dataset)[1] or (named.pop() if len(named) == 1 else "")
    except Exception as error:
        # As above.
        raise DicomError("the structures cannot be read", where=path, value=error) from error


def _items(holder: Any, keyword: str) -> list[Any]:
    return list(holder.get(keyword) or [])


def _image_of(dataset: Any) -> tuple[str, str]:
    """Series Instance UID and Frame of Reference UID of the image on which the contours were drawn."""
    images: dict[str, set[str]] = {}
    frames: dict[str, str] = {}
    for frame in _items(dataset, "ReferencedFrameOfReferenceSequence"):
        for study in _items(frame, "RTReferencedStudySequence"):
            for series in _items(study, "RTReferencedSeriesSequence"):
                uid = text(series, "SeriesInstanceUID")
                if uid:
                    named = {
                        text(image, "ReferencedSOPInstanceUID") for image in _items(series, "ContourImageSequence")
                    }
                    images.setdefault(uid, set()).update(named)
                    frames[uid] = text(frame, "FrameOfReferenceUID")
    if len(images) > 1:
        votes = Counter(
            uid
            for structure in _items(dataset, "ROIContourSequence")
            for contour in _items(structure, "ContourSequence")
            for image in _items(contour, "ContourImageSequence")
            for uid, named in images.items()
            if text(image, "ReferencedSOPInstanceUID") in named
        )
        ranked = votes.most_common(2)
        if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
            return "", ""
        return ranked[0][0], frames[ranked[0][0]]
    return next(((uid, frames[uid]) for uid in images), ("", ""))


def _structures(dataset: Any, path: Path) -> Iterator[_Structure]:
    named = _items(dataset, "StructureSetROISequence")
    drawn = _items(dataset, "ROIContourSequence")
    numbers = [_whole(item, "ROINumber", path) for item in named]
    references = [_whole(item, "ReferencedROINumber", path) for item in drawn]
    observed: dict[int | None, Any] = {}
    for item in _items(dataset, "RTROIObservationsSequence"):
        observed.setdefault(_whole(item, "ReferencedROINumber", path), item)
    clear = None not in numbers and None not in references and len(set(numbers)) == len(numbers)
    if not clear and len(named) != len(drawn):
        value = f"{len(named)} structures, {len(drawn)} sets of contours, numbers {numbers} and {references}"
        raise DicomError("which contours belong to which structure is not clear", where=path, value=value[:200])
    # By their numbers, and where these are missing or repeated, by their order.
    parts = {
        number: [item for item, other in zip(drawn, references, strict=True) if other == number] for number in numbers
    }
    for place, (item, roi) in enumerate(zip(named, numbers, strict=True)):
        name = text(item, "ROIName").replace("\0", "").strip()
        contours, skipped = _contours(parts[roi] if clear else [drawn[place]], name, path)
        meaning = _meaning(item, observed.get(roi) if clear else None)
        if skipped:
            meaning["skipped_contours"] = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
            _log.warning(
                "%s: %s: contours that enclose nothing are skipped: %s", path, name, meaning["skipped_contours"]
            )
        yield _Structure(roi, name, text(item, "ReferencedFrameOfReferenceUID"), contours, meaning)
    if clear:
        for stray in dict.fromkeys(roi for roi in references if roi not in parts):
            items = [item for item, other in zip(drawn, references, strict=True) if other == stray]
            yield _Structure(stray, "", "", _contours(items, f"ROI {stray}", path)[0], {})


def _whole(item: Any, keyword: str, path: Path) -> int | None:
    try:
        value = number(item, keyword, path)
    except DicomError:
        return None
    return int(value) if value is not None and value.is_integer() else None


def _contours(items: list[Any], name: str, path: Path) -> tuple[list[Contour], Counter[str]]:
    """The closed contours, and how many others there are of each kind."""
    contours, skipped, miscounted = [], Counter[str](), 0
    for place, contour in enumerate(
        (contour for item in items for contour in _items(item, "ContourSequence")), start=1
    ):
        kind = text(contour, "ContourGeometricType").strip()
        if kind not in _CLOSED:
            skipped[kind if _CODED.fullmatch(kind) else "without a known type"] += 1
            continue
        points = _points(contour, f"contour {place} of {name}", path)
        miscounted += _whole(contour, "NumberOfContourPoints", path) not in (None, len(points))
        if len(points) < 3:
            skipped[f"{kind} with fewer than 3 points"] += 1
        else:
            contours.append(Contour(points, exclusive=kind == "CLOSEDPLANAR_XOR"))
    if miscounted:
        _log.warning("%s: %s: %d contours have more or fewer points than they name", path, name, miscounted)
    return contours, skipped


def _points(contour: Any, name: str, path: Path) -> Float64[np.ndarray, "n 3"]:
    """The corners of a contour, in RAS millimetres."""
    element = contour.get_item("ContourData") if "ContourData" in contour else None
    value = None if element is None else element.value
    try:
        # As it is written: pydicom makes an object of every number, which takes ten times as long.
        parts = value.replace(b"\0", b" ").split(b"\\") if isinstance(value, bytes) else value
        if parts is None or parts == [b""] or (isinstance(value, bytes) and not value.strip(b" \0")):
            return np.empty((0, 3))
        numbers = np.array(parts, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise DicomError(f"{name}: coordinates are not numbers", where=path, value=str(error)[:100]) from error
    if len(numbers) % 3:
        raise DicomError(f"{name}: coordinates come in threes", where=path, value=f"{len(numbers)} numbers")
    if not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0) > _FURTHEST_MM:
        worst = numbers[~(np.abs(numbers) <= _FURTHEST_MM)][0]
        raise DicomError(f"{name}: a coordinate is not in a patient", where=path, value=f"{worst:.6g} mm")
    return numbers.reshape(-1, 3) * _LPS_TO_RAS


def _meaning(item: Any, observation: Any | None) -> dict[str, str]:
    """What is coded about a structure; labels and descriptions are free text and may name people."""
    meaning = {"algorithm": text(item, "ROIGenerationAlgorithm")}
    if observation is not None:
        meaning["type"] = text(observation, "RTROIInterpretedType")
        for code in _items(observation, "RTROIIdentificationCodeSequence")[:1]:
            value, scheme = text(code, "CodeValue"), text(code, "CodingSchemeDesignator")
            if value and scheme:
                meaning |= {"code": f"{scheme}:{value}", "code_meaning": text(code, "CodeMeaning")}
    for key in ("algorithm", "type"):
        if not _CODED.fullmatch(meaning.get(key, "").strip()):
            meaning.pop(key, None)
    return {key: value.strip() for key, value in meaning.items() if value.strip()}


def _in_one_frame(structures: list[_Structure], frame: str, path: Path) -> list[_Structure]:
    """The structures whose coordinates are those of the image."""
    if len({structure.frame for structure in structures if structure.frame}) < 2:
        return structures
    kept = [structure for structure in structures if structure.frame in ("", frame)]
    if not frame or not kept:
        value = f"{len({structure.frame for structure in structures})} frames of reference"
        raise DicomError(
            "the structures are in several frames of reference, and nothing says which is the image's",
            where=path,
            value=value,
            reason="NO_REFERENCE",
        )
    for structure in structures:
        if structure.frame not in ("", frame):
            _log.warning("%s: %s is left out: it was drawn in another frame of reference", path, structure.name)
    return kept


def _segments(structures: list[_Structure], grid: Geometry, path: Path) -> tuple[Segment, ...]:
    drawings = [drawing(one.contours, grid, path) if one.contours else None for one in structures]
    if not any(drawings):
        value = f"{len(structures)} structures"
        skipped = [one.meaning["skipped_contours"] for one in structures if "skipped_contours" in one.meaning]
        value += f", skipped: {'; '.join(skipped)[:200]}" if skipped else ""
        raise DicomError("no structure has a closed contour", where=path, value=value, reason="NO_CONTOURS")
    pooled = usual_mm(np.concatenate([drawn.gaps_mm for drawn in drawings if drawn]))
    numbers = _numbers(structures)
    names = _names(structures, numbers)
    segments, cut, size = [], dict[str, float](), 0
    for one, drawn, roi, name in zip(structures, drawings, numbers, names, strict=True):
        found = None if drawn is None else filled(drawn, _spacing_mm(drawn, pooled))
        if found is None:
            why = "it has no closed contour" if drawn is None else "it holds the centre of no voxel of the image"
            _log.warning("%s: %s is left out: %s", path, name, why)
            continue
        cut[name] = drawn.beyond_mm if drawn else 0.0
        segments.append(Segment(roi, name, *found, one.meaning))
        size += segments[-1].mask.size
        if size > max(_ALWAYS_BYTES, _MOST_IMAGES * math.prod(grid.shape)):
            value = f"{len(segments)} of {len(structures)} structures fill {size / 1e9:.1f} GB"
            raise DicomError("the masks of these structures do not fit into memory", where=path, value=value)
    if not segments:
        raise _empty([drawn for drawn in drawings if drawn], path)
    furthest = max(cut, key=lambda name: cut[name])
    if cut[furthest] > max(grid.spacing_mm) / 2:
        what = "structures are cut off where they reach out of the image, the furthest is"
        _log.warning("%s: %s %s, by %.1f mm", path, what, furthest, cut[furthest])
    return tuple(segments)


def _spacing_mm(drawn: Drawing, pooled_mm: float | None) -> float:
    """The usual one between a structure's planes; of few planes that of the whole set, or of the image's slices."""
    own = usual_mm(drawn.gaps_mm) if len(drawn.gaps_mm) > 1 else None
    return own or pooled_mm or drawn.step_mm


def _numbers(structures: list[_Structure]) -> list[int]:
    given = [one.number for one in structures if one.number is not None and 0 < one.number <= _LARGEST_LABEL]
    return given if len(set(given)) == len(structures) else list(range(1, len(structures) + 1))


def _names(structures: list[_Structure], numbers: list[int]) -> list[str]:
    names: list[str] = []
    for one, roi in zip(structures, numbers, strict=True):
        base = name = one.name or f"ROI {roi}"
        again = 2
        while name in names:
            name, again = f"{base} ({again})", again + 1
        names.append(name)
    return names


def _empty(drawings: list[Drawing], path: Path) -> DicomError:
    """Why no structure has a voxel."""
    nearest = min(drawings, key=lambda drawn: drawn.away_mm)
    if nearest.away_mm > 0:
        value = f"{nearest.away_mm:.1f} mm beyond it"
        return DicomError("the contours lie outside the image", where=path, value=value, reason="CONTOUR_OUTSIDE")
    span = " x ".join(f"{size:.2f}" for size in nearest.span[1] - nearest.span[0])
    return DicomError(
        "no structure holds the centre of a voxel of the image",
        where=path,
        value=f"{span} voxels",
        reason="NO_CONTOURS",
    )
