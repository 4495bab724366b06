"""Several volumes in one series: echoes, time points, phases, b-values. Which image belongs to which?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from segue.dicom.errors import DicomError

if TYPE_CHECKING:
    from segue.dicom.planes import Plane

# What tells apart the volumes of one series: echoes, time points, diffusion, phases, parts of a complex image.
VOLUME_TAGS = (
    "EchoTime",
    "EchoNumbers",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "DiffusionBValue",
    "TriggerTime",
    "InversionTime",
    "FrameReferenceTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ImageType",
    "FrameType",
)
# These differ from slice to slice too: the n-th at each place belongs to the n-th volume.
_BY_RANK = ("TriggerTime", "FrameReferenceTime", "AcquisitionTime", "InstanceNumber")
SAME_PLACE_MM = 1e-3


@dataclass(frozen=True)
class Parts:
    """The volumes of a series.

    Attributes:
        planes: of each volume, the numbers of its planes.
        differ_in: the tag that tells them apart; empty where there is one volume.
        values: of each volume, the value of that tag; empty where it is one of each slice.
    """

    planes: list[list[int]]
    differ_in: str = ""
    values: tuple[str, ...] = ()


def parts(planes: Sequence[Plane], distance_mm: Float64[np.ndarray, " n"], where: Path) -> Parts:
    """Tell the volumes of a series apart: at every place along the normal each has one image.

    They differ in the first tag of :data:`VOLUME_TAGS` whose values are the same ones at every place; else, of tags
    that every slice has of its own (times, instance numbers), the order at each place decides.

    Args:
        distance_mm: of each plane, along the normal.

    Raises:
        DicomError: ``SEVERAL_VOLUMES``: they have different numbers of slices, or nothing tells which image belongs to
            which. ``DUPLICATE_POSITION``: no tag differs, so they are no volumes of their own.
    """
    places = _places(distance_mm)
    counts = {len(place) for place in places}
    if counts == {1}:
        return Parts([list(range(len(planes)))])
    crowded = [place for place in places if len(place) > 1]
    differing = [tag for tag in VOLUME_TAGS if all(len({planes[i].marks[tag] for i in place}) > 1 for place in crowded)]
    value = f"up to {max(counts)} images at each of {len(places)} positions"
    value += f", they differ in {', '.join(differing)}" if differing else ""
    if len(counts) == 1 and differing:
        found = _by_value(planes, places, differing) or _by_rank(planes, places, differing)
        if found is not None:
            return found
    if differing or (len(counts) == 1 and len(places) > 1):
        raise DicomError(
            "the series holds several volumes, and which image belongs to which is not clear",
            where=where,
            value=value,
            reason="SEVERAL_VOLUMES",
        )
    raise DicomError(
        "several slices lie at the same position",
        where=where,
        value=f"{len(crowded)} of {len(places)} positions, the first at {distance_mm[crowded[0][0]]:.2f} mm",
        reason="DUPLICATE_POSITION",
    )


def _places(distance_mm: Float64[np.ndarray, " n"]) -> list[list[int]]:
    # Slices at the same distance but beside each other are no duplicates; they are told of as shifted.
    places: list[list[int]] = []
    for index in np.argsort(distance_mm, kind="stable"):
        if places and distance_mm[index] - distance_mm[places[-1][0]] < SAME_PLACE_MM:
            places[-1].append(int(index))
        else:
            places.append([int(index)])
    return places


def _by_value(planes: Sequence[Plane], places: list[list[int]], differing: list[str]) -> Parts | None:
    for tag in differing:
        values = {planes[i].marks[tag] for i in places[0]}
        if len(values) == len(places[0]) and all({planes[i].marks[tag] for i in place} == values for place in places):
            ordered = _ordered(planes, values, tag)
            volumes = [[i for place in places for i in place if planes[i].marks[tag] == one] for one in ordered]
            return Parts(volumes, tag, tuple(ordered))
    return None


def _ordered(planes: Sequence[Plane], values: set[str], tag: str) -> list[str]:
    """By their numbers, and where they are none by which comes first."""
    numbers = {value: _number(value) for value in values}
    if None not in numbers.values():
        return sorted(values, key=lambda value: (numbers[value], value))
    first = {planes[i].marks[tag]: _instance(planes, i) for i in reversed(range(len(planes)))}
    return sorted(values, key=lambda value: (first[value], value))


def _instance(planes: Sequence[Plane], index: int) -> tuple[float, int]:
    number = _number(planes[index].marks["InstanceNumber"])
    return (float("inf") if number is None else number), index


def _by_rank(planes: Sequence[Plane], places: list[list[int]], differing: list[str]) -> Parts | None:
    for tag in (*(tag for tag in _BY_RANK if tag in differing), "InstanceNumber"):
        numbers = [_number(plane.marks[tag]) for plane in planes]
        if all(len({numbers[i] for i in place} - {None}) == len(place) for place in places):
            ranked = [sorted(place, key=lambda i: (numbers[i], i)) for place in places]
            return Parts([list(volume) for volume in zip(*ranked, strict=True)], tag)
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
