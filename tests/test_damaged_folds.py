"""One fold of several is damaged, or was written by a later version: which one is told, and nothing is written."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Segue
from segue.core.errors import SegueError
from segue.images import write
from segue.workflow import measuring
from test_predict import affine_of, half_bright, make_run

SHAPE = (16, 16, 16)


@pytest.fixture
def folds(tmp_path: Path) -> Path:
    """A cross-validation of three folds, and an image."""
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text("fold: cv\n")
    for number in range(3):
        make_run(run / f"fold_{number}")
        (run / f"fold_{number}" / "config.yaml").write_text(f"fold: {number}\n")
    (run / "checkpoints" / "best.pt").unlink()
    write(half_bright(SHAPE, affine_of("RAS", (1, 1, 1), SHAPE)), tmp_path / "in" / "a.nii.gz")
    return run


def predict(run: Path) -> None:
    folder = run.parent
    measuring.predict(run, [str(folder / "in")], folder / "out", "cpu", folder / "data")


def refused(run: Path, fold: int) -> str:
    """What was said; the fold is named, no output is begun, and the exit code is that of bad data."""
    with pytest.raises(SegueError) as caught:
        predict(run)
    assert caught.value.exit_code == 3
    assert f"fold_{fold}" in str(caught.value)
    assert not (run.parent / "out").exists()
    return str(caught.value)


def test_all_folds_answer_where_none_is_damaged(folds: Path) -> None:
    predict(folds)
    assert (folds.parent / "out" / "a.nii.gz").exists()


def test_the_command_ends_with_the_exit_code_of_bad_data(
    folds: Path, segue: Segue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the network of these folds is a test's
    (folds / "fold_1" / "checkpoints" / "best.pt").write_bytes(b"half")
    done = segue("predict", folds, folds.parent / "in", "-o", folds.parent / "out", "--device", "cpu")
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: ")
    assert "fold_1/checkpoints/best.pt" in done.stderr
    assert "the checkpoint is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folds.parent / "out").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "the checkpoint is damaged"),
        (b"half", "the checkpoint is damaged"),
        ("first half", "the checkpoint is damaged"),
        ({"format": 1}, "the checkpoint is damaged"),
        ({"format": 1, "network": 5}, "the checkpoint is damaged"),
        ({"format": "x", "network": {}}, "the checkpoint is damaged"),
        ([1, 2], "the checkpoint is damaged"),
        ({"format": 99, "network": {}}, "the checkpoint is of a later version of segue"),
        ({"format": 1, "network": {}}, "checkpoint and plan do not belong together"),
        ({"format": 1, "network": {"scale": "x"}}, "the checkpoint is damaged"),
        ({"format": 1, "network": {"scale": torch.zeros(3)}}, "checkpoint and plan do not belong together"),
    ],
)
@pytest.mark.parametrize("fold", [0, 2])
def test_a_damaged_fold_is_named_and_nothing_is_written(folds: Path, content: Any, what: str, fold: int) -> None:
    path = folds / f"fold_{fold}" / "checkpoints" / "best.pt"
    if content == "first half":
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert what in refused(folds, fold)


@pytest.mark.parametrize(
    ("text", "what"), [("{", "damaged"), ("[" * 100_000, "damaged"), ('{"made_in": 2030}', "later version")]
)
def test_a_folds_plan_that_is_not_understood(folds: Path, text: str, what: str) -> None:
    (folds / "fold_1" / "plan.json").write_text(text)
    assert what in refused(folds, 1)


def test_a_weight_that_is_no_number(folds: Path) -> None:
    """The mean with such a fold would be background everywhere, without a word."""
    torch.save({"format": 1, "network": {"scale": torch.tensor(np.nan)}}, folds / "fold_1" / "checkpoints" / "best.pt")
    assert "NaN or infinite in scale" in refused(folds, 1)


def test_a_weight_that_claims_more_than_its_file_holds(folds: Path) -> None:
    """A few bytes shown as 4 TB: whatever is computed with it asks for them."""
    vast = torch.zeros(1).expand(1_000_000, 1_000_000)
    torch.save({"format": 1, "network": {"scale": vast}}, folds / "fold_1" / "checkpoints" / "best.pt")
    assert "scale claims 1000000x1000000" in refused(folds, 1)
