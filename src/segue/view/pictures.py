"""Pictures of cases and curves, as PNG bytes.

Orientation is the radiologist's: the patient's right is on the left of the picture, front is up in axial and left in
sagittal planes, head is up. Pixels have their physical aspect.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from segue.catalogue import Channel
from segue.volume import Volume

# Okabe and Ito's palette: told apart by colour-blind people.
TRUTH_COLOUR, PREDICTION_COLOUR = "#E69F00", "#56B4E9"
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
HU_WINDOW = (-160.0, 240.0)
SUV_WINDOW = (0.0, 10.0)
_PANEL_INCHES = 2.6


@dataclass(frozen=True)
class Plane:
    """One of the three planes of a volume in RAS order: the axis it cuts, those it shows, the letters at its sides."""

    name: str
    cut: int
    across: int
    up: int
    sides: tuple[str, str]


AXIAL = Plane("axial", 2, 0, 1, ("R", "L"))
CORONAL = Plane("coronal", 1, 0, 2, ("R", "L"))
SAGITTAL = Plane("sagittal", 0, 1, 2, ("A", "P"))
PLANES = (AXIAL, CORONAL, SAGITTAL)


def case_picture(
    image: Volume,
    truth: Integer[np.ndarray, "i j k"] | None,
    prediction: Integer[np.ndarray, "i j k"] | None,
    channels: Sequence[Channel],
) -> bytes:
    """Three planes per channel with truth and prediction as outlines; for SUV also a coronal maximum projection.

    All arrays are on the grid of ``image``, which may have any orientation. The planes pass where the truth (or,
    where there is none, the prediction) is largest.
    """
    canonical = image.oriented("RAS")
    masks = [_canonical(mask, image) for mask in (truth, prediction)]
    spacing = canonical.geometry.spacing_mm
    centre = _where_to_cut(masks, canonical.geometry.shape)
    has_suv = any(channel.unit == "SUV" for channel in channels)
    columns = 3 + has_suv
    figure = Figure(figsize=(_PANEL_INCHES * columns, _PANEL_INCHES * len(channels) + 0.35), facecolor="black")
    for row, channel in enumerate(channels):
        values = canonical.array[row].astype(np.float32)
        low, high, colours = _window(values, channel)
        for column, plane in enumerate(PLANES):
            axes = figure.add_subplot(len(channels), columns, row * columns + column + 1)
            index = centre[plane.cut]
            _show(axes, np.take(values, index, plane.cut), plane, spacing, low, high, colours)
            _outline(axes, [None if m is None else np.take(m, index, plane.cut) for m in masks], plane, spacing)
            axes.set_title(f"{channel.name} {plane.name} {index}", color="white", fontsize=8)
        if channel.unit == "SUV":
            axes = figure.add_subplot(len(channels), columns, row * columns + 4)
            _show(axes, values.max(CORONAL.cut), CORONAL, spacing, low, high, colours)
            _outline(axes, [None if m is None else m.max(CORONAL.cut) for m in masks], CORONAL, spacing)
            axes.set_title(f"{channel.name} maximum", color="white", fontsize=8)
    figure.legend(
        handles=[
            Line2D([], [], color=TRUTH_COLOUR, label="truth"),
            Line2D([], [], color=PREDICTION_COLOUR, linestyle="--", label="prediction"),
        ],
        loc="lower center",
        ncols=2,
        frameon=False,
        labelcolor="white",
        fontsize=8,
    )
    figure.subplots_adjust(0.01, 0.12 / len(channels), 0.99, 1 - 0.1 / len(channels), 0.03, 0.12)
    return _png(figure, 100)


def curves_picture(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    limits: tuple[float, float] | None = None,
) -> bytes:
    """Lines over minutes of training: name -> (minutes, values)."""
    figure = Figure(figsize=(5.6, 3.0))
    axes = figure.add_subplot()
    for (name, (minutes, values)), colour in zip(series.items(), _cycle(len(series)), strict=True):
        axes.plot(minutes, values, color=colour, label=name, marker="o" if len(minutes) < 30 else None, markersize=3)
    axes.set_xlabel("minutes of training")
    axes.set_ylabel(label)
    if limits:
        axes.set_ylim(*limits)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    return _png(figure, 110)


def _cycle(number: int) -> list[str]:
    return [LINE_COLOURS[n % len(LINE_COLOURS)] for n in range(number)]


def _canonical(mask: np.ndarray | None, image: Volume) -> np.ndarray | None:
    if mask is None:
        return None
    return Volume(mask[None], image.geometry, "labels").oriented("RAS").array[0]


def _where_to_cut(masks: Sequence[np.ndarray | None], shape: tuple[int, int, int]) -> list[int]:
    for mask in masks:
        if mask is not None and mask.any():
            inside = mask > 0
            return [int(inside.sum(axis=tuple(a for a in range(3) if a != axis)).argmax()) for axis in range(3)]
    return [size // 2 for size in shape]


def _window(values: np.ndarray, channel: Channel) -> tuple[float, float, str]:
    if channel.unit == "HU":
        return *HU_WINDOW, "gray"
    if channel.unit == "SUV":
        return *SUV_WINDOW, "gray_r"  # uptake is dark, as nuclear medicine reads it
    low, high = np.percentile(values[np.isfinite(values)], [1, 99]) if np.isfinite(values).any() else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6)), "gray"


def _show(
    axes: Any,
    pixels: np.ndarray,
    plane: Plane,
    spacing: Sequence[float],
    low: float,
    high: float,
    colours: str,
) -> None:
    width, height = pixels.shape[0] * spacing[plane.across], pixels.shape[1] * spacing[plane.up]
    axes.imshow(pixels.T, origin="lower", cmap=colours, vmin=low, vmax=high, extent=(0, width, 0, height))
    # Indices grow to the patient's right and front: drawn from right to left, as the radiologist stands.
    axes.set_xlim(width, 0)
    axes.set_ylim(0, height)
    axes.set_xticks([])
    axes.set_yticks([])
    for x, letter, side in ((0.02, plane.sides[0], "left"), (0.98, plane.sides[1], "right")):
        axes.text(x, 0.5, letter, transform=axes.transAxes, color="#00c853", fontsize=8, ha=side, va="center")


def _outline(axes: Any, masks: Sequence[np.ndarray | None], plane: Plane, spacing: Sequence[float]) -> None:
    for mask, colour, style in zip(masks, (TRUTH_COLOUR, PREDICTION_COLOUR), ("solid", "dashed"), strict=True):
        if mask is None:
            continue
        # A border of background closes the outline of what touches the edge.
        padded = np.pad(mask, 1)
        across = (np.arange(padded.shape[0]) - 0.5) * spacing[plane.across]
        up = (np.arange(padded.shape[1]) - 0.5) * spacing[plane.up]
        for label in np.unique(mask[mask > 0]):
            axes.contour(
                across,
                up,
                (padded == label).T.astype(float),
                [0.5],
                colors=[colour],
                linewidths=1.1,
                linestyles=style,
            )


def _png(figure: Figure, dpi: int) -> bytes:
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return out.getvalue()
