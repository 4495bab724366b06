"""How a network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from segue.core.config import Settings


class Imported(Settings):
    """Something of one's own, as ``package.module:name``, called with ``args``."""

    target: str
    args: dict[str, Any] = {}


class LossSettings(Settings):
    """The loss of a segmentation: a Dice and a loss of single voxels, or one of one's own.

    Attributes:
        voxels: ``top_k`` and ``focal`` look at the voxels that are hard.
        batch_dice: the Dice of the whole batch, or the mean of its images' own.
        target: a ``torch.nn.Module`` of one's own, ``package.module:Class``, called as ``Class(**args)``; its forward
            takes logits (with deep supervision a list of them) and label numbers ``(b, i, j, k)``.
    """

    voxels: Literal["cross_entropy", "top_k", "focal"] = "cross_entropy"
    batch_dice: bool = True
    target: str | None = None
    args: dict[str, Any] = {}


class TrainSettings(Settings):
    """``train:`` in an experiment. benchmarks/ tells how far the defaults were measured; most people leave them.

    Attributes:
        optimizer: ``adamw``, or ``sgd`` with Nesterov's momentum of 0.99.
        weight_decay: 0.01 for ``adamw``, 3e-5 for ``sgd``, if not given.
        learning_rate: peak of the schedule (linear warm-up, then down to zero, fitted to the budget); if not
            given, the plan's for ``adamw`` and 0.01 for ``sgd``.
        schedule: down by half a cosine, or by nnU-Net's polynomial of power 0.9.
        ema_decay: decay of the running mean of the weights, which is what is validated and kept.
        accumulate: parts in which a batch passes the network one after the other, where it does not fit at once.
        loss: of a segmentation.
        augmentation: a function of one's own, called after ours as ``f(images, labels, random, **args)`` with images
            ``(b, c, i, j, k)``, labels ``(b, i, j, k)`` (None for classes) and a ``torch.Generator``; returns both.
        label_smoothing: of a classification, the part of each target that is spread over all classes.
        weights: a run folder or checkpoint to start from; tensors of another shape start anew.
        patience: end after so many validations in a row without a better one.
        save_every_s: seconds between checkpoints: the most work that a killed process loses.
        validations: how often, at most, the validation cases are looked at.
        precision: ``auto`` measures on CPUs that have bfloat16 units whether these are faster.
        compile: let ``torch.compile`` make the network faster, which takes a minute or more at the start; ``auto``
            measures it on CUDA, where there are 30 minutes or more.
        tensorboard: also write events for TensorBoard, into ``tensorboard/`` of the run.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float | None = Field(None, gt=0)
    schedule: Literal["cosine", "poly"] = "cosine"
    weight_decay: float | None = Field(None, ge=0)
    warm_up: float = Field(0.03, ge=0, lt=1)
    ema_decay: float = Field(0.99, ge=0, lt=1)
    clip_gradient: float = Field(12.0, gt=0)
    accumulate: int = Field(1, ge=1)
    loss: LossSettings = LossSettings()
    augment: bool = True
    augmentation: Imported | None = None
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    weights: Path | None = None
    patience: int | None = Field(None, ge=1)
    save_every_s: float = Field(60.0, ge=0)
    validations: int = Field(10, ge=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | Literal["auto"] = "auto"
    tensorboard: bool = False

    @model_validator(mode="after")
    def _loss_fits(self) -> TrainSettings:
        if self.loss.args and self.loss.target is None:
            raise ValueError("loss.args are for a loss of your own: give loss.target too")
        return self
