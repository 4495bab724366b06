"""How a batch is varied: our augmentation, drawn for the whole batch, then a person's own, then hidden channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor

from segue.core.errors import UsageError
from segue.core.seeds import stream_seed
from segue.model import Augmentation, AugmentSettings, augment, draw_augmentation
from segue.prepare import Plan
from segue.train.importing import imported
from segue.train.settings import Imported

Labels = TypeVar("Labels", Tensor, None)


class Variation:
    """Varies the images ``rows`` of a batch of ``total``; what is drawn follows from the seed and the step, not from
    how many processes share the batch.

    Args:
        own: a function of a person's own, called after ours for each image.

    Raises:
        UsageError: it cannot be imported.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        own: Imported | None,
        spacing_mm: tuple[float, float, float],
        padding: Tensor,
        seed: int,
        rows: slice,
        total: int,
    ) -> None:
        self.settings, self.own, self.spacing_mm, self.padding = settings, own, spacing_mm, padding
        self.seed, self.rows, self.total = seed, rows, total
        self._own: Callable[..., Any] | None = None
        if own is not None:
            self._own = imported(own.target, "augmentation", "train.augmentation.target")

    def __call__(self, images: Tensor, labels: Labels, step: int) -> tuple[Tensor, Labels]:
        """Images ``(b, c, i, j, k)`` and labels ``(b, i, j, k)``, where there are any.

        Raises:
            UsageError: a person's own function gives back something else than it got.
        """
        return self.further(*self.ours(images, labels, step), step)

    def ours(self, images: Tensor, labels: Labels, step: int) -> tuple[Tensor, Labels]:
        """Only what :func:`segue.model.augment` does."""
        random = torch.Generator().manual_seed(stream_seed(self.seed, "augment", step))
        drawn = draw_augmentation(self.settings, self.total, images.shape[1], random)
        if len(images):
            mine = _of_rows(drawn, self.rows)
            images, labels = augment(images, labels, mine, self.spacing_mm, self.padding.to(images.device))
        return images, labels

    def further(self, images: Tensor, labels: Labels, step: int) -> tuple[Tensor, Labels]:
        """Only what a person's own function does, if there is one."""
        if self._own is None or self.own is None:
            return images, labels
        for row in range(len(images)):
            random = torch.Generator().manual_seed(stream_seed(self.seed, "own", step, self.rows.start + row))
            one, mask = images[row : row + 1], None if labels is None else labels[row : row + 1]
            got, drawn_on = self._own(one, mask, random, **self.own.args)
            self._require(_form(got) == _form(one) and _form(drawn_on) == _form(mask), got, one, drawn_on, mask)
            images[row] = got[0]
            if labels is not None:
                labels[row] = drawn_on[0]
        return images, labels

    def _require(self, fits: bool, *given: Any) -> None:
        if not fits:
            image, image_before, mask, mask_before = (_form(value) for value in given)
            raise UsageError(
                "the augmentation gives back something else than it got",
                where=f"train.augmentation.target: {self.own.target if self.own else None}",
                value=f"images {image} and labels {mask}; got {image_before} and {mask_before}",
                remedy="return (images, labels) of the same shapes and types",
            )


def hidden_channels(plan: Plan, absent: Bool[Tensor, "b c"], seed: int, step: int) -> Bool[Tensor, "b c"]:
    """Which channels of the patches of a whole batch the network must do without: those that are ``absent``, and of
    the optional ones by chance ``plan.channel_dropout`` (Neverova et al., ModDrop, TPAMI 2016). Chance never takes the
    last channel of a patch; what is drawn follows from the seed and the step."""
    random = torch.Generator().manual_seed(stream_seed(seed, "channels", step))
    optional = torch.tensor([channel.optional for channel in plan.channels])
    drawn = (torch.rand(absent.shape, generator=random) < plan.channel_dropout) & optional
    hidden = absent | drawn
    return torch.where(hidden.all(1, keepdim=True), absent, hidden)


def _form(value: Any) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _of_rows(drawn: Augmentation, rows: slice) -> Augmentation:
    values = {field.name: getattr(drawn, field.name) for field in fields(drawn)}
    mine: dict[str, Any] = {name: value[rows] for name, value in values.items() if isinstance(value, Tensor)}
    return replace(drawn, **mine)
