"""DICOM: finding series in folders and reading them as volumes."""

from segue.dicom.errors import REMEDIES, DicomError
from segue.dicom.files import looks_like_dicom, modality_of, read_frames
from segue.dicom.files import text as tag_text
from segue.dicom.masks import MaskSet, Segment
from segue.dicom.planes import ANGLE_TOLERANCE_DEGREES, GAP_TOLERANCE
from segue.dicom.read import DicomVolume, arrange, read_series
from segue.dicom.reference import referenced_series
from segue.dicom.segment_writing import write_segments
from segue.dicom.segmentation import read_segments
from segue.dicom.series import Series, scan
from segue.dicom.structures import read_structures, structure_frame
from segue.dicom.suv import Suv, SuvMode, SuvType, suv
from segue.dicom.terms import CodedTerm, SegmentTerms

__all__ = [
    "ANGLE_TOLERANCE_DEGREES",
    "GAP_TOLERANCE",
    "REMEDIES",
    "CodedTerm",
    "DicomError",
    "DicomVolume",
    "MaskSet",
    "Segment",
    "SegmentTerms",
    "Series",
    "Suv",
    "SuvMode",
    "SuvType",
    "arrange",
    "looks_like_dicom",
    "modality_of",
    "read_frames",
    "read_segments",
    "read_series",
    "read_structures",
    "referenced_series",
    "scan",
    "structure_frame",
    "suv",
    "tag_text",
    "write_segments",
]
