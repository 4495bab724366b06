"""Sample patches as the network saw them: augmented, with the truth, and what the network answered.

They are kept twice, before the first step and at the end, of the same patches: the batch of a step follows from the
seed and the step alone. Each time costs less than one training step, and a few hundred kilobytes of the run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Num, UInt8
from torch import Tensor, nn

from segue.core.files import atomic_path
from segue.model import probabilities
from segue.prepare import Plan, labels_of
from segue.train.network import in_layout
from segue.train.objective import Objective

MOST_PATCHES, MOST_IMAGES = 4, 12
_MOST_CHANNELS = 4
# A longer side is thinned out: a report shows no more.
_MOST_SIDE = 256
_PERCENTILES = (0.5, 99.5)
_MOST_BATCHES = 4


@torch.no_grad()
def write_samples(
    path: Path,
    objective: Objective,
    network: nn.Module,
    plan: Plan,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    step: int,
    *,
    vary: bool,
) -> None:
    """Keep the first patches of the training as ``path`` (an ``.npz`` without objects).

    Of a segmentation one slice of each patch, where most of it is labelled: ``images`` ``(n, c, rows, columns)`` as
    bytes between ``low`` and ``high`` ``(n, c)`` in the network's units, ``truth`` and ``answer`` ``(n, rows,
    columns)``, and ``spacing_mm`` of rows and columns. Of a classification ``truth`` and ``answer`` are ``(n,
    classes)``. Rows and columns are the patch's first and second axis that is not cut.

    Args:
        network: left as it is; it answers in evaluation mode.
        step: how many steps it has learned.
        vary: whether the training augments.

    Raises:
        MachineError: the disk is full.
    """
    classified = plan.task == "classification"
    found: list[tuple[str, Tensor, Tensor, np.ndarray]] = []
    training = network.training
    network.eval()
    try:
        for number in range(_MOST_BATCHES):
            images, truth = objective.batch(number, device, vary)
            # Of several processes, one may hold fewer images than the others; what fills its batch up has no truth.
            there = [row for row in range(len(images)) if bool((truth[row] >= 0).any())]
            there = there[: (MOST_IMAGES if classified else MOST_PATCHES) - len(found)]
            if there:
                names = objective.names(number)
                answers = _answers(network, images[there], plan, autocast)
                found += [
                    (names[row] if row < len(names) else "", images[row].cpu(), truth[row].cpu(), answer)
                    for row, answer in zip(there, answers, strict=True)
                ]
            if len(found) >= (MOST_IMAGES if classified else MOST_PATCHES):
                break
    finally:
        network.train(training)
    if not found:
        return
    arrays = _of_classes(found, plan) if classified else _of_masks(found, plan)
    with atomic_path(path, lasting=False) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, step=step, augmented=vary, **arrays)


def _answers(
    network: nn.Module, images: Tensor, plan: Plan, autocast: Callable[[], AbstractContextManager[Any]]
) -> list[np.ndarray]:
    with autocast():
        logits = network(in_layout(images))
    if plan.task == "classification":
        assert plan.classes is not None, "the plan of a classification"
        return list(torch.as_tensor(probabilities(logits, plan.classes)).float().cpu().numpy())
    logits = logits[0] if isinstance(logits, list | tuple) else logits
    return [labels_of(one, plan) for one in logits.float().cpu().numpy()]


Sample = tuple[str, Tensor, Tensor, np.ndarray]


def _of_masks(found: list[Sample], plan: Plan) -> dict[str, np.ndarray]:
    kept = []
    axis = int(np.argmax(np.array(plan.spacing_mm) * (1, 1, 1 + 1e-6)))  # across the slices of the scanner
    axis = int(np.argmin(plan.patch)) if 1 in plan.patch else axis
    for _, image, truth, answer in found:
        labels = np.where(truth.numpy() < 0, 0, truth.numpy()).astype(np.uint16)
        known = labels * (labels != plan.ignore_label)
        labelled = np.count_nonzero(known, axis=tuple(other for other in range(3) if other != axis))
        place = int(labelled.argmax()) if labelled.any() else labels.shape[axis] // 2
        kept.append((_cut(image.numpy(), axis + 1, place), _cut(labels, axis, place), _cut(answer, axis, place)))
    pixels, low, high = zip(
        *(_bytes(image[: min(_MOST_CHANNELS, len(plan.channels))]) for image, _, _ in kept), strict=True
    )
    thin = -(-max(kept[0][1].shape) // _MOST_SIDE)
    steps = [step * thin for other, step in enumerate(plan.spacing_mm) if other != axis]
    return {
        **_shared(found, np.stack(pixels)[..., ::thin, ::thin], low, high),
        "truth": np.stack([truth for _, truth, _ in kept])[:, ::thin, ::thin],
        "answer": np.stack([answer for _, _, answer in kept])[:, ::thin, ::thin],
        "spacing_mm": np.array(steps),
    }


def _of_classes(found: list[Sample], plan: Plan) -> dict[str, np.ndarray]:
    axis = int(np.argmin(plan.patch)) if 1 in plan.patch else 2
    kept = [_cut(image.float().numpy(), axis + 1, image.shape[axis + 1] // 2) for _, image, _, _ in found]
    thin = -(-max(kept[0].shape[1:]) // _MOST_SIDE)
    pixels, low, high = zip(*(_bytes(image[:_MOST_CHANNELS]) for image in kept), strict=True)
    return {
        **_shared(found, np.stack(pixels)[..., ::thin, ::thin], low, high),
        "truth": np.stack([truth.float().numpy() for _, _, truth, _ in found]),
        "answer": np.stack([answer for _, _, _, answer in found]),
        "spacing_mm": np.array([step * thin for other, step in enumerate(plan.spacing_mm) if other != axis]),
    }


def _shared(found: list[Sample], images: np.ndarray, low: Any, high: Any) -> dict[str, np.ndarray]:
    names = np.array([name for name, *_ in found], dtype=np.str_)
    return {"names": names, "images": images, "low": np.stack(low), "high": np.stack(high)}


def _cut(array: np.ndarray, axis: int, place: int) -> np.ndarray:
    return array.take(place, axis=axis)


def _bytes(
    image: Num[np.ndarray, "c rows columns"],
) -> tuple[UInt8[np.ndarray, "c rows columns"], np.ndarray, np.ndarray]:
    values = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(values, _PERCENTILES, axis=(1, 2)).astype(np.float32)
    high = np.where(high > low, high, low + 1)
    scaled = (values - low[:, None, None]) * (255 / (high - low))[:, None, None]
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8), low, high
