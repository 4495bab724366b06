"""What the scripts of the report draw from: figures of cases, learning curves, ROC and calibration, as plain JSON.

Names of labels, cases and facts are data of strangers. They stand here as strings only, and the scripts show them as
text, never as markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer

from segue.evaluate import BY_NAME
from segue.metrics import Kind, reliability, roc_points
from segue.view.colours import label_colours
from segue.view.facts import CaseFigures, ClassFigures, ClassPart, Part, RunFacts
from segue.view.metric_words import METRIC_WORDS, MetricWords
from segue.view.summary import PART_NAMES

# Numbers of one page: 200 cases of five labels with all metrics, 1,000 cases of 117 labels with one.
_MOST_VALUES = 120_000
_MOST_CASES = 5_000
_MOST_POINTS = 400
_MOST_CATEGORIES = 40
_DIGITS = 5


def case_data(facts: RunFacts) -> dict[str, Any]:
    """Every measured case: what it is, and its figures as ``values[metric][label][case]``.

    Metrics come in the order of their weight; where there are many cases and labels, only as many as a page can hold.
    """
    if facts.class_parts:
        return _of_classes(facts)
    named = cases_in_order(facts)
    labels = list(dict.fromkeys(label for _, _, case in named for label in (*case.labels, *case.regions)))
    pixel_ml = {part: facts.pixel_ml(part) for part in facts.parts}
    in_pixels = bool(pixel_ml) and all(value is not None for value in pixel_ml.values())
    metrics = _metrics([(facts.parts[part], case) for part, _, case in named], len(labels))

    def values(label: str, metric: str) -> list[float | None]:
        found = [case.named.get(label, {}).get(metric) for _, _, case in named]
        if in_pixels and metric.endswith("_ml"):
            sizes = [pixel_ml[part] or 1.0 for part, _, _ in named]
            found = [None if ml is None else ml / size for ml, size in zip(found, sizes, strict=True)]
        return _rounded(found)

    return {
        **_shared(facts, [(part, name, case.patient) for part, name, case in named], labels),
        "metrics": [_told(words, in_pixels) for words in metrics],
        "values": {words.name: {label: values(label, words.name) for label in labels} for words in metrics},
        "mean": _rounded([case.mean_dice for _, _, case in named]),
    }


def cases_in_order(facts: RunFacts) -> list[tuple[str, str, CaseFigures]]:
    """Part, name and figures of each case of a segmentation, as the data of the page numbers them."""
    named = [(part, name, case) for part, found in facts.parts.items() for name, case in found.worst_first]
    return named[:_MOST_CASES]


def _metrics(cases: Sequence[tuple[Part, CaseFigures]], labels: int) -> list[MetricWords]:
    """Those that any case has, the weightiest first, as many as a page holds."""
    there = {
        metric
        for _, case in cases
        for figures in (*case.labels.values(), *case.regions.values())
        for metric, value in figures.items()
        if value is not None
    }
    most = max(2, _MOST_VALUES // max(1, len(cases) * labels))
    return [words for words in METRIC_WORDS if words.name in there and words.name in BY_NAME][:most]


def _told(words: MetricWords, in_pixels: bool) -> dict[str, Any]:
    rises = BY_NAME[words.name].rises if words.name in BY_NAME else words.rises
    unit = "pixels" if in_pixels and words.unit == "ml" else words.unit
    return {"name": words.name, "title": words.title, "unit": unit, "rises": rises, "unit_interval": words.share}


def _of_classes(facts: RunFacts) -> dict[str, Any]:
    named = answers_in_order(facts)
    classes = next((part.classes for part in facts.class_parts.values()), [])
    several = any(part.several for part in facts.class_parts.values())

    def of_truth(case: ClassFigures, label: str) -> float | None:
        chance = case.probabilities.get(label)
        if isinstance(case.truth, str):
            return chance if label == case.truth else None
        return chance if label in case.truth or chance is None else 1 - chance

    words = {"name": "probability_of_truth", "title": "probability of the truth", "unit": "", "rises": True,
             "unit_interval": True}  # fmt: skip
    return {
        **_shared(facts, [(part, name, case.patient) for part, name, case in named], classes),
        "several": several,
        "metrics": [words],
        "values": {"probability_of_truth": {
            label: _rounded([of_truth(case, label) for _, _, case in named]) for label in classes
        }},
        "mean": _rounded([case.of_truth for _, _, case in named]),
        "truth": [_names(case.truth, classes) for _, _, case in named],
        "answer": [_names(case.predicted, classes) for _, _, case in named],
        "wrong": [bool(case.wrong) for _, _, case in named],
    }  # fmt: skip


def _names(answer: str | Sequence[str], classes: Sequence[str]) -> list[int]:
    held = [answer] if isinstance(answer, str) else answer
    return [place for place, name in enumerate(classes) if name in held]


def _shared(facts: RunFacts, named: Sequence[tuple[str, str, str]], labels: list[str]) -> dict[str, Any]:
    colours = label_colours(labels)
    parts = list(dict.fromkeys(part for part, _, _ in named))
    return {
        "task": "classification" if facts.class_parts else "segmentation",
        "labels": [{"name": label, "colour": colours[label]} for label in labels],
        "parts": [PART_NAMES[part] for part in parts],
        "part": [parts.index(part) for part, _, _ in named],
        "cases": [name for _, name, _ in named],
        "patients": [patient if patient != name else "" for _, name, patient in named],
        "facts": _facts([facts.truths[name].facts if name in facts.truths else {} for _, name, _ in named]),
        "whom": facts.whom,
    }


def _facts(known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the dataset tells of its cases (site, tracer, age): numbers, or names of which there are not too many."""
    found = []
    for name in dict.fromkeys(key for facts in known for key in facts):
        values = [facts.get(name) for facts in known]
        there = [value for value in values if value is not None and value != ""]
        if there and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
            numbers = [float(value) if isinstance(value, int | float) else None for value in values]
            found.append({"name": str(name), "numbers": _rounded(numbers)})
            continue
        texts = ["" if value is None else str(value) for value in values]
        categories = sorted({text for text in texts if text})
        if 1 <= len(categories) <= _MOST_CATEGORIES:
            found.append({
                "name": str(name), "categories": categories,
                "values": [categories.index(text) if text else None for text in texts],
            })  # fmt: skip
    return found


def answers_in_order(facts: RunFacts) -> list[tuple[str, str, ClassFigures]]:
    """Part, name and answer of each case of a classification, as the data of the page numbers them."""
    named = [(part, name, case) for part, found in facts.class_parts.items() for name, case in found.worst_first]
    return named[:_MOST_CASES]


def curve_data(facts: RunFacts) -> dict[str, Any] | None:
    """Loss and validation scores over the minutes of the training; None without a step and without a validation."""
    steps, looks = facts.of("step"), facts.of("validated")
    if not steps and not looks:
        return None
    thin = max(1, -(-len(steps) // _MOST_POINTS))
    key = "dice" if not any("scores" in look for look in looks) else "scores"
    deciding = "" if key == "dice" else str(looks[-1].get("metric", "score"))
    names = [n for n in dict.fromkeys(str(n) for look in looks for n in (look.get(key) or {})) if n != deciding]
    colours = label_colours(names)
    return {
        "steps": {
            "minutes": _rounded([_minutes(step) for step in steps[::thin]]),
            "step": [step.get("step") for step in steps[::thin]],
            "loss": _rounded([_mean(steps[place : place + thin]) for place in range(0, len(steps), thin)]),
            "rate": _rounded([_number(step.get("learning_rate")) for step in steps[::thin]]),
        },
        "looks": {
            "minutes": _rounded([_minutes(look) for look in looks]),
            "step": [look.get("step") for look in looks],
            "score": _rounded([_number(look.get("mean_dice", look.get("score"))) for look in looks]),
            "best": [bool(look.get("best")) for look in looks],
            "labels": {name: _rounded([_number((look.get(key) or {}).get(name)) for look in looks]) for name in names},
        },
        "score": "mean Dice" if key == "dice" else _score_name(looks),
        "labels": [{"name": name, "colour": colours[name]} for name in names],
        "resumed": _rounded([_minutes(event) for event in facts.of("resumed")]),
    }


def class_data(facts: RunFacts) -> dict[str, Any]:
    """ROC curve of each class and calibration, by part; empty unless the run is a classification."""
    kind: Kind = (facts.card.classes if facts.card else None) or "multi-class"
    found = {}
    for name, part in facts.class_parts.items():
        if not part.cases:
            continue
        truth, scores = truth_and_scores(part)
        colours = label_colours(part.classes)
        # Of two classes that exclude each other one curve says all: the other is its mirror image.
        chosen = range(len(part.classes) - 1, len(part.classes)) if kind == "binary" else range(len(part.classes))
        curves = []
        for place in chosen:
            label, points = part.classes[place], roc_points(truth[:, place], scores[:, place])
            if points is not None:
                kept = _corners(*points)
                curves.append({
                    "name": label, "colour": colours[label], "auc": part.mean(label, "auc").value,
                    "false": _rounded(points[0][kept].tolist()), "found": _rounded(points[1][kept].tolist()),
                })  # fmt: skip
        bins = reliability(truth, scores, kind)
        found[PART_NAMES[name]] = {
            "roc": curves,
            "calibration": {
                "confidence": _rounded(bins.confidence.tolist()),
                "accuracy": _rounded(bins.accuracy.tolist()),
                "answers": bins.answers.tolist(),
                "lowest": lowest_confidence(kind, len(part.classes)),
            },
        }
    return found


def _corners(wrong: Float[np.ndarray, " points"], found: Float[np.ndarray, " points"]) -> Integer[np.ndarray, " kept"]:
    """The points that a curve needs: those where it turns, and of very many an even choice."""
    slopes = np.arctan2(np.diff(found), np.diff(wrong))
    turns = np.flatnonzero(np.abs(np.diff(slopes)) > 1e-9) + 1
    kept = np.concatenate([[0], turns, [len(wrong) - 1]])
    return kept if len(kept) <= _MOST_POINTS else kept[np.linspace(0, len(kept) - 1, _MOST_POINTS).astype(int)]


def lowest_confidence(kind: Kind, classes: int) -> float:
    """The least probability that an answer can have."""
    return 0.5 if kind in ("binary", "multi-label") else 1 / max(1, classes)


def truth_and_scores(part: ClassPart) -> tuple[Bool[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Which classes each case has, and the probability of each, in the order of the part's cases and classes."""
    names = part.classes
    truth = [
        [name in case.truth if case.several else name == case.truth for name in names] for case in part.cases.values()
    ]
    scores = [[case.probabilities.get(name, 0.0) for name in names] for case in part.cases.values()]
    shape = (len(part.cases), len(names))
    return np.array(truth, dtype=bool).reshape(shape), np.array(scores, dtype=float).reshape(shape)


def _score_name(looks: Sequence[Mapping[str, Any]]) -> str:
    name = str(looks[-1].get("metric", "score"))
    return "AUC" if name == "auc" else name.replace("_", " ")


def _mean(steps: Sequence[Mapping[str, Any]]) -> float | None:
    losses = [loss for step in steps if (loss := _number(step.get("loss"))) is not None]
    return sum(losses) / len(losses) if losses else None


def _minutes(event: Mapping[str, Any]) -> float | None:
    seconds = _number(event.get("seconds"))
    return None if seconds is None else seconds / 60


def _number(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None  # type: ignore[arg-type]


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """Five digits are more than a chart shows, and half the bytes."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}") for value in values]
