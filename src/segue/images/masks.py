"""Named masks out of any file that holds some: DICOM-SEG, RTSTRUCT, a label map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segue.core.errors import UsageError
from segue.dicom import MaskSet, Segment, looks_like_dicom, modality_of, read_segments, read_structures
from segue.images.reading import read, read_geometry, read_labels
from segue.volume import Geometry, Volume

Reference = Geometry | Volume | Path | str


def read_masks(path: Path | str, reference: Reference | None = None, names: Mapping[int, str] | None = None) -> MaskSet:
    """Read named masks.

    Args:
        path: a DICOM-SEG, an RTSTRUCT, or a label map in any format of images.
        reference: the grid to put them on: an image, its grid, its file or the folder of its series. An RTSTRUCT
            needs one (it has contours, not voxels); without it the others come on their own grid.
        names: of the labels of a label map; their numbers otherwise.

    Raises:
        DataError: unreadable, or (DicomError) damaged.
        UsageError: an RTSTRUCT without a reference.
    """
    path = Path(path)
    grid = None if reference is None else _grid_of(reference)
    if not (path.is_file() and looks_like_dicom(path)):
        masks = _of_labels(read_labels(path), names or {})
        return masks if grid is None else masks.on(grid)
    if modality_of(path) == "RTSTRUCT":
        if grid is None:
            raise UsageError(
                "structures are contours: they need an image whose voxels they fill",
                where=path,
                remedy="give the image on which they were drawn as reference",
            )
        return read_structures(path, grid)
    return read_segments(path, grid)


def _grid_of(reference: Reference) -> Geometry:
    if isinstance(reference, Geometry):
        return reference
    if isinstance(reference, Volume):
        return reference.geometry
    return read(reference).geometry if Path(reference).is_dir() else read_geometry(reference)


def _of_labels(labels: Volume, names: Mapping[int, str]) -> MaskSet:
    from scipy import ndimage  # takes 0.15 s to import, and every image is read through this package

    segments = []
    for number, box in enumerate(ndimage.find_objects(labels.array[0].astype(np.int32, copy=False)), start=1):
        if box is not None:
            i, j, k = (part.start for part in box)
            segments.append(
                Segment(number, names.get(number, str(number)), (i, j, k), labels.array[0][box] == number, {})
            )
    return MaskSet(labels.geometry, tuple(segments), "labels", "")
