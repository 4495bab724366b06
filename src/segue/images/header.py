"""What image files are called, and what their headers say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.volume import Geometry

NIFTI_SUFFIXES = (".nii.gz", ".nii")
METAIMAGE_SUFFIXES = (".mha", ".mhd")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff")
PAIR_SUFFIXES = (".hdr", ".img")  # one NIfTI image in two files
ARRAY_SUFFIXES = (".npz",)
DICOM_SUFFIXES = (".dcm", ".ima")
# What names an image when a folder is listed. The others are read when they are asked for, but in a folder they are
# halves of images, slices of them, or whole datasets.
SUFFIXES = (*NIFTI_SUFFIXES, *METAIMAGE_SUFFIXES, *NRRD_SUFFIXES, *PICTURE_SUFFIXES, *TIFF_SUFFIXES)
READ_SUFFIXES = (*SUFFIXES, *PAIR_SUFFIXES, *ARRAY_SUFFIXES, *DICOM_SUFFIXES)


@dataclass(frozen=True)
class ImageHeader:
    """What a file says before its voxels are read.

    Attributes:
        scaled: values are computed from the stored ones by a slope.
        axes: as they are stored; four may be one channel of a volume.
    """

    geometry: Geometry
    channels: int
    dtype: np.dtype[Any]
    scaled: bool
    axes: int = 3


def suffix_of(path: Path) -> str:
    """The part of the name that tells the format, in lower case; empty where it tells none."""
    name = path.name.lower()
    return next((suffix for suffix in READ_SUFFIXES if name.endswith(suffix)), "")


def is_image(path: Path) -> bool:
    """Whether the name is that of a readable image (AppleDouble files ``._x.nii.gz`` are not)."""
    return suffix_of(path) in SUFFIXES and not path.name.startswith(".")


def image_stem(path: Path) -> str:
    """The file's name without its suffix, ``.nii.gz`` taken as one."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem
