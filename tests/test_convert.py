"""DICOM studies to PATIENT/STUDY folders: layout, choice of series, identity, reruns, failures."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from conftest import Segue
from dicom_studies import PLANTED, Study, everything_written, suv_of
from segue.acquire import GetOptions, get
from segue.acquire.convert import ConvertOptions, convert
from segue.catalogue import load_card, open_dataset
from segue.core.errors import DataError, UsageError
from segue.images import read, read_labels

RNG = np.random.default_rng(5)
PET = np.abs(RNG.normal(4000, 1500, (8, 16, 16)))  # Bq/ml
CT = np.rint(RNG.normal(0, 300, (9, 40, 40)))


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The key of the pseudonyms lies in a configuration folder of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "segue" / "pseudonyms.key"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "export"


def petct(folder: Path, **given: object) -> tuple[Study, str, str]:
    """A study with a PET of 64x64x40 mm and a CT that covers it but for its last slice."""
    study = Study(folder, **given)  # type: ignore[arg-type]
    pet = study.add("PT", PET)
    ct = study.add("CT", CT, (2.0, 2.0, 4.0), (-8.0, -8.0, -2.0))
    return study, pet, ct


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "convert.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def only_study(output: Path) -> Path:
    (folder,) = [path.parent for path in output.glob("*/*/convert.json")]
    return folder


def test_a_study_becomes_the_layout_of_fdg_pet_ct_lesions(source: Path, tmp_path: Path) -> None:
    petct(source, patient="PETCT_01", deidentified=True)
    done = convert(source, tmp_path / "out")
    assert not done.failed and not done.pseudonyms
    folder = only_study(tmp_path / "out")
    assert folder.parent.name == "PETCT_01"
    assert folder.name.startswith("02-29-2024-NA-PET-CT whole body-")
    assert {path.name for path in folder.glob("*.nii.gz")} == {
        "PET.nii.gz",
        "SUV.nii.gz",
        "CT.nii.gz",
        "CTres.nii.gz",
    }
    pet, suv = nibabel.load(folder / "PET.nii.gz"), nibabel.load(folder / "SUV.nii.gz")
    # Columns run to the left and rows to the back (LPS); NIfTI says where they lie in RAS.
    np.testing.assert_allclose(pet.affine, [[-4, 0, 0, 0], [0, -4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(pet.get_fdata(), PET.transpose(2, 1, 0), atol=PET.max() / 30_000)
    np.testing.assert_allclose(suv.get_fdata(), suv_of(pet.get_fdata()), rtol=1e-5)
    assert suv.get_data_dtype() == np.float32 and nibabel.load(folder / "CT.nii.gz").get_data_dtype() == np.int16
    np.testing.assert_array_equal(nibabel.load(folder / "CT.nii.gz").get_fdata(), CT.transpose(2, 1, 0))


def test_ctres_is_the_ct_on_the_grid_of_the_pet(source: Path, tmp_path: Path) -> None:
    petct(source, deidentified=True)
    convert(source, tmp_path / "out")
    folder = only_study(tmp_path / "out")
    ctres = nibabel.load(folder / "CTres.nii.gz")
    np.testing.assert_array_equal(ctres.affine, nibabel.load(folder / "SUV.nii.gz").affine)
    images = [SimpleITK.ReadImage(str(folder / name), SimpleITK.sitkFloat32) for name in ("CT.nii.gz", "SUV.nii.gz")]
    expected = SimpleITK.Resample(*images, SimpleITK.Transform(), SimpleITK.sitkBSpline3, -1024.0)
    theirs = SimpleITK.GetArrayFromImage(expected).transpose(2, 1, 0)
    np.testing.assert_allclose(ctres.get_fdata(), theirs, atol=0.01)
    outside = theirs == -1024
    assert outside.any() and (ctres.get_fdata()[outside] == -1024).all()


def test_a_converted_folder_trains_at_once(source: Path, tmp_path: Path) -> None:
    for n in range(3):
        petct(source / str(n), patient=f"PETCT_{n}", deidentified=True)
    convert(source, tmp_path / "out")
    dataset = open_dataset(str(tmp_path / "out"))
    assert [case.patient for case in dataset.cases] == ["PETCT_0", "PETCT_1", "PETCT_2"]
    assert [channel.name for channel in dataset.card.channels] == ["CT", "PET"]
    assert all(path.exists() for case in dataset.cases for path in case.image_files)


def test_the_sidecars_say_what_was_done(source: Path, tmp_path: Path) -> None:
    petct(source)
    convert(source, tmp_path / "out")
    folder = only_study(tmp_path / "out")
    suv = json.loads((folder / "SUV.json").read_text())["suv"]
    assert suv["uptake_minutes"] == pytest.approx(60.0)
    ct = json.loads((folder / "CT.json").read_text())
    assert ct["unit"] == "HU" and ct["acquisition"]["KVP"] == 120
    pet = json.loads((folder / "PET.json").read_text())
    assert pet["unit"] == "BQML" and pet["acquisition"]["Units"] == "BQML"


def test_nothing_of_a_patient_is_written(source: Path, tmp_path: Path, key: Path) -> None:
    study, *_ = petct(source)
    broken = study.folder / "Mustermann.dcm"
    broken.write_bytes(next(path for path in source.rglob("IM*") if path.is_file()).read_bytes()[:900])
    done = convert(source, tmp_path / "out")
    assert done.pseudonyms
    for name, content in everything_written(tmp_path / "out"):
        for planted in (*PLANTED, study.uid, study.frame):
            assert planted not in name and planted.encode() not in content, (name, planted)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_pseudonym_is_the_same_for_the_same_patient_and_key(source: Path, tmp_path: Path, key: Path) -> None:
    petct(source / "a", patient="MRN-1")
    petct(source / "b", patient="MRN-1")
    petct(source / "c", patient="MRN-2")
    convert(source, tmp_path / "out")
    patients = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert len(patients) == 2
    assert sorted(len(list((tmp_path / "out" / name).iterdir())) for name in patients) == [1, 2]
    convert(source, tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").iterdir() if path.is_dir()) == patients
    key.unlink()
    convert(source, tmp_path / "other")
    assert not {path.name for path in (tmp_path / "other").iterdir() if path.is_dir()} & set(patients)


def test_ids_are_kept_where_that_is_asked_for(source: Path, tmp_path: Path, key: Path) -> None:
    petct(source)
    convert(source, tmp_path / "out", ConvertOptions(keep_ids=True))
    assert only_study(tmp_path / "out").parent.name == "MRN-4711"
    assert not key.exists()


def test_the_key_never_lies_in_the_output(source: Path, tmp_path: Path) -> None:
    petct(source)
    with pytest.raises(UsageError, match="key"):
        convert(source, tmp_path / "config")


def test_two_corrected_pets_are_ambiguous_until_one_is_named(source: Path, tmp_path: Path, segue: Segue) -> None:
    study, first, _ = petct(source)
    second = study.add("PT", PET * 2)
    output = tmp_path / "out"
    refused = segue("convert", source, output)
    assert refused.returncode == 3
    told = refused.stdout
    assert "AMBIGUOUS_SERIES" in told and f"--series {first}" in told and f"--series {second}" in told
    failed = [row for row in rows_of(output) if row["status"] == "failed"]
    assert [row["reason"] for row in failed] == ["AMBIGUOUS_SERIES"]
    assert first not in (output / "convert.csv").read_text()
    assert not list(output.glob("*/*/SUV.nii.gz"))
    assert segue("convert", source, output, "--series", second).returncode == 0
    folder = only_study(output)
    suv = nibabel.load(folder / "SUV.nii.gz").get_fdata()
    np.testing.assert_allclose(suv, suv_of(2 * PET.transpose(2, 1, 0)), atol=0.01)
    assert len(list(folder.glob("PET*.nii.gz"))) == 2


def test_uncorrected_and_projected_pets_are_no_candidates(source: Path, tmp_path: Path) -> None:
    study, *_ = petct(source, deidentified=True)
    study.add("PT", PET * 3, CorrectedImage=["NORM", "DECY"])
    study.add("PT", PET[:3] * 5, ImageType=["DERIVED", "SECONDARY", "MIP"])
    done = convert(source, tmp_path / "out")
    assert not done.failed
    suv = nibabel.load(only_study(tmp_path / "out") / "SUV.nii.gz").get_fdata()
    np.testing.assert_allclose(suv, suv_of(PET.transpose(2, 1, 0)), atol=0.01)


def test_only_an_uncorrected_pet_is_a_failure(source: Path, tmp_path: Path) -> None:
    Study(source).add("PT", PET, CorrectedImage=["NORM", "DECY"])
    done = convert(source, tmp_path / "out")
    assert [row.reason for row in done.studies] == ["NOT_ATTENUATION_CORRECTED"]


def test_the_ct_that_covers_most_of_the_pet_is_taken(source: Path, tmp_path: Path) -> None:
    study, *_ = petct(source, deidentified=True)
    half = study.add("CT", CT[:5] + 1000, (2.0, 2.0, 4.0), (-8.0, -8.0, -2.0))
    other = Study(source, study.patient, True, study.uid, number=study.number)
    elsewhere = other.add("CT", CT + 500, (2.0, 2.0, 4.0), (-8.0, -8.0, -2.0))
    assert not convert(source, tmp_path / "out").failed
    folder = only_study(tmp_path / "out")
    np.testing.assert_array_equal(nibabel.load(folder / "CT.nii.gz").get_fdata(), CT.transpose(2, 1, 0))
    assert len(list(folder.glob("CT_*.nii.gz"))) == 2
    convert(source, tmp_path / "named", ConvertOptions(series=(half,)))
    named = only_study(tmp_path / "named") / "CT.nii.gz"
    assert nibabel.load(named).shape[2] == 5
    convert(source, tmp_path / "third", ConvertOptions(series=(elsewhere,)))
    assert nibabel.load(only_study(tmp_path / "third") / "CT.nii.gz").get_fdata().min() == CT.min() + 500


def test_two_cts_that_cover_the_same_are_a_tie(source: Path, tmp_path: Path) -> None:
    study, *_ = petct(source)
    study.add("CT", CT + 7, (2.0, 2.0, 4.0), (-8.0, -8.0, -2.0))
    done = convert(source, tmp_path / "out")
    assert [row.reason for row in done.failed] == ["AMBIGUOUS_SERIES"]
    folder = only_study(tmp_path / "out")
    assert (folder / "SUV.nii.gz").exists() and not (folder / "CTres.nii.gz").exists()


def test_a_bad_study_is_a_row_and_the_others_go_on(source: Path, tmp_path: Path) -> None:
    petct(source / "good", patient="GOOD", deidentified=True)
    bad = Study(source / "bad", "BAD", True)
    bad.add("PT", PET, PatientWeight=None)
    gap = Study(source / "gap", "GAP", True)
    gap.add("CT", CT)
    next(path for path in (source / "gap").rglob("*0005")).unlink()
    done = convert(source, tmp_path / "out", ConvertOptions(workers=2))
    reasons = {row["patient"]: row["reason"] for row in rows_of(tmp_path / "out") if row["status"] == "failed"}
    assert reasons == {"BAD": "NO_WEIGHT", "GAP": "MISSING_SLICE"}
    assert [row.patient for row in done.studies if row.status == "converted"] == ["GOOD"]
    assert (tmp_path / "out" / "BAD").is_dir()  # the activity is there, the SUV is not
    assert not list(tmp_path.glob("out/BAD/*/SUV.nii.gz")) and list(tmp_path.glob("out/BAD/*/PET.nii.gz"))


def test_a_second_run_finds_what_the_first_made(source: Path, tmp_path: Path) -> None:
    petct(source)
    first = convert(source, tmp_path / "out")
    folder = only_study(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = convert(source, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert again.rows == first.rows
    (folder / "CTres.nii.gz").unlink()
    convert(source, tmp_path / "out")
    assert (folder / "CTres.nii.gz").exists()
    convert(source, tmp_path / "out", ConvertOptions(suv_type="lbm"))
    lean = nibabel.load(folder / "SUV.nii.gz").get_fdata()
    # Woman of 70 kg and 1.70 m: 1.07 * 70 - 148 * (70 / 170)^2 = 49.81 kg of lean mass.
    np.testing.assert_allclose(lean, suv_of(PET.transpose(2, 1, 0)) * 49.806 / 70, atol=0.01)
    assert not list((tmp_path / "out").rglob(".*"))


def test_several_studies_mixed_in_one_folder(source: Path, tmp_path: Path) -> None:
    petct(source, patient="A", deidentified=True)
    petct(source / "deep" / "er", patient="A", deidentified=True)
    Study(source, "B", True).add("MR", CT)
    (source / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (source / "notes.txt").write_text("no DICOM")
    done = convert(source, tmp_path / "out")
    assert len(done.studies) == 3 and not done.failed
    assert len(list((tmp_path / "out" / "A").iterdir())) == 2
    assert [path.name for path in (tmp_path / "out" / "B").glob("*/*.nii.gz")] == ["MR.nii.gz"]


def test_a_scout_and_a_report_are_left_out_knowingly(source: Path, tmp_path: Path) -> None:
    study, *_ = petct(source)
    study.add("CT", CT[:1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    done = convert(source, tmp_path / "out")
    assert not done.failed
    assert [(row.series, row.what) for row in done.rows if row.status == "left out"] == [
        ("CT 3", "no slices of a patient: CT, LOCALIZER")
    ]


def test_a_file_whose_header_is_damaged_is_a_row(source: Path, tmp_path: Path, segue: Segue) -> None:
    petct(source, patient="A", deidentified=True)
    whole = next(path for path in source.rglob("IM*")).read_bytes()
    (source / "Mustermann.dcm").write_bytes(whole[:128] + b"DICM" + b"\xff" * 40)
    done = segue("convert", source, tmp_path / "out")
    assert done.returncode == 3
    assert "1 of 1 studies converted" in done.stdout and "Mustermann.dcm" in done.stdout
    last = rows_of(tmp_path / "out")[-1]
    assert (last["study"], last["status"], last["reason"]) == ("", "failed", "DAMAGED")
    assert "Mustermann" not in (tmp_path / "out" / "convert.csv").read_text()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["nowhere", "out"], 2, "no such folder"),
        (["export", "export/inside"], 2, "inside the DICOM folder"),
        (["export", "out", "--suv", "best"], 2, "standard, autopet-compat"),
        (["export", "out", "--series", "1.2.3"], 2, "no such series here"),
        (["empty", "out"], 3, "no DICOM series here"),
    ],
)
def test_what_cannot_be_meant(
    source: Path, tmp_path: Path, segue: Segue, command: list[str], code: int, said: str
) -> None:
    Study(source).add("MR", CT)
    (tmp_path / "empty").mkdir()
    done = segue("convert", *command)
    assert done.returncode == code and said in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_get_of_a_card_whose_download_is_dicom_converts_it(source: Path, tmp_path: Path) -> None:
    for n in range(2):
        petct(source / f"{n}", patient=f"PETCT_{n}")
    root = tmp_path / "data" / "fdg-pet-ct-lesions"
    dataset = get(load_card("fdg-pet-ct-lesions"), root, GetOptions(source=source))
    assert [case.patient for case in dataset.cases] == ["PETCT_0", "PETCT_1"]  # a public collection keeps its names
    archive = shutil.make_archive(str(tmp_path / "download"), "zip", source)
    other = tmp_path / "other" / "fdg-pet-ct-lesions"
    again = get(load_card("fdg-pet-ct-lesions"), other, GetOptions(source=Path(archive)))
    assert [case.id for case in again.cases] == [case.id for case in dataset.cases]
    np.testing.assert_array_equal(
        read(again.cases[0].image_files[1]).array, read(dataset.cases[0].image_files[1]).array
    )


def test_get_says_when_nothing_could_be_converted(source: Path, tmp_path: Path) -> None:
    Study(source).add("PT", PET, PatientWeight=None)
    with pytest.raises(DataError, match="NO_WEIGHT"):
        get(load_card("fdg-pet-ct-lesions"), tmp_path / "x" / "fdg", GetOptions(source=source))


def test_masks_of_the_sarcoma_patients(test_data: Path, tmp_path: Path) -> None:
    """STS: the PET's structures on the PET's grid, the CT's on the CT's, as the given NIfTI masks are."""
    output = tmp_path / "out"
    convert(test_data / "sts-petct" / "dicom", output, ConvertOptions(keep_ids=True))
    masks = sorted(output.glob("*/*/SEG*.nii.gz"))
    assert masks
    for path in masks:
        facts = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        mask, image = read_labels(path), read(path.parent / facts["image"])
        assert mask.geometry.difference(image.geometry) is None
        assert set(np.unique(mask.array)) <= {0, *map(int, facts["labels"])}
