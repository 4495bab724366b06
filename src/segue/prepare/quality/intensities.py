"""The values of one channel of one case: their distribution, and whether they can be what the card says they are.

Thresholds are of CT and PET as they leave scanners: air is -1000 HU, the body about -100 (fat) to 100 (muscle), and is
stored with 1024 added; the mean SUV of what a scan sees is below 5, while activity is thousands of Bq/ml.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Num

from segue.catalogue import Channel
from segue.prepare.quality.reporting import Found

# Percentiles that stand for the distribution of an image.
LEVELS = (0.0, 0.5, 1.0, 2.0, 5.0, *(float(n) for n in range(10, 91, 5)), 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)
_SAMPLED = 20_000

_OFFSET = 1024.0
_MOST_HU = 4000.0
_PADDING_HU = -1500.0
_ACTIVITY = 30.0
_MOST_SUV = 1000.0
_LEAST_SUV = -1.0


def spread_sample(array: Num[np.ndarray, "i j k"]) -> Float64[np.ndarray, " n"]:
    """About 20,000 finite voxels, evenly over the image, as float64; all of a small image."""
    flat = array.reshape(-1, order="F") if array.flags.f_contiguous else array.ravel(order="K")
    step = max(1, flat.size // _SAMPLED) | 1  # odd: rows of images are even, and no column is met again and again
    sample = flat[::step].astype(np.float64)
    return sample if array.dtype.kind in "iub" else sample[np.isfinite(sample)]


def look_at_unit(channel: Channel, sample: Float64[np.ndarray, " n"], low: float, high: float, found: Found) -> None:
    """Findings where values cannot be the HU or SUV that the card declares."""
    if not sample.size or low == high:
        return
    if channel.unit == "HU":
        _look_at_hu(channel.name, sample, low, high, found)
    elif channel.unit == "SUV":
        _look_at_suv(channel.name, sample, low, high, found)


def lacks_ct_offset(sample: Float64[np.ndarray, " n"], low: float) -> bool:
    """Whether CT values are 1024 above HU, as stored: nothing is below water, and the body is a narrow peak at 1000."""
    body = sample[sample > 300]
    if low < -200 or body.size < 0.1 * sample.size:
        return False
    first, middle, third = np.percentile(body, [25, 50, 75])
    return bool(880 < middle < 1180 and third - first < 350)


def _look_at_hu(name: str, sample: Float64[np.ndarray, " n"], low: float, high: float, found: Found) -> None:
    span = f"{low:.4g} to {high:.4g}"
    if lacks_ct_offset(sample, low):
        body = float(np.median(sample[sample > 300]))
        found(
            "error",
            f"channel {name} is not in HU: the offset of {_OFFSET:.0f} is missing",
            f"values from {span}, the body at about {body:.0f}",
            f"subtract {_OFFSET:.0f} (RescaleIntercept was not applied), or declare the channel's unit arbitrary",
            size=body,
        )
    elif high - low <= 3 or (low >= 0 and high <= 255):
        found(
            "warning",
            f"channel {name} is not in HU: it was scaled or windowed",
            f"values from {span}",
            "bring the images in HU, or declare the channel's unit arbitrary",
            size=1 / (high - low),
        )
    elif float(np.percentile(sample, 99)) > _MOST_HU:
        found(
            "warning",
            f"channel {name} holds values above what CT measures",
            f"1 % of the voxels are above {np.percentile(sample, 99):.0f} HU",
            "look at the image: a wrong slope looks like this",
            size=high,
        )
    below = sample[sample < _PADDING_HU]
    part = below.size / sample.size
    if part > 0.001 and np.mean(below == below.min()) > 0.9:
        found(
            "note",
            f"channel {name} is padded with values below air",
            f"{below.min():.0f} HU in {part:.0%} of the voxels",
            "nothing: values are clipped before they reach the network",
            size=part,
        )
    elif part > 0.001:
        found(
            "warning",
            f"channel {name} holds values below what CT measures",
            f"down to {low:.0f} HU, {part:.0%} of the voxels are below {_PADDING_HU:.0f}",
            "look at the image: a wrong slope or intercept looks like this",
            size=part,
        )


def _look_at_suv(name: str, sample: Float64[np.ndarray, " n"], low: float, high: float, found: Found) -> None:
    positive = sample[sample > 0]
    mean = float(positive.mean()) if positive.size else 0.0
    if mean > _ACTIVITY:
        found(
            "error",
            f"channel {name} is not in SUV: these look like Bq/ml",
            f"maximum {high:.4g}, mean {mean:.4g}",
            "convert it with patient weight and injected activity (segue convert does so from DICOM), or declare the "
            "channel's unit arbitrary",
            size=mean,
        )
    elif high > _MOST_SUV:
        found(
            "warning",
            f"channel {name} has an improbable maximum for SUV",
            f"{high:.4g}",
            "look at the place of injection, and at weight and dose of this study",
            size=high,
        )
    elif high <= 1.0:
        found(
            "warning",
            f"channel {name} has an improbable maximum for SUV: it may be scaled to 1",
            f"{high:.4g}",
            "bring the images in SUV, or declare the channel's unit arbitrary",
            size=1 / high if high > 0 else 0.0,
        )
    if low < _LEAST_SUV:
        found(
            "warning",
            f"channel {name} has negative values for SUV",
            f"down to {low:.4g}",
            "look at the conversion: activity cannot be negative beyond noise",
            size=-low,
        )
