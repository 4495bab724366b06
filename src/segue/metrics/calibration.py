"""Whether the probability of a mask is what it says, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from segue.metrics.classes import CALIBRATION_BINS


@dataclass(frozen=True)
class VoxelCalibration:
    """Attributes:
    brier: mean square of probability less truth (Brier, 1950), 0 to 1.
    error: expected calibration error, the mean of ``|share that is right - confidence|``, 0 to 1.
    """

    brier: float
    error: float


def voxel_calibration(
    truth: Bool[np.ndarray, "*grid"], probability: Float[np.ndarray, "*grid"], bins: int = CALIBRATION_BINS
) -> VoxelCalibration | None:
    """Of the probability that a voxel is inside; None without voxels.

    A voxel is answered with yes above a half; its confidence is the probability of the answer, and a bin holds
    ``low < confidence <= high`` (Guo et al., ICML 2017).
    """
    if not truth.size:
        return None
    brier = float(np.square(probability - truth, dtype=np.float64).mean())
    confidence = np.maximum(probability, 1 - probability).ravel()
    right = ((probability > 0.5) == truth).ravel()
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    sums = [np.bincount(place, values, minlength=bins) for values in (confidence, right)]
    return VoxelCalibration(brier, float(np.abs(sums[1] - sums[0]).sum() / truth.size))
