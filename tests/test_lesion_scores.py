"""Lesions counted as scipy labels them, BraTS 2023's scores by hand, PET measures by hand."""

from __future__ import annotations

import numpy as np
import pytest
import surface_distance
from scipy import ndimage

from segue.metrics import LesionwiseScores, brats_lesionwise, lesion_counts, pet_measures

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

MM = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
@pytest.mark.parametrize("seed", range(3))
def test_lesions_as_scipy_labels_them(seed: int, connectivity: int) -> None:
    random = np.random.default_rng(seed)
    prediction, truth = (random.random((14, 12, 10)) > 0.93 for _ in range(2))
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    (true, truths), (predicted, predictions) = (ndimage.label(mask, structure) for mask in (truth, prediction))
    found = [n for n in range(1, truths + 1) if prediction[true == n].any()]
    invented = [n for n in range(1, predictions + 1) if not truth[predicted == n].any()]
    counts = lesion_counts(prediction, truth, connectivity)
    assert (counts.truth, counts.found) == (truths, len(found))
    assert (counts.predicted, counts.false_positives) == (predictions, len(invented))
    assert counts.sensitivity == pytest.approx(len(found) / truths)
    assert counts.precision == pytest.approx(1 - len(invented) / predictions)


def test_lesions_of_empty_masks() -> None:
    nothing, something = np.zeros((2, 4, 4, 4), bool)
    something[0, 0, 0] = something[3, 3, 3] = True
    assert (lesion_counts(nothing, nothing).sensitivity, lesion_counts(nothing, nothing).precision) == (None, None)
    missed, invented = lesion_counts(nothing, something), lesion_counts(something, nothing)
    assert (missed.truth, missed.found, missed.sensitivity, missed.precision) == (2, 0, 0.0, None)
    assert (invented.predicted, invented.false_positives, invented.precision) == (2, 2, 0.0)


def cubes(*starts: int, size: int = 4) -> np.ndarray:
    """Cubes in a row; a size of 4 gives 64 mm3."""
    mask = np.zeros((48, 24, 24), bool)
    for start in starts:
        mask[start : start + size, 10 : 10 + size, 10 : 10 + size] = True
    return mask


def assert_scores(ours: LesionwiseScores, dice: float, hd95_mm: float, counts: tuple[int, int, int]) -> None:
    assert (ours.lesions, ours.missed, ours.false_positives) == counts
    assert (ours.dice, ours.hd95_mm) == (pytest.approx(dice, abs=1e-12), pytest.approx(hd95_mm, abs=1e-9))


def hd95_mm(prediction: np.ndarray, truth: np.ndarray) -> float:
    found = surface_distance.compute_surface_distances(truth, prediction, MM)
    return surface_distance.compute_robust_hausdorff(found, 95)


def test_brats_perfect_missed_invented_and_nothing() -> None:
    nothing, lesion = cubes(), cubes(5)
    assert_scores(brats_lesionwise(lesion, lesion, MM), 1, 0, (1, 0, 0))
    assert_scores(brats_lesionwise(nothing, lesion, MM), 0, 374, (1, 1, 0))
    assert_scores(brats_lesionwise(lesion, nothing, MM), 0, 374, (0, 0, 1))
    assert_scores(brats_lesionwise(nothing, nothing, MM), 1, 0, (0, 0, 0))
    # One right, two invented, at opposite ends of the grid.
    invented = cubes(5)
    invented[-1, -1, -1] = invented[-1, 0, 0] = True
    assert_scores(brats_lesionwise(invented, lesion, MM), 1 / 3, 374 * 2 / 3, (1, 0, 2))


@pytest.mark.parametrize(("dilation", "joins"), [(3, 6), (1, 2), (0, 0)])
def test_brats_lesions_close_together_are_one(dilation: int, joins: int) -> None:
    found = cubes(5)
    one, two = cubes(5, 9 + joins), cubes(5, 10 + joins)
    # One lesion of 128 voxels of which 64 are found; two of which one is missed.
    ours = brats_lesionwise(found, one, MM, dilation=dilation)
    assert_scores(ours, 2 * 64 / (64 + 128), hd95_mm(found, one), (1, 0, 0))
    assert_scores(brats_lesionwise(found, two, MM, dilation=dilation), 1 / 2, 374 / 2, (2, 1, 0))


def test_brats_small_lesions_are_dropped_but_touched() -> None:
    small, enough = np.zeros((2, 30, 30, 30), bool)
    small[5:7, 5:10, 5:10] = True  # 50 mm3
    enough[5:7, 5:10, 5:10] = enough[7, 5, 5] = True  # 51 mm3
    nothing = np.zeros_like(small)
    for prediction in (small, nothing):
        assert_scores(brats_lesionwise(prediction, small, MM), 1, 0, (0, 0, 0))
    assert_scores(brats_lesionwise(nothing, enough, MM), 0, 374, (1, 1, 0))
    assert_scores(brats_lesionwise(nothing, small, MM, least_mm3=2), 0, 374, (1, 1, 0))
    # The limit is one of volume: 50 voxels of 2 mm3 each.
    assert_scores(brats_lesionwise(nothing, small, (1.0, 1.0, 2.0)), 0, 374, (1, 1, 0))


def test_brats_a_prediction_near_a_lesion_belongs_to_it() -> None:
    lesion = cubes(5)
    for gap, expected in ((2, (1, 0, 0)), (3, (1, 1, 1))):
        near = np.zeros_like(lesion)
        near[9 + gap, 11, 11] = True
        distance = hd95_mm(near, lesion) if gap == 2 else 374
        assert_scores(brats_lesionwise(near, lesion, MM), 0, distance, expected)
    # Dilation does not go round a corner: the voxel beyond it shares only that corner.
    corner = np.zeros_like(lesion)
    corner[9, 14, 14] = True
    assert_scores(brats_lesionwise(corner, lesion, MM, dilation=1), 0, 374, (1, 1, 1))
    # Nor does it go over the border of the grid and back.
    assert_scores(brats_lesionwise(cubes(0), cubes(0), MM), 1, 0, (1, 0, 0))


def test_brats_a_prediction_over_two_lesions_counts_whole_in_both() -> None:
    lesions, bridge = cubes(5, 20), cubes()
    bridge[5:24, 10:14, 10:14] = True  # 304 voxels
    mean = (hd95_mm(bridge, cubes(5)) + hd95_mm(bridge, cubes(20))) / 2
    assert_scores(brats_lesionwise(bridge, lesions, MM), 2 * 64 / (64 + 304), mean, (2, 0, 0))


def test_pet_measures_by_hand() -> None:
    suv = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    mask = np.zeros(suv.shape, bool)
    mask[0, 0, 2] = mask[1, 2, 3] = mask[1, 0, 0] = True  # SUV 2, 23 and 12
    ours = pet_measures(mask, suv, 0.5)
    assert (ours.mtv_ml, ours.tlg_ml, ours.suv_max) == (1.5, pytest.approx(37 / 3 * 1.5), 23.0)
    empty = pet_measures(np.zeros_like(mask), suv, 0.5)
    assert (empty.mtv_ml, empty.tlg_ml, empty.suv_max) == (0.0, 0.0, None)


# Boxes from one corner to the other, in a grid of 60 x 50 x 40.
TRUE_BOXES = [
    (3, 4, 5, 9, 10, 8),
    (14, 4, 5, 20, 9, 12),
    (30, 30, 5, 33, 35, 9),
    (30, 30, 11, 34, 33, 14),
    (45, 10, 20, 46, 12, 22),
    (50, 40, 30, 60, 50, 40),
    (10, 35, 25, 16, 41, 29),
    (0, 0, 34, 4, 4, 40),
]
PREDICTED_BOXES = [
    (4, 4, 5, 9, 11, 9),
    (8, 6, 6, 16, 8, 8),
    (31, 31, 6, 33, 34, 12),
    (46, 11, 21, 48, 13, 24),
    (52, 38, 28, 60, 50, 38),
    (20, 20, 20, 22, 23, 24),
    (58, 2, 2, 60, 4, 5),
    (11, 45, 25, 15, 47, 30),
]


def boxes(corners: list[tuple[int, ...]]) -> np.ndarray:
    mask = np.zeros((60, 50, 40), bool)
    for i, j, k, to_i, to_j, to_k in corners:
        mask[i:to_i, j:to_j, k:to_k] = True
    return mask


@pytest.mark.parametrize(
    ("spacing", "dilation", "least_mm3", "dice", "hd95_mm", "counts"),
    [
        (MM, 3, 50.0, 0.173710842361636, 234.83630196997794, (5, 2, 3)),
        (MM, 1, 50.0, 0.18676627924384995, 210.0, (6, 2, 3)),
        (MM, 1, 2.0, 0.16808965131946496, 189.24494897427832, (7, 2, 3)),
        ((0.5, 1.0, 2.0), 3, 50.0, 0.173710842361636, 235.58852549156242, (5, 2, 3)),
        ((0.5, 1.0, 2.0), 1, 50.0, 0.18676627924384995, 209.80123361676976, (6, 2, 3)),
        ((0.5, 1.0, 2.0), 1, 2.0, 0.16808965131946496, 189.23342081765458, (7, 2, 3)),
    ],
)
def test_brats_as_its_evaluator(
    spacing: tuple[float, ...],
    dilation: int,
    least_mm3: float,
    dice: float,
    hd95_mm: float,
    counts: tuple[int, int, int],
) -> None:
    """The figures are those that rachitsaluja/BraTS-2023-Metrics (43c9052) gives for GLI, MEN and MET."""
    prediction, truth = boxes(PREDICTED_BOXES), boxes(TRUE_BOXES)
    ours = brats_lesionwise(prediction, truth, spacing, dilation=dilation, least_mm3=least_mm3)
    assert_scores(ours, dice, hd95_mm, counts)
