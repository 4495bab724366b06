"""Optimiser, running mean of the weights, weights to start from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from segue.core.console import say
from segue.core.errors import DataError
from segue.prepare import Plan
from segue.train.checkpoint import load_checkpoint
from segue.train.run import Run
from segue.train.settings import TrainSettings

# Of nnU-Net's trainer.
_SGD_RATE, _SGD_DECAY, _SGD_MOMENTUM = 1e-2, 3e-5, 0.99
_ADAMW_DECAY = 0.01


def peak_rate(settings: TrainSettings, plan: Plan) -> float:
    """The highest learning rate of the schedule."""
    return settings.learning_rate or (_SGD_RATE if settings.optimizer == "sgd" else plan.learning_rate)


def make_optimizer(
    network: nn.Module, settings: TrainSettings, rate: float, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW, or SGD with Nesterov's momentum."""
    fused = device.type in ("cpu", "cuda")
    decay, weights = settings.weight_decay, network.parameters()
    if settings.optimizer == "sgd":
        decay = _SGD_DECAY if decay is None else decay
        return torch.optim.SGD(weights, rate, momentum=_SGD_MOMENTUM, nesterov=True, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(weights, rate, weight_decay=_ADAMW_DECAY if decay is None else decay, fused=fused)


@torch.no_grad()
def follow(mean: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the running mean towards the weights; in the first steps faster, so that it forgets where they began."""
    decay = min(decay, (1 + step) / (10 + step))
    now = network.state_dict()
    for name, value in mean.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(now[name], 1 - decay)
        else:
            value.copy_(now[name])


def start_from(network: nn.Module, source: Path) -> None:
    """Copy the weights of a run or a checkpoint, where name and shape fit.

    Raises:
        DataError: there is no checkpoint, or nothing in it fits.
    """
    path = source
    if source.is_dir():
        run = Run(source)
        path = run.best if run.best.exists() else run.last
    content = load_checkpoint(path)
    weights = content.get("mean_network") or content.get("network") or {}
    own = network.state_dict()
    fitting = {
        name: value
        for name, value in weights.items()
        if name in own and isinstance(value, torch.Tensor) and value.shape == own[name].shape
    }
    if not fitting:
        raise DataError(
            "nothing in these weights fits the network",
            where=path,
            value=f"{len(weights)} tensors, such as {next(iter(weights), 'none')}; "
            f"the network has {len(own)}, such as {next(iter(own))}",
            remedy="take the network of that run: the same plan.json, or network.args",
        )
    network.load_state_dict(fitting, strict=False)
    anew = [name for name in own if name not in fitting]
    rest = f"; {len(anew)} start anew: {', '.join(anew[:3])}{' ...' if len(anew) > 3 else ''}" if anew else ""
    say(f"weights from {path}: {len(fitting)} of {len(own)} tensors{rest}")
