"""Masks whose stored values are no label numbers, masks in many files, and grey and colour pictures in one dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segue.catalogue import Card, Case, Masks, Recoded, Row, dataset_at, label_files
from segue.catalogue.card import FilesLayout
from segue.core.config import validate
from segue.core.errors import DataError, UsageError
from segue.images import write
from segue.prepare import ExamineTask, examine, read_channels, read_mask
from segue.prepare.examine import case_digest
from segue.prepare.reading import recoded
from segue.volume import Geometry, Volume
from segue.workflow.exporting.monai import export_monai
from segue.workflow.exporting.nnunet import export_nnunet
from segue.workflow.exporting.table import export_table

GREY = [{"name": "grey"}]
COLOURS = [{"name": "red"}, {"name": "green"}, {"name": "blue"}]


def card(layout: dict[str, Any], labels: dict[int, str] | None = None, channels: Any = None, **more: Any) -> Card:
    content = {
        "name": "mine",
        "title": "Mine",
        "dimension": 2,
        "channels": channels or GREY,
        "labels": labels or {1: "cell"},
        "layout": {"kind": "files", **layout},
    }
    return validate(Card, {**content, **more})


def picture(path: Path, array: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path, **options)
    return path


def noise(path: Path, colour: bool = False, size: tuple[int, int] = (6, 8)) -> Path:
    return picture(path, np.random.default_rng(3).integers(0, 255, (*size, 3) if colour else size))


def square(value: int = 255, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    """Rows and columns with a square of four pixels, whose upper left corner is in row 1, column 2."""
    mask = np.zeros(size, np.uint8)
    mask[1:3, 2:4] = value
    return mask


def in_rows(volume: Volume) -> np.ndarray:
    return volume.array[0, :, :, 0].T


# --- values


@pytest.mark.parametrize(
    ("values", "inside", "outside"),
    [({255: 1}, 1, 0), ({0: 1, 255: 0}, 0, 1), ({0: 2, 255: 1}, 1, 2)],
)
def test_stored_values_mean_labels(tmp_path: Path, values: dict[int, int], inside: int, outside: int) -> None:
    noise(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a.png", square())
    made = card({"images": "images/{case}.png", "labels": "masks/{case}.png", "values": values}, {1: "x", 2: "y"})
    case = dataset_at(made, tmp_path).cases[0]
    assert isinstance(case.label, Recoded)
    assert case.label.name == "a.png"
    assert case.files == (tmp_path / "images/a.png", tmp_path / "masks/a.png")
    assert np.array_equal(in_rows(read_mask(case.label)), np.where(square() > 0, inside, outside))


def test_a_value_that_is_not_named_is_told_with_its_file(tmp_path: Path) -> None:
    noise(tmp_path / "images/a.png")
    mask = square()
    mask[5, 5] = 7
    picture(tmp_path / "masks/a.png", mask)
    made = card({"images": "images/{case}.png", "labels": "masks/{case}.png", "values": {255: 1}})
    case = dataset_at(made, tmp_path).cases[0]
    finding = examine(ExamineTask(case, made)).findings[0]
    assert finding.what == "the mask holds values that the card does not name"
    assert "masks/a.png" in str(finding.value)
    assert "7 in 1 voxels" in str(finding.value)


def test_without_values_the_finding_names_the_mask_too(tmp_path: Path) -> None:
    noise(tmp_path / "images/a.png")
    picture(tmp_path / "masks/other_a.png", square())
    made = card({"images": "images/{case}.png", "labels": "masks/other_{case}.png"})
    finding = examine(ExamineTask(dataset_at(made, tmp_path).cases[0], made)).findings[0]
    assert finding.value == "255 in 4 voxels of other_a.png"


def test_large_values_and_those_of_16_bits() -> None:
    label = Recoded(Path("a.nii.gz"), ((1000, 1), (100_000, 2)))
    stored = np.array([0, 1000, 100_000], np.uint32)
    assert recoded(stored, label, Path("a.nii.gz")).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="99999 in 1 voxels"):
        recoded(np.array([0, 99_999], np.uint32), label, Path("a.nii.gz"))


def test_jpeg_masks_snap_to_the_nearest_named_value(tmp_path: Path) -> None:
    noise(tmp_path / "images/a.jpg", size=(32, 32))
    drawn = np.zeros((32, 32), np.uint8)
    drawn[8:16, 8:24] = 255
    picture(tmp_path / "masks/a.jpg", drawn, quality=90)
    picture(tmp_path / "masks/b.jpg", np.full((8, 8), 128))
    with Image.open(tmp_path / "masks/a.jpg") as stored:
        changed = np.asarray(stored).copy()
    label = Recoded(tmp_path / "masks/a.jpg", ((255, 1),))
    assert np.array_equal(in_rows(read_mask(label)), drawn // 255)
    blurred = np.array([0, 3, 32, 223, 250, 255])
    assert recoded(blurred, label, tmp_path / "a.jpg").tolist() == [0, 0, 0, 1, 1, 1], changed.max()
    with pytest.raises(DataError, match="save them as PNG"):
        read_mask(Recoded(tmp_path / "masks/b.jpg", ((255, 1),)))
    with pytest.raises(DataError, match="3 in 1 voxels"):
        recoded(blurred[:2], label, tmp_path / "a.png")


def test_other_parts_have_the_values_of_the_training_part_unless_they_say_more(tmp_path: Path) -> None:
    for part in ("tr", "va", "ts"):
        noise(tmp_path / part / "images" / f"{part}.png")
        picture(tmp_path / part / "masks" / f"{part}.png", square(255 if part != "ts" else 9))
    parts = {p: {"images": f"{p}/images/{{case}}.png", "labels": f"{p}/masks/{{case}}.png"} for p in ("tr", "va", "ts")}
    made = card({**parts["tr"], "values": {255: 1}, "val": parts["va"], "test": {**parts["ts"], "values": {9: 1}}})
    for case in dataset_at(made, tmp_path).cases:
        assert case.label is not None
        assert read_mask(case.label).array.max() == 1


@pytest.mark.parametrize(
    ("layout", "labels", "said"),
    [
        ({"values": {255: 4}}, {1: "x"}, "labels that the card does not name"),
        ({"values": {}}, {1: "x"}, "whole numbers from 0 up"),
        ({"labels": "m/{case}/{instance}.png"}, {1: "x", 2: "y"}, "alone is for one label"),
        ({"images": "{class}/{case}.png"}, {1: "x"}, "of a classification"),
    ],
)
def test_cards_that_cannot_be_meant(layout: dict[str, Any], labels: dict[int, str], said: str) -> None:
    with pytest.raises(UsageError, match="(?s)" + said.replace("{", r"\{")):
        card({"images": "i/{case}.png", "labels": "m/{case}.png", **layout}, labels)


def test_what_values_mean_is_part_of_the_key_of_a_case(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", square())
    labels = [path, Recoded(path, ((255, 1),)), Recoded(path, ((255, 2),)), Recoded(path, nonzero=True)]
    labels += [Masks(((1, path),)), Masks(((2, path),))]
    assert len({case_digest(Case("a", "a", (path,), label)) for label in labels}) == len(labels)


# --- several masks


def test_masks_of_one_object_each_are_united(tmp_path: Path) -> None:
    noise(tmp_path / "a/images/a.png")
    first, second = np.zeros((2, 6, 8), np.uint8)
    first[0, :3], second[0, 2:5] = 255, 1
    picture(tmp_path / "a/masks/x1.png", first)
    picture(tmp_path / "a/masks/x2.png", second)
    made = card({"images": "{case}/images/*.png", "labels": "{case}/masks/{instance}.png"})
    case = dataset_at(made, tmp_path).cases[0]
    assert isinstance(case.label, Masks)
    assert case.label.files == ((1, tmp_path / "a/masks/x1.png"), (1, tmp_path / "a/masks/x2.png"))
    assert len(case.files) == 3
    assert np.array_equal(in_rows(read_mask(case.label)), (first | second) > 0)


def test_several_labels_with_several_objects_each(tmp_path: Path) -> None:
    noise(tmp_path / "images/a.png")
    for name, columns in {"epithelial-0": (0, 2), "epithelial-1": (4, 6), "immune-0": (1, 3)}.items():
        mask = np.full((6, 8), 255, np.uint8)
        mask[0, slice(*columns)] = 0
        picture(tmp_path / "masks/a" / f"{name}.png", mask)
    layout = {"images": "images/{case}.png", "labels": "masks/{case}/{label}-{instance}.png", "values": {0: 1, 255: 0}}
    case = dataset_at(card(layout, {1: "epithelial", 5: "immune"}), tmp_path).cases[0]
    assert case.label is not None
    assert [path.name for path in label_files(case.label)] == ["epithelial-0.png", "epithelial-1.png", "immune-0.png"]
    assert in_rows(read_mask(case.label))[0].tolist() == [1, 5, 5, 0, 1, 1, 0, 0]


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    noise(tmp_path / "images/a.png")
    picture(tmp_path / "masks/a_1.png", square())
    picture(tmp_path / "masks/a_2.png", square(size=(6, 9)))
    layout = {"images": "images/{case}.png", "labels": "masks/{case}_{instance}.png"}
    case = dataset_at(card(layout), tmp_path).cases[0]
    assert case.label is not None
    with pytest.raises(DataError, match=r"a_2\.png.*different grids.*9x6x1") as caught:
        read_mask(case.label)
    assert "beside a_1.png" in str(caught.value)
    (tmp_path / "masks/a_1.png").unlink()
    case = dataset_at(card(layout), tmp_path).cases[0]
    finding = examine(ExamineTask(case, card(layout))).findings[0]
    assert finding.what == "image and label lie on different grids"
    assert "a_2.png" in str(finding.value)


def test_the_real_nuclei_are_the_union_of_their_masks(test_data: Path) -> None:
    layout = {"images": "stage1_train/{case}/images/*.png", "labels": "stage1_train/{case}/masks/{instance}.png"}
    made = card(layout, channels=COLOURS)
    dataset = dataset_at(made, test_data / "dsb2018-nuclei")
    for case in dataset.cases[:5]:
        assert case.label is not None
        expected = np.max([np.asarray(Image.open(path)) for path in label_files(case.label)], axis=0) > 0
        assert np.array_equal(in_rows(read_mask(case.label)), expected)
        assert not examine(ExamineTask(case, made)).findings


def test_the_real_membranes_are_what_is_stored_as_0(test_data: Path) -> None:
    layout = {"images": "train/image/{case}.png", "labels": "train/label/{case}.png", "values": {0: 1, 255: 0}}
    made = card(layout)
    for case in dataset_at(made, test_data / "isbi-em").cases[:3]:
        assert case.label is not None
        with Image.open(case.files[1]) as stored:
            assert np.array_equal(in_rows(read_mask(case.label)), np.asarray(stored) == 0)
        assert examine(ExamineTask(case, made)).sound


# --- export


def test_exported_masks_have_the_numbers_of_the_labels(tmp_path: Path) -> None:
    for name in "ab":
        noise(tmp_path / "in/images" / f"{name}.png")
        picture(tmp_path / "in/masks" / f"{name}.png", square())
    made = card({"images": "images/{case}.png", "labels": "masks/{case}.png", "values": {255: 1}})
    dataset = dataset_at(made, tmp_path / "in")
    export_monai(dataset, tmp_path / "monai")
    export_nnunet(dataset, tmp_path / "nnunet")
    export_table(dataset, tmp_path / "table.csv")
    for place in ("monai", "nnunet"):
        paths = [path for path in (tmp_path / place).rglob("*") if path.parent.name.startswith("labels")]
        assert len(paths) == 2
        for path in paths:
            assert np.array_equal(in_rows(read_mask(path)), square(1))
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].endswith("label,label_values")
    assert lines[1].endswith("in/masks/a.png,255=1")


def test_exported_objects_are_one_mask_and_one_cell(tmp_path: Path) -> None:
    noise(tmp_path / "in/images/a.png")
    for number in range(3):
        picture(tmp_path / "in/masks/a" / f"{number}.png", square())
    dataset = dataset_at(
        card({"images": "images/{case}.png", "labels": "masks/{case}/{instance}.png"}), tmp_path / "in"
    )
    export_monai(dataset, tmp_path / "monai")
    path = next((tmp_path / "monai/labels").iterdir())
    assert np.array_equal(in_rows(read_mask(path)), square(1))
    export_table(dataset, tmp_path / "table.csv")
    cell = (tmp_path / "table.csv").read_text().splitlines()[1].rpartition(",")[2]
    assert cell.split(";") == [f"in/masks/a/{n}.png" for n in range(3)]


def test_numbered_objects_in_arrays_are_one_label(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 255, (2, 8, 8), dtype=np.uint8)
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[:, 2], masks[:, 4] = 1, 17
    np.savez(tmp_path / "cells.npz", train_images=images, train_label=masks)
    content = {"name": "mine", "title": "Mine", "dimension": 2, "channels": GREY, "labels": {1: "cell"}}
    layout = {"kind": "npz", "file": "cells.npz", "nonzero_is_foreground": True}
    dataset = dataset_at(validate(Card, {**content, "layout": layout}), tmp_path)
    label = dataset.cases[0].label
    assert isinstance(label, Recoded)
    assert isinstance(label.source, Row)
    assert label.name == "cells.npz:train_label[0]"
    export_nnunet(dataset, tmp_path / "nnunet")
    paths = [path for path in (tmp_path / "nnunet").rglob("*.png") if path.parent.name == "labelsTr"]
    for path in paths:
        with Image.open(path) as stored:
            assert np.array_equal(np.asarray(stored), masks[0] > 0)
    assert len(paths) == 2


# --- channels of pictures


def one_case(path: Path) -> Case:
    return Case("a", "a", (path,))


def test_a_grey_picture_is_spread_among_colours(tmp_path: Path) -> None:
    path = noise(tmp_path / "a.png")
    made = card({"images": "{case}.png", "labels": "{case}_m.png"}, channels=COLOURS)
    found = read_channels(one_case(path), made).array
    with Image.open(path) as stored:
        for channel in found:
            assert np.array_equal(channel[:, :, 0].T, np.asarray(stored))
    assert read_channels(one_case(noise(tmp_path / "b.png", colour=True)), made).array.shape == (3, 8, 6, 1)


def test_grey_stored_in_colour_is_one_channel_and_colour_is_not(tmp_path: Path) -> None:
    grey = noise(tmp_path / "a.png")
    with Image.open(grey) as stored:
        stored.convert("RGBA").save(tmp_path / "b.png")
    made = card({"images": "{case}.png", "labels": "{case}_m.png"})
    expected = read_channels(one_case(grey), made).array
    assert np.array_equal(read_channels(one_case(tmp_path / "b.png"), made).array, expected)
    with pytest.raises(DataError, match=r"a: c\.png: the image is in colour") as caught:
        read_channels(one_case(noise(tmp_path / "c.png", colour=True)), made)
    assert "grey pictures then fit too" in str(caught.value)


def test_volumes_are_neither_spread_nor_joined(tmp_path: Path) -> None:
    write(Volume(np.ones((1, 4, 4, 4), np.float32), Geometry((4, 4, 4), np.eye(4))), tmp_path / "a.nii.gz")
    made = card({"images": "{case}.nii.gz", "labels": "{case}_m.nii.gz"}, channels=COLOURS)
    with pytest.raises(DataError, match=r"a: a\.nii\.gz: .*another number of channels"):
        read_channels(one_case(tmp_path / "a.nii.gz"), made)


def test_a_picture_that_does_not_decode_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    picture(tmp_path / "masks/a.png", square())
    made = card({"images": "images/{case}.png", "labels": "masks/{case}.png", "values": {255: 1}})
    examined = examine(ExamineTask(dataset_at(made, tmp_path).cases[0], made))
    assert not examined.sound
    assert "images/a.png" in str(examined.findings[0].value)


def test_values_survive_the_card_of_a_run() -> None:
    made = card({"images": "i/{case}.png", "labels": "m/{case}.png", "values": {255: 1}})
    again = Card.model_validate_json(made.model_dump_json())
    assert again == made
    assert isinstance(again.layout, FilesLayout)
    assert again.layout.values == {255: 1}
