"""How a name or a path on the command line becomes a dataset."""

from __future__ import annotations

import json
from pathlib import Path

from segue.catalogue.card import (
    Access,
    Card,
    Expectation,
    FilesLayout,
    card_names,
    decathlon_card,
    load_card,
)
from segue.catalogue.dataset import Dataset
from segue.catalogue.layouts import index
from segue.core.errors import DataError

RECEIPT = "segue.json"


def resolve(reference: str | Path, data: Path = Path("data"), root: Path | None = None) -> tuple[Card, Path]:
    """The card and the folder that ``reference`` means; the folder need not exist yet.

    A catalogue name lies in ``data/NAME``; a card file's data lie beside it; a folder says by its receipt
    (``segue.json``) or ``dataset.json`` what it is. ``root`` overrides where the data lie.

    Raises:
        UsageError: neither a known name nor a card nor a folder.
        DataError: a folder that does not say what it is.
    """
    text = str(reference)
    path = Path(text)
    if text in card_names():
        return load_card(text), root or data / text
    if text.endswith((".yaml", ".yml")):
        return load_card(text), root or path.parent
    if path.is_dir():
        return _card_of_folder(path), root or path
    return load_card(text), root or data / text


def _card_of_folder(folder: Path) -> Card:
    receipt = folder / RECEIPT
    if receipt.exists():
        try:
            content = json.loads(receipt.read_text(encoding="utf-8"))
            return Card.model_validate(content["card"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("this receipt is damaged", where=receipt, remedy="run segue get again") from error
    cards = sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml"))
    if len(cards) == 1:
        return load_card(cards[0])
    listing = folder / "dataset.json"
    if listing.exists():
        try:
            return decathlon_card(json.loads(listing.read_text(encoding="utf-8")), folder.name)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "this dataset.json is not the decathlon's: it wants 'modality', 'labels' and 'training'",
                where=listing,
                value=f"{type(error).__name__}: {error}"[:200],
                remedy="write a card (.yaml) for the folder and name it instead",
            ) from error
    if next(folder.glob("*/*/SUV.nii.gz"), None):
        return load_card("synthetic/petct").model_copy(
            update={
                "name": "petct",
                "title": f"PET/CT in {folder.name}",
                "description": "",
                "licence": None,
                "access": Access(),
                "expect": Expectation(),
            }
        )
    raise DataError(
        "this folder does not say what it holds: no segue.json, no dataset.json, no single card (.yaml), "
        "no patient/study/SUV.nii.gz",
        where=folder,
        value=f"it holds {_listing(folder)}",
        remedy="write a card for it (docs/own-images.md) and give the card's path instead",
    )


def _listing(folder: Path) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def open_dataset(reference: str | Path, data: Path = Path("data"), root: Path | None = None) -> Dataset:
    """Find the dataset and index its cases.

    Raises:
        DataError: the data are not there, with the way to get them; or no case is found.
    """
    return dataset_at(*resolve(reference, data, root))


def dataset_at(card: Card, folder: Path) -> Dataset:
    """The cases of ``card`` that lie in ``folder``.

    Raises:
        DataError: the data are not there, with the way to get them; or no case is found.
    """
    if not folder.is_dir():
        raise not_there(card, folder)
    cases = index(folder, card)
    if not cases:
        raise DataError(
            f"no case found in the layout '{card.layout.kind}'",
            where=folder,
            value=f"it holds {_listing(folder)}",
            remedy=_expected(card),
        )
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        double = next(name for name in ids if ids.count(name) > 1)
        raise DataError("two cases have the same name", where=folder, value=double, remedy="rename one of them")
    return Dataset(card, folder, tuple(cases))


def not_there(card: Card, folder: Path) -> DataError:
    """The error for a dataset that is not on this disk, with the command that brings it."""
    if card.access.kind == "own":
        return DataError("no such folder", where=folder, remedy="check the path, or the place of the card")
    where_from = ", ".join(file.url for file in card.files) or card.access.homepage or ""
    remedy = (
        f"make it: segue get {card.name}"
        if card.access.kind == "generated"
        else f"download it ({where_from}), then: segue get {card.name} --from THE_DOWNLOAD"
    )
    return DataError(f"the dataset {card.name} is not here", where=folder, remedy=remedy)


def _expected(card: Card) -> str:
    layout = card.layout
    if isinstance(layout, FilesLayout):
        return f"the card expects images like {layout.images} and labels like {layout.labels}"
    if layout.kind == "petct":
        return "expected PATIENT/STUDY/SUV.nii.gz with CTres.nii.gz and SEG.nii.gz beside it"
    return "expected dataset.json with imagesTr/ and labelsTr/"
