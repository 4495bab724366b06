"""Reading DICOM segmentations: PS3.3 C.8.20, bit-packed, fractional, and as label maps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import SegueError
from segue.dicom.errors import DicomError, load_pydicom
from segue.dicom.files import DicomFile, number, read_dataset, read_headers, text
from segue.dicom.masks import MaskSet, Segment, cut
from segue.dicom.planes import planes_of
from segue.dicom.segment_frames import stored_frames
from segue.dicom.segment_grid import SegmentGrid, grid_of
from segue.volume import Geometry

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_BACKGROUND = ("125040", "DCM")
_MEANING = {
    "category": "SegmentedPropertyCategoryCodeSequence",
    "type": "SegmentedPropertyTypeCodeSequence",
    "region": "AnatomicRegionSequence",
}
_MODIFIERS = {
    "side": ("type", "SegmentedPropertyTypeModifierCodeSequence"),
    "region_side": ("region", "AnatomicRegionModifierSequence"),
}
# A damaged header must not ask for all the memory: the masks of a hundred organs of a whole body are below.
_MOST_BYTES = 8_000_000_000


@dataclass(frozen=True, eq=False)
class _Piece:
    """What a frame holds of a segment: the pixels ``(row, column)`` of the box that holds them."""

    frame: int
    row: int
    column: int
    pixels: np.ndarray


def read_segments(path: Path, reference: Geometry | None = None) -> MaskSet:
    """Read a DICOM segmentation (Segmentation Storage or Label Map Segmentation Storage).

    Numbers are the file's Segment Numbers. Of a fractional segment, voxels count that have at least half of Maximum
    Fractional Value (0062,000E); ``meaning["threshold"]`` says so. In a label map the background, the padding
    value and number 0 are no segments; a number 0 that stands for something gets the next free number.
    Segments without frames are there, empty.

    Args:
        path: the file.
        reference: the grid to put them on, best that of the image on which they were drawn: where frames lie on its
            slices every voxel is kept as it is, else see :meth:`MaskSet.on`. By default the smallest regular grid
            that holds all frames; slices without a frame are empty.

    Raises:
        DicomError: ``NOT_A_SEGMENTATION``, ``WHOLE_SLIDE``, ``NO_POSITION``, ``NO_SPACING``, ``UNEVEN_GAPS``,
            ``MIXED_ORIENTATION``, ``SHIFTED_SLICES``, ``DUPLICATE_POSITION``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    load_pydicom()
    try:
        return _read(Path(path), reference)
    except SegueError:
        raise
    except Exception as error:
        # Elements are parsed when they are asked for, with whatever pydicom raises on a damaged one.
        raise DicomError("the segmentation cannot be read", where=path, value=error) from error


def segment_reference(path: Path) -> str:
    """Series Instance UID (0020,000E) of the image on which a DICOM-SEG was drawn; empty where it does not say.

    Of several, the one of which it names most images.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    return _series_of(read_dataset(Path(path), tags=["ReferencedSeriesSequence"]))


def _read(path: Path, reference: Geometry | None) -> MaskSet:
    _, found = next(iter(read_headers([path])))
    if found is None:
        raise DicomError("this is not a DICOM file", where=path, value=f"{path.stat().st_size} bytes")
    if isinstance(found, DicomError):
        raise found
    header = found.header
    _require_segmentation(header, path)
    named = _named(header, path)
    planes = planes_of(header, 0, path, marked=False)
    pieces = _pieces(found, len(planes), set(named))
    grid = grid_of(planes, header, path, reference)
    free = max(named, default=0) + 1
    segments = []
    for key in sorted(named, key=lambda key: key or free):
        name, meaning = named[key]
        start, mask = _assembled(pieces.get(key, []), grid, path, name)
        segments.append(cut(Segment(key or free, name, start, mask, meaning), grid.geometry.shape))
        pieces.pop(key, None)
    result = MaskSet(grid.geometry, tuple(segments), "SEG", _series_of(header))
    return result if reference is None else result.on(reference)


def _require_segmentation(header: Any, path: Path) -> None:
    kind = text(header, "SOPClassUID")
    if kind not in (_SEGMENTATION, _LABEL_MAP) and not (kind == "" and "SegmentSequence" in header):
        value = text(header, "Modality") or kind
        raise DicomError("this is not a segmentation", where=path, value=value, reason="NOT_A_SEGMENTATION")
    organisation = text(header, "DimensionOrganizationType")
    groups = [header.get(name) for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")]
    on_slide = any("PlanePositionSlideSequence" in group[0] for group in groups if group)
    if organisation.startswith("TILED") or on_slide or "ImageOrientationSlide" in header:
        value = f"{text(header, 'NumberOfFrames')} frames {organisation}".strip()
        raise DicomError("the segmentation of a whole-slide image", where=path, value=value, reason="WHOLE_SLIDE")
    if "PixelData" not in header and not header.get("Rows"):
        raise DicomError("the segmentation holds no pixels", where=path, reason="NO_PIXELS")


def _named(header: Any, path: Path) -> dict[int, tuple[str, dict[str, str]]]:
    """Names and meanings by Segment Number, without the background of a label map."""
    label_map = _is_label_map(header)
    padding = number(header, "PixelPaddingValue", path) if label_map else None
    most = number(header, "MaximumFractionalValue", path, 255) or 255
    named: dict[int, tuple[str, dict[str, str]]] = {}
    for item in header.get("SegmentSequence") or []:
        key = int(number(item, "SegmentNumber", path, -1) or 0)
        if key < (0 if label_map else 1) or key in named:
            raise DicomError("segments are not numbered", where=path, value=f"segment number {key}")
        meaning = _meaning(item)
        code = _code(item, _MEANING["type"])
        if label_map and (key == padding or (key == 0 and code[:2] in (_BACKGROUND, ("", "")))):
            continue
        if text(header, "SegmentationType") == "FRACTIONAL":
            meaning["threshold"] = (
                f"{text(header, 'SegmentationFractionalType').lower()} of at least {most / 2:g} of {most:g}"
            )
        named[key] = (text(item, "SegmentLabel").strip() or code[2] or str(key), meaning)
    if not named and not label_map:
        raise DicomError("the segmentation does not say what its segments are", where=path, value="no segment")
    return named


def _assembled(
    pieces: list[_Piece], grid: SegmentGrid, path: Path, name: str
) -> tuple[tuple[int, int, int], np.ndarray]:
    """The first voxel and the mask ``(i, j, k)`` of a segment's box."""
    if not pieces:
        return (0, 0, 0), np.zeros((0, 0, 0), np.bool_)
    first = np.array([grid.first[piece.frame] + (piece.column, piece.row, 0) for piece in pieces])
    low = first.min(axis=0)
    high = (first + [(piece.pixels.shape[1], piece.pixels.shape[0], 1) for piece in pieces]).max(axis=0)
    if np.prod((high - low).astype(float)) > _MOST_BYTES:
        value = f"a box of {'x'.join(map(str, high - low))} voxels"
        raise DicomError("a segment is too large to be read", where=path, value=value)
    mask = np.zeros(high - low, np.bool_)
    met: dict[tuple[int, int, int], _Piece] = {}
    for piece, at in zip(pieces, first, strict=True):
        i, j, k = (int(n) for n in at - low)
        place = mask[i : i + piece.pixels.shape[1], j : j + piece.pixels.shape[0], k]
        place |= piece.pixels.T
        frame_at = tuple(int(n) for n in grid.first[piece.frame])
        other = met.setdefault((frame_at[0], frame_at[1], frame_at[2]), piece)
        if other is not piece and not _same(other, piece):
            raise DicomError(
                "several frames of one segment lie at the same position",
                where=path,
                value=f"segment {name}, frames {other.frame + 1} and {piece.frame + 1}",
                remedy="save the segmentation of each time point as a file of its own",
                reason="DUPLICATE_POSITION",
            )
    return (int(low[0]), int(low[1]), int(low[2])), mask


def _same(one: _Piece, other: _Piece) -> bool:
    return (one.row, one.column) == (other.row, other.column) and np.array_equal(one.pixels, other.pixels)


def _is_label_map(header: Any) -> bool:
    return text(header, "SOPClassUID") == _LABEL_MAP or text(header, "SegmentationType") == "LABELMAP"


def _meaning(item: Any) -> dict[str, str]:
    codes = {key: item.get(sequence) for key, sequence in _MEANING.items()}
    found = {key: _code(item, sequence) for key, sequence in _MEANING.items()}
    for key, (of, sequence) in _MODIFIERS.items():
        if codes[of]:
            found[key] = _code(codes[of][0], sequence)
    meaning = {key: f'({value}, {scheme}, "{words}")' for key, (value, scheme, words) in found.items() if value}
    if algorithm := text(item, "SegmentAlgorithmType"):
        meaning["algorithm_type"] = algorithm
    return meaning


def _code(item: Any, sequence: str) -> tuple[str, str, str]:
    """Value, scheme and meaning of a coded term (PS3.3 8.8)."""
    terms = item.get(sequence)
    if not terms:
        return "", "", ""
    value = next(filter(None, (text(terms[0], tag) for tag in ("CodeValue", "LongCodeValue", "URNCodeValue"))), "")
    return value, text(terms[0], "CodingSchemeDesignator"), text(terms[0], "CodeMeaning")


def _series_of(header: Any) -> str:
    try:
        named = [
            (len(item.get("ReferencedInstanceSequence") or []), text(item, "SeriesInstanceUID"))
            for item in header.get("ReferencedSeriesSequence") or []
        ]
    except Exception:
        # A damaged reference is as good as none.
        return ""
    return max(named, key=lambda pair: pair[0])[1] if named else ""


def _pieces(file: DicomFile, count: int, known: set[int]) -> dict[int, list[_Piece]]:
    """What each segment has of each frame."""
    header, path = file.header, file.path
    pieces: dict[int, list[_Piece]] = defaultdict(list)
    if _is_label_map(header):
        for frame, image in enumerate(stored_frames(file, count)):
            for key, box in enumerate(_boxes(image)):
                if box is not None and key in known:
                    pieces[key].append(_Piece(frame, box[0].start, box[1].start, image[box] == key))
                elif box is not None and key and key != number(header, "PixelPaddingValue", path):
                    raise DicomError("a pixel of a segment that is not described", where=path, value=f"segment {key}")
        return pieces
    half = 0.0
    if text(header, "SegmentationType") == "FRACTIONAL":
        half = (number(header, "MaximumFractionalValue", path, 255) or 255) / 2
    owners = _owners(header, count, known, path)
    for frame, image in enumerate(stored_frames(file, count)):
        mask = image >= half if half else image != 0
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            pieces[owners[frame]].append(_Piece(frame, int(rows[0]), int(columns[0]), box.copy()))
    return pieces


def _boxes(image: np.ndarray) -> list[Any]:
    """The box of each value from 0 on; None where the image has no such pixel."""
    from scipy import ndimage  # takes 0.1 s to import; bit-packed segmentations need none

    return list(ndimage.find_objects(image.astype(np.int32) + 1))


def _owners(header: Any, count: int, known: set[int], path: Path) -> list[int]:
    """The segment of each frame: Referenced Segment Number (0062,000B), of the frame or shared by all."""
    shared = header.get("SharedFunctionalGroupsSequence")
    frames = list(header.get("PerFrameFunctionalGroupsSequence") or [])[:count] or [None]
    owners = []
    for frame in frames:
        for group in (frame, shared[0] if shared else None):
            identification = group.get("SegmentIdentificationSequence") if group is not None else None
            if identification:
                owners.append(int(number(identification[0], "ReferencedSegmentNumber", path, 0) or 0))
                break
        else:
            owners.append(min(known) if len(known) == 1 else 0)
        if owners[-1] not in known:
            raise DicomError("a frame of a segment that is not described", where=path, value=f"segment {owners[-1]}")
    return owners
