"""On which image masks were drawn."""

from __future__ import annotations

from pathlib import Path

from segue.dicom.files import modality_of
from segue.dicom.segmentation import segment_reference
from segue.dicom.structures import structure_reference


def referenced_series(path: Path) -> str:
    """Series Instance UID (0020,000E) of the image to which a DICOM-SEG or an RTSTRUCT belongs.

    Empty where it does not say, and for every other file.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    modality = modality_of(path)
    if modality == "SEG":
        return segment_reference(path)
    return structure_reference(path) if modality == "RTSTRUCT" else ""
