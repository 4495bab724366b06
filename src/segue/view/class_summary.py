"""A classification in plain sentences: what was learned, how well, and how far to trust it."""

from __future__ import annotations

from collections import Counter

from segue.view.facts import ClassPart, Mean, RunFacts
from segue.view.summary import (
    NOBODY_NAMED,
    PART_NAMES,
    Summary,
    Tile,
    failed_told,
    left_out_told,
    not_measured,
    selection_told,
    shared_tiles,
    training_told,
    unseen,
)
from segue.view.words import DASH, count, dice, interval, listed, percent, sentence

_FEW_CASES = 50
_FEW_OF_A_CLASS = 10
_IMBALANCED = 0.6
_MISCALIBRATED = 0.1
_EACH_CLASS_TOLD = 3
_MEANING = (
    " AUC is the chance that an image with a class scores higher for it than one without: 1 is always, 0.5 is what "
    "guessing gives."
)


def summarise_classes(facts: RunFacts) -> Summary:
    """The summary of a run, however far it has come."""
    paragraphs = [_learned(facts)]
    cautions: list[str] = []
    for number, (name, part) in enumerate(facts.class_parts.items()):
        paragraphs += _measured(name, part, facts, explained=number == 0)
        if part.cases:
            cautions += [selection_told(name, facts, whom(part)), *_few(name, part)]
            # Test and validation images are of one kind: what holds of the first holds of the other.
            cautions += _caution(name, part) if number == 0 else []
    if facts.split and not facts.patients_known:
        cautions.append(NOBODY_NAMED)
    if not facts.class_parts:
        paragraphs.append(facts.missing.get("metrics.json", "Nothing has been measured yet."))
    paragraphs += [training_told(facts), left_out_told(facts)]
    return Summary(_tiles(facts), [text for text in paragraphs if text], cautions)


def whom(part: ClassPart) -> str:
    """What the cases of a part are called: ``patients`` where they are known, else ``images``."""
    return "patients" if part.patients_known else "images"


def largest_class(part: ClassPart) -> tuple[str, float] | None:
    """The class that most cases of the part have, and their share; None where several labels may hold."""
    truths = Counter(case.truth for case in part.cases.values() if isinstance(case.truth, str))
    if not truths:
        return None
    name, number = truths.most_common(1)[0]
    return name, number / truths.total()


def _tiles(facts: RunFacts) -> list[Tile]:
    tiles = []
    for name, part in facts.class_parts.items():
        for metric, words in (("auc", "AUC"), ("accuracy", "accuracy")):
            mean = part.mean("all", metric)
            note = f"95 % interval {interval(mean)}" if mean.ci95 else "no interval: too few patients"
            tiles.append(Tile(dice(mean.value), f"{words}, {PART_NAMES[name]}", note))
    if not facts.class_parts:
        tiles.append(Tile(DASH, "AUC and accuracy", not_measured(facts)))
    return [*tiles, *shared_tiles(facts)]


def _learned(facts: RunFacts) -> str:
    card = facts.card
    if card is None:
        return facts.missing.get("card.json", "")
    named = [f"“{name}”" for name in card.labels.values()]
    kind = f"{' and '.join(card.modalities)} images" if card.modalities else "images"
    if card.classes == "multi-label":
        what = f"to say of {kind} which of {len(named)} findings they show ({listed(named, 14)})"
    elif card.classes == "ordinal":
        what = f"to place {kind} on a scale of {len(named)} steps, in this order: {listed(named, 14)}"
    elif len(named) == 2:
        what = f"to tell {named[0]} from {named[1]} in {kind}"
    else:
        what = f"to tell {len(named)} classes apart in {kind}: {listed(named, 14)}"
    text = f"A neural network learned {what}"
    members = facts.split.get("train")
    if members:
        text += f". It learned from {count(len(members), 'image')} whose answer was known"
        text += f", of {count(facts.patients('train'), 'patient')}" if facts.patients_known else ""
    return f"{text}. Dataset: {sentence(card.title)}"


def _measured(name: str, part: ClassPart, facts: RunFacts, explained: bool) -> list[str]:
    if not part.cases:
        return [f"No {PART_NAMES[name]} case could be measured.", *failed_told(part)]
    group = count(len(part.cases), f"{PART_NAMES[name]} image")
    if part.patients_known:
        group += f" of {count(part.patients, 'patient')}"
    accuracy, auc = part.mean("all", "accuracy"), part.mean("all", "auc")
    right = "of the labels were answered rightly" if part.several else "of the answers were right"
    group += unseen(name, facts)
    text = f"On {group} {percent(accuracy.value)} {right}{_within(accuracy, percents=True)}"
    if auc.value is None:
        text += ". There is no AUC: all these images are of one class."
    else:
        mean = "" if len(part.classes) == 2 and not part.several else "mean "
        text += f", and the {mean}AUC is {dice(auc.value)}{_within(auc)}." + (_MEANING if explained else "")
    largest = largest_class(part)
    if largest is not None:
        always = f" Always answering “{largest[0]}”, the largest class here, would be right in {percent(largest[1])}"
        balanced = part.mean("all", "balanced_accuracy")
        text += f"{always}; averaged over the classes, {percent(balanced.value)} were found{_within(balanced, True)}."
    elif part.several:
        text += f" {_never(part)}"
    return [text, *_by_class(part), *failed_told(part)]


def _never(part: ClassPart) -> str:
    held = sum(len(case.truth) for case in part.cases.values())
    share = 1 - held / max(1, len(part.cases) * len(part.classes))
    return f"Always answering that nothing is there would be right for {percent(share)} of the labels."


def _within(mean: Mean, percents: bool = False) -> str:
    if mean.ci95 is None:
        return ""
    low, high = (percent(value) if percents else dice(value) for value in mean.ci95)
    return f" (95 % interval {low} to {high})"


def _by_class(part: ClassPart) -> list[str]:
    known = [(name, part.mean(name, "sensitivity"), part.mean(name, "precision")) for name in part.labels]
    known = [entry for entry in known if entry[1].value is not None]
    if not known:
        return []
    if len(known) <= _EACH_CLASS_TOLD:
        told = [
            f"of {count(found.n, 'image')} with “{name}”, {percent(found.value)} were found"
            + (f", and of {count(right.n, 'such answer')} {percent(right.value)} were right" if right.n else "")
            for name, found, right in known
        ]
        return [sentence("; ".join(told))]
    known.sort(key=lambda entry: entry[1].value or 0.0)
    worst, best = known[:2], known[-1]
    told = [f"“{name}” ({percent(found.value)} of {count(found.n, 'image')})" for name, found, _ in worst]
    return [f"Found least often: {listed(told)}; most often: “{best[0]}” ({percent(best[1].value)} of {best[1].n})."]


def _few(name: str, part: ClassPart) -> list[str]:
    if len(part.cases) == 1:
        return [f"One {PART_NAMES[name]} image tells nothing about others."]
    if len(part.cases) < _FEW_CASES:
        return [f"{len(part.cases)} {PART_NAMES[name]} images are few: other images could give quite another figure."]
    return []


def _caution(name: str, part: ClassPart) -> list[str]:
    text = []
    part_name = PART_NAMES[name]
    rare = [(label, part.mean(label, "sensitivity").n) for label in part.labels]
    absent = [f"“{label}”" for label, number in rare if number == 0]
    rare_names = [f"“{label}” ({number})" for label, number in rare if 0 < number < _FEW_OF_A_CLASS]
    if absent and len(part.cases) > 1:
        text.append(
            f"No {part_name} image has {listed(absent)}: how well it is found is unknown, and no mean holds it."
        )
    if rare_names and len(part.cases) > 1:
        text.append(
            f"Few {part_name} images have {listed(rare_names)}: figures of these classes are little but chance."
        )
    largest, accuracy = largest_class(part), part.mean("all", "accuracy")
    if largest is not None and accuracy.value is not None and len(part.classes) > 1:
        if len(part.cases) > 1 and (accuracy.ci95[0] if accuracy.ci95 else accuracy.value) <= largest[1]:
            text.append(
                f"On the {part_name} images the accuracy is not clearly better than that of always answering "
                f"“{largest[0]}” ({percent(largest[1])})."
            )
        elif largest[1] >= _IMBALANCED:
            text.append(
                f"The classes are unequal: {percent(largest[1])} of the {part_name} images are “{largest[0]}”. "
                "Quote AUC, sensitivity and specificity rather than the accuracy alone."
            )
    error = part.mean("all", "calibration_error").value
    if error is not None and error > _MISCALIBRATED and len(part.cases) > 1:
        text.append(
            f"The probabilities are not to be taken at their word: on the {part_name} images they are off by "
            f"{100 * error:.0f} percentage points on average (see Calibration)."
        )
    return text
