"""What a training is for: the seam between the loop, which is the same for every task, and masks or classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Autocast = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Validation:
    """How good a network is: the score that chooses (larger is better), and what is told beside it."""

    score: float
    facts: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """Batches, loss and validation of one task.

    Attributes:
        metric: what the score is called.
        batch_shape: of the images of a batch, ``(b, c, i, j, k)``.
        steps_per_epoch: steps in one pass over the training cases.
        can_validate: whether there are validation cases.
    """

    metric: str
    batch_shape: tuple[int, ...]
    steps_per_epoch: int
    can_validate: bool

    def batch(self, step: int, device: torch.device, vary: bool) -> tuple[Tensor, Tensor]:
        """Images ``(b, c, i, j, k)`` and truth of a step on the device, augmented where ``vary``; they follow from
        the seed and the step alone."""

    def names(self, step: int) -> Sequence[str]:
        """The cases in the batch of a step."""

    def loss(self, logits: Any, truth: Tensor) -> Float[Tensor, ""]:
        """What is made small."""

    def validate(self, network: nn.Module, autocast: Autocast, device: torch.device) -> Validation:
        """Look at all validation cases."""

    def close(self) -> None:
        """Stop reading ahead."""
