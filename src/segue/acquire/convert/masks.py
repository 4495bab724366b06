"""The masks of a study: DICOM-SEG and RTSTRUCT on the grid of the image that they were drawn on."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segue.acquire.convert.identity import slug
from segue.core.errors import DataError
from segue.dicom import DicomError, MaskSet, Series, read_segments, read_structures, referenced_series
from segue.images.labels import label_type
from segue.volume import Geometry, Volume

if TYPE_CHECKING:
    from segue.acquire.convert.study import Work


def convert_masks(work: Work, pet: Series | None) -> None:
    """Write the masks of a study.

    ``SEG.nii.gz`` is the label map of the PET, or of a study's only image that has one; masks of other images are
    ``SEG_IMAGE.nii.gz``, and segments whose image is not there lie on their own grid. A CT's mask is brought to the
    PET where the PET has none, so that the study can be trained on. Where segments overlap, each has a file of its own
    too, and the label map shows the smaller one.
    """
    found: dict[str, list[tuple[Series, MaskSet]]] = defaultdict(list)
    without_image: list[tuple[Series, MaskSet]] = []
    for series in work.task.series:
        if series.modality not in ("SEG", "RTSTRUCT"):
            continue
        for path in series.files:
            try:
                image = _image_of(work, series, path)
                if image:
                    found[image].append((series, _on(work.grids[image], series, path)))
                elif series.modality == "SEG":
                    without_image.append((series, read_segments(path)))
                else:
                    raise DicomError(
                        "the image on which these structures were drawn is not among the series that could be read",
                        where=path,
                        reason="NO_REFERENCE",
                    )
            except DataError as error:
                work.failures[series.uid] = error
                work.failures.setdefault("", error)
    main = pet.uid if pet is not None and pet.uid in work.grids else next(iter(found), "") if len(found) == 1 else ""
    for image, drawn in found.items():
        base = "SEG" if image == main else f"SEG_{work.names[image]}"
        decided = _decided(work, drawn)
        if decided is None:
            work.failures.setdefault("", _several(work.names[image], drawn))
        for series, masks in drawn:
            alone = (series, masks) == decided
            name = base if alone else f"{base}_{slug(series.modality).upper()}_{slug(series.number).zfill(3)}"
            _write(work, series, masks, _free(work, name), f"{work.names[image]}.nii.gz")
    if main and main not in found and len(found) == 1:
        (image, drawn), *_ = found.items()
        decided = _decided(work, drawn)
        if decided is not None and _shares_frame(work, image, main):
            series, masks = decided
            _write(work, series, masks.on(work.grids[main]), "SEG", f"{work.names[image]}.nii.gz", resampled=True)
    for series, masks in without_image:
        name = "SEG" if not work.grids else f"SEG_{slug(series.number).zfill(3)}"
        _write(work, series, masks, _free(work, name), None)


def _decided(work: Work, drawn: list[tuple[Series, MaskSet]]) -> tuple[Series, MaskSet] | None:
    """The one set of masks of an image, or the one of several that the user has decided for."""
    named = [pair for pair in drawn if pair[0].uid in work.task.named]
    candidates = named or drawn
    return candidates[0] if len(candidates) == 1 else None


def _image_of(work: Work, series: Series, path: Path) -> str:
    """The UID of the image on which masks were drawn; empty where it is not there."""
    image = referenced_series(path)
    if not image:
        near = [
            other.uid
            for other in work.task.series
            if other.uid in work.grids and other.frame_of_reference == series.frame_of_reference != ""
        ]
        image = near[0] if len(near) == 1 else ""
    return image if image in work.grids else ""


def _on(grid: Geometry, series: Series, path: Path) -> MaskSet:
    return read_segments(path, grid) if series.modality == "SEG" else read_structures(path, grid)


def _shares_frame(work: Work, one: str, other: str) -> bool:
    frames = {series.uid: series.frame_of_reference for series in work.task.series}
    return frames[one] == frames[other] != ""


def _write(
    work: Work, series: Series, masks: MaskSet, name: str, image: str | None, *, resampled: bool = False
) -> None:
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
    work.write(series, _label_map(masks), name, facts)
    if not overlaps:
        return
    for segment in masks.segments:
        alone = f"{name}_{segment.number:02d}_{slug(segment.name)}".rstrip("_")
        work.write(series, masks.mask_of(segment), alone, {"labels": {"1": segment.name}, "image": image})


def _label_map(masks: MaskSet) -> Volume:
    """All segments in one volume; where they share voxels the smaller one lies on top."""
    numbers = np.array([segment.number for segment in masks.segments])
    array = np.zeros(masks.geometry.shape, label_type(numbers))
    for segment in sorted(masks.segments, key=lambda segment: -np.count_nonzero(segment.mask)):
        box = tuple(slice(a, a + n) for a, n in zip(segment.start, segment.mask.shape, strict=True))
        array[box][segment.mask] = segment.number
    return Volume(array[None], masks.geometry, "labels", "labels")


def _free(work: Work, name: str) -> str:
    again, found = 2, name
    while (work.folder / f"{found}.nii.gz").exists():
        found, again = f"{name}_{again}", again + 1
    return found


def _several(image: str, drawn: list[tuple[Series, MaskSet]]) -> DicomError:
    listed = "; ".join(f"{series.modality} {series.number or '?'}: --series {series.uid}" for series, _ in drawn)
    return DicomError(
        f"{len(drawn)} sets of masks are drawn on {image}; each has a file of its own, and none is SEG.nii.gz",
        value=listed,
        reason="AMBIGUOUS_SERIES",
    )
