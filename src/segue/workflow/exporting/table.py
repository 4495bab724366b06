"""A table of the cases: one row each, with the paths of their files as they lie."""

from __future__ import annotations

import csv
import io
import os
import re
from pathlib import Path
from typing import Any

from segue.catalogue import Case, Dataset, Masks, Recoded, Row, stored_mask
from segue.core.errors import UsageError
from segue.workflow.exporting.folds import all_folds, fold_numbers, told_by_numbers
from segue.workflow.exporting.transfer import Exported, left_out_notes, licence_note, listed, write_if_new

_FIRST_COLUMNS = ("case", "patient", "split", "fold")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def export_table(dataset: Dataset, output: Path) -> Exported:
    """One row per case in ``output`` (``.csv``), or in ``output/NAME.csv``; files are named, not linked.

    Columns: ``case``, ``patient``, ``split`` (train, val or test), ``fold`` (the one in which it validates); then
    ``image_CHANNEL`` per channel or ``image`` for a file with all of them; ``label``, or ``label_NAME`` per label with
    ``;`` between its masks; ``label_values`` where stored values mean other numbers (``255=1``);
    ``class`` and ``class_name``, or ``class_NAME`` with 0 or 1 where several may hold; then the facts of the cases.
    Items of arrays have ``file``, ``array``, ``row`` (and ``label_array`` for the mask). Paths are relative to the
    table. Cells that a spreadsheet would run as a formula get an apostrophe.

    Raises:
        UsageError: there is a file of this name that no export wrote.
        MachineError: the disk is full or may not be written.
    """
    path = output if output.suffix == ".csv" else output / f"{dataset.card.name.replace('/', '_')}.csv"
    _require_ours(path)
    folds, no_folds = all_folds(dataset)
    numbers = fold_numbers(folds)
    home = path.parent.resolve()
    missing: list[str] = []
    rows = []
    for case in dataset.cases:
        cells: dict[str, Any] = {
            "case": case.id,
            "patient": case.patient,
            "split": case.split,
            "fold": numbers.get(case.id),
        }
        cells |= _files(case, dataset, home, missing) | _classes(case, dataset)
        if case.unlabelled:
            cells["undrawn"] = " ".join(dataset.card.labels.get(number, str(number)) for number in case.unlabelled)
        for name, value in case.facts.items():
            cells[name if name not in cells else f"fact_{name}"] = value
        rows.append(cells)
    columns = list(dict.fromkeys([*_FIRST_COLUMNS, *(name for cells in rows for name in cells)]))
    plain = [[cells.get(name) for name in columns] for cells in rows]
    safe = [[_neutral(value) for value in values] for values in plain]
    changed = sum(a != b for before, after in zip(plain, safe, strict=True) for a, b in zip(before, after, strict=True))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_neutral(name) for name in columns])
    writer.writerows(safe)
    written = write_if_new(path, text.getvalue())
    notes = left_out_notes(dataset, {})
    if no_folds:
        notes.append(f"no fold numbers: {no_folds}")
    elif not told_by_numbers(folds):
        notes.append("the dataset's own folds overlap or leave cases out: each case has the first one it validates in")
    if missing:
        notes.append(f"{len(missing)} files are named by the layout but are not there: empty cells ({listed(missing)})")
    if changed:
        notes.append(f"{changed} cells begin like a formula and have an apostrophe before them")
    notes.append("next: pandas.read_csv; paths are relative to the table, so keep it where it is")
    notes.append(licence_note(dataset))
    return Exported(path, len(rows), 0, written, 1 - written, {}, tuple(notes))


def _require_ours(path: Path) -> None:
    try:
        with path.open(encoding="utf-8", errors="replace") as handle:
            first = handle.readline()
    except FileNotFoundError:
        return
    if not first.startswith(",".join(_FIRST_COLUMNS)):
        raise UsageError("this file is no exported table", where=path, remedy="give another name with -o")


def _files(case: Case, dataset: Dataset, home: Path, missing: list[str]) -> dict[str, Any]:
    channels = [channel.name for channel in dataset.card.channels]
    cells: dict[str, Any] = {}
    if isinstance(case.images[0], Row):
        row = case.images[0]
        cells = {"file": _relative(row.path, home, missing), "array": row.key, "row": row.index}
    elif len(case.images) + len(case.absent) == len(channels):
        for number, image in zip(case.present(len(channels)), case.images, strict=True):
            cells[f"image_{channels[number]}"] = _relative(image, home, missing) if isinstance(image, Path) else None
    else:
        for number, image in enumerate(case.images):
            name = "image" if len(case.images) == 1 else f"image_{number}"
            cells[name] = _relative(image, home, missing) if isinstance(image, Path) else None
    label = None if case.label is None else stored_mask(case.label)
    if isinstance(label, Row):
        cells["label_array"] = label.key
    elif isinstance(label, Masks):
        for number in dict.fromkeys(number for number, _ in label.files):
            places = [_relative(path, home, missing) for other, path in label.files if other == number]
            cells[f"label_{dataset.card.labels[number]}"] = ";".join(place for place in places if place) or None
    elif dataset.card.task == "segmentation" and label is not None:
        cells["label"] = _relative(label, home, missing)
    if isinstance(case.label, Recoded):
        named = (f"{stored}={number}" for stored, number in case.label.values)
        cells["label_values"] = "nonzero=1" if case.label.nonzero else " ".join(named)
    return cells


def _classes(case: Case, dataset: Dataset) -> dict[str, Any]:
    names = dataset.card.labels
    if isinstance(case.target, tuple):
        return {f"class_{name}": value for name, value in zip(names.values(), case.target, strict=True)}
    if case.target is None:
        return {}
    return {"class": case.target, "class_name": names[case.target]}


def _relative(path: Path, home: Path, missing: list[str]) -> str | None:
    if not path.is_file():
        missing.append(path.name)
        return None
    place = path.parent.resolve() / path.name
    try:
        text = Path(os.path.relpath(place, home)).as_posix()
    except ValueError:  # another drive
        return place.as_posix()
    # An apostrophe would break a path; "./" makes it as harmless.
    return f"./{text}" if text.startswith(_FORMULA) else text


def _neutral(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula, so that it does not; plain numbers stay numbers."""
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
