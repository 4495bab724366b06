"""The Cancer Imaging Archive and the Imaging Data Commons on loopback, with answers of the true form.

NBIA as its source has it (CBIIT/NBIA-TCIA, restAPI/v4): the columns of getSeries, 400 for a parameter that it does not
know, 500 with "No data found." for nothing, zips that are made while they are sent (no length, no ranges) with
md5hashes.csv at their end. IDC as its source has it (ImagingDataCommons/IDC-REST-MCP), the bucket as Amazon S3 answers.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import re
import socketserver
import threading
import time
import urllib.parse
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

ALLOWED = {
    "getSeries": {"Collection", "format", "PatientID", "StudyInstanceUID", "Modality", "SeriesInstanceUID"},
    "getImageWithMD5Hash": {"SeriesInstanceUID"},
}


@dataclass
class Held:
    """A series as an archive holds it: its row and its files; tests spoil either."""

    row: dict[str, Any]
    files: dict[str, bytes]
    folder: str
    bucket: str = "idc-open-data"
    analysis: str | None = None
    zipped: bytes | None = None  # instead of the true zip


@dataclass
class Archives:
    """What the servers hold and how they behave.

    Attributes:
        faults: by a part of the address: answers (status, headers, body) that come first, in order.
        idc: whether IDC has the series, too.
        page: objects per page of the bucket's listing.
        rate: bytes per second of the zips.
    """

    series: list[Held] = field(default_factory=list)
    faults: dict[str, list[tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    clinical: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    idc: bool = False
    nbia: bool = True
    page: int = 1000
    rate: float | None = None
    spoiled: dict[str, bytes] = field(default_factory=dict)  # objects of the bucket that differ, by their name
    several_parts: bool = False  # ETags are no MD5
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: int = 0

    def add(self, patient: str, study: int, number: int, modality: str = "CT", files: int = 3, **row: Any) -> Held:
        uid = f"1.3.6.1.4.1.14519.5.2.1.{study}.{number}"
        names = {f"{n:08d}.dcm": b"\0" * 128 + b"DICM" + f"{uid} {n} ".encode() * 400 for n in range(1, files + 1)}
        told = {
            "SeriesInstanceUID": uid,
            "StudyInstanceUID": f"1.3.6.1.4.1.14519.5.2.1.{study}",
            "Modality": modality,
            "SeriesDate": "1960-01-15 00:00:00.0",
            "SeriesDescription": "WB",
            "BodyPartExamined": "CHEST",
            "SeriesNumber": "2",
            "Collection": "ACRIN-NSCLC-FDG-PET",
            "PatientID": patient,
            "ImageCount": files,
            "LicenseName": "Creative Commons Attribution 3.0 Unported License",
            "LicenseURI": "http://creativecommons.org/licenses/by/3.0/",
            "FileSize": sum(map(len, names.values())),
            **row,
        }
        held = Held(told, names, str(uuid.uuid5(uuid.NAMESPACE_OID, uid)))
        self.series.append(held)
        return held

    def asked(self, part: str) -> list[str]:
        return [request for request in self.requests if part in request]


def zip_of(files: dict[str, bytes], hashes: dict[str, str] | None = None, table: bool = True) -> bytes:
    """A zip of getImageWithMD5Hash; ``hashes`` in the place of the true ones."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
        if table:
            sums = hashes or {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
            made.writestr("md5hashes.csv", "Filename,MD5Hash\n" + "".join(f"{n},{m}\n" for n, m in sums.items()))
    return out.getvalue()


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    held: Archives


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        held = self._noted()
        if self._fault() or not self.path.startswith("/idc/sql"):
            return
        wanted = re.search(r"collection_id = '(\w+)' ORDER BY SeriesInstanceUID LIMIT (\d+) OFFSET (\d+)", body["sql"])
        assert wanted and wanted[1] == "acrin_nsclc_fdg_pet", body
        rows = [_index_row(each) for each in held.series] if held.idc else []
        rows = sorted(rows, key=lambda row: row["SeriesInstanceUID"])[int(wanted[3]) :][: int(wanted[2])]
        self._json({"columns": [], "rows": rows, "row_count": len(rows), "truncated": False, "max_rows": 5000})

    def do_GET(self) -> None:
        held = self._noted()
        if self._fault():
            return
        address = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(address.query))
        part = address.path.split("/", 2)[1]
        if part == "nbia":
            self._nbia(held, address.path.rpartition("/")[2], asked)
        elif part == "idc":
            self._clinical(held, address.path, asked)
        else:
            self._bucket(held, address.path, asked)

    def _nbia(self, held: Archives, endpoint: str, asked: dict[str, str]) -> None:
        if not held.nbia:
            self._send(503, b"down", "text/plain")
        elif unknown := asked.keys() - ALLOWED[endpoint]:
            self._send(400, f"Invalid query parameter: '{unknown}'.".encode(), "text/plain")
        elif endpoint == "getSeries":
            keys = asked.keys() - {"format"}
            rows = [each.row for each in held.series if all(each.row.get(key) == asked[key] for key in keys)]
            self._json(rows) if rows else self._send(500, b"No data found.", "text/plain")
        else:
            found = [each for each in held.series if each.row["SeriesInstanceUID"] == asked["SeriesInstanceUID"]]
            content = found[0].zipped or zip_of(found[0].files)
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for start in range(0, len(content), 4096):
                    block = content[start : start + 4096]
                    if held.rate:
                        time.sleep(len(block) / held.rate)
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                    with held.lock:
                        held.sent += len(block)
                self.wfile.write(b"0\r\n\r\n")

    def _clinical(self, held: Archives, path: str, asked: dict[str, str]) -> None:
        parts = path.strip("/").split("/")[3:]
        if not parts:
            assert asked == {"collection_id": "acrin_nsclc_fdg_pet"}
            names = [{"table_name": name, "sql_path": f"clinical.{name}", "column_count": 2} for name in held.clinical]
            self._json({"tables": names})
        elif len(parts) == 1:
            columns = [
                {"name": key, "type": "VARCHAR", "description": f"what {key} is"} for key in held.clinical[parts[0]][0]
            ]
            self._json({"name": f"clinical.{parts[0]}", "description": "", "columns": columns})
        else:
            rows = held.clinical[parts[0]]
            self._json({"columns": [], "rows": rows, "row_count": len(rows), "truncated": False, "max_rows": 10000})

    def _bucket(self, held: Archives, path: str, asked: dict[str, str]) -> None:
        _, _, bucket, key = path.split("/", 3)
        objects = {
            f"{each.folder}/{uuid.uuid5(uuid.NAMESPACE_URL, name)}.dcm": content
            for each in held.series
            if each.bucket == bucket
            for name, content in each.files.items()
        }
        if key:
            name = key.rpartition("/")[2]
            content = held.spoiled.get(name, objects[key])
            self._send(200, content, "application/dicom")
            return
        assert asked.pop("list-type") == "2"
        keys = sorted(each for each in objects if each.startswith(asked["prefix"]))
        start = int(asked.get("continuation-token", "0"))
        ends = start + held.page >= len(keys)
        entries = "".join(
            f"<Contents><Key>{escape(each)}</Key><LastModified>2023-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{hashlib.md5(objects[each]).hexdigest()}{'-2' if held.several_parts else ''}&quot;</ETag>"
            f"<Size>{len(objects[each])}</Size><StorageClass>INTELLIGENT_TIERING</StorageClass></Contents>"
            for each in keys[start : start + held.page]
        )
        more = "" if ends else f"<NextContinuationToken>{start + held.page}</NextContinuationToken>"
        listing = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><IsTruncated>{'false' if ends else 'true'}</IsTruncated>{entries}{more}"
            "</ListBucketResult>"
        )
        self._send(200, listing.encode(), "application/xml")

    def _noted(self) -> Archives:
        held = self.server.held
        with held.lock:
            held.requests.append(self.path)
        return held

    def _fault(self) -> bool:
        held = self.server.held
        with held.lock:
            part = next((part for part, answers in held.faults.items() if part in self.path and answers), None)
            answer = held.faults[part].pop(0) if part else None
        if answer is None:
            return False
        status, headers, body = answer
        self._send(status, body, headers.pop("Content-Type", "text/plain"), headers)
        return True

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _index_row(held: Held) -> dict[str, Any]:
    return {
        "SeriesInstanceUID": held.row["SeriesInstanceUID"],
        "StudyInstanceUID": held.row["StudyInstanceUID"],
        "PatientID": held.row["PatientID"],
        "Modality": held.row["Modality"],
        "instanceCount": len(held.files),
        "series_size_MB": sum(map(len, held.files.values())) / 1e6,
        "aws_bucket": held.bucket,
        "crdc_series_uuid": held.folder,
        "license_short_name": "CC BY 3.0",
        "analysis_result_id": held.analysis,
    }


@contextlib.contextmanager
def serving(held: Archives) -> Iterator[dict[str, str]]:
    """Serve what is held; gives the variables that lead segue there."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.held = held
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield {
            "SEGUE_NBIA": f"{url}/nbia/services/v4/",
            "SEGUE_IDC": f"{url}/idc",
            "SEGUE_IDC_BUCKET": f"{url}/bucket/{{bucket}}",
        }
    finally:
        server.shutdown()
        server.server_close()
