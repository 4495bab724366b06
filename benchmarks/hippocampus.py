"""Dice, NSD and HD95 of a hippocampus model after a stated number of wall minutes.

    python benchmarks/hippocampus.py --source PATH/Task04_Hippocampus --minutes 10

Trains on four folds of the patients of the Medical Segmentation Decathlon's task 4 and measures on the fifth
(every fifth of the shuffled patients), on whole images in their own geometry.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from segue.acquire import GetOptions, get
from segue.catalogue import resolve
from segue.evaluate import metrics_table
from segue.prepare import Budget
from segue.train import TrainSettings, read_events
from segue.workflow.experiment import Experiment
from segue.workflow.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/msd/Task04_Hippocampus"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        get(*resolve("msd/hippocampus", data), GetOptions(source=options.source))
        started = time.monotonic()
        run, evaluations = train(
            Experiment(
                dataset="msd/hippocampus",
                data=data,
                output=Path(folder) / "run",
                fold=options.fold,
                seed=options.seed,
                budget=Budget(minutes=options.minutes),
                train=TrainSettings(precision=options.precision),
            )
        )
        whole = time.monotonic() - started
        events = read_events(run.events)
        begun = next(e for e in events if e["event"] == "started")
        ended = next(e for e in events if e["event"] == "finished")
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {begun['device']}, {begun['precision']}")
        print(f"{ended['step']} steps in {ended['seconds'] / 60:.1f} min of training, {whole / 60:.1f} min in all")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
        print(metrics_table(evaluations[0]))
        print(surfaces(json.loads(run.metrics.read_text())["val"]["aggregate"]))


def surfaces(aggregate: dict[str, dict[str, Any]]) -> str:
    """Of each label, and of their mean, the surface metrics with their intervals (bootstrap over the patients)."""
    lines = []
    for label, found in aggregate.items():
        told = []
        for name, words in (("nsd", "NSD 1 mm"), ("hd95_mm", "HD95 mm")):
            low, high = found[name]["ci95"]
            told.append(f"{words} {found[name]['value']:.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"{label:<12}{'   '.join(told)}   {found['nsd']['n']} images")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
