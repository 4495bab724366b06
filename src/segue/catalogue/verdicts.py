"""Verdicts: which cases a person accepts, flags or excludes, in ``verdicts.csv`` beside the data.

One row per case: ``case,verdict,reason,by,when``. A case that is flagged or excluded is left out of everything that
learns or measures; one that is accepted was looked at and stays. The file is the person's own: its separator and other
columns are kept when a verdict is written.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from segue.core.alone import alone
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path

VERDICTS = "verdicts.csv"
Word = Literal["accept", "flag", "exclude"]

_WORDS: dict[Word, str] = {"accept": "accepted", "flag": "flagged", "exclude": "excluded"}
_COLUMNS = ("case", "verdict", "reason", "by", "when")
_SEPARATORS = (",", ";", "\t")
_LONGEST = 2_000
# A spreadsheet program takes a cell that begins with one of these for a formula; an apostrophe before it makes it text.
_FORMULA = re.compile(r"'*[=+\-@|%\t\r\n]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person says of one case.

    Attributes:
        reason, by: in the person's words; written as one line each, of at most 2,000 characters.
        when: ISO 8601 in UTC; filled in when it is written.
    """

    case: str
    verdict: Word
    reason: str = ""
    by: str = ""
    when: str = ""

    @property
    def leaves_out(self) -> bool:
        """Whether the case is left out of training and measuring."""
        return self.verdict != "accept"

    def __str__(self) -> str:
        return f"{_WORDS[self.verdict]} in {VERDICTS}" + (f": {self.reason}" if self.reason else "")


@dataclass
class _Sheet:
    """The rows of the file by case: the cells under ``header``, and the line where they stand."""

    header: list[str] = field(default_factory=lambda: list(_COLUMNS))
    rows: dict[str, list[str]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    separator: str = ","

    def cell(self, case: str, column: str) -> str:
        return _shown(self.rows[case][self.header.index(column)]) if column in self.header else ""


def read_verdicts(root: Path) -> dict[str, Verdict]:
    """The verdicts on the cases of the dataset (or folder) ``root``, by case; of several rows the last one holds.

    Raises:
        DataError: the file cannot be understood, with the line. A mistyped verdict must not bring a case back silently.
    """
    return _verdicts(_read(root / VERDICTS), root / VERDICTS)


def write_verdicts(root: Path, verdicts: Iterable[Verdict], forget: Iterable[str] = ()) -> dict[str, Verdict]:
    """Put verdicts into ``verdicts.csv``, each in place of its case's earlier one; return all that then hold.

    Any number of processes and threads may do so at once: each reads, changes and renames under a lock, none is lost.

    Args:
        forget: cases that shall have no verdict any more.

    Raises:
        UsageError: a verdict that is none of the three, or on no case.
        DataError: the file that is there cannot be understood. MachineError: the folder may not be written.
    """
    path = root / VERDICTS
    fresh = list(verdicts)
    for verdict in fresh:
        if verdict.verdict not in _WORDS or not verdict.case:
            raise UsageError(
                "a verdict is accept, flag or exclude, on a case",
                value=f"{verdict.verdict!r} on {verdict.case!r}"[:200],
            )
    with alone(path, told=False):
        sheet = _read(path)
        _verdicts(sheet, path)
        added = [column for column in _COLUMNS if column not in sheet.header]
        sheet.header += added
        for cells in sheet.rows.values():
            cells += [""] * len(added)
        for case in forget:
            sheet.rows.pop(case, None)
        for verdict in fresh:
            cells = sheet.rows.setdefault(verdict.case, [""] * len(sheet.header))
            when = verdict.when or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            texts = (verdict.case, verdict.verdict, _line(verdict.reason), _line(verdict.by), _line(when))
            for column, text in zip(_COLUMNS, texts, strict=True):
                cells[sheet.header.index(column)] = spreadsheet_text(text)
        written = io.StringIO(newline="")
        table = [sheet.header, *sheet.rows.values()]
        # The writer does not know that a lone carriage return ends the line for its reader: then all is quoted.
        kind = "unix" if any("\r" in cell for cells in table for cell in cells) else "excel"
        csv.writer(written, kind, delimiter=sheet.separator, lineterminator="\n").writerows(table)
        with atomic_path(path) as temporary:
            temporary.write_bytes(written.getvalue().encode("utf-8", "surrogateescape"))
    return _verdicts(sheet, path)


def spreadsheet_text(text: str) -> str:
    """The text as a cell that no spreadsheet program takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def _shown(cell: str) -> str:
    """The text that a cell means: the inverse of :func:`spreadsheet_text`."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()[:_LONGEST]


def _read(path: Path) -> _Sheet:
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except FileNotFoundError:
        return _Sheet()
    except OSError as error:
        raise DataError("the verdicts cannot be read", where=path, value=error.strerror) from error
    first = text.split("\n", 1)[0]
    separator = max(_SEPARATORS, key=first.count)
    sheet = _Sheet(separator=separator)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for number, cells in enumerate(reader):
            if number == 0:
                if any(cells):
                    sheet.header = [_named(name) for name in cells]
                    _require_columns(sheet.header, path)
            elif any(cell.strip() for cell in cells):
                if len(cells) > len(sheet.header):
                    raise DataError(
                        "a row has more cells than the header",
                        where=f"{path}, line {reader.line_num}",
                        value=f"{len(cells)} of {len(sheet.header)}",
                        remedy='put a text with separators in it into "quotes"',
                    )
                cells += [""] * (len(sheet.header) - len(cells))
                case = _shown(cells[sheet.header.index("case")])
                sheet.rows[case], sheet.lines[case] = cells, reader.line_num
    except csv.Error as error:
        raise DataError(
            "this is no table of verdicts", where=path, value=error, remedy="mend the file, or move it away"
        ) from error
    return sheet


def _named(column: str) -> str:
    """The columns of ours are found in any case of letters; a person's own are left as they are."""
    return column.strip().lower() if column.strip().lower() in _COLUMNS else column


def _require_columns(header: list[str], path: Path) -> None:
    missing = [name for name in ("case", "verdict") if name not in header]
    double = [name for name in _COLUMNS if header.count(name) > 1]
    if missing or double:
        raise DataError(
            f"the table of verdicts has no column '{missing[0]}'" if missing else f"two columns are '{double[0]}'",
            where=path,
            value=", ".join(header)[:200],
            remedy=f"its first line is {','.join(_COLUMNS)}",
        )


def _verdicts(sheet: _Sheet, path: Path) -> dict[str, Verdict]:
    found = {}
    for case in sheet.rows:
        told = sheet.cell(case, "verdict").strip().lower()
        word = next((word for word in _WORDS if word == told), None)
        if not case or word is None:
            raise DataError(
                "a verdict is accept, flag or exclude" if case else "a verdict without a case",
                where=f"{path}, line {sheet.lines.get(case, 0)}",
                value=f"{told or 'nothing'} for {case}" if case else None,
                remedy="mend this line, or take it out",
            )
        reason, by, when = (sheet.cell(case, column) for column in _COLUMNS[2:])
        found[case] = Verdict(case, word, reason, by, when)
    return found
