"""Classes out of folders and tables, and the cards that are guessed for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segue.catalogue import Card, Case, Dataset, dataset_at, load_card, open_dataset
from segue.catalogue.card import FilesLayout
from segue.catalogue.recognise import Recognised
from segue.catalogue.tables import class_number
from segue.core.config import validate
from segue.core.errors import DataError, UsageError
from segue.prepare import ExamineTask, examine
from segue.workflow.describing import write_card

TUMOURS = {0: "benign", 1: "malignant"}
FINDINGS = {0: "effusion", 1: "mass", 2: "nodule"}


def card(layout: dict[str, Any], labels: dict[int, str] | None = None, classes: str = "binary", **more: Any) -> Card:
    content = {
        "name": "mine",
        "title": "Mine",
        "task": "classification",
        "classes": classes,
        "dimension": 2,
        "channels": [{"name": "grey"}],
        "labels": labels or TUMOURS,
        "layout": {"kind": "files", **layout},
    }
    return validate(Card, {**content, **more})


def picture(path: Path, colour: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (6, 8, 3) if colour else (6, 8)
    Image.fromarray(np.random.default_rng(3).integers(0, 255, size, dtype=np.uint8)).save(path)
    return path


def volume(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.arange(64, dtype=np.int16).reshape(4, 4, 4), np.eye(4)), path)
    return path


def table(folder: Path, *rows: str, name: str = "labels.csv") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(rows) + "\n")


def targets(dataset: Dataset) -> dict[str, object]:
    return {case.id: case.target for case in dataset.cases}


def by_table(folder: Path, target: object, labels: dict[int, str] = TUMOURS, classes: str = "binary") -> Dataset:
    layout = {"images": "images/{case}.png", "table": {"file": "labels.csv", "case": "image", "target": target}}
    return dataset_at(card(layout, labels, classes), folder)


# --- folders


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    for name in ("benign/1.png", "malignant/1.png", "malignant/2.png"):
        picture(tmp_path / name)
    dataset = dataset_at(card({"images": "{class}/{case}.png"}), tmp_path)
    assert targets(dataset) == {"benign_1": 0, "malignant_1": 1, "malignant_2": 1}
    assert [case.patient for case in dataset.cases] == ["benign_1", "malignant_1", "malignant_2"]
    assert dataset.cases[0].images == (tmp_path / "benign/1.png",)
    assert dataset.cases[0].facts == {}
    assert len(dataset.labelled) == 3


def test_parts_patients_and_images_of_a_test_set_without_classes(tmp_path: Path) -> None:
    for name in ("train/benign/p1/1.png", "train/malignant/p1/1.png", "val/benign/p2/1.png", "test/1.png"):
        picture(tmp_path / name)
    layout = {
        "images": "train/{class}/{patient}/{case}.png",
        "val": {"images": "val/{class}/{patient}/{case}.png"},
        "test": {"images": "test/{case}.png"},
    }
    dataset = dataset_at(card(layout), tmp_path)
    assert [(c.id, c.patient, c.split, c.target) for c in dataset.cases] == [
        ("1", "1", "test", None),
        ("benign_p1_1", "p1", "train", 0),
        ("malignant_p1_1", "p1", "train", 1),
        ("val_benign_p2_1", "p2", "val", 0),
    ]


def test_volumes_in_folders_of_classes(tmp_path: Path) -> None:
    volume(tmp_path / "AD/s1.nii.gz")
    volume(tmp_path / "CN/s1.nii")
    made = card({"images": "{class}/{case}.nii.gz"}, {0: "CN", 1: "AD"}, dimension=3)
    assert targets(dataset_at(made, tmp_path)) == {"AD_s1": 1, "CN_s1": 0}


def test_folders_that_are_no_class_are_named(tmp_path: Path) -> None:
    for name in ("benign/1.png", "unsure/1.png", "unsure/2.png"):
        picture(tmp_path / name)
    with pytest.raises(DataError, match="classes that the card does not name") as caught:
        dataset_at(card({"images": "{class}/{case}.png"}), tmp_path)
    assert "unsure (2 images)" in str(caught.value)
    assert "benign, malignant" in str(caught.value)
    assert len(dataset_at(card({"images": "{class:benign|malignant}/{case}.png"}), tmp_path).cases) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("smooth muscle", 1), ("Smooth_Muscle", 1), ("1", 1), ("2.0", 2), ("0", 2), ("3", None), ("smooth", None)],
)
def test_a_class_by_name_or_number(text: str, number: int | None) -> None:
    labels = {0: "fat", 1: "smooth muscle", 2: "0"}
    assert class_number(card({"images": "{class}/{case}.png"}, labels, "multi-class"), text) == number


@pytest.mark.parametrize(
    ("layout", "classes", "said"),
    [
        ({"images": "i/{case}.png"}, "binary", "here from neither"),
        ({"images": "{class}/{case}.png", "table": {"file": "t", "case": "c", "target": "x"}}, "binary", "from both"),
        ({"images": "{class}/{case}.png"}, "multi-label", "need a table"),
        ({"images": "i/{case}.png", "table": {"file": "t", "case": "c", "target": ["a"]}}, "multi-label", "1 columns"),
        (
            {"images": "i/{case}.png", "table": {"file": "t", "case": "c", "target": ["a", "b"]}},
            "ordinal",
            "one column",
        ),
    ],
)
def test_cards_that_cannot_be_meant(layout: dict[str, Any], classes: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        card(layout, classes=classes)


# --- tables


@pytest.mark.parametrize("name", ["{}", "{}.png", "images/{}.png", "./images/{}", "images\\{}.png"])
def test_a_table_names_images_in_many_ways(tmp_path: Path, name: str) -> None:
    for case in ("a", "b", "c"):
        picture(tmp_path / "images" / f"{case}.png")
    table(tmp_path, "image,label", f"{name.format('a')},malignant", f"{name.format('b')},0")
    dataset = by_table(tmp_path, "label")
    assert targets(dataset) == {"a": 1, "b": 0, "c": None}
    assert [case.id for case in dataset.labelled] == ["a", "b"]


def test_paths_may_begin_at_the_folder_of_the_table(tmp_path: Path) -> None:
    for case in ("x/1", "y/1"):
        picture(tmp_path / "data" / f"{case}.png")
    table(tmp_path / "data", "image,label,who,age", "x/1.png,benign,P1,40", "y/1.png,malignant,P1,41")
    layout = {
        "images": "data/{site}/{case}.png",
        "table": {"file": "data/labels.csv", "case": "image", "target": "label", "patient": "who"},
    }
    layout["images"] = "data/{patient}/{case}.png"
    cases = dataset_at(card(layout), tmp_path).cases
    assert [(c.id, c.patient, c.target, c.facts) for c in cases] == [
        ("x_1", "P1", 0, {"age": "40"}),
        ("y_1", "P1", 1, {"age": "41"}),
    ]


def test_rows_without_an_image_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    table(tmp_path, "image,label", "a,0", *(f"gone{n},1" for n in range(7)))
    with pytest.raises(DataError, match="7 of 8 rows") as caught:
        by_table(tmp_path, "label")
    assert "gone0, gone1, gone2, gone3, gone4 ..." in str(caught.value)


def test_several_classes_in_columns_or_in_one_cell(tmp_path: Path) -> None:
    for case in "abc":
        picture(tmp_path / "images" / f"{case}.png")
    table(tmp_path, "image,e,m,n,all", "a,1,0,1,nodule|effusion", "b,0.0,0.0,0.0,No Finding", "c,,,,mass; 2")
    columns = by_table(tmp_path, ["e", "m", "n"], FINDINGS, "multi-label")
    assert targets(columns) == {"a": (1, 0, 1), "b": (0, 0, 0), "c": None}
    one = by_table(tmp_path, "all", FINDINGS, "multi-label")
    assert targets(one) == {"a": (1, 0, 1), "b": (0, 0, 0), "c": (0, 1, 1)}


def test_one_of_several_columns_is_the_class(tmp_path: Path) -> None:
    for case in "ab":
        picture(tmp_path / "images" / f"{case}.png")
    table(tmp_path, "image,e,m,n", "a,0,0,1", "b,1,0,0")
    assert targets(by_table(tmp_path, ["e", "m", "n"], FINDINGS, "multi-class")) == {"a": 2, "b": 0}
    table(tmp_path, "image,e,m,n", "a,0,1,1", "b,1,0,0")
    with pytest.raises(DataError, match=r"labels\.csv:2: one of the classes holds \(2 of"):
        by_table(tmp_path, ["e", "m", "n"], FINDINGS, "multi-class")


@pytest.mark.parametrize(
    ("rows", "target", "classes", "said"),
    [
        (["image,label", "a,unsure"], "label", "binary", r"labels\.csv:2: .*class that the card does not.*'unsure'"),
        (["image,label", "a,0", "a,1"], "label", "binary", r"labels\.csv:3: the table gives one case two classes"),
        (["image,label", "a,0"], "diagnosis", "binary", "no column diagnosis"),
        (["image,x,y", "a,1,-1"], ["x", "y"], "multi-label", r"labels\.csv:2: .*holds \(1\) or not .*y is '-1'"),
    ],
)
def test_tables_that_are_wrong(tmp_path: Path, rows: list[str], target: object, classes: str, said: str) -> None:
    picture(tmp_path / "images/a.png")
    table(tmp_path, *rows)
    with pytest.raises(DataError, match=said):
        by_table(tmp_path, target, classes=classes)


def test_a_table_that_is_no_text_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    (tmp_path / "labels.csv").write_bytes(b"image,label\n\xff\xfe\x00,1\n")
    with pytest.raises(DataError, match="no text in UTF-8"):
        by_table(tmp_path, "label")


# --- cards that are guessed


def guessed(folder: Path, output: Path) -> tuple[Recognised, FilesLayout, dict[str, Case]]:
    path, found = write_card(folder, output / "card.yaml")
    assert load_card(path).labels == found.card.labels
    assert isinstance(found.card.layout, FilesLayout)
    return found, found.card.layout, {case.id: case for case in open_dataset(path).cases}


def said(found: Recognised, text: str) -> bool:
    return any(text in guess for guess in found.guesses)


def test_folders_of_classes_are_seen(tmp_path: Path) -> None:
    for name in ("malignant", "benign"):
        for number in range(1, 5):
            picture(tmp_path / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    found, layout, cases = guessed(tmp_path, tmp_path)
    assert (found.card.task, found.card.classes, found.card.dimension) == ("classification", "binary", 2)
    assert layout.images == "{class}/{case}.{suffix:jpg|png}"
    assert found.card.labels == {0: "benign", 1: "malignant"}
    assert sum(case.target == 1 for case in cases.values()) == 4
    assert said(found, "benign (4 images)")


@pytest.mark.parametrize(
    ("form", "train", "test"),
    [
        ("{part}/{name}/{n}.png", "train/{class}/{case}.png", "test/{class}/{case}.png"),
        ("{name}/{part}/{n}.png", "{class}/train/{case}.png", "{class}/test/{case}.png"),
    ],
)
def test_folders_of_classes_within_parts_and_parts_within_classes(
    tmp_path: Path, form: str, train: str, test: str
) -> None:
    for part in ("train", "test"):
        for name in ("glioma", "no tumour", "pituitary"):
            for n in range(3):
                picture(tmp_path / form.format(part=part, name=name, n=n), colour=n == 1)
    found, layout, cases = guessed(tmp_path, tmp_path)
    assert layout.images == train
    assert layout.test is not None
    assert layout.test.images == test
    assert found.card.labels == {0: "no tumour", 1: "glioma", 2: "pituitary"}
    assert found.card.classes == "multi-class"
    assert [channel.name for channel in found.card.channels] == ["red", "green", "blue"]
    assert said(found, "stored in colour")
    assert sum(case.split == "test" and case.target is not None for case in cases.values()) == 9


def test_numbers_as_classes_may_be_grades(tmp_path: Path) -> None:
    for grade in range(4):
        for n in range(3):
            picture(tmp_path / str(grade) / f"knee{grade}{n}.png")
    found, _, _ = guessed(tmp_path, tmp_path)
    assert found.card.labels == {n: str(n) for n in range(4)}
    assert said(found, "classes: ordinal")


def test_patients_in_the_names_of_images_in_classes(tmp_path: Path) -> None:
    for name, first in (("benign", 0), ("malignant", 4)):
        for n in range(8):
            picture(tmp_path / name / f"P{first + n // 2}_{n % 2}.png")
    found, _, cases = guessed(tmp_path, tmp_path)
    assert found.card.patient == "^(?:val_|test_)?(?:benign_|malignant_)?([^-_. ]+)"
    assert cases["benign_P0_1"].patient == "P0"
    assert len({case.patient for case in cases.values()}) == 8


@pytest.mark.parametrize("names", [("patient_1", "patient_2", "patient_3"), ("CT", "PET"), ("site a", "site b")])
def test_folders_that_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        for n in range(4):
            picture(tmp_path / name / f"{n}.png")
    found, _, _ = guessed(tmp_path, tmp_path)
    assert found.card.task == "unlabelled"


def test_a_table_beside_images_is_seen(tmp_path: Path) -> None:
    for n in range(12):
        picture(tmp_path / "images" / f"ISIC_{n:03d}.png")
    rows = [f"ISIC_{n:03d},P{n // 2},{40 + n},{'MF'[n % 2]},{('nv', 'mel', 'bcc')[n % 3]}" for n in range(12)]
    table(tmp_path, "image_id,patient_id,age,sex,dx", *rows, name="metadata.csv")
    found, layout, cases = guessed(tmp_path, tmp_path)
    assert layout.table is not None
    assert (layout.table.case, layout.table.patient, layout.table.target) == ("image_id", "patient_id", "dx")
    assert found.card.labels == {0: "bcc", 1: "mel", 2: "nv"}
    assert cases["ISIC_003"].patient == "P1"
    assert cases["ISIC_001"].target == 1
    assert said(found, "by the column patient_id")


def test_columns_of_0_and_1_and_names_in_one_cell_are_several_classes(tmp_path: Path) -> None:
    for folder in ("columns", "cells"):
        for n in range(12):
            picture(tmp_path / folder / "images" / f"{n:05d}.png")
    rows = [f"images/{n:05d}.png;{n % 2};{int(n % 3 == 0)}" for n in range(12)]
    table(tmp_path / "columns", "path;effusion;mass", *rows)
    found, layout, cases = guessed(tmp_path / "columns", tmp_path / "columns")
    assert found.card.classes == "multi-label"
    assert layout.table is not None
    assert (layout.table.target, layout.table.separator) == (["effusion", "mass"], ";")
    assert cases["00003"].target == (1, 1)
    rows = [f"{n:05d}.png,{('No Finding', 'Mass|Nodule', 'Nodule')[n % 3]}" for n in range(12)]
    table(tmp_path / "cells", "Image Index,Finding Labels", *rows)
    found, _, cases = guessed(tmp_path / "cells", tmp_path / "cells")
    assert found.card.classes == "multi-label"
    assert found.card.labels == {0: "Mass", 1: "Nodule"}
    assert [cases[f"{n:05d}"].target for n in range(3)] == [(0, 0), (1, 1), (0, 1)]


def test_a_table_says_whose_images_lie_in_folders_of_classes(tmp_path: Path) -> None:
    for name in ("benign", "malignant"):
        for n in range(4):
            picture(tmp_path / name / f"{name[0]}{n}.png")
    rows = [f"{name}{n}.png,S{n // 2}" for name in "bm" for n in range(4)]
    table(tmp_path, "file,subject", *rows, name="subjects.csv")
    _, layout, cases = guessed(tmp_path, tmp_path)
    assert layout.images == "{class}/{case}.png"
    assert cases["malignant_m3"].patient == "S1"
    assert cases["malignant_m3"].target == 1


def test_masks_beside_images_go_before_a_table(tmp_path: Path) -> None:
    for n in range(4):
        picture(tmp_path / "images" / f"{n}.png")
        mask = np.zeros((6, 8), np.uint8)
        mask[1:3, 1:3] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{n}.png")
    table(tmp_path, "image,label", *(f"{n},{n % 2}" for n in range(4)))
    found, layout, _ = guessed(tmp_path, tmp_path)
    assert found.card.task == "segmentation"
    assert layout.values == {255: 1}


def test_check_tells_images_without_a_class(tmp_path: Path) -> None:
    for case in "abc":
        picture(tmp_path / "images" / f"{case}.png")
    table(tmp_path, "image,label", "a,0", "b,1")
    dataset = by_table(tmp_path, "label")
    found = [examine(ExamineTask(case, dataset.card, needs_label=True)).findings for case in dataset.cases]
    assert [[finding.what for finding in findings] for findings in found] == [[], [], ["this image has no class"]]
