"""SUV of real images: reference objects, those with headers rewritten, a raw GE scan against its SUV image."""

from __future__ import annotations

import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pet_physics import Change, Scan, date_and_time, every, private, put, tags, tracer
from segue.dicom import DicomVolume, read_series, scan, suv
from segue.volume import Volume


def pet_of(folder: Path) -> DicomVolume:
    (series,) = [series for series in scan(folder) if series.modality == "PT"]
    return read_series(series)


# --- real images ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def objects(test_data: Path) -> Path:
    return test_data / "suv-dro"


def assert_object(values: np.ndarray, inside: np.ndarray) -> None:
    """Minimum, median and maximum that the authors of the reference objects give, to two decimals."""
    found = [float(function(values[0][inside])) for function in (np.min, np.median, np.max)]
    np.testing.assert_allclose(found, [0.20, 1.00, 4.00], atol=0.01)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("DRO_0_0", "series"),
        ("DRO_1_0", "series"),
        ("DRO_2_0", "as-stored"),
        ("DRO_2_2", "as-stored"),
        ("DRO_2_4", "philips-suv-factor"),
        ("DRO_3_0", "series"),
        ("DRO_3_1", "injection"),
        ("DRO_3_3", "series"),
        ("DRO_4_0", "series"),
    ],
)
def test_reference_objects(objects: Path, name: str, rule: str) -> None:
    found = suv(pet_of(objects / name))
    inside = nibabel.load(objects / name / "mask" / "DRO_mask.nii.gz").get_fdata() > 0
    assert_object(found.volume.array, inside)
    assert found.volume.array.dtype == np.float32 and found.volume.unit == "SUV"
    assert found.receipt["rule"] == rule and found.receipt["uptake_minutes"] == 60.0


def test_a_raw_ge_scan_gives_the_suv_of_its_publishers(test_data: Path) -> None:
    pet = pet_of(test_data / "sts001-raw-pet")
    found = suv(pet)
    truth = nibabel.load(test_data / "sts-petct" / "nifti" / "STS_001" / "PET_image.nii.gz")
    crop = truth.get_fdata()
    # Where the crop lies in the whole body, from the affines alone.
    to_whole = np.linalg.inv(pet.volume.geometry.affine) @ truth.affine
    corners = np.rint([to_whole @ [0, 0, 0, 1], to_whole @ [*(np.array(crop.shape) - 1), 1]])[:, :3].astype(int)
    low, high = corners.min(0), corners.max(0) + 1
    part = found.volume.array[0][tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    for axis in range(3):
        if corners[0, axis] > corners[1, axis]:
            part = np.flip(part, axis)
    # Both were rounded to 16 bits slice by slice.
    step = found.receipt["factor"] * max(float(header.RescaleSlope) for header in pet.headers)
    np.testing.assert_allclose(part, crop, rtol=1e-4, atol=step / 2)
    bright = crop > 0.5
    assert np.median(part[bright] / crop[bright]) == pytest.approx(1, abs=1e-6)
    assert part.sum(dtype=float) / crop.sum() == pytest.approx(1, abs=1e-4)
    assert part.max() == pytest.approx(25.4123, abs=1e-4)
    # Injected at 10:35, scanned from 11:20:11 on.
    assert found.receipt["rule"] == "series"
    assert found.receipt["uptake_minutes"] == pytest.approx(45 + 11 / 60)
    assert any("not the time of the average count rate" in warning for warning in found.receipt["warnings"])


@pytest.mark.parametrize("patient", ["STS_001", "STS_002", "STS_005", "STS_009"])
def test_what_is_suv_already_is_not_scaled_again(test_data: Path, patient: str) -> None:
    pet = pet_of(test_data / "sts-petct" / "dicom" / patient / "PET")
    found = suv(pet)
    assert found.receipt["factor"] == 1.0 and found.receipt["rule"] == "as-stored"
    np.testing.assert_array_equal(found.volume.array, pet.volume.array)
    path = test_data / "sts-petct" / "nifti" / patient / "PET_image.nii.gz"
    if path.exists():
        truth = np.sort(nibabel.load(path).get_fdata().ravel())
        np.testing.assert_allclose(np.sort(found.volume.array.ravel()), truth, rtol=1e-5, atol=1e-5)
    shifted = any("contradictory dates" in warning for warning in found.receipt["warnings"])
    assert shifted == (patient in ("STS_002", "STS_009"))


# --- reference objects made from the baseline one -------------------------------------------------------------------


def _bed_of(k: int) -> int:
    return 0 if k < 10 else 1


def _two_beds(series_s: float, decay: str, reference_s: float, rewrite: dict[str, Any]) -> tuple[Scan, Change]:
    simulated = Scan(
        datetime(2025, 1, 1, 10),
        368.08e6,
        decay=decay,
        reference_s=reference_s,
        bed_starts_s=(3750.0, 4050.0),
        frame_s=300.0,
    )

    def change(headers: list[Dataset]) -> None:
        for k, header in enumerate(headers):
            start_s = simulated.bed_starts_s[_bed_of(k)]
            header.DecayCorrection = decay
            header.SeriesTime = date_and_time(simulated.at(series_s))[1]
            header.AcquisitionTime = date_and_time(simulated.at(start_s))[1]
            header.FrameReferenceTime = (simulated.average_time_s(start_s) - reference_s) * 1000
            put(header, rewrite)

    return simulated, change


BASE = Scan(datetime(2025, 1, 1, 10), 368.08e6, bed_starts_s=(3600.0,), frame_s=300.0)
MADE = {
    # name: the change, and the image's value of SUV 1 on each slice
    "2_1": (tags(Units="GML", SUVType="LBMJAMES128", PatientSex="F"), 51.22 / 70),
    "2_3": (tags(Units="CM2ML", SUVType="BSA"), 1.848164e4 / 70e3),
    "2_5": (
        every(
            tags(Units="CNTS", Manufacturer="Philips Medical Systems"),
            private((0x7053, ""), 0x00, "DS", "0.0"),
            private((0x7053, ""), 0x09, "DS", "2.5"),
        ),
        BASE.concentration(3600) / 2.5,
    ),
    "4_1": (tracer(RadiopharmaceuticalStartDateTime=None), BASE.concentration(3600)),
    "4_2": (
        every(
            tags(SeriesDate="20250102", AcquisitionDate="20250102", SeriesTime="003000", AcquisitionTime="003000"),
            tracer(RadiopharmaceuticalStartDateTime=None, RadiopharmaceuticalStartTime="233000"),
        ),
        BASE.concentration(3600),
    ),
}
GALLIUM = Scan(datetime(2025, 1, 1, 10), 150e6, half_life_s=4057.74, bed_starts_s=(3600.0,), frame_s=300.0)
MADE["5_0"] = (
    tracer(RadionuclideTotalDose=150e6, RadionuclideHalfLife=None, RadionuclideCodeSequence=None),
    GALLIUM.concentration(3600),
)


def _with_nuclide(headers: list[Dataset], value: str) -> None:
    for header in headers:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = value, "SRT"
        header.RadiopharmaceuticalInformationSequence[0].RadionuclideCodeSequence = Sequence([code])


def made_object(objects: Path, name: str) -> tuple[DicomVolume, np.ndarray]:
    """The baseline object with other headers and the values that these headers call for; and where it lies."""
    base = pet_of(objects / "DRO_0_0")
    inside = nibabel.load(objects / "DRO_0_0" / "mask" / "DRO_mask.nii.gz").get_fdata() > 0
    truth = base.volume.array.astype(np.float64) / BASE.concentration(3600)
    headers = copy.deepcopy(base.headers)
    if name in ("3_2", "3_4"):
        # 3_2: saved again after both beds were acquired. 3_4: not decay-corrected; DECY stays among the corrections.
        rewrite = {} if name == "3_2" else {"FrameReferenceTime": None}
        simulated, change = _two_beds(9000.0, "START" if name == "3_2" else "NONE", 3600.0, rewrite)
        change(headers)
        stored = np.array([simulated.stored(simulated.bed_starts_s[_bed_of(k)]) for k in range(len(headers))])
    else:
        change, value = MADE[name]
        change(headers)
        stored = np.full(len(headers), value)
    if name == "5_0":
        _with_nuclide(headers, "C-131A3")
    volume = Volume((truth * stored).astype(np.float32), base.volume.geometry)
    return DicomVolume(volume, headers), inside


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("2_1", "as-stored"),
        ("2_3", "as-stored"),
        ("2_5", "series"),
        ("3_2", "back-computed"),
        ("3_4", "acquisition-of-each-slice"),
        ("4_1", "series"),
        ("4_2", "series"),
        ("5_0", "series"),
    ],
)
def test_objects_with_other_headers(objects: Path, name: str, rule: str) -> None:
    pet, inside = made_object(objects, name)
    found = suv(pet)
    assert_object(found.volume.array, inside)
    baseline = suv(pet_of(objects / "DRO_0_0")).volume.array
    np.testing.assert_allclose(found.volume.array, baseline, rtol=2e-5)
    assert found.receipt["rule"] == rule


def test_the_order_of_rules_is_told_in_ratios(objects: Path) -> None:
    """The earliest acquisition is 150 s later than the reference of this object: 2^(150/6586.2) = 1.0159."""
    found = suv(made_object(objects, "3_2")[0]).receipt
    ratios = {one["rule"]: one["suv_ratio"] for one in found["alternatives"]}
    assert ratios["earliest-acquisition"] == pytest.approx(1.0159, abs=1e-4)
    assert ratios["series"] == pytest.approx(2 ** (5400 / 6586.2), rel=1e-5)
    assert found["reference_s_after_injection"] == pytest.approx(3600.0, abs=1e-3)


def test_an_object_written_and_read_again(objects: Path, tmp_path: Path) -> None:
    pet, inside = made_object(objects, "3_4")
    for k, header in enumerate(pet.headers):
        image = pet.volume.array[0, :, :, k].T
        slope = float(image.max()) / 32_000 or 1.0
        header.RescaleSlope = f"{slope:.10g}"
        header.add_new("PixelData", "OW", np.rint(image / float(header.RescaleSlope)).astype("<i2").tobytes())
        header.save_as(tmp_path / f"{k:02d}")
    assert_object(suv(pet_of(tmp_path)).volume.array, inside)
