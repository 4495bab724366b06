"""SUV of simulated scans: every unit, convention and clock; what is refused; what a receipt must not tell."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pet_physics import SUV, Change, Scan, broken, date_and_time, each, every, one, private, tags, tracer
from segue.dicom import REMEDIES, DicomError, DicomVolume, Suv, suv
from segue.volume import Volume

PHILIPS = (0x7053, "Philips PET Private Group")
GE = (0x0009, "GEMS_PETD_01")
SIEMENS = (0x0071, "SIEMENS MED PT")
# A patient of 70 kg and 1.75 m; the formulas by hand: (W/H)^2 = 0.16, BMI = 22.857, Du Bois 1.8482 m2.
MASSES_KG = {
    ("lbm", "M"): 57.8,
    ("lbm", "F"): 51.22,
    ("lbm", "O"): 54.51,
    ("lbm-james", "M"): 56.52,
    ("lbm-james", "F"): 51.22,
    ("lbm-janma", "M"): 55.8573,
    ("lbm-janma", "F"): 45.1972,
    ("ibw", "M"): 72.38,
    ("ibw", "F"): 66.43,
    ("ibw", "O"): 69.405,
}
STORED_TYPES = {"lbm": "LBM", "lbm-james": "LBMJAMES128", "lbm-janma": "LBMJANMA", "ibw": "IBW"}
SURFACE_CM2 = 18_481.6


def assert_suv(found: Suv, factor: float = 1.0, rtol: float = 2e-6) -> dict[str, Any]:
    """Every slice holds the simulated SUVs; returns the receipt."""
    values = found.volume.array[0, :, 0, :]
    np.testing.assert_allclose(values, factor * np.broadcast_to(SUV[:, None], values.shape), rtol)
    return json.loads(json.dumps(found.receipt, allow_nan=False))


def refusal(pet: DicomVolume, **given: Any) -> DicomError:
    with pytest.raises(DicomError) as caught:
        suv(pet, **given)
    assert caught.value.reason in REMEDIES and caught.value.remedy
    return caught.value


def nuclide(value: str) -> Change:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = value, "99SDM"
    return tracer(RadionuclideHalfLife=None, RadionuclideCodeSequence=Sequence([code]))


def warned(receipt: dict[str, Any], part: str) -> bool:
    return any(part in warning for warning in receipt["warnings"])


# --- decay and reference time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "rule"), [("START", "series"), ("ADMIN", "injection"), ("NONE", "acquisition-of-each-slice")]
)
def test_decay_conventions(decay: str, rule: str) -> None:
    receipt = assert_suv(suv(Scan(decay=decay, bed_starts_s=(3600.0, 3780.0, 3960.0)).volume()))
    assert receipt["rule"] == rule and receipt["uptake_minutes"] == 60.0
    assert receipt["reference_s_after_injection"] == (0.0 if decay == "ADMIN" else 3600.0)
    assert warned(receipt, "exactly 60.0 minutes")


def test_no_decay_correction_within_long_frames() -> None:
    """C-11 in frames of 20 minutes: 30 % of it decays while it is measured."""
    assert_suv(suv(Scan(decay="NONE", half_life_s=1221.8, frame_s=1200.0, bed_starts_s=(1800.0, 3000.0)).volume()))


def test_series_time_counts_up_to_the_first_acquisition_of_the_whole_series() -> None:
    scan = Scan(reference_s=3500.0, bed_starts_s=(3780.0, 3600.0))  # scanned from the feet up
    assert assert_suv(suv(scan.volume()))["rule"] == "series"
    # 3700 s is before the acquisition of the first slice and after that of the last: overwritten.
    late = dict(zip(("SeriesDate", "SeriesTime"), date_and_time(scan.at(3700.0)), strict=True))
    receipt = assert_suv(suv(scan.volume(tags(**late))))
    assert receipt["rule"] == "back-computed" and warned(receipt, "later than the first acquisition")
    ratios = {other["rule"]: other["suv_ratio"] for other in receipt["alternatives"]}
    assert ratios == {
        "series": pytest.approx(2 ** (200 / 6586.2), rel=1e-5),
        "back-computed": pytest.approx(1, abs=1e-6),
        "earliest-acquisition": pytest.approx(2 ** (100 / 6586.2), rel=1e-5),
    }
    # The same clock time on the next day is later, too.
    day = dict(zip(("SeriesDate", "SeriesTime"), date_and_time(scan.at(3500.0 + 86400)), strict=True))
    assert assert_suv(suv(scan.volume(tags(**day))))["rule"] == "back-computed"
    # Writers drop fractions of a second.
    scan = Scan(reference_s=3600.4, bed_starts_s=(3600.4,))
    cut = tags(AcquisitionTime=date_and_time(scan.at(3600.0))[1][:6])
    assert assert_suv(suv(scan.volume(cut)))["rule"] == "series"


def test_ge_scan_time_when_the_series_was_saved_later() -> None:
    scan = Scan(bed_starts_s=(4200.0, 4380.0))
    late = tags(SeriesTime=date_and_time(scan.at(9000.0))[1])
    right = "".join(date_and_time(scan.at(3600.0)))
    receipt = assert_suv(suv(scan.volume(every(late, private(GE, 0x0D, "DT", right, at=0x11)))))
    assert receipt["rule"] == "ge-scan-datetime"
    # A private date that de-identification shifted by itself: its clock counts.
    shifted = private(GE, 0x0D, "UN", f"19991231{right[8:]} ".encode())
    receipt = assert_suv(suv(scan.volume(every(late, shifted))))
    assert receipt["rule"] == "ge-scan-datetime" and warned(receipt, "contradictory dates")
    # The tag of another private block is not GE's.
    assert (
        assert_suv(suv(scan.volume(every(late, private((9, "OTHER"), 0x0D, "DT", "20210605100000")))))["rule"]
        == "back-computed"
    )
    # It contradicts Frame Reference Time by ten minutes: told.
    frames = every(late, private(GE, 0x0D, "DT", right), tags(FrameReferenceTime=90_000.0))
    assert warned(assert_suv(suv(scan.volume(frames))), "back-computed lies up to 7")


@pytest.mark.parametrize("reference_ms", [0.0, None])
def test_frame_reference_time_of_another_convention_is_not_computed_with(reference_ms: float | None) -> None:
    scan = Scan()
    change = tags(FrameReferenceTime=reference_ms, SeriesTime=date_and_time(scan.at(9000.0))[1])
    receipt = assert_suv(suv(scan.volume(change)))
    assert receipt["rule"] == "earliest-acquisition"


def test_what_is_incomplete_or_inconsistent_is_told() -> None:
    receipt = assert_suv(suv(Scan().volume(every(one(2, AcquisitionTime=None), tags(DecayFactor=1.3)))))
    assert warned(receipt, "some slices have no time") and warned(receipt, "DecayFactor")
    assert receipt["tags"]["DecayFactor"] == 1.3


def test_siemens_private_time_is_told_of_only() -> None:
    scan = Scan()
    off = "".join(date_and_time(scan.at(3600.0 + 600 - 86400)))
    receipt = assert_suv(suv(scan.volume(private(SIEMENS, 0x22, "DT", off))))
    assert receipt["rule"] == "series" and warned(receipt, "siemens-decay-correction lies up to 600 s later")
    told = {other["rule"]: other for other in receipt["alternatives"]}["siemens-decay-correction"]
    assert told["s_after_injection"] == 4200.0 and told["suv_ratio"] == pytest.approx(2 ** (600 / 6586.2), rel=1e-5)


# --- injection ------------------------------------------------------------------------------------------------------

CLOCK_ONLY = tracer(RadiopharmaceuticalStartDateTime=None)


@pytest.mark.parametrize("decay", ["START", "NONE"])
@pytest.mark.parametrize("injected", ["2021-06-05T23:30", "2021-06-05T22:58", "2021-06-05T23:01"])
def test_midnight_between_injection_and_beds(decay: str, injected: str) -> None:
    """Before, between and after the beds; with and without dates."""
    scan = Scan(datetime.fromisoformat(injected), decay=decay, bed_starts_s=(3600.0, 3780.0))
    assert_suv(suv(scan.volume()))
    assert_suv(suv(scan.volume(CLOCK_ONLY)))
    undated = tags(AcquisitionDate=None)
    assert_suv(suv(scan.volume(every(CLOCK_ONLY, undated))))
    assert_suv(suv(scan.volume(every(CLOCK_ONLY, undated, tags(SeriesDate=None)))))


@pytest.mark.parametrize(
    ("whole", "zone", "clock"),
    [
        ("20210605100000", None, "100000"),
        ("202106051000", None, None),
        ("20210605100000.000000", None, "10:00:00"),
        ("20210605", None, "1000"),
        ("2021060510", None, "100000.0"),  # known to the hour: the other tag says the rest
        ("2021", None, "100000"),
        ("20210605080000+0000", "+0200", "100000"),
        ("20210604220000-1000", "+0200", None),
        ("20210605100000+0200", None, None),
        ("20210605080000+0000", None, "100000"),
        ("20210606100000", None, "100000"),  # shifted by a day
        ("20190101100000", None, None),
        (None, None, "100000.000 "),
    ],
)
def test_ways_to_write_the_injection(whole: str | None, zone: str | None, clock: str | None) -> None:
    change = tracer(RadiopharmaceuticalStartDateTime=whole, RadiopharmaceuticalStartTime=clock)
    receipt = assert_suv(suv(Scan(reference_s=3000.0).volume(every(change, tags(TimezoneOffsetFromUTC=zone)))))
    assert receipt["uptake_minutes"] == 50.0
    assert warned(receipt, "contradictory dates") == bool(whole and whole[:8] in ("20210606", "20190101"))


def test_injection_of_ge_where_there_is_no_other() -> None:
    missing = tracer(RadiopharmaceuticalStartDateTime=None, RadiopharmaceuticalStartTime=None)
    assert refusal(Scan().volume(missing)).reason == "NO_INJECTION_TIME"
    receipt = assert_suv(suv(Scan().volume(every(missing, private(GE, 0x3B, "DT", "20210605100000")))))
    assert warned(receipt, "GE")


def test_an_acquisition_datetime_stands_in() -> None:
    scan = Scan(bed_starts_s=(3600.0,))
    both = {"AcquisitionDate": None, "AcquisitionTime": None}
    whole = "".join(date_and_time(scan.at(3600.0)))
    assert_suv(suv(scan.volume(tags(AcquisitionDateTime=whole, **both))))
    assert refusal(scan.volume(tags(**both))).reason == "NO_ACQUISITION_TIME"


@pytest.mark.parametrize(
    ("half_life_s", "code", "uptake_s"),
    [
        (6586.2, "C-111A1", 3600.0),
        (4057.74, "C-131A3", 3600.0),
        (1221.8, "40565003", 1200.0),
        (45723.6, "C-127A2", 90_000.0),
        (282276.0, "C-168A4", 4 * 86400.0),
    ],
)
def test_nuclides_by_name(half_life_s: float, code: str, uptake_s: float) -> None:
    scan = Scan(half_life_s=half_life_s, reference_s=uptake_s, bed_starts_s=(uptake_s,))
    receipt = assert_suv(suv(scan.volume(nuclide(code))))
    assert warned(receipt, "the header names the nuclide only")
    if half_life_s > 86400:  # a clock time does not tell the day
        assert refusal(scan.volume(every(nuclide(code), CLOCK_ONLY))).reason == "NO_INJECTION_TIME"


# --- units and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "sex"), MASSES_KG)
def test_types_of_suv(kind: Any, sex: str) -> None:
    share = MASSES_KG[kind, sex] / 70
    asked = suv(Scan().volume(tags(PatientSex=sex)), kind=kind)
    assert_suv(asked, share, rtol=1e-5)
    stored = Scan().volume(tags(PatientSex=sex, Units="GML", SUVType=STORED_TYPES[kind]), values=share)
    assert_suv(suv(stored), rtol=1e-5)
    assert_suv(suv(stored, kind=kind), share)
    assert_suv(suv(stored, kind="bsa"), SURFACE_CM2 / 70e3, rtol=1e-4)


def test_body_surface() -> None:
    stored = Scan().volume(tags(Units="CM2ML"), values=SURFACE_CM2 / 70e3)
    assert_suv(suv(stored), rtol=1e-4)
    assert_suv(suv(stored, kind="bsa"), SURFACE_CM2 / 70e3)
    assert_suv(suv(Scan().volume(), kind="bsa"), SURFACE_CM2 / 70e3, rtol=1e-4)
    assert refusal(Scan().volume(tags(Units="CM2ML", SUVType="LBM"))).reason == "UNITS"


def test_philips_counts() -> None:
    counts = tags(Units="CNTS")
    factor = private(PHILIPS, 0x00, "DS", "0.0005", at=0x13)
    assert assert_suv(suv(Scan().volume(every(counts, factor), values=2000.0)))["rule"] == "philips-suv-factor"
    # It is SUV already: neither dose nor decay count.
    unknown = every(counts, factor, tracer(RadionuclideTotalDose=None, RadionuclideHalfLife=None))
    assert_suv(suv(Scan().volume(unknown, values=2000.0)))
    assert_suv(suv(Scan().volume(unknown, values=2000.0), kind="lbm"), 57.8 / 70)
    # Zero is "not convertible": the factor to Bq/ml follows, with dose and decay.
    scan = Scan(decay="NONE")
    second = every(counts, private(PHILIPS, 0x00, "DS", "0.0"), private(PHILIPS, 0x09, "DS", "2.5"))
    pet = scan.volume(second)
    halved = DicomVolume(Volume(pet.volume.array / np.float32(2.5), pet.volume.geometry), pet.headers)
    assert_suv(suv(halved))
    assert refusal(Scan().volume(every(counts, private(PHILIPS, 0x00, "DS", "0.0")))).reason == "NO_PHILIPS_FACTOR"
    assert refusal(Scan().volume(every(counts, private((0x7053, "OTHER"), 0, "DS", "1")))).reason == "NO_PHILIPS_FACTOR"


def test_counts_per_second() -> None:
    change = tags(Units="CPS", DoseCalibrationFactor=1e6)
    pet = Scan().volume(change, values=Scan().stored(0) / 1e6)
    assert assert_suv(suv(pet))["tags"]["DoseCalibrationFactor"] == 1e6
    assert refusal(Scan().volume(tags(Units="CPS"))).reason == "UNITS"


def test_units_that_are_guessed_by_size_are_told() -> None:
    assert warned(assert_suv(suv(Scan().volume(tracer(RadionuclideTotalDose=350)))), "MBq")
    assert warned(assert_suv(suv(Scan().volume(tags(PatientWeight=70_000)))), "grams")
    assert warned(assert_suv(suv(Scan().volume(tags(PatientSize=175)), kind="lbm"), 57.8 / 70), "centimetres")


# --- refusals -------------------------------------------------------------------------------------------------------

DERIVED = ["DERIVED", "SECONDARY", "MIP"]
WRONG: list[tuple[str, Change, dict[str, Any]]] = [
    ("NOT_PET", tags(Modality="NM"), {}),
    ("ENHANCED_PET", tags(SOPClassUID="1.2.840.10008.5.1.4.1.1.130"), {}),
    ("ENHANCED_PET", tags(SOPClassUID="1.2.840.10008.5.1.4.1.1.128.1"), {}),
    ("ENHANCED_PET", tags(NumberOfFrames=47), {}),
    ("PROJECTION", tags(ImageType=DERIVED), {}),
    ("PROJECTION", tags(SeriesType=["WHOLE BODY", "REPROJECTION"]), {}),
    ("RESCALE_INTERCEPT", one(1, RescaleIntercept=-3), {}),
    ("RESCALE_SLOPE", one(2, RescaleSlope=None), {}),
    ("RESCALE_SLOPE", one(0, RescaleSlope=0), {}),
    ("NOT_ATTENUATION_CORRECTED", tags(CorrectedImage=["NORM", "DECY"]), {}),
    ("NOT_ATTENUATION_CORRECTED", one(3, CorrectedImage=None), {}),
    ("NOT_ATTENUATION_CORRECTED", tags(CorrectedImage=["NORM", "DECY"], Units="GML"), {}),
    ("NOT_DECAY_CORRECTED", tags(CorrectedImage=["ATTN", "NORM"]), {}),
    ("DECAY_CORRECTION", tags(DecayCorrection=None), {}),
    ("UNITS", tags(Units="PROPCNTS"), {}),
    ("UNITS", tags(Units="1CM"), {}),
    ("UNITS", tags(Units=None), {}),
    ("UNITS", tags(Units="GML", SUVType="BSA"), {}),
    ("UNITS", tags(Units="GML"), {"mode": "autopet-compat"}),
    ("NO_PHILIPS_FACTOR", tags(Units="CNTS"), {}),
    ("NO_WEIGHT", tags(PatientWeight=None), {}),
    ("NO_WEIGHT", tags(PatientWeight=0), {}),
    ("NO_WEIGHT", tags(PatientWeight=""), {}),
    ("NO_WEIGHT", tags(PatientWeight=None, Units="GML"), {"kind": "lbm"}),
    ("MIXED_HEADERS", one(1, PatientWeight=71), {}),
    ("MIXED_HEADERS", one(1, Units="GML"), {}),
    ("NO_HEIGHT", tags(PatientSize=None), {"kind": "lbm"}),
    ("NO_HEIGHT", tags(PatientSize=0), {"kind": "bsa"}),
    ("NO_HEIGHT", tags(PatientSize=None, Units="GML", SUVType="LBM"), {}),
    ("NO_HEIGHT", tags(PatientSize=1.0), {"kind": "ibw"}),
    ("NO_SEX", tags(PatientSex=None), {"kind": "ibw"}),
    ("NO_DOSE", tracer(RadionuclideTotalDose=None), {}),
    ("NO_DOSE", tracer(RadionuclideTotalDose=0), {}),
    ("NO_DOSE", tags(RadiopharmaceuticalInformationSequence=None), {}),
    ("DOSE_UNIT", tracer(RadionuclideTotalDose=10), {}),
    ("DOSE_UNIT", tracer(RadionuclideTotalDose=350_000), {}),
    ("SEVERAL_TRACERS", tags(RadiopharmaceuticalInformationSequence=Sequence([Dataset(), Dataset()])), {}),
    ("NO_HALF_LIFE", tracer(RadionuclideHalfLife=None), {}),
    ("NO_HALF_LIFE", nuclide("C-999"), {}),
    ("NO_INJECTION_TIME", tracer(RadiopharmaceuticalStartDateTime="", RadiopharmaceuticalStartTime="10"), {}),
    ("NO_INJECTION_TIME", tracer(RadiopharmaceuticalStartTime=None), {"mode": "autopet-compat"}),
    ("NO_ACQUISITION_TIME", tags(AcquisitionTime=None), {}),
    ("NO_ACQUISITION_TIME", tags(AcquisitionTime=None), {"mode": "autopet-compat"}),
    ("NO_ACQUISITION_TIME", every(one(2, AcquisitionTime=None), tags(DecayCorrection="NONE")), {}),
    ("UPTAKE_TIME", tracer(RadiopharmaceuticalStartDateTime="20210605113000"), {}),
    ("UPTAKE_TIME", tracer(RadiopharmaceuticalStartTime="120000"), {"mode": "autopet-compat"}),
    ("DAMAGED", tracer(RadiopharmaceuticalStartDateTime="yesterday"), {}),
    ("DAMAGED", tags(AcquisitionDate="20211305"), {}),
    ("DAMAGED", tags(SeriesTime="256000"), {}),
    ("DAMAGED", tags(TimezoneOffsetFromUTC="CEST"), {}),
    ("DAMAGED", each(lambda header: broken(header, "RadiopharmaceuticalInformationSequence", b"\x01\x02\x03")), {}),
    ("DAMAGED", each(lambda header: broken(header, "PatientWeight", b"heavy")), {}),
]


@pytest.mark.parametrize(("reason", "change", "given"), WRONG, ids=[f"{n}-{case[0]}" for n, case in enumerate(WRONG)])
def test_what_is_refused(reason: str, change: Change, given: dict[str, Any]) -> None:
    assert refusal(Scan().volume(change), **given).reason == reason


def test_frames_without_decay_correction_need_their_duration() -> None:
    scan = Scan(decay="NONE")
    assert refusal(scan.volume(one(1, ActualFrameDuration=None))).reason == "NO_FRAME_DURATION"
    assert refusal(scan.volume(one(1, ActualFrameDuration=0))).reason == "NO_FRAME_DURATION"


# --- autopet-compat -------------------------------------------------------------------------------------------------


def test_the_formula_of_autopet() -> None:
    """The dose decays to the acquisition of one bed, 3 minutes after the reference here."""
    scan = Scan(bed_starts_s=(3780.0, 3600.0))
    receipt = assert_suv(suv(scan.volume(), mode="autopet-compat"), 2 ** (180 / 6586.2))
    assert receipt["mode"] == receipt["rule"] == "autopet-compat"
    assert receipt["ratio_to_standard"] == pytest.approx(2 ** (180 / 6586.2), rel=1e-6)
    assert receipt["ratio_over_files"] == {"min": pytest.approx(2 ** (-180 / 6586.2), rel=1e-6), "max": 1.0}
    ratios = {other["rule"]: other["suv_ratio"] for other in receipt["alternatives"]}
    assert ratios["series"] == pytest.approx(2 ** (-180 / 6586.2), rel=1e-6)
    # The file of the lowest Instance Number counts, wherever its slice lies.
    turned = every(one(0, InstanceNumber=4), one(3, InstanceNumber=1))
    assert_suv(suv(scan.volume(turned), mode="autopet-compat"))


def test_autopet_where_the_standard_refuses() -> None:
    pet = Scan().volume(tags(DecayCorrection=None))
    receipt = assert_suv(suv(pet, mode="autopet-compat"))
    assert receipt["ratio_to_standard"] is None and receipt["standard_refused"] == "DECAY_CORRECTION"


# --- receipts -------------------------------------------------------------------------------------------------------

PLANTED = ("Mustermann", "MRN-4711", "ACC-99", "Klinik", "20210605", "2021", "1950", "110000", "100000", "5.6.7.8")


@pytest.mark.parametrize("mode", ["standard", "autopet-compat"])
@pytest.mark.parametrize("decay", ["START", "ADMIN", "NONE"])
def test_a_receipt_tells_neither_who_nor_when(mode: Any, decay: str) -> None:
    change = every(
        tags(PatientName="Mustermann^Erika", PatientID="MRN-4711", PatientBirthDate="19500607"),
        tags(AccessionNumber="ACC-99", InstitutionName="Klinik", Manufacturer="GE Klinik", StudyInstanceUID="5.6.7.8"),
        tags(ImageType=["ORIGINAL", "PRIMARY", "MUSTERMANN"], SeriesDescription="Mustermann 20210605"),
        tags(CorrectedImage=["DECY", "ATTN", "Klinik 20210605"], StudyDate="20210605"),
        private(GE, 0x0D, "DT", "20210605110000"),
        private(SIEMENS, 0x22, "DT", "20210605110000"),
    )
    receipt = suv(Scan(decay=decay).volume(change), mode=mode).receipt
    written = json.dumps(receipt)
    assert [secret for secret in PLANTED if secret.lower() in written.lower()] == []
    assert receipt["tags"]["RadionuclideTotalDose"] == 350e6 and receipt["tags"]["PatientWeight"] == 70
    assert receipt["tags"]["RescaleSlope"] == {"min": 1.0, "max": 1.375}


@pytest.mark.parametrize(("reason", "change", "given"), WRONG, ids=[f"{n}-{case[0]}" for n, case in enumerate(WRONG)])
def test_a_refusal_tells_no_date(reason: str, change: Change, given: dict[str, Any]) -> None:
    assert "2021" not in str(refusal(Scan().volume(change), **given))


KEYWORDS = (
    *("Modality", "SOPClassUID", "ImageType", "PatientWeight", "PatientSize", "PatientSex", "SeriesDate", "SeriesTime"),
    *("AcquisitionDate", "AcquisitionTime", "Units", "DecayCorrection", "CorrectedImage", "RescaleSlope", "SUVType"),
    *("RescaleIntercept", "ActualFrameDuration", "FrameReferenceTime", "TimezoneOffsetFromUTC", "InstanceNumber"),
    *(
        "RadiopharmaceuticalInformationSequence",
        "NumberOfFrames",
        "AcquisitionDateTime",
        "StudyDate",
        "DoseCalibrationFactor",
        "Manufacturer",
        "SeriesType",
    ),
)
TRACER_KEYWORDS = (
    *("RadionuclideTotalDose", "RadionuclideHalfLife", "RadiopharmaceuticalStartTime"),
    *("RadiopharmaceuticalStartDateTime", "RadionuclideCodeSequence"),
)
VALUES = st.one_of(
    st.none(),
    st.text(max_size=12),
    st.text("0123456789.+-:", max_size=16),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.binary(max_size=8),
    st.lists(st.floats(allow_nan=False), max_size=3),
    st.sampled_from(["START", "NONE", "ADMIN", "GML", "CNTS", "CPS", "CM2ML", "1e300", "1e-300", "nan", "20210605"]),
)


@settings(max_examples=400, deadline=None)
@given(
    damage=st.lists(
        st.tuples(st.sampled_from(KEYWORDS + TRACER_KEYWORDS), st.integers(-1, 3), VALUES), min_size=1, max_size=4
    ),
    decay=st.sampled_from(["START", "NONE", "ADMIN"]),
    kind=st.sampled_from(["bw", "lbm", "lbm-janma", "ibw", "bsa"]),
    mode=st.sampled_from(["standard", "autopet-compat"]),
)
def test_damaged_headers(damage: list[tuple[str, int, Any]], decay: str, kind: Any, mode: Any) -> None:
    pet = Scan(decay=decay).volume()
    damage = sorted(damage, key=lambda one: one[0] in KEYWORDS)  # the sequence after what is in it
    for keyword, k, value in damage:
        for header in pet.headers if k < 0 else [pet.headers[k]]:
            broken(header if keyword in KEYWORDS else header.RadiopharmaceuticalInformationSequence[0], keyword, value)
    try:
        found = suv(pet, mode=mode, kind=kind)
    except DicomError as error:
        assert error.reason in REMEDIES
        return
    assert np.isfinite(found.volume.array).all()
    json.dumps(found.receipt, allow_nan=False)
