"""A table beside images: which column names the image, which its class, which the patient."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segue.catalogue.card import Classes, FilesLayout, Part, Table
from segue.catalogue.recognise import contents
from segue.catalogue.recognise import names as file_names
from segue.catalogue.recognise.classes import about_classes, ending, in_order, kind_of
from segue.catalogue.recognise.guess import Draft
from segue.catalogue.recognise.names import ImageFile, word_set, words
from segue.catalogue.tables import SPLITS
from segue.catalogue.verdicts import VERDICTS

_OURS = {VERDICTS, "repairs.csv", "check.csv"}  # they name cases, and tell nothing of classes
_LARGEST_BYTES = 50_000_000
_MOST_TABLES = 20
_LEAST_NAMED = 0.5  # share of the rows whose image is there
_MOST_CLASSES = 100
_PATIENT_WORDS = word_set("patient patients subject subjects pid patientid subjectid mrn")
_SPLIT_WORDS = word_set("split set fold subset partition part")
_CLASS_WORDS = word_set(
    "label labels class classes target diagnosis dx grade category finding findings outcome disease pathology "
    "severity stage malignant malignancy abnormal condition"
)
_OTHER_WORDS = word_set(
    "sex gender age ethnicity race site center centre hospital side laterality view position localization location "
    "width height rows columns modality scanner device date time year path file filename id uid index idx"
)
_YES_NO = frozenset(("0", "1", "0.0", "1.0"))


@dataclass
class _Sheet:
    """A table that was read, its columns by name."""

    file: str
    separator: str
    columns: dict[str, list[str]]
    case: str = ""
    named: float = 0.0
    patient: str | None = None
    split: str | None = None


@dataclass
class _Target:
    """The classes that a table tells.

    Attributes:
        sure: the column's name says that it is a class.
    """

    column: str | list[str]
    labels: dict[int, str]
    classes: Classes
    sure: bool
    notes: list[str] = field(default_factory=list)


def patients_beside(folder: Path, files: Sequence[ImageFile]) -> Table | None:
    """A table that says whose image it is."""
    for sheet in _sheets(folder, files):
        if sheet.patient:
            return Table(file=sheet.file, separator=sheet.separator, case=sheet.case, patient=sheet.patient)
    return None


def classes_beside(folder: Path, files: Sequence[ImageFile], only_sure: bool) -> Draft | None:
    """A classification by the table that names the most images; None where there is none.

    Args:
        only_sure: only a column that is called label, class, diagnosis or the like, or several of 0 and 1.
    """
    kinds = file_names.kinds(files)
    images = [file for file in files if kinds[file] == "image"]
    if not images or "mask" in kinds.values():
        return None
    able = [(sheet, target) for sheet in _sheets(folder, images) if (target := _target(sheet))]
    able = [(sheet, target) for sheet, target in able if target.sure or not only_sure]
    if not able:
        return None
    sheet, target = max(able, key=lambda pair: (pair[1].sure, pair[0].named * len(pair[0].columns[pair[0].case])))
    by_part = file_names.parts(images)
    layouts = {part: text for part, there in by_part.items() if (text := _pattern(there))}
    if sheet.split:  # where the table says it, folders need not
        layouts = {"train": text} if (text := _pattern(images)) else {}
    if "train" not in layouts:
        return None
    table = Table(
        file=sheet.file,
        separator=sheet.separator,
        case=sheet.case,
        split=sheet.split,
        patient=sheet.patient,
        target=target.column,
    )
    channels, told, dimension = contents.channel("image", [folder / file.path for file in images])
    column = target.column if isinstance(target.column, str) else f"{len(target.column)} columns of 0 and 1"
    notes = [
        f"labels: the classes are those of {sheet.file}, {column}; look whether this is what is to be learnt",
        f"layout: in {sheet.file}, {sheet.case} names the image ({100 * sheet.named:.0f} % of the rows have one)",
        *target.notes,
    ]
    if sheet.split:
        notes.append(f"layout: {sheet.split} says which images are for training, validation and test")
    others = [other.file for other, _ in able if other is not sheet]
    if others:
        notes.append(f"layout: a card reads one table; not used: {', '.join(others[:4])}")
    return Draft(
        FilesLayout(
            kind="files",
            images=layouts["train"],
            val=Part(images=layouts["val"]) if "val" in layouts else None,
            test=Part(images=layouts["test"]) if "test" in layouts else None,
            table=table,
        ),
        channels,
        target.labels,
        task="classification",
        classes=target.classes,
        dimension=dimension,
        notes=[*notes, *(f"channels: {note}" for note in told)],
    )


def _pattern(files: Sequence[ImageFile]) -> str | None:
    """One pattern for images whose own names tell them apart, or whose one folder is their patient's."""
    skip = file_names.common_depth(files)
    fixed = list(files[0].folders[:skip])
    last = "{case}" + ending(files)
    if all(len(file.folders) == skip for file in files):
        return "/".join([*fixed, last])
    if len({file.stem for file in files}) == len(files):
        return "/".join([*fixed, "**", last])
    return "/".join([*fixed, "{patient}", last]) if all(len(file.folders) == skip + 1 for file in files) else None


def _sheets(folder: Path, files: Sequence[ImageFile]) -> list[_Sheet]:
    """The tables in the folder, and one level below, whose rows name these images."""
    found = []
    paths = [path for depth in ("*", "*/*") for end in ("csv", "tsv") for path in sorted(folder.glob(f"{depth}.{end}"))]
    ours = [path for path in paths if not path.name.startswith(".") and path.name not in _OURS]
    plain = [path for path in ours if path.stat().st_size < _LARGEST_BYTES]
    for path in plain[:_MOST_TABLES]:
        sheet = _read(path, path.relative_to(folder).as_posix())
        if sheet is None:
            continue
        beside = path.parent.relative_to(folder).as_posix()
        known = _known_names(files, "" if beside == "." else f"{beside}/")
        shares = {}
        for name, values in sheet.columns.items():
            there = sum(value.replace("\\", "/").removeprefix("./") in known for value in values)
            if len(set(values)) >= 0.9 * len(values):
                shares[name] = there / len(values)
        sheet.case = max(shares, key=lambda name: shares[name], default="")
        sheet.named = shares.get(sheet.case, 0.0)
        if sheet.named < _LEAST_NAMED:
            continue
        for name, values in sheet.columns.items():
            low = {value.lower() for value in values if value}
            if name != sheet.case and _PATIENT_WORDS & set(words(name)):
                sheet.patient = sheet.patient or name
            elif low and low <= set(SPLITS) and all(values) and _SPLIT_WORDS & set(words(name)):
                sheet.split = name
        found.append(sheet)
    return found


def _known_names(files: Sequence[ImageFile], beside: str) -> set[str]:
    known: set[str] = set()
    for file in files:
        path, bare = file.path, "/".join(file.parts)
        known |= {path, bare, file.stem, file.stem + file.suffix}
        if beside and path.startswith(beside):
            known |= {path[len(beside) :], bare[len(beside) :]}
    return known


def _read(path: Path, name: str) -> _Sheet | None:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            first = handle.readline()
            separator = max(",;\t", key=first.count)
            handle.seek(0)
            rows = list(csv.reader(handle, delimiter=separator))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if len(rows) < 2 or len(rows[0]) < 2 or len(set(rows[0])) < len(rows[0]):
        return None
    body = [row for row in rows[1:] if len(row) == len(rows[0])]
    if not body:
        return None
    columns = {column: [row[n].strip() for row in body] for n, column in enumerate(rows[0]) if column}
    return _Sheet(name, separator, columns)


def _target(sheet: _Sheet) -> _Target | None:
    free = {
        name: values
        for name, values in sheet.columns.items()
        if name not in (sheet.case, sheet.patient, sheet.split) and not _OTHER_WORDS & set(words(name))
    }
    named = {name: values for name, values in free.items() if _CLASS_WORDS & set(words(name))}
    for name, values in named.items():
        if found := _joined(name, values) or _of_column(name, values, sure=True):
            return found
    flags = [name for name, values in free.items() if set(values) - {""} <= _YES_NO and any(values)]
    if len(flags) > 1:
        return _of_flags(flags, free)
    able = [found for name, values in free.items() if (found := _of_column(name, values, sure=False))]
    return min(able, key=lambda found: len(found.labels), default=None)


def _joined(name: str, values: Sequence[str]) -> _Target | None:
    """Several names in one cell."""
    if not any(re.search(r"[|;]", value) for value in values):
        return None
    there = Counter(word.strip() for value in values for word in re.split(r"[|;]", value) if word.strip())
    for nothing in ("none", "no finding", "no findings"):
        there = Counter({word: count for word, count in there.items() if word.casefold() != nothing})
    if not 2 <= len(there) <= _MOST_CLASSES:
        return None
    notes = ["classes: several names in one cell: an image may have several classes, or none"]
    return _Target(name, dict(enumerate(in_order(there))), "multi-label", True, notes)


def _of_flags(flags: list[str], columns: dict[str, list[str]]) -> _Target:
    sums = [sum(cell in ("1", "1.0") for cell in cells) for cells in zip(*(columns[f] for f in flags), strict=True)]
    labels = dict(enumerate(flags))
    if all(total == 1 for total in sums):
        notes = ["classes: one of the columns is 1 in every row: one class per image"]
        return _Target(flags, labels, "multi-class", True, notes)
    notes = ["classes: several columns of 0 and 1: an image may have several classes, or none"]
    return _Target(flags, labels, "multi-label", True, notes)


def _of_column(name: str, values: Sequence[str], sure: bool) -> _Target | None:
    there = Counter(value for value in values if value)
    if not 2 <= len(there) <= min(_MOST_CLASSES, max(2, len(values) // 2)) or 2 * there.total() < len(values):
        return None
    numbers = [re.fullmatch(r"([0-9]{1,4})(?:\.0)?", value) for value in there]
    if all(numbers):
        whole = sorted({int(match[1]) for match in numbers if match})
        if len(whole) > 20:
            return None  # ages and sizes, not classes
        labels = _numbered(name, whole)
    elif all(re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", value) for value in there):
        return None
    else:
        labels = dict(enumerate(in_order(there)))
    counts = ", ".join(f"{value} ({count})" for value, count in there.most_common(8))
    notes = [f"labels: in {name} are {counts}", *about_classes(list(labels.values()))]
    return _Target(name, labels, kind_of(list(labels.values())), sure, notes)


def _numbered(column: str, whole: list[int]) -> dict[int, str]:
    """Names for classes that are numbers; from 0 up they keep them."""
    if whole != list(range(len(whole))):
        return {place: str(number) for place, number in enumerate(whole)}
    telling = [word for word in words(column) if word not in ("label", "labels", "class", "classes", "target", "id")]
    plain = " ".join(telling)
    if plain and whole == [0, 1]:
        return {0: f"not {plain}", 1: plain}
    return {number: f"{plain or 'class'} {number}" for number in whole}
