"""Cases and datasets: paths and facts, no arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segue.catalogue.card import Card


@dataclass(frozen=True)
class Case:
    """One study.

    Attributes:
        id: unique in its dataset, and the name of its result files.
        patient: cases of one patient never stand on both sides of a split.
        images: one path per channel, or one 4-D file with all of them.
        label: the path of the mask; None for an image that nobody annotated.
        split: ``train`` (folds are drawn from these) or the dataset's own ``test``.
    """

    id: str
    patient: str
    images: tuple[Path, ...]
    label: Path | None = None
    split: Literal["train", "test"] = "train"
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A card, the folder where its data lie, and the cases found there."""

    card: Card
    root: Path
    cases: tuple[Case, ...]

    @property
    def labelled(self) -> list[Case]:
        """The cases that a model can be trained on: annotated and not of an official test set."""
        return [case for case in self.cases if case.label is not None and case.split == "train"]
