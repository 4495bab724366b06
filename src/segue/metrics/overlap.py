"""Voxel overlap of two label maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Integer

# Voxels counted at a time: numpy makes eight bytes of each, which stay in the processor's cache.
_BLOCK: Final = 30_000


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

    @property
    def iou(self) -> float | None:
        """Jaccard index, ``both / (truth or prediction)``; None where both are empty."""
        either = self.truth + self.prediction - self.both
        return None if either == 0 else self.both / either

    @property
    def sensitivity(self) -> float | None:
        """Recall, the share of the truth that is predicted; None where the truth is empty."""
        return None if self.truth == 0 else self.both / self.truth

    @property
    def precision(self) -> float | None:
        """Positive predictive value, the share of the prediction that is true; None where nothing is predicted."""
        return None if self.prediction == 0 else self.both / self.prediction


def overlap(
    prediction: Integer[np.ndarray, "*grid"],
    truth: Integer[np.ndarray, "*grid"],
    labels: Iterable[int],
    valid: Bool[np.ndarray, "*grid"] | None = None,
) -> dict[int, Overlap]:
    """Count every label in one pass over the voxels; voxels where ``valid`` is false count nowhere."""
    wanted = list(labels)
    size = int(max(prediction.max(initial=0), truth.max(initial=0), *wanted)) + 1
    order: Literal["F", "C"] = "F" if prediction.flags.f_contiguous and truth.flags.f_contiguous else "C"
    p, t = prediction.ravel(order), truth.ravel(order)
    known = None if valid is None else valid.ravel(order)
    in_prediction, in_truth, in_both = counts = np.zeros((3, size), np.int64)
    block = max(_BLOCK, size)
    for start in range(0, p.size, block):
        part = slice(start, start + block)
        predicted, true = p[part], t[part]
        if known is not None:
            predicted, true = predicted[known[part]], true[known[part]]
        if not predicted.any() and not true.any():
            counts[:, 0] += len(true)
            continue
        in_prediction += np.bincount(predicted, minlength=size)
        in_truth += np.bincount(true, minlength=size)
        in_both += np.bincount(predicted[predicted == true], minlength=size)
    return {n: Overlap(int(in_truth[n]), int(in_prediction[n]), int(in_both[n])) for n in wanted}
