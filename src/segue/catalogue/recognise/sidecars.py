"""What the masks of a folder of PET/CT studies show, as the sidecars of ``segue convert`` name it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from segue.core.errors import DataError
from segue.core.files import parse_json


class MixedLabelsError(DataError):
    """A label means different things in different studies of a folder."""


LESION = {1: "lesion"}


def mask_labels(folder: Path) -> dict[int, str]:
    """Names by number out of ``*/*/SEG.json``; ``{1: "lesion"}`` where no file says more than one label.

    Raises:
        MixedLabelsError: a number that stands for one thing in one study stands for another in the next.
    """
    names: dict[int, Counter[str]] = defaultdict(Counter)
    for path in folder.glob("*/*/SEG.json"):
        for number, name in _told(path).items():
            names[number][" ".join(name.lower().replace("_", " ").split())] += 1
    if set(names) <= {1} and len(names[1]) != 1:
        return LESION  # the one thing that is drawn goes by several names
    for number, found in sorted(names.items()):
        if len(found) > 1:
            listed = ", ".join(f"{name!r} in {count} studies" for name, count in found.most_common(3))
            raise MixedLabelsError(
                "a label means different things in different studies",
                where=folder,
                value=f"label {number} is {listed}",
                remedy="give the structures the same numbers in all masks (SEG.nii.gz and the names in SEG.json)",
            )
    return {number: next(iter(found)) for number, found in sorted(names.items())}


def _told(path: Path) -> dict[int, str]:
    try:
        labels = parse_json(path.read_text(encoding="utf-8"))["labels"]
        return {int(number): str(name) for number, name in labels.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
