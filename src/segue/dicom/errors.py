"""Why a series is refused, and how pydicom is asked for."""

from __future__ import annotations

from typing import Any

from segue.core.errors import DataError, MachineError

INSTALL = 'pip install "segue[dicom]"'

# Every reason for which a series is refused, and what the user can do about it.
REMEDIES = {
    "COLOUR": "read the series from which the colour image was made, or save one of its channels",
    "DAMAGED": "fetch this file again or leave the series out",
    "DUPLICATE_POSITION": "remove the files that repeat a slice, or pass the files of one volume",
    "GANTRY_TILT": "resample the series to a straight grid first (dcm2niix and 3D Slicer do), or leave it out",
    "LOCALIZER": "choose a series of the patient's images; this one (or one of its files) is a localizer",
    "MISSING_SLICE": "fetch the series again: a file is missing",
    "MIXED_ORIENTATION": "pass only the files of one orientation",
    "MIXED_SIZE": "pass only the files of one matrix size and pixel spacing",
    "MODALITY_LUT": "save the series with a slope and an intercept in place of its lookup table",
    "MOSAIC": "convert the series with dcm2niix: each of its images holds many slices side by side",
    "NO_FILES": "check the path",
    "NO_PIXELS": "choose a series of images, or fetch this file again if it should be one",
    "NO_POSITION": "choose a series with positions in the patient: one of CT, MR or PET slices",
    "NO_SPACING": "mend PixelSpacing or leave the series out",
    "NOT_AN_IMAGE": "read segmentations, structures and microscopy with the tools for them",
    "SEVERAL_SERIES": "pass the files of one series (segue.dicom.scan tells them apart)",
    "SEVERAL_VOLUMES": "pass the files of one volume: one echo, one time point, one b-value",
    "SHIFTED_SLICES": "pass only the files of one acquisition, or leave the series out",
    "UNEVEN_GAPS": "pass only the files of one acquisition, or resample the series to even gaps first",
}


class DicomError(DataError):
    """A series that is not read, with the reason as a code.

    Args:
        what: one sentence on what is wrong.
        where: the file or folder that it concerns.
        value: the measured value: a gap in millimetres, an angle in degrees.
        remedy: what the user can do; by default the one that ``REMEDIES`` has for the reason.
        reason: one of the keys of ``REMEDIES``.
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        value: object = None,
        remedy: str | None = None,
        reason: str = "DAMAGED",
    ) -> None:
        super().__init__(what, where=where, value=value, remedy=remedy or REMEDIES.get(reason))
        self.reason = reason

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _rebuild, (type(self), self.what, self.where, self.value, self.remedy, self.reason)


def _rebuild(
    kind: type[DicomError], what: str, where: str | None, value: str | None, remedy: str | None, reason: str
) -> DicomError:
    return kind(what, where=where, value=value, remedy=remedy, reason=reason)


def load_pydicom() -> Any:
    """The module pydicom.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.encaps
        import pydicom.pixels
    except ImportError as error:
        raise MachineError("reading DICOM needs pydicom, which is not installed", remedy=INSTALL) from error
    return pydicom
