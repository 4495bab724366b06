"""One file from the network to the disk: in parallel parts, resumable to the byte, hashed as it arrives."""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from segue.acquire.exchange import NotDownloadedError
from segue.acquire.threads import StoppedError, ended, spawned
from segue.acquire.transport import CHUNK, Answer, Giver, RefusedError, TryAgainError, backoff_s
from segue.core.console import byte_count, duration, say
from segue.core.errors import DataError, MachineError
from segue.core.files import parse_json, storage_fault

CONNECTIONS = 4
_PIECE = 32 << 20
# An address that has given something is worth waiting for; one that never answered has mirrors.
_ATTEMPTS, _FIRST_ATTEMPTS = 6, 3

# Who asks to come back later than this is passed over for a mirror.
_LONGEST_WAIT_S = 600.0
_WORTH_TELLING_S = 10.0

Follower = Callable[[BufferedIOBase], None]


@dataclass(frozen=True)
class Wanted:
    """A file to download: its addresses in order of preference, and what is known of it."""

    urls: Sequence[str]
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None

    @property
    def checked(self) -> bool:
        return self.md5 is not None or self.sha256 is not None


@dataclass(frozen=True)
class Received:
    """What came: from where, how much of it over the network this time, and its SHA-256."""

    path: Path
    url: str
    bytes: int
    fetched: int
    sha256: str
    validator: str | None


def download(
    transport: Giver,
    wanted: Wanted,
    target: Path,
    on_bytes: Callable[[int], None] = lambda number: None,
    follow: Follower | None = None,
    on_total: Callable[[int], None] = lambda number: None,
    stopped: threading.Event | None = None,
) -> Received:
    """Bring a file to ``target``, whole and checked, or leave what came beside it for the next time.

    ``follow`` reads the file in order while it arrives (an unpacker); it is called again from the beginning when the
    download has to begin again. ``stopped`` is set by another thread to end it early.

    Raises:
        StoppedError: it was ended.
        DataError: no address gives the file, or what comes has another checksum than it should.
        MachineError: the disk is full, too small or may not be written.
    """
    reasons = []
    for url in wanted.urls:
        try:
            with _Arrival(transport, wanted, url, target, on_bytes, on_total) as arrival:
                return arrival.run(follow, stopped)
        except (RefusedError, TryAgainError, _WrongContentError) as error:
            reasons.append(f"{url}: {error}")
            if url != wanted.urls[-1]:
                say(f"{url}: {error}; trying the next address")
        except OSError as error:
            raise storage_fault(error, target) from error
    raise NotDownloadedError(
        "this file could not be downloaded; what came is kept and goes on next time",
        where=target.name,
        value="; ".join(reasons),
        remedy="run the same command again later, or download it by hand and give it with --from",
    )


class _WrongContentError(Exception):
    pass


class _Arrival:
    """One attempt at one address: workers that fetch pieces, and followers that read what has come so far in order.

    The part file and its journal outlive it. A line of the journal is written after the bytes that it vouches for.
    """

    def __init__(
        self,
        transport: Giver,
        wanted: Wanted,
        url: str,
        target: Path,
        on_bytes: Callable[[int], None],
        on_total: Callable[[int], None],
    ) -> None:
        self._transport, self._wanted, self._url, self._target = transport, wanted, url, target
        self._on_bytes, self._on_total = on_bytes, on_total
        self._part = target.with_name(f".{target.name}.part")
        self._journal_path = target.with_name(f".{target.name}.part.journal")
        self._stopped = threading.Event()
        self._changed = threading.Condition(threading.RLock())
        self._pieces: collections.deque[tuple[int, int | None]] = collections.deque()
        self._have: list[tuple[int, int]] = []
        self._known = False  # the server has answered: total and validator hold
        self._ended = False  # a file of unknown length has come to its end
        self._total: int | None = None
        self._validator: str | None = None
        self._fetched = 0
        self._shown = 0  # the next address begins to count anew
        self._left_alone = False  # threads that wait for a silent server have the files still
        self._told: set[str] = set()

    def __enter__(self) -> _Arrival:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._read_journal()
        self._file = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o644)
        self._journal = self._journal_path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._stop()
        if kind is not None:
            self._on_bytes(-self._shown)
        if not self._left_alone:
            self._journal.close()
            os.close(self._file)

    def run(self, follow: Follower | None, stopped: threading.Event | None = None) -> Received:
        hashes = {"sha256": hashlib.sha256()}
        if self._wanted.md5:
            hashes["md5"] = hashlib.md5(usedforsecurity=False)

        def hashed(stream: BufferedIOBase) -> None:
            while block := stream.read(CHUNK):
                for each in hashes.values():
                    each.update(block)

        faults: list[DataError] = []

        def followed(stream: BufferedIOBase) -> None:
            assert follow is not None, "only submitted where there is one"
            try:
                follow(stream)
            except DataError as error:
                if not self._wanted.checked:
                    raise
                faults.append(error)  # the checksum says whether the file is bad or only this copy of it

        followers = [hashed, *([followed] if follow else [])]
        missing = _gaps(self._have, 0, self._total) if self._total is not None else [(0, _PIECE)]
        if missing:
            start, stop = missing[0]
            self._pieces.append((start, min(start + _PIECE, stop)))
        else:
            self._known = True  # all is here, and the process ended before it could say so
        jobs = [spawned(self._work) for _ in range(CONNECTIONS)]
        jobs += [spawned(functools.partial(each, io.BufferedReader(_InOrder(self), CHUNK))) for each in followers]
        try:
            errors = ended(jobs, stopped)
        except BaseException:
            self._left_alone = True
            raise
        finally:
            self._stop()
        wait(jobs)
        if errors:
            raise next((error for error in errors if not isinstance(error, StoppedError)), errors[0])
        received = self._finished({name: each.hexdigest() for name, each in hashes.items()})
        if faults:
            raise faults[0]
        return received

    def _stop(self) -> None:
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()

    def _finished(self, found: dict[str, str]) -> Received:
        expected = {"sha256": self._wanted.sha256, "md5": self._wanted.md5}
        size = self._prefix()
        for name, value in expected.items():
            if value is not None and found[name] != value:
                aside = self._target.with_name(f"{self._target.name}.wrong-{found[name][:8]}")
                self._part.replace(aside)
                self._journal_path.unlink(missing_ok=True)
                raise _WrongContentError(f"{name} is {found[name]} instead of {value} ({size} bytes, kept as {aside})")
        os.fsync(self._file)
        self._part.replace(self._target)
        self._journal_path.unlink(missing_ok=True)
        return Received(self._target, self._url, size, self._fetched, found["sha256"], self._validator)

    # What is here already

    def _read_journal(self) -> None:
        """Trust a journal only together with its part file, and another address's only where a checksum decides.

        What is not trusted is thrown away when another file begins to come, not before.
        """
        try:
            lines = self._journal_path.read_text(encoding="utf-8").splitlines()
            head = parse_json(lines[0])
            size = self._part.stat().st_size
            if head["url"] != self._url and not self._wanted.checked:
                return
            have: list[tuple[int, int]] = []
            for line in lines[1:]:
                with contextlib.suppress(ValueError, TypeError):  # the last line may be torn
                    start, stop = parse_json(line)
                    have = _merged(have, start, min(stop, size))
            total, validator = head["total"], head["validator"]
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return
        self._have, self._total = have, total
        self._validator = validator if head["url"] == self._url else None

    def _prefix(self) -> int:
        return self._have[0][1] if self._have and self._have[0][0] == 0 else 0

    @property
    def _complete(self) -> bool:
        return self._known and (self._ended or (self._total is not None and self._prefix() == self._total))

    # What comes

    def _work(self) -> None:
        while (piece := self._next_piece()) is not None:
            self._fetch(*piece)

    def _next_piece(self) -> tuple[int, int | None] | None:
        with self._changed:
            while not (self._stopped.is_set() or self._complete):
                if self._pieces:
                    return self._pieces.popleft()
                self._changed.wait()
        return None

    def _fetch(self, start: int, stop: int | None) -> None:
        failures, heard = 0, time.monotonic()
        while not self._stopped.is_set():
            try:
                with self._transport.get(self._url, start, stop, validator=self._validator, stopped=self._stopped) as (
                    answer,
                    chunks,
                ):
                    start, stop = self._accepted(answer, start, stop)
                    position = answer.start
                    for chunk in chunks:
                        if self._stopped.is_set():
                            return
                        # A server may send what is here already, or more than it was asked for.
                        fresh = chunk[max(0, start - position) : None if stop is None else max(0, stop - position)]
                        position += len(chunk)
                        if fresh:
                            self._write(fresh, start)
                            start += len(fresh)
                            failures, heard = 0, time.monotonic()
                        if stop is not None and position > stop:
                            break
                if stop is None:
                    with self._changed:
                        self._ended = True
                        self._changed.notify_all()
                    return
                if start >= stop:
                    return
                raise TryAgainError(f"the connection ended {stop - start} bytes early")
            except TryAgainError as error:
                failures += 1
                if failures > (_ATTEMPTS if self._known else _FIRST_ATTEMPTS):
                    raise
                if isinstance(error, _AnotherFileError):
                    start, stop = 0, _PIECE
                wait_s = error.wait_s if error.wait_s is not None else backoff_s(failures - 1)
                if wait_s > _LONGEST_WAIT_S:
                    raise RefusedError(f"{error}; it may be asked again in {duration(wait_s)}") from error
                if max(wait_s, time.monotonic() - heard) > _WORTH_TELLING_S:
                    self._tell(str(error), wait_s)
                self._stopped.wait(wait_s)

    def _tell(self, reason: str, wait_s: float) -> None:
        """Why nothing moves; once, whichever of the connections meets it."""
        with self._changed:
            known = reason in self._told
            self._told.add(reason)
        if not known:
            say(f"{self._url}: {reason}; again in {duration(wait_s)}")

    def _accepted(self, answer: Answer, start: int, stop: int | None) -> tuple[int, int | None]:
        """Where the answer's bytes belong. The first one says how long the file is and whether parts can be had."""
        with self._changed:
            if self._known:
                # A part need not repeat the validator that it was asked with.
                same_file = answer.total == self._total and answer.validator in (None, self._validator)
                if not same_file or answer.start not in (0, start):
                    raise RefusedError("the file changed while it was being downloaded")
                return start, stop
            same = answer.start == start and answer.total is not None and answer.total == self._total
            # Some servers give a part of whatever lies there now.
            changed = self._validator is not None and answer.validator not in (None, self._validator)
            if not (self._have and same) or changed:
                if answer.start != 0:
                    # Another file than the one begun: its beginning is missing.
                    self._begin(answer)
                    raise _AnotherFileError("another file lies there now", 0.0)
                self._begin(answer)
            self._require_space()
            self._known, self._validator = True, answer.validator or self._validator
            total = self._total
            if total is not None:
                self._on_total(total)
            self._show(sum(end - begin for begin, end in self._have))
            if answer.partial and total is not None:
                stop = min(stop or total, total)
                for begin, end in _gaps(self._have, max(start, stop), total):
                    self._pieces.extend((at, min(at + _PIECE, end)) for at in range(begin, end, _PIECE))
            else:
                stop = total
            self._changed.notify_all()
            return answer.start, stop

    def _begin(self, answer: Answer) -> None:
        """Nothing of what is here counts."""
        if self._wanted.bytes is not None and answer.total not in (None, self._wanted.bytes):
            raise RefusedError(f"the file there has {answer.total} bytes instead of {self._wanted.bytes}")
        self._have, self._total, self._validator = [], answer.total, answer.validator
        os.ftruncate(self._file, 0)
        self._journal.truncate(0)
        self._write_line({"url": self._url, "total": answer.total, "validator": answer.validator})

    def _require_space(self) -> None:
        missing = (self._total or 0) - sum(stop - start for start, stop in self._have)
        free = shutil.disk_usage(self._part.parent).free
        if missing > free:
            raise MachineError(
                "the disk is too small for this file",
                where=self._target,
                value=f"{byte_count(missing)} to come, {byte_count(free)} free",
                remedy="free some space, or choose another folder with -o; what has come is kept",
            )

    def _write(self, content: bytes, start: int) -> None:
        left = memoryview(content)
        while left:  # a disk that is almost full takes a part
            left = left[os.pwrite(self._file, left, start + len(content) - len(left)) :]
        self._arrived(start, start + len(content))

    def _arrived(self, start: int, stop: int) -> None:
        with self._changed:
            self._have = _merged(self._have, start, stop)
            self._fetched += stop - start
            self._write_line([start, stop])
            self._changed.notify_all()
        self._show(stop - start)

    def _show(self, size: int) -> None:
        with self._changed:
            self._shown += size
        self._on_bytes(size)

    def _write_line(self, content: object) -> None:
        self._journal.write(json.dumps(content) + "\n")
        self._journal.flush()

    def read_at(self, position: int, size: int) -> bytes:
        """What lies at ``position``, as soon as everything before it has come; empty at the end of the file."""
        with self._changed:
            while not (self._known and self._prefix() > position) and not self._complete:
                if self._stopped.is_set():
                    raise StoppedError
                self._changed.wait()
            size = min(size, self._prefix() - position)
        return os.pread(self._file, size, position) if size > 0 else b""


class _AnotherFileError(TryAgainError):
    """What is here is the beginning of a file that lies there no more."""


class _InOrder(io.RawIOBase):
    """The arriving file as a stream that waits for what is not there yet."""

    def __init__(self, arrival: _Arrival) -> None:
        self._arrival, self._position = arrival, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._arrival.read_at(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def _merged(spans: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Sorted, disjoint spans with one more."""
    before = [span for span in spans if span[1] < start]
    after = [span for span in spans if span[0] > stop]
    touching = spans[len(before) : len(spans) - len(after)]
    joined = (min([start, *[s for s, _ in touching]]), max([stop, *[e for _, e in touching]]))
    return [*before, joined, *after] if stop > start else spans


def _gaps(spans: list[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """What the spans leave open between ``start`` and ``stop``."""
    gaps = []
    for begin, end in [*spans, (stop, stop)]:
        if begin > start:
            gaps.append((start, min(begin, stop)))
        start = max(start, end)
    return [gap for gap in gaps if gap[1] > gap[0]]
