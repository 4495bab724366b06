"""Many cases: time and memory of what grows with their number, and of handing out work.

    python benchmarks/scale.py dataset --cases 1000,10000,100000
    python benchmarks/scale.py tasks --cases 1000,10000,100000

``dataset``: images of 12 x 12 x 12 voxels, each of its own content, with links to two masks, in nnU-Net's layout: what
a case costs beside its voxels. Each command runs in a process of its own, ``check`` with nothing kept from before,
``check again`` and ``prepare`` with what it measured, ``prepare again`` with everything prepared. ``--side 24`` makes
the images large enough that the sample of each is full (10,000 voxels).

``tasks``: the cases of a dataset through ``map_cases`` with nothing to do for each: in this process, in two processes
of the local pool, and through a Dask scheduler with two workers.

Memory is of all processes together, shared pages counted once (PSS, see ``watched.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from operator import attrgetter
from pathlib import Path

from watched import session_bytes, watch

SIDE = 12
WORKERS = 2
CASES = (1_000, 10_000, 100_000)
EXECUTORS = ("none", "pool", "dask")


def make_dataset(folder: Path, count: int, side: int = SIDE) -> None:
    """So many images, each of its own content. The masks are links to two: two labels, and in every third case a speck,
    which is a finding."""
    import nibabel
    import numpy as np

    random = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    mask = np.zeros((side,) * 3, np.uint8)
    mask[2:, 2:, 2:] = 1
    mask[2:, 2 : side // 2, 2:] = 2
    whole, speck = (folder.resolve() / f"{name}.nii" for name in ("whole", "speck"))
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), whole)
    mask[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), speck)
    voxels = random.integers(0, 500, mask.shape, np.int16) + 300 * mask.astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    image.set_qform(np.eye(4), 1)
    image.set_sform(np.eye(4), 1)
    head = image.to_bytes()[: -voxels.nbytes]
    flat = voxels.ravel(order="F").copy()
    for number in range(count):
        flat[:4] = number % 1000, number // 1000 % 1000, 0, 1000
        (folder / "imagesTr" / f"case{number:06d}_0000.nii").write_bytes(head + flat.tobytes())
        (folder / "labelsTr" / f"case{number:06d}.nii").symlink_to(whole if number % 3 else speck)
    listing = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1, "b": 2}, "numTraining": count,
               "file_ending": ".nii"}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(listing))


def index(folder: Path) -> None:
    """In a process of its own: find all cases, and draw the folds."""
    from segue.catalogue import open_dataset, split_cases

    dataset = open_dataset(folder)
    print(len(dataset.cases), len(split_cases(dataset, 0).val))


def map_nothing(counts: list[int], executor: str) -> None:
    """In a process of its own: ``map_cases`` over tasks as ``check`` has them, and how it stands after so many."""
    from segue.catalogue import Case, load_card
    from segue.core.cluster import open_cluster
    from segue.core.executor import map_cases
    from segue.core.work import at_work
    from segue.prepare import ExamineTask

    card = load_card("autopet")
    folder = Path(tempfile.gettempdir())

    def tasks() -> Iterator[ExamineTask]:
        for number in range(max(counts)):
            name = f"case{number:06d}"
            images = (folder / name / "CTres.nii.gz", folder / name / "SUV.nii.gz")
            yield ExamineTask(Case(name, name, images, folder / name / "SEG.nii.gz"), card, folder)

    with (
        open_cluster(f"local:{WORKERS}") if executor == "dask" else nullcontext() as cluster,
        at_work(executor=cluster),
    ):
        began = time.perf_counter()
        mapped = map_cases(attrgetter("id"), tasks(), workers=1 if executor == "none" else WORKERS)
        for done, (task, result) in enumerate(mapped, 1):
            assert result == task.id
            if done in counts:
                seconds, now = time.perf_counter() - began, session_bytes(os.getsid(0)) / 1e9
                _row(done, executor, f"{seconds:.1f}", f"{1000 * seconds / done:.3f}", f"{now:.3f}")


def _row(*cells: object) -> None:
    print("  ".join(f"{cell:>14}" for cell in cells), flush=True)


def measure_dataset(counts: list[int], side: int, commands: list[str], work: Path) -> None:
    """A row for each number of cases and command."""
    here, segue = [sys.executable, __file__], [sys.executable, "-m", "segue"]
    _row("cases", "command", "seconds", "ms a case", "processor s", "peak GB", "kept MB")
    for count in counts:
        folder = work / f"{count}x{side}"
        data, cache = folder / "data", folder / "cache"
        began = time.perf_counter()
        if not data.exists():
            make_dataset(data, count, side)
            _row(count, "make", *_told(time.perf_counter() - began, count))
        options = ["--workers", 1, "--cache", cache]
        lines = {
            "index": [*here, "index", data],
            "check": [*segue, "check", data, *options, "-o", folder / "out"],
            "check again": [*segue, "check", data, *options, "-o", folder / "out"],
            "plan": [*segue, "plan", data, "--data", folder],
            "prepare": [*segue, "prepare", data, *options],
            "prepare again": [*segue, "prepare", data, *options],
        }
        for name, command in lines.items():
            if name not in commands:
                continue
            seen = watch(command, folder / f"{name}.log", {"SEGUE_DATA": str(folder)})
            kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e6
            times = _told(seen.seconds, count)
            _row(count, name, *times, f"{seen.cpu_seconds:.1f}", f"{seen.gigabytes:.3f}", f"{kept:.0f}")


def _told(seconds: float, count: int) -> tuple[str, str]:
    return f"{seconds:.1f}", f"{1000 * seconds / count:.2f}"


def measure_tasks(counts: list[int], executors: list[str], work: Path) -> None:
    """A row for each executor and number of cases that one run has come to, counted without its start."""
    _row("cases", "executor", "seconds", "ms a case", "GB then")
    for executor in executors:
        command = [sys.executable, "-u", __file__, "map", ",".join(map(str, counts)), executor]
        seen = watch(command, work / f"map-{executor}.log")
        print(seen.printed, end="")
        print(f"{executor}: {seen.cpu_seconds:.1f} s of processor, peak {seen.gigabytes:.3f} GB", flush=True)


COMMANDS = ("index", "check", "check again", "prepare", "prepare again")


def _numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("dataset", "tasks"))
    parser.add_argument("--cases", type=_numbers, default=list(CASES))
    parser.add_argument("--side", type=int, default=SIDE, help="voxels of an image along each axis")
    parser.add_argument("--only", type=lambda text: text.split(","), help="these commands or executors")
    parser.add_argument("--work", type=Path, help="keep the data here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as nowhere:
        work = given.work or Path(nowhere)
        if given.what == "dataset":
            measure_dataset(given.cases, given.side, given.only or list(COMMANDS), work)
        else:
            measure_tasks(given.cases, given.only or list(EXECUTORS), work)


if __name__ == "__main__":
    if sys.argv[1:2] == ["index"]:
        index(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["map"]:
        map_nothing(_numbers(sys.argv[2]), sys.argv[3])
    else:
        main()
