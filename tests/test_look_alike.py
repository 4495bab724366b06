"""A tiny look-alike of every dataset of the catalogue, from what a person downloads to a batch of training."""

from __future__ import annotations

import csv
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segue.acquire import GetOptions, get
from segue.acquire.archives import is_junk
from segue.catalogue import Card, Case, Dataset, Masks, card_names, check_licence, load_card, split_cases
from segue.catalogue.card import FilesLayout
from segue.images import is_image, read, read_header, read_labels
from segue.prepare import (
    ExamineTask,
    Machine,
    PlanOverrides,
    PrepareTask,
    examine,
    fingerprint,
    plan,
    prepare_case,
    read_channels,
    read_mask,
)
from segue.synth import look_alike
from segue.train import Batches

NUMBER = 4
CPU = Machine("cpu", 1, 8.0)


@dataclass(frozen=True)
class Brought:
    """A look-alike's download, and the dataset that its import makes."""

    made: Path
    dataset: Dataset

    @property
    def card(self) -> Card:
        return self.dataset.card

    @property
    def root(self) -> Path:
        return self.dataset.root

    def part(self, split: str) -> list[Case]:
        return [case for case in self.dataset.cases if case.split == split]


Bring = Callable[..., Brought]


@pytest.fixture(scope="module")
def bring(tmp_path_factory: pytest.TempPathFactory) -> Bring:
    """Make a look-alike and import it as a person's download is imported; once per card."""
    kept: dict[tuple[str, str | None], Brought] = {}

    def brought(name: str, release: str | None = None) -> Brought:
        if (name, release) not in kept:
            place = tmp_path_factory.mktemp("look-alike")
            card = load_card(name, release)
            made = look_alike(card, place / "download", NUMBER)
            kept[name, release] = Brought(made, get(card, place / "data" / name, GetOptions(source=made)))
        return kept[name, release]

    return brought


# --- every card


@pytest.mark.parametrize("name", card_names())
def test_a_card_has_a_licence_and_a_citation(name: str) -> None:
    card = load_card(name)
    assert card.licence is not None
    check_licence(card.licence.spdx)
    assert card.citations or card.access.kind == "generated"


@pytest.mark.parametrize("name", card_names())
def test_a_look_alike_is_imported_and_indexed(name: str, bring: Bring) -> None:
    brought = bring(name)
    card, cases = brought.card, brought.dataset.cases
    counts = Counter(case.split for case in cases)
    layout = card.layout
    exclusive = card.task == "classification" and card.classes != "multi-label"
    assert counts["train"] == (max(NUMBER, len(card.labels)) if exclusive else NUMBER)
    if layout.kind == "npz":
        assert counts["val"] == counts["test"] == counts["train"]
    elif isinstance(layout, FilesLayout):
        for split in ("val", "test"):
            has = getattr(layout, split) is not None or bool(layout.table and getattr(card.expect, split))
            assert counts[split] in ((1, 2) if has else (0,)), split
    else:
        assert (counts["val"], counts["test"]) == (0, {"decathlon": 2, "nnunet": 1}.get(layout.kind, 0))
    train = brought.part("train")
    assert all(case.annotated == (card.task != "unlabelled") for case in train)
    patients = [case.patient for case in train]
    if card.patient or (layout.kind == "petct" and card.access.kind != "generated") or "{patient}" in str(layout):
        assert 1 < len(set(patients)) < len(patients)  # two cases of one patient, and another patient
    elsewhere = {case.patient for case in cases if case.split != "train"}
    assert not elsewhere & set(patients)
    if layout.examples:
        # What is there are the names of the true data, the first of them at least.
        told = " ".join(layout.examples)
        assert sum(case.id in told.replace("/", "_") or case.id.split("_")[0] in told for case in train) >= 3
    known = {case for defect in card.defects if defect.action == "skip" for case in defect.cases}
    assert len(brought.dataset.left_out) == min(1, len(known))
    assert set(brought.dataset.left_out) <= known
    for case in cases:
        assert all(path.is_file() for path in case.files)
        assert not any(is_junk(part) for path in case.files for part in path.relative_to(brought.root).parts)
    if len(set(patients)) > 1 and card.task != "unlabelled":
        split = split_cases(brought.dataset, 0)  # refuses patients on two sides
        assert split.train
        assert split.val


@pytest.mark.parametrize("name", [name for name in card_names() if load_card(name).task == "classification"])
def test_every_class_is_in_every_part(name: str, bring: Bring) -> None:
    brought = bring(name)
    for split in ("train", "val", "test"):
        targets = [case.target for case in brought.part(split)]
        if brought.card.classes == "multi-label":
            assert np.array(targets).shape == (NUMBER, len(brought.card.labels))
            assert np.array(targets).any(0).all()
            assert not np.array(targets).all(0).any()
        else:
            assert set(targets) == set(brought.card.labels)


def of_volumes(name: str) -> bool:
    card = load_card(name)
    return card.dimension == 3 and card.layout.kind != "npz"


@pytest.mark.parametrize("name", [name for name in card_names() if of_volumes(name)])
def test_cases_load_as_one_batch(name: str, bring: Bring, tmp_path: Path) -> None:
    brought = bring(name)
    card = brought.card
    if card.task == "unlabelled":
        assert all(len(read_channels(case, card).array) == len(card.channels) for case in brought.dataset.cases)
        return
    examinations = {
        case.id: examine(ExamineTask(case, card, needs_label=case.split == "train")) for case in brought.dataset.cases
    }
    for found in examinations.values():
        assert [str(finding) for finding in found.findings if finding.severity != "note"] == []
        assert set(found.label_voxels) in (set(card.labels), set())
    train = brought.dataset.labelled
    shown = sum((Counter(examinations[case.id].label_voxels) for case in train), Counter())
    assert {label for label, voxels in shown.items() if voxels > 0} == set(card.labels)
    facts = fingerprint(card, [examinations[case.id] for case in train])
    made = plan(facts, CPU, PlanOverrides(batch=len(train)))
    ready = [prepare_case(PrepareTask(case, card, made, tmp_path)) for case in train]
    batches = Batches(ready, made, 0)
    images, labels = batches(0)
    assert sorted(batches.names(0)) == sorted(case.id for case in train)
    batches.close()
    assert images.shape == (NUMBER, len(card.channels), *made.patch)
    assert labels.shape == (NUMBER, *made.patch)
    assert torch.isfinite(images).all()
    assert 0.1 < float(images.std()) < 5  # normalised, and not a constant
    assert set(labels.unique().tolist()) <= {0, *card.labels}
    assert (labels > 0).any()


@pytest.mark.parametrize("name", ["msd/brain", "msd/liver", "amos/2022", "acdc", "brats/2018", "kits23"])
def test_labels_can_be_told_by_their_intensity(name: str, bring: Bring) -> None:
    brought = bring(name)
    for case in brought.part("train"):
        assert case.label is not None
        image, mask = read_channels(case, brought.card).array, read_mask(case.label).array[0]
        means = [[float(channel[mask == label].mean()) for channel in image] for label in np.unique(mask)]
        apart = np.abs(np.array(means)[:, None] - means).max(-1) + np.diag([np.inf] * len(means))
        assert apart.min() > 0.005 * (image.max() - image.min())


def test_grids_types_and_orientations_are_mixed(bring: Bring) -> None:
    headers = [read_header(case.image_files[0]) for case in bring("msd/hippocampus").part("train")]
    assert len({header.geometry.shape for header in headers}) == NUMBER
    assert len({header.geometry.spacing_mm for header in headers}) >= 3
    assert {header.geometry.axis_codes for header in headers} == {"RAS", "LPS", "PIR", "LAS"}
    assert {str(header.dtype) for header in headers} == {"float32", "uint8", "int16"}
    highest = [float(read(case.image_files[0]).array.max()) for case in bring("msd/hippocampus").part("train")]
    assert max(highest) > 100 * min(highest)
    assert {str(read_header(case.image_files[0]).dtype) for case in bring("msd/liver").part("train")} == {
        "float32",
        "int16",
    }


# --- the traps of each layout


def test_the_decathlon_tar(bring: Bring) -> None:
    brought = bring("msd/brain")
    assert brought.made.name == "Task01_BrainTumour.tar"
    with tarfile.open(brought.made) as tar:
        names = tar.getnames()
    assert {"./._Task01_BrainTumour", "./Task01_BrainTumour/imagesTr/._BRATS_001.nii.gz"} <= set(names)
    assert {path.name for path in brought.root.iterdir()} == {
        "dataset.json",
        "imagesTr",
        "imagesTs",
        "labelsTr",
        "segue-files.json",
        "segue.json",
    }
    assert not [path for path in brought.root.rglob("*") if is_junk(path.name) and path.parent != brought.root]
    listing = json.loads((brought.root / "dataset.json").read_text())
    assert listing["training"][0] == {
        "image": "./imagesTr/BRATS_001.nii.gz",
        "label": "./labelsTr/BRATS_001.nii.gz",
    }
    assert "relase" in listing
    assert "release" not in listing
    assert (listing["numTraining"], listing["numTest"], listing["tensorImageSize"]) == (4, 2, "4D")
    assert [case.id for case in brought.part("test")] == ["BRATS_458", "BRATS_459"]
    assert not any(case.annotated for case in brought.part("test"))
    assert all(read_header(case.image_files[0]).channels == 4 for case in brought.dataset.cases)


def test_pet_and_ct_studies(bring: Bring) -> None:
    brought = bring("fdg-pet-ct-lesions")
    sizes, empty = set(), []
    for case in brought.part("train"):
        study = case.image_files[0].parent
        suv, ct = read(study / "SUV.nii.gz"), read_header(study / "CT.nii.gz")
        for name in ("CTres", "PET", "SEG"):
            assert read_header(study / f"{name}.nii.gz").geometry.difference(suv.geometry) is None
        assert ct.geometry.voxel_ml < 0.3 * suv.geometry.voxel_ml
        assert ct.dtype == np.int16
        assert suv.array.min() >= 0
        resampled = read(study / "CTres.nii.gz").array
        assert resampled.min() == -1024  # the CT's field of view is narrower than the PET's
        assert -1024 <= np.percentile(resampled, 10) < -900
        sizes.add(suv.geometry.shape)
        empty.append(not read_labels(study / "SEG.nii.gz").array.any())
    assert len(sizes) == NUMBER
    assert 0 < sum(empty) < NUMBER
    with (brought.root / "fdg_metadata.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert rows[0] | {"diagnosis": "", "age": "", "sex": ""} == {
        "Subject ID": "PETCT_0011f3deaf",
        "Study Date": "03-23-2003",
        "diagnosis": "",
        "age": "",
        "sex": "",
    }
    assert [row["diagnosis"] == "NEGATIVE" for row in rows] == empty
    assert list(brought.made.rglob("._SUV.nii.gz"))
    assert not list(brought.root.rglob("._*"))


def test_studies_that_nobody_annotated(bring: Bring) -> None:
    brought = bring("acrin-nsclc-fdg-pet")
    assert not list(brought.made.rglob("SEG*"))
    assert not any(case.annotated for case in brought.dataset.cases)


@pytest.mark.parametrize(("name", "release"), [("autopet/3", None), ("psma-pet-ct-lesions", "fdat")])
def test_nnunets_folder(name: str, release: str | None, bring: Bring) -> None:
    brought = bring(name, release)
    listing = json.loads((brought.root / "dataset.json").read_text())
    assert listing["channel_names"] == {"0": "CT", "1": "PET"}
    assert listing["labels"] == {"background": 0, "lesion": 1}
    assert (listing["numTraining"], listing["file_ending"]) == (4, ".nii.gz")
    patient = {case.id: case.patient for case in brought.part("train")}
    folds = json.loads((brought.root / "splits_final.json").read_text())
    assert sorted(name for fold in folds for name in fold["val"]) == sorted(patient)
    for fold in folds:
        assert not {patient[name] for name in fold["train"]} & {patient[name] for name in fold["val"]}
    assert not any(case.annotated for case in brought.part("test"))
    shown = [bool(read_mask(case.label).array.any()) for case in brought.part("train") if case.label]
    assert sorted(shown) == [False, False, True, True]
    if name == "autopet/3":
        assert {case.facts["group"] for case in brought.part("train")} == {"FDG", "PSMA"}
        assert (brought.root / "psma_metadata.csv").exists()


def test_a_file_under_another_name_is_repaired(bring: Bring) -> None:
    brought = bring("brats/2020")
    folder = brought.root / "BraTS20_Training_355"
    assert (folder / "W39_1998.09.19_Segm.nii.gz").exists()
    assert not list(folder.glob("*_seg*"))
    (case,) = [case for case in brought.dataset.cases if case.id == "BraTS20_Training_355"]
    assert case.label == folder / "W39_1998.09.19_Segm.nii.gz"
    assert [path.name for path in case.image_files] == [
        f"{case.id}_{name}.nii.gz" for name in ("t1", "t1ce", "t2", "flair")
    ]


@pytest.mark.parametrize("name", ["brats/2019", "lits"])
def test_files_that_are_not_compressed(name: str, bring: Bring) -> None:
    brought = bring(name)
    images = [path for path in brought.root.rglob("*") if is_image(path)]
    assert images
    assert {path.suffix for path in images} == {".nii"}
    if name == "lits":
        assert {path.parent.name for path in images} == {"Training Batch 1", "Training Batch 2"}


def test_one_mask_per_structure_and_a_table(bring: Bring) -> None:
    brought = bring("totalsegmentator/ct")
    empty = 0
    for case in brought.part("train"):
        assert isinstance(case.label, Masks)
        assert len(case.label.files) == 117
        masks = [read_labels(path).array for _, path in case.label.files]
        assert {int(value) for mask in masks for value in np.unique(mask)} == {0, 1}
        empty += sum(not mask.any() for mask in masks)
        assert case.facts["age"].isdigit()
    assert 50 < empty < 300  # each image shows a part of the body
    assert (brought.root / "meta.csv").read_text().startswith("image_id;split;")
    assert [case.id for case in brought.part("val") + brought.part("test")] == ["s0005", "s0006"]


def test_a_case_that_is_left_out_is_there(bring: Bring) -> None:
    brought = bring("totalsegmentator/mri")
    assert brought.dataset.left_out == {"s0026": "all masks of this case are empty"}
    masks = list((brought.root / "s0026" / "segmentations").glob("*.nii.gz"))
    assert len(masks) == 50
    assert not any(read_labels(path).array.any() for path in masks)
    assert [case.id for case in brought.part("train")] == ["s0001", "s0002", "s0003", "s0004"]


def test_labels_that_a_group_does_not_have(bring: Bring) -> None:
    brought = bring("amos/2022")
    for case in [*brought.part("train"), *brought.part("val")]:
        assert isinstance(case.label, Path)
        image, there = read(case.image_files[0]).array, set(np.unique(read_labels(case.label).array).tolist())
        if case.facts["modality"] == "MRI":
            assert there == set(range(14))
            assert case.unlabelled == (14, 15)
            assert image.min() >= 0
        else:
            assert there == set(range(16))
            assert image.min() < -900
    assert Counter(case.facts["modality"] for case in brought.part("train")) == {"CT": 2, "MRI": 2}
    assert not any(case.annotated for case in brought.part("test"))


def test_what_lies_beside_the_images_is_no_case(bring: Bring) -> None:
    brought = bring("acdc")
    assert (brought.root / "training" / "patient001" / "patient001_4d.nii.gz").exists()
    assert read_header(brought.root / "training" / "patient001" / "patient001_4d.nii.gz").channels == 3
    assert [case.id for case in brought.dataset.cases] == [
        "patient001_01",
        "patient001_12",
        "patient002_01",
        "patient002_12",
        "patient101_01",
        "patient101_14",
    ]
    for name in ("._patient001_frame01.nii.gz", ".DS_Store", "__MACOSX"):
        assert list(brought.made.rglob(name)), name
        assert not list(brought.root.rglob(name)), name


def test_pictures(bring: Bring) -> None:
    brought = bring("isic2018")
    sizes = set()
    for case in brought.dataset.cases:
        assert isinstance(case.label, Path)
        with Image.open(case.image_files[0]) as image, Image.open(case.label) as mask:
            assert (image.format, image.mode, mask.format, mask.mode) == ("JPEG", "RGB", "PNG", "L")
            assert image.size == mask.size
            assert set(np.unique(np.asarray(mask)).tolist()) == {0, 255}
            pixels = np.asarray(image.convert("L")).astype(float)
            assert pixels[np.asarray(mask) > 0].mean() > pixels[np.asarray(mask) == 0].mean() + 20
            sizes.add(image.size)
    assert len(sizes) > 2


@pytest.mark.parametrize(
    ("name", "file", "shape", "target"),
    [
        ("medmnist/pathmnist_64", "pathmnist_64.npz", (9, 64, 64, 3), (9, 1)),
        ("medmnist/breastmnist", "breastmnist.npz", (4, 28, 28), (4, 1)),
        ("medmnist/chestmnist_224", "chestmnist_224.npz", (4, 224, 224), (4, 14)),
        ("medmnist/nodulemnist3d", "nodulemnist3d.npz", (4, 28, 28, 28), (4, 1)),
        ("medsegbench/promise12", "promise12_256.npz", (4, 256, 256), (4, 256, 256)),
        ("medsegbench/m2caiseg_128", "m2caiseg_128.npz", (4, 128, 128, 3), (4, 128, 128)),
    ],
)
def test_arrays(name: str, file: str, shape: tuple[int, ...], target: tuple[int, ...], bring: Bring) -> None:
    brought = bring(name)
    assert brought.made.name == file
    answers = "labels" if brought.card.task == "classification" else "label"
    with np.load(brought.root / file, allow_pickle=False) as arrays:
        assert sorted(arrays.files) == sorted(f"{s}_{k}" for s in ("train", "val", "test") for k in ("images", answers))
        for split in ("train", "val", "test"):
            assert arrays[f"{split}_images"].shape == shape
            assert arrays[f"{split}_{answers}"].shape == target
            assert {arrays[key].dtype for key in arrays.files} == {np.dtype(np.uint8)}
            if answers == "label":
                assert set(np.unique(arrays[f"{split}_label"]).tolist()) == {0, *brought.card.labels}
    assert brought.made.stat().st_size < 0.7 * sum(np.prod(shape) for _ in range(3))


def test_a_class_shows_in_the_image(bring: Bring) -> None:
    with np.load(bring("medmnist/bloodmnist").made, allow_pickle=False) as arrays:
        mean = {
            split: np.stack(
                [arrays[f"{split}_images"][arrays[f"{split}_labels"][:, 0] == c].mean(0) for c in range(8)]
            ).astype(float)
            for split in ("train", "test")
        }
    distance = ((mean["train"][:, None] - mean["test"]) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == np.arange(8)).all()  # the nearest class mean tells the class


def test_further_arrays_and_instances(bring: Bring) -> None:
    with np.load(bring("medsegbench/wbc").made, allow_pickle=False) as arrays:
        assert {"train_images_C4", "train_label_C4"} <= set(arrays.files)
    with np.load(bring("medsegbench/idrib").made, allow_pickle=False) as arrays:
        assert "train_label_C4" in arrays.files
        assert "train_images_C4" not in arrays.files
    with np.load(bring("medsegbench/pandental").made, allow_pickle=False) as arrays:
        assert arrays["train_label"].max() == 5  # one number per instance, where the card has one label
