"""The plan of a classification: size of the images, network, batch, class weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from segue.core.config import merged
from segue.prepare.choices import Budget, Machine, Network, Triple, as_triple
from segue.prepare.fingerprint import Fingerprint


def plan_classes(
    facts: Fingerprint,
    machine: Machine,
    mine: dict[str, Any],
    wanted: Network,
    budget: Budget,
    reasons: dict[str, str],
) -> dict[str, Any]:
    """The fields of a :class:`Plan` but for normalisation; ``mine`` are a person's own choices."""
    shapes = np.array(facts.shapes)
    flat = (shapes[:, 2] == 1).all()
    dimension = 2 if flat else 3
    patch = as_triple(mine["patch"]) if "patch" in mine else _size(shapes, machine, reasons)
    name = wanted.name or "resnet18"
    args = _network(facts, machine, patch, dimension, budget, reasons)
    batch = _batch(facts, machine, reasons)
    return {
        "dimension": dimension,
        "slice_axis": 2 if flat else None,
        "spacing_mm": tuple(float(value) for value in np.median(np.array(facts.spacings_mm), axis=0)),
        "patch": patch,
        "batch": batch,
        "network": Network(
            name=None if wanted.target else name,
            target=wanted.target,
            args=wanted.args if wanted.target else merged(args, wanted.args),
        ),
        "foreground_share": 0.0,
        "overlap": 0.0,
        "vary_intensities": not facts.absolute,
        "class_weights": _class_weights(facts, reasons),
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


def _network(
    facts: Fingerprint, machine: Machine, patch: Triple, dimension: int, budget: Budget, reasons: dict[str, str]
) -> dict[str, Any]:
    width, stride = 64, 1
    if machine.kind == "cpu":
        width, stride = 32, 1 if dimension == 2 and max(patch) < 48 else 2
    reasons["network"] = f"ResNet-18 of width {width}"
    return {"width": width, "stem_stride": stride}


def _batch(facts: Fingerprint, machine: Machine, reasons: dict[str, str]) -> int:
    reasons["batch"] = "small sets learn better from small batches"
    return 32 if facts.cases < 5000 else 128


def _class_weights(facts: Fingerprint, reasons: dict[str, str]) -> list[float]:
    """One per class: of the loss of its images, or (several may hold) of its positives. Mean 1 over the images."""
    counts = np.maximum(1.0, [facts.class_counts[number] for number in facts.labels])
    if facts.classes == "multi-label":
        weights = ((facts.cases - counts).clip(min=1) / counts) ** 0.5
        reasons["class_weights"] = "root of negatives over positives: rare findings count more, but not fully"
        return [float(weight) for weight in weights]
    weights = (counts.sum() / (len(counts) * counts)) ** 0.5
    weights *= counts.sum() / (weights * counts).sum()
    reasons["class_weights"] = (
        f"inverse root of the number of images ({', '.join(str(int(n)) for n in counts[:9])}"
        f"{' ...' if len(counts) > 9 else ''}): rare classes count more, but not fully"
    )
    return [float(weight) for weight in weights]
