"""Folders of DICOM as cases: converted as ``segue convert`` does it, and what of a study the model takes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from segue.acquire.convert import Converted, Row, convert
from segue.acquire.convert.identity import case_name
from segue.catalogue import Card, Case
from segue.core.alone import alone
from segue.core.errors import DataError
from segue.dicom import Series, looks_like_dicom
from segue.images import image_stem, suffix_of
from segue.predict.masks import from_series, that_failed

_LOOKED_AT = 50  # files of a folder, before it is taken for one without DICOM
_DICOM_MODALITIES = {"CT": "CT", "MRI": "MR", "MR": "MR", "PET": "PT", "US": "US"}
_SUV, _CT_ON_PET = "SUV.nii.gz", "CTres.nii.gz"


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, with its suffix or without one."""
    return suffix_of(path) in (".dcm", ".ima") or (not suffix_of(path) and looks_like_dicom(path))


def holds_dicom(folder: Path) -> bool:
    """Whether DICOM files are among the first ones below a folder."""
    names = (Path(root) / name for root, _, names in os.walk(folder) for name in sorted(names))
    return any(is_dicom(path) for path in itertools.islice(names, _LOOKED_AT))


def of_dicom_folder(folder: Path, card: Card, converted: Path) -> list[Case]:
    """The cases that the series below a folder make, converted into ``converted/PATIENT/STUDY``.

    A model with SUV among its channels takes one case of each study: the PET as SUV and, where it has a CT, the CT on
    its grid. A model of one channel takes every series of its modality. A folder of one case gives it its name; else
    cases are called by patient and study, of several series also by the series. A study from which no case comes is a
    case that failed.

    Raises:
        DataError: no series there, or a model whose channels nothing in DICOM tells apart.
        UsageError: ``converted`` lies in the folder.
        MachineError: pydicom is not installed, the disk is full or may not be written.
    """
    units = [channel.unit for channel in card.channels]
    if len(units) > 1 and "SUV" not in units:
        raise DataError(
            "which DICOM series is which channel nothing tells",
            where=folder,
            value=", ".join(channel.name for channel in card.channels),
            remedy=f"segue convert {folder} FOLDER, then name the files of a case CASE_0000.nii.gz, CASE_0001.nii.gz",
        )
    with alone(converted):
        done = convert(folder, converted)
    cases = [case for row in done.studies for case in _of_study(row, done, card, converted)]
    if not cases:
        raise DataError("nothing in these DICOM files is a volume", where=folder, remedy="give the images themselves")
    if len(cases) == 1:
        name = folder.resolve().name
        if done.pseudonyms:
            sources = [file for row in done.sources.values() for file in row.files[:1]]
            name = case_name(name, sources[0], converted) if sources else cases[0].id
        cases = [replace(cases[0], id=name, patient=name)]
    return cases


def _of_study(row: Row, done: Converted, card: Card, converted: Path) -> Iterator[Case]:
    folder = converted / row.patient / row.study
    name = f"{row.patient}_{row.study}"
    sources = {path: series for path, series in done.sources.items() if path.parent == folder}
    try:
        if any(channel.unit == "SUV" for channel in card.channels):
            yield _of_pet(name, folder, sources, card)
            return
        found = [path for path, series in sources.items() if _fits(path, series, card)]
        if not found and row.status != "left out":
            raise DataError(
                "no series of this study is what the model takes",
                value=", ".join(sorted({series.modality for series in sources.values()})) or "nothing was converted",
                remedy=f"it takes {card.channels[0].name} ({', '.join(card.modalities) or card.channels[0].unit})",
            )
        for path in found:
            suffix = f"_{image_stem(path)}" if len(found) > 1 else ""
            yield from_series(name + suffix, (path,), sources[path])
    except DataError as error:
        if row.status == "failed":  # the reason behind it
            error = DataError(row.what, where=name, value=row.told or row.value, remedy=row.remedy or error.remedy)
        yield that_failed(name, error)


def _of_pet(name: str, folder: Path, sources: dict[Path, Series], card: Card) -> Case:
    wanted = {"SUV": folder / _SUV, "HU": folder / _CT_ON_PET}
    images, absent = [], []
    for number, channel in enumerate(card.channels):
        path = wanted.get(channel.unit)
        if path is not None and path in sources:
            images.append(path)
        elif channel.optional:
            absent.append(number)
        else:
            raise DataError(
                "the study lacks a channel that the model needs",
                value=f"{channel.name} ({path.name if path else 'of no unit that DICOM tells'})",
                remedy="give the folder of the whole study, PET and CT; here is "
                + (", ".join(sorted({series.modality for series in sources.values()})) or "nothing"),
            )
    return from_series(name, tuple(images), sources[folder / _SUV], tuple(absent))


def _fits(path: Path, series: Series, card: Card) -> bool:
    """Whether a converted file is an image of the model's one channel."""
    if path.name in (_SUV, _CT_ON_PET):
        return False
    if card.channels[0].unit == "HU":
        return series.modality == "CT"
    known = {_DICOM_MODALITIES[name] for name in card.modalities if name in _DICOM_MODALITIES}
    return series.modality in known if known else series.modality not in ("SEG", "RTSTRUCT")
