"""The section on patches as the network saw them, from what the training kept (:mod:`segue.train.samples`)."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import DataError
from segue.view.colours import is_colour
from segue.view.facts import RunFacts
from segue.view.tiles import Tile, as_webp, draw_tile, side_by_side, webp_size, webp_uri
from segue.view.words import count, listed, percent, sentence

_HEIGHT_PX = 168
_IMAGE_PX = 112
_MOST_BYTES = 60_000
_ABSENT = (
    "The training kept no sample patches: it has not made its first step yet, or an older segue trained this network."
)


def samples_section(facts: RunFacts) -> dict[str, Any]:
    """A row of tiles for each patch, or a picture for each image of a classification."""
    kept: dict[str, dict[str, np.ndarray]] = {}
    problem = None
    for name, path in (("start", facts.run.samples_at_start), ("end", facts.run.samples_at_end)):
        try:
            if path.exists():
                kept[name] = _read(path)
        except DataError as error:
            problem = sentence(f"{error.what}: {path.name}")
    if not kept:
        return {"problem": problem or _ABSENT, "samples": [], "classified": False, "told": ""}
    classified = facts.card is not None and facts.card.task == "classification"
    try:
        samples = _of_classes(facts, kept) if classified else _of_masks(facts, kept)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return {"problem": f"The sample patches cannot be drawn: {error}.", "samples": [], "classified": classified,
                "told": ""}  # fmt: skip
    return {"problem": problem, "samples": samples, "classified": classified, "told": _told(kept, classified)}


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError) as error:
        raise DataError("the sample patches cannot be read", where=path, value=error) from error
    except Exception as error:  # a damaged zip raises errors of zipfile and zlib
        raise DataError("the sample patches are damaged", where=path, value=error) from error


def _told(kept: dict[str, dict[str, np.ndarray]], classified: bool) -> str:
    augmented = any(bool(arrays["augmented"]) for arrays in kept.values())
    varied = (
        "varied at random as in every step (mirrored, turned, scaled, brightened: sides are therefore not marked)"
        if augmented
        else "not varied, since augmentation was switched off"
    )
    steps = {name: int(arrays["step"]) for name, arrays in kept.items()}
    when = listed(
        ["before the first step" if name == "start" else f"after {count(step, 'step')}" for name, step in steps.items()]
    )
    what = "images" if classified else "patches, each cut where most of it is labelled,"
    return f"The first training {what} {varied}, and what the network answers {when}. They were trained on."


def _of_masks(facts: RunFacts, kept: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    first = kept.get("start") or kept["end"]
    channels = facts.card.channels if facts.card else []
    shown = []
    for place, name in enumerate(first["names"].tolist()):
        images, truth = first["images"][place], first["truth"][place]
        wide, high = (side * step for side, step in zip(truth.shape, first["spacing_mm"], strict=True))
        scale = _HEIGHT_PX / max(high, wide)
        size = max(8, round(scale * wide)), max(8, round(scale * high))
        tiles = []
        colour = is_colour(channels) and len(images) == 3
        for number, image in enumerate([np.stack(list(images), -1)] if colour else images):
            title = channels[number].name[:12] if len(channels) > 1 and not colour else ""
            tiles.append(Tile(_upright(image), size, _upright(truth), None, title=title))
        for when, title in (("start", "at the start"), ("end", "at the end")):
            if when in kept:
                answer = _upright(kept[when]["answer"][place])
                tiles.append(replace(tiles[0], prediction=answer, title=title))
        picture = as_webp(side_by_side([draw_tile(tile) for tile in tiles]), _MOST_BYTES)
        alt = f"A training patch of {name} with the outlines of the truth, and beside it the answers."
        shown.append(_shown(picture, name, "", alt))
    return shown


def _of_classes(facts: RunFacts, kept: dict[str, dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    first = kept.get("start") or kept["end"]
    card = facts.card
    assert card is not None, "only of a classification"
    names, shown = list(card.labels.values()), []
    for place, name in enumerate(first["names"].tolist()):
        images = first["images"][place]
        pixels = np.stack(list(images), -1) if is_colour(card.channels) and len(images) == 3 else images[0]
        wide, high = (side * step for side, step in zip(pixels.shape[:2], first["spacing_mm"], strict=True))
        scale = _IMAGE_PX / max(high, wide)
        tile = Tile(_upright(pixels), (max(8, round(scale * wide)), max(8, round(scale * high))))
        truth = [names[number] for number in np.flatnonzero(first["truth"][place] > 0.5)]
        answers = [
            f"{'at the start' if when == 'start' else 'at the end'} {percent(_of_truth(arrays, place))}"
            for when, arrays in kept.items()
        ]
        told = f"{listed(truth, 3) or 'nothing'}: {', '.join(answers)}"
        picture = as_webp(draw_tile(tile), _MOST_BYTES)
        shown.append(_shown(picture, name, told, f"The training image {name}. {told}"))
    return shown


def _shown(picture: bytes, case: str, told: str, alt: str) -> dict[str, Any]:
    return {"src": webp_uri(picture), "size": webp_size(picture), "case": case, "told": told, "alt": alt}


def _of_truth(arrays: dict[str, np.ndarray], place: int) -> float:
    """The probability of the truth; of several labels that of the least probable one."""
    truth, answer = arrays["truth"][place] > 0.5, arrays["answer"][place]
    return float(np.where(truth, answer, 1 - answer).min()) if truth.sum() != 1 else float(answer[truth][0])


def _upright(section: np.ndarray) -> np.ndarray:
    """Rows are the first axis of the patch, which lies across; upwards and to the left is where indices grow."""
    return section.swapaxes(0, 1)[::-1, ::-1]
