"""Scores of one case.

Empty masks. Where truth and prediction are both empty there is nothing to measure: overlap and surfaces are None, and
the case is left out of their means and counted (by BraTS's rules instead it is right: Dice 1, distance 0). Where only
one of them is empty, Dice, IoU and NSD are 0, and HD95 and ASSD are the worst distance there is, the diagonal of the
grid (``worst_mm`` of the case). Sensitivity has no value without truth, precision none without prediction, SUVmax none
without the mask it is taken in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Integer, Shaped
from scipy import ndimage

from segue.core.errors import DataError
from segue.evaluate.measures import Lesionwise
from segue.evaluate.pairs import Pair, Probabilities, SuvImage
from segue.evaluate.part import ScoredCase
from segue.images import read, read_labels
from segue.metrics import (
    Overlap,
    brats_lesionwise,
    lesion_counts,
    pet_measures,
    postprocessed,
    surface_scores,
    unmatched_voxels,
    voxel_calibration,
)
from segue.prepare import read_mask
from segue.volume import Geometry

Figures: TypeAlias = dict[str, float | None]
_Mask: TypeAlias = Bool[np.ndarray, "i j k"]
_Box: TypeAlias = tuple[slice, slice, slice]
# Beyond the largest label of 16 bits, a table with a place per label is no longer small.
_MOST_LABELS = 65_535
# Around a label, so that what lies outside of its box is background to every measure.
_MARGIN = 2
# Beyond it every network is sure, and right: it would only thin the figures of calibration out.
_DOUBT_MM = 10.0


@dataclass(frozen=True)
class CaseScores(ScoredCase):
    """``labels[name][metric]`` and ``regions[name][metric]``; the metrics: :mod:`segue.evaluate.measures`.

    Attributes:
        pixel_ml: the volume of a pixel where the masks are of one slice, else None.
        worst_mm: the distance that HD95 and ASSD are where one of two masks is empty.
        tolerance_mm: that of NSD; None of a case that was measured without surfaces.
    """

    labels: dict[str, Figures]
    pixel_ml: float | None = None
    regions: dict[str, Figures] = field(default_factory=dict)
    worst_mm: float | None = None
    tolerance_mm: float | None = None

    @property
    def named(self) -> dict[str, Figures]:
        """Labels, then regions."""
        return {**self.labels, **self.regions}

    @property
    def mean_dice(self) -> float | None:
        """Over the labels that can be measured in this case; over the regions where no label has a name."""
        values = [d for scores in (self.labels or self.regions).values() if (d := scores.get("dice")) is not None]
        return float(np.mean(values)) if values else None


class _Maps:
    """The two label maps of a case, and in which box of the grid each label lies."""

    def __init__(
        self, truth: Integer[np.ndarray, "i j k"], prediction: Integer[np.ndarray, "i j k"], ignore: int | None
    ) -> None:
        self.truth, self.prediction, self._ignore = truth, prediction, ignore
        self.in_truth, self.in_prediction = _boxes(truth), _boxes(prediction)

    def masks(self, members: Iterable[int], margin: int | Sequence[int]) -> tuple[_Mask, _Mask, _Box]:
        """Truth and prediction of a union of labels in the box that holds both (one voxel where neither has any);
        the prediction only where the truth is known."""
        found = [box for part in (self.in_truth, self.in_prediction) for n in members if (box := part.get(n))]
        box = _around(found, self.truth.shape, margin)
        truth, prediction = self.truth[box], _union(self.prediction[box], members)
        if self._ignore in self.in_truth:
            prediction &= truth != self._ignore
        return _union(truth, members), prediction, box


def score_pair(pair: Pair) -> CaseScores:
    """Score one case.

    Raises:
        DataError: unreadable, different grids, or labels that nobody named.
    """
    truth, prediction = read_mask(pair.truth), read_labels(pair.prediction)
    grid = truth.geometry
    difference = grid.difference(prediction.geometry)
    if difference:
        raise DataError(
            "truth and prediction lie on different grids",
            where=pair.case,
            value=difference,
            remedy="compare masks of the same image: segue predict keeps the image's own grid",
        )
    maps = _Maps(truth.array[0], postprocessed(prediction.array[0], pair.rules, grid.voxel_ml), pair.ignore_label)
    del truth, prediction
    regions = pair.measures.regions
    labels = pair.labels
    if not labels and not regions:
        labels = {number: str(number) for number in sorted({*maps.in_truth, *maps.in_prediction} - {pair.ignore_label})}
    _require_named(maps, labels, pair)
    suv = _suv(pair.suv, grid, pair.case) if pair.suv is not None else None
    chances = _Chances.read(pair.probabilities, grid, pair.case) if pair.probabilities is not None else None

    def scored(unions: dict[str, tuple[int, ...]], lesionwise: bool) -> dict[str, Figures]:
        found = {}
        for name, members in unions.items():
            if not set(members) & set(pair.unlabelled):  # else nobody drew it here: neither present nor absent
                found[name] = _figures(maps, members, grid, pair, lesionwise, suv)
                if chances is not None:
                    found[name] |= chances.calibration(maps, members, pair.ignore_label)
        return found

    return CaseScores(
        pair.case,
        pair.patient,
        scored({name: (number,) for number, name in labels.items()}, lesionwise=not regions),
        grid.voxel_ml if 1 in grid.shape else None,
        scored(dict(regions), lesionwise=True),
        worst_mm=_diagonal_mm(grid),
        tolerance_mm=pair.measures.tolerance_mm,
    )


def _figures(
    maps: _Maps,
    members: tuple[int, ...],
    grid: Geometry,
    pair: Pair,
    lesionwise: bool,
    suv: Shaped[np.ndarray, "i j k"] | None,
) -> Figures:
    rules = pair.measures.lesionwise
    margin = max(_MARGIN, rules.dilation + 1) if rules else _MARGIN
    truth, prediction, box = maps.masks(members, margin)
    counts = Overlap(*(int(np.count_nonzero(mask)) for mask in (truth, prediction, truth & prediction)))
    ml = grid.voxel_ml
    figures: Figures = {
        "dice": counts.dice,
        "iou": counts.iou,
        "sensitivity": counts.sensitivity,
        "precision": counts.precision,
        "volume_ml": counts.prediction * ml,
        "truth_volume_ml": counts.truth * ml,
        "volume_difference_ml": (counts.prediction - counts.truth) * ml,
        **_surfaces(truth, prediction, grid, pair.measures.tolerance_mm),
        **_lesions(truth, prediction, ml),
    }
    if suv is not None:
        for prefix, mask in (("", prediction), ("truth_", truth)):
            found = pet_measures(mask, suv[box], ml)
            figures |= {
                f"{prefix}mtv_ml": found.mtv_ml,
                f"{prefix}tlg_ml": found.tlg_ml,
                f"{prefix}suv_max": found.suv_max,
            }
    if rules is not None:
        if counts.dice is None:
            figures |= {"dice": 1.0, "iou": 1.0, "hd95_mm": 0.0, "assd_mm": 0.0, "nsd": 1.0}
        if lesionwise:
            figures |= _lesionwise(truth, prediction, grid, rules)
    return figures


def _surfaces(truth: _Mask, prediction: _Mask, grid: Geometry, tolerance_mm: float) -> Figures:
    if not (truth.any() and prediction.any()):
        # The box around what is there has another diagonal than the grid.
        worst = _diagonal_mm(grid) if truth.any() or prediction.any() else None
        return {"hd95_mm": worst, "assd_mm": worst, "nsd": None if worst is None else 0.0}
    found = surface_scores(prediction, truth, grid.spacing_mm, tolerance_mm)
    assert found is not None, "both have voxels"
    return {"hd95_mm": found.hd95_mm, "assd_mm": found.assd_mm, "nsd": found.nsd}


def _lesions(truth: _Mask, prediction: _Mask, voxel_ml: float) -> Figures:
    found = lesion_counts(prediction, truth)
    return {
        "lesions": float(found.truth),
        "lesions_found": float(found.found),
        "lesion_sensitivity": found.sensitivity,
        "false_positive_lesions": float(found.false_positives),
        "false_positive_ml": unmatched_voxels(prediction, truth) * voxel_ml,
        "false_negative_ml": unmatched_voxels(truth, prediction) * voxel_ml,
    }


def _lesionwise(truth: _Mask, prediction: _Mask, grid: Geometry, rules: Lesionwise) -> Figures:
    found = brats_lesionwise(prediction, truth, grid.spacing_mm, dilation=rules.dilation, least_mm3=rules.least_mm3)
    return {
        "lesionwise_dice": found.dice,
        "lesionwise_hd95_mm": found.hd95_mm,
        "lesionwise_lesions": float(found.lesions),
        "lesionwise_missed": float(found.missed),
        "lesionwise_false_positives": float(found.false_positives),
    }


def _diagonal_mm(grid: Geometry) -> float:
    """Voxels times spacing; of a single slice in its plane."""
    sizes = [size * step for size, step in zip(grid.shape, grid.spacing_mm, strict=True)]
    if 1 in grid.shape:
        sizes.pop(max(axis for axis, size in enumerate(grid.shape) if size == 1))
    return math.hypot(*sizes)


def _suv(image: SuvImage, grid: Geometry, case: str) -> Shaped[np.ndarray, "i j k"]:
    """The PET of a case on the grid of its masks.

    Raises:
        DataError: unreadable, or on another grid.
    """
    volume = read(image.path)
    difference = grid.difference(volume.geometry)
    if difference:
        raise DataError(
            "the PET lies on another grid than the masks",
            where=f"{case}: {image.path.name}",
            value=difference,
            remedy="bring it to the grid of the masks: SUV is measured voxel by voxel",
        )
    values = volume.array[image.channel]
    return values if values.dtype.kind == "f" else values.astype(np.float32)


@dataclass(frozen=True)
class _Chances:
    """The probabilities of a case on the grid of its masks."""

    array: Shaped[np.ndarray, "n i j k"]
    channels: tuple[tuple[int, ...], ...]
    spacing_mm: tuple[float, ...]

    @staticmethod
    def read(probabilities: Probabilities, grid: Geometry, case: str) -> _Chances:
        """Raises:
        DataError: unreadable, on another grid, or with another number of channels than the receipt tells of.
        """
        volume = read(probabilities.path)
        difference = grid.difference(volume.geometry)
        if len(volume.array) != len(probabilities.channels):
            difference = f"{len(volume.array)} channels, expected {len(probabilities.channels)}"
        if difference:
            raise DataError(
                "the probabilities do not belong to this mask",
                where=f"{case}: {probabilities.path}",
                value=difference,
                remedy="predict again with --probabilities, or remove the file",
            )
        return _Chances(volume.array, probabilities.channels, grid.spacing_mm)

    def calibration(self, maps: _Maps, members: tuple[int, ...], ignore: int | None) -> Figures:
        """Around truth and prediction; None where neither is. Nothing of a union that no channel is about."""
        if (union := tuple(sorted(members))) in self.channels:
            chosen = [self.channels.index(union)]
        elif all((number,) in self.channels for number in (0, *members)):  # labels that exclude each other
            chosen = [self.channels.index((number,)) for number in members]
        else:
            return {}
        truth, prediction, box = maps.masks(members, [math.ceil(_DOUBT_MM / step) for step in self.spacing_mm])
        if not (truth.any() or prediction.any()):
            return {"brier": None, "calibration_error": None}
        known = maps.truth[box] != ignore if ignore is not None else np.ones_like(truth)
        chance = np.add.reduce([self.array[channel][box] for channel in chosen])
        found = voxel_calibration(truth[known], chance[known].astype(np.float64))
        return {"brier": found.brier if found else None, "calibration_error": found.error if found else None}


def _require_named(maps: _Maps, labels: dict[int, str], pair: Pair) -> None:
    held = {number for members in pair.measures.regions.values() for number in members}
    known = {0, *labels, *held, *([pair.ignore_label] if pair.ignore_label is not None else [])}
    for name, boxes in (("truth", maps.in_truth), ("prediction", maps.in_prediction)):
        unknown = sorted(set(boxes) - known)
        if unknown:
            named = [f"{number} ({text})" for number, text in labels.items()]
            named += [f"{number}" for number in sorted(held - set(labels))]
            raise DataError(
                f"the {name} holds labels that are not named",
                where=pair.case,
                value=f"{unknown[:5]}; named are {', '.join(named)}",
                remedy="name every label with --labels, for example --labels 1=liver,2=tumour",
            )


def _boxes(labels: Integer[np.ndarray, "i j k"]) -> dict[int, _Box]:
    """In which box of the grid each label above 0 lies."""
    if labels.flags.f_contiguous and not labels.flags.c_contiguous:  # as NIfTI lies in memory; scipy goes by rows
        return {number: (box[2], box[1], box[0]) for number, box in _boxes(labels.T).items()}
    if int(labels.max(initial=0)) <= _MOST_LABELS:
        return {number: box for number, box in enumerate(ndimage.find_objects(labels), 1) if box is not None}
    present, places = np.unique(labels, return_inverse=True)
    if present[0] != 0:
        present, places = np.concatenate([present[:1] * 0, present]), places + 1
    found = ndimage.find_objects(places.reshape(labels.shape))
    return {int(number): box for number, box in zip(present[1:], found, strict=True) if box is not None}


def _around(boxes: list[_Box], shape: tuple[int, ...], margin: int | Sequence[int]) -> _Box:
    if not boxes:
        return slice(0, 1), slice(0, 1), slice(0, 1)
    margins = [margin] * len(shape) if isinstance(margin, int) else margin
    i, j, k = (
        slice(max(0, min(box[a].start for box in boxes) - more), min(n, max(box[a].stop for box in boxes) + more))
        for a, (n, more) in enumerate(zip(shape, margins, strict=True))
    )
    return i, j, k


def _union(labels: Integer[np.ndarray, "i j k"], members: Iterable[int]) -> Bool[np.ndarray, "i j k"]:
    parts: Iterator[np.ndarray] = (labels == number for number in members)
    result = next(parts)
    for part in parts:
        result |= part
    return result
