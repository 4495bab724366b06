"""DICOM series of a collection: what an archive says of them, and where they lie on this disk.

``ROOT/dicom/PATIENT/STUDY/SERIES/`` holds the files of a series as they came, whole or not at all, and beside them
what is needed to check them again. ``ROOT/series.csv`` lists every series of the collection.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segue.core.files import parse_json, write_json, write_text

TABLE, FOLDER = "series.csv", "dicom"
_RECORD = ".segue-series.json"
_COLUMNS = ("patient", "study", "series", "modality", "files", "bytes", "licence", "licence_url", "source")
# DICOM PS3.5, 9.1: digits and dots, 64 characters at most.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64
_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,62}[A-Za-z0-9_-]|[A-Za-z0-9]")


@dataclass(frozen=True)
class Series:
    """One DICOM series of a collection, as an archive lists it.

    Attributes:
        files, bytes: how many there should be, where the archive says so.
        licence: as the archive names it.
    """

    uid: str
    patient: str
    study: str
    modality: str
    files: int | None = None
    bytes: int | None = None
    licence: str = ""
    licence_url: str = ""

    @property
    def sound(self) -> bool:
        """Whether its names are what DICOM allows: what is not never reaches a path or an address."""
        return is_uid(self.uid) and is_uid(self.study) and bool(self.patient.strip())

    @property
    def folder(self) -> PurePosixPath:
        """Below the dataset's root."""
        return PurePosixPath(FOLDER, folder_name(self.patient), folder_name(self.study), folder_name(self.uid))


@dataclass(frozen=True)
class Came:
    """What came of a series: from where, and size and SHA-256 of each file by its name."""

    source: str
    files: dict[str, tuple[int, str]]


def is_uid(text: str) -> bool:
    return len(text) <= _UID_LENGTH and _UID.fullmatch(text) is not None


def folder_name(name: str) -> str:
    """A name from the network as a folder's name: itself where it is harmless, else its letters and a digest."""
    if _HARMLESS.fullmatch(name):
        return name
    letters = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:40]
    return f"{letters}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".lstrip("-")


def number(value: object) -> int | None:
    """A count from JSON, where it is one (interfaces send numbers as text, too)."""
    text = str(value if value is not None else "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def in_order(found: Iterable[Series]) -> list[Series]:
    """Each series once, patients in order."""
    once = {series.uid: series for series in found}
    return sorted(once.values(), key=lambda each: (each.patient, each.study, each.uid))


def of_patients(listed: Sequence[Series], patients: int | None) -> list[Series]:
    """The series of the first ``patients`` patients, or all."""
    if patients is None:
        return list(listed)
    some = set(sorted({series.patient for series in listed})[:patients])
    return [series for series in listed if series.patient in some]


# On this disk


def has_begun(root: Path) -> bool:
    """Whether series were being brought to ``root`` when a process was killed that had written no receipt yet."""
    return (root / TABLE).is_file()


def clear_leftovers(folder: Path) -> None:
    """Remove what an earlier attempt at the series in ``folder`` left beside it."""
    shutil.rmtree(folder.with_name(f".{folder.name}.arriving"), ignore_errors=True)
    for name in (f".{folder.name}.zip", f"..{folder.name}.zip.part", f"..{folder.name}.zip.part.journal"):
        folder.with_name(name).unlink(missing_ok=True)


def write_record(folder: Path, came: Came) -> None:
    """Beside a series' files: where they came from, and their hashes."""
    write_json(folder / _RECORD, {"source": came.source, "files": came.files})


def read_record(folder: Path) -> Came | None:
    """None where there is none: this series is not there, or somebody else put it there."""
    try:
        content = parse_json((folder / _RECORD).read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in content["files"].items()}
        return Came(str(content["source"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_table(root: Path, listed: Sequence[Series], records: dict[str, Came]) -> None:
    """``series.csv``; ``source`` is empty for series that have not come."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for each in listed:
        came = records.get(each.uid)
        told = [each.licence, each.licence_url, came.source if came else ""]
        rows.writerow([each.patient, each.study, each.uid, each.modality, each.files, each.bytes, *told])
    write_text(root / TABLE, out.getvalue())


def read_table(root: Path) -> list[Series]:
    """What ``series.csv`` lists; nothing where there is none that can be read."""
    try:
        with (root / TABLE).open(encoding="utf-8", newline="") as handle:
            return [
                Series(
                    row["series"],
                    row["patient"],
                    row["study"],
                    row["modality"],
                    number(row["files"]),
                    number(row["bytes"]),
                    row["licence"],
                    row["licence_url"],
                )
                for row in csv.DictReader(handle)
            ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
