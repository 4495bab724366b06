"""Where a mask lies in its grid."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool


def bounding_box(mask: Bool[np.ndarray, "*grid"]) -> tuple[slice, ...] | None:
    """The smallest box that holds the mask; None where it is empty."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        # What is cut off along one axis need not be looked at along the next.
        part = mask[tuple(box)]
        held = np.flatnonzero(part.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(held):
            return None
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    return tuple(box)
