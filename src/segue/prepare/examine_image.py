"""Looking at one image of which no card says anything: what is wrong with it, and what it has in common with others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Num

from segue.catalogue import Card, Case, Channel, Dataset
from segue.prepare.duplicates import signature
from segue.prepare.examine import Examination, statistics
from segue.prepare.quality.geometry import look_at_axes
from segue.prepare.quality.intensities import look_at_unit, spread_sample
from segue.prepare.quality.likeness import look_for_bright_rim
from segue.prepare.quality.reporting import Found
from segue.volume import Volume

_MOST_LABELS = 256
_EVEN = 0.8  # of neighbours in a label map that are equal, at least

_NOWHERE = tuple(np.zeros(0, int) for _ in range(3))  # no network is planned from these images: no sample is kept


@dataclass(frozen=True)
class Kind:
    """What images must share to be compared: unit, number of channels, pictures or volumes, label maps or images."""

    unit: str
    channels: int
    dimension: int
    labels: bool

    def dataset(self, folder: Path, images: dict[str, Path]) -> Dataset:
        """These images as a dataset without labels, for what is said of datasets."""
        names = ["image"] if self.channels == 1 else [f"channel {number}" for number in range(self.channels)]
        if self.channels == 3 and self.dimension == 2:
            names = ["red", "green", "blue"]
        what = "label maps" if self.labels else "pictures" if self.dimension == 2 else "volumes"
        card = Card.model_validate(
            {
                "name": folder.name or "images",
                "title": what,
                "task": "unlabelled",
                "dimension": self.dimension,
                "modalities": ["unknown"],
                "channels": [{"name": name, "unit": self.unit} for name in names],
                "layout": {"kind": "files", "images": "{case}"},
            }
        )
        return Dataset(card, folder, tuple(Case(name, name, (path,)) for name, path in images.items()))


def kind_of(volume: Volume) -> Kind:
    """Which others an image is compared with."""
    flat = 1 in volume.geometry.shape
    return Kind(volume.unit, len(volume.array), 2 if flat else 3, is_label_map(volume.array))


def is_label_map(array: Num[np.ndarray, "c i j k"]) -> bool:
    """Whether values are few whole numbers from 0, and neighbours mostly equal: a photograph has as few, but mixed."""
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
        return False
    if array.min() != 0 or array.max() >= 1000 or not 2 <= len(np.unique(array)) <= _MOST_LABELS:
        return False
    lines = np.moveaxis(array, 1 + int(np.argmax(array.shape[1:])), 0)
    return bool((lines[1:] == lines[:-1]).mean() > _EVEN)


def examine_image(volume: Volume, kind: Kind, found: Found) -> Examination:
    """Measure an image; adds to ``found`` what is wrong with its values and its axes."""
    array, geometry = volume.array, volume.geometry
    wrong = int(array.size - np.isfinite(array).sum()) if array.dtype.kind == "f" else 0
    if wrong:
        found(
            "error",
            "the image holds NaN or infinite values",
            f"{wrong} of {array.size} voxels",
            "mend or mask these voxels",
            size=wrong / array.size,
        )
    elif array.min() == array.max():
        found("warning", "the image is constant", f"{array.flat[0]}", "look at it, or leave it out")
    look_at_axes(geometry, found)
    canonical = volume.oriented("RAS")
    channels = []
    for number, values in enumerate(canonical.array):
        spread = spread_sample(values)
        extremes = (values.min(), values.max())
        if not kind.labels:
            name = "image" if kind.channels == 1 else f"channel {number}"
            if kind.unit in ("HU", "SUV") and np.isfinite(extremes).all():
                channel = Channel.model_validate({"name": name, "unit": kind.unit})
                look_at_unit(channel, spread, float(extremes[0]), float(extremes[1]), found)
            if kind.dimension == 3:
                look_for_bright_rim(name, values, found)
        channels.append(statistics(values, extremes, _NOWHERE, spread))
    known_by = signature(array)
    return Examination(
        case=found.case,
        patient=found.case,
        findings=found.findings,
        shape=canonical.geometry.shape,
        spacing_mm=canonical.geometry.spacing_mm,
        axis_codes=geometry.axis_codes,
        channels=channels,
        stored=(str(array.dtype), ""),
        content=known_by.content,
        perceptual=known_by.perceptual,
    )
