"""The files of a case as arrays: all channels on one grid, and the mask as one label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Num

from segue.catalogue import Card, Case, Masks, Row
from segue.core.errors import DataError
from segue.images import as_labels, read, read_labels, read_row
from segue.volume import Geometry, Volume

# Arrays tell no place in space; they lie there as pictures do.
AS_PICTURES_LIE = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_channels(case: Case, card: Card) -> Volume:
    """All channels of a case as one volume on one grid, in the images' own orientation.

    Raises:
        DataError: unreadable, another number of channels than the card's, or channels on different grids.
    """
    volumes = [_item(image, card.dimension) if isinstance(image, Row) else read(image) for image in case.images]
    found = sum(len(volume.array) for volume in volumes)
    if found != len(card.channels):
        raise DataError(
            "the image has another number of channels than the card",
            where=case.id,
            value=f"{found}, expected {len(card.channels)} ({', '.join(c.name for c in card.channels)})",
            remedy="mend 'channels' in the card, or give the image with all its channels",
        )
    first = volumes[0]
    for image, volume in zip(case.images[1:], volumes[1:], strict=True):
        difference = first.geometry.difference(volume.geometry)
        if difference:
            raise DataError(
                "the channels lie on different grids",
                where=f"{case.id}: {image.name}",
                value=difference,
                remedy=f"resample it to the grid of {case.images[0].name}",
            )
    if len(volumes) == 1:
        return first
    return Volume(np.concatenate([volume.array for volume in volumes]), first.geometry)


def in_axes(item: np.ndarray, dimension: int) -> Num[np.ndarray, "c i j k"]:
    """An item of an array as the channels and axes of a volume.

    A picture is stored ``(rows, columns)`` or ``(rows, columns, colours)``; of a volume the axes stay.
    """
    if dimension == 2 and item.ndim in (2, 3):
        return (item[:, :, None] if item.ndim == 2 else item).transpose(2, 1, 0)[..., None]
    if dimension == 3 and item.ndim in (3, 4):
        return item[None] if item.ndim == 3 else np.moveaxis(item, -1, 0)
    raise DataError(
        f"an image of {dimension} dimensions is expected",
        value=f"shape {item.shape}",
        remedy="mend 'dimension' in the card",
    )


def _item(row: Row, dimension: int) -> Volume:
    array = in_axes(read_row(row.path, row.key, row.index), dimension)
    i, j, k = array.shape[1:]
    return Volume(array, Geometry((i, j, k), AS_PICTURES_LIE))


def read_mask(label: Path | Masks | Row) -> Volume:
    """The label map ``(1, i, j, k)``; of several binary masks, the one of the higher number wins where they overlap.

    Raises:
        DataError: a mask cannot be read, or two lie on different grids.
    """
    if isinstance(label, Path):
        return read_labels(label)
    if isinstance(label, Row):
        item = read_row(label.path, label.key, label.index)
        array = in_axes(item, item.ndim)
        i, j, k = array.shape[1:]
        return Volume(as_labels(array, label.path), Geometry((i, j, k), AS_PICTURES_LIE), "labels", "labels")
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
