"""Connected components of masks."""

from __future__ import annotations

import cc3d
import numpy as np
from jaxtyping import Bool


def unmatched_voxels(mask: Bool[np.ndarray, "i j k"], other: Bool[np.ndarray, "i j k"]) -> int:
    """Voxels in those 18-connected components of ``mask`` that do not touch ``other`` at all.

    With the prediction as ``mask`` this is AutoPET's false-positive volume, with the truth its
    false-negative volume (both in voxels here).
    """
    if not mask.any():
        return 0
    components = cc3d.connected_components(mask, connectivity=18)
    sizes = np.bincount(components.ravel())
    matched = np.zeros(len(sizes), dtype=bool)
    matched[np.unique(components[other])] = True
    matched[0] = True
    return int(sizes[~matched].sum())
