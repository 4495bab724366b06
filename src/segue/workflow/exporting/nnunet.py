"""nnU-Net's raw folder: ``DatasetNNN_Name`` with one file per channel, consecutive labels, and segue's own folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from segue.catalogue import Card, Case, Dataset, Label, Row, label_files, stored_mask
from segue.core.errors import DataError, UsageError
from segue.images import ImageHeader, read, read_header, read_labels, write
from segue.prepare.reading import read_mask
from segue.volume import Geometry, Volume
from segue.workflow.exporting import arrays
from segue.workflow.exporting.folds import all_folds
from segue.workflow.exporting.journal import Journal, made_here
from segue.workflow.exporting.labels import NnunetLabels, nnunet_labels
from segue.workflow.exporting.naming import NNUNET_FOLDER, case_names, nnunet_folder
from segue.workflow.exporting.transfer import (
    Exported,
    Link,
    Made,
    Transferred,
    as_json,
    existing,
    licence_note,
    listed,
    reference,
    refuse_own_place,
    transfer,
    transfer_notes,
    write_if_new,
)

_FORM = "nnunet"
_FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")


def export_nnunet(dataset: Dataset, output: Path, workers: int | None = None) -> Exported:
    """The dataset as nnU-Net reads it (``documentation/dataset_format.md`` there), in ``DatasetNNN_Name``.

    Annotated cases go to ``imagesTr`` and ``labelsTr``, those of an official validation set too; test images, and
    those of a validation set without masks, to ``imagesTs``. ``splits_final.json`` holds segue's own folds.

    Raises:
        UsageError: nothing to segment, or the folder holds something else.
        DataError: no annotated case can be exported.
        MachineError: the disk is full or may not be written.
    """
    card = dataset.card
    if card.task != "segmentation":
        raise UsageError(
            "nnU-Net segments and does nothing else",
            where=card.name,
            value=f"task: {card.task}",
            remedy="export it with --to monai or --to csv",
        )
    folder = nnunet_folder(card.name, output, made_here(output, card.name, _FORM))
    refuse_own_place(dataset, [folder / name for name in _FOLDERS])
    labels = nnunet_labels(card)
    ending = _ending(dataset)
    bare = [case.id for case in dataset.cases if case.split == "train" and not case.annotated]
    cases = [case for case in dataset.cases if case.annotated or case.split != "train"]
    names = case_names(cases)
    journal = Journal(folder, card.name, _FORM, guard="dataset.json")
    recipe = NnunetRecipe(len(card.channels), card.dimension, labels.numbers, ending)
    done = transfer(cases, names, recipe, journal, folder, workers)
    arrays.close_streams()
    training = [case.id for case in cases if case.id in done.files and _trains(case)]
    if not training:
        raise DataError(
            "no annotated case could be exported",
            where=folder,
            value="; ".join(f"{name}: {why}" for name, why in list(done.left_out.items())[:3]) or "there is none",
            remedy=f"segue check {card.name} looks at every case",
        )
    folds, no_folds = _splits(dataset, names, training)
    listing = _listing(dataset, labels, names, done, len(training), ending)
    told = {"dataset.json": listing, **({"splits_final.json": folds} if folds else {})}
    written = sum(write_if_new(folder / name, as_json(content)) for name, content in told.items())
    if not folds:
        (folder / "splits_final.json").unlink(missing_ok=True)
    notes = [
        *labels.notes,
        *_channel_notes(card),
        *_name_notes(names, done),
        *transfer_notes(dataset, done),
        *_case_notes(dataset, bare, done),
        *([f"no splits_final.json: {no_folds}; nnU-Net draws folds without knowing patients"] if no_folds else []),
        _next(folder, card, bool(folds)),
        licence_note(dataset),
    ]
    return done.exported(folder, written, len(told) - written, notes)


@dataclass(frozen=True)
class NnunetRecipe:
    """How a case becomes nnU-Net's files.

    Attributes:
        channels: how many the card names.
        numbers: the card's label numbers, and nnU-Net's.
        ending: the one suffix of all files.
    """

    channels: int
    dimension: int
    numbers: dict[int, int]
    ending: str

    def read_in_full(self, case: Case) -> Sequence[Path]:
        return case.files

    def pieces(self, case: Case, name: str) -> list[Link | Made]:
        """One file per channel, and the mask where there is one.

        Raises:
            DataError: unreadable, another number of channels than the card's, channels or mask on different grids,
                axes not at right angles, or a label that the card does not name.
        """
        part = "Tr" if _trains(case) else "Ts"
        images, label = f"images{part}/{name}", f"labels{part}/{name}{self.ending}"
        rows = [image for image in case.images if isinstance(image, Row)]
        if rows:
            return self._from_rows(rows, case.label, images, label)
        paths = [existing(image) for image in case.images if isinstance(image, Path)]
        headers = [read_header(path) for path in paths]
        _require_channels(sum(header.channels for header in headers), self.channels)
        grid = headers[0].geometry
        if grid.is_sheared:
            raise DataError(
                "its voxel axes are not at right angles, which nnU-Net's readers refuse",
                value=f"{grid.shear_degrees:.1f} degrees of shear",
            )
        pieces: list[Link | Made] = []
        for path, header in zip(paths, headers, strict=True):
            difference = grid.difference(header.geometry)
            if difference:
                raise DataError("the channels lie on different grids", value=f"{path.name}: {difference}")
            targets = [f"{images}_{len(pieces) + n:04d}{self.ending}" for n in range(header.channels)]
            pieces += self._image(path, header, grid, targets)
        if case.label is not None:
            assert not isinstance(stored_mask(case.label), Row), "an .npz holds images and masks alike"
            pieces.append(self._mask(case.label, grid, label))
        return pieces

    def _image(self, path: Path, header: ImageHeader, grid: Geometry, targets: list[str]) -> list[Link | Made]:
        if header.channels > 1:
            why = "one file per channel"
        elif header.axes > 3:
            why = "a volume has three axes"
        elif not self._suits(path):
            why = f"all files end in {self.ending}"
        elif not _same_for_nnunet(grid, header.geometry):
            why = "headers of one case made equal (they differed by rounding)"
        else:
            return [Link(targets[0], path)]
        voxels = cache(partial(read, path))

        def write_channel(target: Path, number: int) -> None:
            write(Volume(voxels().array[number : number + 1], grid), target)

        return [Made(target, partial(write_channel, number=n), why) for n, target in enumerate(targets)]

    def _mask(self, label: Label, grid: Geometry, target: str) -> Link | Made:
        if not isinstance(label, Path):
            for path in label_files(label):
                existing(path)
            mask = read_mask(label)
            why = "labels renumbered" if isinstance(stored_mask(label), Path) else "one mask of several"
        else:
            header = read_header(existing(label))
            mask, why = read_labels(label), None
            if header.dtype.kind == "f" or header.scaled:
                why = "masks stored as whole numbers"
            elif header.axes > 3:
                why = "a volume has three axes"
            elif not self._suits(label):
                why = f"all files end in {self.ending}"
            elif not _same_for_nnunet(grid, mask.geometry):
                why = "headers of one case made equal (they differed by rounding)"
        difference = grid.difference(mask.geometry)
        if difference:
            raise DataError("image and mask lie on different grids", value=difference)
        array = self._renumbered(mask.array)
        if array is not mask.array:
            why = "labels renumbered"
        if why is None and isinstance(label, Path):
            return Link(target, label)
        return Made(target, partial(write, Volume(array, grid, "labels")), why or "")

    def _renumbered(self, mask: np.ndarray) -> np.ndarray:
        """The same array where nothing changes.

        Raises:
            DataError: a label that the card does not name.
        """
        found = [number for number in _values(mask) if number]
        unknown = [number for number in found if number not in self.numbers]
        if unknown:
            raise DataError(
                "the mask holds labels that the card does not name",
                value=f"{', '.join(map(str, unknown[:5]))} beside {', '.join(map(str, self.numbers))}",
            )
        if all(self.numbers[number] == number for number in found):
            return mask
        highest = max(self.numbers.values())
        table = np.zeros(max(self.numbers) + 1, np.uint8 if highest < 256 else np.uint16)
        table[list(self.numbers)] = list(self.numbers.values())
        return table[mask]

    def _suits(self, path: Path) -> bool:
        return path.name.endswith(self.ending)

    def _from_rows(self, rows: list[Row], mask: Label | None, images: str, label: str) -> list[Link | Made]:
        items = [arrays.row_array(row, self.dimension) for row in rows]
        _require_channels(sum(len(item) for item in items), self.channels)
        why = "images out of arrays"
        pieces: list[Link | Made] = []
        first = items[0]
        if self.ending == ".png" and len(rows) == 1 and len(first) == 3:
            # nnU-Net reads a colour image from one file; grey channels have one file each.
            picture = np.moveaxis(first, 0, -1)
            pieces.append(Made(f"{images}_0000.png", partial(arrays.write_png, picture), why))
        else:
            for number, channel in enumerate(channel for item in items for channel in item):
                writer = (
                    partial(arrays.write_png, channel)
                    if self.ending == ".png"
                    else partial(arrays.write_volume, channel[None])
                )
                pieces.append(Made(f"{images}_{number:04d}{self.ending}", writer, why))
        row = None if mask is None else stored_mask(mask)
        if mask is not None and isinstance(row, Row):
            array = arrays.label_array(mask, row, self.dimension)
            if array.shape != first.shape[1:]:
                raise DataError("image and mask differ in shape", value=f"{first.shape[1:]} and {array.shape}")
            array = self._renumbered(array)
            writer = (
                partial(arrays.write_png, array)
                if self.ending == ".png"
                else partial(arrays.write_volume, array[None], kind="labels")
            )
            pieces.append(Made(label, writer, why))
        return pieces


def _trains(case: Case) -> bool:
    return case.annotated and case.split != "test"


def _require_channels(found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError("the image has another number of channels than the card", value=f"{found}, expected {wanted}")


def _same_for_nnunet(first: Geometry, other: Geometry) -> bool:
    """nnU-Net compares spacings of one case with numpy's default tolerance and stops where they differ; a grid that
    is the same for us (a hundredth of a voxel) may be another one for it."""
    return bool(
        np.allclose(first.spacing_mm, other.spacing_mm)
        and np.allclose(first.affine, other.affine, rtol=1e-5, atol=1e-4)
    )


def _values(mask: np.ndarray) -> list[int]:
    if mask.dtype.itemsize > 2:
        return [int(number) for number in np.unique(mask)]
    seen = np.zeros(np.iinfo(mask.dtype).max + 1, bool)
    seen[mask.ravel()] = True
    return [int(number) for number in np.flatnonzero(seen)]


def _ending(dataset: Dataset) -> str:
    """One suffix for the whole dataset; ``.nii`` only where every file has it already (and is not 2-D: the reader
    that nnU-Net takes for it wants three axes)."""
    if any(isinstance(image, Row) for case in dataset.cases for image in case.images):
        return ".png" if dataset.card.dimension == 2 else ".nii.gz"
    plain = all(path.name.endswith(".nii") for case in dataset.cases for path in case.files)
    return ".nii" if plain and dataset.card.dimension == 3 else ".nii.gz"


def _channel_names(card: Card) -> list[str]:
    """nnU-Net picks CT normalisation by the name ``CT``: every channel in Hounsfield units has it."""
    if card.layout.kind == "npz" and len(card.channels) == 3:
        return ["R", "G", "B"]
    return ["CT" if channel.unit == "HU" else channel.name for channel in card.channels]


def _channel_notes(card: Card) -> list[str]:
    renamed = [channel.name for channel in card.channels if channel.unit == "HU" and channel.name != "CT"]
    if not renamed:
        return []
    return [f"channels in HU are called CT, the name by which nnU-Net normalises them: {', '.join(renamed)}"]


def _name_notes(names: dict[str, str], done: Transferred) -> list[str]:
    renamed = [f"{old} is {new}" for old, new in names.items() if old != new and old in done.files]
    if not renamed:
        return []
    return [f"{len(renamed)} cases renamed ({listed(renamed)}); dataset.json keeps the names under original_cases"]


def _case_notes(dataset: Dataset, bare: list[str], done: Transferred) -> list[str]:
    notes = []
    if bare:
        notes.append(f"{len(bare)} images for training have no mask and were left out ({listed(bare)})")
    waiting = [case.id for case in dataset.cases if case.split == "val" and case.id in done.files and not _trains(case)]
    if waiting:
        notes.append(f"{len(waiting)} images of the official validation set have no mask: they lie in imagesTs")
    partly = [case for case in dataset.cases if case.unlabelled and case.annotated and case.id in done.files]
    if partly:
        numbers = sorted({number for case in partly for number in case.unlabelled})
        missing = ", ".join(dataset.card.labels.get(number, str(number)) for number in numbers)
        notes.append(
            f"in {len(partly)} cases nobody drew {missing}; nnU-Net cannot be told and takes these voxels for "
            "background: train without those cases, or without those labels"
        )
    return notes


def _splits(
    dataset: Dataset, names: dict[str, str], training: list[str]
) -> tuple[list[dict[str, list[str]]], str | None]:
    """nnU-Net's form of every fold over the cases that are there; where that cannot be, why."""
    folds, why = all_folds(dataset)
    there = set(training)
    told = [
        {part: [names[case.id] for case in cases if case.id in there] for part, cases in _parts(fold)} for fold in folds
    ]
    empty = [number for number, fold in enumerate(told) if not fold["train"] or not fold["val"]]
    if empty:
        return [], f"without the cases that were left out, fold {empty[0]} has no cases to train or to validate on"
    return told, why


def _parts(fold: Any) -> tuple[tuple[str, Sequence[Case]], tuple[str, Sequence[Case]]]:
    return ("train", fold.train), ("val", fold.val)


def _listing(
    dataset: Dataset, labels: NnunetLabels, names: dict[str, str], done: Transferred, training: int, ending: str
) -> dict[str, Any]:
    card = dataset.card
    renumbered = {str(new): {"number": old, "name": card.labels.get(old)} for old, new in labels.numbers.items()}
    patients = {names[case.id]: case.patient for case in dataset.cases if case.id in done.files}
    return {
        "name": card.name,
        "description": card.description or card.title,
        "licence": card.licence.spdx if card.licence else None,
        "reference": reference(card),
        "channel_names": {str(number): name for number, name in enumerate(_channel_names(card))},
        "labels": labels.labels,
        **({"regions_class_order": labels.order} if labels.order else {}),
        "numTraining": training,
        "file_ending": ending,
        "original_labels": renumbered,
        "original_channels": [{"name": channel.name, "unit": channel.unit} for channel in card.channels],
        "original_cases": {new: old for old, new in names.items() if old != new and old in done.files},
        "patients": patients if any(name != patient for name, patient in patients.items()) else {},
    }


def _next(folder: Path, card: Card, folds: bool) -> str:
    match = NNUNET_FOLDER.fullmatch(folder.name)
    number = match[1] if match else ""
    configuration = "2d" if card.dimension == 2 else "3d_fullres"
    splits = quote(str(folder / "splits_final.json"))
    copying = f'cp {splits} "$nnUNet_preprocessed/{folder.name}/"; ' if folds else ""
    return (
        f"next: export nnUNet_raw={quote(str(folder.parent.resolve()))}; nnUNetv2_plan_and_preprocess -d {number} "
        f"--verify_dataset_integrity; {copying}nnUNetv2_train {number} {configuration} 0"
    )
