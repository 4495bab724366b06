"""Where a training stands in its budget, and the learning rate that follows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from segue.prepare import Budget
from segue.train.settings import TrainSettings


@dataclass
class Schedule:
    """Progress from 0 to 1 through a budget of steps or of wall time.

    A budget of time ends earlier after ``most_epochs``, where that is given.
    ``spent_s`` is what earlier, interrupted attempts used up: with a budget in time it counts.
    """

    budget: Budget
    steps_per_epoch: int
    most_epochs: int | None = None
    spent_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    @property
    def total_steps(self) -> int | None:
        if self.budget.steps is not None:
            return self.budget.steps
        return None if self.budget.epochs is None else self.budget.epochs * self.steps_per_epoch

    @property
    def elapsed_s(self) -> float:
        return self.spent_s + time.monotonic() - self._started

    def progress(self, step: int) -> float:
        """Part of the budget used before ``step`` begins."""
        if self.total_steps is not None:
            return min(1.0, step / self.total_steps)
        seconds = self.budget.seconds
        assert seconds is not None, "a budget is either of steps or of time"
        passed = step / (self.most_epochs * self.steps_per_epoch) if self.most_epochs else 0.0
        return min(1.0, max(self.elapsed_s / seconds, passed))


def learning_rate(progress: float, peak: float, settings: TrainSettings) -> float:
    """Linear warm-up, then down to a hundredth of the peak.

    By half a cosine (Loshchilov and Hutter, SGDR, 2017), or by the polynomial of power 0.9 that nnU-Net takes.
    """
    if progress < settings.warm_up:
        return peak * (0.05 + 0.95 * progress / settings.warm_up)
    left = 1 - min(1.0, (progress - settings.warm_up) / (1 - settings.warm_up))
    part = left**0.9 if settings.schedule == "poly" else 0.5 * (1 - math.cos(math.pi * left))
    return peak * (0.01 + 0.99 * part)
