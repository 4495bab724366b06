"""Items of arrays in ``.npz`` files as images: read one by one in passing, written as PNG or NIfTI."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from segue.catalogue import Label, Recoded, Row
from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.images import array_headers, read_array, write
from segue.prepare.reading import recoded
from segue.volume import Geometry, Kind, Volume


class _Stream:
    """One array of an ``.npz``, read forwards: memory holds one item, not the array, which may have gigabytes."""

    def __init__(self, path: Path, key: str) -> None:
        header = array_headers(path).get(key)
        if header is None:
            raise DataError(f"the array {key} is missing", where=path, value=f"for {path.name}")
        self._path = path
        self._shape, self._dtype = header.shape[1:], header.dtype
        self._archive = zipfile.ZipFile(path)
        self._member = self._archive.open(f"{key}.npy")
        version = np.lib.format.read_magic(self._member)
        if version == (1, 0):
            _, by_column, _ = np.lib.format.read_array_header_1_0(self._member)
        else:
            _, by_column, _ = np.lib.format.read_array_header_2_0(self._member)
        self._start = self._member.tell()
        # Items of an array in Fortran's order do not lie one after the other: such an array is read whole.
        self._whole = read_array(path, key) if by_column else None

    def item(self, index: int) -> np.ndarray:
        if self._whole is not None:
            return self._whole[index]
        size = prod(self._shape) * self._dtype.itemsize
        try:
            self._member.seek(self._start + index * size)
            content = self._member.read(size)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise DataError("the array cannot be unpacked", where=self._path, value=str(error)[:200]) from error
        if len(content) < size:
            raise DataError("the array is cut short", where=self._path, value=f"item {index}")
        return np.frombuffer(content, self._dtype).reshape(self._shape)


_stream = lru_cache(maxsize=4)(_Stream)


def close_streams() -> None:
    """Close the files that :func:`row_array` keeps open."""
    _stream.cache_clear()


def row_array(row: Row, dimension: int) -> Shaped[np.ndarray, "c ..."]:
    """One item as ``(c, rows, columns)`` or ``(c, i, j, k)``; colours, which lie last in the file, come first.

    Raises:
        DataError: no such array, damaged, or an item with other axes.
    """
    array = _stream(row.path, row.key).item(row.index)
    if array.ndim == dimension:
        return array[None]
    if array.ndim == dimension + 1:
        return np.moveaxis(array, -1, 0)
    raise DataError(
        f"an image of {dimension} axes is expected, with or without channels",
        where=row.path,
        value=f"{row.key} has items of shape {array.shape}",
        remedy="mend 'dimension' in the card",
    )


def row_mask(row: Row, dimension: int) -> np.ndarray:
    """The mask in one item, as ``(rows, columns)`` or ``(i, j, k)``, in whole numbers from 0 up.

    Raises:
        DataError: as :func:`row_array`, or several channels, fractions or negative values.
    """
    array = row_array(row, dimension)
    if len(array) != 1:
        raise DataError("a mask has one channel", where=row.path, value=f"{row.key} has {len(array)}")
    mask = array[0]
    whole = mask.astype(np.int64)
    if (whole != mask).any() or whole.min(initial=0) < 0:
        raise DataError(
            "a mask holds whole numbers from 0 up", where=row.path, value=f"{row.key}: {mask.min()} to {mask.max()}"
        )
    return whole.astype(np.uint8 if whole.max(initial=0) < 256 else np.uint16 if whole.max() < 65536 else np.uint32)


def label_array(label: Label, row: Row, dimension: int) -> np.ndarray:
    """The mask in one item with the numbers of its labels; as :func:`row_mask`.

    Raises:
        DataError: as :func:`row_mask`, or a value that means no label.
    """
    mask = row_mask(row, dimension)
    return recoded(mask, label, row) if isinstance(label, Recoded) else mask


def write_png(array: np.ndarray, path: Path) -> None:
    """Write ``(rows, columns)`` or, for RGB, ``(rows, columns, 3)`` without loss; whole or not at all.

    Raises:
        DataError: values that a PNG cannot hold: fractions, negative ones, more than 16 bits (RGB: 8).
        MachineError: the disk is full or may not be written.
    """
    from PIL import Image

    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if not (array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2)):
        raise DataError(
            "a PNG cannot hold these values", value=f"type {array.dtype}", remedy="export to csv and convert them"
        )
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(array)).save(temporary, format="PNG")


def write_volume(array: Shaped[np.ndarray, "c i j k"], path: Path, kind: Kind = "intensity") -> None:
    """Write an item as NIfTI with voxels of 1 mm: an ``.npz`` says nothing about spacing or orientation."""
    i, j, k = array.shape[1:]
    write(Volume(array, Geometry((i, j, k), np.eye(4)), kind), path)
