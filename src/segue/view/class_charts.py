"""Charts of a classification: ROC curves, and how far its probabilities can be taken at their word."""

from __future__ import annotations

import io
from collections.abc import Sequence

from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy import ndarray

from segue.metrics import Reliability, roc_points
from segue.view.curves import COLOURS, STYLES, THEMES
from segue.view.words import dice

_DPI = 110
_NAMED = 15
_MOST_LETTERS = 30


def roc_chart(
    names: Sequence[str],
    truth: Bool[ndarray, "n k"],
    scores: Float[ndarray, "n k"],
    aucs: Sequence[float | None],
    theme: str = "light",
) -> bytes | None:
    """A PNG with the ROC curve of each class against the rest; ``theme`` is ``light`` or ``dark``.

    A class that every case has, or none, has no curve; None where no class has one.
    """
    curves = [(place, roc_points(truth[:, place], scores[:, place])) for place in range(len(names))]
    drawn = [(place, points) for place, points in curves if points is not None]
    if not drawn:
        return None
    ground, ink, grid = THEMES[theme]
    colours = COLOURS[theme]
    figure = _figure((7.6, 4.6), ground)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=ink, linewidth=0.9, linestyle=(0, (2, 2)), alpha=0.7)
    for order, (place, points) in enumerate(drawn):
        axes.plot(
            *points,
            color=colours[order % len(colours)],
            linestyle=STYLES[order // len(colours) % len(STYLES)],
            linewidth=1.6,
            # a leading underscore would keep a name out of the legend
            label=f" {_short(names[place])} {dice(aucs[place])}" if order < _NAMED else None,
        )
    _square(axes, ink, grid, ground)
    axes.set_xlabel("false alarms among the images without the class (1 − specificity)", fontsize=9, color=ink)
    axes.set_ylabel("found among those with it (sensitivity)", fontsize=9, color=ink)
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=8.5, labelcolor=ink, frameon=False, borderaxespad=0.0,
        title=" class, AUC" if len(drawn) <= _NAMED else f" class, AUC; first {_NAMED} of {len(drawn)}",
    )  # fmt: skip
    legend.set_alignment("left")
    legend.get_title().set_color(ink)
    legend.get_title().set_fontsize(8.5)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _png(figure, ground)


def reliability_chart(found: Reliability, lowest: float, theme: str = "light") -> bytes | None:
    """A PNG: above, how often answers of a confidence are right; below, how many answers have it.

    ``lowest`` is the least confidence that an answer can have (1 over the number of classes). None without answers.
    """
    if not found.answers.sum():
        return None
    ground, ink, grid = THEMES[theme]
    colour = COLOURS[theme][0]
    figure = _figure((4.5, 4.6), ground)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    above.plot([0, 1], [0, 1], color=ink, linewidth=0.9, linestyle=(0, (2, 2)), alpha=0.7)
    above.text(0.985, 0.02, "below the line: too sure of itself", transform=above.transAxes, ha="right", va="bottom",
               fontsize=8, color=ink)  # fmt: skip
    above.text(0.015, 0.98, "above the line: too cautious", transform=above.transAxes, ha="left", va="top",
               fontsize=8, color=ink)  # fmt: skip
    above.vlines(found.confidence, found.confidence, found.accuracy, color=COLOURS[theme][1], linewidth=2.2)
    above.plot(found.confidence, found.accuracy, color=colour, marker="o", markersize=4.5, linewidth=1.5)
    above.set_ylabel("share of right answers", fontsize=9, color=ink)
    below.bar(found.confidence, found.answers, width=0.028, color=colour)
    below.set_ylabel("answers", fontsize=9, color=ink)
    below.set_xlabel("confidence: the probability of the answer", fontsize=9, color=ink)
    for axes in (above, below):
        _dress(axes, ink, grid, ground)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    above.set_xlim(min(max(0.0, lowest - 0.03), float(found.confidence.min()) - 0.03), 1.02)
    above.set_ylim(-0.03, 1.03)
    above.yaxis.set_major_formatter(PercentFormatter(1.0))
    return _png(figure, ground)


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else name[: _MOST_LETTERS - 1] + "…"


def _figure(size: tuple[float, float], ground: str) -> Figure:
    figure = Figure(figsize=size, dpi=_DPI, facecolor=ground, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _square(axes: Axes, ink: str, grid: str, ground: str) -> None:
    _dress(axes, ink, grid, ground)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal", anchor="W")


def _dress(axes: Axes, ink: str, grid: str, ground: str) -> None:
    axes.set_facecolor(ground)
    axes.tick_params(colors=ink, labelsize=8.5, length=0)
    axes.grid(color=grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(grid)


def _png(figure: Figure, ground: str) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", facecolor=ground)
    return target.getvalue()
