"""The objective of a segmentation: patches, Dice and cross-entropy, the Dice of whole validation images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segue.core.seeds import stream_seed
from segue.metrics import overlap
from segue.model import AugmentSettings, DiceCrossEntropy, augment, draw_augmentation, sliding_window
from segue.prepare import Plan, PreparedCase
from segue.train.batches import Batches, padding_values
from segue.train.objective import Autocast, Validation


class MaskObjective:
    """See :class:`segue.train.objective.Objective`."""

    metric = "dice"

    def __init__(self, plan: Plan, seed: int, train: Sequence[PreparedCase], val: Sequence[PreparedCase]) -> None:
        self.plan, self.seed, self.val = plan, seed, list(val)
        self.batches = Batches(train, plan, seed)
        self.loss = DiceCrossEntropy(ignore_label=plan.ignore_label)
        self.batch_shape: tuple[int, ...] = (plan.batch, len(plan.channels), *plan.patch)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.can_validate = bool(val)
        self._augmentation = AugmentSettings(mirror_axes=tuple(plan.mirror_axes))
        self._padding = torch.from_numpy(padding_values(plan))

    def batch(self, step: int, device: torch.device, vary: bool) -> tuple[Tensor, Tensor]:
        images, labels = self.batches(step)
        if device.type == "cuda":
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        if vary:
            random = torch.Generator().manual_seed(stream_seed(self.seed, "augment", step))
            drawn = draw_augmentation(self._augmentation, len(images), images.shape[1], random)
            padding = self._padding.to(images.device)
            images, labels = augment(images, labels, drawn, self.plan.spacing_mm, padding)
        # Apple's MPS has no 3-D resampling, so there the batch is augmented before it goes to the device.
        return images.to(device), labels.to(device)

    def names(self, step: int) -> list[str]:
        return self.batches.names(step)

    def validate(self, network: nn.Module, autocast: Autocast, device: torch.device) -> Validation:
        plan = self.plan
        scores: dict[str, list[float]] = {name: [] for name in plan.labels.values()}
        for case in self.val:
            predicted = self._predict(network, autocast, device, np.asarray(case.image, dtype=np.float32))
            truth = np.asarray(case.labels).astype(np.int64)
            valid = None if plan.ignore_label is None else truth != plan.ignore_label
            for number, count in overlap(predicted, truth, plan.labels, valid).items():
                if count.dice is not None:
                    scores[plan.labels[number]].append(count.dice)
        per_label = {name: float(np.mean(values)) for name, values in scores.items() if values}
        mean = float(np.mean(list(per_label.values()))) if per_label else 0.0
        return Validation(mean, {"dice": per_label, "mean_dice": mean})

    @torch.no_grad()
    def _predict(self, network: nn.Module, autocast: Autocast, device: torch.device, image: np.ndarray) -> np.ndarray:
        with autocast():
            logits: Any = sliding_window(
                network,
                torch.from_numpy(image),
                patch=self.plan.patch,
                overlap=self.plan.overlap,
                batch=self.plan.batch,
                device=device,
                padding=self._padding,
            )
        return logits.argmax(0).cpu().numpy()

    def close(self) -> None:
        self.batches.close()
