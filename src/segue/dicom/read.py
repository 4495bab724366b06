"""A series as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.dicom.errors import DicomError
from segue.dicom.files import DicomFile, number, read_headers, require_grey_pixels, text
from segue.dicom.planes import Plane, is_radiograph, planes_of, stack
from segue.dicom.series import Series
from segue.volume import Geometry, Volume

_THREADS = 2  # they copy and compute, and a decoder lets only one run at a time
OTHER_READERS = {"SEG", "SM", "RTSTRUCT", "RTPLAN", "SR", "ANN", "KO", "PR"}


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """A series that was read.

    Attributes:
        volume: ``(c, i, j, k)``: column, row, slice, on a grid in RAS millimetres; several volumes of one series
            (echoes, time points) are its channels. int16 where the real values are whole numbers that fit, else
            float32. Unit HU for CT, else arbitrary.
        headers: pydicom data sets without pixels, one per slice in the order of ``k``, volume after volume; of a file
            with several frames the one that they share.
        differ_in: the tag that tells several volumes apart; empty where there is one.
        values: of each volume, the value of that tag; empty where every slice has one of its own.
    """

    volume: Volume
    headers: list[Any]
    differ_in: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices of a series in their order, before their pixels are read.

    Attributes:
        files: each with its header; a plane's ``source`` is its place here.
        planes: in the order of ``k``, volume after volume.
        geometry: the grid ``(column, row, slice)`` in RAS millimetres.
        differ_in, values: as of a :class:`DicomVolume`.
    """

    files: list[DicomFile]
    planes: list[Plane]
    geometry: Geometry
    differ_in: str = ""
    values: tuple[str, ...] = ()


def read_series(series: Series | Sequence[Path] | Path) -> DicomVolume:
    """Read the files of one series, in any order, as a volume.

    Slices are sorted by their position along the normal (PS3.3 C.7.6.2.1.1), never by name or number. Real
    values follow PS3.3 C.11.1: stored value times Rescale Slope plus Rescale Intercept, of each slice its own.
    MONOCHROME1 only tells a display to show low values bright (PS3.3 C.7.6.3.1.2): values stay as they are.
    A file that is there twice counts once. A radiograph is one slice that lies in space as a picture does. Several
    volumes in one series (echoes, time points, b-values) become channels where every one of them has every slice and
    a tag tells them apart (:mod:`segue.dicom.volumes`).

    Args:
        series: what :func:`segue.dicom.scan` found, or files, or one file.

    Raises:
        DicomError: with a ``reason`` out of :data:`segue.dicom.REMEDIES`.
        MachineError: pydicom is not installed.
    """
    slices = arrange(series)
    headers = [slices.files[plane.source].header for plane in slices.planes]
    unit = "HU" if text(slices.files[0].header, "Modality") == "CT" else "arbitrary"
    columns, rows, depth = slices.geometry.shape
    array = _filled(slices.files, slices.planes, rows, columns).reshape(-1, depth, rows, columns)
    volume = Volume(array.transpose(0, 3, 2, 1), slices.geometry, unit=unit)
    return DicomVolume(volume, headers, slices.differ_in, slices.values)


def arrange(series: Series | Sequence[Path] | Path) -> Slices:
    """Where the slices of a series lie, from headers alone; refused for the same reasons as by :func:`read_series`.

    Raises:
        DicomError: with a ``reason`` out of :data:`segue.dicom.REMEDIES`.
        MachineError: pydicom is not installed.
    """
    if isinstance(series, Path):
        paths = [series]
    else:
        paths = [Path(path) for path in (series.files if isinstance(series, Series) else series)]
    if not paths:
        raise DicomError("no files", reason="NO_FILES")
    found = [_readable(path, file) for path, file in read_headers(paths)]
    where = paths[0].parent if len(paths) > 1 else paths[0]
    for file in found:
        _require_image(file)
    found = _without_copies(found)
    uids = {text(file.header, "SeriesInstanceUID") for file in found}
    if len(uids) > 1:
        raise DicomError("files of several series", where=where, value=f"{len(uids)} series", reason="SEVERAL_SERIES")
    if len(found) > 1 and any(is_radiograph(file.header) for file in found):
        value = f"{len(found)} files"
        remedy = "give one of the files"
        raise DicomError(
            "radiographs do not stack to a volume", where=where, value=value, remedy=remedy, reason="NO_POSITION"
        )
    rows, columns = _size(found, where)
    planes = [plane for source, file in enumerate(found) for plane in planes_of(file.header, source, file.path)]
    volumes, geometry = stack(planes, rows, columns, where)
    ordered = [planes[index] for one in volumes.planes for index in one]
    return Slices(found, ordered, geometry, volumes.differ_in, volumes.values)


def _readable(path: Path, file: DicomFile | DicomError | None) -> DicomFile:
    if file is None:
        raise DicomError("this is not a DICOM file", where=path, value=f"{path.stat().st_size} bytes")
    if isinstance(file, DicomError):
        raise file
    return file


def _require_image(file: DicomFile) -> None:
    modality = text(file.header, "Modality")
    if modality in OTHER_READERS:
        raise DicomError("this is not a slice of a patient", where=file.path, value=modality, reason="NOT_AN_IMAGE")
    require_grey_pixels(file.header, file.path, file.keyword)
    kinds = text(file.header, "ImageType").split("\\")
    if "LOCALIZER" in kinds:
        raise DicomError("a localizer", where=file.path, value="\\".join(kinds), reason="LOCALIZER")
    if "MOSAIC" in kinds:
        raise DicomError("a mosaic of slices", where=file.path, value="\\".join(kinds), reason="MOSAIC")


def _without_copies(files: list[DicomFile]) -> list[DicomFile]:
    """Without files that are there twice: the same SOP Instance UID (0008,0018) and the same pixels."""
    same: dict[str, list[DicomFile]] = {}
    for index, file in enumerate(files):
        same.setdefault(text(file.header, "SOPInstanceUID") or f"#{index}", []).append(file)
    kept: list[DicomFile] = []
    for group in same.values():
        if len(group) > 1:  # only then is it worth reading their pixels
            group = list({file.content(): file for file in reversed(group)}.values())[::-1]
        kept += group
    return kept


def _size(files: list[DicomFile], where: Path) -> tuple[int, int]:
    sizes = set()
    for file in files:
        rows, columns = number(file.header, "Rows", file.path), number(file.header, "Columns", file.path)
        if not rows or not columns:
            raise DicomError("the image does not say how many pixels it has", where=file.path)
        sizes.add((int(rows), int(columns)))
    if len(sizes) > 1:
        value = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
        raise DicomError("the slices differ in size", where=where, value=value, reason="MIXED_SIZE")
    return sizes.pop()


def _filled(files: list[DicomFile], planes: list[Plane], rows: int, columns: int) -> np.ndarray:
    """Real values ``(k, rows, columns)``: int16 where all are whole numbers that fit, else float32."""
    places: list[dict[int, int]] = [{} for _ in files]
    for k, plane in enumerate(planes):
        places[plane.source][plane.frame] = k
    whole = all(plane.slope.is_integer() and plane.intercept.is_integer() for plane in planes)
    sources: list[int] = list(range(len(files)))
    # The pages of an empty array cost no memory before they are written to.
    array = np.empty((len(planes), rows, columns), np.int16 if whole else np.float32)
    with ThreadPoolExecutor(_THREADS) as pool:
        if whole:
            fits = list(pool.map(lambda source: _fill(array, files[source], places[source], planes), sources))
            if all(fits):
                return array
            array = array.astype(np.float32)
            sources = [source for source, fit in zip(sources, fits, strict=True) if not fit]
        list(pool.map(lambda source: _fill(array, files[source], places[source], planes), sources))
    return array


def _fill(array: np.ndarray, file: DicomFile, places: dict[int, int], planes: list[Plane]) -> bool:
    """Put the real values of a file's images into their places; False where int16 cannot hold them."""
    limits = np.iinfo(np.int16)
    for frame, image in enumerate(file.images()):
        if frame not in places:
            continue
        target, plane = array[places[frame]], planes[places[frame]]
        if array.dtype == np.int16:
            ends = np.array([image.min(), image.max()], dtype=np.float64) * plane.slope + plane.intercept
            if image.dtype.kind not in "iu" or ends.min() < limits.min or ends.max() > limits.max:
                return False
            if limits.min <= plane.intercept <= limits.max and plane.slope == 1.0 and image.dtype.itemsize <= 2:
                # Arithmetic of 16 bits wraps; a result that fits is right whatever was lost on the way.
                np.add(image.astype(np.int16, copy=False), np.int16(plane.intercept), out=target)
            else:
                target[...] = image.astype(np.int64) * int(plane.slope) + int(plane.intercept)
        elif plane.slope == 1.0 and plane.intercept == 0.0:
            target[...] = image
        else:
            target[...] = image * plane.slope + plane.intercept
    return True
