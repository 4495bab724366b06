"""From images to the probabilities of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from segue.catalogue import Case
from segue.predict.answers import Answer, answer_cases
from segue.predict.predictor import Model, require_same_answers
from segue.prepare import Stack, sized_image
from segue.train import ClassImages, answered
from segue.volume import Volume


class Classifying(Model):
    """A :class:`Model` that answers with classes.

    Args:
        others: further models whose probabilities are averaged with this one's, every network counting once.

    Raises:
        UsageError: another run has other channels or classes.
    """

    def __init__(
        self, run: Path | str, device: str = "auto", *, member_only: bool = False, others: Sequence[Path | str] = ()
    ) -> None:
        super().__init__(run, device, member_only=member_only)
        self.others = [Classifying(other, device) for other in others]
        for other in self.others:
            require_same_answers(self, other)

    def predict(self, image: Volume) -> dict[str, float]:
        """The probability of each class, by its name.

        Raises:
            DataError: another number of channels, or NaN in the image.
        """
        self.require_fit(image)
        parts = [(one, len(one.members)) for one in (self, *self.others)]
        total = np.zeros(len(self.plan.labels))
        for model, count in parts:
            ready = sized_image(image, model.plan)
            stack = model._stack((Case("image", "image", ()),), ready[None])
            total += count * next(model._rows(stack))[0]
        return dict(zip(self.plan.labels.values(), (total / sum(n for _, n in parts)).tolist(), strict=True))

    def answers(self, cases: Sequence[Case], arrays: Path) -> Iterator[Answer]:
        """Every case in order; a bad case is among them with its error.

        Args:
            arrays: where arrays of an ``.npz`` are unpacked for memory mapping.
        """
        each = [(model._own_answers(cases, arrays), len(model.members)) for model in (self, *self.others)]
        networks = sum(count for _, count in each)
        for first, *further in zip(*(found for found, _ in each), strict=True):
            error = next((one.error for one in (first, *further) if one.error is not None), None)
            if error is not None:
                yield Answer(first.case, None, error)
            elif not further:
                yield first
            else:
                total = sum(
                    count * np.array(one.probabilities) for one, (_, count) in zip((first, *further), each, strict=True)
                )
                yield Answer(first.case, tuple((np.asarray(total) / networks).tolist()))

    def _own_answers(self, cases: Sequence[Case], arrays: Path) -> Iterator[Answer]:
        return answer_cases(cases, self.card, self.plan, arrays, self._rows)

    def _stack(self, cases: tuple[Case, ...], images: np.ndarray) -> Stack:
        """Images that are brought to the plan's size already."""
        normalised = any(rule.kind == "image" for rule in self.plan.normalisation)
        numbers = np.arange(len(cases))
        return Stack(cases, (images,), np.zeros(len(cases), np.int32), numbers, prepared=True, normalised=normalised)

    def _rows(self, stack: Stack) -> Iterator[np.ndarray]:
        images = ClassImages(stack, self.plan)
        return self._averaged(images) if len(self.members) > 1 else self._answered(self.network, images)

    def _answered(self, network: nn.Module, images: ClassImages) -> Iterator[np.ndarray]:
        return answered(network, images, self.autocast, self.device, mirrored=True)

    def _averaged(self, images: ClassImages) -> Iterator[np.ndarray]:
        """The mean of the members' probabilities, of all images at once: rows of a few numbers are small."""
        each = [np.concatenate(list(self._answered(network, images))) for network in self.networks()]
        yield np.mean(each, axis=0, dtype=float)
