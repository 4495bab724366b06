"""Every command that writes, on a disk that is full and on one that may not be written.

`python tests/small_disks.py FOLDER` prints what became of each command, as JSON. It mounts a small disk (tmpfs) on
``FOLDER/disk`` in a mount namespace of its own, so that nothing stays mounted however it ends. Where the machine allows
no mount, a limit on the size of files takes the place of the full disk, and nothing that of the read-only one; ``how``
says so.

Each command is given a few free kilobytes, and must end in one readable error each time; then there is room, and the
same command must go on to its end. What one command made is what the next one works on.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from commands import _run
from dicom_studies import Study

_SIZE = "48m"
_PAGE = 4096
_SMALL = (
    *("--steps", "2", "--device", "cpu", "--workers", "1", "--set", "plan.patch=[16,16,16]"),
    *("--set", "train.precision=float32", "--set", "train.compile=false"),
    *("--set", "network.args={channels: [4, 8], strides: [[1,1,1],[2,2,2]], stem_stride: [1,1,1]}"),
)
_CPU = ("--device", "cpu")
_DATA = "disk/data/msd/hippocampus"
# Free kilobytes, and a command for which they are too few: for some in the middle of what they write.
COMMANDS: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...] = (
    ((60, 200), ("get", "msd/hippocampus", "--look-alike", "5", "-o", "disk/data")),
    ((60,), ("get", "msd/hippocampus", "--from", "hippocampus.tar", "-o", "disk/imported")),
    ((8,), ("convert", "dicom", "disk/converted")),
    ((12,), ("check", "msd/hippocampus", "--data", "disk/data", "--workers", "1", "-o", "disk/check")),
    ((100,), ("prepare", "msd/hippocampus", "--data", "disk/data", "--workers", "1", *_SMALL[6:])),
    ((40, 400), ("train", "msd/hippocampus", "--data", "disk/data", "-o", "disk/run", *_SMALL)),
    ((0, 8), ("predict", "disk/run", f"{_DATA}/imagesTs", "-o", "disk/out", *_CPU)),
    ((0,), ("evaluate", "disk/run", *_CPU, "--workers", "1", "--tolerance", "2")),
    ((0,), ("evaluate", "--pred", f"{_DATA}/labelsTr", "--truth", f"{_DATA}/labelsTr", "-o", "disk/m.json")),
    ((0,), ("evaluate", "disk/run", "disk/run", "-o", "disk/comparison")),
    ((300,), ("view", "disk/run", "--report", "--no-browser")),
    ((0,), ("view", f"{_DATA}/imagesTs/hippocampus_007.nii.gz", "--png", "-o", "disk/png")),
    ((0,), ("card", "new", f"{_DATA}/imagesTs", "-o", "disk/card.yaml")),
    ((0,), ("export", "dataset", "msd/hippocampus", "--data", "disk/data", "--to", "nnunet", "-o", "disk/nnunet")),
    ((0,), ("export", "dataset", "msd/hippocampus", "--data", "disk/data", "--to", "csv", "-o", "disk/csv")),
    ((8,), ("export", "model", "disk/run", "--to", "onnx", "-o", "disk/onnx")),
    ((0,), ("predict", "disk/onnx/model.onnx", f"{_DATA}/imagesTs", "-o", "disk/out-onnx", *_CPU)),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a command: with so many kilobytes free, with room (None), or on a disk that is read-only (-1)."""

    words: str
    free_kb: int | None
    code: int
    said: str
    halves: list[str]
    changed: bool = False


def in_own_namespace() -> list[str]:
    """What makes a process see mounts of its own; nothing where the machine does not allow that."""
    for words in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        with contextlib.suppress(FileNotFoundError):
            if not subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
                return words
    return []


@contextlib.contextmanager
def _little(disk: Path, mounted: bool, free_kb: int) -> Iterator[None]:
    """Leave so many kilobytes of the disk free; or, where it is no disk of its own, let no file be larger."""
    if not mounted:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (free_kb * 1024, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as handle, contextlib.suppress(OSError):
        while True:
            handle.write(bytes(_PAGE))
    os.truncate(filler, filler.stat().st_size - free_kb * 1024)
    try:
        yield
    finally:
        filler.unlink()


def _halves(disk: Path) -> list[str]:
    """What a command must not leave: temporary files, locks, empty files."""
    return [
        str(path.relative_to(disk))
        for path in disk.rglob("*")
        if path.is_file()
        and path.name != "filler"
        and (".part" in path.name or path.name.endswith(".lock") or not path.stat().st_size)
    ]


def _tree(disk: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in disk.rglob("*")}


def main(folder: Path) -> None:
    os.chdir(folder)
    disk = Path("disk")
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", disk], capture_output=True)
    mounted = not done.returncode
    Study(Path("dicom"), "A", True).add("MR", np.random.default_rng(0).integers(0, 900, (4, 24, 24)).astype(float))
    outcomes = []
    code, said = _run(["get", "msd/hippocampus", "--look-alike", "5", "-o", "data"])
    assert code == 0, said
    subprocess.run(["tar", "cf", "hippocampus.tar", "-C", "data/msd", "hippocampus"], check=True)
    for frees, words in COMMANDS:
        for free_kb in frees:
            with _little(disk, mounted, free_kb):
                code, said = _run(list(words))
                outcomes.append(Outcome(" ".join(words), free_kb, code, said, _halves(disk)))
        code, said = _run(list(words))
        outcomes.append(Outcome(" ".join(words), None, code, said, _halves(disk)))
    if mounted:
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        before = _tree(disk)
        for _, words in COMMANDS:
            # Into what is there; an export that is there already and a card have nothing to write: beside it.
            beside = words[0] in ("export", "card")
            new = [
                word.replace("disk/", "disk/new-") if beside and words[number - 1] == "-o" else word
                for number, word in enumerate(words)
            ]
            if words[0] == "get":
                new += ["--copy"]
            code, said = _run(new)
            outcomes.append(Outcome(" ".join(new), -1, code, said, _halves(disk), _tree(disk) != before))
    how = "a small disk" if mounted else "a limit on the size of files"
    sys.stdout.write(json.dumps({"how": how, "outcomes": [asdict(outcome) for outcome in outcomes]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
