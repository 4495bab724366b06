"""Which cases are shown, and their pictures."""

from __future__ import annotations

from dataclasses import dataclass

from segue.catalogue import Card, Case
from segue.core.errors import SegueError
from segue.images import read_labels
from segue.predict import mask_path
from segue.prepare import read_channels, read_mask
from segue.view.facts import CaseFigures, Part, RunFacts
from segue.view.flat import flat_picture, is_picture
from segue.view.picture import MOST_CHANNELS, case_picture
from segue.view.summary import PART_NAMES
from segue.view.words import count, dice, listed, sentence, unit, volume
from segue.volume import Volume

# Of the picture files of one report together; base64 adds a third, and small pictures of all cases come beside them.
_PICTURE_BYTES = 1_200_000
_WIDTH_PX, _LEAST_WIDTH_PX = 1200, 400


@dataclass(frozen=True)
class Shown:
    """One case of the gallery: a picture, or why there is none."""

    case: str
    rank: str
    figures: str
    png: bytes | None
    alt: str
    problem: str | None
    notes: str
    flat: bool


def chosen_cases(part: Part) -> list[tuple[str, str]]:
    """Best, median and worst of the cases that have something to find, and the worst of those that have not.

    Returns (case, rank) pairs.
    """
    with_truth = [(name, case) for name, case in part.worst_first if case.truth_ml > 0 and case.mean_dice is not None]
    names = [name for name, _ in reversed(with_truth)]
    ranks: dict[str, str] = {}
    for place, rank in ((0, "best"), ((len(names) - 1) // 2, "median"), (len(names) - 1, "worst")):
        if names:
            ranks.setdefault(names[place], rank)
    if len(names) == 1:
        ranks = {names[0]: "the only case"}
    without = [(case.predicted_ml, name) for name, case in part.cases.items() if case.labels and case.truth_ml == 0]
    if without:
        marked, name = max(without)
        ranks[name] = "nothing to find, most marked" if marked > 0 else "nothing to find, nothing marked"
    return list(ranks.items())


def gallery(facts: RunFacts) -> dict[str, list[Shown]]:
    """The pictures of each part; a case whose image or prediction is gone says so instead."""
    chosen = {name: chosen_cases(part) for name, part in facts.parts.items()}
    number = sum(map(len, chosen.values()))
    return {
        name: [_shown(facts, name, case, rank, _PICTURE_BYTES // number) for case, rank in cases]
        for name, cases in chosen.items()
        if cases
    }


def _shown(facts: RunFacts, part: str, name: str, rank: str, most_bytes: int) -> Shown:
    figures = facts.parts[part].cases[name]
    png, problem, flat = None, None, facts.pixel_ml(part) is not None
    notes: list[str] = []
    try:
        if facts.card is None:
            problem = facts.missing["card.json"]
        elif name not in facts.truths:
            problem = "This case is not in the dataset any more, or the dataset is not where the run found it."
        else:
            image = read_channels(facts.truths[name], facts.card)
            flat = is_picture(image, facts.card.dimension)
            png = _picture(facts, facts.card, part, facts.truths[name], image, most_bytes, notes)
    except (SegueError, OSError, MemoryError, ValueError) as error:
        problem = sentence(str(error).replace("\n  -> ", ". To mend it: "))
    told = in_words(figures, facts.pixel_ml(part))
    alt = (
        f"{name}, {rank} case of the {PART_NAMES[part]} {facts.whom}: "
        f"{'the picture' if flat else 'axial, coronal and sagittal slices'} with the outlines "
        f"of truth and prediction. {told}"
    )
    return Shown(name, rank, told, png, alt, problem, " ".join(notes), flat)


def _picture(
    facts: RunFacts, card: Card, part: str, case: Case, image: Volume, most_bytes: int, notes: list[str]
) -> bytes:
    truth = prediction = None
    if case.label is not None and all(path.exists() for path in case.files):
        truth = read_mask(case.label)
    else:
        notes.append("The truth of this case is gone: only the prediction is outlined.")
    predicted = mask_path(facts.predictions(part, case.id), case, card.dimension)
    if predicted.exists():
        prediction = read_labels(predicted)
    else:
        notes.append("The prediction of this case is gone: only the truth is outlined.")
    if len(card.channels) > MOST_CHANNELS:
        hidden = [channel.name for channel in card.channels[MOST_CHANNELS:]]
        notes.append(f"Not shown: {count(len(hidden), 'more channel')} ({listed(hidden)}).")
    labels = facts.plan.labels if facts.plan else card.labels
    draw = flat_picture if is_picture(image, card.dimension) else case_picture
    width = _WIDTH_PX
    while True:
        png = draw(image, card.channels, labels, truth, prediction, width_px=width)
        if len(png) <= most_bytes or width <= _LEAST_WIDTH_PX:
            return png
        # Bytes grow with the area; a little less, so that the next one fits.
        width = max(_LEAST_WIDTH_PX, int(0.93 * width * (most_bytes / len(png)) ** 0.5))


def in_words(figures: CaseFigures, pixel_ml: float | None) -> str:
    measured = [
        f"{label} {dice(value)}" for label in figures.labels if (value := figures.of(label, "dice")) is not None
    ]
    truth, predicted = (f"{volume(ml, pixel_ml)} {unit(pixel_ml)}" for ml in (figures.truth_ml, figures.predicted_ml))
    volumes = f"truth {truth}, prediction {predicted}"
    if figures.truth_ml == 0 or not measured:
        return volumes[:1].upper() + volumes[1:]
    if len(measured) > 4:
        measured = [f"mean {dice(figures.mean_dice)} over {count(len(measured), 'label')}"]
    return f"Dice {', '.join(measured) if len(figures.labels) > 1 else dice(figures.mean_dice)}; {volumes}"
