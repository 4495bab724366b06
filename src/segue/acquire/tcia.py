"""DICOM series of The Cancer Imaging Archive, by its NBIA interface; every file against the MD5 that it gives."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlencode

from segue.acquire.archives import damaged, is_junk, opened, unpack
from segue.acquire.download import Wanted, download
from segue.acquire.receipt import Origin
from segue.acquire.transport import RefusedError, Transport, TryAgainError, backoff_s
from segue.catalogue import Card
from segue.core.console import byte_count, stage
from segue.core.errors import DataError

# The archive steers people from its first interface to the fourth one; both answer without an account.
BASES = (
    "https://services.cancerimagingarchive.net/nbia-api/services/v4/",
    "https://services.cancerimagingarchive.net/nbia-api/services/v1/",
)
BASE_VARIABLE = "SEGUE_NBIA"
_ATTEMPTS = 5
_HASHES = "md5hashes.csv"


@dataclass(frozen=True)
class Series:
    """One DICOM series of a collection."""

    uid: str
    patient: str
    study: str
    modality: str
    bytes: int | None

    @property
    def folder(self) -> PurePosixPath:
        return PurePosixPath(_plain(self.patient), _plain(self.study), _plain(self.uid))


def _plain(name: str) -> str:
    """A name from the network as a folder's name: no separators, never hidden or upwards."""
    return "".join(c if c.isalnum() or c in "._- " else "_" for c in name).lstrip(".") or "_"


class Archive:
    """The NBIA interface; the address in the variable ``SEGUE_NBIA`` takes the place of the public ones."""

    def __init__(self, transport: Transport) -> None:
        own = os.environ.get(BASE_VARIABLE)
        self._transport = transport
        self._bases = (own,) if own else BASES

    def series(self, collection: str, modality: str | None = None, patient: str | None = None) -> list[Series]:
        """The series of a collection, patients in order.

        Raises:
            DataError: the archive does not answer, or does not know the collection.
        """
        asked = {"Collection": collection, "Modality": modality, "PatientID": patient, "format": "json"}
        rows = self._ask("getSeries", {name: value for name, value in asked.items() if value})
        if not isinstance(rows, list) or not rows:
            raise DataError("the archive knows no series of this collection", where=collection, value=str(rows)[:100])
        found = [_series(row) for row in rows]
        return sorted(found, key=lambda each: (each.patient, each.study, each.uid))

    def download(self, series: Series, folder: Path, on_bytes: Callable[[int], None]) -> None:
        """Bring one series to ``folder``, which appears whole or not at all.

        Raises:
            DataError: it does not come, or a file has another MD5 than the archive gives.
        """
        query = urlencode({"SeriesInstanceUID": series.uid})
        urls = [f"{base.rstrip('/')}/getImageWithMD5Hash?{query}" for base in self._bases]
        archive = folder.with_name(f"{folder.name}.zip")
        download(self._transport, Wanted(urls), archive, on_bytes)
        arriving = folder.with_name(f".{folder.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        with opened(archive) as members:
            unpack(members, arriving, lambda number: None)
        _check_hashes(arriving, series)
        arriving.rename(folder)
        archive.unlink()

    def _ask(self, endpoint: str, parameters: dict[str, str]) -> Any:
        reasons = []
        for base in self._bases:
            for attempt in range(_ATTEMPTS):
                try:
                    return self._transport.json(f"{base.rstrip('/')}/{endpoint}", parameters)
                except RefusedError as error:
                    reasons.append(f"{base}: {error}")
                    break
                except TryAgainError as error:
                    reasons.append(f"{base}: {error}")
                    time.sleep(error.wait_s if error.wait_s is not None else backoff_s(attempt))
        raise DataError(
            "the archive does not answer",
            where=endpoint,
            value="; ".join(dict.fromkeys(reasons)),
            remedy="run the same command again later",
        )


def _series(row: Any) -> Series:
    try:
        size = row.get("FileSize") or row.get("TotalSizeInBytes")
        return Series(
            str(row["SeriesInstanceUID"]),
            str(row["PatientID"]),
            str(row["StudyInstanceUID"]),
            str(row.get("Modality") or ""),
            int(size) if str(size or "").isdigit() else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("the archive's answer cannot be understood", where="getSeries", value=str(row)[:100]) from error


def _check_hashes(folder: Path, series: Series) -> None:
    table = folder / _HASHES
    if not table.exists():
        raise DataError("the archive sent no MD5 sums with this series", where=series.uid, remedy="run it again")
    rows = [row for row in csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig"))) if len(row) >= 2]
    expected = {row[0].strip(): row[1].strip().lower() for row in rows if len(row[1].strip()) == 32}
    wrong = []
    for name, md5 in expected.items():
        path = folder / PurePosixPath(name).name
        if not path.is_file() or _md5(path) != md5:
            wrong.append(name)
    images = [path for path in folder.iterdir() if path.name != _HASHES and not is_junk(path.name)]
    if wrong or len(images) < len(expected) or not expected:
        raise DataError(
            "this series did not arrive as the archive sent it",
            where=series.uid,
            value=f"{len(wrong)} of {len(expected)} files differ" + (f", such as {wrong[0]}" if wrong else ""),
            remedy="run the same command again",
        )


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def fetch(card: Card, root: Path, patients: int | None = None) -> Origin:
    """Download the collection's series to ``root/dicom/PATIENT/STUDY/SERIES``; those that are there are kept.

    Raises:
        DataError: series that did not come (the others are there), or, when all came, that this release does not
            convert DICOM yet.
    """
    assert card.collection is not None and card.collection.tcia is not None, "asked for by cards with a collection"
    folder = root / "dicom"
    with Transport() as transport:
        archive = Archive(transport)
        wanted = archive.series(card.collection.tcia)
        if patients is not None:
            some = sorted({series.patient for series in wanted})[:patients]
            wanted = [series for series in wanted if series.patient in some]
        missing = [series for series in wanted if not folder.joinpath(*series.folder.parts).is_dir()]
        sizes = [series.bytes for series in missing]
        total = sum(size or 0 for size in sizes) if all(sizes) else None
        failed = []
        with stage("download", total) as shown:
            for series in missing:
                target = folder.joinpath(*series.folder.parts)
                try:
                    archive.download(series, target, lambda number: shown.advance(number))
                except (DataError, zipfile.BadZipFile) as error:
                    failed.append(error if isinstance(error, DataError) else damaged(series.uid, error))
                shown.note(f"{series.patient} {series.modality}")
            shown.note(f"{len(missing) - len(failed)} series, {byte_count(round(shown.done))}")
    if failed:
        raise DataError(
            f"{len(failed)} of {len(wanted)} series did not come; the others are there",
            where=folder,
            value=str(failed[0]),
            remedy="run the same command again: it brings only what is missing",
        )
    raise DataError(
        f"all {len(wanted)} DICOM series are there, but this release does not convert DICOM to volumes yet",
        where=folder,
        remedy=f"convert them, then: segue get {card.name} --from THE_CONVERTED_FOLDER"
        + (f"; or take a copy that is NIfTI: --release {card.copies[0].release}" if card.copies else ""),
    )
