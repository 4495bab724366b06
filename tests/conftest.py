"""Shared fixtures. Real images are read from the folder SEGUE_TEST_DATA (default: ../shared/data)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from browser import browser, page  # noqa: F401
from segue.images import write
from segue.volume import Geometry, Volume

PROJECT = Path(__file__).resolve().parent.parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # As many tests as cores run at a time: threads of several trainings on one core would wait for each other. Torch
    # reads it when it is imported, here and in every command that a test starts.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real images under open licences; tests that need them say so when they are not there."""
    folder = Path(os.environ.get("SEGUE_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}: set SEGUE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def hippocampus(test_data: Path) -> Path:
    return test_data / "msd" / "Task04_Hippocampus"


Segue = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def segue(tmp_path: Path) -> Segue:
    """Run the command line as a user does, in an empty folder."""

    def run(*arguments: object, cwd: Path = tmp_path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "segue", *map(str, arguments)]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)

    return run


def blob_case(random: np.random.Generator, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image with a bright ball (label 1) beside a dim one (label 2), and noise."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    centre = np.array(shape) / 2 + random.uniform(-2, 2, 3)
    labels = np.zeros(shape, dtype=np.uint8)
    for label, shift in ((1, -0.22), (2, 0.22)):
        place = centre + [shift * shape[0], 0, 0]
        labels[((grid - place[:, None, None, None]) ** 2).sum(0) < (min(shape) / 3.6) ** 2] = label
    image = np.select([labels == 1, labels == 2], [3.0, 1.5], 0.0) + 0.3 * random.standard_normal(shape)
    return ndimage.gaussian_filter(image, 0.5).astype(np.float32), labels


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """A small decathlon folder of ten cases with two labels, one image without label."""
    root = tmp_path / "Blobs"
    random = np.random.default_rng(7)
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    affine[:3, 3] = [-10, 20, -30]
    names = [f"blob_{n:02d}" for n in range(10)]
    for number, name in enumerate(names):
        shape = (20 + number % 3, 18, 16)
        image, labels = blob_case(random, shape)
        grid = Geometry(shape, affine)
        write(Volume(image[None], grid), root / "imagesTr" / f"{name}.nii.gz")
        write(Volume(labels[None], grid, "labels"), root / "labelsTr" / f"{name}.nii.gz")
    write(Volume(image[None], grid), root / "imagesTs" / "blob_99.nii.gz")
    listing = {
        "name": "Blobs",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "bright", "2": "dim"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": ["./imagesTs/blob_99.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(listing))
    return root
