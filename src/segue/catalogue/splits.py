"""Splits by patient, always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segue.catalogue.dataset import Case, Dataset
from segue.core.errors import DataError
from segue.core.seeds import generator


@dataclass(frozen=True)
class Split:
    """Which cases a model is trained on, which choose it, and which only measure it."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...] = ()


def split_cases(dataset: Dataset, fold: int) -> Split:
    """Fold ``fold`` of the card's patient-grouped folds: its patients validate, all other patients train.

    Patients are sorted, shuffled by the card's seed, and dealt out in turn, so every fold has every n-th patient.

    Raises:
        DataError: too few annotated patients, or no such fold.
    """
    policy = dataset.card.split
    labelled = dataset.labelled
    patients = shuffled_patients(labelled, policy.seed)
    if len(patients) < 2:
        raise DataError(
            "training needs annotated images of at least two patients",
            where=dataset.root,
            value=f"{len(patients)} found",
            remedy="add annotated cases, or check that the labels lie where the layout expects them",
        )
    count = min(policy.folds, len(patients))
    if not 0 <= fold < count:
        raise DataError(f"there is no fold {fold}", where=dataset.card.name, value=f"folds 0 to {count - 1}")
    held_out = set(patients[fold::count])
    test = tuple(case for case in dataset.cases if case.split == "test" and case.label is not None)
    leaked = held_out.union(patients) & {case.patient for case in test}
    if leaked:
        raise DataError(
            "patients stand in the training and in the test set",
            where=dataset.card.name,
            value=", ".join(sorted(leaked)[:5]),
            remedy="take their cases out of one of the two",
        )
    return Split(
        train=tuple(case for case in labelled if case.patient not in held_out),
        val=tuple(case for case in labelled if case.patient in held_out),
        test=test,
    )


def shuffled_patients(cases: Sequence[Case], seed: int) -> list[str]:
    patients = sorted({case.patient for case in cases})
    return [patients[n] for n in generator(seed, "split").permutation(len(patients))]
