"""Rooms of runs and of a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from segue.catalogue import Card, Case, Dataset, Recoded, Row, label_files, label_form, stored_mask
from segue.core.errors import DataError
from segue.images import read_labels
from segue.predict import mask_path
from segue.prepare import Finding, read_channels, read_mask
from segue.train import Run
from segue.view.colours import is_colour
from segue.view.facts import RunFacts, read_facts
from segue.view.room.files import single
from segue.view.room.shelf import Room, RoomCase, Sheet
from segue.view.words import count
from segue.volume import Volume

_PART_NAMES = {"train": "training", "val": "validation", "test": "test"}


def room_of_dataset(dataset: Dataset, findings: Iterable[Finding] = ()) -> Room:
    """The cases of a dataset with their truth, and what is known to be wrong with them."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.case, []).append(finding)
    apart = dataset.has_own_split  # goes through all cases, so not once per case
    cases = [
        _case(case, dataset.card, split=case.split if apart else "", findings=found.get(case.id, []))
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
            sheets.append(Sheet(channel.name, (image,), partial(single, image), "image", image, channel.unit))
        else:
            read_one = partial(_channel, case, card, number)
            form = ["channel", number, [_row_of(i) for i in case.images], list(case.absent), card.dimension]
            sheets.append(Sheet(channel.name, case.image_files, read_one, form, unit=channel.unit))
    return sheets


def _channel(case: Case, card: Card, number: int) -> Volume:
    volume = read_channels(case, card)
    return Volume(volume.array[number : number + 1], volume.geometry, volume.kind, card.channels[number].unit)
