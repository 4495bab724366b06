"""Which PET series may become SUV at all."""

from __future__ import annotations

import numpy as np

from segue.dicom.errors import DicomError
from segue.dicom.files import text
from segue.dicom.suv_tags import PetTags

_SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.128"
_ENHANCED = ("1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1")
# Corrected Image (0028,0051), PS3.3 C.8.9.1.1.4
_CORRECTIONS = frozenset(
    ("DECY", "ATTN", "SCAT", "DTIM", "MOTN", "PMOT", "CLN", "RAN", "RADL", "DCAL", "NORM", "SLSENS")
)
_PROJECTIONS = ("MIP", "PROJECTION", "REPROJECTION", "MAXIMUM")
_IMAGE_TYPES = frozenset(("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "AXIAL"))


def require_pet(tags: PetTags) -> None:
    """Raise unless the series is attenuation-corrected slices of a PET, whose values are proportional to activity.

    Raises:
        DicomError: ``NOT_PET``, ``ENHANCED_PET``, ``PROJECTION``, ``RESCALE_INTERCEPT``, ``RESCALE_SLOPE``,
            ``NOT_ATTENUATION_CORRECTED``, ``DAMAGED``, ``MIXED_HEADERS``.
    """
    for header in tags.headers:
        uid = text(header, "SOPClassUID").strip(" \0")
        if uid in _ENHANCED or "PerFrameFunctionalGroupsSequence" in header:
            raise DicomError("an enhanced PET image", value="its tags are in functional groups", reason="ENHANCED_PET")
        if text(header, "Modality").strip() != "PT" or uid not in ("", _SINGLE_FRAME):
            raise DicomError("this is not a PET image", reason="NOT_PET")
    if np.nanmax(np.append(tags.each_number("NumberOfFrames"), 1)) > 1:
        raise DicomError("several frames in one PET file", reason="ENHANCED_PET")
    _require_slices(tags)
    intercept, slope = tags.each_number("RescaleIntercept"), tags.each_number("RescaleSlope")
    tags.used.pop("NumberOfFrames", None)
    if (np.nan_to_num(intercept) != 0).any():
        value = f"{np.nanmax(np.abs(intercept)):g}"
        raise DicomError("a rescale intercept in PET", value=value, reason="RESCALE_INTERCEPT")
    good = np.isfinite(slope) & (slope > 0)
    if not good.all():
        value = f"{int((~good).sum())} of {len(slope)} slices"
        raise DicomError("a slice has no rescale slope", value=value, reason="RESCALE_SLOPE")
    _require_attenuation(tags)


def require_decay(tags: PetTags) -> str:
    """Decay Correction (0054,1102): ``"START"``, ``"ADMIN"``, ``"NONE"``; empty where the header does not say.

    Raises:
        DicomError: ``NOT_DECAY_CORRECTED``: Corrected Image lacks DECY and Decay Correction is not NONE.
    """
    decay = tags.one_text("DecayCorrection").upper()
    corrected = all("DECY" in value.split("\\") for value in tags.each_text("CorrectedImage"))
    known = decay if decay in ("START", "ADMIN", "NONE") else ""
    if known:
        tags.used["DecayCorrection"] = known
    if known == "NONE" and corrected:
        tags.warn("CorrectedImage names DECY, DecayCorrection says NONE: taken as not decay-corrected")
    if known != "NONE" and not corrected:
        raise DicomError("not decay-corrected", value=f"DecayCorrection {known}", reason="NOT_DECAY_CORRECTED")
    return known


def _require_slices(tags: PetTags) -> None:
    words: set[str] = set()
    for keyword in ("ImageType", "SeriesType"):
        for value in set(tags.each_text(keyword)):
            words |= set(value.upper().replace("\\", " ").replace("_", " ").split())
    if words & set(_PROJECTIONS):
        raise DicomError("a projection of a PET, not its slices", reason="PROJECTION")
    tags.used["ImageType"] = sorted(words & _IMAGE_TYPES)
    if "DERIVED" in words:
        tags.warn("ImageType is DERIVED: the image was processed after its reconstruction")


def _require_attenuation(tags: PetTags) -> None:
    corrections = [set(value.split("\\")) for value in tags.each_text("CorrectedImage")]
    common = set.intersection(*corrections)
    tags.used["CorrectedImage"] = sorted(common & _CORRECTIONS)
    if "ATTN" not in common:
        value = ", ".join(tags.used["CorrectedImage"]) or "no corrections"
        raise DicomError("not attenuation-corrected", value=value, reason="NOT_ATTENUATION_CORRECTED")
