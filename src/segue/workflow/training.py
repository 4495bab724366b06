"""``train NAME``: get, check, plan, prepare, train, predict, evaluate, report."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from segue.catalogue import Card, Split, fold_count, not_there, require_apart, resolve
from segue.core.alone import alone
from segue.core.console import result, say
from segue.core.errors import DataError
from segue.prepare import Plan, Stack
from segue.train import (
    ClassObjective,
    MaskObjective,
    Objective,
    Run,
    Trainer,
    TrainTask,
    World,
    pick_device,
    world,
)
from segue.workflow.estimating import describe_cost, describe_plan
from segue.workflow.experiment import CLASS_EPOCHS, Experiment
from segue.workflow.folds import Figures, is_measured, measure_member, renew
from segue.workflow.look import prepare_all, stack_all
from segue.workflow.planning import Planned, brought, make_plan, require_every_label, sound_split
from segue.workflow.run_folders import begin, folder_of, require_same_experiment, write_environment
from segue.workflow.stages import COARSE_SHARE, coarse_answers, part_of


@dataclass
class Clock:
    """Seconds of each stage, from the end of the one before."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)

    def finished(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self.last, 1)
        self.last = now


def train(experiment: Experiment) -> tuple[Run, list[Figures]]:
    """Everything from the dataset's name to the report. Run again after an interruption, it goes on.

    Of several processes (torchrun), the first brings, checks, prepares, measures and writes; all train.

    Raises:
        UsageError: the run folder holds another experiment.
        DataError: the data are not there or are bad, or changed since the run began.
        MachineError: a device is not there, the memory is not enough, another process died.
    """
    clock, place = Clock(), world()
    top = Run(experiment.run_folder)
    pick_device(experiment.device)  # a device that is not there is told before the data are looked at
    planned: Planned = place.at_first(lambda: _planned(experiment, top))
    clock.finished("check and plan")
    if experiment.fold == "cv":
        return _cross_validate(experiment, planned, top, clock)
    if place.at_first(lambda: folder_of(top, experiment)) != top:
        folds_of(planned)
    run, evaluations = _train_one(experiment, planned, top, clock)
    if place.first and top.members() != [top]:
        renew(top, experiment.device, planned.dataset)
        say(f"the folds of this run folder together: {top.report}")
    return run, evaluations


def _planned(experiment: Experiment, top: Run) -> Planned:
    require_same_experiment(top, experiment)
    # config.yaml is written last: a folder without it was not begun, whatever else lies there.
    return make_plan(experiment, brought(experiment), top.plan() if top.config.exists() else None)


def _train_one(experiment: Experiment, planned: Planned, top: Run, clock: Clock) -> tuple[Run, list[Figures]]:
    """Train one network into the run folder or into a fold of it, and measure it."""
    device, place = pick_device(experiment.device), world()
    split = sound_split(planned, experiment.fold)
    where = f"{planned.dataset.card.name}, fold {experiment.fold}"

    def begun() -> tuple[Run, Plan]:
        require_every_label(planned, split, where, experiment.skip_bad)
        return begin(top, experiment, planned, split)

    run, made = place.at_first(begun)
    objective = _objective(experiment, planned, made, split, run, place)
    clock.finished("prepare")
    budget = experiment.budget_for(made.task)
    capped = made.task == "classification" and not experiment.budget.given
    task = TrainTask(
        made,
        experiment.train,
        budget if made.coarse is None else part_of(budget, 1 - COARSE_SHARE),
        experiment.seed,
        CLASS_EPOCHS if capped else None,
    )
    assert made.measured is not None, "every plan of a run was measured"
    precision, compiled = made.measured.precision, made.measured.compiled
    trainer = Trainer(task, objective, run, device, precision=precision, compiled=compiled, world=place)
    # Two commands at once on one run folder take turns: the second one finds the training done.
    with alone(run.last.parent) if place.first else contextlib.nullcontext():
        trainer.fit()
    del trainer, objective
    clock.finished("train")

    def measured() -> list[Figures]:
        write_environment(run, device, clock.seconds)
        return measure_member(top, run, experiment.device, planned.dataset)

    return run, place.at_first(measured)


def _cross_validate(experiment: Experiment, planned: Planned, top: Run, clock: Clock) -> tuple[Run, list[Figures]]:
    """Train every fold that is not finished yet into one run folder, each with the whole budget."""
    splits = folds_of(planned)
    if len(splits) < 2:
        raise DataError(
            "there is one fold only: its makers set a validation set apart",
            where=planned.dataset.card.name,
            remedy="train with --fold 0, or give folds of your own: --splits splits_final.json",
        )
    place = world()
    sides = {side: {case.id for split in splits for case in getattr(split, side)} for side in ("train", "val")}
    train, val = (tuple(case for case in planned.sound if case.id in side) for side in sides.values())
    place.at_first(lambda: begin(top, experiment, planned, Split(train, val, splits[0].test)))
    for number in range(len(splits)):
        one = experiment.model_copy(update={"fold": number})
        run, done = place.at_first(partial(_state_of_fold, one, planned, top, splits))
        if done:
            say(f"fold {number + 1} of {len(splits)}: finished, in {run.folder}")
            continue
        budget = one.budget_for(planned.plan.task)
        say(f"fold {number + 1} of {len(splits)}: {budget} of training, into {run.folder}")
        _train_one(one, planned, top, Clock(dict(clock.seconds)))
        if number < len(splits) - 1:
            place.at_first(lambda: renew(top, experiment.device, planned.dataset, with_test=False))
    clock.finished("folds")

    def ended() -> list[Figures]:
        if top.fold == "cv":
            write_environment(top, pick_device(experiment.device), clock.seconds)
        return renew(top, experiment.device, planned.dataset)

    return top, place.at_first(ended)


def _state_of_fold(one: Experiment, planned: Planned, top: Run, splits: list[Split]) -> tuple[Run, bool]:
    """Where a fold is trained, and whether it is trained and measured already."""
    assert isinstance(one.fold, int), "one of the folds"
    run, _ = begin(top, one, planned, splits[one.fold])
    return run, run.finished and is_measured(run)


def folds_of(planned: Planned) -> list[Split]:
    """All folds, without the bad cases.

    Raises:
        DataError: a patient validates in two of them, or one side of one is empty.
    """
    splits = [sound_split(planned, number) for number in range(fold_count(planned.dataset))]
    require_apart(planned.dataset, splits)
    return splits


def _objective(experiment: Experiment, planned: Planned, made: Plan, split: Split, run: Run, place: World) -> Objective:
    dataset, cache, workers = planned.dataset, experiment.cache_folder, experiment.workers
    if made.task == "classification":

        def stacks() -> list[Stack | None]:
            parts = (split.train, split.val)
            return [stack_all(dataset.card, cases, made, cache, workers) if cases else None for cases in parts]

        place.at_first(lambda: None if place.size == 1 else bool(stacks()))
        train, val = stacks()  # of several processes, each maps what the first one prepared
        assert train is not None, "a split trains on something"
        return ClassObjective(made, experiment.seed, train, val, experiment.train, place)
    cases = [*split.train, *split.val]
    ready = place.at_first(lambda: prepare_all(dataset, cases, made, cache, workers))
    train_cases, val_cases = ([ready[case.id] for case in part] for part in (split.train, split.val))
    answers = coarse_answers(experiment, planned, made, split, run, ready, pick_device(experiment.device), place)
    return MaskObjective(made, experiment.seed, train_cases, val_cases, experiment.train, place, answers)


def dry_run(experiment: Experiment) -> None:
    """Say what a training would do, without training; what is not there yet is said too."""
    card, root = resolve(experiment.dataset, experiment.data, experiment.root)
    device = pick_device(experiment.device)
    result(f"dataset   {card.name}: {card.title}")
    each = " for each fold" if experiment.fold == "cv" else ""
    result(f"budget    {experiment.budget_for(card.task)}{each} on {device}")
    result(f"run       {folder_of(Run(experiment.run_folder), experiment).folder}")
    if not root.is_dir():
        _say_how_to_get(card, root)
        return
    planned = make_plan(experiment, brought(experiment))
    if experiment.fold == "cv":
        for number, fold in enumerate(folds_of(planned)):
            result(f"fold {number}    {len(fold.train)} cases train, {len(fold.val)} validate")
    split = sound_split(planned, 0 if experiment.fold == "cv" else experiment.fold)
    if experiment.fold != "cv":
        result(f"cases     {len(split.train)} train, {len(split.val)} validate (fold {experiment.fold})")
    if planned.left_out:
        result(f"left out  {', '.join(sorted({finding.case for finding in planned.left_out}))}")
    for line in planned.dataset.told_left_out:
        result(f"left out  {line}")
    result(describe_plan(planned.plan))
    result()
    result(describe_cost(planned, split, experiment))


def _say_how_to_get(card: Card, root: Path) -> None:
    if card.access.kind == "generated":
        result(f"data      not in {root} yet: train makes them there first")
    else:
        result(f"data      not in {root} yet. {not_there(card, root).remedy}")
