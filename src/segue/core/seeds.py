"""Randomness from one seed through explicit generators."""

from __future__ import annotations

import hashlib

import numpy as np


def stream_seed(seed: int, *names: object) -> int:
    """A 63-bit seed that depends on ``seed`` and on every name, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *names: object) -> np.random.Generator:
    """An independent stream for each combination of names: ``generator(0, "augment", 17)``."""
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *names)))
