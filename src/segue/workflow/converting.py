"""``convert``: DICOM studies to volumes, and what a person should know about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from segue.acquire.convert import TABLE, Converted, ConvertOptions, Row
from segue.acquire.convert import convert as convert_studies
from segue.acquire.convert.identity import key_path
from segue.core.alone import alone
from segue.core.errors import UsageError
from segue.core.work import current_work
from segue.dicom import SuvMode, SuvType

_MOST_SHOWN = 10


def options(suv: str, suv_type: str, series: Sequence[str], keep_ids: bool, workers: int | None) -> ConvertOptions:
    """The options of the command line, checked.

    Raises:
        UsageError: a rule or a type of SUV that there is not.
    """
    for flag, given, known in (("--suv", suv, get_args(SuvMode)), ("--suv-type", suv_type, get_args(SuvType))):
        if given not in known:
            raise UsageError("there is no such choice", where=f"{flag} {given}", remedy=f"one of {', '.join(known)}")
    return ConvertOptions(suv, suv_type, tuple(series), keep_ids, workers)  # type: ignore[arg-type]


def convert(source: Path, output: Path, chosen: ConvertOptions) -> tuple[list[str], int]:
    """Convert, and say what became of the studies. Returns: lines for the terminal, and how much failed.

    Raises:
        DataError, UsageError, MachineError: see :func:`segue.acquire.convert.convert`.
    """
    shard = current_work().shard
    # Shards work side by side, study by study in turns.
    with alone(output if shard is None else output.with_name(f"{output.name}.{shard.name}")):
        done = convert_studies(source, output, chosen)
    lines = summary(done, output)
    if shard is not None:
        lines += [f"shard {shard}; when all are done, the same command without --shard writes {output / TABLE}"]
    return lines, len(done.failed)


def summary(done: Converted, output: Path) -> list[str]:
    """What became of the studies, with the reasons of those that failed."""
    good = sum(row.status == "converted" for row in done.studies)
    empty = sum(row.status == "left out" for row in done.studies)
    lines = [
        f"{good} of {len(done.studies)} studies converted, in {output}"
        + (f"; in {empty} nothing is a volume" if empty else "")
    ]
    files = Counter(name for row in done.rows for name in row.files.split(";") if name)
    counted = [f"{files[name]} {name}" for name in ("PET.nii.gz", "SUV.nii.gz", "CTres.nii.gz", "SEG.nii.gz")]
    others = sum(files.values()) - sum(files[name.partition(" ")[2]] for name in counted)
    if files:
        lines.append(", ".join([*(each for each in counted if not each.startswith("0 ")), f"{others} others"]))
    noted = [row for row in done.studies if row.status == "converted" and row.what]
    lines += [f"note: {row.patient}/{row.study}: {row.what}" for row in noted[:_MOST_SHOWN]]
    if len(noted) > _MOST_SHOWN:
        lines.append(f"and {len(noted) - _MOST_SHOWN} more notes: {output / TABLE}")
    lines += [_told(row) for row in done.failed[:_MOST_SHOWN]]
    if len(done.failed) > _MOST_SHOWN:
        lines.append(f"and {len(done.failed) - _MOST_SHOWN} more: {output / TABLE}")
    if done.pseudonyms:
        lines.append(
            f"the files do not say that identities were removed: folders carry pseudonyms, whose key is {key_path()}"
        )
    if files:
        lines.append(f"next: segue check {output}")
    return lines


def _told(row: Row) -> str:
    where = "/".join(part for part in (row.patient, row.study, row.series) if part)
    text = f"{row.reason}: {where}: {row.what}" + (f" ({row.told or row.value})" if row.told or row.value else "")
    return text + (f"\n  -> {row.remedy}" if row.remedy else "")
