"""Volumes as SimpleITK images: the independent implementation that several tests compare with."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from segue.volume import Geometry

LPS = np.diag([-1.0, -1.0, 1.0])


def as_sitk(array: np.ndarray, grid: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    axes = LPS @ grid.affine[:3, :3]
    image.SetSpacing(grid.spacing_mm)
    image.SetDirection((axes / np.array(grid.spacing_mm)).ravel())
    image.SetOrigin(LPS @ grid.affine[:3, 3])
    return image
