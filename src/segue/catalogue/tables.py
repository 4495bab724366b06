"""A table beside the images: class, split, patient and facts of each case."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue.card import Card, Table
from segue.catalogue.dataset import Subset
from segue.core.errors import DataError

SPLITS: dict[str, Subset] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}
_YES_NO = {**dict.fromkeys(("1", "1.0", "true"), 1), **dict.fromkeys(("0", "0.0", "false"), 0)}
_NOTHING = ("", "none", "no finding", "no findings")


@dataclass(frozen=True)
class CaseRow:
    """What the table says of one case; ``case`` as it stands there."""

    case: str
    split: Subset | None
    patient: str | None
    target: int | tuple[int, ...] | None
    facts: dict[str, str]


def class_number(card: Card, text: str) -> int | None:
    """The class that a word means: its name, but for case, spaces and underscores, or its number; None for no class."""
    text = text.strip()
    for number, name in card.labels.items():
        if name == text:
            return number
    plain = {_plain(name): number for number, name in card.labels.items()}
    if len(plain) == len(card.labels) and _plain(text) in plain:
        return plain[_plain(text)]
    whole = re.fullmatch(r"([0-9]{1,9})(?:\.0*)?", text)  # 1.0 is what pandas makes of 1 beside an empty cell
    return int(whole[1]) if whole and int(whole[1]) in card.labels else None


def _plain(text: str) -> str:
    return " ".join(re.split(r"[\s_-]+", text.casefold().strip()))


def read_table(path: Path, table: Table, card: Card) -> dict[str, CaseRow]:
    """The rows by the case's name, ``/`` in its path and without ``./``.

    Raises:
        DataError: the table is missing, no text, lacks a column, names a class that the card does not, gives one case
            two classes, or a split is none of train, val and test.
    """
    if not path.exists():
        raise DataError("the card's table is missing", where=path, remedy="bring it, or mend 'table' in the card")
    rows: dict[str, CaseRow] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, delimiter=table.separator)
            columns = reader.fieldnames or []
            targets = [table.target] if isinstance(table.target, str) else table.target or []
            wanted = [name for name in (table.case, table.split, table.patient, *targets) if name]
            missing = [name for name in wanted if name not in columns]
            if missing:
                raise DataError(
                    f"the table has no column {', '.join(missing)}",
                    where=path,
                    value=f"it has {', '.join(columns[:8]) or 'none'}",
                    remedy="mend 'table' in the card (its columns, its separator)",
                )
            for cells in reader:
                row = _row(cells, table, card, wanted, f"{path}:{reader.line_num}")
                name = row.case.strip().replace("\\", "/").removeprefix("./")
                before = rows.get(name)
                if before and table.target is not None and before.target != row.target:
                    raise DataError(
                        "the table gives one case two classes",
                        where=f"{path}:{reader.line_num}",
                        value=name,
                        remedy="leave one row per case; where several classes hold, a column of 0 and 1 for each, or "
                        "their names between | in one cell",
                    )
                rows[name] = row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "the table is no text in UTF-8 with columns", where=path, value=error, remedy="save it as CSV (UTF-8)"
        ) from error
    return rows


def _row(cells: dict[str, str], table: Table, card: Card, used: list[str], where: str) -> CaseRow:
    cells = {name: value or "" for name, value in cells.items()}  # a row that is cut short has no cells at its end
    split = None
    if table.split:
        word = cells[table.split].strip().lower()
        split = SPLITS.get(word)
        if split is None:
            raise DataError(
                "a split is train, val or test", where=where, value=f"{table.split} is '{cells[table.split]}'"
            )
    facts = {name: value for name, value in cells.items() if name and value and name not in used}
    patient = cells[table.patient].strip() if table.patient else None
    return CaseRow(cells[table.case], split, patient, _target(cells, table, card, where), facts)


def _target(cells: dict[str, str], table: Table, card: Card, where: str) -> int | tuple[int, ...] | None:
    if table.target is None:
        return None
    if isinstance(table.target, list):
        return _of_columns(cells, table.target, card, where)
    text = cells[table.target].strip()
    if card.classes == "multi-label":
        # NIH's chest X-rays say "No Finding" where none of the classes holds.
        words = [word.strip() for word in re.split(r"[|;]", text)]
        present = {_class(card, word, where) for word in words if word.casefold() not in _NOTHING or _is(card, word)}
        return tuple(int(number in present) for number in card.labels)
    return _class(card, text, where) if text else None


def _is(card: Card, word: str) -> bool:
    return bool(word) and class_number(card, word) is not None


def _class(card: Card, text: str, where: str) -> int:
    number = class_number(card, text)
    if number is None:
        known = ", ".join(f"{number} ({name})" for number, name in card.labels.items())
        raise DataError(
            "the table names a class that the card does not",
            where=where,
            value=f"'{text}' beside {known}",
            remedy="add it to 'labels' in the card, or mend the table",
        )
    return number


def _of_columns(cells: dict[str, str], columns: list[str], card: Card, where: str) -> int | tuple[int, ...] | None:
    """One 0 or 1 per class, or (of a multi-class card) the class whose column holds the 1; None where all are empty."""
    if not any(cells[name].strip() for name in columns):
        return None
    values = []
    for name in columns:
        value = _YES_NO.get(cells[name].strip().lower())
        if value is None:
            raise DataError(
                "a class holds (1) or not (0)",
                where=where,
                value=f"{name} is '{cells[name]}'",
                remedy="write 0 or 1, or leave all classes of this row empty",
            )
        values.append(value)
    if card.classes == "multi-label":
        return tuple(values)
    if sum(values) != 1:
        raise DataError(
            "one of the classes holds",
            where=where,
            value=f"{sum(values)} of the columns are 1",
            remedy="mend the row, or make the card's classes multi-label",
        )
    return list(card.labels)[values.index(1)]
