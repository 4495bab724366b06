"""Nothing half-written: temporary name beside the target, flush, rename. And content keys."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from segue.core.errors import DataError, MachineError
from segue.core.leftovers import is_part, part_beside

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def atomic_path(target: Path | str, *, lasting: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``target`` that becomes ``target`` when the block ends well.

    The temporary name keeps the target's suffixes (writers look at them) and is removed if the block fails.

    Args:
        lasting: wait until the disk has it. Without, a power cut (not a kill) may leave a torn file.

    Raises:
        MachineError: the disk is full, or the folder may not be written.
    """
    target = Path(target)
    temporary = part_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
        temporary.replace(target)
    except OSError as error:
        raise storage_fault(error, target) from error
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk it never was, and may not even be looked for
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what :func:`atomic_path` had not renamed when a process was killed.

    Only where no other process writes below ``folder``.
    """
    for path in folder.rglob(".*.part.*"):
        if is_part(path.name):
            path.unlink(missing_ok=True)


def link(path: Path, target: Path) -> bool:
    """Make ``target`` the same file as ``path``: a hard link, or a symbolic one (then True) on another file system.

    Raises:
        MachineError: the disk is full, or the folder may not be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(path.resolve())
        except OSError:
            target.symlink_to(path.resolve())
            return True
    except OSError as error:
        raise storage_fault(error, target) from error
    return False


def storage_fault(error: OSError, target: Path | str) -> OSError | MachineError:
    """The readable form of a full or forbidden disk; any other error comes back as it is."""
    # numpy's way of writing arrays does not say why it wrote less than it was asked for.
    if error.errno in _DISK_FULL or (error.errno is None and "requested and" in str(error)):
        return MachineError(
            "the disk is full; what was complete before is kept",
            where=target,
            value=free_space(Path(target)),
            remedy="free some space or choose another folder, then run the same command again: it continues",
        )
    if error.errno == errno.EFBIG:
        return MachineError(
            "the file may not be as large on this disk",
            where=target,
            value=error.strerror,
            remedy="choose a folder on another disk, or have the limit on the size of files raised (ulimit -f)",
        )
    if error.errno in _NOT_ALLOWED:
        return MachineError(
            "this place may not be written",
            where=target,
            value=error.strerror,
            remedy="choose a folder you may write to, or change its permissions",
        )
    return error


def free_space(path: Path) -> str:
    """``"1.2 GB free"`` for the file system that holds ``path`` (or its nearest existing parent)."""
    for folder in [path, *path.parents]:
        if folder.exists():
            stat = os.statvfs(folder)
            return f"{stat.f_bavail * stat.f_frsize / 1e9:.1f} GB free"
    return "free space unknown"


def write_text(target: Path | str, text: str, *, lasting: bool = True) -> None:
    """Write text as UTF-8, whole or not at all (``lasting``: see :func:`atomic_path`)."""
    with atomic_path(target, lasting=lasting) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path | str, value: Any) -> None:
    """Write strict JSON (no NaN: a missing number is null), whole or not at all."""
    write_text(target, json.dumps(jsonable(value), indent=1, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """As :func:`json.loads`; what is nested too deeply is a ValueError like everything else that is not JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def jsonable(value: Any) -> Any:
    """Plain JSON types from paths, tuples, numpy numbers and pydantic models; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return jsonable(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def content_key(*parts: Any) -> str:
    """A short name made of the parts' content: 20 hex digits of SHA-256 over their canonical JSON."""
    text = json.dumps(jsonable(list(parts)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def file_digest(path: Path, on_bytes: Callable[[int], None] = lambda number: None) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
            on_bytes(len(block))
    return digest.hexdigest()


@contextlib.contextmanager
def unchanged(paths: Iterable[Path], where: object = None) -> Iterator[None]:
    """What is read within is of one state of the files, or it is an error.

    Raises:
        DataError: a file changed meanwhile, as while it is still being copied.
    """
    before = {path: _state(path) for path in paths}
    try:
        yield
    except (DataError, OSError, ValueError):
        _require_state(before, where)  # of a file that changes, the rest is most often the consequence
        raise
    _require_state(before, where)


def _require_state(before: Mapping[Path, tuple[int, int, int] | None], where: object) -> None:
    for path, state in before.items():
        if state is not None and _state(path) != state:
            raise DataError(
                "this file changed while it was read",
                where=path if where is None else f"{where}: {path}",
                remedy="wait until it is complete, then run the same command again",
            )


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def known_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read once by a process while size and time of the file stay.

    Raises:
        OSError: it is missing or cannot be read.
    """
    stat = path.stat()
    return _digest_of(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1 << 16)
def _digest_of(path: Path, size: int, time_ns: int, inode: int) -> str:
    return file_digest(path)
