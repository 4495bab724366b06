"""Why a series is refused, and how pydicom is asked for."""

from __future__ import annotations

from typing import Any

from segue.core.errors import DataError, MachineError

INSTALL = 'pip install "segue[dicom]"'

# Every reason for which a series is refused, and what the user can do about it.
REMEDIES = {
    "AMBIGUOUS_SERIES": "say which one it is with --series UID",
    "COLOUR": "read the series from which the colour image was made, or save one of its channels",
    "CONTOUR_ORIENTATION": "export the structure as contours on parallel slices, or as a DICOM-SEG",
    "CONTOUR_OUTSIDE": "give the image on which the contours were drawn as reference",
    "DAMAGED": "fetch this file again or leave the series out",
    "DECAY_CORRECTION": "mend DecayCorrection: START, ADMIN or NONE, as the reconstruction was made",
    "DOSE_UNIT": "write RadionuclideTotalDose in becquerel; this number may be MBq, kBq or mCi",
    "DUPLICATE_POSITION": "remove the files that repeat a slice, or pass the files of one volume",
    "ENHANCED_PET": "export the PET as single-frame images, one file per slice",
    "GANTRY_TILT": "resample the series to a straight grid first (dcm2niix and 3D Slicer do), or leave it out",
    "LOCALIZER": "choose a series of the patient's images; this one (or one of its files) is a localizer",
    "MISSING_SLICE": "fetch the series again: a file is missing",
    "MIXED_HEADERS": "pass only the files of one acquisition, or mend the slices that differ",
    "MIXED_ORIENTATION": "pass only the files of one orientation",
    "MIXED_SIZE": "pass only the files of one matrix size and pixel spacing",
    "MODALITY_LUT": "save the series with a slope and an intercept in place of its lookup table",
    "MOSAIC": "convert the series with dcm2niix: each of its images holds many slices side by side",
    "NAME_TAKEN": "move this file elsewhere, or choose another folder for the output",
    "NOT_AN_IMAGE": "read segmentations and structures with segue.read_masks, microscopy with a tool for it",
    "NOT_ATTENUATION_CORRECTED": "export the attenuation-corrected PET of this study too; SUV needs it",
    "NOT_A_SEGMENTATION": "give a DICOM-SEG file (modality SEG); images are read by segue.read",
    "NOT_DECAY_CORRECTED": "export the decay-corrected PET, or mend CorrectedImage and DecayCorrection if it is",
    "NOT_PET": "choose the PET series of the study",
    "NO_ACQUISITION_TIME": "restore AcquisitionDate and AcquisitionTime from the original files",
    "NO_CONTOURS": "choose a structure set with closed contours: points and open lines enclose no voxels",
    "NO_DOSE": "enter the injected activity as RadionuclideTotalDose in becquerel",
    "NO_FILES": "check the path",
    "NO_FRAME_DURATION": "restore ActualFrameDuration: without it decay within a frame cannot be corrected",
    "NO_HALF_LIFE": "enter RadionuclideHalfLife in seconds (6586.2 for F-18)",
    "NO_HEIGHT": "enter PatientSize in metres, or ask for the body-weight SUV (bw), which needs none",
    "NO_INJECTION_TIME": "enter RadiopharmaceuticalStartDateTime, the date and time of the injection",
    "NO_PHILIPS_FACTOR": "export the PET in Bq/ml, or with Philips' private tags (7053,1000) and (7053,1009)",
    "NO_PIXELS": "choose a series of images, or fetch this file again if it should be one",
    "NO_POSITION": "choose a series with positions in the patient: one of CT, MR or PET slices",
    "NO_REFERENCE": "fetch the series on which the structures were drawn too",
    "NO_SEX": "enter PatientSex, or ask for the body-weight SUV (bw), which needs none",
    "NO_SPACING": "mend PixelSpacing or leave the series out",
    "NO_WEIGHT": "enter PatientWeight in kilograms",
    "PROJECTION": "choose the series of slices; this one is a projection made from it",
    "RESCALE_INTERCEPT": "export the PET with RescaleIntercept 0: its zero must mean no activity",
    "RESCALE_SLOPE": "fetch these slices again: each needs its own RescaleSlope",
    "SEVERAL_SERIES": "pass the files of one series (segue.dicom.scan tells them apart)",
    "SEVERAL_TRACERS": "leave only the imaged injection in RadiopharmaceuticalInformationSequence",
    "SEVERAL_VOLUMES": "pass the files of one volume: one echo, one time point, one b-value",
    "SHIFTED_SLICES": "pass only the files of one acquisition, or leave the series out",
    "UNEVEN_GAPS": "pass only the files of one acquisition, or resample the series to even gaps first",
    "UNITS": "export the PET in Bq/ml (Units BQML) or as SUV (GML)",
    "UPTAKE_TIME": "mend the dates and times of the injection (RadiopharmaceuticalStartDateTime) and of the scan",
    "WHOLE_SLIDE": "read it with a tool for microscopy (QuPath, highdicom): it lies on a slide, not in a patient",
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
        import pydicom.config
        import pydicom.encaps
        import pydicom.pixels
    except ImportError as error:
        raise MachineError("reading DICOM needs pydicom, which is not installed", remedy=INSTALL) from error
    # Values are checked where they are used; a remark on each that is longer than allowed helps nobody.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom
