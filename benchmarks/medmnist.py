"""Classification of MedMNIST images, beside the published figures and beside MedMNIST's own package and recipes.

    python benchmarks/medmnist.py accuracy --data data --seeds 0,1,2
    python benchmarks/medmnist.py official --minutes 30 --peer peer/bin/python
    python benchmarks/medmnist.py throughput --peer peer/bin/python
    python benchmarks/medmnist.py training --peer peer/bin/python

accuracy     what ``segue train medmnist/SET`` reaches on the test images with its default settings
official     MedMNIST's 3-D recipe on vesselmnist3d and segue, for the same wall time, in turn
throughput   images supplied each second, network left out: the package medmnist and torch's DataLoader, and segue
training     images trained on each second: MedMNIST's 2-D recipe, fed by its own loader and by segue

Files come from ``--files`` (default: the folder SEGUE_TEST_DATA, else ../shared/data), by ``segue get --from``.
The peers run in an environment of their own, made from the repository's root:

    python3 -m venv peer
    peer/bin/pip install torch==2.14.1 torchvision==0.29.1 medmnist==3.0.2 monai==1.6.1 .

(5.8 GB on Linux; ``.`` brings what segue's batches import, for training). This program imports nothing large: a
child's peak memory counts from its parent's.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
FILES = Path(os.environ.get("SEGUE_TEST_DATA", HERE.parent.parent / "shared" / "data"))
PATH_LIKE_IMAGES = 20_000


@dataclass(frozen=True)
class Published:
    """A row of the tables of Yang et al., MedMNIST v2, Scientific Data 10:41, 2023."""

    network: str
    auc: float
    accuracy: float


PUBLISHED = {
    "breastmnist": Published("ResNet-18, 28 px", 0.901, 0.863),
    "vesselmnist3d": Published("ResNet-18+3D", 0.874, 0.877),
}


@dataclass(frozen=True)
class Outcome:
    """What one training reached on the test images, and what it took."""

    seed: int
    auc: float
    accuracy: float
    balanced_accuracy: float
    validation_auc: float
    minutes: float
    gigabytes: float


COLUMNS = {
    "AUC": "auc",
    "ACC": "accuracy",
    "balanced ACC": "balanced_accuracy",
    "validation AUC": "validation_auc",
    "wall min": "minutes",
    "peak GB": "gigabytes",
}


def read_scores(metrics: Path) -> dict[str, float]:
    """The test scores and the validation AUC out of a run's ``metrics.json``."""
    parts = json.loads(metrics.read_text())

    def value(part: str, metric: str) -> float:
        try:
            return float(parts[part]["aggregate"]["all"][metric]["value"])
        except (KeyError, TypeError):
            raise SystemExit(f"{metrics}: no value of {part}, all, {metric}") from None

    found = {metric: value("test", metric) for metric in ("auc", "accuracy", "balanced_accuracy")}
    return {**found, "validation_auc": value("val", "auc")}


def table(title: str, outcomes: Sequence[Outcome], published: Published) -> str:
    """A row per seed, their mean and standard deviation, the published figures, and whether the mean reaches them."""
    means = {field: statistics.fmean(getattr(one, field) for one in outcomes) for field in COLUMNS.values()}
    lines = [title, f"{'seed':<10}" + "".join(f"{name:>16}" for name in COLUMNS)]
    lines += [_row(str(one.seed), vars(one)) for one in outcomes]
    lines.append(_row("mean", means))
    if len(outcomes) > 1:
        fields = list(COLUMNS.values())
        lines.append(_row("deviation", {f: statistics.stdev(getattr(one, f) for one in outcomes) for f in fields}))
    lines.append(_row("published", vars(published)) + f"   {published.network}")
    # The published figures have three digits: ours count by as many.
    verdicts = [
        f"{name} {'pass' if round(means[field], 3) >= getattr(published, field) else 'fail'}"
        for name, field in (("AUC", "auc"), ("ACC", "accuracy"))
    ]
    return "\n".join([*lines, "mean against published: " + ", ".join(verdicts)])


def _row(name: str, values: Mapping[str, Any]) -> str:
    digits = {"minutes": 1, "gigabytes": 2}
    cells = [f"{values[f]:>16.{digits.get(f, 3)}f}" if f in values else f"{'':>16}" for f in COLUMNS.values()]
    return (f"{name:<10}" + "".join(cells)).rstrip()


def run(command: Sequence[object], log: Path, environment: Mapping[str, str] | None = None) -> tuple[str, float, float]:
    """What a command printed, its wall minutes, and the peak gigabytes of its largest process."""
    started = time.monotonic()
    with log.open("w") as told:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{printed[-2000:]}\n{log.read_text()[-4000:]}")
    return printed, (time.monotonic() - started) / 60, usage.ru_maxrss / 1e6


def find_file(name: str, files: Path) -> Path:
    for place in (files / "medmnist" / f"{name}.npz", files / f"{name}.npz"):
        if place.is_file():
            return place
    raise SystemExit(f"{name}.npz is neither in {files / 'medmnist'} nor in {files}: give its folder by --files")


def bring(name: str, files: Path, data: Path, log: Path) -> Path:
    """The set's folder in DATA, as ``segue get`` makes it."""
    folder = data / "medmnist" / name
    if not (folder / f"{name}.npz").is_file():
        words = ["get", f"medmnist/{name}", "--from", find_file(name, files), "-o", data]
        run([sys.executable, "-m", "segue", *words], log)
    return folder


def train_segue(name: str, data: Path, seed: int, minutes: float | None, runs: Path) -> Outcome:
    folder = runs / f"{name}-{seed}"
    if folder.exists():
        raise SystemExit(f"{folder} exists: segue would go on with it, and the time would be of a part")
    words: list[object] = ["train", f"medmnist/{name}", "--data", data, "--seed", seed, "-o", folder]
    if minutes is not None:
        words += ["--minutes", minutes]
    _, took, peak = run([sys.executable, "-m", "segue", *words], runs / f"{name}-{seed}.log")
    return Outcome(seed, **read_scores(folder / "metrics.json"), minutes=took, gigabytes=peak)


def run_peer(peer: Path, words: Sequence[object], log: Path) -> tuple[dict[str, Any], float, float]:
    """The line of JSON that ``medmnist_peer.py`` ends with, wall minutes, peak gigabytes."""
    # -P: this file's folder must not come before the package medmnist. PYTHONPATH: this checkout of segue.
    command = [peer, "-P", HERE / "medmnist_peer.py", *words]
    printed, minutes, peak = run(command, log, {"PYTHONPATH": str(SOURCE)})
    return json.loads(printed.splitlines()[-1]), minutes, peak


@contextmanager
def places(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """The folders of datasets and of runs: those that were given, else temporary ones."""
    with tempfile.TemporaryDirectory() as temporary:
        data, runs = options.data or Path(temporary) / "data", options.runs or Path(temporary) / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        yield data, runs


def accuracy(options: argparse.Namespace) -> None:
    budget = "default budget" if options.minutes is None else f"--minutes {options.minutes:g}"
    with places(options) as (data, runs):
        for name in options.sets:
            bring(name, options.files, data, runs / "get.log")
            outcomes = []
            for seed in options.seeds:
                outcomes.append(train_segue(name, data, seed, options.minutes, runs))
                print(f"{name}, seed {seed}: AUC {outcomes[-1].auc:.3f}", file=sys.stderr, flush=True)
            print(table(f"{name}, segue train, {budget}", outcomes, PUBLISHED[name]) + "\n", flush=True)


def official(options: argparse.Namespace) -> None:
    name = "vesselmnist3d"
    if options.minutes is None and options.epochs is None:
        raise SystemExit("official: give --minutes, or --epochs")
    theirs, ours, found = [], [], {}
    limits: list[object] = [] if options.minutes is None else ["--minutes", options.minutes]
    limits += [] if options.epochs is None else ["--epochs", options.epochs]
    with places(options) as (data, runs):
        folder = bring(name, options.files, data, runs / "get.log")
        for seed in options.seeds:
            words = ["official", folder, name, *limits, "--seed", seed, "--device", options.device]
            found, minutes, peak = run_peer(options.peer, words, runs / f"official-{seed}.log")
            scores = [found[key] for key in ("auc", "accuracy", "balanced_accuracy", "val_auc")]
            theirs.append(Outcome(seed, *scores, minutes=minutes, gigabytes=peak))
            print(
                f"seed {seed}: {found['steps']} steps of the official recipe in {found['minutes']:.1f} minutes, "
                f"{found['epochs']:.2f} of its 100 epochs",
                flush=True,
            )
            if options.epochs is None:
                ours.append(train_segue(name, data, seed, options.minutes, runs))
    title = f"{name}, official recipe, torch {found['torch']}, medmnist {found['medmnist']}, {options.device}"
    print(table(title, theirs, PUBLISHED[name]))
    if ours:
        print("\n" + table(f"{name}, segue train --minutes {options.minutes:g}", ours, PUBLISHED[name]))


def make_path_like(folder: Path) -> None:
    """Noise in PathMNIST's layout: 28 x 28 RGB images of nine classes."""
    import numpy as np

    random = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", PATH_LIKE_IMAGES), ("val", 100), ("test", 100)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 28, 28, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = random.integers(0, 9, (count, 1), dtype=np.uint8)
    np.savez(folder / "pathmnist.npz", **arrays)


@contextmanager
def supplies(files: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with a real grey set and a made-up one in colour, and what each is."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "breastmnist.npz").write_bytes(find_file("breastmnist", files).read_bytes())
        make_path_like(folder)
        yield (
            folder,
            {
                "breastmnist": "breastmnist, 546 grey images",
                "pathmnist": f"PathMNIST's layout, {PATH_LIKE_IMAGES:,} made-up RGB images",
            },
        )


def show_rates(title: str, rates: Mapping[str, Sequence[float]], unit: str) -> None:
    """The best of each, and how many times as fast as it segue is."""
    best = {name: max(values) for name, values in rates.items()}
    print(f"\n{title}: {unit}, best of {len(rates['segue'])}")
    for name, rate in best.items():
        others = "" if name == "segue" else f"   segue {best['segue'] / rate:.2f} times"
        print(f"{name:<42}{rate:>12,.{0 if rate >= 1000 else 1}f}{others}")
    peers = max(rate for name, rate in best.items() if name != "segue")
    print(f"segue against the best of the others: {best['segue'] / peers:.2f}", flush=True)


def throughput(options: argparse.Namespace) -> None:
    loaders = {
        "medmnist, DataLoader, no workers": ["--workers", 0],
        "medmnist, DataLoader, 2 workers": ["--workers", 2],
        "medmnist, DataLoader, 2 workers kept": ["--workers", 2, "--keep-workers"],
    }
    with supplies(options.files) as (folder, sets):
        log = folder / "log.txt"
        for name, title in sets.items():
            rates: dict[str, list[float]] = {loader: [] for loader in [*loaders, "segue"]}
            for _ in range(options.rounds):
                for loader, words in loaders.items():
                    words = ["supply", folder, name, "--seconds", options.seconds, *words]
                    theirs, _, _ = run_peer(options.peer, words, log)
                    rates[loader].append(theirs["images_per_second"])
                own = [HERE / "medmnist_segue.py", folder / f"{name}.npz", "--seconds", options.seconds]
                printed, _, _ = run([sys.executable, *own], log, {"PYTHONPATH": str(SOURCE)})
                ours = json.loads(printed)
                rates["segue"].append(ours["images_per_second"])
            show_rates(f"{title}, batches of 128", rates, "images supplied a second")
    print(f"\nmedmnist {theirs['medmnist']} with torch {theirs['torch']}; segue with torch {ours['torch']}")


def training(options: argparse.Namespace) -> None:
    feeds: dict[str, list[object]] = {
        "medmnist, DataLoader, no workers": ["--feed", "medmnist", "--workers", 0],
        "medmnist, DataLoader, 2 workers": ["--feed", "medmnist", "--workers", 2],
        "segue": ["--feed", "segue"],
    }
    with supplies(options.files) as (folder, sets):
        for name, title in sets.items():
            rates: dict[str, list[float]] = {feed: [] for feed in feeds}
            for _ in range(options.rounds):
                for feed, words in feeds.items():
                    words = ["train", folder, name, "--steps", options.steps, *words]
                    found, _, _ = run_peer(options.peer, words, folder / "log.txt")
                    rates[feed].append(found["images_per_second"])
            show_rates(f"{title}, ResNet-18, {options.steps} steps of 128", rates, "images trained on a second")
    print(f"\nmedmnist {found['medmnist']}; all with torch {found['torch']}, in one environment")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    made = {function.__name__: commands.add_parser(function.__name__) for function in COMMANDS}
    for command in made.values():
        command.add_argument("--files", type=Path, default=FILES, help="folder of the .npz, or of medmnist/*.npz")
    for name in ("accuracy", "official"):
        made[name].add_argument("--data", type=Path, help="folder of datasets (default: a temporary one)")
        made[name].add_argument("--runs", type=Path, help="folder of runs and logs (default: a temporary one)")
        made[name].add_argument("--minutes", type=float, help="budget of each training")
        made[name].add_argument("--seeds", type=_numbers, default=[0, 1, 2])
    made["accuracy"].add_argument("--sets", type=_sets, default=list(PUBLISHED))
    made["official"].add_argument("--epochs", type=int, help="at most so many (default: 100); without segue's turn")
    made["official"].add_argument("--device", default="cpu", help="of the official recipe: cpu or cuda")
    for name in ("official", "throughput", "training"):
        made[name].add_argument("--peer", type=Path, default=Path("peer/bin/python"), help="the peers' interpreter")
    for name in ("throughput", "training"):
        made[name].add_argument("--rounds", type=int, default=3)
    made["throughput"].add_argument("--seconds", type=float, default=5.0)
    made["training"].add_argument("--steps", type=int, default=5, help="of each round (breastmnist: 5 are one epoch)")
    options = parser.parse_args()
    minutes = getattr(options, "minutes", None)
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        parser.error("--minutes must be above 0")
    if "peer" in options and not options.peer.is_file():
        how = (__doc__ or "").split("root:\n\n")[1].split("\n\n")[0]
        parser.exit(2, f"{options.peer}: no such interpreter. In the repository's root:\n{how}\n")
    return options


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _sets(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(PUBLISHED)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(PUBLISHED)}")
    return names


COMMANDS = (accuracy, official, throughput, training)


def main() -> None:
    options = parse()
    print(f"{len(os.sched_getaffinity(0))} cores", flush=True)
    {function.__name__: function for function in COMMANDS}[options.what](options)


if __name__ == "__main__":
    main()
