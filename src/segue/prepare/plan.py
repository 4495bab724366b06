"""What follows from a fingerprint and a budget: ``plan`` is a pure function, and every choice has its reason.

The rules start from nnU-Net's (Isensee et al., Nature Methods 2021): median spacing, patch by what the device can
do, foreground percentiles for CT. Where they differ the reason says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from segue.catalogue import Channel
from segue.core.config import Settings, merged, validate
from segue.core.errors import UsageError
from segue.core.files import content_key
from segue.prepare.fingerprint import Fingerprint, Intensities

Triple = tuple[int, int, int]

DEFAULT_MINUTES = 30.0
# Coarser than this many times the finest axis, an axis is not strided until the others have caught up.
_ANISOTROPY = 2.0
_SMALLEST_FEATURE_MAP = 4


class Budget(Settings):
    """How long a training may take; the schedule is fitted to it. At most one of the four."""

    minutes: float | None = Field(None, gt=0)
    hours: float | None = Field(None, gt=0)
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name in ("minutes", "hours", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of minutes, hours, epochs and steps, not {' and '.join(given)}")
        return self

    @property
    def seconds(self) -> float | None:
        """Wall seconds, where the budget is one of time (the default is)."""
        if self.steps is not None or self.epochs is not None:
            return None
        return 3600.0 * self.hours if self.hours is not None else 60.0 * (self.minutes or DEFAULT_MINUTES)

    def __str__(self) -> str:
        for name in ("hours", "epochs", "steps"):
            if (value := getattr(self, name)) is not None:
                return f"{value:g} {name}"
        return f"{self.minutes or DEFAULT_MINUTES:g} minutes"


@dataclass(frozen=True)
class Machine:
    """The device that trains, as far as the plan depends on it."""

    kind: Literal["cpu", "cuda", "mps"]
    cores: int
    memory_gb: float


class Normalisation(Settings):
    """How one channel's values become numbers around zero.

    ``hu``: clipped to ``[low, high]``, minus ``mean``, over ``std`` (of the foreground of the training cases).
    ``suv``: ``log(1 + SUV) - 1``, the same for every image, so that an SUV means the same everywhere.
    ``image``: each image clipped to its own percentiles 0.5 and 99.5, minus its mean, over its deviation.
    """

    kind: Literal["hu", "suv", "image"]
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class Network(Settings):
    """The network: our U-Net with these arguments, or any ``torch.nn.Module`` as ``package.module:Class``."""

    target: str | None = None
    args: dict[str, Any] = {}


class Plan(Settings):
    """Every choice between the images and the first training step, and why."""

    dataset: str
    dimension: Literal[2, 3]
    channels: list[Channel]
    labels: dict[int, str]
    ignore_label: int | None
    spacing_mm: tuple[float, float, float]
    normalisation: list[Normalisation]
    patch: Triple
    batch: int = Field(ge=1)
    network: Network
    mirror_axes: list[int]
    foreground_share: float = Field(ge=0, le=1)
    overlap: float = Field(ge=0, lt=1)
    reasons: dict[str, str]

    @property
    def preparation_key(self) -> str:
        """Of everything that the prepared cases depend on, and nothing else: folds and networks share them."""
        return content_key(self.spacing_mm, self.normalisation, self.channels, self.labels, self.ignore_label)


class PlanOverrides(Settings):
    """Choices of the plan that a person makes instead (``plan:`` in the experiment, ``--set plan.batch=2``)."""

    spacing_mm: tuple[float, float, float] | None = None
    patch: Triple | None = None
    batch: int | None = Field(None, ge=1)
    mirror_axes: list[int] | None = None
    foreground_share: float | None = Field(None, ge=0, le=1)
    overlap: float | None = Field(None, ge=0, lt=1)


def plan(
    facts: Fingerprint,
    machine: Machine,
    overrides: PlanOverrides | None = None,
    network: Network | None = None,
) -> Plan:
    """Choose spacing, normalisation, patch, batch and network.

    Raises:
        UsageError: an override that cannot be (a patch that the network cannot halve often enough, say).
    """
    mine = (overrides or PlanOverrides()).model_dump(exclude_none=True)
    reasons: dict[str, str] = {}
    spacing = mine.get("spacing_mm") or _spacing(facts, reasons)
    shapes = _shapes_at(facts, spacing)
    wanted = network or Network()
    target_patch = mine.get("patch") or _patch_goal(shapes, spacing, machine, reasons)
    args = _unet(target_patch, spacing, machine)
    patch = mine.get("patch") or _rounded(target_patch, shapes, _divisor(args))
    reasons["network"] = (
        f"U-Net of {len(args['strides'])} levels, down to {_x(np.array(patch) / _divisor(args))} voxels of {_x(patch)}"
    )
    if max(args["stem_stride"]) > 1:
        reasons["network"] += (
            f", behind a stem of stride {_x(args['stem_stride'])}: a CPU then takes several times the steps"
        )
    if wanted.target is None and (np.array(patch) % _divisor(merged(args, wanted.args))).any():
        raise UsageError(
            "the network cannot halve this patch often enough",
            where="plan.patch",
            value=_x(patch),
            remedy=f"choose multiples of {_x(_divisor(merged(args, wanted.args)))}",
        )
    chosen = {
        "dataset": facts.dataset,
        "dimension": facts.dimension,
        "channels": facts.channels,
        "labels": facts.labels,
        "ignore_label": facts.ignore_label,
        "spacing_mm": spacing,
        "normalisation": [
            _normalisation(channel, values, reasons)
            for channel, values in zip(facts.channels, facts.intensities, strict=True)
        ],
        "patch": patch,
        "batch": _batch(patch, machine, reasons),
        "network": Network(target=wanted.target, args=wanted.args if wanted.target else merged(args, wanted.args)),
        "mirror_axes": facts.mirror_axes,
        "foreground_share": _foreground_share(facts, shapes, patch, reasons),
        "overlap": 0.5,
        "reasons": reasons,
    }
    reasons["mirror_axes"] = (
        "the card names these axes as mirror-symmetric" if facts.mirror_axes else "the card names no symmetric axis"
    )
    for name, value in mine.items():
        chosen[name] = value
        reasons[name] = "set by you"
    if wanted.target or wanted.args:
        reasons["network"] = "set by you" + ("" if wanted.target else " in part: " + ", ".join(wanted.args))
    return validate(Plan, chosen, source="plan")


def _spacing(facts: Fingerprint, reasons: dict[str, str]) -> tuple[float, float, float]:
    spacings = np.array(facts.spacings_mm)
    median = np.median(spacings, axis=0)
    text = f"median over {len(spacings)} cases (from {_x(spacings.min(0))} to {_x(spacings.max(0))} mm)"
    coarse = int(median.argmax())
    others = np.delete(median, coarse)
    if facts.dimension == 3 and median[coarse] > 3 * others.max():
        # nnU-Net's rule: thick-slice data keep more of their finest cases' detail along the coarse axis.
        median[coarse] = max(np.percentile(spacings[:, coarse], 10), others.max() + 1e-5)
        text += f"; along the thick axis the 10th percentile, {median[coarse]:.3g} mm"
    reasons["spacing_mm"] = text
    i, j, k = (round(float(value), 4) for value in median)
    return i, j, k


def _shapes_at(facts: Fingerprint, spacing: tuple[float, float, float]) -> np.ndarray:
    shapes = np.array(facts.shapes) * np.array(facts.spacings_mm) / np.array(spacing)
    return np.maximum(1, np.round(shapes)).astype(int)


def _voxel_budget(machine: Machine) -> tuple[int, int, str]:
    """Largest patch, voxels per step, and where the two come from."""
    if machine.kind == "cpu":
        return 112_000, 360_000, f"about what {machine.cores} cores learn from fastest"
    if machine.kind == "cuda" and machine.memory_gb >= 10:
        return 128**3, 2 * 128**3, f"{machine.memory_gb:.0f} GB of GPU memory"
    return 96**3, 2 * 96**3, f"{machine.memory_gb:.0f} GB of memory on {machine.kind}"


def _patch_goal(
    shapes: np.ndarray, spacing: tuple[float, float, float], machine: Machine, reasons: dict[str, str]
) -> Triple:
    largest, _, source = _voxel_budget(machine)
    most = np.ceil(np.percentile(shapes, 90, axis=0)).astype(int)
    if most.prod() <= largest:
        reasons["patch"] = (
            f"whole images: nine of ten are at most {_x(most)} voxels, under the {largest} of a patch ({source})"
        )
        return _triple(most)
    median = np.median(shapes, axis=0)
    patch = median.astype(float)
    extent = patch * np.array(spacing)
    while patch.prod() > largest:
        # The longest side in millimetres gives way first: the patch ends as a cube, or as a slab of thin data.
        axis = int(np.argmax(extent))
        extent[axis] *= 0.98
        patch = np.maximum(1, extent / np.array(spacing))
    reasons["patch"] = (
        f"at most {largest} voxels ({source}), as near to a cube in mm as the median image {_x(median)} allows"
    )
    return _triple(np.maximum(1, np.floor(patch)).astype(int))


def _unet(patch: Triple, spacing: tuple[float, float, float], machine: Machine) -> dict[str, Any]:
    size, step = np.array(patch, dtype=float), np.array(spacing, dtype=float)

    def stride() -> list[int]:
        nonlocal size, step
        fine = step < _ANISOTROPY * step[size > 1].min() if (size > 1).any() else np.zeros(3, dtype=bool)
        factor = np.where(fine & (size >= 2 * _SMALLEST_FEATURE_MAP), 2, 1)
        size, step = size / factor, step * factor
        return [int(n) for n in factor]

    small = machine.kind == "cpu"
    stem = stride() if small else [1, 1, 1]
    widths = [32, 64, 128] if small else [32, 64, 128, 256, 320, 320]
    strides = [[1, 1, 1]]
    while len(strides) < len(widths) and (size >= 2 * _SMALLEST_FEATURE_MAP).any():
        strides.append(stride())
    return {"channels": widths[: len(strides)], "strides": strides, "stem_stride": stem}


def _divisor(args: dict[str, Any]) -> Triple:
    return _triple(np.prod([args["stem_stride"], *args["strides"]], axis=0))


def _rounded(patch: Triple, shapes: np.ndarray, divisor: Triple) -> Triple:
    """To the nearest size that the network can halve often enough, but never below the median image if it fitted."""
    least = np.minimum(np.median(shapes, axis=0), patch)
    number = np.maximum(np.round(np.array(patch) / divisor), np.ceil(least / divisor))
    return _triple(np.maximum(1, number).astype(int) * np.array(divisor))


def _batch(patch: Triple, machine: Machine, reasons: dict[str, str]) -> int:
    _, voxels, source = _voxel_budget(machine)
    most = 4 if machine.kind == "cpu" else 16
    batch = int(np.clip(round(voxels / np.prod(patch)), 2, most))
    reasons["batch"] = f"{voxels} voxels a step ({source}) over {int(np.prod(patch))} of a patch, between 2 and {most}"
    return batch


def _normalisation(channel: Channel, values: Intensities, reasons: dict[str, str]) -> Normalisation:
    key = f"normalisation.{channel.name}"
    if channel.unit == "HU":
        reasons[key] = "Hounsfield units: percentiles, mean and deviation of the foreground of all cases"
        return Normalisation(
            kind="hu",
            low=values.percentile_00_5,
            high=values.percentile_99_5,
            mean=values.mean,
            std=max(values.std, 1e-6),
        )
    if channel.unit == "SUV":
        reasons[key] = "SUV: one fixed scale, so that a value means the same in every image"
        return Normalisation(kind="suv")
    reasons[key] = "arbitrary units: each image by its own percentiles, mean and deviation"
    return Normalisation(kind="image")


def _foreground_share(facts: Fingerprint, shapes: np.ndarray, patch: Triple, reasons: dict[str, str]) -> float:
    whole = float((shapes <= np.array(patch)).all(axis=1).mean())
    if whole >= 0.9:
        reasons["foreground_share"] = f"a patch holds {whole:.0%} of the images whole: nothing to choose"
        return 0.0
    share = 0.5 if facts.foreground_part < 0.01 else 1 / 3
    reasons["foreground_share"] = (
        f"{facts.foreground_part:.3%} of the voxels are foreground: this part of the patches is centred on it"
    )
    return share


def _triple(values: Sequence[int] | np.ndarray) -> Triple:
    i, j, k = (int(value) for value in values)
    return i, j, k


def _x(values: Sequence[float] | np.ndarray) -> str:
    return "x".join(f"{value:.4g}" for value in values)
