"""A series as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.dicom.errors import DicomError
from segue.dicom.files import decode, number, read_dataset, require_grey_pixels, text
from segue.dicom.planes import Plane, planes_of, stack
from segue.dicom.series import Series
from segue.volume import Volume

_OTHER_READERS = {"SEG", "SM", "RTSTRUCT", "RTPLAN", "SR", "ANN", "KO", "PR"}


@dataclass(frozen=True, eq=False)
class DicomVolume:
    """A series that was read.

    Attributes:
        volume: ``(1, i, j, k)``: column, row, slice, on a grid in RAS millimetres. int16 where the real values
            are whole numbers that fit, else float32. Unit HU for CT, else arbitrary.
        headers: pydicom data sets without pixels, one per slice in the order of ``k``; of a file with several
            frames the one that they share.
    """

    volume: Volume
    headers: list[Any]


def read_series(series: Series | Sequence[Path] | Path) -> DicomVolume:
    """Read the files of one series, in any order, as a volume.

    Slices are sorted by their position along the normal (PS3.3 C.7.6.2.1.1), never by name or number. Real
    values follow PS3.3 C.11.1: stored value times Rescale Slope plus Rescale Intercept, of each slice its own.
    MONOCHROME1 only tells a display to show low values bright (PS3.3 C.7.6.3.1.2): values stay as they are.
    A file that is there twice counts once.

    Args:
        series: what :func:`segue.dicom.scan` found, or files, or one file.

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
    datasets = [read_dataset(path) for path in paths]
    where = paths[0].parent if len(paths) > 1 else paths[0]
    for dataset, path in zip(datasets, paths, strict=True):
        _require_image(dataset, path)
    paths, datasets = _without_copies(paths, datasets)
    uids = {text(dataset, "SeriesInstanceUID") for dataset in datasets}
    if len(uids) > 1:
        raise DicomError("files of several series", where=where, value=f"{len(uids)} series", reason="SEVERAL_SERIES")
    rows, columns = _size(datasets, paths, where)
    planes = [
        plane
        for source, (dataset, path) in enumerate(zip(datasets, paths, strict=True))
        for plane in planes_of(dataset, source, path)
    ]
    order, geometry = stack(planes, rows, columns, where)
    planes = [planes[index] for index in order]
    headers = [datasets[plane.source] for plane in planes]
    unit = "HU" if text(datasets[0], "Modality") == "CT" else "arbitrary"
    stored = [decode(dataset, path) for dataset, path in zip(datasets, paths, strict=True)]
    slices = [stored[plane.source][plane.frame] for plane in planes]
    array = _rescaled(slices, planes)
    return DicomVolume(Volume(array.transpose(2, 1, 0)[None], geometry, unit=unit), headers)


def _require_image(dataset: Any, path: Path) -> None:
    modality = text(dataset, "Modality")
    if modality in _OTHER_READERS:
        raise DicomError("this is not a slice of a patient", where=path, value=modality, reason="NOT_AN_IMAGE")
    require_grey_pixels(dataset, path)
    kinds = text(dataset, "ImageType").split("\\")
    if "LOCALIZER" in kinds:
        raise DicomError("a localizer", where=path, value="\\".join(kinds), reason="LOCALIZER")
    if "MOSAIC" in kinds:
        raise DicomError("a mosaic of slices", where=path, value="\\".join(kinds), reason="MOSAIC")


def _without_copies(paths: list[Path], datasets: list[Any]) -> tuple[list[Path], list[Any]]:
    """Without files that are there twice: the same SOP Instance UID (0008,0018) and the same pixels."""
    kept: dict[tuple[str, int], int] = {}
    chosen: list[int] = []
    for index, dataset in enumerate(datasets):
        uid = text(dataset, "SOPInstanceUID")
        key = (uid, hash(dataset.get("PixelData")) if uid else index)
        if key not in kept:
            kept[key] = index
            chosen.append(index)
    return [paths[index] for index in chosen], [datasets[index] for index in chosen]


def _size(datasets: list[Any], paths: list[Path], where: Path) -> tuple[int, int]:
    sizes = set()
    for dataset, path in zip(datasets, paths, strict=True):
        rows, columns = number(dataset, "Rows", path), number(dataset, "Columns", path)
        if not rows or not columns:
            raise DicomError("the image does not say how many pixels it has", where=path)
        sizes.add((int(rows), int(columns)))
    if len(sizes) > 1:
        value = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
        raise DicomError("the slices differ in size", where=where, value=value, reason="MIXED_SIZE")
    return sizes.pop()


def _rescaled(slices: list[np.ndarray], planes: list[Plane]) -> np.ndarray:
    """Real values ``(k, rows, columns)``: int16 where all are whole numbers that fit, else float32."""
    limits = np.iinfo(np.int16)
    dtype: type[np.int16] | type[np.float32] = np.int16
    for image, plane in zip(slices, planes, strict=True):
        ends = np.array([image.min(), image.max()], dtype=np.float64) * plane.slope + plane.intercept
        whole = image.dtype.kind in "iu" and plane.slope.is_integer() and plane.intercept.is_integer()
        if not whole or ends.min() < limits.min or ends.max() > limits.max:
            dtype = np.float32
            break
    array = np.empty((len(slices), *slices[0].shape), dtype)
    for target, image, plane in zip(array, slices, planes, strict=True):
        if plane.slope == 1.0 and plane.intercept == 0.0:
            target[...] = image
        elif dtype is np.int16:
            target[...] = image.astype(np.int64) * int(plane.slope) + int(plane.intercept)
        else:
            target[...] = image * plane.slope + plane.intercept
    return array
