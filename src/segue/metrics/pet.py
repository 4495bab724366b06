"""What is measured of lesions in PET."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class PetMeasures:
    """Of all voxels of a mask together.

    Attributes:
        mtv_ml: metabolic tumour volume.
        tlg_ml: total lesion glycolysis, the mean SUV times the volume.
        suv_max: the highest SUV; None of an empty mask.
    """

    mtv_ml: float
    tlg_ml: float
    suv_max: float | None


def pet_measures(mask: Bool[np.ndarray, "x y z"], suv: Float[np.ndarray, "x y z"], voxel_ml: float) -> PetMeasures:
    """Measure a mask on a PET image in SUV (Larson et al., Clin Positron Imaging 1999)."""
    values = suv[mask]
    if not values.size:
        return PetMeasures(0.0, 0.0, None)
    # The mean times the volume is the sum times a voxel's volume.
    total = float(values.sum(dtype=np.float64))
    return PetMeasures(values.size * voxel_ml, total * voxel_ml, float(values.max()))
