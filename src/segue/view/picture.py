"""One case as a picture: slices with the outlines of truth and prediction."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from PIL import Image

from segue.catalogue import Channel
from segue.core.errors import DataError
from segue.view.planes import CORONAL, PLANES, Focus, Plane, cut, find_focus, project, window_mm
from segue.view.windows import HU_WINDOW, PERCENTILES, SUV_WINDOW
from segue.volume import Volume

MOST_CHANNELS = 4

GROUND = "#14171c"
TEXT = "#d7dae0"
DPI = 100
GAP, TITLE, LEGEND, MARGIN = 8, 24, 34, 10
_TALLEST_PANEL = 430.0
_LEAST_PANEL = 60.0
LEAST_WIDTH = 360
_TITLE_CHARACTER_PX = 7.6
_PERCENTILE_SAMPLE = 500_000
_OTHER_LABEL, _ERROR_ALPHA = "#cc79a7", 0.35
# With more labels than line styles, numbers are written into the outlines instead.
_LINE_STYLES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class _Ink:
    """Colours for one ground; the pairs are Okabe and Ito's orange and blue (Color Universal Design, 2008)."""

    truth: str
    prediction: str
    text: str
    halo: str


_ON_DARK = _Ink("#e69f00", "#56b4e9", "#ffffff", "#000000")
_ON_LIGHT = _Ink("#d55e00", "#0072b2", "#000000", "#ffffff")


@dataclass(frozen=True)
class Display:
    """The window of one channel: which values are black and white, and in words."""

    low: float
    high: float
    inverted: bool
    words: str

    @property
    def ink(self) -> _Ink:
        return _ON_LIGHT if self.inverted else _ON_DARK


@dataclass(frozen=True)
class Panel:
    """One slice or projection of one channel; ``box`` is left, bottom, width and height in the figure, in pixels."""

    plane: Plane
    row: int
    projected: bool
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """Everything drawn, in RAS order."""

    image: Volume
    displays: list[Display]
    names: list[str]
    labels: dict[int, str]
    truth: Shaped[np.ndarray, "i j k"] | None
    prediction: Shaped[np.ndarray, "i j k"] | None
    focus: Focus

    @property
    def window(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        return window_mm(self.focus, self.image.geometry.shape, self.image.geometry.spacing_mm)

    @property
    def whole(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        sizes = zip(self.image.geometry.shape, self.image.geometry.spacing_mm, strict=True)
        i, j, k = ((-0.5 * step, (count - 0.5) * step) for count, step in sizes)
        return i, j, k

    @property
    def planes(self) -> list[Plane]:
        """Those with more than a line of voxels: one for a 2-D image, three else."""
        shape = self.image.geometry.shape
        return [p for p in PLANES if shape[p.across] > 1 and shape[p.up] > 1] or [PLANES[0]]


def case_picture(
    image: Volume,
    channels: Sequence[Channel],
    labels: Mapping[int, str],
    truth: Volume | None,
    prediction: Volume | None,
    *,
    width_px: int = 1200,
) -> bytes:
    """A PNG of one case: a row per channel; axial, coronal and sagittal slices with true proportions.

    The slices go through the middle of the largest component of the truth, of the prediction where there is no
    truth, of the image where there is neither. Truth is outlined in orange (wide line), prediction in blue
    (thin line); labels differ by line style, or by their number where there are more than four. HU are
    shown from -160 to 240, SUV from 0 to 10 with dark for high and with a coronal maximum-intensity projection,
    other channels from their 1st to their 99th percentile. Radiological convention; at most four channels.

    Args:
        image: ``(c, i, j, k)`` in any orientation.
        channels: name and unit of each of the image's channels.
        labels: number to name of what is outlined; other numbers in the masks (an ignore label) are not.
        truth, prediction: masks on the image's grid, or None.
        width_px: width of the picture; a picture of few panels is narrower.

    Raises:
        DataError: another number of channels than named, or a mask on another grid than the image.
    """
    scene = scene_of(image, channels, labels, truth, prediction)
    width, height, panels = _layout(scene, width_px)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=GROUND)
    FigureCanvasAgg(figure)
    for panel in panels:
        _draw(figure, scene, panel, (width, height))
    handles = legend_handles(scene)
    draw_legend(figure, handles, max(1, len(handles)))
    return as_png(figure)


def scene_of(
    image: Volume,
    channels: Sequence[Channel],
    labels: Mapping[int, str],
    truth: Volume | None,
    prediction: Volume | None,
) -> Scene:
    """Image and masks in RAS order, and how they are shown; the arguments are those of :func:`case_picture`."""
    if len(channels) != len(image.array):
        raise DataError(
            "the image has another number of channels than named", value=f"{len(image.array)}, not {len(channels)}"
        )
    masks: list[np.ndarray | None] = []
    for name, mask in (("truth", truth), ("prediction", prediction)):
        difference = image.geometry.difference(mask.geometry) if mask is not None else None
        if difference:
            raise DataError(f"image and {name} lie on different grids", value=difference)
        masks.append(mask.oriented("RAS").array[0] if mask is not None else None)
    canonical = image.oriented("RAS")
    wanted = list(labels)
    outlined = [np.isin(mask, wanted) if mask is not None else None for mask in masks]
    focus = find_focus(
        outlined[0],
        outlined[1],
        canonical.geometry.shape,
        canonical.geometry.spacing_mm,
    )
    shown = list(zip(channels, canonical.array, strict=True))[:MOST_CHANNELS]
    displays = [display_of(channel, values) for channel, values in shown]
    names = [channel.name for channel, _ in shown]
    return Scene(canonical, displays, names, dict(labels), masks[0], masks[1], focus)


def display_of(channel: Channel, values: Shaped[np.ndarray, "i j k"]) -> Display:
    """By the unit: a fixed window of HU or SUV, else the channel's own percentiles."""
    if channel.unit == "HU":
        return Display(*HU_WINDOW, False, f"{HU_WINDOW[0]:.0f} to {HU_WINDOW[1]:.0f} HU".replace("-", "−"))
    if channel.unit == "SUV":
        return Display(*SUV_WINDOW, True, f"SUV {SUV_WINDOW[0]:.0f} to {SUV_WINDOW[1]:.0f}")
    sample = values.reshape(-1)[:: max(1, values.size // _PERCENTILE_SAMPLE)]
    finite = sample[np.isfinite(sample)]
    low, high = np.percentile(finite, PERCENTILES) if finite.size else (0.0, 1.0)
    if low >= high and finite.size:  # little more than a background: what stands out of it must show
        low, high = finite.min(), finite.max()
    if low >= high:
        low, high = low - 0.5, low + 0.5
    return Display(float(low), float(high), False, f"{low:.4g} to {high:.4g}".replace("-", "−"))


def _layout(scene: Scene, width_px: int) -> tuple[int, int, list[Panel]]:
    """Width, height and panels: all slices in one scale; a projection as tall as all rows stands on the right."""

    def size_mm(plane: Plane, window: Sequence[tuple[float, float]]) -> tuple[float, float]:
        across, up = (window[axis][1] - window[axis][0] for axis in (plane.across, plane.up))
        return across, up

    planes, rows = scene.planes, len(scene.displays)
    sizes = [size_mm(plane, scene.window) for plane in planes]
    suv = next((row for row, display in enumerate(scene.displays) if display.inverted), None)
    projected = suv is not None and len(planes) == 3
    across, up = size_mm(CORONAL, scene.whole)
    slim = float(np.clip(across / up, 0.25, 1.6)) if projected else 0.0
    between = (rows - 1) * (TITLE + GAP)
    free = width_px - 2 * MARGIN - GAP * (len(planes) - 1 + projected) - slim * between
    highest = max(up for _, up in sizes)
    scale = min(_TALLEST_PANEL / highest, free / (sum(across for across, _ in sizes) + slim * rows * highest))
    row_height = max(_LEAST_PANEL, scale * highest)
    total = rows * row_height + between
    panels = []
    x = float(MARGIN)
    for plane, (across, up) in zip(planes, sizes, strict=True):
        width, height = max(_LEAST_PANEL, scale * across), max(_LEAST_PANEL, scale * up)
        for row in range(rows):
            top = LEGEND + total - row * (row_height + TITLE + GAP)
            panels.append(Panel(plane, row, False, (x, top - height, width, height)))
        x += width + GAP
    if projected and suv is not None:
        panels.append(Panel(CORONAL, suv, True, (x, float(LEGEND), slim * total, total)))
        x += slim * total + GAP
    return max(LEAST_WIDTH, round(x - GAP + MARGIN)), round(LEGEND + total + TITLE + MARGIN / 2), panels


def _draw(figure: Figure, scene: Scene, panel: Panel, size: tuple[int, int]) -> None:
    display, plane = scene.displays[panel.row], panel.plane
    left, bottom, width, height = panel.box
    axes = figure.add_axes((left / size[0], bottom / size[1], width / size[0], height / size[1]))
    step = scene.image.geometry.spacing_mm
    values = scene.image.array[panel.row]
    section = project(values, plane) if panel.projected else cut(values, plane, scene.focus.voxel)
    rows, columns = section.shape
    extent = (-0.5 * step[plane.across], (columns - 0.5) * step[plane.across],
              -0.5 * step[plane.up], (rows - 0.5) * step[plane.up])  # fmt: skip
    axes.set_facecolor("white" if display.inverted else "black")
    axes.imshow(
        np.nan_to_num(section.astype(np.float32), nan=display.low),
        cmap="gray_r" if display.inverted else "gray",
        vmin=display.low,
        vmax=display.high,
        origin="lower",
        extent=extent,
        interpolation="hanning",
    )
    colour_errors(axes, scene, panel)
    draw_outlines(axes, scene, panel)
    window = scene.whole if panel.projected else scene.window
    axes.set_xlim(window[plane.across][1], window[plane.across][0])  # the patient's right (or front) on the left
    axes.set_ylim(*window[plane.up])
    axes.set_aspect("equal", adjustable="box", anchor="C")
    axes.set_axis_off()
    _marks(axes, scene, panel)
    place = (left / size[0], (bottom + height + 6) / size[1])
    figure.text(*place, _title(scene, panel), color=TEXT, fontsize=9.5, parse_math=False)


def _title(scene: Scene, panel: Panel) -> str:
    """The plane, before it the channel on the first panel of a row, with its window where there is room."""
    if panel.projected:
        return "coronal maximum"
    if panel.plane is not scene.planes[0]:
        return panel.plane.name
    name, room = scene.names[panel.row], int(panel.box[2] / _TITLE_CHARACTER_PX)
    long = f"{name}, {scene.displays[panel.row].words}: {panel.plane.name}"
    if len(long) <= room:
        return long
    left = max(3, room - len(panel.plane.name) - 2)
    return f"{name if len(name) <= left else name[: left - 1] + '…'}: {panel.plane.name}"


def colour_errors(axes: Axes, scene: Scene, panel: Panel) -> None:
    """On a slice: what was missed in the truth's colour, what was invented in the prediction's, and what got another
    label in purple."""
    if panel.projected or scene.truth is None or scene.prediction is None:
        return
    ink, plane = scene.displays[panel.row].ink, panel.plane
    wanted = list(scene.labels)
    truth, prediction = (
        np.where(np.isin(mask, wanted), mask, 0)
        for mask in (cut(m, plane, scene.focus.voxel) for m in (scene.truth, scene.prediction))
    )
    wrong = np.zeros((*truth.shape, 4))
    for where, colour in (
        ((truth > 0) & (prediction == 0), ink.truth),
        ((truth == 0) & (prediction > 0), ink.prediction),
        ((truth > 0) & (prediction > 0) & (truth != prediction), _OTHER_LABEL),
    ):
        wrong[where] = to_rgba(colour, _ERROR_ALPHA)
    if wrong.any():
        step, (rows, columns) = scene.image.geometry.spacing_mm, truth.shape
        extent = (-0.5 * step[plane.across], (columns - 0.5) * step[plane.across],
                  -0.5 * step[plane.up], (rows - 0.5) * step[plane.up])  # fmt: skip
        axes.imshow(wrong, origin="lower", extent=extent, interpolation="nearest", aspect="auto")


def draw_outlines(axes: Axes, scene: Scene, panel: Panel) -> None:
    """Truth and prediction on one panel, in mm from the centre of the first voxel."""
    ink, step, plane = scene.displays[panel.row].ink, scene.image.geometry.spacing_mm, panel.plane
    numbered = len(scene.labels) > len(_LINE_STYLES)
    # Truth below and wider: where the two agree both stay visible.
    for mask, colour, width in ((scene.truth, ink.truth, 3.5), (scene.prediction, ink.prediction, 1.3)):
        if mask is None:
            continue
        sliced = cut(mask, plane, scene.focus.voxel)
        present = set(np.unique(mask if panel.projected else sliced).tolist())
        for place, number in enumerate(scene.labels):
            if number not in present:
                continue
            section = project(mask == number, plane) if panel.projected else sliced == number
            # A border of background closes the outlines of what touches the edge of the image.
            padded = np.pad(section, 1).astype(np.float32)
            up, across = (np.arange(-1, count + 1) for count in section.shape)
            drawn = axes.contour(
                across * step[plane.across],
                up * step[plane.up],
                padded,
                levels=[0.5],
                colors=[colour],
                linewidths=width,
                linestyles=["solid" if numbered else _LINE_STYLES[place]],
            )
            if mask is scene.truth:
                drawn.set_path_effects([withStroke(linewidth=width + 1.2, foreground=ink.halo, alpha=0.45)])
            if numbered and mask is scene.truth:
                rows, columns = np.nonzero(section)
                middle = (columns.mean() * step[plane.across], rows.mean() * step[plane.up])
                style: dict[str, Any] = {"fontsize": 8, "ha": "center", "va": "center", "clip_on": True}
                axes.text(*middle, str(number), color=ink.text, path_effects=_halo(ink), **style)


def _marks(axes: Axes, scene: Scene, panel: Panel) -> None:
    """Sides of the patient and a bar of known length."""
    ink, plane = scene.displays[panel.row].ink, panel.plane
    style: dict[str, Any] = {"color": ink.text, "fontsize": 10, "weight": "bold", "va": "center"}
    if len(scene.planes) == 3:  # a 2-D image has no patient axes that one could trust
        axes.text(0.015, 0.5, plane.left, ha="left", transform=axes.transAxes, path_effects=_halo(ink), **style)
        axes.text(0.985, 0.5, plane.right, ha="right", transform=axes.transAxes, path_effects=_halo(ink), **style)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    shown = [scene.whole[0]] if panel.projected else [scene.window[plane.across] for plane in scene.planes]
    length = _round_length(min(end - start for start, end in shown) / 4)
    x, y = right + 0.04 * (left - right), low + 0.05 * (high - low)
    line = axes.plot([x, x + length], [y, y], color=ink.text, linewidth=2, solid_capstyle="butt")[0]
    line.set_path_effects([withStroke(linewidth=3.5, foreground=ink.halo, alpha=0.6)])
    words = f"{length / 10:g} cm" if length >= 10 else f"{length:g} mm"
    axes.text(x + length / 2, y + 0.015 * (high - low), words, color=ink.text, fontsize=8, ha="center",
              va="bottom", path_effects=_halo(ink))  # fmt: skip


def _round_length(most_mm: float) -> float:
    scale = 10.0 ** np.floor(np.log10(most_mm))
    return float(scale * next(n for n in (5.0, 2.0, 1.0) if n * scale <= most_mm * (1 + 1e-9)))


def _halo(ink: _Ink) -> list[Any]:
    return [withStroke(linewidth=2.2, foreground=ink.halo, alpha=0.7)]


def legend_handles(scene: Scene) -> list[Line2D]:
    """What the outlines mean: truth and prediction, and the labels where there are several."""
    handles = []
    ink = scene.displays[0].ink if all(display.inverted for display in scene.displays) else _ON_DARK
    pairs = (("truth", scene.truth, ink.truth, 3.0), ("prediction", scene.prediction, ink.prediction, 1.8))
    for name, mask, colour, width in pairs:
        if mask is not None:
            empty = not np.isin(mask, list(scene.labels)).any()
            handles.append(Line2D([], [], color=colour, linewidth=width, label=f"{name} (empty)" if empty else name))
    numbered = len(scene.labels) > len(_LINE_STYLES)
    if 1 < len(scene.labels) <= len(_LINE_STYLES):
        handles += [
            Line2D([], [], color=TEXT, linewidth=1.6, linestyle=_LINE_STYLES[place], label=f"{number} {name}"[:40])
            for place, (number, name) in enumerate(scene.labels.items())
        ]
    elif numbered:
        handles.append(Line2D([], [], color="none", label="the number is the label's"))
    return handles


def draw_legend(figure: Figure, handles: Sequence[Line2D], columns: int) -> None:
    """The legend at the lower left of a figure."""
    if not handles:
        return
    legend = figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0.004, 0.0), ncols=columns, frameon=False,
        fontsize=9.5, labelcolor=TEXT, handlelength=2.4, columnspacing=1.6, borderaxespad=0.3,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def as_png(figure: Figure) -> bytes:
    """256 colours are enough for greys and a few lines, and a third of the bytes."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    full = Image.fromarray(np.ascontiguousarray(pixels))
    indexed = full.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    target = io.BytesIO()
    indexed.save(target, "PNG", optimize=True)
    return target.getvalue()
