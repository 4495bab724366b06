"""An ordinary picture with the outlines of truth and prediction: whole, in its colours, as an image viewer shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Shaped, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segue.catalogue import Channel
from segue.view.colours import colour_bytes, is_colour, to_bytes
from segue.view.picture import (
    DPI,
    GAP,
    GROUND,
    LEAST_WIDTH,
    LEGEND,
    MARGIN,
    TEXT,
    TITLE,
    Panel,
    Scene,
    as_png,
    colour_errors,
    draw_legend,
    draw_outlines,
    legend_handles,
    scene_of,
)
from segue.view.planes import Plane, cut
from segue.volume import Volume

# The shorter side of a picture that is enlarged; its pixels become squares of a whole number of ours.
_ENLARGED_PX = 600
_LEAST_PANEL_PX = 300
_TALLEST_PX = 1200
_LEGEND_CHARACTER_PX, _LEGEND_HANDLE_PX, _LEGEND_ROW_PX = 7.6, 56, 19


@dataclass(frozen=True)
class _Sheet:
    """What one panel shows: grey, or red, green and blue."""

    pixels: UInt8[np.ndarray, "up across *rgb"]
    row: int
    title: str


def is_picture(image: Volume, dimension: int) -> bool:
    """Whether a case of a card of this dimension is an ordinary picture: one slice."""
    return dimension == 2 and 1 in image.geometry.shape


def flat_picture(
    image: Volume,
    channels: Sequence[Channel],
    labels: Mapping[int, str],
    truth: Volume | None,
    prediction: Volume | None,
    *,
    width_px: int = 1200,
) -> bytes:
    """A PNG of one picture, upright and whole; outlines as those of :func:`segue.view.case_picture`.

    Channels named red, green and blue are one panel in colour, as stored (but for a picture of other than 8 bits: up
    to its own maximum); else each channel is a panel, in the window that it has there. A small picture is enlarged
    pixel by pixel (nearest neighbour), a large one made smaller.

    Args:
        image: ``(c, i, j, k)``, one of i, j and k being 1.
        width_px: the picture is at most about this wide.

    Raises:
        DataError: another number of channels than named, or a mask on another grid than the image.
    """
    scene = scene_of(image, channels, labels, truth, prediction)
    plane = scene.planes[0]
    if is_colour(channels):
        # Outlines and legend are those for dark ground, whatever unit the card gives to the colours.
        scene = replace(scene, displays=[replace(display, inverted=False) for display in scene.displays])
    sheets = _sheets(scene, channels, plane)
    step = scene.image.geometry.spacing_mm
    shape = scene.image.geometry.shape
    across, up = shape[plane.across] * step[plane.across], shape[plane.up] * step[plane.up]
    titled = len(sheets) > 1
    least_mm = min(step[plane.across], step[plane.up])
    room = (width_px - 2 * MARGIN - GAP * (len(sheets) - 1)) / len(sheets)
    zoom = _zoom(across / least_mm, up / least_mm, room)
    wide, high = max(1, round(across / least_mm * zoom)), max(1, round(up / least_mm * zoom))
    width = max(LEAST_WIDTH, 2 * MARGIN + len(sheets) * wide + GAP * (len(sheets) - 1))
    handles = legend_handles(scene)
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = max(1, min(len(handles), int(width / (longest * _LEGEND_CHARACTER_PX + _LEGEND_HANDLE_PX))))
    bottom = LEGEND + _LEGEND_ROW_PX * (max(0, -(-len(handles) // columns) - 1))
    height = bottom + high + (TITLE if titled else MARGIN)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=GROUND)
    FigureCanvasAgg(figure)
    for place, sheet in enumerate(sheets):
        panel = Panel(plane, sheet.row, False, (MARGIN + place * (wide + GAP), bottom, wide, high))
        _draw(figure, scene, sheet, panel, (width, height), enlarged=zoom >= 1)
        if titled:
            at = (panel.box[0] / width, (bottom + high + 6) / height)
            figure.text(*at, sheet.title[: max(3, wide // 8)], color=TEXT, fontsize=9.5, parse_math=False)
    draw_legend(figure, handles, columns)
    return as_png(figure)


def _sheets(scene: Scene, channels: Sequence[Channel], plane: Plane) -> list[_Sheet]:
    array, voxel = scene.image.array, scene.focus.voxel
    if is_colour(channels):
        colours = [cut(channel, plane, voxel) for channel in colour_bytes(array)]
        return [_Sheet(np.stack(colours, axis=-1), 0, "")]
    sheets = []
    for row, (display, name) in enumerate(zip(scene.displays, scene.names, strict=True)):
        values: Shaped[np.ndarray, "up across"] = cut(array[row], plane, voxel)
        grey = to_bytes(np.nan_to_num(values.astype(np.float32), nan=display.low), display.low, display.high)
        sheets.append(_Sheet(255 - grey if display.inverted else grey, row, name))
    return sheets


def _zoom(across: float, up: float, room: float) -> float:
    """Pixels of ours per pixel: a whole number where there is more than one."""
    wanted = max(1.0, _ENLARGED_PX // min(across, up), np.ceil(_LEAST_PANEL_PX / across))
    zoom = float(min(wanted, room / across, max(_TALLEST_PX / up, 1e-6)))
    return float(int(zoom)) if zoom >= 1 else zoom


def _draw(figure: Figure, scene: Scene, sheet: _Sheet, panel: Panel, size: tuple[int, int], enlarged: bool) -> None:
    left, bottom, width, height = panel.box
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    plane = panel.plane
    (first, last), (low, high) = scene.whole[plane.across], scene.whole[plane.up]
    axes.imshow(
        sheet.pixels,
        cmap="gray",
        vmin=0,
        vmax=255,
        origin="lower",
        extent=(first, last, low, high),
        interpolation="nearest" if enlarged else "antialiased",
        aspect="auto",
    )
    colour_errors(axes, scene, panel)
    draw_outlines(axes, scene, panel)
    axes.set_xlim(last, first)  # the plane's columns grow to the left: rightwards in the picture as it is stored
    axes.set_ylim(low, high)
    axes.set_axis_off()
