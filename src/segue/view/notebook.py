"""What a notebook shows of a volume, a case and a run: a picture and a few facts, as HTML that runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from segue.catalogue import Case, Channel, Row
from segue.images import image_stem, read
from segue.prepare import read_mask
from segue.train import Run
from segue.view.class_summary import summarise_classes
from segue.view.facts import read_facts
from segue.view.flat import flat_picture
from segue.view.page import data_uri
from segue.view.picture import MOST_CHANNELS, case_picture
from segue.view.summary import summarise
from segue.volume import Volume

_WIDTH_PX = 900
_MOST_LABELS = 100
_UNIT_WORDS = {"arbitrary": "arbitrary units"}


def as_html(thing: object) -> str | None:
    """The display of a :class:`Volume`, :class:`Case` or :class:`Run`; None for anything else.

    Raises:
        SegueError: a file of a case or run cannot be read.
    """
    if isinstance(thing, Volume):
        return _volume(thing)
    if isinstance(thing, Case):
        return _case(thing)
    if isinstance(thing, Run):
        return _run(thing)
    return None


def _volume(volume: Volume) -> str:
    if volume.kind == "labels":
        blank = Volume(np.zeros(volume.array.shape, np.float32), volume.geometry)
        return _picture(blank, ["labels"], volume, None, _told(volume))
    names = [f"channel {n}" for n in range(len(volume.array))] if len(volume.array) > 1 else ["image"]
    return _picture(volume, names, None, None, _told(volume))


def _told(volume: Volume) -> str:
    grid = volume.geometry
    shape = " × ".join(map(str, grid.shape))
    steps = " × ".join(f"{step:.3g}" for step in grid.spacing_mm)
    channels = f", {len(volume.array)} channels" if len(volume.array) > 1 else ""
    unit = "labels" if volume.kind == "labels" else _UNIT_WORDS.get(volume.unit, volume.unit)
    return f"{shape} voxels of {steps} mm, {grid.axis_codes}{channels}, {volume.array.dtype}, {unit}"


def _case(case: Case) -> str:
    rows = [image for image in case.images if isinstance(image, Row)]
    told = [case.id, f"patient {case.patient}" if case.patient != case.id else "", case.split]
    told += [f"{name}: {value}" for name, value in case.facts.items()]
    words = ", ".join(text for text in told if text)
    if rows:  # an item of an array says nothing of its channels
        return f"<p>{escape(words)}; {escape(rows[0].name)}</p>"
    volumes = [read(image) for image in case.images if not isinstance(image, Row)]
    array = np.concatenate([volume.array for volume in volumes])
    image = Volume(array, volumes[0].geometry, unit=volumes[0].unit)
    names = [image_stem(path) for path in case.images if not isinstance(path, Row)]
    if len(names) != len(array):
        names = [f"channel {n}" for n in range(len(array))]
    truth = None
    if case.label is not None:
        truth = read_mask(case.label)
    return _picture(image, names, truth, None, words)


def _picture(image: Volume, names: Sequence[str], truth: Volume | None, prediction: Volume | None, words: str) -> str:
    flat = 1 in image.geometry.shape
    colour = flat and len(image.array) == 3
    if colour:
        channels = [Channel(name=name) for name in ("red", "green", "blue")]
    else:
        unit = image.unit if image.unit in ("HU", "SUV") else "arbitrary"
        channels = [Channel.model_validate({"name": name, "unit": unit}) for name in names]
    if not flat and len(channels) > MOST_CHANNELS:
        image = Volume(image.array[:MOST_CHANNELS], image.geometry, unit=image.unit)
        words += f"; the first {MOST_CHANNELS} channels"
        channels = channels[:MOST_CHANNELS]
    labels: dict[int, str] = {}
    if truth is not None:
        numbers = [int(number) for number in np.unique(truth.array) if number > 0]
        labels = {number: f"label {number}" for number in numbers[:_MOST_LABELS]}
    draw = flat_picture if flat else case_picture
    png = draw(image, channels, labels, truth, prediction, width_px=_WIDTH_PX)
    text = escape(words)
    return f'<figure style="margin:0"><img src="{data_uri(png)}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _run(run: Run) -> str:
    facts = read_facts(run, {})
    classified = facts.card is not None and facts.card.task == "classification"
    summary = summarise_classes(facts) if classified else summarise(facts)
    title = facts.card.title if facts.card else run.folder.name
    left = 'style="text-align:left"'
    rows = "".join(
        f"<tr><th {left}>{escape(tile.name)}</th><td {left}><b>{escape(tile.value)}</b> {escape(tile.note)}</td></tr>"
        for tile in summary.tiles
    )
    told = "".join(f"<p>{escape(text)}</p>" for text in summary.paragraphs[:3])
    there = run.report.exists()
    report = f"<p>Report: <code>{escape(str(run.report))}</code></p>" if there else ""
    return f"<div><h4>{escape(title)}</h4><table>{rows}</table>{told}{report}</div>"
