"""Learning curves: loss, and the scores on the validation cases, over the minutes of the training."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours (Color Universal Design, 2008); yellow is too pale on white, blue too dim on black.
COLOURS = {
    "light": ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"),
    "dark": ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00"),
}
STYLES = ("solid", "dashed", "dotted")
THEMES = {"light": ("#ffffff", "#33383f", "#d9dce1"), "dark": ("#1b1f26", "#c9ced6", "#3a404a")}
_NAMED_LABELS = 12
_DPI = 110


def learning_curves(events: Sequence[dict[str, Any]], theme: str = "light") -> bytes:
    """A PNG of the events of a run (:func:`segue.train.read_events`); ``theme`` is ``light`` or ``dark``.

    Left the loss, right the Dice of each label and their mean, or of a classification its scores; a ring marks the
    state that was kept, a thin vertical line a resumption. One of the two stays away where it has no event yet.

    Raises:
        ValueError: neither loss nor validation among the events.
    """
    steps = [(_minutes(e), _number(e.get("loss"))) for e in events if e.get("event") == "step"]
    looks = [e for e in events if e.get("event") == "validated"]
    if not steps and not looks:
        raise ValueError("no step and no validation among the events")
    ground, ink, grid = THEMES[theme]
    panels = bool(steps) + bool(looks)
    figure = Figure(figsize=(10.4 if panels == 2 else 6.2, 3.5), dpi=_DPI, facecolor=ground, layout="constrained")
    FigureCanvasAgg(figure)
    places = iter(figure.subplots(1, panels, squeeze=False)[0])
    if steps:
        axes = next(places)
        minutes, losses = zip(*steps, strict=True)
        axes.plot(minutes, losses, color=COLOURS[theme][0], linewidth=1.5)
        _dress(axes, "Loss", ink, grid, ground)
    if looks:
        axes = next(places)
        _scores(axes, looks, ink, COLOURS[theme])
        title = "Dice on the validation patients" if _of_masks(looks) else "Scores on the validation images"
        _dress(axes, title, ink, grid, ground)
        colours: dict[str, Any] = {"labelcolor": ink, "facecolor": ground, "edgecolor": grid}
        legend = axes.legend(loc="lower right", fontsize=8.5, framealpha=0.85, **colours)
        for text in legend.get_texts():
            text.set_parse_math(False)
    for axes in figure.axes:
        for event in events:
            if event.get("event") == "resumed":
                axes.axvline(_minutes(event), color=ink, linewidth=0.8, linestyle=(0, (2, 2)), alpha=0.6)
    target = io.BytesIO()
    figure.savefig(target, format="png", facecolor=ground)
    return target.getvalue()


def _of_masks(looks: Sequence[dict[str, Any]]) -> bool:
    return not any("scores" in look for look in looks)


def _scores(axes: Axes, looks: Sequence[dict[str, Any]], ink: str, colours: Sequence[str]) -> None:
    minutes = [_minutes(look) for look in looks]
    masks = _of_masks(looks)
    each = [look.get("dice" if masks else "scores") or {} for look in looks]
    deciding = "mean" if masks else str(looks[-1].get("metric", "score"))
    names = [name for name in dict.fromkeys(name for scores in each for name in scores) if masks or name != deciding]
    alone = masks and len(names) == 1
    for place, name in enumerate([] if alone else names):
        axes.plot(
            minutes,
            [_number(scores.get(name)) for scores in each],
            color=colours[place % len(colours)],
            linestyle=STYLES[place // len(colours) % len(STYLES)],
            linewidth=1.3,
            marker="o",
            markersize=2.5,
            # a leading underscore would keep a name out of the legend
            label=f" {_title(name)}"[:32] if place < _NAMED_LABELS else None,
        )
    mean = [_number(look.get("mean_dice" if masks else "score")) for look in looks]
    name = f" {names[0]}"[:32] if alone else _title(deciding)
    axes.plot(minutes, mean, color=ink, linewidth=2, marker="o", markersize=3, label=name)
    kept = [place for place, look in enumerate(looks) if look.get("best")]
    if kept:
        axes.plot(
            minutes[kept[-1]], mean[kept[-1]], "o", markersize=10, markerfacecolor="none", markeredgecolor=ink,
            markeredgewidth=1.3, linestyle="none", label="kept",
        )  # fmt: skip


def _title(name: str) -> str:
    return "AUC" if name == "auc" else name.replace("_", " ")


def _dress(axes: Axes, title: str, ink: str, grid: str, ground: str) -> None:
    axes.set_facecolor(ground)
    axes.set_title(title, loc="left", fontsize=10.5, color=ink)
    axes.set_xlabel("minutes of training", fontsize=9, color=ink)
    axes.set_xlim(left=0)
    axes.tick_params(colors=ink, labelsize=8.5, length=0)
    axes.grid(color=grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name == "bottom")
        spine.set_color(grid)


def _minutes(event: dict[str, Any]) -> float:
    return _number(event.get("seconds")) / 60


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
