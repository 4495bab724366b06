"""Histograms over a dataset, with the cases that stand out marked, as numbers that a template draws as SVG."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segue.catalogue import Card
from segue.prepare import Examination, Finding
from segue.prepare.quality.intensities import LEVELS

WIDTH, HEIGHT = 300.0, 96.0
_BINS = 24
_LOG_FROM = 20.0
_MOST_LABELS = 12
_MOST_MARKS = 8


@dataclass(frozen=True)
class Bar:
    """One bar, in the units of the drawing, and what it says."""

    x: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class Chart:
    """A histogram.

    Attributes:
        words: the same as a sentence: how many cases, range and median.
        ticks: place and text of least, median and greatest value.
        marks: place, case and value of cases that stand out.
    """

    title: str
    words: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[tuple[float, str], ...]


Headed = list[tuple[str, list[Chart]]]
_Odd = Mapping[str, Collection[str]]


def charts(examinations: Sequence[Examination], card: Card, findings: Sequence[Finding]) -> Headed:
    """Spacing, field of view, intensities and label volumes over the cases, by heading."""
    known = [e for e in examinations if e.shape and e.spacing_mm]
    if len(known) < 3:
        return []
    odd: dict[str, set[str]] = {}
    for finding in findings:
        if finding.severity != "note":
            odd.setdefault(finding.what, set()).add(finding.case)
    result = _grids(known, card, odd)
    if made := [chart for number in range(len(card.channels)) for chart in _intensities(known, card, number, odd)]:
        result.append(("Intensities", made))
    if made := _labels(known, card, odd):
        result.append(("Areas of labels" if card.dimension == 2 else "Volumes of labels", made))
    return result


def _grids(known: Sequence[Examination], card: Card, odd: _Odd) -> Headed:
    if card.dimension == 2:
        sizes = [
            _chart(f"{name} (pixels)", {e.case: float(e.shape[number]) for e in known if e.shape}, ())
            for number, name in enumerate(("Width", "Height"))
        ]
        return [("Size", sizes)]
    headed = []
    for heading, whole in (("Spacing", False), ("Field of view", True)):
        made = []
        for number, axis in enumerate(("left to right", "back to front", "foot to head")):
            values = {
                e.case: e.spacing_mm[number] * (e.shape[number] if whole else 1)
                for e in known
                if e.spacing_mm and e.shape
            }
            marked = odd.get(f"{heading.lower()} unlike the other cases'", ())
            made.append(_chart(f"{heading}, {axis} (mm)", values, marked))
        headed.append((heading, made))
    return headed


def _intensities(known: Sequence[Examination], card: Card, number: int, odd: _Odd) -> list[Chart]:
    channel = card.channels[number]
    unit = "" if channel.unit == "arbitrary" else f" ({channel.unit})"
    marked = {case for what, cases in odd.items() if f"channel {channel.name} " in what for case in cases}
    there = {e.case: one.levels for e in known if number < len(e.channels) and (one := e.channels[number]) is not None}
    made = []
    for percent, words in ((50.0, "median"), (99.0, "99th percentile")):
        values = {case: levels[LEVELS.index(percent)] for case, levels in there.items() if levels}
        if len(values) > 2:
            made.append(_chart(f"{channel.name}: {words}{unit}", values, marked))
    return made


def _labels(known: Sequence[Examination], card: Card, odd: _Odd) -> list[Chart]:
    flat = card.dimension == 2
    made = []
    for number, name in list(card.labels.items())[:_MOST_LABELS]:
        facts = {e.case: e.label_facts[number] for e in known if number in e.label_facts}
        values = {case: float(one.voxels) if flat else one.ml for case, one in facts.items()}
        if len(values) > 2:
            marked = odd.get(f"the volume of {name} is unlike the other cases'", ())
            made.append(_chart(f"{name} ({'pixels' if flat else 'ml'})", values, marked))
    return made


def _chart(title: str, values: Mapping[str, float], odd: Collection[str]) -> Chart:
    array = np.array(list(values.values()))
    low, high, middle = float(array.min()), float(array.max()), float(np.median(array))
    told = f"{len(array)} cases, all {low:.4g}" if low == high else (
        f"{len(array)} cases from {low:.4g} to {high:.4g}, median {middle:.4g}")  # fmt: skip
    if low == high:
        return Chart(title, told, (), (), ())
    logarithmic = low > 0 and high > _LOG_FROM * low
    scaled = np.log(array) if logarithmic else array
    counts, edges = np.histogram(scaled, _BINS)
    step = WIDTH / _BINS
    shown = np.exp(edges) if logarithmic else edges
    bars = tuple(
        # The root of the count: one case among hundreds is still to be seen.
        Bar(
            n * step,
            step - 1,
            HEIGHT * float(np.sqrt(count / counts.max())),
            f"{count} from {shown[n]:.4g} to {shown[n + 1]:.4g}",
        )
        for n, count in enumerate(counts)
        if count
    )

    def place(value: float) -> float:
        at = np.log(value) if logarithmic else value
        return float((at - edges[0]) / (edges[-1] - edges[0]) * WIDTH)

    marks = sorted((place(values[case]), f"{case}: {values[case]:.4g}") for case in odd if case in values)
    told += ", logarithmic scale" if logarithmic else ""
    if marks:
        told += f"; standing out: {', '.join(text for _, text in marks[:_MOST_MARKS])}" + (
            f" and {len(marks) - _MOST_MARKS} more" if len(marks) > _MOST_MARKS else ""
        )
    ticks = ((0.0, f"{low:.4g}"), (place(middle), f"{middle:.4g}"), (WIDTH, f"{high:.4g}"))
    return Chart(title, told, bars, ticks, tuple(marks))
