"""``check --fix``: a new dataset in which is mended what has one right answer; what a person must decide is left.

Mended are:

- a mask's grid that differs from its image's by rounding: it gets the image's;
- a mask stored in floating point whose values are whole numbers within a thousandth: stored as such;
- fields of a NIfTI header whose only sensible value is known (negative spacings, a qform's sign that is neither 1 nor
  -1): written as the grid is read;
- NaN that reaches the border of an image and lies in no label: the image's least value, as the padding that it is.

Shifts, shear, units, undeclared labels, swapped sides, infinite values and NaN inside are not touched.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
import yaml

from segue.catalogue import Card, Case, Dataset, Recoded, open_dataset, spreadsheet_text
from segue.core.console import stage
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path, jsonable, link, write_text
from segue.images import (
    NIFTI_SUFFIXES,
    is_image,
    place_as_read,
    place_like,
    read,
    read_forms,
    read_header,
    read_labels,
    suffix_of,
    write,
)
from segue.prepare.quality.geometry import repairable_header
from segue.volume import Volume

REPAIRS = "repairs.csv"
_COLUMNS = ("case", "file", "repair", "before", "after")
_COPIED_BYTES = 10_000_000


@dataclass(frozen=True)
class Repair:
    """One file that was mended, and how."""

    case: str
    file: str
    what: str
    before: str
    after: str


def repair(dataset: Dataset, output: Path) -> list[Repair]:
    """Make ``output`` the same dataset with what can be mended safely; files that stay are linked.

    What was done is in its ``repairs.csv``. The cases that a verdict sets aside are in it as they are.

    Raises:
        UsageError: ``output`` holds something already, or lies in the dataset (or the other way round).
        DataError: a case's files lie outside the dataset's folder. MachineError: the disk is full.
    """
    root = dataset.root.resolve()
    target = output.resolve()
    if target == root or root in target.parents or target in root.parents:
        raise UsageError("the new dataset cannot lie in the old one", where=output, remedy="give another folder")
    if output.exists() and any(output.iterdir()):
        raise UsageError("this folder holds something already", where=output, remedy="give a new folder")
    files = [path for case in dataset.cases for path in case.files]
    outside = [path for path in files if not path.absolute().is_relative_to(dataset.root.absolute())]
    if outside:
        raise DataError("a case's file lies outside the dataset's folder", where=outside[0])
    done: list[Repair] = []
    with stage("repair", len(dataset.cases)) as shown:
        for case in dataset.cases:
            done += _repaired(case, dataset, output)
            shown.advance(note=case.id)
        shown.note(f"{len(done)} repairs")
    _bring_the_rest(dataset.root, output)
    _say_what_it_is(dataset.card, output)
    _list(done, output)
    return done


def _repaired(case: Case, dataset: Dataset, output: Path) -> list[Repair]:
    def place(path: Path) -> Path:
        return output / path.absolute().relative_to(dataset.root.absolute())

    done = []
    images = [path for path in case.images if isinstance(path, Path) and suffix_of(path) in NIFTI_SUFFIXES]
    source = case.label.source if isinstance(case.label, Recoded) else case.label
    mask = source if isinstance(source, Path) and suffix_of(source) in NIFTI_SUFFIXES else None
    for path in dict.fromkeys([*images, *([mask] if mask else [])]):
        try:
            done += [_told(case, path, dataset, *what) for what in _mended(path, place(path), images, mask)]
        except DataError:  # what cannot be read has a finding that says so, and stays as it is
            place(path).unlink(missing_ok=True)
    return done


def _told(case: Case, path: Path, dataset: Dataset, what: str, before: str, after: str) -> Repair:
    return Repair(case.id, path.absolute().relative_to(dataset.root.absolute()).as_posix(), what, before, after)


def _mended(path: Path, target: Path, images: Sequence[Path], mask: Path | None) -> list[tuple[str, str, str]]:
    """Write what is mended of a file to ``target``: nothing is written where nothing is to be mended."""
    done = []
    current = path
    header = read_header(path)
    if path == mask and header.dtype.kind == "f":
        labels = read_labels(path)
        write(labels, target)
        current = target
        done.append(("whole numbers", str(header.dtype), str(read_header(target).dtype)))
    if path != mask and header.dtype.kind == "f" and (count := _fill_padding(path, target, mask)):
        current = target
        done.append(("NaN at the border", f"{count} voxels", "the least value of the image"))
    forms = read_forms(path)
    if path == mask and images:
        first = read_header(images[0]).geometry
        here = read_header(current).geometry
        exact = first.shape == here.shape and np.array_equal(first.affine, here.affine)
        if not exact and first.difference(header.geometry) is None:
            shift = first.shift_mm(header.geometry)
            place_like(current, images[0], target)
            current = target
            if shift > 0:
                done.append(("the image's grid", f"off by {shift:.2g} mm", "equal"))
    elif current == target:
        place_like(current, path, target)
    if forms is not None and (wrong := repairable_header(forms)):
        place_as_read(current, target)
        done.append(("header", ", ".join(wrong), "as the grid is read"))
    return done


def _fill_padding(path: Path, target: Path, mask: Path | None) -> int:
    """Replace NaN that reaches the border and lies in no label; 0, and nothing written, where there is other NaN."""
    volume = read(path)
    holes = np.isnan(volume.array)
    if not holes.any() or np.isinf(volume.array).any() or holes.all():
        return 0
    anywhere = holes.any(axis=0)
    parts = cc3d.connected_components(anywhere, connectivity=6, binary_image=True)
    faces = [np.take(parts, side, axis) for axis in range(3) if parts.shape[axis] > 1 for side in (0, -1)]
    outer = np.unique(np.concatenate([face.ravel() for face in faces]))
    if np.isin(np.unique(parts), outer[outer > 0]).sum() != parts.max():
        return 0
    if mask is not None:
        labels = read_labels(mask).array[0]
        if labels.shape != anywhere.shape or (labels[anywhere] != 0).any():
            return 0
    array = volume.array.copy()
    for channel, hole in zip(array, holes, strict=True):
        channel[hole] = channel[~hole].min() if not hole.all() else 0
    write(Volume(array, volume.geometry), target)
    return int(holes.sum())


def _bring_the_rest(root: Path, output: Path) -> None:
    """Images are linked; small other files are copied, since a person may edit them in the new dataset."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            target = output / path.relative_to(root)
            if name.startswith(".") or target.exists() or not path.is_file():
                continue
            if is_image(path) or path.stat().st_size > _COPIED_BYTES:
                link(path, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def _say_what_it_is(card: Card, output: Path) -> None:
    """Put the card there where the folder does not say by itself what it is."""
    try:
        if open_dataset(output).card == card:
            return
    except (DataError, UsageError):
        pass
    here = card.model_copy(update={"root": None})
    content = jsonable(here.model_dump(mode="json", exclude_defaults=True))
    write_text(output / "card.yaml", yaml.safe_dump(content, sort_keys=False))


def _list(done: Sequence[Repair], output: Path) -> None:
    table = io.StringIO(newline="")
    rows = [[spreadsheet_text(text) for text in (one.case, one.file, one.what, one.before, one.after)] for one in done]
    csv.writer(table, "unix").writerows([_COLUMNS, *rows])
    with atomic_path(output / REPAIRS) as temporary:
        temporary.write_bytes(table.getvalue().encode("utf-8", "surrogateescape"))
