"""What a folder of images is: the layout that fits, and the card that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.catalogue.card import Card, Channel, DecathlonLayout, Licence, PetCtLayout
from segue.catalogue.layouts import read_listing
from segue.catalogue.licences import from_words
from segue.core.errors import DataError


@dataclass(frozen=True)
class Recognised:
    """A guess about a folder.

    Attributes:
        card: the card that fits.
        layout_text: its layout as one line of YAML.
        counts: what was found, in words: how many images and masks, first names.
        guesses: what a person should look at, one line each.
    """

    card: Card
    layout_text: str
    counts: str
    guesses: list[str]


def recognise(folder: Path) -> Recognised:
    """Guess what lies in ``folder``.

    Raises:
        DataError: nothing in it can be recognised.
    """
    if (folder / "dataset.json").exists():
        card = decathlon_card(read_listing(folder / "dataset.json"), folder)
        return Recognised(card, "{kind: decathlon}", "dataset.json", [])
    if next(folder.glob("*/*/SUV.nii.gz"), None):
        card = Card(
            name="petct",
            title=f"PET/CT in {folder.name}",
            modalities=["CT", "PET"],
            channels=[Channel(name="CT", unit="HU"), Channel(name="PET", unit="SUV")],
            labels={1: "lesion"},
            mirror_axes=["left-right"],
            layout=PetCtLayout(kind="petct"),
        )
        return Recognised(card, "{kind: petct}", "patient/study/SUV.nii.gz", [])
    names = ", ".join(sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())[:5])
    raise DataError(
        "this folder does not say what it holds: no segue.json, no dataset.json, no single card (.yaml), "
        "no patient/study/SUV.nii.gz",
        where=folder,
        value=f"it holds {names or 'nothing'}",
        remedy="write a card for it (docs/own-images.md) and give the card's path instead",
    )


def decathlon_card(content: dict[str, Any], folder: Path) -> Card:
    """A card for a folder in the decathlon's layout that no card describes, from its ``dataset.json``."""
    try:
        modality = {int(number): str(name) for number, name in content["modality"].items()}
        labels = {int(number): str(name) for number, name in content["labels"].items()}
        _ = content["training"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "this dataset.json is not the decathlon's: it wants 'modality', 'labels' and 'training'",
            where=folder / "dataset.json",
            value=f"{type(error).__name__}: {error}"[:200],
            remedy="write a card (.yaml) for the folder and name it instead",
        ) from error
    stated = content.get("licence") or content.get("license")
    spdx = from_words(str(stated)) if stated else None
    return Card(
        name="".join(c if c.isalnum() or c in "._-" else "-" for c in folder.resolve().name) or "dataset",
        title=str(content.get("name") or folder.name),
        channels=[
            Channel(
                name=f"{name}_{number}" if len(modality) > 1 else name,
                unit="HU" if name == "CT" else "arbitrary",
            )
            for number, name in sorted(modality.items())
        ],
        labels=labels,
        layout=DecathlonLayout(kind="decathlon"),
        licence=Licence(spdx=spdx or "LicenseRef-stated", note=str(stated)) if stated else None,
    )
