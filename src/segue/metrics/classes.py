"""How good the answers of a classification are.

Every kind of answer is judged through two tables ``(cases, classes)`` of truth values: what holds, and what was
answered. Of ``binary``, ``multi-class`` and ``ordinal`` one class holds per case, of ``multi-label`` any number.

AUC and accuracy are those of the MedMNIST evaluator (Yang et al., Scientific Data 2023): the class of the largest
score answers, of a binary one class 1 where its score is above 0.5, of a multi-label one each label above 0.5. What
cannot be measured (the AUC of a class that is absent, or that every case has) is NaN here and in no mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Integer, Num

Kind = Literal["binary", "multi-class", "multi-label", "ordinal"]

CALIBRATION_BINS = 15
_THRESHOLD = 0.5


def truth_table(truth: Integer[np.ndarray, " n"] | Integer[np.ndarray, "n k"], classes: int) -> Bool[np.ndarray, "n k"]:
    """What holds: from one class position per case, or from one 0 or 1 per label."""
    if truth.ndim == 2:
        return truth.astype(bool)
    table = np.zeros((len(truth), classes), dtype=bool)
    table[np.arange(len(truth)), truth] = True
    return table


def answer_table(probabilities: Float[np.ndarray, "n k"], kind: Kind) -> Bool[np.ndarray, "n k"]:
    """What is answered; of classes with equal probability the first."""
    if kind == "multi-label":
        return probabilities > _THRESHOLD
    if kind == "binary":
        return truth_table((probabilities[:, 1] > _THRESHOLD).astype(np.int64), 2)
    return truth_table(np.argmax(probabilities, axis=1), probabilities.shape[1])


@dataclass(frozen=True)
class Counts:
    """Cases per class; the last axis is the class, any axes before it are resamples.

    Attributes:
        both: in the truth and in the answer.
        truth, answer: in each of the two.
        total: cases in all, without the axis of the classes.
    """

    both: Num[np.ndarray, "*resamples k"]
    truth: Num[np.ndarray, "*resamples k"]
    answer: Num[np.ndarray, "*resamples k"]
    total: Num[np.ndarray, "*resamples"]

    @property
    def sensitivity(self) -> Float[np.ndarray, "*resamples k"]:
        """Recall: of the cases with the class, the share that was found."""
        return _ratio(self.both, self.truth)

    @property
    def specificity(self) -> Float[np.ndarray, "*resamples k"]:
        """Of the cases without the class, the share for which it was not answered."""
        neither = self.total[..., None] - self.truth - self.answer + self.both
        return _ratio(neither, self.total[..., None] - self.truth)

    @property
    def precision(self) -> Float[np.ndarray, "*resamples k"]:
        """Positive predictive value: of the cases for which the class was answered, the share that has it."""
        return _ratio(self.both, self.answer)

    @property
    def f1(self) -> Float[np.ndarray, "*resamples k"]:
        """``2 both / (truth + answer)``; NaN for a class that is in neither."""
        return _ratio(2 * self.both, self.truth + self.answer)


def count(truth: Bool[np.ndarray, "n k"], answer: Bool[np.ndarray, "n k"]) -> Counts:
    """The counts of all cases, without resampling."""
    return Counts((truth & answer).sum(0), truth.sum(0), answer.sum(0), np.array(len(truth)))


def accuracy(counts: Counts, kind: Kind) -> Float[np.ndarray, "*resamples"]:
    """Share of right answers; of a multi-label one the mean over the labels."""
    if kind == "multi-label":
        wrong = counts.truth + counts.answer - 2 * counts.both
        return mean_known(1 - _ratio(wrong, counts.total[..., None]))
    return _ratio(counts.both.sum(-1), counts.total)


def balanced_accuracy(counts: Counts, kind: Kind) -> Float[np.ndarray, "*resamples"]:
    """Mean sensitivity over the classes that occur (Brodersen et al., ICPR 2010).

    Of a multi-label one: sensitivity and specificity of each label averaged, then the mean over the labels.
    """
    if kind == "multi-label":
        return mean_known(mean_known(np.stack([counts.sensitivity, counts.specificity], axis=-1)))
    return mean_known(counts.sensitivity)


def macro_f1(counts: Counts) -> Float[np.ndarray, "*resamples"]:
    """Mean F1 over the classes (of a binary one: both) that occur in truth or answers."""
    return mean_known(counts.f1)


def mean_auc(per_class: Float[np.ndarray, "*resamples k"], kind: Kind) -> Float[np.ndarray, "*resamples"]:
    """Of class 1 where the kind is binary, else the mean over the classes (one against the rest)."""
    return per_class[..., 1] if kind == "binary" else mean_known(per_class)


def auc(positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> float:
    """Area under the ROC curve, ties counting half (Mann and Whitney); NaN without positives or negatives."""
    ranking = Ranking.of(positive, score)
    return float(ranking.auc(np.ones((1, len(score))))[0])


def class_aucs(truth: Bool[np.ndarray, "n k"], scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """The AUC of each class against the rest."""
    return np.array([auc(truth[:, place], scores[:, place]) for place in range(truth.shape[1])], dtype=float)


@dataclass(frozen=True)
class Ranking:
    """The cases in the order of one class's score: sorted once, weighted as often as there are resamples.

    Attributes:
        order: cases by rising score.
        positives: the cases that have the class.
        below, upto: of each positive, how many cases have a lower score, and how many no higher one.
    """

    order: Integer[np.ndarray, " n"]
    positives: Integer[np.ndarray, " p"]
    below: Integer[np.ndarray, " p"]
    upto: Integer[np.ndarray, " p"]

    @classmethod
    def of(cls, positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]) -> Ranking:
        order = np.argsort(score, kind="stable")
        ranked, theirs = score[order], score[positive]
        below, upto = np.searchsorted(ranked, theirs, "left"), np.searchsorted(ranked, theirs, "right")
        return cls(order, np.flatnonzero(positive), below, upto)

    def auc(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """The AUC for each row of case weights (how often a case was drawn)."""
        before = np.zeros((len(weights), weights.shape[1] + 1))
        np.cumsum(np.take(weights, self.order, axis=1), axis=1, out=before[:, 1:])
        drawn = np.take(weights, self.positives, axis=1)
        middle = 0.5 * (np.take(before, self.below, axis=1) + np.take(before, self.upto, axis=1))
        positives = drawn.sum(axis=1)
        # Positives that precede positives, ties half, are half of all their pairs: what is left precedes negatives.
        won = np.einsum("rp,rp->r", drawn, middle) - 0.5 * positives**2
        return _ratio(won, positives * (before[:, -1] - positives))


def roc_points(
    positive: Bool[np.ndarray, " n"], score: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]] | None:
    """False and true positive rate at every threshold, from (0, 0) to (1, 1); None without positives or negatives."""
    positives = int(positive.sum())
    if not 0 < positives < len(positive):
        return None
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    found = np.cumsum(positive[order])[last]
    wrong = last + 1 - found
    return np.append(0.0, wrong / (len(score) - positives)), np.append(0.0, found / positives)


def confusion(truth: Bool[np.ndarray, "n k"], answer: Bool[np.ndarray, "n k"], kind: Kind) -> Integer[np.ndarray, ...]:
    """``(k, k)`` cases, rows are the truth; of a multi-label one ``(k, 2, 2)``, absent before present."""
    if kind != "multi-label":
        return truth.astype(np.int64).T @ answer.astype(np.int64)
    counts = count(truth, answer)
    missed, invented = counts.truth - counts.both, counts.answer - counts.both
    neither = counts.total - counts.both - missed - invented
    return np.stack([neither, invented, missed, counts.both], axis=-1).reshape(-1, 2, 2)


def quadratic_kappa(matrix: Integer[np.ndarray, "k k"]) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968) of a confusion matrix whose classes are in their order.

    None where chance alone would agree wholly (truth and answers are one class).
    """
    places = np.arange(len(matrix))
    weights = (places[:, None] - places[None]) ** 2
    expected = (weights * np.outer(matrix.sum(1), matrix.sum(0))).sum() / max(1, matrix.sum())
    return float(1 - (weights * matrix).sum() / expected) if expected > 0 else None


def brier_score(truth: Bool[np.ndarray, "n k"], probabilities: Float[np.ndarray, "n k"], kind: Kind) -> float | None:
    """Mean squared distance of the probabilities from the truth (Brier 1950); 0 is best, None without cases.

    Binary: of class 1, 0 to 1. Multi-class and ordinal: summed over the classes, 0 to 2. Multi-label: the mean over
    the labels, 0 to 1.
    """
    if not len(truth):
        return None
    squares = (probabilities - truth) ** 2
    if kind == "binary":
        return float(squares[:, 1].mean())
    return float(squares.mean() if kind == "multi-label" else squares.sum(axis=1).mean())


@dataclass(frozen=True)
class Reliability:
    """Answers in bins of equal width of their confidence, empty bins left out; the last axis is the bin.

    Attributes:
        confidence: mean confidence of the answers in the bin.
        accuracy: share of them that is right.
        answers: how many they are.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    answers: Integer[np.ndarray, " bins"]

    @property
    def error(self) -> float | None:
        """Expected calibration error: mean of ``|accuracy - confidence|`` over the answers; None without any."""
        if not self.answers.sum():
            return None
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.answers))


def reliability(
    truth: Bool[np.ndarray, "n k"], probabilities: Float[np.ndarray, "n k"], kind: Kind, bins: int = CALIBRATION_BINS
) -> Reliability:
    """How often answers of a confidence are right (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    The confidence is the probability of the class that was answered; a bin holds ``low < confidence <= high``. Of a
    multi-label one every label of every case is an answer of its own (present or absent), all in the same bins.
    """
    answer = answer_table(probabilities, kind)
    if kind == "multi-label":
        confidence = np.where(answer, probabilities, 1 - probabilities).ravel()
        right = (answer == truth).ravel()
    else:
        confidence, right = probabilities[answer], (answer & truth).any(axis=1)
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    answers = np.bincount(place, minlength=bins)
    held = answers > 0
    sums = [np.bincount(place, values, minlength=bins)[held] / answers[held] for values in (confidence, right)]
    return Reliability(sums[0], sums[1], answers[held])


def mean_known(values: Float[np.ndarray, "*resamples k"]) -> Float[np.ndarray, "*resamples"]:
    """The mean along the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def _ratio(part: Num[np.ndarray, ...] | np.generic, whole: Num[np.ndarray, ...] | np.generic) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(whole) > 0, np.true_divide(part, whole), np.nan)
