"""Voxel overlap of two label maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one label: in the truth, in the prediction, in both."""

    truth: int
    prediction: int
    both: int

    @property
    def dice(self) -> float | None:
        """``2 * both / (truth + prediction)``; None where both are empty: there is nothing to measure."""
        total = self.truth + self.prediction
        return None if total == 0 else 2 * self.both / total


def overlap(
    prediction: Integer[np.ndarray, "*grid"],
    truth: Integer[np.ndarray, "*grid"],
    labels: Iterable[int],
    valid: Bool[np.ndarray, "*grid"] | None = None,
) -> dict[int, Overlap]:
    """Count every label in one pass over the voxels; voxels where ``valid`` is false count nowhere."""
    wanted = list(labels)
    size = int(max(prediction.max(initial=0), truth.max(initial=0), *wanted)) + 1
    p, t = prediction.ravel(), truth.ravel()
    if valid is not None:
        p, t = p[valid.ravel()], t[valid.ravel()]
    in_prediction = np.bincount(p, minlength=size)
    in_truth = np.bincount(t, minlength=size)
    in_both = np.bincount(p[p == t], minlength=size)
    return {n: Overlap(int(in_truth[n]), int(in_prediction[n]), int(in_both[n])) for n in wanted}
