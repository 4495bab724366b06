"""Requests over HTTP: who we are, how often a host may be asked, and what an answer means.

httpx carries the bytes (proxies come from the environment); this file says when to wait, when to try again, and when
an address will never give the file.
"""

from __future__ import annotations

import contextlib
import email.utils
import itertools
import random
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import httpx

from segue.core.errors import MachineError

# Requests per minute that a host allows to a guest, where it says so; others are asked at most twenty times a second.
# Amazon S3 gives 5,500 a second and prefix (its user guide, "Optimizing performance"): a fiftieth of that is asked for.
_PER_MINUTE = {"zenodo.org": 60, "s3.amazonaws.com": 6600}
_USUAL_PER_MINUTE = 1200
_SILENCE_S = 60.0
_VERSION: str = sys.modules["segue"].__version__  # to import it by name would be to import the layers above
_AGENT = f"segue/{_VERSION} (medical image segmentation; dataset download)"
_TEXT_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head", b"{", b"[")
CHUNK = 1 << 20
_ENOUGH_TO_SEE = 512


class RefusedError(Exception):
    """This address will not give the file; another one may."""


class TryAgainError(Exception):
    """The same request may work later: after ``wait_s`` seconds, where the server said so."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Answer:
    """The beginning of an answer.

    Attributes:
        start: offset in the file of the first byte that follows.
        total: bytes of the whole file, where the server says so.
        validator: a strong ETag or a date, by which a later request knows that the file is still the same.
        partial: the server gives parts of files.
    """

    start: int
    total: int | None
    validator: str | None
    partial: bool


@runtime_checkable
class Giver(Protocol):
    """What gives the bytes of a file in parts: :class:`Transport`, and whatever else keeps to its rules."""

    def get(
        self,
        url: str,
        start: int = 0,
        stop: int | None = None,
        *,
        validator: str | None = None,
        stopped: threading.Event | None = None,
    ) -> contextlib.AbstractContextManager[tuple[Answer, Iterator[bytes]]]:
        """See :meth:`Transport.get`."""


class Transport:
    """An HTTP client that keeps to each host's budget. Safe to use from several threads."""

    def __init__(self) -> None:
        try:
            self._client = httpx.Client(
                timeout=httpx.Timeout(_SILENCE_S, connect=20.0, pool=None),
                follow_redirects=True,
                headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"},
            )
        except (ValueError, ImportError, httpx.InvalidURL) as error:
            raise MachineError(
                "the proxy in the environment cannot be used",
                where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY",
                value=error,
                remedy="write it as http://HOST:PORT, or unset it",
            ) from error
        self._next_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        start: int = 0,
        stop: int | None = None,
        *,
        validator: str | None = None,
        stopped: threading.Event | None = None,
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Ask for the bytes from ``start`` up to ``stop`` and yield the answer and its chunks.

        With ``validator`` a file that has changed comes from its beginning (``Answer.start`` is 0 then).

        Raises:
            RefusedError: not found, not allowed, or a page where a file should be.
            TryAgainError: the server is busy, or the connection broke.
        """
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if validator:
                headers["If-Range"] = validator
        self._wait_turn(urlsplit(url).hostname or "", stopped)
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                answer = _understood(response, start)
                _refuse_compression(response)
                chunks = response.iter_raw()
                beginning = _beginning_of(chunks)
                if answer.start == 0:
                    _refuse_pages(response, beginning)
                yield answer, itertools.chain([beginning] if beginning else [], chunks)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise RefusedError(f"{type(error).__name__}: {error}") from error
        except httpx.ConnectError as error:
            raise TryAgainError(f"the host cannot be reached ({error})") from error
        except httpx.ReadTimeout as error:
            raise TryAgainError(f"nothing came for {_SILENCE_S:.0f} s") from error
        except httpx.HTTPError as error:
            raise TryAgainError(f"{type(error).__name__}: {error}".rstrip(": ")) from error

    def json(self, url: str, parameters: dict[str, str], body: object = None) -> object:
        """What an interface answers as JSON; a ``body`` is posted to it as JSON.

        Raises:
            RefusedError, TryAgainError: as :meth:`get`; RefusedError too where the answer is not JSON.
        """
        response = self._answer("GET" if body is None else "POST", url, parameters, body)
        try:
            return response.json() if response.content.strip() else []
        except ValueError as error:
            raise RefusedError(f"no JSON came back, but {response.text[:60]!r}") from error

    def content(self, url: str, parameters: dict[str, str]) -> bytes:
        """A short answer as it is, such as a listing in XML.

        Raises:
            RefusedError, TryAgainError: as :meth:`get`.
        """
        return self._answer("GET", url, parameters, None).content

    def _answer(self, method: str, url: str, parameters: dict[str, str], body: object) -> httpx.Response:
        self._wait_turn(urlsplit(url).hostname or "", None)
        try:
            response = self._client.request(method, url, params=parameters, json=body)
        except httpx.UnsupportedProtocol as error:
            raise RefusedError(str(error)) from error
        except httpx.HTTPError as error:
            raise TryAgainError(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        _refuse_errors(response, _excerpt(response.content))
        return response

    def _wait_turn(self, host: str, stopped: threading.Event | None) -> None:
        known = next((count for name, count in _PER_MINUTE.items() if host == name or host.endswith(f".{name}")), None)
        interval = 60.0 / (known or _USUAL_PER_MINUTE)
        with self._lock:
            turn = max(time.monotonic(), self._next_s.get(host, 0.0))
            self._next_s[host] = turn + interval
        wait = turn - time.monotonic()
        if wait > 0:
            stopped.wait(wait) if stopped is not None else time.sleep(wait)


def _understood(response: httpx.Response, start: int) -> Answer:
    _refuse_errors(response)
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdecimal() else None
    tag = response.headers.get("ETag")
    # A weak tag promises the same meaning, not the same bytes.
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        span, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        if not first.isdecimal() or int(first) != start:
            raise RefusedError(f"the server answers with another part than asked for ({span or 'unstated'})")
        if not whole.isdecimal():
            raise RefusedError("the server gives parts of the file, but not its length")
        return Answer(start, int(whole), validator, True)
    partial = response.headers.get("Accept-Ranges", "").lower() == "bytes"
    return Answer(0, total, validator, partial)


def _refuse_compression(response: httpx.Response) -> None:
    """Bytes that are not the file's: nobody asked for them. Of a .gz many servers say so that it is what it is."""
    encoding = response.headers.get("Content-Encoding", "").lower()
    ours = encoding in ("gzip", "x-gzip") and response.url.path.lower().endswith((".gz", ".tgz"))
    if encoding in ("gzip", "x-gzip", "deflate", "compress", "br", "zstd") and not ours:
        raise RefusedError(f"the server sends the file compressed ({encoding}), which nobody asked for")


def _refuse_errors(response: httpx.Response, said: str = "") -> None:
    code = response.status_code
    reason = f"{code} {response.reason_phrase}" + (f": {said}" if said else "")
    if code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
        raise TryAgainError(f"the server is busy ({code})", _retry_after(response.headers.get("Retry-After")))
    if code >= 500 or code == httpx.codes.REQUEST_TIMEOUT:
        raise TryAgainError(f"the server has a fault ({reason})")
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise RefusedError(
            f"access is not allowed ({code}): a login or an agreement is needed, or the link has expired"
        )
    if code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise RefusedError("the file is shorter there than what is here already (416)")
    if code >= 400:
        raise RefusedError(f"it is not there ({reason})")


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - time.time())


def _beginning_of(chunks: Iterator[bytes]) -> bytes:
    beginning = b""
    while len(beginning) < _ENOUGH_TO_SEE and (chunk := next(chunks, b"")):
        beginning += chunk
    return beginning


def _refuse_pages(response: httpx.Response, beginning: bytes) -> None:
    """A page or a message at the beginning, where a file should be, before anything of an earlier try is given up."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    start = beginning[:_ENOUGH_TO_SEE].lstrip().lower()
    if kind in ("text/html", "application/xhtml+xml") or start.startswith(_TEXT_STARTS):
        what = "a web page (often a login or a consent page)" if b"<" in start[:1] else "a message"
        raise RefusedError(f"{what} came instead of the file: {_excerpt(beginning)}")


def _excerpt(content: bytes) -> str:
    return " ".join(content[:300].decode("utf-8", "replace").split())[:100]


def backoff_s(attempt: int) -> float:
    """Seconds to wait before trying again: 1, 2, 4 ... 60, shaken so that many clients do not come back at once."""
    return min(60.0, 2.0**attempt) * random.uniform(0.75, 1.25)
