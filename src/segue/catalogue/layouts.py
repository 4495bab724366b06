"""Layouts: how a folder of files becomes cases. One function each; a new layout is one more."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from segue.catalogue import files as file_patterns
from segue.catalogue import patterns
from segue.catalogue.card import Card, DecathlonLayout, FilesLayout, NnunetLayout, NpzLayout, PetCtLayout
from segue.catalogue.dataset import Case, Subset
from segue.core.errors import DataError
from segue.core.files import parse_json


def index(root: Path, card: Card) -> list[Case]:
    """The cases that lie in ``root`` according to the card's layout, sorted by id.

    Raises:
        DataError: the folder does not have the layout, or names files outside itself.
    """
    cases = _INDEX[type(card.layout)](root, card, card.layout)
    if card.patient:
        cases = [_changed(case, patient=_patient(case.id, card.patient)) for case in cases]
    for group in card.groups:
        cases = [
            _changed(
                case,
                unlabelled=tuple(group.unlabelled),
                facts={
                    **case.facts,
                    "group": group.name,
                    **({"modality": group.modality} if group.modality else {}),
                },
            )
            if re.search(group.cases, case.id)
            else case
            for case in cases
        ]
    return sorted(cases, key=lambda case: case.id)


def _changed(case: Case, **changes: Any) -> Case:
    kept = {name: getattr(case, name) for name in Case.__dataclass_fields__}
    return Case(**{**kept, **changes})


def _patient(case: str, pattern: str) -> str:
    match = re.search(pattern, case)
    if not match:
        raise DataError(
            "the card's patient pattern does not match this case",
            where=case,
            value=pattern,
            remedy="mend 'patient' in the card: its first group is the patient's name in a case id",
        )
    return match.group(1) if match.groups() else match.group(0)


def _decathlon(root: Path, card: Card, layout: DecathlonLayout) -> list[Case]:
    from segue.images import image_stem

    listing = root / "dataset.json"
    if not listing.exists():
        return []
    content = read_listing(listing)
    try:
        training = [(_local(root, entry["image"]), _local(root, entry["label"])) for entry in content["training"]]
        test = [_local(root, entry if isinstance(entry, str) else entry["image"]) for entry in content.get("test", [])]
        labels = {int(number) for number in content.get("labels", {})} - {0}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "this dataset.json is not the decathlon's: it wants 'labels', 'training' and 'test'",
            where=listing,
            value=f"{type(error).__name__}: {error}"[:200],
        ) from error
    if labels and labels != set(card.labels):
        raise DataError(
            f"dataset.json has other labels than the card {card.name}",
            where=listing,
            value=f"{sorted(labels)} against {sorted(card.labels)}",
            remedy="give the folder of this dataset, or a card of your own",
        )
    _require_names(card, layout, [image_stem(image) for image, _ in training], listing)
    cases = [Case(image_stem(image), image_stem(image), (image,), label) for image, label in training]
    cases += [Case(image_stem(image), image_stem(image), (image,), None, "test") for image in test]
    return cases


def _require_names(card: Card, layout: DecathlonLayout, names: list[str], listing: Path) -> None:
    """Tasks of the decathlon often share their label numbers; the names of their cases tell them apart."""
    expected = {re.split(r"[_0-9]", example)[0] for example in layout.examples}
    if expected and names and not any(name.startswith(tuple(expected)) for name in names):
        raise DataError(
            f"dataset.json lists other cases than those of {card.name}",
            where=listing,
            value=f"{names[0]} ... instead of {layout.examples[0]} ...",
            remedy="give the folder of this dataset, or a card of your own",
        )


def read_listing(path: Path) -> dict[str, Any]:
    """The content of a ``dataset.json``.

    Raises:
        DataError: it is missing, or no JSON mapping.
    """
    if not path.exists():
        raise DataError(
            "dataset.json is missing",
            where=path.parent,
            remedy="give the folder that holds dataset.json, imagesTr and labelsTr",
        )
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} instead of a mapping")
    except (OSError, ValueError) as error:
        raise DataError("dataset.json cannot be understood", where=path, value=str(error)[:200]) from error
    return content


def _local(root: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError("a listed file lies outside the dataset's folder", where=root / "dataset.json", value=name)
    return root / path


def _petct(root: Path, card: Card, layout: PetCtLayout) -> list[Case]:
    cases = []
    for suv in sorted(root.glob("*/*/SUV.nii.gz")):
        study = suv.parent
        patient = study.parent.name
        if patient.startswith(".") or study.name.startswith("."):
            continue
        mask = study / "SEG.nii.gz"
        images, absent = petct_images(study, card)
        label = mask if mask.exists() else None
        cases.append(
            Case(f"{patient}_{study.name}", patient, images, label, facts={"study": study.name}, absent=absent)
        )
    return cases


def petct_images(study: Path, card: Card) -> tuple[tuple[Path, ...], tuple[int, ...]]:
    """The files of a study, and the numbers of the channels that it lacks: a CT that may be missing, and is."""
    ct, suv = study / "CTres.nii.gz", study / "SUV.nii.gz"
    lacks = card.channels[0].optional and not ct.exists()
    return ((suv,), (0,)) if lacks else ((ct, suv), ())


def _nnunet(root: Path, card: Card, layout: NnunetLayout) -> list[Case]:
    cases = []
    wanted = [f"{number:04d}" for number in range(len(card.channels))]
    required = {number for number, channel in zip(wanted, card.channels, strict=True) if not channel.optional}
    for images, labels, split in (("imagesTr", "labelsTr", "train"), ("imagesTs", "labelsTs", "test")):
        pattern = "{case}_{number:[0-9][0-9][0-9][0-9]}" + layout.suffix
        channels: dict[str, dict[str, Path]] = {}
        for path, fields in patterns.found(root / images, pattern):
            channels.setdefault(fields["case"], {})[fields["number"]] = path
        for name, files in channels.items():
            if not required <= set(files) <= set(wanted):
                raise DataError(
                    "this case has other channels than the card names",
                    where=f"{name} in {root / images}",
                    value=f"{', '.join(sorted(files))} instead of {', '.join(wanted)}",
                    remedy="bring the missing file, or mend 'channels' in the card (optional: true where it may lack)",
                )
            mask = root / labels / (name + layout.suffix)
            subset: Subset = "train" if split == "train" else "test"
            paths = tuple(files[number] for number in wanted if number in files)
            absent = tuple(place for place, number in enumerate(wanted) if number not in files)
            cases.append(Case(name, name, paths, mask if mask.exists() else None, subset, absent=absent))
    return cases


def _npz(root: Path, card: Card, layout: NpzLayout) -> list[Case]:
    from segue.catalogue import arrays  # numpy stays out of what only lists the catalogue

    path = root / layout.file
    if card.size:
        # The official files of the smallest size carry no suffix; the card's list of files knows.
        named = next((file.name for file in card.files if file.size == card.size), None)
        path = root / named if named else path
    return arrays.cases(path, card) if path.exists() else []


_INDEX: dict[type, Callable[[Path, Card, Any], list[Case]]] = {
    DecathlonLayout: _decathlon,
    PetCtLayout: _petct,
    NnunetLayout: _nnunet,
    NpzLayout: _npz,
    FilesLayout: file_patterns.cases,
}
