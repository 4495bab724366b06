"""The training loop: steps, running mean of the weights, validation, checkpoints, events."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from segue.core.console import Stage, say, stage
from segue.core.errors import DataError, MachineError
from segue.core.seeds import stream_seed
from segue.prepare import Budget, Plan
from segue.train.checkpoint import load_checkpoint, save_checkpoint
from segue.train.distributed import World
from segue.train.events import Events
from segue.train.interrupt import stop_between_steps
from segue.train.network import build_network, in_fast_layout, in_layout, parameters_of
from segue.train.objective import Objective
from segue.train.optimise import follow, make_optimizer, peak_rate, start_from
from segue.train.run import Run
from segue.train.samples import write_samples
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


@dataclass
class _State:
    """What a resumed training must know besides weights and optimiser."""

    step: int = 0
    best_score: float | None = None
    validated_at: float = 0.0
    validation_s: float = 0.0
    without_better: int = 0


class Trainer:
    """Trains one network into one run folder; started again on the same folder, it goes on from ``last.pt``.

    Args:
        precision: ``float32``, or ``bfloat16`` for autocast.
        compiled: let torch compile the network.
        world: the processes that train together. Each computes its part of every batch.
    """

    def __init__(
        self,
        task: TrainTask,
        objective: Objective,
        run: Run,
        device: torch.device,
        *,
        precision: str = "float32",
        compiled: bool = False,
        world: World | None = None,
    ) -> None:
        self.task, self.objective, self.run, self.device = task, objective, run, device
        self.world, self.precision = world or World(), precision
        self._peak = peak_rate(task.settings, task.plan)
        torch.manual_seed(stream_seed(task.seed, "weights"))
        network = build_network(task.plan)
        if task.settings.weights is not None and not run.last.exists():
            start_from(network, task.settings.weights)
        self.network = in_fast_layout(network, device)
        self.mean_network = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimizer = make_optimizer(self.network, task.settings, self._peak, device)
        shared = self.world.shared(self.network, device)
        self._forward: Callable[..., Any] = torch.compile(shared) if compiled else shared
        self.state = _State()
        self._lost_in_a_row = 0

    def fit(self) -> TrainResult:
        """Train until the budget is used up.

        Raises:
            DataError: the loss is not a number any more, with the cases of the batch.
            MachineError: another process of this training died.
            KeyboardInterrupt: after the state was saved.
        """
        events = Events(self.run, self.task.settings.tensorboard) if self.world.first else None
        schedule = self._resume(events)
        if self.state.step == 0:
            _write(
                events,
                "started",
                device=str(self.device),
                precision=self.precision,
                parameters=parameters_of(self.network),
                steps_per_epoch=self.objective.steps_per_epoch,
                budget=str(self.task.budget),
                processes=self.world.size,
            )
        try:
            with stage("train", 1.0) as shown, stop_between_steps() as stopping:
                if self.state.step == 0:
                    self._keep_samples(self.run.samples_at_start)
                self._loop(schedule, events, shown, stopping)
                self._keep_samples(self.run.samples_at_end)
            _write(
                events, "finished", step=self.state.step, seconds=schedule.elapsed_s, best_score=self.state.best_score
            )
        except RuntimeError as error:
            if self.world.size > 1 and not isinstance(error, torch.OutOfMemoryError):
                raise MachineError(
                    "a process of this training died, or cannot be reached any more",
                    where=f"rank {self.world.rank} of {self.world.size}, step {self.state.step}",
                    value=str(error).splitlines()[0][:200],
                    remedy="run the same command again: it goes on from the last step saved",
                ) from error
            raise
        finally:
            self.objective.close()
            if events is not None:
                events.close()
        return TrainResult(self.state.step, schedule.elapsed_s, self.state.best_score)

    def _loop(self, schedule: Schedule, events: Events | None, shown: Stage, stopping: Callable[[], bool]) -> None:
        settings, state = self.task.settings, self.state
        saved = told = time.monotonic()
        losses: list[float] = []
        progress = self._agreed(schedule, stopping)[0]
        # However short the time, there is one step, and with it a checkpoint.
        while progress < 1.0 or state.step == 0:
            rate = learning_rate(progress, self._peak, settings)
            losses.append(self._train_step(rate))
            state.step += 1
            # One clock for all processes, or some would end a step before the others.
            progress, stop = self._agreed(schedule, stopping)
            now = time.monotonic()
            if now - told >= _EVENT_EVERY_S or progress >= 1.0:
                told = now
                loss = float(np.nanmean(losses)) if np.isfinite(losses).any() else math.nan
                _write(events, "step", step=state.step, seconds=schedule.elapsed_s, loss=loss, learning_rate=rate)
                best = f", {self.objective.metric} {state.best_score:.3f}" if state.best_score is not None else ""
                shown.move_to(progress, f"step {state.step}, loss {loss:.3f}{best}")
                losses.clear()
            if self._validation_is_due(progress, schedule):
                self._validate(progress, schedule, events)
                if settings.patience is not None and state.without_better >= settings.patience:
                    say(f"no better {self.objective.metric} in {settings.patience} validations: the training ends")
                    progress = 1.0
            if now - saved >= settings.save_every_s or progress >= 1.0 or stop:
                self._save(schedule)
                saved = time.monotonic()
            if stop:
                say(f"stopped after step {state.step}; it is saved: run the same command again to go on")
                raise KeyboardInterrupt

    def _agreed(self, schedule: Schedule, stopping: Callable[[], bool]) -> tuple[float, bool]:
        """Progress by the first process's clock, and whether any process was asked to stop."""
        if self.world.size == 1:
            return schedule.progress(self.state.step), stopping()
        told = self.world.gathered([(schedule.progress(self.state.step), stopping())])
        return told[0][0], any(stop for _, stop in told)

    def _train_step(self, rate: float) -> float:
        settings = self.task.settings
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images, truth = self.objective.batch(self.state.step, self.device, settings.augment)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for part in np.array_split(np.arange(len(images)), min(settings.accumulate, len(images))):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            with self._autocast():
                logits = self._forward(in_layout(images[rows]))
            loss = self.objective.loss(logits, truth[rows]) * (len(part) / len(images))
            value += float(loss.detach())
            if math.isfinite(value):
                loss.backward()
        if not math.isfinite(value):
            self._lose_step(value)
            return math.nan
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_gradient)
        if not torch.isfinite(norm):
            self._lose_step(float(norm), "gradient")
            return value
        self._lost_in_a_row = 0
        self.optimizer.step()
        follow(self.mean_network, self.network, settings.ema_decay, self.state.step)
        return value

    def _lose_step(self, value: float, what: str = "loss") -> None:
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _LOST_STEPS:
            raise DataError(
                f"the {what} is not a number in {_LOST_STEPS} steps in a row",
                where=", ".join(self.objective.names(self.state.step)),
                value=f"{value} at step {self.state.step}",
                remedy="look at these cases with segue check, or lower the rate: --set train.learning_rate=5e-4",
            )

    def _validation_is_due(self, progress: float, schedule: Schedule) -> bool:
        if not self.objective.can_validate:
            return False
        if progress >= 1.0:
            return True
        gap = 1 / self.task.settings.validations
        if schedule.total_steps is None and self.state.validation_s and schedule.elapsed_s > 0:
            # A time-boxed training must not spend itself on looking at the validation cases. One of so many steps ends
            # in the same model however fast the machine is, and however often it was stopped.
            estimated_total = schedule.elapsed_s / max(progress, 1e-6)
            gap = max(gap, self.state.validation_s / (_VALIDATION_SHARE * estimated_total))
        return bool(self.world.same(progress - self.state.validated_at >= gap))

    def _validate(self, progress: float, schedule: Schedule, events: Events | None) -> None:
        state = self.state
        started = time.monotonic()
        found = self.objective.validate(self.mean_network, self._autocast, self.device)
        state.validation_s = time.monotonic() - started
        state.validated_at = progress
        improved = state.best_score is None or found.score >= state.best_score
        # An equal score is kept, being that of the longer training, but it is no reason to go on.
        better = state.best_score is None or found.score > state.best_score
        state.without_better = 0 if better else state.without_better + 1
        if improved:
            state.best_score = found.score
            self._save_best(found.score)
        _write(
            events,
            "validated",
            step=state.step,
            seconds=schedule.elapsed_s,
            metric=self.objective.metric,
            score=found.score,
            best=improved,
            **found.facts,
        )

    def _keep_samples(self, path: Path) -> None:
        if self.world.first:
            write_samples(
                path,
                self.objective,
                self.mean_network,
                self.task.plan,
                self.device,
                self._autocast,
                self.state.step,
                vary=self.task.settings.augment,
            )

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _save(self, schedule: Schedule) -> None:
        if self.world.first:
            save_checkpoint(
                self.run.last,
                {
                    "network": self.network.state_dict(),
                    "mean_network": self.mean_network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "seconds": schedule.elapsed_s,
                    "precision": self.precision,
                    **vars(self.state),
                },
            )

    def _save_best(self, score: float) -> None:
        if self.world.first:
            save_checkpoint(
                self.run.best,
                {
                    "network": self.mean_network.state_dict(),
                    "step": self.state.step,
                    "score": score,
                    "precision": self.precision,
                },
            )

    def _resume(self, events: Events | None) -> Schedule:
        schedule = Schedule(self.task.budget, self.objective.steps_per_epoch, self.task.most_epochs)
        if not self.world.same(self.run.last.exists()):
            return schedule
        kept = load_checkpoint(self.run.last, self.device)
        self.network.load_state_dict(kept["network"])
        self.mean_network.load_state_dict(kept["mean_network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.precision = kept["precision"]
        self.state = replace(self.state, **{name: kept[name] for name in vars(self.state) if name in kept})
        schedule.spent_s = kept["seconds"]
        _write(events, "resumed", step=self.state.step, seconds=schedule.elapsed_s)
        if self.world.first:
            say(f"resumed at step {self.state.step}")
        return schedule


def _write(events: Events | None, event: str, **facts: Any) -> None:
    if events is not None:
        events.write(event, **facts)
