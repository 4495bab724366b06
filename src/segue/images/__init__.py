"""Reading and writing images."""

from segue.images.aligning import Aligned, align
from segue.images.header import NIFTI_SUFFIXES, SUFFIXES, ImageHeader, image_stem, is_image
from segue.images.masks import read_masks
from segue.images.npz import ArrayHeader, array_headers, read_array
from segue.images.reading import read, read_geometry, read_header, read_labels
from segue.images.writing import WRITTEN_SUFFIXES, write

__all__ = [
    "NIFTI_SUFFIXES",
    "SUFFIXES",
    "WRITTEN_SUFFIXES",
    "Aligned",
    "ArrayHeader",
    "ImageHeader",
    "align",
    "array_headers",
    "image_stem",
    "is_image",
    "read",
    "read_array",
    "read_geometry",
    "read_header",
    "read_labels",
    "read_masks",
    "write",
]
