"""Temporary names that tell who made them, so that what a killed process left is known and removed.

A process that is killed removes nothing. Whoever writes into the same folder next does it: a temporary file is
abandoned when its process does not live any more, or, where another machine made it, when nobody wrote to it for a day.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\.(?P<machine>[0-9a-f]{6})-(?P<process>[0-9a-f]+)-[0-9a-f]{6}\.part(\.|$)")
_LONGEST_PAUSE_S = 24 * 3600
_ENDING = 50  # a name may already be as long as the file system allows


def part_beside(target: Path) -> Path:
    """A new temporary name beside ``target``, with its suffixes (writers look at them).

    The first time that a process asks for one in a folder, what others abandoned there is removed.
    """
    _swept(target.parent, os.getpid())
    name = f".{_machine()}-{os.getpid():x}-{secrets.token_hex(3)}.part.{target.name[-_ENDING:]}"
    return target.with_name(name)


@contextlib.contextmanager
def part_folder(target: Path) -> Iterator[Path]:
    """A new temporary folder beside ``target``, which is removed with all that is still in it."""
    folder = part_beside(target)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_part(name: str) -> bool:
    """Whether a file or folder of this name is a temporary one."""
    return _NAME.match(name) is not None


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes to this temporary file or folder any more."""
    match = _NAME.match(path.name)
    if match is None:
        return False
    if match["machine"] == _machine():
        try:
            os.kill(int(match["process"], 16), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):  # it lives, and is somebody else's
            pass
    try:
        return time.time() - path.stat().st_mtime > _LONGEST_PAUSE_S
    except OSError:
        return False


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left in a folder; not in the folders below."""
    try:
        with os.scandir(folder) as entries:
            parts = [Path(entry.path) for entry in entries if is_part(entry.name)]
    except OSError:
        return
    for path in parts:
        if is_abandoned(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


@functools.lru_cache(maxsize=1 << 12)
def _swept(folder: Path, process: int) -> None:
    remove_abandoned(folder)


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """Of the machine, and in a container of the container: where a number of a process means the same process."""
    try:
        space: object = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()}:{space}".encode()).hexdigest()[:6]
