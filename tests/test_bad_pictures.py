"""Bad input for pictures and classes: an error that names the file, and the rest goes on with --skip-bad."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Segue

QUICK = ["--steps", 2, "--set", "network.args.members=1", "--set", "train.precision=float32"]
CLASSES = """name: moles
title: Moles
task: classification
classes: binary
dimension: 2
channels: [{name: red}, {name: green}, {name: blue}]
labels: {0: benign, 1: malignant}
layout: {kind: files, images: "{class}/{case}.png"}
"""
MASKS = """name: cells
title: Cells
dimension: 2
channels: [{name: grey}]
labels: {1: cell}
layout: {kind: files, images: "images/{case}.png", labels: "masks/{case}.png"}
"""


def picture(path: Path, shape: tuple[int, ...], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def moles(tmp_path: Path) -> Path:
    folder = tmp_path / "moles"
    for number in range(12):
        picture(folder / ("benign" if number % 2 else "malignant") / f"{number}.png", (24, 30, 3), number)
    (folder / "card.yaml").write_text(CLASSES)
    return folder


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    for number in range(8):
        picture(folder / "images" / f"{number}.png", (40, 48), number)
        mask = np.zeros((40, 48), np.uint8)
        mask[10:20, 10:30] = 1
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "card.yaml").write_text(MASKS)
    return folder


def test_pictures_that_do_not_decode_or_fit_are_named_and_left_out(moles: Path, segue: Segue) -> None:
    (moles / "benign" / "1.png").write_bytes((moles / "benign" / "1.png").read_bytes()[:300])
    rgba = np.zeros((24, 30, 4), np.uint8)
    Image.fromarray(rgba).save(moles / "benign" / "3.png")  # constant, and its transparency is left out
    Image.fromarray(np.zeros((24, 30), np.float32)).save(moles / "malignant" / "0.tif")
    refused = segue("train", moles / "card.yaml", *QUICK)
    assert refused.returncode == 3
    assert "benign_1" in refused.stderr
    assert "1.png" in refused.stderr
    assert "--skip-bad" in refused.stderr
    done = segue("train", moles / "card.yaml", *QUICK, "--skip-bad", "-o", "run")
    assert done.returncode == 0, done.stderr
    run = moles.parent / "run"
    used = json.loads((run / "split.json").read_text())
    names = {entry["id"] for part in used.values() for entry in part}
    assert "benign_1" not in names
    assert len(names) == 11
    left_out = json.loads((run / "findings.json").read_text())["left_out"]
    assert [finding["case"] for finding in left_out] == ["benign_1"]


def test_a_class_without_images_is_named(moles: Path, segue: Segue) -> None:
    text = CLASSES.replace("1: malignant}", "1: malignant, 2: carcinoma}").replace("binary", "multi-class")
    (moles / "card.yaml").write_text(text)
    refused = segue("train", moles / "card.yaml", *QUICK)
    assert refused.returncode == 3
    assert "a class has no image to train on" in refused.stderr
    assert "carcinoma" in refused.stderr
    done = segue("train", moles / "card.yaml", *QUICK, "--skip-bad")
    assert done.returncode == 0, done.stderr


def test_masks_that_do_not_fit_are_named_and_left_out(cells: Path, segue: Segue) -> None:
    Image.fromarray(np.ones((40, 40), np.uint8)).save(cells / "masks" / "2.png")
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(cells / "masks" / "4.png")
    picture(cells / "images" / "5.png", (40, 48, 3))
    quick = ["--steps", 2, "--set", "train.precision=float32"]
    refused = segue("train", cells / "card.yaml", *quick)
    assert refused.returncode == 3
    for name, reason in (("2.png", "different grids"), ("4.png", "does not name"), ("5.png", "in colour")):
        assert name in refused.stderr
        assert reason in refused.stderr
    done = segue("train", cells / "card.yaml", *quick, "--skip-bad", "-o", "run")
    assert done.returncode == 0, done.stderr
    used = json.loads((cells.parent / "run" / "split.json").read_text())
    assert {entry["id"] for part in used.values() for entry in part} == {"0", "1", "3", "6", "7"}


def test_a_class_out_of_range_in_an_archive_is_named(tmp_path: Path, segue: Segue) -> None:
    folder = tmp_path / "data" / "medmnist" / "breastmnist"
    folder.mkdir(parents=True)
    images = np.zeros((6, 28, 28), np.uint8)
    parts = {f"{part}_images": images for part in ("train", "val", "test")}
    answers = {f"{part}_labels": np.array([[0], [1], [0], [1], [0], [9]]) for part in ("train", "val", "test")}
    np.savez(folder / "breastmnist.npz", **parts, **answers)
    refused = segue("train", "medmnist/breastmnist", *QUICK)
    assert refused.returncode == 3
    assert "breastmnist.npz:train_labels" in refused.stderr
    assert "[9] beside 0 to 1" in refused.stderr


def test_a_model_is_not_given_what_it_was_not_made_for(moles: Path, segue: Segue, tmp_path: Path) -> None:
    assert segue("train", moles / "card.yaml", *QUICK, "-o", "run").returncode == 0
    picture(tmp_path / "new" / "grey.png", (50, 20))
    picture(tmp_path / "new" / "large.jpg", (400, 300, 3))
    (tmp_path / "new" / "text.png").write_text("no picture")
    done = segue("predict", "run", "new", "-o", "out")
    assert done.returncode == 3
    assert "2 answers in out/predictions.csv" in done.stdout
    assert "1 failed: text" in done.stdout
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "case,image,predicted,benign,malignant"
    assert [line.split(",")[0] for line in lines[1:]] == ["grey", "large"]
    assert segue("predict", "run", "new/large.jpg", "-o", "one.csv").returncode == 0
    assert (tmp_path / "one.csv").is_file()
