"""Answers of a network of classes, whatever computes it: from cases to probabilities, and to a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Row
from segue.core.errors import DataError
from segue.core.files import write_text
from segue.metrics import answer_table
from segue.prepare import Plan, Stack, StackTask, map_stack, sized_case

_AT_ONCE = 64


@dataclass(frozen=True)
class Answer:
    """Of one case, the probability of each class in the card's order; or the error."""

    case: Case
    probabilities: tuple[float, ...] | None
    error: DataError | None = None


def answer_cases(
    cases: Sequence[Case], card: Card, plan: Plan, arrays: Path, answer: Callable[[Stack], Iterator[np.ndarray]]
) -> Iterator[Answer]:
    """Every case in order; a bad case is among them with its error.

    Args:
        arrays: where arrays of an ``.npz`` are unpacked for memory mapping.
        answer: gives probabilities ``(b, classes)`` of all images of a stack in its order, some at a time.
    """
    mapped = map_stack(cases, plan, arrays) if cases and _all_rows(cases) else None
    if mapped is not None:
        yield from _of_stack(mapped, answer)
        return
    for first in range(0, len(cases), _AT_ONCE):
        read = [(case, _read(case, card, plan)) for case in cases[first : first + _AT_ONCE]]
        sound = [(case, image) for case, image in read if not isinstance(image, DataError)]
        found = iter(())  # type: Iterator[Answer]
        if sound:
            stack = Stack(
                tuple(case for case, _ in sound),
                (np.stack([image for _, image in sound]),),
                np.zeros(len(sound), np.int32),
                np.arange(len(sound)),
                prepared=True,
                normalised=any(rule.kind == "image" for rule in plan.normalisation),
            )
            found = _of_stack(stack, answer)
        for case, image in read:
            yield Answer(case, None, image) if isinstance(image, DataError) else next(found)


def _read(case: Case, card: Card, plan: Plan) -> np.ndarray | DataError:
    try:
        return sized_case(StackTask(case, card, plan))
    except DataError as error:
        where = error.where if error.where and case.id in error.where else f"{case.id}: {error.where or ''}"
        error.where = where.rstrip(": ")
        return error


def _of_stack(stack: Stack, answer: Callable[[Stack], Iterator[np.ndarray]]) -> Iterator[Answer]:
    cases = iter(stack.cases)
    for batch in answer(stack):
        for row in batch.astype(float).tolist():
            yield Answer(next(cases), tuple(row))


def _all_rows(cases: Sequence[Case]) -> bool:
    return all(isinstance(image, Row) for case in cases for image in case.images)


def predicted_names(answer: Answer, card: Card) -> list[str]:
    """The class that is answered; where several may hold, all that are."""
    assert answer.probabilities is not None and card.classes is not None, "an answer of a classification"
    chosen = answer_table(np.array([answer.probabilities]), card.classes)[0]
    return [name for name, yes in zip(card.labels.values(), chosen, strict=True) if yes]


def write_answers(path: Path, answers: Sequence[Answer], card: Card) -> None:
    """A table with a line per case: its name, its image, the class answered, and the probability of each class.

    Raises:
        MachineError: the disk is full or may not be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "image", "predicted", *card.labels.values()])
    for answer in answers:
        if answer.probabilities is not None:
            image = answer.case.images[0]
            where = image.name if isinstance(image, Row) else str(image)
            names = "|".join(predicted_names(answer, card))
            writer.writerow([answer.case.id, where, names, *(f"{p:.6g}" for p in answer.probabilities)])
    write_text(path, text.getvalue())
