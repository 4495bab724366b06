"""Two-dimensional pictures: PNG, JPEG and BMP by Pillow, TIFF (also stacks) by tifffile.

A picture is a volume with one slice: the first axis runs along its rows to the right, the second one down, and it lies
in space as ITK reads it (voxels of 1 mm, LPS). Of a TIFF the voxel size is read where ImageJ or :func:`write` put it,
with its unit; dots per inch tell a printer, not where the patient is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from segue.core.errors import DataError, MachineError
from segue.core.files import atomic_path
from segue.images.header import TIFF_SUFFIXES, ImageHeader
from segue.volume import Geometry, Volume

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TO_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "micron": 1e-3, "um": 1e-3, "µm": 1e-3, "\\u00b5m": 1e-3, "nm": 1e-6}
_SPACING_KEY = "spacing_mm"  # x, y, z, in the description that tifffile writes
# No codec of TIFF makes more of a byte than this (LZMA of zeros).
_MOST_UNPACKED = 8000
_SMALL_BYTES = 1_000_000
_CHANNELS = {"RGB": 3, "RGBA": 3, "P": 3, "PA": 3, "YCbCr": 3, "CMYK": 3, "LA": 1, "La": 1}


def read_header(path: Path) -> ImageHeader:
    """Size, channels and type of a picture, without decoding it.

    Raises:
        DataError: damaged, or no picture.
    """
    if path.name.lower().endswith(TIFF_SUFFIXES):
        shape, dtype, spacing = _tiff(path, header_only=True)
        channels, i, j, k = _arranged(shape, path)
        return ImageHeader(_grid((i, j, k), spacing, path), channels, dtype, False)
    with _opened(path) as picture:
        width, height = picture.size
        dtype = np.dtype({"I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}.get(picture.mode, "u1"))
        return ImageHeader(Geometry((width, height, 1), _LPS), _CHANNELS.get(picture.mode, 1), dtype, False, axes=2)


def read_pixels(path: Path, labels: bool) -> tuple[Num[np.ndarray, "c i j k"], Geometry]:
    """The pixels. Transparency is left out; a palette becomes colours, or (``labels``) stays the numbers it stores.

    Raises:
        DataError: damaged, cut short, too large to be a picture, or of a kind that is not read.
        MachineError: a TIFF that is packed in a way that needs an extra, which is not installed.
    """
    if path.name.lower().endswith(TIFF_SUFFIXES):
        array, _, spacing = _tiff(path, header_only=False)
        channels, i, j, k = _arranged(array.shape, path)
        # (k, y, x, c) in whatever of these axes the file has, to (c, x, y, k)
        array = array.reshape(k, j, i, channels).transpose(3, 2, 1, 0)
        return np.ascontiguousarray(array), _grid((i, j, k), spacing, path)
    with _opened(path) as picture:
        try:
            pixels = np.asarray(_plain(picture, labels))
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise _damaged(path, error) from error
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    array = pixels[:, :, None] if pixels.ndim == 2 else pixels
    array = array.transpose(2, 1, 0)[..., None]
    return np.ascontiguousarray(array), Geometry((array.shape[1], array.shape[2], 1), _LPS)


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:
        raise DataError("this picture is absurdly large", where=path, value=error, remedy="cut it up first") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise _damaged(path, error) from error


def _plain(picture: Any, labels: bool) -> Any:
    if picture.mode in ("P", "PA"):
        return picture if labels and picture.mode == "P" else picture.convert("RGB")
    if picture.mode in ("LA", "La"):
        return picture.convert("L")
    return picture.convert("RGB") if picture.mode in ("RGBA", "RGBa", "CMYK", "YCbCr", "RGBX") else picture


def write(volume: Volume, path: Path) -> None:
    """Write one slice as PNG, or a stack as TIFF with its voxel size.

    Raises:
        DataError: more than the format can hold: slices, channels, types, or a grid that is turned or moved.
        MachineError: the disk is full or may not be written.
    """
    array, geometry = volume.array, volume.geometry
    tiff = path.name.lower().endswith(TIFF_SUFFIXES)
    spacing = geometry.spacing_mm if tiff else (1.0, 1.0, 1.0)
    allowed = ("u1", "u2", "u4", "i1", "i2", "i4", "f4") if tiff else ("u1", "u2") if len(array) == 1 else ("u1",)
    wrong = None
    if len(array) not in (1, 3):
        wrong = f"{len(array)} channels; 1 or 3 can be stored"
    elif array.shape[3] > 1 and not tiff:
        wrong = f"{array.shape[3]} slices; one can be stored"
    elif array.dtype not in [np.dtype(kind) for kind in allowed]:
        wrong = f"type {array.dtype}; stored are {', '.join(str(np.dtype(kind)) for kind in allowed)}"
    else:
        wrong = geometry.difference(_grid(geometry.shape, spacing, path))
    if wrong:
        raise DataError("this format cannot hold the volume", where=path, value=wrong, remedy="write NIfTI (.nii.gz)")
    pixels = array.transpose(3, 2, 1, 0)  # (k, y, x, c)
    pixels = np.ascontiguousarray(pixels[..., 0] if len(array) == 1 else pixels)
    with atomic_path(path) as temporary:
        if tiff:
            import tifffile

            colours = len(array) == 3
            tifffile.imwrite(
                temporary,
                pixels,
                photometric="rgb" if colours else "minisblack",
                planarconfig="contig" if colours else None,
                compression="zlib",
                metadata={"axes": "ZYXS" if colours else "ZYX", _SPACING_KEY: list(spacing)},
            )
        else:
            from PIL import Image

            Image.fromarray(pixels[0]).save(temporary, "PNG")


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], path: Path) -> Geometry:
    try:
        return Geometry(shape, _LPS @ np.diag([*spacing, 1.0]))
    except ValueError as error:
        raise _damaged(path, error) from error


def _tiff(path: Path, header_only: bool) -> tuple[Any, Any, tuple[float, float, float]]:
    """Shape or pixels, type, and voxel size."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if not file.series:
                raise ValueError("it holds no image")
            series = file.series[0]
            if series.dtype is None or series.dtype.kind not in "iufb":
                raise DataError(
                    "an image that is not of numbers", where=path, value=series.dtype, remedy="save it as such"
                )
            _require_possible(series, path)
            spacing = _tiff_spacing(file)
            return (tuple(series.shape) if header_only else series.asarray()), series.dtype, spacing
    except DataError:
        raise
    except Exception as error:
        if "imagecodecs" in str(error):
            raise MachineError(
                "this TIFF is packed in a way that needs imagecodecs, which is not installed",
                where=path,
                value=str(error).strip("'\""),
                remedy='pip install "segue[tiff]"',
            ) from error
        # tifffile and its codecs have no common class for what a damaged file makes them raise.
        raise _damaged(path, error) from error


def _require_possible(series: Any, path: Path) -> None:
    """Raise ValueError where the pages name more than the file can unpack to, before anything is allocated."""
    wanted = int(np.prod([int(size) for size in series.shape], dtype=object)) * series.dtype.itemsize
    stored = path.stat().st_size
    most = stored if series.pages[0] is not None and series.pages[0].compression == 1 else stored * _MOST_UNPACKED
    if wanted > most + _SMALL_BYTES:
        raise ValueError(f"it names {wanted} bytes of pixels")


def _tiff_spacing(file: Any) -> tuple[float, float, float]:
    """Millimetres along x, y, z; 1 where the file does not say them with a unit."""
    shaped = file.shaped_metadata[0] if file.shaped_metadata else {}
    stored = shaped.get(_SPACING_KEY)
    if isinstance(stored, list | tuple) and len(stored) == 3:
        return float(stored[0]), float(stored[1]), float(stored[2])
    imagej = file.imagej_metadata or {}
    unit = _TO_MILLIMETRES.get(str(imagej.get("unit", "")).lower())
    if unit is None:
        return 1.0, 1.0, 1.0
    tags = file.pages[0].tags
    across = [tags[name].value if name in tags else (1, 1) for name in ("XResolution", "YResolution")]
    x, y = (float(below) / float(above) * unit if above else 1.0 for above, below in across)
    return x, y, float(imagej.get("spacing", 1.0)) * unit


def _arranged(shape: tuple[int, ...], path: Path) -> tuple[int, int, int, int]:
    """``(c, i, j, k)`` from TIFF's axes: ``(y, x)``, ``(y, x, 3 or 4)``, ``(z, y, x)`` or ``(z, y, x, 3 or 4)``."""
    if len(shape) == 2:
        return 1, shape[1], shape[0], 1
    if len(shape) == 3 and shape[2] in (3, 4):
        return shape[2], shape[1], shape[0], 1
    if len(shape) == 3:
        return 1, shape[2], shape[1], shape[0]
    if len(shape) == 4 and shape[3] in (3, 4):
        return shape[3], shape[2], shape[1], shape[0]
    raise DataError(
        "this TIFF has axes that are not understood",
        where=path,
        value=f"shape {shape}",
        remedy="save it as (y, x), (y, x, colours) or (z, y, x)",
    )


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "the picture cannot be read",
        where=path,
        value=f"{path.stat().st_size} bytes, {error}"[:200],
        remedy="fetch this file again or leave the case out",
    )
