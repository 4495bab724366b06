"""NIfTI reading and writing, against nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from segue.core.errors import DataError
from segue.images import image_stem, is_image, read, read_header, read_labels, write
from segue.volume import Geometry, Volume

AFFINE = np.array([[-0.9, 0.1, 0, 12], [0.1, 0.8, 0.2, -30], [0, -0.3, 2.5, 7], [0, 0, 0, 1]], dtype=float)


def grid(shape: tuple[int, int, int]) -> Geometry:
    return Geometry(shape, AFFINE)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_what_is_written_nibabel_reads_and_so_do_we(tmp_path: Path, suffix: str, dtype: type) -> None:
    array = (np.random.default_rng(0).random((1, 5, 6, 7)) * 100).astype(dtype)
    path = tmp_path / f"x{suffix}"
    write(Volume(array, grid((5, 6, 7))), path)
    theirs = nibabel.load(path)
    assert np.array_equal(np.asarray(theirs.dataobj), array[0])
    assert np.abs(theirs.affine - AFFINE).max() < 1e-6
    assert theirs.header.get_data_dtype() == dtype
    ours = read(path)
    assert np.array_equal(ours.array, array)
    assert ours.array.dtype == dtype
    assert ours.geometry.difference(grid((5, 6, 7))) is None


def test_a_large_volume_is_packed_by_threads_and_reads_back(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 50, (1, 200, 200, 120), dtype=np.int16)
    write(Volume(array, grid((200, 200, 120))), tmp_path / "x.nii.gz")
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "x.nii.gz").dataobj), array[0])
    assert np.array_equal(read(tmp_path / "x.nii.gz").array, array)


@pytest.mark.parametrize(
    ("dtype", "endian", "slope"), [("i2", ">", 0.5), ("f4", ">", None), ("u1", "<", 2.0), ("f8", "<", None)]
)
def test_scaling_and_byte_order_as_nibabel(tmp_path: Path, dtype: str, endian: str, slope: float | None) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(np.dtype(dtype).newbyteorder(endian))
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    image = nibabel.Nifti1Image(array, AFFINE, header)
    image.header.set_slope_inter(slope or 1.0, -3.0 if slope else 0.0)
    image.header.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    path = tmp_path / "x.nii"
    raw = image.header.copy()
    raw["vox_offset"] = 352
    path.write_bytes(raw.binaryblock + b"\0" * 4 + array.tobytes(order="F"))
    expected = np.asarray(nibabel.load(path).dataobj)
    ours = read(path).array[0]
    assert np.allclose(ours, expected)
    assert ours.dtype.isnative


def test_four_dimensions_are_channels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / "x.nii.gz")
    volume = read(tmp_path / "x.nii.gz")
    assert np.array_equal(volume.array, np.moveaxis(array, -1, 0))
    header = read_header(tmp_path / "x.nii.gz")
    assert (header.channels, header.geometry.shape) == (3, (4, 5, 6))
    write(volume, tmp_path / "y.nii.gz")
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "y.nii.gz").dataobj), array)


def test_two_dimensions_are_one_slice(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5), np.float32), AFFINE), tmp_path / "x.nii")
    assert read(tmp_path / "x.nii").array.shape == (1, 4, 5, 1)


def test_metres_and_microns_become_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((4, 5, 6), np.float32), np.diag([1e-3, 1e-3, 2e-3, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "x.nii")
    assert read(tmp_path / "x.nii").geometry.spacing_mm == pytest.approx((1.0, 1.0, 2.0))


def test_suv_is_stored_in_steps(tmp_path: Path) -> None:
    suv = np.random.default_rng(0).random((1, 5, 5, 5)).astype(np.float32) * 20
    write(Volume(suv, grid((5, 5, 5)), unit="SUV"), tmp_path / "x.nii.gz", scale=0.01)
    stored = nibabel.load(tmp_path / "x.nii.gz")
    assert stored.header.get_data_dtype() == np.int16
    assert np.abs(np.asarray(stored.dataobj) - suv[0]).max() <= 0.0051
    with pytest.raises(ValueError, match="too small"):
        write(Volume(suv, grid((5, 5, 5))), tmp_path / "y.nii.gz", scale=1e-5)


def test_float_labels_are_whole_numbers_or_refused(tmp_path: Path) -> None:
    labels = np.zeros((4, 4, 4), np.float32)
    labels[1] = 2
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), tmp_path / "x.nii")
    assert read_labels(tmp_path / "x.nii").array.dtype == np.uint8
    labels[2] = 0.4
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), tmp_path / "y.nii")
    with pytest.raises(DataError, match=r"16 voxels such as 0\.4"):
        read_labels(tmp_path / "y.nii")
    nibabel.save(nibabel.Nifti1Image(-labels.astype(np.int16), AFFINE), tmp_path / "z.nii")
    with pytest.raises(DataError, match="begin at 0"):
        read_labels(tmp_path / "z.nii")


def broken(tmp_path: Path) -> dict[str, Path]:
    array = np.random.default_rng(0).random((1, 20, 20, 20)).astype(np.float32)
    write(Volume(array, grid((20, 20, 20))), tmp_path / "good.nii.gz")
    packed, plain = (tmp_path / "good.nii.gz").read_bytes(), gzip.decompress((tmp_path / "good.nii.gz").read_bytes())
    flat = bytearray(plain)
    flat[280:328] = b"\0" * 48  # the sform's three rows
    files = {
        "cut.nii.gz": packed[: len(packed) // 2],
        "cut.nii": plain[:5000],
        "short.nii.gz": gzip.compress(plain[:5000]),
        "empty.nii.gz": b"",
        "text.nii.gz": b"<html>login</html>",
        "text.nii": b"<html>login</html>" * 30,
        "bits.nii.gz": packed[:200] + bytes(50) + packed[250:],
        "flat.nii": bytes(flat),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in files}


@pytest.mark.parametrize(
    "name",
    ["cut.nii.gz", "cut.nii", "short.nii.gz", "empty.nii.gz", "text.nii.gz", "text.nii", "bits.nii.gz", "flat.nii"],
)
def test_a_damaged_file_is_one_readable_error(tmp_path: Path, name: str) -> None:
    path = broken(tmp_path)[name]
    with pytest.raises(DataError) as caught:
        read(path)
    assert name in str(caught.value)
    assert caught.value.remedy


def test_complex_images_and_other_formats_are_refused(tmp_path: Path, test_data: Path) -> None:
    with pytest.raises(DataError, match="complex"):
        read(test_data / "volumes" / "complex.nii.gz")
    with pytest.raises(DataError, match="not read"):
        read(test_data / "SOURCES.md")
    with pytest.raises(DataError, match="no such image"):
        read(tmp_path / "none.nii.gz")
    assert read(test_data / "volumes" / "shear.nii.gz").geometry.shear_degrees == pytest.approx(18.5, abs=0.01)


def test_names() -> None:
    assert image_stem(Path("a/b.c.nii.gz")) == "b.c"
    assert not is_image(Path("._x.nii.gz"))
    assert not is_image(Path("x.nii.gz.txt"))


def test_real_images_as_nibabel(hippocampus: Path) -> None:
    for path in sorted((hippocampus / "imagesTr").glob("*.nii.gz"))[:12]:
        theirs, ours = nibabel.load(path), read(path)
        assert np.array_equal(np.asarray(theirs.dataobj), ours.array[0])
        assert np.array_equal(theirs.affine, ours.geometry.affine)
