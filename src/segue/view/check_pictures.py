"""Small pictures of the cases that quality control found something in: a slice through it, labels outlined."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw

from segue.catalogue import Card, Case, Channel
from segue.core.errors import SegueError
from segue.prepare import Finding, Group, read_channels, read_mask
from segue.view.colours import colour_bytes, is_colour, label_colours
from segue.view.planes import PLANES, cut, find_focus
from segue.view.windows import HU_WINDOW, PERCENTILES, SUV_WINDOW

_MOST = 24
_MOST_OF_KIND = 4
_MOST_SECONDS = 20.0
_SIDE = 256
_RING = 9
_MARK = (255, 80, 80)


@dataclass(frozen=True)
class Shot:
    """A picture of a finding, and what it shows in words."""

    finding: Finding
    png: bytes
    words: str


def shots(groups: Sequence[Group], cases: Mapping[str, tuple[Case, Card]]) -> list[Shot]:
    """The worst cases of each kind of finding, errors first; at most 24, and no more after 20 seconds."""
    chosen: list[Finding] = []
    seen: set[str] = set()
    for group in groups:
        several = [finding for finding in group.findings if finding.case in cases and finding.case not in seen]
        # What is of no particular case or place needs no picture.
        shown = several if group.severity != "note" else [finding for finding in several if finding.at_mm]
        for finding in shown[:_MOST_OF_KIND]:
            chosen.append(finding)
            seen.add(finding.case)
    made = []
    began = time.monotonic()
    for finding in chosen[:_MOST]:
        if time.monotonic() - began > _MOST_SECONDS:
            break
        try:
            png, words = shot(*cases[finding.case], finding.at_mm)
        except (SegueError, OSError):
            continue  # what cannot be read has a finding that says so
        made.append(Shot(finding, png, words))
    return made


def shot(case: Case, card: Card, at_mm: Sequence[float] | None) -> tuple[bytes, str]:
    """A PNG of one slice and what it shows in words.

    Raises:
        SegueError: the image cannot be read.
    """
    image = read_channels(case, card)
    labels = None
    if case.label is not None:
        try:
            mask = read_mask(case.label)
            labels = mask if mask.geometry.shape == image.geometry.shape else None
        except SegueError:
            labels = None
    image = image.oriented("RAS")
    drawn = None if labels is None else labels.oriented("RAS").array[0]
    shape, spacing = image.geometry.shape, image.geometry.spacing_mm
    foreground = None if drawn is None else np.isin(drawn, list(card.labels))
    focus = find_focus(foreground, None, shape, spacing)
    voxel = focus.voxel if at_mm is None else image.geometry.voxel_at(at_mm)
    plane = next((p for p in PLANES if shape[p.across] > 1 and shape[p.up] > 1), PLANES[0])
    number = case.present(len(card.channels))[0]
    if is_colour(card.channels):
        grey = colour_bytes(image.array)[..., voxel[2]].transpose(2, 1, 0)
    else:
        section = cut(image.array[number], plane, voxel)
        grey = np.repeat(_grey(section, image.array[number], card.channels[number])[..., None], 3, axis=2)
    outlined = None if drawn is None else cut(drawn, plane, voxel)
    sizes = (shape[plane.across] * spacing[plane.across], shape[plane.up] * spacing[plane.up])
    scale = _SIDE / max(sizes)
    size = (max(1, round(sizes[0] * scale)), max(1, round(sizes[1] * scale)))
    # Drawn as radiologists read: the patient's right on the left, up is up.
    picture = Image.fromarray(np.ascontiguousarray(grey[::-1, ::-1])).resize(size, Image.Resampling.BILINEAR)
    if outlined is not None:
        picture = _outline(picture, np.ascontiguousarray(outlined[::-1, ::-1]), card.labels)
    if at_mm is not None:
        _ring(picture, ((shape[plane.across] - voxel[plane.across] - 0.5) / shape[plane.across] * size[0],
                        (shape[plane.up] - voxel[plane.up] - 0.5) / shape[plane.up] * size[1]))  # fmt: skip
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    place = f"{plane.name} slice {voxel[plane.normal] + 1} of {shape[plane.normal]}"
    words = "picture" if card.dimension == 2 else place
    return buffer.getvalue(), words + (", labels outlined" if outlined is not None else "")


def _grey(section: np.ndarray, whole: np.ndarray, channel: Channel) -> UInt8[np.ndarray, "up across"]:
    values = np.nan_to_num(section.astype(np.float32))
    if channel.unit == "HU":
        low, high = HU_WINDOW
    elif channel.unit == "SUV":
        low, high = SUV_WINDOW
    else:
        low, high = map(float, np.percentile(values, PERCENTILES))
    if not values.size or values.max() <= low or values.min() >= high or high <= low:
        low, high = float(values.min(initial=0)), float(values.max(initial=1))  # units are wrong: show it all the same
    grey = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    return ((1 - grey if channel.unit == "SUV" else grey) * 255).astype(np.uint8)


def _outline(picture: Image.Image, labels: np.ndarray, names: Mapping[int, str]) -> Image.Image:
    rows = np.arange(picture.height) * labels.shape[0] // picture.height
    columns = np.arange(picture.width) * labels.shape[1] // picture.width
    large = np.pad(labels[np.ix_(rows, columns)], 1, mode="edge")
    pixels = np.array(picture)
    colours = label_colours(list(names.values()))
    for number, name in names.items():
        there = large == number
        inner = there[:-2, 1:-1] & there[2:, 1:-1] & there[1:-1, :-2] & there[1:-1, 2:]
        pixels[there[1:-1, 1:-1] & ~inner] = ImageColor.getrgb(colours[name])
    return Image.fromarray(pixels)


def _ring(picture: Image.Image, centre: tuple[float, float]) -> None:
    x, y = centre
    ImageDraw.Draw(picture).ellipse((x - _RING, y - _RING, x + _RING, y + _RING), outline=_MARK, width=2)
