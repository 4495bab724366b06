"""Where a dataset gathers before it takes its place, and what a kill leaves of that."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segue.core.errors import DataError
from segue.core.files import content_key, storage_fault

BEFORE = "before"  # what lay there, while what has come takes its place


class NotDownloadedError(DataError):
    """No address gives the file now; what has come of it waits for the next time."""


@dataclass(frozen=True)
class Staging:
    """Where a dataset gathers before it appears whole; kept when interrupted, so that the rest goes on.

    Attributes:
        files: what the dataset will be.
        downloads: archives as they come, and what is known of those that are unpacked.
    """

    folder: Path

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def downloads(self) -> Path:
        return self.folder / "downloads"

    @contextlib.contextmanager
    def or_nothing(self) -> Iterator[None]:
        """What turns out to be wrong is not kept; what was only interrupted is."""
        try:
            yield
        except NotDownloadedError:
            raise
        except DataError:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # what gathers for another source lies there too
                self.folder.parent.rmdir()
            raise


def staging_of(root: Path, *purpose: object) -> Staging:
    """A place beside ``root``. What comes for another ``purpose`` (another source, another release) gathers apart."""
    return Staging(arriving(root) / content_key(*purpose)[:8])


def arriving(root: Path) -> Path:
    return root.parent / f".{root.name}.arriving"


def end_exchange(root: Path) -> None:
    """End what a kill between the two renamings of :func:`settle`, or after them, has left half done."""
    for before in arriving(root).glob(f"*/{BEFORE}"):
        if root.is_dir() and any(root.iterdir()):
            shutil.rmtree(before, ignore_errors=True)
            continue
        try:
            before.rename(root)
        except OSError as error:
            raise storage_fault(error, root) from error
