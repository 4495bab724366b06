"""Scores of a classification: the answers over all cases of a part, with intervals over patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from segue import metrics
from segue.catalogue.card import Classes
from segue.core.errors import DataError
from segue.evaluate.part import ALL, PartEvaluation, ScoredCase
from segue.metrics import Counts, percentile_ci95

_PER_CLASS = ("sensitivity", "specificity", "precision", "f1")


@dataclass(frozen=True)
class ClassScores(ScoredCase):
    """One case.

    Attributes:
        truth: number of its class; of a multi-label one, one 0 or 1 per class.
        probabilities: one per class, in the order of the card's labels.
    """

    truth: int | tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class ClassEvaluation(PartEvaluation[ClassScores]):
    """All cases of one part, and how good the answers were.

    Attributes:
        labels: number and name of each class, in the order of the probabilities.
        confusion: cases by true (row) and answered (column) class; multi-label: ``[[tn, fp], [fn, tp]]`` per label.
    """

    labels: dict[int, str] = field(kw_only=True)
    classes: Classes = field(kw_only=True)
    confusion: list[Any] = field(kw_only=True)

    def columns(self) -> list[str]:
        return ["truth", "predicted", *[f"p({name})" for name in self.labels.values()]]

    def rows(self) -> Iterator[tuple[ClassScores, list[str]]]:
        for case, told in zip(self.cases, self._told(), strict=True):
            words = [name if isinstance(name, str) else "; ".join(name) for name in (told["truth"], told["predicted"])]
            yield case, [*words, *[f"{p:.6g}" for p in case.probabilities]]

    def mistakes(self) -> list[tuple[float, str, str]]:
        """(probability, case, what was answered instead of what) of every wrong case, the most confident first."""
        truth, probabilities = _tables(self.cases, self.labels, self.classes)
        answer = metrics.answer_table(probabilities, self.classes)
        names = list(self.labels.values())
        found = []
        for row, case in enumerate(self.cases):
            wrong = np.flatnonzero(truth[row] != answer[row])
            if not len(wrong):
                continue
            if self.classes == "multi-label":
                confidence = np.where(answer[row, wrong], probabilities[row, wrong], 1 - probabilities[row, wrong])
                place = int(wrong[confidence.argmax()])
                what = f"{names[place]} {'though absent' if answer[row, place] else 'missed'}"
                found.append((float(confidence.max()), case.case, what))
            else:
                place = int(answer[row].argmax())
                what = f"{names[place]} instead of {names[int(truth[row].argmax())]}"
                found.append((float(probabilities[row, place]), case.case, what))
        return sorted(found, key=lambda mistake: (-mistake[0], mistake[1]))

    def _told(self) -> Iterator[dict[str, Any]]:
        truth, probabilities = _tables(self.cases, self.labels, self.classes)
        names = list(self.labels.values())
        tables = (truth.tolist(), metrics.answer_table(probabilities, self.classes).tolist())
        for case, *rows in zip(self.cases, *tables, strict=True):
            held: list[list[str]] = [list(compress(names, row)) for row in rows]
            several = self.classes == "multi-label"
            yield {
                "patient": case.patient,
                "truth": held[0] if several else held[0][0],
                "predicted": held[1] if several else held[1][0],
                "probabilities": {name: float(f"{p:.6g}") for name, p in zip(names, case.probabilities, strict=True)},
            }

    def _beside(self) -> dict[str, Any]:
        return {"confusion": self.confusion}


def aggregate_classes(
    part: str,
    cases: Sequence[ClassScores],
    labels: dict[int, str],
    classes: Classes,
    errors: Sequence[DataError] = (),
) -> ClassEvaluation:
    """Figures over all cases with 95 % intervals (bootstrap over patients); definitions: :mod:`segue.metrics.classes`.

    ``n`` is over how many cases a figure is: sensitivity over those with the class, specificity over those without,
    precision over those for which it was answered. A case that cannot be judged (a truth that is no class of the card,
    a probability that is no number) is among the errors and in no figure.
    """
    failed, judged = list(errors), []
    for case in cases:
        problem = _problem(case, labels, classes)
        if problem is None:
            judged.append(case)
        else:
            failed.append(problem)
    truth, probabilities = _tables(judged, labels, classes)
    answer = metrics.answer_table(probabilities, classes)
    matrix = metrics.confusion(truth, answer, classes)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    if judged:
        counts, aucs = metrics.count(truth, answer), metrics.class_aucs(truth, probabilities)
        drawn = metrics.resample_classes(truth, answer, probabilities, [case.patient for case in judged])
        overall = _overall(aucs, counts, classes)
        around = _overall(drawn.auc, drawn.counts, classes) if drawn else {}
        result[ALL] = {name: _figure(value, around.get(name), len(judged)) for name, value in overall.items()}
        if classes == "ordinal":
            result[ALL]["kappa"] = _plain(metrics.quadratic_kappa(matrix), len(judged))
        result[ALL]["brier"] = _plain(metrics.brier_score(truth, probabilities, classes), len(judged))
        error = metrics.reliability(truth, probabilities, classes).error
        result[ALL]["calibration_error"] = _plain(error, len(judged))
        for place, name in enumerate(labels.values()):
            with_class = int(counts.truth[place])
            numbers = (with_class, len(judged) - with_class, int(counts.answer[place]), len(judged))
            result[name] = {"auc": _figure(aucs[place], drawn.auc[:, place] if drawn else None, len(judged))}
            for metric, number in zip(_PER_CLASS, numbers, strict=True):
                values = getattr(drawn.counts, metric)[:, place] if drawn else None
                result[name][metric] = _figure(getattr(counts, metric)[place], values, number)
    return ClassEvaluation(
        part, judged, result, failed, labels=dict(labels), classes=classes, confusion=matrix.tolist()
    )


def _overall(aucs: Float[np.ndarray, "*r k"], counts: Counts, classes: Classes) -> dict[str, np.ndarray]:
    return {
        "auc": metrics.mean_auc(aucs, classes),
        "accuracy": metrics.accuracy(counts, classes),
        "balanced_accuracy": metrics.balanced_accuracy(counts, classes),
        "f1": metrics.macro_f1(counts),
    }


def _figure(value: Any, resamples: np.ndarray | None, n: int) -> dict[str, Any]:
    number = float(value)
    if np.isnan(number):
        return {"value": None, "ci95": None, "n": 0}
    return {"value": number, "ci95": None if resamples is None else percentile_ci95(resamples), "n": n}


def _plain(value: float | None, n: int) -> dict[str, Any]:
    return {"value": value, "ci95": None, "n": 0 if value is None else n}


def _problem(case: ClassScores, labels: dict[int, str], classes: Classes) -> DataError | None:
    if len(case.probabilities) != len(labels) or not np.isfinite(case.probabilities).all():
        return DataError(
            "the prediction is not one number per class",
            where=case.case,
            value=", ".join(f"{p:g}" for p in case.probabilities) + f"; classes: {len(labels)}",
            remedy="predict again; if the training diverged, train with a smaller learning rate",
        )
    truth = case.truth
    if classes == "multi-label":
        known = isinstance(truth, tuple) and len(truth) == len(labels) and set(truth) <= {0, 1}
    else:
        known = isinstance(truth, int) and truth in labels
    if known:
        return None
    return DataError(
        "the truth is no class of the card",
        where=case.case,
        value=f"{truth}; classes: {', '.join(f'{number} ({name})' for number, name in labels.items())}",
        remedy="mend 'labels' in the card, or the truth of this case",
    )


def _tables(
    cases: Sequence[ClassScores], labels: dict[int, str], classes: Classes
) -> tuple[Bool[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Truth and probabilities; a class is where the card lists it, whatever its number."""
    probabilities = np.array([case.probabilities for case in cases], dtype=float).reshape(-1, len(labels))
    place = {number: index for index, number in enumerate(labels)}
    if classes == "multi-label":
        truth = np.array([case.truth for case in cases], dtype=np.int64).reshape(-1, len(labels))
    else:
        truth = np.array(list(_places(cases, place)), dtype=np.int64)
    return metrics.truth_table(truth, len(labels)), probabilities


def _places(cases: Sequence[ClassScores], place: dict[int, int]) -> Iterator[int]:
    for case in cases:
        assert isinstance(case.truth, int)  # only a multi-label truth is a tuple
        yield place[case.truth]
