"""``segue check`` on 200 hippocampi, whole command, nothing cached; and its memory on large CT.

    python benchmarks/check.py --source Task04_Hippocampus

The cases are copied into a new folder and pushed out of the system's file cache before each round; nothing that a
check measured before is kept. The CT is made: cases of 512 x 512 x 250 int16 with 24 organs, checked by one worker,
so that the peak is that of one case (image and mask in memory are 197 MB).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from watched import Watched, watch


def copy_cases(source: Path, folder: Path, count: int) -> int:
    listing = json.loads((source / "dataset.json").read_text())
    listing["training"] = listing["training"][:count]
    listing["test"] = []
    for entry in listing["training"]:
        for path in entry.values():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, folder / path)
    (folder / "dataset.json").write_text(json.dumps(listing))
    return len(listing["training"])


def make_ct(folder: Path, cases: int, slices: int) -> float:
    """Bodies with a grid of organs; returns the megabytes of one case in memory."""
    import numpy as np

    from segue.images import write
    from segue.volume import Geometry, Volume

    random = np.random.default_rng(0)
    x, y, z = np.ogrid[:512, :512, :slices]
    body = ((x - 256) / 230) ** 2 + ((y - 256) / 170) ** 2 < 1
    mask = np.zeros((512, 512, slices), np.uint8)
    for organ in range(24):
        centre = (150 + 40 * (organ % 6), 180 + 45 * (organ // 6), slices // 2)
        size = 18 + organ % 5
        across = ((x - centre[0]) / size) ** 2 + ((y - centre[1]) / size) ** 2
        mask[across + ((z - centre[2]) / 60) ** 2 < 1] = organ + 1
    geometry = Geometry(mask.shape, np.diag([0.8, 0.8, 1.0, 1.0]))
    for number in range(cases):
        noise = random.normal(40, 12, (512, 512, 1)).astype(np.int16)
        image = np.where(body, noise + 4 * mask.astype(np.int16), -1000).astype(np.int16)
        (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
        (folder / "labelsTr").mkdir(exist_ok=True)
        image[number] += 1  # no two cases are the same image
        write(Volume(image[None], geometry), folder / "imagesTr" / f"c{number}_0000.nii.gz")
        write(Volume(mask[None], geometry, "labels"), folder / "labelsTr" / f"c{number}.nii.gz")
    labels = {"background": 0, **{f"organ {number}": number for number in range(1, 25)}}
    listing = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(listing))
    return 3 * mask.nbytes / 1e6


def push_out(folder: Path) -> None:
    """Out of the system's file cache, so that the disk is read again."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(folder: Path, output: Path, *more: str) -> Watched:
    push_out(folder)
    log = output.parent / "log.txt"
    done = watch([sys.executable, "-m", "segue", "check", folder, "-o", output, *more], log)
    if "looked at:" not in done.printed:
        sys.exit(done.printed)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the decathlon's task 4")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slices", type=int, default=250)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        count = copy_cases(chosen.source, work / "hippocampi", chosen.cases)
        done = [run(work / "hippocampi", work / "out") for _ in range(chosen.rounds)]
        seconds = statistics.median(one.seconds for one in done)
        processor = statistics.median(one.cpu_seconds for one in done)
        peak = max(one.gigabytes for one in done)
        page = (work / "out" / "check.html").stat().st_size / 1e3
        print(f"{count} hippocampi: {seconds:.1f} s, {count / seconds:.0f} cases/s, {processor:.1f} s of processors")
        print(f"peak {peak:.2f} GB, page of {page:.0f} kB; {done[-1].printed.strip().splitlines()[-1]}")
        megabytes = make_ct(work / "ct", 3, chosen.slices)
        large = run(work / "ct", work / "out", "--workers", "1")
        times = (large.gigabytes - peak) * 1e3 / megabytes
        print(f"3 CT of 512 x 512 x {chosen.slices}: {large.seconds:.1f} s, {large.cpu_seconds:.1f} s of processors")
        print(
            f"peak {large.gigabytes:.2f} GB: {times:.2f} times a case ({megabytes:.0f} MB) above the small ones' peak"
        )


if __name__ == "__main__":
    main()
