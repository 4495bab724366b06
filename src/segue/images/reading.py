"""One door to every format: by the name of the file."""

from __future__ import annotations

from pathlib import Path

from segue.core.errors import DataError
from segue.dicom import looks_like_dicom, read_series, scan
from segue.images import metaimage, nifti, npz, nrrd, pictures
from segue.images.header import (
    ARRAY_SUFFIXES,
    DICOM_SUFFIXES,
    METAIMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    NRRD_SUFFIXES,
    PAIR_SUFFIXES,
    READ_SUFFIXES,
    ImageHeader,
    suffix_of,
)
from segue.images.labels import as_labels
from segue.volume import Geometry, Kind, Volume


def read_header(path: Path | str) -> ImageHeader:
    """Geometry, channels and type of a file, without reading its voxels.

    Raises:
        DataError: the file is missing, of a format that is not read, or its header makes no sense.
    """
    path = Path(path)
    if path.is_dir():
        return _header_of(_read_folder(path))
    suffix = _format(path)
    if suffix in NIFTI_SUFFIXES or suffix in PAIR_SUFFIXES:
        return nifti.read_header(path)
    if suffix in METAIMAGE_SUFFIXES:
        return metaimage.read_header(path)
    if suffix in NRRD_SUFFIXES:
        return nrrd.read_header(path)
    if suffix in DICOM_SUFFIXES:
        return _header_of(read_series(path).volume)
    return _header_of(npz.read_volume(path)) if suffix in ARRAY_SUFFIXES else pictures.read_header(path)


def read_geometry(path: Path | str) -> Geometry:
    """The grid of a file, from its header alone."""
    return read_header(path).geometry


def read(path: Path | str, *, kind: Kind = "intensity", unit: str = "arbitrary") -> Volume:
    """Read an image as ``(c, i, j, k)`` in its own orientation: NIfTI, MetaImage, NRRD, PNG, JPEG, BMP, TIFF, the one
    array of an ``.npz``, a DICOM file (with or without suffix), or the folder of one DICOM series.

    Values keep their stored type unless the header scales them (then float32). ``kind="labels"`` gives
    unsigned integers with one channel.

    Raises:
        DataError: missing, cut short, not of its format, complex, or (labels) in colour, with fractions or negatives.
        MachineError: the format needs an extra that is not installed.
    """
    path = Path(path)
    if path.is_dir() and kind == "intensity":
        return _read_folder(path)
    suffix = _format(path)
    if suffix in DICOM_SUFFIXES:
        volume = read_series(path).volume
        if kind == "intensity":
            return volume
        return Volume(as_labels(volume.array, path), volume.geometry, kind, "labels")
    if suffix in NIFTI_SUFFIXES or suffix in PAIR_SUFFIXES:
        array, geometry = nifti.read_voxels(path)
    elif suffix in METAIMAGE_SUFFIXES:
        array, geometry = metaimage.read_voxels(path)
    elif suffix in NRRD_SUFFIXES:
        array, geometry = nrrd.read_voxels(path)
    elif suffix in ARRAY_SUFFIXES:
        stored = npz.read_volume(path)
        array, geometry = stored.array, stored.geometry
    else:
        array, geometry = pictures.read_pixels(path, labels=kind == "labels")
    if kind == "labels":
        return Volume(as_labels(array, path), geometry, kind, "labels")
    return Volume(array, geometry, kind, unit)


def read_labels(path: Path | str) -> Volume:
    """Read a mask: unsigned integers, one channel."""
    return read(path, kind="labels")


def _read_folder(folder: Path) -> Volume:
    found = scan(folder)
    if len(found) != 1:
        names = ", ".join(series.called for series in found[:4])
        raise DataError(
            "a folder is read as an image if it holds one DICOM series",
            where=folder,
            value=f"{len(found)} series: {names}" if found else "no DICOM file",
            remedy="give the folder of one of them" if found else "give an image file",
        )
    return read_series(found[0]).volume


def _header_of(volume: Volume) -> ImageHeader:
    return ImageHeader(volume.geometry, len(volume.array), volume.array.dtype, False)


def _format(path: Path) -> str:
    """The suffix that tells the format; a DICOM file needs none."""
    if not path.exists():
        raise DataError("no such image", where=path, remedy="check the path")
    if path.is_dir():
        raise DataError("this is a folder, where a file is read", where=path, remedy="give one of the files in it")
    suffix = suffix_of(path)
    if suffix:
        return suffix
    if looks_like_dicom(path):
        return DICOM_SUFFIXES[0]
    raise DataError(
        "this format is not read",
        where=path,
        value=path.suffix or "no suffix",
        remedy=f"convert the image to NIfTI (.nii.gz); read are DICOM, {', '.join(READ_SUFFIXES)}",
    )
