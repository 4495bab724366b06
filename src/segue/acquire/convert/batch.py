"""All studies below a folder."""

from __future__ import annotations

import contextlib
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segue.acquire.convert.choosing import studies
from segue.acquire.convert.identity import Naming, read_key
from segue.acquire.convert.study import RECEIPT, Row, StudyTask, broken, convert_study
from segue.core.alone import alone
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.executor import map_cases
from segue.core.files import write_text
from segue.core.work import current_work, mine
from segue.dicom import DicomError, Series, SuvMode, SuvType, scan

TABLE = "convert.csv"


@dataclass(frozen=True)
class ConvertOptions:
    """How DICOM becomes volumes.

    Attributes:
        suv: the rule (:func:`segue.dicom.suv`).
        suv_type: what the activity is divided by: body weight, or lean mass and surface variants.
        series: Series Instance UIDs that decide where several series could be meant.
        keep_ids: name folders by Patient ID although the files do not say that identities were removed.
    """

    suv: SuvMode = "standard"
    suv_type: SuvType = "bw"
    series: tuple[str, ...] = ()
    keep_ids: bool = False
    workers: int | None = None


@dataclass(frozen=True)
class Converted:
    """What a conversion did: its rows, also in ``convert.csv``, and the series that each file was made of."""

    rows: list[Row]
    pseudonyms: bool
    sources: dict[Path, Series] = field(default_factory=dict)

    @property
    def studies(self) -> list[Row]:
        return [row for row in self.rows if not row.series and row.study]

    @property
    def failed(self) -> list[Row]:
        """Studies that could not be converted, and single series of others."""
        broken = {(row.patient, row.study) for row in self.studies if row.status == "failed"}
        return [
            row
            for row in self.rows
            if row.status == "failed" and (not row.series or (row.patient, row.study) not in broken)
        ]


def convert(source: Path, output: Path, options: ConvertOptions | None = None) -> Converted:
    """Convert every study below ``source`` to ``output/PATIENT/STUDY``; those that are there are only found.

    A study that cannot be converted is a row with its reason; the others go on. ``output/convert.csv`` has a row for
    every study and every series, written also when the work is interrupted; of studies that earlier runs brought from
    other folders their rows stay. A shard converts its part of the studies and writes no table: whoever converts
    without a shard finds these studies done.

    Raises:
        DataError: no DICOM series there.
        UsageError: ``output`` lies in ``source``, or a series that is decided for is not there.
        MachineError: the disk is full or may not be written, or pydicom is not installed.
    """
    options = options or ConvertOptions()
    _require_apart(source, output)
    damaged: list[Row] = []
    with stage("scan") as shown:
        found = scan(source, lambda error: damaged.append(_damaged(error, source)))
        groups = studies(found)
        shown.note(f"{len(groups)} studies, {len(found)} series")
    if not found:
        raise DataError("no DICOM series here", where=source, remedy="give the folder that holds the DICOM files")
    unknown = sorted(set(options.series) - {series.uid for series in found})
    if unknown:
        raise UsageError("no such series here", where=source, value=", ".join(unknown), remedy="check --series")
    tasks, pseudonyms = _tasks(groups, output, options)
    tasks, whole = mine(tasks), current_work().shard is None
    rows: dict[str, list[Row]] = {}
    try:
        with stage("convert", len(tasks)) as shown:
            workers = options.workers or (1 if len(tasks) == 1 else None)
            for task, result in map_cases(_in_turn, tasks, workers=workers):
                rows[task.id] = broken(task, result) if isinstance(result, DataError) else result
                shown.advance(note=task.id)
            shown.note(f"{len(tasks)} studies")
    finally:
        for folder in {task.folder.parent for task in tasks} if whole else ():
            with contextlib.suppress(OSError):  # a patient of whom nothing came has no folder
                folder.rmdir()
        if rows and whole:
            _write_table(output, [*(row for each in rows.values() for row in each), *damaged])
    sources = {
        task.folder / name: series
        for task in tasks
        # The first row is the study's; where nothing came of it, it is the only one.
        for series, row in zip(task.series, rows[task.id][1:], strict=False)
        for name in filter(None, row.files.split(";"))
    }
    return Converted([*(row for each in rows.values() for row in each), *damaged], pseudonyms, sources)


def _in_turn(task: StudyTask) -> list[Row]:
    # Shards and reruns may overlap: the second one finds the study done.
    with alone(task.folder):
        return convert_study(task)


def require_converted(done: Converted, output: Path) -> None:
    """Say how many studies of a dataset could not be converted.

    Raises:
        DataError: none could.
    """
    failed = [row for row in done.studies if row.status == "failed"]
    if not failed:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in failed).most_common())
    if len(failed) == len(done.studies):
        raise DataError(
            "no study could be converted", where=output / TABLE, value=reasons, remedy=failed[0].remedy or None
        )
    say(f"{len(failed)} of {len(done.studies)} studies could not be converted ({reasons}): {output / TABLE}")


def _require_apart(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise UsageError("no such folder", where=source, remedy="check the path")
    here, there = source.resolve(), output.resolve()
    if here == there or here in there.parents:
        raise UsageError(
            "the output lies inside the DICOM folder, and would be looked through with it",
            where=output,
            remedy="choose another folder for the output",
        )


def _tasks(groups: Sequence[Sequence[Series]], output: Path, options: ConvertOptions) -> tuple[list[StudyTask], bool]:
    open_naming = Naming(keep_ids=options.keep_ids)
    hidden = [not open_naming.reveals(study) or not study[0].patient_id.strip() for study in groups]
    naming = Naming(read_key(output) if any(hidden) else b"", options.keep_ids)
    tasks: dict[str, StudyTask] = {}
    for study in groups:
        folder = f"{naming.patient(study)}/{naming.study(study)}"
        name, again = folder, 2
        while name.lower() in tasks:
            name, again = f"{folder}_{again}", again + 1
        tasks[name.lower()] = StudyTask(
            name, tuple(study), output, options.suv, options.suv_type, options.series, naming.reveals(study)
        )
    return list(tasks.values()), any(hidden)


def _damaged(error: DicomError, source: Path) -> Row:
    """The row of a file that belongs to no study, since its header cannot be read. Its path may tell whose it is."""
    where = Path(error.where or "")
    told = str(where.relative_to(source)) if where.is_relative_to(source) else str(where)
    return Row("", "", "", "failed", error.reason, error.what, "", error.remedy or "", "", told)


def _rows_of_others(output: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows of studies that lie in the output and were not met in this run."""
    met = {(row.patient, row.study) for row in rows}
    try:
        with (output / TABLE).open(encoding="utf-8", newline="") as handle:
            before = [Row(**found) for found in csv.DictReader(handle)]
    except (OSError, ValueError, TypeError):
        return []
    return [
        row
        for row in before
        if row.study and (row.patient, row.study) not in met and (output / row.patient / row.study / RECEIPT).is_file()
    ]


def _write_table(output: Path, rows: Sequence[Row]) -> None:
    rows = [*_rows_of_others(output, rows), *rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row("", "").written), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.written for row in rows)
    write_text(output / TABLE, text.getvalue())
