"""An array with the grid that it lies on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from segue.core.display import Displayed
from segue.volume.geometry import Geometry
from segue.volume.resample import resample_intensity, resample_labels

Kind = Literal["intensity", "labels"]


@dataclass(frozen=True, eq=False)
class Volume(Displayed):
    """Voxels and where they lie. A 2-D image is a volume with one slice.

    Attributes:
        array: ``(c, i, j, k)``; labels are integers with one channel.
        geometry: the grid of ``(i, j, k)``.
        kind: ``"intensity"`` or ``"labels"``; decides how the volume is resampled.
        unit: ``"HU"``, ``"SUV"`` or ``"arbitrary"``.

    Raises:
        ValueError: array and grid do not have the same shape.
    """

    array: Shaped[np.ndarray, "c i j k"]
    geometry: Geometry
    kind: Kind = "intensity"
    unit: str = "arbitrary"

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.geometry.shape:
            raise ValueError(f"array {self.array.shape} does not fit the grid {self.geometry.shape}")

    def oriented(self, axis_codes: str = "RAS") -> Volume:
        """The same voxels with indices growing along ``axis_codes``: permutation and flips, no interpolation."""
        if self.geometry.axis_codes == axis_codes:
            return self
        from nibabel.orientations import apply_orientation

        transform = self.geometry.orientation_to(axis_codes)
        # apply_orientation acts on the leading axes: channels go last and come back.
        array = np.moveaxis(apply_orientation(np.moveaxis(self.array, 0, -1), transform), -1, 0)
        return replace(self, array=array, geometry=self.geometry.oriented(axis_codes))

    def resampled_to(self, geometry: Geometry, *, order: Literal[1, 3] = 3, fill: float = 0.0) -> Volume:
        """This volume on another grid.

        Intensities by B-splines of ``order`` (1 linear, 3 cubic), in float32; labels by a vote of linear
        weights per label. Voxels whose centre lies outside this volume's field of view get ``fill``
        (labels: background).
        """
        if self.geometry.difference(geometry) is None:
            return replace(self, geometry=geometry)
        if self.kind == "labels":
            labels = resample_labels(self.array[0], self.geometry, geometry)
            return replace(self, array=labels[None], geometry=geometry)
        array = np.empty((len(self.array), *geometry.shape), np.float32)
        for channel, out in zip(self.array, array, strict=True):
            resample_intensity(channel, self.geometry, geometry, order=order, fill=fill, out=out)
        return replace(self, array=array, geometry=geometry)
