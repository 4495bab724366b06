"""Rooms of runs, of a dataset, and of single files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Dataset, Recoded, Row, label_files, label_form, stored_mask
from segue.core.errors import DataError
from segue.images import image_stem, read, read_geometry, read_labels
from segue.predict import mask_path
from segue.prepare import Finding, read_channels, read_mask
from segue.train import Run
from segue.view.colours import is_colour
from segue.view.facts import RunFacts, read_facts
from segue.view.levels import MOST_VOXELS
from segue.view.room.shelf import Room, RoomCase, Sheet
from segue.view.words import count
from segue.volume import Geometry, Volume

_PART_NAMES = {"train": "training", "val": "validation", "test": "test"}
_MOST_LABELS = 256
_SLICES = 24
# Of neighbours in a label map that are equal, at least: a photograph has as few numbers, but mixed.
_EVEN = 0.8


def room_of_dataset(dataset: Dataset, findings: Iterable[Finding] = ()) -> Room:
    """The cases of a dataset with their truth, and what is known to be wrong with them."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.case, []).append(finding)
    own = dataset.has_own_split
    cases = [
        _case(case, dataset.card, split=case.split if own else "", findings=found.get(case.id, []))
        for case in _all_of(dataset)
    ]
    by_card = len(dataset.left_out) - len(dataset.set_aside)
    notes = [f"Not shown: {count(by_card, 'case')} that the card leaves out."] if by_card else []
    card = dataset.card
    return Room(card.title, "dataset", cases, card.labels, card.channels, root=dataset.root, card=card, notes=notes)


def _all_of(dataset: Dataset) -> list[Case]:
    """Also those that a verdict sets aside: here a person may take it back."""
    return (
        sorted([*dataset.cases, *dataset.set_aside], key=lambda case: case.id)
        if dataset.set_aside
        else list(dataset.cases)
    )


def runs_room(runs: Sequence[Run], datasets: Sequence[Dataset | None]) -> Room:
    """Runs on the same images beside each other: the cases that any of them measured, trained on or validates on.

    Args:
        datasets: of each run, where its images are; None where they are gone.

    Raises:
        UsageError: not a run folder. DataError: the runs are of different datasets.
    """
    cards = [run.card() for run in runs]
    if len({card.name for card in cards}) > 1:
        raise DataError(
            "these runs are of different datasets: no case is in all of them",
            value=", ".join(f"{run.folder.name}: {card.name}" for run, card in zip(runs, cards, strict=True)),
            remedy="open each of them by itself",
        )
    truths: dict[str, Case] = {}
    for dataset in datasets:
        truths |= {case.id: case for case in _all_of(dataset)} if dataset else {}
    all_facts = [read_facts(run, truths) for run in runs]
    members = _members(all_facts, truths)
    remarks = _remarks(all_facts)
    cases = [
        _run_case(name, part, all_facts, cards[0], truths.get(name), remarks.get(name, []))
        for name, part in members.items()
    ]
    root = next((dataset.root for dataset in datasets if dataset), None)
    plan = all_facts[0].plan
    notes = [] if truths else ["The images of these runs are not where the runs found them: only figures are shown."]
    return Room(
        title=cards[0].title,
        kind="run",
        cases=cases,
        labels=plan.labels if plan else cards[0].labels,
        channels=cards[0].channels,
        runs=runs,
        names=_told_apart(runs),
        root=root,
        card=cards[0],
        notes=notes,
    )


def _told_apart(runs: Sequence[Run]) -> list[str]:
    """Names of folders; of equal ones with the folder above."""
    names = [run.folder.resolve().name for run in runs]
    return [
        f"{run.folder.resolve().parent.name}/{name}" if names.count(name) > 1 else name
        for run, name in zip(runs, names, strict=True)
    ]


def _members(all_facts: Sequence[RunFacts], truths: Mapping[str, Case]) -> dict[str, str]:
    """Every case with the part it is in; measured ones first. Of folds, a case validates in one of them."""
    members: dict[str, str] = {}
    for facts in all_facts:
        for part in ("test", "val", "train"):
            measured = facts.parts.get(part) or facts.class_parts.get(part)
            for name in [*(measured.cases if measured else ()), *(m.id for m in facts.split.get(part, []))]:
                members.setdefault(name, part)
    for name, case in truths.items():
        members.setdefault(name, case.split if case.split != "train" else "unused")
    return members


def _remarks(all_facts: Sequence[RunFacts]) -> dict[str, list[Finding]]:
    """What quality control found before any of the trainings, each finding once."""
    found: dict[str, dict[str, Finding]] = {}
    for facts in all_facts:
        for remark in facts.remarks.findings + facts.remarks.left_out if facts.remarks else []:
            severity = remark.severity if remark.severity in ("error", "warning", "note") else "error"
            finding = Finding.model_validate({**remark.model_dump(), "severity": severity})
            found.setdefault(remark.case, {})[str(finding)] = finding
    return {case: list(told.values()) for case, told in found.items()}


def _run_case(
    name: str,
    part: str,
    all_facts: Sequence[RunFacts],
    card: Card,
    case: Case | None,
    findings: Sequence[Finding],
) -> RoomCase:
    figures: dict[int, dict[str, dict[str, float | None]]] = {}
    answers: dict[int, dict[str, str | float | None]] = {}
    predictions: list[tuple[int, Path]] = []
    labels: dict[str, None] = {}
    patient = ""
    for number, facts in enumerate(all_facts):
        for measured in ("test", "val"):
            if (found := facts.parts.get(measured)) and name in found.cases:
                figures[number] = {**found.cases[name].labels, **found.cases[name].regions}
                patient = found.cases[name].patient
                labels |= {label: None for label, m in found.cases[name].labels.items() if m.get("truth_volume_ml")}
            if (classes := facts.class_parts.get(measured)) and name in classes.cases:
                answer = classes.cases[name]
                patient = answer.patient
                labels |= dict.fromkeys([answer.truth] if isinstance(answer.truth, str) else answer.truth)
                answers[number] = {
                    "truth": _joined(answer.truth),
                    "answer": _joined(answer.predicted),
                    "right": "no" if answer.wrong else "yes",
                    "probability of the truth": answer.of_truth,
                }
            if case is not None and card.task != "classification":
                path = mask_path(facts.predictions(measured, name), case, card.dimension)
                predictions.append((number, path))
    split = _PART_NAMES.get(part, part)
    if case is None:
        gone = partial(_gone, name)
        return RoomCase(name, gone, patient, split, {}, findings, figures, answers, list(labels))
    return _case(case, card, split, findings, figures, answers, list(labels), predictions)


def _joined(answer: str | list[str]) -> str:
    return answer if isinstance(answer, str) else ", ".join(answer) or "nothing"


def _gone(name: str) -> tuple[list[Sheet], list[Sheet]]:
    raise DataError(
        "the images of this case are not there any more",
        where=name,
        remedy="put the dataset back where the run found it; its place is 'root' in config.yaml",
    )


def _case(
    case: Case,
    card: Card,
    split: str = "",
    findings: Sequence[Finding] = (),
    figures: Mapping[int, Mapping[str, Mapping[str, float | None]]] | None = None,
    answers: Mapping[int, Mapping[str, str | float | None]] | None = None,
    labels: Sequence[str] = (),
    predictions: Sequence[tuple[int, Path]] = (),
) -> RoomCase:
    facts = {str(name): str(value) for name, value in case.facts.items() if isinstance(value, str | int | float | bool)}
    if case.target is not None:
        classes = _classes_of(case, card)
        facts = {"class": ", ".join(classes) or "none", **facts}
        labels = labels or classes
    if case.absent:
        facts["missing channels"] = ", ".join(card.channels[number].name for number in case.absent)
    if case.unlabelled:
        facts["not annotated"] = ", ".join(card.labels.get(number, str(number)) for number in case.unlabelled)
    sheets = partial(_sheets, case, card, tuple(predictions))
    return RoomCase(case.id, sheets, case.patient, split, facts, findings, figures or {}, answers or {}, labels)


def _classes_of(case: Case, card: Card) -> list[str]:
    names = card.labels
    if isinstance(case.target, tuple):
        return [names.get(place, str(place)) for place, holds in enumerate(case.target) if holds]
    return [] if case.target is None else [names.get(case.target, str(case.target))]


def _sheets(case: Case, card: Card, predictions: Sequence[tuple[int, Path]]) -> tuple[list[Sheet], list[Sheet]]:
    images, masks = _images(case, card), []
    if case.label is not None:
        stored = stored_mask(case.label)
        whole = stored if isinstance(stored, Path) and not isinstance(case.label, Recoded) else None
        masks.append(
            Sheet(
                "truth",
                label_files(case.label),
                partial(read_mask, case.label),
                ["truth", label_form(case.label), _row_of(stored)],
                whole,
            )
        )
    for run, path in predictions:
        if path.exists():
            masks.append(Sheet("prediction", (path,), partial(read_labels, path), "mask", path, run=run))
    return images, masks


def _row_of(part: object) -> object:
    return [part.key, part.index] if isinstance(part, Row) else None


def _images(case: Case, card: Card) -> list[Sheet]:
    present = case.present(len(card.channels))
    if is_colour(card.channels):
        form: object = ["colour", [_row_of(image) for image in case.images]]
        return [Sheet("picture", case.image_files, partial(read_channels, case, card), form, colour=True)]
    sheets = []
    for place, number in enumerate(present):
        channel = card.channels[number]
        image = case.images[place] if len(case.images) == len(present) else None
        if isinstance(image, Path):
            sheets.append(Sheet(channel.name, (image,), partial(_single, image), "image", image, channel.unit))
        else:
            read_one = partial(_channel, case, card, number)
            form = ["channel", number, [_row_of(i) for i in case.images], list(case.absent), card.dimension]
            sheets.append(Sheet(channel.name, case.image_files, read_one, form, unit=channel.unit))
    return sheets


def _channel(case: Case, card: Card, number: int) -> Volume:
    volume = read_channels(case, card)
    return Volume(volume.array[number : number + 1], volume.geometry, volume.kind, card.channels[number].unit)


def _single(path: Path) -> Volume:
    volume = read(path)
    return volume if len(volume.array) == 1 else Volume(volume.array[:1], volume.geometry, volume.kind, volume.unit)


@dataclass
class _Group:
    """Files that are shown together: images on one grid, and masks on it."""

    geometry: Geometry
    images: list[Path]
    masks: list[Path]


def files_room(paths: Sequence[Path], title: str) -> Room:
    """Single images; a label map on the grid of an image is laid over it, CT and PET on one grid are one case.

    A label map holds few whole numbers, evenly; it belongs to the image on its grid whose name is most like its own.

    Raises:
        DataError: the first file whose header cannot be read.
    """
    groups: list[_Group] = []
    masks: list[tuple[Path, Geometry]] = []
    for path in paths:
        geometry = read_geometry(path)
        if not path.is_dir() and looks_like_labels(path):
            masks.append((path, geometry))
            continue
        mates = [g for g in groups if _same_study(g.images[0], path) and g.geometry.difference(geometry) is None]
        if mates:
            mates[0].images.append(path)
        else:
            groups.append(_Group(geometry, [path], []))
    for path, geometry in masks:
        fitting = [group for group in groups if group.geometry.difference(geometry) is None]
        if fitting:
            max(fitting, key=lambda group: _likeness(group.images[0], path)).masks.append(path)
        else:
            groups.append(_Group(geometry, [path], [path]))  # its numbers in grey, under the colours of its labels
    names = _short_names([group.images[0] for group in groups])
    cases = [
        RoomCase(name, partial(_file_sheets, tuple(group.images), tuple(group.masks)))
        for name, group in zip(names, groups, strict=True)
    ]
    return Room(title, "files", cases)


def _file_sheets(images: Sequence[Path], masks: Sequence[Path]) -> tuple[list[Sheet], list[Sheet]]:
    shown = []
    for path in images:
        colour = not path.is_dir() and _in_colour(path)
        read_it = partial(read, path) if colour else partial(_single, path)
        unit = "SUV" if image_stem(path).upper().startswith("SUV") else _unit_of(path)
        shown.append(Sheet(image_stem(path), (path,), read_it, "image", None if colour else path, unit, colour))
    overlays = [Sheet(image_stem(path), (path,), partial(read_labels, path), "mask", path) for path in masks]
    return shown, overlays


def _in_colour(path: Path) -> bool:
    from segue.images import read_header

    header = read_header(path)
    return header.channels == 3 and header.dtype == np.uint8


def _unit_of(path: Path) -> str:
    """HU where a file is named like a CT: nothing else tells it before the voxels are read."""
    words = re.split(r"[^a-z]+", image_stem(path).lower())
    return "HU" if any(word in ("ct", "ctres") for word in words) else "arbitrary"


def looks_like_labels(path: Path) -> bool:
    """Whether a file holds few whole numbers from 0, each in patches: a label map, most likely.

    A file that is too large to be read just for that is taken for an image.
    """
    if math.prod(read_geometry(path).shape) > MOST_VOXELS or _in_colour(path):
        return False
    array = _single(path).array[0]
    step = max(1, array.shape[2] // _SLICES)
    some = array[:, :, ::step]  # enough for what most images betray at once; the rest is asked only of likely ones
    if some.dtype.kind == "f" and not (np.isfinite(some).all() and (some == np.rint(some)).all()):
        return False
    if array.min() != 0 or not 1 <= array.max() < 1000 or len(np.unique(some)) > _MOST_LABELS:
        return False
    return bool((some[1:] == some[:-1]).mean() > _EVEN)


def _same_study(one: Path, other: Path) -> bool:
    """Whether two names tell channels of one study, not two patients: they differ in words, not in numbers."""
    if one.parent != other.parent:
        return False
    first, second = image_stem(one), image_stem(other)
    if re.sub(r"_\d{4}$", "", first) == re.sub(r"_\d{4}$", "", second):
        return True
    return _worded(first) != _worded(second)


def _worded(stem: str) -> str:
    """A name without its numbers; T1 and T2 are words."""
    return re.sub(r"\d+", "#", re.sub(r"(?<![a-z])t([12])", lambda m: "t" + "ab"[int(m[1]) - 1], stem.lower()))


def _likeness(image: Path, mask: Path) -> tuple[bool, int]:
    a, b = image_stem(image), image_stem(mask)
    same = next((place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return image.parent == mask.parent, same


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Stems, with as many folders before them as tell them apart."""
    depth = 0
    while True:
        names = ["/".join([*path.resolve().parts[-1 - depth : -1], image_stem(path)]) for path in paths]
        if len(set(names)) == len(names) or depth > 12:
            return names
        depth += 1
