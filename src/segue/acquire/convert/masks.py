"""The masks of a study: DICOM-SEG and RTSTRUCT on the grid of the image that they were drawn on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segue.acquire.convert.identity import slug, telling_words, without_identity, without_words
from segue.core.errors import DataError
from segue.dicom import (
    DicomError,
    MaskSet,
    Series,
    read_segments,
    read_structures,
    referenced_series,
    structure_frame,
)
from segue.volume import Geometry

if TYPE_CHECKING:
    from segue.acquire.convert.study import Work


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The masks of one file, and the UID of the image that they lie on: empty where that is not there."""

    series: Series
    masks: MaskSet
    image: str


def convert_masks(work: Work, pet: Series | None, ct: Series | None) -> None:
    """Write the masks of a study.

    ``SEG.nii.gz`` is the label map of the PET, or of a study's only image that has one; masks of other images are
    ``SEG_IMAGE.nii.gz``, and segments whose image is not there lie on their own grid. Where the PET has none, those of
    the CT (or the only ones of its frame of reference) are brought to it, so that the study can be trained on. Where
    segments overlap, each has a file of its own too, and the label map shows the smaller one.
    """
    drawn = _read_all(work, pet)
    on: dict[str, list[_Drawn]] = defaultdict(list)
    for one in drawn:
        on[one.image].append(one)
    main = pet.uid if pet is not None and pet.uid in work.grids else next(iter(on), "") if len(on) == 1 else ""
    for image, sets in on.items():
        base = "SEG" if image == main else f"SEG_{work.names[image]}" if image else ""
        decided = _decided(work, sets)
        if base and decided is None:
            work.failures.setdefault("", _several(work.names[image], sets))
        for one in sets:
            numbered = f"{slug(one.series.modality).upper()}_{slug(one.series.number).zfill(3)}"
            name = numbered if not base else base if one is decided else f"{base}_{numbered}"
            if not base and len(drawn) == 1 and not work.grids:
                name = "SEG"
            _write(work, one, _free(work, name))
    if pet is not None and main and main not in on and drawn:
        _bring_to(work, pet, ct, drawn)


def _bring_to(work: Work, pet: Series, ct: Series | None, drawn: list[_Drawn]) -> None:
    """The masks of another image on the grid of the PET, which has none of its own."""
    near = [one for one in drawn if _frame(work, one) == pet.frame_of_reference != ""]
    if not near:
        work.notes.append("no mask for the PET: those of the other images are in another frame of reference")
        return
    named = [one for one in near if one.series.uid in work.task.named]
    decided = _decided(work, named or [one for one in near if ct is not None and one.image == ct.uid] or near)
    if decided is None:
        work.failures.setdefault("", _several("images in the frame of the PET", near))
        return
    moved = replace(decided, masks=decided.masks.on(work.grids[pet.uid]))
    _write(work, moved, "SEG", resampled=True)


def _read_all(work: Work, pet: Series | None) -> list[_Drawn]:
    """The masks of a study that can be read; for each of the others the study has a failure."""
    found = []
    for series in work.task.series:
        if series.modality not in ("SEG", "RTSTRUCT"):
            continue
        for path in series.files:
            words: set[str] = set()
            try:
                words = set() if work.task.reveals else telling_words(path)
                image = _image_of(work, series, path, pet)
                if not image and series.modality == "RTSTRUCT":
                    raise DicomError(
                        "the image on which these structures were drawn is not among the series that could be read",
                        where=path,
                        reason="NO_REFERENCE",
                    )
                masks = _on(work.grids[image], series, path) if image else read_segments(path)
                found.append(_Drawn(series, masks if work.task.reveals else _cleaned(masks, words), image))
            except DataError as error:
                if not work.task.reveals:
                    error.what = without_identity(error.what, words)
                work.failures[series.uid] = error
                work.failures.setdefault("", error)
    return found


def _cleaned(masks: MaskSet, words: set[str]) -> MaskSet:
    """The same masks, their names without what tells whose they are."""
    segments = [
        replace(
            segment,
            name=without_identity(segment.name, words) or f"segment {segment.number}",
            meaning={key: without_words(value, words) for key, value in segment.meaning.items()},
        )
        for segment in masks.segments
    ]
    return replace(masks, segments=tuple(segments))


def _frame(work: Work, one: _Drawn) -> str:
    uid = one.image or one.series.uid
    return next(series.frame_of_reference for series in work.task.series if series.uid == uid)


def _decided(work: Work, sets: list[_Drawn]) -> _Drawn | None:
    """The one set of masks of an image, or the one of several that the user has decided for."""
    named = [one for one in sets if one.series.uid in work.task.named]
    candidates = named or sets
    return candidates[0] if len(candidates) == 1 else None


def _image_of(work: Work, series: Series, path: Path, pet: Series | None) -> str:
    """The UID of the image on which masks were drawn; empty where it is not there.

    Contours are places in the patient: where their image is missing, the PET of their frame of reference takes its
    place, or else the only image in it. Segments lie on a grid of their own, and keep it.
    """
    image = referenced_series(path)
    if image in work.grids or (image and series.modality == "SEG"):
        return image if image in work.grids else ""
    frame = series.frame_of_reference or (structure_frame(path) if series.modality == "RTSTRUCT" else "")
    near = [other for other in work.task.series if other.uid in work.grids and other.frame_of_reference == frame != ""]
    if pet is not None and any(other.uid == pet.uid for other in near):
        return pet.uid
    return near[0].uid if len(near) == 1 else ""


def _on(grid: Geometry, series: Series, path: Path) -> MaskSet:
    return read_segments(path, grid) if series.modality == "SEG" else read_structures(path, grid)


def _write(work: Work, drawn: _Drawn, name: str, *, resampled: bool = False) -> None:
    series, masks = drawn.series, drawn.masks
    image = f"{work.names[drawn.image]}.nii.gz" if drawn.image else None
    overlaps = masks.overlaps()
    facts: dict[str, Any] = {
        "labels": {str(segment.number): segment.name for segment in masks.segments},
        "meaning": {str(segment.number): segment.meaning for segment in masks.segments if segment.meaning},
        "source": masks.source,
        "image": image,
        "voxels": {str(segment.number): int(np.count_nonzero(segment.mask)) for segment in masks.segments},
        "overlaps": overlaps,
    }
    if resampled:
        facts["resampled_to"] = "PET.nii.gz"
    if overlaps:
        facts["where_segments_overlap"] = "the smaller one is shown"
    work.write(series, masks.label_map(), name, facts)
    if not overlaps:
        return
    for segment in masks.segments:
        alone = f"{name}_{segment.number:02d}_{slug(segment.name)}".rstrip("_")
        work.write(series, masks.mask_of(segment), alone, {"labels": {"1": segment.name}, "image": image})


def _free(work: Work, name: str) -> str:
    again, found = 2, name
    while (work.folder / f"{found}.nii.gz").exists():
        found, again = f"{name}_{again}", again + 1
    return found


def _several(image: str, sets: list[_Drawn]) -> DicomError:
    what = f"{len(sets)} sets of masks are drawn on {image}; each has a file of its own, and none is SEG.nii.gz"
    kinds = [f"{one.series.modality} {one.series.number or '?'}" for one in sets]
    if len({one.series.uid for one in sets}) < len(sets):
        remedy = "keep one of the files of this series in the folder, and move the others elsewhere"
        return DicomError(what, value=", ".join(kinds), remedy=remedy, reason="AMBIGUOUS_SERIES")
    listed = "; ".join(f"{kind}: --series {one.series.uid}" for kind, one in zip(kinds, sets, strict=True))
    return DicomError(what, value=listed, reason="AMBIGUOUS_SERIES")
