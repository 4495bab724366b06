"""What a person names on the command line, as cases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from segue.acquire.convert.identity import case_name
from segue.catalogue import Card, Case, index, is_known, open_dataset, petct_images
from segue.core.errors import DataError, UsageError
from segue.images import image_stem, is_image
from segue.predict.dicom_inputs import holds_dicom, is_dicom, of_dicom_folder
from segue.predict.masks import from_series

_CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def gather(inputs: Sequence[str], card: Card, data: Path = Path("data"), converted: Path | None = None) -> list[Case]:
    """The cases that files, folders and dataset names stand for, sorted by id.

    A folder may hold one image per case, one file per channel named ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz``
    (nnU-Net's way), a PET/CT study or patient, or a whole dataset in the layout of ``card``. A channel whose file or
    number is not there is absent; whoever reads the case says if the card requires it. Folders of DICOM, single series
    or whole studies, are converted first (:mod:`segue.predict.dicom_inputs`).

    Args:
        converted: where the volumes go that DICOM folders are converted to.

    Raises:
        UsageError: nothing of this name, or DICOM files one by one. DataError: a folder without images, or two cases
            of one name.
    """
    cases: list[Case] = []
    slices: dict[Path, str] = {}
    for name in inputs:
        path = Path(name)
        if path.is_file() and is_dicom(path):
            if path.parent in slices:
                raise UsageError(
                    "DICOM files given one by one: slices of a series belong together",
                    where=f"{slices[path.parent]} and {path.name}",
                    remedy=f"give their folder, {path.parent}",
                )
            slices[path.parent] = path.name
            name = image_stem(path) if converted is None else case_name(image_stem(path), path, converted)
            cases.append(from_series(name, (path,), path))
        elif path.is_file():
            cases += _files([path], card)
        elif path.is_dir():
            cases += _folder(path, card, converted)
        elif is_known(name):
            cases += open_dataset(name, data).cases
        else:
            raise UsageError("no such file, folder or dataset", where=name, remedy="check the path")
    seen: dict[str, Case] = {}
    for case in cases:
        if case.id in seen:
            raise DataError(
                "two inputs have the same name; their results would overwrite each other",
                where=case.id,
                value=" and ".join(str(one.files[0]) for one in (seen[case.id], case) if one.files),
                remedy="predict them into different folders",
            )
        seen[case.id] = case
    return sorted(cases, key=lambda case: case.id)


def _folder(folder: Path, card: Card, converted: Path | None) -> list[Case]:
    images = sorted(path for path in folder.iterdir() if path.is_file() and is_image(path))
    if card.layout.kind == "petct":
        if (folder / "SUV.nii.gz").exists():
            name = folder.resolve()
            return [_study(folder, name.parent.name, name.name, card)]
        studies = sorted(folder.glob("*/SUV.nii.gz"))
        if studies and not images:
            return [_study(suv.parent, folder.resolve().name, suv.parent.name, card) for suv in studies]
    if images:
        return _files(images, card)
    if converted is not None and holds_dicom(folder):
        return of_dicom_folder(folder, card, converted)
    cases = index(folder, card) if _could_be_dataset(folder, card) else []
    if not cases:
        found = sorted(path.name for path in folder.iterdir())
        raise DataError(
            "no image found here",
            where=folder,
            value=f"it holds {', '.join(found[:5])}{' ...' if len(found) > 5 else ''}" if found else "it is empty",
            remedy="give .nii.gz or .nii files, or a folder that holds them",
        )
    return cases


def _study(folder: Path, patient: str, study: str, card: Card) -> Case:
    images, absent = petct_images(folder, card)
    return Case(f"{patient}_{study}", patient, images, absent=absent)


def _could_be_dataset(folder: Path, card: Card) -> bool:
    return card.layout.kind != "decathlon" or (folder / "dataset.json").exists()


def _files(paths: Sequence[Path], card: Card) -> list[Case]:
    grouped: dict[str, dict[int, Path]] = {}
    single: list[Case] = []
    for path in paths:
        stem = image_stem(path)
        match = _CHANNEL_SUFFIX.match(stem)
        if match and (len(card.channels) > 1 or match["channel"] == "0000"):
            grouped.setdefault(match["case"], {})[int(match["channel"])] = path
        else:
            single.append(Case(stem, stem, (path,)))
    return single + [_numbered(name, files, card) for name, files in grouped.items()]


def _numbered(name: str, files: dict[int, Path], card: Card) -> Case:
    # One file with the number 0000 may hold all channels, unless it may also be all that there is.
    whole = list(files) == [0] and not any(channel.optional for channel in card.channels[1:])
    absent = () if whole else tuple(n for n in range(len(card.channels)) if n not in files)
    return Case(name, name, tuple(files[n] for n in sorted(files)), absent=absent)
