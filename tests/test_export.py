"""Datasets taken elsewhere, and what the other side makes of them."""

from __future__ import annotations

import csv
import itertools
import json
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from monai.auto3dseg.utils import datafold_read
from monai.data import load_decathlon_datalist
from monai.transforms import LoadImage

import nnunet_rules
from segue.catalogue import Card, Dataset, dataset_at, fold_count, load_card, split_cases
from segue.core.errors import DataError, UsageError
from segue.images import write
from segue.volume import Geometry, Volume
from segue.workflow.exporting import export_dataset
from segue.workflow.exporting.labels import nnunet_labels, painting_order
from segue.workflow.exporting.naming import case_names

SHAPE = (7, 6, 5)
AFFINE = np.array([[-0.8, 0, 0, 12], [0, 0.9, 0, -7], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


def image(path: Path, seed: int, channels: int = 1, affine: np.ndarray = AFFINE) -> None:
    values = np.random.default_rng(seed).normal(size=(channels, *SHAPE)).astype(np.float32)
    write(Volume(values, Geometry(SHAPE, affine)), path)


def mask(path: Path, seed: int, values: list[int], affine: np.ndarray = AFFINE) -> np.ndarray:
    """Every one of ``values`` is in it."""
    array = np.random.default_rng(seed).choice(values, SHAPE)
    array.flat[: len(values)] = values
    write(Volume(array[None].astype(np.uint16), Geometry(SHAPE, affine), "labels"), path)
    return array


def opened(root: Path, **said: Any) -> Dataset:
    layout = {"kind": "files", "images": "images/{case}.nii.gz", "labels": "labels/{case}.nii.gz"}
    content = {"name": "own/set", "title": "t", "channels": [{"name": "CT", "unit": "HU"}], "labels": {1: "organ"}}
    return dataset_at(Card.model_validate({**content, "layout": layout, **said}), root)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Five patients with two studies each."""
    for number, name in enumerate(f"p{n}_{study}" for n in range(5) for study in "ab"):
        image(tmp_path / "set" / "images" / f"{name}.nii.gz", number)
        mask(tmp_path / "set" / "labels" / f"{name}.nii.gz", number, [0, 1])
    return tmp_path / "set"


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """When each file was last written and last linked."""
    return {
        str(p.relative_to(folder)): (p.lstat().st_mtime_ns, p.lstat().st_ctime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


def items(folder: Path, section: str = "training") -> list[dict[str, Any]]:
    return load_decathlon_datalist(str(folder / "datalist.json"), True, section)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


# The real one


def test_real_hippocampus_goes_to_nnunet_by_links(hippocampus: Path, tmp_path: Path) -> None:
    dataset = dataset_at(load_card("msd/hippocampus"), hippocampus)
    done = export_dataset(dataset, "nnunet", tmp_path / "nnUNet_raw")
    assert len(nnunet_rules.check(done.path)) == 208
    assert len(list((done.path / "imagesTs").iterdir())) == 30
    # Two masks of this set are stored as float32 (SOURCES.md of the test data); with the two JSON files, four.
    assert (done.linked, done.written, done.left_out) == (2 * 208 + 30 - 2, 4, {})
    for case in dataset.labelled:
        assert (done.path / "imagesTr" / f"{case.id}_0000.nii.gz").samefile(case.files[0])
        assert np.array_equal(
            nnunet_rules.mask(done.path / "labelsTr" / f"{case.id}.nii.gz"), nnunet_rules.mask(case.files[1])
        )
    assert any("CC-BY-SA-4.0" in note for note in done.notes)


def test_real_hippocampus_goes_to_monai_with_our_folds(hippocampus: Path, tmp_path: Path) -> None:
    dataset = dataset_at(load_card("msd/hippocampus"), hippocampus)
    done = export_dataset(dataset, "monai", tmp_path)
    assert (done.linked, done.written) == (2 * 208 + 30, 1)
    assert len(items(tmp_path)) == 208
    assert all(Path(item["image"]).is_file() for item in items(tmp_path, "test"))
    for fold in range(5):
        train, val = datafold_read(str(tmp_path / "datalist.json"), str(tmp_path), fold)
        ours = split_cases(dataset, fold)
        assert [Path(item["label"]).name for item in val] == [f"{case.id}.nii.gz" for case in ours.val]
        assert len(train) == len(ours.train)
    loaded = LoadImage(image_only=True)(items(tmp_path)[3]["label"])
    assert np.array_equal(loaded.numpy(), nibabel.load(dataset.labelled[3].files[1]).get_fdata())


# What a rerun does


@pytest.mark.parametrize("to", ["nnunet", "monai", "csv"])
def test_again_does_nothing(plain: Path, tmp_path: Path, to: Any) -> None:
    dataset = opened(plain, labels={3: "organ", 1: "other"})
    first = export_dataset(dataset, to, tmp_path / "out")
    before = states(tmp_path / "out")
    time.sleep(0.02)
    second = export_dataset(dataset, to, tmp_path / "out")
    assert states(tmp_path / "out") == before
    assert (second.linked, second.written) == (0, 0)
    assert second.kept == first.linked + first.written
    assert second.notes == first.notes


def test_again_repairs_and_renews(plain: Path, tmp_path: Path) -> None:
    for path in (plain / "labels").iterdir():
        mask(path, 1, [0, 2])
    dataset = opened(plain, labels={2: "organ"})
    folder = export_dataset(dataset, "nnunet", tmp_path / "out").path
    before = states(folder)
    (folder / "imagesTr" / "p0_a_0000.nii.gz").unlink()
    (folder / "labelsTr" / "p0_b.nii.gz").unlink()
    (folder / "labelsTr" / "p1_a.nii.gz").write_bytes(b"cut")
    mask(plain / "labels" / "p1_b.nii.gz", 7, [0, 2])
    image(plain / "images" / "p2_a.nii.gz", 8)  # another file of the same name: the link shows the old one
    done = export_dataset(dataset, "nnunet", tmp_path / "out")
    assert (done.linked, done.written) == (2, 4)
    changed = {name for name, state in states(folder).items() if before.get(name) != state}
    assert changed == {
        "imagesTr/p0_a_0000.nii.gz",
        "labelsTr/p0_b.nii.gz",
        "labelsTr/p1_a.nii.gz",
        "labelsTr/p1_b.nii.gz",
        "imagesTr/p2_a_0000.nii.gz",
        "labelsTr/p2_a.nii.gz",  # a mask is written on its image's grid
        ".segue-export.jsonl",
    }
    nnunet_rules.check(folder)
    expected = nnunet_rules.mask(plain / "labels" / "p1_b.nii.gz") // 2
    assert np.array_equal(nnunet_rules.mask(folder / "labelsTr" / "p1_b.nii.gz"), expected)


def test_a_killed_export_goes_on(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segue.workflow.exporting import nnunet

    for path in (plain / "labels").iterdir():
        mask(path, 1, [0, 2])
    dataset = opened(plain, labels={2: "organ"})
    count = itertools.count()

    def until_killed(volume: Volume, path: Path) -> None:
        if next(count) in (4, 6):
            raise KeyboardInterrupt
        write(volume, path)

    monkeypatch.setattr(nnunet, "write", until_killed)
    folder = tmp_path / "Dataset501_A"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            export_dataset(dataset, "nnunet", folder, workers=1)
        assert not (folder / "dataset.json").exists()
        with (folder / ".segue-export.jsonl").open("a") as journal:
            journal.write('{"case": "p2_a", "ke')  # and the line that was being written
    before = states(folder)
    done = export_dataset(dataset, "nnunet", folder, workers=1)
    assert done.written == 5 + 2  # four masks before the first kill, one before the second
    after = states(folder)
    assert all(after[name] == state for name, state in before.items() if name.startswith("labelsTr"))
    assert len(nnunet_rules.check(folder)) == 10
    assert export_dataset(dataset, "nnunet", folder).written == 0


def test_what_left_the_dataset_leaves_the_export(plain: Path, tmp_path: Path) -> None:
    folder = export_dataset(opened(plain), "nnunet", tmp_path / "out").path
    (plain / "images" / "p0_a.nii.gz").unlink()
    (plain / "labels" / "p0_b.nii.gz").unlink()
    (folder / "imagesTr" / ".mine").write_text("not ours")
    assert (folder / "splits_final.json").exists()
    done = export_dataset(opened(plain), "nnunet", tmp_path / "out")
    assert nnunet_rules.check(folder) == sorted(f"p{n}_{s}" for n in range(1, 5) for s in "ab")
    assert done.cases == 8
    assert any("1 images for training have no mask" in note and "p0_b" in note for note in done.notes)
    assert (folder / "imagesTr" / ".mine").exists()
    # One patient makes no folds, and the old ones are gone.
    done = export_dataset(opened(plain, patient="^(p)"), "nnunet", tmp_path / "out")
    assert not (folder / "splits_final.json").exists()
    assert any("at least two patients (1 found)" in note for note in done.notes)


def test_several_workers_do_the_same(plain: Path, tmp_path: Path) -> None:
    for path in (plain / "labels").iterdir():
        mask(path, 1, [0, 2])
    mask(plain / "labels" / "p1_a.nii.gz", 1, [0, 9])
    dataset = opened(plain, labels={2: "organ"})
    done = [export_dataset(dataset, "nnunet", tmp_path / str(n), workers=n) for n in (1, 2)]
    assert done[0].left_out == done[1].left_out
    assert list(done[0].left_out) == ["p1_a"]
    for path in done[0].path.rglob("*.*"):
        if path.is_file():
            assert (done[1].path / path.relative_to(done[0].path)).read_bytes() == path.read_bytes()


def test_without_hard_links_there_are_symbolic_ones(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    for _ in range(2):
        done = export_dataset(opened(plain), "nnunet", tmp_path / "out")
        assert any("20 files are symbolic links" in note and str(plain) in note for note in done.notes)
    assert (done.path / "imagesTr" / "p0_a_0000.nii.gz").is_symlink()
    nnunet_rules.check(done.path)


# nnU-Net's labels


@pytest.fixture
def brats(tmp_path: Path) -> Dataset:
    channels = ["t1", "t1ce", "t2", "flair"]
    for number in range(4):
        for n, channel in enumerate(channels):
            image(tmp_path / "brats" / f"B_{number:05d}" / f"{channel}.nii.gz", 10 * number + n)
        # The last has no enhancing tumour: nothing in it needs another number.
        values = [0, 1, 2, 4] if number < 3 else [0, 1, 2]
        mask(tmp_path / "brats" / f"B_{number:05d}" / "seg.nii.gz", number, values)
    return opened(
        tmp_path / "brats",
        name="brats/2021",
        channels=[{"name": name} for name in channels],
        labels={1: "necrosis", 2: "oedema", 4: "enhancing"},
        regions={"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]},
        layout={"kind": "files", "images": "{case}/{channel}.nii.gz", "labels": "{case}/seg.nii.gz"},
    )


def test_brats_becomes_regions_and_comes_back(brats: Dataset, tmp_path: Path) -> None:
    done = export_dataset(brats, "nnunet", tmp_path / "out")
    folder = done.path
    nnunet_rules.check(folder)
    told = nnunet_rules.listing(folder)
    # The example of nnU-Net's own documentation, in BraTS's order of labels.
    assert list(told["labels"].items()) == [("background", 0), ("WT", [1, 2, 3]), ("TC", [1, 3]), ("ET", 3)]
    assert told["regions_class_order"] == [2, 1, 3]
    assert told["original_labels"]["3"] == {"number": 4, "name": "enhancing"}
    assert any("4 is 3" in note for note in done.notes)
    assert (folder / "labelsTr" / "B_00003.nii.gz").samefile(brats.cases[3].files[-1])
    for case in brats.cases:
        exported = nnunet_rules.mask(folder / "labelsTr" / f"{case.id}.nii.gz")
        assert np.array_equal(nnunet_rules.painted(told, exported), exported)
    # The folder is a dataset again: the same cases, patients, folds and, with the old numbers, the same voxels.
    again = opened(
        folder,
        channels=[{"name": name} for name in told["channel_names"].values()],
        labels={int(n): entry["name"] for n, entry in told["original_labels"].items()},
        layout={"kind": "nnunet"},
        split={"file": "splits_final.json"},
    )
    assert [case.id for case in again.cases] == [case.id for case in brats.cases]
    for fold in range(fold_count(brats)):
        mine, theirs = split_cases(brats, fold), split_cases(again, fold)
        assert [case.id for case in mine.val] == [case.id for case in theirs.val]
        assert [case.id for case in mine.train] == [case.id for case in theirs.train]
    for before, after in zip(brats.cases, again.cases, strict=True):
        assert all(a.samefile(b) for a, b in zip(before.images, after.images, strict=True))  # type: ignore[union-attr]
        old = nibabel.load(before.files[-1]).get_fdata()
        new = nibabel.load(after.files[-1]).get_fdata()
        back = {int(n): entry["number"] for n, entry in told["original_labels"].items()}
        assert np.array_equal(np.vectorize(lambda n, back=back: back.get(int(n), 0))(new), old)


def test_an_order_is_found_exactly_where_there_is_one() -> None:
    def fits(order: tuple[tuple[int, ...], ...], labels: set[int]) -> bool:
        last = [max((n for n, region in enumerate(order) if label in region), default=-1) for label in labels]
        return -1 not in last and len(set(last)) == len(last)

    subsets = [c for size in (1, 2, 3) for c in itertools.combinations((1, 2, 3), size)]
    found = 0
    for count in (2, 3, 4):
        for regions in itertools.combinations(subsets, count):
            labels = set().union(*regions)
            order = painting_order({str(region): set(region) for region in regions})
            possible = any(fits(order, labels) for order in itertools.permutations(regions))
            assert (order is not None) == possible, regions
            if order is None:
                continue
            found += 1
            true = np.array(sorted(labels))
            result = np.zeros_like(true)
            for name, number in order:
                result[np.isin(true, json.loads(name.replace("(", "[").replace(",)", "]").replace(")", "]")))] = number
            assert np.array_equal(result, true), regions
    assert found > 10


def test_regions_that_cannot_be_painted_stay_labels() -> None:
    said = {"name": "a", "title": "a", "channels": [{"name": "x"}], "layout": {"kind": "petct"}}
    three = {1: "a", 2: "b", 3: "c"}
    crossing = nnunet_labels(Card(**said, labels=three, regions={"left": [1, 2], "right": [2, 3]}))
    assert crossing.labels == {"background": 0, "a": 1, "b": 2, "c": 3}
    assert crossing.order is None
    assert any("regions left out" in note for note in crossing.notes)
    held = nnunet_labels(Card(**said, labels=three, regions={"both": [1, 2], "b": [2]}))
    assert held.labels == {"background": 0, "both": [1, 2], "b": 2, "c": 3}
    assert held.order == [1, 2, 3]
    # A region of one label is that label; without a larger one nnU-Net wants no order.
    alone = nnunet_labels(Card(**said, labels=three, regions={"only": [2]}))
    assert (alone.labels, alone.order) == ({"background": 0, "a": 1, "b": 2, "c": 3}, None)
    reserved = nnunet_labels(Card(**said, labels={1: "ignore", 2: "background"}))
    assert reserved.labels == {"background": 0, "ignore 1": 1, "background 2": 2}


def test_the_ignore_label_is_the_highest(plain: Path, tmp_path: Path) -> None:
    arrays = {path.name: mask(path, n, [0, 1, 5, 255]) for n, path in enumerate(sorted((plain / "labels").iterdir()))}
    dataset = opened(plain, labels={1: "a", 5: "b"}, regions={"all": [1, 5], "core": [5]}, ignore_label=255)
    folder = export_dataset(dataset, "nnunet", tmp_path).path
    nnunet_rules.check(folder)
    told = nnunet_rules.listing(folder)
    assert told["labels"] == {"background": 0, "all": [1, 2], "core": 2, "ignore": 3}
    assert told["regions_class_order"] == [1, 2]
    for name, array in arrays.items():
        expected = np.select([array == 5, array == 255], [2, 3], array)
        assert np.array_equal(nibabel.load(folder / "labelsTr" / name).get_fdata(), expected)


# nnU-Net's files


def test_patients_stay_together_and_every_case_validates_once(plain: Path, tmp_path: Path) -> None:
    dataset = opened(plain, patient="^(p[0-9])")
    folder = export_dataset(dataset, "nnunet", tmp_path).path
    cases = nnunet_rules.check(folder)
    assert nnunet_rules.listing(folder)["patients"]["p3_b"] == "p3"
    folds = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in folds for case in fold["val"]) == cases
    for number, fold in enumerate(folds):
        assert fold["val"] == [case.id for case in split_cases(dataset, number).val]


def test_channels_in_hu_are_called_ct(tmp_path: Path) -> None:
    for number in range(2):
        for channel in ("lung", "bone", "PET"):
            image(tmp_path / "set" / f"c{number}_{channel}.nii.gz", number)
        mask(tmp_path / "set" / f"c{number}_mask.nii.gz", number, [0, 1])
    dataset = opened(
        tmp_path / "set",
        channels=[{"name": "lung", "unit": "HU"}, {"name": "bone", "unit": "HU"}, {"name": "PET", "unit": "SUV"}],
        layout={"kind": "files", "images": "{case}_{channel}.nii.gz", "labels": "{case}_mask.nii.gz"},
    )
    done = export_dataset(dataset, "nnunet", tmp_path / "out")
    nnunet_rules.check(done.path)
    assert nnunet_rules.listing(done.path)["channel_names"] == {"0": "CT", "1": "CT", "2": "PET"}
    assert any("lung, bone" in note for note in done.notes)


def test_four_dimensional_images_become_one_file_per_channel(tmp_path: Path) -> None:
    for number in range(2):
        image(tmp_path / "set" / "images" / f"c{number}.nii.gz", number, channels=3)
        mask(tmp_path / "set" / "labels" / f"c{number}.nii.gz", number, [0, 1])
    dataset = opened(tmp_path / "set", channels=[{"name": name} for name in "abc"])
    done = export_dataset(dataset, "nnunet", tmp_path / "nn")
    nnunet_rules.check(done.path)
    whole = nibabel.load(tmp_path / "set" / "images" / "c1.nii.gz").get_fdata()
    for channel in range(3):
        part = nibabel.load(done.path / "imagesTr" / f"c1_{channel:04d}.nii.gz")
        assert np.array_equal(part.get_fdata(), whole[..., channel])
        assert part.get_data_dtype() == np.float32
    # MONAI reads the 4-D file as it is.
    export_dataset(dataset, "monai", tmp_path / "mo")
    read = items(tmp_path / "mo")[1]
    assert Path(read["image"]).samefile(tmp_path / "set" / "images" / "c1.nii.gz")
    assert LoadImage(image_only=True, ensure_channel_first=True)(read["image"]).shape == (3, *SHAPE)


def test_several_masks_become_one(tmp_path: Path) -> None:
    truth = {}
    for number in range(3):
        image(tmp_path / "set" / f"c{number}" / "ct.nii.gz", number)
        one = mask(tmp_path / "set" / f"c{number}" / "liver.nii.gz", number, [0, 1])
        two = np.zeros(SHAPE, int)
        if number:  # the first case has no tumour, and no file for it
            two = mask(tmp_path / "set" / f"c{number}" / "tumour.nii.gz", number + 9, [0, 1])
        truth[f"c{number}"] = np.where(two > 0, 2, one)
    layout = {"kind": "files", "images": "{case}/ct.nii.gz", "labels": "{case}/{label}.nii.gz"}
    dataset = opened(tmp_path / "set", labels={1: "liver", 2: "tumour"}, layout=layout)
    folder = export_dataset(dataset, "nnunet", tmp_path / "nn").path
    nnunet_rules.check(folder)
    export_dataset(dataset, "monai", tmp_path / "mo")
    for name, array in truth.items():
        assert np.array_equal(nibabel.load(folder / "labelsTr" / f"{name}.nii.gz").get_fdata(), array)
    for item in items(tmp_path / "mo"):
        assert np.array_equal(nibabel.load(item["label"]).get_fdata(), truth[item["case"]])
    rows = table(export_dataset(dataset, "csv", tmp_path / "cases.csv").path)
    assert rows[0]["label_tumour"] == ""
    assert (tmp_path / rows[1]["label_tumour"]).samefile(tmp_path / "set" / "c1" / "tumour.nii.gz")


def test_uncompressed_files_are_linked_and_mixed_ones_made_equal(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "set" / "images" / f"c{number}.nii", number)
        mask(tmp_path / "set" / "labels" / f"c{number}.nii", number, [0, 1])
    layout = {"kind": "files", "images": "images/{case}.nii", "labels": "labels/{case}.nii"}
    dataset = opened(tmp_path / "set", layout=layout)
    done = export_dataset(dataset, "nnunet", tmp_path / "a")
    nnunet_rules.check(done.path)
    assert nnunet_rules.listing(done.path)["file_ending"] == ".nii"
    assert done.linked == 6
    for number in range(3):
        (tmp_path / "set" / "labels" / f"c{number}.nii").unlink()
        mask(tmp_path / "set" / "labels" / f"c{number}.nii.gz", number, [0, 1])
    mixed = opened(tmp_path / "set", layout={**layout, "labels": "labels/{case}.nii.gz"})
    done = export_dataset(mixed, "nnunet", tmp_path / "b")
    nnunet_rules.check(done.path)
    assert nnunet_rules.listing(done.path)["file_ending"] == ".nii.gz"
    assert done.linked == 3
    assert any("3 files were written, not linked: all files end in .nii.gz" in note for note in done.notes)
    # The first folder's turn: the same dataset in another form, and nothing of the old form stays.
    folder = export_dataset(mixed, "nnunet", tmp_path / "a").path
    nnunet_rules.check(folder)
    assert not list(folder.rglob("*.nii"))


def test_what_nnunet_would_refuse_is_left_out_and_told(plain: Path, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 1.0
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.2
    mask(plain / "labels" / "p0_a.nii.gz", 0, [0, 1], moved)
    mask(plain / "labels" / "p0_b.nii.gz", 0, [0, 1, 7])
    image(plain / "images" / "p1_a.nii.gz", 0, affine=sheared)
    mask(plain / "labels" / "p1_a.nii.gz", 0, [0, 1], sheared)
    image(plain / "images" / "p1_b.nii.gz", 0, channels=2)
    (plain / "images" / "p2_a.nii.gz").write_bytes(b"no image")
    dataset = opened(plain)
    done = export_dataset(dataset, "nnunet", tmp_path / "out")
    assert nnunet_rules.check(done.path) == ["p2_b", "p3_a", "p3_b", "p4_a", "p4_b"]
    assert "positions differ by up to 1 mm" in done.left_out["p0_a"]
    assert "7 beside 1" in done.left_out["p0_b"]
    assert "degrees of shear" in done.left_out["p1_a"]
    assert "2, expected 1" in done.left_out["p1_b"]
    assert "cut short" in done.left_out["p2_a"]
    assert any("p0_a" in note and "different grids" in note for note in done.notes)
    # Mended, it comes back; spoilt, another goes.
    mask(plain / "labels" / "p0_a.nii.gz", 0, [0, 1])
    mask(plain / "labels" / "p4_b.nii.gz", 0, [0, 1], moved)
    again = export_dataset(dataset, "nnunet", tmp_path / "out")
    assert nnunet_rules.check(again.path) == ["p0_a", "p2_b", "p3_a", "p3_b", "p4_a"]


def test_headers_that_differ_by_rounding_are_made_equal(plain: Path, tmp_path: Path) -> None:
    # 0.78125 mm written with four digits: nothing to a reader of images, an error to nnU-Net.
    exact, rounded = AFFINE.copy(), AFFINE.copy()
    exact[0, 0], rounded[0, 0] = -0.78125, -0.7812
    image(plain / "images" / "p0_a.nii.gz", 0, affine=exact)
    array = mask(plain / "labels" / "p0_a.nii.gz", 0, [0, 1], rounded)
    done = export_dataset(opened(plain), "nnunet", tmp_path / "out")
    nnunet_rules.check(done.path)
    assert np.array_equal(nibabel.load(done.path / "labelsTr" / "p0_a.nii.gz").get_fdata(), array)
    assert any("1 files were written, not linked: headers of one case" in note for note in done.notes)


def test_a_fourth_axis_of_one_is_taken_off(plain: Path, tmp_path: Path) -> None:
    for path in (plain / "images" / "p0_a.nii.gz", plain / "labels" / "p1_a.nii.gz"):
        whole = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(whole.dataobj)[..., None], whole.affine), path)
    done = export_dataset(opened(plain), "nnunet", tmp_path / "out")
    nnunet_rules.check(done.path)
    assert nibabel.load(done.path / "imagesTr" / "p0_a_0000.nii.gz").shape == SHAPE
    assert any("2 files were written, not linked: a volume has three axes" in note for note in done.notes)


def test_official_parts_keep_their_place(tmp_path: Path) -> None:
    for part, names, with_mask in (("tr", "abcd", True), ("va", "ef", True), ("te", "gh", True), ("bare", "i", False)):
        for n, name in enumerate(names):
            image(tmp_path / "set" / part / f"{name}_i.nii.gz", n)
            if with_mask:
                mask(tmp_path / "set" / part / f"{name}_m.nii.gz", n, [0, 1])
    (tmp_path / "set" / "bare" / "i_i.nii.gz").rename(tmp_path / "set" / "te" / "i_i.nii.gz")
    (tmp_path / "set" / "tr" / "d_m.nii.gz").unlink()
    parts = {p: {"images": f"{p}/{{case}}_i.nii.gz", "labels": f"{p}/{{case}}_m.nii.gz"} for p in ("tr", "va", "te")}
    dataset = opened(tmp_path / "set", layout={"kind": "files", **parts["tr"], "val": parts["va"], "test": parts["te"]})
    folder = export_dataset(dataset, "nnunet", tmp_path / "nn").path
    assert nnunet_rules.check(folder) == list("abcef")
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": list("abc"), "val": list("ef")}]
    assert sorted(path.name[0] for path in (folder / "imagesTs").iterdir()) == list("ghi")
    assert sorted(path.name[0] for path in (folder / "labelsTs").iterdir()) == list("gh")
    done = export_dataset(dataset, "monai", tmp_path / "mo")
    assert [item["case"] for item in items(tmp_path / "mo")] == list("abc")
    assert [item["case"] for item in items(tmp_path / "mo", "validation")] == list("ef")
    assert ["label" in item for item in items(tmp_path / "mo", "test")] == [True, True, False]
    # Whoever throws both sections together finds the official validation set in fold 0.
    told = json.loads((tmp_path / "mo" / "datalist.json").read_text())
    train, val = datafold_read({"training": told["training"] + told["validation"]}, "", 0)
    assert ("".join(i["case"] for i in train), "".join(i["case"] for i in val)) == ("abc", "ef")
    assert [item["case"] for item in told["unlabelled"]] == ["d"]
    assert any("unlabelled" in note for note in done.notes)
    rows = {row["case"]: row for row in table(export_dataset(dataset, "csv", tmp_path).path)}
    assert (rows["e"]["split"], rows["e"]["fold"], rows["a"]["fold"], rows["d"]["label"]) == ("val", "0", "", "")


def test_groups_in_which_nobody_drew_a_label_are_told(plain: Path, tmp_path: Path) -> None:
    dataset = opened(
        plain, labels={1: "organ", 2: "bladder"}, groups=[{"name": "MR", "cases": "^p4", "unlabelled": [2]}]
    )
    done = export_dataset(dataset, "nnunet", tmp_path / "nn")
    assert any("in 2 cases nobody drew bladder" in note for note in done.notes)
    export_dataset(dataset, "monai", tmp_path / "mo")
    assert json.loads((tmp_path / "mo" / "datalist.json").read_text())["undrawn"] == {"p4_a": [2], "p4_b": [2]}
    assert len(datafold_read(str(tmp_path / "mo" / "datalist.json"), str(tmp_path), 0)[0]) == 8


# Places and names


def test_a_place_that_holds_something_else_is_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="own files lie"):
        export_dataset(opened(plain), "monai", plain)
    assert len(list(plain.rglob("*.nii.gz"))) == 20
    other = tmp_path / "Dataset007_Other"
    other.mkdir()
    (other / "dataset.json").write_text("{}")
    with pytest.raises(UsageError, match="no export made"):
        export_dataset(opened(plain), "nnunet", other)
    assert (other / "dataset.json").read_text() == "{}"
    export_dataset(opened(plain), "monai", tmp_path / "mo")
    with pytest.raises(UsageError, match="own/set for monai"):
        export_dataset(opened(plain, name="else"), "monai", tmp_path / "mo")
    (tmp_path / "mine.csv").write_text("name,age\n")
    with pytest.raises(UsageError, match="no exported table"):
        export_dataset(opened(plain), "csv", tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "name,age\n"


def test_dataset_numbers_are_stable_and_free(plain: Path, tmp_path: Path) -> None:
    first = export_dataset(opened(plain), "nnunet", tmp_path / "a").path
    number = int(first.name[7:10])
    assert 500 <= number <= 999
    assert first.name.endswith("_OwnSet")
    assert export_dataset(opened(plain), "nnunet", tmp_path / "b").path.name == first.name
    (tmp_path / "c" / f"Dataset{number}_Somebody").mkdir(parents=True)
    moved = export_dataset(opened(plain), "nnunet", tmp_path / "c").path
    assert moved.name == f"Dataset{500 + (number - 499) % 500:03d}_OwnSet"
    # Once there, it stays, even if its number becomes free.
    (tmp_path / "c" / f"Dataset{number}_Somebody").rmdir()
    assert export_dataset(opened(plain), "nnunet", tmp_path / "c").path == moved
    assert export_dataset(opened(plain), "nnunet", tmp_path / "Dataset123_Mine").path.name == "Dataset123_Mine"


def test_case_names_suit_file_systems_and_nnunet(plain: Path, tmp_path: Path) -> None:
    for old, new in (("p0_a", "amos_0001"), ("p0_b", "amos-0001"), ("p1_a", "P1_c"), ("p1_b", "p1_C")):
        for kind in ("images", "labels"):
            (plain / kind / f"{old}.nii.gz").rename(plain / kind / f"{new}.nii.gz")
    done = export_dataset(opened(plain), "nnunet", tmp_path)
    cases = nnunet_rules.check(done.path)
    assert {"amos-0001", "amos-0001-2", "P1_c", "p1_C-2"} <= set(cases)
    assert nnunet_rules.listing(done.path)["original_cases"] == {"amos-0001-2": "amos_0001", "p1_C-2": "p1_C"}
    assert any("amos_0001 is amos-0001-2" in note for note in done.notes)
    assert case_names([]) == {}


# Arrays


def arrays(folder: Path, **content: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "a.npz", **content)


@pytest.mark.parametrize("colours", [0, 3])
def test_pictures_in_arrays_become_png(tmp_path: Path, colours: int) -> None:
    random = np.random.default_rng(0)
    shape = (6, 9, 11, *([colours] if colours else []))
    pictures = {f"{part}_images": random.integers(0, 256, shape, dtype=np.uint8) for part in ("train", "val", "test")}
    masks = {
        f"{part}_label": random.choice(np.array([0, 2, 7], np.uint8), shape[:3]) for part in ("train", "val", "test")
    }
    arrays(tmp_path / "set", **pictures, **masks)
    dataset = opened(
        tmp_path / "set",
        dimension=2,
        channels=[{"name": name} for name in ("red", "green", "blue")[: colours or 1]],
        labels={2: "gland", 7: "stroma"},
        layout={"kind": "npz", "file": "a.npz"},
    )
    done = export_dataset(dataset, "nnunet", tmp_path / "nn")
    told = nnunet_rules.listing(done.path)
    assert len(nnunet_rules.check(done.path)) == 12
    assert told["file_ending"] == ".png"
    assert list(told["channel_names"].values()) == (["R", "G", "B"] if colours else ["red"])
    assert " 2d " in next(note for note in done.notes if note.startswith("next"))
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(done.path / "imagesTr" / "train_000004_0000.png")))
    assert np.array_equal(picture, pictures["train_images"][4])
    drawn = nnunet_rules.mask(done.path / "labelsTr" / "val_000002.png")
    assert np.array_equal(drawn, np.select([masks["val_label"][2] == 2, masks["val_label"][2] == 7], [1, 2], 0))
    assert len(json.loads((done.path / "splits_final.json").read_text())) == 1
    export_dataset(dataset, "monai", tmp_path / "mo")
    item = items(tmp_path / "mo", "test")[5]
    assert np.array_equal(nnunet_rules.mask(Path(item["label"])), masks["test_label"][5])
    # MONAI's reader of pictures puts columns first, for image and label alike.
    assert LoadImage(image_only=True)(item["image"]).shape == (11, 9, *([3] if colours else []))
    row = table(export_dataset(dataset, "csv", tmp_path).path)[3]
    assert np.load(tmp_path / row["file"])[row["array"]][int(row["row"])].shape == shape[1:]
    assert row["label_array"] == row["array"].replace("images", "label")


def test_classes_go_to_monai_and_tables_only(test_data: Path, tmp_path: Path) -> None:
    card = {
        "dimension": 2,
        "task": "classification",
        "classes": "binary",
        "channels": [{"name": "US"}],
        "labels": {0: "malignant", 1: "normal, benign"},
        "layout": {"kind": "npz", "file": "breastmnist.npz"},
    }
    dataset = opened(test_data / "medmnist", **card)
    with pytest.raises(UsageError, match="nnU-Net segments") as caught:
        export_dataset(dataset, "nnunet", tmp_path)
    assert "--to csv" in str(caught.value)
    export_dataset(dataset, "monai", tmp_path / "mo")
    with np.load(test_data / "medmnist" / "breastmnist.npz") as true:
        assert [len(items(tmp_path / "mo", s)) for s in ("training", "validation", "test")] == [546, 78, 156]
        for item, picture, target in zip(
            items(tmp_path / "mo", "validation"), true["val_images"], true["val_labels"], strict=True
        ):
            assert item["label"] == target[0]
            assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(item["image"])), picture)
        rows = table(export_dataset(dataset, "csv", tmp_path / "b.csv").path)
        assert [int(row["class"]) for row in rows if row["split"] == "train"] == true["train_labels"][:, 0].tolist()
    assert {(row["class"], row["class_name"]) for row in rows} == {("0", "malignant"), ("1", "normal, benign")}


def test_volumes_in_arrays_become_nifti(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 7), dtype=np.uint8)
    answers = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    # In Fortran's order, which savez keeps and in which no item lies in one piece.
    arrays(tmp_path / "set", train_images=np.asfortranarray(volumes), train_labels=answers)
    dataset = opened(
        tmp_path / "set",
        task="classification",
        classes="multi-label",
        channels=[{"name": "MRA"}],
        labels={0: "a", 1: "b", 2: "=c"},
        layout={"kind": "npz", "file": "a.npz"},
    )
    export_dataset(dataset, "monai", tmp_path / "mo")
    for item, volume, answer in zip(items(tmp_path / "mo"), volumes, answers, strict=True):
        assert np.array_equal(nibabel.load(item["image"]).get_fdata(), volume)
        assert item["label"] == answer.tolist()
    rows = table(export_dataset(dataset, "csv", tmp_path).path)
    assert [[int(row[f"class_{name}"]) for name in ("a", "b", "=c")] for row in rows] == answers.tolist()


def test_volumes_with_masks_in_arrays_go_to_nnunet(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    volumes = random.normal(size=(4, 5, 6, 7)).astype(np.float32)
    masks = random.integers(0, 2, (4, 5, 6, 7)).astype(bool)
    arrays(tmp_path / "set", train_images=volumes, train_label=masks)
    dataset = opened(tmp_path / "set", layout={"kind": "npz", "file": "a.npz"})
    folder = export_dataset(dataset, "nnunet", tmp_path).path
    nnunet_rules.check(folder)
    assert np.array_equal(nibabel.load(folder / "imagesTr" / "train_000003_0000.nii.gz").get_fdata(), volumes[3])
    assert np.array_equal(nibabel.load(folder / "labelsTr" / "train_000003.nii.gz").get_fdata(), masks[3])
    told = json.loads((export_dataset(dataset, "monai", tmp_path / "mo").path / "datalist.json").read_text())
    assert "test" not in told  # MONAI's reader fails on an empty list
    arrays(tmp_path / "set", train_images=volumes, train_label=masks[:, :4])
    with pytest.raises(DataError, match=r"differ in shape \(\(5, 6, 7\) and \(4, 6, 7\)\)"):
        export_dataset(dataset, "nnunet", tmp_path / "other")


# Tables


def test_a_table_runs_no_formula_and_its_paths_hold(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("=1+1", "-a", "plain"):
        image(root / "images" / f"{name}.nii.gz", 1)
        mask(root / "labels" / f"{name}.nii.gz", 1, [0, 1])
    (root / "facts.csv").write_text('id,who,=site,shift\n"=1+1",@sum,"+x, ""y""",-1.5\n-a,b,"\tz",2\nplain,c,,-3+cmd\n')
    dataset = opened(
        root,
        layout={
            "kind": "files",
            "images": "images/{case}.nii.gz",
            "labels": "labels/{case}.nii.gz",
            "table": {"file": "facts.csv", "case": "id", "patient": "who"},
        },
    )
    done = export_dataset(dataset, "csv", root / "images" / "cases.csv")
    rows = table(done.path)
    assert [row["case"] for row in rows] == ["'-a", "'=1+1", "plain"]
    assert [row["patient"] for row in rows] == ["b", "'@sum", "c"]
    assert [row["'=site"] for row in rows] == ["'\tz", '\'+x, "y"', ""]
    assert [row["shift"] for row in rows] == ["2", "-1.5", "'-3+cmd"]
    for row in rows:
        assert not any(value.startswith(("=", "+", "@", "\t", "-a")) for value in row.values())
        assert (done.path.parent / row["image_CT"]).is_file()
        assert (done.path.parent / row["label"]).samefile(root / "labels" / f"{row['case'].strip(chr(39))}.nii.gz")
    assert any("apostrophe" in note for note in done.notes)
    assert not any(Path(value).is_absolute() for row in rows for value in row.values())


def test_a_table_says_the_fold_of_every_case(plain: Path, tmp_path: Path) -> None:
    dataset = opened(plain, patient="^(p[0-9])", groups=[{"name": "late", "cases": "^p4"}])
    done = export_dataset(dataset, "csv", tmp_path / "tables")
    assert done.path == tmp_path / "tables" / "own_set.csv"
    rows = table(done.path)
    for fold in range(5):
        assert {row["case"] for row in rows if row["fold"] == str(fold)} == {
            case.id for case in split_cases(dataset, fold).val
        }
    assert {row["case"] for row in rows if row["group"] == "late"} == {"p4_a", "p4_b"}
    assert {row["patient"] for row in rows} == {f"p{n}" for n in range(5)}


@pytest.mark.parametrize(
    ("folds", "numbers"),
    [
        ([("456789", "0123"), ("016789", "2345")], "0000112222"),  # two cases validate twice
        ([("456789", "0123"), ("6789", "45")], "0000112222"),  # the second fold leaves four out
    ],
)
def test_folds_that_no_number_tells_are_told(
    plain: Path, tmp_path: Path, folds: list[tuple[str, str]], numbers: str
) -> None:
    cases = [f"p{n}_{study}" for n in range(5) for study in "ab"]
    given = [{"train": [cases[int(n)] for n in train], "val": [cases[int(n)] for n in val]} for train, val in folds]
    (plain / "folds.json").write_text(json.dumps(given))
    dataset = opened(plain, split={"file": "folds.json"})
    done = export_dataset(dataset, "monai", tmp_path)
    assert any("overlap or leave cases out" in note for note in done.notes)
    assert "".join(str(item["fold"]) for item in items(tmp_path)) == numbers
    assert any("overlap or" in note for note in export_dataset(dataset, "csv", tmp_path).notes)
    folder = export_dataset(dataset, "nnunet", tmp_path).path
    assert json.loads((folder / "splits_final.json").read_text()) == given
    drawn = export_dataset(opened(plain), "monai", tmp_path / "drawn")
    assert not any("overlap or" in note for note in drawn.notes)


def test_nothing_to_export_is_told(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotated case"):
        export_dataset(opened(plain, labels={9: "x"}), "nnunet", tmp_path / "out")
    for path in (plain / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no annotated case.*empty"):
        export_dataset(opened(plain), "nnunet", tmp_path / "empty")
