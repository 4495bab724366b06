"""One synthetic PET/CT patient: stylised anatomy, plausible HU and SUV, lesions with known truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from segue.core.seeds import generator, stream_seed
from segue.synth.anatomy import AIR_HU, FIELD_MM, Body, Canvas, draw_body, near_hot_organ
from segue.volume import Geometry, Volume

OUTSIDE_CT_HU = -1024.0
SUV_STEP = 0.01
_HALF_HEIGHT = np.sqrt(2 * np.log(2))
_FWHM_TO_SIGMA = 1 / (2 * _HALF_HEIGHT)
_POINT_SPREAD_FWHM_MM = 5.5
# All lesions of a patient together, as a part of the PET's voxels: inside 0.02 to 0.10 % with room for rounding.
_PREVALENCE = (0.00028, 0.00085)
_SOFT_TISSUE_HU = 35.0
_SOFT_TISSUE_SUV = 1.2


@dataclass(frozen=True)
class PetCtSettings:
    """How patients are generated.

    Attributes:
        size: ``full``: PET 200x200x150 at 2x2x3 mm, CT 400x400x150 at 1x1x3 mm; ``small``: half of that along
            every axis, over the same field of view.
        negatives: part of the patients without lesions.
        seed: another seed, other patients.
    """

    size: Literal["full", "small"] = "full"
    negatives: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Lesion:
    """A ball of uptake with a Gaussian profile; its mask ends where the profile falls to half its peak."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    peak_suv: float

    @property
    def sigma_mm(self) -> float:
        return self.radius_mm / float(_HALF_HEIGHT)


@dataclass(frozen=True)
class PetCtPatient:
    """CT (HU), CT on the PET's grid, PET (SUV), mask of the lesions; ``facts`` holds the truth about them."""

    id: str
    study: str
    ct: Volume
    ct_resampled: Volume
    suv: Volume
    segmentation: Volume
    facts: dict[str, Any] = field(default_factory=dict)


def patient_name(index: int, seed: int) -> tuple[str, str]:
    """Folder names of patient and study, in the style of FDG-PET-CT-Lesions."""
    number = stream_seed(seed, "name", index)
    return f"PETCT_{number % 16**10:010x}", f"01-01-2000-NA-PETCT-{number % 100000:05d}"


def patient(index: int, settings: PetCtSettings, *, lesions: bool = True) -> PetCtPatient:
    """Generate patient ``index``; the same index and settings give the same arrays on every machine.

    PET: organ uptake on a background of about 1.2, lesions (2 to 4, peak SUV 5 to 12) with Gaussian profiles, point
    spread of 5.5 mm, noise that grows with the root of the uptake and is correlated over neighbours. The mask
    holds the voxels where a lesion's own profile, before point spread and noise, is above half its peak.
    """
    random = generator(settings.seed, "patient", index)
    body = draw_body(random)
    ct_grid, pet_grid = _grids(settings.size)
    found = _place_lesions(body, random) if lesions else []
    ct = _ct(body, found, ct_grid, random)
    suv, mask = _pet(body, found, pet_grid, random)
    name, study = patient_name(index, settings.seed)
    ct_volume = Volume(ct[None], ct_grid, unit="HU")
    resampled = ct_volume.resampled_to(pet_grid, order=1, fill=OUTSIDE_CT_HU)
    return PetCtPatient(
        id=name,
        study=study,
        ct=ct_volume,
        ct_resampled=Volume(np.rint(resampled.array).astype(np.int16), pet_grid, unit="HU"),
        suv=Volume(suv[None], pet_grid, unit="SUV"),
        segmentation=Volume(mask[None], pet_grid, "labels", "labels"),
        facts={
            "lesions": len(found),
            "lesion_ml": float(mask.sum() * pet_grid.voxel_ml),
            "prevalence": float(mask.mean()),
            "peaks_suv": [lesion.peak_suv for lesion in found],
            "centres_mm": [list(lesion.centre_mm) for lesion in found],
            "radii_mm": [lesion.radius_mm for lesion in found],
        },
    )


def _grids(size: str) -> tuple[Geometry, Geometry]:
    half = 2 if size == "small" else 1
    grids = []
    for in_plane, slices in ((400, 150), (200, 150)):
        shape = (in_plane // half, in_plane // half, slices // half)
        spacing = np.array(FIELD_MM) / shape
        affine = np.diag([*spacing, 1.0])
        # The middle of the field lies at x = y = 0, as on a scanner; heights count from the table's end.
        affine[:3, 3] = np.array([-FIELD_MM[0] / 2, -FIELD_MM[1] / 2, 0.0]) + spacing / 2
        grids.append(Geometry(shape, affine))
    return grids[0], grids[1]


def _axes_mm(grid: Geometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    i, j, k = (grid.affine[n, n] * np.arange(grid.shape[n]) + grid.affine[n, 3] for n in range(3))
    return i, j, k


def _place_lesions(body: Body, random: np.random.Generator) -> list[Lesion]:
    number = int(random.integers(2, 5))
    total_mm3 = float(np.exp(random.uniform(*np.log(_PREVALENCE)))) * float(np.prod(FIELD_MM))
    shares = random.uniform(0.6, 1.4, number)
    radii = np.cbrt(shares / shares.sum() * total_mm3 * 3 / (4 * np.pi))
    lesions: list[Lesion] = []
    for radius in sorted(radii, reverse=True):
        centre = _free_place(body, lesions, float(radius), random)
        x, y, z = (float(value) for value in centre)
        lesions.append(Lesion((x, y, z), float(radius), float(random.uniform(5.5, 12.0))))
    return lesions


def _free_place(body: Body, others: list[Lesion], radius: float, random: np.random.Generator) -> np.ndarray:
    """In lung, liver, mediastinum, bone or anywhere in the trunk; clear of other lesions and of hot organs."""
    targets = [o for o in body.organs if o.name.startswith(("lung", "liver", "mediastinum", "ilium", "spleen"))]
    for attempt in range(2000):
        if attempt < 200 and random.random() < 0.7:
            organ = targets[int(random.integers(len(targets)))]
            centre = np.array(organ.centre_mm) + random.uniform(-0.7, 0.7, 3) * organ.radii_mm
        else:
            centre = random.uniform([-140, -85, 20], [140, 85, 330])
        # Uptake falls to a twentieth of the peak at 2.1 radii: hot neighbours stay outside that.
        clear = all(np.linalg.norm(centre - o.centre_mm) > 1.2 * (radius + o.radius_mm) + 8 for o in others)
        if clear and body.holds(centre, radius) and not near_hot_organ(body, centre, 1.3 * radius + 6):
            return centre
    raise RuntimeError("no free place for a lesion in 2000 attempts")


def _ct(body: Body, lesions: list[Lesion], grid: Geometry, random: np.random.Generator) -> np.ndarray:
    canvas = Canvas(_axes_mm(grid), AIR_HU)
    inside = canvas.outline(body)
    canvas.values[inside] = _SOFT_TISSUE_HU
    for organ in body.organs:
        if organ.hu is not None:
            canvas.ellipsoid(organ, organ.hu)
    canvas.spine(body, 380.0, 70.0)
    canvas.ribs(body, 430.0)
    for lesion in lesions:
        centre, radius = np.array(lesion.centre_mm), np.full(3, lesion.radius_mm)
        box = canvas.box(centre, radius)
        region = canvas.values[box]
        # Solid tissue: plain to see in the lung, 10 HU in soft tissue, a lytic spot in bone.
        region[canvas.distance2(box, centre, radius) < 1] = _SOFT_TISSUE_HU + 10
    hu = canvas.values
    hu[inside] += 8.0 * random.standard_normal(int(inside.sum()), dtype=np.float32)
    return np.rint(hu).astype(np.int16)


def _pet(
    body: Body, lesions: list[Lesion], grid: Geometry, random: np.random.Generator
) -> tuple[Float32[np.ndarray, "i j k"], np.ndarray]:
    canvas = Canvas(_axes_mm(grid), 0.0)
    canvas.values[canvas.outline(body)] = _SOFT_TISSUE_SUV
    for organ in body.organs:
        if organ.suv is not None:
            canvas.ellipsoid(organ, organ.suv)
    canvas.spine(body, 1.8, 1.3)
    mask = np.zeros(grid.shape, dtype=np.uint8)
    for lesion in lesions:
        centre, reach = np.array(lesion.centre_mm), np.full(3, 3.5 * lesion.sigma_mm)
        box = canvas.box(centre, reach)
        profile = np.exp(-0.5 * canvas.distance2(box, centre, np.full(3, lesion.sigma_mm)))
        region = canvas.values[box]
        np.maximum(region, lesion.peak_suv * profile, out=region)
        mask[box] |= (profile > 0.5).astype(np.uint8)
    sigma = [_POINT_SPREAD_FWHM_MM * _FWHM_TO_SIGMA / spacing for spacing in grid.spacing_mm]
    activity = ndimage.gaussian_filter(canvas.values, sigma, truncate=3.0)
    noise = random.standard_normal(grid.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, [0.35 * s for s in _noise_sigma(grid)], truncate=3.0)
    noise /= noise.std()
    suv = activity + 0.13 * np.sqrt(np.maximum(activity, 0)) * noise
    suv = np.maximum(suv, 0)
    suv[activity < 0.02] = 0
    return (np.rint(suv / SUV_STEP) * SUV_STEP).astype(np.float32), mask


def _noise_sigma(grid: Geometry) -> list[float]:
    return [_POINT_SPREAD_FWHM_MM / spacing for spacing in grid.spacing_mm]
