"""Resampling beside nnU-Net's own, and the peak memory of preparing large cases beside its bound.

    python benchmarks/prepare.py --peer nnunet/bin/python

Each program works on one thread in a process of its own, the same noise for both. The bound is twice the case: image in
float32 and mask, before or after resampling, whichever is larger; counted beyond what the process has when it begins.
Without ``--peer`` only the memory is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
SHAPE, FACTOR = (256, 256, 160), 1.5
CASE_SHAPE, CASE_SPACING = (512, 512, 250), (0.8, 0.8, 1.5)
TARGETS_MM = ((1.5, 1.5, 1.5), (0.8, 0.8, 1.5), (0.8, 0.8, 0.8))
# From the border, in voxels of the result: nnU-Net repeats the last voxel where segue mirrors the image.
_INNER = 18


def resample(folder: Path, rounds: int) -> dict[str, float]:
    """segue's side: the image in ``image.npy``, the result into ``segue.npy``; best seconds of some rounds."""
    from segue.volume import Geometry, resample_intensity

    image = np.load(folder / "image.npy")
    source = Geometry(SHAPE, np.diag([FACTOR, FACTOR, FACTOR, 1.0]))
    target = source.with_spacing((1.0, 1.0, 1.0))
    found = []
    for _ in range(rounds + 1):  # the first one imports
        wall, processor = time.perf_counter(), time.process_time()
        result = resample_intensity(image, source, target, order=3)
        found.append((time.process_time() - processor, time.perf_counter() - wall))
    np.save(folder / "segue.npy", result)
    return dict(zip(("processor_s", "wall_s"), map(min, zip(*found, strict=True)), strict=True))


def peak(folder: Path, target_mm: tuple[float, float, float]) -> dict[str, float]:
    """Prepare the case in ``folder`` once; GB beyond what the process had before."""
    from segue.catalogue import Case
    from segue.core.memory import peak_memory_gb, reset_peak, used_memory_gb
    from segue.prepare import Network, Plan, PrepareTask, prepare_case

    card = _card()
    plan = Plan.model_validate(
        {
            "dataset": "x",
            "dimension": 3,
            "channels": card.channels,
            "labels": card.labels,
            "ignore_label": None,
            "spacing_mm": target_mm,
            "normalisation": [{"kind": "hu", "low": -300, "high": 300, "mean": 0, "std": 100}],
            "patch": (64, 64, 64),
            "batch": 2,
            "network": Network(),
            "mirror_axes": [],
            "foreground_share": 0.3,
            "overlap": 0.5,
            "reasons": {},
        }
    )
    case = Case("a", "a", (folder / "image.nii.gz",), folder / "mask.nii.gz")
    if not reset_peak():
        raise SystemExit("this system does not tell the peak of a process")
    before, processor = used_memory_gb(), time.process_time()
    prepare_case(PrepareTask(case, card, plan, folder / "-".join(map(str, target_mm))))
    return {"peak_gb": peak_memory_gb() - before, "processor_s": time.process_time() - processor}


def _card() -> Any:
    from segue.catalogue import Card

    layout = {"kind": "files", "images": "{case}.nii.gz", "labels": "{case}.nii.gz"}
    channels = [{"name": "CT", "unit": "HU"}]
    return Card.model_validate({"name": "x", "title": "x", "channels": channels, "labels": {1: "a"}, "layout": layout})


def make_case(folder: Path) -> None:
    """A noisy int16 CT and a mask of 100 x 100 x 50 voxels."""
    from segue.images import write
    from segue.volume import Geometry, Volume

    grid = Geometry(CASE_SHAPE, np.diag([*CASE_SPACING, 1.0]))
    noise = np.random.default_rng(0).normal(scale=200, size=(1, *CASE_SHAPE)).astype(np.int16)
    write(Volume(noise, grid), folder / "image.nii.gz")
    mask = np.zeros((1, *CASE_SHAPE), np.uint8)
    mask[0, 200:300, 200:300, 100:150] = 1
    write(Volume(mask, grid, "labels"), folder / "mask.nii.gz")


def bound_gb(target_mm: tuple[float, float, float]) -> float:
    """Twice the case: float32 and a mask of 8 bits."""
    ratio = math.prod(CASE_SPACING) / math.prod(target_mm)
    return 2 * 5 * math.prod(CASE_SHAPE) * max(1.0, ratio) / 1e9


def in_process(command: list[Any]) -> dict[str, float]:
    """One line of JSON from a process on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, **threads}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare(peer: str, rounds: int, folder: Path) -> None:
    np.save(folder / "image.npy", np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    ours = in_process([sys.executable, __file__, "--resample", folder, "--rounds", rounds])
    theirs = in_process([peer, HERE / "prepare_peer.py", folder, "--factor", FACTOR, "--rounds", rounds])
    one, other = np.load(folder / "segue.npy"), np.load(folder / "nnunet.npy")
    apart = np.abs(one - other)
    inner = apart[tuple(slice(_INNER, -_INNER) for _ in SHAPE)]
    shapes = " to ".join("x".join(map(str, shape)) for shape in (SHAPE, one.shape))
    print(f"resampling {shapes}, cubic, values of deviation 1, best of {rounds}")
    for who, found in (("nnU-Net", theirs), ("segue", ours)):
        print(f"{who:<10}processor {found['processor_s']:.3f} s   wall {found['wall_s']:.3f} s")
    times = {name: theirs[name] / ours[name] for name in ours}
    print(f"segue is {times['processor_s']:.1f} times as fast by processor, {times['wall_s']:.1f} times by the clock")
    print(f"largest difference {inner.max():.1g}; within {_INNER} voxels of the border {apart.max():.2g}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with nnU-Net")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resample", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=float, nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.resample:
        print(json.dumps(resample(given.resample, given.rounds)))
        return
    if given.peak:
        print(json.dumps(peak(given.peak, tuple(given.target))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.peer:
            compare(given.peer, given.rounds, folder)
        make_case(folder)
        print(f"preparing {'x'.join(map(str, CASE_SHAPE))} int16 of {CASE_SPACING} mm with a mask, peak memory")
        for target in TARGETS_MM:
            found = in_process([sys.executable, __file__, "--peak", folder, "--target", *target])
            print(
                f"to {target} mm: {found['peak_gb']:.3f} GB, bound {bound_gb(target):.3f} GB, "
                f"processor {found['processor_s']:.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
