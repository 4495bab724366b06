"""The peers' side of ``benchmarks/medmnist.py``; runs in their own environment, and prints one line of JSON.

    PEER -P benchmarks/medmnist_peer.py supply FOLDER breastmnist --workers 2
    PEER -P benchmarks/medmnist_peer.py train FOLDER breastmnist --feed medmnist --steps 20
    PEER -P benchmarks/medmnist_peer.py official FOLDER vesselmnist3d --minutes 30

FOLDER holds NAME.npz. ``-P`` keeps this folder off Python's path: its ``medmnist.py`` would hide the package.

The recipes are those of the repository MedMNIST/experiments (2-D and 3-D, ``train_and_eval_pytorch.py``), written
anew: ResNet-18 for small images (first convolution 3 wide with stride 1, no pooling after it), Adam at 0.001, plain
cross-entropy, a tenth of the learning rate after 50 % and again after 75 % of training, and, in 3-D, batches of 32,
every weight of a 2-D network repeated along the first axis, grey values times a random number between 0 and 1 (0.5
when measured), best model by AUC on the validation images, 100 epochs.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import medmnist
import numpy as np
import torch
from monai.networks.nets import resnet18
from torch import Tensor, nn
from torch.utils.data import DataLoader

# Last, so that the package medmnist stays the one that is imported by that name.
sys.path.append(str(Path(__file__).resolve().parent))
from medmnist_segue import BATCH, Passes, images_per_second, segue_passes

LEARNING_RATE, DECAY, MILESTONES = 0.001, 0.1, (0.5, 0.75)
EPOCHS, BATCH_3D = 100, 32


def dataset(root: Path, flag: str, split: str, transform: Any) -> Any:
    """The peer's own dataset class over ROOT/FLAG.npz."""
    made = getattr(medmnist, medmnist.INFO[flag]["python_class"])(split=split, root=str(root), transform=transform)
    # Its length is asserted to be the published one; a made-up file has a length of its own.
    made.info = {**made.info, "n_samples": {**made.info["n_samples"], split: len(made.imgs)}}
    return made


def medmnist_passes(root: Path, flag: str, workers: int, keep: bool) -> Passes:
    """The package with the transform it documents and torch's DataLoader: a function that starts a pass."""
    from torchvision import transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean=[0.5], std=[0.5])])
    images = dataset(root, flag, "train", transform)
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=keep)
    return lambda: loader


def small_resnet18(dimension: int, channels: int, classes: int) -> nn.Module:
    """ResNet-18 as the recipes have it, with torch's own initial weights rather than MONAI's."""
    network = resnet18(
        spatial_dims=dimension,
        n_input_channels=channels,
        num_classes=classes,
        conv1_t_size=3,
        conv1_t_stride=1,
        no_max_pool=True,
        bias_downsample=False,
    )
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            _inflate(module)
        elif hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return network


def _inflate(convolution: nn.Conv3d) -> None:
    outputs, inputs, depth, *plane = convolution.weight.shape
    flat = nn.Conv2d(inputs, outputs, plane, bias=False).weight.detach()
    with torch.no_grad():
        convolution.weight.copy_(flat[:, :, None].expand(-1, -1, depth, -1, -1) / depth)


def step(network: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """One step as the recipes take it; they ask for the loss each time."""
    optimiser.zero_grad()
    loss = nn.functional.cross_entropy(network(images), labels)
    value = loss.item()
    loss.backward()
    optimiser.step()
    return value


def endless(passes: Passes) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from passes()


def train(root: Path, flag: str, feed: str, workers: int, steps: int) -> dict[str, Any]:
    """Images trained on each second by the 2-D recipe, with batches from the one or the other."""
    torch.manual_seed(0)
    info = medmnist.INFO[flag]
    passes = segue_passes(root / f"{flag}.npz") if feed == "segue" else medmnist_passes(root, flag, workers, False)
    network = small_resnet18(2, info["n_channels"], len(info["label"])).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    # The first steps on a CPU choose and build kernels.
    images, labels = torch.randn(BATCH, info["n_channels"], 28, 28), torch.zeros(BATCH, dtype=torch.int64)
    for _ in range(2):
        step(network, optimiser, images, labels)
    started, seen, taken = time.perf_counter(), 0, 0
    for images, labels in endless(passes):
        step(network, optimiser, images, labels.reshape(-1).long())
        seen, taken = seen + len(labels), taken + 1
        if taken == steps:
            break
    return {"images_per_second": seen / (time.perf_counter() - started)}


class RandomIntensity:
    """The only augmentation of the 3-D recipe for sets of shapes."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return (image * np.random.uniform()).astype(np.float32)  # noqa: NPY002 - as the recipe draws it


class HalfIntensity:
    def __call__(self, image: np.ndarray) -> np.ndarray:
        return (image * 0.5).astype(np.float32)


def official(
    root: Path, flag: str, minutes: float | None, epochs: int, seed: int, device: torch.device
) -> dict[str, Any]:
    """The 3-D recipe, for so many epochs or for so many minutes of training and validating, whichever ends first.

    Where the minutes end first, the learning rate falls after 50 % and 75 % of the minutes.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the recipe's transform draws from it
    loader = DataLoader(dataset(root, flag, "train", RandomIntensity()), BATCH_3D, shuffle=True)
    held_out = {name: DataLoader(dataset(root, flag, name, HalfIntensity()), BATCH_3D) for name in ("val", "test")}
    info = medmnist.INFO[flag]
    network = small_resnet18(3, info["n_channels"], len(info["label"])).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    evaluators = {name: medmnist.Evaluator(flag, name, root=str(root)) for name in held_out}
    best_auc, best, steps, progress, epoch = 0.0, copy.deepcopy(network.state_dict()), 0, 0.0, 0
    started = time.monotonic()
    while progress < 1:
        network.train()
        for images, labels in loader:
            rate = LEARNING_RATE * DECAY ** sum(progress >= milestone for milestone in MILESTONES)
            for group in optimiser.param_groups:
                group["lr"] = rate
            step(network, optimiser, images.to(device), labels.reshape(-1).long().to(device))
            steps += 1
            progress = _progress(epoch, epochs, started, minutes)
            if progress >= 1:
                break
        epoch += 1
        auc = evaluators["val"].evaluate(probabilities(network, held_out["val"], device)).AUC
        progress = _progress(epoch, epochs, started, minutes)
        print(f"epoch {epoch}, {steps} steps, validation AUC {auc:.4f}", file=sys.stderr, flush=True)
        if auc > best_auc:
            best_auc, best = float(auc), copy.deepcopy(network.state_dict())
    trained = time.monotonic() - started
    network.load_state_dict(best)
    scores = probabilities(network, held_out["test"], device)
    return {
        **_scores(evaluators["test"], scores),
        "val_auc": best_auc,
        "epochs": steps / len(loader),
        "steps": steps,
        "minutes": trained / 60,
    }


def _progress(epoch: int, epochs: int, started: float, minutes: float | None) -> float:
    of_time = 0.0 if minutes is None else (time.monotonic() - started) / (60 * minutes)
    return max(epoch / epochs, of_time)


def probabilities(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(images.to(device)).softmax(1).cpu() for images, _ in batches]).numpy()


def _scores(evaluator: Any, scores: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import balanced_accuracy_score

    measured = evaluator.evaluate(scores)
    balanced = balanced_accuracy_score(evaluator.labels[:, 0], scores.argmax(1))
    return {"auc": float(measured.AUC), "accuracy": float(measured.ACC), "balanced_accuracy": float(balanced)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["supply", "train", "official"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--keep-workers", action="store_true", help="start workers once, not for each pass")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--feed", choices=["medmnist", "segue"], default="medmnist")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.what == "supply":
        passes = medmnist_passes(given.folder, given.name, given.workers, given.keep_workers)
        found = {"images_per_second": images_per_second(passes, given.seconds)}
    elif given.what == "train":
        found = train(given.folder, given.name, given.feed, given.workers, given.steps)
    else:
        device = torch.device(given.device)
        found = official(given.folder, given.name, given.minutes, given.epochs, given.seed, device)
    print(json.dumps({**found, "torch": torch.__version__, "medmnist": medmnist.__version__}))


if __name__ == "__main__":
    main()
