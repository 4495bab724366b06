"""Windows: which values are black and white, of CT for lungs, bones, soft tissue and the brain."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Values at and below ``low`` are black, at and above ``high`` white, in Hounsfield units."""

    name: str
    low: float
    high: float


SOFT_TISSUE = Window("soft tissue", -160.0, 240.0)
LUNG = Window("lung", -1350.0, 150.0)
BONE = Window("bone", -500.0, 1300.0)
BRAIN = Window("brain", 0.0, 80.0)
CT_WINDOWS = (SOFT_TISSUE, LUNG, BONE, BRAIN)
# Where nothing else is chosen: CT, PET, and the percentiles of what has arbitrary units.
HU_WINDOW = (SOFT_TISSUE.low, SOFT_TISSUE.high)
SUV_WINDOW = (0.0, 10.0)
PERCENTILES = (1.0, 99.0)

# What a label's or a dataset's name says of where one looks; soft tissue wherever it says nothing.
_WORDS = {
    LUNG: r"lungs?|pulmonary|airways?|bronch\w*|trachea|emphysema|covid\w*|pneumo\w*",
    BONE: r"bones?|verteb\w*|spines?|ribs?|sacrum|pelvi\w*|hips?|femur\w*|skull|mandible|teeth|tooth|clavic\w*"
    r"|scapul\w*|humerus|sternum|fractures?",
    BRAIN: r"brain|intracranial|ha?emorrhages?|strokes?|ischa?emi\w*|hematomas?|haematomas?|ventricles?|cerebr\w*",
}


def window_for(names: Iterable[str], title: str = "") -> Window:
    """The window in which most of these labels are looked at; of names that say nothing, by the dataset's title."""
    votes = [found for name in names if (found := _named(name)) is not None]
    if not votes:
        return _named(title) or SOFT_TISSUE
    best = max(dict.fromkeys(votes), key=votes.count)
    # Among many labels that say nothing, a few bones do not make it a picture of bones.
    return best if 2 * votes.count(best) > len(list(names)) else SOFT_TISSUE


def _named(text: str) -> Window | None:
    words = re.sub(r"[_\-./]", " ", text.lower())
    return next((window for window, pattern in _WORDS.items() if re.search(rf"\b(?:{pattern})\b", words)), None)
