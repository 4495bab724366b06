"""What a plan consists of, and what a person may decide about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from segue.catalogue import Channel, Classes
from segue.core.config import Settings
from segue.core.files import content_key
from segue.prepare.regions import Region

Triple = tuple[int, int, int]

DEFAULT_MINUTES = 30.0


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
    def given(self) -> bool:
        """Whether a person said anything."""
        return any(value is not None for value in (self.minutes, self.hours, self.epochs, self.steps))

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
    ``dataset``: minus ``mean``, over ``std`` of all training images; nothing is clipped.
    """

    kind: Literal["hu", "suv", "image", "dataset"]
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0

    @property
    def outside(self) -> float:
        """What stands outside an image, and in a channel that is missing: air, no uptake, or the image's mean."""
        return {"hu": (self.low - self.mean) / self.std, "suv": -1.0}.get(self.kind, 0.0)


NetworkName = Literal["unet", "resnet18", "resnet50", "densenet121"]


class Network(Settings):
    """The network: one of ours by ``name``, or any ``torch.nn.Module`` as ``package.module:Class``, with ``args``."""

    name: NetworkName | None = None
    target: str | None = None
    args: dict[str, Any] = {}


class Measured(Settings):
    """What the plan costs on the device that was asked, once: kept for a resumed training and for every fold.

    Attributes:
        precision: the number format in which a step was fastest.
        compiled: whether torch's compiler makes it faster still.
        step_s: seconds a training step, augmentation included.
        forward_s: seconds the network takes for one batch when it predicts.
        memory_gb: what steps took at most, beyond the process itself; of a GPU, its own memory.
    """

    device: str
    precision: Literal["float32", "bfloat16"]
    compiled: bool = False
    step_s: float
    forward_s: float
    memory_gb: float


class Plan(Settings):
    """Every choice between the images and the first training step, and why.

    Attributes:
        dimension: 2 for a network of slices or pictures. Patches then have one voxel along ``slice_axis``, and the
            images keep their own spacing along it.
        patch: what the network sees at once; of a classification, the size to which every image is brought.
        regions: what the network answers for instead of single labels, in the order in which they are painted.
        class_shift: of a classification, what is added to the logits of each class while training, so that rare
            classes are not passed over.
        learning_rate: peak of the schedule, unless ``train.learning_rate`` says another.
        coarse: the plan of the low-resolution stage, where there is one: what its network answers are further channels
            of this one's.
        channel_dropout: how often training hides each optional channel of a patch.
        look_alikes: per channel the normalised values that foreground has, from and to; None where values mean nothing
            by themselves. Half of the patches that are not centred on foreground are centred on other voxels like it.
        vary_intensities: whether training changes brightness, contrast and gamma.
    """

    dataset: str
    task: Literal["segmentation", "classification"] = "segmentation"
    classes: Classes | None = None
    dimension: Literal[2, 3]
    slice_axis: Literal[0, 1, 2] | None = None
    channels: list[Channel]
    labels: dict[int, str]
    regions: list[Region] = []
    ignore_label: int | None
    spacing_mm: tuple[float, float, float]
    normalisation: list[Normalisation]
    patch: Triple
    batch: int = Field(ge=1)
    network: Network
    mirror_axes: list[int]
    foreground_share: float = Field(ge=0, le=1)
    look_alikes: list[tuple[float, float | None] | None] = []
    overlap: float = Field(ge=0, lt=1)
    channel_dropout: float = Field(0.0, ge=0, lt=1)
    vary_intensities: bool = True
    class_shift: list[float] | None = None
    learning_rate: float = Field(2e-3, gt=0)
    coarse: Plan | None = None
    measured: Measured | None = None
    reasons: dict[str, str]

    @property
    def inputs(self) -> int:
        """Channels of the network: the image's, and of a low-resolution stage one per label."""
        return len(self.channels) + (0 if self.coarse is None else len(self.labels))

    @property
    def preparation_key(self) -> str:
        """Of everything that the prepared cases depend on, and nothing else: folds and networks share them."""
        spacing = [value for axis, value in enumerate(self.spacing_mm) if axis != self.slice_axis]
        channels = [(channel.name, channel.unit) for channel in self.channels]
        labels = (self.labels, self.ignore_label, self.look_alikes)
        return content_key(spacing, self.slice_axis, self.normalisation, channels, *labels)


class PlanOverrides(Settings):
    """Choices of the plan that a person makes instead (``plan:`` in the experiment, ``--set plan.batch=2``)."""

    dimension: Literal[2, 3] | None = None
    slice_axis: Literal[0, 1, 2] | None = None
    by_region: bool | None = None
    low_resolution: bool | None = None
    spacing_mm: tuple[float, float, float] | None = None
    patch: Triple | None = None
    batch: int | None = Field(None, ge=1)
    mirror_axes: list[int] | None = None
    foreground_share: float | None = Field(None, ge=0, le=1)
    overlap: float | None = Field(None, ge=0, lt=1)


def as_triple(values: Sequence[int] | np.ndarray) -> Triple:
    i, j, k = (int(value) for value in values)
    return i, j, k


def crossed(values: Sequence[float] | np.ndarray) -> str:
    """``31x40x24``."""
    return "x".join(f"{value:.4g}" for value in values)
