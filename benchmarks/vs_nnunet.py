"""segue beside nnU-Net on the same folds: preparation, time to a Dice, Dice after an hour, memory.

    python benchmarks/vs_nnunet.py setup    --peer peers/nnunet
    python benchmarks/vs_nnunet.py prepare  --peer peers/nnunet --sets hippocampus,sarcoma
    python benchmarks/vs_nnunet.py reach    --peer peers/nnunet --dice 0.80 --times 25
    python benchmarks/vs_nnunet.py accuracy --peer peers/nnunet --minutes 60

setup      makes nnU-Net's environment (a build of torch for the CPU; its torchvision is not needed)
prepare    whole commands: nnUNetv2_plan_and_preprocess (3d_fullres, two processes), and segue prepare with an empty
           cache, its check of every case included; processor seconds beside wall seconds, which a busy machine
           lengthens
reach      the wall time t at which segue's mean Dice over the fold's validation images reaches a value, counted from
           the start of the command; then nnU-Net's 3d_fullres, stopped when its own process is so many times t old
accuracy   mean Dice of both after the same wall minutes

All commands also print the peak memory of all processes together (proportional: shared pages count once). hippocampus
is the Medical Segmentation Decathlon's task 4; sarcoma is PET/CT on the CT's grid, as sts_petct.py writes it. The folds
are segue's: nnU-Net gets them as splits_final.json. Both are measured by segue's code on the images' own grids. What
nnU-Net does here and what is left out, in its favour, is said in nnunet_peer.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watched import Watched, watch

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
FILES = Path(os.environ.get("SEGUE_TEST_DATA", HERE.parent.parent / "shared" / "data"))
# Without dependencies: those that nnU-Net names would bring torchvision, which must fit torch's build.
WITHOUT_DEPENDENCIES = (
    "nnunetv2==2.8.1",
    "dynamic-network-architectures==0.4.4",
    "batchgenerators==0.25.5",
    "batchgeneratorsv2==0.3.6",
    "acvl-utils==0.2.6",
    "fft-conv-pytorch==1.2.0",
)
DEPENDENCIES = (
    *("numpy", "scipy", "scikit-learn", "scikit-image", "SimpleITK", "nibabel", "tifffile", "imagecodecs", "pandas"),
    *("tqdm", "blosc2", "connected-components-3d", "einops", "yacs", "graphviz", "seaborn", "matplotlib", "requests"),
    "psutil",
)


@dataclass(frozen=True)
class Set:
    """One dataset in both worlds: what segue calls it, and nnU-Net's number and folder."""

    name: str
    reference: str
    number: int
    folder: str


@dataclass(frozen=True)
class Places:
    """The folders of one benchmark: segue's data and runs, and nnU-Net's three."""

    work: Path

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def environment(self) -> dict[str, str]:
        names = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
        folders = {name: str(self.work / "nnunet" / folder) for name, folder in names.items()}
        # One process of augmentation: a step takes ten times as long as its batch, and there are two cores.
        return {**folders, "nnUNet_compile": "false", "nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "2"}

    def preprocessed(self, dataset: Set) -> Path:
        return Path(self.environment["nnUNet_preprocessed"]) / dataset.folder


def segue(*words: object) -> list[object]:
    return [sys.executable, "-m", "segue", *words]


def run_segue(words: Sequence[object], log: Path, **options: Any) -> Watched:
    # Compiled once and kept, as pip does with what it installs (nnU-Net), whatever the environment says.
    return watch(segue(*words), log, {"PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": ""}, **options)


def bring(name: str, places: Places, files: Path) -> Set:
    """The dataset for both: segue's own, and what ``segue export dataset`` makes of it for nnU-Net."""
    if name == "hippocampus":
        dataset = Set(name, "msd/hippocampus", 504, "Dataset504_Hippocampus")
        if not (places.data / "msd" / "hippocampus").is_dir():
            source = files / "msd" / "Task04_Hippocampus"
            run_segue(["get", "msd/hippocampus", "--from", source, "-o", places.data], places.work / "get.log")
    else:
        images = places.work / "sarcoma"
        dataset = Set(name, str(images / "petct.yaml"), 505, "Dataset505_Sarcoma")
        if not (images / "petct.yaml").is_file():
            words = [HERE / "sts_petct.py", "--source", files / "sts-petct" / "nifti", "--only-images", images]
            watch([sys.executable, *words], places.work / "images.log", {"PYTHONPATH": str(SOURCE)})
    raw = Path(places.environment["nnUNet_raw"]) / dataset.folder
    words = ["export", "dataset", dataset.reference, "--data", places.data, "--to", "nnunet", "-o", raw]
    run_segue(words, places.work / "export.log")
    return dataset


def prepare_segue(dataset: Set, places: Places) -> Watched:
    """The whole command, with nothing kept from an earlier one."""
    shutil.rmtree(places.data / "prepared", ignore_errors=True)
    os.sync()  # what the command before wrote is not this one's to bring to the disk; so below
    return run_segue(["prepare", dataset.reference, "--data", places.data], places.work / f"prepare-{dataset.name}.log")


def prepare_nnunet(dataset: Set, places: Places, peer: Path) -> Watched:
    """The whole command, with nothing kept from an earlier one; no integrity check, one configuration."""
    shutil.rmtree(places.preprocessed(dataset), ignore_errors=True)
    os.sync()
    words = ["-d", dataset.number, "-c", "3d_fullres", "-np", 2, "-npfp", 2, "--no_pbar"]
    command = [peer / "bin" / "nnUNetv2_plan_and_preprocess", *words]
    return watch(command, places.work / f"nnunet-prepare-{dataset.name}.log", places.environment)


def prepare(options: argparse.Namespace) -> None:
    with places_of(options) as places:
        for name in options.sets:
            dataset = bring(name, places, options.files)
            theirs, ours = [], []
            for number in range(options.rounds):
                theirs.append(prepare_nnunet(dataset, places, options.peer))
                ours.append(prepare_segue(dataset, places))
                print(f"{name}, round {number + 1}: {theirs[-1].seconds:.1f} s, {ours[-1].seconds:.1f} s", flush=True)
            print(preparation_table(name, theirs, ours) + "\n", flush=True)


def preparation_table(name: str, theirs: Sequence[Watched], ours: Sequence[Watched]) -> str:
    """Medians of the seconds, the largest peaks, and how many times as fast segue is."""
    medians = [statistics.median(one.seconds for one in rounds) for rounds in (theirs, ours)]
    busy = [statistics.median(one.cpu_seconds for one in rounds) for rounds in (theirs, ours)]
    lines = [f"{name}: preparation, whole commands, median of {len(ours)}"]
    for who, wall, cpu, rounds in zip(("nnU-Net", "segue"), medians, busy, (theirs, ours), strict=True):
        peak = max(one.gigabytes for one in rounds)
        lines.append(f"{who:<10}{wall:>8.1f} s   processors {cpu:.1f} s   peak {peak:.2f} GB")
    lines.append(f"segue is {medians[0] / medians[1]:.1f} times as fast, processors {busy[0] / busy[1]:.1f} times")
    return "\n".join(lines)


def reached(events: Iterable[dict[str, Any]], dice: float) -> dict[str, Any] | None:
    """The first validation over all images of the fold whose mean Dice is at least so high."""
    found = (event for event in events if event["event"] == "validated" and event["mean_dice"] >= dice)
    return next(found, None)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The events so far; the line that is just being written is left for the next look."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def train_segue(
    dataset: Set, places: Places, options: argparse.Namespace, minutes: float, extra: Sequence[str] = ()
) -> tuple[Watched, Path, float | None]:
    """One whole ``segue train``; its run folder, and the wall seconds at which the Dice of ``--dice`` was there."""
    run = places.work / "runs" / f"{dataset.name}-{options.what}-{options.seed}"
    if run.exists():
        raise SystemExit(f"{run} exists: segue would go on with it, and the time would be of a part")
    seen: list[float] = []

    def look(seconds: float) -> None:
        if not seen and reached(read_lines(run / "events.jsonl"), getattr(options, "dice", 2.0)):
            seen.append(seconds)

    words = ["train", dataset.reference, "--data", places.data, "-o", run, "--minutes", minutes]
    words += ["--fold", options.fold, "--seed", options.seed, *extra]
    found = run_segue(words, run.with_suffix(".log"), meanwhile=look)
    return found, run, seen[0] if seen else None


def give_folds(dataset: Set, places: Places, run: Path, fold: int) -> None:
    """nnU-Net's ``splits_final.json`` from the run's ``split.json``: the fold is the same, case by case."""
    split = {
        part: [case["id"] for case in cases] for part, cases in json.loads((run / "split.json").read_text()).items()
    }
    there = {
        path.name.removesuffix(".nii.gz") for path in (places.preprocessed(dataset) / "gt_segmentations").iterdir()
    }
    (places.preprocessed(dataset) / "splits_final.json").write_text(json.dumps(folds_for_nnunet(split, there, fold)))


def folds_for_nnunet(split: dict[str, list[str]], there: set[str], fold: int) -> list[dict[str, list[str]]]:
    """As many folds as are needed to reach number ``fold``, all of them this one."""
    wanted = {part: sorted(split[part]) for part in ("train", "val")}
    if missing := sorted({*wanted["train"], *wanted["val"]} - there):
        raise SystemExit(f"nnU-Net has not prepared {len(missing)} cases of the fold, such as {missing[0]}")
    return [wanted] * (fold + 1)


def train_nnunet(
    dataset: Set, places: Places, options: argparse.Namespace, seconds: float
) -> tuple[Watched, dict[str, Any], Path]:
    """nnU-Net stopped at ``seconds``, then its masks of the validation cases; what it said, and where they are."""
    output = places.work / "runs" / f"nnunet-{dataset.name}-{options.what}-{options.seed}"
    command = [options.peer / "bin" / "python", HERE / "nnunet_peer.py", dataset.number, "--seconds", seconds]
    command += ["--fold", options.fold, "--seed", options.seed, "--schedule", options.schedule, "--output", output]
    command += ["--no-mirroring"] if options.no_mirroring else []
    found = watch(command, output.with_suffix(".log"), places.environment)
    return found, json.loads(found.printed.splitlines()[-1]), output


def score(predictions: Path, run: Path) -> str:
    """segue's metrics of another program's masks of the run's validation cases, as a table."""
    aggregate = measure(predictions, run)
    return "\n".join(f"{name:<12}{dice_text(values['dice'])}" for name, values in aggregate.items())


def measure(predictions: Path, run: Path) -> dict[str, Any]:
    """``{label|"all": {metric: {value, ci95, n}}}`` of masks in ``predictions`` for the run's validation cases."""
    sys.path.insert(0, str(SOURCE))
    from segue.catalogue import dataset_at
    from segue.evaluate import Pair, aggregate, score_pair
    from segue.train import Run

    card = Run(run).card()
    cases = {case.id: case for case in dataset_at(card, Path(Run(run).settings()["root"])).cases}
    scores = []
    for entry in Run(run).json("split.json")["val"]:
        case = cases[entry["id"]]
        assert case.label is not None, "validation cases are annotated"
        mask = predictions / f"{case.id}.nii.gz"
        scores.append(score_pair(Pair(case.id, case.patient, mask, case.label, card.labels, card.ignore_label)))
    return aggregate("val", scores).aggregate


def dice_text(dice: dict[str, Any]) -> str:
    """``0.879 (0.867 to 0.890), 42 images``."""
    ends = f" ({dice['ci95'][0]:.3f} to {dice['ci95'][1]:.3f})" if dice["ci95"] else ""
    return f"{dice['value']:.3f}{ends}, {dice['n']} images"


def own_table(run: Path) -> str:
    aggregate = json.loads((run / "metrics.json").read_text())["val"]["aggregate"]
    return "\n".join(f"{name:<12}{dice_text(values['dice'])}" for name, values in aggregate.items())


def say_nnunet(found: Watched, told: dict[str, Any], predictions: Path, run: Path) -> None:
    print(
        f"nnU-Net {told['nnunetv2']} 3d_fullres, batch {told['batch']} of {told['patch']}, torch {told['torch']}: "
        f"{told['steps']} steps of {told['seconds_per_step']:.1f} s, stopped at {told['ended_s']:.0f} s "
        f"(first step after {told['began_s']:.0f} s), loss {told['loss']:.3f}, prediction {told['predict_s']:.0f} s, "
        f"peak {found.gigabytes:.2f} GB"
    )
    print(score(predictions, run), flush=True)


def reach(options: argparse.Namespace) -> None:
    with places_of(options) as places:
        for name in options.sets:
            dataset = bring(name, places, options.files)
            if not places.preprocessed(dataset).is_dir():
                prepare_nnunet(dataset, places, options.peer)
            # Nothing prepared: the time is that of the very first command.
            shutil.rmtree(places.data / "prepared", ignore_errors=True)
            looks = ["--set", f"train.validations={options.looks}"]
            found, run, seconds = train_segue(dataset, places, options, options.minutes, looks)
            print(
                f"{name}: segue train --minutes {options.minutes:g}, {found.seconds:.0f} s in all, preparation included"
            )
            print(f"peak {found.gigabytes:.2f} GB\n{own_table(run)}", flush=True)
            if seconds is None:
                print(f"segue did not reach {options.dice}: give more --minutes, or more --looks")
                continue
            event = reached(read_lines(run / "events.jsonl"), options.dice)
            assert event is not None, "it was seen"
            print(f"mean Dice {event['mean_dice']:.3f} at t = {seconds:.1f} s, step {event['step']}", flush=True)
            give_folds(dataset, places, run, options.fold)
            theirs, told, predictions = train_nnunet(dataset, places, options, options.times * seconds)
            print(f"nnU-Net stopped at {options.times:g} t, preparation not counted")
            say_nnunet(theirs, told, predictions, run)


def accuracy(options: argparse.Namespace) -> None:
    with places_of(options) as places:
        for name in options.sets:
            dataset = bring(name, places, options.files)
            if not places.preprocessed(dataset).is_dir():
                prepare_nnunet(dataset, places, options.peer)
            # The minutes hold the whole command: a part is kept for the check before, and for masks and report after.
            training = options.minutes - min(1.0, 0.1 * options.minutes)
            found, run, _ = train_segue(dataset, places, options, training)
            print(f"{name}: segue train --minutes {training:g}, {found.seconds / 60:.1f} min in all")
            print(f"peak {found.gigabytes:.2f} GB\n{own_table(run)}", flush=True)
            give_folds(dataset, places, run, options.fold)
            say_nnunet(*train_nnunet(dataset, places, options, 60 * options.minutes), run)


def setup(options: argparse.Namespace) -> None:
    pip = [options.peer / "bin" / "python", "-m", "pip", "install"]
    index = ["--index-url", options.torch_index] if options.torch_index else []
    for command in (
        [sys.executable, "-m", "venv", options.peer],
        [*pip, *index, "torch==2.13.0"],
        [*pip, "--no-deps", *WITHOUT_DEPENDENCIES],
        [*pip, *DEPENDENCIES],
        [options.peer / "bin" / "python", "-c", "import nnunetv2.run.run_training"],
    ):
        words = [str(word) for word in command]
        print(" ".join(words), flush=True)
        subprocess.run(words, check=True)


@contextmanager
def places_of(options: argparse.Namespace) -> Iterator[Places]:
    with tempfile.TemporaryDirectory() as temporary:
        places = Places(options.work.resolve() if options.work else Path(temporary))
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            Path(places.environment[name]).mkdir(parents=True, exist_ok=True)
        yield places


SETS = ("hippocampus", "sarcoma")
COMMANDS = (setup, prepare, reach, accuracy)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    made = {function.__name__: commands.add_parser(function.__name__) for function in COMMANDS}
    for command in made.values():
        command.add_argument(
            "--peer", type=Path, default=Path("peers/nnunet"), help="the folder of nnU-Net's environment"
        )
    made["setup"].add_argument("--torch-index", help="the package index with torch's builds for the CPU")
    for name in ("prepare", "reach", "accuracy"):
        made[name].add_argument("--files", type=Path, default=FILES, help="holds msd/ and sts-petct/")
        made[name].add_argument("--work", type=Path, help="keep datasets and runs here (default: a temporary folder)")
    made["prepare"].add_argument("--sets", type=_sets, default=list(SETS))
    made["prepare"].add_argument("--rounds", type=int, default=3)
    for name, minutes in (("reach", 2.0), ("accuracy", 60.0)):
        made[name].add_argument("--sets", type=_sets, default=["hippocampus"])
        made[name].add_argument("--minutes", type=float, default=minutes)
        made[name].add_argument("--fold", type=int, default=0)
        made[name].add_argument("--seed", type=int, default=0)
        made[name].add_argument("--schedule", choices=["fitted", "standard"], default="fitted", help="nnU-Net's")
        made[name].add_argument("--no-mirroring", action="store_true", help="nnU-Net predicts eight times as fast so")
    made["reach"].add_argument("--dice", type=float, default=0.80)
    made["reach"].add_argument("--times", type=float, default=25.0, help="nnU-Net is stopped at so many times t")
    made["reach"].add_argument("--looks", type=int, default=100, help="segue validates at most so often")
    options = parser.parse_args()
    if options.what != "setup" and not (options.peer / "bin" / "python").exists():
        parser.exit(2, f"{options.peer}: nnU-Net is not there; make its environment with setup --peer {options.peer}\n")
    options.peer = options.peer.absolute()
    return options


def _sets(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(SETS)):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(SETS)}")
    return names


def main() -> None:
    options = parse()
    print(f"{len(os.sched_getaffinity(0))} cores", flush=True)
    {function.__name__: function for function in COMMANDS}[options.what](options)


if __name__ == "__main__":
    main()
