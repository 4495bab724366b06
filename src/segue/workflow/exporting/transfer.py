"""From cases to files: links where they will do, written files where not; resumable, case by case."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from segue.catalogue import Card, Case, Dataset, Row, in_words, label_form, stored_mask
from segue.core.console import stage
from segue.core.errors import DataError, UsageError
from segue.core.executor import map_cases
from segue.core.files import content_key, jsonable, link, write_text
from segue.workflow.exporting.journal import Entry, File, Journal, inside

_VERSION = 1
# Starting processes costs seconds (each imports numpy and scipy); small datasets are done before that.
_PARALLEL_FROM_BYTES = 100_000_000
_TOLD_CASES = 5


@dataclass(frozen=True)
class Exported:
    """What an export brought about.

    Attributes:
        path: the folder, or the table.
        cases: how many cases it holds.
        linked, written, kept: files that this run linked or wrote, and those that were there already.
        left_out: cases that are not in it, and why.
        notes: what a person should know, one sentence or two each.
    """

    path: Path
    cases: int
    linked: int = 0
    written: int = 0
    kept: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """A file of the export that is a link to the case's own; the target is relative to the export's folder."""

    target: str
    source: Path


@dataclass(frozen=True)
class Made:
    """A file of the export that has to be written, and why."""

    target: str
    write: Callable[[Path], None]
    why: str


@runtime_checkable
class Recipe(Protocol):
    """How one case becomes files; a frozen dataclass: it goes to other processes, and its ``repr`` into the key."""

    def pieces(self, case: Case, name: str) -> list[Link | Made]:
        """The files of a case under its name in the export.

        Raises:
            DataError: the case cannot be exported.
        """

    def read_in_full(self, case: Case) -> Sequence[Path]:
        """The files whose voxels must be read, for judging how much work there is."""


@dataclass(frozen=True)
class _Task:
    case: Case
    name: str
    output: Path
    recipe: Recipe
    kept: tuple[File, ...]

    @property
    def id(self) -> str:
        return self.case.id


@dataclass(frozen=True)
class _Done:
    files: tuple[File, ...]
    linked: int
    written: int


@dataclass(frozen=True)
class Transferred:
    """What lies in the export's folder now: the files of each case that is there, by the case's id.

    ``written_because`` counts the written files by reason; ``symbolic`` is how many links are not hard ones.
    """

    files: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    linked: int
    written: int
    kept: int
    written_because: Counter[str]
    symbolic: int

    def exported(self, path: Path, written: int, kept: int, notes: Sequence[str]) -> Exported:
        """The whole export: these files, and the lists beside them that were written or kept."""
        return Exported(
            path, len(self.files), self.linked, self.written + written, self.kept + kept, self.left_out, tuple(notes)
        )


def transfer(
    cases: Sequence[Case], names: dict[str, str], recipe: Recipe, journal: Journal, output: Path, workers: int | None
) -> Transferred:
    """Bring the files of ``cases`` to ``output``: what the journal tells to be there and unchanged is left alone.

    Raises:
        UsageError: an image of the dataset lies where the export would write.
        MachineError: the disk is full or may not be written.
    """
    keys = {case.id: _key(case, names[case.id], recipe) for case in cases}
    tasks = []
    for case in cases:
        entry = journal.entries.get(case.id)
        same = entry is not None and entry.key == keys[case.id]
        if entry is None or not same or not all(_is_there(file, case, output) for file in entry.files):
            kept = entry.files if entry is not None and same else ()
            tasks.append(_Task(case, names[case.id], output, recipe, kept))
    linked = written = 0
    if tasks:
        journal.begin()
        with stage("export", len(tasks)) as shown:
            for task, result in map_cases(_carried_out, tasks, workers=_workers(tasks, recipe, workers)):
                before = journal.entries.get(task.id)
                if isinstance(result, DataError):
                    entry = Entry(keys[task.id], left_out=_reason(result))
                else:
                    entry = Entry(keys[task.id], result.files)
                    linked, written = linked + result.linked, written + result.written
                _remove(output, before, entry)
                journal.add(task.id, entry)
                shown.advance(note=task.id)
            shown.note(f"{len(tasks)} cases, {linked} files linked, {written} written")
    wanted = {case.id for case in cases}
    for name, entry in journal.entries.items():
        if name not in wanted:
            _remove(output, entry, None)
    journal.close(wanted)
    return _summed_up(cases, journal, output, linked, written)


def _summed_up(cases: Sequence[Case], journal: Journal, output: Path, linked: int, written: int) -> Transferred:
    entries = {case.id: journal.entries[case.id] for case in cases}
    files = [file for entry in entries.values() for file in entry.files]
    return Transferred(
        files={
            name: tuple(file.target for file in entry.files)
            for name, entry in entries.items()
            if entry.left_out is None
        },
        left_out={name: entry.left_out for name, entry in entries.items() if entry.left_out is not None},
        linked=linked,
        written=written,
        kept=len(files) - linked - written,
        written_because=Counter(file.why for file in files if file.why),
        symbolic=sum((output / file.target).is_symlink() for file in files if file.source is not None),
    )


def refuse_own_place(dataset: Dataset, folders: Sequence[Path]) -> None:
    """An export never writes where the dataset's own files lie.

    Raises:
        UsageError: a file of the dataset lies in one of the folders that the export fills.
    """
    filled = [folder.resolve() for folder in folders]
    for place in {path.parent for case in dataset.cases for path in case.files}:
        home = place.resolve()
        if any(home == folder or folder in home.parents for folder in filled):
            raise UsageError(
                "the dataset's own files lie where the export would write",
                where=home,
                remedy="give another folder with -o",
            )


def as_json(content: Any) -> str:
    """Strict JSON whose keys keep their order: nnU-Net pairs regions with ``regions_class_order`` by it."""
    return json.dumps(jsonable(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_if_new(path: Path, text: str) -> int:
    """Write text where the file does not hold it already; 1 if it was written, else 0."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return 0
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    write_text(path, text)
    return 1


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    text = ", ".join(names[:_TOLD_CASES])
    return text + (f" and {len(names) - _TOLD_CASES} more" if len(names) > _TOLD_CASES else "")


def left_out_notes(dataset: Dataset, left_out: dict[str, str]) -> list[str]:
    """Who is not in the export and why, one sentence per reason."""
    by_reason: dict[str, list[str]] = {}
    by_verdict = {case.id for case in dataset.set_aside}
    for name, why in left_out.items():
        by_reason.setdefault(why, []).append(name)
    for name, why in dataset.left_out.items():
        by_reason.setdefault(why if name in by_verdict else f"known defect: {why}", []).append(name)
    return [f"left out {len(names)} ({listed(names)}): {why}" for why, names in by_reason.items()]


def transfer_notes(dataset: Dataset, done: Transferred) -> list[str]:
    """What was written instead of linked, what hangs on the dataset's folder, and what was left out."""
    notes = [f"{count} files were written, not linked: {why}" for why, count in sorted(done.written_because.items())]
    if done.symbolic:
        notes.append(f"{done.symbolic} files are symbolic links: keep {dataset.root.resolve()}")
    return notes + left_out_notes(dataset, done.left_out)


def reference(card: Card) -> str | None:
    """Where the data are described: a DOI, else the homepage."""
    doi = next((citation.doi for citation in card.citations if citation.doi), None)
    return f"https://doi.org/{doi}" if doi else card.access.homepage


def licence_note(dataset: Dataset) -> str:
    """The data's licence goes with them."""
    licence = dataset.card.licence
    if licence is None:
        return "licence of the data: the card names none; ask the authors before you pass them on"
    return f"licence of the data: {licence.spdx} ({in_words(licence.spdx)})" + (
        f"; {licence.note}" if licence.note else ""
    )


def existing(path: Path) -> Path:
    """``path``, if there is such a file.

    Raises:
        DataError: there is not.
    """
    if not path.is_file():
        raise DataError("no such file", where=path.parent, value=path.name, remedy="fetch it, or leave the case out")
    return path


def _carried_out(task: _Task) -> _Done:
    if task.case.absent:
        raise DataError(
            "this case lacks a channel, and the format needs all of them",
            value=", ".join(path.name for path in task.case.image_files) + " is all that it has",
            remedy="export it as a table, which has an empty cell there",
        )
    kept = {file.target: file for file in task.kept}
    sources = task.case.files
    files, linked, written = [], 0, 0
    for piece in task.recipe.pieces(task.case, task.name):
        target = task.output / piece.target
        if isinstance(piece, Link):
            if not _same_file(target, existing(piece.source)):
                link(piece.source, target)
                linked += 1
            files.append(File(piece.target, source=sources.index(piece.source)))
            continue
        before = kept.get(piece.target)
        if before is None or not _is_there(before, task.case, task.output):
            piece.write(target)
            written += 1
        files.append(File(piece.target, bytes=target.stat().st_size, why=piece.why))
    return _Done(tuple(files), linked, written)


def _is_there(file: File, case: Case, output: Path) -> bool:
    target = inside(output, file.target)
    if file.source is not None:
        return file.source < len(case.files) and _same_file(target, case.files[file.source])
    try:
        return target.lstat().st_size == file.bytes
    except FileNotFoundError:
        return False


def _same_file(target: Path, source: Path) -> bool:
    try:
        return target.samefile(source)
    except FileNotFoundError:
        return False


def _remove(output: Path, before: Entry | None, now: Entry | None) -> None:
    """Files of a case that the export has no more."""
    wanted = {file.target for file in now.files} if now else set()
    for file in before.files if before else ():
        if file.target not in wanted:
            inside(output, file.target).unlink(missing_ok=True)


def _key(case: Case, name: str, recipe: Recipe) -> str:
    """Changes with the sources' sizes and times, and with all that decides what is made of them."""
    label = None if case.label is None else stored_mask(case.label)
    rows = [(row.key, row.index) for row in (*case.images, label) if isinstance(row, Row)]
    made_of = [rows, label_form(case.label), len(case.images), case.split, case.target]
    made_of += [case.absent] if case.absent else []
    states = [[path.name, *_state(path)] for path in case.files]
    return content_key(_VERSION, repr(recipe), name, made_of, states)


def _state(path: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        found = path.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def _reason(error: DataError) -> str:
    """Without the place: an export is passed on, and its journal with it."""
    return error.what + (f" ({error.value})" if error.value else "")


def _workers(tasks: Sequence[_Task], recipe: Recipe, workers: int | None) -> int | None:
    if workers is not None:
        return workers
    size = 0
    for path in {path for task in tasks for path in recipe.read_in_full(task.case)}:
        size += path.stat().st_size if path.exists() else 0
        if size > _PARALLEL_FROM_BYTES:
            return None
    return 1
