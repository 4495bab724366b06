"""One process at a time on one folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from segue.core.console import say
from segue.core.files import storage_fault


@contextlib.contextmanager
def alone(root: Path, *, told: bool = True) -> Iterator[None]:
    """Two of us at the same folder (or file) take turns: the second one finds the work done.

    Args:
        told: say so where one has to wait.
    """
    lock = root.with_name(f".{root.name}.lock")
    new_folders = [folder for folder in lock.parents if not folder.exists()]
    handle = None
    while handle is None:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            handle = lock.open("w")
        except OSError as error:
            if root.is_dir():  # a read-only disk: nothing can be brought, what is there can be opened
                yield
                return
            raise storage_fault(error, root) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if told:
                say(f"another segue is at work on {root}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        if not _is_still(lock, handle.fileno()):
            handle.close()  # whoever had it has removed it: this one locks nobody out
            handle = None
    with handle:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what came to nothing leaves no empty folders
                for folder in new_folders:
                    folder.rmdir()


def _is_still(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
