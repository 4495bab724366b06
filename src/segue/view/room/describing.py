"""What the page is told of the case that was opened: where its volumes are, how they are shown, what is known of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from segue.core.errors import SegueError
from segue.view.colours import label_colours
from segue.view.room.shelf import Room, Sheet
from segue.view.room.volumes import Ready, VolumeCache
from segue.view.windows import window_for

_MOST_FINDINGS = 50
_SUV_WINDOW = (0.0, 10.0)


def described(room: Room, number: int, cache: VolumeCache) -> dict[str, Any]:
    """The case ``number``; a sheet that cannot be read says why in its place.

    Raises:
        DataError: the images are gone altogether.
    """
    case = room.cases[number]
    images, masks = case.sheets()
    own = dict.fromkeys(name for sheet in masks for name in (sheet.labels or {}).values())
    colours = label_colours([*dict.fromkeys([*room.labels.values(), *own])])
    # Unpacking and packing leave the interpreter: image and mask at once take as long as the larger one.
    with ThreadPoolExecutor(2) as pool:
        told_images = list(
            pool.map(lambda place: _image(room, number, place, images[place], cache), range(len(images)))
        )
        told_masks = list(
            pool.map(lambda place: _mask(number, place, masks[place], cache, room.labels, colours), range(len(masks)))
        )
    return {
        "id": case.id,
        "patient": case.patient if case.patient != case.id else "",
        "split": case.split,
        "facts": dict(case.facts),
        "findings": [
            {"severity": f.severity, "what": f.what, "value": f.value, "remedy": f.remedy, "at": f.at_mm}
            for f in case.findings[:_MOST_FINDINGS]
        ],
        "figures": [{"run": run, "labels": labels} for run, labels in sorted(case.figures.items())],
        "answers": [{"run": run, **answer} for run, answer in sorted(case.answers.items())],
        "images": told_images,
        "masks": told_masks,
    }


def _image(room: Room, number: int, place: int, sheet: Sheet, cache: VolumeCache) -> dict[str, Any]:
    try:
        ready = cache.ready(sheet, labels=False)
    except (SegueError, MemoryError, ValueError) as error:
        return {"name": sheet.name, "problem": _in_words(error)}
    unit = ready.unit if sheet.unit == "arbitrary" else sheet.unit
    low, high = _window(room, unit, ready)
    return {
        "name": sheet.name,
        "unit": "" if unit == "arbitrary" else unit,
        "colour": sheet.colour,
        "min": low,
        "max": high,
        **_places(number, "images", place, ready),
    }


def _mask(
    number: int, place: int, sheet: Sheet, cache: VolumeCache, labels: Mapping[int, str], colours: Mapping[str, str]
) -> dict[str, Any]:
    try:
        ready = cache.ready(sheet, labels=True)
    except (SegueError, MemoryError, ValueError) as error:
        return {"name": sheet.name, "run": sheet.run, "problem": _in_words(error)}
    labels = labels if sheet.labels is None else sheet.labels
    names = {n: labels.get(n, f"label {n}") for n in (labels or range(1, int(ready.high) + 1))}
    colours = label_colours(list(names.values())) | dict(colours)
    return {
        "name": sheet.name,
        "run": sheet.run,
        "labels": {str(n): {"name": name, "colour": colours[name]} for n, name in names.items()},
        **_places(number, "masks", place, ready),
    }


def _places(number: int, kind: str, place: int, ready: Ready) -> dict[str, Any]:
    levels = {level: f"/api/cases/{number}/{kind}/{place}/{level}/{ready.key}.nii.gz" for level in ready.files}
    return {
        "levels": levels,
        "bytes": {level: path.stat().st_size for level, path in ready.files.items()},
        "shape": ready.shape,
        "spacing": ready.spacing_mm,
        "coarse": {level: max(factors) > 1 for level, factors in ready.coarse.items()},
        "shown": {
            level: [math.ceil(n / f) for n, f in zip(ready.shape, factors, strict=True)]
            for level, factors in ready.coarse.items()
        },
    }


def _window(room: Room, unit: str, ready: Ready) -> tuple[float, float]:
    if unit == "HU":
        window = window_for(room.labels.values(), room.title)
        return window.low, window.high
    return _SUV_WINDOW if unit == "SUV" else (ready.low, ready.high)


def _in_words(error: Exception) -> str:
    return str(error).replace("\n  -> ", ". To mend it: ") or type(error).__name__
