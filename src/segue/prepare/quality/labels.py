"""The labels of one case: how much there is of each, where, in how many parts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import cc3d
import numpy as np
from jaxtyping import Integer
from pydantic import BaseModel

from segue.prepare.quality.reporting import Found, Place
from segue.volume import Geometry, bounding_box

_SPECK_VOXELS = 10
_SPECK_PART = 0.01
_EMPTY_PART = 0.5
_MOST_LABEL = 65_535


class LabelFacts(BaseModel):
    """Of one label in one case.

    Attributes:
        centre_mm: of its voxels, RAS.
        box: its first and its last voxel along each axis of the file.
        parts: components, over faces, edges and corners.
        specks: components of at most 10 voxels and less than a hundredth of the label's largest one.
        speck_mm: where one of these lies.
        border: faces of the image that it touches, in the patient's directions (``LRPAIS``).
    """

    voxels: int
    ml: float
    centre_mm: Place
    box: tuple[tuple[int, int, int], tuple[int, int, int]]
    parts: int = 1
    specks: int = 0
    speck_mm: Place | None = None
    border: str = ""


def measure_labels(
    mask: Integer[np.ndarray, "i j k"], geometry: Geometry, labels: Mapping[int, str]
) -> dict[int, LabelFacts]:
    """Facts of each of ``labels`` that is there; ``mask`` in the orientation of ``geometry``."""
    place = {number: number for number in labels}
    around = bounding_box(mask != 0)
    if around is None:
        return {}
    corner = np.array([axis.start for axis in around])
    counted = mask[around]  # most of an image is background
    if int(counted.max()) >= min(_MOST_LABEL, counted.size):  # counting needs a row per number, fewer than voxels
        numbers, rows = np.unique(counted, return_inverse=True)
        counted = rows.reshape(counted.shape).astype(np.uint32)
        place = {int(number): row for row, number in enumerate(numbers)}
    statistics = cc3d.statistics(counted)
    facts = {}
    for number in labels:
        row = place.get(number, -1)
        if not 0 <= row < len(statistics["voxel_counts"]) or not (count := int(statistics["voxel_counts"][row])):
            continue
        box = statistics["bounding_boxes"][row]
        low = _index(corner + [axis.start for axis in box])
        high = _index(corner + [axis.stop - 1 for axis in box])
        parts, specks, speck = _parts(mask[around][box] == number)
        facts[number] = LabelFacts(
            voxels=count,
            ml=count * geometry.voxel_ml,
            centre_mm=geometry.place_mm(corner + statistics["centroids"][row]),
            box=(low, high),
            parts=parts,
            specks=specks,
            speck_mm=None if speck is None else geometry.place_mm(np.array(low) + speck),
            border=_faces(low, high, geometry),
        )
    return facts


def _index(voxel: Integer[np.ndarray, " 3"]) -> tuple[int, int, int]:
    i, j, k = voxel.tolist()
    return i, j, k


def _parts(there: np.ndarray) -> tuple[int, int, np.ndarray | None]:
    """How many components, how many of them are specks, and a voxel of the smallest speck."""
    components = cc3d.connected_components(there, connectivity=26, binary_image=True)
    statistics = cc3d.statistics(components)
    sizes = np.asarray(statistics["voxel_counts"][1:])
    if not len(sizes):
        return 1, 0, None
    specks = np.flatnonzero((sizes <= _SPECK_VOXELS) & (sizes < _SPECK_PART * sizes.max()))
    if not len(specks):
        return len(sizes), 0, None
    return len(sizes), len(specks), statistics["centroids"][1 + specks[sizes[specks].argmin()]]


def _faces(low: tuple[int, ...], high: tuple[int, ...], geometry: Geometry) -> str:
    """The faces of the image that a box touches; along an axis with one voxel there are none."""
    opposite = dict(zip("RLAPSI", "LRPAIS", strict=True))
    touched = []
    for first, last, size, towards in zip(low, high, geometry.shape, geometry.axis_codes, strict=True):
        if size > 1:
            touched += [opposite[towards]] * (first == 0) + [towards] * (last == size - 1)
    return "".join(sorted(touched))


def look_for_emptiness(values: np.ndarray, low: float, facts: Mapping[int, LabelFacts], found: Found) -> None:
    """A warning where the labels lie on what is empty in the image: a mask of another case, or one that is flipped.

    Args:
        values: of a channel, at the labelled voxels.
        low: the least value of that channel.
    """
    part = float(np.mean(values == low)) if len(values) else 0.0
    if part > _EMPTY_PART:
        largest = max(facts.values(), key=lambda one: one.voxels)
        found(
            "warning",
            "most of what is labelled is empty in the image",
            f"{part:.0%} of the labelled voxels have its least value, {low:.4g}",
            "look whether the mask belongs to this image and lies the same way",
            size=part,
            at_mm=largest.centre_mm,
        )


_LEFT, _RIGHT = {"left", "l", "lt", "sin", "sinistra"}, {"right", "r", "rt", "dex", "dextra"}
# Where there is one of each in a body, on which side it lies.
_ANATOMY = (("spleen", "liver"), ("stomach", "liver"), ("spleen", "gallbladder"))


def sided_pairs(labels: Mapping[int, str]) -> list[tuple[int, int]]:
    """Pairs of labels of which the first lies on the patient's left: ``kidney_left`` and ``kidney_right``, spleen and
    liver."""
    sides: dict[str, dict[str, int]] = {}
    plain = {}
    for number, name in labels.items():
        words = [word for word in re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()) if word]
        side = "left" if _LEFT & set(words) else "right" if _RIGHT & set(words) else ""
        rest = " ".join(word for word in words if word not in _LEFT | _RIGHT)
        if side and not (_LEFT & set(words) and _RIGHT & set(words)) and rest:
            sides.setdefault(rest, {})[side] = number
        plain[rest.replace(" ", "")] = number
    pairs = [(both["left"], both["right"]) for both in sides.values() if len(both) == 2]
    return pairs + [(plain[left], plain[right]) for left, right in _ANATOMY if left in plain and right in plain]
