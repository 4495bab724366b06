"""`segue view --png`, and what a notebook shows."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Segue
from segue.catalogue import Case
from segue.images import read, write
from segue.train import Run
from segue.view.stills import file_names
from segue.volume import Geometry, Volume

ORANGE, DARK_ORANGE = (230, 159, 0), (213, 94, 0)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(image - np.array(colour)).max(axis=-1) < 40


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A PET with one hot block at the patient's right, front and head, stored right to left; its CT and its mask."""
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    shape = (40, 30, 30)
    i, j, k = np.indices(shape)
    # x grows to the right, and i to the left.
    hot = (i >= 4) & (i < 10) & (j >= 20) & (j < 24) & (k >= 24) & (k < 27)
    grid = Geometry(shape, affine)
    write(Volume(np.where(hot, 12.0, 0.5)[None].astype(np.float32), grid), tmp_path / "SUV.nii.gz")
    write(Volume(np.where(hot, 300, -500)[None].astype(np.int16), grid), tmp_path / "CT.nii.gz")
    write(Volume(hot[None].astype(np.uint8), grid, "labels"), tmp_path / "SEG.nii.gz")
    return tmp_path


def test_slices_projections_and_outlines_are_written(study: Path, segue: Segue) -> None:
    done = segue("view", "--png", study / "CT.nii.gz", study / "SUV.nii.gz", study / "SEG.nii.gz", "-o", "out")
    assert done.returncode == 0, done.stderr
    out = study / "out"
    names = ["CT-SUV-mip.png", "CT-SUV-mosaic.png", "CT-mosaic.png", "CT-overlay.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(Path(line).name for line in done.stdout.split()) == names
    # From the front the hot block is dark, at the left of the picture (the patient's right) and near the top; what is
    # outlined lies around it.
    image = pixels(out / "CT-SUV-mip.png")
    wide, high, depth = 40 * 2, 30 * 4, 30 * 3
    scale = 720 / high
    assert image.shape[0] == 720
    assert image.shape[1] == pytest.approx(wide * scale + depth * scale, abs=8)
    front = image[:, : int(wide * scale)]
    rows, columns = np.nonzero(front[..., 1] < 20)
    inside = (rows > 20) & (columns > 20) & (columns < front.shape[1] - 20)  # beside the letters
    rows, columns = rows[inside], columns[inside]
    assert columns.mean() / scale == pytest.approx((4 + 10) / 2 * 2, abs=2)
    assert rows.mean() / scale == pytest.approx(high - (24 + 27) / 2 * 4, abs=2)
    outlined = np.nonzero(near(front, DARK_ORANGE))
    assert outlined[0].mean() == pytest.approx(rows.mean(), abs=5)
    # The overlay has the outline too; of 24 slices those three that cut the block.
    assert near(pixels(out / "CT-overlay.png"), ORANGE).sum() > 50
    mosaic = pixels(out / "CT-mosaic.png")
    assert near(mosaic, ORANGE).any(axis=1).sum() < mosaic.shape[0] / 3


def test_a_picture_keeps_its_pixels_and_a_bad_file_is_told(tmp_path: Path, segue: Segue) -> None:
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[:10] = (200, 30, 60)
    Image.fromarray(colours).save(tmp_path / "photo.png")
    done = segue("view", "--png", "photo.png")
    assert done.returncode == 0, done.stderr
    image = pixels(tmp_path / "photo-picture.png")
    red = near(image, (200, 30, 60))
    rows, columns = np.nonzero(red)
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx(3.0, rel=0.05)  # 30 by 10, upright
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert segue("view", "--png", "broken.nii.gz").returncode == 3
    assert segue("view", "--png", "nowhere.nii.gz").returncode == 2


def test_names_of_files_are_no_paths() -> None:
    assert file_names(["a/b c", "a_b?c", "../..", ""]) == ["a_b_c", "a_b_c-2", "image", "image-2"]


def picture_of(html: str) -> np.ndarray:
    data = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert data
    return np.asarray(Image.open(io.BytesIO(b64decode(data[1]))).convert("RGB")).astype(int)


def test_notebooks_show_volumes_cases_and_runs(study: Path, tmp_path: Path) -> None:
    volume = read(study / "SUV.nii.gz")
    html = volume._repr_html_()
    assert html is not None
    assert "40 × 30 × 30 voxels of 2 × 3 × 4 mm, LAS, float32" in html
    assert picture_of(html).std() > 3
    mask = Volume(read(study / "SEG.nii.gz").array, volume.geometry, "labels")
    shown = mask._repr_html_()
    assert shown is not None and near(picture_of(shown), ORANGE).sum() > 50
    evil = "<script>alert(1)</script>"
    case = Case(evil, evil, (study / "CT.nii.gz",), study / "SEG.nii.gz", facts={"site": evil})
    told = case._repr_html_()
    assert told is not None and "<script" not in told and "&lt;script" in told
    assert near(picture_of(told), ORANGE).sum() > 50
    assert Case("gone", "gone", (tmp_path / "gone.nii.gz",))._repr_html_() is None  # the plain text stands for it
    run = Run(tmp_path / evil)._repr_html_()
    assert run is not None and "<script" not in run and "not measured yet" in run
