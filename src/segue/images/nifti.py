"""NIfTI-1 and NIfTI-2 files: nibabel for the header, isal for gzip."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip, igzip_lib, igzip_threaded
from jaxtyping import Num

from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.images.header import NIFTI_SUFFIXES, PAIR_SUFFIXES, ImageHeader
from segue.images.labels import label_type
from segue.volume import Geometry, Volume

_FAULTS: Any = (EOFError, OSError, zlib.error, igzip_lib.IsalError)  # isal's stubs call its error an instance
_HEADER_BYTES = 544  # NIfTI-2: 540; NIfTI-1: 348
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_THREADED_BYTES = 8_000_000
_BLOCK_BYTES = 4_000_000
_MOST_UNPACKED = 1040  # bytes that deflate can make of one (RFC 1951: 258 of two bits), with some to spare


def read_header(path: Path) -> ImageHeader:
    """Geometry, channels and type of a file, without reading its voxels.

    Raises:
        DataError: not NIfTI, or its header makes no sense.
    """
    return _described(read_parsed_header(path), _pair(path)[0])[0]


def read_parsed_header(path: Path) -> Any:
    """nibabel's header object of a file.

    Raises:
        DataError: not NIfTI, or its header makes no sense.
    """
    path, _ = _pair(path)
    try:
        with _opened(path) as handle:
            start = handle.read(_HEADER_BYTES)
    except _FAULTS as error:
        raise _damaged(path, error) from error
    return _parsed(start, path)


def read_voxels(path: Path) -> tuple[Num[np.ndarray, "c i j k"], Geometry]:
    """Voxels in the file's own orientation; a fourth or fifth dimension is the channels.

    Values keep their stored type unless the header scales them (then float32).

    Raises:
        DataError: truncated, not NIfTI, complex or colour.
    """
    path, voxels = _pair(path)
    try:
        with _opened(path) as handle:
            start = handle.read(_HEADER_BYTES)
            parsed = _parsed(start, path)
            header, shape = _described(parsed, path)
            offset = _offset(parsed, path)
            if voxels == path:
                array = _voxels(handle, start, offset, shape, header.dtype, path)
        if voxels != path:
            with _opened(voxels) as handle:
                array = _voxels(handle, b"", offset, shape, header.dtype, voxels)
    except _FAULTS as error:
        raise _damaged(path, error) from error
    array = np.moveaxis(array.reshape(shape, order="F"), -1, 0)
    slope, intercept = parsed.get_slope_inter()
    if header.scaled:
        array = array.astype(np.float32)
        array *= np.float32(slope)
        array += np.float32(intercept or 0.0)
    elif not header.dtype.isnative:
        array = array.byteswap(inplace=True).view(header.dtype.newbyteorder("="))
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
    header = _header_type(348 if max(array.shape) <= np.iinfo(np.int16).max else 540, in_two=False)()
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_qform(volume.geometry.affine, code=1)
    header.set_sform(volume.geometry.affine, code=1)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0 if scale is None else scale, 0.0)
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    start = header.binaryblock + b"\0\0\0\0"
    # Nothing is copied where the voxels already lie as the file wants them, as those of DICOM and NIfTI do.
    voxels = np.ascontiguousarray(array.T).reshape(-1).view(np.uint8).data
    with atomic_path(path) as temporary:
        if not _is_packed(path):
            with temporary.open("wb") as plain:
                plain.write(start)
                plain.write(voxels)
        elif array.nbytes < _THREADED_BYTES:
            temporary.write_bytes(igzip.compress(start + voxels, 1, mtime=0))
        else:
            with temporary.open("wb") as raw, igzip_threaded.open(raw, "wb", 1, threads=2) as packed:
                packed.write(start)
                packed.write(voxels)


def _pair(path: Path) -> tuple[Path, Path]:
    """The file of the header and that of the voxels: two for ``.hdr`` and ``.img``."""
    if path.suffix.lower() not in PAIR_SUFFIXES:
        return path, path
    upper = path.suffix.isupper()
    both = [path.with_suffix(suffix.upper() if upper else suffix) for suffix in PAIR_SUFFIXES]
    for one in both:
        if not one.is_file():
            raise DataError(
                "an image in two files, and one is missing",
                where=path,
                value=f"there is no {one.name}",
                remedy="put .hdr and .img side by side",
            )
    return both[0], both[1]


def _offset(parsed: Any, path: Path) -> int:
    offset = float(parsed["vox_offset"])
    if not math.isfinite(offset) or offset < 0:
        raise _senseless(path, f"voxels begin at byte {offset}")
    return int(parsed.get_data_offset())


def _senseless(path: Path, value: object) -> DataError:
    return DataError(
        "the header makes no sense", where=path, value=value, remedy="fetch this file again or leave the case out"
    )


def _voxels(
    handle: Any, start: bytes, offset: int, shape: tuple[int, int, int, int], dtype: np.dtype[Any], path: Path
) -> np.ndarray:
    """The values behind a header whose first bytes were read, straight into their array."""
    wanted = math.prod(shape) * dtype.itemsize
    stored = path.stat().st_size
    # Nothing is allocated for what the file cannot hold.
    most = stored * _MOST_UNPACKED if _is_packed(path) else stored
    if offset < 0 or offset + wanted > most:
        raise _short(path, max(0, most - offset), wanted, "at most " if _is_packed(path) else "")
    array = np.empty(math.prod(shape), dtype)
    content = array.view(np.uint8).data
    begun = start[offset:]
    content[: len(begun)] = begun[:wanted]
    done = min(len(begun), wanted)
    for _ in range(0, offset - len(start), _BLOCK_BYTES):
        handle.read(min(_BLOCK_BYTES, offset - len(start)))
    while done < wanted:
        read = handle.readinto(content[done : done + _BLOCK_BYTES])
        if not read:
            raise _short(path, done, wanted)
        done += read
    return array


def _short(path: Path, there: int, wanted: int, bound: str = "") -> DataError:
    return DataError(
        "the file is cut short",
        where=path,
        value=f"{bound}{there} of {wanted} bytes of voxels",
        remedy="fetch this file again or leave the case out",
    )


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _opened(path: Path) -> Any:
    return igzip.open(path, "rb") if _is_packed(path) else path.open("rb")


def _damaged(path: Path, error: Exception) -> DataError:
    truncated = isinstance(error, EOFError)
    return DataError(
        "the file is cut short" if truncated else "the file cannot be unpacked",
        where=path,
        value=f"{path.stat().st_size} bytes, {error}",
        remedy="fetch this file again or leave the case out",
    )


def _header_type(size: int, in_two: bool) -> Any:
    """nibabel's class for headers of so many bytes, of one file or of two."""
    from nibabel import nifti1, nifti2  # takes 0.15 s to import; many commands need no image

    if size == 348:
        return nifti1.Nifti1PairHeader if in_two else nifti1.Nifti1Header
    return nifti2.Nifti2PairHeader if in_two else nifti2.Nifti2Header


def _parsed(start: bytes, path: Path) -> Any:
    in_two = path.suffix.lower() in PAIR_SUFFIXES
    for size, at, magic in ((348, 344, b"ni1\0" if in_two else b"n+1\0"), (540, 4, b"ni2\0" if in_two else b"n+2\0")):
        if len(start) >= size and start[at : at + 4] == magic:
            try:
                return _header_type(size, in_two)(start[:size], check=False)
            except Exception as error:
                # nibabel has no common class for what a damaged header makes it raise.
                raise _senseless(path, error) from error
    if in_two and 348 in (int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")):
        raise DataError(
            "an ANALYZE 7.5 image, which does not say where left and right are",
            where=path,
            remedy="convert it to NIfTI with the program that wrote it",
        )
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
        raise _senseless(path, error) from error
    if dtype.names or dtype.kind == "c":
        raise DataError(
            "a colour image" if dtype.names else "a complex image",
            where=path,
            value=f"type {dtype}",
            remedy="save its red, green and blue as channels" if dtype.names else "save its magnitude, or its parts",
        )
    if not 1 <= len(dims) <= 5 or min(dims) < 1 or (len(dims) == 5 and dims[3] > 1):
        raise DataError(
            "an image has two or three axes and channels",
            where=path,
            value=f"shape {dims}",
            remedy="save its parts as images of their own",
        )
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
