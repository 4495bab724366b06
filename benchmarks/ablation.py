"""Which choices of the recipe matter: the same training with one of them changed, over several seeds.

    python benchmarks/ablation.py --source PATH/Task04_Hippocampus --minutes 10 --seeds 0,1,2

Medical Segmentation Decathlon, task 4, fold 0: mean Dice over the validation cases, whole images on their own grid.
Prints a table of means and spreads, and each variant's difference to the plan's own recipe, seed by seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segue.acquire import GetOptions, get
from segue.catalogue import resolve
from segue.train import read_events
from segue.workflow.experiment import load_experiment
from segue.workflow.training import train

_STEM = "{channels: [32, 64, 128], strides: [[1, 1, 1], [2, 2, 2], [2, 2, 2]], stem_stride: [2, 2, 2]}"
VARIANTS = {
    "recipe": [],
    "stem": [f"network.args={_STEM}"],  # half the resolution for twice the steps
    "sgd": ["train.optimizer=sgd", "train.schedule=poly"],  # nnU-Net's
    "no-mean": ["train.ema_decay=0"],
    "no-augmentation": ["train.augment=false"],
}


def table(scores: dict[str, dict[int, float]], steps: dict[str, list[int]]) -> str:
    """A line per variant; ``scores`` by variant and seed. The spread is the sample deviation over seeds."""
    lines = [f"{'variant':<18}{'Dice':>8}{'spread':>8}{'to recipe':>11}{'of each seed':>28}{'steps':>8}"]
    recipe = scores.get("recipe", {})
    for name, found in scores.items():
        values = np.array(list(found.values()))
        spread = f"{values.std(ddof=1):.4f}" if len(values) > 1 else "-"
        apart = [found[seed] - recipe[seed] for seed in found if seed in recipe]
        mean = f"{np.mean(apart):+.4f}" if apart else "-"
        each = " ".join(f"{difference:+.4f}" for difference in apart)
        lines.append(f"{name:<18}{values.mean():>8.4f}{spread:>8}{mean:>11}{each:>28}{np.mean(steps[name]):>8.0f}")
    return "\n".join(lines)


def one(data: Path, folder: Path, minutes: float, seed: int, assignments: Sequence[str]) -> tuple[float, int]:
    """Mean Dice of a training, and its steps."""
    options = {"data": str(data), "output": str(folder), "seed": seed, "budget": {"minutes": minutes}}
    run, _ = train(load_experiment("msd/hippocampus", options, assignments))
    dice = json.loads(run.metrics.read_text())["val"]["aggregate"]["all"]["dice"]["value"]
    return float(dice), next(e["step"] for e in read_events(run.events) if e["event"] == "finished")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/msd/Task04_Hippocampus"))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--variants", default=",".join(VARIANTS), help=f"of {', '.join(VARIANTS)}")
    options = parser.parse_args()
    scores: dict[str, dict[int, float]] = {}
    steps: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        get(*resolve("msd/hippocampus", data), GetOptions(source=options.source))
        # Seed by seed, so that a change in the machine's load meets all variants alike.
        for seed in map(int, options.seeds.split(",")):
            for name in options.variants.split(","):
                dice, number = one(data, Path(folder) / f"{name}-{seed}", options.minutes, seed, VARIANTS[name])
                scores.setdefault(name, {})[seed] = dice
                steps.setdefault(name, []).append(number)
                print(f"seed {seed} {name}: {dice:.4f} after {number} steps", flush=True)
    print(table(scores, steps))


if __name__ == "__main__":
    main()
