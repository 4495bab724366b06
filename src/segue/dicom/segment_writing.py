"""Writing label maps as DICOM segmentations of the series on which they lie."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import DataError, MachineError, UsageError
from segue.core.files import atomic_path
from segue.dicom.errors import INSTALL, DicomError, load_pydicom
from segue.dicom.files import number, text
from segue.dicom.read import OTHER_READERS, Slices, arrange
from segue.dicom.series import Series, scan
from segue.dicom.terms import CodedTerm, SegmentTerms, terms_of
from segue.volume import Geometry, Volume

_MAKER = "segue"
_VERSION: str = sys.modules["segue"].__version__  # to import it by name would be to import the layers above
_LONGEST_NAME = 64  # characters of a Segment Label, PS3.5 6.2 LO
_SERIES_NUMBER = 1000  # added to that of the image, out of the way of what a scanner counts
# What highdicom copies and a source may lack; empty is allowed for all of them (type 2).
_COPIED = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


@dataclass(frozen=True)
class _Described:
    """A segment to write: its number in the file, its label in the volume, and what it is."""

    number: int
    label: int
    name: str
    terms: SegmentTerms


def write_segments(
    labels: Volume,
    path: Path,
    source: Series | Sequence[Path] | Path,
    *,
    names: Mapping[int, str] | None = None,
    terms: Mapping[int, SegmentTerms] | None = None,
    algorithm: str | None = _MAKER,
) -> None:
    """Write a label map as a DICOM segmentation of the image on which it lies, whole or not at all.

    The file is a BINARY segmentation (PS3.3 A.51). Patient, study and frame of reference are those of the source.
    Segments are numbered 1, 2, 3, ... as the standard demands, in the order of their labels; where that changes a
    label, Segment Description tells it. A label of ``names`` without voxels is described all the same: it was looked
    for and not found. A map without any voxel is a valid result too, with empty frames on one slice.

    Args:
        labels: on the grid of the source, in any orientation of its axes.
        path: the file to write.
        source: the files of one series, or a folder that holds no other series of images, or what
            :func:`segue.dicom.scan` found.
        names: of the labels, at most 64 characters; their numbers otherwise.
        terms: coded terms of the labels; by default they follow from the names (:func:`segue.dicom.terms.terms_of`).
        algorithm: what drew the segments; None for a person.

    Raises:
        DataError: the labels lie on another grid, or there is nothing to write.
        DicomError: the source cannot be read as one volume.
        UsageError: a name that DICOM cannot hold.
        MachineError: highdicom or pydicom is not installed, the disk is full or may not be written.
    """
    highdicom = _load_highdicom()
    slices = arrange(_files_of(source))
    if slices.differ_in:
        value = f"they differ in {slices.differ_in}"
        raise DicomError("the series holds several volumes", where=path, value=value, reason="SEVERAL_VOLUMES")
    pixels = _as_slices(labels, slices.geometry, path)
    described = _described(pixels, names or {}, terms or {}, path)
    numbers = np.zeros(max(one.label for one in described) + 1, np.uint8 if len(described) < 256 else np.uint16)
    for one in described:
        numbers[one.label] = one.number
    images, frames = _source_images(slices)
    pixels = numbers[pixels[frames]]
    further: list[Any] = []
    if not pixels.any() and len(images) > 1:
        images, further, pixels = images[:1], images[1:], pixels[:1]
    first = images[0]
    try:
        # What the scanner wrote is carried on as it is, allowed values or not.
        with load_pydicom().config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.Segmentation(
                source_images=images,
                pixel_array=pixels,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[_description(one, algorithm, highdicom) for one in described],
                series_instance_uid=highdicom.UID(),
                series_number=_SERIES_NUMBER + max(0, int(number(first, "SeriesNumber", path, 0) or 0)),
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=_MAKER,
                manufacturer_model_name=_MAKER,
                software_versions=_VERSION,
                device_serial_number="0",
                content_label="SEGMENTATION",
                series_description=f"Segmentation by {algorithm}"[:64] if algorithm else "Segmentation",
                further_source_images=further,
                omit_empty_frames=bool(pixels.any()),
                specific_character_set="ISO_IR 192",
            )
            with atomic_path(path) as temporary:
                segmentation.save_as(temporary)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        # highdicom asks more of a source than reading it does.
        raise DataError(
            "no segmentation can be made of this series",
            where=slices.files[0].path,
            value=error,
            remedy="mend what is named in the headers of the series, or write the labels as .nii.gz",
        ) from error


def _load_highdicom() -> Any:
    load_pydicom()
    try:
        import highdicom
        import highdicom.seg
    except ImportError as error:
        raise MachineError("writing DICOM-SEG needs highdicom, which is not installed", remedy=INSTALL) from error
    return highdicom


def _files_of(source: Series | Sequence[Path] | Path) -> Series | Sequence[Path] | Path:
    if not isinstance(source, Path) or not source.is_dir():
        return source
    images = [series for series in scan(source) if series.modality not in OTHER_READERS and series.frames]
    if len(images) != 1:
        value = "; ".join(f"{one.called}: {one.frames} images" for one in images) or "no image"
        reason = "SEVERAL_SERIES" if images else "NO_PIXELS"
        raise DicomError("the folder does not hold one series of images", where=source, value=value, reason=reason)
    return images[0]


def _as_slices(labels: Volume, grid: Geometry, path: Path) -> np.ndarray:
    """The labels ``(k, row, column)`` in the order of the series' slices."""
    if len(labels.array) != 1 or labels.array.dtype.kind not in "iub":
        value = f"{len(labels.array)} channels of {labels.array.dtype}"
        raise DataError("a label map has one channel of whole numbers", where=path, value=value)
    turned = labels.oriented(grid.axis_codes)
    difference = turned.geometry.difference(grid)
    if difference is not None:
        raise DataError(
            "the labels do not lie on the grid of the series",
            where=path,
            value=difference,
            remedy="bring them to it first: labels.resampled_to(segue.read(SERIES_FOLDER).geometry)",
        )
    if labels.array.min() < 0:
        raise DataError("a label map's labels begin at 0", where=path, value=int(labels.array.min()))
    array = turned.array[0].astype(np.uint8) if turned.array.dtype == np.bool_ else turned.array[0]
    return array.transpose(2, 1, 0)


def _described(
    pixels: np.ndarray, names: Mapping[int, str], terms: Mapping[int, SegmentTerms], path: Path
) -> list[_Described]:
    found = sorted({*(int(label) for label in np.unique(pixels)), *names} - {0})
    if not found:
        remedy = "give names={1: ...} for what was looked for, so that the file can say that nothing was found"
        raise DataError("the labels are all background, and no name is given", where=path, remedy=remedy)
    if found[0] < 0 or len(found) > 65535:
        raise UsageError("names are those of labels from 1", where=path, value=found[0])
    named = {label: names.get(label, str(label)).strip() for label in found}
    for label, name in named.items():
        if not 1 <= len(name) <= _LONGEST_NAME or "\\" in name or not name.isprintable():
            raise UsageError(
                f"a segment's name has 1 to {_LONGEST_NAME} printable characters and no backslash",
                where=path,
                value=f"label {label}: {name!r}",
                remedy="give a shorter or plainer name",
            )
    return [
        _Described(at, label, name, terms.get(label) or terms_of(name))
        for at, (label, name) in enumerate(named.items(), start=1)
    ]


def _source_images(slices: Slices) -> tuple[list[Any], list[int]]:
    """The headers as highdicom wants them, and which slice each of their frames is."""
    headers = [slices.files[plane.source].header for plane in slices.planes]
    order = list(range(len(slices.planes)))
    if len(slices.files) == 1:  # the frames of one file follow each other as they lie in it
        order.sort(key=lambda k: slices.planes[k].frame)
        headers = headers[:1]
    elif len(slices.files) < len(slices.planes):
        remedy = "write the labels as .nii.gz, or join the files of the series into one"
        value = f"{len(slices.files)} files with {len(slices.planes)} frames"
        where = slices.files[0].path.parent
        raise DataError(
            "no segmentation of several multi-frame files is written", where=where, value=value, remedy=remedy
        )
    _complete(headers, slices.geometry.spacing_mm[2])
    return headers, order


def _complete(headers: list[Any], spacing_mm: float) -> None:
    """Give the headers what highdicom asks of them and some exports lack."""
    frame = text(headers[0], "FrameOfReferenceUID")
    if not frame:
        frame = load_pydicom().uid.generate_uid(entropy_srcs=[text(headers[0], "SeriesInstanceUID")])
    for header in headers:
        # That the slices are one volume was seen by their positions; some writers give each a study and a frame.
        header.FrameOfReferenceUID = frame
        header.StudyInstanceUID = headers[0].get("StudyInstanceUID", "")
        for keyword in _COPIED:
            if keyword not in header:
                setattr(header, keyword, "")
        if not header.get("SliceThickness"):
            header.SliceThickness = round(spacing_mm, 6)


def _description(one: _Described, algorithm: str | None, highdicom: Any) -> Any:
    kind = highdicom.seg.SegmentAlgorithmTypeValues
    identification = None
    if algorithm:
        family = _concept(CodedTerm("123110", "DCM", "Artificial Intelligence"), highdicom)
        identification = highdicom.AlgorithmIdentificationSequence(algorithm, family, _VERSION)
    description = highdicom.seg.SegmentDescription(
        segment_number=one.number,
        segment_label=one.name,
        segmented_property_category=_concept(one.terms.category, highdicom),
        segmented_property_type=_concept(one.terms.type, highdicom),
        algorithm_type=kind.AUTOMATIC if algorithm else kind.MANUAL,
        algorithm_identification=identification,
        anatomic_regions=[_concept(one.terms.region, highdicom)] if one.terms.region else None,
    )
    if one.terms.side:
        side = [_concept(one.terms.side, highdicom)]
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = side
    if one.label != one.number:
        description.SegmentDescription = f"label {one.label}"
    return description


def _concept(term: CodedTerm, highdicom: Any) -> Any:
    return highdicom.sr.CodedConcept(term.value, term.scheme, term.meaning)
