"""What an export remembers of itself: which files it made for which case, and from what.

One JSON object per line, added as soon as a case is done, so that a killed export continues where it was. Only files
that stand in it are ever replaced or removed.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from segue.core.errors import MachineError, UsageError
from segue.core.files import parse_json, storage_fault, write_text

JOURNAL = ".segue-export.jsonl"
_FORM = 1


@dataclass(frozen=True)
class File:
    """One file of an export.

    Attributes:
        target: where it lies, from the export's folder, with ``/``.
        source: the number of the case's file that it is a link to; None where it was written.
        bytes: how large it is; None for a link.
        why: what made writing necessary; None for a link.
    """

    target: str
    source: int | None = None
    bytes: int | None = None
    why: str | None = None


@dataclass(frozen=True)
class Entry:
    """What became of one case.

    Attributes:
        key: made of the content of its sources and of how they were exported.
        left_out: why it is not in the export; None where it is.
    """

    key: str
    files: tuple[File, ...] = ()
    left_out: str | None = None


class Journal:
    """The journal of ``folder``; nothing is written before :meth:`begin`.

    Raises:
        UsageError: the folder holds something else than an export of this dataset in this form.
    """

    def __init__(self, folder: Path, dataset: str, form: str, guard: str) -> None:
        self._path = folder / JOURNAL
        head = {"segue_export": _FORM, "dataset": dataset, "to": form}
        self._head = json.dumps(head) + "\n"
        lines, whole = _read(self._path)
        if lines and lines[0] != head:
            raise UsageError(
                "this folder holds the export of something else",
                where=folder,
                value=f"{lines[0].get('dataset')} for {lines[0].get('to')}",
                remedy="give another folder with -o",
            )
        if not lines and (folder / guard).exists():
            raise UsageError(
                f"this folder has a {guard} that no export made",
                where=folder,
                remedy="give another folder with -o, or move what lies there",
            )
        self.entries = {line["case"]: _entry(line) for line in lines[1:]}
        # A line that a kill cut short is ended first: the next one must not hang on it.
        self._before = self._head if not lines else "" if whole else "\n"
        self._untidy = not whole or len(lines) > len(self.entries) + 1

    def begin(self) -> None:
        """Say whose folder this is before anything lies in it: an export that ends at once goes on here too.

        Raises:
            MachineError: the disk is full or may not be written.
        """
        if self._before != self._head:
            return
        try:
            write_text(self._path, self._head)
        except MachineError:
            with contextlib.suppress(OSError):
                self._path.parent.rmdir()
            raise
        self._before = ""

    def add(self, case: str, entry: Entry) -> None:
        """Remember what became of a case.

        Raises:
            MachineError: the disk is full or may not be written.
        """
        self._untidy |= case in self.entries
        self.entries[case] = entry
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as handle:
                handle.write(self._before + _line(case, entry))
        except OSError as error:
            raise storage_fault(error, self._path) from error
        self._before = ""

    def close(self, cases: set[str]) -> None:
        """Forget the cases that are not among these, and write the journal anew where it holds old lines."""
        gone = set(self.entries) - cases
        for case in gone:
            del self.entries[case]
        if gone or self._untidy:
            write_text(self._path, self._head + "".join(_line(case, entry) for case, entry in self.entries.items()))
            self._untidy = False


def made_here(folder: Path, dataset: str, form: str) -> list[str]:
    """The names of the folders in ``folder`` that an export of this dataset in this form made."""
    found = []
    for path in folder.glob(f"*/{JOURNAL}"):
        with path.open(encoding="utf-8", errors="replace") as handle:
            head = _parsed(handle.readline()) or {}
        if (head.get("dataset"), head.get("to")) == (dataset, form):
            found.append(path.parent.name)
    return found


def inside(folder: Path, target: str) -> Path:
    """The file that a line of the journal names; a journal that somebody changed reaches no file outside."""
    path = PurePosixPath(target)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            "the export's journal names a file outside its folder",
            where=folder / JOURNAL,
            value=target,
            remedy="delete the journal and export into an empty folder",
        )
    return folder / path


def _line(case: str, entry: Entry) -> str:
    files = [[file.target, file.source, file.bytes, file.why] for file in entry.files]
    return json.dumps({"case": case, "key": entry.key, "files": files, "left_out": entry.left_out}) + "\n"


def _entry(line: dict[str, Any]) -> Entry:
    return Entry(line["key"], tuple(File(*values) for values in line["files"]), line["left_out"])


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The lines that are whole, and whether all are: one that a kill cut short is as if it were not there."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], True
    lines = [_parsed(line) for line in text.splitlines()]
    return [line for line in lines if line], all(lines) and text.endswith("\n")


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        content = parse_json(line)
    except ValueError:
        return None
    whole = isinstance(content, dict) and (
        "segue_export" in content or {"case", "key", "files", "left_out"} <= set(content)
    )
    return content if whole else None
