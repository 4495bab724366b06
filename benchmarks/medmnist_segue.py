"""segue's side of ``benchmarks/medmnist.py``: its batches, one pass after the other, from a MedMNIST file.

    python benchmarks/medmnist_segue.py FOLDER/breastmnist.npz --seconds 5

Prints one line of JSON. ``medmnist_peer.py`` imports this too, so that both trainings run in one process environment.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

BATCH = 128
Passes = Callable[[], Iterable[tuple[Tensor, Tensor]]]


def segue_passes(npz_path: Path) -> Passes:
    """A function that starts a shuffled pass over the training images.

    It yields images, float32 of shape (b, c, i, j) from -1 to 1, and class numbers, int64 of shape (b,).
    """
    with np.load(npz_path, allow_pickle=False) as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"]
    images = images[:, None] if images.ndim == 3 else np.ascontiguousarray(np.moveaxis(images, -1, 1))
    classes, random = labels[:, 0].astype(np.int64), np.random.default_rng(0)

    def one_pass() -> Iterator[tuple[Tensor, Tensor]]:
        # numpy, not torch: an operation this small costs more on torch's threads than on one, and far more where
        # other programs have the cores.
        order = random.permutation(len(images))
        for chosen in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            values = images[chosen].astype(np.float32)
            values *= np.float32(2 / 255)
            values -= 1
            yield torch.from_numpy(values), torch.from_numpy(classes[chosen])

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
