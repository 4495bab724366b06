"""Items of arrays in an .npz: one by one, forwards, memory-mapped; and volumes resized to one size."""

from __future__ import annotations

import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segue.catalogue import Card, Case, Row
from segue.core.errors import DataError
from segue.images import map_array, read_row, rows
from segue.prepare import in_axes, read_channels, read_mask
from segue.volume.resize import resized


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    content = {
        "train_images": random.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8),
        "train_label": random.integers(0, 3, (40, 6, 5), dtype=np.int64),
        "by_columns": np.asfortranarray(random.normal(size=(4, 3, 2))),
    }
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **content)
    return path, content


@pytest.mark.parametrize("forwards", [False, True])
def test_items_are_those_of_the_array_in_any_order(arrays, forwards: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path, content = arrays
    if forwards:
        monkeypatch.setattr(rows, "_KEPT_BYTES", 0)
    for index in (0, 1, 7, 39, 3, 3, 2):
        for key in ("train_images", "train_label"):
            assert np.array_equal(read_row(path, key, index), content[key][index])


def test_an_array_stored_by_columns_is_read_whole_or_mapped(arrays, tmp_path: Path, monkeypatch) -> None:
    path, content = arrays
    assert np.array_equal(read_row(path, "by_columns", 2), content["by_columns"][2])
    assert np.array_equal(map_array(path, "by_columns", tmp_path / "cache"), content["by_columns"])
    monkeypatch.setattr(rows, "_KEPT_BYTES", 0)
    with pytest.raises(DataError, match="stored by columns"):
        read_row(path, "by_columns", 2)


def test_what_is_not_there_is_told(arrays, tmp_path: Path) -> None:
    path, _ = arrays
    with pytest.raises(DataError, match=r"no such item.*40 items"):
        read_row(path, "train_images", 40)
    with pytest.raises(DataError, match="test_images is missing"):
        read_row(path, "test_images", 0)
    with pytest.raises(DataError, match="no readable"):
        read_row(tmp_path / "gone.npz", "train_images", 0)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        map_array(tmp_path / "evil.npz", "train_images", tmp_path / "cache")
    with pytest.raises(DataError, match="Python objects"):
        read_row(tmp_path / "evil.npz", "train_images", 0)


def test_a_damaged_array_leaves_nothing_half_written(arrays, tmp_path: Path) -> None:
    path, _ = arrays
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("train_images.npy").header_offset + 200
    content = bytearray(path.read_bytes())
    content[place : place + 40] = bytes(40)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="no readable"):
        map_array(path, "train_images", tmp_path / "cache")
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_mapped_array_is_not_decoded_into_memory(tmp_path: Path) -> None:
    """300 MB of images grow this process by far less."""
    path = tmp_path / "large.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("train_images.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (300, 1000, 1000)}
        np.lib.format.write_array_header_1_0(member, header)
        for number in range(300):
            member.write(np.full(1_000_000, number % 251, np.uint8).tobytes())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    mapped = map_array(path, "train_images", tmp_path / "cache")
    assert mapped.shape == (300, 1000, 1000)
    assert mapped[299, 5, 5] == 299 % 251
    assert read_row(path, "train_images", 130)[0, 0] == 130
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000  # kB


def test_axes_of_items_are_those_of_a_picture(tmp_path: Path) -> None:
    """The same picture as PNG and as item: rows run down, the first axis of a volume runs along them."""
    random = np.random.default_rng(1)
    picture = random.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", train_images=picture[None], train_label=picture[None, ..., 0] % 3)
    card = Card.model_validate(
        {
            "name": "a",
            "title": "a",
            "dimension": 2,
            "channels": [{"name": "red"}, {"name": "green"}, {"name": "blue"}],
            "labels": {1: "x", 2: "y"},
            "layout": {"kind": "npz", "file": "a.npz"},
        }
    )
    item = read_channels(Case("a", "a", (Row(tmp_path / "a.npz", "train_images", 0),)), card)
    file = read_channels(Case("b", "b", (tmp_path / "a.png",)), card)
    assert np.array_equal(item.array, file.array)
    assert item.geometry.difference(file.geometry) is None
    mask = read_mask(Row(tmp_path / "a.npz", "train_label", 0))
    assert np.array_equal(mask.array[0, :, :, 0], picture[..., 0].T % 3)
    assert in_axes(np.zeros((4, 5, 6)), 3).shape == (1, 4, 5, 6)
    with pytest.raises(DataError, match="3 dimensions is expected"):
        in_axes(np.zeros((4, 5)), 3)


@pytest.mark.parametrize("size", [(28, 28), (64, 40), (15, 90), (40, 30)])
def test_resizing_is_pillows(size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).random((30, 40), dtype=np.float32)
    mine = resized(image.T[None, :, :, None], (*size, 1))[0, :, :, 0]
    theirs = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)).T
    assert np.abs(mine - theirs).max() < 1e-5


def test_resizing_volumes_keeps_the_mean_of_a_ramp() -> None:
    ramp = np.arange(24, dtype=np.float32)[None, None, :, None] * np.ones((1, 5, 1, 7), np.float32)
    small = resized(ramp, (5, 12, 3))
    assert small.shape == (1, 5, 12, 3)
    assert np.allclose(small[0, 2, 1:-1, 1], ramp.reshape(5, 12, 2, 7).mean(2)[2, 1:-1, 1])
