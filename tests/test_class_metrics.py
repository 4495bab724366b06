"""Classification metrics against scikit-learn, and against their published definitions written out."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from segue.core.errors import DataError
from segue.evaluate import ClassScores, aggregate_classes, metrics_table, write_metrics
from segue.metrics import (
    Kind,
    accuracy,
    answer_table,
    balanced_accuracy,
    brier_score,
    class_aucs,
    confusion,
    count,
    macro_f1,
    mean_auc,
    percentile_ci95,
    quadratic_kappa,
    reliability,
    resample_classes,
    roc_points,
    truth_table,
)
from segue.metrics.classes import auc

SINGLE: list[tuple[Kind, int]] = [("binary", 2), ("multi-class", 3), ("multi-class", 8), ("ordinal", 5)]


def single(seed: int, n: int, k: int, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Imbalanced truth and somewhat informed probabilities, rounded so that many are equal."""
    random = np.random.default_rng(seed)
    truth = random.choice(k, n, p=(weights := 0.65 ** np.arange(k)) / weights.sum())
    logits = random.normal(size=(n, k)) + 1.2 * (truth[:, None] == np.arange(k))
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if ties:
        scores = np.round(scores, 1) + 0.01
        scores /= scores.sum(1, keepdims=True)
    return truth, scores


def several(seed: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = (random.random((n, k)) < 0.6 / np.arange(1, k + 1)).astype(np.int64)
    return truth, np.round(np.clip(random.normal(0.35 + 0.2 * truth, 0.25), 0, 1), 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kind", "k"), SINGLE)
def test_one_class_per_case_as_scikit_learn(kind: Kind, k: int, seed: int) -> None:
    truth, scores = single(seed, 400, k)
    held, answered = truth_table(truth, k), answer_table(scores, kind)
    counts, predicted = count(held, answered), answered.argmax(1)
    aucs = class_aucs(held, scores)
    assert aucs == pytest.approx([sk.roc_auc_score(truth == c, scores[:, c]) for c in range(k)], abs=1e-12)
    if kind == "binary":
        assert mean_auc(aucs, kind) == pytest.approx(sk.roc_auc_score(truth, scores[:, 1]), abs=1e-12)
        assert (predicted == (scores[:, 1] > 0.5)).all()
        assert brier_score(held, scores, kind) == pytest.approx(sk.brier_score_loss(truth, scores[:, 1]), abs=1e-12)
    else:
        ovr = sk.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
        assert mean_auc(aucs, kind) == pytest.approx(ovr, abs=1e-12)
        assert (predicted == scores.argmax(1)).all()
        brier = sk.brier_score_loss(truth, scores, scale_by_half=False, labels=list(range(k)))
        assert brier_score(held, scores, kind) == pytest.approx(brier, abs=1e-12)
    assert accuracy(counts, kind) == pytest.approx(sk.accuracy_score(truth, predicted), abs=1e-12)
    assert balanced_accuracy(counts, kind) == pytest.approx(sk.balanced_accuracy_score(truth, predicted), abs=1e-12)
    assert macro_f1(counts) == pytest.approx(sk.f1_score(truth, predicted, average="macro"), abs=1e-12)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, predicted, labels=range(k), zero_division=np.nan
    )
    np.testing.assert_allclose(counts.precision, precision, atol=1e-12)
    np.testing.assert_allclose(counts.sensitivity, recall, atol=1e-12)
    np.testing.assert_allclose(counts.f1, f1, atol=1e-12)
    specificity = [sk.recall_score(truth != c, predicted != c) for c in range(k)]
    np.testing.assert_allclose(counts.specificity, specificity, atol=1e-12)
    matrix = confusion(held, answered, kind)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truth, predicted, labels=range(k)))
    kappa = sk.cohen_kappa_score(truth, predicted, weights="quadratic", labels=list(range(k)))
    assert quadratic_kappa(matrix) == pytest.approx(kappa, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_several_labels_per_case_as_scikit_learn(seed: int) -> None:
    truth, scores = several(seed, 300, 6)
    held, answered = truth_table(truth, 6), answer_table(scores, "multi-label")
    counts = count(held, answered)
    labels = range(6)
    assert mean_auc(class_aucs(held, scores), "multi-label") == pytest.approx(sk.roc_auc_score(truth, scores))
    assert accuracy(counts, "multi-label") == pytest.approx(
        np.mean([sk.accuracy_score(truth[:, c], scores[:, c] > 0.5) for c in labels])
    )
    assert balanced_accuracy(counts, "multi-label") == pytest.approx(
        np.mean([sk.balanced_accuracy_score(truth[:, c], scores[:, c] > 0.5) for c in labels])
    )
    assert macro_f1(counts) == pytest.approx(sk.f1_score(truth, answered, average="macro"))
    np.testing.assert_array_equal(
        confusion(held, answered, "multi-label"), sk.multilabel_confusion_matrix(truth, answered)
    )
    assert brier_score(held, scores, "multi-label") == pytest.approx(
        np.mean([sk.brier_score_loss(truth[:, c], scores[:, c]) for c in labels])
    )


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=25))
def test_auc_counts_pairs(cases: list[tuple[bool, int]]) -> None:
    # Mann and Whitney: of all pairs of a positive and a negative, the share in which the positive scores higher.
    positive = np.array([p for p, _ in cases], dtype=bool)
    score = np.array([s / 5 for _, s in cases], dtype=float)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    found = auc(positive, score)
    if not pairs:
        assert math.isnan(found) and roc_points(positive, score) is None
        return
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
    points = roc_points(positive, score)
    assert points is not None
    assert np.trapezoid(points[1], points[0]) == pytest.approx(found, abs=1e-12)
    false_positive, true_positive, _ = sk.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(points, (false_positive, true_positive), atol=1e-12)


def test_absent_classes_are_in_no_mean() -> None:
    truth, scores = single(0, 60, 3)
    wide = np.concatenate([scores * 0.98, np.full((60, 1), 0.02)], axis=1)  # a fourth class that nobody has
    held, answered = truth_table(truth, 4), answer_table(wide, "multi-class")
    aucs, counts = class_aucs(held, wide), count(held, answered)
    assert math.isnan(aucs[3])
    assert mean_auc(aucs, "multi-class") == pytest.approx(np.mean(aucs[:3]))
    assert math.isnan(counts.sensitivity[3]) and math.isnan(counts.precision[3]) and math.isnan(counts.f1[3])
    assert counts.specificity[3] == 1.0
    predicted = answered.argmax(1)
    assert balanced_accuracy(counts, "multi-class") == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert macro_f1(counts) == pytest.approx(sk.f1_score(truth, predicted, average="macro"))


@pytest.mark.parametrize("kind", ["binary", "multi-class", "multi-label", "ordinal"])
@pytest.mark.parametrize("n", [0, 1])
def test_one_case_and_none_do_not_stop_it(kind: Kind, n: int) -> None:
    scores = np.array([[0.3, 0.7]])[:n]
    truth = np.array([[0, 1]])[:n] if kind == "multi-label" else np.array([1])[:n]
    held, answered = truth_table(truth, 2), answer_table(scores, kind)
    counts = count(held, answered)
    assert math.isnan(mean_auc(class_aucs(held, scores), kind))
    perfect = 1.0 if n else math.nan
    assert accuracy(counts, kind) == pytest.approx(perfect, nan_ok=True)
    assert balanced_accuracy(counts, kind) == pytest.approx(perfect, nan_ok=True)
    assert macro_f1(counts) == pytest.approx(perfect, nan_ok=True)
    assert quadratic_kappa(confusion(held, answered, "multi-class")) is None
    assert reliability(held, scores, kind).error == (None if n == 0 else pytest.approx(0.3))
    brier = {"binary": 0.09, "multi-label": 0.09}.get(kind, 0.18)
    assert brier_score(held, scores, kind) == (None if n == 0 else pytest.approx(brier))
    assert resample_classes(held, answered, scores, ["p"] * n) is None


def test_of_equal_probabilities_the_first_class_answers_as_at_the_threshold() -> None:
    half = np.array([[0.5, 0.5]])
    for kind in ("binary", "multi-class", "ordinal"):
        assert answer_table(half, kind).tolist() == [[True, False]]
    assert answer_table(half, "multi-label").tolist() == [[False, False]]


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize(("kind", "k"), [*SINGLE, ("multi-label", 4)])
def test_calibration_error_by_its_definition(kind: Kind, k: int, bins: int) -> None:
    truth, scores = several(1, 200, k) if kind == "multi-label" else single(1, 200, k)
    held = truth_table(truth, k)
    if kind == "multi-label":
        judged = [
            (max(p, 1 - p), (p > 0.5) == bool(t))
            for row, what in zip(scores, truth, strict=True)
            for p, t in zip(row, what, strict=True)
        ]
    else:
        judged = [(row.max(), row.argmax() == t) for row, t in zip(scores, truth, strict=True)]
    expected, edges = 0.0, [n / bins for n in range(bins + 1)]
    for low, high in itertools.pairwise(edges):
        inside = [(p, right) for p, right in judged if low < p <= high]
        if inside:
            gap = np.mean([right for _, right in inside]) - np.mean([p for p, _ in inside])
            expected += len(inside) / len(judged) * abs(gap)
    found = reliability(held, scores, kind, bins)
    assert found.error == pytest.approx(expected, abs=1e-9)
    assert found.answers.sum() == len(judged)
    assert (np.diff(found.confidence) > 0).all()


def weighted_auc(positive: np.ndarray, score: np.ndarray, times: np.ndarray) -> float:
    drawn = np.repeat(np.arange(len(score)), times)
    return sk.roc_auc_score(positive[drawn], score[drawn])


@pytest.mark.parametrize(("kind", "k"), [*SINGLE, ("multi-label", 3)])
def test_resamples_are_what_drawing_the_cases_again_gives(kind: Kind, k: int) -> None:
    truth, scores = several(2, 120, k) if kind == "multi-label" else single(2, 120, k)
    held, answered = truth_table(truth, k), answer_table(scores, kind)
    member = np.random.default_rng(3).integers(0, 30, 120)  # several cases to a patient
    found = resample_classes(held, answered, scores, [f"p{m:02d}" for m in member], seed=5)
    assert found is not None and found.auc.shape == (1000, k)
    random = np.random.default_rng(5)
    names = np.unique(member)
    for row in range(20):
        drawn = names[random.integers(0, len(names), len(names))]
        cases = np.concatenate([np.flatnonzero(member == patient) for patient in drawn])
        counts = count(held[cases], answered[cases])
        assert found.counts.total[row] == len(cases)
        for name in ("sensitivity", "specificity", "precision", "f1"):
            np.testing.assert_allclose(getattr(found.counts, name)[row], getattr(counts, name), atol=1e-12)
        assert accuracy(found.counts, kind)[row] == pytest.approx(accuracy(counts, kind))
        assert balanced_accuracy(found.counts, kind)[row] == pytest.approx(balanced_accuracy(counts, kind))
        for place in range(k):
            positive = held[cases, place]
            if 0 < positive.sum() < len(cases):
                expected = sk.roc_auc_score(positive, scores[cases, place])
                assert found.auc[row, place] == pytest.approx(expected, abs=1e-12)
            else:
                assert math.isnan(found.auc[row, place])


def test_patients_with_many_cases_widen_the_interval() -> None:
    truth, scores = single(4, 300, 2, ties=False)
    held, answered = truth_table(truth, 2), answer_table(scores, "binary")

    def width(groups: list[str]) -> float:
        found = resample_classes(held, answered, scores, groups)
        assert found is not None
        low, high = percentile_ci95(mean_auc(found.auc, "binary")) or (0.0, 0.0)
        assert low < auc(held[:, 1], scores[:, 1]) < high
        return high - low

    # Ten copies of each case say nothing new: by patient the interval stays, by case it would shrink.
    alone = width([str(n) for n in range(300)])
    held, answered, scores = (np.repeat(table, 10, axis=0) for table in (held, answered, scores))
    together = width([str(n) for n in range(300) for _ in range(10)])
    assert together == pytest.approx(alone, rel=0.1)
    assert width([str(n) for n in range(3000)]) < 0.5 * together


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Positives N(1, 1), negatives N(0, 1): the AUC is Phi(1 / sqrt 2) (Green and Swets 1966).
    expected = 0.5 * (1 + math.erf(0.5))
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        truth = (np.arange(120) < 50).astype(np.int64)
        score = random.normal(size=120) + truth
        scores = np.stack([-score, score], axis=1)
        held = truth_table(truth, 2)
        found = resample_classes(held, scores > 0, scores, [str(n) for n in range(120)])
        low, high = percentile_ci95(found.auc[:, 1]) if found else None
        hits += low <= expected <= high
    assert 87 <= hits <= 100


def test_draws_without_a_class_leave_it_out() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    held = truth_table(np.array([0, 1, 0]), 2)
    found = resample_classes(held, answer_table(scores, "binary"), scores, ["a", "b", "c"])
    assert found is not None and np.isnan(found.auc).any()
    assert percentile_ci95(mean_auc(found.auc, "binary")) == (1.0, 1.0)
    assert percentile_ci95(np.full(3, np.nan)) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 5), st.integers(0, 1000))
def test_figures_lie_between_zero_and_one(n: int, k: int, seed: int) -> None:
    truth, scores = single(seed, n, k)
    held, answered = truth_table(truth, k), answer_table(scores, "multi-class")
    counts = count(held, answered)
    for value in (
        mean_auc(class_aucs(held, scores), "multi-class"),
        accuracy(counts, "multi-class"),
        balanced_accuracy(counts, "multi-class"),
        macro_f1(counts),
    ):
        assert math.isnan(value) or 0 <= value <= 1


NAMES = {1: "benign", 4: "malignant", 9: "unclear"}


def made(n: int = 60) -> list[ClassScores]:
    truth, scores = single(7, n, 3)
    numbers = list(NAMES)
    return [ClassScores(f"c{i:02d}", f"p{i // 2}", numbers[truth[i]], tuple(scores[i].tolist())) for i in range(n)]


def test_class_numbers_are_places_in_the_card(tmp_path: Path) -> None:
    cases = made()
    evaluation = aggregate_classes("test", cases, NAMES, "ordinal")
    scores = np.array([case.probabilities for case in cases])
    truth = np.array([list(NAMES).index(case.truth) for case in cases])
    overall = evaluation.aggregate["all"]
    assert overall["auc"]["value"] == pytest.approx(sk.roc_auc_score(truth, scores, multi_class="ovr"))
    assert overall["accuracy"]["value"] == pytest.approx((scores.argmax(1) == truth).mean())
    kappa = sk.cohen_kappa_score(truth, scores.argmax(1), weights="quadratic")
    assert overall["kappa"]["value"] == pytest.approx(kappa)
    for name in ("auc", "accuracy", "balanced_accuracy", "f1"):
        low, high = overall[name]["ci95"]
        assert low < overall[name]["value"] < high and overall[name]["n"] == 60
    assert evaluation.aggregate["unclear"]["sensitivity"]["n"] == (truth == 2).sum()
    write_metrics(tmp_path / "metrics.json", [evaluation])
    told = json.loads((tmp_path / "metrics.json").read_text())["test"]
    assert list(told) == ["aggregate", "confusion", "cases", "failed"]
    assert told["confusion"] == sk.confusion_matrix(truth, scores.argmax(1)).tolist()
    first = told["cases"]["c00"]
    assert first["truth"] == NAMES[cases[0].truth] and list(first["probabilities"]) == list(NAMES.values())
    assert list(first["probabilities"].values()) == [float(f"{p:.6g}") for p in cases[0].probabilities]
    with (tmp_path / "metrics.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == 60 and rows[5]["predicted"] == list(NAMES.values())[scores[5].argmax()]
    shown = metrics_table(evaluation)
    for words in ("AUC", "balanced accuracy", "weighted kappa", "malignant", "most confident mistakes"):
        assert words in shown
    wrong = np.flatnonzero(scores.argmax(1) != truth)
    worst = wrong[np.argsort(-scores[wrong].max(1), kind="stable")[0]]
    assert evaluation.mistakes()[0][1] == f"c{worst:02d}" and len(evaluation.mistakes()) == len(wrong)


def test_labels_of_one_image_are_lists(tmp_path: Path) -> None:
    truth, scores = several(3, 40, 3)
    cases = [
        ClassScores(f"c{n}", f"c{n}", tuple(truth[n].tolist()), tuple(scores[n].tolist())) for n in range(len(truth))
    ]
    evaluation = aggregate_classes("val", cases, NAMES, "multi-label")
    write_metrics(tmp_path / "metrics.json", [evaluation])
    told = json.loads((tmp_path / "metrics.json").read_text())["val"]
    names = list(NAMES.values())
    for n in range(40):
        assert told["cases"][f"c{n}"]["truth"] == [names[place] for place in np.flatnonzero(truth[n])]
        assert told["cases"][f"c{n}"]["predicted"] == [names[place] for place in np.flatnonzero(scores[n] > 0.5)]
    assert told["confusion"] == sk.multilabel_confusion_matrix(truth, scores > 0.5).tolist()
    assert "kappa" not in told["aggregate"]["all"]
    assert "missed" in metrics_table(evaluation) or "though absent" in metrics_table(evaluation)


def test_what_cannot_be_judged_is_named_and_in_no_figure() -> None:
    cases = [
        *made(20),
        ClassScores("odd", "p", 2, (0.2, 0.2, 0.6)),
        ClassScores("diverged", "p", 1, (math.nan, math.nan, math.nan)),
        ClassScores("short", "p", 1, (0.5, 0.5)),
        ClassScores("listed", "p", (1, 0, 0), (0.5, 0.5, 0.0)),
    ]
    evaluation = aggregate_classes("val", cases, NAMES, "multi-class", [DataError("gone", where="lost")])
    assert len(evaluation.cases) == 20
    assert [error.where for error in evaluation.errors] == ["lost", "odd", "diverged", "short", "listed"]
    assert evaluation.as_json()["val"]["failed"][1]["what"] == "the truth is no class of the card"


@pytest.mark.parametrize("classes", ["multi-class", "multi-label", "ordinal"])
@pytest.mark.parametrize("number", [0, 1])
def test_no_case_and_one_case_can_be_told(tmp_path: Path, classes: Kind, number: int) -> None:
    truth: int | tuple[int, ...] = (1, 0, 0) if classes == "multi-label" else 1
    cases = [ClassScores("only", "p", truth, (0.7, 0.2, 0.1))] * number
    evaluation = aggregate_classes("test", cases, NAMES, classes)
    write_metrics(tmp_path / "metrics.json", [evaluation])
    text = (tmp_path / "metrics.json").read_text()
    assert "NaN" not in text
    if number:
        overall = json.loads(text)["test"]["aggregate"]["all"]
        assert overall["auc"] == {"value": None, "ci95": None, "n": 0}
        assert overall["accuracy"] == {"value": 1.0, "ci95": None, "n": 1}
    assert metrics_table(evaluation)
