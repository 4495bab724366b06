"""From the unit of a PET image to Bq/ml or SUV: the patient's size, the dose, the nuclide, the makers' factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from segue.dicom.errors import DicomError
from segue.dicom.suv_tags import PHILIPS, PetTags

SuvType = Literal["bw", "lbm", "lbm-james", "lbm-janma", "ibw", "bsa"]

# SUV Type (0054,1006). None of 3433 series of a census had it filled: empty means body weight.
_TYPES: dict[str, SuvType] = {
    "": "bw",
    "BW": "bw",
    "LBM": "lbm",
    "LBMJAMES128": "lbm-james",
    "LBMJANMA": "lbm-janma",
    "IBW": "ibw",
    "BSA": "bsa",
}
# Radionuclides of PET (PS3.16 CID 4020) by their code values in SRT (also SNM3, 99SDM), SNOMED CT or DCM, with
# half-lives in seconds (LNHB/NNDC; F-18 and Ga-68 as scanners write them).
_NUCLIDES: tuple[tuple[str, float, frozenset[str]], ...] = (
    ("C-11", 1221.8, frozenset({"C-105A1", "40565003"})),
    ("N-13", 597.9, frozenset({"C-107A1", "21576001"})),
    ("O-15", 122.24, frozenset({"C-B1038", "129504001"})),
    ("F-18", 6586.2, frozenset({"C-111A1", "77004003"})),
    ("Sc-43", 14_007.6, frozenset({"126605"})),
    ("Sc-44", 14_551.2, frozenset({"126600"})),
    ("Cu-60", 1422.0, frozenset({"C-127A4", "425364008"})),
    ("Cu-61", 12_020.4, frozenset({"C-127A1", "71425003"})),
    ("Cu-62", 580.2, frozenset({"C-127A5", "422934004"})),
    ("Cu-64", 45_723.6, frozenset({"C-127A2", "3932008"})),
    ("Ga-68", 4057.74, frozenset({"C-131A3", "35337001"})),
    ("Br-76", 58_320.0, frozenset({"C-113A2", "79523006"})),
    ("Rb-82", 75.45, frozenset({"C-159A2", "79197006"})),
    ("Y-86", 53_064.0, frozenset({"C-162A3", "10738001"})),
    ("Zr-89", 282_276.0, frozenset({"C-168A4", "63360001"})),
    ("I-124", 360_806.0, frozenset({"C-114A5", "40937006"})),
)
_HALF_LIFE_TOLERANCE = 0.03  # 6588 and 6586.2 s are both F-18, 4057 and 4080 s both Ga-68
_GRAMS_FROM = 1000.0  # no patient weighs a tonne
_LEAST_BQ, _MOST_BQ = 1e6, 1e11
_LEAST_MBQ, _MOST_MBQ = 30.0, 1e4  # below, it may as well be millicuries


@dataclass(frozen=True, eq=False)
class Scale:
    """What the image's values are multiplied by, slice by slice.

    Attributes:
        factor: to Bq/ml, or to an SUV of the type ``source``.
        source: None: Bq/ml.
    """

    factor: Float64[np.ndarray, " k"]
    source: SuvType | None
    rule: str


def read_scale(tags: PetTags, units: str) -> Scale:
    """What Units (0054,1001) and the makers' private factors say.

    CNTS is Philips: SUV Scale Factor (7053,1000), else Activity Concentration Scale Factor (7053,1009); 0 means
    that the counts cannot be converted. CPS needs the Dose Calibration Factor (0054,1322), Bq/ml per count/s.

    Raises:
        DicomError: ``UNITS``, ``NO_PHILIPS_FACTOR``, ``DAMAGED``.
    """
    ones = np.ones(len(tags.headers))
    if units == "BQML":
        return Scale(ones, None, "bqml")
    if units in ("GML", "CM2ML"):
        return Scale(ones, _stored_type(tags, units), "as-stored")
    if units == "CNTS":
        return _philips(tags)
    if units == "CPS":
        factor = tags.one_number("DoseCalibrationFactor")
        calibrated = any("DCAL" in value.split("\\") for value in tags.each_text("CorrectedImage"))
        if factor is None or factor <= 0 or (factor == 1 and not calibrated):
            raise DicomError("counts per second without a calibration", value=units, reason="UNITS")
        tags.warn("counts per second were taken to Bq/ml by the Dose Calibration Factor")
        return Scale(factor * ones, None, "dose-calibration-factor")
    known = units in ("NONE", "CM2", "PCNT", "MGMINML", "UMOLMINML", "MLMING", "MLG", "1CM", "UMOLML", "STDDEV")
    known = known or units in ("PROPCNTS", "PROPCPS", "MLMINML", "MLML")
    raise DicomError("the unit of the image cannot become SUV", value=units if known else None, reason="UNITS")


def size_of(tags: PetTags, kind: SuvType) -> float:
    """By what an SUV of this type is normalised: grams; cm2 for ``"bsa"``.

    With weight W kg, height H cm, BMI = W/(H/100)^2: lean body mass (QIBA; James with 120 or 128 in the term of
    men; Janmahasatian 2005), ideal body weight, body surface (Du Bois 1916). Sex O is the mean of both.

    Raises:
        DicomError: ``NO_WEIGHT``, ``NO_HEIGHT``, ``NO_SEX``, ``DAMAGED``, ``MIXED_HEADERS``.
    """
    weight = _weight_kg(tags)
    if kind == "bw":
        return weight * 1000
    height = _height_cm(tags)
    if kind == "bsa":
        return 0.007184 * height**0.725 * weight**0.425 * 1e4
    both = _masses_kg(kind, weight, height)
    mass = {"M": both[0], "F": both[1], "O": (both[0] + both[1]) / 2}[_sex(tags)]
    if mass <= 0:
        value = f"{weight:g} kg, {height:g} cm"
        raise DicomError("weight and height give no lean or ideal mass", value=value, reason="NO_HEIGHT")
    if mass > weight:
        tags.warn("the lean or ideal mass exceeds the weight")
    return mass * 1000


def dose_bq(tags: PetTags) -> float:
    """Radionuclide Total Dose (0018,1074); one that can only be megabecquerels counts as such.

    Raises:
        DicomError: ``NO_DOSE``, ``DOSE_UNIT``, ``DAMAGED``, ``MIXED_HEADERS``, ``SEVERAL_TRACERS``.
    """
    dose = tags.tracer_number("RadionuclideTotalDose")
    if dose is None or dose <= 0:
        raise DicomError("no dose", value=None if dose is None else f"{dose:g}", reason="NO_DOSE")
    if _LEAST_BQ <= dose <= _MOST_BQ:
        return dose
    if _LEAST_MBQ <= dose < _MOST_MBQ:
        tags.warn(f"the dose was taken as MBq: {dose:g}")
        return dose * 1e6
    raise DicomError("the dose is plausible neither in Bq nor in MBq", value=f"{dose:g}", reason="DOSE_UNIT")


def half_life_s(tags: PetTags) -> float:
    """Radionuclide Half Life (0018,1075), else that of the nuclide of (0054,0300).

    Raises:
        DicomError: ``NO_HALF_LIFE``, ``DAMAGED``, ``MIXED_HEADERS``, ``SEVERAL_TRACERS``.
    """
    found = tags.tracer_number("RadionuclideHalfLife")
    codes = tags.nuclide_codes()
    named = [(name, seconds) for name, seconds, values in _NUCLIDES if codes & values]
    if len(named) == 1:
        tags.used["RadionuclideCodeSequence"] = named[0][0]
    if found is not None and found > 0:
        if len(named) == 1 and abs(found / named[0][1] - 1) > _HALF_LIFE_TOLERANCE:
            tags.warn(f"the half-life is not that of {named[0][0]}, which the header names; it was used all the same")
        return found
    if len(named) != 1:
        raise DicomError("no half-life", value=f"{len(named)} known nuclides", reason="NO_HALF_LIFE")
    tags.warn(f"the half-life is that of {named[0][0]}: the header names the nuclide only")
    return named[0][1]


def _stored_type(tags: PetTags, units: str) -> SuvType:
    stored = _TYPES.get(tags.one_text("SUVType"))
    if units == "CM2ML" and tags.one_text("SUVType") == "":
        stored = "bsa"
    if stored is None or (stored == "bsa") != (units == "CM2ML"):
        raise DicomError("the SUV type does not go with the unit", value=units, reason="UNITS")
    tags.used["SUVType"] = next(name for name, kind in _TYPES.items() if kind == stored and name)
    return stored


def _philips(tags: PetTags) -> Scale:
    factor = tags.private_numbers(PHILIPS, 0x00, "PhilipsSUVScaleFactor")
    if (factor > 0).all():
        return Scale(factor, "bw", "philips-suv-factor")
    factor = tags.private_numbers(PHILIPS, 0x09, "PhilipsActivityConcentrationScaleFactor")
    if (factor > 0).all():
        return Scale(factor, None, "philips-activity-factor")
    raise DicomError("counts without a factor of Philips", value="CNTS", reason="NO_PHILIPS_FACTOR")


def _masses_kg(kind: SuvType, weight: float, height: float) -> tuple[float, float]:
    """Of a man and of a woman."""
    bmi = weight / (height / 100) ** 2
    woman = 1.07 * weight - 148 * (weight / height) ** 2
    if kind == "lbm":
        return 1.10 * weight - 120 * (weight / height) ** 2, woman
    if kind == "lbm-james":
        return 1.10 * weight - 128 * (weight / height) ** 2, woman
    if kind == "lbm-janma":
        return 9270 * weight / (6680 + 216 * bmi), 9270 * weight / (8780 + 244 * bmi)
    if kind == "ibw":
        return 48.0 + 1.06 * (height - 152), 45.5 + 0.91 * (height - 152)
    raise ValueError(f"no such SUV type: {kind}")


def _weight_kg(tags: PetTags) -> float:
    weight = tags.one_number("PatientWeight")
    if weight is None or weight <= 0:
        raise DicomError("no weight", value=None if weight is None else f"{weight:g} kg", reason="NO_WEIGHT")
    if weight >= _GRAMS_FROM:
        tags.warn(f"the weight was taken as grams: {weight:g}")
        weight /= 1000
    if weight >= _GRAMS_FROM:
        raise DicomError("the weight is neither kilograms nor grams", value=f"{weight * 1000:g}", reason="NO_WEIGHT")
    return weight


def _height_cm(tags: PetTags) -> float:
    height = tags.one_number("PatientSize")
    if height is not None and 0.3 <= height <= 2.7:
        return height * 100
    if height is not None and 30 <= height <= 270:
        tags.warn(f"the height was taken as centimetres: {height:g}")
        return height
    raise DicomError("no height", value=None if height is None else f"{height:g} m", reason="NO_HEIGHT")


def _sex(tags: PetTags) -> str:
    sex = tags.one_text("PatientSex")
    if sex not in ("M", "F", "O"):
        raise DicomError("the patient's sex is not known", reason="NO_SEX")
    tags.used["PatientSex"] = sex
    if sex == "O":
        tags.warn("sex O: the mean of the formulas for men and women")
    return sex
