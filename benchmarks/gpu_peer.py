"""nnU-Net's side of ``benchmarks/gpu.py``; runs in nnU-Net's own environment, and prints one line of JSON.

    PEER benchmarks/gpu_peer.py FOLDER --plans nnUNetPlans_hippocampus --rounds 5 --iterations 250

nnU-Net's own benchmark trainers train: ``nnUNetTrainerBenchmark_5epochs``, with ``--fixed`` its variant without data
loading, which takes the same random batch again and again. Both as they are, but for the number of rounds (its epochs)
and of iterations; the validation batches after each round are not in the seconds. The trainers insist on a GPU when
they are made; for a trial on a CPU they are told that there is one.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gpu_use import GpuUse
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs import (
    nnUNetTrainerBenchmark_5epochs,
)
from nnunetv2.training.nnUNetTrainer.variants.benchmarking.nnUNetTrainerBenchmark_5epochs_noDataLoading import (
    nnUNetTrainerBenchmark_5epochs_noDataLoading,
)


def made(given: argparse.Namespace) -> Any:
    # By class: by its name a trainer is looked for in all of nnU-Net's files, which want libraries not needed here.
    kind = nnUNetTrainerBenchmark_5epochs_noDataLoading if given.fixed else nnUNetTrainerBenchmark_5epochs
    plans = json.loads((given.folder / f"{given.plans}.json").read_text())
    plans["continue_training"] = False
    listing = json.loads((given.folder / "dataset.json").read_text())
    device = torch.device(given.device)
    told = {"return_value": True} if device.type == "cpu" else {"side_effect": torch.cuda.is_available}
    with mock.patch("torch.cuda.is_available", **told):
        trainer = kind(plans, "3d_fullres", 0, listing, device)
    trainer.num_epochs, trainer.num_iterations_per_epoch = given.rounds, given.iterations
    trainer.num_val_iterations_per_epoch = 1
    # Theirs also writes a file of results, for which it asks the GPU's name.
    trainer.on_train_end = lambda: nnUNetTrainer.on_train_end(trainer)
    return trainer


def rounds_of(trainer: Any) -> list[float]:
    """Seconds of each round's training steps; every step ends with its loss on the CPU, so nothing is under way."""
    seconds: list[float] = []
    began = [0.0]
    start, end = trainer.on_train_epoch_start, trainer.on_train_epoch_end

    def started() -> None:
        start()
        began[0] = time.perf_counter()

    def ended(outputs: Any) -> None:
        seconds.append(time.perf_counter() - began[0])
        end(outputs)

    trainer.on_train_epoch_start, trainer.on_train_epoch_end = started, ended
    trainer.run_training()
    if trainer.crashed_with_runtime_error:
        raise SystemExit("nnU-Net's training ended with an error; see above")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the preprocessed dataset")
    parser.add_argument("--plans", required=True)
    parser.add_argument("--fixed", action="store_true", help="without data loading")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    trainer = made(given)
    with GpuUse() as use:
        seconds = rounds_of(trainer)
    memory = torch.cuda.max_memory_allocated() / 1e9 if given.device == "cuda" else None
    plan = trainer.configuration_manager
    patch = [int(side) for side in plan.patch_size][::-1]
    told = {"seconds": seconds, "busy": use.mean, "memory_gb": memory, "batch": plan.batch_size, "patch": patch}
    print(json.dumps(told), flush=True)


# Its loaders are processes that import this file again.
if __name__ == "__main__":
    main()
