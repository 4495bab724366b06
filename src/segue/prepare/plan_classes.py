"""The plan of a classification: size of the images, network, batch, shift of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from segue.core.config import merged
from segue.prepare.choices import Machine, Network, Triple, as_triple, crossed
from segue.prepare.fingerprint import Fingerprint

_SMALL_SET = 5000
_MEMBERS = 3


def plan_classes(
    facts: Fingerprint,
    machine: Machine,
    mine: dict[str, Any],
    wanted: Network,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """The fields of a :class:`Plan` but for normalisation; ``mine`` are a person's own choices."""
    shapes = np.array(facts.shapes)
    flat = (shapes[:, 2] == 1).all()
    dimension = 2 if flat else 3
    patch = as_triple(mine["patch"]) if "patch" in mine else _size(shapes, machine, reasons)
    name = wanted.name or "resnet18"
    args = _network(facts, patch, machine, name, reasons)
    return {
        "dimension": dimension,
        "slice_axis": 2 if flat else None,
        "spacing_mm": tuple(float(value) for value in np.median(np.array(facts.spacings_mm), axis=0)),
        "patch": patch,
        "batch": _batch(facts, reasons),
        "network": Network(
            name=None if wanted.target else name,
            target=wanted.target,
            args=wanted.args if wanted.target else merged(args, wanted.args),
        ),
        "foreground_share": 0.0,
        "overlap": 0.0,
        "vary_intensities": not facts.absolute,
        "class_shift": _class_shift(facts, reasons),
        "learning_rate": 3e-3 if dimension == 2 else 2e-3,
    }


def _size(shapes: np.ndarray, machine: Machine, reasons: dict[str, str]) -> Triple:
    if (shapes == shapes[0]).all():
        reasons["patch"] = "the size that all images have"
        size = shapes[0].astype(float)
    else:
        size = np.median(shapes, axis=0)
        reasons["patch"] = f"the median of {len(shapes)} images of many sizes"
    most = 224**2 if size[2] == 1 else 96**3
    if machine.kind == "cpu":
        most = 128**2 if size[2] == 1 else 48**3
    if size.prod() > most and len(shapes) > 1:
        axes = size > 1
        size[axes] = np.maximum(1, size[axes] * (most / size.prod()) ** (1 / axes.sum()))
        reasons["patch"] += f", made smaller to {most} voxels, what this {machine.kind} can learn from in time"
    return as_triple(np.round(size))


def _network(facts: Fingerprint, patch: Triple, machine: Machine, name: str, reasons: dict[str, str]) -> dict[str, Any]:
    width = 16 if machine.kind == "cpu" else 64
    side, flat = max(patch), patch[2] == 1
    if flat:
        stride, pool = (1, False) if side < 48 else (2, side >= 96)
    else:
        stride, pool = (1 if side < 48 and machine.kind != "cpu" else 2), side >= 48
    text = f"stem of stride {stride}{' and pooling' if pool else ''} for {crossed(patch)}"
    if machine.kind == "cpu":
        text += "; a quarter of the published width: a CPU then sees every image several times more often"
    members = _MEMBERS if facts.cases < _SMALL_SET and flat and name == "resnet18" else 1
    if members > 1:
        text += f"; {members} of them side by side, since {facts.cases} images leave much to chance"
    reasons["network"] = f"{name}, width {width}, {text}"
    return {"width": width, "stem_stride": stride, "stem_pool": pool, "members": members}


def _batch(facts: Fingerprint, reasons: dict[str, str]) -> int:
    batch = 32 if facts.cases < _SMALL_SET else 64
    reasons["batch"] = f"{facts.cases} images to train on: {'small' if batch == 32 else 'large'} sets take {batch}"
    return batch


def _class_shift(facts: Fingerprint, reasons: dict[str, str]) -> list[float]:
    """Half the logarithm of each class's share, around their mean; 0 where several classes may hold."""
    if facts.classes == "multi-label":
        reasons["class_shift"] = "several labels may hold: each is answered by itself, at its own frequency"
        return [0.0] * len(facts.labels)
    counts = np.maximum(1.0, [facts.class_counts[number] for number in facts.labels])
    shift = 0.5 * np.log(counts / counts.sum())
    said = ", ".join(str(int(count)) for count in counts[:9]) + (" ..." if len(counts) > 9 else "")
    reasons["class_shift"] = (
        f"half the logarithm of each class's share ({said} images): rare classes are answered more often than their "
        "share, but not as often as frequent ones"
    )
    return [round(float(value), 4) for value in shift - shift.mean()]
