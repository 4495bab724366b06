"""Geometry, orientation and resampling, against nibabel, SimpleITK and scipy."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from itk import as_sitk
from segue.images import read
from segue.volume import Geometry, Volume, resample_intensity


def by_sitk(array: np.ndarray, source: Geometry, target: Geometry, interpolator: int, fill: float) -> np.ndarray:
    reference = as_sitk(np.zeros(target.shape, dtype=np.float32), target)
    result = sitk.Resample(as_sitk(array, source), reference, sitk.Transform(), interpolator, fill)
    return sitk.GetArrayFromImage(result).T


def oblique(angle: float = 0.3) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = [-10, 5, 7]
    return affine


GRID = Geometry(
    (40, 50, 30), np.diag([1.0, 1.5, 3.0, 1.0]) + np.array([[0, 0, 0, -10], [0, 0, 0, 5], [0, 0, 0, 7], [0] * 4])
)
SHIFTED = Geometry(GRID.shape, GRID.affine + np.array([[0, 0, 0, 3.3], [0, 0, 0, -4.2], [0, 0, 0, 10], [0] * 4]))
TARGETS = {
    "finer": GRID.with_spacing((0.7, 0.7, 0.7)),
    "coarser": GRID.with_spacing((2.0, 2.0, 2.0)),
    "other axes": GRID.with_spacing((1.3, 1.3, 2.0)).oriented("LSP"),
    "beyond the field": SHIFTED,
    "oblique": Geometry((44, 44, 33), oblique()),
    "single slice": GRID.cropped((0, 0, 12), (40, 50, 1)),
}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(0).normal(size=GRID.shape), 1.0).astype(np.float32)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("order", "interpolator"), [(1, sitk.sitkLinear), (3, sitk.sitkBSpline)])
def test_intensities_as_simpleitk(image: np.ndarray, name: str, order: int, interpolator: int) -> None:
    ours = Volume(image[None], GRID).resampled_to(TARGETS[name], order=order, fill=-9.0).array[0]  # type: ignore[arg-type]
    theirs = by_sitk(image, GRID, TARGETS[name], interpolator, -9.0)
    assert np.abs(ours - theirs).max() < 2e-6


@pytest.mark.parametrize("name", ["finer", "coarser", "other axes", "oblique", "beyond the field"])
def test_labels_as_simpleitk(name: str) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=GRID.shape), 3)
    labels = (smooth * 60).clip(0, 3).astype(np.uint8)
    ours = Volume(labels[None], GRID, "labels").resampled_to(TARGETS[name]).array[0]
    theirs = by_sitk(labels, GRID, TARGETS[name], sitk.sitkLabelLinear, 0.0)
    # They differ only where two labels have the same weight.
    assert (ours != theirs).mean() < 1e-3
    assert ours.dtype == np.uint8


def one_hot(labels: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    """Every label's indicator over the whole volume, interpolated linearly along one axis after the other."""
    index_map = np.linalg.inv(source.affine) @ target.affine
    best, winner = np.zeros(target.shape), np.zeros(target.shape, labels.dtype)
    for label in np.unique(labels):
        score = (labels == label).astype(float)
        for axis in range(3):
            place = index_map[axis, axis] * np.arange(target.shape[axis]) + index_map[axis, 3]
            inside = (place > -0.5 - 1e-6) & (place < source.shape[axis] - 0.5 + 1e-6)
            place = place.clip(0, source.shape[axis] - 1)
            low = np.floor(place).astype(int)
            high = np.minimum(low + 1, source.shape[axis] - 1)
            part = (place - low).reshape([-1 if a == axis else 1 for a in range(3)])
            score = score.take(low, axis) * (1 - part) + score.take(high, axis) * part
            score *= inside.reshape(part.shape)
        wins = score > best + 1e-6
        best[wins], winner[wins] = score[wins], label
    return winner


@pytest.mark.parametrize("slab", [500, 4_000_000])
@pytest.mark.parametrize("smooth", [0, 1, 4])
def test_labels_in_slabs_are_those_of_whole_indicators(monkeypatch: pytest.MonkeyPatch, smooth: int, slab: int) -> None:
    monkeypatch.setattr("segue.volume.resample._SLAB_VOXELS", slab)
    random = np.random.default_rng(smooth)
    for name, least in (("finer", 0), ("coarser", 0), ("beyond the field", 0), ("coarser", 1), ("single slice", 0)):
        noise = ndimage.gaussian_filter(random.normal(size=GRID.shape), smooth)
        labels = (noise / noise.std() * 2).round().clip(least, 5).astype(np.uint8)
        for stored in (labels, np.asfortranarray(labels)[::-1][::-1], np.ascontiguousarray(labels.T).T):
            ours = Volume(stored[None], GRID, "labels").resampled_to(TARGETS[name]).array[0]
            assert np.array_equal(ours, one_hot(labels, GRID, TARGETS[name])), name


def test_what_is_done_with_slices_and_where_they_go_changes_no_value(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.volume.resample._BLOCK_VOXELS", 5000)
    for grid in (TARGETS["finer"], TARGETS["coarser"], GRID.with_spacing((0.8, 1.5, 3.0)), GRID, TARGETS["oblique"]):
        plain = resample_intensity(2 * image, GRID, grid, fill=-9.0)
        for stored in (
            image,
            np.asfortranarray(image),
            np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1),
        ):
            out = np.empty(grid.shape, np.float16, order="F")
            found = resample_intensity(stored, GRID, grid, fill=-9.0, each=lambda some: 2 * some, out=out)
            assert found is out
            assert np.abs(out - plain).max() < 2e-3 * np.abs(plain).max()


def test_a_tiny_label_with_a_large_number_survives() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint16)
    labels[20:23, 20:23, 15] = 4711
    target = GRID.with_spacing((1.0, 1.0, 1.0))
    result = Volume(labels[None], GRID, "labels").resampled_to(target).array[0]
    assert set(np.unique(result)) == {0, 4711}
    assert (result == 4711).sum() * target.voxel_ml == pytest.approx(9 * GRID.voxel_ml, rel=0.4)


def test_a_single_slice_is_constant_along_its_axis() -> None:
    grid = Geometry((8, 8, 1), np.diag([1.0, 1.0, 5.0, 1.0]))
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    result = Volume(image, grid).resampled_to(grid.with_spacing((1.0, 1.0, 1.0)))
    assert result.geometry.shape == (8, 8, 5)
    assert np.abs(result.array - image).max() < 1e-5


def test_channels_are_resampled_one_by_one(image: np.ndarray) -> None:
    both = Volume(np.stack([image, 2 * image]), GRID).resampled_to(TARGETS["coarser"]).array
    assert np.allclose(both[1], 2 * both[0], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(0.4, 4.0)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_new_spacing_keeps_the_field_of_view(
    spacing: tuple[float, float, float], shape: tuple[int, int, int]
) -> None:
    grid = Geometry(shape, oblique())
    other = grid.with_spacing(spacing)

    def faces(g: Geometry) -> np.ndarray:
        return np.array([g.affine @ [*(s * np.array(g.shape) - 0.5), 1] for s in itertools.product((0, 1), repeat=3)])

    assert np.abs(faces(grid) - faces(other)).max() < 1e-9


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLP", "ILA", "PRI"])
def test_orientation_as_nibabel_and_back(image: np.ndarray, codes: str) -> None:
    volume = Volume(image[None], GRID)
    turned = volume.oriented(codes)
    theirs = nibabel.Nifti1Image(image, GRID.affine).as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(GRID.affine), nibabel.orientations.axcodes2ornt(tuple(codes))
        )
    )
    assert np.array_equal(turned.array[0], np.asarray(theirs.dataobj))
    assert np.abs(turned.geometry.affine - theirs.affine).max() < 1e-9
    back = turned.oriented("RAS")
    assert np.array_equal(back.array, volume.array)
    assert back.geometry.difference(GRID) is None


def test_all_48_orientations_read_into_one_volume(test_data: Path) -> None:
    files = sorted((test_data / "volumes" / "orientations").glob("*.nii.gz"))
    assert len(files) == 48
    first = read(files[0]).oriented("RAS")
    for file in files:
        volume = read(file)
        assert volume.geometry.axis_codes == file.name[:3]
        canonical = volume.oriented("RAS")
        assert np.array_equal(canonical.array, first.array)
        assert canonical.geometry.difference(first.geometry) is None


def test_grids_are_compared_in_words() -> None:
    assert GRID.difference(Geometry(GRID.shape, GRID.affine + 1e-6)) is None
    shift = GRID.affine.copy()
    shift[0, 3] += 1.0
    assert GRID.difference(Geometry(GRID.shape, shift)) == "positions differ by up to 1 mm"
    assert "shape" in (GRID.difference(GRID.cropped((0, 0, 0), (40, 50, 29))) or "")
    assert "orientation" in (GRID.difference(Geometry(GRID.shape, GRID.affine @ np.diag([-1, 1, 1, 1]))) or "")
    assert "spacing" in (GRID.difference(Geometry(GRID.shape, GRID.affine @ np.diag([1.1, 1, 1, 1]))) or "")


def test_shear_is_measured_and_volume_stays_right() -> None:
    sheared = GRID.affine.copy()
    sheared[0, 1] = 1.5 * np.tan(np.radians(10))
    grid = Geometry(GRID.shape, sheared)
    assert grid.is_sheared
    assert grid.shear_degrees == pytest.approx(10, abs=1e-6)
    assert grid.voxel_ml == pytest.approx(1.0 * 1.5 * 3.0 / 1000)
    assert not GRID.is_sheared


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_an_impossible_affine_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"singular|finite"):
        Geometry((2, 2, 2), affine)


@pytest.mark.parametrize("axes", ["".join(order) for order in itertools.permutations("ijk")])
def test_oblique_linear_whatever_the_order_in_memory(image: np.ndarray, axes: str) -> None:
    """DICOM and NIfTI are read with their first axis fastest; the values are the same."""
    order = ["ijk".index(axis) for axis in axes]
    moved = np.ascontiguousarray(image.transpose(order)).transpose(np.argsort(order))
    grid = TARGETS["oblique"]
    theirs = by_sitk(image, GRID, grid, sitk.sitkLinear, -5.0)
    ours = Volume(moved[None], GRID).resampled_to(grid, order=1, fill=-5.0).array[0]
    assert np.abs(ours - theirs).max() < 1e-5 * np.abs(image).max()


def test_oblique_linear_far_away_and_of_one_slice() -> None:
    """A linear function of the place keeps its value wherever it is asked for; far from the image there is none."""
    turned = np.eye(4)
    turned[:3, :3] = np.array(sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3).GetMatrix()).reshape(3, 3)
    slice_grid = Geometry((40, 30, 1), np.diag([1.0, 1.0, 50.0, 1.0]))
    i, j = np.meshgrid(np.arange(40.0), np.arange(30.0), indexing="ij")
    flat = Volume((2 * i - j).astype(np.float32)[None, ..., None], slice_grid)
    asked = turned.copy()
    asked[:3, 3] = (10, 8, 0)
    grid = Geometry((6, 5, 4), asked)
    points = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1) @ asked[:3, :3].T + asked[:3, 3]
    found = flat.resampled_to(grid, order=1).array[0]
    assert np.abs(found - (2 * points[..., 0] - points[..., 1])).max() < 1e-4
    asked[:3, 3] = (1e6, 0, 0)
    assert (flat.resampled_to(Geometry((6, 5, 4), asked), order=1, fill=-3.0).array == -3.0).all()
    long = turned.copy()
    long[:3, :3] *= 1000.0
    long[:3, 3] = (20, 15, 0)
    reached = flat.resampled_to(Geometry((50, 2, 2), long), order=1, fill=-3.0).array[0]
    assert reached[0, 0, 0] == pytest.approx(25.0, abs=1e-3)  # 2 * 20 - 15, in coordinates of 64 bits
    assert (reached.ravel()[1:] == -3.0).all()
