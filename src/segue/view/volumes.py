"""Volumes beside a page that is opened as a file: gzipped NIfTI in classic scripts, which is all that a browser loads
from ``file://`` when somebody clicks.

``report/volumes/<key>/<n>.js`` holds calls ``segueVolume(case, name, part, parts, "base64")``; the key is made of what
the case is made of, so that a case that did not change is not written again. Names stand in them as JSON strings.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import igzip
from jaxtyping import Num, Shaped

from segue.catalogue import Card, Case, Row, label_form, stored_mask
from segue.core.console import stage
from segue.core.errors import DataError, SegueError
from segue.core.executor import cpu_count, map_cases
from segue.core.files import content_key, known_digest, parse_json, write_json, write_text
from segue.images import read_labels
from segue.predict import mask_path
from segue.prepare import read_channels, read_mask
from segue.view.colours import colour_bytes, is_colour, label_colours
from segue.view.facts import RunFacts
from segue.view.flat import is_picture
from segue.view.levels import ONCE, coarser, factors_for
from segue.view.picture import display_of
from segue.view.planes import find_focus
from segue.view.scripts import read_script
from segue.view.windows import CT_WINDOWS, SUV_WINDOW, window_for
from segue.view.words import count, sentence
from segue.volume import Volume

FOLDER = "report"
# Changes when what is written changes.
_VERSION = 1
# 8 million voxels are 256 x 256 x 128: more than a page's stage shows at once.
_MOST_VOXELS = 1 << 23
_PART_CHARACTERS = 3_000_000
_ALL_BYTES = 600_000_000
_MOST_CASES = 2000
_LEVEL = 2
_PARALLEL_FROM_BYTES = 100_000_000


@dataclass(frozen=True)
class VolumeTask:
    """What one process needs to write the volumes of a case."""

    case: Case
    card: Card
    labels: Mapping[int, str]
    prediction: Path | None
    folder: Path

    @property
    def key(self) -> str:
        """Of the content of its files, wherever they lie, and of all else that is shown of them."""
        case = self.case
        paths = [*case.files, *([self.prediction] if self.prediction else [])]
        stored = None if case.label is None else stored_mask(case.label)
        rows = [(part.key, part.index) for part in (*case.images, stored) if isinstance(part, Row)]
        card = self.card.model_dump(mode="json", include={"channels", "dimension", "labels"})
        shown = [case.id, [_content(path) for path in paths], rows, label_form(case.label), case.absent]
        return content_key(_VERSION, *shown, card, dict(self.labels))


def _content(path: Path) -> str:
    try:
        return known_digest(path)
    except OSError:  # what cannot be read is told when it is opened
        return ""


def write_volumes(facts: RunFacts) -> dict[str, Any] | None:
    """Write the volumes of the measured cases into the run folder, and return what the page needs to open them.

    The worst come first, until together they are 600 MB; images of more than 8 million voxels are written coarser.
    Where nothing was measured, the cases that validate or test are written, with their truth alone.

    Returns:
        None where the scripts were never built or no case is there; else per case its files, images and label maps.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    viewer = read_script("viewer")
    tasks = _tasks(facts)
    if viewer is None or not tasks or facts.card is None:
        return None
    home = facts.run.folder / FOLDER
    told, problems, total = {}, {}, 0
    with stage("volumes", len(tasks)) as shown:
        for task, result in map_cases(write_case, tasks, workers=_workers(tasks)):
            shown.advance(note=task.case.id)
            if isinstance(result, DataError):
                problems[task.case.id] = sentence(result.what)
                continue
            told[task.case.id] = result
            total += result["bytes"]
            if total > _ALL_BYTES:
                break
    if not told and not problems:
        return None
    write_text(home / "viewer.js", viewer)
    _forget(home / "volumes", {result["folder"] for result in told.values()})
    labels = facts.plan.labels if facts.plan else facts.card.labels
    colours = label_colours(list(labels.values()))
    wanted = _wanted(facts)
    return {
        "script": f"{FOLDER}/viewer.js",
        "folder": f"{FOLDER}/volumes",
        "labels": {str(number): {"name": name, "colour": colours[name]} for number, name in labels.items()},
        "windows": _windows(facts.card, list(labels.values())),
        "cases": told,
        "problems": problems,
        "left": len(wanted) - len(told) - len(problems),
    }


def _wanted(facts: RunFacts) -> list[tuple[str, str]]:
    """(part, case): the worst first; of a run without figures what it holds out."""
    named = [(part, name) for part, found in facts.parts.items() for name, _ in found.worst_first]
    named += [(part, name) for part, found in facts.class_parts.items() for name, _ in found.worst_first]
    if not named:
        named = [(part, member.id) for part in ("test", "val") for member in facts.split.get(part, [])]
    return list({name: (part, name) for part, name in reversed(named)}.values())[::-1]


def _tasks(facts: RunFacts) -> list[VolumeTask]:
    if facts.card is None:
        return []
    card, labels = facts.card, facts.plan.labels if facts.plan else facts.card.labels
    tasks = []
    for part, name in _wanted(facts)[:_MOST_CASES]:
        case = facts.truths.get(name)
        if case is None:
            continue
        predicted = None
        if card.task == "segmentation":
            path = mask_path(facts.predictions(part, case.id), case, card.dimension)
            predicted = path if path.exists() else None
        tasks.append(VolumeTask(case, card, labels, predicted, facts.run.folder / FOLDER / "volumes"))
    return tasks


def _workers(tasks: Sequence[VolumeTask]) -> int:
    size = 0
    for task in tasks:
        size += sum(path.stat().st_size for path in task.case.image_files if path.exists())
        if size > _PARALLEL_FROM_BYTES:
            return cpu_count()
    return 1


def write_case(task: VolumeTask) -> dict[str, Any]:
    """The files of one case; nothing is done where they are there.

    Raises:
        DataError: the image cannot be read. MachineError: the disk is full.
    """
    folder = task.folder / task.key
    kept = folder / "case.json"
    if kept.exists():
        found: dict[str, Any] = parse_json(kept.read_text(encoding="utf-8"))
        return found
    try:
        told = _written(task, folder)
    except SegueError as error:
        if not isinstance(error, DataError):
            raise
        raise DataError(error.what, where=task.case.id, value=error.value, remedy=error.remedy) from error
    except (MemoryError, ValueError) as error:
        raise DataError(f"this case cannot be shown: {error}", where=task.case.id) from error
    write_json(kept, told)
    return told


def _written(task: VolumeTask, folder: Path) -> dict[str, Any]:
    case, card = task.case, task.card
    image = read_channels(case, card)
    grid = image.geometry
    factors = factors_for(grid.shape, grid.spacing_mm, _MOST_VOXELS)
    notes = []
    if factors != ONCE:
        block, shape = (" × ".join(map(str, numbers)) for numbers in (factors, grid.shape))
        steps = " × ".join(f"{step:.3g}" for step in grid.spacing_mm)
        notes.append(
            f"Shown coarser: each voxel is the mean of {block} of the image's, which has {shape} at {steps} mm; "
            "labels reach as far as any of theirs."
        )
    masks: dict[str, Volume] = {}
    if card.task == "segmentation":
        masks = {name: mask for name, mask in _masks(task, notes) if _fits(name, mask, image, notes)}
    shown = coarser(image, factors)
    volumes = []
    script = _Script(case.id, folder)
    flat = is_picture(image, card.dimension)
    if is_colour(card.channels):
        script.add("image-0", _rgb(colour_bytes(shown.array)), shown)
        volumes.append({"name": "image", "unit": "arbitrary"})
    else:
        for place, channel in enumerate(card.channels):
            display = display_of(channel, image.array[place])
            script.add(f"image-{place}", _compact(shown.array[place]), shown)
            told: dict[str, Any] = {"name": channel.name, "unit": channel.unit, "min": display.low, "max": display.high}
            if channel.unit == "HU":
                window = window_for(list(task.labels.values()), card.title)
                told |= {"min": window.low, "max": window.high}
            volumes.append(told | {"inverted": display.inverted})
    for name, mask in masks.items():
        script.add(name, coarser(mask, factors).array[0], shown)
    files, size = script.finish()
    return {
        "folder": folder.name,
        "files": files,
        "bytes": size,
        "volumes": volumes,
        "overlays": list(masks),
        "at": _at(masks, set(task.labels)),
        "marks": not flat,
        "notes": notes,
    }


def _masks(task: VolumeTask, notes: list[str]) -> Iterator[tuple[str, Volume]]:
    case = task.case
    readers: list[tuple[str, Any]] = []
    if case.label is not None and all(path.exists() for path in case.files):
        label = case.label
        readers.append(("truth", lambda: read_mask(label)))
    if task.prediction is not None:
        prediction = task.prediction
        readers.append(("prediction", lambda: read_labels(prediction)))
    else:
        notes.append("There is no prediction of this case.")
    for name, read in readers:
        try:
            mask = read()
        except DataError as error:
            notes.append(f"The {name} cannot be read: {error.what}.")
            continue
        # Only what the network learns is shown, as everywhere in the report.
        named = np.where(np.isin(mask.array, list(task.labels)), mask.array, 0)
        most = int(named.max(initial=0))
        yield name, Volume(named.astype(np.uint8 if most < 256 else np.int32), mask.geometry, "labels")


def _fits(name: str, mask: Volume, image: Volume, notes: list[str]) -> bool:
    difference = image.geometry.difference(mask.geometry)
    if difference:
        notes.append(f"The {name} lies on another grid than the image: {difference}.")
    return difference is None


def _at(masks: Mapping[str, Volume], labels: set[int]) -> list[float] | None:
    """The middle of the largest component of the truth, else of the prediction, in RAS millimetres."""
    for mask in masks.values():
        turned = mask.oriented("RAS")
        array = np.isin(turned.array[0], list(labels - {0}))
        if array.any():
            focus = find_focus(array, None, turned.geometry.shape, turned.geometry.spacing_mm)
            mm = turned.geometry.affine @ np.array([*focus.voxel, 1.0])
            return [round(float(value), 3) for value in mm[:3]]
    return None


def _windows(card: Card, labels: list[str]) -> list[dict[str, Any]]:
    """Presets of the first channel, where its unit has any: the one that fits the labels first."""
    unit = card.channels[0].unit if card.channels else ""
    if unit == "HU":
        best = window_for(labels, card.title)
        ordered = [best, *(window for window in CT_WINDOWS if window != best)]
        return [{"name": window.name, "min": window.low, "max": window.high} for window in ordered]
    if unit == "SUV":
        return [{"name": f"SUV 0–{high:g}", "min": 0.0, "max": high} for high in (SUV_WINDOW[1], 5.0, 20.0)]
    return []


def _compact(array: Num[np.ndarray, "i j k"]) -> Num[np.ndarray, "i j k"]:
    """The same values in a type that browsers read and that packs well: whole numbers as such."""
    if array.dtype in (np.uint8, np.int16, np.uint16):
        return array
    if array.dtype.kind in "iub" or np.array_equal(array, np.rint(array)):
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        for kind in (np.uint8, np.int16, np.uint16):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return array.astype(kind)
    return array.astype(np.float32)


def _rgb(colours: Num[np.ndarray, "c i j k"]) -> Shaped[np.ndarray, "i j k"]:
    """Red, green and blue as NIfTI's RGB24."""
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return np.ascontiguousarray(np.moveaxis(colours, 0, -1)).view(kind)[..., 0]


class _Script:
    """The calls of one case, in files of a few megabytes."""

    def __init__(self, case: str, folder: Path) -> None:
        self.case = _quoted(case)
        self.folder = folder
        self.calls: list[str] = []
        self.length = self.files = self.bytes = 0

    def add(self, name: str, array: Shaped[np.ndarray, "i j k"], volume: Volume) -> None:
        from nibabel.nifti1 import Nifti1Image

        content = Nifti1Image(array, volume.geometry.affine, dtype=array.dtype).to_bytes()
        text = base64.b64encode(igzip.compress(content, _LEVEL, mtime=0)).decode("ascii")
        parts = [text[start : start + _PART_CHARACTERS] for start in range(0, len(text), _PART_CHARACTERS)]
        for number, part in enumerate(parts):
            if self.calls and self.length + len(part) > _PART_CHARACTERS:
                self.flush()
            self.calls.append(f'segueVolume({self.case}, "{name}", {number}, {len(parts)}, "{part}")\n')
            self.length += len(part)

    def flush(self) -> None:
        text = "".join(self.calls)
        write_text(self.folder / f"{self.files}.js", text, lasting=False)
        self.bytes += len(text)
        self.files += 1
        self.calls, self.length = [], 0

    def finish(self) -> tuple[int, int]:
        """How many files there are, and how many bytes."""
        if self.calls:
            self.flush()
        return self.files, self.bytes


def _quoted(text: str) -> str:
    """A JavaScript string in ASCII, which cannot end a script element either."""
    return json.dumps(text).replace("<", "\\u003c")


def _forget(folder: Path, kept: set[str]) -> None:
    """Remove what an older report left behind."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


def viewer_section(facts: RunFacts) -> dict[str, Any]:
    """The list of the cases that can be opened, or why there is none."""
    told = facts.volumes
    if told is None:
        problem = "No image is where the run found it: there is nothing to open."
        if read_script("viewer") is None:
            problem = "The viewer was not built into this installation; in a source tree, make front builds it."
        return {"problem": problem}
    cases = told["cases"]
    return {
        "cases": list(cases),
        "masks": any(case["overlays"] for case in cases.values()),
        "volumes": any(case["marks"] for case in cases.values()),
        "left": count(told["left"], "case") if told["left"] else "",
    }
