"""The plan in words, and what it will cost in time and memory."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.catalogue import Case, Split
from segue.core.console import byte_count, duration
from segue.core.memory import used_memory_gb
from segue.model import window_count
from segue.prepare import Budget, Plan, PrepareTask, prepare_case, prepared_folder
from segue.train import IN_MEMORY_BYTES
from segue.workflow.experiment import Experiment
from segue.workflow.fitting import Fitting
from segue.workflow.look import workers_for
from segue.workflow.planning import Planned
from segue.workflow.stages import COARSE_SHARE, part_of

# Starting Python with torch, and drawing the report: seen on every machine, small beside any training.
_START_S, _REPORT_S = 4.0, 3.0
# Of the time of a training, the most that validation may take.
_VALIDATION_SHARE = 0.08


@dataclass(frozen=True)
class Estimate:
    """What a training will need, made from what was measured on this machine.

    Attributes:
        steps: of training.
        prepare_s, train_s, rest_s: seconds to prepare what is not prepared yet; of training with its validations; and
            of predicting, measuring and reporting afterwards.
        memory_gb: the largest part of the machine's memory that the process takes at a time.
        device_gb: of a GPU's memory, else None.
    """

    steps: int
    prepare_s: float
    train_s: float
    rest_s: float
    memory_gb: float
    device_gb: float | None

    @property
    def total_s(self) -> float:
        return _START_S + self.prepare_s + self.train_s + self.rest_s


def estimated(planned: Planned, split: Split, experiment: Experiment) -> Estimate:
    """What ``segue train`` with these settings will need. A case is prepared and timed on the way.

    Raises:
        DataError: the case cannot be prepared.
    """
    made, budget = planned.plan, experiment.budget_for(planned.plan.task)
    assert made.measured is not None, "every plan of an experiment was measured"
    shapes = _prepared_shapes(planned)
    one_s, missing = _preparing(planned, split, experiment)
    validate_s = sum(_predict_s(made, shapes[case.id]) for case in split.val if case.id in shapes)
    step_s = made.measured.step_s
    looks = experiment.train.validations * validate_s
    before_s = 0.0
    if made.coarse is not None and made.coarse.measured is not None:
        first = part_of(budget, COARSE_SHARE)
        coarse_s = _steps(first, len(split.train), made.coarse) * made.coarse.measured.step_s
        before_s = coarse_s if first.seconds is None else first.seconds
        budget = part_of(budget, 1 - COARSE_SHARE)
    if budget.seconds is not None:
        looks = min(looks, _VALIDATION_SHARE * budget.seconds)
        steps, train_s = max(1, int((budget.seconds - looks) / step_s)), budget.seconds
    else:
        steps = _steps(budget, len(split.train), made)
        train_s = steps * step_s + looks
    measured = [case for case in (*split.val, *split.test) if case.id in shapes]
    rest_s = sum(2 * one_s + _predict_s(made, shapes[case.id]) for case in measured) + _REPORT_S
    # What a step frees stays with the process; what is predicted comes on top.
    kept_gb = used_memory_gb() if planned.fitting is None else planned.fitting.peak_gb(made)
    return Estimate(
        steps,
        missing * one_s,
        before_s + train_s,
        rest_s,
        kept_gb
        + _cases_gb(made, [shapes[case.id] for case in split.train if case.id in shapes])
        + max((_prediction_gb(planned, case, shapes[case.id]) for case in measured), default=0.0),
        made.measured.memory_gb if has_own_memory(made) else None,
    )


def has_own_memory(made: Plan) -> bool:
    """Whether the plan was measured on a device with memory of its own."""
    return made.measured is not None and not made.measured.device.startswith(("cpu", "mps"))


def _steps(budget: Budget, cases: int, made: Plan) -> int:
    if budget.steps is not None:
        return budget.steps
    return (budget.epochs or 0) * -(-cases // min(made.batch, cases))


def _prepared_shapes(planned: Planned) -> dict[str, tuple[int, ...]]:
    """The size of each case on the plan's grid."""
    made = planned.plan
    if made.task == "classification":
        return {case.id: made.patch for case in planned.sound}
    shapes = {}
    for name, (shape, spacing) in planned.grids.items():
        wanted = [own if axis == made.slice_axis else made.spacing_mm[axis] for axis, own in enumerate(spacing)]
        sides = np.array(shape) * np.array(spacing) / np.array(wanted)
        shapes[name] = tuple(max(1, round(float(side))) for side in sides)
    return shapes


def _preparing(planned: Planned, split: Split, experiment: Experiment) -> tuple[float, float]:
    """Seconds a case takes, measured on one of median size, and how many cases a worker has to do."""
    made, cases = planned.plan, [*split.train, *split.val]
    if made.task == "classification":
        return 0.0, 0.0
    middle = sorted(cases, key=lambda case: _file_bytes(case))[len(cases) // 2]
    times = []
    for _ in range(2):  # the first time also imports what preparation needs
        with tempfile.TemporaryDirectory() as nowhere:
            started = time.perf_counter()
            prepare_case(PrepareTask(middle, planned.dataset.card, made, Path(nowhere)))
            times.append(time.perf_counter() - started)
    one_s = min(times)
    plans = [made] if made.coarse is None else [made, made.coarse]
    tasks = [PrepareTask(case, planned.dataset.card, one, experiment.cache_folder) for one in plans for case in cases]
    missing = sum(not prepared_folder(task).exists() for task in tasks)
    return one_s, missing / workers_for(cases, experiment.workers)


def _file_bytes(case: Case) -> int:
    return sum(path.stat().st_size for path in case.image_files if path.exists())


def _predict_s(made: Plan, shape: tuple[int, ...]) -> float:
    assert made.measured is not None, "every plan of an experiment was measured"
    return window_count(shape, made.patch, made.overlap) / made.batch * made.measured.forward_s


def _cases_gb(made: Plan, shapes: list[tuple[int, ...]]) -> float:
    """Of the prepared cases that training holds in memory; larger ones stay on disk."""
    each = 2 * len(made.channels) + (1 if max(made.labels, default=0) < 256 else 2)
    size = sum(math.prod(shape) * each for shape in shapes)
    return size / 1e9 if size <= IN_MEMORY_BYTES else 0.0


def _prediction_gb(planned: Planned, case: Case, shape: tuple[int, ...]) -> float:
    """Of one case while it is predicted: its prepared form, logits and weights of the windows, and where its own grid
    is another one, the best class and its score there."""
    made, voxels = planned.plan, math.prod(shape)
    outputs = len(made.regions) or len(made.labels) + 1
    stored = math.prod(planned.grids[case.id][0]) if case.id in planned.grids else voxels
    elsewhere = 0 if stored == voxels else 14 * stored
    return (4 * voxels * (len(made.channels) + outputs + 1) + elsewhere) / 1e9


def describe_plan(made: Plan) -> str:
    """Every choice with its reason, as text."""
    said = [made.network.target or made.network.name or "", *(f"{k}={v}" for k, v in made.network.args.items())]
    network = " ".join(filter(None, said))
    choices = {
        "dimension": str(made.dimension),
        "spacing_mm": " x ".join(f"{value:g}" for value in made.spacing_mm),
        "patch": "x".join(map(str, made.patch)),
        "batch": str(made.batch),
        "network": network,
        "foreground_share": f"{made.foreground_share:.2f}",
        "mirror_axes": str(made.mirror_axes),
    }
    if made.coarse is not None:
        grid = " x ".join(f"{value:g}" for value in made.coarse.spacing_mm)
        choices["low_resolution"] = f"{grid} mm, patch {'x'.join(map(str, made.coarse.patch))}"
    if made.regions:
        choices["regions"] = ", ".join(f"{r.name} ({'+'.join(map(str, r.members))})" for r in made.regions)
    if made.channel_dropout:
        choices["channel_dropout"] = f"{made.channel_dropout:.2f}"
    if made.task == "classification":
        del choices["foreground_share"], choices["spacing_mm"]
        choices["class_shift"] = " ".join(f"{shift:.2f}" for shift in made.class_shift or [])
    if made.measured is not None:
        choices["precision"] = made.measured.precision + (", compiled" if made.measured.compiled else "")
    for channel, rule in zip(made.channels, made.normalisation, strict=True):
        text = {
            "hu": f"hu {rule.low:.0f} to {rule.high:.0f}",
            "dataset": f"minus {rule.mean:.1f}, over {rule.std:.1f}",
        }.get(rule.kind, rule.kind)
        choices[f"normalisation.{channel.name}"] = text
    return "\n".join(
        f"{name:<{max(map(len, choices)) + 2}}{value}\n    {made.reasons.get(name, '')}"
        for name, value in choices.items()
    )


def describe_cost(planned: Planned, split: Split, experiment: Experiment) -> str:
    """Time and memory that training will take, and what twice the time would change."""
    found = estimated(planned, split, experiment)
    budget = experiment.budget_for(planned.plan.task)
    gpu = "" if found.device_gb is None else f", and {byte_count(round(found.device_gb * 1e9))} of the GPU's"
    lines = [
        f"time      {duration(found.total_s)}: {duration(found.train_s)} of training ({budget}, about {found.steps} "
        f"steps), {duration(found.prepare_s)} to prepare before, {duration(found.rest_s)} to measure and report after",
        f"memory    {byte_count(round(found.memory_gb * 1e9))}{gpu}",
    ]
    if planned.fitting is not None:
        lines.append(f"twice     {_twice(planned.plan, found.steps, budget, planned.fitting)}")
    return "\n".join(lines)


def _twice(made: Plan, steps: int, budget: Budget, fitting: Fitting) -> str:
    if budget.seconds is None:
        return f"{2 * steps} steps with the same patch and network"
    other = fitting.plan(2 * budget.seconds)
    assert other.measured is not None, "every plan of an experiment was measured"
    changes = [
        f"{name} {before} would become {after}"
        for name, before, after in (
            ("patch", "x".join(map(str, made.patch)), "x".join(map(str, other.patch))),
            ("batch", str(made.batch), str(other.batch)),
            ("network", _widths(made), _widths(other)),
        )
        if before != after
    ]
    more = round(steps * 2 * (made.measured.step_s if made.measured else 1.0) / other.measured.step_s)
    with_what = "; ".join(changes) if changes else "the same patch and network"
    return f"in {duration(2 * budget.seconds)} about {more} steps: {with_what}"


def _widths(made: Plan) -> str:
    args = made.network.args
    stem = max(args.get("stem_stride") or [1]) > 1
    return f"{args.get('channels', made.network.name or made.network.target)}" + (" behind a stem" if stem else "")
