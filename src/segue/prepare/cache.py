"""From images on disk to arrays a network can read: orientation, normalisation, resampling; kept by content.

A prepared case is a folder of plain ``.npy`` files, read by memory map: a patch out of a large volume costs
milliseconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import cc3d
import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Integer, Num

from segue.catalogue import Card, Case
from segue.core.errors import DataError
from segue.core.files import content_key, storage_fault, unchanged
from segue.core.leftovers import part_beside
from segue.core.seeds import generator
from segue.prepare.choices import Normalisation, Plan
from segue.prepare.examine import case_digest
from segue.prepare.reading import read_mask
from segue.prepare.unpacked import read_to_prepare
from segue.prepare.voxels import between, percentiles, where
from segue.volume import Geometry, Volume, resample_intensity

_VERSION = 3
_KEPT_FOREGROUND_VOXELS = 10_000
_KEPT_LOOK_ALIKES = 1_000
_LOOK_ALIKE_COMPONENTS = 20
_LOOK_ALIKES = "look_alikes"
_SUMMED_AT_ONCE = 1 << 20
_COMPARED_AT_ONCE = 1 << 18


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
            return {int(name): kept[name] for name in kept.files if name != _LOOK_ALIKES}

    @cached_property
    def look_alikes(self) -> np.ndarray:
        """Up to 1,000 flat indices of voxels that look like foreground and are none, of each place about as many."""
        with np.load(self.folder / "foreground.npz", allow_pickle=False) as kept:
            return kept[_LOOK_ALIKES]


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
        channel[...] = rule.outside if number in absent else _normaliser(values, rule)(values)
    return result


def _normaliser(channel: Num[np.ndarray, "i j k"], rule: Normalisation) -> Callable[[np.ndarray], np.ndarray]:
    """What a rule does with some values of a channel: a new array of float32.

    A part of the image at a time needs no copy of the whole.
    """
    if rule.kind == "suv":
        return _suv
    if rule.kind == "hu":
        return partial(_scaled, low=rule.low, high=rule.high, mean=rule.mean, std=rule.std)
    if rule.kind == "dataset":
        return partial(_scaled, low=None, high=None, mean=rule.mean, std=rule.std)
    low, high = percentiles(channel, (0.5, 99.5))
    clipped = partial(_scaled, low=low, high=high, mean=0.0, std=1.0)
    slices = channel.transpose(2, 1, 0)  # mostly as they lie in memory
    few = max(1, _SUMMED_AT_ONCE // slices[0].size)
    parts = [slices[start : start + few] for start in range(0, len(slices), few)]
    mean = sum(float(clipped(part).sum(dtype=np.float64)) for part in parts) / channel.size
    squares = sum(float(np.square(clipped(part) - np.float32(mean), dtype=np.float64).sum()) for part in parts)
    return partial(_scaled, low=low, high=high, mean=mean, std=max((squares / channel.size) ** 0.5, 1e-6))


def _suv(values: np.ndarray) -> np.ndarray:
    result = np.maximum(values, 0, dtype=np.float32)
    np.log1p(result, out=result)
    result -= 1.0
    return result


def _scaled(values: np.ndarray, low: float | None, high: float | None, mean: float, std: float) -> np.ndarray:
    result = np.empty(values.shape, dtype=np.float32)
    np.clip(values, low, high, out=result)
    result -= mean
    result /= std
    return result


def prepared_image(image: Volume, plan: Plan, absent: Sequence[int] = ()) -> Volume:
    """An image as the network sees it: RAS order, normalised, float32, on the plan's spacing; ``absent`` are the
    numbers of channels that it lacks."""
    canonical = image.oriented("RAS")
    target = target_grid(canonical.geometry, plan)
    array = np.empty((len(image.array), *target.shape), np.float32)
    _prepare_into(array, canonical, target, plan, absent)
    return Volume(array, target)


def _prepare_into(
    array: Float[np.ndarray, "c x y z"], canonical: Volume, target: Geometry, plan: Plan, absent: Sequence[int]
) -> None:
    source = canonical.geometry
    if source.difference(target) is None:
        target = source  # rounding is nothing to interpolate for
    for number, (values, rule, out) in enumerate(zip(canonical.array, plan.normalisation, array, strict=True)):
        if number in absent:
            out[...] = rule.outside
            continue
        if np.argsort([-abs(step) for step in values.strides], kind="stable").tolist() != [2, 1, 0]:
            # Sums are made in the order of memory: the same image stored in other axes has the same values to the bit.
            values = np.asfortranarray(values)
        resample_intensity(values, source, target, each=_normaliser(values, rule), out=out)


def target_grid(canonical: Geometry, plan: Plan) -> Geometry:
    """The grid of the plan's spacing over the field of view of an image in RAS order; slices keep their distance."""
    i, j, k = (
        own if axis == plan.slice_axis else wanted
        for axis, (own, wanted) in enumerate(zip(canonical.spacing_mm, plan.spacing_mm, strict=True))
    )
    return canonical.with_spacing((i, j, k))


def prepared_folder(task: PrepareTask) -> Path:
    """Where a case lies once it is prepared: named by its content and by what the plan does to it.

    Raises:
        DataError: a file of the case is missing or cannot be read.
    """
    key = content_key(case_digest(task.case), task.plan.preparation_key, _VERSION)
    return task.cache / task.plan.dataset / key


def prepare_case(task: PrepareTask) -> PreparedCase:
    """Prepare one annotated case, or find it prepared already.

    Raises:
        DataError: the case cannot be read, holds NaN, or its label lies on another grid.
        MachineError: the disk is full or may not be written; nothing half-written stays.
    """
    with unchanged(task.case.files, task.case.id):
        return _prepared(task)


def _prepared(task: PrepareTask) -> PreparedCase:
    case, plan, folder = task.case, task.plan, prepared_folder(task)
    if folder.exists():
        return PreparedCase(case, folder)
    image = read_to_prepare(case, task.card, case_digest(case), task.cache)
    # Least and greatest tell: one NaN makes both NaN.
    if not np.isfinite([(channel.min(), channel.max()) for channel in image.array]).all():
        raise DataError("the image holds NaN or infinite values", where=case.id, remedy="run segue check")
    if case.label is None:
        raise DataError("this case has no label", where=case.id, remedy="leave it out of training")
    # A memory-mapped slice is read in one piece if its axis is the slowest.
    order: Literal["C", "F"] = "F" if plan.slice_axis == 2 else "C"
    source, canonical = image.geometry, image.oriented("RAS")
    target = target_grid(canonical.geometry, plan)
    array = np.empty((len(image.array), *target.shape), np.float16, order=order)
    _prepare_into(array, canonical, target, plan, case.absent)
    del image, canonical  # before the mask comes
    temporary = part_beside(folder)
    try:
        temporary.mkdir(parents=True)
        np.save(temporary / "image.npy", array, allow_pickle=False)
        del array
        labels = read_mask(case.label)
        difference = source.difference(labels.geometry)
        if difference:
            raise DataError("image and label lie on different grids", where=case.id, value=difference)
        mask = np.ascontiguousarray(labels.oriented("RAS").resampled_to(target).array[0])
        del labels
        known = [*plan.labels, *([plan.ignore_label] if plan.ignore_label is not None else [])]
        foreground = {str(label): _sampled(mask, label, case.id) for label in known}
        np.save(temporary / "labels.npy", np.asarray(mask, order=order), allow_pickle=False)
        foreground[_LOOK_ALIKES] = _look_alikes(temporary / "image.npy", mask, plan, case.id)
        np.savez(temporary / "foreground.npz", allow_pickle=False, **foreground)
        if prepared_folder(task) != folder:  # hashed again only where a file is another one by its time or size
            raise DataError("this file changed while it was read", where=case.id)
        # The folder comes with its new name at once: where it is, everything is in it.
        temporary.rename(folder)
    except OSError as error:
        if folder.exists():
            return PreparedCase(case, folder)  # another process was faster
        raise storage_fault(error, folder) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return PreparedCase(case, folder)


def _look_alikes(image: Path, mask: Integer[np.ndarray, "i j k"], plan: Plan, case: str) -> Int64[np.ndarray, " n"]:
    """Some background voxels whose values are those of foreground in every channel that tells."""
    if not plan.look_alikes:
        return np.zeros(0, np.int64)
    alike = mask == 0
    for values, wanted in zip(np.load(image, mmap_mode="r", allow_pickle=False), plan.look_alikes, strict=True):
        if wanted is not None:
            few = max(1, _COMPARED_AT_ONCE // max(1, values[0].size))
            for start in range(0, len(values), few):  # out of the file
                alike[start : start + few] &= between(np.asarray(values[start : start + few]), *wanted)
    return _balanced(alike, case)


def _balanced(alike: Bool[np.ndarray, "i j k"], case: str) -> Int64[np.ndarray, " n"]:
    """Voxels of the largest components, of each about as many: a brain must not outnumber the kidneys by its size."""
    components = cc3d.connected_components(alike, connectivity=26)
    found = np.flatnonzero(alike)
    of = components.reshape(-1)[found]
    del components
    sizes = np.bincount(of)
    largest = np.argsort(sizes, kind="stable")[::-1][:_LOOK_ALIKE_COMPONENTS]
    most = _most_of_each(sizes[largest], _KEPT_LOOK_ALIKES)
    random = generator(0, "look-alikes", case)
    chosen = [found[:0]]
    for component in largest:
        voxels = found[of == component]
        chosen.append(voxels if len(voxels) <= most else random.choice(voxels, most, replace=False))
    return np.sort(np.concatenate(chosen))


def _most_of_each(sizes: Integer[np.ndarray, " n"], total: int) -> int:
    """How many to take of each, so that together there are about ``total``: of small ones all."""
    rest, most = total, 0
    for number, size in enumerate(np.sort(sizes)):
        most = -(-rest // (len(sizes) - number))
        if size >= most:
            break
        rest -= int(size)
    return most


def _sampled(mask: Integer[np.ndarray, "i j k"], label: int, case: str) -> Int64[np.ndarray, " n"]:
    def some(count: int) -> np.ndarray:
        random = generator(0, "foreground", case, label)
        return np.sort(random.choice(count, _KEPT_FOREGROUND_VOXELS, replace=False))

    return where(mask.reshape(-1), lambda values: values == label, _KEPT_FOREGROUND_VOXELS, some)
