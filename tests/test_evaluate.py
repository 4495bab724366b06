"""What ``segue evaluate`` says: each figure of its form by hand, regions, comparisons against scipy, nnU-Net's folders,
bad input."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from conftest import Segue
from segue.catalogue import load_card, open_dataset
from segue.cli.labelling import region_members
from segue.core.errors import DataError, UsageError
from segue.core.files import write_json
from segue.evaluate import (
    CaseScores,
    Evaluation,
    Lesionwise,
    Measures,
    Pair,
    Probabilities,
    SuvImage,
    Wanted,
    aggregate,
    compare,
    comparison_table,
    measures_for,
    metrics_table,
    pair_folders,
    read_measured,
    score_pair,
    write_comparison,
    write_metrics,
)
from segue.images import read_labels, write
from segue.metrics import bootstrap_ci95, bootstrap_columns
from segue.train import Run
from segue.view import write_report
from segue.view.facts import CaseFigures
from segue.volume import Geometry, Volume
from segue.workflow.scoring import evaluate_folders, score_pairs
from test_view import FakeRun, Page

GRID = Geometry((20, 16, 12), np.diag([1.0, 2.0, 3.0, 1.0]))
VOXEL_ML = 0.006
DIAGONAL_MM = float(np.sqrt(20**2 + 32**2 + 36**2))


def save(path: Path, array: np.ndarray, grid: Geometry = GRID) -> Path:
    write(Volume(array[None], grid, "labels"), path)
    return path


def mask(*boxes: tuple[slice, slice, slice], label: int = 1, grid: Geometry = GRID) -> np.ndarray:
    array = np.zeros(grid.shape, np.uint8)
    for box in boxes:
        array[box] = label
    return array


def box(*ranges: tuple[int, int]) -> tuple[slice, slice, slice]:
    i, j, k = (slice(*pair) for pair in ranges)
    return i, j, k


BLOCK = box((2, 6), (2, 6), (2, 6))
NEXT = box((3, 7), (2, 6), (2, 6))


def scored(folder: Path, prediction: np.ndarray, truth: np.ndarray, **settings: object) -> CaseScores:
    grid = settings.pop("grid", GRID)
    assert isinstance(grid, Geometry)
    paths = save(folder / "p.nii.gz", prediction, grid), save(folder / "t.nii.gz", truth, grid)
    names = settings.pop("labels", {1: "a"})
    return score_pair(Pair("case", "patient", *paths, names, **settings))  # type: ignore[arg-type]


# Each figure of a case.


def test_overlap_volumes_and_surfaces_by_hand(tmp_path: Path) -> None:
    found = scored(tmp_path, mask(NEXT), mask(BLOCK))
    figures = found.labels["a"]
    # 64 voxels each, 48 in both, 80 in either.
    expected = {"dice": 0.75, "iou": 0.6, "sensitivity": 0.75, "precision": 0.75, "volume_difference_ml": 0.0,
                "volume_ml": 64 * VOXEL_ML, "truth_volume_ml": 64 * VOXEL_ML}  # fmt: skip
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    # Of 56 edge voxels of each block the 16 of the face that sticks out, and 4 inside of the other block behind the
    # opposite face, are 1 mm from an edge voxel of the other; the rest are edge voxels of both.
    assert figures["hd95_mm"] == pytest.approx(1.0)
    assert figures["assd_mm"] == pytest.approx(20 / 56)
    assert figures["nsd"] == pytest.approx(1.0)
    assert (found.worst_mm, found.tolerance_mm) == (pytest.approx(DIAGONAL_MM), 1.0)
    strict = scored(tmp_path, mask(NEXT), mask(BLOCK), measures=Measures(tolerance_mm=0.5))
    assert strict.tolerance_mm == 0.5
    assert 0.3 < (strict.labels["a"]["nsd"] or 0) < 1.0
    larger = scored(tmp_path, mask(BLOCK), mask(box((2, 4), (2, 6), (2, 6)))).labels["a"]
    assert larger["volume_difference_ml"] == pytest.approx(32 * VOXEL_ML)
    assert (larger["sensitivity"], larger["precision"]) == (1.0, 0.5)


def test_empty_masks_have_the_stated_figures(tmp_path: Path) -> None:
    nothing, something = mask(), mask(BLOCK)
    both = scored(tmp_path, nothing, nothing).labels["a"]
    assert {name for name, value in both.items() if value is None} == {
        "dice", "iou", "sensitivity", "precision", "hd95_mm", "assd_mm", "nsd", "lesion_sensitivity",
    }  # fmt: skip
    assert {both[name] for name in ("volume_ml", "truth_volume_ml", "lesions", "false_positive_ml")} == {0.0}
    missed = scored(tmp_path, nothing, something).labels["a"]
    invented = scored(tmp_path, something, nothing).labels["a"]
    for one in (missed, invented):
        assert (one["dice"], one["iou"], one["nsd"]) == (0.0, 0.0, 0.0)
        assert (one["hd95_mm"], one["assd_mm"]) == pytest.approx((DIAGONAL_MM, DIAGONAL_MM))
    assert (missed["sensitivity"], missed["precision"]) == (0.0, None)
    assert (invented["sensitivity"], invented["precision"]) == (None, 0.0)
    cases = [
        CaseScores(name, name, {"a": figures}, worst_mm=DIAGONAL_MM, tolerance_mm=1.0)
        for name, figures in (("x", both), ("y", missed), ("z", invented), ("w", both))
    ]
    told = aggregate("test", cases).aggregate["a"]
    assert (told["dice"]["value"], told["dice"]["n"]) == (0.0, 2)
    assert (told["dice_both_empty"]["value"], told["dice_one_empty"]["value"]) == (2, 2)
    assert told["hd95_mm"]["value"] == pytest.approx(DIAGONAL_MM)
    assert told["sensitivity"]["n"] == 1


def test_lesions_by_hand(tmp_path: Path) -> None:
    truth = mask(box((1, 3), (1, 3), (1, 3)), box((10, 12), (1, 3), (1, 3)), box((1, 3), (10, 12), (8, 10)))
    # One is found by a single voxel, two are missed; two pieces are invented, the second by a corner only apart.
    prediction = mask(box((2, 4), (2, 4), (2, 4)), box((15, 17), (12, 14), (5, 7)), box((18, 19), (2, 3), (2, 3)))
    figures = scored(tmp_path, prediction, truth).labels["a"]
    expected = {"lesions": 3, "lesions_found": 1, "lesion_sensitivity": 1 / 3, "false_positive_lesions": 2,
                "false_positive_ml": 9 * VOXEL_ML, "false_negative_ml": 16 * VOXEL_ML}  # fmt: skip
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_lesionwise_figures_of_brats_by_hand(tmp_path: Path) -> None:
    grid = Geometry((40, 40, 40), np.eye(4))
    first, far, speck = (
        box((4, 8), (4, 8), (4, 8)),
        box((30, 34), (30, 34), (30, 34)),
        box((4, 6), (30, 32), (30, 32)),
    )
    truth, prediction = mask(first, speck, grid=grid), mask(first, far, grid=grid)
    rules = Measures(lesionwise=Lesionwise(3, 50.0))
    found = scored(tmp_path, prediction, truth, grid=grid, measures=rules).labels["a"]
    # The speck of 8 mm3 counts nowhere, the other lesion is exact, what is invented scores Dice 0 and HD95 374.
    assert found["lesionwise_dice"] == pytest.approx(0.5)
    assert found["lesionwise_hd95_mm"] == pytest.approx(187.0)
    assert (found["lesionwise_lesions"], found["lesionwise_false_positives"]) == (1, 1)
    small = scored(tmp_path, prediction, truth, grid=grid, measures=Measures(lesionwise=Lesionwise(1, 2.0))).labels["a"]
    assert small["lesionwise_dice"] == pytest.approx(1 / 3)  # with the rules for metastases the speck is a lesion
    nothing = mask(grid=grid)
    empty = scored(tmp_path, nothing, nothing, grid=grid, measures=rules).labels["a"]
    assert [empty[name] for name in ("dice", "nsd", "lesionwise_dice", "hd95_mm", "assd_mm", "lesionwise_hd95_mm")] == [
        1.0, 1.0, 1.0, 0.0, 0.0, 0.0,
    ]  # fmt: skip
    told = aggregate("test", [CaseScores("x", "x", {"a": empty}), CaseScores("y", "y", {"a": found})]).aggregate["a"]
    assert told["dice"]["n"] == 2
    assert told["dice_both_empty"]["value"] == 1


def test_cards_of_brats_bring_their_rules() -> None:
    for name, rules in (
        ("brats/2021", Lesionwise(3, 50.0)),
        ("brats/2023-gli", Lesionwise(3, 50.0)),
        ("brats/2023-men", Lesionwise(1, 50.0)),
        ("brats/2024-met", Lesionwise(1, 2.0)),
        ("msd/brain", None),
    ):
        card = load_card(name)
        found = measures_for(card)
        assert found.lesionwise == rules
        assert found.regions == {region: tuple(members) for region, members in card.regions.items()}
    assert measures_for(None, preset="brats-met").lesionwise == Lesionwise(1, 2.0)
    with pytest.raises(UsageError, match="brats-men"):
        measures_for(None, preset="bratz")
    with pytest.raises(UsageError, match="0 or more"):
        Measures(tolerance_mm=-1.0)


def test_pet_by_hand(tmp_path: Path) -> None:
    suv = np.full(GRID.shape, 1.0, np.float32)
    suv[2] = 8.0
    suv[6, 2, 2] = 20.0
    write(Volume(np.stack([np.zeros_like(suv), suv]), GRID), tmp_path / "ctpet.nii.gz")
    image = SuvImage(tmp_path / "ctpet.nii.gz", 1)
    figures = scored(tmp_path, mask(NEXT), mask(BLOCK), suv=image).labels["a"]
    expected = {"mtv_ml": 64 * VOXEL_ML, "truth_mtv_ml": 64 * VOXEL_ML, "tlg_ml": (63 + 20) * VOXEL_ML,
                "truth_tlg_ml": (48 + 16 * 8) * VOXEL_ML, "suv_max": 20.0, "truth_suv_max": 8.0}  # fmt: skip
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    empty = scored(tmp_path, mask(), mask(BLOCK), suv=image).labels["a"]
    assert (empty["mtv_ml"], empty["tlg_ml"], empty["suv_max"]) == (0.0, 0.0, None)
    write(Volume(suv[None, :10], Geometry((10, 16, 12), GRID.affine)), tmp_path / "small.nii.gz")
    with pytest.raises(DataError, match="another grid"):
        scored(tmp_path, mask(), mask(BLOCK), suv=SuvImage(tmp_path / "small.nii.gz"))


def test_a_petct_dataset_as_truth_brings_its_pet_and_its_patients(tmp_path: Path) -> None:
    for patient, height in (("P1", 3.0), ("P2", 5.0)):
        study = tmp_path / "data" / patient / "s1"
        write(Volume(np.full((1, *GRID.shape), height, np.float32), GRID), study / "SUV.nii.gz")
        write(Volume(np.zeros((1, *GRID.shape), np.float32), GRID), study / "CTres.nii.gz")
        save(study / "SEG.nii.gz", mask(BLOCK))
        save(tmp_path / "pred" / f"{patient}_s1.nii.gz", mask(NEXT))
    pairs, missing, _ = pair_folders(tmp_path / "pred", str(tmp_path / "data"), None, tmp_path)
    assert not missing
    assert [(pair.case, pair.patient) for pair in pairs] == [("P1_s1", "P1"), ("P2_s1", "P2")]
    evaluation = score_pairs("test", pairs)
    name = next(iter(evaluation.cases[0].labels))
    assert [case.labels[name]["suv_max"] for case in evaluation.cases] == [3.0, 5.0]
    assert evaluation.aggregate[name]["tlg_ml"]["value"] == pytest.approx(64 * VOXEL_ML * 4)
    assert "SUVmax 4 (true 4)" in metrics_table(evaluation)


def _calibrated(truth: np.ndarray, chance: np.ndarray) -> tuple[float, float]:
    """Brier score and calibration error by scikit-learn's bins."""
    confidence = np.maximum(chance, 1 - chance)
    right = (chance > 0.5) == truth
    share, mean = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, bins=np.linspace(0, 1, 16))[0]
    return brier_score_loss(truth, chance), float(np.average(np.abs(share - mean), weights=counts[counts > 0]))


def test_calibration_of_masks_is_scikit_learn_s(segue: Segue, tmp_path: Path) -> None:
    """Of the voxels within 10 mm of truth and prediction; a region of labels that exclude each other is their sum."""
    grid = Geometry((60, 24, 16), np.diag([1.0, 2.0, 3.0, 1.0]))
    random = np.random.default_rng(0)
    truth = mask(box((20, 26), (8, 12), (6, 10)), grid=grid) + 2 * mask(box((26, 30), (8, 12), (6, 10)), grid=grid)
    chances = random.dirichlet([4.0, 1.0, 1.0], grid.shape).transpose(3, 0, 1, 2)
    chances += 3 * np.stack([truth == label for label in range(3)])
    chances = (chances / chances.sum(0)).astype(np.float32)
    save(tmp_path / "truth" / "a.nii.gz", truth, grid)
    save(tmp_path / "pred" / "a.nii.gz", chances.argmax(0).astype(np.uint8), grid)
    write(Volume(chances, grid), tmp_path / "pred" / "probabilities" / "a.nii.gz")
    receipt = {"labels": {1: "a", 2: "b"}, "cases": {}, "probabilities": [[0], [1], [2]]}
    write_json(tmp_path / "pred" / "predictions.json", receipt)
    done = segue("evaluate", "--pred", tmp_path / "pred", "--truth", tmp_path / "truth", "--regions", "both=1+2")
    assert done.returncode == 0, done.stderr
    case = json.loads((tmp_path / "pred" / "metrics.json").read_text())["test"]["cases"]["a"]
    answer = chances.argmax(0)
    for figures, inside, chance in (
        (case["labels"]["a"], [1], chances[1]),
        (case["labels"]["b"], [2], chances[2]),
        (case["regions"]["both"], [1, 2], chances[1] + chances[2]),
    ):
        places = np.argwhere(np.isin(truth, inside) | np.isin(answer, inside))
        near = tuple(
            slice(max(0, low - margin), high + 1 + margin)
            for low, high, margin in zip(places.min(0), places.max(0), (10, 5, 4), strict=True)
        )
        brier, error = _calibrated(np.isin(truth, inside)[near].ravel(), chance[near].ravel().astype(float))
        assert figures["brier"] == pytest.approx(brier, rel=1e-5)
        assert figures["calibration_error"] == pytest.approx(error, rel=1e-4)
    assert "a: calibration error of the voxels within 10 mm 0." in done.stdout


def test_calibration_of_what_is_ignored_absent_or_not_of_this_mask(tmp_path: Path) -> None:
    chances = np.stack([np.full(GRID.shape, 0.25, np.float32), np.full(GRID.shape, 0.75, np.float32)])
    write(Volume(chances, GRID), tmp_path / "c.nii.gz")
    told = Probabilities(tmp_path / "c.nii.gz", ((0,), (1,)))
    figures = scored(tmp_path, mask(BLOCK), mask(BLOCK) + 2 * (1 - mask(BLOCK)), ignore_label=2, probabilities=told)
    assert figures.labels["a"]["brier"] == pytest.approx(0.25**2)  # in the block alone
    assert figures.labels["a"]["calibration_error"] == pytest.approx(0.25)
    assert scored(tmp_path, mask(), mask(), probabilities=told).labels["a"]["brier"] is None
    regions = Probabilities(tmp_path / "c.nii.gz", ((1, 2), (2,)))  # of a model of regions: none is label 1 alone
    assert "brier" not in scored(tmp_path, mask(BLOCK), mask(BLOCK), probabilities=regions).labels["a"]
    with pytest.raises(DataError, match="2 channels, expected 3"):
        scored(tmp_path, mask(), mask(BLOCK), probabilities=replace(told, channels=((0,), (1,), (2,))))


def test_one_slice_is_measured_in_its_plane(tmp_path: Path) -> None:
    grid = Geometry((30, 20, 1), np.diag([2.0, 2.0, 5.0, 1.0]))
    truth, prediction = np.zeros((2, *grid.shape), np.uint8)
    truth[4:12, 4:12] = 1
    prediction[4:15, 4:12] = 1
    figures = scored(tmp_path, prediction, truth, grid=grid).labels["a"]
    # In the plane edges are the outline: 28 pixels of the truth, 34 of the prediction. The far face lies 3 pixels off.
    outline = {(i, j) for i in range(4, 12) for j in range(4, 12) if i in (4, 11) or j in (4, 11)}
    other = {(i, j) for i in range(4, 15) for j in range(4, 12) if i in (4, 14) or j in (4, 11)}
    near = [min(2 * np.hypot(i - a, j - b) for a, b in other) for i, j in outline]
    far = [min(2 * np.hypot(i - a, j - b) for a, b in outline) for i, j in other]
    assert figures["hd95_mm"] == pytest.approx(max(np.percentile(near, 95), np.percentile(far, 95)))
    assert figures["assd_mm"] == pytest.approx(np.mean(near + far))
    empty = scored(tmp_path, np.zeros_like(truth), truth, grid=grid)
    assert empty.labels["a"]["hd95_mm"] == pytest.approx(np.hypot(60, 40)) == empty.worst_mm


def test_what_is_ignored_counts_in_no_figure(tmp_path: Path) -> None:
    truth, prediction = mask(BLOCK), mask(BLOCK, box((12, 16), (10, 14), (5, 9)))
    truth[10:] = 255
    found = scored(tmp_path, prediction, truth, ignore_label=255)
    assert {found.labels["a"][name] for name in ("dice", "iou", "precision", "nsd")} == {1.0}
    assert {found.labels["a"][name] for name in ("hd95_mm", "false_positive_lesions", "false_positive_ml")} == {0.0}


# Regions.


def three() -> tuple[np.ndarray, np.ndarray]:
    truth, prediction = (np.zeros(GRID.shape, np.uint8) for _ in range(2))
    truth[2:10, 2:10, 2:8] = 2
    truth[4:8, 4:8, 3:6] = 1
    truth[5:7, 5:7, 4:5] = 3
    prediction[2:10, 2:10, 2:8] = 1
    prediction[5:7, 5:7, 4:5] = 3
    return prediction, truth


REGIONS = {"WT": (1, 2, 3), "TC": (1, 3)}


def test_regions_are_measured_as_unions(tmp_path: Path) -> None:
    prediction, truth = three()
    names = {1: "core", 2: "edema", 3: "enhancing"}
    found = scored(tmp_path, prediction, truth, labels=names, measures=Measures(regions=REGIONS))
    assert found.regions["WT"]["dice"] == 1.0
    core = np.isin(truth, (1, 3)).sum()
    assert found.regions["TC"]["dice"] == pytest.approx(2 * core / (core + (prediction > 0).sum()))
    assert found.labels["enhancing"]["dice"] == 1.0
    evaluation = aggregate("val", [found])
    told = evaluation.as_json()["val"]
    assert set(told["aggregate"]) == {"core", "edema", "enhancing", "all", "WT", "TC"}
    assert set(told["cases"]["case"]["regions"]) == {"WT", "TC"}
    labels = [figures["dice"] for figures in found.labels.values()]
    assert told["aggregate"]["all"]["dice"]["value"] == pytest.approx(np.mean([d for d in labels if d is not None]))
    assert [cells[0] for _, cells in evaluation.rows()] == ["core", "edema", "enhancing", "WT", "TC"]
    unknown = scored(tmp_path, prediction, truth, labels=names, measures=Measures(regions=REGIONS), unlabelled=(1,))
    assert set(unknown.labels) == {"edema", "enhancing"}
    assert unknown.regions == {}  # both hold a label that nobody drew here


def test_regions_on_the_command_line(segue: Segue, tmp_path: Path) -> None:
    assert region_members("WT=1+2+3, TC=1+3") == REGIONS
    for text in ("WT", "WT=", "=1+2", "WT=1+x", "WT=0+1"):
        with pytest.raises(UsageError, match="the labels that it unites"):
            region_members(text)
    prediction, truth = three()
    save(tmp_path / "pred" / "c.nii.gz", prediction)
    save(tmp_path / "truth" / "c.nii.gz", truth)
    words = ["evaluate", "--pred", "pred", "--truth", "truth", "--labels", "1=core,2=edema,3=enhancing"]
    done = segue(*words, "--regions", "WT=1+2+3,TC=1+3", "--tolerance", "2.5", "--preset", "brats-men")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "pred" / "metrics.json").read_text())["test"]
    assert told["tolerance_mm"] == 2.5
    assert told["lesionwise"] == {"dilation": 1, "least_mm3": 50.0}
    assert told["aggregate"]["WT"]["lesionwise_dice"]["value"] == 1.0
    assert "NSD 2.5 mm" in done.stdout and "lesion-wise as BraTS: truth dilated 1 x" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_regions_that_cannot_be(tmp_path: Path) -> None:
    prediction, truth = three()
    save(tmp_path / "pred" / "c.nii.gz", prediction)
    save(tmp_path / "truth" / "c.nii.gz", truth)
    names = {1: "core", 2: "edema", 3: "enhancing"}

    def measured(**wanted: object) -> Evaluation:
        return evaluate_folders(tmp_path / "pred", str(tmp_path / "truth"), Wanted(**wanted), tmp_path, tmp_path / "m")  # type: ignore[arg-type]

    for wanted, said in (
        ({"labels": names, "regions": {"core": (1, 2)}}, "may not have the name of a label"),
        ({"labels": names, "regions": {"all": (1, 2)}}, "may not have the name of a label"),
        ({"labels": names, "regions": {"X": (1, 9)}}, "unites labels that there are"),
        ({"labels": names, "preset": "autopet"}, "the presets are brats"),
    ):
        with pytest.raises(UsageError, match=said):
            measured(**wanted)
    # Without names of labels, the numbers in the regions are their own names.
    told = measured(regions={"WT": (1, 2, 3)}).as_json()["test"]["aggregate"]
    assert set(told) == {"1", "2", "3", "WT", "all"}
    assert (tmp_path / "m" / "metrics.json").exists()


def test_a_region_by_the_name_of_a_label_is_measured_once() -> None:
    from segue.evaluate.naming import distinct_regions

    labels = {1: "kidney", 2: "tumor"}
    regions = {"tumor": (2,), "kidney": (1, 2), "both": (1, 2)}
    assert distinct_regions(regions, labels) == {"kidney (region)": (1, 2), "both": (1, 2)}


def test_the_report_shows_surfaces_and_regions(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.add_blocks("one", 18.0, 1.0)
    run.add_blocks("two", 18.0, 4.0)
    run.complete()
    whole = Measures(2.0, {"union": tuple(run.pairs["val"][0].labels)})
    evaluation = score_pairs("val", [replace(pair, measures=whole) for pair in run.pairs["val"]])
    write_metrics(run.run.metrics, [evaluation])
    page = Page(write_report(run.run, run.truths)).text
    nsd = evaluation.regions["union"]["nsd"]["value"]
    assert "NSD at 2 mm" in page and "union" in page and f"{nsd:.3f}" in page
    # A case without a region rightly has none: the sentence is of the region, not of a label by its name.
    case = CaseFigures(labels={"a": {"dice": 0.5}}, regions={"union": {"truth_volume_ml": 0.0}})
    assert (case.of("a", "dice"), case.of("union", "truth_volume_ml"), case.of("b", "dice")) == (0.5, 0.0, None)


# Over cases.


def test_intervals_of_many_columns_are_those_of_each(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    table = random.normal(size=(40, 7))
    table[random.random(table.shape) < 0.2] = np.nan
    table[:, 3] = table[:, 0] * 2
    table[:, 5] = np.nan
    table[1:, 6] = np.nan
    groups = [str(number // 2) for number in range(40)]
    for column, found in zip(table.T, bootstrap_columns(table, groups), strict=True):
        known = ~np.isnan(column)
        expected = bootstrap_ci95(column[known], [g for g, k in zip(groups, known, strict=True) if k])
        assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


def evaluation_of(folder: Path, shifts: list[int], *, part: str = "test", tolerance: float = 1.0) -> Path:
    """Ten cases of five patients: a block that the prediction misses by so many voxels. Where its figures lie."""
    pairs = []
    for number, shift in enumerate(shifts):
        truth, prediction = (np.zeros(GRID.shape, np.uint8) for _ in range(2))
        truth[2:8, 2:8, 2:8], truth[2:8, 2:8, 9:11] = 1, 2
        prediction[2 + shift : 8 + shift, 2:8, 2:8], prediction[2:8, 2:8, 9:11] = 1, 2
        paths = (save(folder / f"{kind}{number}.nii.gz", array) for kind, array in (("p", prediction), ("t", truth)))
        names = {1: "lesion", 2: "organ"}
        pairs.append(Pair(f"c{number}", f"P{number // 2}", *paths, names, measures=Measures(tolerance)))
    write_metrics(folder / "metrics.json", [score_pairs(part, pairs)])
    return folder


FIRST, SECOND = [3, 2, 4, 3, 1, 2, 3, 4, 2, 3], [1, 2, 1, 3, 2, 0, 1, 1, 0, 1]


def test_two_runs_are_compared_as_scipy_does(tmp_path: Path) -> None:
    paths = [evaluation_of(tmp_path / "a", FIRST), evaluation_of(tmp_path / "b", SECOND)]
    (versus,) = compare([read_measured(path) for path in paths]).pairs
    assert (versus.cases, versus.patients, versus.left_out, versus.remarks) == (10, 5, 0, [])
    rows = {(row.label, row.metric): row for row in versus.differences}
    # By hand: blocks of 6 voxels that lie so many voxels apart.
    dice = np.array([[(6 - shift) / 6 for shift in shifts] for shifts in (FIRST, SECOND)])
    row = rows["lesion", "dice"]
    assert (row.one, row.other) == pytest.approx(tuple(dice.mean(axis=1)))
    assert row.found.difference == pytest.approx((dice[1] - dice[0]).mean())
    assert (row.other_better, row.one_better) == (7, 1)
    of_patients = (dice[1] - dice[0]).reshape(5, 2).mean(axis=1)
    p = stats.wilcoxon(of_patients).pvalue
    assert row.found.p == pytest.approx(p)
    # The organ is exact in both, so Dice is tested twice: of the lesion, and of the mean of both labels.
    assert rows["organ", "dice"].found.p is None
    assert row.p_holm == pytest.approx(2 * p) == rows["all", "dice"].p_holm
    assert rows["all", "dice"].found.difference == pytest.approx(row.found.difference / 2)
    assert row.found.ci95 == pytest.approx(bootstrap_ci95(dice[1] - dice[0], [f"P{n // 2}" for n in range(10)]))
    # Of distances less is better.
    assert (rows["lesion", "hd95_mm"].other_better, rows["lesion", "hd95_mm"].one_better) == (7, 1)
    assert rows["lesion", "hd95_mm"].found.difference < 0
    assert [change.case for change in versus.gains] == ["c2", "c7", "c0"]
    assert [change.case for change in versus.losses] == ["c4"]
    assert (versus.losses[0].one, versus.losses[0].other) == pytest.approx(((5 / 6 + 1) / 2, (4 / 6 + 1) / 2))


def test_a_comparison_is_written_and_shown(segue: Segue, tmp_path: Path) -> None:
    for name, shifts in (("a", FIRST), ("b", SECOND), ("c", FIRST[:9])):
        evaluation_of(tmp_path / name, shifts)
    done = segue("evaluate", "a", "b", "c", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "A: a" in done.stdout and "B: b" in done.stdout and "C: c" in done.stdout
    assert "B is better by most in: c2" in done.stdout and "A is better by most in: c4" in done.stdout
    assert "9 test cases of 5 patients that both have; 1 only one of them has" in done.stdout
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())["comparisons"]
    assert [(pair["one"], pair["other"]) for pair in told] == [("a", "b"), ("a", "c")]
    row = next(r for r in told[0]["differences"] if (r["label"], r["metric"]) == ("lesion", "dice"))
    assert row["difference"]["n"] == 10
    assert row["one_better"] + row["other_better"] + row["equal"] == 10
    with (tmp_path / "out" / "comparison.csv").open() as handle:
        table = list(csv.DictReader(handle))
    found = next(r for r in table if (r["other"], r["label"], r["metric"]) == ("b", "lesion", "dice"))
    assert float(found["difference"]) == pytest.approx(row["difference"]["value"], rel=1e-5)
    for words, code, said in (
        (["a", "nowhere"], 2, "nothing was measured here"),
        (["a", "b", "--tolerance", "2"], 2, "as they were measured"),
        (["a", "b", "--pred", "a", "--truth", "b"], 2, "give a run folder, or both"),
    ):
        done = segue("evaluate", *words)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    one = read_measured(evaluation_of(tmp_path / "a", FIRST))
    other = read_measured(evaluation_of(tmp_path / "b", SECOND, part="val", tolerance=2.0))
    (versus,) = compare([one, other]).pairs
    assert versus.part == "cases"  # they have no part in common, but all their cases
    assert "nsd" not in {row.metric for row in versus.differences}
    assert versus.remarks == ["NSD is not compared: the tolerances are 1 mm and 2 mm"]
    strange = json.loads((tmp_path / "a" / "metrics.json").read_text())
    strange["test"]["cases"]["c3"]["labels"]["lesion"]["truth_volume_ml"] *= 1.1
    write_json(tmp_path / "c.json", strange)
    (versus,) = compare([one, read_measured(tmp_path / "c.json")]).pairs
    assert "truth has another volume (c3)" in versus.remarks[0]
    assert versus.remarks[0] in comparison_table(compare([one, read_measured(tmp_path / "c.json")]))
    strange["test"]["cases"] = {f"x{name}": case for name, case in strange["test"]["cases"].items()}
    write_json(tmp_path / "d.json", strange)
    with pytest.raises(DataError, match="no case in common"):
        compare([one, read_measured(tmp_path / "d.json")])
    (tmp_path / "e.json").write_text('{"test": {"cases": {"a": 3}}}')
    with pytest.raises(DataError, match="cannot be understood"):
        read_measured(tmp_path / "e.json")
    with pytest.raises(UsageError, match="two runs"):
        compare([one])


def test_classes_are_compared_too(tmp_path: Path) -> None:
    def run(name: str, probabilities: list[float]) -> Path:
        cases = {
            f"c{n}": {"patient": f"c{n}", "truth": "ill", "predicted": "ill" if p > 0.5 else "well",
                      "probabilities": {"well": 1 - p, "ill": p}}
            for n, p in enumerate(probabilities)
        }  # fmt: skip
        write_json(tmp_path / name / "metrics.json", {"test": {"aggregate": {}, "cases": cases, "failed": []}})
        return tmp_path / name

    first, second = [0.2, 0.4, 0.6, 0.7, 0.45, 0.3], [0.9, 0.6, 0.55, 0.8, 0.7, 0.65]
    (versus,) = compare([read_measured(run("a", first)), read_measured(run("b", second))]).pairs
    rows = {row.metric: row for row in versus.differences}
    assert rows["accuracy"].found.difference == pytest.approx(1.0 - 2 / 6)
    assert rows["probability_of_truth"].found.p == pytest.approx(stats.wilcoxon(second, first).pvalue)
    write_comparison(tmp_path / "x.json", compare([read_measured(tmp_path / "a"), read_measured(tmp_path / "b")]))
    assert (tmp_path / "x.csv").read_text().splitlines()[1].startswith(f"{tmp_path / 'a'},{tmp_path / 'b'},test,all,")


def test_figures_of_an_older_segue_are_read(tmp_path: Path) -> None:
    old = {"dice": 0.5, "volume_ml": 1.0, "truth_volume_ml": 1.0, "false_positive_ml": 0.0, "false_negative_ml": 0.0}
    told = {f"c{n}": {"patient": f"c{n}", "labels": {"a": {**old, "dice": 0.1 * n}}} for n in range(4)}
    write_json(tmp_path / "old.json", {"val": {"aggregate": {}, "cases": told, "failed": []}})
    (versus,) = compare([read_measured(tmp_path / "old.json")] * 2).pairs
    assert {row.metric for row in versus.differences} == {"dice", "false_positive_ml", "false_negative_ml"}
    cases = [CaseScores(name, name, case["labels"]) for name, case in told.items()]
    evaluation = aggregate("val", cases)
    assert evaluation.columns() == ["label", *(name for name in ("dice", "volume_ml", "truth_volume_ml",
                                                                "false_positive_ml", "false_negative_ml"))]  # fmt: skip
    assert "tolerance_mm" not in evaluation.as_json()["val"]
    assert "NSD" not in metrics_table(evaluation)
    # Measured again in part, each figure is over the cases that have it; NSD at two tolerances has no mean.
    new = scored(tmp_path, mask(NEXT), mask(BLOCK))
    mixed = aggregate("val", [*cases, new])
    assert (mixed.aggregate["a"]["dice"]["n"], mixed.aggregate["a"]["nsd"]["n"], mixed.tolerance_mm) == (5, 1, 1.0)
    other = scored(tmp_path, mask(NEXT), mask(BLOCK), measures=Measures(tolerance_mm=3.0))
    both = aggregate("val", [new, other])
    assert "nsd" not in both.aggregate["a"]
    assert both.tolerance_mm is None
    # Parts with different figures share one table.
    write_metrics(tmp_path / "m.json", [evaluation, aggregate("test", [new])])
    with (tmp_path / "m.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert (rows[0]["hd95_mm"], rows[-1]["hd95_mm"], rows[-1]["dice"]) == ("", "1", "0.75")


# nnU-Net's folders.


def nnunet_folder(folder: Path, arrays: dict[str, np.ndarray], labels: dict[str, object], **more: object) -> Path:
    """What nnUNetv2_predict leaves behind."""
    for name, array in arrays.items():
        save(folder / f"{name}.nii.gz", array)
    listing = {"channel_names": {"0": "T1"}, "labels": labels, "numTraining": 2, "file_ending": ".nii.gz", **more}
    write_json(folder / "dataset.json", listing)
    write_json(folder / "plans.json", {"dataset_name": "Dataset001_X", "configurations": {}})
    write_json(folder / "predict_from_raw_data_args.json", {"use_folds": [0]})
    return folder


def test_predictions_of_nnunet_bring_their_labels(segue: Segue, tmp_path: Path) -> None:
    prediction, truth = three()
    labels = {"background": 0, "core": 1, "edema": 2, "enhancing": 3}
    nnunet_folder(tmp_path / "out", {"x": prediction, "y": truth}, labels)
    for name in ("x", "y"):
        save(tmp_path / "labelsTs" / f"{name}.nii.gz", truth)
    done = segue("evaluate", "--pred", "out", "--truth", "labelsTs")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())["test"]
    assert set(told["aggregate"]) == {"core", "edema", "enhancing", "all"}
    assert told["cases"]["y"]["labels"]["core"]["dice"] == 1.0
    assert told["cases"]["x"]["labels"]["edema"]["dice"] == 0.0


def test_regions_and_the_ignore_label_of_nnunet(tmp_path: Path) -> None:
    prediction, truth = three()
    truth[12:] = 4
    prediction[14:16, 2:4, 2:4] = 1  # in what is ignored
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing": 3, "ignore": 4}
    nnunet_folder(tmp_path / "out", {"x": prediction}, labels, regions_class_order=[2, 1, 3])
    save(tmp_path / "labelsTr" / "x.nii.gz", truth)
    evaluation = evaluate_folders(tmp_path / "out", str(tmp_path / "labelsTr"), Wanted(), tmp_path)
    assert not evaluation.errors
    told = evaluation.as_json()["test"]["aggregate"]
    assert set(told) == {"whole tumor", "tumor core", "enhancing", "all"}  # label_1 and label_2 have no name alone
    assert told["whole tumor"]["dice"]["value"] == 1.0
    assert told["whole tumor"]["false_positive_lesions"]["value"] == 0.0
    only = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing": [3], "ignore": 4}
    nnunet_folder(tmp_path / "out", {}, only, regions_class_order=[2, 1, 3])
    evaluation = evaluate_folders(tmp_path / "out", str(tmp_path / "labelsTr"), Wanted(), tmp_path)
    assert evaluation.cases[0].labels == {}
    means = [figures["dice"]["value"] for figures in evaluation.regions.values()]
    assert evaluation.aggregate["all"]["dice"]["value"] == pytest.approx(np.mean(means))
    assert "mean of regions" in metrics_table(evaluation)


def test_validation_folders_of_nnunet(tmp_path: Path) -> None:
    prediction, truth = three()
    model = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    nnunet_folder(model, {}, {"background": 0, "core": 1, "edema": 2, "enhancing": 3})
    for fold, names in enumerate((("a", "b"), ("c", "d"))):
        place = model / f"fold_{fold}" / "validation"
        entries = [{"prediction_file": f"/x/{name}.nii.gz", "reference_file": f"/y/{name}.nii.gz", "metrics": {}}
                   for name in names]  # fmt: skip
        for name in names:
            save(place / f"{name}.nii.gz", prediction)
        write_json(place / "summary.json", {"metric_per_case": entries, "foreground_mean": {}, "mean": {}})
    for name in "abcde":
        save(tmp_path / "labelsTr" / f"{name}.nii.gz", truth)
    folds = [model / f"fold_{fold}" / "validation" for fold in (0, 1)]
    # A fold validates on its own cases only: the other masks are no omission, but what it lost is one.
    pairs, missing, names = pair_folders(folds[0], str(tmp_path / "labelsTr"), None, tmp_path)
    assert ([pair.case for pair in pairs], missing) == (["a", "b"], [])
    assert names == {1: "core", 2: "edema", 3: "enhancing"}
    (folds[0] / "b.nii.gz").unlink()
    pairs, missing, _ = pair_folders(folds[0], str(tmp_path / "labelsTr"), None, tmp_path)
    assert [error.where for error in missing] == ["b"]
    pairs, missing, names = pair_folders(model, str(tmp_path / "labelsTr"), None, tmp_path)
    assert ([pair.case for pair in pairs], len(missing)) == (["a", "c", "d"], 1)
    assert names == {1: "core", 2: "edema", 3: "enhancing"}
    shutil.copy(folds[1] / "c.nii.gz", folds[0] / "c.nii.gz")
    with pytest.raises(DataError, match="predicted in two folds"):
        pair_folders(model, str(tmp_path / "labelsTr"), None, tmp_path)


# Bad input.


def test_bad_cases_are_told_and_the_others_measured(segue: Segue, tmp_path: Path) -> None:
    good = mask(BLOCK)
    for name in ("fine", "moved", "strange", "torn", "unpredicted"):
        save(tmp_path / "truth" / f"{name}.nii.gz", good)
    for name in ("fine", "extra"):
        save(tmp_path / "pred" / f"{name}.nii.gz", good)
    save(tmp_path / "pred" / "moved.nii.gz", good[:10], Geometry((10, 16, 12), GRID.affine))
    save(tmp_path / "pred" / "strange.nii.gz", good * 7)
    (tmp_path / "pred" / "torn.nii.gz").write_bytes((tmp_path / "pred" / "fine.nii.gz").read_bytes()[:60])
    done = segue("evaluate", "--pred", "pred", "--truth", "truth", "--labels", "1=lesion")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    for said in (
        "moved: truth and prediction lie on different grids (shape 20x16x12 against 10x16x12)",
        "strange: the prediction holds labels that are not named ([7]; named are 1 (lesion))",
        "unpredicted: no prediction for this truth",
        "extra: no truth for this prediction",
        "torn",
    ):
        assert said in done.stderr
    assert done.stderr.count("error: ") == 5
    assert "5 failed: extra, moved, strange, torn, unpredicted" in done.stdout
    told = json.loads((tmp_path / "pred" / "metrics.json").read_text())["test"]
    assert list(told["cases"]) == ["fine"]
    assert len(told["failed"]) == 5


def test_empty_folders_are_one_error(segue: Segue, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "full" / "a.nii.gz", mask(BLOCK))
    for words in (["--pred", "empty", "--truth", "full"], ["--pred", "full", "--truth", "empty"]):
        done = segue("evaluate", *words)
        assert done.returncode == 3
        assert done.stderr.count("error: ") == 1
        assert "empty" in done.stderr


@pytest.mark.slow
def test_a_run_whose_model_cannot_be_read_and_two_runs(blobs: Path, tmp_path: Path) -> None:
    import torch

    from segue.workflow.comparing import compare_runs
    from segue.workflow.folds import evaluate_again
    from segue.workflow.training import train
    from test_train import experiment

    run, _ = train(experiment(blobs, tmp_path, budget={"steps": 2}))
    same = Run(tmp_path / "same")
    shutil.copytree(run.folder, same.folder)
    told = json.loads(run.metrics.read_text())["val"]
    assert told["tolerance_mm"] == 1.0
    assert {"dice", "nsd", "hd95_mm", "lesion_sensitivity"} <= set(told["aggregate"]["bright"])
    evaluate_again(run, "cpu", wanted=Wanted(tolerance_mm=2.0, regions={"both": (1, 2)}))
    again = json.loads(run.metrics.read_text())["val"]
    assert again["tolerance_mm"] == 2.0
    assert "both" in again["aggregate"]
    same.metrics.unlink()  # then it is measured first
    (versus,) = compare_runs([run.folder, same.folder], "cpu").pairs
    assert versus.remarks == ["NSD is not compared: the tolerances are 2 mm and 1 mm"]
    assert {row.found.difference for row in versus.differences if row.metric == "dice"} == {0.0}
    content = torch.load(run.best, weights_only=True)
    torch.save({**content, "format": 99}, run.best)
    with pytest.raises(DataError, match="the checkpoint is of a later version of segue"):
        evaluate_again(run, "cpu")
    run.best.write_bytes(run.best.read_bytes()[:1000])
    with pytest.raises(DataError, match="the checkpoint is damaged"):
        evaluate_again(run, "cpu")
    plan = same.folder / "plan.json"
    write_json(plan, {**json.loads(plan.read_text()), "of_next_year": True})
    with pytest.raises(DataError, match=r"of a later version of segue, or it was changed .*of_next_year"):
        evaluate_again(same, "cpu")


def test_real_masks_in_the_terminal(segue: Segue, hippocampus: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cases = [case for case in open_dataset(hippocampus).cases if case.label is not None][:5]
    for case in cases:
        assert isinstance(case.label, Path)
        truth = read_labels(case.label)
        moved = np.roll(truth.array, random.integers(-1, 2, 3), axis=(1, 2, 3))
        write(Volume(moved, truth.geometry, "labels"), tmp_path / "pred" / f"{case.id}.nii.gz")
    done = segue("evaluate", "--pred", "pred", "--truth", hippocampus, "--workers", "1")
    assert done.returncode == 3  # the other cases have no prediction
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["label", "Dice"]
    assert {"Anterior", "Posterior", "mean"} <= {line.split()[0] for line in lines if line}
    assert max(map(len, lines[:5])) <= 100
    told = json.loads((tmp_path / "pred" / "metrics.json").read_text())["test"]
    assert told["aggregate"]["all"]["nsd"]["n"] == 5
