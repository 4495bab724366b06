"""What a run folder says of itself; a file that is missing or damaged is told in words, never raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from segue.catalogue import Card, Case
from segue.core.errors import SegueError
from segue.evaluate import common_pixel_ml
from segue.predict import PostProcessing, read_postprocessing
from segue.prepare import Plan
from segue.train import Run, read_events

# Of a picture without a stored size: 1 mm each way.
_PIXEL_ML = 0.001

Value = TypeVar("Value")
Figures = TypeVar("Figures", bound="_Part")


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Mean(_Lenient):
    """One metric over cases: its mean, the 95 % interval, and over how many cases."""

    value: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0


class CaseFigures(_Lenient):
    """One case: ``labels[name][metric]``, and the same of unions of labels."""

    patient: str = ""
    labels: dict[str, dict[str, float | None]] = {}
    regions: dict[str, dict[str, float | None]] = {}
    pixel_ml: float | None = None

    def of(self, label: str, metric: str) -> float | None:
        """A figure of a label or region."""
        return self.named.get(label, {}).get(metric)

    @cached_property
    def named(self) -> dict[str, dict[str, float | None]]:
        """Labels and regions; a label wins where both have a name."""
        return {**self.regions, **self.labels}

    @cached_property
    def mean_dice(self) -> float | None:
        values = [dice for figures in self.labels.values() if (dice := figures.get("dice")) is not None]
        return sum(values) / len(values) if values else None

    @property
    def truth_ml(self) -> float:
        return sum(figures.get("truth_volume_ml") or 0.0 for figures in self.labels.values())

    @property
    def predicted_ml(self) -> float:
        return sum(figures.get("volume_ml") or 0.0 for figures in self.labels.values())


class Failure(_Lenient):
    """A case that could not be predicted or measured."""

    what: str = ""
    where: str | None = None
    value: str | None = None


class Postprocessed(_Lenient):
    """The means over the same cases with post-processing."""

    aggregate: dict[str, dict[str, Mean]] = {}


class _Part(_Lenient):
    """What ``val`` or ``test`` of ``metrics.json`` holds whatever the task."""

    aggregate: dict[str, dict[str, Mean]] = {}
    failed: list[Failure] = []

    def mean(self, label: str, metric: str) -> Mean:
        return self.aggregate.get(label, {}).get(metric, Mean())

    @property
    def labels(self) -> list[str]:
        return [name for name in self.aggregate if name != "all"]


class Part(_Part):
    """``val`` or ``test`` of a segmentation."""

    cases: dict[str, CaseFigures] = {}
    tolerance_mm: float | None = None
    postprocessed: Postprocessed | None = None

    @property
    def patients(self) -> int:
        return len({case.patient or name for name, case in self.cases.items()})

    @cached_property
    def worst_first(self) -> list[tuple[str, CaseFigures]]:
        """Cases with a Dice, worst first; then those without one, most false positive volume first."""

        def order(item: tuple[str, CaseFigures]) -> tuple[bool, float, str]:
            name, case = item
            dice = case.mean_dice
            return dice is None, -case.predicted_ml if dice is None else dice, name

        return sorted(self.cases.items(), key=order)


class ClassFigures(_Lenient):
    """One case of a classification: names of classes, and the probability of each."""

    patient: str = ""
    truth: str | list[str] = ""
    predicted: str | list[str] = ""
    probabilities: dict[str, float] = {}

    @property
    def several(self) -> bool:
        """Whether any number of labels may hold: each is an answer of its own."""
        return isinstance(self.truth, list)

    @property
    def wrong(self) -> list[str]:
        """The labels that were answered wrongly; the answer itself where one class holds."""
        if isinstance(self.truth, list) and isinstance(self.predicted, list):
            return [name for name in self.probabilities if (name in self.truth) != (name in self.predicted)]
        return [self.predicted] if isinstance(self.predicted, str) and self.predicted != self.truth else []

    def confidence(self, name: str) -> float:
        """The probability of what was answered for this class."""
        value = self.probabilities.get(name, 0.0)
        return 1 - value if self.several and name not in self.predicted else value

    @property
    def of_truth(self) -> float:
        """The probability of the truth; of several labels that of the least probable one."""
        if isinstance(self.truth, str):
            return self.probabilities.get(self.truth, 0.0)
        right = [value if name in self.truth else 1 - value for name, value in self.probabilities.items()]
        return min(right, default=0.0)


class ClassPart(_Part):
    """``val`` or ``test`` of a classification."""

    confusion: list[list[int]] | list[list[list[int]]] = []
    cases: dict[str, ClassFigures] = {}

    @property
    def patients(self) -> int:
        return len({case.patient or name for name, case in self.cases.items()})

    @property
    def patients_known(self) -> bool:
        """Whether any case is of another patient than itself: else nobody knows whose images these are."""
        return any(case.patient and case.patient != name for name, case in self.cases.items())

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of the probabilities."""
        return next((list(case.probabilities) for case in self.cases.values()), self.labels)

    @property
    def several(self) -> bool:
        return any(case.several for case in self.cases.values())

    @cached_property
    def worst_first(self) -> list[tuple[str, ClassFigures]]:
        """Cases by the probability of their truth, the lowest first."""
        return sorted(self.cases.items(), key=lambda item: (item[1].of_truth, item[0]))

    @property
    def mistakes(self) -> list[tuple[str, ClassFigures]]:
        """Wrong cases, the most confident first."""

        def order(item: tuple[str, ClassFigures]) -> tuple[float, str]:
            name, case = item
            return -max(case.confidence(wrong) for wrong in case.wrong), name

        return sorted(((name, case) for name, case in self.cases.items() if case.wrong), key=order)


class Member(_Lenient):
    """One case of the split."""

    id: str
    patient: str = ""


class Remark(_Lenient):
    """One result of quality control."""

    case: str = ""
    severity: str = "error"
    what: str = ""
    value: str | None = None
    remedy: str | None = None


class Remarks(_Lenient):
    """``findings.json``: the cases that were left out, and everything found."""

    left_out: list[Remark] = []
    findings: list[Remark] = []


@dataclass(frozen=True)
class FoldFacts:
    """One of several trainings of a run folder; ``seconds`` are those of its training so far."""

    run: Run
    split: dict[str, list[Member]]
    seconds: float | None
    finished: bool

    @property
    def cases(self) -> frozenset[str]:
        """The cases that it validates on."""
        return frozenset(member.id for member in self.split.get("val", []))


@dataclass(frozen=True)
class RunFacts:
    """Everything a report tells, read once. ``missing`` says in words why something is None or empty.

    Of a segmentation the figures are ``parts``, of a classification ``class_parts``; the other is empty. ``folds`` are
    there where the run folder holds several trainings, ``volumes`` where images were written for the viewer.
    """

    run: Run
    truths: Mapping[str, Case]
    card: Card | None
    plan: Plan | None
    parts: dict[str, Part]
    class_parts: dict[str, ClassPart]
    split: dict[str, list[Member]]
    remarks: Remarks | None
    environment: dict[str, str]
    events: list[dict[str, Any]]
    settings: dict[str, Any]
    missing: dict[str, str]
    folds: list[FoldFacts] = field(default_factory=list)
    postprocessing: PostProcessing | None = None
    volumes: dict[str, Any] | None = None

    def predictions(self, part: str, case: str) -> Path:
        """Where the prediction of a case lies: of a fold in its own folder, of the mean of folds in the run's."""
        own = [fold.run for fold in self.folds if case in fold.cases] if part == "val" else []
        return (own[0] if own else self.run).predictions(part)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry.get("event") == event]

    def pixel_ml(self, part: str) -> float | None:
        """The volume of a pixel where areas are told in pixels: a part of pictures with pixels of one size."""
        if self.card is None or self.card.dimension != 2 or part not in self.parts:
            return None
        sizes = [case.pixel_ml for case in self.parts[part].cases.values()]
        if not any(sizes) and self.plan is not None and all(abs(step - 1) < 1e-4 for step in self.plan.spacing_mm):
            return _PIXEL_ML  # measured by a segue that did not write the size down
        return common_pixel_ml(sizes)

    @property
    def patients_known(self) -> bool:
        """False where the images are all their own patient: of a classification, or of ordinary pictures.

        Of a segmentation in 3-D an image is a study, and a case that is its own patient is one.
        """
        if self.card is None or (self.card.task != "classification" and self.card.dimension != 2):
            return True
        return any(member.patient not in ("", member.id) for members in self.split.values() for member in members)

    @property
    def whom(self) -> str:
        """What those are called whose figures are told: ``patients`` where they are known, else ``images``."""
        return "patients" if self.patients_known else "images"

    @property
    def tested(self) -> bool:
        return "test" in self.parts or "test" in self.class_parts

    def patients(self, part: str) -> int:
        return len({member.patient or member.id for member in self.split.get(part, [])})


def read_facts(run: Run, truths: Mapping[str, Case]) -> RunFacts:
    """Read a run folder, as far as it is there."""
    missing: dict[str, str] = {}

    def reading(name: str, read: Callable[[], Value], absent: str) -> Value | None:
        if not (run.folder / name).exists():
            missing[name] = f"{absent}: {name} is not in the run folder."
            return None
        try:
            return read()
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            missing[name] = f"{name} cannot be read: {place}: {first['msg']}."
        except (SegueError, OSError, UnicodeDecodeError) as error:
            missing[name] = f"{name} cannot be read: {getattr(error, 'what', error)}."
        return None

    def as_type(name: str, wanted: Any) -> Callable[[], Any]:
        return lambda: TypeAdapter(wanted).validate_python(run.json(name))

    def figures(wanted: type[Figures]) -> dict[str, Figures]:
        absent = "Nothing has been measured yet (segue evaluate with this run folder does it)"
        found = reading("metrics.json", as_type("metrics.json", dict[str, wanted]), absent) or {}  # type: ignore[valid-type]
        return {name: found[name] for name in ("test", "val") if name in found}

    card = reading("card.json", run.card, "What was trained on is not known")
    classified = card is not None and card.task == "classification"
    environment = reading(
        "environment.json",
        as_type("environment.json", dict[str, Any]),
        "The environment was not recorded (it is when a training ends)",
    )
    members = as_type("split.json", dict[str, list[Member]])
    split = reading("split.json", members, "The patients are not divided yet")
    settings = reading("config.yaml", run.settings, "The experiment's settings are not there") or {}
    folds = _folds(run)
    events = reading("events.jsonl", lambda: read_events(run.events), "The training has not begun") or []
    if folds and not events:
        missing["events.jsonl"] = "Each fold has learning curves of its own, in its own report."
    parts = {} if classified else figures(Part)
    class_parts = figures(ClassPart) if classified else {}
    if settings.get("fold") == "none" and not parts and not class_parts:
        missing["metrics.json"] = (
            "Every annotated case was trained on and none was held out: how good this network is was not measured. "
            "A cross-validation of the same experiment (--fold cv) tells what may be expected of it."
        )
    return RunFacts(
        run=run,
        truths=truths,
        card=card,
        plan=reading("plan.json", run.plan, "There is no plan yet"),
        parts=parts,
        class_parts=class_parts,
        split=_of_all([fold.split for fold in folds]) if folds else split or {},
        remarks=reading("findings.json", as_type("findings.json", Remarks), "Quality control left no record"),
        environment={str(key): str(value) for key, value in (environment or {}).items()},
        events=events,
        settings=settings,
        missing=missing,
        folds=folds,
        postprocessing=reading(run.postprocessing.name, lambda: read_postprocessing(run), "None was chosen"),
    )


def _folds(run: Run) -> list[FoldFacts]:
    try:
        members = run.members()
        if members == [run]:
            return []
        return [_fold(member) for member in members]
    except (SegueError, OSError, ValidationError):
        return []


def _fold(member: Run) -> FoldFacts:
    split = TypeAdapter(dict[str, list[Member]]).validate_python(member.json("split.json"))
    events = read_events(member.events)
    seconds = [float(event["seconds"]) for event in events if isinstance(event.get("seconds"), int | float)]
    return FoldFacts(member, split, max(seconds, default=None), member.finished)


def _of_all(splits: list[dict[str, list[Member]]]) -> dict[str, list[Member]]:
    """The cases that any fold trains on, validates on, and so on."""
    parts = dict.fromkeys(part for split in splits for part in split)
    return {part: list(dict.fromkeys(case for split in splits for case in split.get(part, []))) for part in parts}
