"""Which post-processing helps, by the predictions of a cross-validation.

Per label are tried: only the largest component, and components of a least volume. The volumes come from the data:
quantiles of those predicted components that touch no truth, since these are what a least volume is to remove.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segue.evaluate.pairs import Pair
from segue.images import read_labels
from segue.metrics import ComponentRule, Components, bootstrap_ci95, match_components
from segue.prepare import read_mask

if TYPE_CHECKING:  # workers that only measure do without torch
    from segue.predict import PostProcessing, Trial

# Less than this is no gain that a reader of the figures would see.
LEAST_GAIN = 0.001
# A rule must be carried by several patients: with the bound below zero it may be chance, or one patient.
CHOSEN_WHEN = (
    f"mean Dice over patients gains more than {LEAST_GAIN:g} and the 95 % interval of the gain (paired bootstrap over "
    "patients) lies above 0; of several rules the one that gains most"
)
_QUANTILES = (0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class CaseComponents:
    """The predicted components of each label of one case, by label number; voxels are of ``voxel_ml``."""

    case: str
    patient: str
    voxel_ml: float
    labels: dict[int, Components]


def measure_components(pair: Pair) -> CaseComponents:
    """Match the components of a prediction with the truth.

    Raises:
        DataError: unreadable.
    """
    truth, prediction = read_mask(pair.truth), read_labels(pair.prediction)
    t, p = truth.array[0], prediction.array[0]
    valid = None if pair.ignore_label is None else t != pair.ignore_label
    found = {
        number: match_components(p == number, t == number, valid)
        for number in pair.labels
        if number not in pair.unlabelled
    }
    return CaseComponents(pair.case, pair.patient, truth.geometry.voxel_ml, found)


def choose_postprocessing(
    cases: Sequence[CaseComponents], labels: dict[int, str], members: Sequence[str]
) -> PostProcessing:
    """Try every rule on every label, and choose where one helps (:data:`CHOSEN_WHEN`).

    The figures are of the cases that the choice was made on, so a little too good.
    """
    from segue.predict import LabelChoice, PostProcessing

    choices = []
    for number, name in labels.items():
        seen = [(case, case.labels[number]) for case in cases if number in case.labels]
        tried = [_trial(seen, rule) for rule in _candidates(seen)]
        helpful = [t for t in tried if t.gain > LEAST_GAIN and t.ci95 is not None and t.ci95[0] > 0]
        best = max(helpful, key=lambda trial: trial.gain, default=None)
        patients = len({case.patient for case, _ in seen})
        choices.append(
            LabelChoice(
                number=number, name=name, patients=patients, chosen=best.rule if best is not None else None, tried=tried
            )
        )
    return PostProcessing(chosen_when=CHOSEN_WHEN, members=list(members), labels=choices)


_Seen = Sequence[tuple[CaseComponents, Components]]


def _candidates(seen: _Seen) -> list[ComponentRule]:
    """Least volumes ascending, so that of rules that gain the same the mildest is chosen; the largest alone last."""
    invented = [size * case.voxel_ml for case, found in seen for size in found.voxels[found.shared == 0]]
    volumes = []
    if invented:
        volumes = [_just_above(float(ml)) for ml in np.quantile(invented, _QUANTILES, method="higher")]
    several = any(len(found.voxels) > 1 for _, found in seen)
    return [ComponentRule(minimum_ml=ml) for ml in dict.fromkeys(volumes)] + (
        [ComponentRule(largest=True)] if several else []
    )


def _just_above(volume_ml: float) -> float:
    """The next number of three digits: what has the volume itself is removed."""
    step = 10.0 ** (math.floor(math.log10(volume_ml)) - 2)
    return float(f"{(math.floor(volume_ml / step + 1e-9) + 1) * step:.6g}")


def _trial(seen: _Seen, rule: ComponentRule) -> Trial:
    from segue.predict import Trial

    before: dict[str, list[float]] = {}
    after: dict[str, list[float]] = {}
    for case, found in seen:
        kept = rule.keeps(found.voxels, case.voxel_ml)
        before.setdefault(case.patient, []).append(_dice(found, np.ones_like(kept)))
        after.setdefault(case.patient, []).append(_dice(found, kept))
    patients = list(before)
    old, new = (np.array([np.mean(values[patient]) for patient in patients]) for values in (before, after))
    return Trial(
        rule=rule,
        dice_before=float(old.mean()),
        dice_after=float(new.mean()),
        gain=float((new - old).mean()),
        ci95=bootstrap_ci95(new - old, patients),
    )


def _dice(found: Components, kept: np.ndarray) -> float:
    size = int(found.counted[kept].sum()) + found.truth
    return 2 * int(found.shared[kept].sum()) / size if size else 1.0
