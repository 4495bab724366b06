"""The NBIA interface of The Cancer Imaging Archive: its series, each file against the MD5 that the archive gives.

Sources: the NBIA sources (restAPI/v4/V4_getSeries.java and V4_getImageWithMD5Hash.java: the names of the parameters and
fields, ``Filename,MD5Hash`` in ``md5hashes.csv``, "No data found." with status 500), kirbyju/tcia_utils@ef45a04 (the
addresses).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from segue.acquire.archives import Unpacked, damaged, opened, unpack
from segue.acquire.download import Wanted, download
from segue.acquire.series import Came, Series, clear_leftovers, in_order, number, write_record
from segue.acquire.transport import RefusedError, Transport, TryAgainError, backoff_s
from segue.core.errors import DataError

# The archive steers people from its first interface to the fourth one; both answer without an account.
BASES = (
    "https://services.cancerimagingarchive.net/nbia-api/services/v4/",
    "https://services.cancerimagingarchive.net/nbia-api/services/v1/",
)
BASE_VARIABLE = "SEGUE_NBIA"
SOURCE = "nbia"
ATTEMPTS = 5
_LONGEST_WAIT_S = 300
_HASHES = "md5hashes.csv"
_NOTHING = "No data found"


class Archive:
    """The NBIA interface; the address in the variable ``SEGUE_NBIA`` takes the place of the public ones.

    Args:
        attempts: how often an address is asked that is busy or has a fault.
    """

    def __init__(self, transport: Transport, attempts: int = ATTEMPTS) -> None:
        own = os.environ.get(BASE_VARIABLE)
        self._transport, self._attempts = transport, attempts
        self._bases = (own,) if own else BASES

    def series(
        self, collection: str, modality: str | None = None, patient: str | None = None, uid: str | None = None
    ) -> list[Series]:
        """The series of a collection (of one modality, patient, or the one with this UID), patients in order.

        Raises:
            DataError: the archive does not answer, or does not know the collection.
        """
        asked = {"Collection": collection, "Modality": modality, "PatientID": patient, "SeriesInstanceUID": uid}
        rows = self._ask("getSeries", {**{name: value for name, value in asked.items() if value}, "format": "json"})
        if not isinstance(rows, list) or not rows:
            raise DataError(
                "the archive knows no such series",
                where=", ".join(value for value in asked.values() if value),
                value=str(rows)[:100] if rows else None,
                remedy="compare the name with the archive's list of collections; it may have been withdrawn",
            )
        return in_order(_series(row) for row in rows)

    def download(
        self, series: Series, folder: Path, on_bytes: Callable[[int], None], stopped: threading.Event | None = None
    ) -> Came:
        """Bring one series to ``folder``, which appears whole or not at all. NBIA makes the archive while it sends
        it, so one that breaks off begins again.

        Raises:
            DataError: it does not come, a file has another MD5 than the archive gives, or files are missing.
            StoppedError: ``stopped`` was set.
            MachineError: the disk is full or may not be written.
        """
        query = urlencode({"SeriesInstanceUID": series.uid})
        urls = [f"{base.rstrip('/')}/getImageWithMD5Hash?{query}" for base in self._bases]
        archive = folder.with_name(f".{folder.name}.zip")
        arriving = folder.with_name(f".{folder.name}.arriving")
        clear_leftovers(folder)
        try:
            download(self._transport, Wanted(urls), archive, on_bytes, stopped=stopped)
            with opened(archive) as members:
                came = unpack(members, arriving, lambda size: None)
            _check(arriving, came, series)
            (arriving / _HASHES).unlink()
            found = Came(SOURCE, {each.name: (each.bytes, each.sha256) for each in came if each.name != _HASHES})
            write_record(arriving, found)
            shutil.rmtree(folder, ignore_errors=True)
            arriving.rename(folder)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise damaged(series.uid, error) from error
        finally:
            clear_leftovers(folder)
        return found

    def _ask(self, endpoint: str, parameters: dict[str, str]) -> Any:
        reasons = []
        for base in self._bases:
            for attempt in range(self._attempts):
                try:
                    return self._transport.json(f"{base.rstrip('/')}/{endpoint}", parameters)
                except RefusedError as error:
                    reasons.append(f"{base}: {error}")
                    break
                except TryAgainError as error:
                    if _NOTHING in str(error):  # said with status 500, as if it were a fault
                        return []
                    reasons.append(f"{base}: {error}")
                    wait_s = error.wait_s if error.wait_s is not None else backoff_s(attempt)
                    if attempt + 1 == self._attempts or wait_s > _LONGEST_WAIT_S:
                        break
                    time.sleep(wait_s)
        raise DataError(
            "the archive does not answer",
            where=endpoint,
            value="; ".join(dict.fromkeys(reasons)),
            remedy="run the same command again later",
        )


def _series(row: Any) -> Series:
    try:
        return Series(
            str(row["SeriesInstanceUID"]),
            str(row["PatientID"]),
            str(row["StudyInstanceUID"]),
            str(row.get("Modality") or ""),
            number(row.get("ImageCount")),
            number(row.get("FileSize")),
            str(row.get("LicenseName") or ""),
            str(row.get("LicenseURI") or ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError("the archive's answer cannot be understood", where="getSeries", value=str(row)[:100]) from error


def _check(folder: Path, came: Sequence[Unpacked], series: Series) -> None:
    """Compare what was unpacked with the archive's list of MD5 sums and with its count of images.

    NBIA closes the archive properly when it fails midway: the list at its end, or files, are missing then.
    """
    table = folder / _HASHES
    if not table.is_file():
        raise DataError("the archive sent no MD5 sums with this series", where=series.uid, remedy="run it again")
    rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig", errors="replace"))))[1:]
    expected = {row[0].strip(): row[1].strip().lower() for row in rows if len(row) >= 2}
    names = {each.name for each in came} - {_HASHES}
    missing, unlisted = sorted(expected.keys() - names), sorted(names - expected.keys())
    # Of some old files the archive has no sum; the one in the zip was compared while it was unpacked.
    wrong = [name for name in sorted(expected.keys() & names) if len(expected[name]) == 32]
    wrong = [name for name in wrong if _md5(folder / name) != expected[name]]
    for what, found in (("missing", missing), ("not in the list", unlisted), ("differ", wrong)):
        if found:
            raise DataError(
                "this series did not arrive as the archive sent it",
                where=series.uid,
                value=f"{len(found)} of {len(expected)} files {what}, such as {found[0][:60]}",
                remedy="run the same command again",
            )
    if not names or (series.files is not None and len(names) != series.files):
        raise DataError(
            "this series is not complete",
            where=series.uid,
            value=f"{len(names)} files; the archive lists {series.files if series.files is not None else 'some'}",
            remedy="run the same command again",
        )


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
