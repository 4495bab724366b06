"""segue's own folds, as other programs want to hear them."""

from __future__ import annotations

from collections.abc import Sequence

from segue.catalogue import Dataset, Split, fold_count, split_cases
from segue.core.errors import DataError


def all_folds(dataset: Dataset) -> tuple[list[Split], str | None]:
    """Every fold of the dataset; where there are none, why."""
    try:
        return [split_cases(dataset, fold) for fold in range(fold_count(dataset))], None
    except DataError as error:
        return [], error.what + (f" ({error.value})" if error.value else "")


def fold_numbers(folds: Sequence[Split]) -> dict[str, int]:
    """The fold in which a case validates, by its id; a case that never does is not in it."""
    numbers: dict[str, int] = {}
    for number, fold in enumerate(folds):
        for case in fold.val:
            numbers.setdefault(case.id, number)
    return numbers


def told_by_numbers(folds: Sequence[Split]) -> bool:
    """Whether one number per case says it all: it validates in that fold and trains in all others."""
    numbers = fold_numbers(folds)
    sides = [({case.id for case in fold.train}, {case.id for case in fold.val}) for fold in folds]
    known = set().union(*(train | val for train, val in sides))
    return all(
        train | val == known and val == {name for name, of in numbers.items() if of == number}
        for number, (train, val) in enumerate(sides)
    )
