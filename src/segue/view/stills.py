"""Pictures as files: the slices of a volume side by side, its projections, and slices with outlines."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Num, Shaped, UInt8
from PIL import Image

from segue.catalogue import Channel
from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.view.colours import colour_bytes, to_bytes
from segue.view.flat import flat_picture
from segue.view.picture import MOST_CHANNELS, case_picture, display_of
from segue.view.planes import CORONAL, PLANES, Plane, cut, project
from segue.view.room.shelf import RoomCase, Sheet
from segue.view.tiles import GAP_PX, GROUND, Tile, draw_tile, side_by_side
from segue.volume import Volume

MOSAIC_SLICES = 24
_COLUMNS = 6
_MOSAIC_WIDTH_PX, _PROJECTION_PX, _MOST_TILE_PX = 1536, 720, 360
_AXIAL, _SAGITTAL = PLANES[0], PLANES[2]
_MOST_LABELS = 256


def write_stills(case: RoomCase, folder: Path, name: str) -> Iterator[Path]:
    """Write the pictures of one case into ``folder``, their names beginning with ``name``; tells each as it is there.

    ``NAME-mosaic.png`` of every image: axial slices from foot to head, with the outlines of its label map.
    ``NAME-mip.png`` of every PET: the maximum from the front and from the side. ``NAME-overlay.png`` where there is a
    label map: slices through its largest component, a first map in orange, a second in blue. A picture of one slice
    is ``NAME-picture.png`` instead, with its outlines.

    Raises:
        DataError: a file cannot be read, or a label map lies on another grid. MachineError: the disk is full.
    """
    images, masks = case.sheets()
    outlines = [sheet.read() for sheet in masks[:2]]
    labels = _labels(outlines)
    several = len(images) > 1
    volumes: list[tuple[Sheet, Volume]] = []
    for given in images:
        volume = given.read()
        sheet = replace(given, unit=volume.unit) if given.unit == "arbitrary" else given
        if volumes and volumes[0][1].geometry.difference(volume.geometry) is not None:
            truth = prediction = None  # a PET as it was stored: its CT shows the outlines, on its own grid
        else:
            volumes.append((sheet, volume))
            truth, prediction = (outlines + [None, None])[:2]
        stem = f"{name}-{file_name(sheet.name)}" if several and sheet.name != case.id else name
        if 1 in volume.geometry.shape:
            channels = _channels(sheet, volume)
            yield _save(folder / f"{stem}-picture.png", flat_picture(volume, channels, labels, truth, prediction))
            continue
        yield _save(folder / f"{stem}-mosaic.png", _png(mosaic(sheet, volume, truth, prediction)))
        if sheet.unit == "SUV":
            yield _save(folder / f"{stem}-mip.png", _png(projections(sheet, volume, truth, prediction)))
    solid = [(sheet, volume) for sheet, volume in volumes if 1 not in volume.geometry.shape and not sheet.colour]
    if outlines and solid:
        truth, prediction = (outlines + [None, None])[:2]
        shown = solid[:MOST_CHANNELS]
        first = shown[0][1]
        joined = Volume(np.concatenate([volume.array for _, volume in shown]), first.geometry)
        channels = [channel for sheet, volume in shown for channel in _channels(sheet, volume)]
        picture = case_picture(joined, channels, labels, truth, prediction)
        yield _save(folder / f"{name}-overlay.png", picture)


def mosaic(sheet: Sheet, volume: Volume, truth: Volume | None, prediction: Volume | None) -> Image.Image:
    """Axial slices at even distances, the lowest first, each with its height in mm; radiological convention."""
    canonical = volume.oriented("RAS")
    grid = canonical.geometry
    count = min(MOSAIC_SLICES, grid.shape[2])
    places = np.unique(np.linspace(0, grid.shape[2] - 1, count + 2)[1:-1].round().astype(int)) if count > 2 else [0]
    columns = min(_COLUMNS, len(places))
    across, up = (grid.shape[axis] * grid.spacing_mm[axis] for axis in (0, 1))
    wide = min(_MOST_TILE_PX, (_MOSAIC_WIDTH_PX - GAP_PX * (columns - 1)) // columns)
    size = (wide, max(1, round(wide * up / across)))
    masks = _masks(truth, prediction)
    middle = [(n - 1) / 2 for n in grid.shape]
    tiles = []
    for place in places:
        voxel = (0, 0, int(place))
        height = float((grid.affine @ [middle[0], middle[1], place, 1.0])[2])
        tiles.append(
            draw_tile(_tile(sheet, canonical, _AXIAL, size, f"{height:.0f} mm",
                            [cut(channel, _AXIAL, voxel) for channel in canonical.array],
                            [None if mask is None else cut(mask, _AXIAL, voxel) for mask in masks]))
        )  # fmt: skip
    rows = [side_by_side(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return _stacked(rows)


def projections(sheet: Sheet, volume: Volume, truth: Volume | None, prediction: Volume | None) -> Image.Image:
    """The maximum along the rays from the front and from the patient's side, with true proportions."""
    canonical = volume.oriented("RAS")
    grid, masks = canonical.geometry, _masks(truth, prediction)
    tiles = []
    for plane in (CORONAL, _SAGITTAL):
        across, up = (grid.shape[axis] * grid.spacing_mm[axis] for axis in (plane.across, plane.up))
        scale = _PROJECTION_PX / max(across, up)
        size = (max(1, round(across * scale)), max(1, round(up * scale)))
        values = [project(channel, plane) for channel in canonical.array]
        projected = [None if mask is None else project(mask, plane).astype(mask.dtype) for mask in masks]
        tiles.append(draw_tile(_tile(sheet, canonical, plane, size, f"{plane.name} MIP", values, projected)))
    return side_by_side(tiles)


def _tile(
    sheet: Sheet,
    volume: Volume,
    plane: Plane,
    size: tuple[int, int],
    title: str,
    values: Sequence[Num[np.ndarray, "up across"]],
    masks: Sequence[Shaped[np.ndarray, "up across"] | None],
) -> Tile:
    pixels: UInt8[np.ndarray, "up across *rgb"]
    light = False
    if sheet.colour:
        pixels = np.stack([colour_bytes(value[None, :, :, None])[0, :, :, 0] for value in values], axis=-1)
    else:
        display = display_of(_channels(sheet, volume)[0], volume.array[0])
        plain = np.nan_to_num(values[0].astype(np.float32), nan=display.low)
        pixels, light = to_bytes(plain, display.low, display.high), display.inverted
        pixels = 255 - pixels if light else pixels
    truth, prediction = (None if mask is None else mask[::-1, ::-1] for mask in masks)
    return Tile(pixels[::-1, ::-1], size, truth, prediction, light, (plane.left, plane.right), title)


def _masks(truth: Volume | None, prediction: Volume | None) -> list[np.ndarray | None]:
    return [None if mask is None else mask.oriented("RAS").array[0] for mask in (truth, prediction)]


def _stacked(rows: Sequence[Image.Image]) -> Image.Image:
    height = sum(row.height for row in rows) + GAP_PX * (len(rows) - 1)
    canvas = Image.new("RGB", (max(row.width for row in rows), height), GROUND)
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + GAP_PX
    return canvas


def _labels(masks: Sequence[Volume]) -> Mapping[int, str]:
    numbers = sorted({int(number) for mask in masks for number in np.unique(mask.array) if number > 0})
    if len(numbers) > _MOST_LABELS:
        raise DataError(
            "this is no label map", value=f"{len(numbers)} different numbers", remedy="name images and label maps"
        )
    return {number: f"label {number}" for number in numbers}


def _channels(sheet: Sheet, volume: Volume) -> list[Channel]:
    if sheet.colour:
        return [Channel(name=name) for name in ("red", "green", "blue")]
    if len(volume.array) == 1:
        return [Channel.model_validate({"name": sheet.name, "unit": sheet.unit})]
    return [Channel.model_validate({"name": f"{n}", "unit": sheet.unit}) for n in range(len(volume.array))]


def file_name(text: str) -> str:
    """A name for a file, of one that may hold anything: letters, digits, points, lines; nothing that is a path."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:120] or "image"


def file_names(texts: Sequence[str]) -> list[str]:
    """As :func:`file_name`, each another: a second one of a name is ``NAME-2``."""
    taken: dict[str, int] = {}
    names = []
    for text in texts:
        name = file_name(text)
        taken[name] = number = taken.get(name, 0) + 1
        names.append(name if number == 1 else f"{name}-{number}")
    return names


def _png(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.save(target, "PNG", optimize=math.prod(picture.size) < 4_000_000)
    return target.getvalue()


def _save(path: Path, png: bytes) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_bytes(png)
    return path
