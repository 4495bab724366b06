"""A file server on loopback with the habits of real ones: ranges, ETags, cut connections, busy answers, login pages."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Habits:
    """How the server behaves; tests change it while it runs.

    Attributes:
        ranges: it answers with parts of files.
        cut_after: bytes after which each connection breaks, for the next ``cuts`` answers.
        busy: how many answers are 429, with ``retry_after``.
        rate: bytes per second over all connections, where it is limited.
        page: what comes instead of the file.
        if_range: it looks whether the file is still the one that a part is asked of.
        silent_after: bytes after which nothing more comes, without an end, for the next ``silences`` answers.
        promised: bytes more than it sends that it says it sends.
        headers: sent with every file.
    """

    ranges: bool = True
    length: bool = True
    cut_after: int | None = None
    cuts: int = 0
    busy: int = 0
    retry_after: str | None = "0"
    rate: float | None = None
    page: tuple[str, bytes] | None = None
    status: int | None = None
    if_range: bool = True
    silent_after: int | None = None
    silences: int = 0
    promised: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    due: float = 0.0


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64
    habits: Habits
    folder: Path


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        habits = self.server.habits
        with habits.lock:
            habits.requests.append((self.path, self.headers.get("Range")))
            busy = habits.busy > 0
            habits.busy -= busy
        if busy:
            self.send_response(429)
            if habits.retry_after is not None:
                self.send_header("Retry-After", habits.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if habits.status is not None:
            self.send_error(habits.status)
            return
        if habits.page is not None:
            kind, content = habits.page
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        # A proxy is asked for a whole address; what comes after the host is the file all the same.
        name = re.sub(r"^https?://[^/]+", "", self.path).partition("?")[0]
        path = self.server.folder / name.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        self._send(path, habits)

    def _send(self, path: Path, habits: Habits) -> None:
        size = path.stat().st_size
        tag = '"' + hashlib.md5(f"{path.stat().st_mtime_ns}-{size}".encode()).hexdigest() + '"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start, stop = 0, size
        same = self.headers.get("If-Range", tag) == tag or not habits.if_range
        if wanted and habits.ranges and same:
            start, stop = int(wanted[1]), min(size, int(wanted[2]) + 1 if wanted[2] else size)
            if start >= size:
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        if "ETag" not in habits.headers:
            self.send_header("ETag", tag)
        for header in habits.headers.items():
            self.send_header(*header)
        self.send_header("Content-Type", "application/octet-stream")
        if habits.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if habits.length:
            self.send_header("Content-Length", str(stop - start + habits.promised))
            self.close_connection = habits.promised > 0
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        with habits.lock:
            cut = habits.cut_after if habits.cuts > 0 else None
            habits.cuts -= cut is not None
            silent = habits.silent_after if habits.silences > 0 else None
            habits.silences -= silent is not None
        with path.open("rb") as handle, contextlib.suppress(ConnectionError):
            handle.seek(start)
            left, done = stop - start, 0
            while left > 0:
                block = handle.read(min(left, 256 << 10))
                if cut is not None and done + len(block) > cut:
                    self.wfile.write(block[: max(0, cut - done)])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.close()
                    return
                if silent is not None and done + len(block) > silent:
                    self.wfile.write(block[: max(0, silent - done)])
                    habits.over.wait(60)
                    self.close_connection = True
                    return
                self._slow_down(habits, len(block))
                self.wfile.write(block)
                done += len(block)
                left -= len(block)
                with habits.lock:
                    habits.sent += len(block)

    def _slow_down(self, habits: Habits, size: int) -> None:
        if habits.rate is None:
            return
        with habits.lock:
            now = time.monotonic()
            habits.due = max(habits.due, now) + size / habits.rate
            wait = habits.due - now
        if wait > 0:
            time.sleep(wait)


@contextlib.contextmanager
def serving(folder: Path, habits: Habits | None = None) -> Iterator[tuple[str, Habits]]:
    """Serve ``folder``; gives the address (``http://127.0.0.1:PORT``) and the habits."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.habits, server.folder = habits or Habits(), folder
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.habits
    finally:
        server.habits.over.set()
        server.shutdown()
        server.server_close()
