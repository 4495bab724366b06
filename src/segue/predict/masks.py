"""Where the mask of a case is written, and in which form: pictures get pictures, volumes get volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from segue.catalogue import Case, Row
from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.dicom import Series
from segue.images import PICTURE_SUFFIXES, TIFF_SUFFIXES, suffix_of
from segue.volume import Volume

MaskForm = Literal["image", "dicom-seg"]
# Of a format in two files, the one that holds both.
_VOLUME_SUFFIXES = {".mha": ".mha", ".mhd": ".mha", ".nrrd": ".nrrd", ".nhdr": ".nrrd"}
_SERIES, _ERROR = "series", "error"


def mask_path(folder: Path, case: Case, dimension: int, form: MaskForm = "image") -> Path:
    """``CASE`` with the suffix of the format that its image has: ``.png`` for a picture (and for a picture in an array,
    ``dimension`` 2), ``.tif`` for TIFF, ``.mha``, ``.nrrd``, else ``.nii.gz``; ``.dcm`` of a DICOM segmentation."""
    if form == "dicom-seg":
        return folder / f"{case.id}.dcm"
    image = case.images[0]
    if isinstance(image, Row):
        suffix = ".png" if dimension == 2 else ".nii.gz"
    else:
        kind = suffix_of(image)
        suffix = ".png" if kind in PICTURE_SUFFIXES else ".tif" if kind in TIFF_SUFFIXES else ".nii.gz"
        suffix = _VOLUME_SUFFIXES.get(kind, suffix)
    return folder / (case.id + suffix)


def as_stored(mask: Volume, image: Volume, path: Path) -> Volume:
    """The mask in the type that is stored: of a 16-bit grey picture 16 bits too, else the smallest that holds it."""
    if path.suffix == ".png" and image.array.dtype == np.uint16:
        return Volume(mask.array.astype(np.uint16), mask.geometry)
    return mask


def from_series(case_id: str, images: tuple[Path, ...], series: Series | Path, absent: tuple[int, ...] = ()) -> Case:
    """A case whose images were made of a DICOM series: the one on whose grid they lie."""
    return Case(case_id, case_id, images, facts={_SERIES: series}, absent=absent)


def that_failed(case_id: str, error: DataError) -> Case:
    """A case that is known to be one and could not be made."""
    return Case(case_id, case_id, (), facts={_ERROR: error})


def error_of(case: Case) -> DataError | None:
    return case.facts.get(_ERROR)


def series_of(case: Case) -> Series | Path:
    """The DICOM series on whose grid a case's images lie.

    Raises:
        DataError: they come from no DICOM.
    """
    found = case.facts.get(_SERIES)
    if found is None:
        raise DataError(
            "a DICOM segmentation is written of DICOM images only",
            where=", ".join(image.name for image in case.images),
            remedy="give the folder of the DICOM series, or leave --to dicom-seg out",
        )
    return found


def write_file(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
