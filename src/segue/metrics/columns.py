"""Confidence intervals of many figures of the same cases at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from segue.metrics.intervals import RESAMPLES

# Resamples at a time: their weights and sums stay some tens of megabytes for thousands of patients and columns.
_BLOCK = 500


def bootstrap_columns(
    values: Float[np.ndarray, "cases columns"], groups: Sequence[str], seed: int = 0
) -> list[tuple[float, float] | None]:
    """For each column what :func:`segue.metrics.bootstrap_ci95` gives for its cases that are not NaN.

    Columns that lack the same cases share their resamples, and the means of a resample are one matrix product: of a
    hundred labels with twenty figures each this takes a second instead of minutes.
    """
    found: list[tuple[float, float] | None] = [None] * values.shape[1]
    present = ~np.isnan(values)
    whose = np.array(groups)
    patterns, pattern_of = np.unique(present.T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        cases, columns = np.flatnonzero(pattern), np.flatnonzero(pattern_of.ravel() == number)
        names, member = np.unique(whose[cases], return_inverse=True)
        if len(names) < 2:
            continue
        sums = np.zeros((len(names), len(columns)))
        np.add.at(sums, member, values[np.ix_(cases, columns)])
        counts = np.bincount(member).astype(float)
        draws = np.random.default_rng(seed).integers(0, len(names), (RESAMPLES, len(names)))
        means = np.concatenate([
            _means(draws[begin : begin + _BLOCK], sums, counts) for begin in range(0, RESAMPLES, _BLOCK)
        ])  # fmt: skip
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        for column, interval in zip(columns, zip(low.tolist(), high.tolist(), strict=True), strict=True):
            found[column] = interval
    return found


def _means(
    draws: np.ndarray, sums: Float[np.ndarray, "groups columns"], counts: Float[np.ndarray, " groups"]
) -> Float[np.ndarray, "draws columns"]:
    rows, size = draws.shape
    places = draws + size * np.arange(rows)[:, None]
    times = np.bincount(places.ravel(), minlength=rows * size).reshape(rows, size).astype(float)
    return (times @ sums) / (times @ counts)[:, None]
