"""A table beside the images: split, patient and facts of each case."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue.card import Table
from segue.catalogue.dataset import Subset
from segue.core.errors import DataError

_SPLITS: dict[str, Subset] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}


@dataclass(frozen=True)
class CaseRow:
    """What the table says of one case."""

    split: Subset | None
    patient: str | None
    facts: dict[str, str]


def read_table(path: Path, table: Table) -> dict[str, CaseRow]:
    """The rows by the case's name.

    Raises:
        DataError: the table is missing, lacks a column, or a split is none of train, val and test.
    """
    if not path.exists():
        raise DataError("the card's table is missing", where=path, remedy="bring it, or mend 'table' in the card")
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle, delimiter=table.separator)
        columns = reader.fieldnames or []
        wanted = [name for name in (table.case, table.split, table.patient) if name]
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise DataError(
                f"the table has no column {', '.join(missing)}",
                where=path,
                value=f"it has {', '.join(columns[:8]) or 'none'}",
                remedy="mend 'table' in the card (its columns, its separator)",
            )
        return {row[table.case]: _row(row, table, wanted, f"{path}:{reader.line_num}") for row in reader}


def _row(row: dict[str, str], table: Table, used: list[str], where: str) -> CaseRow:
    split = None
    if table.split:
        word = row[table.split].strip().lower()
        split = _SPLITS.get(word)
        if split is None:
            raise DataError(
                "a split is train, val or test", where=where, value=f"{table.split} is '{row[table.split]}'"
            )
    facts = {name: value for name, value in row.items() if name and value and name not in used}
    return CaseRow(split, row[table.patient] if table.patient else None, facts)
