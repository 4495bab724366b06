"""Losses of segmentation: Dice with a loss of single voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

VoxelLoss = Literal["cross_entropy", "top_k", "focal"]

_TOP_PART = 0.1  # of an image's voxels: nnU-Net's TopK10
_FOCUS = 2.0  # Lin et al., Focal Loss for Dense Object Detection, 2017


class SegmentationLoss(nn.Module):
    """1 minus the soft Dice over the foreground, plus a mean loss of single voxels, in float32.

    Everything is a ratio of sums over voxels. ``total`` adds sums over processes, so that any number of them
    computes the loss of one batch.

    Args:
        voxels: ``cross_entropy`` of all voxels; ``top_k``, of the tenth of each image that is worst; ``focal``, where
            voxels that are right already count little.
        batch_dice: the Dice of the whole batch, so that patches without a class do not punish its absence one by
            one; else the mean of the images' own.
        ignore_label: voxels with this label count nowhere.
        regions: labels of each region, where the network answers for (overlapping) regions by sigmoids instead of for
            classes by a softmax.
        smooth: keeps the Dice of a class that is nowhere at 0 loss if it is predicted nowhere.
    """

    def __init__(
        self,
        voxels: VoxelLoss = "cross_entropy",
        *,
        batch_dice: bool = True,
        ignore_label: int | None = None,
        regions: Sequence[Sequence[int]] | None = None,
        smooth: float = 1e-5,
        total: Callable[[Tensor], Tensor] = lambda sums: sums,
    ) -> None:
        super().__init__()
        self.voxels, self.batch_dice, self.ignore_label = voxels, batch_dice, ignore_label
        self.regions, self.smooth, self.total = regions, smooth, total

    def forward(
        self,
        logits: Float[Tensor, "b n *grid"] | Sequence[Tensor],
        target: Int64[Tensor, " b *grid"],
    ) -> Float[Tensor, ""]:
        """The loss; for a list of logits (deep supervision, finest first) the weighted mean, halving per level.

        Labels below 0 count nowhere, like ``ignore_label``.
        """
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
        kept = self._kept(target)
        if kept is not None:
            target = target.masked_fill(~kept, 0)
        if self.regions is None:
            losses = functional.cross_entropy(logits, target, reduction="none")
            probability = torch.softmax(logits, 1)[:, 1:]
            # One byte a class and voxel; one_hot takes eight and a transposition.
            numbers = torch.arange(1, logits.shape[1], device=target.device).view(1, -1, *[1] * (target.ndim - 1))
            truth = target[:, None] == numbers
        else:
            members = [torch.tensor(region, device=target.device) for region in self.regions]
            truth = torch.stack([torch.isin(target, region) for region in members], 1)
            losses = functional.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none").mean(1)
            probability = torch.sigmoid(logits)
        if kept is not None:
            probability, truth = probability * kept[:, None], truth & kept[:, None]
        entropy = self._of_voxels(losses, kept)
        axes = list(range(2, logits.ndim))
        both = (probability * truth).sum(axes)
        size = probability.sum(axes) + truth.sum(axes)
        if self.batch_dice:
            both, size = both.sum(0), size.sum(0)
            sums = self.total(torch.cat([entropy, both, size]))
            both, size = sums[2:].chunk(2)
            dice = ((2 * both + self.smooth) / (size + self.smooth)).mean()
        else:
            dices = ((2 * both + self.smooth) / (size + self.smooth)).mean(1)
            present = torch.ones_like(dices) if kept is None else kept.flatten(1).any(1).float()
            sums = self.total(torch.cat([entropy, (dices * present).sum()[None], present.sum()[None]]))
            dice = sums[2] / sums[3].clamp(min=1)
        return sums[0] / sums[1].clamp(min=1) + 1 - dice

    def _kept(self, target: Tensor) -> Bool[Tensor, " b *grid"] | None:
        # Asking whether any label is negative would make a GPU wait.
        ignored = target < 0
        if self.ignore_label is not None:
            ignored |= target == self.ignore_label
        elif target.device.type == "cpu" and not ignored.any():
            return None
        return ~ignored

    def _of_voxels(self, losses: Float[Tensor, " b *grid"], kept: Tensor | None) -> Float[Tensor, " 2"]:
        """The sum over the voxels that count, and their number."""
        if self.voxels == "focal":
            losses = losses * (1 - torch.exp(-losses)) ** _FOCUS
        if kept is not None:
            losses = losses * kept
        if self.voxels == "top_k":
            number = max(1, round(_TOP_PART * losses[0].numel()))
            losses = losses.flatten(1).topk(number, dim=1, sorted=False).values
            kept = None if kept is None else kept.flatten(1).sum(1).clamp(max=number)
        count = torch.tensor(float(losses.numel()), device=losses.device) if kept is None else kept.sum().float()
        return torch.stack([losses.sum(), count])


def _resized(target: Tensor, grid: Sequence[int]) -> Tensor:
    if tuple(target.shape[1:]) == tuple(grid):
        return target
    return functional.interpolate(target[:, None].float(), size=tuple(grid), mode="nearest")[:, 0].long()
