"""Splits by patient, always. Folds that a dataset's makers drew, and its own validation set, win over drawn ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segue.catalogue.dataset import Case, Dataset, some
from segue.core.errors import DataError
from segue.core.files import parse_json

Folds = tuple[tuple[frozenset[str], frozenset[str]], ...]


@dataclass(frozen=True)
class Split:
    """Which cases a model is trained on, which choose it, and which only measure it."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...] = ()


def split_cases(dataset: Dataset, fold: int) -> Split:
    """Fold ``fold``: its patients validate, the others train; annotated cases of the official test set measure.

    Folds are the ones that came with the data (``split.file``), else the dataset's own validation set (one fold),
    else the card's patient-grouped folds: patients are sorted, shuffled by the card's seed, and dealt out in turn,
    so that every fold has every n-th patient.

    Raises:
        DataError: too few annotated patients, no such fold, or a patient on both sides.
    """
    count = fold_count(dataset)
    if not 0 <= fold < count:
        raise DataError(
            f"there is no fold {fold}",
            where=dataset.card.name,
            value=f"folds 0 to {count - 1}" if count > 1 else "its own split is the only fold",
            remedy="choose one of these",
        )
    labelled = dataset.labelled
    official = _annotated(dataset, "val")
    if dataset.folds:
        train_ids, val_ids = dataset.folds[fold]
        train = [case for case in (*labelled, *official) if case.id in train_ids]
        val = [case for case in (*labelled, *official) if case.id in val_ids]
    elif official:
        train, val = labelled, list(official)
    else:
        held_out = set(shuffled_patients(_dealt(dataset), dataset.card.split.seed)[fold::count])
        train = [case for case in labelled if case.patient not in held_out]
        val = [case for case in labelled if case.patient in held_out]
    split = Split(tuple(train), tuple(val), _annotated(dataset, "test"))
    _refuse_leaks(dataset, split)
    return split


def whole(dataset: Dataset) -> Split:
    """Every annotated case of the training and the validation set trains, nothing validates, the official test set
    measures.

    Raises:
        DataError: a patient of the training set in the test set.
    """
    split = Split((*dataset.labelled, *_annotated(dataset, "val")), (), _annotated(dataset, "test"))
    _refuse_leaks(dataset, split)
    return split


def fold_count(dataset: Dataset) -> int:
    """How many folds there are.

    Raises:
        DataError: too few annotated patients to train and to validate.
    """
    if dataset.folds:
        return len(dataset.folds)
    if dataset.labelled and _annotated(dataset, "val"):
        return 1
    patients = len({case.patient for case in dataset.labelled})
    if patients < 2:
        raise DataError(
            "training needs annotated images of at least two patients",
            where=dataset.root,
            value="; ".join([f"{patients} found", *dataset.told_left_out]),
            remedy="add annotated cases, or check that the labels lie where the layout expects them",
        )
    return min(dataset.card.split.folds, len({case.patient for case in _dealt(dataset)}))


def _dealt(dataset: Dataset) -> list[Case]:
    """Whose patients are dealt to the folds: also of cases that a verdict sets aside, or one verdict would move all."""
    return [*dataset.labelled, *(case for case in dataset.set_aside if case.annotated and case.split == "train")]


def _annotated(dataset: Dataset, subset: str) -> tuple[Case, ...]:
    return tuple(case for case in dataset.cases if case.split == subset and case.annotated)


def _refuse_leaks(dataset: Dataset, split: Split) -> None:
    parts = {"training": split.train, "validation": split.val, "test": split.test}
    patients = {name: {case.patient for case in cases} for name, cases in parts.items()}
    for one, other in (("training", "validation"), ("training", "test"), ("validation", "test")):
        leaked = patients[one] & patients[other]
        if leaked:
            raise DataError(
                f"patients stand in the {one} and in the {other} set",
                where=dataset.card.name,
                value=some(sorted(leaked)),
                remedy=_remedy(dataset),
            )


def _remedy(dataset: Dataset) -> str:
    if not dataset.folds:
        return "take their cases out of one of the two"
    if dataset.card.split.file is None:
        return "mend the split file, or leave it out: folds are drawn by patient"
    return f"mend {dataset.card.split.file}, or drop 'split.file' from the card: folds are drawn by patient"


def require_apart(dataset: Dataset, splits: Sequence[Split]) -> None:
    """Cross-validation measures each patient once.

    Raises:
        DataError: a patient validates in two folds.
    """
    where: dict[str, int] = {}
    for number, split in enumerate(splits):
        for patient in sorted({case.patient for case in split.val}):
            if where.setdefault(patient, number) != number:
                raise DataError(
                    "a patient validates in two folds: no figure over all folds could count it once",
                    where=dataset.card.name,
                    value=f"{patient} in folds {where[patient]} and {number}",
                    remedy="let each patient validate in one fold, or train one fold into a folder of its own",
                )


def shuffled_patients(cases: Sequence[Case], seed: int) -> list[str]:
    from segue.core.seeds import generator  # numpy stays out of what only lists the catalogue

    patients = sorted({case.patient for case in cases})
    return [patients[n] for n in generator(seed, "split").permutation(len(patients))]


def with_folds(dataset: Dataset, path: Path) -> Dataset:
    """The dataset with the folds of a file (see :func:`read_folds`) in place of its own.

    Raises:
        DataError: the file is missing or has another form, names a case that is not annotated here, or has a case or
            a patient on both sides of a fold.
    """
    usable = {case.id: case for case in dataset.cases if case.annotated and case.split != "test"}
    if not path.is_file():
        raise DataError("no such split file", where=path, remedy="check the path")
    folds = read_folds(path, set(usable))
    if not folds:
        raise DataError("the list of folds is empty", where=path, remedy="give at least one fold")
    for number, (train, val) in enumerate(folds):
        where = f"{path}, fold {number}"
        strange = sorted((train | val) - usable.keys() - dataset.left_out.keys())
        if strange:
            raise DataError(
                "cases are named that are not among the annotated training cases here",
                where=where,
                value=some(strange),
                remedy=f"the cases here have names such as {min(usable)}",
            )
        both = sorted(train & val)
        if both:
            raise DataError(
                "cases stand in 'train' and in 'val'", where=where, value=some(both), remedy="take them out of one"
            )
        sides = [{usable[name].patient for name in side if name in usable} for side in (train, val)]
        torn = sorted(sides[0] & sides[1])
        if torn:
            raise DataError(
                "patients stand in 'train' and in 'val'",
                where=where,
                value=some(torn),
                remedy="put all cases of a patient on one side",
            )
    own = dataset.card.split.model_copy(update={"file": None})
    return replace(dataset, folds=folds, card=dataset.card.model_copy(update={"split": own}))


def read_folds(path: Path, known: set[str]) -> Folds:
    """The folds of nnU-Net's ``splits_final.json``: a list of ``{"train": [ids], "val": [ids]}``.

    Raises:
        DataError: it is missing, has another form, or names none of the known cases.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
        folds = tuple((frozenset(map(str, fold["train"])), frozenset(map(str, fold["val"]))) for fold in content)
    except FileNotFoundError:
        raise DataError(
            "the card's split file is missing", where=path, remedy="bring it, or drop 'split.file' from the card"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "this is no list of folds with 'train' and 'val'",
            where=path,
            value=f"{type(error).__name__}: {error}"[:200],
        ) from error
    for number, (train, val) in enumerate(folds):
        if not train & known or not val & known:
            raise DataError(
                f"fold {number} names no case that is here",
                where=path,
                value=f"{len(train)} and {len(val)} names, such as {min(val | train, default='none')}",
                remedy=f"the cases here have names such as {min(known, default='none')}",
            )
    return folds
