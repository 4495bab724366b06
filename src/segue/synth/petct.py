"""One synthetic PET/CT patient: stylised anatomy, plausible HU and SUV, lesions with known truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int16, UInt8
from scipy import ndimage

from segue.core.errors import UsageError
from segue.core.seeds import generator, stream_seed
from segue.synth.anatomy import FIELD_MM, Body, Tissue, draw_body
from segue.synth.canvas import Axes, box_around, distance_mm2, paint
from segue.synth.lesions import Lesion, draw_lesions
from segue.volume import Geometry, Volume

OUTSIDE_CT_HU = -1024.0
SUV_STEP = 0.01
POINT_SPREAD_FWHM_MM = 5.5
_NOISE_FWHM_MM = 4.5
_FWHM_TO_SIGMA = 1 / (2 * np.sqrt(2 * np.log(2)))
# The standard deviation of the PET's noise at SUV 1; it grows with the root of the uptake, as counts do.
_NOISE_SUV = 0.13
_CT_NOISE_HU = 6.0
# What solid tumour tissue looks like on CT: plain in the lung, faint elsewhere.
_LESION_HU = {"lung": 38.0, "liver": 32.0, "bone": 130.0, "node": 45.0}


@dataclass(frozen=True)
class PetCtSettings:
    """How patients are generated.

    Attributes:
        size: ``full``: PET 200x200x150 at 2x2x3 mm, CT 364x364x150 at 1.1x1.1x3 mm, 10 MB a patient;
            ``small``: half as many voxels along every axis, 1.4 MB, the same patients over the same field
            of view of 400x400x450 mm.
        negatives: part of the patients without lesions, 0 to 1.
        seed: another seed, other patients.

    Raises:
        UsageError: a size that is not there, or a part beyond 0 to 1.
    """

    size: Literal["full", "small"] = "full"
    negatives: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size not in ("full", "small"):
            raise UsageError("there is no such size", value=self.size, remedy="choose full or small")
        if not 0 <= self.negatives <= 1:
            raise UsageError(
                "negatives is the part of patients without lesions",
                value=self.negatives,
                remedy="give a number from 0 to 1",
            )


@dataclass(frozen=True)
class PetCtPatient:
    """CT (int16 HU), CT on the PET's grid (int16 HU), PET (SUV), mask of the lesions (0, 1).

    ``facts`` holds the truth: ``lesions`` (number), ``lesion_ml`` (mask, all of them), ``prevalence`` (part of the
    mask's voxels), and one entry per lesion in ``sites``, ``peaks_suv``, ``radii_mm`` (at half the peak),
    ``volumes_ml`` (of its part of the mask) and ``centres_mm`` (RAS).
    """

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
    """Generate patient ``index``; the same index, size and seed give the same arrays again.

    (Another kind of processor may round a voxel's last digit differently.)

    The anatomy is that of an adult compressed along the axis, so that 450 mm hold it from thighs to crown.
    PET: organ uptake on a soft-tissue background of 1.0 to 1.4, blurred by a point spread of 5.5 mm FWHM, then
    noise (9 % in the liver, correlated over 4.5 mm). A lesion is added after the blur as it would be
    measured: with profile ``g(r) = exp(-r**2 / (2 sigma**2))``, the uptake is ``(1 - g) * tissue + g * peak``. Its
    mask holds the voxels whose centres have ``g > 1/2``: closer than ``sigma * sqrt(2 ln 2)``, the ``radii_mm`` of the
    facts; there the noise-free uptake is above half the peak. The voxels of all masks are 0.02 to 0.10 % of the
    image, because the radii are drawn from the volume that this leaves.
    """
    body = draw_body(generator(settings.seed, "body", index))
    found = draw_lesions(body, generator(settings.seed, "lesions", index)) if lesions else []
    origin = _origin_mm(generator(settings.seed, "origin", index))
    ct_grid, pet_grid = _grids(settings.size, origin)
    random = generator(settings.seed, "noise", index, settings.size)
    ct = Volume(_ct(body, found, _axes_mm(ct_grid, origin), random)[None], ct_grid, unit="HU")
    suv, mask, volumes = _pet(body, found, _axes_mm(pet_grid, origin), random)
    resampled = ct.resampled_to(pet_grid, order=1, fill=OUTSIDE_CT_HU)
    name, study = patient_name(index, settings.seed)
    return PetCtPatient(
        id=name,
        study=study,
        ct=ct,
        ct_resampled=Volume(np.rint(resampled.array).astype(np.int16), pet_grid, unit="HU"),
        suv=Volume(suv[None], pet_grid, unit="SUV"),
        segmentation=Volume(mask[None], pet_grid, "labels", "labels"),
        facts={
            "lesions": len(found),
            "lesion_ml": round(float(np.count_nonzero(mask) * pet_grid.voxel_ml), 3),
            "prevalence": np.count_nonzero(mask) / mask.size,
            "sites": [lesion.site for lesion in found],
            "peaks_suv": [lesion.peak_suv for lesion in found],
            "radii_mm": [lesion.radius_mm for lesion in found],
            "volumes_ml": [round(count * pet_grid.voxel_ml, 3) for count in volumes],
            "centres_mm": [[float(c + o) for c, o in zip(lesion.centre_mm, origin, strict=True)] for lesion in found],
        },
    )


def _origin_mm(random: np.random.Generator) -> Float64[np.ndarray, " 3"]:
    """Where the scanner's frame has the field's x = y = z = 0; in half millimetres, exact in a header's float32."""
    return random.integers([-40, -120, -2600], [41, 1, -1200]) / 2


def _grids(size: str, origin_mm: Float64[np.ndarray, " 3"]) -> tuple[Geometry, Geometry]:
    """The grids of CT and PET, around the same middle; the CT's is 0.2 mm wider on every side."""
    times = 2 if size == "small" else 1
    grids = []
    for in_plane, spacing_mm in ((364, 1.1), (200, 2.0)):
        shape = np.array([in_plane, in_plane, 150]) // times
        spacing = np.array([spacing_mm, spacing_mm, 3.0]) * times
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = origin_mm + [0.0, 0.0, FIELD_MM[2] / 2] - spacing * (shape - 1) / 2
        grids.append(Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine))
    return grids[0], grids[1]


def _axes_mm(grid: Geometry, origin_mm: Float64[np.ndarray, " 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Field coordinates of the voxel centres along each axis."""
    i, j, k = (grid.affine[n, n] * np.arange(grid.shape[n]) + grid.affine[n, 3] - origin_mm[n] for n in range(3))
    return i, j, k


def _body_box(tissues: UInt8[np.ndarray, "i j k"]) -> tuple[slice, slice, slice]:
    """The bounding box of all that is not air, one voxel wider."""
    flat = tissues.max(axis=2)
    parts = []
    for profile in (flat.max(axis=1), flat.max(axis=0)):
        where = np.flatnonzero(profile)
        parts.append(slice(max(0, int(where[0]) - 1), int(where[-1]) + 2))
    return parts[0], parts[1], slice(None)


def _ct(body: Body, lesions: list[Lesion], axes_mm: Axes, random: np.random.Generator) -> Int16[np.ndarray, "i j k"]:
    tissues = paint(body, axes_mm)
    result = np.full(tissues.shape, round(body.hu[Tissue.AIR]), dtype=np.int16)
    box = _body_box(tissues)
    inside = tissues[box]
    hu = body.hu.astype(np.float32)[inside]
    lines = [axis[part] for axis, part in zip(axes_mm, box, strict=True)]
    for lesion in lesions:
        place = box_around(lines, lesion.centre_mm, (1.1 * lesion.radius_mm,) * 3)
        distance = np.sqrt(distance_mm2(lines, place, lesion.centre_mm)) / np.float32(lesion.radius_mm)
        part = np.clip((1.1 - distance) / 0.2, 0, 1)
        hu[place] += part * (np.float32(_LESION_HU[lesion.site]) - hu[place])
    # One pass of (1 2 1)/4 along both in-plane axes is the scanner's point spread, and correlates the noise.
    noise = random.standard_normal(hu.shape, dtype=np.float32)
    noise *= np.float32(_CT_NOISE_HU / 0.375)
    noise[inside == Tissue.AIR] = 0
    hu += noise
    for axis in (0, 1):
        hu = _smoothed(hu, axis)
    np.maximum(hu, OUTSIDE_CT_HU, out=hu)
    result[box] = np.rint(hu, out=hu)
    return result


def _smoothed(image: Float32[np.ndarray, "i j k"], axis: int) -> Float32[np.ndarray, "i j k"]:
    lines = np.moveaxis(image, axis, 0)
    result = np.empty_like(image)
    out = np.moveaxis(result, axis, 0)
    np.add(lines[:-2], lines[2:], out=out[1:-1])
    out[0], out[-1] = 2 * lines[0], 2 * lines[-1]
    result *= np.float32(0.25)
    result += np.float32(0.5) * image
    return result


def _pet(
    body: Body, lesions: list[Lesion], axes_mm: Axes, random: np.random.Generator
) -> tuple[Float32[np.ndarray, "i j k"], UInt8[np.ndarray, "i j k"], list[int]]:
    """SUV, the lesions' mask, and the number of voxels of each lesion."""
    tissues = paint(body, axes_mm)
    spacing = np.array([axis[1] - axis[0] for axis in axes_mm])
    suv = body.suv.astype(np.float32)[tissues]
    suv = _blurred(suv, POINT_SPREAD_FWHM_MM, spacing)
    mask = np.zeros(suv.shape, dtype=np.uint8)
    volumes = []
    for lesion in lesions:
        box = box_around(axes_mm, lesion.centre_mm, (4.0 * lesion.sigma_mm,) * 3)
        distance2 = distance_mm2(axes_mm, box, lesion.centre_mm)
        profile = np.exp(distance2 / np.float32(-2 * lesion.sigma_mm**2))
        inside = distance2 < lesion.radius_mm**2
        mask[box] |= inside
        volumes.append(int(np.count_nonzero(inside)))
        region = suv[box]
        # The tail of the profile ends with the body: no tissue of it takes up less than 0.4 after the blur.
        profile *= np.minimum(region / np.float32(0.4), 1)
        region += profile * (np.float32(lesion.peak_suv) - region)
    noise = _blurred(random.standard_normal(suv.shape, dtype=np.float32), _NOISE_FWHM_MM, spacing)
    noise *= np.float32(_NOISE_SUV / noise.std())
    noise *= np.sqrt(suv)
    noise += suv
    np.maximum(noise, 0, out=noise)
    noise[suv < 0.02] = 0
    noise *= np.float32(1 / SUV_STEP)
    np.rint(noise, out=noise)
    noise *= np.float32(SUV_STEP)
    return noise, mask, volumes


def _blurred(
    image: Float32[np.ndarray, "i j k"], fwhm_mm: float, spacing_mm: Float64[np.ndarray, " 3"]
) -> Float32[np.ndarray, "i j k"]:
    return ndimage.gaussian_filter(image, fwhm_mm * _FWHM_TO_SIGMA / spacing_mm, truncate=3.0, mode="nearest")
