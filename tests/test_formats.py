"""MetaImage, NRRD, PNG, JPEG and TIFF, against SimpleITK, Pillow and tifffile."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from segue.catalogue import open_dataset
from segue.core.errors import DataError, MachineError
from segue.images import image_stem, is_image, read, read_header, read_labels


def points_agree(path: Path) -> None:
    """Every corner voxel lies where ITK says, in RAS instead of LPS, and holds ITK's value."""
    theirs, ours = sitk.ReadImage(str(path)), read(path)
    size = theirs.GetSize()
    for corner in np.ndindex(2, 2, 2):
        voxel = [int(c * (n - 1)) for c, n in zip(corner, size, strict=True)]
        x, y, z = theirs.TransformIndexToPhysicalPoint(voxel)
        point = ours.geometry.affine @ [*voxel, 1]
        assert point[:3] == pytest.approx([-x, -y, z], abs=1e-4)
        value = theirs.GetPixel(voxel)
        assert ours.array[(slice(None), *voxel)].tolist() == list(np.atleast_1d(value))


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("components", [1, 3])
def test_itk_formats_on_an_oblique_grid(tmp_path: Path, suffix: str, components: int) -> None:
    random = np.random.default_rng(0)
    shape = (4, 5, 6) if components == 1 else (4, 5, 6, components)
    image = sitk.GetImageFromArray(random.integers(-500, 500, shape).astype(np.int16), isVector=components > 1)
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((10, -20, 30))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5)
    image.SetDirection(turn.GetMatrix())
    path = tmp_path / f"x{suffix}"
    sitk.WriteImage(image, str(path))
    points_agree(path)
    header = read_header(path)
    assert (header.channels, header.dtype, header.geometry.shape) == (components, np.int16, (6, 5, 4))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("axes", "components"), [(2, 1), (2, 3), (3, 1), (4, 1)])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", "f4", "f8"])
def test_metaimage_as_itk_writes_it(
    tmp_path: Path, suffix: str, axes: int, components: int, dtype: str, packed: bool
) -> None:
    shape = (3, 4, 5, 6)[-axes:] + ((components,) if components > 1 else ())
    array = (np.random.default_rng(0).random(shape) * 250).astype(dtype)
    image = sitk.GetImageFromArray(array, isVector=components > 1)
    image.SetSpacing([0.5, 0.75, 3.0, 1.0][:axes])
    image.SetOrigin([10, -20, 30, 1][:axes])
    if axes == 3:
        image.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())
    sitk.WriteImage(image, str(tmp_path / f"x{suffix}"), useCompression=packed)
    ours = read(tmp_path / f"x{suffix}")
    assert ours.array.dtype == array.dtype
    theirs = array.reshape(*(1,) * (4 - axes), *shape[:axes], components).transpose(0, 4, 3, 2, 1)
    assert np.array_equal(ours.array, theirs.reshape(ours.array.shape))
    point = np.array(image.TransformIndexToPhysicalPoint([2, 3, 4, 0][:axes]))[:3]
    here = ours.geometry.affine @ [2, 3, 4 if axes > 2 else 0, 1]
    assert here[: min(axes, 3)] == pytest.approx((point * [-1, -1, 1][: len(point)])[: min(axes, 3)], abs=1e-5)


def test_metaimage_by_hand(tmp_path: Path) -> None:
    """Big endian, a header before the voxels, names of old writers; as ITK reads it."""
    array = np.arange(24, dtype=">i2")
    (tmp_path / "x.raw").write_bytes(b"something else" + array.tobytes())
    (tmp_path / "x.mhd").write_text(
        "NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementByteOrderMSB = True\nHeaderSize = -1\n"
        "Position = 1 2 3\nElementSpacing = 1 2 3\nElementDataFile = x.raw\n"
    )
    points_agree(tmp_path / "x.mhd")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ElementDataFile = ../x.raw", "outside the folder"),
        ("ElementDataFile = /etc/passwd", "outside the folder"),
        ("ElementDataFile = LIST", "several files"),
        ("ElementDataFile = x%03d.raw 1 3 1", "several files"),
        ("ElementDataFile = none.raw", "No such file"),
        ("ElementDataFile = x.raw", "10 of 48 bytes"),
    ],
)
def test_metaimage_that_is_not_read(tmp_path: Path, line: str, why: str) -> None:
    (tmp_path / "x.raw").write_bytes(bytes(10))
    (tmp_path / "x.mhd").write_text(f"NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\n{line}\n")
    with pytest.raises(DataError, match=why) as caught:
        read(tmp_path / "x.mhd")
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["brain1_image.nrrd", "breast1_image.nrrd", "mha.mha"])
def test_real_itk_files(test_data: Path, name: str) -> None:
    points_agree(test_data / "volumes" / name)


def test_real_labels_in_nrrd(test_data: Path) -> None:
    path = test_data / "volumes" / "brain1_label.nrrd"
    labels = read_labels(path)
    assert labels.array.dtype == np.uint8
    assert np.array_equal(labels.array[0].T, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def test_a_fourth_axis_is_the_channels(tmp_path: Path) -> None:
    frames = [sitk.GetImageFromArray(np.full((2, 3, 4), value, np.float32)) for value in (1, 2)]
    path = tmp_path / "x.nrrd"
    sitk.WriteImage(sitk.JoinSeries(frames), str(path))
    assert read(path).array[:, 0, 0, 0].tolist() == [1, 2]


def test_complex_and_cut_itk_files_are_told(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.float32))
    path = tmp_path / "x.nrrd"
    sitk.WriteImage(sitk.RealAndImaginaryToComplex(image, image), str(path))
    with pytest.raises(DataError, match="complex"):
        read(path)
    path = tmp_path / "y.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).random((9, 9, 9))), str(path), useCompression=True)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match="cannot be read"):
        read(path)


def test_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.nrrd").touch()
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MachineError, match=r"segue\[itk\]"):
        read(tmp_path / "x.nrrd")


PICTURE = np.random.default_rng(3).integers(0, 255, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("L", PICTURE[:, :, 0]),
        ("RGB", PICTURE[:, :, :3]),
        ("RGBA", PICTURE[:, :, :3]),
        ("LA", PICTURE[:, :, 0]),
        ("1", PICTURE[:, :, 0] > 127),
    ],
)
def test_png_of_every_mode(tmp_path: Path, mode: str, expected: np.ndarray) -> None:
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "1": 1}[mode]
    pixels = PICTURE[:, :, :channels] if channels > 1 else PICTURE[:, :, 0]
    picture = Image.fromarray(pixels[..., 0] > 127 if mode == "1" and channels > 1 else pixels)
    if mode == "1":
        picture = Image.fromarray(PICTURE[:, :, 0] > 127)
    if mode == "LA":
        picture = Image.merge("LA", [Image.fromarray(PICTURE[:, :, 0]), Image.fromarray(PICTURE[:, :, 1])])
    assert picture.mode == mode
    picture.save(tmp_path / "x.png")
    ours = read(tmp_path / "x.png")
    stacked = expected[:, :, None] if expected.ndim == 2 else expected
    # The first axis runs to the right, the second one down.
    assert np.array_equal(ours.array[..., 0], stacked.transpose(2, 1, 0))
    header = read_header(tmp_path / "x.png")
    assert header.geometry.shape == ours.geometry.shape == (7, 5, 1)
    assert header.channels == len(ours.array)


def test_pictures_lie_as_itk_reads_them(tmp_path: Path) -> None:
    Image.fromarray(PICTURE[:, :, 0]).save(tmp_path / "x.png")
    image = sitk.ReadImage(str(tmp_path / "x.png"))
    point = image.TransformIndexToPhysicalPoint((6, 4))
    ours = read(tmp_path / "x.png")
    assert (ours.geometry.affine @ [6, 4, 0, 1])[:2].tolist() == [-point[0], -point[1]]
    assert ours.array[0, 6, 4, 0] == image.GetPixel((6, 4))


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png").array[0, :, :, 0].T, pixels)
    assert read_header(tmp_path / "x.png").dtype == np.uint16


def test_a_palette_is_colours_or_the_numbers_of_a_mask(tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    picture = Image.fromarray(numbers).convert("P")
    picture.putdata(numbers.ravel().tolist())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "x.png")
    assert read(tmp_path / "x.png").array[:, 1, 0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(read_labels(tmp_path / "x.png").array[0, :, :, 0].T, numbers)


def test_a_mask_in_colours(tmp_path: Path) -> None:
    grey = np.repeat(PICTURE[:, :, :1] % 3, 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "x.png")
    assert np.array_equal(read_labels(tmp_path / "x.png").array[0, :, :, 0].T, grey[:, :, 0])
    Image.fromarray(PICTURE[:, :, :3]).save(tmp_path / "y.png")
    with pytest.raises(DataError, match="one channel"):
        read_labels(tmp_path / "y.png")


def test_jpeg_as_pillow_decodes_it(tmp_path: Path) -> None:
    Image.fromarray(PICTURE[:, :, :3]).save(tmp_path / "X.JPG")
    assert np.array_equal(
        read(tmp_path / "X.JPG").array[..., 0].transpose(2, 1, 0), np.asarray(Image.open(tmp_path / "X.JPG"))
    )


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (6, 5, 7), (6, 5, 7, 3)])
def test_tiff_pictures_and_stacks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, shape).astype(np.uint16)
    photometric = "rgb" if shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric=photometric)
    ours = read(tmp_path / "x.tif")
    colours = shape[-1] == 3
    whole = pixels if colours else pixels[..., None]
    whole = whole if whole.ndim == 4 else whole[None]
    assert np.array_equal(ours.array, whole.transpose(3, 2, 1, 0))
    header = read_header(tmp_path / "x.tif")
    assert (header.channels, header.geometry.shape, header.dtype) == (len(ours.array), ours.geometry.shape, np.uint16)


@pytest.mark.parametrize("packing", ["lzw", "zlib", "packbits", "lzma", "zstd"])
def test_tiff_however_it_is_packed(tmp_path: Path, packing: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 999, (6, 5, 7)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", pixels, compression=packing, photometric="minisblack")
    assert np.array_equal(read(tmp_path / "x.tif").array[0].T, pixels)


def test_the_extra_of_tiff_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((5, 7), np.uint8), compression="lzw")

    def missing(*_: object, **__: object) -> None:
        raise KeyError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", missing)
    with pytest.raises(MachineError, match=r"segue\[tiff\]"):
        read(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".mha", ".nrrd"])
def test_files_that_are_no_images_are_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"<html>Log in</html>")
    with pytest.raises(DataError, match="cannot be read"):
        read(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_header(path)
    noise = np.random.default_rng(0).integers(0, 255, (99, 99), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "y.png")
    (tmp_path / "z.png").write_bytes((tmp_path / "y.png").read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "z.png")


def test_names() -> None:
    assert image_stem(Path("a/b.c.PNG")) == "b.c"
    assert is_image(Path("x.nrrd"))
    assert not is_image(Path("._x.png"))
    assert not is_image(Path("x.dcm"))


def test_real_pictures(test_data: Path) -> None:
    path = next((test_data / "dsb2018-nuclei").rglob("images/*.png"))
    ours = read(path)
    theirs = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(ours.array[..., 0].transpose(2, 1, 0), theirs)
    dataset = open_dataset(test_data / "isbi-em")
    assert len(dataset.labelled) == 30
    assert read(dataset.labelled[0].files[0]).geometry.shape == (512, 512, 1)
