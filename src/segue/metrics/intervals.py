"""Confidence intervals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000


def bootstrap_ci95(
    values: Float[np.ndarray, "cases ..."], groups: list[str], seed: int = 0
) -> tuple[float, float] | None:
    """Percentile bootstrap of the mean (Efron 1979), resampling whole groups (patients) with replacement.

    ``values`` is one number per case, or one row of numbers per case whose column means are averaged; NaN
    is left out of the means. None with fewer than two groups.
    """
    names, member = np.unique(np.array(groups), return_inverse=True)
    if len(names) < 2:
        return None
    table = values.reshape(len(values), -1)
    present = ~np.isnan(table)
    sums = np.zeros((len(names), table.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, member, np.where(present, table, 0.0))
    np.add.at(counts, member, present.astype(float))
    draws = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
    total, number = sums[draws].sum(axis=1), counts[draws].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = np.where(number > 0, total / number, np.nan)
    means = np.nanmean(columns, axis=1) if columns.shape[1] > 1 else columns[:, 0]
    means = means[~np.isnan(means)]
    if not len(means):
        return None
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
