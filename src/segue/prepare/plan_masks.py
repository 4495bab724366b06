"""The plan of a segmentation.

The rules start from nnU-Net's (Isensee et al., Nature Methods 2021): median spacing, patch by what the device can
do, foreground percentiles for CT. Where they differ the reason says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from segue.core.config import merged
from segue.core.errors import UsageError
from segue.prepare.choices import Machine, Network, Triple, as_triple, crossed
from segue.prepare.fingerprint import Fingerprint
from segue.prepare.sizes import Size, usual_size

# Coarser than this many times the finest axis, an axis is not strided until the others have caught up.
_ANISOTROPY = 2.0
_SMALLEST_FEATURE_MAP = 4
_STEM_FROM_PIXELS = 128**2


def plan_masks(
    facts: Fingerprint,
    machine: Machine,
    mine: dict[str, Any],
    wanted: Network,
    reasons: dict[str, str],
    size: Size | None = None,
) -> dict[str, Any]:
    """The fields of a :class:`Plan` but for normalisation; ``mine`` are a person's own choices.

    Args:
        size: what a step may cost; what such a machine usually manages, if not given.

    Raises:
        UsageError: a choice that cannot be (a patch that the network cannot halve often enough, say).
    """
    if wanted.name not in (None, "unet"):
        raise UsageError("this network classifies, and the dataset has masks", where=f"network.name: {wanted.name}")
    dimension, slice_axis = _dimension(facts, mine, reasons)
    size = size or usual_size(machine, dimension)
    spacing = mine.get("spacing_mm") or _spacing(facts, slice_axis, reasons)
    shapes = _shapes_at(facts, spacing, slice_axis)
    target_patch = mine.get("patch") or _patch_goal(shapes, spacing, size, reasons)
    if slice_axis is not None and target_patch[slice_axis] != 1:
        raise UsageError(
            "a patch of a 2-D network is one voxel thick",
            where="plan.patch",
            value=f"{crossed(target_patch)}, slices along axis {slice_axis}",
            remedy="write 1 there",
        )
    args = _unet(target_patch, spacing, size, dimension)
    patch = mine.get("patch") or _rounded(target_patch, shapes, _divisor(args))
    reasons["network"] = (
        f"{dimension}-D U-Net of {len(args['strides'])} levels, "
        f"down to {crossed(np.array(patch) / _divisor(args))} voxels of {crossed(patch)}"
    )
    if max(args["stem_stride"]) > 1:
        reasons["network"] += (
            f", behind a stem of stride {crossed(args['stem_stride'])}: a CPU then takes several times the steps"
        )
    in_plane = [axis for axis in range(3) if axis != slice_axis]
    args |= {name: _of_axes(args[name], in_plane) for name in ("strides", "stem_stride")}
    divisor = np.ones(3, dtype=int)
    if wanted.target is None:  # what another network's arguments mean, only it knows
        divisor[in_plane] = _divisor(merged(args, wanted.args))
    if (np.array(patch) % divisor).any():
        raise UsageError(
            "the network cannot halve this patch often enough",
            where="plan.patch",
            value=crossed(patch),
            remedy=f"choose multiples of {crossed(divisor)}",
        )
    return {
        "dimension": dimension,
        "slice_axis": slice_axis,
        "spacing_mm": spacing,
        "patch": patch,
        "batch": _batch(patch, size, reasons),
        "network": Network(target=wanted.target, args=wanted.args if wanted.target else merged(args, wanted.args)),
        "foreground_share": _foreground_share(facts, shapes, patch, slice_axis, reasons),
        "overlap": 0.5,
    }


def _dimension(facts: Fingerprint, mine: dict[str, Any], reasons: dict[str, str]) -> tuple[int, int | None]:
    """2 or 3, and in 2-D the axis along which the slices lie."""
    shapes, spacings = np.array(facts.shapes), np.array(facts.spacings_mm)
    flat = [axis for axis in range(3) if (shapes[:, axis] == 1).all()]
    dimension = mine.get("dimension") or (2 if flat else 3)
    reasons["dimension"] = "pictures" if flat else "volumes"
    if dimension == 3:
        if "slice_axis" in mine:
            raise UsageError(
                "only a 2-D network has slices", where="plan.slice_axis", remedy="set plan.dimension=2 too"
            )
        return 3, None
    coarsest = np.median(spacings, axis=0)
    # Slices are cut across the coarsest axis; of an isotropic volume they are the axial ones.
    found = flat[-1] if flat else int(2 - np.argmax(np.round(coarsest[::-1], 3)))
    axis = int(mine.get("slice_axis", found))
    reasons["slice_axis"] = (
        "each picture is one slice"
        if flat
        else f"across the coarsest axis ({crossed(coarsest)} mm); slices keep their places"
    )
    return 2, axis


def _of_axes(values: Any, axes: list[int]) -> Any:
    """Of one stride, or of a list of them, the numbers of these axes."""
    return [_of_axes(value, axes) for value in values] if isinstance(values[0], list) else [values[a] for a in axes]


def _spacing(facts: Fingerprint, slice_axis: int | None, reasons: dict[str, str]) -> tuple[float, float, float]:
    spacings = np.array(facts.spacings_mm)
    median = np.median(spacings, axis=0)
    text = f"median over {len(spacings)} cases (from {crossed(spacings.min(0))} to {crossed(spacings.max(0))} mm)"
    if slice_axis is not None:
        text += f"; along axis {slice_axis} every image keeps its own"
    coarse = int(median.argmax())
    others = np.delete(median, coarse)
    if slice_axis is None and median[coarse] > 3 * others.max():
        # nnU-Net's rule: thick-slice data keep more of their finest cases' detail along the coarse axis.
        median[coarse] = max(np.percentile(spacings[:, coarse], 10), others.max() + 1e-5)
        text += f"; along the thick axis the 10th percentile, {median[coarse]:.3g} mm"
    reasons["spacing_mm"] = text
    i, j, k = (round(float(value), 4) for value in median)
    return i, j, k


def _shapes_at(facts: Fingerprint, spacing: tuple[float, float, float], slice_axis: int | None) -> np.ndarray:
    shapes = np.array(facts.shapes) * np.array(facts.spacings_mm) / np.array(spacing)
    shapes = np.maximum(1, np.round(shapes)).astype(int)
    if slice_axis is not None:
        shapes[:, slice_axis] = 1
    return shapes


def _patch_goal(shapes: np.ndarray, spacing: tuple[float, float, float], size: Size, reasons: dict[str, str]) -> Triple:
    largest, source = size.patch_voxels, size.source
    most = np.ceil(np.percentile(shapes, 90, axis=0)).astype(int)
    if most.prod() <= largest:
        reasons["patch"] = (
            f"whole images: nine of ten are at most {crossed(most)} voxels, under the {largest} of a patch ({source})"
        )
        return as_triple(most)
    median = np.median(shapes, axis=0)
    patch = median.astype(float)
    extent = patch * np.array(spacing)
    while patch.prod() > largest:
        # The longest side in millimetres gives way first: the patch ends as a cube, or as a slab of thin data.
        axis = int(np.argmax(extent))
        extent[axis] *= 0.98
        patch = np.maximum(1, extent / np.array(spacing))
    reasons["patch"] = (
        f"at most {largest} voxels ({source}), as near to a cube in mm as the median image {crossed(median)} allows"
    )
    return as_triple(np.maximum(1, np.floor(patch)).astype(int))


def _unet(patch: Triple, spacing: tuple[float, float, float], chosen: Size, dimension: int) -> dict[str, Any]:
    size, step = np.array(patch, dtype=float), np.array(spacing, dtype=float)

    def stride() -> list[int]:
        nonlocal size, step
        fine = step < _ANISOTROPY * step[size > 1].min() if (size > 1).any() else np.zeros(3, dtype=bool)
        factor = np.where(fine & (size >= 2 * _SMALLEST_FEATURE_MAP), 2, 1)
        size, step = size / factor, step * factor
        return [int(n) for n in factor]

    small = chosen.network == "stem"
    # Small slices cost a CPU little even at full resolution.
    stem = stride() if small and (dimension == 3 or size.prod() > _STEM_FROM_PIXELS) else [1, 1, 1]
    widths = chosen.widths
    if dimension == 2:
        widths = [32, 64, 128, 256, 512, 512][: 4 if small else 6]
    strides = [[1, 1, 1]]
    while len(strides) < len(widths) and (size >= 2 * _SMALLEST_FEATURE_MAP).any():
        strides.append(stride())
    return {"channels": widths[: len(strides)], "strides": strides, "stem_stride": stem}


def _divisor(args: dict[str, Any]) -> np.ndarray:
    return np.prod([args["stem_stride"], *args["strides"]], axis=0)


def _rounded(patch: Triple, shapes: np.ndarray, divisor: np.ndarray) -> Triple:
    """To the nearest size that the network can halve often enough, but never below the median image if it fitted."""
    least = np.minimum(np.median(shapes, axis=0), patch)
    number = np.maximum(np.round(np.array(patch) / divisor), np.ceil(least / divisor))
    return as_triple(np.maximum(1, number).astype(int) * divisor)


def _batch(patch: Triple, size: Size, reasons: dict[str, str]) -> int:
    voxels, source, most = size.step_voxels, size.source, size.most_images
    batch = int(np.clip(round(voxels / np.prod(patch)), 2, most))
    reasons["batch"] = f"{voxels} voxels a step ({source}) over {int(np.prod(patch))} of a patch, between 2 and {most}"
    return batch


def _foreground_share(
    facts: Fingerprint, shapes: np.ndarray, patch: Triple, slice_axis: int | None, reasons: dict[str, str]
) -> float:
    if slice_axis is not None:
        shapes = shapes.copy()
        shapes[:, slice_axis] = np.array(facts.shapes)[:, slice_axis]
    whole = float((shapes <= np.array(patch)).all(axis=1).mean())
    if whole >= 0.9:
        reasons["foreground_share"] = f"a patch holds {whole:.0%} of the images whole: nothing to choose"
        return 0.0
    share = 0.5 if facts.foreground_part < 0.01 else 1 / 3
    reasons["foreground_share"] = (
        f"{facts.foreground_part:.3%} of the voxels are foreground: this part of the patches is centred on it"
    )
    return share
