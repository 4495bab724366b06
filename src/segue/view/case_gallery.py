"""The gallery of all cases: a small picture of each, the worst first, as many as a page can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue import Card, Case
from segue.core.console import stage
from segue.core.errors import DataError, SegueError
from segue.core.executor import cpu_count, map_cases
from segue.images import read_labels
from segue.predict import mask_path
from segue.prepare import read_channels, read_mask
from segue.view.facts import RunFacts
from segue.view.gallery import in_words
from segue.view.page_data import cases_in_order
from segue.view.summary import PART_NAMES
from segue.view.thumbs import small_picture
from segue.view.words import sentence

MOST_PICTURES = 200
# Of all of them together; base64 adds a third.
_ALL_BYTES, _MOST_BYTES = 2_000_000, 16_000
# Starting processes costs seconds: small images are drawn before that.
_PARALLEL_FROM_BYTES = 100_000_000


@dataclass(frozen=True)
class SmallPicture:
    """``number`` is the place of the case in the data of the page; ``webp`` is None where there is a ``problem``."""

    number: int
    case: str
    part: str
    figures: str
    webp: bytes | None
    problem: str | None


@dataclass(frozen=True)
class PictureTask:
    """What one process needs to draw a case."""

    case: Case
    card: Card
    labels: Mapping[int, str]
    prediction: Path
    most_bytes: int


def draw_case(task: PictureTask) -> bytes:
    """Raises:
    DataError: the image, the truth or the prediction cannot be read, or they do not fit.
    """
    try:
        case = task.case
        image = read_channels(case, task.card)
        truth = read_mask(case.label) if case.label is not None and all(path.exists() for path in case.files) else None
        prediction = read_labels(task.prediction) if task.prediction.exists() else None
        return small_picture(image, task.card.channels, task.labels, truth, prediction, most_bytes=task.most_bytes)
    except SegueError as error:
        raise DataError(error.what, where=case.id, value=error.value, remedy=error.remedy) from error
    except (OSError, MemoryError, ValueError) as error:
        raise DataError(f"this case cannot be drawn: {error}", where=task.case.id) from error


def case_gallery(facts: RunFacts) -> list[SmallPicture]:
    """The worst :data:`MOST_PICTURES` cases; one whose image is gone says so instead."""
    order = {(part, name): number for number, (part, name, _) in enumerate(cases_in_order(facts))}
    named = [(part, name, case) for part, found in facts.parts.items() for name, case in found.worst_first]
    named.sort(key=lambda item: (item[2].mean_dice is None, item[2].mean_dice or 0.0, -item[2].predicted_ml))
    named = [item for item in named if item[:2] in order][:MOST_PICTURES]
    most_bytes = min(_MOST_BYTES, _ALL_BYTES // max(1, len(named)))
    tasks, problems = {}, {}
    for part, name, _ in named:
        if facts.card is None:
            problems[part, name] = facts.missing["card.json"]
        elif name not in facts.truths:
            problems[part, name] = "This case is not in the dataset any more."
        else:
            case, card = facts.truths[name], facts.card
            labels = facts.plan.labels if facts.plan else card.labels
            path = mask_path(facts.predictions(part, case.id), case, card.dimension)
            tasks[part, name] = PictureTask(case, card, labels, path, most_bytes)
    pictures: dict[tuple[str, str], bytes] = {}
    if tasks:
        with stage("pictures", len(tasks)) as shown:
            drawn = map_cases(draw_case, tasks.values(), workers=_workers(list(tasks.values())))
            for key, (_, result) in zip(tasks, drawn, strict=True):
                if isinstance(result, DataError):
                    problems[key] = sentence(result.what)
                else:
                    pictures[key] = result
                shown.advance(note=key[1])
    return [
        SmallPicture(
            order[part, name],
            name,
            PART_NAMES[part],
            in_words(case, facts.pixel_ml(part)),
            pictures.get((part, name)),
            problems.get((part, name)),
        )
        for part, name, case in named
    ]


def _workers(tasks: list[PictureTask]) -> int:
    size = 0
    for task in tasks:
        size += sum(path.stat().st_size for path in task.case.image_files if path.exists())
        if size > _PARALLEL_FROM_BYTES:
            return cpu_count()
    return 1
