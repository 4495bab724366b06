"""Scores of masks over all cases of a part, with intervals over patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from segue.core.errors import DataError
from segue.evaluate.measures import BY_NAME, METRICS, Lesionwise
from segue.evaluate.part import ALL, PartEvaluation
from segue.evaluate.scores import CaseScores
from segue.metrics import bootstrap_ci95, bootstrap_columns

_Aggregate = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Evaluation(PartEvaluation[CaseScores]):
    """All cases of one part (``val`` or ``test``), their means, and what could not be measured.

    ``regions`` are the means of the unions of labels; in ``metrics.json`` they stand beside those of the labels.
    ``postprocessed`` are the means over the same cases with the post-processing that was chosen on them.
    ``lesionwise`` are the rules of BraTS by which lesions were matched, where that was asked for.
    """

    postprocessed: _Aggregate | None = field(default=None, kw_only=True)
    regions: _Aggregate = field(default_factory=dict, kw_only=True)
    lesionwise: Lesionwise | None = field(default=None, kw_only=True)

    def columns(self) -> list[str]:
        return ["label", *self._metrics()]

    def rows(self) -> Iterator[tuple[CaseScores, list[str]]]:
        metrics = self._metrics()
        for case in self.cases:
            for name, scores in case.named.items():
                values = [scores.get(metric) for metric in metrics]
                yield case, [name, *["" if value is None else f"{value:.6g}" for value in values]]

    def _metrics(self) -> list[str]:
        """Those that any case has, in their order."""
        there = {metric for case in self.cases for scores in case.named.values() for metric in scores}
        return [metric.name for metric in METRICS if metric.name in there]

    def _told(self) -> Iterator[dict[str, Any]]:
        for case in self.cases:
            beside = {"regions": case.regions or None, "pixel_ml": case.pixel_ml, "worst_mm": case.worst_mm}
            known = {name: value for name, value in beside.items() if value is not None}
            yield {"patient": case.patient, "labels": case.labels, **known}

    def _aggregated(self) -> _Aggregate:
        return {**self.aggregate, **self.regions}

    def _beside(self) -> dict[str, Any]:
        return {
            **({} if self.tolerance_mm is None else {"tolerance_mm": self.tolerance_mm}),
            **({} if self.lesionwise is None else {"lesionwise": asdict(self.lesionwise)}),
            **({} if self.postprocessed is None else {"postprocessed": {"aggregate": self.postprocessed}}),
        }

    @property
    def tolerance_mm(self) -> float | None:
        """That of NSD, if it is the same for all cases."""
        return _common_tolerance(self.cases)

    @property
    def pixel_ml(self) -> float | None:
        """The volume of a pixel where all cases are pictures with pixels of one size, else None."""
        return common_pixel_ml([case.pixel_ml for case in self.cases])

    @property
    def mean_dice(self) -> float | None:
        return self.aggregate.get(ALL, {}).get("dice", {}).get("value")


def common_pixel_ml(sizes: Sequence[float | None]) -> float | None:
    """The one size of all; None where they differ, or one of them is no picture."""
    first = sizes[0] if sizes else None
    same = first is not None and all(size is not None and np.isclose(size, first, rtol=1e-4) for size in sizes)
    return first if same else None


def distance_unit(pixel_ml: float | None) -> str:
    """``px`` where all cases are pictures without a stored size, whose pixels count as 1 mm each way, else ``mm``."""
    return "px" if pixel_ml is not None and np.isclose(pixel_ml, 0.001, rtol=1e-6) else "mm"


def aggregate(
    part: str,
    cases: Sequence[CaseScores],
    errors: Sequence[DataError] = (),
    lesionwise: Lesionwise | None = None,
) -> Evaluation:
    """Means over cases with 95 % intervals (bootstrap over patients).

    A figure that a case does not have (:mod:`segue.evaluate.scores` says when) is in no mean, and ``n`` is over how
    many cases it is. ``dice_both_empty`` counts the cases with neither truth nor prediction, ``dice_one_empty`` those
    with only one of the two. ``all`` is the mean of the labels' means, without volumes; over regions where there is no
    label. NSD at different tolerances has no mean.
    """
    labels = _named(cases, [case.labels for case in cases])
    regions = _named(cases, [case.regions for case in cases])
    several = labels or regions
    if several:
        scores = [case.labels if labels else case.regions for case in cases]
        labels[ALL] = _over_labels(cases, scores, several)
    return Evaluation(part, list(cases), labels, list(errors), regions=regions, lesionwise=lesionwise)


_Scores = Sequence[dict[str, dict[str, float | None]]]


def _named(cases: Sequence[CaseScores], scores: _Scores) -> _Aggregate:
    """Each label's (or region's) figures over the cases, all intervals in one go."""
    metrics = _metrics(cases, scores)
    columns: list[tuple[str, str]] = []
    values = []
    for name in dict.fromkeys(name for of_case in scores for name in of_case):
        of_name = [of_case.get(name, {}) for of_case in scores]
        for metric in metrics:
            columns.append((name, metric))
            values.append([_number(found.get(metric)) for found in of_name])
        if "false_positive_ml" in metrics:
            # A case without this label has no Dice to speak of; what counts there is how much was invented.
            columns.append((name, "false_positive_ml_without_truth"))
            values.append([
                _number(found.get("false_positive_ml") if found.get("truth_volume_ml") == 0 else None)
                for found in of_name
            ])  # fmt: skip
    if not columns:
        return {}
    table = np.array(values, dtype=float).T
    intervals = bootstrap_columns(table, [case.patient for case in cases])
    result: _Aggregate = {}
    for (name, metric), column, interval in zip(columns, table.T, intervals, strict=True):
        known = column[~np.isnan(column)]
        value = float(known.mean()) if len(known) else None
        result.setdefault(name, {})[metric] = {"value": value, "ci95": interval, "n": len(known)}
    for name, figures in result.items():
        told = [found for of_case in scores if (found := of_case.get(name)) is not None]
        both = [_both_empty(found) for found in told]
        one = [
            not neither and 0 in (found.get("truth_volume_ml"), found.get("volume_ml"))
            for found, neither in zip(told, both, strict=True)
        ]
        figures["dice_both_empty"] = {"value": sum(both), "ci95": None, "n": len(told)}
        figures["dice_one_empty"] = {"value": sum(one), "ci95": None, "n": len(told)}
    return result


def _both_empty(figures: dict[str, float | None]) -> bool:
    return figures.get("dice") is None or (figures.get("truth_volume_ml") == 0 and figures.get("volume_ml") == 0)


def _over_labels(cases: Sequence[CaseScores], scores: _Scores, of_label: _Aggregate) -> dict[str, dict[str, Any]]:
    patients = [case.patient for case in cases]
    result = {}
    for metric in _metrics(cases, scores):
        if not BY_NAME[metric].over_labels:
            continue
        table = np.array([[_number(found.get(name, {}).get(metric)) for name in of_label] for found in scores])
        measured = ~np.isnan(table).all(axis=1)
        means = [value for figures in of_label.values() if (value := figures[metric]["value"]) is not None]
        result[metric] = {
            "value": float(np.mean(means)) if means else None,
            "ci95": bootstrap_ci95(table[measured], [p for p, known in zip(patients, measured, strict=True) if known]),
            "n": int(measured.sum()),
        }
    return result


def _metrics(cases: Sequence[CaseScores], scores: _Scores) -> list[str]:
    there = {metric for of_case in scores for figures in of_case.values() for metric in figures}
    if _common_tolerance(cases) is None and len({case.tolerance_mm for case in cases}) > 1:
        there.discard("nsd")
    return [metric.name for metric in METRICS if metric.name in there]


def _common_tolerance(cases: Sequence[CaseScores]) -> float | None:
    tolerances = {case.tolerance_mm for case in cases if case.tolerance_mm is not None}
    return tolerances.pop() if len(tolerances) == 1 else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
