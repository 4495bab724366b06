"""The benchmarks beside nnU-Net, on the sarcoma patients and on synthetic PET/CT: counting and tables, and small runs
of those that need no nnU-Net."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from conftest import PROJECT
from segue.catalogue import Card
from segue.images import read, read_labels, write
from segue.volume import Geometry, Volume


def load(name: str) -> ModuleType:
    """A benchmark as a module, without its folder on the path: names there are also those of packages."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, PROJECT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def watched() -> ModuleType:
    return load("watched")


@pytest.fixture(scope="module")
def bench(watched: ModuleType) -> ModuleType:
    return load("vs_nnunet")


@pytest.fixture(scope="module")
def sarcoma() -> ModuleType:
    return load("sts_petct")


@pytest.fixture(scope="module")
def lesions() -> ModuleType:
    return load("synthetic_petct")


def run(script: str, *words: object) -> str:
    command = [sys.executable, f"benchmarks/{script}", *map(str, words)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", ["vs_nnunet.py", "sts_petct.py", "synthetic_petct.py"])
def test_help(script: str) -> None:
    assert "usage" in run(script, "--help")


def test_memory_of_children_counts_too(watched: ModuleType, tmp_path: Path) -> None:
    hold = "import time; held = b'x' * 60_000_000; time.sleep(1.5)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])\n{hold}\nprint('done')"
    found = watched.watch([sys.executable, "-c", program], tmp_path / "log")
    assert found.printed == "done\n"
    assert found.seconds > 3
    # Each holds 60 MB, one after the other, and the parent's own few while its child has them.
    assert 0.06 < found.gigabytes < 0.12
    assert 0 < found.cpu_seconds < 3


def test_a_command_that_fails_ends_the_benchmark(watched: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ValueError: no such fold"):
        watched.watch([sys.executable, "-c", "raise ValueError('no such fold')"], tmp_path / "log")


def test_the_session_is_read_behind_any_name(watched: ModuleType) -> None:
    # proc(5): pid, (comm), state, ppid, pgrp, session
    assert watched.session_of("12 (a) (b c) S 3 4 77 0 -1") == 77


def test_the_first_validation_that_is_good_enough_counts(bench: ModuleType, tmp_path: Path) -> None:
    events = [{"event": "started"}] + [
        {"event": "validated", "step": step, "mean_dice": dice} for step, dice in ((1, 0.1), (20, 0.81), (30, 0.85))
    ]
    assert bench.reached(events, 0.8)["step"] == 20
    assert bench.reached(events, 0.9) is None
    path = tmp_path / "events.jsonl"
    assert bench.read_lines(path) == []
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"event": "val')
    assert bench.read_lines(path) == events


def test_nnunet_gets_the_fold_of_the_run(bench: ModuleType) -> None:
    split = {"train": ["c", "a"], "val": ["b"], "test": ["d"]}
    folds = bench.folds_for_nnunet(split, {"a", "b", "c"}, 2)
    assert folds[2] == {"train": ["a", "c"], "val": ["b"]}
    with pytest.raises(SystemExit, match="has not prepared 1 cases of the fold, such as b"):
        bench.folds_for_nnunet(split, {"a", "c"}, 0)


def test_the_folds_are_written_from_the_split_of_the_run(bench: ModuleType, tmp_path: Path) -> None:
    places, dataset = bench.Places(tmp_path), bench.Set("x", "x", 504, "Dataset504_X")
    truths = places.preprocessed(dataset) / "gt_segmentations"
    truths.mkdir(parents=True)
    for name in "ab":
        (truths / f"{name}.nii.gz").touch()
    (tmp_path / "split.json").write_text(json.dumps({"train": [{"id": "a"}], "val": [{"id": "b"}], "test": []}))
    bench.give_folds(dataset, places, tmp_path, 0)
    folds = json.loads((places.preprocessed(dataset) / "splits_final.json").read_text())
    assert folds == [{"train": ["a"], "val": ["b"]}]


def test_preparation_is_compared_by_medians(bench: ModuleType, watched: ModuleType) -> None:
    theirs = [watched.Watched("", seconds, 30.0, 1.5) for seconds in (40.0, 30.0, 90.0)]
    ours = [watched.Watched("", seconds, 2.0, 0.3) for seconds in (4.0, 2.0, 5.0)]
    lines = bench.preparation_table("hippocampus", theirs, ours).splitlines()
    assert lines[1].split() == ["nnU-Net", "40.0", "s", "processors", "30.0", "s", "peak", "1.50", "GB"]
    assert lines[-1] == "segue is 10.0 times as fast, processors 15.0 times"


def test_dice_with_and_without_an_interval(bench: ModuleType) -> None:
    assert bench.dice_text({"value": 0.8791, "ci95": [0.867, 0.89], "n": 42}) == "0.879 (0.867 to 0.890), 42 images"
    assert bench.dice_text({"value": 0.8791, "ci95": None, "n": 1}) == "0.879, 1 images"


def test_cards_of_the_channels(sarcoma: ModuleType) -> None:
    cards = {name: Card.model_validate(yaml.safe_load(sarcoma.card_text(name))) for name in sarcoma.CHANNELS}
    told = {name: [(channel.name, channel.unit) for channel in card.channels] for name, card in cards.items()}
    assert told == {"petct": [("CT", "HU"), ("PET", "SUV")], "pet": [("PET", "SUV")], "ct": [("CT", "HU")]}


def test_one_grid_is_that_of_the_ct(sarcoma: ModuleType, test_data: Path) -> None:
    folder = test_data / "sts-petct" / "nifti" / "STS_001"
    found = sarcoma.on_one_grid(folder)
    assert found["PET"].geometry.difference(found["CT"].geometry) is None
    assert found["mask"].geometry.difference(found["CT"].geometry) is None
    pet, mask = read(folder / "PET_image.nii.gz"), read_labels(folder / "PET_mask.nii.gz")
    # The tumour's mean SUV, measured on the PET's grid and with the mask that came on it.
    there = pet.array[0][mask.array[0] > 0].mean()
    here = found["PET"].array[0][found["mask"].array[0] > 0].mean()
    assert here == pytest.approx(there, rel=0.03)


def test_differences_are_of_the_same_patients(sarcoma: ModuleType) -> None:
    dice = {"petct": {"a": 0.9, "b": 0.7, "c": 0.8}, "ct": {"a": 0.5, "b": 0.8, "c": 0.5}}
    lines = sarcoma.summary(dice).splitlines()
    assert [line.split()[0] for line in lines] == ["channels", "petct", "ct", "petct"]
    assert lines[1].split()[1:4] == ["3", "0.800", "0.800"]
    assert "0.200 (" in lines[-1]
    assert lines[-1].endswith("better in 2")
    with pytest.raises(SystemExit, match="'c'"):
        sarcoma.difference(dice["petct"], {"a": 0.5, "b": 0.8})


def write_patients(source: Path, number: int) -> None:
    """The sarcoma set's layout in small: a hot ball in CT and PET of different grids, each with its mask."""
    random = np.random.default_rng(3)
    for patient in range(number):
        centre = random.uniform(-4, 4, 3)
        for name, spacing, inside, outside in (("CT", 1.5, 40.0, -60.0), ("PET", 3.0, 6.0, 1.0)):
            shape = (int(48 / spacing),) * 3
            affine = np.diag([-spacing, -spacing, spacing, 1.0])  # LPS, as there
            affine[:3, 3] = np.array([24, 24, -24]) + affine.diagonal()[:3] / 2
            grid = Geometry(shape, affine)
            index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
            place = index @ affine[:3, :3].T + affine[:3, 3]
            mask = np.linalg.norm(place - centre, axis=-1) < 10
            image = np.where(mask, inside, outside) + random.standard_normal(shape)
            folder = source / f"STS_{patient:03d}"
            write(Volume(image[None].astype(np.float32), grid), folder / f"{name}_image.nii.gz")
            write(Volume(mask[None].astype(np.uint8), grid, "labels"), folder / f"{name}_mask.nii.gz")


@pytest.mark.slow
def test_sarcoma(tmp_path: Path) -> None:
    write_patients(tmp_path, 4)
    text = run("sts_petct.py", "--source", tmp_path, "--folds", "0,1", "--channels", "petct,ct", "--minutes", 0.01)
    assert [line.split(":")[0] for line in text.splitlines()[1:5]] == [
        f"{name}, fold {fold}" for name in ("petct", "ct") for fold in (0, 1)
    ]
    assert "petct - ct " in text


@pytest.mark.slow
def test_the_sarcoma_set_for_both(bench: ModuleType, tmp_path: Path) -> None:
    write_patients(tmp_path / "sts-petct" / "nifti", 5)
    places = bench.Places(tmp_path / "work")
    dataset = bench.bring("sarcoma", places, tmp_path)
    raw = Path(places.environment["nnUNet_raw"]) / dataset.folder
    assert json.loads((raw / "dataset.json").read_text())["channel_names"]["0"] == "CT"
    assert len(list((raw / "imagesTr").iterdir())) == 10
    assert len(json.loads((raw / "splits_final.json").read_text())) == 5
    found = bench.prepare_segue(dataset, places)
    assert "5 cases prepared" in found.printed


def test_lesions_are_counted_by_components(lesions: ModuleType) -> None:
    truth, prediction = np.zeros((2, 12, 12, 12), dtype=np.uint8)
    truth[1:3, 1:3, 1:3] = truth[3, 3, 3] = 1  # one lesion: its parts touch at a corner
    truth[8, 8, 8] = 1  # missed
    truth[10:, 0:2, 0:2] = 1
    prediction[2, 2, 2] = 1
    prediction[10:, 0:2, 0] = 1
    prediction[5, 10, 5] = prediction[6, 11, 6] = 1  # one false positive
    prediction[9, 9, 9] = 1  # beside a lesion is not on it: another
    found = lesions.count("p", truth, prediction)
    assert (found.lesions, found.found, found.false_positives) == (3, 2, 2)
    assert found.share == pytest.approx(18 / 12**3)
    nothing = lesions.count("q", np.zeros_like(truth), np.zeros_like(truth))
    assert (nothing.lesions, nothing.found, nothing.false_positives) == (0, 0, 0)


def test_the_interval_of_a_proportion(lesions: ModuleType) -> None:
    from scipy.stats import binomtest

    for hits, number in ((29, 30), (0, 5), (5, 5)):
        expected = binomtest(hits, number).proportion_ci(method="wilson")
        assert lesions.wilson_ci95(hits, number) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_what_was_wanted_of_the_lesions(lesions: ModuleType) -> None:
    counts = [lesions.Counts("a", 3, 3, 2, 0.0004), lesions.Counts("b", 2, 1, 1, 0.0002)]
    lines = lesions.table(counts).splitlines()
    assert lines[1].split() == ["a", "3", "3", "2", "0.040%"]
    assert lines[3].startswith("sensitivity 0.800 (")
    assert lines[3].endswith("4 of 5 lesions; wanted at least 0.95: fail")
    assert lines[4] == "false positives 1.50 a patient, 3 in 2; wanted at most 1: fail"


@pytest.mark.slow
def test_synthetic_petct() -> None:
    text = run("synthetic_petct.py", "--size", "small", "--patients", 5, "--minutes", 0.05)
    assert "5 patients made" in text
    assert "peak memory" in text
    assert "lesions; wanted at least 0.95" in text
