"""What a run folder says of itself; a file that is missing or damaged is told in words, never raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from segue.catalogue import Card, Case
from segue.core.errors import SegueError
from segue.prepare import Plan
from segue.train import Run, read_events

Value = TypeVar("Value")


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Mean(_Lenient):
    """One metric over cases: its mean, the 95 % interval, and over how many cases."""

    value: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0


class CaseFigures(_Lenient):
    """One case: ``labels[name][metric]``."""

    patient: str = ""
    labels: dict[str, dict[str, float | None]] = {}

    def of(self, label: str, metric: str) -> float | None:
        return self.labels.get(label, {}).get(metric)

    @property
    def mean_dice(self) -> float | None:
        values = [dice for label in self.labels if (dice := self.of(label, "dice")) is not None]
        return sum(values) / len(values) if values else None

    @property
    def truth_ml(self) -> float:
        return sum(self.of(label, "truth_volume_ml") or 0.0 for label in self.labels)

    @property
    def predicted_ml(self) -> float:
        return sum(self.of(label, "volume_ml") or 0.0 for label in self.labels)


class Failure(_Lenient):
    """A case that could not be predicted or measured."""

    what: str = ""
    where: str | None = None
    value: str | None = None


class Part(_Lenient):
    """``val`` or ``test`` of ``metrics.json``."""

    aggregate: dict[str, dict[str, Mean]] = {}
    cases: dict[str, CaseFigures] = {}
    failed: list[Failure] = []

    def mean(self, label: str, metric: str) -> Mean:
        return self.aggregate.get(label, {}).get(metric, Mean())

    @property
    def labels(self) -> list[str]:
        return [name for name in self.aggregate if name != "all"]

    @property
    def patients(self) -> int:
        return len({case.patient or name for name, case in self.cases.items()})

    @property
    def worst_first(self) -> list[tuple[str, CaseFigures]]:
        """Cases with a Dice, worst first; then those without one, most false positive volume first."""

        def order(item: tuple[str, CaseFigures]) -> tuple[bool, float, str]:
            name, case = item
            dice = case.mean_dice
            return dice is None, -case.predicted_ml if dice is None else dice, name

        return sorted(self.cases.items(), key=order)


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
class RunFacts:
    """Everything a report tells, read once. ``missing`` says in words why something is None or empty."""

    run: Run
    truths: Mapping[str, Case]
    card: Card | None
    plan: Plan | None
    parts: dict[str, Part]
    split: dict[str, list[Member]]
    remarks: Remarks | None
    environment: dict[str, str]
    events: list[dict[str, Any]]
    settings: dict[str, Any]
    missing: dict[str, str]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry.get("event") == event]

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

    parts = reading(
        "metrics.json",
        as_type("metrics.json", dict[str, Part]),
        "Nothing has been measured yet (segue evaluate with this run folder does it)",
    )
    environment = reading(
        "environment.json",
        as_type("environment.json", dict[str, Any]),
        "The environment was not recorded (it is when a training ends)",
    )
    members = as_type("split.json", dict[str, list[Member]])
    split = reading("split.json", members, "The patients are not divided yet")
    return RunFacts(
        run=run,
        truths=truths,
        card=reading("card.json", run.card, "What was trained on is not known"),
        plan=reading("plan.json", run.plan, "There is no plan yet"),
        parts={name: parts[name] for name in ("test", "val") if name in parts} if parts else {},
        split=split or {},
        remarks=reading("findings.json", as_type("findings.json", Remarks), "Quality control left no record"),
        environment={str(key): str(value) for key, value in (environment or {}).items()},
        events=reading("events.jsonl", lambda: read_events(run.events), "The training has not begun") or [],
        settings=reading("config.yaml", run.settings, "The experiment's settings are not there") or {},
        missing=missing,
    )
