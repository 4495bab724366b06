"""Dice and cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional


class DiceCrossEntropy(nn.Module):
    """Soft Dice over the foreground classes plus cross-entropy, as in nnU-Net, in float32.

    The Dice is that of the whole batch: patches without a class do not punish its absence one by one.

    Args:
        ignore_label: voxels with this label count nowhere.
        smooth: keeps the Dice of a class that is nowhere at 0 loss if it is predicted nowhere.
    """

    def __init__(self, ignore_label: int | None = None, smooth: float = 1e-5) -> None:
        super().__init__()
        self.ignore_label, self.smooth = ignore_label, smooth

    def forward(
        self,
        logits: Float[Tensor, "b n *grid"] | Sequence[Tensor],
        target: Int64[Tensor, b * grid],
    ) -> Float[Tensor, ""]:
        """The loss; for a list of logits (deep supervision, finest first) the weighted mean, halving per level."""
        if isinstance(logits, Tensor):
            return self._single(logits, target)
        weights = [0.5**level for level in range(len(logits))]
        total = sum(
            weight * self._single(part, _resized(target, part.shape[2:]))
            for weight, part in zip(weights, logits, strict=True)
        )
        return torch.as_tensor(total) / sum(weights)

    def _single(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = logits.float()
        ignored = None if self.ignore_label is None else target == self.ignore_label
        if ignored is not None:
            target = target.masked_fill(ignored, 0)
        entropy = functional.cross_entropy(logits, target, reduction="none" if ignored is not None else "mean")
        probability = torch.softmax(logits, 1)[:, 1:]
        # One byte a class and voxel; one_hot takes eight and a transposition.
        numbers = torch.arange(1, logits.shape[1], device=target.device).view(1, -1, *[1] * (target.ndim - 1))
        truth = target[:, None] == numbers
        if ignored is not None:
            kept = ~ignored
            entropy = (entropy * kept).sum() / kept.sum().clamp(min=1)
            probability, truth = probability * kept[:, None], truth & kept[:, None]
        axes = [0, *range(2, logits.ndim)]
        both = (probability * truth).sum(axes)
        total = probability.sum(axes) + truth.sum(axes)
        dice = (2 * both + self.smooth) / (total + self.smooth)
        return entropy + 1 - dice.mean()


def _resized(target: Tensor, grid: Sequence[int]) -> Tensor:
    if tuple(target.shape[1:]) == tuple(grid):
        return target
    return functional.interpolate(target[:, None].float(), size=tuple(grid), mode="nearest")[:, 0].long()
