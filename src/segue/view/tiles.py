"""Small pictures made of tiles: slices with outlines, and with what is wrong between them coloured."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

# The pair of Okabe and Ito that :mod:`segue.view.picture` outlines truth and prediction with, on dark and light ground.
TRUTH, PREDICTION = ((230, 159, 0), (213, 94, 0)), ((86, 180, 233), (0, 114, 178))
GROUND = (20, 23, 28)
GAP_PX = 4
_FILL = 0.42
_DISAGREE = (204, 121, 167)


@dataclass(frozen=True)
class Tile:
    """One slice, drawn upright: the first row is at the top, the first column at the left.

    Attributes:
        pixels: grey, or red, green and blue.
        size: columns and rows of the picture that it is drawn into.
        truth, prediction: label numbers on the slice's own grid, 0 for nothing.
        light: high values are dark, so the ground is light.
        marks: what stands at the left and right edge, such as R and L.
        title: in the upper left corner.
    """

    pixels: UInt8[np.ndarray, "rows columns *rgb"]
    size: tuple[int, int]
    truth: Integer[np.ndarray, "rows columns"] | None = None
    prediction: Integer[np.ndarray, "rows columns"] | None = None
    light: bool = False
    marks: tuple[str, str] = ("", "")
    title: str = ""


def draw_tile(tile: Tile) -> Image.Image:
    """Outlines of each label (truth wider), in between them the false positives in the prediction's colour, the false
    negatives in the truth's, and where both have a label but not the same one in purple."""
    picture = Image.fromarray(np.ascontiguousarray(tile.pixels)).convert("RGB")
    enlarged = tile.size[0] >= 3 * picture.width
    picture = picture.resize(tile.size, Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR)
    canvas = np.asarray(picture).astype(np.float32)
    place = int(tile.light)
    truth, prediction = (_enlarged(mask, tile.size) for mask in (tile.truth, tile.prediction))
    if truth is not None and prediction is not None:
        _fill(canvas, (truth > 0) & (prediction == 0), TRUTH[place])
        _fill(canvas, (truth == 0) & (prediction > 0), PREDICTION[place])
        _fill(canvas, (truth > 0) & (prediction > 0) & (truth != prediction), _DISAGREE)
    if truth is not None:
        canvas[_borders(truth, wide=True)] = TRUTH[place]
    if prediction is not None:
        canvas[_borders(prediction, wide=False)] = PREDICTION[place]
    result = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    _write(result, tile)
    return result


def _enlarged(mask: np.ndarray | None, size: tuple[int, int]) -> Integer[np.ndarray, "rows columns"] | None:
    """Labels on the picture's grid, with smooth edges: the label that has most of a pixel's neighbourhood."""
    if mask is None:
        return None
    numbers = np.unique(mask)
    if len(numbers) > 8 or size[0] < mask.shape[1]:  # many labels, or made smaller: smooth edges would not show
        rows = (np.arange(size[1]) * mask.shape[0]) // size[1]
        columns = (np.arange(size[0]) * mask.shape[1]) // size[0]
        return mask[np.ix_(rows, columns)]
    shares = [
        np.asarray(Image.fromarray((mask == number).astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        for number in numbers
    ]
    return numbers[np.argmax(shares, axis=0)]


def _borders(labels: Integer[np.ndarray, "rows columns"], wide: bool) -> Bool[np.ndarray, "rows columns"]:
    """The pixels of each label that touch another; wide ones reach one pixel outwards too."""
    padded = np.pad(labels, 1)
    lowest, highest = ndimage.minimum_filter(padded, 3), ndimage.maximum_filter(padded, 3)
    edge = (lowest != highest)[1:-1, 1:-1]
    return edge if wide else edge & (labels > 0)


def _fill(canvas: np.ndarray, where: np.ndarray, colour: tuple[int, int, int]) -> None:
    canvas[where] = (1 - _FILL) * canvas[where] + _FILL * np.array(colour, np.float32)


def _write(picture: Image.Image, tile: Tile) -> None:
    ink, halo = ("black", "white") if tile.light else ("white", "black")
    draw, font = ImageDraw.Draw(picture), _font(max(9, min(13, picture.height // 10)))
    middle = picture.height / 2
    style: dict[str, Any] = {"fill": ink, "stroke_fill": halo, "stroke_width": 1, "font": font}
    for text, x, anchor in ((tile.marks[0], 2, "lm"), (tile.marks[1], picture.width - 2, "rm")):
        if text:
            draw.text((x, middle), text, anchor=anchor, **style)
    if tile.title:
        draw.text((3, 2), tile.title, anchor="la", **style)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def side_by_side(tiles: Sequence[Image.Image]) -> Image.Image:
    """The tiles in a row, centred on a dark ground."""
    width = sum(tile.width for tile in tiles) + GAP_PX * (len(tiles) - 1)
    canvas = Image.new("RGB", (width, max(tile.height for tile in tiles)), GROUND)
    left = 0
    for tile in tiles:
        canvas.paste(tile, (left, (canvas.height - tile.height) // 2))
        left += tile.width + GAP_PX
    return canvas


def as_webp(picture: Image.Image, most_bytes: int) -> bytes:
    """The picture as a WebP of at most so many bytes, as good as that allows; where nothing fits, the least good."""
    found = b""
    for quality in (72, 58, 42, 25, 10):
        target = io.BytesIO()
        picture.save(target, "WEBP", quality=quality, method=4)
        found = target.getvalue()
        if len(found) <= most_bytes:
            break
    return found


def webp_uri(webp: bytes) -> str:
    """The picture as an address that a page can hold."""
    return "data:image/webp;base64," + base64.b64encode(webp).decode("ascii")


def webp_size(webp: bytes) -> tuple[int, int]:
    """Columns and rows, so that a page keeps the room for a picture before it is decoded."""
    return Image.open(io.BytesIO(webp)).size
