"""Paired comparison against scipy, Holm's correction against a published example."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from segue.metrics import bootstrap_ci95, holm, paired


def test_paired_as_scipy_where_each_patient_has_one_case() -> None:
    random = np.random.default_rng(0)
    one = random.normal(0.8, 0.05, 40)
    other = one + random.normal(0.01, 0.02, 40)
    ours = paired(list(one), list(other), [str(n) for n in range(40)])
    assert ours.difference == pytest.approx((other - one).mean())
    assert ours.p == pytest.approx(stats.wilcoxon(other, one).pvalue)
    theirs = stats.bootstrap(
        (other - one,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.ci95 == pytest.approx((theirs.low, theirs.high), abs=0.0008)
    assert (ours.n, ours.wins, ours.losses, ours.ties) == (40, (other > one).sum(), (other < one).sum(), 0)


def test_cases_of_a_patient_are_tested_together() -> None:
    one, other = [0.5, 0.5, 0.5, 0.5, 0.5], [0.7, 0.5, 0.6, 0.3, 0.8]
    patients = ["a", "a", "b", "c", "d"]
    ours = paired(one, other, patients)
    assert (ours.n, ours.wins, ours.losses, ours.ties) == (5, 3, 1, 1)
    assert ours.difference == pytest.approx(0.08)
    # Means of the patients: 0.1, 0.1, -0.2, 0.3.
    assert ours.p == pytest.approx(stats.wilcoxon([0.1, 0.1, -0.2, 0.3]).pvalue)
    assert ours.ci95 == bootstrap_ci95(np.array(other) - np.array(one), patients)


def test_cases_without_a_figure_are_left_out() -> None:
    nan = float("nan")
    ours = paired([0.5, nan, 0.4, 0.6], [0.6, 0.9, nan, 0.7], ["a", "b", "c", "d"])
    assert (ours.n, ours.wins, ours.difference) == (2, 2, pytest.approx(0.1))
    nothing = paired([nan], [0.5], ["a"])
    assert (nothing.n, nothing.ci95, nothing.p) == (0, None, None)
    assert np.isnan(nothing.difference)


def test_no_test_where_nothing_can_be_tested() -> None:
    same = paired([0.5, 0.6], [0.5, 0.6], ["a", "b"])
    assert (same.difference, same.p, same.ties) == (0.0, None, 2)
    alone = paired([0.5, 0.6], [0.7, 0.7], ["a", "a"])
    assert (alone.ci95, alone.p) == (None, None)


def test_holm_by_hand() -> None:
    # Four hypotheses: 0.005 x 4, 0.01 x 3, then 0.03 x 2, and 0.04 x 1, which may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.02, 0.7]) == [pytest.approx(1.0), None, pytest.approx(0.06), pytest.approx(1.0)]
    assert holm([]) == []
    assert holm([None]) == [None]
