"""The objective of a classification: whole images out of one array, cross-entropy, the AUC of the validation cases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from segue.core.seeds import generator
from segue.metrics import class_aucs, mean_auc, truth_table
from segue.model import AugmentSettings, ClassLoss, probabilities
from segue.prepare import Plan, Stack, StackImages
from segue.train.distributed import World
from segue.train.network import in_layout
from segue.train.objective import Autocast, Validation
from segue.train.settings import TrainSettings
from segue.train.variation import Variation

# Images a network answers for at once.
_FORWARD_VOXELS = 4_000_000


def truth_rows(stack: Stack, plan: Plan) -> Float32[np.ndarray, "n k"]:
    """One 0 or 1 per class and case."""
    if plan.classes == "multi-label":
        return np.array([case.target for case in stack.cases], dtype=np.float32).reshape(len(stack), -1)
    place = {number: column for column, number in enumerate(plan.labels)}
    answers = np.array([place[case.target] for case in stack.cases if isinstance(case.target, int)])
    return truth_table(answers, len(plan.labels)).astype(np.float32)


class ClassImages(StackImages):
    """Images of a stack as tensors."""

    def __call__(self, numbers: np.ndarray) -> Float32[Tensor, "b c i j k"]:
        """These images in the network's axes, normalised, on the CPU.

        numpy, not torch: operations this small cost more on torch's threads than on one.
        """
        return torch.from_numpy(self.arrays(numbers))


class ClassBatches:
    """The training batches: shuffled passes, each batch one gather, the next one read while the device works."""

    def __init__(
        self, images: ClassImages, truth: Float32[np.ndarray, "n k"], batch: int, seed: int, world: World | None = None
    ) -> None:
        self.images, self.truth, self.seed = images, truth, seed
        self.size = min(batch, len(truth))
        self.rows = (world or World()).rows(self.size)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[tuple[Tensor, Tensor]]] | None = None
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images and truth of one step, on the CPU."""
        if self._next is not None and self._next[0] == step:
            batch = self._next[1].result()
        else:
            batch = self._draw(step)
        self._next = (step + 1, self._pool.submit(self._draw, step + 1))
        return batch

    def members(self, step: int) -> np.ndarray:
        """The cases in the batch of a step."""
        total = len(self.truth)
        places = np.arange(step * self.size, (step + 1) * self.size)
        first, last = int(places[0] // total), int(places[-1] // total)
        orders = [self._pass(number) for number in range(first, last + 1)]
        return np.concatenate(orders)[places - first * total]

    def _pass(self, number: int) -> np.ndarray:
        if self._order[0] != number:
            self._order = (number, generator(self.seed, "pass", number).permutation(len(self.truth)))
        return self._order[1]

    def _draw(self, step: int) -> tuple[Tensor, Tensor]:
        numbers = self.members(step)[self.rows]
        return self.images(numbers), torch.from_numpy(self.truth[numbers])

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class ClassObjective:
    """See :class:`segue.train.objective.Objective`."""

    metric = "auc"

    def __init__(
        self,
        plan: Plan,
        seed: int,
        train: Stack,
        val: Stack | None,
        settings: TrainSettings | None = None,
        world: World | None = None,
    ) -> None:
        self.plan, self.seed = plan, seed
        self.settings, self.world = settings or TrainSettings(), world or World()
        assert plan.classes is not None and plan.class_shift is not None, "the plan of a classification"
        self.classes = plan.classes
        self.batches = ClassBatches(ClassImages(train, plan), truth_rows(train, plan), plan.batch, seed, self.world)
        self._filled = -(-self.batches.size // self.world.size)
        self.batch_shape: tuple[int, ...] = (self._filled, len(plan.channels), *plan.patch)
        self.steps_per_epoch = -(-len(train) // self.batches.size)
        self.can_validate = val is not None
        self._val = ClassImages(val, plan) if val is not None else None
        self._loss = ClassLoss(plan.classes, torch.tensor(plan.class_shift), self.settings.label_smoothing)

    @cached_property
    def _variation(self) -> Variation:
        # Small images of classes gain from being turned and scaled often (benchmarks/README.md).
        settings = AugmentSettings(
            mirror_axes=tuple(self.plan.mirror_axes), rotation_probability=0.7, scaling_probability=0.7
        )
        if not self.plan.vary_intensities:
            settings = replace(
                settings,
                brightness_probability=0.0,
                contrast_probability=0.0,
                inverted_gamma_probability=0.0,
                gamma_probability=0.0,
            )
        return Variation(
            settings,
            self.settings.augmentation,
            self.plan.spacing_mm,
            torch.zeros(len(self.plan.channels)),
            self.seed,
            self.batches.rows,
            self.batches.size,
        )

    def batch(self, step: int, device: torch.device, vary: bool) -> tuple[Tensor, Tensor]:
        images, truth = self.batches(step)
        images = images.to(device, non_blocking=True)
        if vary:
            images, _ = self._variation(images, None, step)
        missing = self._filled - len(images)
        if missing:
            # A process that has fewer images than others: what is not a number counts nowhere.
            images = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
            truth = torch.cat([truth, truth.new_full((missing, truth.shape[1]), torch.nan)])
        return images, truth.to(device)

    def names(self, step: int) -> list[str]:
        return [self.batches.images.stack.cases[number].id for number in self.batches.members(step)]

    def loss(self, logits: Any, truth: Tensor) -> Tensor:
        if self.world.size == 1:
            return self._loss(logits, truth)
        there = ~truth.isnan().any(1)
        several = isinstance(logits, list | tuple)
        kept = [part[there] for part in logits] if several else logits[there]
        nothing = sum(part.sum() for part in logits) * 0 if several else logits.sum() * 0
        mine = self._loss(kept, truth[there]) * there.sum() if there.any() else nothing
        sums = self.world.total(torch.stack([mine, there.sum().to(mine)]))
        return sums[0] / sums[1]

    def validate(self, network: nn.Module, autocast: Autocast, device: torch.device) -> Validation:
        assert self._val is not None, "only called where there are validation cases"
        truth = truth_rows(self._val.stack, self.plan).astype(bool)
        answers = np.concatenate(list(answered(network, self._val, autocast, device)))
        score = float(mean_auc(class_aucs(truth, answers), self.classes))
        # One class alone among the validation cases: nothing tells networks apart but the loss.
        entropy = -float(np.mean(np.log(np.clip(np.where(truth, answers, 1 - answers), 1e-7, 1))))
        return Validation(score if np.isfinite(score) else -entropy, {"scores": {"auc": score, "entropy": entropy}})

    def close(self) -> None:
        self.batches.close()


def answered(
    network: nn.Module, images: ClassImages, autocast: Autocast, device: torch.device, mirrored: bool = False
) -> Iterator[Float32[np.ndarray, "b k"]]:
    """Probabilities of all images of a stack, in its order, some at a time.

    Args:
        mirrored: average over the images mirrored along the plan's axes, in all combinations.
    """
    plan = images.plan
    axes = [axis + 2 for axis in plan.mirror_axes if plan.patch[axis] > 1] if mirrored else []
    views = [chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count)]
    assert plan.classes is not None, "the plan of a classification"
    step = max(1, _FORWARD_VOXELS // int(np.prod(plan.patch)) // 8)
    for first in range(0, len(images.stack), step):
        numbers = np.arange(first, min(first + step, len(images.stack)))
        batch = images(numbers).to(device)
        with torch.inference_mode(), autocast():
            answers = sum(probabilities(network(in_layout(batch.flip(view))), plan.classes) for view in views)
        yield (torch.as_tensor(answers) / len(views)).cpu().numpy()
