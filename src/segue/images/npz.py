"""Arrays in ``.npz`` files, read without pickle: headers alone, or one whole array."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import DataError


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
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return found


def _header_2(member: Any) -> Any:
    return np.lib.format.read_array_header_2_0(member)


def read_array(path: Path, key: str) -> np.ndarray:
    """One array of the file.

    Raises:
        DataError: no such array, damaged, or an array of Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            if key not in content.files:
                raise DataError(
                    f"the array {key} is missing", where=path, value=f"there are {', '.join(content.files[:8])}"
                )
            return content[key]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "this is no readable .npz file",
        where=path,
        value=f"{path.stat().st_size} bytes, {error}"[:200] if path.exists() else "there is no such file",
        remedy="fetch this file again",
    )
