"""nnU-Net's side of ``benchmarks/vs_nnunet.py``; runs in nnU-Net's own environment, and prints one line of JSON.

    PEER benchmarks/nnunet_peer.py DATASET --fold 0 --seconds 600 --output PREDICTIONS

DATASET (a number) is planned and preprocessed already; ``nnUNet_raw``, ``nnUNet_preprocessed`` and ``nnUNet_results``
are set. nnU-Net trains with its own plan, network, batch, augmentation, loss and optimizer, as ``nnUNetv2_train`` does,
but until a wall limit that counts from the start of this process; then it predicts the fold's validation cases with the
weights of that moment, by its own predictor, into its own geometry. Left out, in its favour: its 50 validation batches
after every 250 steps, and its checkpoints. Prediction is not counted.

Learning rate: ``fitted`` lets its polynomial (exponent 0.9) end with the time limit; ``standard`` is the one of 1000
epochs, which hardly falls in so short a time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args

EXPONENT = 0.9


def age_s() -> float:
    """Seconds since this process began, imports included."""
    return time.time() - psutil.Process().create_time()


def train(trainer: Any, seconds: float, schedule: str) -> dict[str, Any]:
    """Steps of nnU-Net's own until the process is ``seconds`` old; the step that is under way is finished."""
    trainer.disable_checkpointing = True
    trainer.on_train_start()
    trainer.network.train()
    began, steps, losses = age_s(), 0, []
    while (age := age_s()) < seconds:
        if schedule == "standard":
            trainer.lr_scheduler.step(steps // trainer.num_iterations_per_epoch)
        else:
            for group in trainer.optimizer.param_groups:
                group["lr"] = trainer.initial_lr * (1 - age / seconds) ** EXPONENT
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
        steps += 1
    ended = age_s()
    trainer.on_train_end()
    return {
        "steps": steps,
        "began_s": began,
        "ended_s": ended,
        "seconds_per_step": (ended - began) / max(steps, 1),
        "loss": sum(losses[-10:]) / max(len(losses[-10:]), 1),
    }


def predict(trainer: Any, output: Path, mirroring: bool) -> float:
    """Every validation case into ``output/CASE.nii.gz``; returns the seconds it took."""
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(use_mirroring=mirroring, device=trainer.device, allow_tqdm=False)
    plans, configuration, listing = trainer.plans_manager, trainer.configuration_manager, trainer.dataset_json
    predictor.manual_initialization(
        trainer.network,
        plans,
        configuration,
        None,
        listing,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    _, names = trainer.do_split()
    cases = trainer.dataset_class(trainer.preprocessed_dataset_folder, names)
    for name in names:
        data, _, _, properties = cases.load_case(name)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(data[:])).cpu()
        target = str(output / name)
        export_prediction_from_logits(logits, properties, configuration, plans, listing, target, False, 2)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="its number")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--schedule", choices=["fitted", "standard"], default="fitted")
    parser.add_argument("--no-mirroring", action="store_true", help="predict without averaging mirror images")
    parser.add_argument("--output", type=Path, required=True, help="where the predicted masks go")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    trainer = get_trainer_from_args(given.dataset, "3d_fullres", given.fold, device=torch.device(given.device))
    found = train(trainer, given.seconds, given.schedule)
    found["predict_s"] = predict(trainer, given.output, not given.no_mirroring)
    plan = trainer.configuration_manager
    versions = {name: importlib.metadata.version(name) for name in ("nnunetv2", "torch")}
    print(json.dumps({**found, **versions, "batch": plan.batch_size, "patch": [int(n) for n in plan.patch_size]}))


# Its loaders are processes that import this file again.
if __name__ == "__main__":
    main()
