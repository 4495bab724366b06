"""The mistakes of a classification that are shown, with their pictures."""

from __future__ import annotations

from dataclasses import dataclass

from segue.core.errors import SegueError
from segue.prepare import read_channels
from segue.view.class_pictures import class_picture
from segue.view.facts import ClassFigures, RunFacts
from segue.view.page_data import answers_in_order
from segue.view.summary import PART_NAMES
from segue.view.words import dice, listed, sentence

MOST_MISTAKES = 24
# Of the picture files of one report together; base64 adds a third, and the page stays under three megabytes.
_PICTURE_BYTES = 1_400_000
_SIZE_PX, _LEAST_SIZE_PX = 168, 48


@dataclass(frozen=True)
class Mistake:
    """One wrong answer: its picture, or why there is none."""

    case: str
    truth: str
    predicted: str
    figures: str
    png: bytes | None
    alt: str
    problem: str | None
    number: int | None


def mistakes(facts: RunFacts) -> dict[str, list[Mistake]]:
    """The most confident wrong answers of each part; a case whose image is gone says so instead."""
    chosen = {name: part.mistakes[:MOST_MISTAKES] for name, part in facts.class_parts.items()}
    number = max(1, sum(map(len, chosen.values())))
    order = {(part, case): place for place, (part, case, _) in enumerate(answers_in_order(facts))}
    return {
        name: [
            _mistake(facts, name, case, figures, _PICTURE_BYTES // number, order.get((name, case)))
            for case, figures in cases
        ]
        for name, cases in chosen.items()
    }


def names_of(answer: str | list[str]) -> str:
    """An answer in words; of several labels, those that hold."""
    if isinstance(answer, str):
        return answer
    return listed(answer, 4) if answer else "nothing"


def _mistake(
    facts: RunFacts, part: str, name: str, figures: ClassFigures, most_bytes: int, number: int | None
) -> Mistake:
    png, problem = None, None
    try:
        if facts.card is None:
            problem = facts.missing["card.json"]
        elif name not in facts.truths:
            problem = "This case is not in the dataset any more, or the dataset is not where the run found it."
        else:
            image = read_channels(facts.truths[name], facts.card)
            size = _SIZE_PX
            png = class_picture(image, facts.card.channels, size)
            while len(png) > most_bytes and size > _LEAST_SIZE_PX:
                # Bytes grow with the area; a little less, so that the next one fits.
                size = max(_LEAST_SIZE_PX, int(0.93 * size * (most_bytes / len(png)) ** 0.5))
                png = class_picture(image, facts.card.channels, size)
    except (SegueError, OSError, MemoryError, ValueError) as error:
        problem = sentence(str(error).replace("\n  -> ", ". To mend it: "))
    truth, predicted = names_of(figures.truth), names_of(figures.predicted)
    told = _figures(figures)
    alt = f"{name}, an image of the {PART_NAMES[part]} set. Truth: {truth}. Answer: {predicted}. {told}"
    return Mistake(name, truth, predicted, told, png, alt, problem, number)


def _figures(case: ClassFigures) -> str:
    if not case.several:
        return f"Probability {dice(case.confidence(case.wrong[0]))}, of the truth {dice(case.of_truth)}"
    worst = max(case.wrong, key=case.confidence)
    what = "answered" if worst in case.predicted else "missed"
    return f"Most certain mistake: {worst} {what}, its probability {dice(case.probabilities[worst])}"
