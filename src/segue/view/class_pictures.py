"""Pictures of the images that were answered wrongly: small ones enlarged pixel by pixel, volumes cut in the middle."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from segue.catalogue import Channel
from segue.view.colours import colour_bytes, is_colour, to_bytes
from segue.view.picture import display_of
from segue.view.planes import PLANES, Plane, cut
from segue.volume import Volume

_GAP_PX = 4
_GROUND = (20, 23, 28)


def class_picture(image: Volume, channels: Sequence[Channel], size_px: int = 168) -> bytes:
    """A PNG of one image, about ``size_px`` high: of a volume the middle axial, coronal and sagittal slices.

    Pixels of a small image are enlarged as they are (nearest neighbour), in their true proportions. Channels named
    red, green and blue are shown in colour; else the first channel is, in the window of its unit (HU, SUV) or from its
    1st to its 99th percentile. Radiological convention, as in :func:`segue.view.case_picture`.

    Args:
        image: ``(c, i, j, k)`` in any orientation.
    """
    canonical = image.oriented("RAS")
    shape, step = canonical.geometry.shape, canonical.geometry.spacing_mm
    values = colour_bytes(canonical.array) if is_colour(channels) else _grey(canonical.array[0], channels[0])
    planes = [plane for plane in PLANES if shape[plane.across] > 1 and shape[plane.up] > 1] or [PLANES[0]]
    extents = [(shape[plane.across] * step[plane.across], shape[plane.up] * step[plane.up]) for plane in planes]
    scale = size_px / max(max(extent) for extent in extents)
    tiles = [
        _tile(values, plane, shape, (max(1, round(scale * across)), max(1, round(scale * up))))
        for plane, (across, up) in zip(planes, extents, strict=True)
    ]
    width = sum(tile.width for tile in tiles) + _GAP_PX * (len(tiles) - 1)
    canvas = Image.new(tiles[0].mode, (width, max(tile.height for tile in tiles)), _GROUND[: len(tiles[0].getbands())]
                       if tiles[0].mode == "RGB" else _GROUND[0])  # fmt: skip
    left = 0
    for tile in tiles:
        canvas.paste(tile, (left, (canvas.height - tile.height) // 2))
        left += tile.width + _GAP_PX
    target = io.BytesIO()
    canvas.save(target, "PNG", optimize=True)
    return target.getvalue()


def _tile(
    values: UInt8[np.ndarray, "c i j k"], plane: Plane, shape: tuple[int, int, int], size: tuple[int, int]
) -> Image.Image:
    i, j, k = (count // 2 for count in shape)
    # Upwards and to the left are where a plane's indices grow; a picture's rows and columns grow the other way.
    section = np.stack([cut(channel, plane, (i, j, k))[::-1, ::-1] for channel in values], axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(section if len(values) == 3 else section[..., 0]))
    enlarged = size[0] >= picture.width and size[1] >= picture.height
    return picture.resize(size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def _grey(channel: np.ndarray, named: Channel) -> UInt8[np.ndarray, "1 i j k"]:
    display = display_of(named, channel)
    grey = to_bytes(np.nan_to_num(channel.astype(np.float32), nan=display.low), display.low, display.high)[None]
    return 255 - grey if display.inverted else grey
