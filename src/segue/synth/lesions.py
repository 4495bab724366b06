"""Lesions: how many, how large, where; drawn from the anatomy alone, so that every resolution shows the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from segue.synth.anatomy import FIELD_MM, Body, Tissue
from segue.synth.canvas import distance_mm2, paint

# All lesions of a patient, as parts of the field of view: within 0.02 to 0.10 % with room for the voxels' rounding.
PREVALENCE = (0.00026, 0.00088)
PEAK_SUV = (5.0, 12.0)
_HALF_HEIGHT = float(np.sqrt(2 * np.log(2)))
_PLAN_MM = 6.25
_ALL = (slice(None), slice(None), slice(None))
_EACH_ML = (6.0, 16.0)
_SITES: dict[str, tuple[float, tuple[Tissue, ...]]] = {
    "lung": (0.3, (Tissue.LUNG,)),
    "liver": (0.2, (Tissue.LIVER,)),
    "bone": (0.18, (Tissue.MARROW,)),
    "node": (0.32, (Tissue.MEDIASTINUM, Tissue.VISCERA, Tissue.MUSCLE)),
}
HOT = (
    Tissue.GREY_MATTER,
    Tissue.WHITE_MATTER,
    Tissue.MYOCARDIUM,
    Tissue.KIDNEY,
    Tissue.RENAL_PELVIS,
    Tissue.URETER,
    Tissue.BLADDER,
)


@dataclass(frozen=True)
class Lesion:
    """A ball of uptake with a Gaussian profile.

    Attributes:
        site: ``lung``, ``liver``, ``bone`` or ``node`` (mediastinum, abdomen, muscle).
        centre_mm: in field coordinates.
        radius_mm: where the profile has fallen to half its peak; the mask ends there.
        peak_suv: the uptake at the centre.
    """

    site: str
    centre_mm: tuple[float, float, float]
    radius_mm: float
    peak_suv: float

    @property
    def sigma_mm(self) -> float:
        """Standard deviation of the Gaussian."""
        return self.radius_mm / _HALF_HEIGHT


def draw_lesions(body: Body, random: np.random.Generator) -> list[Lesion]:
    """2 to 4 lesions in lung, liver, bone or nodes, inside the body, clear of each other and of hot organs."""
    x, y, z = (np.arange(_PLAN_MM / 2, length, _PLAN_MM) for length in FIELD_MM)
    axes = (x - FIELD_MM[0] / 2, y - FIELD_MM[1] / 2, z)
    tissues = paint(body, axes)
    # Head, arms and the ends of the legs are no places for these lesions.
    outside = (tissues <= Tissue.TABLE) | (z > 345) | (z < 14) | (np.abs(axes[0]) > 135)[:, None, None]
    to_skin = _distance_mm(~outside)
    to_hot = _distance_mm(~np.isin(tissues, np.array(HOT, dtype=np.uint8)))
    free = np.full(tissues.shape, np.inf, dtype=np.float32)
    lesions: list[Lesion] = []
    for radius in _radii_mm(random):
        possible = (to_skin > 1.4 * radius + 6) & (to_hot > radius + 8) & (free > radius)
        site, index = _place(tissues, possible, random)
        place = [float(axis[i] + _PLAN_MM * random.uniform(-0.45, 0.45)) for axis, i in zip(axes, index, strict=True)]
        lesions.append(Lesion(site, (place[0], place[1], place[2]), radius, float(random.uniform(*PEAK_SUV))))
        apart = np.sqrt(distance_mm2(axes, _ALL, place))
        free = np.minimum(free, apart - np.float32(1.25 * radius + 10))
    return lesions


def _radii_mm(random: np.random.Generator) -> list[float]:
    """Half-height radii, largest first; their volumes together lie within :data:`PREVALENCE` of the field."""
    number = int(random.integers(2, 5))
    field_ml = float(np.prod(FIELD_MM)) / 1000
    low_ml, high_ml = (part * field_ml for part in PREVALENCE)
    total_ml = float(np.clip(number * random.uniform(*_EACH_ML), low_ml, high_ml))
    shares = np.exp(random.uniform(-0.6, 0.6, number))
    volumes_mm3 = np.sort(shares / shares.sum())[::-1] * total_ml * 1000
    return [float(radius) for radius in np.cbrt(volumes_mm3 * 3 / (4 * np.pi))]


def _distance_mm(mask: Bool[np.ndarray, "i j k"]) -> Float32[np.ndarray, "i j k"]:
    return ndimage.distance_transform_edt(mask, sampling=_PLAN_MM).astype(np.float32)


def _place(
    tissues: UInt8[np.ndarray, "i j k"], possible: Bool[np.ndarray, "i j k"], random: np.random.Generator
) -> tuple[str, tuple[int, ...]]:
    names = list(_SITES)
    weights = np.array([_SITES[name][0] for name in names])
    for choice in random.choice(len(names), len(names), replace=False, p=weights / weights.sum()):
        name = names[int(choice)]
        candidates = np.flatnonzero(possible & np.isin(tissues, np.array(_SITES[name][1], dtype=np.uint8)))
        if len(candidates):
            chosen = int(candidates[int(random.integers(len(candidates)))])
            return name, tuple(int(i) for i in np.unravel_index(chosen, tissues.shape))
    raise AssertionError("a body without room for a lesion")
