"""Scores of one case, and their means over cases.

Empty masks: where truth and prediction are both empty there is nothing to measure, and the case is left out of the
mean Dice and counted; where only one is empty, Dice is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segue.core.errors import DataError
from segue.evaluate.pairs import Pair
from segue.evaluate.part import ALL, PartEvaluation, ScoredCase
from segue.images import read_labels
from segue.metrics import bootstrap_ci95, overlap, postprocessed, unmatched_voxels
from segue.prepare import read_mask

_METRICS = ("dice", "volume_ml", "truth_volume_ml", "false_positive_ml", "false_negative_ml")


@dataclass(frozen=True)
class CaseScores(ScoredCase):
    """``labels[name][metric]``: Dice (None where both are empty) and volumes in ml.

    ``false_positive_ml`` and ``false_negative_ml`` are AutoPET's: whole 18-connected components of the prediction
    (of the truth) that the other does not touch. ``pixel_ml`` is the volume of a pixel where the masks are of one
    slice, else None.
    """

    labels: dict[str, dict[str, float | None]]
    pixel_ml: float | None = None

    @property
    def mean_dice(self) -> float | None:
        """Over the labels that can be measured in this case."""
        values = [d for scores in self.labels.values() if (d := scores["dice"]) is not None]
        return float(np.mean(values)) if values else None


def score_pair(pair: Pair) -> CaseScores:
    """Score one case.

    Raises:
        DataError: unreadable, different grids, or labels that nobody named.
    """
    truth, prediction = read_mask(pair.truth), read_labels(pair.prediction)
    difference = truth.geometry.difference(prediction.geometry)
    if difference:
        raise DataError(
            "truth and prediction lie on different grids",
            where=pair.case,
            value=difference,
            remedy="compare masks of the same image: segue predict keeps the image's own grid",
        )
    t, p = truth.array[0].astype(np.int64), prediction.array[0].astype(np.int64)
    p = postprocessed(p, pair.rules, truth.geometry.voxel_ml)
    labels = pair.labels or {int(n): str(n) for n in np.union1d(np.unique(t), np.unique(p)) if n != 0}
    known = {0, *labels, *([pair.ignore_label] if pair.ignore_label is not None else [])}
    for name, array in (("truth", t), ("prediction", p)):
        unknown = sorted(set(np.unique(array).tolist()) - known)
        if unknown:
            raise DataError(
                f"the {name} holds labels that are not named",
                where=pair.case,
                value=f"{unknown[:5]}; named are {', '.join(f'{n} ({text})' for n, text in labels.items())}",
                remedy="name every label with --labels, for example --labels 1=liver,2=tumour",
            )
    valid = None if pair.ignore_label is None else t != pair.ignore_label
    counts = overlap(p, t, labels, valid)
    ml = truth.geometry.voxel_ml
    scores: dict[str, dict[str, float | None]] = {}
    for number, name in labels.items():
        if number in pair.unlabelled:
            continue  # nobody drew it here: neither present nor absent
        count = counts[number]
        in_truth, in_prediction = t == number, p == number
        if valid is not None:
            in_prediction &= valid
        scores[name] = {
            "dice": count.dice,
            "volume_ml": count.prediction * ml,
            "truth_volume_ml": count.truth * ml,
            "false_positive_ml": unmatched_voxels(in_prediction, in_truth) * ml,
            "false_negative_ml": unmatched_voxels(in_truth, in_prediction) * ml,
        }
    return CaseScores(pair.case, pair.patient, scores, ml if 1 in truth.geometry.shape else None)


@dataclass(frozen=True)
class Evaluation(PartEvaluation[CaseScores]):
    """All cases of one part (``val`` or ``test``), their means, and what could not be measured.

    ``postprocessed`` are the means over the same cases with the post-processing that was chosen on them.
    """

    postprocessed: dict[str, dict[str, dict[str, Any]]] | None = field(default=None, kw_only=True)

    def columns(self) -> list[str]:
        return ["label", *_METRICS]

    def rows(self) -> Iterator[tuple[CaseScores, list[str]]]:
        for case in self.cases:
            for name, scores in case.labels.items():
                values = [scores[metric] for metric in _METRICS]
                yield case, [name, *["" if value is None else f"{value:.6g}" for value in values]]

    def _told(self) -> Iterator[dict[str, Any]]:
        for case in self.cases:
            pixel = {} if case.pixel_ml is None else {"pixel_ml": case.pixel_ml}
            yield {"patient": case.patient, "labels": case.labels, **pixel}

    def _beside(self) -> dict[str, Any]:
        return {} if self.postprocessed is None else {"postprocessed": {"aggregate": self.postprocessed}}

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


def aggregate(part: str, cases: Sequence[CaseScores], errors: Sequence[DataError] = ()) -> Evaluation:
    """Means over cases with 95 % intervals (bootstrap over patients); ``all`` is the mean of the labels' means."""
    names = list(dict.fromkeys(name for case in cases for name in case.labels))
    result: dict[str, dict[str, dict[str, Any]]] = {}
    dice_columns = []
    for name in names:
        scores = [(case, case.labels[name]) for case in cases if name in case.labels]
        dice_columns.append([_number(case.labels.get(name, {}).get("dice")) for case in cases])
        result[name] = {metric: _mean(scores, metric) for metric in _METRICS}
        # A case without this label has no Dice to speak of; what counts there is how much was invented.
        result[name]["false_positive_ml_without_truth"] = _mean(
            scores, "false_positive_ml", lambda values: values["truth_volume_ml"] == 0
        )
        result[name]["dice_both_empty"] = {
            "value": sum(values["dice"] is None for _, values in scores),
            "ci95": None,
            "n": len(scores),
        }
    if names:
        table = np.array(dice_columns, dtype=float).T
        measured = ~np.isnan(table).all(axis=1)
        per_label = [result[name]["dice"]["value"] for name in names if result[name]["dice"]["value"] is not None]
        result[ALL] = {
            "dice": {
                "value": float(np.mean(per_label)) if per_label else None,
                "ci95": bootstrap_ci95(table[measured], [c.patient for c, m in zip(cases, measured, strict=True) if m]),
                "n": int(measured.sum()),
            }
        }
    return Evaluation(part, list(cases), result, list(errors))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _mean(
    scores: Sequence[tuple[CaseScores, dict[str, float | None]]],
    metric: str,
    wanted: Callable[[dict[str, float | None]], bool] = lambda values: True,
) -> dict[str, Any]:
    chosen = [
        (case.patient, value) for case, values in scores if wanted(values) and (value := values[metric]) is not None
    ]
    if not chosen:
        return {"value": None, "ci95": None, "n": 0}
    numbers = np.array([value for _, value in chosen], dtype=float)
    return {
        "value": float(numbers.mean()),
        "ci95": bootstrap_ci95(numbers, [p for p, _ in chosen]),
        "n": len(chosen),
    }
