"""Layouts: how a folder of files becomes cases. One function each; a new layout is one more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from segue.catalogue import patterns
from segue.catalogue.card import Card, DecathlonLayout, FilesLayout, NnunetLayout, NpzLayout, Part, PetCtLayout
from segue.catalogue.dataset import Case, Masks, Subset
from segue.catalogue.tables import read_table
from segue.core.errors import DataError, UsageError


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
        content = json.loads(path.read_text(encoding="utf-8-sig"))
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
        cases.append(
            Case(
                f"{patient}_{study.name}",
                patient,
                (study / "CTres.nii.gz", suv),
                mask if mask.exists() else None,
                facts={"study": study.name},
            )
        )
    return cases


def _nnunet(root: Path, card: Card, layout: NnunetLayout) -> list[Case]:
    cases = []
    wanted = [f"{number:04d}" for number in range(len(card.channels))]
    for images, labels, split in (("imagesTr", "labelsTr", "train"), ("imagesTs", "labelsTs", "test")):
        pattern = "{case}_{number:[0-9][0-9][0-9][0-9]}" + layout.suffix
        channels: dict[str, dict[str, Path]] = {}
        for path, fields in patterns.found(root / images, pattern):
            channels.setdefault(fields["case"], {})[fields["number"]] = path
        for name, files in channels.items():
            if sorted(files) != wanted:
                raise DataError(
                    "this case has other channels than the card names",
                    where=f"{name} in {root / images}",
                    value=f"{', '.join(sorted(files))} instead of {', '.join(wanted)}",
                    remedy="bring the missing file, or mend 'channels' in the card",
                )
            mask = root / labels / (name + layout.suffix)
            subset: Subset = "train" if split == "train" else "test"
            paths = tuple(files[number] for number in wanted)
            cases.append(Case(name, name, paths, mask if mask.exists() else None, subset))
    return cases


def _npz(root: Path, card: Card, layout: NpzLayout) -> list[Case]:
    from segue.catalogue import arrays  # numpy stays out of what only lists the catalogue

    path = root / layout.file
    if card.size:
        # The official files of the smallest size carry no suffix; the card's list of files knows.
        named = next((file.name for file in card.files if file.size == card.size), None)
        path = root / named if named else path
    return arrays.cases(path, card) if path.exists() else []


def _files(root: Path, card: Card, layout: FilesLayout) -> list[Case]:
    cases = _part(root, card, layout, "train")
    if layout.val:
        cases += _part(root, card, layout.val, "val")
    if layout.test:
        cases += _part(root, card, layout.test, "test")
    if layout.table and cases:  # a folder without cases is not this dataset's: its parts may lie a level below
        rows = read_table(root / layout.table.file, layout.table)
        cases = [_with_row(case, rows.get(case.id) or rows.get(_relative(case, root)), layout) for case in cases]
    return cases


def _relative(case: Case, root: Path) -> str:
    return case.files[0].relative_to(root).as_posix()


def _with_row(case: Case, row: Any, layout: FilesLayout) -> Case:
    if row is None:
        return case
    return _changed(
        case, patient=row.patient or case.patient, split=row.split or case.split, facts={**case.facts, **row.facts}
    )


def channel_patterns(card: Card, part: Part) -> list[str]:
    """One pattern per channel of the card; one in all where the files are 4-D.

    Raises:
        UsageError: a channel without a pattern.
    """
    names = [channel.name for channel in card.channels]
    if isinstance(part.images, str):
        if "{channel}" in part.images:
            return [part.images.replace("{channel}", name) for name in names]
        return [part.images]
    missing = [name for name in names if name not in part.images]
    if missing:
        raise UsageError("the layout gives no pattern for a channel", where=card.name, value=", ".join(missing))
    return [part.images[name] for name in names]


Fields = tuple[tuple[str, str], ...]


def _part(root: Path, card: Card, part: Part, split: Subset) -> list[Case]:
    renamed = _repairs(card)
    names = channel_patterns(card, part)
    channels = [_by_fields(root, pattern, renamed) for pattern in names]
    labels = _labels(root, card, part, renamed)
    cases = []
    for fields in _cases_of(channels):
        known = dict(fields)
        # A channel that is not there keeps its place: whoever reads the case says which file is missing.
        pairs = zip(names, channels, strict=True)
        images = [_shared(fields, files) or root / patterns.filled(name, known) for name, files in pairs]
        name = "_".join(known[key] for key in ("patient", "case") if key in known)
        facts = {key: value for key, value in known.items() if key not in ("patient", "case")}
        cases.append(Case(name, known.get("patient", name), tuple(images), labels(fields), split, facts=facts))
    return cases


def _cases_of(channels: list[dict[Fields, Path]]) -> list[Fields]:
    """Of every case that has a file of some channel, the values of the fields."""
    first = list(channels[0])
    keys = [name for name, _ in first[0]] if first else None
    more = {fields for files in channels[1:] for fields in files if [name for name, _ in fields] == keys}
    return sorted({*first, *more}) if more - set(first) else first


def _repairs(card: Card) -> dict[str, str]:
    """What the card's known defects call a file that is shipped under another name."""
    return {found: right for defect in card.defects for found, right in defect.rename.items()}


def _by_fields(root: Path, pattern: str, renamed: dict[str, str]) -> dict[Fields, Path]:
    files: dict[Fields, Path] = {}
    for path, fields in patterns.found(root, pattern):
        files.setdefault(tuple(sorted(fields.items())), path)
    for shipped, right in renamed.items():
        match = patterns.compiled(pattern).fullmatch(right)
        if match and (root / shipped).exists():
            files.setdefault(tuple(sorted(match.groupdict().items())), root / shipped)
    return files


def _shared(fields: Fields, files: dict[Fields, Path]) -> Path | None:
    """The file of the same case: exact fields first, else those that the two patterns have in common."""
    if fields in files:
        return files[fields]
    known = dict(fields)
    common = set(known) & set(dict(next(iter(files), ())))
    if not common or common == set(known):
        return None
    key = {name: known[name] for name in common}
    return next((path for other, path in files.items() if {n: dict(other)[n] for n in common} == key), None)


def _labels(root: Path, card: Card, part: Part, renamed: dict[str, str]) -> Callable[[Fields], Path | Masks | None]:
    if part.labels is None:
        return lambda fields: None
    if "{label}" not in part.labels:
        files = _by_fields(root, part.labels, renamed)
        return lambda fields: _shared(fields, files)
    masks = {
        number: _by_fields(root, part.labels.replace("{label}", name), renamed) for number, name in card.labels.items()
    }

    def of_case(fields: Fields) -> Masks | None:
        there = [(number, _shared(fields, files)) for number, files in masks.items()]
        present = tuple((number, path) for number, path in there if path is not None)
        return Masks(present) if present else None

    return of_case


_INDEX: dict[type, Callable[[Path, Card, Any], list[Case]]] = {
    DecathlonLayout: _decathlon,
    PetCtLayout: _petct,
    NnunetLayout: _nnunet,
    NpzLayout: _npz,
    FilesLayout: _files,
}
