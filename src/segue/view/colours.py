"""Colours of labels, the same on every page; and pictures in colour: which channels are red, green and blue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num, UInt8

from segue.catalogue import Channel

_COLOURS = ("red", "green", "blue")
# After Okabe and Ito (Color Universal Design, 2008), those of them that were too pale or too dark made so that each
# has a contrast of 3 to 1 and more on white and on the dark ground of the pages (WCAG 2.2, 1.4.11).
LABEL_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#b8609a", "#a67c00", "#2a93c9", "#7a6fd0", "#7f858d")


def label_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour of each label, in their order; of more labels than colours, they come again."""
    return {name: LABEL_COLOURS[place % len(LABEL_COLOURS)] for place, name in enumerate(names)}


def is_colour(channels: Sequence[Channel]) -> bool:
    """Whether the channels are those of a photograph."""
    return tuple(channel.name.lower() for channel in channels) == _COLOURS


def colour_bytes(array: Num[np.ndarray, "c i j k"]) -> UInt8[np.ndarray, "c i j k"]:
    """Eight bits as they are; of other types 0 to 255 where the values lie so, else up to the picture's own maximum."""
    if array.dtype == np.uint8:
        return array
    values = np.nan_to_num(array.astype(np.float32))
    least, most = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    high = 255.0 if 1.0 < most <= 255.0 else max(1.0, most)
    return to_bytes(values, least, high)


def to_bytes(values: Float[np.ndarray, ...], low: float, high: float) -> UInt8[np.ndarray, ...]:
    """``low`` to ``high`` as 0 to 255, cut off there."""
    return np.clip(np.rint((values - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8)
