"""Reading and writing images."""

from segue.images.header import NIFTI_SUFFIXES, SUFFIXES, ImageHeader, image_stem, is_image
from segue.images.nifti import write
from segue.images.npz import ArrayHeader, array_headers, read_array
from segue.images.reading import read, read_geometry, read_header, read_labels

__all__ = [
    "NIFTI_SUFFIXES",
    "SUFFIXES",
    "ArrayHeader",
    "ImageHeader",
    "array_headers",
    "image_stem",
    "is_image",
    "read",
    "read_array",
    "read_geometry",
    "read_header",
    "read_labels",
    "write",
]
