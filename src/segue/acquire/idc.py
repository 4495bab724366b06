"""The Imaging Data Commons: the same series file by file out of a public bucket, and tables of clinical data.

Its interface says where a series lies (``POST /v3/sql``, columns ``aws_bucket`` and ``crdc_series_uuid``), and the
bucket is listed and read without an account. Sources: ImagingDataCommons/IDC-REST-MCP@12421d2 (docs/user-guide.md,
src/idc_api), ImagingDataCommons/IDC-Docs (api/, data/organization-of-data/clinical.md), Amazon S3 API reference
(ListObjectsV2).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segue.acquire.series import Came, Series, number, write_record
from segue.acquire.threads import StoppedError
from segue.acquire.transport import RefusedError, Transport, TryAgainError, backoff_s
from segue.core.errors import DataError
from segue.core.files import atomic_path, write_text

BASE = "https://api.imaging.datacommons.cancer.gov/v3"
BUCKET = "https://{bucket}.s3.amazonaws.com"
BASE_VARIABLE, BUCKET_VARIABLE = "SEGUE_IDC", "SEGUE_IDC_BUCKET"
SOURCE = "idc"
_ATTEMPTS, _ASK_ATTEMPTS = 4, 2
_PAGE = 5000  # rows; the interface gives 10,000 at most
_LISTING_BYTES, _LISTING_PAGES = 16_000_000, 1000
_COLLECTION = re.compile(r"[a-z0-9_]{1,100}")
_BUCKET = re.compile(r"idc-open-[a-z0-9-]{1,50}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_CLINICAL = re.compile(r"[A-Za-z0-9_]{1,120}")
_MD5 = re.compile(r"[0-9a-f]{32}")  # the ETag of an object that came in several parts is none
_COLUMNS = (
    "SeriesInstanceUID, StudyInstanceUID, PatientID, Modality, instanceCount, series_size_MB, aws_bucket, "
    "crdc_series_uuid, license_short_name, analysis_result_id"
)


@dataclass(frozen=True)
class Located:
    """A series and the folder of a bucket that holds it. ``derived``: by a model or by others than its collectors."""

    series: Series
    bucket: str
    folder: str
    derived: bool


@dataclass(frozen=True)
class _Object:
    name: str
    bytes: int
    md5: str | None


class Mirror:
    """The Imaging Data Commons; the variables ``SEGUE_IDC`` and ``SEGUE_IDC_BUCKET`` name other addresses of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._base = os.environ.get(BASE_VARIABLE, BASE).rstrip("/")
        self._bucket = os.environ.get(BUCKET_VARIABLE, BUCKET).rstrip("/")

    def series(self, collection: str) -> dict[str, Located]:
        """Where the series of a collection lie, by their UID; rows that name no place in an IDC bucket are left out.

        Raises:
            DataError: the interface does not answer as it is documented.
        """
        if not _COLLECTION.fullmatch(collection):
            raise DataError("this is no name of an IDC collection", where=collection, remedy="correct the card")
        found: dict[str, Located] = {}
        start = 0
        while True:
            sql = (
                f"SELECT {_COLUMNS} FROM index WHERE collection_id = '{collection}' "
                f"ORDER BY SeriesInstanceUID LIMIT {_PAGE} OFFSET {start}"
            )
            rows = self._rows("sql", self._ask("sql", {}, {"sql": sql, "max_rows": _PAGE}))
            for row in rows:
                if (located := _located(row)) is not None:
                    found[located.series.uid] = located
            start += len(rows)
            if not rows or len(rows) < _PAGE:
                return found

    def download(
        self, located: Located, folder: Path, on_bytes: Callable[[int], None], stopped: threading.Event
    ) -> Came:
        """Bring one series to ``folder``, which appears whole or not at all; files that came before are kept.

        Objects whose ETag is an MD5 are compared with it, the others by their size.

        Raises:
            DataError: it does not come, or not as the bucket lists it.
            StoppedError: ``stopped`` was set.
            MachineError: the disk is full or may not be written.
        """
        address = f"{self._bucket.format(bucket=located.bucket)}/{located.folder}"
        arriving = folder.with_name(f".{folder.name}.arriving")
        try:
            listed = self._objects(located, stopped)
            files = {}
            for each in listed:
                target = arriving / each.name
                sha256 = _kept(target, each)
                if sha256 is None:
                    sha256 = self._object(f"{address}/{quote(each.name)}", target, each, on_bytes, stopped)
                else:
                    on_bytes(each.bytes)
                files[each.name] = (each.bytes, sha256)
        except (RefusedError, TryAgainError) as error:
            raise DataError(
                "this series does not come from the Imaging Data Commons",
                where=located.series.uid,
                value=error,
                remedy="run the same command again",
            ) from error
        for path in arriving.iterdir():
            if path.name not in files:  # what a killed process left
                path.unlink()
        came = Came(SOURCE, files)
        write_record(arriving, came)
        shutil.rmtree(folder, ignore_errors=True)
        arriving.rename(folder)
        return came

    def clinical(self, collection: str, folder: Path) -> list[str]:
        """Bring the collection's clinical tables to ``folder``: ``TABLE.csv`` and ``TABLE.columns.csv``, which says
        what each column means. ``dicom_patient_id`` is the PatientID of the images.

        Returns:
            the names of the tables; none where the collection has none.

        Raises:
            DataError: the interface does not answer as it is documented, or a table does not come whole.
        """
        listing = self._ask("clinical/tables", {"collection_id": collection})
        names = [str(row.get("table_name")) for row in self._rows("clinical/tables", listing, "tables")]
        for name in names:
            if not _CLINICAL.fullmatch(name):
                raise DataError("this is no name of a clinical table", where=collection, value=name[:60])
            place = f"clinical/tables/{name}"
            about = self._rows(place, self._ask(place, {}), "columns")
            content = self._ask(f"{place}/rows", {"max_rows": str(2 * _PAGE)})
            rows = self._rows(f"{place}/rows", content)
            if isinstance(content, dict) and content.get("truncated"):
                raise DataError("this clinical table does not come whole", where=name, value=f"{len(rows)} rows")
            columns = [str(column.get("name")) for column in about]
            _write_csv(folder / f"{name}.csv", columns, [[row.get(column) for column in columns] for row in rows])
            meaning = [[column.get(key) for key in ("name", "type", "description")] for column in about]
            _write_csv(folder / f"{name}.columns.csv", ["name", "type", "description"], meaning)
        return names

    def _ask(self, endpoint: str, parameters: dict[str, str], body: object = None) -> object:
        reason: Exception
        for attempt in range(_ASK_ATTEMPTS):
            try:
                return self._transport.json(f"{self._base}/{endpoint}", parameters, body)
            except RefusedError as error:
                reason = error
                break
            except TryAgainError as error:
                reason = error
                if attempt + 1 < _ASK_ATTEMPTS:
                    time.sleep(error.wait_s if error.wait_s is not None else backoff_s(attempt))
        raise DataError("the Imaging Data Commons does not answer", where=endpoint, value=reason)

    def _rows(self, endpoint: str, answer: Any, key: str = "rows") -> list[dict[str, Any]]:
        rows = answer.get(key) if isinstance(answer, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(
                "the answer of the Imaging Data Commons cannot be understood", where=endpoint, value=str(answer)[:100]
            )
        return rows

    def _objects(self, located: Located, stopped: threading.Event) -> list[_Object]:
        url, prefix = f"{self._bucket.format(bucket=located.bucket)}/", f"{located.folder}/"
        found: list[_Object] = []
        parameters = {"list-type": "2", "prefix": prefix}
        for _ in range(_LISTING_PAGES):
            objects, following = _listed(self._content(url, parameters, stopped), prefix)
            found += objects
            if following is None:
                break
            parameters["continuation-token"] = following
        expected = located.series.files
        if not found or (expected is not None and len(found) != expected):
            raise RefusedError(f"the bucket lists {len(found)} files, the index {expected}")
        return found

    def _content(self, url: str, parameters: dict[str, str], stopped: threading.Event) -> bytes:
        for attempt in range(_ATTEMPTS - 1):
            try:
                return self._transport.content(url, parameters)
            except TryAgainError as error:
                stopped.wait(error.wait_s if error.wait_s is not None else backoff_s(attempt))
        return self._transport.content(url, parameters)

    def _object(
        self, url: str, target: Path, wanted: _Object, on_bytes: Callable[[int], None], stopped: threading.Event
    ) -> str:
        """One file, whole or not at all. Returns: its SHA-256."""
        for attempt in range(_ATTEMPTS):
            came = 0
            try:
                sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
                with (
                    atomic_path(target) as temporary,
                    self._transport.get(url, stopped=stopped) as (_, chunks),
                    temporary.open("wb") as out,
                ):
                    for chunk in chunks:
                        if stopped.is_set():
                            raise StoppedError
                        out.write(chunk)
                        sha256.update(chunk)
                        md5.update(chunk)
                        came += len(chunk)
                        on_bytes(len(chunk))
                    if came != wanted.bytes:
                        raise TryAgainError(f"{wanted.name} has {came} bytes instead of {wanted.bytes}")
                    if wanted.md5 is not None and md5.hexdigest() != wanted.md5:
                        raise TryAgainError(f"the MD5 of {wanted.name} is {md5.hexdigest()} instead of {wanted.md5}")
                return sha256.hexdigest()
            except TryAgainError as error:
                on_bytes(-came)
                if attempt + 1 == _ATTEMPTS:
                    raise
                stopped.wait(error.wait_s if error.wait_s is not None else backoff_s(attempt))
                if stopped.is_set():
                    raise StoppedError from error
        raise AssertionError("the last attempt returns or raises")


def _located(row: dict[str, Any]) -> Located | None:
    size = row.get("series_size_MB")
    series = Series(
        str(row.get("SeriesInstanceUID")),
        str(row.get("PatientID")),
        str(row.get("StudyInstanceUID")),
        str(row.get("Modality") or ""),
        number(row.get("instanceCount")),
        # idc-index counts a megabyte as a million bytes and rounds: good enough for a bar.
        round(size * 1e6) if isinstance(size, int | float) and 0 < size < 1e9 else None,
        str(row.get("license_short_name") or ""),
    )
    bucket, folder = str(row.get("aws_bucket")), str(row.get("crdc_series_uuid"))
    if not (series.sound and _BUCKET.fullmatch(bucket) and _UUID.fullmatch(folder)):
        return None
    return Located(series, bucket, folder, derived=bool(row.get("analysis_result_id")))


def _listed(content: bytes, prefix: str) -> tuple[list[_Object], str | None]:
    """The objects of a page of a bucket's listing, and the token of the next page.

    A listing has no document type, so one that has is refused: what XML can do harm with begins there.
    """
    if len(content) > _LISTING_BYTES or b"<!" in content:
        raise RefusedError(f"the bucket's listing cannot be trusted ({len(content)} bytes)")
    try:
        page = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise RefusedError(f"the bucket's listing cannot be read: {error}") from error
    if page.tag.rpartition("}")[2] != "ListBucketResult":
        raise RefusedError(f"the bucket answers with {page.tag.rpartition('}')[2][:40]} instead of a listing")
    found = []
    for entry in page.iterfind("{*}Contents"):
        key, size = entry.findtext("{*}Key") or "", number(entry.findtext("{*}Size"))
        tag = (entry.findtext("{*}ETag") or "").strip('"')
        name = key.removeprefix(prefix)
        if name == key or not _FILE.fullmatch(name) or size is None:
            raise RefusedError(f"the bucket lists something that is no file of the series ({key[:80]!r})")
        found.append(_Object(name, size, tag if _MD5.fullmatch(tag) else None))
    more = (page.findtext("{*}IsTruncated") or "").strip() == "true"
    return found, page.findtext("{*}NextContinuationToken") if more else None


def _kept(path: Path, wanted: _Object) -> str | None:
    """The SHA-256 of a file that came before, where it is the one that is wanted."""
    if not path.is_file() or path.stat().st_size != wanted.bytes:
        return None
    content = path.read_bytes()
    if wanted.md5 is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() != wanted.md5:
        return None
    return hashlib.sha256(content).hexdigest()


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with closing(io.StringIO()) as out:
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(header)
        lines.writerows(rows)
        write_text(path, out.getvalue())
