"""``view --png``: pictures of images, of a dataset or of runs, as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from segue.core.console import say
from segue.core.errors import DataError
from segue.view.stills import file_names, write_stills
from segue.workflow.reading_room import open_room


def write_pictures(what: Sequence[str], folder: Path, data: Path, on_path: Callable[[str], None]) -> bool:
    """Write the pictures of every case of what was named; ``on_path`` is told each.

    Returns:
        Whether all could be drawn: one that cannot be is told, and the others go on.

    Raises:
        UsageError: nothing of this name. DataError: nothing to see in it. MachineError: the disk is full.
    """
    fine = True
    cases = open_room(what, data).cases
    for case, name in zip(cases, file_names([case.id for case in cases]), strict=True):
        try:
            for path in write_stills(case, folder, name):
                on_path(str(path))
        except DataError as error:
            say(f"{case.id}: {error}")
            fine = False
    return fine
