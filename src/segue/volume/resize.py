"""An array to another number of voxels over the same field of view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Num


def resized(array: Num[np.ndarray, "c i j k"], shape: Sequence[int]) -> Float32[np.ndarray, "c x y z"]:
    """Linear along every axis, with a triangle as wide as the step where an axis shrinks, so that nothing aliases
    (Pillow's ``BILINEAR``)."""
    values = array.astype(np.float32)
    for axis, wanted in enumerate(shape, start=1):
        if values.shape[axis] != wanted:
            weights = _triangles(values.shape[axis], wanted)
            values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(values, dtype=np.float32)


def _triangles(source: int, target: int) -> Float32[np.ndarray, "target source"]:
    step = source / target
    support = max(step, 1.0)
    centres = (np.arange(target) + 0.5) * step
    distance = np.abs(np.arange(source)[None] + 0.5 - centres[:, None]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
