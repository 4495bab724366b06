"""Large images unpacked once where one command looks at them and then prepares them.

To inflate an image takes several times as long as to write what comes out and to read it again: between two steps of a
command it rarely reaches the disk.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from isal import isal_zlib
from numpy.lib.format import read_array

from segue.catalogue import Card, Case
from segue.core.errors import MachineError
from segue.core.files import atomic_path, content_key, storage_fault
from segue.prepare.reading import read_channels
from segue.volume import Geometry, Volume

_LEAST_BYTES = 4_000_000
_MOST_BYTES = 2_000_000_000


@contextlib.contextmanager
def unpacked_once(cache: Path) -> Iterator[None]:
    """While this lasts, images that are examined with this cache are kept unpacked until they are prepared.

    At most 2 GB and a quarter of the free disk, named by content; the rest is unpacked twice. What a killed command
    leaves is used or removed by the next.

    Raises:
        MachineError: the disk is full, or the folder may not be written.
    """
    folder = _folder(cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_fault(error, folder) from error
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_to_examine(case: Case, card: Card, digest: str, cache: Path | None) -> Volume:
    """:func:`read_channels`, and inside :func:`unpacked_once` kept for :func:`read_to_prepare`."""
    image = read_channels(case, card)
    if cache is not None and _is_worth_it(image, case, _folder(cache)):
        # Without it, preparing takes longer: no more.
        with contextlib.suppress(OSError, MachineError), atomic_path(_file(cache, card, digest), lasting=False) as path:
            _save(path, image)
    return image


def read_to_prepare(case: Case, card: Card, digest: str, cache: Path) -> Volume:
    """:func:`read_channels`, or what was kept of it, which then is removed."""
    path = _file(cache, card, digest)
    # Another command may remove it at any time, and a power cut tears it (a ValueError).
    with contextlib.suppress(OSError, ValueError):
        try:
            return _load(path)
        finally:
            path.unlink(missing_ok=True)
    return read_channels(case, card)


def _folder(cache: Path) -> Path:
    return cache / "unpacked"


def _file(cache: Path, card: Card, digest: str) -> Path:
    return _folder(cache) / content_key(digest, card.dimension, len(card.channels))


def _is_worth_it(image: Volume, case: Case, folder: Path) -> bool:
    size = image.array.nbytes
    try:
        if size < _LEAST_BYTES or size <= sum(path.stat().st_size for path in case.image_files):
            return False
        kept = sum(path.stat().st_size for path in folder.iterdir())  # no folder: nobody prepares next
        return size + kept <= min(_MOST_BYTES, shutil.disk_usage(folder).free // 4)
    except OSError:
        return False


def _save(path: Path, image: Volume) -> None:
    # As the voxels of a channel mostly lie in memory: the first index runs fastest.
    voxels = np.ascontiguousarray(image.array.transpose(0, 3, 2, 1))
    with path.open("wb") as handle:
        for part in (image.geometry.affine, np.array(_checksum(voxels)), voxels):
            np.save(handle, part, allow_pickle=False)


def _load(path: Path) -> Volume:
    with path.open("rb") as handle:
        affine, checksum, voxels = (read_array(handle, allow_pickle=False) for _ in range(3))
    if _checksum(voxels) != int(checksum):
        raise ValueError("torn by a power cut")
    array = voxels.transpose(0, 3, 2, 1)
    i, j, k = array.shape[1:]
    return Volume(array, Geometry((i, j, k), affine))


def _checksum(voxels: np.ndarray) -> int:
    return isal_zlib.crc32(voxels.reshape(-1).view(np.uint8).data)
