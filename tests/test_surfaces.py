"""Surface distances against MONAI (HD95, ASSD) and surface-distance (NSD, robust Hausdorff)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import surface_distance
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from segue.images import read_labels
from segue.metrics import SurfaceScores, surface_scores
from segue.metrics.surfaces import robust_hausdorff_mm

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

Pair = tuple[np.ndarray, np.ndarray]


def smooth(random: np.random.Generator, shape: Sequence[int]) -> Pair:
    first, second = (ndimage.gaussian_filter(random.normal(size=shape), 2) for _ in range(2))
    return first > 0.02, first + 0.5 * second > 0.02


def noise(random: np.random.Generator, shape: Sequence[int]) -> Pair:
    return random.random(shape) > 0.5, random.random(shape) > 0.5


def single_voxels(random: np.random.Generator, shape: Sequence[int]) -> Pair:
    masks = np.zeros((2, *shape), bool)
    for mask in masks:
        mask[tuple(random.integers(0, shape))] = True
    return masks[0], masks[1]


def scattered(random: np.random.Generator, shape: Sequence[int]) -> Pair:
    first, second = random.random(shape) > 0.99, random.random(shape) > 0.99
    first.flat[0] = second.flat[-1] = True
    return first, second


def over_the_border(random: np.random.Generator, shape: Sequence[int]) -> Pair:
    first, second = np.zeros(shape, bool), np.zeros(shape, bool)
    first[:-1, 2:] = second[1:] = True
    return first, second


def far_apart(random: np.random.Generator, shape: Sequence[int]) -> Pair:
    first, second = np.zeros(shape, bool), np.zeros(shape, bool)
    first[:2, :2] = second[-2:] = True
    return first, second


KINDS: list[Callable[[np.random.Generator, Sequence[int]], Pair]] = [
    smooth,
    noise,
    single_voxels,
    scattered,
    over_the_border,
    far_apart,
]
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 1.3, 0.1), (0.98, 2.04, 2.04)]


def by_monai(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> tuple[float, float]:
    batches = [torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (prediction, truth)]
    hd95 = compute_hausdorff_distance(*batches, include_background=True, percentile=95, spacing=list(spacing))
    assd = compute_average_surface_distance(*batches, include_background=True, symmetric=True, spacing=list(spacing))
    return hd95.item(), assd.item()


def assert_as_monai(ours: SurfaceScores, prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> None:
    """MONAI computes in float32, also the place of the percentile between two of many distances."""
    hd95, assd = by_monai(prediction, truth, spacing)
    assert ours.hd95_mm == pytest.approx(hd95, rel=2e-6, abs=5e-5 * max(spacing))
    assert ours.assd_mm == pytest.approx(assd, rel=2e-6)


def by_surface_distance(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], tolerance: float
) -> tuple[float, float]:
    found = surface_distance.compute_surface_distances(truth, prediction, spacing)
    nsd = surface_distance.compute_surface_dice_at_tolerance(found, tolerance)
    return nsd, surface_distance.compute_robust_hausdorff(found, 95)


def assert_as_theirs(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...], tolerance: float) -> None:
    ours = surface_scores(prediction, truth, spacing, tolerance)
    assert ours is not None
    assert_as_monai(ours, prediction, truth, spacing)
    nsd, robust = by_surface_distance(prediction, truth, spacing, tolerance)
    assert ours.nsd == pytest.approx(nsd, abs=1e-12)
    assert robust_hausdorff_mm(prediction, truth, spacing) == pytest.approx(robust, rel=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_as_monai_and_surface_distance(
    kind: Callable[[np.random.Generator, Sequence[int]], Pair], spacing: tuple[float, ...]
) -> None:
    random = np.random.default_rng(KINDS.index(kind))
    for shape, tolerance in (((17, 12, 9), 1.0), ((2, 30, 8), 2.0), ((8, 9, 40), 0.0), ((24, 7, 11), 12.5)):
        assert_as_theirs(*kind(random, shape), spacing, tolerance)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.7)])
def test_a_single_slice_is_measured_in_its_plane(axis: int, spacing: tuple[float, ...]) -> None:
    random = np.random.default_rng(axis)
    for kind in KINDS:
        prediction, truth = (mask[..., 0] for mask in kind(random, (23, 18, 1)))
        flat = [np.expand_dims(mask, axis) for mask in (prediction, truth)]
        ours = surface_scores(*flat, spacing[:axis] + (7.0,) + spacing[axis:], 1.5)
        assert ours is not None
        assert_as_monai(ours, prediction, truth, spacing)
        assert ours.nsd == pytest.approx(by_surface_distance(prediction, truth, spacing, 1.5)[0], abs=1e-12)


def test_nsd_as_monai_with_sub_voxels() -> None:
    prediction, truth = smooth(np.random.default_rng(3), (30, 24, 18))
    spacing = (0.8, 1.0, 2.5)
    batches = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    theirs = compute_surface_dice(
        *batches, class_thresholds=[1.0], include_background=True, spacing=list(spacing), use_subvoxels=True
    )
    ours = surface_scores(prediction, truth, spacing, 1.0)
    assert ours is not None
    assert ours.nsd == pytest.approx(theirs.item(), abs=1e-5)


def test_hippocampus(hippocampus: Path) -> None:
    for path in sorted((hippocampus / "labelsTr").glob("*.nii.gz"))[:4]:
        volume = read_labels(path)
        truth = volume.array[0]
        prediction = np.roll(ndimage.median_filter(truth, 3), 1, axis=1)
        for label in (1, 2):
            assert_as_theirs(prediction == label, truth == label, volume.geometry.spacing_mm, 1.0)


def test_sarcoma_on_an_anisotropic_grid(test_data: Path) -> None:
    volume = read_labels(test_data / "sts-petct" / "nifti" / "STS_001" / "PET_mask.nii.gz")
    truth = volume.array[0] > 0
    assert max(volume.geometry.spacing_mm) > min(volume.geometry.spacing_mm)
    for prediction in (ndimage.binary_opening(truth, iterations=2), np.roll(truth, (3, -2, 1), (0, 1, 2))):
        assert_as_theirs(prediction, truth, volume.geometry.spacing_mm, 3.0)


def test_organs(test_data: Path) -> None:
    volume = read_labels(test_data / "totalsegmentator" / "example_seg.nii.gz")
    truth = volume.array[0]
    prediction = ndimage.grey_opening(truth, 3)
    measured = 0
    for label in np.unique(truth)[1::6]:
        if (prediction == label).any():
            assert_as_theirs(prediction == label, truth == label, volume.geometry.spacing_mm, 2.0)
            measured += 1
    assert measured >= 5


def test_empty_masks() -> None:
    nothing, something = np.zeros((2, 20, 30, 40), bool)
    something[3, 4, 5] = True
    spacing = (1.0, 2.0, 0.5)
    assert surface_scores(nothing, nothing, spacing, 1.0) is None
    for pair in ((nothing, something), (something, nothing)):
        ours = surface_scores(*pair, spacing, 1.0)
        assert ours is not None
        # 20, 60 and 20 mm.
        assert (ours.hd95_mm, ours.assd_mm, ours.nsd) == (pytest.approx(4400**0.5), pytest.approx(4400**0.5), 0.0)
    flat = surface_scores(nothing[..., :1], something[..., 5:6], spacing, 1.0)
    assert flat is not None
    assert flat.hd95_mm == pytest.approx(4000**0.5)


def test_the_same_mask_has_no_distance() -> None:
    mask = smooth(np.random.default_rng(0), (12, 12, 12))[0]
    ours = surface_scores(mask, mask, (1.0, 1.0, 3.0), 0.0)
    assert ours is not None
    assert (ours.hd95_mm, ours.assd_mm, ours.nsd) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("voxels", [3, 40])
def test_a_distance_of_just_the_tolerance_is_within_it(voxels: int) -> None:
    first, second = np.zeros((2, 60, 6, 6), bool)
    first[5, 2:4, 2:4] = second[5 + voxels, 2:4, 2:4] = True
    spacing = (0.7, 1.0, 1.0)
    for tolerance, within in ((0.7 * voxels, True), (0.7 * voxels - 1e-6, False)):
        ours = surface_scores(first, second, spacing, tolerance)
        assert ours is not None
        assert ours.nsd == pytest.approx(by_surface_distance(first, second, spacing, tolerance)[0], abs=1e-12)
        # The two faces that look away from each other are a voxel further apart only from the nearer face.
        assert (ours.nsd == 1.0) == within


def test_unknown_voxels_are_background() -> None:
    random = np.random.default_rng(5)
    prediction, truth = smooth(random, (20, 20, 20))
    valid = random.random((20, 20, 20)) > 0.1
    valid[:4] = False
    clipped = surface_scores(prediction & valid, truth & valid, (1.0, 1.0, 2.0), 1.0)
    assert surface_scores(prediction, truth, (1.0, 1.0, 2.0), 1.0, valid) == clipped
    assert surface_scores(prediction, truth, (1.0, 1.0, 2.0), 1.0, np.zeros_like(valid)) is None


def test_the_order_in_memory_changes_nothing() -> None:
    prediction, truth = smooth(np.random.default_rng(6), (20, 15, 11))
    expected = surface_scores(prediction, truth, (0.7, 1.1, 2.3), 1.1)
    for order in (np.asfortranarray, lambda mask: np.flip(np.flip(mask).copy())):
        ours = surface_scores(order(prediction), order(truth), (0.7, 1.1, 2.3), 1.1)
        assert ours is not None
        assert expected is not None
        assert (ours.hd95_mm, ours.assd_mm, ours.nsd) == pytest.approx(
            (expected.hd95_mm, expected.assd_mm, expected.nsd), rel=1e-12
        )
