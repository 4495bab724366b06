"""The plan that a device can do: what is chosen for a given speed and memory, and what a person is told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from segue.core.errors import DataError, MachineError
from segue.prepare import Budget, Fingerprint, Measured, Plan
from segue.train import TrainSettings, measure, step_bytes, step_flops
from segue.workflow import fitting as fitting_module
from segue.workflow.estimating import estimated
from segue.workflow.experiment import Experiment
from segue.workflow.fitting import Fitting
from segue.workflow.look import prepare_all
from segue.workflow.planning import brought, make_plan, require_every_label, sound_split
from segue.workflow.training import train
from test_prepare import facts
from test_train import experiment

LARGE = facts((300, 300, 200), (1, 1, 1), part=0.0005)
SMALL = facts((36, 50, 35), (1, 1, 1))


def fitted(
    monkeypatch: pytest.MonkeyPatch,
    about: Fingerprint,
    minutes: float,
    flops_per_s: float,
    gb_per_kept_gb: float = 1.0,
    **changes: object,
) -> tuple[Plan, list[Plan]]:
    """The plan for a device of this speed, and all plans that were tried on it."""
    tried: list[Plan] = []

    def measured(plan: Plan, *_: object) -> Measured:
        tried.append(plan)
        flops, kept = step_flops(plan), step_bytes(plan)
        assert flops is not None
        assert kept is not None
        seconds, memory = 3 * flops / flops_per_s, gb_per_kept_gb * kept / 1e9
        return Measured(device="made up", precision="float32", step_s=seconds, forward_s=seconds / 3, memory_gb=memory)

    monkeypatch.setattr(fitting_module, "measure", measured)
    wanted = Experiment.model_validate({"dataset": "x", **changes})
    return Fitting(about, torch.device("cpu"), wanted).plan(60 * minutes), tried


def test_more_time_buys_a_larger_patch_then_a_larger_network(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = [1e10, 1e11, 1e12, 1e13, 1e15]
    plans = [fitted(monkeypatch, LARGE, 30, speed)[0] for speed in speeds]
    voxels = [math.prod(plan.patch) for plan in plans]
    assert voxels == sorted(voxels)
    assert voxels[0] < 150_000
    assert voxels[-1] > 3_000_000
    assert plans[0].network.args["stem_stride"] == [2, 2, 2]
    assert plans[-1].network.args["channels"][:2] == [32, 64]
    assert plans[-1].network.args["stem_stride"] == [1, 1, 1]
    assert plans[0].batch == 2
    for plan in plans:
        assert plan.measured is not None
        steps = 30 * 60 * 0.9 / plan.measured.step_s
        assert steps > 1400 or plan == plans[0]
        assert f"about {steps:.0f} steps" in plan.reasons["patch"]


def test_whole_images_need_no_larger_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = (fitted(monkeypatch, SMALL, 60, speed)[0] for speed in (5e10, 1e12))
    assert slow.patch == fast.patch
    assert max(slow.network.args["stem_stride"]) == 2
    assert max(fast.network.args["stem_stride"]) == 1
    # With time for more steps than a network of this size learns from, a larger batch.
    assert fitted(monkeypatch, SMALL, 60, 1e15)[0].batch > 2


def test_sizes_that_cannot_be_are_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tried = fitted(monkeypatch, LARGE, 30, 1e11)
    assert max(math.prod(plan.patch) for plan in tried) < 600_000
    plan, tried = fitted(monkeypatch, LARGE, 30, 1e15, memory="2GB")
    assert all((step_bytes(one) or 0) < 2e9 for one in tried)
    assert plan.measured is not None
    assert plan.measured.memory_gb < 2


def test_a_batch_in_parts_needs_the_memory_of_a_part() -> None:
    """What the refusal of a plan recommends must help."""
    made = Fitting(SMALL, torch.device("cpu"), Experiment(dataset="x")).made(None).model_copy(update={"batch": 8})
    whole, parts = step_bytes(made), step_bytes(made, accumulate=4)
    assert whole is not None
    assert parts is not None
    assert parts < 0.35 * whole


def test_what_a_person_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, tried = fitted(monkeypatch, LARGE, 30, 1e15, plan={"patch": [32, 32, 32], "batch": 3})
    assert (plan.patch, plan.batch) == ((32, 32, 32), 3)
    assert all(one.patch == (32, 32, 32) for one in tried)


def test_memory_that_is_never_enough_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MachineError, match=r"the plan does not fit the memory \(a training step needs .* GB allowed"):
        fitted(monkeypatch, LARGE, 30, 1e12, gb_per_kept_gb=100.0, memory="4GB")


def test_a_budget_of_steps_plans_the_same_at_any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    for speed in (1e9, 1e13):
        monkeypatch.undo()
        fitted(monkeypatch, SMALL, 1, speed)  # sets the speed
        wanted = Experiment.model_validate({"dataset": "x"})
        plans.append(Fitting(SMALL, torch.device("cpu"), wanted).plan(None))
    one, two = (plan.model_dump(exclude={"measured", "reasons"}) for plan in plans)
    assert one == two


def test_a_step_is_measured_in_time_and_memory() -> None:
    made = Fitting(SMALL, torch.device("cpu"), Experiment(dataset="x")).made(None)
    found = measure(made, TrainSettings(precision="float32"), torch.device("cpu"))
    assert found.precision == "float32"
    assert 0 < found.forward_s < found.step_s
    kept = step_bytes(made)
    assert kept is not None
    assert found.memory_gb > 0.5 * kept / 1e9  # what the backward pass needs was there
    half = made.model_copy(update={"batch": made.batch // 2})
    assert step_flops(made) == pytest.approx(2 * (step_flops(half) or 0))


def test_a_training_that_goes_on_measures_nothing(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = train(experiment(blobs, tmp_path))
    kept = first.plan()
    assert kept.measured is not None

    def never(*_: object) -> Measured:
        raise AssertionError("measured again")

    monkeypatch.setattr(fitting_module, "measure", never)
    again, _ = train(experiment(blobs, tmp_path))
    assert again.plan() == kept


def test_what_is_prepared_does_not_depend_on_what_was_measured(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path)
    quick = make_plan(wanted, brought(wanted), fit=False).plan
    measured = make_plan(wanted, brought(wanted)).plan
    assert quick.measured is None
    assert measured.measured is not None
    assert quick.preparation_key == measured.preparation_key


def test_only_what_is_not_prepared_yet_takes_time_to_prepare(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path)
    found = make_plan(wanted, brought(wanted))
    split = sound_split(found, 0)
    before = estimated(found, split, wanted)
    assert before.prepare_s > 0
    # What lies there for another plan serves this one nothing.
    other = found.plan.model_copy(update={"spacing_mm": (2.0, 2.0, 2.0)})
    prepare_all(found.dataset, found.sound, other, wanted.cache_folder)
    assert estimated(found, split, wanted).prepare_s > 0
    prepare_all(found.dataset, found.sound, found.plan, wanted.cache_folder)
    assert estimated(found, split, wanted).prepare_s == 0


def test_a_low_resolution_stage_has_its_part_of_the_budget(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, budget=Budget(minutes=3))
    found = make_plan(wanted, brought(wanted))
    split = sound_split(found, 0)
    both = replace(found, plan=found.plan.model_copy(update={"coarse": found.plan}))
    alone, after = estimated(found, split, wanted), estimated(both, split, wanted)
    assert after.train_s == pytest.approx(alone.train_s)
    assert after.steps == pytest.approx(2 / 3 * alone.steps, rel=0.05)


def test_a_label_that_no_training_case_has_is_refused(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path)
    planned = make_plan(wanted, brought(wanted), fit=False)
    split = sound_split(planned, 0)
    rare = split.val[0].id
    voxels = {name: {1: 5, 2: 7 if name == rare else 0} for name in planned.voxels}
    with pytest.raises(DataError, match=r"blobs, fold 0: a label is in no training case.*dim: 0 voxels in 8 cases"):
        require_every_label(replace(planned, voxels=voxels), split, "blobs, fold 0", skip_bad=False)


def test_a_validation_part_without_a_label_is_told(
    blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = experiment(blobs, tmp_path)
    planned = make_plan(wanted, brought(wanted), fit=False)
    split = sound_split(planned, 0)
    validates = {case.id for case in split.val}
    voxels = {name: {1: 5, 2: 0 if name in validates else 7} for name in planned.voxels}
    require_every_label(replace(planned, voxels=voxels), split, "blobs, fold 0", skip_bad=False)
    assert "no validation case has dim" in capsys.readouterr().err


@pytest.mark.slow
def test_the_plan_is_told_with_its_cost(blobs: Path, segue) -> None:  # type: ignore[no-untyped-def]
    told = segue("plan", blobs, "--minutes", 2)
    assert told.returncode == 0, told.stderr
    for word in ("patch", "s a step", "time ", "memory ", "twice ", "2 minutes"):
        assert word in told.stdout
    refused = segue("plan", blobs, "--minutes", 2, "--memory", "20MB")
    assert refused.returncode == 4
    assert "does not fit the memory" in refused.stderr
