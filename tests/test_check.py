"""Quality control on real images and on copies that were damaged on purpose."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import segue as segue_package
from conftest import Segue
from damage import change, copied, shifted, voxels
from segue.catalogue import Card, Case, Dataset, Verdict, open_dataset, write_verdicts
from segue.core.errors import UsageError
from segue.images import read
from segue.prepare import ExamineTask, Finding, dataset_findings, examine, grouped
from segue.prepare.quality.labels import measure_labels, sided_pairs
from segue.volume import Geometry
from segue.workflow.check_tables import finding_lines, write_tables
from segue.workflow.checking import CheckResult, check, check_dataset, known_findings
from segue.workflow.repairing import repair


def card(*channels: tuple[str, str], labels: dict[int, str] | None = None, dimension: int = 3, **more: object) -> Card:
    return Card.model_validate(
        {
            "name": "mine",
            "title": "Mine",
            "task": "segmentation" if labels else "unlabelled",
            "dimension": dimension,
            "modalities": ["CT"],
            "channels": [{"name": name, "unit": unit} for name, unit in channels],
            "labels": labels or {},
            "layout": {"kind": "files", "images": "{case}.nii.gz"},
            **more,
        }
    )


def told(findings: Sequence[Finding], case: str = "", severity: str = "") -> list[str]:
    return [str(f) for f in findings if case in ("", f.case) and severity in ("", f.severity)]


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


@pytest.fixture(scope="module")
def damaged(hippocampus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], CheckResult]:
    folder = tmp_path_factory.mktemp("damaged") / "hippocampi"
    n = copied(hippocampus, folder, 24)

    def at(place: object, value: float):  # type: ignore[no-untyped-def]
        def put(array: np.ndarray) -> np.ndarray:
            array = array.astype(np.float32)
            array[place] = value
            return array

        return voxels(put)

    larger = np.diag([3.0, 3.0, 3.0, 1.0])
    change(folder, n[0], "labelsTr", shifted(0.5))
    change(folder, n[1], "labelsTr", shifted(3e-5))
    change(folder, n[2], "imagesTr", at(slice(0, 3), np.nan))
    change(folder, n[3], "labelsTr", at((slice(0, 3), 0, 0), 7))
    change(folder, n[4], "labelsTr", voxels(np.zeros_like))
    change(folder, n[5], "labelsTr", voxels(lambda a: np.where(a == 2, 0, a).astype(np.uint8)))
    change(folder, n[6], "labelsTr", voxels(lambda a: a.astype(np.float32) + 0.0002))
    change(folder, n[7], "labelsTr", voxels(lambda a: a.astype(np.float32) * 0.5))
    for part in ("imagesTr", "labelsTr"):
        change(folder, n[8], part, lambda a, affine: (a, affine @ larger))
        change(folder, n[9], part, lambda a, affine: (a[::-1], affine @ np.diag([-1.0, 1, 1, 1])))
    change(folder, n[10], "imagesTr", voxels(lambda a: np.minimum(a, np.percentile(a, 80))))
    change(folder, n[11], "labelsTr", at((0, 0, 0), 1))
    cut = folder / "imagesTr" / f"{n[12]}.nii.gz"
    cut.write_bytes(cut.read_bytes()[:900])
    (folder / "labelsTr" / f"{n[13]}.nii.gz").unlink()
    double = folder / "imagesTr" / f"{n[14]}.nii.gz"
    (folder / "imagesTr" / f"{n[15]}.nii.gz").write_bytes(double.read_bytes())
    two = nib.load(folder / "imagesTr" / f"{n[16]}.nii.gz")
    moved = two.affine.copy()
    moved[0, 3] += 7
    image = nib.Nifti1Image(np.asanyarray(two.dataobj), None, two.header)
    image.set_sform(two.affine, 1)
    image.set_qform(moved, 1)
    image.to_filename(folder / "imagesTr" / f"{n[16]}.nii.gz")
    change(folder, n[17], "imagesTr", at(slice(10, 12), np.inf))
    write_verdicts(folder, [Verdict(n[20], "flag", "blurred"), Verdict(n[3], "accept")])
    return folder, n, check(str(folder), folder.parent)


@pytest.mark.parametrize(
    ("number", "severity", "words"),
    [
        (0, "error", "different grids (NAME.nii.gz: positions differ by up to 0.5 mm)"),
        (1, "note", "the grids of image and label differ by rounding only (positions differ by up to 3e-05 mm)"),
        (2, "error", "channel MRI holds NaN or infinite values"),
        (3, "error", "the label holds values that the card does not name (7 in 3 voxels of NAME.nii.gz)"),
        (4, "warning", "the mask is empty, and nearly all cases have something"),
        (5, "warning", "label Posterior is absent, and nearly all cases have it"),
        (6, "note", "the mask is stored in floating point (float32)"),
        (7, "error", "the mask holds values that are no whole numbers"),
        (8, "warning", "spacing unlike the other cases' (3 x 3 x 3 mm, median 1 x 1 x 1)"),
        (8, "warning", "field of view unlike the other cases'"),
        (8, "warning", "the volume of Anterior is unlike the other cases'"),
        (9, "note", "stored in another orientation than most (RAS) (LAS"),
        (10, "warning", "channel MRI is saturated"),
        (11, "note", "label Anterior has specks beside it (1 components of at most 10 voxels, 2 in all)"),
        (11, "note", "label Anterior reaches the border of the image (at I, L, P)"),
        (12, "error", "the file is cut short"),
        (13, "error", "this file cannot be read"),
        (14, "warning", "the same image stands in"),
        (15, "error", "image and label lie on different grids"),
        (16, "warning", "qform and sform of the header name different places (NAME.nii.gz: by up to 7 mm)"),
        (17, "error", "channel MRI holds NaN or infinite values"),
        (20, "note", "left out: flagged in verdicts.csv: blurred"),
    ],
)
def test_each_damage_is_found_in_its_case(
    damaged: tuple[Path, list[str], CheckResult], number: int, severity: str, words: str
) -> None:
    _, names, checked = damaged
    here = told(checked.findings, names[number], severity)
    other = told(checked.findings, names[18], severity)
    if number == 14:  # named by either of the two
        here += told(checked.findings, names[15], severity)
    assert any(words.replace("NAME", names[number]) in text for text in here), here
    assert not any(words.replace("NAME", names[number]) in text for text in other)


def test_cases_that_nobody_damaged_have_no_finding(damaged: tuple[Path, list[str], CheckResult]) -> None:
    _, names, checked = damaged
    for name in (names[18], names[19], names[21], names[22], names[23]):
        assert told(checked.findings, name, "error") + told(checked.findings, name, "warning") == []


def test_every_finding_has_what_a_person_needs(damaged: tuple[Path, list[str], CheckResult]) -> None:
    for finding in damaged[2].findings:
        assert finding.case or finding.value, finding
        assert finding.value or finding.kind, finding
        if finding.severity != "note":
            assert finding.remedy, finding


def test_the_tables_hold_all_findings_and_no_formula(
    damaged: tuple[Path, list[str], CheckResult], tmp_path: Path
) -> None:
    _, names, checked = damaged
    bad = Finding(case='=HYPERLINK("x")', severity="error", what="@SUM(1)", value="+1\r\n-2", remedy="-")
    write_tables(CheckResult(1, [*checked.findings, bad], "x", checked.dataset), tmp_path)
    with (tmp_path / "check.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == len(checked.findings) + 1
    cells = [cell for row in rows for key, cell in row.items() if not key.endswith("_mm")]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert {row["verdict"] for row in rows if row["case"] == names[3]} == {"accept"}
    content = json.loads((tmp_path / "check.json").read_text())
    assert content["counts"]["error"] == len(checked.errors) + 1
    assert len(content["findings"]) == len(rows)
    assert content["left_out"] == {names[20]: "flagged in verdicts.csv: blurred"}


def test_ten_thousand_findings_are_a_few_lines() -> None:
    many = [
        Finding(case=f"c{n}", severity="warning", what=f"kind {n % 7}", value=f"{n}", remedy="look", size=n)
        for n in range(10_000)
    ]
    twins = [Finding(case=f"c{n}", severity="error", what=f"as c{n + 1}", kind="twins", remedy="r") for n in range(99)]
    lines = finding_lines(CheckResult(10_000, many + twins))
    assert len(lines) == 3 * 8 + 1
    assert lines[0] == "error: 99 cases: twins"
    assert "c9995 (9995), c9988 (9988)" in "\n".join(lines)  # the worst of its kind first
    assert lines[-1] == "10000 looked at: 99 errors, 10000 warnings, 0 notes"


def test_safe_repairs_make_a_dataset_that_is_accepted(
    damaged: tuple[Path, list[str], CheckResult], tmp_path: Path
) -> None:
    folder, n, _ = damaged
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = repair(open_dataset(folder), tmp_path / "fixed")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert {(one.case, one.what) for one in done} >= {
        (n[1], "the image's grid"),
        (n[2], "NaN at the border"),
        (n[3], "whole numbers"),
        (n[6], "whole numbers"),
    }
    assert not {n[0], n[7], n[8], n[17]} & {one.case for one in done}  # a person must decide
    rows = list(csv.DictReader((tmp_path / "fixed" / "repairs.csv").open(newline="")))
    assert [(row["case"], row["repair"]) for row in rows] == [(one.case, one.what) for one in done]
    again = check_dataset(open_dataset(tmp_path / "fixed"), tmp_path)
    for number in (1, 2, 6):
        assert told(again.findings, n[number]) == []
    assert told(again.findings, n[0], "error")
    assert [case.id for case in again.dataset.set_aside] == [n[20]]  # verdicts come along
    # The image is the same but for what was mended, the mask holds the same labels where it did.
    old, new = (read(base / "imagesTr" / f"{n[2]}.nii.gz") for base in (folder, tmp_path / "fixed"))
    whole = np.isfinite(old.array)
    assert np.array_equal(old.array[whole], new.array[whole])
    assert np.unique(new.array[~whole]) == old.array[whole].min()
    assert np.array_equal(old.geometry.affine, new.geometry.affine)
    mask = nib.load(tmp_path / "fixed" / "labelsTr" / f"{n[6]}.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    assert np.array_equal(
        np.asanyarray(mask.dataobj), np.rint(nib.load(folder / "labelsTr" / f"{n[6]}.nii.gz").dataobj)
    )
    for bad in (folder, folder / "inside", tmp_path / "fixed"):
        with pytest.raises(UsageError):
            repair(open_dataset(folder), bad)


def test_nan_inside_or_under_a_label_is_left(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, place in (("inside", np.s_[5:7, 5:7, 5:7]), ("label", np.s_[0:9, 5, 5])):
        array = rng.normal(size=(12, 12, 12)).astype(np.float32)
        array[place] = np.nan
        mask = np.zeros(array.shape, np.uint8)
        mask[8:10, 4:7, 4:7] = 1
        folder = tmp_path / name
        save(folder / "imagesTr" / "a_0000.nii.gz", array)
        save(folder / "labelsTr" / "a.nii.gz", mask)
        listing = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "box": 1}, "numTraining": 1}
        (folder / "dataset.json").write_text(json.dumps({**listing, "file_ending": ".nii.gz"}))
        assert repair(open_dataset(folder), tmp_path / f"{name} fixed") == []


def test_negative_spacings_are_mended_and_the_grid_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    affine = np.array([[-2.0, 0, 0, 5], [0, 1.5, 0, -3], [0, 0, 3, 7], [0, 0, 0, 1]])
    for number in range(2):
        image = nib.Nifti1Image(rng.normal(size=(8, 9, 10)).astype(np.float32), affine)
        image.header.set_sform(affine, 1)
        image.header.set_qform(affine, 0)
        image.header["pixdim"][1] = -2.0
        path = tmp_path / "in" / "imagesTr" / f"c{number}_0000.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as handle:  # nibabel itself would mend it
            handle.write(image.header.binaryblock[:344] + b"n+1\0" + b"\0" * 4)
            handle.write(np.asfortranarray(image.dataobj).tobytes(order="F"))
        raw = bytearray(path.read_bytes())
        raw[108:112] = np.float32(352).tobytes()
        path.write_bytes(bytes(raw))
        save(tmp_path / "in" / "labelsTr" / f"c{number}.nii", np.ones((8, 9, 10), np.uint8), affine)
    listing = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "box": 1}, "numTraining": 2}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({**listing, "file_ending": ".nii"}))
    dataset = open_dataset(tmp_path / "in")
    found = [f for f in check_dataset(dataset, tmp_path).findings if "every program reads" in f.what]
    assert {(f.case, f.severity) for f in found} == {("c0", "note"), ("c1", "note")}
    assert {one.what for one in repair(dataset, tmp_path / "out")} == {"header"}
    for number in range(2):
        old, new = (read(tmp_path / base / "imagesTr" / f"c{number}_0000.nii") for base in ("in", "out"))
        assert np.allclose(old.geometry.affine, affine)
        assert np.array_equal(new.geometry.affine, old.geometry.affine)
        assert np.array_equal(new.array, old.array)
        assert min(nib.load(tmp_path / "out" / "imagesTr" / f"c{number}_0000.nii").header["pixdim"][1:4]) > 0


def _unit_findings(path: Path, name: str, unit: str) -> list[str]:
    case = Case("a", "a", (path,))
    return [str(f) for f in examine(ExamineTask(case, card((name, unit)))).findings]


def test_ct_without_its_offset_and_pet_in_bq_are_found_in_real_images(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "sts-petct" / "nifti"
    for study in sorted(folder.glob("STS_*"))[:6]:
        for name, unit in (("CT", "HU"), ("PET", "SUV")):
            assert _unit_findings(study / f"{name}_image.nii.gz", name, unit) == []
    whole = nib.load(test_data / "totalsegmentator" / "example_ct.nii.gz")
    hu = np.asanyarray(whole.dataobj)
    assert _unit_findings(test_data / "totalsegmentator" / "example_ct.nii.gz", "CT", "HU") == []
    for array, words in (
        (np.maximum(hu, -1024) + 1024, "error: channel CT is not in HU: the offset of 1024 is missing"),
        (np.clip((hu + 160) / 400, 0, 1), "warning: channel CT is not in HU: it was scaled or windowed"),
        (np.clip((hu + 160) / 400, 0, 1) * 255, "warning: channel CT is not in HU: it was scaled or windowed"),
        (np.maximum(hu, -1024) * 10, "warning: channel CT holds values below what CT measures"),
        (np.maximum(hu, -1024) * 40 + 40_000, "warning: channel CT holds values above what CT measures"),
        (np.where(np.arange(len(hu))[:, None, None] < 9, -3024, hu), "note: channel CT is padded"),
    ):
        path = save(tmp_path / "ct.nii.gz", array.astype(np.float32), whole.affine)
        found = examine(ExamineTask(Case("a", "a", (path,)), card(("CT", "HU")))).findings
        assert any(f"{f.severity}: {f.what}".startswith(words) for f in found), (words, found)
    # A crop inside the body has no air: its soft tissue alone tells.
    crop = nib.load(sorted(folder.glob("STS_*"))[0] / "CT_image.nii.gz")
    path = save(tmp_path / "crop.nii.gz", np.asanyarray(crop.dataobj) + 1024, crop.affine)
    assert any("the offset of 1024 is missing" in text for text in _unit_findings(path, "CT", "HU"))
    pet = nib.load(sorted(folder.glob("STS_*"))[0] / "PET_image.nii.gz")
    suv = np.asanyarray(pet.dataobj)
    for array, words in (
        (suv * 5000, "these look like Bq/ml"),
        (suv / suv.max(), "it may be scaled to 1"),
        (np.where(suv == suv.max(), 5000, suv), "improbable maximum for SUV"),
        (suv - 5, "negative values for SUV"),
    ):
        path = save(tmp_path / "pet.nii.gz", array.astype(np.float32), pet.affine)
        assert any(words in text for text in _unit_findings(path, "PET", "SUV")), words


def test_sides_of_real_organs(test_data: Path, tmp_path: Path) -> None:
    """Kidneys, liver and spleen of TotalSegmentator's example; then the same with left and right mirrored."""
    names = {1: "spleen", 2: "kidney_right", 3: "kidney_left", 5: "liver"}
    source = test_data / "totalsegmentator"
    image, mask = (nib.load(source / f"{name}.nii.gz") for name in ("example_ct_sm", "example_seg"))
    array = np.asanyarray(mask.dataobj)
    kept = np.where(np.isin(array, list(names)), array, 0).astype(np.uint8)
    kinds = card(("CT", "HU"), labels=names)
    for flipped in (False, True):
        affine = image.affine.copy()
        if flipped:  # as a program does that forgets the sign of the first axis
            affine[0] *= -1
        save(tmp_path / "i.nii.gz", np.asanyarray(image.dataobj), affine)
        save(tmp_path / "m.nii.gz", kept, affine)
        case = Case("a", "a", (tmp_path / "i.nii.gz",), tmp_path / "m.nii.gz")
        looked = [examine(ExamineTask(case, kinds))]
        found = [f for f in dataset_findings(kinds, [case], looked) if "other's side" in f.what]
        pairs = {f.what.split(" lie ")[0] for f in found}
        assert pairs == ({"kidney_left and kidney_right", "spleen and liver"} if flipped else set())
        assert all(f.severity == "warning" and f.at_mm for f in found)
        several = [looked[0].model_copy(update={"case": name}) for name in "abc"]
        cases = [Case(name, name, (tmp_path / "i.nii.gz",), tmp_path / "m.nii.gz") for name in "abc"]
        whole = [f for f in dataset_findings(kinds, cases, several) if "other's side" in f.what]
        assert [(f.case, f.severity) for f in whole] == ([("", "error")] * 2 if flipped else [])


def test_names_of_sides() -> None:
    names = {1: "Left kidney", 2: "right_kidney", 3: "lung-L", 4: "lung-R", 5: "leftover", 6: "hip", 7: "AdrenalLeft"}
    assert sided_pairs(names) == [(1, 2), (3, 4)]
    assert sided_pairs({1: "left", 2: "right"}) == []
    assert sided_pairs({1: "liver", 2: "spleen"}) == [(2, 1)]


def test_a_label_that_is_absent_is_not_one_that_nobody_drew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = card(("MR", "arbitrary"), labels={1: "liver", 2: "bladder"})
    cases = []
    for number in range(12):
        array = np.zeros((12, 12, 12), np.uint8)
        array[2:6, 2:6, 2:6] = 1
        if number not in (0, 1):
            array[8:11, 8:11, 8:11] = 2
        image = save(tmp_path / f"{number}.nii.gz", rng.normal(size=array.shape).astype(np.float32))
        mask = save(tmp_path / f"{number}m.nii.gz", array)
        cases.append(Case(f"c{number:02d}", f"p{number}", (image,), mask, unlabelled=(2,) if number == 0 else ()))
    looked = [examine(ExamineTask(case, kinds)) for case in cases]
    found = dataset_findings(kinds, cases, looked)
    assert [(f.case, f.severity) for f in found if "absent" in f.what] == [("c01", "warning")]
    assert [(f.case, f.value) for f in found if "nobody drew" in f.what] == [("", "bladder in 1 cases")]


def test_patients_in_two_sets_and_labels_in_no_case(tmp_path: Path) -> None:
    image = save(tmp_path / "i.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    path = save(tmp_path / "m.nii.gz", mask)
    kinds = card(("MR", "arbitrary"), labels={1: "one", 2: "two"})
    cases = [Case("a", "p", (image,), path), Case("b", "p", (image,), path, "test"), Case("c", "q", (image,), path)]
    found = dataset_findings(kinds, cases, [examine(ExamineTask(case, kinds)) for case in cases])
    assert [f.value for f in found if f.severity == "error"] == ["p: a in train, b in test"]
    assert [f.value for f in found if f.what == "a label is in no case"] == ["2 (two): 0 voxels in 3 cases"]


def test_a_mask_on_nothing_is_told(tmp_path: Path) -> None:
    array = np.zeros((16, 16, 16), np.float32)
    array[:8] = np.random.default_rng(0).normal(100, 10, size=(8, 16, 16))
    kinds = card(("MR", "arbitrary"), labels={1: "one"})
    image = save(tmp_path / "i.nii.gz", array)
    for place, count in ((2, 0), (10, 1)):
        mask = np.zeros(array.shape, np.uint8)
        mask[place : place + 4, 4:8, 4:8] = 1
        case = Case("a", "a", (image,), save(tmp_path / "m.nii.gz", mask))
        found = examine(ExamineTask(case, kinds)).findings
        assert sum("is empty in the image" in f.what for f in found) == count


def test_real_datasets_come_out_with_what_is_true_of_them(test_data: Path, tmp_path: Path) -> None:
    """No false alarm: each of these notes was looked at, and is one of the set's known traps."""
    known = {
        "msd/Task04_Hippocampus": {
            "the mask is stored in floating point": 2,
            "label Anterior has specks beside it": 1,
            "images are stored in several types": 1,
            "the intensity scale of channel MRI differs between cases": 1,
        },
        "isbi-em": {"label label_1 reaches the border of the image in most cases": 1},
    }
    for name, kinds in known.items():
        checked = check(str(test_data / name), tmp_path)
        assert {group.what: len(group.findings) for group in grouped(checked.findings)} == kinds
        assert {f.severity for f in checked.findings} == {"note"}


def test_the_command_writes_page_and_tables_and_repairs(segue: Segue, blobs: Path, tmp_path: Path) -> None:
    done = segue("check", blobs, "-o", "out", "--fix", "mended")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"check.html", "check.csv", "check.json"}
    assert "repaired in mended: nothing could be" in done.stdout
    assert segue("check", "mended").returncode == 0
    image = blobs / "imagesTr" / "blob_00.nii.gz"
    done = segue("check", image, "--fix", "x")
    assert done.returncode == 2
    assert "images by themselves are none" in done.stderr


@pytest.mark.parametrize("kind", [np.uint8, np.uint32])
@pytest.mark.parametrize("shape", [(4, 4, 4), (5, 5, 1), (40, 40, 40)])
def test_labels_are_measured_whatever_their_numbers(kind: type, shape: tuple[int, int, int]) -> None:
    """Sizes, places and parts equal those of scipy; numbers may be larger than there are voxels."""
    largest = int(np.iinfo(kind).max)
    rng = np.random.default_rng(0)
    mask = rng.choice(np.array([0, 0, 0, 3, largest], kind), size=shape)
    grid = Geometry(shape, np.diag([1.0, 2.0, 3.0, 1.0]))
    facts = measure_labels(mask, grid, {3: "a", largest: "b", 7: "none"})
    assert facts.keys() == {3, largest}
    for number, one in facts.items():
        there = mask == number
        parts, count = ndimage.label(there, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        assert (one.voxels, one.parts) == (there.sum(), count)
        assert one.specks == ((sizes <= 10) & (sizes < 0.01 * sizes.max())).sum()
        assert np.allclose(one.centre_mm, np.array(ndimage.center_of_mass(there)) * [1, 2, 3])
        assert one.ml == pytest.approx(there.sum() * 0.006)


def test_inverted_grey_values_are_found_by_the_others_and_by_their_rim(test_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hippocampi"
    names = copied(test_data / "msd" / "Task04_Hippocampus", folder, 16)

    def negative(array: np.ndarray) -> np.ndarray:
        return (array.max() - array).astype(array.dtype)

    for name in names[3:5]:
        change(folder, name, "imagesTr", voxels(negative))
    found = [f for f in check(str(folder), tmp_path).findings if "look inverted" in f.what]
    assert sorted(f.case for f in found) == sorted(names[3:5])
    assert all(f.severity == "warning" and f.value and f.remedy for f in found)
    for image, share in (("totalsegmentator/example_ct_sm.nii.gz", "1% of its inside"), ("volumes/mha.mha", "12%")):
        volume = read(test_data / image)
        for array, wanted in ((volume.array, False), (negative(volume.array.astype(np.float32)), True)):
            path = save(tmp_path / "one.nii.gz", array[0], volume.geometry.affine)
            told_of = [f.value or "" for f in check(str(path)).findings if "look inverted" in f.what]
            assert bool(told_of) == wanted, image
            assert share in "".join(told_of) or not wanted


def test_a_folder_without_a_card_is_compared_within_itself(test_data: Path, segue: Segue, tmp_path: Path) -> None:
    folder, task = tmp_path / "mixed", test_data / "msd" / "Task04_Hippocampus"
    paths = sorted((task / "imagesTr").glob("*.nii.gz"))[:12]
    for number, path in enumerate(paths):
        volume = read(path)
        affine = volume.geometry.affine @ np.diag([4.0, 4, 4, 1]) if number == 4 else volume.geometry.affine
        array = volume.array[0].max() - volume.array[0] if number == 7 else volume.array[0]
        save(folder / f"volume{number}.nii.gz", array, affine)
    save(folder / "again.nii.gz", read(paths[2]).array[0], read(paths[2]).geometry.affine)
    (folder / "broken.nii.gz").write_bytes(b"no image")
    for name in ("x_seg", "y_mask", "z_label"):  # of no image: nobody can tell what this folder holds
        (folder / f"{name}.nii.gz").write_bytes((task / "labelsTr" / paths[0].name).read_bytes())
    checked = check(str(folder), tmp_path)
    assert checked.dataset is None and checked.looked_at == 17
    assert "spacing unlike the other cases'" in "".join(told(checked.findings, "volume4.nii.gz"))
    assert "look inverted" in "".join(told(checked.findings, "volume7.nii.gz"))
    assert "the same image is here twice (as volume2.nii.gz)" in "".join(told(checked.findings, "again.nii.gz"))
    assert told(checked.findings, "broken.nii.gz", "error")
    assert not any(told(checked.findings, f"{name}.nii.gz") for name in ("x_seg", "y_mask", "z_label"))
    assert all(f.what and f.value and f.remedy for f in checked.findings)
    done = segue("check", folder, "-o", tmp_path / "out")
    assert done.returncode == 3 and "17 looked at: 1 errors" in done.stdout
    page = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    assert "Spacing of volumes" in page and page.count("data:image/png") >= 3


def test_every_finding_in_the_source_has_a_value_and_a_remedy() -> None:
    """A finding that is made without one of them is found here, whatever data it needs to be seen."""
    source = Path(segue_package.__file__).parent
    made = 0
    for path in [*source.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("found", "Finding"):
                continue
            if path.name == "reporting.py":
                continue  # it hands on what it is given
            named = {keyword.arg for keyword in node.keywords}
            made += 1
            assert len(node.args) >= 4 or named >= {"value", "remedy"}, f"{path.name}:{node.lineno}"
    assert made > 50


def test_a_defect_that_all_cases_share_is_told(tmp_path: Path) -> None:
    mine = card(("CT", "HU"), defects=[{"what": "labels of this edition have other numbers"}])
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(0, 50, (8, 8, 8)).astype(np.float32))
    findings = known_findings(Dataset(mine, tmp_path, (Case("a", "a", (path,)),)))
    assert [(f.severity, f.case, f.what) for f in findings] == [
        ("note", "", "labels of this edition have other numbers")
    ]
