"""The training loop: steps, running mean of the weights, validation, checkpoints, events."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segue.core.console import Stage, say, stage
from segue.core.errors import DataError
from segue.core.seeds import stream_seed
from segue.prepare import Budget, Plan
from segue.train.checkpoint import load_checkpoint, save_checkpoint
from segue.train.device import has_fast_bfloat16
from segue.train.interrupt import stop_between_steps
from segue.train.network import build_network, in_fast_layout, parameters_of
from segue.train.objective import Objective
from segue.train.run import EventLog, Run
from segue.train.schedule import Schedule, learning_rate
from segue.train.settings import TrainSettings

# A step whose loss is not a number is left out; so many in a row mean that the training is lost.
_LOST_STEPS = 5
# Validation may use up to this part of the time.
_VALIDATION_SHARE = 0.08
_EVENT_EVERY_S = 5.0


@dataclass(frozen=True)
class TrainTask:
    """How a network is trained, and how long it may take; ``most_epochs`` ends a budget of time earlier."""

    plan: Plan
    settings: TrainSettings
    budget: Budget
    seed: int
    most_epochs: int | None = None


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    steps: int
    seconds: float
    best_score: float | None


class Trainer:
    """Trains one network into one run folder; started again on the same folder, it goes on from ``last.pt``."""

    def __init__(self, task: TrainTask, objective: Objective, run: Run, device: torch.device) -> None:
        self.task, self.objective, self.run, self.device = task, objective, run, device
        self._peak = task.settings.learning_rate or task.plan.learning_rate
        torch.manual_seed(stream_seed(task.seed, "weights"))
        self.network = in_fast_layout(build_network(task.plan), device)
        self.mean_network = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self._peak,
            weight_decay=task.settings.weight_decay,
            fused=device.type in ("cpu", "cuda"),
        )
        self.step = 0
        self.best_score: float | None = None
        self.validated_at = 0.0
        self.validation_s = 0.0
        self.precision: str | None = None
        self._lost_in_a_row = 0

    def fit(self) -> TrainResult:
        """Train until the budget is used up.

        Raises:
            DataError: the loss is not a number any more, with the cases of the batch.
            KeyboardInterrupt: after the state was saved.
        """
        events = EventLog(self.run.events)
        schedule = self._resume(events)
        if self.precision is None:
            self.precision = self._choose_precision()
        if self.step == 0:
            events.write(
                "started",
                device=str(self.device),
                precision=self.precision,
                parameters=parameters_of(self.network),
                steps_per_epoch=self.objective.steps_per_epoch,
                budget=str(self.task.budget),
            )
        try:
            with stage("train", 1.0) as shown, stop_between_steps() as stopping:
                self._loop(schedule, events, shown, stopping)
            events.write("finished", step=self.step, seconds=schedule.elapsed_s, best_score=self.best_score)
        finally:
            self.objective.close()
            events.close()
        return TrainResult(self.step, schedule.elapsed_s, self.best_score)

    def _loop(self, schedule: Schedule, events: EventLog, shown: Stage, stopping: Callable[[], bool]) -> None:
        settings = self.task.settings
        saved = told = time.monotonic()
        losses: list[float] = []
        # However short the time, there is one step, and with it a checkpoint.
        while (progress := schedule.progress(self.step)) < 1.0 or self.step == 0:
            rate = learning_rate(progress, self._peak, settings.warm_up)
            losses.append(self._train_step(rate))
            self.step += 1
            progress = schedule.progress(self.step)
            now = time.monotonic()
            if now - told >= _EVENT_EVERY_S or progress >= 1.0:
                told = now
                loss = float(np.nanmean(losses)) if np.isfinite(losses).any() else math.nan
                events.write("step", step=self.step, seconds=schedule.elapsed_s, loss=loss, learning_rate=rate)
                best = f", {self.objective.metric} {self.best_score:.3f}" if self.best_score is not None else ""
                shown.move_to(progress, f"step {self.step}, loss {loss:.3f}{best}")
                losses.clear()
            if self._validation_is_due(progress, schedule):
                self._validate(progress, schedule, events)
            if now - saved >= settings.save_every_s or progress >= 1.0 or stopping():
                self._save(schedule)
                saved = time.monotonic()
            if stopping():
                say(f"stopped after step {self.step}; it is saved: run the same command again to go on")
                raise KeyboardInterrupt

    def _train_step(self, rate: float) -> float:
        settings = self.task.settings
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, truth = self.objective.batch(self.step, self.device, settings.augment)
        if self.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last_3d)
        self.network.train()
        with self._autocast():
            logits = self.network(images)
        loss = self.objective.loss(logits, truth)
        value = float(loss.detach())
        if not math.isfinite(value):
            self._lose_step(value)
            return math.nan
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_gradient)
        if not torch.isfinite(norm):
            self._lose_step(float(norm), "gradient")
            return value
        self._lost_in_a_row = 0
        self.optimizer.step()
        self._follow()
        return value

    def _lose_step(self, value: float, what: str = "loss") -> None:
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _LOST_STEPS:
            raise DataError(
                f"the {what} is not a number in {_LOST_STEPS} steps in a row",
                where=", ".join(self.objective.names(self.step)),
                value=f"{value} at step {self.step}",
                remedy="look at these cases with segue check, or lower the rate: --set train.learning_rate=5e-4",
            )

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.task.settings.ema_decay, (1 + self.step) / (10 + self.step))
        mean, now = self.mean_network.state_dict(), self.network.state_dict()
        for name, value in mean.items():
            if value.dtype.is_floating_point:
                value.lerp_(now[name], 1 - decay)
            else:
                value.copy_(now[name])

    def _validation_is_due(self, progress: float, schedule: Schedule) -> bool:
        if not self.objective.can_validate:
            return False
        if progress >= 1.0:
            return True
        gap = 1 / self.task.settings.validations
        if self.validation_s and schedule.elapsed_s > 0:
            # A time-boxed training must not spend itself on looking at the validation cases.
            estimated_total = schedule.elapsed_s / max(progress, 1e-6)
            gap = max(gap, self.validation_s / (_VALIDATION_SHARE * estimated_total))
        return progress - self.validated_at >= gap

    def _validate(self, progress: float, schedule: Schedule, events: EventLog) -> None:
        started = time.monotonic()
        found = self.objective.validate(self.mean_network, self._autocast, self.device)
        self.validation_s = time.monotonic() - started
        self.validated_at = progress
        improved = self.best_score is None or found.score >= self.best_score
        if improved:
            self.best_score = found.score
            self._save_best(found.score)
        events.write(
            "validated",
            step=self.step,
            seconds=schedule.elapsed_s,
            metric=self.objective.metric,
            score=found.score,
            best=improved,
            **found.facts,
        )

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _choose_precision(self) -> str:
        """Measured, not assumed: two steps in each format, where the device has the units for it."""
        if self.task.settings.precision != "auto":
            return self.task.settings.precision
        if not has_fast_bfloat16(self.device):
            return "float32"
        if self.device.type == "cuda":
            return "bfloat16"
        images = torch.zeros(self.objective.batch_shape).contiguous(memory_format=torch.channels_last_3d)
        seconds = {}
        for precision in ("float32", "bfloat16"):
            self.precision = precision
            seconds[precision] = min(self._time_pass(images) for _ in range(3))
        return min(seconds, key=lambda name: seconds[name])

    def _time_pass(self, images: Tensor) -> float:
        started = time.perf_counter()
        self.network.train()
        with self._autocast():
            logits = self.network(images)
        finest = logits[0] if isinstance(logits, list | tuple) else logits
        finest.float().square().mean().backward()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    def _save(self, schedule: Schedule) -> None:
        save_checkpoint(
            self.run.last,
            {
                "network": self.network.state_dict(),
                "mean_network": self.mean_network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": schedule.elapsed_s,
                "best_score": self.best_score,
                "validated_at": self.validated_at,
                "validation_s": self.validation_s,
                "precision": self.precision,
            },
        )

    def _save_best(self, score: float) -> None:
        save_checkpoint(
            self.run.best,
            {
                "network": self.mean_network.state_dict(),
                "step": self.step,
                "score": score,
                "precision": self.precision,
            },
        )

    def _resume(self, events: EventLog) -> Schedule:
        schedule = Schedule(self.task.budget, self.objective.steps_per_epoch, self.task.most_epochs)
        if not self.run.last.exists():
            return schedule
        kept = load_checkpoint(self.run.last, self.device)
        self.network.load_state_dict(kept["network"])
        self.mean_network.load_state_dict(kept["mean_network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.step, self.best_score = kept["step"], kept["best_score"]
        self.validated_at, self.validation_s = kept["validated_at"], kept["validation_s"]
        self.precision = kept["precision"]
        schedule.spent_s = kept["seconds"]
        events.write("resumed", step=self.step, seconds=schedule.elapsed_s)
        say(f"resumed at step {self.step}")
        return schedule
