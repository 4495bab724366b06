"""Augmented patches each second, the network left out, beside nnU-Net's loader with its default augmentation.

    python benchmarks/loader.py --peer nnunet/bin/python

Volumes of 512 x 512 x 250 voxels are made: a noisy body with organs, normalised. segue reads them as its prepared
cases, float16 memory maps; nnU-Net as its own preprocessing stores them, float32 in Blosc2. Patches of 128^3 voxels
come in batches of two, a third of them centred on a label. The programs take turns, each on one thread; the files are
in the system's cache.

segue              its batches and ``augment`` with its default settings, all on the CPU
segue, as nnU-Net  with nnU-Net's rotation, scaling and mirroring, to compare the same work
segue, cut only    what is left to the CPU where a GPU augments
nnU-Net            nnUNetDataLoader with the transforms of nnUNetTrainer, without its deep supervision

nnU-Net runs in an environment of its own:

    python3 -m venv nnunet && nnunet/bin/pip install torch==2.13.0 nnunetv2==2.8.1

A second counts as one of a core: the processor time of the process, so that other work on the machine shows less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BATCH = 2
SPACING_MM = (0.8, 0.8, 1.5)
LABELS = {1: "liver", 2: "spleen", 3: "lesion"}
# Beyond 2 GB, batches leave the volumes where they are; the same few files stand for so many cases.
CASES = 12


def make_volume(folder: Path, shape: tuple[int, int, int], seed: int) -> None:
    """One prepared case: a body of 40 HU with noise of 20 HU in air, organs in it, clipped and normalised."""
    import numpy as np

    random = np.random.default_rng(seed)
    i, j, k = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape)
    i, j, k = i[:, None, None], j[None, :, None], k[None, None, :]
    labels = np.zeros(shape, np.uint8)
    for number, (centre, radii) in enumerate(
        [((-0.35, 0.1, 0.1), (0.3, 0.3, 0.3)), ((0.5, 0.1, 0.2), (0.15, 0.2, 0.2)), ((-0.4, 0.0, 0.1), (0.06,) * 3)], 1
    ):
        places = zip((i, j, k), centre, radii, strict=True)
        labels[sum(((axis - middle) / radius) ** 2 for axis, middle, radius in places) < 1] = number
    hounsfield = np.array([40, 100, 110, 70], np.float32)[labels]
    hounsfield += 20 * random.standard_normal(shape, dtype=np.float32)
    hounsfield[np.broadcast_to((i / 0.9) ** 2 + (j / 0.7) ** 2 > 1, shape)] = -1000
    np.clip(hounsfield.round(), -160, 240, out=hounsfield)
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", ((hounsfield - 60) / 60).astype(np.float16)[None])
    np.save(folder / "labels.npy", labels)
    found = {str(number): np.flatnonzero(labels == number) for number in LABELS}
    kept = {number: random.choice(voxels, min(10_000, len(voxels)), replace=False) for number, voxels in found.items()}
    np.savez(folder / "foreground.npz", **kept)


def segue_feeds(folders: list[Path], patch: tuple[int, int, int], threads: int) -> dict[str, Callable[[int], Any]]:
    """Each gives the batch of a step."""
    import torch

    from segue.catalogue import Case, Channel
    from segue.core.seeds import stream_seed
    from segue.model import AugmentSettings, augment, draw_augmentation
    from segue.prepare import Network, Normalisation, Plan, PreparedCase
    from segue.train import Batches, padding_values

    torch.set_num_threads(threads)
    made = Plan(
        dataset="loader",
        dimension=3,
        channels=[Channel(name="CT", unit="HU")],
        labels=LABELS,
        ignore_label=None,
        spacing_mm=SPACING_MM,
        normalisation=[Normalisation(kind="hu", low=-160, high=240, mean=60, std=60)],
        patch=patch,
        batch=BATCH,
        network=Network(),
        mirror_axes=[0],
        foreground_share=1 / 3,
        overlap=0.5,
        reasons={},
    )
    cases = [
        PreparedCase(Case(f"case{number}", f"patient{number}", ()), folders[number % len(folders)])
        for number in range(CASES)
    ]
    batches, padding = Batches(cases, made, seed=0), torch.from_numpy(padding_values(made))

    def augmented(settings: AugmentSettings) -> Callable[[int], Any]:
        def feed(step: int) -> Any:
            images, labels = batches(step)
            random = torch.Generator().manual_seed(stream_seed(0, "augment", step))
            drawn = draw_augmentation(settings, BATCH, 1, random)
            return augment(images, labels, drawn, SPACING_MM, padding)

        return feed

    as_nnunet = AugmentSettings(
        mirror_axes=(0, 1, 2),
        rotation_probability=0.2,
        rotation_degrees=30.0,
        scaling_probability=0.2,
        scaling=(1 / 1.4, 1 / 0.7),
    )
    return {
        "segue": augmented(AugmentSettings(mirror_axes=(0,))),
        "segue, as nnU-Net": augmented(as_nnunet),
        "segue, cut only": batches,
    }


def rates(feed: Callable[[int], Any], seconds: float, start: int) -> tuple[dict[str, float], int]:
    """Patches each second of the clock and of a core, over at least so many seconds of a core, and the steps taken."""
    feed(start)
    wall, core, step = time.perf_counter(), time.process_time(), start
    while (took := time.process_time() - core) < seconds or step == start:
        step += 1
        feed(step)
    patches = BATCH * (step - start)
    return {"core": patches / took, "wall": patches / (time.perf_counter() - wall)}, step + 1


def peer_rates(peer: str, *words: object) -> dict[str, Any]:
    command = [peer, str(HERE / "loader_peer.py"), *map(str, words)]
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1")
    done = subprocess.run(command, env={**os.environ, **single}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with nnU-Net")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 250))
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each program in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of segue")
    given = parser.parse_args()
    side = (given.patch,) * 3
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / f"volume{number}" for number in range(given.volumes)]
        for number, folder in enumerate(folders):
            make_volume(folder, tuple(given.shape), number)
        stored = Path(name) / "nnunet"
        if given.peer:
            peer_rates(given.peer, "store", stored, *folders, "--patch", given.patch)
        feeds = segue_feeds(folders, side, given.threads)
        found: dict[str, list[dict[str, float]]] = {}
        step = 0
        for _ in range(given.rounds):
            for program, feed in feeds.items():
                rate, step = rates(feed, given.seconds, step)
                found.setdefault(program, []).append(rate)
            if given.peer:
                words = ("feed", stored, "--patch", given.patch, "--seconds", given.seconds)
                found.setdefault("nnU-Net", []).append(peer_rates(given.peer, *words))
        feeds["segue, cut only"].close()  # type: ignore[attr-defined]
    report(found)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Medians of the rounds, and how many times nnU-Net's rate they are."""
    median = {
        program: {unit: statistics.median(rate[unit] for rate in rounds) for unit in ("core", "wall")}
        for program, rounds in found.items()
    }
    print(f"{'':<20}{'patches / core second':>24}{'patches / second':>20}{'times nnU-Net, per core':>26}")
    for program, rate in median.items():
        times = f"{rate['core'] / median['nnU-Net']['core']:.1f}" if "nnU-Net" in median else ""
        print(f"{program:<20}{rate['core']:>24.2f}{rate['wall']:>20.2f}{times:>26}".rstrip())


if __name__ == "__main__":
    main()
