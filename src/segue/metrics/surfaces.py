"""How far the surfaces of two masks lie apart.

Three libraries give three HD95 for one pair of masks; the ones here are, to rounding:

- HD95 and ASSD as MONAI defines them: between the centres of edge voxels, each of which counts once;
- NSD (surface Dice, Nikolov et al., JMIR 2021) and the robust Hausdorff distance as surface-distance defines them:
  between the surface elements of the cells between voxel centres, each of which counts with its area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from segue.metrics.boundaries import boxed, edge_voxels, element_areas, element_codes, is_element, nearest_mm

_PERCENT: Final = 95


@dataclass(frozen=True)
class SurfaceScores:
    """Distances of two surfaces.

    Attributes:
        hd95_mm: 95th percentile of the distances from each edge voxel of one mask to the nearest one of the other, in
            the worse of both directions.
        assd_mm: mean of those distances over the edge voxels of both masks.
        nsd: share of both surfaces' area that lies within the tolerance of the other surface, 0 to 1.
    """

    hd95_mm: float
    assd_mm: float
    nsd: float


def surface_scores(
    prediction: Bool[np.ndarray, "x y z"],
    truth: Bool[np.ndarray, "x y z"],
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    valid: Bool[np.ndarray, "x y z"] | None = None,
) -> SurfaceScores | None:
    """Measure one label; None where both masks are empty.

    Where one is empty, both distances are the diagonal of the grid (voxels times spacing) and the NSD is 0. A grid of
    one slice is measured in its plane, its diagonal too. Voxels where ``valid`` is false are background in both masks.
    A voxel at the border of the grid is an edge voxel. A distance equal to the tolerance is within it.
    """
    if valid is not None:
        prediction, truth = prediction & valid, truth & valid
    prediction, truth, spacing = _in_plane(prediction, truth, spacing_mm)
    masks = boxed(prediction, truth, spacing)
    if masks is None:
        return None
    if not all(mask.any() for mask in masks):
        diagonal = float(np.linalg.norm(np.array(truth.shape) * spacing))
        return SurfaceScores(diagonal, diagonal, 0.0)
    near, far = edge_distances(*masks, spacing)
    hd95 = max(np.percentile(near, _PERCENT), np.percentile(far, _PERCENT))
    assd = (near.sum() + far.sum()) / (len(near) + len(far))
    return SurfaceScores(float(hd95), float(assd), _nsd(*masks, spacing, tolerance_mm))


def edge_distances(
    first: Bool[np.ndarray, "*box"], second: Bool[np.ndarray, "*box"], spacing_mm: tuple[float, ...]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """From each edge voxel of one mask to the nearest one of the other, in mm, both ways; masks as `boxed` gives."""
    edges = edge_voxels(first), edge_voxels(second)
    ours, theirs = (np.flatnonzero(edge) for edge in edges)
    return nearest_mm(ours, edges[1], spacing_mm), nearest_mm(theirs, edges[0], spacing_mm)


def _nsd(
    first: Bool[np.ndarray, "*box"],
    second: Bool[np.ndarray, "*box"],
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
) -> float:
    within = total = 0.0
    for areas, distances in _elements(first, second, spacing_mm, tolerance_mm):
        within += float(areas[np.isfinite(distances)].sum())
        total += float(areas.sum())
    return within / total


def robust_hausdorff_mm(
    first: Bool[np.ndarray, "x y z"], second: Bool[np.ndarray, "x y z"], spacing_mm: Sequence[float]
) -> float:
    """The 95 % Hausdorff distance of two masks that both hold something, as surface-distance defines it.

    Of each surface the distance below which 95 % of its area lies, the larger one of both.
    """
    spacing = tuple(map(float, spacing_mm))
    masks = boxed(first, second, spacing)
    assert masks is not None
    worst = 0.0
    for areas, distances in _elements(*masks, spacing, np.inf):
        order = np.lexsort((areas, distances))
        share = np.cumsum(areas[order]) / areas.sum()
        place = min(int(np.searchsorted(share, _PERCENT / 100)), len(order) - 1)
        worst = max(worst, float(distances[order[place]]))
    return worst


def _elements(
    first: Bool[np.ndarray, "*box"],
    second: Bool[np.ndarray, "*box"],
    spacing_mm: tuple[float, ...],
    limit_mm: float,
) -> list[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
    """Of each mask: the areas of its surface elements, and their distances from the other mask's."""
    table = element_areas(spacing_mm)
    codes = element_codes(first), element_codes(second)
    there = is_element(codes[0]), is_element(codes[1])
    found = []
    for one, other in ((0, 1), (1, 0)):
        places = np.flatnonzero(there[one])
        found.append((table[codes[one].ravel()[places]], nearest_mm(places, there[other], spacing_mm, limit_mm)))
    return found


def _in_plane(
    prediction: Bool[np.ndarray, "x y z"], truth: Bool[np.ndarray, "x y z"], spacing_mm: Sequence[float]
) -> tuple[Bool[np.ndarray, "*grid"], Bool[np.ndarray, "*grid"], tuple[float, ...]]:
    """Without the axis of a single slice, and with the axis last along which voxels lie side by side in memory."""
    spacing = tuple(map(float, spacing_mm))
    if 1 in truth.shape:
        flat = max(axis for axis, size in enumerate(truth.shape) if size == 1)
        prediction, truth = prediction.squeeze(flat), truth.squeeze(flat)
        spacing = spacing[:flat] + spacing[flat + 1 :]
    if prediction.flags.f_contiguous and truth.flags.f_contiguous:
        return prediction.T, truth.T, spacing[::-1]
    return prediction, truth, spacing
