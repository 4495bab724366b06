"""Names that other programs accept: of cases, and of nnU-Net's dataset folders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from segue.catalogue import Case
from segue.core.errors import UsageError

NNUNET_FOLDER = re.compile(r"Dataset(\d{3})_(.+)")
_FIRST_NUMBER, _NUMBERS = 500, 500  # nnU-Net's own conversions use the numbers below


def case_names(cases: Sequence[Case]) -> dict[str, str]:
    """The name of each case (by its id) in an export: its id, wherever that is a good name for a file.

    Replaced are characters that some file system refuses, a leading dot (hidden files are skipped), and ``_0001`` at
    the end, which nnU-Net's readers take for the number of a channel (``_`` becomes ``-``). Names differ by more than
    their case, because some file systems do not tell ``a`` from ``A``.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for case in cases:
        wanted = re.sub(r'[\\/:*?"<>|\x00-\x1f]', "-", case.id).strip()
        wanted = re.sub(r"^\.+", "-", wanted)
        wanted = re.sub(r"_(\d{4})$", r"-\1", wanted) or "case"
        name, count = wanted, 1
        while name.casefold() in taken:
            count += 1
            name = f"{wanted}-{count}"
        taken.add(name.casefold())
        names[case.id] = name
    return names


def nnunet_folder(dataset: str, output: Path, ours: Sequence[str]) -> Path:
    """The folder ``DatasetNNN_Name`` for a dataset's name: ``output`` itself where it is named so.

    NNN (500 to 999) follows from the name, so that it is the same everywhere; where ``output`` holds another dataset
    of that number, it is the next free one. ``ours`` are folders in ``output`` that an export of this dataset made.

    Raises:
        UsageError: all 500 numbers are taken.
    """
    if NNUNET_FOLDER.fullmatch(output.name):
        return output
    if ours:
        return output / min(ours)
    name = "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", dataset)) or "Dataset"
    there = [NNUNET_FOLDER.fullmatch(path.name) for path in output.iterdir()] if output.is_dir() else []
    taken = {int(match[1]) for match in there if match}
    wish = int(hashlib.sha256(dataset.encode()).hexdigest(), 16) % _NUMBERS
    for step in range(_NUMBERS):
        number = _FIRST_NUMBER + (wish + step) % _NUMBERS
        if number not in taken:
            return output / f"Dataset{number:03d}_{name}"
    raise UsageError(
        "all dataset numbers from 500 to 999 are taken here",
        where=output,
        remedy="give a folder with a number of your own: -o nnUNet_raw/Dataset042_Name",
    )
