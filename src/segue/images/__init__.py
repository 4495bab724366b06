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

__all__ = [
    "NIFTI_SUFFIXES",
    "ImageHeader",
    "image_stem",
    "is_image",
    "read",
    "read_geometry",
    "read_header",
    "read_labels",
    "write",
]
