"""NIfTI-1 and NIfTI-2 files: nibabel for the header, isal for gzip."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from isal import igzip, igzip_threaded
from jaxtyping import Num

from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.images.header import NIFTI_SUFFIXES, ImageHeader
from segue.images.labels import label_type
from segue.volume import Geometry, Volume

_HEADER_BYTES = 544  # NIfTI-2: 540; NIfTI-1: 348
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_THREADED_BYTES = 8_000_000


def read_header(path: Path) -> ImageHeader:
    """Geometry, channels and type of a file, without reading its voxels.

    Raises:
        DataError: not NIfTI, or its header makes no sense.
    """
    try:
        with _opened(path) as handle:
            start = handle.read(_HEADER_BYTES)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error
    return _described(_parsed(start, path), path)[0]


def read_voxels(path: Path) -> tuple[Num[np.ndarray, "c i j k"], Geometry]:
    """Voxels in the file's own orientation; a fourth or fifth dimension is the channels.

    Values keep their stored type unless the header scales them (then float32).

    Raises:
        DataError: truncated, not NIfTI, complex or colour.
    """
    try:
        if path.name.endswith(".gz"):
            with _opened(path) as handle:
                content = handle.read()
        else:
            content = path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error
    parsed = _parsed(content[:_HEADER_BYTES], path)
    header, shape = _described(parsed, path)
    offset = int(parsed.get_data_offset())
    wanted = int(np.prod(shape)) * header.dtype.itemsize
    if len(content) - offset < wanted:
        raise DataError(
            "the file is cut short",
            where=path,
            value=f"{max(0, len(content) - offset)} of {wanted} bytes of voxels",
            remedy="fetch this file again or leave the case out",
        )
    array = np.frombuffer(content, header.dtype, count=wanted // header.dtype.itemsize, offset=offset)
    array = np.moveaxis(array.reshape(shape, order="F"), -1, 0)
    slope, intercept = parsed.get_slope_inter()
    if header.scaled:
        array = array.astype(np.float32) * np.float32(slope) + np.float32(intercept or 0.0)
    elif not header.dtype.isnative:
        array = array.astype(header.dtype.newbyteorder("="))
    return array, header.geometry


def write(volume: Volume, path: Path | str, *, scale: float | None = None) -> None:
    """Write ``.nii`` or ``.nii.gz``, whole or not at all; several channels become the fourth dimension.

    Labels are stored in the smallest unsigned type that holds them. With ``scale`` intensities are stored as
    int16 in steps of that size (``scl_slope``).

    Raises:
        ValueError: ``scale`` too small for the values, or a name that is not NIfTI's.
        MachineError: the disk is full or may not be written.
    """
    path = Path(path)
    if not path.name.endswith(NIFTI_SUFFIXES):
        raise ValueError(f"{path.name}: only .nii and .nii.gz are written")
    array = volume.array
    if volume.kind == "labels":
        array = array.astype(label_type(array), copy=False)
    elif scale is not None:
        steps = np.rint(array / scale)
        if np.abs(steps).max(initial=0) > np.iinfo(np.int16).max:
            raise ValueError(f"a step of {scale} is too small for values up to {np.abs(array).max()}")
        array = steps.astype(np.int16)
    elif array.dtype == np.float64 or array.dtype == np.float16:
        array = array.astype(np.float32)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8)
    array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    kind = nibabel.Nifti1Header if max(array.shape) <= np.iinfo(np.int16).max else nibabel.Nifti2Header
    header = kind()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_qform(volume.geometry.affine, code=1)
    header.set_sform(volume.geometry.affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0 if scale is None else scale, 0.0)
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    start = header.binaryblock + b"\0\0\0\0"
    with atomic_path(path) as temporary:
        if not path.name.endswith(".gz"):
            with temporary.open("wb") as plain:
                plain.write(start)
                plain.write(array.tobytes(order="F"))
        elif array.nbytes < _THREADED_BYTES:
            temporary.write_bytes(igzip.compress(start + array.tobytes(order="F"), 1, mtime=0))
        else:
            with temporary.open("wb") as raw, igzip_threaded.open(raw, "wb", 1, threads=2) as packed:
                packed.write(start)
                packed.write(array.tobytes(order="F"))


def _opened(path: Path) -> Any:
    return igzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")


def _damaged(path: Path, error: Exception) -> DataError:
    truncated = isinstance(error, EOFError)
    return DataError(
        "the file is cut short" if truncated else "the file cannot be unpacked",
        where=path,
        value=f"{path.stat().st_size} bytes, {error}",
        remedy="fetch this file again or leave the case out",
    )


def _parsed(start: bytes, path: Path) -> Any:
    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        size = 348 if kind is nibabel.Nifti1Header else 540
        magic = (b"n+1\0", 344) if size == 348 else (b"n+2\0", 4)
        if len(start) >= size and start[magic[1] : magic[1] + 4] == magic[0]:
            return kind(start[:size], check=False)
    raise DataError(
        "this is not a NIfTI file",
        where=path,
        value=f"it begins with {start[:8]!r}" if start else "it is empty",
        remedy="fetch this file again or leave the case out",
    )


def _described(parsed: Any, path: Path) -> tuple[ImageHeader, tuple[int, int, int, int]]:
    try:
        dtype = parsed.get_data_dtype()
        dims = tuple(int(size) for size in parsed.get_data_shape())
        factor = _MILLIMETRES.get(parsed.get_xyzt_units()[0], 1.0)
        affine = np.array(parsed.get_best_affine(), dtype=np.float64)
        slope, intercept = parsed.get_slope_inter()
    except Exception as error:
        # nibabel has no common class for what a damaged header makes it raise.
        raise DataError("the header makes no sense", where=path, value=error) from error
    if dtype.names or dtype.kind == "c":
        raise DataError(
            "a colour image" if dtype.names else "a complex image",
            where=path,
            value=f"type {dtype}",
            remedy="take its magnitude or one of its channels, and save that",
        )
    if not 1 <= len(dims) <= 5 or min(dims) < 1 or (len(dims) == 5 and dims[3] > 1):
        raise DataError("an image has two or three axes and channels", where=path, value=f"shape {dims}")
    axes = len(dims)
    if axes == 5:
        dims = (*dims[:3], dims[4])
    i, j, k, c = (*dims, 1, 1, 1)[:4]
    affine[:3] *= factor
    try:
        geometry = Geometry((i, j, k), affine)
    except ValueError as error:
        raise DataError(
            str(error), where=path, remedy="mend the header's affine (sform or qform) or leave the case out"
        ) from error
    scaled = slope is not None and not (slope == 1.0 and (intercept or 0.0) == 0.0)
    return ImageHeader(geometry, c, dtype, scaled, axes), (i, j, k, c)
