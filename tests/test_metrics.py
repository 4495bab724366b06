"""Metrics against SimpleITK, scipy and scikit-learn's definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage, stats

from segue.core.errors import DataError
from segue.evaluate import Pair, aggregate, pair_folders, score_pair, write_metrics
from segue.evaluate.scores import CaseScores
from segue.images import read_labels, write
from segue.metrics import bootstrap_ci95, overlap, unmatched_voxels
from segue.volume import Geometry, Volume

GRID = Geometry((24, 20, 16), np.diag([1.0, 2.0, 3.0, 1.0]))


def random_labels(seed: int) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=GRID.shape), 2)
    return np.digitize(smooth, [0.02, 0.08]).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
def test_dice_as_simpleitk(seed: int) -> None:
    truth, prediction = random_labels(seed), random_labels(seed + 100)
    prediction[:12] = truth[:12]
    measure = sitk.LabelOverlapMeasuresImageFilter()
    measure.Execute(sitk.GetImageFromArray(prediction), sitk.GetImageFromArray(truth))
    ours = overlap(prediction.astype(np.int64), truth.astype(np.int64), [1, 2])
    for label in (1, 2):
        assert ours[label].dice == pytest.approx(measure.GetDiceCoefficient(label), abs=1e-12)
        assert ours[label].iou == pytest.approx(measure.GetJaccardCoefficient(label), abs=1e-12)
        assert ours[label].sensitivity == pytest.approx(1 - measure.GetFalseNegativeError(label), abs=1e-12)
        assert ours[label].precision == pytest.approx(1 - measure.GetFalseDiscoveryRate(label), abs=1e-12)


def test_dice_on_real_masks_as_simpleitk(hippocampus: Path) -> None:
    for path in sorted((hippocampus / "labelsTr").glob("*.nii.gz"))[:5]:
        truth = read_labels(path).array[0].astype(np.int64)
        prediction = np.roll(truth, 2, axis=1)
        measure = sitk.LabelOverlapMeasuresImageFilter()
        measure.Execute(sitk.GetImageFromArray(truth), sitk.GetImageFromArray(prediction))
        ours = overlap(prediction, truth, [1, 2])
        assert [ours[n].dice for n in (1, 2)] == pytest.approx([measure.GetDiceCoefficient(n) for n in (1, 2)])


def test_empty_masks_are_handled_explicitly() -> None:
    nothing, something = np.zeros((3, 3, 3), np.int64), np.ones((3, 3, 3), np.int64)
    assert overlap(nothing, nothing, [1])[1].dice is None
    assert overlap(something, nothing, [1])[1].dice == 0.0
    assert overlap(nothing, something, [1])[1].dice == 0.0
    both, invented, missed = (
        overlap(*pair, [1])[1] for pair in ((nothing, nothing), (something, nothing), (nothing, something))
    )
    assert (both.iou, both.sensitivity, both.precision) == (None, None, None)
    assert (invented.iou, invented.sensitivity, invented.precision) == (0.0, None, 0.0)
    assert (missed.iou, missed.sensitivity, missed.precision) == (0.0, 0.0, None)


def test_large_maps_are_counted_as_whole_ones() -> None:
    """Voxels are counted in blocks, and background ones at once; in either order in memory."""
    random = np.random.default_rng(0)
    truth, prediction = np.zeros((2, 70, 60, 50), np.uint8)
    truth[40:, 10:50] = random.integers(0, 6, (30, 40, 50))
    prediction[38:62] = random.integers(0, 6, (24, 60, 50))
    valid = random.random(truth.shape) > 0.2
    for known in (None, valid):
        kept = np.ones_like(valid) if known is None else known
        expected = [
            [
                ((a == n) & (b == n) & kept).sum()
                for a, b in ((truth, truth), (prediction, prediction), (truth, prediction))
            ]
            for n in range(8)
        ]
        for order in (np.ascontiguousarray, np.asfortranarray):
            ours = overlap(order(prediction), order(truth), range(8), known)
            assert [[o.truth, o.prediction, o.both] for o in ours.values()] == expected


def test_ignored_voxels_count_nowhere() -> None:
    truth = np.array([[1, 1, 9, 0]])
    prediction = np.array([[1, 0, 1, 1]])
    counted = overlap(prediction, truth, [1], truth != 9)[1]
    assert (counted.truth, counted.prediction, counted.both) == (2, 2, 1)


@pytest.mark.parametrize("seed", range(3))
def test_unmatched_components_as_scipy(seed: int) -> None:
    mask, other = random_labels(seed) > 0, random_labels(seed + 50) == 2
    components, number = ndimage.label(mask, ndimage.generate_binary_structure(3, 2))
    expected = sum(int((components == n).sum()) for n in range(1, number + 1) if not (other & (components == n)).any())
    assert unmatched_voxels(mask, other) == expected
    assert unmatched_voxels(mask, np.zeros_like(mask)) == mask.sum()
    assert unmatched_voxels(np.zeros_like(mask), other) == 0


def test_the_interval_is_that_of_scipy_for_independent_cases() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 60)
    ours = bootstrap_ci95(values, [str(n) for n in range(60)])
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)
    # Cases of one patient move together: the interval must be wider than if they were independent.
    doubled = np.repeat(values, 4)
    grouped = bootstrap_ci95(doubled, [str(n // 4) for n in range(240)])
    naive = bootstrap_ci95(doubled, [str(n) for n in range(240)])
    assert grouped is not None
    assert naive is not None
    assert grouped[1] - grouped[0] > 1.7 * (naive[1] - naive[0])
    assert bootstrap_ci95(values[:1], ["a"]) is None


def test_aggregation_leaves_empty_cases_out_and_counts_them() -> None:
    def case(name: str, dice: float | None, truth: float, wrong: float) -> CaseScores:
        scores = {
            "dice": dice,
            "volume_ml": 1.0,
            "truth_volume_ml": truth,
            "false_positive_ml": wrong,
            "false_negative_ml": 0.0,
        }
        return CaseScores(name, name, {"lesion": scores})

    cases = [case("a", 0.8, 2.0, 0.5), case("b", 0.6, 1.0, 0.0), case("c", None, 0.0, 0.0), case("d", 0.0, 0.0, 3.0)]
    result = aggregate("val", cases).aggregate
    assert result["lesion"]["dice"]["value"] == pytest.approx((0.8 + 0.6 + 0.0) / 3)
    assert result["lesion"]["dice"]["n"] == 3
    assert result["lesion"]["dice_both_empty"]["value"] == 1
    assert result["lesion"]["false_positive_ml_without_truth"] == {"value": 1.5, "ci95": pytest.approx((0, 3)), "n": 2}
    assert result["all"]["dice"]["n"] == 3


def write_mask(path: Path, array: np.ndarray, grid: Geometry = GRID) -> None:
    write(Volume(array[None], grid, "labels"), path)


def test_folders_are_paired_and_bad_cases_listed(tmp_path: Path) -> None:
    pred, truth = tmp_path / "pred", tmp_path / "truth"
    for number in range(3):
        write_mask(pred / f"c{number}.nii.gz", random_labels(number))
        write_mask(truth / f"c{number}.nii.gz", random_labels(number))
    write_mask(pred / "extra.nii.gz", random_labels(0))
    write_mask(truth / "missing.nii.gz", random_labels(0))
    pairs, missing, _ = pair_folders(pred, str(truth), None, tmp_path)
    assert [pair.case for pair in pairs] == ["c0", "c1", "c2"]
    assert {error.where for error in missing} == {"extra", "missing"}
    scores = score_pair(pairs[1])
    assert {name: values["dice"] for name, values in scores.labels.items()} == {"1": 1.0, "2": 1.0}
    voxels = int((random_labels(1) == 1).sum())
    assert scores.labels["1"]["truth_volume_ml"] == pytest.approx(voxels * 6.0 / 1000)
    write_metrics(tmp_path / "metrics.json", [aggregate("test", [scores])])
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1].startswith("test,c1,c1,1,1,")


def test_other_grids_and_unknown_labels_are_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.nii.gz", random_labels(0))
    moved = Geometry(GRID.shape, GRID.affine + np.array([[0, 0, 0, 1.0]] + [[0] * 4] * 3))
    write_mask(tmp_path / "b.nii.gz", random_labels(0), moved)
    with pytest.raises(DataError, match="positions differ by up to 1 mm"):
        score_pair(Pair("c", "c", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", {1: "x", 2: "y"}))
    with pytest.raises(DataError, match="not named"):
        score_pair(Pair("c", "c", tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", {1: "x"}))
