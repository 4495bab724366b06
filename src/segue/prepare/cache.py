"""From images on disk to arrays a network can read: orientation, normalisation, resampling; kept by content.

A prepared case is a folder of plain ``.npy`` files, read by memory map: a patch out of a large volume costs
milliseconds.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Num

from segue.catalogue import Card, Case
from segue.core.errors import DataError
from segue.core.files import content_key, storage_fault, write_json
from segue.core.seeds import generator
from segue.prepare.choices import Normalisation, Plan
from segue.prepare.examine import case_digest
from segue.prepare.reading import read_channels, read_mask
from segue.volume import Geometry, Volume

_VERSION = 1
_KEPT_FOREGROUND_VOXELS = 10_000


@dataclass(frozen=True)
class PreparedCase:
    """One case in the cache.

    ``image`` is float16 ``(c, i, j, k)``, ``labels`` uint8 or uint16 ``(i, j, k)``, both in RAS order on the plan's
    spacing and memory-mapped; ``foreground`` maps each label to up to 10,000 flat voxel indices.
    """

    case: Case
    folder: Path

    @cached_property
    def image(self) -> np.ndarray:
        return np.load(self.folder / "image.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def labels(self) -> np.ndarray:
        return np.load(self.folder / "labels.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def foreground(self) -> dict[int, np.ndarray]:
        with np.load(self.folder / "foreground.npz", allow_pickle=False) as kept:
            return {int(name): kept[name] for name in kept.files}


@dataclass(frozen=True)
class PrepareTask:
    """What a worker needs to prepare one case."""

    case: Case
    card: Card
    plan: Plan
    cache: Path

    @property
    def id(self) -> str:
        return self.case.id


def normalised(
    image: Num[np.ndarray, "c i j k"], steps: Sequence[Normalisation], absent: Sequence[int] = ()
) -> Float32[np.ndarray, "c i j k"]:
    """Each channel by its rule (see :class:`Normalisation`); one that is ``absent`` is what stands outside images."""
    result = np.empty(image.shape, dtype=np.float32)
    for number, (channel, values, rule) in enumerate(zip(result, image, steps, strict=True)):
        if number in absent:
            channel[...] = rule.outside
        elif rule.kind == "suv":
            np.log1p(np.maximum(values, 0, dtype=np.float32), out=channel)
            channel -= 1.0
        elif rule.kind in ("hu", "dataset"):
            np.clip(values, *((rule.low, rule.high) if rule.kind == "hu" else (None, None)), out=channel)
            channel -= rule.mean
            channel /= rule.std
        else:
            low, high = np.percentile(values, [0.5, 99.5])
            np.clip(values, low, high, out=channel)
            channel -= channel.mean(dtype=np.float64)
            channel /= max(float(channel.std(dtype=np.float64)), 1e-6)
    return result


def prepared_image(image: Volume, plan: Plan, absent: Sequence[int] = ()) -> Volume:
    """An image as the network sees it: RAS order, normalised, float32, on the plan's spacing; ``absent`` are the
    numbers of channels that it lacks."""
    canonical = image.oriented("RAS")
    values = normalised(canonical.array, plan.normalisation, absent)
    ready = Volume(values, canonical.geometry)
    return ready.resampled_to(target_grid(canonical.geometry, plan))


def target_grid(canonical: Geometry, plan: Plan) -> Geometry:
    """The grid of the plan's spacing over the field of view of an image in RAS order; slices keep their distance."""
    i, j, k = (
        own if axis == plan.slice_axis else wanted
        for axis, (own, wanted) in enumerate(zip(canonical.spacing_mm, plan.spacing_mm, strict=True))
    )
    return canonical.with_spacing((i, j, k))


def prepare_case(task: PrepareTask) -> PreparedCase:
    """Prepare one annotated case, or find it prepared already.

    Raises:
        DataError: the case cannot be read, holds NaN, or its label lies on another grid.
        MachineError: the disk is full or may not be written; nothing half-written stays.
    """
    case, plan = task.case, task.plan
    key = content_key(case_digest(case), plan.preparation_key, _VERSION)
    folder = task.cache / plan.dataset / key
    if (folder / "case.json").exists():
        return PreparedCase(case, folder)
    image = read_channels(case, task.card)
    if not np.isfinite(image.array).all():
        raise DataError("the image holds NaN or infinite values", where=case.id, remedy="run segue check")
    if case.label is None:
        raise DataError("this case has no label", where=case.id, remedy="leave it out of training")
    labels = read_mask(case.label)
    difference = image.geometry.difference(labels.geometry)
    if difference:
        raise DataError("image and label lie on different grids", where=case.id, value=difference)
    ready = prepared_image(image, plan, case.absent)
    mask = labels.oriented("RAS").resampled_to(ready.geometry).array[0]
    known = [*plan.labels, *([plan.ignore_label] if plan.ignore_label is not None else [])]
    foreground = {str(label): _sampled(mask, label, case.id) for label in known}
    temporary = folder.with_name(f".{key}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir(parents=True)
        # A memory-mapped slice is read in one piece if its axis is the slowest.
        order: Literal["C", "F"] = "F" if plan.slice_axis == 2 else "C"
        np.save(temporary / "image.npy", np.asarray(ready.array, np.float16, order=order), allow_pickle=False)
        np.save(temporary / "labels.npy", np.asarray(mask, order=order), allow_pickle=False)
        np.savez(temporary / "foreground.npz", allow_pickle=False, **foreground)
        write_json(temporary / "case.json", {"id": case.id, "spacing_mm": ready.geometry.spacing_mm})
        if not (folder / "case.json").exists():
            temporary.rename(folder)
    except OSError as error:
        if (folder / "case.json").exists():
            return PreparedCase(case, folder)  # another process was faster
        raise storage_fault(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return PreparedCase(case, folder)


def _sampled(mask: np.ndarray, label: int, case: str) -> np.ndarray:
    voxels = np.flatnonzero(mask == label)
    if len(voxels) > _KEPT_FOREGROUND_VOXELS:
        voxels = generator(0, "foreground", case, label).choice(voxels, _KEPT_FOREGROUND_VOXELS, replace=False)
        voxels.sort()
    return voxels.astype(np.int64)
