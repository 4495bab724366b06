"""The plan that a device can do in the time: sizes of patch and network are tried, measured and compared."""

from __future__ import annotations

import math

import numpy as np
import torch

from segue.core.console import duration, say
from segue.core.errors import MachineError, UsageError
from segue.core.memory import free_memory_gb, memory_of, peak_memory_gb, used_memory_gb
from segue.prepare import Fingerprint, Measured, Plan, plan
from segue.prepare.choices import crossed
from segue.prepare.sizes import (
    NETWORKS,
    PATCH_PIXELS,
    PATCH_VOXELS,
    STEPS_FOR_BATCH,
    STEPS_FOR_NETWORK,
    STEPS_FOR_PATCH,
    STEPS_SHARE,
    Size,
    with_patch,
)
from segue.train import machine, measure, step_bytes, step_flops, with_patch_for_network
from segue.workflow.experiment import Experiment

# What is predicted from a smaller plan's figures may be wrong by this factor before it is tried.
_MARGIN = 1.25
_MOST_IMAGES = 16
# nnU-Net has a low-resolution stage where a patch holds less than a quarter of the median image.
ENOUGH_SEEN = 0.25
_COARSER = 1.03


class Fitting:
    """Plans of one dataset for one device; what was measured for one budget serves the next.

    Args:
        experiment: a person's own choices, and the memory that may be used.
    """

    def __init__(self, facts: Fingerprint, device: torch.device, experiment: Experiment) -> None:
        self.facts, self.device, self.experiment = facts, device, experiment
        memory = experiment.memory
        self._allowed_gb = None if memory is None else memory_of(memory, "memory")
        self._peaks_gb: dict[str, float] = {}
        self._seconds: float | None = None
        self._tried: dict[str, Measured] = {}

    def plan(self, seconds: float | None) -> Plan:
        """The plan with the largest patch, then the largest network, that time and memory allow.

        Args:
            seconds: of training; None where the budget is one of steps, which says nothing about the device.

        Raises:
            UsageError: a choice that cannot be. MachineError: not even the smallest plan fits the memory.
        """
        self._seconds = seconds
        first = self.made(None)
        if first.task == "classification":
            return self.told(first)
        if seconds is not None and first.dimension == 3:
            found = self.climbed(seconds * STEPS_SHARE)
        else:
            found = first
            while not self.fits(found):
                found = self.smaller(found)
        return self.told(self.with_low_resolution(found))

    def with_low_resolution(self, made: Plan) -> Plan:
        """Say how much of an image a patch sees; before a network that sees little comes one that sees more, if a
        person wants it.

        Raises:
            UsageError: it is wanted of slices.
        """
        wanted = self.experiment.plan.low_resolution
        if made.dimension == 2:
            if wanted:
                raise UsageError("slices have no low-resolution stage", where="plan.low_resolution")
            return made
        sees = _part_seen(self.facts, made)
        why = f"{made.reasons['patch']}; it sees {sees:.0%} of the median image"
        coarse = None
        if wanted and sees >= ENOUGH_SEEN:
            why += ": enough, so that no low-resolution stage comes before it"
        elif wanted:
            coarse = self.coarsened(made)
            why += f", the low-resolution stage before it {_part_seen(self.facts, coarse):.0%}"
        elif sees < ENOUGH_SEEN:
            why += (
                ": where that is too little to tell what it is, plan.low_resolution=true trains a stage that sees more"
            )
        reasons = {**made.reasons, "patch": why}
        if coarse is not None:
            reasons["low_resolution"] = "set by you: a third of the budget; its answer is a channel per label"
        return made.model_copy(update={"coarse": coarse, "reasons": reasons})

    def coarsened(self, made: Plan) -> Plan:
        """The plan of voxels so coarse that a patch sees a quarter of the median image (nnU-Net's rule), measured."""
        spacing, plan_ = np.array(made.spacing_mm), made
        while _part_seen(self.facts, plan_) < ENOUGH_SEEN:
            # The fine axes first, until no axis is twice as coarse as another.
            behind = spacing < spacing.max() / 2
            spacing = np.where(behind if behind.any() else True, spacing * _COARSER, spacing)
            size = with_patch(Size(0, 0, 2, NETWORKS[0], "of the low-resolution stage"), math.prod(made.patch), "")
            plan_ = self.made(size, tuple(float(step) for step in spacing.round(4)))
        return plan_.model_copy(update={"measured": self.cost(plan_)})

    def made(self, size: Size | None, spacing_mm: tuple[float, ...] | None = None) -> Plan:
        """The plan of a size; for a network of a person's own with a patch that it can take."""
        overrides = self.experiment.plan
        if spacing_mm is not None:
            overrides = overrides.model_copy(update={"spacing_mm": spacing_mm})
        made = plan(self.facts, machine(self.device), overrides, self.experiment.network, size)
        if made.network.target is None or self.experiment.plan.patch is not None:
            return made
        fitting = with_patch_for_network(made)
        if fitting.patch == made.patch:
            return made
        why = f"{made.reasons['patch']}; rounded up from {crossed(made.patch)}, which the network cannot take"
        return fitting.model_copy(update={"reasons": {**made.reasons, "patch": why}})

    def smaller(self, made: Plan) -> Plan:
        """One rung down: a smaller patch for the smallest network.

        Raises:
            MachineError: this is the lowest.
        """
        voxels = math.prod(made.patch)
        ladder = PATCH_VOXELS if made.dimension == 3 else PATCH_PIXELS
        below = [size for size in ladder if size < 0.9 * voxels]
        source = f"what {self.limit_gb:.2g} GB {self.memory_in_words()} hold"
        next_one = self.made(with_patch(Size(0, 0, 2, "stem", source), below[-1] if below else ladder[0], source))
        if _same(next_one, made):
            self.require(made)
        return next_one

    def climbed(self, available_s: float) -> Plan:
        """From the smallest size up: the patch first, since what is not seen cannot be learnt, then the network, then
        the batch."""
        source = f"the smallest of {len(PATCH_VOXELS)} sizes"
        size = with_patch(Size(0, 0, 2, NETWORKS[0], source), PATCH_VOXELS[0], source)
        made = self.made(size)
        self.require(made)
        for voxels in reversed(PATCH_VOXELS[1:]):
            larger = with_patch(size, voxels, self.in_words(STEPS_FOR_PATCH))
            candidate = self.made(larger)
            if _same(candidate, made):
                continue
            if self.pays(candidate, made, available_s, STEPS_FOR_PATCH):
                size, made = larger, candidate
                break
        for network in NETWORKS[1:]:
            larger = Size(size.patch_voxels, size.step_voxels, size.most_images, network, size.source)
            candidate = self.made(larger)
            if _same(candidate, made):
                continue
            if not self.pays(candidate, made, available_s, STEPS_FOR_NETWORK):
                break
            size, made = larger, candidate
        while made.batch < _MOST_IMAGES and self.experiment.plan.batch is None:
            larger = Size(size.patch_voxels, 2 * size.step_voxels, 2 * made.batch, size.network, size.source)
            candidate = self.made(larger)
            if _same(candidate, made) or not self.pays(candidate, made, available_s, STEPS_FOR_BATCH / 2):
                break
            size, made = larger, candidate
        return made

    def pays(self, candidate: Plan, known: Plan, available_s: float, least_steps: float) -> bool:
        """Whether the time gives so many steps of the candidate; measured, where the forecast says that it may."""
        flops, before = step_flops(candidate), step_flops(known)
        if flops is not None and before is not None:
            forecast_s = self.cost(known).step_s * flops / before / _MARGIN
            if available_s / forecast_s < least_steps:
                return False
        return self.fits(candidate, known) and available_s / self.cost(candidate).step_s >= least_steps

    def cost(self, made: Plan) -> Measured:
        key = _key(made)
        if key not in self._tried:
            self._tried[key] = measure(made, self.experiment.train, self.device, self._seconds)
            self._peaks_gb[key] = peak_memory_gb()
        return self._tried[key]

    def peak_gb(self, made: Plan) -> float:
        """The main memory of the whole process while the plan was tried."""
        self.cost(made)
        return self._peaks_gb[_key(made)]

    def fits(self, made: Plan, known: Plan | None = None) -> bool:
        """Whether a step fits the memory: forecast before it is tried, then measured."""
        kept = step_bytes(made, self.experiment.train.accumulate)
        if kept is not None:
            forecast_gb = kept / 1e9
            if known is not None and (before := step_bytes(known, self.experiment.train.accumulate)):
                forecast_gb *= max(1.0, self.cost(known).memory_gb / (before / 1e9)) / _MARGIN
            if forecast_gb > self.limit_gb:
                return False
        return self.cost(made).memory_gb <= self.limit_gb

    def require(self, made: Plan) -> None:
        if self.fits(made):
            return
        kept = step_bytes(made, self.experiment.train.accumulate)
        key = _key(made)
        need = self._tried[key].memory_gb if key in self._tried else (kept or 0) / 1e9
        raise MachineError(
            "the plan does not fit the memory",
            where=f"a batch of {made.batch} x {crossed(made.patch)} voxels, {self.facts.dataset}",
            value=f"a training step needs {need:.2g} GB, {self.limit_gb:.2g} GB {self.memory_in_words()}",
            remedy="choose a smaller one with --set plan.patch=... or plan.batch=..., "
            "or compute the batch in parts: --set train.accumulate=2",
        )

    @property
    def limit_gb(self) -> float:
        """For a training step, beyond what the process has already."""
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0] / 1e9
            return min(self._allowed_gb or free, free)
        free = free_memory_gb()
        return min(self._allowed_gb - used_memory_gb(), free) if self._allowed_gb else free

    def memory_in_words(self) -> str:
        return f"of {self._allowed_gb:.3g} GB allowed" if self._allowed_gb else "are free"

    def in_words(self, steps: int) -> str:
        return f"the largest of {len(PATCH_VOXELS)} sizes that leave time for {steps} steps"

    def told(self, made: Plan) -> Plan:
        """With what was measured, and its reasons."""
        if self.facts.task != "classification":
            self.require(made)
        found = self.cost(made)
        steps = ""
        if self._seconds is not None:
            number = self._seconds * STEPS_SHARE / found.step_s
            steps = f": about {number:.0f} steps in {duration(self._seconds)}"
            if number < STEPS_FOR_PATCH / 5:
                say(f"warning: {number:.0f} steps in the time given are too few for good masks; give more minutes")
        reasons = dict(made.reasons)
        for name in ("patch", "network"):
            reasons[name] += f" (measured: {found.step_s:.3g} s a step{steps})"
        reasons["precision"] = (
            f"the faster one on {found.device}" if self.experiment.train.precision == "auto" else ("set by you")
        )
        return made.model_copy(update={"measured": found, "reasons": reasons})


def _part_seen(facts: Fingerprint, made: Plan) -> float:
    """Of the median image, on the plan's grid."""
    sides = np.array(facts.shapes) * np.array(facts.spacings_mm) / np.array(made.spacing_mm)
    return float(np.prod(np.minimum(made.patch, np.median(sides, axis=0)) / np.median(sides, axis=0)))


def _key(made: Plan) -> str:
    return f"{made.patch} {made.batch} {made.network} {made.inputs}"


def _same(one: Plan, other: Plan) -> bool:
    return _key(one) == _key(other)
