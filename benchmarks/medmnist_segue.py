"""segue's side of ``benchmarks/medmnist.py``: its batches, one pass after the other, from a MedMNIST file.

    python benchmarks/medmnist_segue.py FOLDER/breastmnist.npz --seconds 5

Prints one line of JSON. ``medmnist_peer.py`` imports this too, so that both trainings run in one process environment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from segue.catalogue import index, load_card
from segue.prepare import Machine, PlanOverrides, map_stack, measure_arrays, plan
from segue.train import ClassBatches, ClassImages, truth_rows

BATCH = 128
Passes = Callable[[], Iterable[tuple[Tensor, Tensor]]]


def segue_passes(npz_path: Path) -> Passes:
    """A function that starts a shuffled pass over the training images, as ``segue train`` supplies them.

    It yields images, float32 of shape (b, c, i, j), normalised, and class numbers, int64 of shape (b,).
    """
    card = load_card(f"medmnist/{npz_path.stem}")
    cases = [case for case in index(npz_path.parent, card) if case.split == "train"]
    arrays = npz_path.parent / "unpacked"
    facts = measure_arrays(card, cases, arrays)
    assert facts is not None, "MedMNIST's arrays are 8-bit"
    made = plan(facts, Machine("cpu", 2, 16.0), PlanOverrides(batch=BATCH))
    stack = map_stack(cases, made, arrays)
    assert stack is not None, "they have one size"
    batches = ClassBatches(ClassImages(stack, made), truth_rows(stack, made), BATCH, seed=0)
    steps = itertools.count()

    def one_pass() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(-(-len(stack) // BATCH)):
            pictures, truth = batches(next(steps))
            yield pictures[..., 0], truth.argmax(1)

    return one_pass


def images_per_second(passes: Passes, seconds: float) -> float:
    """Over whole passes for at least so many seconds, after one that is not counted."""
    _count(passes())
    started, images = time.perf_counter(), 0
    while (took := time.perf_counter() - started) < seconds or not images:
        images += _count(passes())
    return images / took


def _count(batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    return sum(len(labels) for _, labels in batches)


def segue_images_per_second(npz_path: Path, seconds: float = 5.0) -> float:
    """Images that segue supplies each second, network left out."""
    return images_per_second(segue_passes(npz_path), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    rate = segue_images_per_second(options.file, options.seconds)
    print(json.dumps({"images_per_second": rate, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
