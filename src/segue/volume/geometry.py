"""Where voxels lie in the patient: a shape and an affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float64

# Two grids count as the same when no corner moves by more than this part of a voxel: headers store float32,
# and writers round; a real shift is a tenth of a voxel and more.
SAME_GRID_VOXELS = 0.01
SHEAR_DEGREES = 0.1


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume.

    Attributes:
        shape: voxels along ``(i, j, k)``.
        affine: ``(4, 4)`` float64, voxel index ``(i, j, k, 1)`` to RAS+ millimetres, as in NIfTI.

    Raises:
        ValueError: an affine that is not finite or not invertible, or a shape without three positive sizes.
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"a grid has three positive sizes, not {self.shape}")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError("an affine is a finite 4x4 matrix")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError("the affine is singular: two of its axes coincide or one has no length")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along ``(i, j, k)``."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @cached_property
    def axis_codes(self) -> str:
        """The direction in which each index grows: ``"RAS"``, ``"LPS"``, and 46 others."""
        from nibabel.orientations import ornt2axcodes  # nibabel takes 0.15 s to import; many commands need no image

        return "".join(ornt2axcodes(_orientation(self.affine[:3, :3].tobytes())))

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres (right for sheared grids too)."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @cached_property
    def shear_degrees(self) -> float:
        """How far the axes are from being at right angles to each other."""
        unit = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs((unit.T @ unit)[np.triu_indices(3, 1)])
        return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0.0, 1.0))))

    @property
    def is_sheared(self) -> bool:
        return self.shear_degrees > SHEAR_DEGREES

    def corners_mm(self) -> Float64[np.ndarray, "8 3"]:
        """RAS millimetres of the centres of the eight corner voxels."""
        last = np.array(self.shape) - 1
        index = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, 8).T
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def place_mm(self, voxel: Sequence[float] | Float64[np.ndarray, " 3"]) -> tuple[float, float, float]:
        """RAS millimetres of a voxel index."""
        x, y, z = self.affine[:3, :3] @ np.asarray(voxel, np.float64) + self.affine[:3, 3]
        return float(x), float(y), float(z)

    def voxel_at(self, place_mm: Sequence[float]) -> tuple[int, int, int]:
        """The voxel of this grid that is nearest to a place in RAS millimetres."""
        index = np.linalg.solve(self.affine[:3, :3], np.asarray(place_mm, np.float64) - self.affine[:3, 3])
        i, j, k = np.clip(np.rint(index), 0, np.array(self.shape) - 1).astype(int)
        return int(i), int(j), int(k)

    def shift_mm(self, other: Geometry) -> float:
        """How far apart two grids of one shape put their corners, in millimetres."""
        return float(np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1).max())

    def difference(self, other: Geometry) -> str | None:
        """What makes the two grids differ, in words and numbers; None when they are the same grid."""
        if self.shape == other.shape and np.array_equal(self.affine, other.affine):
            return None
        if self.shape != other.shape:
            return f"shape {_sizes(self.shape)} against {_sizes(other.shape)}"
        shift = self.shift_mm(other)
        if shift <= SAME_GRID_VOXELS * min(self.spacing_mm):
            return None
        if self.axis_codes != other.axis_codes:
            return f"orientation {self.axis_codes} against {other.axis_codes}"
        mine, theirs = np.array(self.spacing_mm), np.array(other.spacing_mm)
        if np.abs(mine - theirs).max() > 1e-3 * mine.min():
            return f"spacing {_millimetres(mine)} against {_millimetres(theirs)} mm"
        return f"positions differ by up to {shift:.3g} mm"

    def coverage_of(self, other: Geometry) -> float:
        """The part of ``other``'s voxel centres that lie in the field of view of this grid, 0 to 1.

        Counted on the voxels of ``other`` thinned to at most 64 per axis.
        """
        axes = [np.linspace(0, n - 1, min(n, 64)) for n in other.shape]
        index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        to_here = np.linalg.inv(self.affine) @ other.affine
        there = index @ to_here[:3, :3].T + to_here[:3, 3]
        return float(np.mean(((there > -0.5) & (there < np.array(self.shape) - 0.5)).all(axis=1)))

    def oriented(self, axis_codes: str = "RAS") -> Geometry:
        """The same grid with its indices growing along ``axis_codes``; no voxel changes its place."""
        from nibabel.orientations import inv_ornt_aff

        transform = self.orientation_to(axis_codes)
        shape = [0, 0, 0]
        for axis, (target, _) in enumerate(transform):
            shape[int(target)] = self.shape[axis]
        affine = self.affine @ inv_ornt_aff(transform, self.shape)
        return Geometry((shape[0], shape[1], shape[2]), affine)

    def orientation_to(self, axis_codes: str) -> Float64[np.ndarray, "3 2"]:
        """nibabel's orientation transform (target axis, flip) from this grid to ``axis_codes``."""
        from nibabel.orientations import axcodes2ornt, ornt_transform

        return ornt_transform(_orientation(self.affine[:3, :3].tobytes()), axcodes2ornt(tuple(axis_codes)))

    def with_spacing(self, spacing_mm: tuple[float, float, float]) -> Geometry:
        """A grid over exactly the same field of view (outer voxel faces) with about this spacing.

        The number of voxels is rounded, and the spacing then fits the field of view exactly, as in nnU-Net.
        """
        old = np.array(self.shape)
        new = np.maximum(1, np.round(old * np.array(self.spacing_mm) / np.array(spacing_mm))).astype(int)
        scale = old / new
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * scale
        affine[:3, 3] = self.affine[:3, 3] + self.affine[:3, :3] @ ((scale - 1) / 2)
        return Geometry((int(new[0]), int(new[1]), int(new[2])), affine)

    def cropped(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Geometry:
        """The part of the grid that begins at voxel ``start``."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, :3] @ np.array(start, dtype=np.float64) + self.affine[:3, 3]
        return Geometry(shape, affine)

    def __repr__(self) -> str:
        spacing = _millimetres(np.array(self.spacing_mm))
        return f"Geometry({_sizes(self.shape)}, {spacing} mm, {self.axis_codes})"


@lru_cache(maxsize=256)
def _orientation(linear: bytes) -> Float64[np.ndarray, "3 2"]:
    """nibabel's orientation of the 3x3 part of an affine: a singular value decomposition, asked for again and again,
    and the images of a dataset mostly have the same."""
    from nibabel.orientations import io_orientation

    affine = np.eye(4)
    affine[:3, :3] = np.frombuffer(linear, np.float64).reshape(3, 3)
    orientation = io_orientation(affine)
    orientation.setflags(write=False)
    return orientation


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _millimetres(spacing: np.ndarray) -> str:
    return "x".join(f"{value:.4g}" for value in spacing)
