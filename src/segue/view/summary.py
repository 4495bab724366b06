"""The run in plain sentences: what was learned, from whom, how well, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segue.core.console import duration
from segue.view.facts import ClassPart, Part, RunFacts
from segue.view.words import DASH, count, dice, interval, listed, sentence, unit, volume

# Test first: its figures are the ones to trust.
PART_NAMES = {"test": "test", "val": "validation"}
NOBODY_NAMED = (
    "The dataset names no patients: each image counts as a patient of its own. Where several are of one "
    "person, the intervals are too narrow, and if that person was trained on too, the figures are too good."
)
_FEW_PATIENTS = 10
_NAMED_CASES = 8
# Of fewer cases each is looked at by itself.
_FEW_TO_SPREAD = 5


@dataclass(frozen=True)
class Tile:
    """A figure that one sees first."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """Tiles, paragraphs, and what one should know before believing them."""

    tiles: list[Tile]
    paragraphs: list[str]
    cautions: list[str]


def summarise(facts: RunFacts) -> Summary:
    """The summary of a run, however far it has come."""
    paragraphs = [_learned(facts)]
    cautions: list[str] = []
    for number, (name, part) in enumerate(facts.parts.items()):
        paragraphs += _measured(name, part, facts, explained=number == 0)
        if part.cases:
            cautions += _caution(name, part, facts)
    if facts.split and not facts.patients_known:
        cautions.append(NOBODY_NAMED)
    if not facts.parts:
        paragraphs.append(facts.missing.get("metrics.json", "Nothing has been measured yet."))
    paragraphs.append(training_told(facts))
    paragraphs.append(left_out_told(facts))
    return Summary(_tiles(facts), [text for text in paragraphs if text], cautions)


def _tiles(facts: RunFacts) -> list[Tile]:
    tiles = []
    for name, part in facts.parts.items():
        mean = part.mean("all", "dice")
        note = f"95 % interval {interval(mean)}" if mean.ci95 else f"no interval: too few {facts.whom}"
        tiles.append(Tile(dice(mean.value), f"mean Dice, {PART_NAMES[name]}", note))
    if not facts.parts:
        tiles.append(Tile(DASH, "mean Dice", not_measured(facts)))
    return [*tiles, *shared_tiles(facts)]


def not_measured(facts: RunFacts) -> str:
    """Why there is no figure, in a few words."""
    return "nothing was held out" if facts.settings.get("fold") == "none" else "not measured yet"


def shared_tiles(facts: RunFacts) -> list[Tile]:
    """Of whom was learned, on whom it was tried, and how long it took."""
    tiles = []
    for name, words in (("train", "trained on"), *PART_NAMES.items()):
        members = facts.split.get(name)
        if not members:
            continue
        if facts.patients_known:
            title = f"patients {words}" if name == "train" else f"{words} patients"
            tiles.append(Tile(str(facts.patients(name)), title, count(len(members), "image")))
        else:
            title = f"images {words}" if name == "train" else f"{words} images"
            tiles.append(Tile(str(len(members)), title, "patients not named"))
    seconds = trained_seconds(facts)
    if seconds is not None:
        tiles.append(Tile(duration(seconds), "of training", _device(facts)))
    return tiles


def _learned(facts: RunFacts) -> str:
    if facts.card is None:
        return facts.missing.get("card.json", "")
    card = facts.card
    labels = facts.plan.labels if facts.plan else card.labels
    named = listed([f"“{name}”" for name in labels.values()])
    kind = f"{' and '.join(card.modalities)} images" if card.modalities else "images"
    what = f"A neural network learned to outline {named} in {kind}"
    if facts.split.get("train"):
        what += f" from the reference outlines of {count(facts.patients('train'), facts.whom[:-1])}"
        images = len(facts.split["train"])
        what += f" ({count(images, 'image')})" if images != facts.patients("train") else ""
    return f"{what}. Dataset: {sentence(card.title)}"


def _measured(name: str, part: Part, facts: RunFacts, explained: bool) -> list[str]:
    overall = part.mean("all", "dice")
    if not part.cases:
        return [f"No {PART_NAMES[name]} case could be measured.", *failed_told(part)]
    group = f"{count(part.patients, f'{PART_NAMES[name]} {facts.whom[:-1]}')}{unseen(name, facts)}"
    if overall.value is None:
        text = [f"On {group} there is no Dice to tell: neither reference nor prediction outlines anything."]
    else:
        within = f" (95 % interval {interval(overall)})" if overall.ci95 else ""
        first = f"On {group} its outlines reach a mean Dice of {dice(overall.value)}{within}."
        meaning = " Dice tells how far two outlines agree: 1 is the same outline, 0 is no overlap at all."
        text = [first + (meaning if explained else "")]
        if len(part.labels) > 1:
            figures = [_label_figure(part, label) for label in part.labels]
            text.append(sentence("by label: " + "; ".join(figures)))
    text += _spread(part)
    text += [sentence(found) for label in part.labels for found in _without_label(part, label, facts.pixel_ml(name))]
    text += failed_told(part)
    return text


def _spread(part: Part) -> list[str]:
    """What a mean hides: the middle and the lowest case, and how far volumes are off."""
    scored = [(case.mean_dice, name) for name, case in part.worst_first if case.mean_dice is not None]
    if len(scored) < _FEW_TO_SPREAD:
        return []
    middle = float(np.median([value for value, _ in scored]))
    lowest, name = scored[0]
    text = f"In half of the cases Dice is {dice(middle)} or more; the lowest is {dice(lowest)} ({name})."
    with_truth = [case for case in part.cases.values() if case.truth_ml > 0]
    off = [(case.predicted_ml - case.truth_ml) / case.truth_ml for case in with_truth]
    if len(off) >= _FEW_TO_SPREAD:
        larger, smaller = sum(x > 0 for x in off), sum(x < 0 for x in off)
        text += (
            f" The outlined volume is off by {100 * float(np.median(np.abs(off))):.0f} % in the median case; it is too "
            f"large in {larger} and too small in {smaller} of {len(off)} cases."
        )
    return [text]


def unseen(name: str, facts: RunFacts) -> str:
    """That nobody was measured by a network that had learned from them; ends in a comma."""
    if facts.folds and name == "val":
        return ", each by the fold that was not trained on it,"
    return " that it was not trained on,"


def failed_told(part: Part | ClassPart) -> list[str]:
    """Which cases are in no figure."""
    if not part.failed:
        return []
    named = [f"{failure.where}: {failure.what}" if failure.where else failure.what for failure in part.failed]
    number = f"{count(len(named), 'case')} could not be predicted or measured"
    return [f"{number} and {'is' if len(named) == 1 else 'are'} in no figure: {listed(named, 4)}."]


def _label_figure(part: Part, label: str) -> str:
    mean = part.mean(label, "dice")
    if mean.value is None:
        return f"{label} not measurable"
    return f"{label} {dice(mean.value)}" + (f" ({interval(mean)})" if mean.ci95 else "")


def _without_label(part: Part, label: str, pixel_ml: float | None) -> list[str]:
    invented = part.mean(label, "false_positive_ml_without_truth")
    if not invented.n or invented.value is None:
        return []
    volumes = [
        case.of(label, "volume_ml") or 0.0 for case in part.cases.values() if case.of(label, "truth_volume_ml") == 0
    ]
    wrong = sum(marked > 0 for marked in volumes)
    text = f"{count(invented.n, 'image')} {'has' if invented.n == 1 else 'have'} no {label} in the reference"
    if not wrong:
        counted = "it counts" if invented.n == 1 else "they count"
        return [f"{text}; the network rightly marked nothing there, and {counted} in no Dice"]
    share = f"in {wrong} of them" if invented.n > 1 else "there"
    return [
        f"{text}; the network marked some {share}: {volume(invented.value, pixel_ml)} {unit(pixel_ml)} of false "
        f"positives on average, {volume(max(volumes), pixel_ml)} {unit(pixel_ml)} at most"
    ]


def _caution(name: str, part: Part, facts: RunFacts) -> list[str]:
    text = [selection_told(name, facts, facts.whom)]
    if part.patients == 1:
        text.append(f"One {PART_NAMES[name]} {facts.whom[:-1]} tells nothing about others.")
    elif 0 < part.patients < _FEW_PATIENTS:
        text.append(
            f"{part.patients} {PART_NAMES[name]} {facts.whom} are few: another choice of {facts.whom} could "
            "give quite another figure."
        )
    return text


def selection_told(name: str, facts: RunFacts, whom: str) -> str:
    """Whether the figures of a part took part in choosing the network; ``whom`` is "patients" or "images"."""
    if name == "test":
        return f"The test {whom} took part in no decision of the training: their figures are the ones to quote."
    if facts.folds:
        return (
            f"Each of these {whom} was predicted by the fold that was not trained on it; but each fold kept the state "
            f"that did best on its own, so the figures are slightly optimistic."
        )
    looks = len(facts.of("validated"))
    how = f"Of {looks} states of the network the one" if looks > 1 else "The state of the network"
    hence = "the test figures are not" if facts.tested else f"new {whom} may fare a little worse"
    kept = f"{how} that did best on these validation {whom} was kept"
    return f"{kept}. Their figures are therefore slightly optimistic; {hence}."


def training_told(facts: RunFacts) -> str:
    """How long the training took, or how far it has come."""
    seconds = trained_seconds(facts)
    if seconds is None:
        return facts.missing.get("events.jsonl", "The training has not begun.")
    if facts.folds:
        ended = sum(fold.finished for fold in facts.folds)
        state = "" if ended == len(facts.folds) else f"; {ended} of them ended"
        return f"{count(len(facts.folds), 'fold')} trained for {duration(seconds)} together{state}."
    last = max((event.get("step", 0) for event in facts.events), default=0)
    device = _device(facts)
    where = f" {device}" if device else ""
    if facts.of("finished"):
        return f"The training took {duration(seconds)}{where} ({count(last, 'step')})."
    so_far = f"{duration(seconds)} and {count(last, 'step')} so far{where}"
    return f"The training is not finished: {so_far}. The same command goes on with it."


def trained_seconds(facts: RunFacts) -> float | None:
    """Seconds of training by its events, of several folds together."""
    if facts.folds:
        known = [fold.seconds for fold in facts.folds if fold.seconds is not None]
        return sum(known) if known else None
    seconds = [float(event["seconds"]) for event in facts.events if isinstance(event.get("seconds"), int | float)]
    return max(seconds) if seconds else None


def _device(facts: RunFacts) -> str:
    started = facts.of("started")
    device = facts.environment.get("device") or (str(started[0].get("device", "")) if started else "")
    return f"on {'the CPU' if device == 'cpu' else device}" if device else ""


def left_out_told(facts: RunFacts) -> str:
    """Which cases were not used, and why."""
    if facts.remarks is None:
        return facts.missing.get("findings.json", "")
    left_out: dict[str, list[str]] = {}
    for remark in facts.remarks.left_out:
        left_out.setdefault(remark.case, []).append(remark.what + (f" ({remark.value})" if remark.value else ""))
    if not left_out:
        return "Every annotated case was used; none was left out."
    named = [f"{case}: {', '.join(reasons)}" for case, reasons in list(left_out.items())[:_NAMED_CASES]]
    more = f"; and {len(left_out) - _NAMED_CASES} more, listed under Data" if len(left_out) > _NAMED_CASES else ""
    number = f"{count(len(left_out), 'case')} {'was' if len(left_out) == 1 else 'were'} left out"
    return f"{number}: {'; '.join(named)}{more}."
