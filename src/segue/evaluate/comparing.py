"""Measured runs against each other, paired case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import DataError, UsageError
from segue.core.files import parse_json
from segue.evaluate.measures import METRICS
from segue.evaluate.part import ALL
from segue.metrics import Paired, holm, paired

# Whether more is better, of everything that is compared. Of classes: what each case says by itself.
RISES = {metric.name: metric.rises for metric in METRICS if metric.rises is not None} | {
    "accuracy": True,
    "probability_of_truth": True,
}
_OVER_LABELS = {metric.name for metric in METRICS if metric.over_labels}
_SAME_TRUTH = 1e-3
# The parts are told apart unless runs have none in common: then all cases of each are taken.
_ANY_PART = "cases"

Values = dict[str, dict[str, float]]


@dataclass(frozen=True)
class MeasuredCase:
    """What one case scored: ``values[label][metric]`` and, to see whether two runs speak of the same, its truth."""

    patient: str
    values: Values
    truth_ml: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasuredRun:
    """The figures of a run folder, or of a folder of masks: ``parts["val"|"test"][case]``."""

    name: str
    parts: dict[str, dict[str, MeasuredCase]]
    tolerance_mm: dict[str, float | None]


@dataclass(frozen=True)
class Change:
    """A case whose score differs much: ``one`` and ``other`` are those of the two runs."""

    case: str
    label: str
    metric: str
    one: float
    other: float


@dataclass(frozen=True)
class Difference:
    """One metric of one label over the cases that both runs have.

    Attributes:
        one, other: the means of the two runs over these cases.
        found: other minus one, its interval and its p by Wilcoxon's signed ranks.
        p_holm: p corrected for all labels and runs that this metric is compared of.
        one_better, other_better: in how many cases.
    """

    label: str
    metric: str
    one: float
    other: float
    found: Paired
    p_holm: float | None
    one_better: int
    other_better: int


@dataclass(frozen=True)
class Versus:
    """Two runs on the cases of one part that both have.

    Attributes:
        cases, patients: how many are compared.
        left_out: cases that only one of the two has.
        gains, losses: cases where the other run is better and worse than the first, by most first.
    """

    one: str
    other: str
    part: str
    cases: int
    patients: int
    left_out: int
    differences: list[Difference]
    gains: list[Change]
    losses: list[Change]
    remarks: list[str]


@dataclass(frozen=True)
class Comparison:
    """The first run against each of the others; ``runs`` are all of them, the first one first."""

    pairs: list[Versus]
    runs: list[MeasuredRun] = field(default_factory=list)


def read_measured(path: Path) -> MeasuredRun:
    """The figures in a run folder, in a folder of masks that were measured, or in a ``metrics.json``.

    Raises:
        UsageError: nothing was measured there. DataError: the file is damaged.
    """
    file = path if path.suffix == ".json" else path / "metrics.json"
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        parts = {part: _cases(told) for part, told in content.items() if told.get("cases")}
        tolerances = {part: content[part].get("tolerance_mm") for part in parts}
    except FileNotFoundError:
        raise UsageError(
            "nothing was measured here: there is no metrics.json",
            where=path,
            remedy="measure it first: segue evaluate RUN, or segue evaluate --pred FOLDER --truth FOLDER",
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "this metrics.json cannot be understood",
            where=file,
            value=f"{type(error).__name__}: {error}"[:200],
            remedy="measure again: segue evaluate RUN",
        ) from error
    if not parts:
        raise DataError("no case was measured here", where=file, remedy="train with a fold that validates")
    return MeasuredRun(str(path), parts, tolerances)


def _cases(part: Mapping[str, Any]) -> dict[str, MeasuredCase]:
    return {name: _case(name, told) for name, told in part["cases"].items()}


def _case(name: str, told: Mapping[str, Any]) -> MeasuredCase:
    patient = str(told.get("patient") or name)
    if "probabilities" in told:
        truth, predicted, chances = told["truth"], told["predicted"], told["probabilities"]
        if isinstance(truth, str):
            right, chance = float(truth == predicted), float(chances[truth])
        else:  # each label is an answer of its own
            right = float(np.mean([(label in truth) == (label in predicted) for label in chances]))
            chance = float(np.mean([p if label in truth else 1 - p for label, p in chances.items()]))
        return MeasuredCase(patient, {ALL: {"accuracy": right, "probability_of_truth": chance}})
    named = {**told["labels"], **told.get("regions", {})}
    values = {
        label: {metric: float(value) for metric, value in figures.items() if metric in RISES and value is not None}
        for label, figures in named.items()
    }
    truth = {
        label: float(figures["truth_volume_ml"]) for label, figures in named.items() if "truth_volume_ml" in figures
    }
    if len(told["labels"]) > 1:
        values[ALL] = {}  # filled where it is compared: over the labels that both runs could measure
    return MeasuredCase(patient, values, truth)


def compare(runs: Sequence[MeasuredRun], most_named: int = 3) -> Comparison:
    """The first run against each of the others: paired on the cases that both have.

    Per label and metric the mean difference (other minus first), its 95 % interval (bootstrap over patients) and
    Wilcoxon's signed-rank test, corrected by Holm over all labels and runs of the same metric. A case counts where
    both runs have the figure.

    Args:
        most_named: how many cases are named in which one is better, by the mean Dice of their labels.

    Raises:
        UsageError: fewer than two runs. DataError: two of them have no case in common.
    """
    if len(runs) < 2:
        raise UsageError("a comparison wants two runs at least", remedy="segue evaluate RUN RUN")
    found = [(runs[0], other, part) for other in runs[1:] for part in _common_parts(runs[0], other)]
    raw = [_columns(one, other, part) for one, other, part in found]
    tested: dict[str, list[tuple[int, str, Paired]]] = {}
    for number, columns in enumerate(raw):
        for (label, metric), (first, second, patients) in columns.items():
            tested.setdefault(metric, []).append((number, label, paired(first.tolist(), second.tolist(), patients)))
    differences: list[list[Difference]] = [[] for _ in found]
    for metric, results in tested.items():
        corrected = holm([result.p for _, _, result in results])
        for (number, label, result), p in zip(results, corrected, strict=True):
            first, second, _ = raw[number][label, metric]
            differences[number].append(_difference(label, metric, first, second, result, p))
    pairs = [
        _versus(one, other, part, rows, most_named) for (one, other, part), rows in zip(found, differences, strict=True)
    ]
    return Comparison(pairs, list(runs))


def paired_figures(one: MeasuredRun, other: MeasuredRun, part: str) -> dict[str, list[tuple[str, str, float, float]]]:
    """Of each case of a part (that of a :class:`Versus`) that both runs have: label, metric, and the two figures."""
    comparable = _tolerance(one, part) == _tolerance(other, part)
    return {
        name: [row for row in _both(first, second) if comparable or row[1] != "nsd"]
        for name, first, second in _shared(one, other, part)
    }


def _difference(
    label: str, metric: str, first: np.ndarray, second: np.ndarray, result: Paired, p: float | None
) -> Difference:
    better = second > first if RISES[metric] else second < first
    worse = second < first if RISES[metric] else second > first
    means = float(first.mean()), float(second.mean())
    return Difference(label, metric, *means, result, p, int(worse.sum()), int(better.sum()))


def _common_parts(one: MeasuredRun, other: MeasuredRun) -> list[str]:
    shared = [part for part in one.parts if part in other.parts and one.parts[part].keys() & other.parts[part].keys()]
    if shared:
        return shared
    if not (_of(one, _ANY_PART).keys() & _of(other, _ANY_PART).keys()):
        raise DataError(
            "these two have no case in common",
            where=f"{one.name} and {other.name}",
            value=f"{next(iter(_of(one, _ANY_PART)))} ... against {next(iter(_of(other, _ANY_PART)))} ...",
            remedy="measure both on the same cases",
        )
    return [_ANY_PART]


def _of(run: MeasuredRun, part: str) -> dict[str, MeasuredCase]:
    if part != _ANY_PART:
        return run.parts[part]
    return {name: case for cases in run.parts.values() for name, case in cases.items()}


def _shared(one: MeasuredRun, other: MeasuredRun, part: str) -> list[tuple[str, MeasuredCase, MeasuredCase]]:
    first, second = _of(one, part), _of(other, part)
    return [(name, case, second[name]) for name, case in sorted(first.items()) if name in second]


def _columns(
    one: MeasuredRun, other: MeasuredRun, part: str
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray, list[str]]]:
    """By label and metric: both runs' values of the cases that have both, and whose cases these are."""
    found: dict[tuple[str, str], list[tuple[float, float, str]]] = {}
    for _, first, second in _shared(one, other, part):
        for label, metric, *values in _both(first, second):
            found.setdefault((label, metric), []).append((values[0], values[1], first.patient))
    if _tolerance(one, part) != _tolerance(other, part):
        found = {key: rows for key, rows in found.items() if key[1] != "nsd"}
    order = {metric: place for place, metric in enumerate(RISES)}
    labels = list(dict.fromkeys(label for label, _ in found))
    return {
        key: (np.array([row[0] for row in found[key]]), np.array([row[1] for row in found[key]]),
              [row[2] for row in found[key]])
        for key in sorted(found, key=lambda key: (order[key[1]], key[0] == ALL, labels.index(key[0])))
    }  # fmt: skip


def _both(first: MeasuredCase, second: MeasuredCase) -> list[tuple[str, str, float, float]]:
    rows = [
        (label, metric, value, second.values[label][metric])
        for label, figures in first.values.items()
        for metric, value in figures.items()
        if metric in second.values.get(label, {})
    ]
    if ALL in first.values and ALL in second.values and not first.values[ALL]:
        for metric in RISES:
            values = [row[2:] for row in rows if row[1] == metric]
            if values and metric in _OVER_LABELS:
                mean = np.mean(values, axis=0)
                rows.append((ALL, metric, float(mean[0]), float(mean[1])))
    return rows


def _tolerance(run: MeasuredRun, part: str) -> float | None:
    known = run.tolerance_mm.values() if part == _ANY_PART else [run.tolerance_mm.get(part)]
    return next(iter(known), None)


def _versus(one: MeasuredRun, other: MeasuredRun, part: str, differences: list[Difference], most_named: int) -> Versus:
    shared = _shared(one, other, part)
    changes = sorted(
        (change for name, first, second in shared if (change := _change(name, first, second)) is not None),
        key=lambda change: (change.one - change.other, change.case),
    )
    gains = [change for change in changes if change.other > change.one][:most_named]
    losses = [change for change in reversed(changes) if change.other < change.one][:most_named]
    remarks = []
    tolerances = _tolerance(one, part), _tolerance(other, part)
    if tolerances[0] != tolerances[1]:
        told = " and ".join("unknown" if value is None else f"{value:g} mm" for value in tolerances)
        remarks.append(f"NSD is not compared: the tolerances are {told}")
    strange = [name for name, first, second in shared if not _same_truth(first, second)]
    if strange:
        remarks.append(
            f"in {len(strange)} of these cases the truth has another volume ({', '.join(strange[:3])}"
            f"{' ...' if len(strange) > 3 else ''}): were both measured against the same masks?"
        )
    return Versus(
        one.name,
        other.name,
        part,
        len(shared),
        len({first.patient for _, first, _ in shared}),
        len(_of(one, part).keys() ^ _of(other, part).keys()),
        differences,
        gains,
        losses,
        remarks,
    )


def _change(name: str, first: MeasuredCase, second: MeasuredCase) -> Change | None:
    """How the mean over labels of the first metric that both have changed."""
    rows = _both(first, second)
    metric = next((metric for metric in RISES if any(row[1] == metric for row in rows)), None)
    chosen = [row for row in rows if row[1] == metric]
    if metric is None or not chosen:
        return None
    told = next((row for row in chosen if row[0] == ALL), chosen[0])
    return Change(name, told[0], metric, told[2], told[3])


def _same_truth(first: MeasuredCase, second: MeasuredCase) -> bool:
    return all(
        abs(volume - second.truth_ml[label]) <= _SAME_TRUTH * max(volume, second.truth_ml[label])
        for label, volume in first.truth_ml.items()
        if label in second.truth_ml
    )
