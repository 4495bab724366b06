"""DICOM: finding series in folders and reading them as volumes."""

from segue.dicom.errors import REMEDIES, DicomError
from segue.dicom.files import read_frames
from segue.dicom.planes import ANGLE_TOLERANCE_DEGREES, GAP_TOLERANCE
from segue.dicom.read import DicomVolume, read_series
from segue.dicom.series import Series, scan

__all__ = [
    "ANGLE_TOLERANCE_DEGREES",
    "GAP_TOLERANCE",
    "REMEDIES",
    "DicomError",
    "DicomVolume",
    "Series",
    "read_frames",
    "read_series",
    "scan",
]
