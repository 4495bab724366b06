"""A look into a few files of a folder: on which grids they lie, which units and labels they seem to hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segue.catalogue.card import Channel, Unit
from segue.catalogue.recognise.names import words
from segue.core.errors import DataError, MachineError
from segue.images import NIFTI_SUFFIXES, ImageHeader, read, read_header

_LARGEST_BYTES = 300_000_000  # files beyond are not opened for a guess
_MOST_LABELS = {True: 200, False: 100}  # of a NIfTI mask, of a picture
_HU_BELOW = -200  # air is at -1000; no MR, PET or photograph goes so low
_SUV_BELOW = 500  # Bq/ml are thousands
_MASKS_LOOKED_AT = 4
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_DARK = 31  # numbers up to here are labels, not shades
_JPEG_BLUR = 40  # how far from 0 and 255 the values of a black and white picture come to lie


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of the items, from the first to the last at even distances."""
    if len(items) <= count:
        return list(items)
    return [items[round(n * (len(items) - 1) / (count - 1))] for n in range(count)]


def header(path: Path) -> ImageHeader | None:
    """The header of a NIfTI file; None for other formats and for files that cannot be read."""
    try:
        return read_header(path) if path.name.endswith(NIFTI_SUFFIXES) else None
    except DataError:
        return None


def _picture_header(path: Path) -> ImageHeader | None:
    if path.suffix.lower() not in _PICTURES:
        return None
    try:
        return read_header(path)
    except (DataError, MachineError, OSError):
        return None


def values(path: Path) -> np.ndarray | None:
    """The values of a NIfTI file ``(c, i, j, k)`` or of a 2-D picture ``(c, row, column)``; None where they cannot be
    looked at."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return None
        if path.name.endswith(NIFTI_SUFFIXES):
            return read(path).array
        return _picture(path)
    except (DataError, OSError, ValueError, MemoryError):
        return None


def _picture(path: Path) -> np.ndarray | None:
    from PIL import Image

    if path.suffix.lower() in (".mha", ".mhd", ".nrrd"):
        return None
    try:
        with Image.open(path) as picture:
            shown = picture.convert("RGB") if picture.mode in ("RGBA", "CMYK", "YCbCr") else picture
            array = np.asarray(shown.convert("L") if shown.mode in ("LA", "La") else shown)
    except Image.DecompressionBombError:
        return None
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def looks_like_mask(path: Path) -> bool:
    """Whether a file holds a few whole numbers from 0 up and nothing else."""
    array = values(path)
    if array is None or array.shape[0] != 1 or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        return False
    found = np.unique(array)
    return len(found) <= 20 and found[0] == 0 and bool((found == np.rint(found)).all())


@dataclass
class Labels:
    """The labels of some masks, and what a person should know of them.

    Attributes:
        ignore: a value that seems to mean neither background nor foreground.
        values: the stored values that stand for labels 1, 2, ..., where they are shades such as 255.
        colours: the masks are colour pictures.
    """

    names: dict[int, str] = field(default_factory=dict)
    ignore: int | None = None
    values: dict[int, int] | None = None
    notes: list[str] = field(default_factory=list)
    colours: bool = False


def labels_in(paths: Sequence[Path]) -> Labels:
    """The values of a few masks; ``{1: label_1}`` where nothing can be seen."""
    some = spread(paths, _MASKS_LOOKED_AT)
    seen: set[int] = set()
    shares: list[float] = []
    looked = 0
    notes = []
    for path in some:
        array = values(path)
        if array is None:
            continue
        if array.shape[0] == 3 and not path.name.endswith(NIFTI_SUFFIXES):
            if (array != array[:1]).any():
                return Labels(colours=True)
            array = array[:1]
        looked += 1
        found = np.unique(array)
        odd = not np.isfinite(found).all() or bool((np.abs(found - np.rint(found)) > 1e-3).any()) or found.min() < 0
        if odd or len(found) > _MOST_LABELS[path.name.endswith(NIFTI_SUFFIXES)]:
            notes.append(
                f"{path.name} does not look like a mask: {len(found)} values from {found[0]:g} to {found[-1]:g}"
            )
            continue
        seen |= {int(value) for value in np.rint(found).astype(int)} - {0}
        shares.append(float((array > 127).mean()))
    if not looked:
        return Labels(
            {1: "label_1"}, notes=[f"the masks ({paths[0].name}) could not be looked into: name their labels"]
        )
    notes.append(f"seen in {looked} of {len(paths)} masks: give them their names")
    if not seen:
        return Labels({1: "label_1"}, notes=[*notes, "the masks that were looked at are empty"])
    if any(path.suffix.lower() in (".jpg", ".jpeg") for path in some) and any(0 < value < 255 for value in seen):
        notes.append(f"JPEG blurs masks (values such as {min(seen)}): save them as PNG")
        seen = {255} if all(min(value, 255 - value) <= _JPEG_BLUR for value in seen) else seen
    ignore = 255 if 255 in seen and len(seen) > 1 and max(seen - {255}) < 64 else None
    if ignore:
        notes.append("255 stands beside small numbers: taken as neither background nor foreground")
    # Whoever paints masks into pictures takes shades that the eye tells apart, white first.
    if 255 in seen and not ignore and min(seen) > _DARK and not any(p.name.endswith(NIFTI_SUFFIXES) for p in some):
        shades = {value: number for number, value in enumerate(sorted(seen), 1)}
        told = ", ".join(f"{value} means label {number}" for value, number in shades.items())
        notes.append(f"layout: values: {told}, and 0 the background")
        if len(shades) == 1:
            share = f" (255 covers {100 * sum(shares) / len(shares):.0f} % of the masks that were looked at)"
            notes.append("layout: if 0 is what was drawn, write values: {0: 1, 255: 0}" + share)
        return Labels({number: f"label_{number}" for number in shades.values()}, None, shades, notes)
    return Labels({number: f"label_{number}" for number in sorted(seen - {ignore})}, ignore, notes=notes)


def channel(name: str, paths: Sequence[Path]) -> tuple[list[Channel], list[str], int | None]:
    """The channels of one kind of files, what to know of them, and in how many dimensions they lie (None: unknown).

    A file with several channels gives several. The unit is HU where the values go down to air, SUV where the name
    says SUV or PET and no value is too large for it.
    """
    notes: list[str] = []
    headers = [found for path in spread(paths, 5) if (found := header(path))]
    array = values(paths[0])
    dimension: int | None
    if headers:
        dimension = 2 if all(min(found.geometry.shape) == 1 for found in headers) else 3
        counts = sorted({found.channels for found in headers})
        if len(counts) > 1:
            notes.append(f"the files have different numbers of channels: {counts}")
        if counts[0] > 1:
            return [Channel(name=f"{name}_{n}") for n in range(counts[0])], [*notes, _four(counts[0])], dimension
    else:
        dimension = _told_dimension(paths[0])
        pictures = [told for path in spread(paths, 20) if (told := _picture_header(path))]
        colours = sum(told.channels > 1 for told in pictures)
        if (array is not None and array.ndim == 3 and array.shape[0] == 3) or colours:
            if 0 < colours < len(pictures):
                notes.append(f"{colours} of {len(pictures)} pictures are stored in colour: the grey ones are spread")
            elif array is not None and not (array != array[:1]).any():
                notes.append("colour pictures in which red, green and blue are equal (in the first one)")
            return [Channel(name=colour) for colour in ("red", "green", "blue")], notes, dimension
    unit, note = _unit(name, array if headers else None)
    if unit == "HU" and name == "image":
        name = "CT"
    return [Channel(name=name, unit=unit)], [*notes, *([note] if note else [])], dimension


def _four(count: int) -> str:
    return f"4-D files with {count} channels: give them their names"


def _unit(name: str, array: np.ndarray | None) -> tuple[Unit, str | None]:
    there = set(words(name)) | {name.lower()}
    low, high = (float(np.nanmin(array)), float(np.nanmax(array))) if array is not None else (0.0, 0.0)
    seen = f"values from {low:g} to {high:g} in one image"
    if there & {"suv", "pet", "pt"}:
        if array is not None and high > _SUV_BELOW:
            return "arbitrary", f"{name}: {seen}: not SUV, perhaps Bq/ml"
        return "SUV", f"{name} taken as SUV from its name" + (f"; {seen}" if array is not None else "")
    if array is None:
        return ("HU", f"{name} taken as HU from its name") if there & {"ct", "ctres"} else ("arbitrary", None)
    if low < _HU_BELOW and high > _HU_BELOW and array.dtype.kind in "iuf":
        return "HU", f"{seen}: taken as CT in HU"
    if there & {"ct", "ctres"}:
        if low < 0:
            return "HU", f"{name}: {seen}: taken as HU, cut to a window"
        return "arbitrary", f"{name}: {seen}: a CT without negative values is not in HU (shifted, or cut to a window)"
    return "arbitrary", None


def _told_dimension(path: Path) -> int | None:
    """2 or 3 by the format, or by the text at the beginning of an MHA or NRRD file."""
    if path.name.endswith(NIFTI_SUFFIXES):
        return None
    if path.suffix.lower() in (".mha", ".mhd", ".nrrd"):
        try:
            with path.open("rb") as handle:
                start = handle.read(2000).decode("latin-1")
        except OSError:
            return None
        sizes = re.search(r"(?m)^(?:DimSize\s*=|sizes:)\s*([\d ]+)", start)
        count = [int(size) for size in sizes.group(1).split()] if sizes else []
        return None if not count else 2 if len(count) == 2 or 1 in count else 3
    return 2


def other_grid(image: Path, mask: Path) -> str | None:
    """What makes the grid of an image differ from its mask's, in words; None where they agree or are not known."""
    first, second = header(image), header(mask)
    if first is None or second is None:
        return None
    return first.geometry.difference(second.geometry)


def several_images(path: Path) -> int:
    """How many images a 4-D file holds (1 where that is not known)."""
    found = header(path)
    return found.channels if found else 1
