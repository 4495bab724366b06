"""One study: its series to volumes, SUV and masks in one folder, which appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from segue.acquire.convert.choosing import choose_ct, choose_pet, is_volume
from segue.acquire.convert.facts import acquisition
from segue.acquire.convert.identity import slug
from segue.acquire.convert.masks import convert_masks
from segue.core.errors import DataError
from segue.core.files import content_key, parse_json, storage_fault, write_json
from segue.dicom import DicomError, DicomVolume, Series, SuvMode, SuvType, read_series, suv
from segue.images import image_stem, read, write
from segue.volume import Geometry, Volume

RECEIPT = "convert.json"
_AIR_HU = -1024.0
_TELLS_WHEN = ("AcquisitionTime", "InstanceNumber")
_VERSION = 2  # of what a folder holds: a folder of another one is made again


@dataclass(frozen=True)
class Row:
    """A line of ``convert.csv``: what became of a study (``series`` empty) or of one of its series.

    Attributes:
        series: its modality and number.
        status: ``"converted"``, ``"left out"`` (it is no volume; of a study: it has none) or ``"failed"``.
        reason: why not, a key of :data:`segue.dicom.REMEDIES`.
        what: why not, in words; of a converted study, what a user would miss in it.
        told: the value where it may be told on the terminal, but tells whose study it is and is not written.
    """

    patient: str
    study: str
    series: str = ""
    status: str = "converted"
    reason: str = ""
    what: str = ""
    value: str = ""
    remedy: str = ""
    files: str = ""
    told: str = ""

    @property
    def written(self) -> dict[str, str]:
        """The columns of ``convert.csv``."""
        return {name: value for name, value in asdict(self).items() if name != "told"}


@dataclass(frozen=True)
class StudyTask:
    """A study to convert, for a worker process.

    Attributes:
        id: the folder below ``output``: patient and study.
        reveals: whether names, UIDs and texts of the headers may be written.
        named: Series Instance UIDs that the user has decided for.
    """

    id: str
    series: tuple[Series, ...]
    output: Path
    mode: SuvMode
    kind: SuvType
    named: tuple[str, ...]
    reveals: bool

    @property
    def folder(self) -> Path:
        return self.output / self.id

    @property
    def key(self) -> str:
        """Of the files and the settings: the same one means that the folder is as it would be made."""
        stats = [(series.uid, path.stat()) for series in self.series for path in series.files]
        files = sorted((uid, stat.st_size, stat.st_mtime_ns) for uid, stat in stats)
        ours = {series.uid for series in self.series}
        return content_key(_VERSION, files, self.mode, self.kind, sorted(ours.intersection(self.named)), self.reveals)


@dataclass
class Work:
    """What is known of a study while it is converted.

    Attributes:
        folder: where the files are written first.
        grids: the series that could be read, by UID.
        names: the file of each, by UID.
        several: the series that hold several volumes (echoes, time points), by UID.
        failures: what could not be done, by UID; the empty one is the study.
        notes: what a user would miss, and why it is not there.
    """

    task: StudyTask
    folder: Path
    grids: dict[str, Geometry] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    several: set[str] = field(default_factory=set)
    failures: dict[str, DataError] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, series: Series, volume: Volume, name: str, facts: dict[str, Any]) -> None:
        """A volume and its sidecar of the same name."""
        write(volume, self.folder / f"{name}.nii.gz")
        write_json(self.folder / f"{name}.json", {**grid_facts(volume.geometry), **facts})
        self.files.setdefault(series.uid, []).append(f"{name}.nii.gz")


def convert_study(task: StudyTask) -> list[Row]:
    """Convert one study; a folder that is there already, of the same files and settings, is left as it is.

    Files that somebody else has put there stay, whatever becomes of the others.

    Raises:
        DicomError: ``NAME_TAKEN``: one of them has the name of a file that would be written.
        MachineError: the disk is full or may not be written.
    """
    before = _rows_before(task)
    if before is not None:
        return before
    folder = task.folder.with_name(f".{task.folder.name}.converting")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        work = Work(task, folder)
        _convert(work)
        rows = _rows(work)
        if work.files:
            write_json(folder / RECEIPT, {"key": task.key, "rows": [row.written for row in rows]})
        _replace(task.folder, folder)
    except OSError as error:
        raise storage_fault(error, task.folder) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _replace(target: Path, made: Path) -> None:
    """Put what was made in the place of what an earlier run made, of which nothing stays."""
    new = {path.name for path in made.iterdir()}
    if new and not target.exists():
        made.rename(target)
        return
    ours = _written_before(target)
    taken = sorted(name for name in new - ours if (target / name).exists())
    if taken:
        what = f"a file that segue convert did not write has the name of one that it would write: {taken[0]}"
        raise DicomError(what, where=target, value=f"{len(taken)} files", reason="NAME_TAKEN")
    if ours:  # a run that is killed from here on leaves a list of what may be replaced
        write_json(target / RECEIPT, {"key": "", "rows": [], "files": sorted(ours | new)})
    for name in sorted(ours - new - {RECEIPT}):
        (target / name).unlink(missing_ok=True)
    for name in sorted(new - {RECEIPT}):
        (made / name).replace(target / name)
    if new:
        (made / RECEIPT).replace(target / RECEIPT)
    elif ours:
        (target / RECEIPT).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody's files are in it
            target.rmdir()


def _written_before(folder: Path) -> set[str]:
    """What the receipt of a folder says that a conversion has written."""
    try:
        content = parse_json((folder / RECEIPT).read_text(encoding="utf-8"))
        images = [name for row in content["rows"] for name in row["files"].split(";") if name]
        return {RECEIPT, *content.get("files", []), *images, *(f"{image_stem(Path(name))}.json" for name in images)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return set()


def _convert(work: Work) -> None:
    task = work.task
    pet = None
    try:
        pet = choose_pet(task.series, task.named)
    except DicomError as error:
        work.failures[""] = error
        if error.reason == "AMBIGUOUS_SERIES":
            return
    volumes = [series for series in task.series if is_volume(series)]
    counts = Counter(series.modality for series in volumes)
    taken: set[str] = {"pet"} if pet is not None else set()
    pet_volume = None
    for series in volumes:
        try:
            found = read_series(series)
        except DataError as error:
            work.failures[series.uid] = error
            continue
        chosen = pet is not None and series.uid == pet.uid
        name = "PET" if chosen else _file_name(series, counts, taken, task.reveals, of_pet=pet is not None)
        work.grids[series.uid], work.names[series.uid] = found.volume.geometry, name
        facts = {"unit": _unit(found), "acquisition": acquisition(found.headers)}
        if found.differ_in:
            work.several.add(series.uid)
            facts["volumes"] = {"count": len(found.volume.array), **_told_apart(found)}
        work.write(series, found.volume, name, facts)
        if chosen:
            pet_volume = found
    ct = _convert_pet(work, pet, pet_volume) if pet is not None else None
    convert_masks(work, pet, ct)
    if work.failures and not work.files:
        work.failures.setdefault("", next(iter(work.failures.values())))


def _convert_pet(work: Work, pet: Series, found: DicomVolume | None) -> Series | None:
    """SUV, and the CT on the grid of the PET; returns the CT."""
    if found is None:
        work.failures[""] = work.failures[pet.uid]
        return None
    task = work.task
    try:
        made = suv(found, mode=task.mode, kind=task.kind)
        work.write(pet, made.volume, "SUV", {"unit": "SUV", "suv": made.receipt})
    except DataError as error:
        work.failures[pet.uid] = work.failures[""] = error
    try:
        grids = {uid: grid for uid, grid in work.grids.items() if uid not in work.several}
        ct = choose_ct(task.series, pet, grids, task.named) if pet.uid in grids else None
    except DicomError as error:
        work.failures[""] = error
        return None
    if ct is None:
        if pet.uid in grids and any(series.modality == "CT" and series.uid in work.grids for series in task.series):
            work.notes.append("no CTres: no CT lies where the PET does, in its frame of reference")
        return None
    _rename(work, ct, "CT")
    image = read(work.folder / "CT.nii.gz", unit="HU")
    grid = found.volume.geometry
    facts = {"unit": "HU", "from": "CT.nii.gz", "grid_of": "PET.nii.gz", "outside": _AIR_HU, "interpolation": "cubic"}
    work.write(ct, image.resampled_to(grid, order=3, fill=_AIR_HU), "CTres", facts)
    return ct


def _rename(work: Work, series: Series, name: str) -> None:
    old = work.names[series.uid]
    if old != name:
        for suffix in (".nii.gz", ".json"):
            (work.folder / f"{old}{suffix}").rename(work.folder / f"{name}{suffix}")
        work.names[series.uid] = name
        work.files[series.uid] = [f"{name}.nii.gz"]


def _file_name(series: Series, counts: Counter[str], taken: set[str], reveals: bool, *, of_pet: bool) -> str:
    """The modality where a study has one series of it, else with its number (and, if it may be told, description)."""
    kind = "PET" if series.modality == "PT" else slug(series.modality).upper() or "IMAGE"
    name = kind
    if counts[series.modality] > 1 or (series.modality == "PT" and of_pet):
        described = slug(series.description) if reveals else ""
        name = "_".join(part for part in (kind, slug(series.number).zfill(3), described) if part)
    found, again = name, 2
    while found.lower() in taken:
        found, again = f"{name}_{again}", again + 1
    taken.add(found.lower())
    return found


def _unit(found: DicomVolume) -> str:
    modality = found.headers[0].get("Modality")
    return str(found.headers[0].get("Units") or "arbitrary") if modality == "PT" else found.volume.unit


def _told_apart(found: DicomVolume) -> dict[str, Any]:
    """What the volumes of a series differ in; of times of the day only that they do."""
    told = {} if found.differ_in in _TELLS_WHEN else {"values": found.values}
    return {"differ_in": found.differ_in, **told}


def grid_facts(geometry: Geometry) -> dict[str, Any]:
    return {"shape": geometry.shape, "spacing_mm": geometry.spacing_mm, "orientation": geometry.axis_codes}


def _rows_before(task: StudyTask) -> list[Row] | None:
    try:
        content = parse_json((task.folder / RECEIPT).read_text(encoding="utf-8"))
        if content["key"] != task.key:
            return None
        rows = [Row(**row) for row in content["rows"]]
        if rows[0].status == "failed":
            return None  # what failed for want of a decoder or of a decision is tried again
    except (OSError, ValueError, LookupError, TypeError):
        return None
    files = [name for row in rows for name in row.files.split(";") if name]
    return rows if all((task.folder / name).is_file() for name in files) else None


def _rows(work: Work) -> list[Row]:
    task = work.task
    patient, study = task.id.split("/")
    failed = work.failures.get("")
    first = Row(patient, study, what="; ".join(work.notes))
    if failed is not None:
        first = _failed(first, failed, task.reveals)
    elif not work.files:
        first = replace(first, status="left out", what="nothing in it is a volume")
    rows = [first]
    for series in task.series:
        files = ";".join(work.files.get(series.uid, []))
        row = Row(patient, study, f"{series.modality} {series.number}".strip(), files=files)
        error = work.failures.get(series.uid)
        if error is not None:
            row = _failed(row, error, task.reveals)
        elif not files:
            row = replace(row, status="left out", what=_why_left_out(series, work))
        rows.append(row)
    return rows


def _why_left_out(series: Series, work: Work) -> str:
    if "" in work.failures and not work.files:
        return "the study could not be converted"
    if series.frames == 0:
        return "a report or a set without images"
    kind = series.image_type[2:3] or series.image_type[:2]
    return f"no slices of a patient: {', '.join([series.modality, *kind])}"


def _failed(row: Row, error: DataError, reveals: bool) -> Row:
    reason = error.reason if isinstance(error, DicomError) else "DAMAGED"
    value = error.value or ""
    # A damaged value may be quoted, and be anything; the UIDs of candidates tell whose study it is.
    secret = not reveals and reason in ("DAMAGED", "AMBIGUOUS_SERIES")
    # So may the name of a file.
    told = ", ".join(part for part in (value, error.where) if part)
    return replace(
        row,
        status="failed",
        reason=reason,
        what=error.what,
        value="" if secret else value,
        told=told,
        remedy=error.remedy or "",
    )


def broken(task: StudyTask, error: DataError) -> list[Row]:
    """The row of a study whose conversion ended in an error."""
    patient, study = task.id.split("/")
    return [_failed(Row(patient, study), error, task.reveals)]
