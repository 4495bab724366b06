"""What the cases of a look-alike are called: a card's examples, counted up where more are wanted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from segue.catalogue import Card
from segue.catalogue.card import FilesLayout, Part, PetCtLayout
from segue.catalogue.dataset import Subset
from segue.catalogue.files import channel_patterns
from segue.catalogue.patterns import compiled, field_names, filled
from segue.core.errors import UsageError

_WILDCARD = re.compile(r"\*\*/|\*")
# Wildcards are fields too, so that the folders of an example come back: one folder, any number of folders.
_ONE, _ANY = "_one", "_any"
_PLAIN = "_plain"  # the field of an example that ends in .nii where the pattern says .nii.gz
_GUESSES = ("case_001", "001", "1", "a")


@dataclass(frozen=True)
class Name:
    """One case by the fields of its names: ``case``, ``patient`` and what else the layout's patterns hold."""

    fields: dict[str, str]
    part: Subset = "train"

    @property
    def id(self) -> str:
        """The id under which the case is indexed."""
        return "_".join(self.fields[key] for key in ("patient", "case") if key in self.fields)

    def path(self, pattern: str) -> str:
        """The file of this case that a pattern means; wildcard folders are those of the example."""
        unknown = {f"{_ONE}{n}": "folder" for n in range(9)} | {f"{_ANY}{n}": "" for n in range(9)}
        text = filled(_captured(pattern), {**unknown, **self.fields})
        return text.removesuffix(".gz") if _PLAIN in self.fields and text.endswith(".nii.gz") else text

    def with_case(self, case: str, patient: str | None = None) -> Name:
        return replace(self, fields={**self.fields, "case": case, **({"patient": patient} if patient else {})})


def shipped_names(card: Card, number: int) -> tuple[list[Name], list[Name]]:
    """The cases that are used (``number`` to train on, then one or two of each official part), and one that a known
    defect leaves out, where the card has such.

    Cases of which a known defect repairs a file come first; where cases have patients, from three on two cases are of
    one patient.

    Raises:
        UsageError: the card gives no example of a name, and none can be guessed.
    """
    bad = [name for defect in card.defects if defect.action == "skip" for name in defect.cases]
    repaired = [name for defect in card.defects if defect.action == "repair" for name in defect.cases]
    known = list(_examples(card))
    known += [] if any(name.part == "train" for name in known) else [_guessed(card)]
    train = [name for name in known if name.part == "train" and name.id not in bad]
    train += [_called(train[0], case) for case in repaired if case not in {name.id for name in train}]
    train = sorted(train, key=lambda name: (name.id not in repaired, _rank_in_group(name, train, card)))
    chosen = train[:number]
    taken = {patient_of(name, card) for name in known}
    while len(chosen) < number:
        chosen.append(_counted(train[len(chosen) % len(train)], card, taken, bad))
    if number >= 3 and (card.patient or "patient" in chosen[0].fields):
        chosen = _with_two_of_one(chosen, train, card)
    official = [name for part in _official(card) for name in _of_part(part, card, known, train[-1], taken, bad)]
    left_out = [next((name for name in known if name.id == case), None) or _called(train[0], case) for case in bad[:1]]
    return [*chosen, *official], left_out


def _examples(card: Card) -> Iterator[Name]:
    for example in card.layout.examples:
        if example.startswith("/") or ".." in example.split("/"):
            raise UsageError("an example leaves the dataset's folder", where=card.name, value=example)
        if isinstance(card.layout, FilesLayout):
            yield _in_files(card, card.layout, example)
        elif isinstance(card.layout, PetCtLayout):
            patient, _, study = example.partition("/")
            yield Name({"patient": patient, "case": study})
        else:
            yield Name({"case": example})


def _in_files(card: Card, layout: FilesLayout, example: str) -> Name:
    parts: tuple[tuple[Subset, Part | None], ...] = (("train", layout), ("val", layout.val), ("test", layout.test))
    for subset, part in parts:
        if part is not None:
            pattern = channel_patterns(card, part)[0]
            match = compiled(_captured(pattern)).fullmatch(example)
            if match:
                plain = {_PLAIN: "yes"} if pattern.endswith(".nii.gz") and example.endswith(".nii") else {}
                return Name({**match.groupdict(), **plain}, subset)
    raise UsageError(
        "this example does not have the layout's pattern", where=f"{card.name}, layout.examples", value=example
    )


def _captured(pattern: str) -> str:
    """The pattern with its wildcards as numbered fields."""
    parts = re.split(r"(\{[^{}]*\})", pattern)  # an asterisk in a field's expression stays
    count = -1

    def named(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return f"{{{_ANY}{count}:(?:[^/]+/)*}}" if match.group() == "**/" else f"{{{_ONE}{count}:[^/]*}}"

    return "".join(part if part.startswith("{") else _WILDCARD.sub(named, part) for part in parts)


def _guessed(card: Card) -> Name:
    if isinstance(card.layout, PetCtLayout):
        return Name({"patient": "patient_001", "case": "study_1"})
    for text in _GUESSES:
        name = Name({"case": text})
        if isinstance(card.layout, FilesLayout):
            pattern = channel_patterns(card, card.layout)[0]
            name = Name(dict.fromkeys(field_names(pattern), text))
            if not compiled(_captured(pattern)).fullmatch(name.path(pattern)):
                continue
        if not card.patient or re.search(card.patient, name.id):
            return name
    raise UsageError(
        "the card gives no example of a name, and none can be guessed",
        where=card.name,
        remedy="add layout.examples to the card: names as the data have them",
    )


def _rank_in_group(name: Name, names: list[Name], card: Card) -> int:
    """The cases of the card's groups take turns, so that few cases show all groups."""
    same = [other for other in names if group_of(card, other.id) == group_of(card, name.id)]
    return same.index(name)


def group_of(card: Card, case: str) -> int | None:
    """Which of the card's groups a case belongs to."""
    return next((number for number, group in enumerate(card.groups) if re.search(group.cases, case)), None)


def patient_of(name: Name, card: Card) -> str:
    """The patient under whom the case is indexed."""
    match = re.search(card.patient, name.id) if card.patient else None
    if match:
        return match.group(1) if match.groups() else match.group()
    return name.fields.get("patient", name.id)


def _called(like: Name, case: str) -> Name:
    """A case with this id."""
    if "patient" in like.fields:
        patient, _, case = case.rpartition("_")
        return like.with_case(case, patient)
    return like.with_case(case)


def _counted(like: Name, card: Card, taken: set[str], bad: list[str]) -> Name:
    """The next case of a patient whom nobody has named yet; adds the patient to ``taken``."""
    name = like
    while name.id in bad or patient_of(name, card) in taken:
        if "patient" in name.fields:
            name = name.with_case(name.fields["case"], count_up(name.fields["patient"]))
        else:
            name = name.with_case(_within(name.fields["case"], card.patient, count_up, None))
    taken.add(patient_of(name, card))
    return name


def _with_two_of_one(chosen: list[Name], train: list[Name], card: Card) -> list[Name]:
    patients = [patient_of(name, card) for name in chosen]
    if len(set(patients)) < len(patients):
        return chosen
    others = (name for name in train if name not in chosen and patient_of(name, card) in patients[:-1])
    first = chosen[0]
    pattern = None if "patient" in first.fields else card.patient
    another = first.with_case(_within(first.fields["case"], pattern, None, count_up))
    return [*chosen[:-1], next(others, another)]


def _within(
    case: str, pattern: str | None, inside: Callable[[str], str] | None, outside: Callable[[str], str] | None
) -> str:
    """Change the patient's part of a case's name, or what follows it (all of it where no pattern says which)."""
    match = re.search(pattern, case) if pattern else None
    if match is None:
        change = inside or outside
        return change(case) if change else case
    start, end = match.span(1 if match.groups() else 0)
    head, patient, tail = case[:start], case[start:end], case[end:]
    return head + (inside(patient) if inside else patient) + (outside(tail) if outside else tail)


def count_up(text: str) -> str:
    """The text with its longest number (of several, the last) one higher, in as many digits."""
    runs = list(re.finditer("[0-9]+", text))
    if not runs:
        return f"{text}2"
    start, end = max(runs, key=lambda run: (len(run.group()), run.start())).span()
    return f"{text[:start]}{int(text[start:end]) + 1:0{end - start}d}{text[end:]}"


def _official(card: Card) -> list[Subset]:
    """The parts beside the training cases: those of the layout, or those of its table that the dataset has."""
    layout = card.layout
    parts: tuple[Subset, ...] = ("val", "test")
    if isinstance(layout, FilesLayout):
        if layout.table and layout.table.split:
            expected = {"val": card.expect.val, "test": card.expect.test}
            stated = any(count is not None for count in (card.expect.train, *expected.values()))
            return [part for part in parts if expected[part] or not stated]
        return [part for part in parts if getattr(layout, part) is not None]
    return ["test"] if layout.kind in ("decathlon", "nnunet") else []


def _of_part(part: Subset, card: Card, known: list[Name], like: Name, taken: set[str], bad: list[str]) -> list[Name]:
    given = [name for name in known if name.part == part][:2]
    if given:
        return given
    return [
        replace(_counted(like, card, taken, bad), part=part) for _ in range(2 if card.layout.kind == "decathlon" else 1)
    ]
