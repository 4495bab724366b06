"""The fingerprint of a classification whose images are items of arrays: measured array by array, not case by case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Row
from segue.core.errors import DataError
from segue.images import digest_of, map_array
from segue.prepare.fingerprint import Fingerprint, Intensities, count_classes, has_absolute_values
from segue.prepare.reading import in_axes

# Evenly spread over the training set, so many images tell mean and deviation to a thousandth.
_SAMPLED_IMAGES = 2000


def measure_arrays(card: Card, cases: Sequence[Case], folder: Path) -> Fingerprint | None:
    """The fingerprint of training cases whose images are items of 8-bit arrays; None where some are not.

    Args:
        folder: where the arrays are unpacked for memory mapping.

    Raises:
        DataError: an array cannot be read, or has other channels than the card.
    """
    rows = [case.images[0] for case in cases if len(case.images) == 1]
    sources = {(row.path, row.key) for row in rows if isinstance(row, Row)}
    if len(rows) != len(cases) or not all(isinstance(row, Row) for row in rows):
        return None
    arrays = {source: map_array(*source, folder) for source in sorted(sources)}
    if any(array.dtype != np.uint8 for array in arrays.values()):
        return None
    shapes = set()
    for (path, key), array in arrays.items():
        channels, *shape = in_axes(array[0], card.dimension).shape
        if channels != len(card.channels):
            raise DataError(
                "the images have another number of channels than the card",
                where=f"{path}:{key}",
                value=f"{channels}, expected {len(card.channels)} ({', '.join(c.name for c in card.channels)})",
                remedy="mend 'channels' in the card",
            )
        shapes.add((shape[0], shape[1], shape[2]))
    if len(shapes) > 1:
        return None
    chosen = [rows[number] for number in np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLED_IMAGES)).astype(int)]
    sample = np.stack(
        [in_axes(arrays[row.path, row.key][row.index], card.dimension) for row in chosen if isinstance(row, Row)]
    )
    return Fingerprint(
        dataset=card.name,
        dimension=card.dimension,
        channels=card.channels,
        labels=card.labels,
        ignore_label=None,
        mirror_axes=sorted({"left-right": 0, "front-back": 1, "head-foot": 2}[axis] for axis in card.mirror_axes),
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        shapes=sorted(shapes),
        spacings_mm=[(1.0, 1.0, 1.0)],
        intensities=[_intensities(sample[:, channel]) for channel in range(len(card.channels))],
        foreground_part=0.0,
        task="classification",
        classes=card.classes,
        class_counts=count_classes(card, [case.target for case in cases if case.target is not None]),
        absolute=has_absolute_values(card),
        eight_bit=True,
    )


def array_digests(cases: Sequence[Case]) -> dict[str, str]:
    """What tells each case's content: its file, by content, and the item in it."""
    rows = {case.id: case.images[0] for case in cases}
    return {
        name: f"{digest_of(row.path)[:20]}:{row.key}[{row.index}]" for name, row in rows.items() if isinstance(row, Row)
    }


def _intensities(values: np.ndarray) -> Intensities:
    counts = np.bincount(values.ravel(), minlength=256).astype(float)
    levels = np.arange(256)
    mean = float((counts * levels).sum() / counts.sum())
    below = np.cumsum(counts) / counts.sum()
    return Intensities(
        mean=mean,
        std=float(np.sqrt((counts * (levels - mean) ** 2).sum() / counts.sum())),
        percentile_00_5=float(np.searchsorted(below, 0.005)),
        percentile_99_5=float(np.searchsorted(below, 0.995)),
    )
