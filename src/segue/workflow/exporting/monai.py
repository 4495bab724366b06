"""MONAI's list of data: ``datalist.json`` in the decathlon's form, with folds as Auto3DSeg reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segue.catalogue import Case, Dataset, Row, Split, label_files, stored_mask
from segue.core.errors import DataError
from segue.images import image_stem, write
from segue.prepare.reading import read_mask
from segue.workflow.exporting import arrays
from segue.workflow.exporting.folds import all_folds, fold_numbers, told_by_numbers
from segue.workflow.exporting.journal import Journal
from segue.workflow.exporting.naming import case_names
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

LISTING = "datalist.json"


def export_monai(dataset: Dataset, output: Path, workers: int | None = None) -> Exported:
    """``output/datalist.json``, which ``monai.data.load_decathlon_datalist`` and Auto3DSeg read.

    Its sections: ``training`` (with ``fold``: the one in which the case validates), ``validation`` (the official set,
    as fold 0), ``test``, and ``unlabelled`` (images for training that nobody annotated). Image files keep their form:
    channels are a list of files or one 4-D file. Numbers of labels are the card's.

    Raises:
        UsageError: the folder holds something else.
        DataError: no case can be exported.
        MachineError: the disk is full or may not be written.
    """
    card = dataset.card
    refuse_own_place(dataset, [output / "images", output / "labels"])
    names = case_names(dataset.cases)
    journal = Journal(output, card.name, "monai", guard=LISTING)
    done = transfer(dataset.cases, names, MonaiRecipe(card.dimension), journal, output, workers)
    arrays.close_streams()
    if not done.files:
        raise DataError(
            "no case could be exported",
            where=output,
            value="; ".join(f"{name}: {why}" for name, why in list(done.left_out.items())[:3]),
            remedy=f"segue check {card.name} looks at every case",
        )
    folds, no_folds = all_folds(dataset)
    content = _listing(dataset, folds, names, done)
    written = write_if_new(output / LISTING, as_json(content))
    notes = [*transfer_notes(dataset, done)]
    if no_folds:
        notes.append(f"no fold numbers: {no_folds}")
    elif not told_by_numbers(folds):
        notes.append(
            "the dataset's own folds overlap or leave cases out, which one fold number per case cannot say: each has "
            "the first fold in which it validates"
        )
    bare = [item["case"] for item in content.get("unlabelled", [])]
    if bare:
        notes.append(f"{len(bare)} images for training have no label: section 'unlabelled' ({listed(bare)})")
    if content.get("undrawn"):
        notes.append(f"in {len(content['undrawn'])} cases nobody drew some labels: 'undrawn' says which")
    place = str(output / LISTING)
    notes.append(
        f"next, in Python: monai.data.load_decathlon_datalist({place!r}"
        f"{'' if card.task == 'segmentation' else ', is_segmentation=False'}, data_list_key='training')"
    )
    notes.append(licence_note(dataset))
    return done.exported(output, written, 1 - written, notes)


@dataclass(frozen=True)
class MonaiRecipe:
    """How a case becomes files under ``images`` and ``labels``."""

    dimension: int

    def read_in_full(self, case: Case) -> Sequence[Path]:
        arrays_only = any(isinstance(image, Row) for image in case.images)
        made = case.label is not None and not isinstance(case.label, Path)
        return case.files if arrays_only else label_files(case.label) if made and case.label is not None else ()

    def pieces(self, case: Case, name: str) -> list[Link | Made]:
        """The images as they are, and one mask.

        Raises:
            DataError: a file is missing, an item of an array is no image, or masks lie on different grids.
        """
        pieces: list[Link | Made] = []
        for number, image in enumerate(case.images):
            stem = f"images/{name}" if len(case.images) == 1 else f"images/{name}_{number:04d}"
            if isinstance(image, Row):
                pieces += self._row(image, stem)
            else:
                pieces.append(Link(stem + _suffix(image), existing(image)))
        source = None if case.label is None else stored_mask(case.label)
        if case.label is not None and isinstance(source, Row):
            array = arrays.label_array(case.label, source, self.dimension)
            if self.dimension == 2:
                writer = partial(arrays.write_png, array)
            else:
                writer = partial(arrays.write_volume, array[None], kind="labels")
            pieces.append(Made(f"labels/{name}{self._ending}", writer, "images out of arrays"))
        elif isinstance(case.label, Path):
            pieces.append(Link(f"labels/{name}{_suffix(case.label)}", existing(case.label)))
        elif case.label is not None:
            for path in label_files(case.label):
                existing(path)
            mask = read_mask(case.label)
            why = "labels renumbered" if isinstance(source, Path) else "one mask of several"
            pieces.append(Made(f"labels/{name}.nii.gz", partial(write, mask), why))
        return pieces

    @property
    def _ending(self) -> str:
        return ".png" if self.dimension == 2 else ".nii.gz"

    def _row(self, row: Row, stem: str) -> list[Link | Made]:
        image = arrays.row_array(row, self.dimension)
        why = "images out of arrays"
        if self.dimension == 3:
            return [Made(f"{stem}.nii.gz", partial(arrays.write_volume, image), why)]
        if len(image) in (1, 3):
            picture = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
            return [Made(f"{stem}.png", partial(arrays.write_png, picture), why)]
        return [
            Made(f"{stem}_{number:04d}.png", partial(arrays.write_png, channel), why)
            for number, channel in enumerate(image)
        ]


def _suffix(path: Path) -> str:
    return path.name[len(image_stem(path)) :]


def _listing(dataset: Dataset, folds: list[Split], names: dict[str, str], done: Transferred) -> dict[str, Any]:
    card = dataset.card
    background = {"0": "background"} if card.task == "segmentation" else {}
    numbers = fold_numbers(folds)
    sections: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": [], "unlabelled": []}
    for case in dataset.cases:
        if case.id not in done.files:
            continue
        item = _item(case, done.files[case.id])
        if case.split == "train" and not case.annotated:
            sections["unlabelled"].append(item)
        elif case.split == "train":
            # A case that never validates has the number after the last: whatever the fold, it trains. So do all of a
            # dataset with a validation set of its own, which is fold 0.
            if folds:
                item["fold"] = numbers.get(case.id, len(folds))
            sections["training"].append(item)
        elif case.split == "val":
            sections["validation"].append({**item, **({"fold": numbers[case.id]} if case.id in numbers else {})})
        else:
            sections["test"].append(item)
    undrawn = {case.id: list(case.unlabelled) for case in dataset.cases if case.unlabelled and case.id in done.files}
    renamed = {new: old for old, new in names.items() if old != new and old in done.files}
    return {
        "name": card.name,
        "description": card.description or card.title,
        "licence": card.licence.spdx if card.licence else None,
        "reference": reference(card),
        "modality": {str(number): channel.name for number, channel in enumerate(card.channels)},
        "units": {str(number): channel.unit for number, channel in enumerate(card.channels)},
        "labels": {**background, **{str(number): name for number, name in card.labels.items()}},
        **({"regions": card.regions} if card.regions else {}),
        **({"ignore_label": card.ignore_label} if card.ignore_label is not None else {}),
        **({"classes": card.classes} if card.classes else {}),
        **({"undrawn": undrawn} if undrawn else {}),
        **({"original_cases": renamed} if renamed else {}),
        "numTraining": len(sections["training"]),
        "numTest": len(sections["test"]),
        # MONAI's reader stumbles over an empty list.
        **{name: items for name, items in sections.items() if items or name == "training"},
    }


def _item(case: Case, files: tuple[str, ...]) -> dict[str, Any]:
    images = [file for file in files if file.startswith("images/")]
    labels = [file for file in files if file.startswith("labels/")]
    item: dict[str, Any] = {"image": images[0] if len(images) == 1 else images}
    if labels:
        item["label"] = labels[0]
    elif case.target is not None:
        item["label"] = list(case.target) if isinstance(case.target, tuple) else case.target
    return {**item, "case": case.id, "patient": case.patient}
