"""Layouts: how a folder of files becomes cases. One function each; a new layout is one more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from segue.catalogue.card import Card, DecathlonLayout, FilesLayout, PetCtLayout
from segue.catalogue.dataset import Case
from segue.core.errors import DataError
from segue.images import image_stem, is_image


def index(root: Path, card: Card) -> list[Case]:
    """The cases that lie in ``root`` according to the card's layout, sorted by id.

    Raises:
        DataError: the folder does not have the layout, or names files outside itself.
    """
    layout = card.layout
    if isinstance(layout, DecathlonLayout):
        cases = _decathlon(root, card)
    elif isinstance(layout, PetCtLayout):
        cases = _petct(root)
    else:
        cases = _files(root, card, layout)
    if card.patient:
        cases = [_with_patient(case, card.patient) for case in cases]
    return sorted(cases, key=lambda case: case.id)


def _with_patient(case: Case, pattern: str) -> Case:
    match = re.search(pattern, case.id)
    if not match:
        raise DataError(
            "the card's patient pattern does not match this case",
            where=case.id,
            value=pattern,
            remedy="mend 'patient' in the card: its first group is the patient's name in a case id",
        )
    patient = match.group(1) if match.groups() else match.group(0)
    return Case(case.id, patient, case.images, case.label, case.split, case.facts)


def _decathlon(root: Path, card: Card) -> list[Case]:
    listing = root / "dataset.json"
    if not listing.exists():
        raise DataError(
            "dataset.json is missing: this is not a folder of the decathlon",
            where=root,
            remedy="give the folder that holds dataset.json, imagesTr and labelsTr",
        )
    try:
        content: dict[str, Any] = json.loads(listing.read_text(encoding="utf-8"))
        training = [(_local(root, entry["image"]), _local(root, entry["label"])) for entry in content["training"]]
        test = [_local(root, _test_image(entry)) for entry in content.get("test", [])]
        labels = {int(number) for number in content.get("labels", {})} - {0}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "dataset.json cannot be understood", where=listing, value=f"{type(error).__name__}: {error}"[:200]
        ) from error
    if labels and labels != set(card.labels):
        raise DataError(
            f"dataset.json has other labels than the card {card.name}",
            where=listing,
            value=f"{sorted(labels)} against {sorted(card.labels)}",
            remedy="is this the right dataset? otherwise give the folder itself, without the card",
        )
    cases = [Case(image_stem(image), image_stem(image), (image,), label) for image, label in training]
    cases += [Case(image_stem(image), image_stem(image), (image,), None, "test") for image in test]
    return cases


def _test_image(entry: str | dict[str, str]) -> str:
    return entry if isinstance(entry, str) else entry["image"]


def _local(root: Path, name: str) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError("a listed file lies outside the dataset's folder", where=root / "dataset.json", value=name)
    return root / path


def _petct(root: Path) -> list[Case]:
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


def _files(root: Path, card: Card, layout: FilesLayout) -> list[Case]:
    cases = _pattern_cases(root, card, layout.images, layout.labels, "train")
    if layout.test_images:
        cases += _pattern_cases(root, card, layout.test_images, None, "test")
    return cases


def _pattern_cases(root: Path, card: Card, images: str | dict[str, str], labels: str | None, split: str) -> list[Case]:
    names = [channel.name for channel in card.channels]
    if isinstance(images, str):
        patterns = [images.replace("{channel}", name) for name in names] if "{channel}" in images else [images]
    else:
        missing = [name for name in names if name not in images]
        if missing:
            raise DataError("the layout gives no pattern for a channel", where=card.name, value=", ".join(missing))
        patterns = [images[name] for name in names]
    cases = []
    for path, fields in _matches(root, patterns[0]):
        name = "_".join(fields[key] for key in ("patient", "case") if key in fields)
        label = root / labels.format(**fields) if labels else None
        cases.append(
            Case(
                name,
                fields.get("patient", name),
                (path, *[root / pattern.format(**fields) for pattern in patterns[1:]]),
                label if label is not None and label.exists() else None,
                "test" if split == "test" else "train",
            )
        )
    return cases


def _matches(root: Path, pattern: str) -> Iterable[tuple[Path, dict[str, str]]]:
    glob = re.sub(r"\{\w+\}", "*", pattern)
    parts = re.split(r"(\{\w+\})", pattern)
    seen: set[str] = set()
    expression = ""
    for part in parts:
        if part.startswith("{"):
            key = part[1:-1]
            if key not in ("case", "patient"):
                raise DataError("a pattern knows {patient}, {case} and {channel}", where=pattern, value=part)
            expression += f"(?P={key})" if key in seen else f"(?P<{key}>[^/]+)"
            seen.add(key)
        else:
            expression += re.escape(part)
    if not seen:
        raise DataError("a pattern needs {case} or {patient} where the names differ", where=pattern)
    for path in sorted(root.glob(glob)):
        match = re.fullmatch(expression, path.relative_to(root).as_posix())
        if match and is_image(path):
            yield path, match.groupdict()
