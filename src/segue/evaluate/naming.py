"""What the numbers in a folder of masks mean: by segue's receipt, by nnU-Net's ``dataset.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.catalogue import Card
from segue.catalogue.recognise.listings import told
from segue.core.files import parse_json

_FOLD = re.compile(r"fold_(\d+|all)")


@dataclass(frozen=True)
class Names:
    """Names of labels and of regions (unions of labels), and the label that counts nowhere."""

    labels: dict[int, str] = field(default_factory=dict)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ignore_label: int | None = None


def names_of_card(card: Card) -> Names:
    return Names(card.labels, {name: tuple(members) for name, members in card.regions.items()}, card.ignore_label)


def names_beside(folder: Path, *, of_truth: bool = False) -> Names | None:
    """The names in the ``dataset.json`` of nnU-Net or the decathlon that belongs to a folder of masks; None without.

    It lies in the folder itself; of the truth also beside it (``labelsTr``); of ``fold_0/validation`` in the folder of
    the training. In nnU-Net's form with regions only those labels have a name that are told alone.

    Raises:
        DataError: it is there and cannot be understood.
    """
    here = folder.resolve()
    above = [here.parent] if of_truth else [here.parent.parent] if is_fold(folder) else []
    for place in [here, *above]:
        content = _json(place / "dataset.json")
        found = told(content, place) if content is not None else None
        if found is not None:
            held = {number for members in found.regions.values() for number in members}
            labels = {
                number: name
                for number, name in found.labels.items()
                if not (number in held and name == f"label_{number}")
            }
            return Names(labels, {name: tuple(members) for name, members in found.regions.items()}, found.ignore)
    return None


def is_fold(folder: Path) -> bool:
    """Whether it holds what one fold of nnU-Net says of its validation cases: ``fold_0/validation``."""
    place = folder.resolve()
    return place.name.startswith("validation") and _FOLD.fullmatch(place.parent.name) is not None


def validation_folders(folder: Path) -> list[Path]:
    """``fold_0/validation`` and so on in the folder of a training of nnU-Net."""
    return sorted(path for path in folder.glob("fold_*/validation") if path.is_dir() and is_fold(path))


def distinct_regions(regions: Mapping[str, tuple[int, ...]], labels: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """The regions by names that no label has; one that is the very label whose name it has is measured once."""
    taken = {"all": (0,), **{name: (number,) for number, name in labels.items()}}
    return {
        f"{name} (region)" if name in taken else name: members
        for name, members in regions.items()
        if taken.get(name) != members
    }


def read_dataset_name(folder: Path) -> str | None:
    """The dataset that the model was trained on, from the receipt that ``segue predict`` leaves."""
    try:
        return str(parse_json((folder / "predictions.json").read_text(encoding="utf-8"))["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_label_names(folder: Path) -> dict[int, str] | None:
    """Label names from the receipt that ``segue predict`` leaves beside its masks."""
    try:
        content = parse_json((folder / "predictions.json").read_text(encoding="utf-8"))
        return {int(number): str(name) for number, name in content["labels"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def read_probability_channels(folder: Path) -> list[tuple[int, ...]] | None:
    """Which labels each channel of the probabilities beside predicted masks is about, from the receipt."""
    try:
        content = parse_json((folder / "predictions.json").read_text(encoding="utf-8"))
        return [tuple(sorted(int(number) for number in members)) for members in content["probabilities"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
