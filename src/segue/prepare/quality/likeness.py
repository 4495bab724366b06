"""Inverted grey values: black for white, as a DICOM MONOCHROME1 that was taken for MONOCHROME2 leaves them.

Two signs are looked for. Round a body is air, the darkest there is, so that a volume with a bright rim and a dark
inside is inverted, whatever the others are. And where the images of a dataset resemble each other, an inverted one
resembles their negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Num

from segue.prepare.quality.finding import Finding
from segue.prepare.quality.reporting import Found

_SIDE = 8
_POINTS = 32  # along each axis; each value of a thumbnail is the mean of 4 x 4 x 4 of them
_WHITE = 0.9  # of the range
_ALIKE = 0.6  # correlation with the median image, of half of the cases
_REMEDY = (
    "look at it: MONOCHROME1 that was taken for MONOCHROME2 looks like this; convert it again from its DICOM series, "
    "or take the values from the greatest one"
)


def told_inverted(name: str) -> str:
    """What a finding of either sign says of a channel."""
    return f"the grey values of channel {name} look inverted"


def thumbnail(array: Num[np.ndarray, "i j k"]) -> list[float]:
    """8 values along each axis longer than 1, without their mean and of length 1; empty of a constant image."""
    points = array[np.ix_(*(_spread(size) for size in array.shape))].astype(np.float64)
    finite = points[np.isfinite(points)]
    if not finite.size:
        return []
    low, high = np.percentile(finite, [1, 99])
    points = np.clip(np.nan_to_num(points, nan=low, posinf=high, neginf=low), low, high)
    for axis in range(3):
        if points.shape[axis] > 1:
            here = points.shape
            points = points.reshape(*here[:axis], _SIDE, _POINTS // _SIDE, *here[axis + 1 :]).mean(axis + 1)
    points = points.ravel() - points.mean()
    length = float(np.linalg.norm(points))
    return [round(value, 4) for value in (points / length).tolist()] if length > 0 else []


def _spread(size: int) -> np.ndarray:
    return np.linspace(0, size - 1, _POINTS).round().astype(int) if size > 1 else np.zeros(1, int)


def look_for_bright_rim(name: str, array: Num[np.ndarray, "i j k"], found: Found) -> None:
    """A warning where most of a volume's faces is white and most of its inside is not."""
    if min(array.shape) < _SIDE:
        return
    points = array[np.ix_(*(_spread(size) for size in array.shape))].astype(np.float64)
    low, high = np.percentile(points, [0.5, 99.5])  # NaN where there is one: it has a finding of its own
    if not high > low:
        return
    white = points >= low + _WHITE * (high - low)
    inside = white[tuple(slice(_POINTS // 4, -_POINTS // 4) for _ in range(3))].mean()
    white[1:-1, 1:-1, 1:-1] = False
    rim = white.sum() / (white.size - (_POINTS - 2) ** 3)
    if rim > 0.5 and inside < 0.5 * rim:
        found(
            "warning",
            told_inverted(name),
            f"{rim:.0%} of the image's faces are white, {inside:.0%} of its inside",
            _REMEDY,
            size=float(rim - inside),
        )


def inverted(name: str, cases: Sequence[tuple[str, Sequence[float]]]) -> list[Finding]:
    """Warnings of cases that are the negative of the others.

    Args:
        cases: case and thumbnail.
    """
    sizes = [len(there) for _, there in cases if there]
    size = max(set(sizes), key=sizes.count, default=0)
    kept = [(case, there) for case, there in cases if size and len(there) == size]
    if not kept:
        return []
    table: Float64[np.ndarray, "cases values"] = np.array([there for _, there in kept])
    usual = np.median(table, axis=0)
    alike = table @ usual / (float(np.linalg.norm(usual)) or 1.0)
    middle = float(np.median(alike))
    if middle < _ALIKE:
        return []
    return [
        Finding(
            case=kept[place][0],
            severity="warning",
            what=told_inverted(name),
            value=f"correlation {alike[place]:.2f} with the median image, of half of the cases above {middle:.2f}",
            remedy=_REMEDY,
            size=-float(alike[place]),
        )
        for place in np.flatnonzero(alike < -_ALIKE).tolist()
    ]
