"""``train NAME``: get, check, plan, prepare, train, predict, evaluate, report."""

from __future__ import annotations

import datetime
import platform
import time
from pathlib import Path
from typing import Any

import torch
import yaml

import segue
from segue.catalogue import Card, Dataset, Split, not_there, open_dataset, resolve
from segue.core.console import result
from segue.core.errors import DataError, UsageError
from segue.core.files import jsonable, write_json, write_text
from segue.evaluate import ClassEvaluation, Evaluation
from segue.prepare import Plan
from segue.train import ClassObjective, MaskObjective, Objective, Run, Trainer, TrainTask, pick_device
from segue.workflow.estimating import describe_cost, describe_plan
from segue.workflow.experiment import CLASS_EPOCHS, Experiment, difference
from segue.workflow.look import prepare_all, stack_all
from segue.workflow.measuring import evaluate_run
from segue.workflow.planning import Planned, brought, make_plan, require_every_label, sound_split


def train(experiment: Experiment) -> tuple[Run, list[Evaluation | ClassEvaluation]]:
    """Everything from the dataset's name to the report. Run again after an interruption, it goes on.

    Raises:
        UsageError: the run folder holds another experiment.
        DataError: the data are not there or are bad, or changed since the run began.
    """
    clock = time.monotonic()
    run = Run(experiment.run_folder)
    _require_same_experiment(run, experiment)
    device = pick_device(experiment.device)
    seconds: dict[str, float] = {}

    def finished(name: str) -> None:
        nonlocal clock
        seconds[name] = round(time.monotonic() - clock, 1)
        clock = time.monotonic()

    dataset = brought(experiment)
    # config.yaml is written last: a folder without it was not begun, whatever else lies there.
    planned = make_plan(experiment, dataset, run.plan() if run.config.exists() else None)
    made = planned.plan
    finished("check and plan")
    split = sound_split(planned, experiment.fold)
    require_every_label(planned, split, f"{dataset.card.name}, fold {experiment.fold}", experiment.skip_bad)
    _write_run(run, experiment, planned, made, split)
    objective = _objective(experiment, dataset, made, split)
    finished("prepare")
    capped = made.task == "classification" and not experiment.budget.given
    task = TrainTask(
        made,
        experiment.train,
        experiment.budget_for(made.task),
        experiment.seed,
        CLASS_EPOCHS if capped else None,
    )
    assert made.measured is not None, "every plan of a run was measured"
    trainer = Trainer(task, objective, run, device, precision=made.measured.precision, compiled=made.measured.compiled)
    trainer.fit()
    del trainer, objective
    finished("train")
    _write_environment(run, device, seconds)
    evaluations = evaluate_run(run, experiment.device, dataset=dataset)
    return run, evaluations


def _objective(experiment: Experiment, dataset: Dataset, made: Plan, split: Split) -> Objective:
    cache, workers = experiment.cache_folder, experiment.workers
    if made.task == "classification":
        train, val = (stack_all(dataset.card, cases, made, cache, workers) for cases in (split.train, split.val))
        return ClassObjective(made, experiment.seed, train, val, experiment.train)
    ready = prepare_all(dataset, [*split.train, *split.val], made, cache, workers)
    return MaskObjective(
        made,
        experiment.seed,
        [ready[case.id] for case in split.train],
        [ready[case.id] for case in split.val],
        experiment.train,
    )


def _require_same_experiment(run: Run, experiment: Experiment) -> None:
    if not run.config.exists():
        return
    text = difference(run.settings(), experiment)
    if text:
        raise UsageError(
            "this run folder holds another experiment",
            where=run.folder,
            value=text,
            remedy="choose another folder with -o, or repeat the command that began this one to continue it",
        )


def _write_run(run: Run, experiment: Experiment, planned: Planned, made: Plan, split: Split) -> None:
    parts: dict[str, Any] = {
        part: [{"id": c.id, "patient": c.patient, "digest": planned.digests.get(c.id, "")} for c in cases]
        for part, cases in (("train", split.train), ("val", split.val), ("test", split.test))
    }
    if run.config.exists():
        before = run.json("split.json")
        changed = [
            name
            for part in ("train", "val")
            for name in {_identity(c) for c in before[part]} ^ {_identity(c) for c in parts[part]}
        ]
        if changed:
            names = sorted({name for name, _ in changed})
            raise DataError(
                "the data changed since this run began",
                where=run.folder,
                value=", ".join(names[:5]) + (" ..." if len(names) > 5 else ""),
                remedy="put the old data back, or begin a new run with -o",
            )
    write_json(run.folder / "card.json", planned.dataset.card)
    write_json(run.folder / "plan.json", made)
    write_json(run.folder / "split.json", parts)
    write_json(run.folder / "findings.json", {"left_out": planned.left_out, "findings": planned.findings})
    resolved = experiment.model_copy(update={"root": planned.dataset.root.resolve()})
    write_text(run.config, yaml.safe_dump(jsonable(resolved), sort_keys=False))


def _identity(entry: dict[str, str]) -> tuple[str, str]:
    return entry["id"], entry["digest"]


def _write_environment(run: Run, device: torch.device, seconds: dict[str, float]) -> None:
    write_json(
        run.folder / "environment.json",
        {
            "segue": segue.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "system": f"{platform.system()} {platform.machine()}",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": str(torch.get_num_threads()),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": f"segue train {run.config} -o ANOTHER_FOLDER",
            **{f"seconds: {name}": str(value) for name, value in seconds.items()},
        },
    )


def dry_run(experiment: Experiment) -> None:
    """Say what a training would do, without training; what is not there yet is said too."""
    card, root = resolve(experiment.dataset, experiment.data, experiment.root)
    device = pick_device(experiment.device)
    result(f"dataset   {card.name}: {card.title}")
    result(f"budget    {experiment.budget_for(card.task)} on {device}")
    result(f"run       {experiment.run_folder}")
    if not root.is_dir():
        _say_how_to_get(card, root)
        return
    dataset = open_dataset(experiment.dataset, experiment.data, experiment.root)
    planned = make_plan(experiment, dataset)
    split = sound_split(planned, experiment.fold)
    result(f"cases     {len(split.train)} train, {len(split.val)} validate (fold {experiment.fold})")
    if planned.left_out:
        result(f"left out  {', '.join(sorted({finding.case for finding in planned.left_out}))}")
    result(describe_plan(planned.plan))
    result(describe_cost(planned, split, experiment))


def _say_how_to_get(card: Card, root: Path) -> None:
    if card.access.kind == "generated":
        result(f"data      not in {root} yet: train makes them there first")
    else:
        result(f"data      not in {root} yet. {not_there(card, root).remedy}")
