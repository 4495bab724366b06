"""The low-resolution stage: a network that sees much, coarsely, and what it answers as channels of the next one.

As nnU-Net's cascade (Isensee et al., 2021), which takes each answer from a fold that had not seen the case. Here one
network answers for all, and what it answers on the cases that it learnt from is better than on new ones: so each
answer is weakened at random, and in a fifth of the patches it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt16
from torch import Tensor, nn
from torch.nn import functional

from segue.core.seeds import stream_seed
from segue.model import sliding_window
from segue.prepare import Plan
from segue.train.batches import padding_values
from segue.train.objective import Autocast

_MISSING_PROBABILITY = 0.2
_RESHAPED_PROBABILITY = 0.4
_MOST_VOXELS = 3  # by which a reshaped answer grows or shrinks


@torch.inference_mode()
def coarse_answer(
    network: nn.Module,
    autocast: Autocast,
    image: Float32[np.ndarray, "c i j k"],
    plan: Plan,
    shape: Sequence[int],
    device: torch.device,
) -> UInt16[np.ndarray, "x y z"]:
    """The label map of an image prepared for the coarse ``plan``, on a finer grid over the same field of view."""
    with autocast():
        logits = sliding_window(
            network,
            torch.from_numpy(image),
            patch=plan.patch,
            overlap=plan.overlap,
            batch=plan.batch,
            device=device,
            padding=torch.from_numpy(padding_values(plan)),
        ).float()
    size = tuple(shape)

    def on_grid(values: Tensor) -> Tensor:
        return functional.interpolate(values[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]

    if plan.regions:
        winner = torch.zeros(size, dtype=torch.int64, device=logits.device)
        for region, values in zip(plan.regions, logits, strict=True):
            winner[on_grid(values) > 0] = region.label
        return winner.cpu().numpy().astype(np.uint16)
    best, winner = on_grid(logits[0]), torch.zeros(size, dtype=torch.int64, device=logits.device)
    for number in plan.labels:
        values = on_grid(logits[number])
        wins = values > best
        best = torch.where(wins, values, best)
        winner[wins] = number
    return winner.cpu().numpy().astype(np.uint16)


def answer_channels(answer: Int64[Tensor, "b i j k"], plan: Plan) -> Float[Tensor, "b n i j k"]:
    """One channel per label, 1 where the coarse network sees it."""
    numbers = torch.tensor(list(plan.labels), device=answer.device).view(1, -1, 1, 1, 1)
    return (answer[:, None] == numbers).float()


def weakened(channels: Float[Tensor, "b n i j k"], seed: int, step: int, first_row: int) -> Float[Tensor, "b n i j k"]:
    """The answer as it may look on a new image: missing, grown or shrunk; row by row, so that the number of processes
    changes nothing."""
    result = channels.clone()
    for row in range(len(channels)):
        random = torch.Generator().manual_seed(stream_seed(seed, "answer", step, first_row + row))
        missing, reshaped, growing = torch.rand(3, generator=random).tolist()
        voxels = int(torch.randint(1, _MOST_VOXELS + 1, (1,), generator=random))
        if missing < _MISSING_PROBABILITY:
            result[row] = 0
        elif reshaped < _RESHAPED_PROBABILITY:
            # Along an axis of one voxel there is nothing to grow into.
            radius = [voxels if side > 1 else 0 for side in channels.shape[2:]]
            sides = [2 * r + 1 for r in radius]
            sign = 1 if growing < 0.5 else -1
            result[row] = sign * functional.max_pool3d(sign * channels[row : row + 1], sides, 1, radius)[0]
    return result
