"""The sections of the report of a classification; those that every run has are :mod:`segue.view.sections`'s."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast

from segue.metrics import CALIBRATION_BINS, Kind, reliability
from segue.view.class_charts import reliability_chart, roc_chart
from segue.view.class_gallery import MOST_MISTAKES, mistakes, names_of
from segue.view.class_summary import largest_class, summarise_classes
from segue.view.colours import is_colour
from segue.view.facts import ClassPart, RunFacts
from segue.view.page import Section, data_uri
from segue.view.page_data import lowest_confidence, truth_and_scores
from segue.view.sections import MOST_ROWS, SECTIONS
from segue.view.summary import PART_NAMES
from segue.view.words import count, dice, interval, listed, percent

_OVERALL = (
    ("auc", "AUC"),
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("f1", "F1, mean of classes"),
    ("kappa", "weighted kappa"),
    ("brier", "Brier score"),
    ("calibration_error", "calibration error"),
)
# Of these less is better, or the scale is another: no bar from 0 to 1.
_WITHOUT_BAR = ("kappa", "brier", "calibration_error")
_PER_CLASS = ("auc", "sensitivity", "specificity", "precision", "f1")


def _summary(facts: RunFacts) -> dict[str, Any]:
    return asdict(summarise_classes(facts))


def _measures(facts: RunFacts) -> dict[str, Any]:
    return {
        "tables": [{"title": PART_NAMES[name], **_figures(part)} for name, part in facts.class_parts.items()],
        "problem": facts.missing.get("metrics.json"),
        "kind": facts.card.classes if facts.card else None,
    }


def _figures(part: ClassPart) -> dict[str, Any]:
    overall = part.aggregate.get("all", {})
    largest = largest_class(part)
    rows = [
        {
            "name": words,
            "value": overall[metric].value,
            "bar": metric not in _WITHOUT_BAR,
            "low_high": overall[metric].ci95,
            "interval": interval(overall[metric]),
            "n": overall[metric].n,
        }
        for metric, words in _OVERALL
        if metric in overall
    ]
    classes = [
        {
            "name": name,
            "cases": part.mean(name, "sensitivity").n,
            "figures": [
                (dice(mean.value), interval(mean)) for metric in _PER_CLASS if (mean := part.mean(name, metric))
            ],
        }
        for name in part.labels
    ]
    always = f"Always answering “{largest[0]}” would have an accuracy of {largest[1]:.3f}." if largest else ""
    return {"rows": rows, "classes": classes, "always": always}


def _confusion(facts: RunFacts) -> dict[str, Any]:
    tables = []
    for name, part in facts.class_parts.items():
        names = part.classes
        if len(part.confusion) != len(names) or not part.cases:
            continue
        if part.several:
            rows = [
                _label_row(label, cast(list[list[int]], cells))
                for label, cells in zip(names, part.confusion, strict=True)
            ]
        else:
            rows = [
                _class_row(label, place, cast(list[int], cells))
                for place, (label, cells) in enumerate(zip(names, part.confusion, strict=True))
            ]
        tables.append({"title": PART_NAMES[name], "names": names, "several": part.several, "rows": rows})
    problem = None if tables else facts.missing.get("metrics.json", "No case was measured.")
    return {"tables": tables, "problem": problem}


def _class_row(label: str, place: int, cells: list[int]) -> dict[str, Any]:
    total = sum(cells)
    return {
        "name": label,
        "total": total,
        "cells": [_cell(number, total, right=column == place) for column, number in enumerate(cells)],
    }


def _label_row(label: str, cells: list[list[int]]) -> dict[str, Any]:
    (neither, invented), (missed, both) = cells
    present, absent = missed + both, neither + invented
    return {
        "name": label,
        "total": present,
        "cells": [
            _cell(both, present, True), _cell(missed, present, False),
            _cell(invented, absent, False), _cell(neither, absent, True),
        ],
    }  # fmt: skip


def _cell(number: int, total: int, right: bool) -> dict[str, Any]:
    share = number / total if total else 0.0
    return {"number": number, "share": percent(share) if total else "–", "right": right, "depth": f"{0.62 * share:.3f}"}


def _roc(facts: RunFacts) -> dict[str, Any]:
    charts = []
    binary = facts.card is not None and facts.card.classes == "binary"
    for name, part in facts.class_parts.items():
        if not part.cases:
            continue
        truth, scores = truth_and_scores(part)
        # Of two classes that exclude each other one curve says all: the other is its mirror image.
        chosen = [len(part.classes) - 1] if binary else list(range(len(part.classes)))
        names = [part.classes[place] for place in chosen]
        aucs = [part.mean(label, "auc").value for label in names]
        pictures = [roc_chart(names, truth[:, chosen], scores[:, chosen], aucs, theme) for theme in ("light", "dark")]
        told = listed([f"{label} {dice(value)}" for label, value in zip(names, aucs, strict=True)], 20)
        charts.append(_chart(name, pictures, f"ROC curves of the {PART_NAMES[name]} images; AUC: {told}.",
                             "No curve: no class both occurs and is absent among these images."))  # fmt: skip
    words = (
        "Each curve goes through every threshold on the probability of a class: up, how many images with the class are "
        "found; to the right, how many without it are taken for it. The upper left corner is perfect, the dotted line "
        "is guessing."
    )
    return _charts(facts, charts, words)


def _calibration(facts: RunFacts) -> dict[str, Any]:
    charts = []
    kind: Kind = (facts.card.classes if facts.card else None) or "multi-class"
    for name, part in facts.class_parts.items():
        if not part.cases:
            continue
        truth, scores = truth_and_scores(part)
        found = reliability(truth, scores, kind)
        lowest = lowest_confidence(kind, len(part.classes))
        error = dice(part.mean("all", "calibration_error").value)
        bins = "; ".join(f"{c:.2f}: {a:.2f}" for c, a in zip(found.confidence, found.accuracy, strict=True))
        pictures = [reliability_chart(found, lowest, theme) for theme in ("light", "dark")]
        alt = f"Share of right answers by their confidence on the {PART_NAMES[name]} images: {bins}. Error {error}."
        charts.append(_chart(name, pictures, alt, "No answer was measured.", f"Calibration error {error}."))
    words = (
        "A network whose probabilities can be taken at their word is right in 80 % of the answers that it gives with "
        "80 % confidence: its points lie on the dotted line. The calibration error is the mean length of the orange "
        f"lines, weighted by the answers in each of {CALIBRATION_BINS} bins of equal width."
    )
    return _charts(facts, charts, words)


def _chart(part: str, pictures: list[bytes | None], alt: str, problem: str, told: str = "") -> dict[str, Any]:
    light, dark = (data_uri(picture) if picture else None for picture in pictures)
    return {"title": PART_NAMES[part], "light": light, "dark": dark, "alt": alt, "told": told,
            "problem": None if light else problem}  # fmt: skip


def _charts(facts: RunFacts, charts: list[dict[str, Any]], words: str) -> dict[str, Any]:
    problem = None if charts else facts.missing.get("metrics.json", "No case was measured.")
    return {"charts": charts, "words": words if charts else "", "problem": problem}


def _mistakes(facts: RunFacts) -> dict[str, Any]:
    groups = []
    for name, shown in mistakes(facts).items():
        wrong, cases = len(facts.class_parts[name].mistakes), len(facts.class_parts[name].cases)
        told = f"{wrong} of {count(cases, 'image')} {'was' if wrong == 1 else 'were'} answered wrongly"
        told += f"; the {MOST_MISTAKES} most confident mistakes are shown." if wrong > MOST_MISTAKES else "."
        pictures = [{**asdict(mistake), "src": data_uri(mistake.png) if mistake.png else None} for mistake in shown]
        groups.append({"title": PART_NAMES[name], "told": told if cases else "", "cases": pictures})
    problem = None if groups else facts.missing.get("metrics.json", "No case was measured.")
    return {"groups": groups, "problem": problem, "shown_as": _shown_as(facts) if groups else "",
            "volumes": facts.card is not None and facts.card.dimension == 3}  # fmt: skip


def _shown_as(facts: RunFacts) -> str:
    if facts.card is None:
        return ""
    channels = facts.card.channels
    text = "Volumes are cut in the middle: axial, coronal, sagittal." if facts.card.dimension == 3 else ""
    if is_colour(channels):
        return text
    if channels[0].unit == "arbitrary":
        text += " Grey values go from the 1st to the 99th percentile of each image."
    if len(channels) > 1:
        text += f" Shown is the channel {channels[0].name} of {len(channels)}."
    return text.strip()


def _cases(facts: RunFacts) -> dict[str, Any]:
    tables = []
    for name, part in facts.class_parts.items():
        rows = [
            {
                "case": case_name,
                "patient": case.patient if case.patient != case_name else "",
                "truth": names_of(case.truth),
                "predicted": names_of(case.predicted),
                "right": not case.wrong,
                "value": case.of_truth,
                "answer": "" if case.several else dice(case.probabilities.get(names_of(case.predicted))),
            }
            for case_name, case in part.worst_first[:MOST_ROWS]
        ]
        tables.append(
            {
                "title": PART_NAMES[name],
                "several": part.several,
                "patients": any(row["patient"] for row in rows),
                "rows": rows,
                "hidden": max(0, len(part.cases) - MOST_ROWS),
                "failed": [failure.model_dump() for failure in part.failed],
            }
        )
    return {"tables": tables, "problem": facts.missing.get("metrics.json")}


_SHARED = {section.name: section for section in SECTIONS}

CLASS_SECTIONS: tuple[Section[RunFacts], ...] = (
    Section("summary", "In short", _summary),
    Section("measures", "How well", _measures, "class_measures"),
    Section("confusion", "What is taken for what", _confusion),
    Section("roc", "ROC curves", _roc, "charts"),
    Section("calibration", "Calibration", _calibration, "charts"),
    Section("mistakes", "Most confident mistakes", _mistakes),
    Section("cases", "Every case", _cases, "class_cases"),
    *(_SHARED[name] for name in ("viewer", "folds", "curves", "samples", "plan", "data", "environment")),
)
