"""What was measured over a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from segue.catalogue import Card, Channel, Classes, Target
from segue.core.errors import DataError
from segue.prepare.examine import Examination


class Intensities(BaseModel):
    """Foreground intensities of one channel over all cases."""

    model_config = ConfigDict(frozen=True)

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float


class Extremes(BaseModel):
    """Of one channel over all cases: from where to where an image's least and its greatest value go."""

    model_config = ConfigDict(frozen=True)

    least: tuple[float, float]
    greatest: tuple[float, float]


class Fingerprint(BaseModel):
    """The facts that a plan is made from. Shapes and spacings are in canonical (RAS) axis order.

    Attributes:
        intensities: per channel, over the cases that have it.
        extremes: the same, of whole images; empty where they were not measured.
        absent: how many cases lack an optional channel, by its name.
        class_counts: of a classification, images per class (where several may hold, images that have it).
        absolute: values mean the same in every image (HU, SUV, windowed CT).
        eight_bit: all values are whole numbers from 0 to 255.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str
    dimension: int
    channels: list[Channel]
    labels: dict[int, str]
    regions: dict[str, list[int]] = {}
    ignore_label: int | None
    mirror_axes: list[int]
    cases: int
    patients: int
    shapes: list[tuple[int, int, int]]
    spacings_mm: list[tuple[float, float, float]]
    intensities: list[Intensities]
    extremes: list[Extremes] = []
    absent: dict[str, int] = {}
    foreground_part: float
    task: Literal["segmentation", "classification"] = "segmentation"
    classes: Classes | None = None
    class_counts: dict[int, int] = {}
    absolute: bool = False
    eight_bit: bool = False


def fingerprint(
    card: Card, examinations: Sequence[Examination], targets: Mapping[str, Target] | None = None
) -> Fingerprint:
    """Gather what was measured on the sound, annotated cases; ``targets`` are their classes, by case.

    Raises:
        DataError: there is none, or none that has a channel.
    """
    sound = [e for e in examinations if e.sound and e.shape and e.spacing_mm]
    if not sound:
        raise DataError("no sound annotated case is left to plan from", where=card.name, remedy="run segue check")
    names = {"left-right": 0, "front-back": 1, "head-foot": 2}
    voxels = sum(float(np.prod(e.shape or ())) for e in sound)
    answers = [targets[e.case] for e in sound if e.case in targets] if targets else []
    return Fingerprint(
        dataset=card.name,
        dimension=card.dimension,
        channels=card.channels,
        labels=card.labels,
        regions=card.regions,
        ignore_label=card.ignore_label,
        mirror_axes=sorted(names[axis] for axis in card.mirror_axes),
        cases=len(sound),
        patients=len({e.patient for e in sound}),
        shapes=[e.shape for e in sound if e.shape],
        spacings_mm=[e.spacing_mm for e in sound if e.spacing_mm],
        intensities=[_intensities(card, sound, number) for number in range(len(card.channels))],
        extremes=[_extremes(sound, number) for number in range(len(card.channels))],
        absent={
            channel.name: sum(e.channels[number] is None for e in sound)
            for number, channel in enumerate(card.channels)
            if channel.optional
        },
        foreground_part=sum(sum(e.label_voxels.values()) for e in sound) / voxels,
        task="classification" if card.task == "classification" else "segmentation",
        classes=card.classes,
        class_counts=count_classes(card, answers),
        absolute=has_absolute_values(card),
        eight_bit=all(
            channel.low >= 0 and channel.high <= 255 and channel.whole
            for e in sound
            for channel in e.channels
            if channel is not None
        ),
    )


def count_classes(card: Card, answers: Sequence[Target]) -> dict[int, int]:
    """Images per class; where several may hold, images that have it."""
    if card.task != "classification":
        return {}
    table = np.array(answers, dtype=np.int64).reshape(len(answers), -1)
    if card.classes == "multi-label":
        return {number: int(table[:, column].sum()) for column, number in enumerate(card.labels)}
    return {number: int((table[:, 0] == number).sum()) for number in card.labels}


def has_absolute_values(card: Card) -> bool:
    """Whether a value means the same in every image: HU, SUV, and CT that was windowed into a picture."""
    return any(channel.unit != "arbitrary" for channel in card.channels) or "CT" in card.modalities


def _extremes(examinations: Sequence[Examination], channel: int) -> Extremes:
    having = [there for e in examinations if (there := e.channels[channel]) is not None]
    lows, highs = [one.low for one in having], [one.high for one in having]
    return Extremes(least=(min(lows), max(lows)), greatest=(min(highs), max(highs)))


def _intensities(card: Card, examinations: Sequence[Examination], channel: int) -> Intensities:
    having = [(any(e.label_voxels.values()), there) for e in examinations if (there := e.channels[channel]) is not None]
    if not having:
        raise DataError(
            "no training case has this channel",
            where=card.name,
            value=card.channels[channel].name,
            remedy="bring its files, or take it out of 'channels' in the card",
        )
    # Cases without foreground sampled their whole image; they would drag the statistics to the background.
    with_foreground = [there for has, there in having if has]
    values = np.concatenate([there.sample for there in with_foreground or [there for _, there in having]])
    low, high = np.percentile(values, [0.5, 99.5])
    return Intensities(
        mean=float(values.mean()),
        std=float(values.std()),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
    )
