"""Two-dimensional pictures: PNG, JPEG and BMP by Pillow, TIFF (also stacks) by tifffile.

A picture is a volume with one slice: the first axis runs along its rows to the right, the second one down, and it lies
in space as ITK reads it (voxels of 1 mm, LPS).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from segue.core.errors import DataError
from segue.images.header import TIFF_SUFFIXES, ImageHeader
from segue.volume import Geometry

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_CHANNELS = {"RGB": 3, "RGBA": 3, "P": 3, "PA": 3, "YCbCr": 3, "CMYK": 3, "LA": 1, "La": 1}


def read_header(path: Path) -> ImageHeader:
    """Size, channels and type of a picture, without decoding it.

    Raises:
        DataError: damaged, or no picture.
    """
    if path.name.lower().endswith(TIFF_SUFFIXES):
        shape, dtype = _tiff(path, header_only=True)
        channels, i, j, k = _arranged(shape, path)
        return ImageHeader(Geometry((i, j, k), _LPS), channels, dtype, False)
    with _opened(path) as picture:
        width, height = picture.size
        dtype = np.dtype({"I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}.get(picture.mode, "u1"))
        return ImageHeader(Geometry((width, height, 1), _LPS), _CHANNELS.get(picture.mode, 1), dtype, False, axes=2)


def read_pixels(path: Path, labels: bool) -> tuple[Num[np.ndarray, "c i j k"], Geometry]:
    """The pixels. Transparency is left out; a palette becomes colours, or (``labels``) stays the numbers it stores.

    Raises:
        DataError: damaged, cut short, too large to be a picture, or of a kind that is not read.
    """
    if path.name.lower().endswith(TIFF_SUFFIXES):
        array = _tiff(path, header_only=False)
        channels, i, j, k = _arranged(array.shape, path)
        # (k, y, x, c) in whatever of these axes the file has, to (c, x, y, k)
        array = array.reshape(k, j, i, channels).transpose(3, 2, 1, 0)
        return np.ascontiguousarray(array), Geometry((i, j, k), _LPS)
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


def _tiff(path: Path, header_only: bool) -> Any:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            if not file.series:
                raise ValueError("it holds no image")
            series = file.series[0]
            if header_only:
                return tuple(series.shape), series.dtype
            return series.asarray()
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, tifffile.TiffFileError) as error:
        raise _damaged(path, error) from error


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
