"""What a folder of images is: the layout that fits, and the card that follows from it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from segue.catalogue.card import Card, Channel, FilesLayout, PetCtLayout
from segue.catalogue.dataset import Case
from segue.catalogue.layouts import index, read_listing
from segue.catalogue.recognise import contents, patients
from segue.catalogue.recognise.classes import class_folders, patient_of_classes
from segue.catalogue.recognise.guess import Draft, guess
from segue.catalogue.recognise.listings import Told, channel_numbers, drawn_folds, listed_layout, nnunet_layout, told
from segue.catalogue.recognise.names import MR_WORDS, PARTS, ImageFile, inventory, literal, words
from segue.catalogue.recognise.sidecars import mask_labels
from segue.catalogue.recognise.spreadsheets import classes_beside, patients_beside
from segue.catalogue.splits import read_folds
from segue.core.errors import DataError


@dataclass(frozen=True)
class Recognised:
    """A guess about a folder.

    Attributes:
        card: the card that fits.
        layout_text: its layout as one line of YAML.
        counts: what was found, in words: how many images and masks, first names.
        guesses: what a person should look at, one line each, beginning with the card's key that it concerns.
    """

    card: Card
    layout_text: str
    counts: str
    guesses: list[str]


def recognise(folder: Path) -> Recognised:
    """Guess what lies in ``folder``: by its ``dataset.json``, a known layout, or the names of its files.

    A few files are opened, to see units and labels. The card is tried before it is given back: the cases it finds are
    the ones that are counted.

    Raises:
        DataError: nothing in it can be recognised, or what is there cannot be said in a card.
    """
    if not folder.is_dir():
        raise DataError("no such folder", where=folder, remedy="check the path")
    files, others = inventory(folder)
    if (folder / "dataset.json").exists():
        content = read_listing(folder / "dataset.json")
        known = told(content, folder)
        if known is not None:
            return _listed(folder, files, others, content, known)
    if next(folder.glob("*/*/SUV.nii.gz"), None) and next(folder.glob("*/*/CTres.nii.gz"), None):
        return _verified(folder, _petct(folder), files, [])
    if layout := nnunet_layout(files):
        return _numbered_channels(folder, files, layout)
    if not files:
        raise _nothing(folder, others)
    draft = _classification(folder, files) or guess(folder, files, others)
    return _verified(folder, _card(folder, _fields(draft)), files, draft.notes)


def _classification(folder: Path, files: list[ImageFile]) -> Draft | None:
    """A table that names classes goes before folders that may be classes, and these before columns that may be."""
    if draft := classes_beside(folder, files, only_sure=True):
        return draft
    if draft := class_folders(folder, files):
        table = patients_beside(folder, files)
        if table and "{patient" not in str(draft.layout.images):
            draft.layout = draft.layout.model_copy(update={"table": table})
        return draft
    return classes_beside(folder, files, only_sure=False)


def _fields(draft: Draft) -> dict[str, Any]:
    return {
        "task": draft.task,
        "classes": draft.classes,
        "channels": draft.channels,
        "labels": draft.labels,
        "ignore_label": draft.ignore,
        "layout": draft.layout,
        "dimension": draft.dimension or 3,
        "modalities": _modalities(draft.channels),
    }


def _card(folder: Path, content: dict[str, Any]) -> Card:
    name = folder.resolve().name or "dataset"
    try:
        return Card.model_validate({"name": _card_name(name), "title": name, **content})
    except ValidationError as error:
        raise DataError(
            "the files' names cannot be said in a card",
            where=folder,
            value=error.errors()[0]["msg"],
            remedy="rename the files, or write a card for them (docs/own-images.md)",
        ) from error


def _card_name(name: str) -> str:
    """The folder's name in the characters that a card's name may have."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._") or "dataset"


def _modalities(channels: Sequence[Channel]) -> list[str]:
    found = []
    for channel in channels:
        there = {channel.name.lower(), *words(channel.name)}
        if channel.unit == "HU" or "ct" in there:
            found.append("CT")
        elif channel.unit == "SUV" or there & {"pet", "pt", "suv"}:
            found.append("PET")
        elif there & MR_WORDS:
            found.append("MRI")
    return list(dict.fromkeys(found))


def _petct(folder: Path) -> Card:
    name = folder.resolve().name
    return Card(
        name=_card_name(name),
        title=f"PET/CT in {name}",
        task="segmentation" if next(folder.glob("*/*/SEG.nii.gz"), None) else "unlabelled",
        modalities=["CT", "PET"],
        channels=[Channel(name="CT", unit="HU"), Channel(name="PET", unit="SUV")],
        labels=mask_labels(folder),
        mirror_axes=["left-right"],
        layout=PetCtLayout(kind="petct"),
    )


def _listed(
    folder: Path, files: list[ImageFile], others: Counter[str], content: dict[str, Any], known: Told
) -> Recognised:
    """A folder with a ``dataset.json``: the names are its, the layout is where the files lie."""
    said: dict[str, Any] = {
        "title": known.title,
        "channels": known.channels,
        "labels": known.labels,
        "regions": known.regions,
        "ignore_label": known.ignore,
        "modalities": _modalities(known.channels),
        "licence": known.licence,
    }
    notes = list(known.notes)
    layout = listed_layout(content, folder, files)
    one_file = channel_numbers(files) == ["0000"] and len(known.channels) > 1  # colour pictures
    own_val = any(file.folders[:1] in (("imagesVa",), ("imagesVal",)) for file in files)
    if layout is None or (layout.kind == "nnunet" and one_file) or (own_val and files):
        if not files:
            raise _nothing(folder, others)
        draft = guess(folder, files, others)
        if draft.task == "unlabelled":
            raise DataError(
                "dataset.json names labels, but there are no masks",
                where=folder,
                remedy="bring labelsTr, or take dataset.json away",
            )
        count = len(draft.channels)
        if isinstance(draft.layout.images, str) and "{channel}" in draft.layout.images and count > 1:
            said.pop("channels")
        return _verified(folder, _card(folder, {**_fields(draft), **said}), files, [*notes, *draft.notes])
    said["layout"] = layout
    if flat := _dimension(folder, files):
        said["dimension"] = flat
    split = drawn_folds(folder)
    card = _card(folder, {**said, "split": split})
    if split.file:
        try:
            read_folds(folder / split.file, {case.id for case in index(folder, card)})
        except DataError as error:
            card = card.model_copy(update={"split": type(split)()})
            notes.append(f"split: splits_final.json is not used: {error.what} ({error.value})")
        else:
            notes.append("split: the folds are those of splits_final.json")
    return _verified(folder, card, files, notes)


def _numbered_channels(folder: Path, files: list[ImageFile], layout: Any) -> Recognised:
    """nnU-Net's folders without their ``dataset.json``."""
    notes = ["channels: there is no dataset.json: give the channels their names"]
    channels: list[Channel] = []
    for number in channel_numbers(files):
        paths = [folder / f.path for f in files if f.folders == ("imagesTr",) and f.stem.endswith(f"_{number}")]
        own, told_of, dimension = contents.channel("image", paths)
        named = own[0].name if own[0].unit == "HU" else f"channel_{number}"
        taken = {channel.name for channel in channels}
        channels.append(own[0].model_copy(update={"name": f"{named}_{number}" if named in taken else named}))
        notes += [f"channels: {note}" for note in told_of]
    masks = [folder / file.path for file in files if file.folders == ("labelsTr",)]
    content: dict[str, Any] = {
        "task": "segmentation" if masks else "unlabelled",
        "channels": channels,
        "layout": layout,
        "dimension": dimension or 3,
        "modalities": _modalities(channels),
        "split": drawn_folds(folder),
    }
    if masks:
        seen = contents.labels_in(masks)
        content |= {"labels": seen.names or {1: "label_1"}, "ignore_label": seen.ignore}
        notes += [f"labels: {note}" for note in seen.notes]
    return _verified(folder, _card(folder, content), files, notes)


def _dimension(folder: Path, files: Sequence[ImageFile]) -> int | None:
    images = [file for file in files if file.folders[:1] == ("imagesTr",)][:3]
    if images and all(file.is_plane for file in images):
        return 2
    headers = [found for file in images if (found := contents.header(folder / file.path))]
    return 2 if headers and all(min(found.geometry.shape) == 1 for found in headers) else None


def _verified(folder: Path, card: Card, files: Sequence[ImageFile], notes: list[str]) -> Recognised:
    """Index the folder by the card, name the parts apart, group patients, and count what stays outside."""
    cases = index(folder, card)
    if not cases:
        raise DataError(
            "the names of the files follow no rule that a card could state",
            where=folder,
            value=f"{len(files)} images such as {', '.join(file.path for file in files[:3])}",
            remedy="write a card for them (docs/own-images.md)",
        )
    if len({case.id for case in cases}) < len(cases) and isinstance(card.layout, FilesLayout):
        card = card.model_copy(update={"layout": _named_apart(card.layout)})
        cases = index(folder, card)
        notes = [*notes, "layout: cases of different parts bear the same names: the part's folder is put before them"]
    double = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if double:
        raise DataError(
            "two cases would have the same name",
            where=folder,
            value=f"{double[0]}: {_first([_relative(c, folder) for c in cases if c.id == double[0]])}",
            remedy="rename one of them, or give a folder with only one of them",
        )
    card, cases, about = _with_patients(folder, card, cases)
    missing = [case for case in cases if card.task != "unlabelled" and case.split == "train" and not case.annotated]
    used = {path.relative_to(folder).as_posix() for case in cases for path in case.files}
    there = {file.path for file in files}
    absent = sorted(used - there)
    left = [path for path in there if path not in used]
    notes = [*notes, *about]
    if missing:
        notes.append(
            f"layout: {len(missing)} of {sum(case.split == 'train' for case in cases)} images have no "
            f"{'class' if card.task == 'classification' else 'mask'}: {_first([case.id for case in missing])}"
        )
    if absent:
        notes.append(f"layout: {len(absent)} files are missing: {_first(absent)}")
    if left:
        notes.append(f"layout: {len(left)} of {len(files)} files belong to no case: {_first(sorted(left))}")
    layout = {"kind": card.layout.kind, **card.layout.model_dump(exclude_defaults=True)}
    text = yaml.safe_dump(layout, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True).strip()
    return Recognised(card, text, _counts(folder, cases), notes)


def _named_apart(layout: FilesLayout) -> FilesLayout:
    """Validation and test parts whose folder takes the patient's place in the names of their cases."""
    changed = {}
    for name in ("val", "test"):
        part = getattr(layout, name)
        if part is None or "{patient" in str(part.images):
            continue
        if isinstance(part.images, dict):
            moved: object = {key: _folder_as_patient(text) for key, text in part.images.items()}
        else:
            moved = _folder_as_patient(part.images)
        changed[name] = part.model_copy(update={"images": moved})
    return layout.model_copy(update=changed)


def _folder_as_patient(pattern: str) -> str:
    *folders, last = pattern.split("/")
    plain = [n for n, name in enumerate(folders) if "{" not in name]
    named = [n for n in plain if set(words(folders[n])) & set(PARTS)] or plain[:1]
    for n in named[:1]:
        folders[n] = f"{{patient:{literal(folders[n])}}}"
    return "/".join([*folders, last])


def _with_patients(folder: Path, card: Card, cases: list[Case]) -> tuple[Card, list[Case], list[str]]:
    """The card with the patients that the names suggest, unless they would cross the dataset's own parts."""
    table = card.layout.table if isinstance(card.layout, FilesLayout) else None
    by_table = table.patient if table else None
    if isinstance(card.layout, PetCtLayout) or by_table or "{patient" in str(getattr(card.layout, "images", "")):
        groups = Counter(case.patient for case in cases)
        crossing = _crossing(folder, card, cases)
        text = f"patient: {patients.in_words(groups)}, by the {f'column {by_table}' if by_table else 'folders'}"
        return card, cases, [text + (f"; in several parts: {_first(crossing)}" if crossing else "")]
    # Where a part's folder stands before the names of its cases, no beginning of a name is a patient.
    apart = "{patient" in str(card.layout)
    pattern = None if apart else patients.patient_pattern([case.id for case in cases])
    if "{class" in str(card.layout):
        pattern = patient_of_classes(card, cases)
    alone = ["patient: every case is taken as a patient of its own"] if len(cases) > 1 else []
    if pattern is None:
        return card, cases, alone
    able = card.model_copy(update={"patient": pattern})
    grouped = index(folder, able)
    patients_of_groups: dict[object, set[str]] = {}
    for case in grouped:
        patients_of_groups.setdefault(case.facts.get("group"), set()).add(case.patient)
    if len(patients_of_groups) > 1 and all(len(there) == 1 for there in patients_of_groups.values()):
        return card, cases, alone  # benign/benign (1): the name repeats its group
    groups = Counter(case.patient for case in grouped)
    crossing = _crossing(folder, able, grouped)
    if crossing:
        there = f"by {pattern} there would be {patients.in_words(groups)}"
        return card, cases, [f"{alone[0]}; {there}, but {_first(crossing)} would stand in several parts"]
    return able, grouped, [f"patient: guessed {patients.in_words(groups)}"]


def _crossing(folder: Path, card: Card, cases: Sequence[Case]) -> list[str]:
    """Patients in more than one part of the dataset, or on both sides of a fold that came with it."""
    sides: list[list[set[str]]] = [[{c.patient for c in cases if c.split == part} for part in ("train", "val", "test")]]
    if card.split.file:
        for train, val in read_folds(folder / card.split.file, {case.id for case in cases}):
            sides.append([{c.patient for c in cases if c.id in train}, {c.patient for c in cases if c.id in val}])
    return sorted({name for some in sides for name, count in Counter(n for s in some for n in s).items() if count > 1})


def _counts(folder: Path, cases: Sequence[Case]) -> str:
    images = list(dict.fromkeys(path for case in cases for path in case.image_files))
    masks = list(dict.fromkeys(path for case in cases for path in case.files if path not in set(case.image_files)))
    first = [path.relative_to(folder).as_posix() for path in [*images[:2], *masks[:1]]]
    text = f"{len(images)} image{'s' if len(images) != 1 else ''}"
    text += f", {len(masks)} mask{'s' if len(masks) != 1 else ''}" if masks else ""
    several = f"{len(cases)} cases: " if len(cases) != len(images) else ""
    return f"{several}{text}: {', '.join(first)}, ..."


def _relative(case: Case, folder: Path) -> str:
    return case.image_files[0].relative_to(folder).as_posix()


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _nothing(folder: Path, others: Counter[str]) -> DataError:
    names = ", ".join(sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())[:5])
    dicom = others.get(".dcm", 0)
    return DataError(
        "this folder does not say what it holds: no segue.json, no dataset.json, no single card (.yaml), no images",
        where=folder,
        value=f"it holds {names or 'nothing'}" + (f"; {dicom} DICOM files" if dicom else ""),
        remedy="convert the DICOM series to NIfTI first"
        if dicom
        else "give the folder that holds the images, or write a card for it (docs/own-images.md)",
    )
