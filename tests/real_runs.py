"""Runs of real trainings for tests of what is shown of them: a few steps on a few real cases, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_FEW = 12


def run_segue(folder: Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "segue", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def few_cases(folder: Path, hippocampus: Path) -> Path:
    """A dozen cases of Task04 in the layout of the dataset, three of them validate; returns where they lie."""
    root = folder / "data" / "msd" / "hippocampus"
    listing = json.loads((hippocampus / "dataset.json").read_text())
    listing["training"] = sorted(listing["training"], key=lambda entry: entry["image"])[:_FEW]
    listing["test"] = []
    for entry in listing["training"]:
        for path in entry.values():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(hippocampus / path)
    (root / "dataset.json").write_text(json.dumps(listing))
    return root


@pytest.fixture(scope="session")
def hippocampus_run(tmp_path_factory: pytest.TempPathFactory, hippocampus: Path) -> Path:
    folder = tmp_path_factory.mktemp("hippocampus")
    run_segue(folder, "train", few_cases(folder, hippocampus), "--steps", 3, "-o", "run")
    return folder / "run"


@pytest.fixture(scope="session")
def petct_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic PET/CT, two channels in HU and SUV."""
    folder = tmp_path_factory.mktemp("petct")
    run_segue(folder, "get", "synthetic/petct", "-n", 6, "--size", "small")
    run_segue(folder, "train", "synthetic/petct", "--steps", 2, "-o", "run")
    return folder / "run"


@pytest.fixture(scope="session")
def breast_run(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """BreastMNIST: pictures of 28 x 28 pixels in an .npz."""
    folder = tmp_path_factory.mktemp("breast")
    run_segue(folder, "get", "medmnist/breastmnist", "--from", test_data / "medmnist" / "breastmnist.npz")
    run_segue(folder, "train", "medmnist/breastmnist", "--steps", 4, "-o", "run")
    return folder / "run"
