"""One case of a look-alike: its grid, its body, its labels, and the values that its files hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segue.catalogue import Card
from segue.catalogue.card import Unit
from segue.core.seeds import generator
from segue.synth.phantom import Phantom, coloured, phantom
from segue.synth.shipped_names import Name, group_of, patient_of, shipped_names
from segue.volume import Geometry, Volume

# Shape, spacing and orientation take turns over the cases: thick slices and thin ones, last axis and first.
_GRIDS = (
    ((32, 30, 24), (3.5, 3.5, 5.0), "RAS"),
    ((28, 32, 26), (4.0, 4.0, 4.0), "LPS"),
    ((36, 28, 24), (3.0, 3.0, 6.0), "PIR"),
    ((30, 30, 28), (3.6, 3.6, 4.5), "LAS"),
    ((26, 34, 25), (4.0, 3.2, 5.0), "IPL"),
)
# Beyond this many, no image shows all labels: fields of view are parts of the body.
_SHOWN_TOGETHER = 20
# How arbitrary intensities are stored in turn: scales differ by orders of magnitude between cases.
_STORED = ((np.float32, 0.037), (np.uint8, 1.0), (np.int16, 40.0))


@dataclass(frozen=True)
class Sample:
    """A case to make.

    Attributes:
        number: its place among the cases; decides grid and type.
        labels: what is there to see.
        drawn: the labels that somebody drew in this case, or found absent.
        units: of each channel in this case.
    """

    name: Name
    patient: str
    number: int
    labels: tuple[int, ...]
    drawn: tuple[int, ...]
    units: tuple[Unit, ...]


def samples(card: Card, number: int, seed: int) -> list[Sample]:
    """The cases of a look-alike; every label is shown in one of the first ``number`` at least."""
    used, left_out = shipped_names(card, number)
    known = tuple(card.labels) + ((card.ignore_label,) if card.ignore_label is not None else ())
    made = []
    groups = [group_of(card, name.id) for name in [*used, *left_out]]
    unknown = [() if group is None else tuple(card.groups[group].unlabelled) for group in groups]
    lesions = len(known) == 1 and any(channel.unit == "SUV" for channel in card.channels)
    for place, name in enumerate([*used, *left_out]):
        group = groups[place]
        drawn = tuple(label for label in known if label not in unknown[place])
        shown = drawn
        if (lesions and groups[:place].count(group) % 2) or place >= len(used):
            shown = ()  # half of each tracer's PET studies have no lesion; what is left out has an empty mask
        elif len(known) > _SHOWN_TOGETHER:
            lots = generator(seed, card.name, name.id, "shown").random(len(known))
            shown = tuple(
                label
                for row, label in enumerate(known)
                if label in drawn and (lots[row] < 0.6 or _sure(label, row, unknown[:number]) == place)
            )
        is_ct = group is not None and card.groups[group].modality == "CT"
        units: tuple[Unit, ...] = tuple("HU" if is_ct else channel.unit for channel in card.channels)
        made.append(Sample(name, patient_of(name, card), place, shown, drawn, units))
    return made


def _sure(label: int, row: int, unknown: Sequence[Sequence[int]]) -> int:
    """The case that shows a label for certain: each of those that may hold it has its share."""
    allowed = [place for place, labels in enumerate(unknown) if label not in labels] or [0]
    return allowed[row % len(allowed)]


class Scene:
    """A sample on its grid; everything follows from card, name and seed."""

    def __init__(self, card: Card, sample: Sample, seed: int) -> None:
        self.card, self.sample = card, sample
        self.known = tuple(card.labels) + ((card.ignore_label,) if card.ignore_label is not None else ())
        self.random = generator(seed, "look-alike", card.name, sample.name.id)
        shape, spacing, self.axis_codes = _GRIDS[sample.number % len(_GRIDS)]
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = self.random.integers(-400, 400, 3) / 2
        i, j, k = shape
        self.grid = Geometry((i, j, 1 if card.dimension == 2 else k), affine)
        self.phantom: Phantom = phantom(self.grid, self.known, sample.labels, self.random)
        self._painted = self.phantom.painted(self.grid)

    @property
    def labels(self) -> Volume:
        """The label map, in the case's own orientation."""
        return Volume(self._painted[0][None], self.grid, "labels", "labels").oriented(self.axis_codes)

    def channels(self, numbers: Sequence[int]) -> Volume:
        """Channels as one file stores them: in one type, in the case's own orientation."""
        unit = self.sample.units[numbers[0]]
        values = [coloured(*self._painted, self.known, self.sample.units[n], n, self.random) for n in numbers]
        array = stored(np.stack(values), unit, self.sample.number)
        return Volume(array, self.grid, unit=unit).oriented(self.axis_codes)

    def pixels(self, channels: Sequence[int]) -> Volume:
        """Channels as a picture has them: 0 to 255."""
        values = [coloured(*self._painted, self.known, "arbitrary", number, self.random) for number in channels]
        return Volume(np.rint(np.stack(values)).astype(np.uint8), self.grid).oriented(self.axis_codes)

    def canonical(self, grid: Geometry, number: int) -> np.ndarray:
        """One channel ``(i, j, k)`` on another grid in RAS order, float32."""
        numbers, body = self.phantom.painted(grid)
        return coloured(numbers, body, self.known, self.sample.units[number], number, self.random)


def stored(array: np.ndarray, unit: Unit, number: int) -> np.ndarray:
    """Values in the type that the ``number``-th file has: HU as int16 or float32, SUV as float32."""
    if unit == "SUV":
        return array.astype(np.float32)
    if unit == "HU":
        return array.astype(np.float32) if number % 2 else np.rint(array).astype(np.int16)
    dtype, scale = _STORED[number % len(_STORED)]
    return (array * scale).astype(dtype)
