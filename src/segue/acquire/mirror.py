"""Data at an address, brought to this disk file by file: ``s3://clinic/study`` to ``DATA/remote/s3/clinic/study``.

What came stays there. The next command fetches what is new or has changed, and removes what is there no more.
"""

from __future__ import annotations

import collections
import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from segue.acquire.archives import is_junk, require_space
from segue.acquire.download import Wanted, download
from segue.acquire.exchange import NotDownloadedError
from segue.acquire.fetch import with_rate
from segue.acquire.stores import Remote, Store, nothing_there, opened_store, unreachable
from segue.acquire.threads import ended, spawned
from segue.core.addresses import Address, safe_path
from segue.core.alone import alone
from segue.core.console import byte_count, say, stage
from segue.core.errors import DataError
from segue.core.files import atomic_path, parse_json

# A small file costs a store as much time as some hundred kilobytes: several come at a time.
_AT_ONCE = 8


def bring(where: Address, data: Path) -> Path:
    """The file or folder of an address, complete and in one state, below ``data``.

    Interrupted at any moment, the next call goes on: whole files are kept, of large ones their parts. A file that
    was changed here since it came is never overwritten.

    Raises:
        UsageError: there is no such bucket, or nothing lies there.
        DataError: a name that would leave the folder, or something changed meanwhile.
        MachineError: an extra is missing, access is not allowed, it cannot be reached, or the disk is full.
    """
    shelf = where.shelf(data)
    with opened_store(where) as store, alone(shelf):
        listed = store.listed()
        targets = _targets(where, listed)
        if not targets:
            raise nothing_there(where)
        with _Record.of(shelf) as record:
            _remove_vanished(where, shelf, targets, record)
            missing, edited = _sorted_out(shelf, targets, listed, record)
            if edited:
                say(
                    f"{where}: changed here since it came, and left so: {edited[0]}"
                    + (f" and {len(edited) - 1} more" if len(edited) > 1 else "")
                )
            if missing:
                require_space(where.place(data), sum(listed[key].bytes for key in targets.values()))
                _fetch(where, store, shelf, missing, record)
                if not where.web:  # there each part is asked of the same state
                    _require_same(where, listed, store.listed(), missing, record)
            else:
                say(f"{where}: {_files(len(targets))}, here already")
    return where.place(data)


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _targets(where: Address, listed: Mapping[str, Remote]) -> dict[PurePosixPath, str]:
    """The key of each file by its path below the shelf.

    Raises:
        DataError: a name that would leave the folder, or a file where another one needs a folder.
    """
    targets: dict[PurePosixPath, str] = {}
    for key in sorted(listed):
        try:
            path = where.within if where.web else safe_path(key)
        except ValueError:
            raise DataError(
                "a name there can be none here: it leaves its folder, or is no file's; nothing was brought",
                where=where,
                value=repr(key[:200]),
                remedy="rename it there, or give the address of a folder beside it",
            ) from None
        if not any(is_junk(part) for part in path.parts):
            targets[path] = key
    for path in targets:
        if file := next((parent for parent in path.parents if parent in targets), None):
            raise DataError(
                "a file and a folder there have the same name; on a disk they cannot",
                where=where,
                value=f"{file} and {path}",
                remedy="rename one of them there",
            )
    return targets


@dataclass(frozen=True)
class _Came:
    """What came: the state of the object, and of the file here."""

    name: str
    bytes: int
    validator: str | None
    time_ns: int


class _Record:
    """What came into a shelf, a line for each file; written as they come, so that a kill loses none."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._stale = path, threading.Lock(), False
        self.came: dict[str, _Came] = {}
        with contextlib.suppress(OSError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last line may be torn
                    came = _Came(**parse_json(line))
                    self.came[came.name] = came
        self._out: Any = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, shelf: Path) -> Iterator[_Record]:
        record = cls(shelf.with_name(f".{shelf.name}.came"))
        try:
            yield record
        finally:
            record._close()

    def add(self, name: str, remote: Remote, path: Path) -> None:
        came = _Came(name, remote.bytes, remote.validator, path.stat().st_mtime_ns)
        with self._lock:
            self.came[name] = came
            if self._out is None:
                self._out = self._path.open("a", encoding="utf-8")
                self._out.write("\n")  # after a line that a kill has torn
            self._out.write(json.dumps(asdict(came)) + "\n")
            self._out.flush()

    def is_as_it_came(self, name: str, path: Path) -> bool:
        came = self.came.get(name)
        try:
            return came is not None and path.stat().st_mtime_ns == came.time_ns
        except OSError:
            return False

    def forget(self, name: str) -> None:
        self._stale |= self.came.pop(name, None) is not None

    def _close(self) -> None:
        """Once more, without the lines that hold no longer."""
        if self._out is not None:
            self._out.close()
        elif not self._stale:
            return
        if self.came:
            with atomic_path(self._path) as temporary:
                temporary.write_text("".join(json.dumps(asdict(each)) + "\n" for each in self.came.values()))
        else:
            self._path.unlink(missing_ok=True)


def _remove_vanished(where: Address, shelf: Path, targets: Mapping[PurePosixPath, str], record: _Record) -> None:
    """What came from this address and lies there no more; what somebody put here or changed stays."""
    for name in list(record.came):
        path = PurePosixPath(name)
        if path in targets or not path.is_relative_to(where.within):
            continue
        if record.is_as_it_came(name, shelf / path):
            (shelf / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # folders that are empty now
                for parent in (shelf / path).parents:
                    parent.rmdir()
        record.forget(name)


def _sorted_out(
    shelf: Path, targets: Mapping[PurePosixPath, str], listed: Mapping[str, Remote], record: _Record
) -> tuple[dict[PurePosixPath, tuple[str, Remote]], list[PurePosixPath]]:
    """The files that are to come, and those that were changed here since they came."""
    missing, edited = {}, []
    for path, key in targets.items():
        came, remote = record.came.get(str(path)), listed[key]
        same = (
            came is not None
            and came.validator is not None
            and (came.bytes, came.validator)
            == (
                remote.bytes,
                remote.validator,
            )
        )
        if came is not None and (shelf / path).exists() and not record.is_as_it_came(str(path), shelf / path):
            edited.append(path)
        elif not same or not (shelf / path).exists():
            missing[path] = (key, remote)
    return missing, edited


def _fetch(
    where: Address,
    store: Store,
    shelf: Path,
    missing: Mapping[PurePosixPath, tuple[str, Remote]],
    record: _Record,
) -> None:
    total = sum(remote.bytes for _, remote in missing.values())
    waiting = collections.deque(missing.items())
    stopped, lock = threading.Event(), threading.Lock()
    with stage("bring", total) as shown:
        told = with_rate(shown, str(where))

        def on_bytes(number: int) -> None:
            with lock:
                told(number)

        def work() -> None:
            while not stopped.is_set():
                with lock:
                    if not waiting:
                        return
                    path, (key, remote) = waiting.popleft()
                wanted = Wanted([key], None if where.web else remote.bytes)
                download(store, wanted, shelf / path, on_bytes, stopped=stopped)
                record.add(str(path), remote, shelf / path)

        jobs = [spawned(work) for _ in range(min(_AT_ONCE, len(waiting)))]
        try:
            errors = ended(jobs)
        finally:
            stopped.set()
        wait(jobs)
        if errors:
            raise _explained(where, errors[0])
        shown.note(f"{where}, {_files(len(missing))}, {byte_count(total)}")


def _explained(where: Address, error: BaseException) -> BaseException:
    if not isinstance(error, NotDownloadedError):
        return error
    why = (error.value or "").replace(f"{where.key}: ", "")
    if "changed" in why or "not there any more" in why:
        return _changed(where, str(error.where))
    return unreachable(where, f"{error.where}: {why}")


def _require_same(
    where: Address,
    before: Mapping[str, Remote],
    after: Mapping[str, Remote],
    missing: Mapping[PurePosixPath, tuple[str, Remote]],
    record: _Record,
) -> None:
    """What came is of the state that was listed: not every store sees to it part by part."""
    changed = [path for path, (key, _) in missing.items() if after.get(key) != before[key]]
    for path in changed:
        record.forget(str(path))
    if changed:
        raise _changed(where, str(changed[0]))


def _changed(where: Address, name: str) -> DataError:
    return DataError(
        "this changed while it was brought",
        where=where,
        value=name,
        remedy="wait until it is complete there, then run the same command again: what stayed the same is kept",
    )
