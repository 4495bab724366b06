"""How a network is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segue.core.config import Settings


class TrainSettings(Settings):
    """``train:`` in an experiment. The defaults are measured (benchmarks/README.md); most people leave them.

    Attributes:
        learning_rate: peak of the schedule (linear warm-up, then half a cosine to zero, fitted to the budget); the
            plan's if not given.
        ema_decay: decay of the running mean of the weights, which is what is validated and kept.
        label_smoothing: of a classification, the part of each target that is spread over all classes.
        save_every_s: seconds between checkpoints: the most work that a killed process loses.
        validations: how often, at most, the validation cases are looked at.
        precision: ``auto`` measures on CPUs that have bfloat16 units whether these are faster.
    """

    learning_rate: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warm_up: float = Field(0.03, ge=0, lt=1)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    clip_gradient: float = Field(12.0, gt=0)
    augment: bool = True
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    save_every_s: float = Field(60.0, ge=0)
    validations: int = Field(10, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
