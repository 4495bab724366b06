"""Rooms of single things: image files, DICOM series, and the label maps, segmentations and structures over them."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np

from segue.core.console import say
from segue.core.errors import DataError, SegueError
from segue.dicom import (
    DicomError,
    MaskSet,
    Series,
    arrange,
    looks_like_dicom,
    modality_of,
    read_series,
    referenced_series,
    scan,
    structure_frame,
    suv,
)
from segue.images import image_stem, read, read_geometry, read_header, read_labels, read_masks
from segue.view.levels import MOST_VOXELS
from segue.view.room.shelf import Room, RoomCase, Sheet
from segue.volume import Geometry, Volume

_MOST_LABELS = 256
_SLICES = 24
# Of neighbours in a label map that are equal, at least: a photograph has as few numbers, but mixed.
_EVEN = 0.8
# More images of one grid whose names differ in words are no channels of one study.
_MOST_TOGETHER = 8
_MASKS = ("SEG", "RTSTRUCT")
_NO_IMAGES = ("SM", "SR", "PR", "KO", "ANN", "RTPLAN", "REG")


class NothingToShowError(DataError):
    """Neither an image nor a mask that can be shown without one."""


@dataclass(eq=False)
class _Shown:
    """An image: a file, or the files of a DICOM series (then ``path`` is where they lie)."""

    path: Path
    stem: str
    series: Series | None = None

    @cached_property
    def geometry(self) -> Geometry:
        return read_geometry(self.path) if self.series is None else arrange(self.series).geometry

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,) if self.series is None else self.series.files

    def sheet(self) -> Sheet:
        if self.series is not None:
            name = {"PT": "PET"}.get(self.series.modality, self.series.modality)
            return Sheet(name, self.files, partial(_of_series, self.series), "series in its own unit")
        path = self.path
        colour = _in_colour(path)
        read_it = partial(read, path) if colour else partial(single, path)
        unit = "SUV" if self.stem.upper().startswith("SUV") else _unit_of(path)
        return Sheet(self.stem, (path,), read_it, "image", None if colour else path, unit, colour)


@dataclass(frozen=True)
class _Drawn:
    """A file with masks of an image: a label map, or a segmentation or structures that say on which series and in
    which frame of reference they were drawn."""

    path: Path
    reference: str = ""
    frame: str = ""
    needs_image: bool = False
    is_dicom: bool = False


@dataclass(eq=False)
class _Group:
    """What is shown together: images, the first of which the others lie over, and masks."""

    images: list[_Shown]
    masks: list[_Drawn] = field(default_factory=list)
    is_mask: bool = False  # a segmentation whose image is not here

    @property
    def first(self) -> _Shown:
        return self.images[0]


def files_room(paths: Sequence[Path], title: str) -> Room:
    """Images by themselves, with the masks that belong to them.

    Files: a label map on the grid of an image is laid over it, CT and PET on one grid are one case. A label map holds
    few whole numbers, evenly; it belongs to the image on its grid whose name is most like its own.

    DICOM, in folders or (segmentations, structures) in files: each series of images is a case; a PET is laid over the
    CT of its study in the same frame of reference, in SUV where its headers allow it. A DICOM-SEG or RTSTRUCT belongs
    to the series that it names, else to those in its frame of reference, else to a room's only case.

    A file that cannot be read is a case that says so, as long as there is another one.

    Raises:
        DataError: nothing of it can be read, in the words of the first. NothingToShowError: no image.
    """
    images, maps, drawn, problems = _sorted_out(paths)
    files = [image for image in images if image.series is None]
    groups = _of_files(files, problems) + _of_series_in([image for image in images if image.series is not None])
    _lay(maps, groups)
    notes = [note for one in drawn if (note := _belongs(one, groups))]
    if problems and len(problems) == len(groups):
        raise next(iter(problems.values()))
    if len(groups) == 1 and not groups[0].is_mask:
        _ = groups[0].first.geometry  # one thing that cannot be read is told before a page is opened
    if not groups:
        raise NothingToShowError(
            "nothing here can be shown by itself", value=" ".join(notes), remedy="give the image too"
        )
    cases = [
        RoomCase(
            name,
            partial(_sheets, group),
            patient=group.first.series.patient_id if group.first.series else "",
            facts={"series": ", ".join(i.series.called for i in group.images if i.series)}
            if group.first.series
            else {},
        )
        for name, group in zip(_short_names(groups), groups, strict=True)
    ]
    return Room(title, "files", cases, notes=notes)


def _sorted_out(
    paths: Sequence[Path],
) -> tuple[list[_Shown], list[_Drawn], list[_Drawn], dict[_Shown, SegueError]]:
    """Images, label maps, masks of DICOM, and the images that cannot be read."""
    images: list[_Shown] = []
    maps: list[_Drawn] = []
    drawn: list[_Drawn] = []
    problems: dict[_Shown, SegueError] = {}
    for path in paths:
        if path.is_dir():
            for series in scan(path):
                if series.modality in _MASKS:
                    drawn += [_masks_of(file, series.modality, series.frame_of_reference) for file in series.files]
                elif series.frames and series.modality not in _NO_IMAGES:
                    images.append(_series(series, path))
            continue
        if looks_like_dicom(path) and (modality := modality_of(path)) in _MASKS:
            drawn.append(_masks_of(path, modality))
            continue
        shown = _Shown(path, image_stem(path))
        try:
            _ = shown.geometry
            if looks_like_labels(path):
                maps.append(_Drawn(path))
                continue
        except SegueError as error:
            problems[shown] = error
        images.append(shown)
    return images, maps, drawn, problems


def _series(series: Series, below: Path) -> _Shown:
    folders = {path.parent for path in series.files}
    folder = folders.pop() if len(folders) == 1 else below
    return _Shown(folder, folder.resolve().name, series)


def _masks_of(path: Path, modality: str, frame: str = "") -> _Drawn:
    structures = modality == "RTSTRUCT"
    try:
        frame = frame or (structure_frame(path) if structures else "")
        reference = referenced_series(path)
    except DicomError:
        reference = ""  # damaged: where it is shown it says so
    return _Drawn(path, reference, frame, needs_image=structures, is_dicom=True)


# What belongs together


def _of_files(images: Iterable[_Shown], problems: dict[_Shown, SegueError]) -> list[_Group]:
    groups: list[_Group] = []
    # Only those of one folder and size, and of other words, can be of one study: ten thousand names are not compared
    # with each other.
    near: dict[tuple[Path, tuple[int, ...]], dict[tuple[str, str], list[_Group]]] = {}
    for image in images:
        if image in problems:
            groups.append(_Group([image]))
            continue
        words = near.setdefault((image.path.parent, image.geometry.shape), {})
        own = _plain(image.stem), _worded(image.stem)
        mates = (
            group
            for (plain, worded), some in words.items()
            if plain == own[0] or worded != own[1]
            for group in some
            if group.first.geometry.difference(image.geometry) is None
        )
        mate = next(mates, None)
        if mate is None:
            groups.append(_Group([image]))
            words.setdefault(own, []).append(groups[-1])
        else:
            mate.images.append(image)
    return [part for group in groups for part in _apart(group)]


def _apart(group: _Group) -> list[_Group]:
    return [group] if len(group.images) <= _MOST_TOGETHER else [_Group([image]) for image in group.images]


def _plain(stem: str) -> str:
    """A name without the number of its channel."""
    return re.sub(r"_\d{4}$", "", stem)


def _worded(stem: str) -> str:
    """A name without its numbers; T1 and T2 are words. Names that differ in words tell channels of one study, those
    that differ in numbers tell patients."""
    return re.sub(r"\d+", "#", re.sub(r"(?<![a-z])t([12])", lambda m: "t" + "ab"[int(m[1]) - 1], stem.lower()))


def _of_series_in(images: Sequence[_Shown]) -> list[_Group]:
    """Each series, PET over the CT of its study that has most slices."""
    found = [(image, image.series) for image in images if image.series is not None]
    under: dict[_Shown, _Shown] = {}
    for image, series in found:
        same = [
            (other.frames, -place, shown)
            for place, (shown, other) in enumerate(found)
            if series.modality == "PT" and other.modality == "CT" and _place_of(other) == _place_of(series)
        ]
        if same and series.frame_of_reference:
            under[image] = max(same, key=lambda one: one[:2])[2]
    used = set(under.values())
    return [_Group([under[image], image] if image in under else [image]) for image, _ in found if image not in used]


def _place_of(series: Series) -> tuple[str, str, str]:
    return series.patient_id, series.study_uid, series.frame_of_reference


def _lay(maps: Sequence[_Drawn], groups: list[_Group]) -> None:
    """Each label map over an image on its grid; one that has none is shown by itself, in grey under its colours."""
    by_shape: dict[tuple[int, ...], list[_Group]] = {}
    for group in groups:
        try:
            by_shape.setdefault(group.first.geometry.shape, []).append(group)
        except SegueError:
            continue  # it cannot be read, and says so when it is opened
    for one in maps:
        grid = read_geometry(one.path)
        some = by_shape.setdefault(grid.shape, [])
        fitting = [group for group in some if group.first.geometry.difference(grid) is None]
        if fitting:
            max(fitting, key=lambda group: _likeness(group.first.path, one.path)).masks.append(one)
        else:
            groups.append(_Group([_Shown(one.path, image_stem(one.path))], [one]))
            some.append(groups[-1])


def _likeness(image: Path, mask: Path) -> tuple[int, int]:
    """How many folders two files have in common, and how many first letters of their names."""
    return _common(image.parts[:-1], mask.parts[:-1]), _common(image_stem(image), image_stem(mask))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return next((n for n, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))


def _belongs(drawn: _Drawn, groups: list[_Group]) -> str:
    """Lay masks of DICOM over their images; a sentence where these are not here."""

    def where(holds: Callable[[Series], bool]) -> list[_Group]:
        return [group for group in groups if any(image.series and holds(image.series) for image in group.images)]

    fitting = (
        where(lambda series: bool(drawn.reference) and series.uid == drawn.reference)
        or where(lambda series: bool(drawn.frame) and series.frame_of_reference == drawn.frame)
        or ([group for group in groups if not group.is_mask] if len(groups) == 1 else [])
    )
    for group in fitting:
        group.masks.append(drawn)
    if fitting:
        return ""
    if drawn.needs_image:
        return f"Not shown: {drawn.path.name}: its contours belong to an image that is not here."
    groups.append(_Group([_Shown(drawn.path, image_stem(drawn.path))], [drawn], is_mask=True))
    return ""


# What is read when a case is opened


def _sheets(group: _Group) -> tuple[list[Sheet], list[Sheet]]:
    names = _told_apart([(*one.path.resolve().parent.parts, image_stem(one.path)) for one in group.masks])
    image = None if group.is_mask else group.first
    masks = [sheet for one, name in zip(group.masks, names, strict=True) for sheet in _overlays(one, name, image)]
    if group.is_mask:  # its numbers in grey, under the colours of its labels
        return [Sheet("mask", mask.files, mask.read, ["grey", mask.form]) for mask in masks[:1]], masks
    return [image.sheet() for image in group.images], masks


def _overlays(drawn: _Drawn, name: str, image: _Shown | None) -> list[Sheet]:
    path = drawn.path
    if not drawn.is_dicom:
        return [Sheet(name, (path,), partial(read_labels, path), "mask", path)]
    files = (path, *(image.files if image else ()))
    try:
        layers = _layers(path, path.stat().st_mtime_ns, image)
    except (SegueError, OSError) as error:
        return [Sheet(name, files, partial(_raised, error), "none")]
    return [
        Sheet(
            name if number == 1 else f"{name} ({number})",
            files,
            masks.label_map,
            ["drawn", number],
            labels={segment.number: segment.name for segment in masks.segments},
        )
        for number, masks in enumerate(layers, start=1)
    ]


@lru_cache(maxsize=4)
def _layers(path: Path, changed_ns: int, image: _Shown | None) -> list[MaskSet]:
    """The masks of a file on the grid of the image, those apart that share voxels. What is looked at is kept: the page
    asks for each of them several times."""
    return read_masks(path, image.geometry if image else None).layers()


def _raised(error: Exception) -> Volume:
    raise error


def _of_series(series: Series) -> Volume:
    """PET in SUV where the headers say all that it takes; of several volumes in one series the first."""
    made = read_series(series)
    if series.modality == "PT":
        try:
            return suv(made).volume
        except DicomError as error:
            say(f"{series.called}: shown in the scanner's units: {error}")
    volume = made.volume
    return Volume(volume.array[:1], volume.geometry, volume.kind, volume.unit)


def single(path: Path) -> Volume:
    """An image with its first channel alone."""
    volume = read(path)
    return volume if len(volume.array) == 1 else Volume(volume.array[:1], volume.geometry, volume.kind, volume.unit)


def _in_colour(path: Path) -> bool:
    header = read_header(path)
    return header.channels == 3 and header.dtype == np.uint8


def _unit_of(path: Path) -> str:
    """HU where a file is named like a CT: nothing else tells it before the voxels are read."""
    words = re.split(r"[^a-z]+", image_stem(path).lower())
    return "HU" if any(word in ("ct", "ctres") for word in words) else "arbitrary"


def looks_like_labels(path: Path) -> bool:
    """Whether a file holds few whole numbers from 0, each in patches: a label map, most likely.

    A file that is too large to be read just for that is taken for an image.
    """
    if math.prod(read_geometry(path).shape) > MOST_VOXELS or _in_colour(path):
        return False
    array = single(path).array[0]
    step = max(1, array.shape[2] // _SLICES)
    some = array[:, :, ::step]  # enough for what most images betray at once; the rest is asked only of likely ones
    if some.dtype.kind == "f" and not (np.isfinite(some).all() and (some == np.rint(some)).all()):
        return False
    if array.min() != 0 or not 1 <= array.max() < 1000 or len(np.unique(some)) > _MOST_LABELS:
        return False
    return bool((some[1:] == some[:-1]).mean() > _EVEN)


def _short_names(groups: Sequence[_Group]) -> list[str]:
    """Of files and folders; series of one folder by what they are called."""
    places = [_place(group) for group in groups]
    times = Counter(places)
    return _told_apart(
        [
            (*place, group.first.series.called) if group.first.series and times[place] > 1 else place
            for place, group in zip(places, groups, strict=True)
        ]
    )


def _place(group: _Group) -> tuple[str, ...]:
    if group.first.series and len(group.images) > 1:  # PET/CT: the study, not the folder of its CT
        return Path(os.path.commonpath([image.path.resolve() for image in group.images])).parts
    return (*group.first.path.resolve().parent.parts, group.first.stem)


def _told_apart(places: Sequence[tuple[str, ...]]) -> list[str]:
    """The last parts of paths, with as many before them as tell them apart."""
    for depth in range(13):
        names = ["/".join(place[-1 - depth :]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]
