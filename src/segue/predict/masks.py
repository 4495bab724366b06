"""Where the mask of a case is written, and in which form: pictures get pictures, volumes get volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.catalogue import Case, Row
from segue.images import PICTURE_SUFFIXES, TIFF_SUFFIXES, suffix_of
from segue.volume import Volume


def mask_path(folder: Path, case: Case, dimension: int) -> Path:
    """``CASE.png`` for a picture (and for a picture in an array, ``dimension`` 2), ``CASE.tif`` for TIFF, else
    ``CASE.nii.gz``."""
    image = case.images[0]
    if isinstance(image, Row):
        suffix = ".png" if dimension == 2 else ".nii.gz"
    else:
        kind = suffix_of(image)
        suffix = ".png" if kind in PICTURE_SUFFIXES else ".tif" if kind in TIFF_SUFFIXES else ".nii.gz"
    return folder / (case.id + suffix)


def as_stored(mask: Volume, image: Volume, path: Path) -> Volume:
    """The mask in the type that is stored: of a 16-bit grey picture 16 bits too, else the smallest that holds it."""
    if path.suffix == ".png" and image.array.dtype == np.uint16:
        return Volume(mask.array.astype(np.uint16), mask.geometry)
    return mask
