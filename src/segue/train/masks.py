"""The objective of a segmentation: patches, Dice and cross-entropy, the Dice of whole validation images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segue.core.errors import UsageError
from segue.metrics import overlap
from segue.model import AugmentSettings, SegmentationLoss, sliding_window, thick_axis
from segue.prepare import Plan, PreparedCase, labels_of
from segue.train.batches import ANSWER, Batches, padding_values
from segue.train.coarse import answer_channels, weakened
from segue.train.distributed import World
from segue.train.importing import imported
from segue.train.objective import Autocast, Validation
from segue.train.settings import LossSettings, TrainSettings
from segue.train.variation import Variation, hidden_channels

# Counts nowhere in the loss: fills up the part of a process that has fewer images of a batch than others.
_NOWHERE = -1


class MaskObjective:
    """See :class:`segue.train.objective.Objective`.

    Args:
        world: the processes that train together; this one prepares its part of every batch only.
        answers: of a plan with a low-resolution stage, what its network answered for each case, on the case's grid.
    """

    metric = "dice"

    def __init__(
        self,
        plan: Plan,
        seed: int,
        train: Sequence[PreparedCase],
        val: Sequence[PreparedCase],
        settings: TrainSettings | None = None,
        world: World | None = None,
        answers: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.plan, self.seed, self.val = plan, seed, list(val)
        self.settings, self.world = settings or TrainSettings(), world or World()
        rows = self.world.rows(plan.batch)
        self._filled = -(-plan.batch // self.world.size)
        self._answers = answers
        self.batches = Batches(
            train, plan, seed, rows, None if answers is None else [answers[case.case.id] for case in train]
        )
        self.loss: Callable[[Any, Tensor], Tensor] = make_loss(self.settings.loss, plan, self.world)
        self.batch_shape: tuple[int, ...] = (self._filled, plan.inputs, *plan.patch)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.can_validate = bool(val)
        self._padding = torch.from_numpy(padding_values(plan))
        self._variation = Variation(
            mask_augmentation(plan),
            self.settings.augmentation,
            plan.spacing_mm,
            self._padding,
            seed,
            rows,
            plan.batch,
        )

    def batch(self, step: int, device: torch.device, vary: bool) -> tuple[Tensor, Tensor]:
        images, labels = self.batches(step)
        if device.type == "cuda":
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        if vary:
            images, labels = self._variation.ours(images, labels, step)
        answer = labels // ANSWER
        labels = labels % ANSWER
        if vary:
            images, labels = self._variation.further(images, labels, step)
            if self.plan.channel_dropout:
                self._hide_channels(images, step)
        if self._answers is not None:
            channels = answer_channels(answer, self.plan)
            first = self._variation.rows.start
            images = torch.cat([images, weakened(channels, self.seed, step, first) if vary else channels], 1)
        missing = self._filled - len(images)
        if missing:
            images = torch.cat([images, images.new_zeros(missing, *self.batch_shape[1:])])
            labels = torch.cat([labels, labels.new_full((missing, *self.plan.patch), _NOWHERE)])
        # Apple's MPS has no 3-D resampling, so there the batch is augmented before it goes to the device.
        return images.to(device), labels.to(device)

    def _hide_channels(self, images: Tensor, step: int) -> None:
        """Last of all, so that a channel that is not there looks to the network as it does in prediction."""
        hidden = hidden_channels(self.plan, self.batches.absent(step), self.seed, step)[self.batches.rows]
        rows, channels = (where.to(images.device) for where in hidden.nonzero(as_tuple=True))
        images[rows, channels] = self._padding.to(images.device)[channels, None, None, None]

    def names(self, step: int) -> list[str]:
        return self.batches.names(step)

    def validate(self, network: nn.Module, autocast: Autocast, device: torch.device) -> Validation:
        plan = self.plan
        # Each process looks at every n-th case.
        found = [self._dice(network, autocast, device, case) for case in self.val[self.world.rank :: self.world.size]]
        scores: dict[str, list[float]] = {name: [] for name in plan.labels.values()}
        for dices in self.world.gathered(found):
            for name, dice in dices.items():
                scores[name].append(dice)
        per_label = {name: float(np.mean(values)) for name, values in scores.items() if values}
        mean = float(np.mean(list(per_label.values()))) if per_label else 0.0
        return Validation(mean, {"dice": per_label, "mean_dice": mean})

    @torch.no_grad()
    def _dice(
        self, network: nn.Module, autocast: Autocast, device: torch.device, case: PreparedCase
    ) -> dict[str, float]:
        plan = self.plan
        image = torch.from_numpy(np.asarray(case.image, dtype=np.float32))
        if self._answers is not None:
            answer = torch.from_numpy(np.asarray(self._answers[case.case.id], dtype=np.int64))
            image = torch.cat([image, answer_channels(answer[None], plan)[0]])
        with autocast():
            logits = sliding_window(
                network,
                image,
                patch=plan.patch,
                overlap=plan.overlap,
                batch=plan.batch,
                device=device,
                padding=torch.cat([self._padding, torch.zeros(plan.inputs - len(plan.channels))]),
            )
        predicted = labels_of(logits.cpu().numpy(), plan)
        truth = np.asarray(case.labels).astype(np.int64)
        valid = None if plan.ignore_label is None else truth != plan.ignore_label
        counts = overlap(predicted, truth, plan.labels, valid)
        return {plan.labels[number]: count.dice for number, count in counts.items() if count.dice is not None}

    def close(self) -> None:
        self.batches.close()


def make_loss(settings: LossSettings, plan: Plan, world: World) -> Callable[[Any, Tensor], Tensor]:
    """The loss that the settings name.

    Raises:
        UsageError: a loss of one's own cannot be imported or made, or the batch does not divide by the processes.
    """
    if settings.target is None:
        return SegmentationLoss(
            settings.voxels,
            batch_dice=settings.batch_dice,
            ignore_label=plan.ignore_label,
            regions=[region.members for region in plan.regions] or None,
            total=world.total,
        )
    where = f"train.loss.target: {settings.target}"
    if plan.batch % world.size:
        raise UsageError(
            "a loss of your own needs a batch that divides by the processes",
            where=where,
            value=f"a batch of {plan.batch}, {world.size} processes",
            remedy=f"--set plan.batch={world.size * -(-plan.batch // world.size)}",
        )
    kind = imported(settings.target, "loss", "train.loss.target")
    try:
        loss = kind(**settings.args)
    except (TypeError, ValueError) as error:
        raise UsageError("the loss cannot be made", where=where, value=error) from error
    if not isinstance(loss, nn.Module):
        raise UsageError("the loss is not a torch.nn.Module", where=where, value=type(loss).__name__)
    return loss


def mask_augmentation(plan: Plan) -> AugmentSettings:
    """What is drawn for patches of this plan."""
    return AugmentSettings(
        mirror_axes=tuple(plan.mirror_axes),
        thick_axis=thick_axis(plan.patch, plan.spacing_mm),
        misaligned_channels=_misaligned_channels(plan),
    )


def _misaligned_channels(plan: Plan) -> tuple[int, ...]:
    """Those of the CT, where there is a PET: patients breathe and move between the two. Labels follow the PET."""
    units = [channel.unit for channel in plan.channels]
    return tuple(number for number, unit in enumerate(units) if unit == "HU" and "SUV" in units)
