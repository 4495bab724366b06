"""Items of the arrays in an ``.npz``: one by one, or a whole array memory-mapped. Nothing is decoded at once that
would not fit into memory; nothing is unpickled."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from segue.core.errors import DataError
from segue.core.files import atomic_path, content_key, known_digest
from segue.images.npz import FAULTS, array_headers, damaged, read_array, require_there

# An array up to this size is decoded once and kept while its items are read; of a larger one the items are decoded
# as they come, forwards.
_KEPT_BYTES = 256_000_000


def read_row(path: Path, key: str, index: int) -> np.ndarray:
    """Item ``index`` along the first axis of array ``key``. Reading in ascending order is what is cheap.

    Raises:
        DataError: no such array or item, damaged, or an array of Python objects.
    """
    stamp = _stamp(path)
    shape, item_bytes = _shape(path, key, stamp)
    if not 0 <= index < shape[0]:
        raise DataError("the array has no such item", where=f"{path}:{key}[{index}]", value=f"{shape[0]} items")
    if item_bytes * shape[0] <= _KEPT_BYTES:
        return _whole(path, key, stamp)[index]
    return _forwards(path, key, stamp).item(index)


def map_array(path: Path, key: str, folder: Path) -> np.ndarray:
    """The whole array, memory-mapped from ``folder``, where it is unpacked (as a stream) the first time.

    Raises:
        DataError: no such array, damaged, or an array of Python objects.
        MachineError: the disk is full or may not be written.
    """
    target = folder / content_key(digest_of(path), key) / f"{key}.npy"
    if not target.exists():
        _shape(path, key, _stamp(path))
        with atomic_path(target) as temporary:
            try:
                with (
                    zipfile.ZipFile(path) as archive,
                    archive.open(f"{key}.npy") as member,
                    temporary.open("wb") as handle,
                ):
                    shutil.copyfileobj(member, handle, 1 << 20)
            except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
                raise damaged(path, error) from error
    try:
        return np.load(target, mmap_mode="r", allow_pickle=False)
    except FAULTS as error:
        raise damaged(target, error) from error


def digest_of(path: Path) -> str:
    """SHA-256 of the file; read again only when its size or time changed.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        return known_digest(path)
    except OSError as error:
        raise damaged(path, error) from error


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise damaged(path, error) from error
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=32)
def _shape(path: Path, key: str, stamp: tuple[int, int]) -> tuple[tuple[int, ...], int]:
    headers = array_headers(path)
    if key not in headers:
        raise DataError(f"the array {key} is missing", where=path, value=f"there are {', '.join(list(headers)[:8])}")
    try:
        require_there(path, key)
    except FAULTS as error:
        raise damaged(path, error) from error
    header = headers[key]
    if not header.shape:
        raise DataError("this array is a single number", where=f"{path}:{key}")
    return header.shape, int(np.prod(header.shape[1:], dtype=np.int64)) * header.dtype.itemsize


@lru_cache(maxsize=3)
def _whole(path: Path, key: str, stamp: tuple[int, int]) -> np.ndarray:
    return read_array(path, key)


@lru_cache(maxsize=2)
def _forwards(path: Path, key: str, stamp: tuple[int, int]) -> _Forwards:
    return _Forwards(path, key)


class _Forwards:
    """Decodes items in order; going back begins anew."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._member: IO[bytes] | None = None
        self._archive: zipfile.ZipFile | None = None
        self._next = 0
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] = np.dtype("u1")

    def item(self, index: int) -> np.ndarray:
        try:
            if self._member is None or index < self._next:
                self._begin()
            assert self._member is not None, "opened above"
            size = int(np.prod(self._shape[1:], dtype=np.int64)) * self._dtype.itemsize
            while self._next < index:
                self._read(size)
            return np.frombuffer(self._read(size), self._dtype).reshape(self._shape[1:])
        except FAULTS as error:
            raise damaged(self.path, error) from error

    def _read(self, size: int) -> bytes:
        assert self._member is not None, "opened by item"
        content = self._member.read(size)
        if len(content) != size:
            raise EOFError(f"the array {self.key} ends at item {self._next}")
        self._next += 1
        return content

    def _begin(self) -> None:
        if self._archive is not None:
            self._archive.close()
        self._archive = zipfile.ZipFile(self.path)
        self._member = self._archive.open(f"{self.key}.npy")
        version = np.lib.format.read_magic(self._member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self._shape, fortran, self._dtype = read(self._member)
        if fortran:
            raise ValueError(f"the array {self.key} is stored by columns")
        self._next = 0
