"""Painting a body on any grid: the scanner's two, and the coarse one on which lesions find their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from segue.synth.anatomy import DIAPHRAGM_MM, Body, Ellipsoid, Tissue

Axes = Sequence[np.ndarray]
Place = Sequence[float] | np.ndarray
Box = tuple[slice, slice, slice]
_SQUARE = np.float32(0.3)
_RIBS_MM = (184.0, 318.0)
_RIB_EVERY_MM, _RIB_MM = 16.0, 6.5
_SPINE_MM = (78.0, 350.0)


def paint(body: Body, axes_mm: Axes) -> UInt8[np.ndarray, "i j k"]:
    """The tissue of every voxel of a grid, given by the field coordinates of its voxel centres along each axis."""
    x, y, z = axes_mm
    tissues = np.zeros((len(x), len(y), len(z)), dtype=np.uint8)
    _table(tissues, x, y, body)
    for solid in body.covers:
        if solid.tissue == Tissue.FAT:
            _solid(tissues, axes_mm, body, solid)
    _trunk(tissues, axes_mm, body)
    for solid in (*body.covers, *body.organs):
        if solid.tissue != Tissue.FAT:
            _solid(tissues, axes_mm, body, solid)
    return tissues


def box_around(axes_mm: Axes, centre_mm: Place, reach_mm: Place) -> Box:
    """The voxels within ``reach_mm`` of a place along each axis."""
    parts = []
    for axis, centre, reach in zip(axes_mm, centre_mm, reach_mm, strict=True):
        first, last = np.searchsorted(axis, [centre - reach, centre + reach])
        parts.append(slice(int(first), int(last)))
    return parts[0], parts[1], parts[2]


def distance_mm2(axes_mm: Axes, box: Box, centre_mm: Place) -> Float32[np.ndarray, "x y z"]:
    """Squared distance from a place for the voxels of ``box``."""
    i, j, k = (
        ((axis[part] - centre) ** 2).astype(np.float32)
        for axis, part, centre in zip(axes_mm, box, centre_mm, strict=True)
    )
    return i[:, None, None] + j[None, :, None] + k[None, None, :]


def _solid(tissues: UInt8[np.ndarray, "i j k"], axes_mm: Axes, body: Body, solid: Ellipsoid) -> None:
    linear, offset = body.to_body[:, :3], body.to_body[:, 3]
    centre = np.linalg.solve(linear, np.array(solid.centre_mm) - offset)
    to_unit = (solid.turn / np.array(solid.radii_mm)[:, None]) @ linear
    form = to_unit.T @ to_unit
    box = box_around(axes_mm, centre, np.sqrt(np.diag(np.linalg.inv(form))))
    region = tissues[box]
    if region.size == 0:
        return
    x, y, z = (axis[part] - c for axis, part, c in zip(axes_mm, box, centre, strict=True))
    # A quadratic form has only products of two coordinates, so three planes hold all that is not an addition.
    ij = form[0, 0] * x[:, None] ** 2 + 2 * form[0, 1] * np.outer(x, y) + form[1, 1] * y**2
    ik = form[2, 2] * z**2 + 2 * form[0, 2] * np.outer(x, z)
    jk = 2 * form[1, 2] * np.outer(y, z)
    value = ij.astype(np.float32)[:, :, None] + ik.astype(np.float32)[:, None, :]
    value += jk.astype(np.float32)[None]
    inside = value < 1
    if solid.hollow:
        inside &= value > solid.hollow**2
    if solid.open_above < 1:
        i, j, k = (to_unit[2, axis] * line for axis, line in enumerate((x, y, z)))
        inside &= i[:, None, None] + j[None, :, None] + k[None, None, :] < solid.open_above
    if solid.within:
        allowed = np.zeros(256, dtype=bool)
        allowed[list(solid.within)] = True
        inside &= allowed[region]
    region[inside] = solid.tissue


def _table(tissues: UInt8[np.ndarray, "i j k"], x: np.ndarray, y: np.ndarray, body: Body) -> None:
    """The patient table: a shallow trough under the back along the whole field."""
    back = float(np.linalg.solve(body.to_body[:, :3], np.array([0, -103, 225]) - body.to_body[:, 3])[1])
    depth = back - 4 + (x[:, None] / 34.0) ** 2
    trough = (y < depth) & (y > depth - 9) & (np.abs(x) < 185)[:, None]
    tissues[trough] = Tissue.TABLE


def _trunk(tissues: UInt8[np.ndarray, "i j k"], axes_mm: Axes, body: Body) -> None:
    """Fat, muscle, cavities, ribs and spine, slice by slice: a slice of the field is a slice of the body."""
    x, y, heights = axes_mm
    linear, offset = body.to_body[:, :3], body.to_body[:, 3]
    reach = np.array([176.0, 112.0]) / np.abs(np.diag(linear)[:2])
    middle = np.linalg.solve(linear, np.array([0.0, 0.0, 225.0]) - offset)
    parts = box_around(axes_mm, middle, (reach[0] + 10, reach[1] + 14, 500.0))
    x, y = x[parts[0]], y[parts[1]]
    across0 = (linear[0, 0] * x[:, None] + linear[0, 1] * y + offset[0]).astype(np.float32)
    deep0 = (linear[1, 0] * x[:, None] + linear[1, 1] * y + offset[1]).astype(np.float32)
    for k, z in enumerate(heights):
        height = float(linear[2, 2] * z + offset[2])
        shape = body.trunk(height)
        if shape is None:
            continue
        across = across0 + np.float32(linear[0, 2] * z)
        deep = deep0 + np.float32(linear[1, 2] * z)
        _slice(tissues[parts[0], parts[1], k], across, deep, height, shape, body)


def _slice(
    out: UInt8[np.ndarray, "i j"],
    across: Float32[np.ndarray, "i j"],
    deep: Float32[np.ndarray, "i j"],
    height: float,
    shape: tuple[float, float, float],
    body: Body,
) -> None:
    width, depth, middle = shape
    across2, deep2 = across**2, (deep - np.float32(middle)) ** 2

    def inside(half_width: float, half_depth: float) -> np.ndarray:
        a, b = across2 / np.float32(half_width**2), deep2 / np.float32(half_depth**2)
        # A squircle: between an ellipse and a rectangle, as a trunk is. Far outside its product term would win.
        return (a + b - _SQUARE * a * b < 1) & (a < 1) & (b < 1)

    fat = body.fat_mm if height < 322 else min(body.fat_mm, 6.0)
    out[inside(width, depth)] = Tissue.FAT
    out[inside(width - fat, depth - fat)] = Tissue.MUSCLE
    wall = fat + body.wall_mm
    part = body.cavity_part(height)
    room = (part * (width - wall), (0.4 + 0.6 * part) * (depth - wall))
    if part > 0:
        out[inside(*room)] = Tissue.LUNG if height > DIAPHRAGM_MM else Tissue.VISCERA
    if _RIBS_MM[0] - 40 < height < _RIBS_MM[1] + 40 and part > 0:
        along = np.float32(height) + np.float32(body.rib_slope) * (deep + 50)
        rib = (along % _RIB_EVERY_MM < _RIB_MM) & (along > _RIBS_MM[0]) & (along < _RIBS_MM[1])
        rib &= inside(room[0] + 8, room[1] + 8) & ~inside(room[0] + 1.5, room[1] + 1.5)
        rib &= (np.abs(across) > 20) | (deep < 0)
        out[rib] = Tissue.CORTEX
    if _SPINE_MM[0] < height < _SPINE_MM[1]:
        _vertebra(out, across, deep, height, body)


def _vertebra(
    out: UInt8[np.ndarray, "i j"],
    across: Float32[np.ndarray, "i j"],
    deep: Float32[np.ndarray, "i j"],
    height: float,
    body: Body,
) -> None:
    front, radius = body.spine(height)
    every = body.vertebra_mm * (0.6 + 0.4 * radius / 20)
    place = (height % every) / every
    from_centre = across**2 + ((deep - np.float32(front)) * np.float32(1.12)) ** 2
    if place < 0.76:
        out[from_centre < radius**2] = Tissue.CORTEX
        if 0.08 < place < 0.68:
            out[from_centre < (radius - 2.5) ** 2] = Tissue.MARROW
    else:
        out[from_centre < (0.92 * radius) ** 2] = Tissue.DISC
    behind = deep - np.float32(front - 1.45 * radius)
    arch = (across / np.float32(0.95 * radius)) ** 2 + (behind / np.float32(0.62 * radius)) ** 2
    canal = across**2 + behind**2 < (0.42 * radius) ** 2
    if place < 0.5:
        out[(arch < 1) & (from_centre >= radius**2)] = Tissue.CORTEX
        out[(np.abs(across) < 4) & (behind < 0) & (behind > -1.05 * radius)] = Tissue.CORTEX
        wings = (np.abs(behind - 2) < 4) & (np.abs(across) < 2.0 * radius) & (from_centre >= radius**2)
        out[wings] = Tissue.CORTEX
    out[canal] = Tissue.DISC
