"""Preparing unpacks a large image once; and what makes preparing cheap gives the values that it gave before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from segue.catalogue import Case, Dataset, open_dataset
from segue.core.errors import MachineError
from segue.images import write
from segue.prepare import (
    ExamineTask,
    Machine,
    Plan,
    PrepareTask,
    examine,
    fingerprint,
    plan,
    prepare_case,
    unpacked,
    unpacked_once,
)
from segue.prepare.voxels import between
from segue.volume import Geometry, Volume

SHAPE = (120, 110, 90)  # of two channels in float32 9.5 MB
GRID = Geometry(SHAPE, np.diag([-1.0, -1.5, 2.0, 1.0]))


@pytest.fixture
def two(tmp_path: Path) -> Dataset:
    """One large PET/CT that packs well."""
    i = np.arange(SHAPE[0], dtype=np.float32)[:, None, None]
    k = np.arange(SHAPE[2], dtype=np.float32)
    values = np.broadcast_to(i + 0.25 * k, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[40:60, 30:50, 30:50] = 1
    folder = tmp_path / "set"
    for name, array in (("ct", 8 * values - 1000), ("pet", values / 16)):
        write(Volume(array[None], GRID), folder / "images" / f"a_{name}.nii.gz")
    write(Volume(mask[None], GRID, "labels"), folder / "labels" / "a.nii.gz")
    card = {
        "name": "two",
        "title": "two channels",
        "channels": [{"name": "CT", "unit": "HU"}, {"name": "PET", "unit": "SUV"}],
        "labels": {1: "box"},
        "licence": {"spdx": "CC0-1.0"},
        "layout": {
            "kind": "files",
            "images": {"CT": "images/{case}_ct.nii.gz", "PET": "images/{case}_pet.nii.gz"},
            "labels": "labels/{case}.nii.gz",
        },
    }
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return open_dataset(str(folder / "card.yaml"))


def looked_at(dataset: Dataset, cache: Path) -> tuple[Case, Plan]:
    (case,) = dataset.cases
    found = examine(ExamineTask(case, dataset.card, cache))
    assert found.findings == []
    return case, plan(fingerprint(dataset.card, [found]), Machine("cpu", 2, 8.0))


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def no_reading(*_: object) -> Volume:
    raise AssertionError("it was unpacked again")


def test_an_image_is_unpacked_once_and_prepared_to_the_same_bytes(
    two: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, cache = tmp_path / "plain", tmp_path / "cache"
    case, made = looked_at(two, plain)
    wanted = prepare_case(PrepareTask(case, two.card, made, plain))
    assert not (plain / "unpacked").exists()  # nobody said that preparing comes next
    with unpacked_once(cache):
        looked_at(two, cache)
        (kept,) = (cache / "unpacked").iterdir()
        assert kept.stat().st_size > 2 * 4 * np.prod(SHAPE)
        monkeypatch.setattr(unpacked, "read_channels", no_reading)
        ready = prepare_case(PrepareTask(case, two.card, made, cache))
        assert not kept.exists()  # each is needed once
    assert not (cache / "unpacked").exists()
    assert ready.folder.name == wanted.folder.name
    assert files_in(ready.folder) == files_in(wanted.folder)


@pytest.mark.parametrize("damage", ["zeros", "cut", "empty", "gone"])
def test_what_was_kept_and_is_not_whole_is_unpacked_again(two: Dataset, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    with unpacked_once(cache):
        case, made = looked_at(two, cache)
        (kept,) = (cache / "unpacked").iterdir()
        stored = kept.read_bytes()
        if damage == "gone":
            kept.unlink()
        else:
            half = stored[: len(stored) // 2]
            kept.write_bytes({"zeros": half + bytes(len(stored) - len(half)), "cut": half, "empty": b""}[damage])
        ready = prepare_case(PrepareTask(case, two.card, made, cache))
    plain = prepare_case(PrepareTask(case, two.card, made, tmp_path / "plain"))
    assert files_in(ready.folder) == files_in(plain.folder)


def test_little_is_kept_and_a_full_or_forbidden_disk_harms_nothing(
    two: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(name: str) -> int:
        with unpacked_once(tmp_path / name):
            looked_at(two, tmp_path / name)
            return len(list((tmp_path / name / "unpacked").iterdir()))

    assert kept("as it is") == 1
    with monkeypatch.context() as patch:
        patch.setattr(unpacked, "_MOST_BYTES", 9_000_000)
        assert kept("too much") == 0
    with monkeypatch.context() as patch:
        patch.setattr(unpacked, "_LEAST_BYTES", 10_000_000)
        assert kept("too small") == 0

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacked, "_save", full)
    assert kept("full") == 0
    (tmp_path / "a file").write_text("")
    with pytest.raises((MachineError, OSError)), unpacked_once(tmp_path / "a file"):
        pass


def test_halves_are_compared_as_numpy_compares_them() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[~np.isnan(every)]
    for low in (0.0, -0.0, 0.1, -0.1, 1e-7, -1e-7, 6.1e-5, 1000.3, -65504.0, 65504.0, float("-inf"), float("inf")):
        for high in (None, 0.0, -0.0, 1.3, -2.7, 1e-7, float("inf")):
            wanted = every > np.float16(low)
            if high is not None:
                wanted &= every < np.float16(high)
            assert np.array_equal(between(every, low, high), wanted), (low, high)


def test_an_image_is_read_without_importing_dicom(two: Dataset) -> None:
    code = (
        "import sys; from segue.images import read; volume = read(sys.argv[1]).oriented('RAS');"
        "assert volume.geometry.axis_codes == 'RAS'; assert 'nibabel' in sys.modules;"
        "print(sorted({'pydicom', 'gdcm', 'requests'} & set(sys.modules)));"
        "import pydicom; print(pydicom.Dataset.__name__); import nibabel; nibabel.load(sys.argv[1]).get_fdata()"
    )
    words = [sys.executable, "-c", code, str(two.cases[0].images[0])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert (done.stdout, done.stderr) == ("[]\nDataset\n", "")
