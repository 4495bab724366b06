"""Reading and writing images."""

from segue.images.nifti import (
    NIFTI_SUFFIXES,
    ImageHeader,
    image_stem,
    is_image,
    read,
    read_geometry,
    read_header,
    read_labels,
    write,
)
from segue.images.npz import ArrayHeader, array_headers, read_array

__all__ = [
    "NIFTI_SUFFIXES",
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
