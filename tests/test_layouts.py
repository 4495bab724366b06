"""Layouts, parts, tables, masks per label, groups, defects, and splits that a dataset brings along."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segue.catalogue import Card, Masks, dataset_at, fold_count, load_card, open_dataset, split_cases
from segue.catalogue.patterns import check_pattern, compiled, filled, found
from segue.core.config import validate
from segue.core.errors import DataError, UsageError
from segue.images import read_labels, write
from segue.prepare import read_mask
from segue.volume import Geometry, Volume

GRID = Geometry((4, 4, 4), np.eye(4))


def image_file(path: Path, array: np.ndarray | None = None, labels: bool = False) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(1, 4, 4, 4) if array is None else array
    write(Volume(values % 2 if labels and array is None else values, GRID, "labels" if labels else "intensity"), path)


def card(layout: dict[str, object], **more: object) -> Card:
    content = {"name": "x", "title": "x", "channels": [{"name": "t1"}], "labels": {1: "a"}, "layout": layout, **more}
    return validate(Card, content)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/data/{case}.nii.gz", "leaves the dataset"),
        ("../{case}.nii.gz", "leaves the dataset"),
        ("images/x.nii.gz", "needs {case}"),
        ("images/{case.nii.gz", "brace"),
        ("images/{case:[0-9}.nii.gz", "regular expression"),
    ],
)
def test_patterns_that_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_pattern(pattern)


def test_what_a_pattern_means(tmp_path: Path) -> None:
    for name in ("a/p1/p1_01.nii.gz", "a/p1/p1_01_gt.nii.gz", "b/p2/p2_7.nii", "b/p2/p3_7.nii", ".x/p1/p1_01.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pattern = "*/{patient}/{patient}_{case:[0-9]+}.nii.gz"
    matches = {path.relative_to(tmp_path).as_posix(): fields for path, fields in found(tmp_path, pattern)}
    assert matches == {
        "a/p1/p1_01.nii.gz": {"patient": "p1", "case": "01"},
        "b/p2/p2_7.nii": {"patient": "p2", "case": "7"},
    }
    assert compiled("**/{case}.nii.gz").fullmatch("{a}/b+c/d.nii.gz".format(a="x"))
    assert not compiled("{case}.nii.gz").fullmatch("x/d.nii.gz")
    assert filled("**/{patient}_{case:[0-9]+}.nii.gz", {"patient": "p", "case": "3"}) == "p_3.nii.gz"


def test_parts_facts_and_uncompressed_copies(tmp_path: Path) -> None:
    for name in ("HGG/c1/c1_t1.nii", "LGG/c2/c2_t1.nii.gz"):
        image_file(tmp_path / name)
        image_file(tmp_path / name.replace("t1", "seg"), labels=True)
    image_file(tmp_path / "val" / "v1.nii.gz")
    made = card(
        {
            "kind": "files",
            "images": "{grade}/{case}/{case}_{channel}.nii.gz",
            "labels": "{grade}/{case}/{case}_seg.nii.gz",
            "test": {"images": "val/{case}.nii.gz"},
        }
    )
    cases = dataset_at(made, tmp_path).cases
    assert [(c.id, c.split, c.facts.get("grade"), c.annotated) for c in cases] == [
        ("c1", "train", "HGG", True),
        ("c2", "train", "LGG", True),
        ("v1", "test", None, False),
    ]
    assert cases[0].label == tmp_path / "HGG/c1/c1_seg.nii"


def test_a_missing_channel_keeps_its_place(tmp_path: Path) -> None:
    image_file(tmp_path / "c1" / "t1.nii.gz")
    image_file(tmp_path / "c2" / "t1.nii.gz")
    image_file(tmp_path / "c2" / "t2.nii.gz")
    made = card({"kind": "files", "images": "{case}/{channel}.nii.gz"}, channels=[{"name": "t1"}, {"name": "t2"}])
    cases = dataset_at(made, tmp_path).cases
    assert cases[0].images == (tmp_path / "c1/t1.nii.gz", tmp_path / "c1/t2.nii.gz")
    assert not cases[0].files[1].exists()


def test_one_mask_per_label_becomes_one_label_map(tmp_path: Path) -> None:
    image_file(tmp_path / "s1" / "ct.nii.gz")
    first, second = np.zeros((2, 1, 4, 4, 4), np.uint8)
    first[0, :2], second[0, 1:3] = 1, 255
    image_file(tmp_path / "s1" / "masks" / "liver.nii.gz", first, labels=True)
    image_file(tmp_path / "s1" / "masks" / "spleen.nii.gz", second, labels=True)
    layout = {"kind": "files", "images": "{case}/ct.nii.gz", "labels": "{case}/masks/{label}.nii.gz"}
    made = card(layout, labels={3: "liver", 7: "spleen", 9: "never drawn"})
    case = dataset_at(made, tmp_path).cases[0]
    assert isinstance(case.label, Masks)
    assert len(case.files) == 3
    merged = read_mask(case.label)
    assert merged.array[0, :, 0, 0].tolist() == [3, 7, 7, 0]
    write(Volume(second, Geometry((4, 4, 4), np.diag([2.0, 1, 1, 1])), "labels"), tmp_path / "s1/masks/spleen.nii.gz")
    with pytest.raises(DataError, match="different grids"):
        read_mask(case.label)


def test_a_table_says_split_patient_and_facts(tmp_path: Path) -> None:
    for name in ("s1", "s2", "s3"):
        image_file(tmp_path / name / "ct.nii.gz")
    (tmp_path / "meta.csv").write_text("image_id;split;who;age\ns1;train;A;50\ns2;val;A;51\ns3;Test;B;\n")
    table = {"file": "meta.csv", "separator": ";", "case": "image_id", "split": "split", "patient": "who"}
    layout = {"kind": "files", "images": "{case}/ct.nii.gz", "table": table}
    cases = dataset_at(card(layout), tmp_path).cases
    assert [(c.split, c.patient, c.facts) for c in cases] == [
        ("train", "A", {"age": "50"}),
        ("val", "A", {"age": "51"}),
        ("test", "B", {}),
    ]
    with pytest.raises(DataError, match="no column site"):
        dataset_at(card({**layout, "table": {**table, "patient": "site"}}), tmp_path)
    (tmp_path / "meta.csv").write_text("image_id;split;who\ns1;holdout;A\n")
    with pytest.raises(DataError, match="train, val or test"):
        dataset_at(card(layout), tmp_path)


def test_groups_tell_what_nobody_drew(tmp_path: Path) -> None:
    for name in ("amos_0001", "amos_0507"):
        image_file(tmp_path / "imagesTr" / f"{name}.nii.gz")
        image_file(tmp_path / "labelsTr" / f"{name}.nii.gz", labels=True)
    ct, mri = dataset_at(load_card("amos/2022"), tmp_path).cases
    assert (ct.facts["modality"], ct.unlabelled) == ("CT", ())
    assert (mri.facts["modality"], mri.unlabelled) == ("MRI", (14, 15))


def test_known_defects_are_executed(tmp_path: Path) -> None:
    for name in ("BraTS20_Training_001", "BraTS20_Training_355"):
        for channel in ("t1", "t1ce", "t2", "flair"):
            image_file(tmp_path / name / f"{name}_{channel}.nii")
    image_file(tmp_path / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii", labels=True)
    image_file(tmp_path / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii", labels=True)
    dataset = dataset_at(load_card("brats/2020"), tmp_path)
    assert [case.annotated for case in dataset.cases] == [True, True]
    assert read_labels(dataset.cases[1].files[-1]).array.any()

    for name in ("s0001", "s0026"):
        image_file(tmp_path / "mri" / name / "mri.nii.gz")
        image_file(tmp_path / "mri" / name / "segmentations" / "spleen.nii.gz", labels=True)
    (tmp_path / "mri" / "meta.csv").write_text("image_id;split\ns0001;train\ns0026;train\n")
    dataset = dataset_at(load_card("totalsegmentator/mri"), tmp_path / "mri")
    assert [case.id for case in dataset.cases] == ["s0001"]
    assert dataset.left_out == {"s0026": "all masks of this case are empty"}


def nnunet(tmp_path: Path, names: list[str], channels: int = 2) -> Card:
    for name in names:
        for number in range(channels):
            image_file(tmp_path / "imagesTr" / f"{name}_{number:04d}.nii.gz")
        image_file(tmp_path / "labelsTr" / f"{name}.nii.gz", labels=True)
    return card(
        {"kind": "nnunet"},
        channels=[{"name": "CT"}, {"name": "PET"}],
        patient="^(p[0-9])",
        split={"file": "folds.json"},
    )


def test_nnunet_folders_and_their_own_folds(tmp_path: Path) -> None:
    made = nnunet(tmp_path, ["p1_a", "p1_b", "p2_a", "p3_a"])
    folds = [
        {"train": ["p1_a", "p1_b", "p2_a"], "val": ["p3_a"]},
        {"train": ["p2_a", "p3_a"], "val": ["p1_a", "p1_b", "gone"]},
    ]
    (tmp_path / "folds.json").write_text(json.dumps(folds))
    dataset = dataset_at(made, tmp_path)
    assert [path.name for path in dataset.cases[0].files[:2]] == ["p1_a_0000.nii.gz", "p1_a_0001.nii.gz"]
    assert fold_count(dataset) == 2
    assert [case.id for case in split_cases(dataset, 1).val] == ["p1_a", "p1_b"]
    with pytest.raises(DataError, match="no fold 2"):
        split_cases(dataset, 2)


def test_folds_that_tear_a_patient_apart_are_refused(tmp_path: Path) -> None:
    made = nnunet(tmp_path, ["p1_a", "p1_b", "p2_a"])
    (tmp_path / "folds.json").write_text(json.dumps([{"train": ["p1_a", "p2_a"], "val": ["p1_b"]}]))
    with pytest.raises(DataError, match=r"training and in the validation set.*p1"):
        split_cases(dataset_at(made, tmp_path), 0)
    (tmp_path / "folds.json").write_text(json.dumps([{"train": ["other"], "val": ["names"]}]))
    with pytest.raises(DataError, match="names no case"):
        dataset_at(made, tmp_path)
    (tmp_path / "folds.json").unlink()
    with pytest.raises(DataError, match="split file is missing"):
        dataset_at(made, tmp_path)


def test_a_case_without_one_of_its_channels_is_told(tmp_path: Path) -> None:
    made = nnunet(tmp_path, ["p1_a"]).model_copy(update={"split": load_card("acdc").split})
    (tmp_path / "imagesTr" / "p1_a_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="0000 instead of 0000, 0001"):
        dataset_at(made, tmp_path)


def test_the_official_validation_set_is_the_only_fold(tmp_path: Path) -> None:
    for part, names in (("train", "abc"), ("val", "de")):
        for name in names:
            image_file(tmp_path / part / f"{name}.nii.gz")
            image_file(tmp_path / part / f"{name}_seg.nii.gz", labels=True)
    pattern = {"images": "{case:[a-z]}.nii.gz", "labels": "{case:[a-z]}_seg.nii.gz"}
    train = {key: f"train/{text}" for key, text in pattern.items()}
    val = {key: f"val/{text}" for key, text in pattern.items()}
    dataset = dataset_at(card({"kind": "files", **train, "val": val}), tmp_path)
    split = split_cases(dataset, 0)
    assert ([c.id for c in split.train], [c.id for c in split.val]) == (["a", "b", "c"], ["d", "e"])
    with pytest.raises(DataError, match="its own split is the only fold"):
        split_cases(dataset, 1)


def npz(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("column", [True, False])
def test_classes_in_an_npz(tmp_path: Path, column: bool) -> None:
    arrays = {}
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = np.zeros((count, 28, 28), np.uint8)
        labels = np.arange(count) % 2
        arrays[f"{split}_labels"] = labels[:, None] if column else labels
    npz(tmp_path / "breastmnist.npz", **arrays)
    dataset = dataset_at(load_card("medmnist/breastmnist"), tmp_path)
    assert [sum(c.split == s for c in dataset.cases) for s in ("train", "val", "test")] == [5, 2, 3]
    assert [c.target for c in dataset.labelled] == [0, 1, 0, 1, 0]
    arrays["val_labels"] = np.array([[0], [2]])
    npz(tmp_path / "breastmnist.npz", **arrays)
    with pytest.raises(DataError, match="classes that the card does not name"):
        dataset_at(load_card("medmnist/breastmnist"), tmp_path)
    arrays["val_labels"] = np.array([[0]])
    npz(tmp_path / "breastmnist.npz", **arrays)
    with pytest.raises(DataError, match="1 for 2"):
        dataset_at(load_card("medmnist/breastmnist"), tmp_path)


def test_the_real_medmnist_files(test_data: Path) -> None:
    for name in ("breastmnist", "vesselmnist3d"):
        made = load_card(f"medmnist/{name}")
        dataset = dataset_at(made, test_data / "medmnist")
        counts = {s: sum(c.split == s for c in dataset.cases) for s in ("train", "val", "test")}
        expected = made.expect.model_dump(exclude={"total", "patients"})
        assert counts == expected
        assert {case.target for case in dataset.cases} == set(made.labels)
        # and as numpy reads them
        with np.load(test_data / "medmnist" / f"{name}.npz") as content:
            truth = content["val_labels"].ravel().tolist()
        assert [case.target for case in dataset.cases if case.split == "val"] == truth


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "breastmnist.npz", train_images=np.array([{"code": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        dataset_at(load_card("medmnist/breastmnist"), tmp_path)
    (tmp_path / "breastmnist.npz").write_bytes(b"<html>Log in</html>")
    with pytest.raises(DataError, match=r"no readable \.npz"):
        dataset_at(load_card("medmnist/breastmnist"), tmp_path)


def test_a_layout_that_does_not_fit_is_told_with_line_and_what_would(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image_file(tmp_path / "img" / f"{name}.nii.gz")
        image_file(tmp_path / "msk" / f"{name}.nii.gz", labels=True)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\ntitle: Mine\nchannels: [{name: t1}]\nlabels: {1: a}\n"
        'layout:\n  kind: files\n  images: "images/{case}.nii.gz"\n  labels: "labels/{case}.nii.gz"\n'
    )
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    text = str(caught.value)
    assert f"{path}:5" in text
    assert "images/{case}.nii.gz" in text
    assert "img" in text


def test_a_card_may_name_the_folder_of_its_images(tmp_path: Path) -> None:
    image_file(tmp_path / "far" / "a.nii.gz")
    path = tmp_path / "cards" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(
        "name: mine\ntitle: Mine\nroot: ../far\nchannels: [{name: t1}]\nlabels: {1: a}\n"
        'layout: {kind: files, images: "{case}.nii.gz"}\n'
    )
    assert [case.id for case in open_dataset(path).cases] == ["a"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"licence": {"spdx": "CC-BY 4.0"}}, "did you mean CC-BY-4.0"),
        ({"regions": {"WT": [1, 2]}}, "labels that the card does not"),
        ({"task": "classification"}, "of which kind"),
        ({"task": "classification", "classes": "binary", "labels": {0: "one"}}, "at least two classes"),
        ({"defects": [{"what": "x", "action": "repair"}]}, "which files it renames"),
        ({"files": [{"name": "a", "url": "https://x", "md5": "ABC "}]}, "pattern"),
    ],
)
def test_cards_that_are_refused(more: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        card({"kind": "petct"}, **more)


def test_another_task_of_the_decathlon_is_not_taken_for_this_one(hippocampus: Path) -> None:
    with pytest.raises(DataError, match=r"hippocampus_[0-9]+ \.\.\. instead of liver_0"):
        dataset_at(load_card("msd/liver"), hippocampus)  # both have the labels 1 and 2
