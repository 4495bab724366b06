"""Arrays in ``.npz`` files, read without pickle: headers alone, or one whole array."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.volume import Geometry, Volume

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# NotImplementedError and RuntimeError are zipfile's, for methods that it does not know and passwords; numpy reads
# headers as Python's literals, with what its tokenizer raises.
FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
)


@dataclass(frozen=True)
class ArrayHeader:
    """What an array of an ``.npz`` is, before its values are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def array_headers(path: Path) -> dict[str, ArrayHeader]:
    """Shape and type of every array, in the file's order; only their first bytes are unpacked.

    Raises:
        DataError: not an ``.npz``, cut short, or an array of Python objects (which would be code).
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith(".npy"):
                    continue
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else _header_2
                    shape, _, dtype = read(member)
                if dtype.hasobject:
                    raise DataError(
                        f"the array {name.removesuffix('.npy')} holds Python objects, which are never read from data",
                        where=path,
                        remedy="get the file from its official source",
                    )
                found[name.removesuffix(".npy")] = ArrayHeader(tuple(shape), dtype)
    except FAULTS as error:
        raise damaged(path, error) from error
    return found


def _header_2(member: Any) -> Any:
    return np.lib.format.read_array_header_2_0(member)


def read_array(path: Path, key: str) -> np.ndarray:
    """One array of the file.

    Raises:
        DataError: no such array, damaged, or an array of Python objects.
    """
    try:
        require_there(path, key)
        with np.load(path, allow_pickle=False) as content:
            if key not in content.files:
                raise DataError(
                    f"the array {key} is missing", where=path, value=f"there are {', '.join(content.files[:8])}"
                )
            return content[key]
    except FAULTS as error:
        raise damaged(path, error) from error


def read_volume(path: Path) -> Volume:
    """The image in a file that :func:`write_volume` wrote, or that holds one array.

    A lone array is ``(rows, columns)``, ``(rows, columns, 3)`` in colour, or ``(i, j, k)``, its voxels 1 mm.

    Raises:
        DataError: as :func:`read_array`, or several arrays, or one that is no image.
    """
    headers = array_headers(path)
    if set(headers) == {"array", "affine"}:
        array, affine = read_array(path, "array"), read_array(path, "affine")
    elif len(headers) == 1:
        array, affine = read_array(path, next(iter(headers))), _LPS
        colours = array.ndim == 3 and array.shape[2] == 3
        if array.ndim == 2 or colours:
            array = (array if colours else array[:, :, None]).transpose(2, 1, 0)[..., None]
        elif array.ndim == 3:
            array = array[None]
    else:
        value = f"{len(headers)} arrays: {', '.join(list(headers)[:6])}" if headers else "no array"
        raise DataError("one array is read as an image", where=path, value=value, remedy="take it out of the file")
    if array.ndim != 4 or array.dtype.kind not in "iufb":
        value = f"{array.dtype}, shape {array.shape}"
        raise DataError("the array is no image", where=path, value=value, remedy="save two or three axes of numbers")
    try:
        i, j, k = array.shape[1:]
        return Volume(array.view(np.uint8) if array.dtype.kind == "b" else array, Geometry((i, j, k), affine))
    except ValueError as error:
        raise DataError(str(error), where=path, remedy="mend the array 'affine', (4, 4)") from error


def write_volume(volume: Volume, path: Path) -> None:
    """Write ``array`` ``(c, i, j, k)`` and ``affine`` ``(4, 4)``, voxel index to RAS millimetres."""
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, array=volume.array, affine=volume.geometry.affine)


def require_there(path: Path, key: str) -> None:
    """Raise ValueError where the array's header asks for more than the file can unpack to."""
    header = array_headers(path).get(key)
    if header is not None:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{key}.npy")
        wanted, most = (
            math.prod(header.shape) * header.dtype.itemsize,
            min(member.file_size, path.stat().st_size * 1040),
        )
        if wanted > most:
            raise ValueError(f"the array {key} of {wanted} bytes cannot be in {most}")


def damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "this is no readable .npz file",
        where=path,
        value=f"{path.stat().st_size} bytes, {error}"[:200] if path.exists() else "there is no such file",
        remedy="fetch this file again",
    )
