"""Parts of the cases by themselves, then gathered: the same as in one go, to the byte."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import PROJECT, Segue
from segue.images import write
from segue.volume import Volume
from test_predicting import noise, random_run


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, four images and true masks of them."""
    paths = [str(PROJECT / "src"), str(PROJECT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    random_run(tmp_path / "run", 1)
    for number in range(4):
        image = noise((20, 18, 16), (1.0, 1.0, 1.0), seed=number)
        write(image, tmp_path / "images" / f"c{number}.nii.gz")
        mask = Volume((image.array > 50).astype(np.uint8) * 2, image.geometry, "labels")
        write(mask, tmp_path / "truth" / f"c{number}.nii.gz")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predictions_and_figures_of_shards_are_those_of_one_run(segue: Segue, studies: Path) -> None:
    assert segue("predict", "run", "images", "-o", "whole").returncode == 0
    for part in ("2/2", "1/2"):
        assert "2 masks" in segue("predict", "run", "images", "-o", "parts", "--shard", part).stdout
    assert (studies / "parts" / "predictions.1-of-2.json").exists()
    before = (studies / "parts" / "c1.nii.gz").stat().st_mtime_ns
    assert "4 masks" in segue("predict", "run", "images", "-o", "parts").stdout
    assert files(studies / "parts") == files(studies / "whole")
    assert (studies / "parts" / "c1.nii.gz").stat().st_mtime_ns == before  # found, not made again
    measure = ("evaluate", "--pred", "whole", "--truth", "truth", "-o")
    assert segue(*measure, "at_once").returncode == 0
    told = segue(*measure, "gathered", "--shard", "1/2").stdout
    assert "shard 1/2: 2 cases measured" in told and not (studies / "gathered" / "metrics.json").exists()
    segue(*measure, "gathered", "--shard", "2/2")
    kept = sorted((studies / "gathered" / ".scores").iterdir())
    assert len(kept) == 4
    # What the run that gathers takes from a shard is this very file.
    scores = json.loads(kept[0].read_text())
    kept[0].write_text(
        json.dumps({**scores, "labels": {name: {**f, "dice": 0.5} for name, f in scores["labels"].items()}})
    )
    assert segue(*measure, "gathered").returncode == 0
    cases = json.loads((studies / "gathered" / "metrics.json").read_text())["test"]["cases"]
    assert cases[scores["case"]]["labels"]["thing"]["dice"] == 0.5
    assert set(files(studies / "gathered")) == {"metrics.json", "metrics.csv"}
    assert segue(*measure, "gathered").returncode == 0  # nothing is left of the shards
    assert files(studies / "gathered") == files(studies / "at_once")


def test_predictions_of_other_processes_are_those_of_this_one(segue: Segue, studies: Path) -> None:
    assert segue("predict", "run", "images", "-o", "whole").returncode == 0
    (studies / "images" / "bad.nii.gz").write_bytes(b"no image")
    done = segue("predict", "run", "images", "-o", "apart", "--memory", "6GB")
    assert done.returncode == 3 and "1 failed: bad" in done.stdout, done.stderr
    assert files(studies / "apart") == files(studies / "whole")


def test_shards_of_check_and_prepare(segue: Segue, blobs: Path) -> None:
    for part in ("1/2", "2/2"):
        assert segue("check", blobs, "--data", "d", "--shard", part).returncode == 0
    examined = sorted((blobs.parent / "d" / "prepared" / "examined").iterdir())
    times = [path.stat().st_mtime_ns for path in examined]
    done = segue("check", blobs, "--data", "d")
    assert done.returncode == 0 and "11 looked at" in done.stdout
    assert [path.stat().st_mtime_ns for path in examined] == times and len(times) == 11
    for part, count in (("1/3", 4), ("2/3", 3), ("3/3", 3)):
        assert f"{count} cases prepared" in segue("prepare", blobs, "--data", "d", "--shard", part).stdout
    done = segue("prepare", blobs, "--data", "d")
    assert "10 cases prepared" in done.stdout
    assert len(list((blobs.parent / "d" / "prepared").glob("*/*/image.npy"))) == 10


def test_a_shard_that_is_none_ends_before_any_work(segue: Segue, blobs: Path) -> None:
    done = segue("check", blobs, "--shard", "4/3")
    assert done.returncode == 2 and "--shard 4/3" in done.stderr and "I from 1 to N" in done.stderr
