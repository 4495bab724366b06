"""nnU-Net's side of ``benchmarks/loader.py``, in an environment with nnU-Net 2.8.

    nnunet/bin/python benchmarks/loader_peer.py store FOLDER VOLUME...
    nnunet/bin/python benchmarks/loader_peer.py feed FOLDER --seconds 20

Prints one line of JSON. This is nnU-Net's own code, called as its trainer calls it for a 3-D configuration: its
dataset, loader, enlarged first patch and transforms. Deep supervision, which halves the labels several times, is left
out in its favour.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

BATCH = 2
FOREGROUND_SHARE = 0.33


def store(folder: Path, volumes: list[Path], patch: tuple[int, ...]) -> dict[str, Any]:
    """As nnU-Net's preprocessing ends: float32 and int8 in Blosc2, chunks after the patch, voxels of each label."""
    folder.mkdir(parents=True)
    for volume in volumes:
        image = np.load(volume / "image.npy").astype(np.float32)
        labels = np.load(volume / "labels.npy").astype(np.int8)[None]
        with np.load(volume / "foreground.npz") as kept:
            places = {int(number): np.unravel_index(kept[number], labels.shape) for number in kept.files}
        found = {number: np.stack(axes, 1) for number, axes in places.items()}
        blocks, chunks = comp_blosc2_params(image.shape, patch, image.itemsize)
        blocks_seg, chunks_seg = comp_blosc2_params(image.shape, patch, labels.itemsize)
        nnUNetDatasetBlosc2.save_case(
            image,
            labels,
            {"class_locations": found},
            str(folder / volume.name),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks_seg,
            blocks_seg=blocks_seg,
        )
    return {"bytes": sum(path.stat().st_size for path in folder.iterdir())}


def feed(folder: Path, patch: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """Patches each second of the clock and of a core."""
    torch.set_num_threads(1)
    angle = np.deg2rad(30.0)
    rotation = (-angle, angle)
    transforms = nnUNetTrainer.get_training_transforms(patch, rotation, None, (0, 1, 2), False)
    first = get_patch_size(patch, rotation, rotation, rotation, (0.85, 1.25))
    labels = SimpleNamespace(all_labels=[0, 1, 2, 3], has_ignore_label=False)
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder)),
        BATCH,
        first,
        patch,
        labels,
        oversample_foreground_percent=FOREGROUND_SHARE,
        transforms=transforms,
    )
    # The blur first measures which of two convolutions is faster.
    warm = time.process_time()
    while time.process_time() - warm < seconds / 4:
        next(loader)
    wall, core, batches = time.perf_counter(), time.process_time(), 0
    while (took := time.process_time() - core) < seconds or not batches:
        batch = next(loader)
        batches += 1
    assert batch["data"].shape == (BATCH, 1, *patch)
    return {
        "core": BATCH * batches / took,
        "wall": BATCH * batches / (time.perf_counter() - wall),
        "first_patch": first.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["store", "feed"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("volumes", type=Path, nargs="*")
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    patch = (given.patch,) * 3
    if given.what == "store":
        found = store(given.folder, given.volumes, patch)
    else:
        found = feed(given.folder, patch, given.seconds)
    print(json.dumps({**found, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
