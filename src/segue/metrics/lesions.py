"""Connected components of masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cc3d
import numpy as np
from jaxtyping import Bool, Int64, Integer

from segue.volume import bounding_box

# Voxels that share a face or an edge are neighbours, as in AutoPET's measures; in one slice these are all eight around.
CONNECTIVITY: Final = 18


def unmatched_voxels(mask: Bool[np.ndarray, "i j k"], other: Bool[np.ndarray, "i j k"]) -> int:
    """Voxels in those 18-connected components of ``mask`` that do not touch ``other`` at all.

    With the prediction as ``mask`` this is AutoPET's false-positive volume, with the truth its
    false-negative volume (both in voxels here).
    """
    box = bounding_box(mask)
    if box is None:
        return 0
    components = cc3d.connected_components(mask[box], connectivity=CONNECTIVITY)
    sizes = np.bincount(components.ravel())
    matched = np.zeros(len(sizes), dtype=bool)
    matched[np.unique(components[other[box]])] = True
    matched[0] = True
    return int(sizes[~matched].sum())


@dataclass(frozen=True)
class LesionCounts:
    """Lesions are connected components, of the truth or of the prediction.

    Attributes:
        truth: components of the truth.
        found: those of them that share at least one voxel with the prediction.
        predicted: components of the prediction.
        false_positives: those of them that share no voxel with the truth.
    """

    truth: int
    found: int
    predicted: int
    false_positives: int

    @property
    def sensitivity(self) -> float | None:
        """Share of the true lesions that were found; None where there are none."""
        return None if self.truth == 0 else self.found / self.truth

    @property
    def precision(self) -> float | None:
        """Share of the predicted lesions that touch a true one; None where none is predicted."""
        return None if self.predicted == 0 else 1 - self.false_positives / self.predicted


def lesion_counts(
    prediction: Bool[np.ndarray, "i j k"],
    truth: Bool[np.ndarray, "i j k"],
    connectivity: Literal[6, 18, 26] = 26,
) -> LesionCounts:
    """Count the lesions that were found and those that were invented, by any overlap.

    One predicted component may find several lesions. ``connectivity`` says which voxels are neighbours: those that
    share a face (6), also an edge (18), also a corner (26).
    """
    both = prediction & truth
    true, found = _touched(truth, both, connectivity)
    predicted, right = _touched(prediction, both, connectivity)
    return LesionCounts(true, found, predicted, predicted - right)


def _touched(
    mask: Bool[np.ndarray, "i j k"], other: Bool[np.ndarray, "i j k"], connectivity: Literal[6, 18, 26]
) -> tuple[int, int]:
    """Components of the mask, and how many of them hold a voxel of ``other``, which lies in the mask."""
    box = bounding_box(mask)
    if box is None:
        return 0, 0
    components, number = cc3d.connected_components(mask[box], connectivity=connectivity, return_N=True)
    return int(number), len(np.unique(components[other[box]]))


@dataclass(frozen=True)
class Components:
    """The 18-connected components of a predicted mask beside the truth, all in voxels.

    Attributes:
        voxels: of each component.
        counted: of each component, those where the truth is known.
        shared: of each component, those that the truth has too.
        truth: of the truth.
    """

    voxels: Int64[np.ndarray, " n"]
    counted: Int64[np.ndarray, " n"]
    shared: Int64[np.ndarray, " n"]
    truth: int


def match_components(
    mask: Bool[np.ndarray, "i j k"], truth: Bool[np.ndarray, "i j k"], valid: Bool[np.ndarray, "i j k"] | None = None
) -> Components:
    """Each component of ``mask``, and how much of it is true; only ``valid`` voxels count where it is given."""
    found = cc3d.connected_components(mask, connectivity=CONNECTIVITY)
    known = found if valid is None else found[valid]
    reached = found[truth if valid is None else truth & valid]
    sizes = np.bincount(found.ravel())
    counted, shared = (np.bincount(part.ravel(), minlength=len(sizes)) for part in (known, reached))
    return Components(sizes[1:], counted[1:], shared[1:], int(reached.size))


@dataclass(frozen=True)
class ComponentRule:
    """Which 18-connected components of a label stay; the others become background.

    Attributes:
        largest: only the largest one (of equal ones the first).
        minimum_ml: those of at least this volume.
    """

    largest: bool = False
    minimum_ml: float = 0.0

    def __str__(self) -> str:
        return "only the largest component" if self.largest else f"components of {self.minimum_ml:g} ml and more"

    def keeps(self, voxels: Int64[np.ndarray, " n"], voxel_ml: float) -> Bool[np.ndarray, " n"]:
        """Of components of these sizes, whether each stays."""
        kept = voxels * voxel_ml >= self.minimum_ml
        if self.largest and len(voxels):
            kept = kept & (np.arange(len(voxels)) == voxels.argmax())
        return kept


def postprocessed(
    labels: Integer[np.ndarray, "i j k"], rules: dict[int, ComponentRule], voxel_ml: float
) -> Integer[np.ndarray, "i j k"]:
    """The labels with each rule applied; what is removed becomes background, whatever label lies around it."""
    result = labels
    for number, rule in rules.items():
        mask = labels == number
        if not mask.any():
            continue
        found = cc3d.connected_components(mask, connectivity=CONNECTIVITY)
        removed = np.concatenate([[False], ~rule.keeps(np.bincount(found.ravel())[1:], voxel_ml)])
        if removed.any():
            result = np.where(removed[found], labels.dtype.type(0), result)
    return result
