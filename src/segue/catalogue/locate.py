"""How a name or a path on the command line becomes a dataset."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from segue.catalogue.card import Card, FilesLayout
from segue.catalogue.dataset import Dataset
from segue.catalogue.layouts import index
from segue.catalogue.library import is_known, load_card
from segue.catalogue.splits import read_folds
from segue.catalogue.verdicts import read_verdicts
from segue.core.addresses import address, is_address
from segue.core.config import read_yaml
from segue.core.errors import DataError, UsageError
from segue.core.files import parse_json

RECEIPT = "segue.json"


def resolve(
    reference: str | Path, data: Path = Path("data"), root: Path | None = None, release: str | None = None
) -> tuple[Card, Path]:
    """The card and the folder that ``reference`` means; the folder need not exist yet.

    What has an address (``s3://...``) lies where :func:`segue.acquire.bring_reference` brings it. A catalogue name
    lies in ``data/NAME``, in the release and size that its receipt tells; a card file's data lie
    beside it or in the card's ``root``; a folder says by its receipt (``segue.json``), by a card in it, or by what
    lies there what it is. ``root`` overrides where the data lie, ``release`` says which copy of them is meant.

    Raises:
        UsageError: neither a known name nor a card nor a folder.
        DataError: a folder that does not say what it is.
    """
    text = str(reference)
    path = Path(text)
    if text.endswith((".yaml", ".yml")):
        card = load_card(text, release)
        if card.root and is_address(card.root):
            return card, root or address(card.root).place(data)
        return card, root or (path.parent / card.root if card.root else path.parent)
    if is_address(text):
        path = address(text).place(data)
        if not path.is_dir():
            raise DataError(
                "what lies at this address is not here yet, or is no folder",
                where=address(text),
                value=path,
                remedy=f"segue check {address(text)} brings it and looks at it; so do prepare and train",
            )
        return _card_of_folder(path), root or path
    if is_known(text):
        card = load_card(text, release)
        folder = root or data / card.name
        told = _receipt(folder).get("release")
        if release is None and told in card.releases:
            card = load_card(text, told)
        elif release is not None and told not in (None, release):
            raise UsageError(
                "another copy of this dataset lies here already",
                where=folder,
                value=f"{told}, not {release}",
                remedy="choose another folder with -o, or remove that one",
            )
        return card, folder
    if path.is_dir():
        return _card_of_folder(path), root or path
    return load_card(text), root or data / text


def _receipt(folder: Path) -> dict[str, Any]:
    try:
        content = parse_json((folder / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_look_alike(folder: Path) -> bool:
    """Whether the cases in this folder are synthetic look-alikes of a dataset."""
    return _receipt(folder).get("look_alike") is True


def card_above(path: Path) -> Card | None:
    """The card of the dataset that a file or folder belongs to, by the receipt in it or in a folder above it."""
    for folder in [path, *path.resolve().parents][:5]:
        told = _receipt(folder)
        if told:
            try:
                return Card.model_validate(told["card"])
            except (ValueError, KeyError, TypeError):
                return None
    return None


def _card_of_folder(folder: Path) -> Card:
    receipt = folder / RECEIPT
    if receipt.exists():
        try:
            content = parse_json(receipt.read_text(encoding="utf-8"))
            return Card.model_validate(content["card"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError("this receipt is damaged", where=receipt, remedy="run segue get again") from error
    cards = sorted(folder.glob("*.yaml")) + sorted(folder.glob("*.yml"))
    if len(cards) == 1 or folder / "card.yaml" in cards:
        return load_card(cards[0] if len(cards) == 1 else folder / "card.yaml")
    from segue.catalogue.recognise import recognise  # reads images: not for commands that only list

    return recognise(folder).card


def listing(folder: Path) -> str:
    """What lies in a folder, in a few words."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def open_dataset(reference: str | Path, data: Path = Path("data"), root: Path | None = None) -> Dataset:
    """Find the dataset and index its cases.

    Raises:
        DataError: the data are not there, with the way to get them; or no case is found.
    """
    card, folder = resolve(reference, data, root)
    text = str(reference)
    return dataset_at(card, folder, source=Path(text) if text.endswith((".yaml", ".yml")) else None)


def dataset_at(card: Card, folder: Path, source: Path | None = None) -> Dataset:
    """The cases of ``card`` that lie in ``folder``, less those that its ``verdicts.csv`` sets aside.

    Args:
        source: the card's file, for messages.

    Raises:
        DataError: the data are not there, with the way to get them; no case is found, with what is there and the
            nearest layout that would fit; or the verdicts cannot be understood.
    """
    if not folder.is_dir():
        raise not_there(card, folder)
    cases = index(folder, card)
    if not cases:
        raise _does_not_fit(card, folder, source)
    if is_look_alike(folder):
        card = card.model_copy(update={"title": f"Synthetic look-alike of: {card.title}"})
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        double = next(one for one, other in pairwise(ids) if one == other)  # they are sorted
        places = [case.files[0].relative_to(folder).as_posix() for case in cases if case.id == double]
        raise DataError(
            "two cases have the same name",
            where=folder,
            value=f"{double}: {', '.join(places[:3])}",
            remedy="rename one of them, or put what tells them apart into the pattern as {patient}",
        )
    left_out = {name: defect.what for defect in card.defects if defect.action == "skip" for name in defect.cases}
    usable = [case for case in cases if case.id not in left_out]
    folds = read_folds(folder / card.split.file, {case.id for case in usable}) if card.split.file else ()
    verdicts = read_verdicts(folder)
    set_aside = tuple(case for case in usable if case.id in verdicts and verdicts[case.id].leaves_out)
    left_out |= {case.id: str(verdicts[case.id]) for case in set_aside}
    kept = tuple(case for case in usable if case.id not in left_out)
    gone = {name: left_out[name] for name in ids if name in left_out}
    return Dataset(card, folder, kept, gone, folds, verdicts, set_aside)


def _does_not_fit(card: Card, folder: Path, source: Path | None) -> DataError:
    where: object = folder
    if source is not None and source.exists():
        line = read_yaml(source)[1].get(("layout",))
        where = f"{source}:{line}" if line else source
    found = listing(folder)
    try:
        from segue.catalogue.recognise import recognise

        seen = recognise(folder)
        remedy = f"what lies there would fit this layout: {seen.layout_text}"
        found = f"{folder} holds {seen.counts}"
    except (DataError, UsageError):
        remedy = "give the folder that holds the images, or mend the layout"
        found = f"{folder} holds {found}"
    return DataError(
        f"no case found in the layout '{card.layout.kind}': {_expected(card)}", where=where, value=found, remedy=remedy
    )


def not_there(card: Card, folder: Path) -> DataError:
    """The error for a dataset that is not on this disk, with the command that brings it."""
    if card.access.kind == "own":
        return DataError("no such folder", where=folder, remedy="check the path, or the place of the card")
    if card.access.kind == "generated":
        remedy = f"make it: segue get {card.name}"
    elif card.downloadable:
        remedy = f"bring it: segue get {card.name}, or segue get {card.name} --from WHAT_YOU_DOWNLOADED"
    else:
        steps = card.access.steps or [f"segue get {card.name} --from THE_DOWNLOAD"]
        remedy = f"at {card.access.homepage}: {'; '.join(steps)}"
    return DataError(f"the dataset {card.name} is not here", where=folder, remedy=remedy)


def _expected(card: Card) -> str:
    layout = card.layout
    if isinstance(layout, FilesLayout):
        images = layout.images if isinstance(layout.images, str) else ", ".join(layout.images.values())
        return f"images like {images}" + (f" and masks like {layout.labels} are expected" if layout.labels else "")
    return {
        "petct": "PATIENT/STUDY/SUV.nii.gz with CTres.nii.gz and SEG.nii.gz beside it is expected",
        "nnunet": "imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz are expected",
        "npz": f"the file {getattr(layout, 'file', '')} is expected",
    }.get(layout.kind, "dataset.json with imagesTr/ and labelsTr/ is expected")
