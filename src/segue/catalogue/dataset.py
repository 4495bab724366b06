"""Cases and datasets: paths and facts, no arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segue.catalogue.card import Card
from segue.catalogue.verdicts import VERDICTS, Verdict
from segue.core.display import Displayed

_MOST_NAMED = 5

Subset = Literal["train", "val", "test"]
# The class, or one 0 or 1 per class where several may hold.
Target = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One item of an array in an ``.npz``: an image of ``train_images``, a mask of ``train_label``."""

    path: Path
    key: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.path.name}:{self.key}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Masks:
    """Binary masks, each of a label number; several of one number are united, and where two numbers overlap, the one
    that stands later wins."""

    files: tuple[tuple[int, Path], ...]

    @property
    def name(self) -> str:
        return f"{len(self.files)} masks in {self.files[0][1].parent.name}"


@dataclass(frozen=True, slots=True)
class Recoded:
    """A mask whose stored values are not the numbers of the labels.

    Attributes:
        values: pairs of a stored value and the number it means, in ascending order; 0 means 0 unless it is named.
        nonzero: instead of ``values``: every value above 0 is label 1.
    """

    source: Path | Masks | Row
    values: tuple[tuple[int, int], ...] = ()
    nonzero: bool = False

    @property
    def name(self) -> str:
        return self.source.name


Label = Path | Masks | Row | Recoded


def stored_mask(label: Label) -> Path | Masks | Row:
    """Where a mask lies, whatever its values mean."""
    return label.source if isinstance(label, Recoded) else label


def label_files(label: Label) -> tuple[Path, ...]:
    """The files that a mask lies in."""
    source = stored_mask(label)
    if isinstance(source, Masks):
        return tuple(path for _, path in source.files)
    return (source.path if isinstance(source, Row) else source,)


def label_form(label: Label | None) -> object:
    """What is made of a mask's files, for the keys of what is kept: changes where the label map would."""
    source = None if label is None else stored_mask(label)
    form: list[object] = [label is not None]
    if isinstance(source, Masks):
        form.append([number for number, _ in source.files])
    if isinstance(label, Recoded):
        form.append([label.values, label.nonzero])
    return form if len(form) > 1 else form[0]


@dataclass(frozen=True, slots=True)
class Case(Displayed):
    """One study.

    Attributes:
        id: unique in its dataset, and the name of its result files.
        patient: cases of one patient never stand on both sides of a split.
        images: one path per channel, or one 4-D file with all of them, or one item of an array.
        absent: numbers of the card's channels that this case lacks; ``images`` are then one path per other channel.
        label: the mask; None for an image that nobody annotated.
        target: the class, or one 0 or 1 per class where several may hold.
        split: ``train`` (folds are drawn from these), or the dataset's own ``val`` and ``test``.
        unlabelled: labels that nobody drew in this case: not absent, but unknown.
    """

    id: str
    patient: str
    images: tuple[Path | Row, ...]
    label: Label | None = None
    split: Subset = "train"
    target: Target | None = None
    unlabelled: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    absent: tuple[int, ...] = ()

    @property
    def annotated(self) -> bool:
        return self.label is not None or self.target is not None

    def present(self, channels: int) -> list[int]:
        """The numbers of the channels that it has, of so many."""
        return [number for number in range(channels) if number not in self.absent]

    @property
    def image_files(self) -> tuple[Path, ...]:
        """The files that the images lie in."""
        return tuple(dict.fromkeys(image.path if isinstance(image, Row) else image for image in self.images))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the case, images first."""
        masks = () if self.label is None else label_files(self.label)
        return tuple(dict.fromkeys((*self.image_files, *masks)))


@dataclass(frozen=True)
class Dataset:
    """A card, the folder where its data lie, and the cases found there.

    Attributes:
        left_out: cases that are there but not used, and why (the card's known defects, a person's verdicts).
        folds: folds that the dataset's makers drew: case ids of training and validation.
        verdicts: what a person said of cases (see :mod:`segue.catalogue.verdicts`).
        set_aside: the cases that a verdict leaves out; folds are drawn as if they were there, so that no other moves.
    """

    card: Card
    root: Path
    cases: tuple[Case, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    folds: tuple[tuple[frozenset[str], frozenset[str]], ...] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    set_aside: tuple[Case, ...] = ()

    @property
    def told_left_out(self) -> list[str]:
        """What is left out and why, a line per reason, and verdicts on cases that are not here."""
        by_verdict = {case.id for case in self.set_aside}
        known = [why for name, why in self.left_out.items() if name not in by_verdict]
        lines = [f"{len(known)} cases are left out: {known[0]}"] if known else []
        if by_verdict:
            names = sorted(by_verdict)
            lines.append(f"{len(names)} case{'s' if len(names) > 1 else ''} left out by {VERDICTS}: {some(names)}")
        here = {case.id for case in self.cases} | self.left_out.keys()
        if strange := sorted(self.verdicts.keys() - here):
            lines.append(f"{VERDICTS} names {len(strange)} that are not here: {some(strange)}")
        return lines

    @property
    def labelled(self) -> list[Case]:
        """The cases that a model can be trained on: annotated and not of an official validation or test set."""
        return [case for case in self.cases if case.annotated and case.split == "train"]

    @property
    def has_own_split(self) -> bool:
        """Whether its makers set annotated cases apart for validation or for the test."""
        return any(case.annotated and case.split != "train" for case in self.cases)


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
