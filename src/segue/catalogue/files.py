"""Cases by file patterns: channels, masks and classes out of folders, and what a table says beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from segue.catalogue import patterns
from segue.catalogue.card import Card, FilesLayout, Part, Table
from segue.catalogue.dataset import Case, Label, Masks, Recoded, Subset
from segue.catalogue.tables import CaseRow, class_number, read_table
from segue.core.errors import DataError, UsageError

Fields = tuple[tuple[str, str], ...]
T = TypeVar("T")

_NO_FACTS = ("patient", "case", "class")


def cases(root: Path, card: Card, layout: FilesLayout) -> list[Case]:
    """The cases of all parts; a case's class comes from its folder or from the table.

    Raises:
        DataError: a class that the card does not name, a table that does not fit its images.
        UsageError: a channel without a pattern.
    """
    found = [case for name, part in layout.parts for case in _part(root, card, part, name)]
    if layout.table and found:  # a folder without cases is not this dataset's: its parts may lie a level below
        found = _with_rows(found, root, card, layout.table)
    return found


def _with_rows(found: list[Case], root: Path, card: Card, table: Table) -> list[Case]:
    path = root / table.file
    rows = read_table(path, table, card)
    used: set[str] = set()
    changed = []
    named = [_names(case, root, path.parent) for case in found]
    often = Counter(name for _, short in named for name in short)
    for case, (names, short) in zip(found, named, strict=True):
        able = [*names, *(name for name in short if often[name] == 1)]
        name = next((name for name in able if name in rows), None)
        used |= set(able)
        changed.append(case if name is None else _with_row(case, rows[name]))
    missing = [row for name, row in rows.items() if name not in used]
    if table.target is not None and missing:
        shown = ", ".join(row.case for row in missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise DataError(
            f"{len(missing)} of {len(rows)} rows of the table name an image that is not there",
            where=path,
            value=shown,
            remedy="bring these images, take their rows out, or mend 'images' and 'table' in the card",
        )
    return changed


def _names(case: Case, root: Path, beside: Path) -> tuple[list[str], list[str]]:
    """What a table may call a case: its id and paths, the best first; and its file's name, which may not be unique."""
    from segue.images import image_stem

    image = case.files[0]
    places = [image.relative_to(place) for place in dict.fromkeys((root, beside)) if image.is_relative_to(place)]
    names = [text for place in places for text in (place.as_posix(), place.with_name(image_stem(place)).as_posix())]
    return list(dict.fromkeys([case.id, *names])), list(dict.fromkeys([image.name, image_stem(image)]))


def _with_row(case: Case, row: CaseRow) -> Case:
    return replace(
        case,
        patient=row.patient or case.patient,
        split=row.split or case.split,
        target=case.target if row.target is None else row.target,
        facts={**case.facts, **row.facts},
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


class _Files(Generic[T]):
    """Files by the values of their pattern's fields."""

    def __init__(self, files: dict[Fields, T]) -> None:
        self.files = files
        self._names = {name for name, _ in next(iter(files), ())}
        self._by_common: dict[frozenset[str], dict[Fields, T]] = {}

    def of(self, fields: Fields) -> T | None:
        """The file of the same case: exact fields first, else those that the two patterns have in common."""
        if fields in self.files:
            return self.files[fields]
        common = frozenset(name for name, _ in fields if name in self._names)
        if not common or len(common) == len(fields):
            return None
        if common not in self._by_common:
            known: dict[Fields, T] = {}
            for other, file in self.files.items():
                known.setdefault(_only(other, common), file)
            self._by_common[common] = known
        return self._by_common[common].get(_only(fields, common))


def _only(fields: Fields, names: Iterable[str]) -> Fields:
    return tuple((name, value) for name, value in fields if name in names)


def _part(root: Path, card: Card, part: Part, split: Subset) -> list[Case]:
    renamed = _repairs(card)
    names = channel_patterns(card, part)
    channels = [_Files(_by_fields(root, pattern, renamed)) for pattern in names]
    labels = _labels(root, card, part, renamed)
    found = []
    unknown: Counter[str] = Counter()
    optional = [channel.optional for channel in card.channels][: len(names)]
    for fields in _cases_of([channel.files for channel in channels], optional):
        known = dict(fields)
        there = [files.of(fields) for files in channels]
        absent = tuple(n for n, may_lack in enumerate(optional) if may_lack and there[n] is None)
        # A required channel that is not there keeps its place: whoever reads the case says which file is missing.
        images = tuple(
            file or root / patterns.filled(name, known)
            for number, (name, file) in enumerate(zip(names, there, strict=True))
            if number not in absent
        )
        # Two classes, and two parts with the same classes, number their images alike.
        before = [split] if "class" in known and split != "train" else []
        name = "_".join([*before, *(known[key] for key in ("class", "patient", "case") if key in known)])
        facts = {key: value for key, value in known.items() if key not in _NO_FACTS}
        target = class_number(card, known["class"]) if "class" in known else None
        if "class" in known and target is None:
            unknown[known["class"]] += 1
        patient = known.get("patient", name)
        found.append(Case(name, patient, images, labels(fields), split, target, facts=facts, absent=absent))
    if unknown:
        told = ", ".join(f"{name} ({count} images)" for name, count in unknown.most_common(5))
        raise DataError(
            "there are folders of classes that the card does not name",
            where=root,
            value=f"{told}; the card names {', '.join(card.labels.values())}",
            remedy="add them to 'labels' in the card, or leave them out with {class:NAME|NAME} in the pattern",
        )
    return found


def _cases_of(channels: list[dict[Fields, Path]], optional: list[bool]) -> list[Fields]:
    """Of every case that has a file of some channel, the values of the fields."""
    while len(channels) > 1 and optional[0] and not channels[0]:  # no case has this channel: the next one names them
        channels, optional = channels[1:], optional[1:]
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


def _masks(root: Path, pattern: str, renamed: dict[str, str]) -> _Files[list[Path]]:
    """The masks of a case; more than one only where the pattern names instances."""
    found: dict[Fields, list[Path]] = {}
    for fields, path in _by_fields(root, pattern, renamed).items():
        found.setdefault(tuple(pair for pair in fields if pair[0] != "instance"), []).append(path)
    return _Files(found)


def _labels(root: Path, card: Card, part: Part, renamed: dict[str, str]) -> Callable[[Fields], Label | None]:
    pattern = part.labels
    if pattern is None:
        return lambda fields: None

    def recoded(label: Path | Masks | None) -> Label | None:
        return label if label is None or not part.values else Recoded(label, tuple(sorted(part.values.items())))

    if not {"label", "instance"} & set(patterns.field_names(pattern)):
        files = _Files(_by_fields(root, pattern, renamed))
        return lambda fields: recoded(files.of(fields))
    masks = {number: _masks(root, pattern.replace("{label}", name), renamed) for number, name in card.labels.items()}

    def of_case(fields: Fields) -> Label | None:
        present = tuple((number, path) for number, there in masks.items() for path in there.of(fields) or ())
        return recoded(Masks(present) if present else None)

    return of_case
