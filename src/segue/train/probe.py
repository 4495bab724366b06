"""What a plan costs on this device: measured by a few steps on noise, before any image is prepared."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segue.core.console import say
from segue.core.errors import MachineError
from segue.core.memory import peak_memory_gb, reset_peak, used_memory_gb
from segue.prepare import Measured, Plan
from segue.train.device import describe_device, has_fast_bfloat16
from segue.train.distributed import World
from segue.train.masks import make_loss, mask_augmentation
from segue.train.network import build_network, in_fast_layout, in_layout
from segue.train.optimise import follow, make_optimizer
from segue.train.settings import TrainSettings
from segue.train.variation import Variation

_TIMED_STEPS = 3
_ENOUGH_S = 4.0
_BEATEN = 2.0
# A shorter training does not win back the minute or two that compiling takes.
_COMPILE_FROM_S = 1800.0


def measure(plan: Plan, settings: TrainSettings, device: torch.device, seconds: float | None = None) -> Measured:
    """Take some training steps with the plan's network, patch and batch, in each number format that may be fast.

    Args:
        seconds: how long the training may take, if that is known: compiling must pay in it.

    Raises:
        UsageError: the network cannot be built. MachineError: the memory is not enough.
    """
    trial = _Trial(plan, settings, device)
    precisions = [settings.precision] if settings.precision != "auto" else _candidates(device)
    try:
        found: dict[str, float] = {}
        for precision in precisions:
            found[precision] = trial.step_s(precision, trial.network, min(found.values(), default=math.inf))
        precision = min(found, key=lambda name: found[name])
        step_s, compiled = found[precision], settings.compile is True
        if settings.compile == "auto" and device.type == "cuda" and (seconds or 0) >= _COMPILE_FROM_S:
            faster = trial.compiled_step_s(precision)
            compiled = faster is not None and faster < 0.9 * step_s
            step_s = faster if compiled and faster is not None else step_s
        forward_s = trial.forward_s(precision)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        raise MachineError(
            "the memory is not enough for one training step",
            where=f"a batch of {plan.batch} x {'x'.join(map(str, plan.patch))} voxels on {describe_device(device)}",
            value=str(error).splitlines()[0][:200],
            remedy="--set plan.patch=... or plan.batch=... smaller, or --set train.accumulate=2",
        ) from error
    return Measured(
        device=describe_device(device),
        precision=precision,
        compiled=compiled,
        step_s=step_s,
        forward_s=forward_s,
        # Memory that the process has free already is not seen; what the backward pass keeps is the least.
        memory_gb=max(trial.memory_gb(), (step_bytes(plan, settings.accumulate) or 0.0) / 1e9),
    )


def _candidates(device: torch.device) -> list[str]:
    if not has_fast_bfloat16(device):
        return ["float32"]
    return ["bfloat16"] if device.type == "cuda" else ["bfloat16", "float32"]


class _Trial:
    """A network in training, on noise."""

    def __init__(self, plan: Plan, settings: TrainSettings, device: torch.device) -> None:
        self.plan, self.settings, self.device = plan, settings, device
        self._before = used_memory_gb()
        reset_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.network = in_fast_layout(build_network(plan), device)
        self._mean = copy.deepcopy(self.network).requires_grad_(False).eval()
        self._optimizer = make_optimizer(self.network, settings, 1e-6, device)
        self._images = torch.randn(plan.batch, len(plan.channels), *plan.patch)
        self._loss, self._labels = self._objective()
        self._variation = Variation(
            mask_augmentation(plan),
            None,
            plan.spacing_mm,
            torch.zeros(len(plan.channels)),
            0,
            slice(0, plan.batch),
            plan.batch,
        )

    def _objective(self) -> tuple[Callable[[Any, Tensor], Tensor], Tensor | None]:
        plan = self.plan
        if plan.task == "classification":
            return lambda logits, _: _finest(logits).float().square().mean(), None
        loss = make_loss(self.settings.loss, plan, World())
        return loss, torch.randint(0, max(plan.labels) + 1, (plan.batch, *plan.patch))

    def step_s(self, precision: str, network: Callable[[Tensor], Any], beaten_s: float = math.inf) -> float:
        """Seconds a step, the median of some; of one, where that is twice as slow as what is known already."""
        began, times = time.perf_counter(), []
        for number in range(_TIMED_STEPS + 1):
            started = time.perf_counter()
            self._step(number, precision, network)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
            slow = len(times) > 1 and times[-1] > _BEATEN * beaten_s
            if slow or (len(times) > 1 and time.perf_counter() - began > _ENOUGH_S):
                break
        # The first step also reserves memory and chooses algorithms.
        return statistics.median(times[1:])

    def _step(self, number: int, precision: str, network: Callable[[Tensor], Any]) -> None:
        images, labels = self._images.to(self.device), self._labels
        labels = labels.to(self.device) if labels is not None else None
        if self.settings.augment:
            images, labels = self._varied(images, labels, number)
        images = self._with_answers(images)
        self.network.train()
        self._optimizer.zero_grad(set_to_none=True)
        size = -(-len(images) // self.settings.accumulate)
        for first in range(0, len(images), size):
            rows = slice(first, first + size)
            with self._autocast(precision):
                logits = network(in_layout(images[rows]))
            self._loss(logits, labels[rows] if labels is not None else images).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip_gradient)
        self._optimizer.step()
        follow(self._mean, self.network, self.settings.ema_decay, number)

    def _varied(self, images: Tensor, labels: Tensor | None, number: int) -> tuple[Tensor, Tensor | None]:
        return self._variation(images, None, number) if labels is None else self._variation(images, labels, number)

    def _with_answers(self, images: Tensor) -> Tensor:
        further = self.plan.inputs - images.shape[1]
        return torch.cat([images, images.new_zeros(len(images), further, *self.plan.patch)], 1) if further else images

    def compiled_step_s(self, precision: str) -> float | None:
        """Seconds a step of the compiled network; None where torch cannot compile it here."""
        try:
            return self.step_s(precision, torch.compile(self.network))
        except Exception as error:
            # The compiler's errors have no common class, and training goes on without it.
            say(f"the network is not compiled: {str(error).splitlines()[0][:120]}")
            return None

    @torch.inference_mode()
    def forward_s(self, precision: str) -> float:
        """Seconds that the network takes for one batch when it predicts."""
        images = in_layout(self._with_answers(self._images.to(self.device)))
        times = []
        for _ in range(2):
            started = time.perf_counter()
            with self._autocast(precision):
                self._mean(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
        return min(times)

    def memory_gb(self) -> float:
        """The most memory that steps took, beyond what the process had before; of a GPU, its own."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        # Where the peak cannot be counted anew, an earlier one may hide this one.
        return max(peak_memory_gb() - self._before, 0.0)

    def _autocast(self, precision: str) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _finest(logits: Any) -> Tensor:
    return logits[0] if isinstance(logits, list | tuple) else logits


def with_patch_for_network(plan: Plan) -> Plan:
    """A plan whose patch the network can take: sides are rounded up to multiples of 2, 4, ... 64 until it can."""
    for multiple in (1, 2, 4, 8, 16, 32, 64):
        sides = [side if side == 1 else -(-side // multiple) * multiple for side in plan.patch]
        tried = plan.model_copy(update={"patch": tuple(sides)})
        if step_bytes(tried.model_copy(update={"batch": 1})) is not None:
            return tried
    return plan


def step_bytes(plan: Plan, accumulate: int = 1) -> float | None:
    """What a training step keeps for the backward pass, counted without computing it; None where that cannot be told.

    Args:
        accumulate: parts of the batch that pass the network one after the other.

    Asked before a step is tried: a machine whose memory runs out may kill the process without a word.
    """
    seen: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage
        return tensor

    try:
        with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network = build_network(plan).to("meta").train()
            logits = _finest(network(torch.empty(-(-plan.batch // accumulate), plan.inputs, *plan.patch)))
            if plan.task == "segmentation" and tuple(logits.shape[2:]) != tuple(plan.patch):
                return None
    except Exception:
        # A network of one's own may look at values, which no meta tensor has.
        return None
    return float(sum(storage.nbytes() for storage in seen.values()))


def step_flops(plan: Plan) -> float | None:
    """Floating-point operations of a step's forward pass; None where that cannot be told."""
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            build_network(plan).to("meta").train()(torch.empty(plan.batch, plan.inputs, *plan.patch))
    except Exception:
        return None
    return float(counter.get_total_flops()) or None
