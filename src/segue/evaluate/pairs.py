"""Which prediction belongs to which truth."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from segue.catalogue import Label, open_dataset
from segue.core.errors import DataError, UsageError
from segue.images import image_stem, is_image
from segue.metrics import ComponentRule


@dataclass(frozen=True)
class Pair:
    """Prediction and truth of one case.

    ``labels`` are measured but for those ``unlabelled`` in this case; voxels of ``ignore_label`` do not count.
    ``rules`` are applied to the prediction before it is measured.
    """

    case: str
    patient: str
    prediction: Path
    truth: Label
    labels: dict[int, str]
    ignore_label: int | None = None
    unlabelled: tuple[int, ...] = ()
    rules: dict[int, ComponentRule] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.case


def pair_folders(
    predictions: Path, truth: str, labels: dict[int, str] | None, data: Path
) -> tuple[list[Pair], list[DataError], dict[int, str] | None]:
    """Match a folder of predictions with a folder of masks (by file name) or with a dataset (by case id).

    Returns the pairs, an error per missing counterpart, and the label names if any source knows them.

    Raises:
        UsageError: one of the two is not there. DataError: no prediction found, or nothing matches.
    """
    if not predictions.is_dir():
        raise UsageError("no such folder", where=f"--pred {predictions}", remedy="check the path")
    found = {image_stem(path): path for path in sorted(predictions.iterdir()) if is_image(path)}
    if not found:
        raise DataError("no prediction (.nii.gz) found", where=predictions, remedy="run segue predict first")
    names = labels or read_label_names(predictions)
    patients: dict[str, str] = {}
    ignore_label = None
    folder = Path(truth)
    unlabelled: dict[str, tuple[int, ...]] = {}
    masks: dict[str, Label] = {}
    if folder.is_dir():
        masks = {image_stem(path): path for path in sorted(folder.iterdir()) if is_image(path)}
    if not masks:
        dataset = open_dataset(truth, data)
        masks = {case.id: case.label for case in dataset.cases if case.label is not None}
        patients = {case.id: case.patient for case in dataset.cases}
        unlabelled = {case.id: case.unlabelled for case in dataset.cases}
        names = names or dataset.card.labels
        ignore_label = dataset.card.ignore_label
    pairs = [
        Pair(
            name,
            patients.get(name, name),
            found[name],
            masks[name],
            names or {},
            ignore_label,
            unlabelled.get(name, ()),
        )
        for name in sorted(found.keys() & masks.keys())
    ]
    if not pairs:
        raise DataError(
            "no prediction has a truth of the same name",
            where=predictions,
            value=f"{next(iter(found))} ... against {next(iter(masks), 'nothing')} ...",
            remedy="give the folder of the masks of these very cases",
        )
    missing = [
        DataError("no truth for this prediction", where=name, remedy=f"add {name}.nii.gz to {truth}")
        for name in sorted(found.keys() - masks.keys())
    ]
    missing += [
        DataError("no prediction for this truth", where=name, remedy="predict this case too")
        for name in sorted(masks.keys() - found.keys())
    ]
    return pairs, missing, names


def read_dataset_name(folder: Path) -> str | None:
    """The dataset that the model was trained on, from the receipt that ``segue predict`` leaves."""
    try:
        return str(json.loads((folder / "predictions.json").read_text(encoding="utf-8"))["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_label_names(folder: Path) -> dict[int, str] | None:
    """Label names from the receipt that ``segue predict`` leaves beside its masks."""
    try:
        content = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
        return {int(number): str(name) for number, name in content["labels"].items()}
    except (OSError, ValueError, KeyError, AttributeError):
        return None
