"""Reading and writing images."""

from segue.images.aligning import Aligned, align
from segue.images.forms import Forms, read_forms
from segue.images.header import (
    NIFTI_SUFFIXES,
    PICTURE_SUFFIXES,
    SUFFIXES,
    TIFF_SUFFIXES,
    ImageHeader,
    image_stem,
    is_image,
    suffix_of,
)
from segue.images.labels import as_labels
from segue.images.masks import read_masks
from segue.images.npz import ArrayHeader, array_headers, read_array
from segue.images.placing import place_as_read, place_like
from segue.images.reading import read, read_geometry, read_header, read_labels
from segue.images.rows import digest_of, map_array, read_row
from segue.images.writing import WRITTEN_SUFFIXES, write

__all__ = [
    "NIFTI_SUFFIXES",
    "PICTURE_SUFFIXES",
    "SUFFIXES",
    "TIFF_SUFFIXES",
    "WRITTEN_SUFFIXES",
    "Aligned",
    "ArrayHeader",
    "Forms",
    "ImageHeader",
    "align",
    "array_headers",
    "as_labels",
    "digest_of",
    "image_stem",
    "is_image",
    "map_array",
    "place_as_read",
    "place_like",
    "read",
    "read_array",
    "read_forms",
    "read_geometry",
    "read_header",
    "read_labels",
    "read_masks",
    "read_row",
    "suffix_of",
    "write",
]
