"""The files of a case as arrays: all channels on one grid, and the mask as one label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Masks, Row
from segue.core.errors import DataError
from segue.images import read, read_labels
from segue.volume import Volume


def read_channels(case: Case, card: Card) -> Volume:
    """All channels of a case as one volume on one grid, in the images' own orientation.

    Raises:
        DataError: unreadable, another number of channels than the card's, or channels on different grids.
    """
    paths = [image for image in case.images if not isinstance(image, Row)]
    if len(paths) != len(case.images):
        raise DataError(
            "images in .npz arrays are not read as volumes yet",
            where=case.id,
            remedy="segue export dataset writes them as images",
        )
    volumes = [read(path) for path in paths]
    found = sum(len(volume.array) for volume in volumes)
    if found != len(card.channels):
        raise DataError(
            "the image has another number of channels than the card",
            where=case.id,
            value=f"{found}, expected {len(card.channels)} ({', '.join(c.name for c in card.channels)})",
            remedy="mend 'channels' in the card, or give the image with all its channels",
        )
    first = volumes[0]
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        difference = first.geometry.difference(volume.geometry)
        if difference:
            raise DataError(
                "the channels lie on different grids",
                where=f"{case.id}: {path.name}",
                value=difference,
                remedy=f"resample it to the grid of {paths[0].name}",
            )
    if len(volumes) == 1:
        return first
    return Volume(np.concatenate([volume.array for volume in volumes]), first.geometry)


def read_mask(label: Path | Masks | Row) -> Volume:
    """The label map ``(1, i, j, k)``; of several binary masks, the one of the higher number wins where they overlap.

    Raises:
        DataError: a mask cannot be read, or two lie on different grids.
    """
    if isinstance(label, Path):
        return read_labels(label)
    if isinstance(label, Row):
        raise DataError(
            "masks in .npz arrays are not read as volumes yet",
            where=label.name,
            remedy="segue export dataset writes them as images",
        )
    first = read_labels(label.files[0][1])
    numbers = [number for number, _ in label.files]
    merged = np.zeros(first.array.shape, np.uint8 if max(numbers) < 256 else np.uint16)
    for number, path in label.files:
        mask = first if path == label.files[0][1] else read_labels(path)
        difference = first.geometry.difference(mask.geometry)
        if difference:
            raise DataError("two masks of one case lie on different grids", where=path, value=difference)
        merged[mask.array > 0] = number
    return Volume(merged, first.geometry, "labels")
