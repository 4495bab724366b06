"""What a reading room holds: cases, and of each the images and masks that may be asked for. Paths stay in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from segue.catalogue import Card, Channel
from segue.prepare import Finding
from segue.train import Run
from segue.volume import Volume


@dataclass(frozen=True)
class Sheet:
    """One image or mask that can be shown.

    Attributes:
        name: as the page calls it.
        files: what it is made of; they may be gone.
        read: the volume with one channel, or three where ``colour``.
        form: what is made of the files: changes where the volume would.
        stored: the file that has just this content, where there is one.
        unit: of the values; what is ``"arbitrary"`` here may have one that only its reader knows.
        run: of a prediction, the number of its run.
        labels: of a mask that brings names of its own; else those of the room hold.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[], Volume]
    form: object = None
    stored: Path | None = None
    unit: str = "arbitrary"
    colour: bool = False
    run: int | None = None
    labels: Mapping[int, str] | None = None


@dataclass(frozen=True)
class RoomCase:
    """One case of the list.

    Attributes:
        sheets: makes the images and the masks when the case is opened: a long list is shown without touching a file.
        figures: per run ``figures[label][metric]``.
        labels: names of the labels or classes that it is known to have.
        answers: per run what a classification says of it.
    """

    id: str
    sheets: Callable[[], tuple[list[Sheet], list[Sheet]]]
    patient: str = ""
    split: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    figures: Mapping[int, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    answers: Mapping[int, Mapping[str, str | float | None]] = field(default_factory=dict)
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Room:
    """Everything that one reading room shows.

    Attributes:
        root: the dataset (or folder) whose verdicts are read and written; None where there is none.
        notes: what the reader should know, in sentences.
    """

    title: str
    kind: str
    cases: Sequence[RoomCase]
    labels: Mapping[int, str] = field(default_factory=dict)
    channels: Sequence[Channel] = ()
    runs: Sequence[Run] = ()
    names: Sequence[str] = ()
    root: Path | None = None
    card: Card | None = None
    notes: Sequence[str] = ()

    @cached_property
    def listing(self) -> dict[str, Any]:
        """The list of cases in columns, for the page: small enough for 10,000 cases in one answer."""
        return {
            "id": [case.id for case in self.cases],
            "patient": [case.patient if case.patient != case.id else "" for case in self.cases],
            "split": [case.split for case in self.cases],
            "labels": [list(case.labels) for case in self.cases],
            "findings": [[(finding.severity, finding.what) for finding in case.findings] for case in self.cases],
            "facts": [" ".join(case.facts.values()) for case in self.cases],
            "columns": self._columns(),
        }

    def _columns(self) -> list[dict[str, Any]]:
        columns = []
        for number in range(len(self.runs)):
            before = f"{self.names[number]}: " if len(self.runs) > 1 else ""
            for key, name in self._measured(number):
                values = [_value(case, number, key) for case in self.cases]
                columns.append({"name": before + name, "metric": name, "run": number, "values": values})
        if len(self.runs) == 2:
            columns += self._differences(columns)
        return columns

    def _measured(self, number: int) -> list[tuple[tuple[str, str], str]]:
        """The columns of one run: (label, metric), and what they are called."""
        found: dict[tuple[str, str], None] = {}
        for case in self.cases:
            found.update(dict.fromkeys(("", name) for name in case.answers.get(number, {})))
            for label, metrics in case.figures.get(number, {}).items():
                found.update(dict.fromkeys((label, metric) for metric in metrics))
        labels = dict.fromkeys(label for label, _ in found if label)
        if len(labels) > _MANY_LABELS:
            found = {key: None for key in found if key[1] == "dice"}
        named = [((label, metric), f"{_words(metric)} {label}".strip()) for label, metric in found]
        return ([(("all", "dice"), "Dice, mean")] if len(labels) > 1 else []) + named

    def _differences(self, columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of two runs, paired: the second's figure minus the first's."""
        first, second = ({c["metric"]: c["values"] for c in columns if c["run"] == run} for run in (0, 1))
        paired = []
        for name, values in first.items():
            pairs = list(zip(values, second.get(name, []), strict=False))
            if any(isinstance(a, float) and isinstance(b, float) for a, b in pairs):
                differences = [b - a if isinstance(a, float) and isinstance(b, float) else None for a, b in pairs]
                paired.append({"name": f"difference: {name}", "metric": name, "run": None, "values": differences})
        return paired


_MANY_LABELS = 8


def _words(metric: str) -> str:
    return {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 mm", "nsd": "NSD", "assd_mm": "ASSD mm"}.get(
        metric, metric.removesuffix("_ml").replace("_", " ") + (" ml" if metric.endswith("_ml") else "")
    )


def _value(case: RoomCase, run: int, key: tuple[str, str]) -> float | str | None:
    label, metric = key
    if label == "all":
        values = [v for name, m in case.figures.get(run, {}).items() if (v := m.get("dice")) is not None]
        return sum(values) / len(values) if values else None
    if not label:
        return case.answers.get(run, {}).get(metric)
    value = case.figures.get(run, {}).get(label, {}).get(metric)
    return None if value is None else float(value)
