"""What segue writes: read back by itself and by others, bit for bit; and the formats that came with it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

import segue
from itk import as_sitk
from segue.core.errors import DataError
from segue.images import WRITTEN_SUFFIXES, align, read, read_header, write
from segue.volume import Geometry, Volume

TURN = np.array(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix()).reshape(3, 3)


def oblique(shape: tuple[int, int, int]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = TURN @ np.diag([0.5, -0.75, 3.0])
    affine[:3, 3] = (10, -20, 30)
    return Geometry(shape, affine)


def as_pictures(shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1)) -> Geometry:
    return Geometry(shape, np.diag([-spacing[0], -spacing[1], spacing[2], 1.0]))


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng(0)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.normal(size=shape).astype(kind)
    return random.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, kind, endpoint=True)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".npz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4"])
@pytest.mark.parametrize("channels", [1, 3])
def test_volumes_read_back_the_same(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    volume = Volume(noise((channels, 5, 6, 7), dtype), oblique((5, 6, 7)))
    segue.write(volume, tmp_path / f"x{suffix}")
    back = segue.read(tmp_path / f"x{suffix}")
    assert back.array.dtype == volume.array.dtype
    assert np.array_equal(back.array, volume.array)
    assert np.abs(back.geometry.affine - volume.geometry.affine).max() < 1e-5


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_itk_reads_what_is_written(tmp_path: Path, suffix: str) -> None:
    volume = Volume(noise((1, 5, 6, 7), "i2"), oblique((5, 6, 7)))
    write(volume, tmp_path / f"x{suffix}")
    theirs, expected = sitk.ReadImage(str(tmp_path / f"x{suffix}")), as_sitk(volume.array[0], volume.geometry)
    assert np.array_equal(sitk.GetArrayFromImage(theirs), sitk.GetArrayFromImage(expected))
    assert theirs.GetSpacing() == pytest.approx(expected.GetSpacing())
    assert theirs.GetOrigin() == pytest.approx(expected.GetOrigin())
    assert theirs.GetDirection() == pytest.approx(expected.GetDirection())


def test_all_48_orientations_come_back_bit_for_bit(test_data: Path, tmp_path: Path) -> None:
    paths = sorted((test_data / "volumes" / "orientations").glob("*.nii.gz"))
    assert len(paths) == 48
    for path in paths:
        volume = read(path)
        codes = volume.geometry.axis_codes
        again = volume.oriented("RAS").oriented(codes)
        write(again, tmp_path / path.name)
        theirs, back = nibabel.load(path), nibabel.load(tmp_path / path.name)
        # The files store bytes and a slope; what is written back are the real values.
        assert np.asarray(back.dataobj).tobytes() == np.asarray(theirs.dataobj, np.float32).tobytes()
        assert np.array_equal(read(tmp_path / path.name).array, volume.array)
        assert np.abs(back.affine - theirs.affine).max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 7, 5, 1), (1, 7, 5, 3), (3, 7, 5, 1), (3, 7, 5, 4)])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_tiff_keeps_voxel_size(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    volume = Volume(noise(shape, dtype), as_pictures(shape[1:], (0.5, 0.25, 2.0)))  # type: ignore[arg-type]
    write(volume, tmp_path / "x.tif")
    back = read(tmp_path / "x.tif")
    assert back.array.dtype == volume.array.dtype
    assert np.array_equal(back.array, volume.array)
    assert back.geometry.difference(volume.geometry) is None
    assert read_header(tmp_path / "x.tif").geometry.difference(volume.geometry) is None
    theirs = tifffile.imread(tmp_path / "x.tif")
    assert np.array_equal(theirs.reshape(shape[3], 5, 7, shape[0]).transpose(3, 2, 1, 0), volume.array)


def test_the_voxel_size_of_imagej(tmp_path: Path) -> None:
    pixels = noise((3, 5, 7), "u2")
    where = tmp_path / "x.tif"
    tifffile.imwrite(
        where, pixels, imagej=True, resolution=(4.0, 2.0), metadata={"spacing": 3.0, "unit": "um", "axes": "ZYX"}
    )
    assert read(where).geometry.spacing_mm == pytest.approx((0.25e-3, 0.5e-3, 3e-3))
    assert np.array_equal(read(where).array[0].T, pixels)


@pytest.mark.parametrize(("shape", "dtype"), [((1, 7, 5, 1), "u1"), ((1, 7, 5, 1), "u2"), ((3, 7, 5, 1), "u1")])
def test_png_as_pillow_reads_it(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    volume = Volume(noise(shape, dtype), as_pictures((7, 5, 1)))
    write(volume, tmp_path / "x.png")
    theirs = np.asarray(Image.open(tmp_path / "x.png")).reshape(5, 7, shape[0])
    assert np.array_equal(theirs.transpose(2, 1, 0)[..., None], volume.array)
    assert np.array_equal(read(tmp_path / "x.png").array, volume.array)


@pytest.mark.parametrize(
    ("name", "volume", "why"),
    [
        ("x.png", Volume(noise((1, 7, 5, 2), "u1"), as_pictures((7, 5, 2))), "2 slices"),
        ("x.png", Volume(noise((1, 7, 5, 1), "f4"), as_pictures((7, 5, 1))), "float32"),
        ("x.png", Volume(noise((3, 7, 5, 1), "u2"), as_pictures((7, 5, 1))), "uint16"),
        ("x.png", Volume(noise((1, 7, 5, 1), "u1"), as_pictures((7, 5, 1), (2, 2, 2))), "spacing"),
        ("x.tif", Volume(noise((2, 7, 5, 1), "u1"), as_pictures((7, 5, 1))), "2 channels"),
        ("x.tif", Volume(noise((1, 7, 5, 3), "u1"), oblique((7, 5, 3))), "orientation|positions"),
        ("x.mha", Volume(noise((1, 7, 5, 3), "u1").astype(complex), oblique((7, 5, 3))), "complex"),
        ("x.nrrd", Volume(noise((1, 2, 2, 2), "u1"), Geometry((2, 2, 2), np.eye(4) + np.eye(4, k=1) / 2)), "degrees"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path: Path, name: str, volume: Volume, why: str) -> None:
    with pytest.raises(DataError, match=why) as caught:
        write(volume, tmp_path / name)
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_labels_take_the_smallest_type(tmp_path: Path) -> None:
    for high, kind in ((255, np.uint8), (256, np.uint16), (70_000, np.uint32)):
        labels = np.zeros((1, 4, 5, 6), np.int64)
        labels[0, 0, 0, 0] = high
        for suffix in (".nii.gz", ".mha", ".nrrd", ".npz"):
            write(Volume(labels, oblique((4, 5, 6)), "labels"), tmp_path / f"x{suffix}")
            back = segue.read_labels(tmp_path / f"x{suffix}")
            assert back.array.dtype == kind
            assert np.array_equal(back.array, labels)


def test_other_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written are \.nii"):
        write(Volume(noise((1, 2, 2, 2), "u1"), oblique((2, 2, 2))), tmp_path / "x.bmp")
    assert ".nii.gz" in WRITTEN_SUFFIXES


# The formats that are read beside


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("asked", [".hdr", ".img"])
def test_nifti_in_two_files(tmp_path: Path, kind: type, asked: str) -> None:
    array = noise((4, 5, 6), "i2")
    nibabel.save(kind(array, oblique((4, 5, 6)).affine), tmp_path / "x.img")
    ours = read(tmp_path / f"x{asked}")
    assert np.array_equal(ours.array[0], array)
    assert ours.geometry.difference(oblique((4, 5, 6))) is None
    (tmp_path / "x.img").unlink()
    with pytest.raises(DataError, match=r"there is no x\.img|no such image"):
        read(tmp_path / f"x{asked}")


def test_nifti_2(tmp_path: Path) -> None:
    array = noise((4, 5, 6), "f4")
    for suffix in (".nii", ".nii.gz"):
        nibabel.save(nibabel.Nifti2Image(array, oblique((4, 5, 6)).affine), tmp_path / f"x{suffix}")
        assert np.array_equal(read(tmp_path / f"x{suffix}").array[0], array)


def test_analyze_is_refused_since_it_has_no_left_and_right(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(noise((4, 5, 6), "i2"), np.eye(4)), tmp_path / "x.img")
    with pytest.raises(DataError, match=r"ANALYZE"):
        read(tmp_path / "x.hdr")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (4, 5, 6)])
def test_the_one_array_of_an_npz(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = noise(shape, "u1")
    np.savez_compressed(tmp_path / "x.npz", picture=array)
    ours = read(tmp_path / "x.npz").array
    if len(shape) == 3 and shape[2] == 3:
        assert np.array_equal(ours[..., 0], array.transpose(2, 1, 0))
    elif len(shape) == 2:
        assert np.array_equal(ours[0, :, :, 0], array.T)
    else:
        assert np.array_equal(ours[0], array)


def test_an_npz_of_many_arrays_or_objects_is_no_image(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=noise((2, 4, 4), "u1"), val_images=noise((2, 4, 4), "u1"))
    with pytest.raises(DataError, match="2 arrays"):
        read(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", a=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="objects"):
        read(tmp_path / "y.npz")


# Channels on one grid


def test_channels_come_to_the_grid_of_the_first(tmp_path: Path) -> None:
    """A linear function of the place: on any grid, a cubic spline gives back its value there."""
    pet = Geometry((20, 18, 16), np.diag([4.0, 4.0, 5.0, 1.0]))
    moved = np.diag([1.5, 1.5, 2.0, 1.0])
    moved[:3, 3] = (-10, -12, -8)
    ct = Geometry((80, 80, 60), moved)

    def plane(grid: Geometry) -> np.ndarray:
        index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
        points = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        return (points @ [1.0, -2.0, 0.5]).astype(np.float32)[None]

    first = Volume(plane(pet), pet, unit="SUV")
    both = align([first, Volume(plane(ct), ct, unit="HU")], fill=(0.0, -1024.0))
    assert both.volume.geometry is pet
    assert both.moved[0] is None and both.covered[0] == 1.0
    assert both.moved[1] is not None and "80x80x60" in both.moved[1]
    assert np.array_equal(both.volume.array[0], first.array[0])
    inside = (slice(2, -2),) * 3
    assert np.abs(both.volume.array[1] - plane(pet)[0])[inside].max() < 2e-3
    assert both.covered[1] == pytest.approx(1.0)


def test_outside_is_what_was_asked_for_and_elsewhere_is_refused() -> None:
    grid = Geometry((10, 10, 10), np.eye(4))
    beside = np.eye(4)
    beside[0, 3] = 5
    half = align(
        [Volume(np.ones((1, 10, 10, 10)), grid), Volume(np.ones((1, 10, 10, 10)), Geometry((10, 10, 10), beside))],
        fill=-7,
    )
    assert half.covered[1] == pytest.approx(0.5)
    assert (half.volume.array[1, :5] == -7).all()
    assert half.volume.array[1, 5:] == pytest.approx(1.0)
    beside[0, 3] = 500
    with pytest.raises(DataError, match="different places") as caught:
        align(
            [Volume(np.ones((1, 10, 10, 10)), grid), Volume(np.ones((1, 10, 10, 10)), Geometry((10, 10, 10), beside))]
        )
    assert "0.0%" in str(caught.value)
    with pytest.raises(ValueError, match="2 values"):
        align([Volume(np.ones((1, 10, 10, 10)), grid)], fill=(1, 2))


def test_channels_of_one_grid_are_not_touched() -> None:
    grid = oblique((4, 5, 6))
    images = [Volume(noise((1, 4, 5, 6), "i2"), grid), Volume(noise((2, 4, 5, 6), "i2"), grid)]
    both = align(images)
    assert both.volume.array.dtype == np.int16
    assert np.array_equal(both.volume.array, np.concatenate([image.array for image in images]))


def test_masks_of_a_label_map(tmp_path: Path) -> None:
    labels = np.zeros((1, 6, 6, 6), np.uint8)
    labels[0, 1:3, 1:3, 1:3], labels[0, 4, 4, 4] = 1, 7
    write(Volume(labels, oblique((6, 6, 6)), "labels"), tmp_path / "x.nii.gz")
    masks = segue.read_masks(tmp_path / "x.nii.gz", names={1: "liver"})
    assert [(segment.number, segment.name, segment.mask.sum()) for segment in masks.segments] == [
        (1, "liver", 8),
        (7, "7", 1),
    ]
