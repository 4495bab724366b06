"""The files of a case as arrays: all channels on one grid, and the mask as one label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Num

from segue.catalogue import Card, Case, Label, Masks, Recoded, Row
from segue.core.errors import DataError
from segue.images import PICTURE_SUFFIXES, TIFF_SUFFIXES, as_labels, read, read_labels, read_row, suffix_of
from segue.volume import Geometry, Volume

# Arrays tell no place in space; they lie there as pictures do.
AS_PICTURES_LIE = np.diag([-1.0, -1.0, 1.0, 1.0])

_JPEG = (".jpg", ".jpeg")
_JPEG_BLUR = 32  # how far from what was drawn JPEG may have moved a value before nobody can tell which it was
_MOST_VALUES = 65_536  # stored values up to here are looked up in a table


def read_channels(case: Case, card: Card) -> Volume:
    """All channels of a case as one volume on one grid, in the images' own orientation.

    An optional channel that the case lacks is 0 everywhere: whoever uses the values looks at ``case.absent``.
    Of pictures, a grey one among colour ones is spread to red, green and blue, and one that is stored in colour but
    grey all over is one channel where the card has one.

    Raises:
        DataError: unreadable, without a channel that the card requires, another number of channels than the card's,
            or channels on different grids.
    """
    required = [card.channels[number].name for number in case.absent if not card.channels[number].optional]
    if required:
        raise DataError(
            "a channel that the card requires is missing",
            where=f"{case.id}: {', '.join(image.name for image in case.images)}",
            value=", ".join(required),
            remedy="bring its file; a channel may only be missing where it was optional in training",
        )
    present = case.present(len(card.channels))
    volumes = [_item(image, card.dimension) if isinstance(image, Row) else read(image) for image in case.images]
    paths = [image for image in case.images if not isinstance(image, Row)]
    wanted = len(present)
    if paths and len(paths) == len(volumes) and len(paths) in (1, wanted):
        each = wanted if len(paths) == 1 else 1
        volumes = [_in_channels(volume, path, each) for volume, path in zip(volumes, paths, strict=True)]
    found = sum(len(volume.array) for volume in volumes)
    if found != wanted:
        names = ", ".join(card.channels[number].name for number in present)
        lacking = "; without an optional channel, name the files of the others CASE_0000.nii.gz and so on"
        colour = wanted == 1 and len(paths) == 1 and found == 3 and _is_picture(paths[0])
        raise DataError(
            "the image is in colour, the card has one grey channel"
            if colour
            else "the image has another number of channels than the card",
            where=f"{case.id}: {', '.join(image.name for image in case.images)}",
            value=f"{found}, expected {wanted} ({names})",
            remedy="save it in grey, or make the card's channels red, green and blue: grey pictures then fit too"
            if colour
            else "mend 'channels' in the card, or give the image with all its channels"
            + (lacking if any(channel.optional for channel in card.channels) else ""),
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
    if case.absent:
        array = np.zeros((len(card.channels), *first.geometry.shape), np.result_type(*[v.array for v in volumes]))
        array[present] = np.concatenate([volume.array for volume in volumes])
        return Volume(array, first.geometry)
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


def _is_picture(path: Path) -> bool:
    return suffix_of(path) in (*PICTURE_SUFFIXES, *TIFF_SUFFIXES)


def _in_channels(volume: Volume, path: Path, wanted: int) -> Volume:
    """A picture with as many channels as wanted, where that loses and invents nothing; else as it is."""
    array = volume.array
    if not _is_picture(path) or len(array) == wanted:
        return volume
    if len(array) == 1 and wanted == 3:
        array = np.repeat(array, 3, axis=0)
    elif len(array) == 3 and wanted == 1 and (array[0] == array[1]).all() and (array[0] == array[2]).all():
        array = array[:1]
    return volume if array is volume.array else Volume(array, volume.geometry, volume.kind, volume.unit)


def read_mask(label: Label) -> Volume:
    """The label map ``(1, i, j, k)``; of several binary masks, the one of the higher number wins where they overlap.

    Raises:
        DataError: a mask cannot be read, holds a value that its recoding does not name, or two lie on different grids.
    """
    if isinstance(label, Recoded):
        if isinstance(label.source, Masks):
            return _merged(label.source, label)
        stored = read_mask(label.source)
        return Volume(recoded(stored.array, label, label.source), stored.geometry, "labels")
    if isinstance(label, Path):
        return read_labels(label)
    if isinstance(label, Row):
        item = read_row(label.path, label.key, label.index)
        array = in_axes(item, item.ndim)
        i, j, k = array.shape[1:]
        return Volume(as_labels(array, label.path), Geometry((i, j, k), AS_PICTURES_LIE), "labels", "labels")
    return _merged(label, None)


def _merged(masks: Masks, values: Recoded | None) -> Volume:
    first: Volume | None = None
    merged = np.zeros(0, np.uint8)
    for number, path in masks.files:
        mask = read_labels(path)
        if first is None:
            first = mask
            merged = np.zeros(mask.array.shape, np.uint8 if max(n for n, _ in masks.files) < 256 else np.uint16)
        elif not _equal(first, mask) and (difference := first.geometry.difference(mask.geometry)) is not None:
            raise DataError(
                "two masks of one case lie on different grids",
                where=path,
                value=f"beside {masks.files[0][1].name}: {difference}",
                remedy="find the masks that were drawn on this image",
            )
        array = mask.array if values is None else recoded(mask.array, values, path)
        np.copyto(merged, merged.dtype.type(number), where=array.astype(bool, copy=False))
    assert first is not None, "a case without any mask has no label"
    return Volume(merged, first.geometry, "labels")


def _equal(one: Volume, other: Volume) -> bool:
    """Whether two grids are equal to the bit: a case may have hundreds of masks, and measuring takes longer."""
    return one.geometry.shape == other.geometry.shape and np.array_equal(one.geometry.affine, other.geometry.affine)


def recoded(stored: np.ndarray, label: Recoded, source: Path | Row) -> np.ndarray:
    """The labels that stored values mean, in the shape of ``stored`` and the smallest type that holds them.

    Of a JPEG a value counts as the nearest one that is named, or 0, if that is at most 32 away.

    Raises:
        DataError: a value that is not named.
    """
    if label.nonzero:
        return (stored > 0).astype(np.uint8)
    meaning = {0: 0, **dict(label.values)}
    highest = int(stored.max(initial=0))
    kind = np.uint8 if max(meaning.values()) < 256 else np.uint16 if max(meaning.values()) < 65_536 else np.uint32
    if highest >= _MOST_VALUES:
        present = np.unique(stored)
        _require_named(present[~np.isin(present, list(meaning))], stored, label, source)
    size = max(highest, *meaning) + 1
    nearest = _nearest(meaning, size, isinstance(source, Path) and source.suffix.lower() in _JPEG)
    table = np.zeros(size, kind)
    named = nearest >= 0
    table[named] = [meaning[int(value)] for value in nearest[named]]
    if not named.all():
        seen = np.bincount(stored.ravel(), minlength=size) > 0
        _require_named(np.flatnonzero(seen & ~named), stored, label, source)
    return table[stored]


def _nearest(meaning: dict[int, int], size: int, blurred: bool) -> np.ndarray:
    """Per stored value the one that is named, or -1."""
    nearest = np.full(size, -1, np.int64)
    if blurred:
        names = np.array(sorted(meaning))
        distance = np.abs(np.arange(size)[:, None] - names)
        best = distance.argmin(1)
        near = distance.min(1) <= _JPEG_BLUR
        nearest[near] = names[best[near]]
    for value in meaning:
        nearest[value] = value
    return nearest


def _require_named(unknown: np.ndarray, stored: np.ndarray, label: Recoded, source: Path | Row) -> None:
    if not len(unknown):
        return
    shown = ", ".join(f"{value} in {int((stored == value).sum())} voxels" for value in unknown[:5].tolist())
    jpeg = isinstance(source, Path) and source.suffix.lower() in _JPEG
    raise DataError(
        "the mask holds values that the card does not name",
        where=source if isinstance(source, Path) else source.name,
        value=shown + (f" and {len(unknown) - 5} values more" if len(unknown) > 5 else ""),
        remedy=f"the card's values are {', '.join(f'{old} -> {new}' for old, new in label.values)}: "
        + ("JPEG blurs masks, save them as PNG" if jpeg else "add these in the card's layout, or mend the mask"),
    )
