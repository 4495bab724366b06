"""Small bodies with labelled places in them: what the images of a look-alike show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt16

from segue.catalogue.card import Unit
from segue.core.seeds import generator
from segue.volume import Geometry

AIR_HU = -1000.0
_LOWEST_HU = -1024.0
# In units of the body's half axes: few labels are as large as large organs, many fill the body side by side.
_LARGEST_RADIUS = 0.35
_REACH = 0.97
_LESION_REACH = 0.45
_JITTER = 0.15  # of the radius


@dataclass(frozen=True)
class Appearance:
    """Mean values of one unit: outside, the body, the label with the highest and with the lowest value; noise."""

    outside: float
    body: float
    high: float
    low: float
    noise: float


_APPEARANCE: dict[Unit, Appearance] = {
    "HU": Appearance(AIR_HU, 30.0, 400.0, 80.0, 12.0),
    "SUV": Appearance(0.0, 1.0, 9.0, 4.0, 0.1),
    "arbitrary": Appearance(0.0, 60.0, 235.0, 100.0, 5.0),
}


@dataclass(frozen=True, eq=False)
class Phantom:
    """An ellipsoid body with a ball per label, in scanner coordinates.

    Attributes:
        centre_mm, half_mm: middle and half axes of the body along right, front and head.
        labels: the number of each ball; ``places`` are their middles and ``radius`` their size, in units of the half
            axes.
    """

    centre_mm: Float64[np.ndarray, " 3"]
    half_mm: Float64[np.ndarray, " 3"]
    labels: tuple[int, ...]
    places: Float64[np.ndarray, "n 3"]
    radius: float

    def painted(self, grid: Geometry) -> tuple[UInt16[np.ndarray, "i j k"], Bool[np.ndarray, "i j k"]]:
        """Label numbers and the body on a grid in RAS order; where balls touch, the nearer middle wins."""
        lines = [
            ((grid.affine[n, n] * np.arange(grid.shape[n]) + grid.affine[n, 3] - self.centre_mm[n]) / self.half_mm[n])
            for n in range(3)
        ]

        def distance2(place: Sequence[float] | np.ndarray) -> Float32[np.ndarray, "i j k"]:
            x, y, z = (((line - at) ** 2).astype(np.float32) for line, at in zip(lines, place, strict=True))
            return x[:, None, None] + y[None, :, None] + z[None, None, :]

        numbers = np.zeros(grid.shape, dtype=np.uint16)
        nearest = np.full(grid.shape, self.radius**2, dtype=np.float32)
        for label, place in zip(self.labels, self.places, strict=True):
            away = distance2(place)
            closer = away < nearest
            numbers[closer] = label
            nearest[closer] = away[closer]
        return numbers, (distance2((0.0, 0.0, 0.0)) < 1) | (numbers > 0)


@lru_cache(maxsize=64)
def _anatomy(count: int, flat: bool) -> tuple[Float64[np.ndarray, "n 3"], float]:
    """Places that lie far apart in the body, the same in every case: farthest-point sampling; and their radius."""
    random = generator(0, "anatomy", count, flat)
    candidates = random.uniform(-1, 1, (4000, 3))
    if flat:
        candidates[:, 2] = 0
    candidates = candidates[(candidates**2).sum(1) < 1]
    chosen = [int((candidates**2).sum(1).argmax())]
    nearest = ((candidates - candidates[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((candidates - candidates[chosen[-1]]) ** 2).sum(1))
    places = candidates[chosen]
    between = np.sqrt(((places[:, None] - places) ** 2).sum(-1)) + 9 * np.eye(count)
    apart = 0.5 * float(between.min())
    reach = max(_REACH / (1 + apart), _REACH - _LARGEST_RADIUS)  # all of each ball stays within the body
    return places * reach, min(_LARGEST_RADIUS, apart * reach)


def phantom(grid: Geometry, known: Sequence[int], shown: Sequence[int], random: np.random.Generator) -> Phantom:
    """A body that fills most of a grid in RAS order.

    Args:
        known: all labels of the dataset: each has its own place in the body (a single one, as of a lesion, lies
            somewhere else in every case).
        shown: the labels that are there in this case.
    """
    size = np.array(grid.shape) * np.array(grid.spacing_mm)
    flat = grid.shape[2] == 1
    middle = grid.affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2) + grid.affine[:3, 3]
    half = size * random.uniform(0.42, 0.46, 3)
    if flat:
        half[2] = size[2]
    places, radius = _anatomy(max(1, len(known)), flat)
    moved = places + radius * random.uniform(-_JITTER, _JITTER, places.shape)
    if len(known) == 1:
        moved = random.uniform(-_LESION_REACH, _LESION_REACH, (1, 3))
    if flat:
        moved[:, 2] = 0
    rows = [row for row, label in enumerate(known) if label in shown]
    return Phantom(middle, half, tuple(known[row] for row in rows), moved[rows], radius)


def coloured(
    numbers: UInt16[np.ndarray, "*shape"],
    body: Bool[np.ndarray, "*shape"],
    known: Sequence[int],
    unit: Unit,
    channel: int,
    random: np.random.Generator,
) -> Float32[np.ndarray, "*shape"]:
    """Intensities in which every label has its own mean: HU, SUV, or 0 to 255 where the unit is arbitrary.

    Every channel ranks the labels in an order of its own, as MRI sequences do.
    """
    means = _APPEARANCE[unit]
    levels = np.full(max(known, default=0) + 1, means.body, dtype=np.float32)
    order = generator(0, "order", channel, len(known)).permutation(len(known)) if channel else np.arange(len(known))
    levels[np.array(known, dtype=int)[order]] = np.linspace(means.high, means.low, len(known))
    image = np.where(body, levels[numbers], np.float32(means.outside))
    image += np.float32(means.noise) * random.standard_normal(image.shape, dtype=np.float32)
    if unit == "HU":
        return np.maximum(image, np.float32(_LOWEST_HU))
    if unit == "arbitrary":
        image[~body] = 0  # magnitude images of an extracted brain or a cropped organ have nothing outside
        return np.clip(image, 0, 255)
    return np.maximum(image, np.float32(0))
