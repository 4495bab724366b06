"""From images to the probabilities of classes, by the network of a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from segue.catalogue import Case
from segue.predict.answers import Answer, answer_cases
from segue.predict.predictor import Model
from segue.prepare import Stack
from segue.train import ClassImages, answered


class Classifying(Model):
    """A :class:`Model` that answers with classes."""

    def answers(self, cases: Sequence[Case], arrays: Path) -> Iterator[Answer]:
        """Every case in order; a bad case is among them with its error.

        Args:
            arrays: where arrays of an ``.npz`` are unpacked for memory mapping.
        """
        return answer_cases(cases, self.card, self.plan, arrays, self._of_stack)

    def _of_stack(self, stack: Stack) -> Iterator[np.ndarray]:
        images = ClassImages(stack, self.plan)
        return self._averaged(images) if len(self.members) > 1 else self._answered(self.network, images)

    def _answered(self, network: nn.Module, images: ClassImages) -> Iterator[np.ndarray]:
        return answered(network, images, self.autocast, self.device, mirrored=True)

    def _averaged(self, images: ClassImages) -> Iterator[np.ndarray]:
        """The mean of the members' probabilities, of all images at once: rows of a few numbers are small."""
        each = [np.concatenate(list(self._answered(network, images))) for network in self.networks()]
        yield np.mean(each, axis=0, dtype=float)
