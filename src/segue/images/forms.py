"""What a NIfTI header says twice: the place in space, as quaternion (qform) and as matrix (sform)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.core.errors import DataError
from segue.images.header import NIFTI_SUFFIXES, suffix_of
from segue.images.nifti import read_parsed_header
from segue.volume import Geometry


@dataclass(frozen=True)
class Forms:
    """The two grids that a header names; None where its code says that it names none, or where it makes no sense.

    Attributes:
        qfac: the sign of the third axis in a qform, as stored: 1, -1, or something that it should not be.
        units: of lengths, as the header has them; ``unknown`` is read as millimetres.
    """

    qform: Geometry | None
    sform: Geometry | None
    qfac: float
    zooms: tuple[float, float, float]
    units: str

    @property
    def disagree_mm(self) -> float:
        """How far apart the two put a corner of the image, in millimetres; 0 where one is missing."""
        if self.qform is None or self.sform is None:
            return 0.0
        return self.qform.shift_mm(self.sform)


def read_forms(path: Path) -> Forms | None:
    """The forms of a NIfTI file; None of any other file.

    Raises:
        DataError: its header makes no sense.
    """
    if suffix_of(path) not in NIFTI_SUFFIXES:
        return None
    parsed = read_parsed_header(path)
    shape = tuple(int(size) for size in (*parsed["dim"][1:4],))
    i, j, k = (max(1, size) for size in shape)

    def grid(affine: np.ndarray) -> Geometry | None:
        try:
            return Geometry((i, j, k), affine)
        except ValueError:
            return None

    try:
        qform = grid(parsed.get_qform()) if int(parsed["qform_code"]) > 0 else None
    except Exception:  # nibabel has no common class for a quaternion that is none
        qform = None
    sform = grid(parsed.get_sform()) if int(parsed["sform_code"]) > 0 else None
    pixdim = parsed["pixdim"]
    try:
        units = str(parsed.get_xyzt_units()[0])
    except Exception as error:
        raise DataError("the header names no unit of length that there is", where=path, value=error) from error
    return Forms(qform, sform, float(pixdim[0]), (float(pixdim[1]), float(pixdim[2]), float(pixdim[3])), units)
