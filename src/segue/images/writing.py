"""One door to every format that is written: by the name of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segue.core.errors import DataError, UsageError
from segue.dicom import Series, write_segments
from segue.images import metaimage, nifti, npz, nrrd, pictures
from segue.images.header import NIFTI_SUFFIXES, suffix_of
from segue.images.labels import label_type
from segue.volume import Volume

WRITTEN_SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".nrrd", ".npz", ".tif", ".tiff", ".png", ".dcm")


def write(
    volume: Volume,
    path: Path | str,
    *,
    scale: float | None = None,
    series: Series | Sequence[Path] | Path | str | None = None,
    names: Mapping[int, str] | None = None,
) -> None:
    """Write a volume, whole or not at all: NIfTI, MetaImage, NRRD, NPZ, TIFF (1 or 3 channels), PNG (one slice), and
    labels as DICOM-SEG.

    What is written reads back with the same voxels on the same grid; a format that cannot hold them refuses. Labels
    are stored in the smallest unsigned type that holds them, float64 and float16 as float32, truth values as uint8.

    Args:
        scale: store intensities as int16 in steps of that size (NIfTI's ``scl_slope``).
        series: of a DICOM-SEG, the series on whose grid the labels lie: its folder, its files, or one of them where
            it has only one.
        names: of the labels of a DICOM-SEG. See :func:`segue.dicom.write_segments` for coded terms.

    Raises:
        DataError: the format cannot hold this volume, or the labels lie on another grid than the series.
        UsageError: a DICOM-SEG of intensities, or without a series.
        ValueError: ``scale`` too small for the values or not for NIfTI, or a name of no format that is written.
        MachineError: the disk is full or may not be written, or an extra is missing.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if suffix not in WRITTEN_SUFFIXES:
        raise ValueError(f"{path.name}: written are {', '.join(WRITTEN_SUFFIXES)}")
    if suffix == ".dcm":
        _write_segments(volume, path, series, names)
        return
    if series is not None or names is not None:
        raise ValueError(f"{path.name}: only DICOM-SEG (.dcm) belongs to a series and holds names")
    if suffix in NIFTI_SUFFIXES:
        nifti.write(volume, path, scale=scale)
        return
    if scale is not None:
        raise ValueError(f"{path.name}: only NIfTI stores values in steps")
    array = volume.array
    if array.dtype.kind not in "iufb":
        remedy = "write its magnitude, or its parts"
        raise DataError("values that are not numbers of one part", where=path, value=array.dtype, remedy=remedy)
    if volume.kind == "labels":
        array = array.astype(label_type(array), copy=False)
    elif array.dtype in (np.float64, np.float16):
        array = array.astype(np.float32)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8)
    volume = replace(volume, array=array)
    if suffix in (".mha", ".nrrd") and volume.geometry.is_sheared:
        raise DataError(
            "the axes are not at right angles, as this format needs",
            where=path,
            value=f"{volume.geometry.shear_degrees:.2f} degrees",
            remedy="write NIfTI (.nii.gz), or resample the volume to a straight grid first",
        )
    if suffix == ".mha":
        metaimage.write(volume, path)
    elif suffix == ".nrrd":
        nrrd.write(volume, path)
    elif suffix == ".npz":
        npz.write_volume(volume, path)
    else:
        pictures.write(volume, path)


def _write_segments(
    volume: Volume, path: Path, series: Series | Sequence[Path] | Path | str | None, names: Mapping[int, str] | None
) -> None:
    if volume.kind != "labels":
        remedy = 'write intensities as .nii.gz; for labels say so: Volume(array, geometry, "labels")'
        raise UsageError("only labels are written as DICOM", where=path, value=volume.kind, remedy=remedy)
    if series is None:
        remedy = "give series=FOLDER of the image, or write the labels as .nii.gz"
        raise UsageError("a DICOM segmentation belongs to the series that was segmented", where=path, remedy=remedy)
    write_segments(volume, path, Path(series) if isinstance(series, str) else series, names=names)
