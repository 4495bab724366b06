"""``check`` of what is no dataset: images and DICOM series, each by itself and among others of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segue.catalogue import Dataset
from segue.core.console import stage
from segue.core.errors import DataError
from segue.core.executor import map_cases
from segue.dicom import Series, read_series, tag_text
from segue.dicom.files import read_dataset
from segue.images import image_stem, read, read_forms
from segue.prepare import Examination, Finding, dataset_findings, find_twins, thumbnail
from segue.prepare.examine_image import Kind, examine_image, kind_of
from segue.prepare.quality.finding import MEND
from segue.prepare.quality.geometry import look_at_header
from segue.prepare.quality.outliers import LEAST_CASES
from segue.prepare.quality.reporting import Found
from segue.workflow.look import workers_for_files

# Of one image: what was found, and where it could be read, of which kind it is and what was measured.
_Looked = tuple[list[Finding], Kind | None, Examination | None]
# Images of one kind as a dataset, and what was measured of each.
Compared = tuple[Dataset, list[Examination]]


def look_at_images(
    paths: Sequence[Path], folder: Path, workers: int | None = None
) -> tuple[list[Finding], list[Compared]]:
    """Each image by itself, then those of a kind (volumes, pictures, label maps) together.

    Args:
        folder: above them, or the image where there is one.
    """
    names = [image_stem(path) if path == folder else path.relative_to(folder).as_posix() for path in paths]
    tasks = list(zip(paths, names, strict=True))
    looked = []
    with stage("check", len(tasks)) as shown:
        for _, result in map_cases(_look_at_image, tasks, workers=workers_for_files(paths, workers)):
            if isinstance(result, DataError):
                raise result
            looked.append(result)
            shown.advance()
        shown.note(f"{len(paths)} images")
    return _compared(looked, folder, dict(zip(names, paths, strict=True)))


def _look_at_image(task: tuple[Path, str]) -> _Looked:
    path, name = task
    found = Found(name)
    try:
        volume = read(path)
        forms = read_forms(path)
    except DataError as error:
        found("error", error.what, error.value or path.name, error.remedy or MEND)
        return found.findings, None, None
    look_at_header(path, forms, volume.geometry, found)
    kind = kind_of(volume)
    return found.findings, kind, examine_image(volume, kind, found)


def look_at_series(series: Sequence[Series], folder: Path) -> tuple[list[Finding], list[Compared]]:
    """Can each DICOM series be read as one volume or several, and if not, why? Then those of a kind together."""
    looked = [_look_at_series(one, name) for one, name in zip(series, _names(series), strict=True)]
    return _compared(looked, folder, {})


def _names(series: Sequence[Series]) -> list[str]:
    """What each is called; those that are called the same are numbered in the order of their files.

    No folder stands in it: people call their folders by their patients.
    """
    called = [f"{one.called} ({one.frames} image{'s' if one.frames != 1 else ''})" for one in series]
    numbers: dict[str, list[int]] = {}
    for place in sorted(range(len(series)), key=lambda place: series[place].files[0]):
        numbers.setdefault(called[place], []).append(place)
    return [
        name if len(numbers[name]) == 1 else f"{name}, {numbers[name].index(place) + 1} of {len(numbers[name])}"
        for place, name in enumerate(called)
    ]


def _look_at_series(series: Series, name: str) -> _Looked:
    found = Found(name)
    if series.frames == 0:
        found(
            "note",
            "no images: structures or a report",
            series.modality,
            "nothing: segue convert reads it with its images",
        )
        return found.findings, None, None
    try:
        read_as = read_series(series)
        header = read_dataset(series.files[0], tags=["PhotometricInterpretation"])
    except DataError as error:
        found("error", error.what, error.value or name, error.remedy or MEND)
        return found.findings, None, None
    volume = read_as.volume
    several = f"{len(volume.array)} volumes that differ in {read_as.differ_in}" if read_as.differ_in else "one volume"
    shape = "x".join(map(str, volume.geometry.shape))
    found("note", f"readable as {several}", shape, "nothing: segue convert writes it")
    if tag_text(header, "PhotometricInterpretation") == "MONOCHROME1":
        found(
            "note",
            "stored for a display that shows low values bright (MONOCHROME1)",
            "values are read as they are stored",
            "nothing for CT, MR and PET; turn radiographs round where others of the dataset are MONOCHROME2",
        )
    kind = kind_of(volume)
    return found.findings, kind, examine_image(volume, kind, found)


def _compared(looked: Sequence[_Looked], folder: Path, paths: dict[str, Path]) -> tuple[list[Finding], list[Compared]]:
    findings = [finding for found, _, _ in looked for finding in found]
    kinds: dict[Kind, list[Examination]] = {}
    for _, kind, measured in looked:
        if kind is not None and measured is not None:
            kinds.setdefault(kind, []).append(measured)
    compared = []
    for kind, alike in kinds.items():
        dataset = kind.dataset(folder, {e.case: paths[e.case] for e in alike if e.case in paths})
        compared.append((dataset, alike))
        if len(alike) >= LEAST_CASES and not kind.labels:
            findings += dataset_findings(dataset.card, [], alike)
        if not kind.labels:
            findings += _twins(alike, paths)
    return findings, compared


def _twins(measured: Sequence[Examination], paths: dict[str, Path]) -> list[Finding]:
    """Images that are here twice, or nearly so."""
    known = [e for e in measured if e.content is not None and e.case in paths]
    if len(known) < 2:
        return []
    content = np.array([e.content for e in known], dtype=np.uint64)
    perceptual = np.array([e.perceptual or 0 for e in known], dtype=np.uint64)
    has = np.array([e.perceptual is not None for e in known])
    twins = find_twins(
        content, perceptual, has, np.arange(len(known)), lambda index: thumbnail(read(paths[known[index].case]).array)
    )
    return [
        Finding(
            case=known[pair.first].case,
            severity="warning",
            what="the same image is here twice" if pair.exact else "nearly the same image is here twice",
            value=f"as {known[pair.second].case}"
            + ("" if pair.exact else f", {pair.bits} of 64 bits of their perceptual hashes differ"),
            remedy="keep one of them, or keep both in one set",
        )
        for pair in twins
    ]
