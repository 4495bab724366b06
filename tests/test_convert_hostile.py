"""Studies as clinics have them: masks of several images, names that collide, damaged files, reruns after a change."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from conftest import Segue
from dicom_studies import PLANTED, Study, everything_written
from segue.acquire.convert import ConvertOptions, convert
from segue.acquire.convert.identity import without_identity
from segue.catalogue import open_dataset
from segue.core.errors import DataError
from segue.images import read_masks, write
from segue.volume import Geometry, Volume

RNG = np.random.default_rng(6)
PET = np.abs(RNG.normal(4000, 1500, (8, 16, 16)))  # Bq/ml, voxels of 4x4x5 mm from 0
CT = np.rint(RNG.normal(0, 300, (10, 40, 40)))  # voxels of 2x2x5 mm from -8, -8, -5
# In voxels of the CT, and of the PET: 16 to 32 mm in the plane, 5 to 20 mm along the axis less half a voxel.
ON_CT, ON_PET = ((12, 12, 2), (20, 20, 5)), ((4, 4, 1), (8, 8, 4))


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def petct(folder: Path, **given: object) -> tuple[Study, str, str]:
    given.setdefault("deidentified", True)
    study = Study(folder, **given)  # type: ignore[arg-type]
    return study, study.add("PT", PET), study.add("CT", CT, (2.0, 2.0, 5.0), (-8.0, -8.0, -5.0))


def only_study(output: Path) -> Path:
    (folder,) = [path.parent for path in output.glob("*/*/convert.json")]
    return folder


def require_lesion_on_pet(folder: Path) -> None:
    mask, suv = nibabel.load(folder / "SEG.nii.gz"), nibabel.load(folder / "SUV.nii.gz")
    np.testing.assert_array_equal(mask.affine, suv.affine)
    found = np.argwhere(mask.get_fdata() > 0)
    assert np.abs(found.min(axis=0) - ON_PET[0]).max() <= 1 and np.abs(found.max(axis=0) + 1 - ON_PET[1]).max() <= 1


def test_segments_drawn_on_the_ct_end_on_the_pet(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in")
    study.add_segments(ct, {"lesion": ON_CT})
    assert not convert(tmp_path / "in", tmp_path / "out").failed
    require_lesion_on_pet(only_study(tmp_path / "out"))


def test_segments_whose_ct_is_not_there_end_on_the_pet(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in")
    study.add_segments(ct, {"lesion": ON_CT})
    for path in study.files(ct):
        path.unlink()
    assert not convert(tmp_path / "in", tmp_path / "out").failed
    require_lesion_on_pet(only_study(tmp_path / "out"))


def test_structures_whose_ct_is_not_there_end_on_the_pet(tmp_path: Path) -> None:
    """Contours are places in the patient: any image of their frame of reference will do."""
    study, _, ct = petct(tmp_path / "in")
    study.add_structures(ct, {"lesion": ON_CT})
    for path in study.files(ct):
        path.unlink()
    assert not convert(tmp_path / "in", tmp_path / "out").failed
    folder = only_study(tmp_path / "out")
    require_lesion_on_pet(folder)
    assert json.loads((folder / "SEG.json").read_text())["image"] == "PET.nii.gz"


def test_of_masks_on_two_cts_those_of_the_pets_ct_are_taken(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in")
    part = study.add("CT", CT[:5], (2.0, 2.0, 5.0), (-8.0, -8.0, -5.0))
    study.add_structures(ct, {"lesion": ON_CT})
    study.add_structures(part, {"other": ((2, 2, 1), (9, 9, 4))})
    assert not convert(tmp_path / "in", tmp_path / "out").failed
    require_lesion_on_pet(only_study(tmp_path / "out"))


def test_masks_in_another_frame_are_told_of(tmp_path: Path, segue: Segue) -> None:
    study = Study(tmp_path / "in", deidentified=True)
    study.add("PT", PET)
    other = Study(study.folder, study.patient, True, study.uid, number=1)
    ct = other.add("CT", CT, (2.0, 2.0, 5.0), (-8.0, -8.0, -5.0))
    other.add_structures(ct, {"lesion": ON_CT})
    done = segue("convert", study.folder, tmp_path / "out")
    assert done.returncode == 0 and "no CTres" in done.stdout and "no mask for the PET" in done.stdout
    assert {path.name for path in only_study(tmp_path / "out").glob("*.nii.gz")} == {
        *("PET.nii.gz", "SUV.nii.gz", "CT.nii.gz", "SEG_CT.nii.gz")
    }


def test_two_sets_of_masks_are_ambiguous_until_one_is_named(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in")
    study.add_structures(ct, {"other": ((2, 2, 1), (9, 9, 4))})
    meant = study.add_structures(ct, {"lesion": ON_CT})
    (row,) = convert(tmp_path / "in", tmp_path / "out").failed
    assert row.reason == "AMBIGUOUS_SERIES" and f"--series {meant}" in row.value
    assert not list((tmp_path / "out").glob("*/*/SEG.nii.gz"))
    assert not convert(tmp_path / "in", tmp_path / "out", ConvertOptions(series=(meant,))).failed
    require_lesion_on_pet(only_study(tmp_path / "out"))


def test_two_sets_of_masks_in_one_series_cannot_be_decided_by_its_uid(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in")
    series = study.add_structures(ct, {"other": ((2, 2, 1), (9, 9, 4))})
    study.add_structures(ct, {"lesion": ON_CT}, series)
    (row,) = convert(tmp_path / "in", tmp_path / "out").failed
    assert row.reason == "AMBIGUOUS_SERIES" and "--series" not in row.value + row.remedy and "move" in row.remedy


def test_names_of_structures_are_kept_without_whose_they_are(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in", deidentified=False)
    study.add_structures(ct, {"GTV_Mustermann Erika 29.02.2024": ON_CT, "mrn-4711 edema": ((8, 8, 1), (24, 24, 6))})
    convert(tmp_path / "in", tmp_path / "out")
    folder = only_study(tmp_path / "out")
    assert json.loads((folder / "SEG.json").read_text())["labels"] == {"1": "GTV", "2": "edema"}
    assert (folder / "SEG_01_gtv.nii.gz").exists()  # they overlap
    for name, content in everything_written(tmp_path / "out"):
        for planted in ("erika", *PLANTED):
            assert planted.lower() not in name.lower() and planted.lower().encode() not in content.lower(), name


def test_words_of_a_name_are_found_as_words() -> None:
    assert without_identity("Massa GTV_mass 2", {"mass"}) == "Massa GTV_ 2"
    assert without_identity("lesion 1 (12345678)", set()) == "lesion 1 ( )"
    assert without_identity("Weiss", {"weiss"}) == ""


def test_two_patients_stay_two(tmp_path: Path) -> None:
    names = ["A/B", "A_B", "..", "***", "x" * 200, "x" * 199 + "y", "\U00020000" * 60]
    for n, name in enumerate(names):
        Study(tmp_path / "in" / str(n), name, True).add("MR", CT, SpecificCharacterSet="ISO_IR 192")
    done = convert(tmp_path / "in", tmp_path / "out")
    assert not done.failed and len({row.patient for row in done.studies}) == len(names)
    assert "A_B" in {row.patient for row in done.studies}
    assert all(len(path.name.encode()) < 240 for path in (tmp_path / "out").rglob("*"))


def test_a_series_under_two_patient_ids_is_two(tmp_path: Path) -> None:
    study, *_ = petct(tmp_path / "in" / "a", patient="A")
    for path in study.folder.rglob("IM*"):
        header = dcmread(path)
        header.PatientID = "B"
        target = tmp_path / "in" / "b" / path.name
        target.parent.mkdir(exist_ok=True)
        header.save_as(target)
    done = convert(tmp_path / "in", tmp_path / "out")
    assert [row.patient for row in done.studies] == ["A", "B"] and not done.failed


def test_a_damaged_file_is_named_on_the_terminal_alone(tmp_path: Path, segue: Segue) -> None:
    study, _, ct = petct(tmp_path / "in", deidentified=False)
    damaged = study.files(ct)[3].rename(study.folder / "IM Mustermann")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    done = segue("convert", study.folder, tmp_path / "out")
    assert done.returncode == 3 and "IM Mustermann" in done.stdout
    assert "Mustermann" not in (tmp_path / "out" / "convert.csv").read_text()


def test_a_study_without_a_volume_is_not_counted_as_converted(tmp_path: Path, segue: Segue) -> None:
    Study(tmp_path / "in", deidentified=True).add("CT", CT[:1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    done = segue("convert", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0 and "0 of 1 studies converted" in done.stdout
    assert "in 1 nothing is a volume" in done.stdout and "next:" not in done.stdout


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    study, _, ct = petct(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    folder = only_study(tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    study.add("MR", CT)
    assert not convert(tmp_path / "in", tmp_path / "out").failed
    assert (folder / "MR.nii.gz").exists() and (folder / "notes.txt").read_text() == "mine"
    (folder / "SEG.nii.gz").write_bytes(b"drawn by hand")
    study.add_structures(ct, {"lesion": ON_CT})
    (row,) = convert(tmp_path / "in", tmp_path / "out").failed
    assert row.reason == "NAME_TAKEN" and "SEG.nii.gz" in row.what
    assert (folder / "SEG.nii.gz").read_bytes() == b"drawn by hand" and (folder / "MR.nii.gz").exists()
    (folder / "SEG.nii.gz").unlink()
    assert not convert(tmp_path / "in", tmp_path / "out").failed
    require_lesion_on_pet(folder)


def test_what_can_no_longer_be_made_does_not_stay(tmp_path: Path) -> None:
    """A folder never holds what the table calls failed."""
    study, *_ = petct(tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out")
    folder = only_study(tmp_path / "out")
    study.add("PT", PET * 2)
    (row,) = convert(tmp_path / "in", tmp_path / "out").failed
    assert row.reason == "AMBIGUOUS_SERIES" and not folder.parent.exists()


def test_rows_of_what_earlier_runs_brought_stay(tmp_path: Path) -> None:
    for name in "AB":
        petct(tmp_path / name, patient=name)
        convert(tmp_path / name, tmp_path / "out")

    def patients() -> set[str]:
        with (tmp_path / "out" / "convert.csv").open(newline="") as handle:
            return {row["patient"] for row in csv.DictReader(handle)}

    assert patients() == {"A", "B"}
    shutil.rmtree(tmp_path / "out" / "A")
    convert(tmp_path / "B", tmp_path / "out")
    assert patients() == {"B"}


def test_labels_go_by_the_names_of_the_masks(tmp_path: Path, segue: Segue) -> None:
    for n in range(2):
        study, _, ct = petct(tmp_path / "in" / str(n), patient=f"P{n}")
        study.add_structures(ct, {"Lesion": ON_CT, "liver": ((22, 22, 2), (30, 30, 6))})
    convert(tmp_path / "in", tmp_path / "out")
    assert open_dataset(str(tmp_path / "out")).card.labels == {1: "lesion", 2: "liver"}
    mask = segue("check", next((tmp_path / "out").glob("P0/*/SEG.nii.gz"))).stdout
    assert "label map" in mask and "Lesion, 3.84 ml" in mask  # 16 x 16 x 15 mm
    study, _, ct = petct(tmp_path / "in" / "2", patient="P2")
    study.add_structures(ct, {"liver": ON_CT, "lesion": ((22, 22, 2), (30, 30, 6))})
    convert(tmp_path / "in", tmp_path / "out")
    for command in ("check", "train"):
        done = segue(command, tmp_path / "out")
        assert done.returncode == 3 and "label 1 is 'lesion' in 2 studies, 'liver' in 1 studies" in done.stderr


def test_one_structure_by_several_names_is_the_lesion(tmp_path: Path) -> None:
    for n, name in enumerate(["GTV", "Tumour"]):
        study, _, ct = petct(tmp_path / "in" / str(n), patient=f"P{n}")
        study.add_structures(ct, {name: ON_CT})
    convert(tmp_path / "in", tmp_path / "out")
    assert open_dataset(str(tmp_path / "out")).card.labels == {1: "lesion"}


def test_a_photograph_is_no_label_map(tmp_path: Path, segue: Segue) -> None:
    picture = RNG.integers(0, 200, (1, 40, 40, 1)).astype(np.uint8)
    geometry = Geometry((40, 40, 1), np.diag([-1.0, -1.0, 1.0, 1.0]))
    write(Volume(picture, geometry), tmp_path / "picture.png")
    assert "label map" not in segue("check", tmp_path / "picture.png").stdout


def test_ctrl_c_while_workers_start_shows_no_traceback(tmp_path: Path) -> None:
    for n in range(4):
        petct(tmp_path / "in" / str(n), patient=f"P{n}")
    command = [sys.executable, "-m", "segue", "convert", tmp_path / "in", tmp_path / "out", "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as running:
        assert running.stdout is not None and running.stdout.readline().startswith("scan")
        time.sleep(0.3)
        os.killpg(running.pid, signal.SIGINT)
        said = running.stdout.read()
    assert running.returncode == 130 and "interrupted" in said and "Traceback" not in said
    assert not list(tmp_path.rglob("*.converting"))
    assert not convert(tmp_path / "in", tmp_path / "out").failed


def test_a_folder_is_no_mask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a folder"):
        read_masks(tmp_path)


def test_a_pet_of_several_frames_is_called_what_it_is(tmp_path: Path) -> None:
    Study(tmp_path / "in").add("PT", PET[:1], NumberOfFrames=2, CorrectedImage=None)
    done = convert(tmp_path / "in", tmp_path / "out")
    assert [row.reason for row in done.studies] == ["ENHANCED_PET"]
