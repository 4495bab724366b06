"""segue beside nnU-Net, predicting: images a minute, start-up apart, and peak memory; the same network in both.

    python benchmarks/predict.py throughput --peer peers/nnunet
    python benchmarks/predict.py memory     --peer peers/nnunet
    python benchmarks/predict.py petct

throughput  a folder of images little larger than a patch, with the network, patch and overlap that nnU-Net plans
            for the decathlon's hippocampi (40x56x40, half of the patch), mirroring off in both. Whole commands, of one
            image and of all: what each further image takes is the difference by their number, start-up is what is left
            of one.
memory      one volume of 512x512x400 with 20 labels and a small network: the peak of all processes of the command
petct       one whole-body PET/CT of 400x400x300 in two channels with one label; segue alone

Weights are random, and the same in both: nnU-Net makes them, segue turns them to its own order of axes. How many voxels
of the two masks agree is printed. segue computes in float32 (--precision bfloat16: as it does after a training that
found it faster). Without --peer only segue is run, with weights of its own. vs_nnunet.py setup makes nnU-Net's
environment. --threads holds both back to so many cores each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from watched import Watched, watch

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
LOW, HIGH, MEAN, STD = -1000.0, 1000.0, 0.0, 300.0


@dataclass(frozen=True)
class Work:
    """Images and a network: shapes in the order ``(i, j, k)``."""

    shapes: list[tuple[int, int, int]]
    patch: tuple[int, int, int]
    widths: list[int]
    labels: int
    channels: int = 1
    convolutions: int = 2
    gain: float = 1.0
    spacing_mm: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0))

    @property
    def network(self) -> dict[str, Any]:
        levels = len(self.widths)
        return {
            "n_stages": levels,
            "features_per_stage": self.widths,
            "kernel_sizes": [[3, 3, 3]] * levels,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1),
            "n_conv_per_stage": [self.convolutions] * levels,
            "n_conv_per_stage_decoder": [self.convolutions] * (levels - 1),
        }

    def written(self) -> dict[str, Any]:
        return {
            "patch": self.patch[::-1],
            "spacing_mm": self.spacing_mm,
            "channels": self.channels,
            "labels": self.labels,
            "network": self.network,
            "gain": self.gain,
            "low": LOW,
            "high": HIGH,
            "mean": MEAN,
            "std": STD,
        }


def make_images(work: Work, folder: Path) -> None:
    """Smooth noise in Hounsfield units, with a file per channel; the same from run to run."""
    sys.path.insert(0, str(SOURCE))
    from segue.images import write
    from segue.volume import Geometry, Volume

    for number, shape in enumerate(work.shapes):
        random = np.random.default_rng(number)
        for channel in range(work.channels):
            coarse = random.normal(0, 400, [max(2, size // 8 + 2) for size in shape]).astype(np.float32)
            values = coarse.repeat(8, 0).repeat(8, 1).repeat(8, 2)[: shape[0], : shape[1], : shape[2]]
            values = np.where(values == 0, 1, values)  # nnU-Net crops what is 0
            image = Volume(np.rint(values).astype(np.int16)[None], Geometry(shape, np.diag([*work.spacing_mm, 1.0])))
            write(image, folder / f"case_{number:02d}_{channel:04d}.nii.gz")


def make_run(work: Work, run: Path, weights: Path | None, precision: str) -> None:
    """segue's run folder with these weights (nnU-Net's, turned), or with random ones."""
    sys.path.insert(0, str(SOURCE))
    import torch
    from predict_network import turned

    from segue.catalogue import Card
    from segue.core.files import write_json
    from segue.prepare import Network, Normalisation, Plan
    from segue.train import save_checkpoint

    names = [f"c{number}" for number in range(work.channels)]
    card = {
        "name": "bench",
        "title": "Benchmark",
        "channels": [{"name": name, "unit": unit} for name, unit in zip(names, ("HU", "SUV"), strict=False)],
        "labels": {number: f"label{number}" for number in range(1, work.labels + 1)},
        "layout": {"kind": "nnunet"},
    }
    target = "predict_network:PlainUNet" if weights is not None else None
    own = {
        "channels": work.widths,
        "strides": work.network["strides"],
        "stem_stride": [1, 1, 1],
        "blocks": work.convolutions,
    }
    plan = Plan(
        dataset="bench",
        dimension=3,
        channels=Card.model_validate(card).channels,
        labels=card["labels"],  # type: ignore[arg-type]
        ignore_label=None,
        spacing_mm=work.spacing_mm,
        normalisation=[
            Normalisation(kind="hu", low=LOW, high=HIGH, mean=MEAN, std=STD),
            Normalisation(kind="suv"),
        ][: work.channels],
        patch=work.patch,
        batch=2,
        network=Network(target=target, args=work.network if target else own),
        mirror_axes=[],
        foreground_share=0.0,
        overlap=0.5,
        reasons={},
    )
    if weights is not None:
        state = turned(torch.load(weights, weights_only=True))
    else:
        from segue.train import build_network

        torch.manual_seed(0)
        state = build_network(plan).state_dict()
    write_json(run / "card.json", Card.model_validate(card))
    write_json(run / "plan.json", plan)
    save_checkpoint(run / "checkpoints" / "best.pt", {"network": state, "precision": precision})


class Bench:
    """One piece of work in a folder: images, and both programs' models."""

    def __init__(self, work: Work, folder: Path, options: argparse.Namespace) -> None:
        self.work, self.folder, self.peer = work, folder, options.peer
        self.threads = {"OMP_NUM_THREADS": str(options.threads)} if options.threads else {}
        make_images(work, folder / "images")
        weights = None
        if self.peer is not None:
            (folder / "work.json").write_text(json.dumps(work.written()))
            words = [self.peer / "bin" / "python", HERE / "predict_peer.py", folder / "work.json", folder / "model"]
            watch(words, folder / "model.log", self._nnunet_environment())
            weights = folder / "model" / "weights.pt"
        make_run(work, folder / "run", weights, options.precision)

    def _nnunet_environment(self) -> dict[str, str]:
        places = {f"nnUNet_{name}": str(self.folder / name) for name in ("raw", "preprocessed", "results")}
        return {**places, "nnUNet_compile": "false", **self.threads}

    def first(self) -> Path:
        """A folder of the first image alone."""
        folder = self.folder / "first"
        folder.mkdir(exist_ok=True)
        for path in sorted((self.folder / "images").glob("case_00_*")):
            if not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
        return folder

    def segue(self, images: Path, output: Path) -> Watched:
        path = os.pathsep.join([str(SOURCE), str(HERE)])
        environment = {"PYTHONPATH": path, **self.threads}
        if self.peer is not None:
            (packages,) = (self.peer / "lib").glob("python3*/site-packages")
            environment["SEGUE_BENCH_PEER_PACKAGES"] = str(packages)
        words = [sys.executable, "-m", "segue", "predict", self.folder / "run", images, "-o", output]
        return watch([*words, "--device", "cpu"], output.with_suffix(".log"), environment)

    def nnunet(self, images: Path, output: Path) -> Watched:
        """One process beside it that reads, one that writes: there is one image at a time for the network anyway."""
        command = [self.peer / "bin" / "nnUNetv2_predict_from_modelfolder", "-i", images, "-o", output]
        command += ["-m", self.folder / "model", "-f", 0, "--disable_tta", "-device", "cpu", "-npp", 1, "-nps", 1]
        return watch([*command, "--disable_progress_bar"], output.with_suffix(".log"), self._nnunet_environment())


def agreement(ours: Path, theirs: Path) -> float:
    """The part of the voxels with the same label, over all masks."""
    sys.path.insert(0, str(SOURCE))
    from segue.images import read_labels

    same = total = 0
    for path in sorted(theirs.glob("*.nii.gz")):
        one, other = read_labels(ours / path.name).array, read_labels(path).array
        same, total = same + int((one == other).sum()), total + one.size
    return same / total


def throughput(options: argparse.Namespace, folder: Path) -> None:
    random, patch = np.random.default_rng(0), options.patch
    # No smaller than a patch: what stands beside an image is 0 in nnU-Net, and air in segue.
    shapes = [
        (
            patch[0] + int(random.integers(0, 7)),
            patch[1] + int(random.integers(0, 7)),
            patch[2] + int(random.integers(0, 7)),
        )
        for _ in range(options.cases)
    ]
    work = Work(shapes, tuple(options.patch), options.widths, 2)
    bench = Bench(work, folder, options)
    programs = {"nnU-Net": bench.nnunet, "segue": bench.segue}
    if options.peer is None:
        del programs["nnU-Net"]
    print(f"{len(shapes)} images, patch {work.patch}, widths {work.widths}, {options.precision}")
    best: dict[str, np.ndarray] = {}
    for number in range(options.rounds):
        for name, run in programs.items():
            one = run(bench.first(), folder / f"{name}-one-{number}")
            whole = run(folder / "images", folder / f"{name}-all-{number}")
            each = (whole.seconds - one.seconds) / max(1, len(shapes) - 1)
            busy = (whole.cpu_seconds - one.cpu_seconds) / max(1, len(shapes) - 1)
            print(
                f"{name:<8} all images {whole.seconds:7.1f} s, processors {whole.cpu_seconds:7.1f} s   "
                f"each further one {each:6.2f} s, processors {busy:6.2f} s   "
                f"start-up {one.seconds - each:5.1f} s, processors {one.cpu_seconds - busy:5.1f} s   "
                f"peak {whole.gigabytes:.2f} GB",
                flush=True,
            )
            found = np.array([each, whole.seconds, busy, whole.cpu_seconds])
            best[name] = np.minimum(best.get(name, found), found)
    if options.peer is not None:
        times = best["nnU-Net"] / best["segue"]
        print(f"segue: {times[0]:.2f} times the images a minute, the whole command {times[1]:.2f} times as fast")
        print(f"by processor seconds, which a busy machine lengthens less: {times[2]:.2f} and {times[3]:.2f} times")
        same = agreement(folder / "segue-all-0", folder / "nnU-Net-all-0")
        print(f"voxels with the same label: {same:.5%}")


def memory(options: argparse.Namespace, folder: Path) -> None:
    bench = Bench(Work([tuple(options.shape)], tuple(options.patch), options.widths, options.labels), folder, options)
    print(
        f"{'x'.join(map(str, options.shape))}, {options.labels} labels, patch {bench.work.patch}, {options.precision}"
    )
    ours = bench.segue(folder / "images", folder / "segue")
    print(f"segue    {ours.seconds:7.1f} s   peak {ours.gigabytes:.2f} GB", flush=True)
    if options.peer is not None:
        theirs = bench.nnunet(folder / "images", folder / "nnunet")
        print(f"nnU-Net  {theirs.seconds:7.1f} s   peak {theirs.gigabytes:.2f} GB")
        print(f"segue takes {ours.gigabytes / theirs.gigabytes:.2f} of nnU-Net's memory")
        print(f"voxels with the same label: {agreement(folder / 'segue', folder / 'nnunet'):.5%}")


def petct(options: argparse.Namespace, folder: Path) -> None:
    work = Work([tuple(options.shape)], tuple(options.patch), options.widths, 1, channels=2, spacing_mm=(2.0, 2.0, 3.0))
    options.peer = None
    ours = Bench(work, folder, options).segue(folder / "images", folder / "segue")
    print(f"{'x'.join(map(str, options.shape))}, two channels, one label, patch {work.patch}")
    print(f"segue    {ours.seconds:7.1f} s   peak {ours.gigabytes:.2f} GB")


COMMANDS = (throughput, memory, petct)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    made = {function.__name__: commands.add_parser(function.__name__) for function in COMMANDS}
    for name, command in made.items():
        command.add_argument("--peer", type=Path, help="the folder of nnU-Net's environment")
        command.add_argument("--threads", type=int, help="OMP_NUM_THREADS of both (default: as they like)")
        command.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
        command.add_argument("--work", type=Path, help="keep images, models and masks here")
        patch = {"throughput": [40, 56, 40], "memory": [128, 128, 128], "petct": [128, 128, 128]}[name]
        command.add_argument("--patch", type=int, nargs=3, default=patch)
        widths = {"throughput": [32, 64, 128, 256], "memory": [8, 16, 32], "petct": [8, 16, 32]}[name]
        command.add_argument("--widths", type=int, nargs="+", default=widths, help="channels of the levels")
    made["throughput"].add_argument("--cases", type=int, default=30)
    made["throughput"].add_argument("--rounds", type=int, default=1)
    made["memory"].add_argument("--shape", type=int, nargs=3, default=[512, 512, 400])
    made["memory"].add_argument("--labels", type=int, default=20)
    made["petct"].add_argument("--shape", type=int, nargs=3, default=[400, 400, 300])
    options = parser.parse_args()
    if options.peer is not None:
        options.peer = options.peer.absolute()
        if not (options.peer / "bin" / "python").exists():
            parser.exit(2, f"{options.peer}: nnU-Net is not there; make its environment with vs_nnunet.py setup\n")
    return options


def main() -> None:
    options = parse()
    function = {one.__name__: one for one in COMMANDS}[options.what]
    with tempfile.TemporaryDirectory() as temporary:
        function(options, (options.work or Path(temporary)).resolve())


if __name__ == "__main__":
    main()
