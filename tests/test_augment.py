"""Augmentation: every transform against an independent implementation, what is drawn against nnU-Net's distribution."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrast, ScaleIntensityFixedMean
from scipy import ndimage, stats
from scipy.interpolate import BSpline

from segue.catalogue import Channel
from segue.model import Augmentation, AugmentSettings, augment, draw_augmentation, thick_axis
from segue.model.augment import affine_in_mm
from segue.prepare import Network, Normalisation, Plan
from segue.train import MaskObjective

NONE = AugmentSettings(
    rotation_probability=0,
    scaling_probability=0,
    noise_probability=0,
    blur_probability=0,
    brightness_probability=0,
    contrast_probability=0,
    low_resolution_probability=0,
    inverted_gamma_probability=0,
    gamma_probability=0,
)
# Everything at once, often.
ALL = AugmentSettings(
    mirror_axes=(0, 1, 2),
    elastic_probability=0.5,
    misaligned_channels=(0,),
    misalignment_probability=0.5,
    **{name: 0.5 for name in vars(NONE) if name.endswith("_probability") and not name.startswith(("mis", "ela"))},
)
SPACINGS = [(1.0, 1.0, 1.0), (1.0, 2.0, 3.0), (0.7, 0.7, 4.0)]
SHAPE = (18, 16, 14)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(batch: int = 1, channels: int = 1, **changes: Any) -> Augmentation:
    return replace(draw_augmentation(NONE, batch, channels, seeded()), **changes)


def picture(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2).astype(np.float32)


def blocks(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> np.ndarray:
    """Label numbers 0, 1, 2 in blocks of some voxels."""
    coarse = np.random.default_rng(seed).integers(0, 3, [-(-n // 3) for n in shape])
    return np.kron(coarse, np.ones([3] * len(shape), np.int64))[tuple(slice(n) for n in shape)]


def applied(
    image: np.ndarray,
    labels: np.ndarray | None = None,
    spacing: tuple[float, ...] = SPACINGS[0],
    padding: float = 0.0,
    **changes: Any,
) -> tuple[np.ndarray, np.ndarray | None]:
    """One image of one channel, changed so."""
    marks = None if labels is None else torch.from_numpy(labels)[None]
    images = torch.from_numpy(image)[None, None]
    result, marks = augment(images, marks, drawn(**changes), spacing, torch.tensor([padding]))
    return result[0, 0].numpy(), None if marks is None else marks[0].numpy()


def turned_about(axis: int, angle: float) -> np.ndarray:
    matrix = np.eye(3)
    a, b = [n for n in range(3) if n != axis]
    matrix[a, a] = matrix[b, b] = math.cos(angle)
    matrix[a, b], matrix[b, a] = -math.sin(angle), math.sin(angle)
    return matrix


def by_scipy(image: np.ndarray, places: np.ndarray, padding: float, order: int = 1) -> np.ndarray:
    return ndimage.map_coordinates(image, places, order=order, mode="grid-constant", cval=padding)


def centred_places(matrix: np.ndarray, shape: tuple[int, ...], offset: np.ndarray | float = 0.0) -> np.ndarray:
    """``(3, i, j, k)``: where each voxel looks, about the centre; ``offset`` is added before."""
    centre = ((np.array(shape) - 1) / 2).reshape(3, 1, 1, 1)
    return np.einsum("ab,bijk->aijk", matrix, np.indices(shape) - centre + offset) + centre


# --- the spatial part ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_and_scaling_in_millimetres_as_scipy(spacing: tuple[float, ...], axis: int) -> None:
    image, labels = picture(), blocks()
    angles = torch.zeros(1, 3)
    angles[0, axis] = 0.3
    ours, marks = applied(image, labels, spacing, -2.0, angles=angles, scale=torch.full((1, 3), 1.1))
    matrix = np.diag(1 / np.array(spacing)) @ turned_about(axis, 0.3) @ np.diag(spacing) / 1.1
    places = centred_places(matrix, SHAPE)
    assert np.abs(ours - by_scipy(image, places, -2.0)).max() < 1e-3
    assert marks is not None
    assert (marks != by_scipy(labels, places, 0, order=0)).mean() < 1e-3


def test_three_rotations_a_mirror_and_a_scale_are_one_resampling() -> None:
    image, labels, spacing = picture(), blocks(), (1.0, 2.0, 3.0)
    angles, scale, mirror = (0.2, -0.3, 0.25), (0.9, 1.2, 1.1), (1.0, -1.0, 1.0)
    ours, marks = applied(
        image,
        labels,
        spacing,
        angles=torch.tensor([angles]),
        scale=torch.tensor([scale]),
        mirror=torch.tensor([mirror]),
    )
    turn = turned_about(0, angles[0]) @ turned_about(1, angles[1]) @ turned_about(2, angles[2])
    millimetres = np.diag(spacing)
    matrix = np.linalg.inv(millimetres) @ turn @ np.diag(np.array(mirror) / scale) @ millimetres
    places = centred_places(matrix, SHAPE)
    assert np.abs(ours - by_scipy(image, places, 0.0)).max() < 1e-3
    assert marks is not None
    assert (marks != by_scipy(labels, places, 0, order=0)).mean() < 1e-3


def test_a_rotation_keeps_lengths_in_millimetres() -> None:
    spacing = np.array([0.8, 0.8, 3.0])
    matrix = affine_in_mm(torch.tensor([[0.4, 0.2, -0.3]]), torch.ones(1, 3), (32, 32, 10), spacing.tolist())[0]
    in_mm = np.diag(spacing) @ matrix.numpy() @ np.diag(1 / spacing)
    assert np.allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(in_mm) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_elastic_deformation_as_scipy(spacing: tuple[float, ...]) -> None:
    image, labels = picture(), blocks()
    elastic = 4 * torch.rand(1, 3, 7, 7, 7, generator=seeded()) - 2
    angles = torch.tensor([[0.0, 0.0, 0.2]])
    ours, marks = applied(image, labels, spacing, -1.0, elastic=elastic, angles=angles)
    # Seven control points are those of a cubic B-spline with four intervals over the image.
    weights = []
    for size in SHAPE:
        place = (np.arange(size) + 0.5) / size * 4
        weights.append(BSpline.design_matrix(place, np.arange(-3, 8), 3).toarray())
    field = np.einsum("ia,jb,kc,xabc->xijk", *weights, elastic[0].numpy())
    assert np.abs(field).max() <= 2  # never beyond the control points
    size_mm = np.array(spacing)
    matrix = np.diag(1 / size_mm) @ turned_about(2, 0.2) @ np.diag(size_mm)
    places = centred_places(matrix, SHAPE, field / size_mm.reshape(3, 1, 1, 1))
    assert np.abs(ours - by_scipy(image, places, -1.0)).max() < 1e-3
    assert marks is not None
    assert (marks != by_scipy(labels, places, 0, order=0)).mean() < 2e-3


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_a_mirrored_image_is_numpys(axes: tuple[int, ...]) -> None:
    image, labels = picture(), blocks()
    mirror = torch.tensor([[-1.0 if axis in axes else 1.0 for axis in range(3)]])
    ours, marks = applied(image, labels, mirror=mirror)
    assert np.array_equal(ours, np.flip(image, axes))
    assert marks is not None
    assert np.array_equal(marks, np.flip(labels, axes))


def test_what_turns_in_from_outside_is_padding() -> None:
    angles = torch.tensor([[0.5, 0.0, 0.0]])
    image, labels = applied(
        np.full((16, 16, 16), 3, np.float32), np.ones((16, 16, 16), np.int64), padding=-2.0, angles=angles
    )
    assert image.min() == pytest.approx(-2)
    assert labels is not None
    assert set(np.unique(labels)) == {0, 1}


def test_a_picture_turns_in_its_plane_only() -> None:
    turned = torch.full((1, 3), 0.2)
    flat, marks = applied(
        np.ones((32, 32, 1), np.float32), np.ones((32, 32, 1), np.int64), spacing=(1.0, 1.0, 1.0), angles=turned
    )
    image = picture((32, 32))
    ours, _ = applied(image[..., None], angles=turned, elastic=torch.full((1, 3, 7, 7, 7), 1.5))
    # Only the corners that turned out of the frame are empty.
    assert (flat > 0.99).mean() > 0.85
    assert marks is not None
    assert marks.mean() > 0.85
    matrix = turned_about(2, 0.2)
    places = centred_places(matrix, (32, 32, 1), 1.5)
    assert np.abs(ours - by_scipy(image, places[:2], 0.0)).max() < 1e-3


def test_labels_stay_integral_and_the_ignore_label_stays() -> None:
    labels = torch.from_numpy(np.where(blocks((24, 24, 24)) == 2, 255, blocks((24, 24, 24))))[None].repeat(8, 1, 1, 1)
    images = labels[:, None].repeat(1, 2, 1, 1, 1).float()
    numbers = draw_augmentation(ALL, 8, 2, seeded(3))
    _, marks = augment(images, labels, numbers, (1, 1, 2), torch.zeros(2))
    assert marks.dtype == torch.int64
    assert set(marks.unique().tolist()) == {0, 1, 255}
    # Large numbers too.
    _, marks = augment(images, labels + 60_000, numbers, (1, 1, 2), torch.zeros(2))
    assert set(marks.unique().tolist()) == {0, 60_000, 60_001, 60_255}


def test_labels_follow_the_images() -> None:
    labels = torch.zeros(6, 32, 32, 32, dtype=torch.int64)
    labels[:, 8:20, 6:26, 10:24] = 1
    spatial = replace(NONE, mirror_axes=(0, 1, 2), rotation_probability=1, scaling_probability=1, elastic_probability=1)
    images, marks = augment(
        labels[:, None].float(), labels, draw_augmentation(spatial, 6, 1, seeded()), (1, 1, 1.5), torch.zeros(1)
    )
    inside = images[:, 0] > 0.5
    assert (inside != (marks == 1)).float().mean() < 0.01
    assert not torch.equal(marks, labels)


# --- PET and CT -----------------------------------------------------------------------------------------------------


def test_a_misaligned_channel_moves_against_the_others_and_the_labels() -> None:
    first, second, labels, spacing = picture(), picture(seed=5), blocks(), (2.0, 2.0, 3.0)
    images, marks = torch.from_numpy(np.stack([first, second]))[None], torch.from_numpy(labels)[None]
    changes: dict[str, Any] = {
        "misaligned_channels": (0,),
        "tilt": torch.tensor([[0.05, -0.04, 0.08]]),
        "shift_mm": torch.tensor([[4.0, -3.0, 0.0]]),
    }
    padding = torch.tensor([-1.0, -3.0])
    result, kept = augment(images, marks, drawn(1, 2, **changes), spacing, padding)
    assert torch.equal(result[0, 1], images[0, 1])
    assert torch.equal(kept, marks)
    millimetres = np.diag(spacing)
    tilt = turned_about(0, 0.05) @ turned_about(1, -0.04) @ turned_about(2, 0.08)
    tilt = np.linalg.inv(millimetres) @ tilt @ millimetres
    shift = np.array([2.0, -1.5, 0]).reshape(3, 1, 1, 1)
    expected = by_scipy(first, centred_places(tilt, SHAPE) + shift, -1.0)
    assert np.abs(result[0, 0].numpy() - expected).max() < 1e-3
    # After it both are moved together, and the CT still is interpolated only once.
    turn = np.linalg.inv(millimetres) @ turned_about(2, 0.3) @ millimetres
    changes["angles"] = torch.tensor([[0.0, 0.0, 0.3]])
    result, kept = augment(images, marks, drawn(1, 2, **changes), spacing, padding)
    expected = by_scipy(first, centred_places(tilt @ turn, SHAPE) + shift, -1.0)
    assert np.abs(result[0, 0].numpy() - expected).max() < 1e-3
    places = centred_places(turn, SHAPE)
    assert np.abs(result[0, 1].numpy() - by_scipy(second, places, -3.0)).max() < 1e-3
    assert (kept[0].numpy() != by_scipy(labels, places, 0, order=0)).mean() < 1e-3
    # Mirrored only: the PET is flipped, the CT looks from the mirrored place.
    del changes["angles"]
    changes["mirror"] = torch.tensor([[-1.0, 1.0, 1.0]])
    result, kept = augment(images, marks, drawn(1, 2, **changes), spacing, padding)
    assert torch.equal(result[0, 1], images[0, 1].flip(0))
    assert torch.equal(kept, marks.flip(1))
    expected = by_scipy(first, centred_places(tilt @ np.diag([-1, 1, 1]), SHAPE) + shift, -1.0)
    assert np.abs(result[0, 0].numpy() - expected).max() < 1e-3


def test_misalignment_is_drawn_as_lesiontracer_draws_it() -> None:
    # Rotation and shift apart, each with 0.1; 5 degrees; 2 voxels of 2.04 mm in the axial plane, none along the body.
    numbers = draw_augmentation(replace(NONE, misaligned_channels=(0,)), 20_000, 2, seeded())
    tilted, shifted = (numbers.tilt != 0).any(1), (numbers.shift_mm != 0).any(1)
    for chosen, probability in ((tilted, 0.1), (shifted, 0.1), (tilted & shifted, 0.01)):
        assert_frequency(int(chosen.sum()), 20_000, probability)
    assert_uniform(numbers.tilt[tilted], -math.radians(5), math.radians(5))
    assert_uniform(numbers.shift_mm[shifted][:, :2], -4, 4)
    assert not numbers.shift_mm[:, 2].any()
    assert not draw_augmentation(NONE, 100, 2, seeded()).tilt.any()


@pytest.mark.parametrize(("units", "expected"), [(("HU", "SUV"), (0,)), (("SUV", "HU"), (1,)), (("HU",), ())])
def test_training_moves_the_ct_where_there_is_a_pet(units: tuple[Any, ...], expected: tuple[int, ...]) -> None:
    made = Plan(
        dataset="made",
        dimension=3,
        channels=[Channel(name=unit, unit=unit) for unit in units],
        labels={1: "lesion"},
        ignore_label=None,
        spacing_mm=(2.0, 2.0, 8.0),
        normalisation=[Normalisation(kind="suv" if unit == "SUV" else "hu") for unit in units],
        patch=(64, 64, 16),
        batch=1,
        network=Network(),
        mirror_axes=[0],
        foreground_share=0.5,
        overlap=0.5,
        reasons={},
    )
    objective = MaskObjective(made, 0, [], [])
    assert objective._variation.settings.misaligned_channels == expected
    assert objective._variation.settings.thick_axis == 2
    objective.close()


# --- the values -----------------------------------------------------------------------------------------------------


def test_noise_has_its_deviation_and_no_correlation() -> None:
    images = torch.zeros(1, 2, 32, 32, 32)
    result, _ = augment(images, None, drawn(1, 2, noise=torch.tensor([0.08])), (1, 1, 1), torch.zeros(2))
    values = result[0].reshape(2, -1).double().numpy()
    assert values.std(1) == pytest.approx([0.08, 0.08], rel=0.02)
    assert abs(np.corrcoef(values)[0, 1]) < 0.03
    assert stats.kstest(values[0] / 0.08, "norm").pvalue > 1e-3


@pytest.mark.parametrize("sigma", [(0.8, 0.8, 0.8), (0.5, 1.0, 0.75)])
def test_blur_as_scipy(sigma: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    ours, _ = applied(image, blur=torch.tensor([[sigma]]))
    reach = [math.ceil(3 * float(np.float32(width))) for width in sigma]
    theirs = ndimage.gaussian_filter(image, sigma, mode="mirror", radius=reach)
    assert np.abs(ours - theirs).max() < 1e-5


def test_blur_of_a_few_voxels() -> None:
    image = np.random.default_rng(0).normal(size=(9, 2, 1)).astype(np.float32)
    ours, _ = applied(image, blur=torch.tensor([[(0.9, 0.9, 0.9)]]))
    theirs = ndimage.gaussian_filter(image, (0.9, 0.9, 0), mode="mirror", radius=(3, 1, 0))
    assert np.abs(ours - theirs).max() < 1e-5


def test_contrast_as_monai_and_brightness() -> None:
    image = picture()
    theirs = ScaleIntensityFixedMean(factor=0.2, preserve_range=True, fixed_mean=True)(torch.from_numpy(image)[None])
    ours, _ = applied(image, contrast=torch.tensor([[1.2]]))
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-5
    # nnU-Net multiplies first and keeps the range afterwards: the same.
    both, _ = applied(image, contrast=torch.tensor([[1.2]]), brightness=torch.tensor([[0.8]]))
    theirs = ScaleIntensityFixedMean(factor=0.2, preserve_range=True, fixed_mean=True)(
        torch.from_numpy(image * np.float32(0.8))[None]
    )
    assert np.abs(both - theirs[0].numpy()).max() < 1e-5


@pytest.mark.parametrize("gamma", [0.7, 1.4])
@pytest.mark.parametrize("invert", [False, True])
def test_gamma_as_monai(gamma: float, invert: bool) -> None:
    image = picture()
    theirs = AdjustContrast(gamma, invert_image=invert, retain_stats=True)(torch.from_numpy(image)[None])[0].numpy()
    name = "inverted_gamma" if invert else "gamma"
    ours, _ = applied(image, **{name: torch.tensor([[gamma]])})
    assert np.abs(ours - theirs).max() < 1e-4
    assert ours.mean() == pytest.approx(image.mean(), abs=1e-5)
    assert ours.std() == pytest.approx(image.std(), rel=1e-4)


@pytest.mark.parametrize("factors", [(0.5, 0.5, 0.5), (0.63, 0.63, 1.0)])
def test_low_resolution_as_scipy(factors: tuple[float, ...]) -> None:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    ours, _ = applied(image, low_resolution=torch.tensor([[factors]]))
    coarse = image
    for axis, (size, factor) in enumerate(zip(SHAPE, factors, strict=True)):
        few = round(size * factor)
        nearest = np.floor((np.arange(few) + 0.5) * size / few).astype(int)
        coarse = coarse.take(nearest, axis)
    zoom = [size / few for size, few in zip(SHAPE, coarse.shape, strict=True)]
    theirs = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")
    assert np.abs(ours - theirs).max() < 1e-5


def test_a_flat_image_stays_finite() -> None:
    one = torch.tensor([[1.2]])
    image, _ = applied(np.zeros((8, 8, 8), np.float32), gamma=one, inverted_gamma=one, contrast=one, brightness=one)
    assert np.abs(image).max() < 1e-5


# --- what is drawn --------------------------------------------------------------------------------------------------


def assert_frequency(count: int, total: int, probability: float) -> None:
    """Within what happens once in ten thousand times, by the binomial distribution."""
    low, high = stats.binom.interval(1 - 1e-4, total, probability)
    assert low <= count <= high


def assert_uniform(values: torch.Tensor, low: float, high: float) -> None:
    flat = values.flatten().double().numpy()
    assert low <= flat.min()
    assert flat.max() <= high
    assert stats.kstest((flat - low) / (high - low), "uniform").pvalue > 1e-4


def assert_around_one(values: torch.Tensor, low: float, high: float) -> None:
    """Half of them evenly below one, half above (nnU-Net's BGContrast)."""
    below = values < 1
    assert_frequency(int(below.sum()), values.numel(), 0.5)
    assert_uniform(values[below], low, 1)
    assert_uniform(values[~below], 1, high)


IMAGES = 20_000


@pytest.fixture(scope="module")
def many() -> Augmentation:
    return draw_augmentation(AugmentSettings(mirror_axes=(0, 2)), IMAGES, 2, seeded(1))


def test_intensities_are_drawn_as_nnunet_draws_them(many: Augmentation) -> None:
    # nnUNetTrainer.get_training_transforms of nnU-Net 2.8.1: probability of an image, of its channels then, and range.
    noisy = many.noise > 0
    assert_frequency(int(noisy.sum()), IMAGES, 0.1)
    assert_uniform(many.noise[noisy], 0, 0.1)
    for values, image, low, high in ((many.blur, 0.2, 0.5, 1.0), (many.low_resolution, 0.25, 0.5, 1.0)):
        off = 0 if values is many.blur else 1
        chosen = (values != off).any(2)
        assert_frequency(int(chosen[:, 0].sum()), IMAGES, image / 2)
        assert_frequency(int(chosen.all(1).sum()), IMAGES, image / 4)
        assert_uniform(values[chosen][:, 0], low, high)
    blurred = many.blur[(many.blur > 0).any(2)]
    assert abs(np.corrcoef(blurred[:, 0].numpy(), blurred[:, 1].numpy())[0, 1]) < 0.05  # each axis by its own
    coarse = many.low_resolution
    assert torch.equal(coarse[..., 0], coarse[..., 1])
    assert torch.equal(coarse[..., 0], coarse[..., 2])  # all axes by one
    changes = {
        "brightness": (0.15, 0.75, 1.25),
        "contrast": (0.15, 0.75, 1.25),
        "inverted_gamma": (0.1, 0.7, 1.5),
        "gamma": (0.3, 0.7, 1.5),
    }
    for name, (probability, low, high) in changes.items():
        values = getattr(many, name)
        chosen = values != 1
        assert torch.equal(chosen[:, 0], chosen[:, 1]), name  # all channels,
        assert_frequency(int(chosen[:, 0].sum()), IMAGES, probability)
        assert_around_one(values[chosen[:, 0]], low, high)
        assert not torch.equal(values[:, 0], values[:, 1]), name  # each by its own number


def test_one_is_drawn_apart_from_the_others(many: Augmentation) -> None:
    chosen = torch.stack(
        [
            (many.angles != 0).any(1),
            (many.scale != 1).any(1),
            many.noise > 0,
            (many.blur > 0).flatten(1).any(1),
            (many.brightness != 1).any(1),
            (many.contrast != 1).any(1),
            (many.low_resolution != 1).flatten(1).any(1),
            (many.inverted_gamma != 1).any(1),
            (many.gamma != 1).any(1),
        ]
    )
    correlation = np.corrcoef(chosen.numpy().astype(float))
    assert np.abs(correlation - np.eye(len(chosen))).max() < 0.04


def test_the_spatial_part_is_drawn_as_its_settings_say(many: Augmentation) -> None:
    settings = AugmentSettings()
    turned, scaled = (many.angles != 0).any(1), (many.scale != 1).any(1)
    limit = math.radians(settings.rotation_degrees)
    assert_frequency(int(turned.sum()), IMAGES, settings.rotation_probability)
    assert_uniform(many.angles[turned], -limit, limit)
    assert_frequency(int(scaled.sum()), IMAGES, settings.scaling_probability)
    low, high = settings.scaling
    assert_uniform(many.scale[scaled][:, 0].log(), math.log(low) - 1e-6, math.log(high) + 1e-6)
    assert torch.equal(many.scale[:, 0], many.scale[:, 1])  # nnU-Net too scales all axes by one number
    assert torch.equal(many.scale[:, 0], many.scale[:, 2])
    for axis, probability in ((0, 0.5), (1, 0.0), (2, 0.5)):
        assert_frequency(int((many.mirror[:, axis] < 0).sum()), IMAGES, probability)
    assert set(many.mirror.unique().tolist()) == {-1, 1}
    assert not many.elastic.any()  # off, as in nnU-Net's default trainer


def test_elastic_displacements_are_drawn_in_millimetres() -> None:
    settings = replace(NONE, elastic_probability=0.3, elastic_mm=(2.0, 6.0))
    elastic = draw_augmentation(settings, 3000, 1, seeded()).elastic
    chosen = (elastic != 0).flatten(1).any(1)
    assert_frequency(int(chosen.sum()), 3000, 0.3)
    largest = elastic[chosen].abs().flatten(1).amax(1)
    assert float(largest.min()) > 1.9
    assert 5.8 < float(largest.max()) <= 6


def test_thick_slices_are_augmented_in_their_plane() -> None:
    # nnU-Net: more than three times as wide as slices are many; the coarsest axis; rotation all round, nothing across.
    assert thick_axis((320, 256, 20), (0.6, 0.6, 3.6)) == 2
    assert thick_axis((16, 320, 320), (5.0, 0.7, 0.7)) == 0
    assert thick_axis((60, 180, 180), (5.0, 0.7, 0.7)) is None
    assert thick_axis((128, 128, 128), (1.0, 1.0, 1.0)) is None
    assert thick_axis((32, 128, 128), (1.0, 1.0, 2.0)) is None  # few voxels, but not of the thickest
    assert thick_axis((256, 256, 1), (1.0, 1.0, 5.0)) is None
    settings = AugmentSettings(thick_axis=2, elastic_probability=0.5)
    numbers = draw_augmentation(settings, 4000, 1, seeded())
    turned = numbers.angles[:, 2] != 0
    assert_frequency(int(turned.sum()), 4000, settings.rotation_probability)
    assert_uniform(numbers.angles[turned, 2], -math.pi, math.pi)
    assert not numbers.angles[:, :2].any()
    assert not numbers.elastic[:, 2].any()
    assert numbers.elastic[:, :2].any()
    assert bool((numbers.scale[:, 2] == 1).all())
    assert torch.equal(numbers.scale[:, 0], numbers.scale[:, 1])
    assert bool((numbers.low_resolution[..., 2] == 1).all())
    assert bool((numbers.low_resolution[..., 0] < 1).any())
    image, labels = picture((24, 20, 6)), blocks((24, 20, 6))
    one = draw_augmentation(replace(settings, **still_values()), 1, 1, seeded(2))
    assert one.angles.any()
    assert one.elastic.any()
    result, marks = augment(
        torch.from_numpy(image)[None, None], torch.from_numpy(labels)[None], one, (0.7, 0.7, 4.0), torch.zeros(1)
    )
    # Each slice by itself is the same.
    for k in range(6):
        alone, mark = augment(
            torch.from_numpy(image[:, :, k : k + 1])[None, None],
            torch.from_numpy(labels[:, :, k : k + 1])[None],
            replace(one, elastic=across_centre(one.elastic, k, 6)),
            (0.7, 0.7, 4.0),
            torch.zeros(1),
        )
        assert torch.allclose(alone[..., 0], result[..., k], atol=1e-4)
        assert (mark[..., 0] != marks[..., k]).float().mean() < 0.01


def still_values() -> dict[str, Any]:
    return {name: value for name, value in vars(NONE).items() if name.endswith("_probability")} | {
        "rotation_probability": 1.0,
        "elastic_probability": 1.0,
    }


def across_centre(elastic: torch.Tensor, k: int, slices: int) -> torch.Tensor:
    """Control points whose field in one slice is that of slice ``k``: constant along the last axis."""
    place = np.array([(k + 0.5) / slices * 4])
    weights = torch.from_numpy(BSpline.design_matrix(place, np.arange(-3, 8), 3).toarray()[0]).float()
    return (elastic @ weights)[..., None].expand(elastic.shape)


# --- the whole ------------------------------------------------------------------------------------------------------


def batch_of(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.stack([torch.from_numpy(picture((2, *shape), seed)) for seed in range(5)])
    return images, torch.stack([torch.from_numpy(blocks(shape, seed)) for seed in range(5)])


@pytest.mark.parametrize("shape", [(20, 18, 16), (33, 21, 1)])
def test_a_batch_is_what_its_members_are(shape: tuple[int, int, int]) -> None:
    images, labels = batch_of(shape)
    padding = torch.tensor([-1.0, 2.0])
    numbers = draw_augmentation(ALL, 5, 2, seeded(7))
    before = images.clone(), labels.clone()
    result, marks = augment(images, labels, numbers, (1.0, 1.5, 2.0), padding)
    for row in range(5):
        one = replace(numbers, **{n: v[row : row + 1] for n, v in vars(numbers).items() if torch.is_tensor(v)})
        alone, mark = augment(images[row : row + 1], labels[row : row + 1], one, (1.0, 1.5, 2.0), padding)
        assert torch.allclose(alone[0], result[row], atol=1e-5)
        assert torch.equal(mark[0], marks[row])
    assert torch.equal(images, before[0])  # nothing is changed in place
    assert torch.equal(labels, before[1])
    without, none = augment(images, None, numbers, (1.0, 1.5, 2.0), padding)
    assert none is None
    assert torch.equal(without, result)


def test_the_same_seed_gives_the_same_batch_and_none_changes_nothing() -> None:
    images, labels = batch_of((12, 10, 8))
    padding = torch.zeros(2)
    one, two, other = (draw_augmentation(ALL, 5, 2, seeded(seed)) for seed in (5, 5, 6))
    first, second, third = (augment(images, labels, numbers, (1, 1, 2), padding) for numbers in (one, two, other))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], third[0])
    same = augment(images, labels, drawn(5, 2), (1, 1, 1), padding)
    assert torch.equal(same[0], images)
    assert torch.equal(same[1], labels)


def test_large_patches_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = batch_of((20, 18, 16))
    numbers = draw_augmentation(ALL, 5, 2, seeded(7))
    whole = augment(images, labels, numbers, (1.0, 1.5, 2.0), torch.zeros(2))
    monkeypatch.setattr("segue.model.warping._CPU_VOXELS", 1000)
    parts = augment(images, labels, numbers, (1.0, 1.5, 2.0), torch.zeros(2))
    assert torch.allclose(whole[0], parts[0], atol=1e-6)
    assert torch.equal(whole[1], parts[1])
