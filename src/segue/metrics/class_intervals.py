"""Confidence intervals of the figures of a classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from segue.metrics.classes import Counts, Ranking

RESAMPLES = 1000
_LEAST_RESAMPLES = 200
# Cases times classes times resamples: some seconds of one core. Beyond it there are fewer resamples.
_MOST_WORK = 400_000_000
# Case weights held at a time: more of them leave the processor's cache, and take three times as long.
_BLOCK = 200_000


@dataclass(frozen=True)
class Resampled:
    """What each resample of the patients gives: the AUC of each class, and the counts."""

    auc: Float[np.ndarray, "resamples k"]
    counts: Counts


def resample_classes(
    truth: Bool[np.ndarray, "n k"],
    answer: Bool[np.ndarray, "n k"],
    scores: Float[np.ndarray, "n k"],
    groups: Sequence[str],
    seed: int = 0,
) -> Resampled | None:
    """Draw whole groups (patients) with replacement (Efron 1979) and measure each draw.

    1000 times, and fewer (at least 200) where cases times classes exceed 400,000. A class that a draw does not hold is
    NaN there. None with fewer than two groups.
    """
    names, member = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        return None
    cases, classes = truth.shape
    resamples = int(np.clip(_MOST_WORK // (cases * classes), _LEAST_RESAMPLES, RESAMPLES))
    random = np.random.default_rng(seed)
    rankings = [Ranking.of(truth[:, place], scores[:, place]) for place in range(classes)]
    columns = np.concatenate([truth & answer, truth, answer, np.ones((cases, 1), dtype=bool)], axis=1).astype(float)
    per_group = np.zeros((len(names), columns.shape[1]))
    np.add.at(per_group, member, columns)
    aucs, sums = [], []
    done = 0
    while done < resamples:
        rows = min(resamples - done, max(1, _BLOCK // cases))
        drawn = random.integers(0, len(names), (rows, len(names))) + len(names) * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * len(names)).reshape(rows, -1).astype(float)
        weights = np.take(times, member, axis=1)
        aucs.append(np.stack([ranking.auc(weights) for ranking in rankings], axis=1))
        sums.append(times @ per_group)
        done += rows
    both, held, answered, total = np.split(np.concatenate(sums), [classes, 2 * classes, 3 * classes], axis=1)
    return Resampled(np.concatenate(aucs), Counts(both, held, answered, total[:, 0]))


def percentile_ci95(values: Float[np.ndarray, " resamples"]) -> tuple[float, float] | None:
    """The 2.5th and 97.5th percentile of what is not NaN; None where nothing is."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
