"""``train NAME``: get, check, plan, prepare, train, predict, evaluate, report."""

from __future__ import annotations

import datetime
import platform
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

import segue
from segue.acquire import GetOptions, get
from segue.catalogue import Card, Case, Dataset, Split, not_there, open_dataset, resolve, split_cases
from segue.core.console import result, say
from segue.core.errors import DataError, UsageError
from segue.core.files import jsonable, write_json, write_text
from segue.evaluate import ClassEvaluation, Evaluation
from segue.prepare import Finding, Fingerprint, Plan, plan
from segue.train import ClassObjective, MaskObjective, Objective, Run, Trainer, TrainTask, machine, pick_device
from segue.workflow.experiment import CLASS_EPOCHS, Experiment, difference
from segue.workflow.look import look_at, prepare_all, require_sound, stack_all
from segue.workflow.measuring import evaluate_run


@dataclass(frozen=True)
class Planned:
    """A dataset that was looked at, and the plan that follows."""

    dataset: Dataset
    digests: dict[str, str]
    findings: list[Finding]
    left_out: list[Finding]
    facts: Fingerprint
    plan: Plan

    @property
    def sound(self) -> list[Case]:
        bad = {finding.case for finding in self.left_out}
        return [case for case in _drawn_from(self.dataset) if case.annotated and case.id not in bad]


def brought(experiment: Experiment) -> Dataset:
    """The dataset, generated first if it is one of those and not there.

    Raises:
        DataError: it is not there, and how to get it.
    """
    card, root = resolve(experiment.dataset, experiment.data, experiment.root)
    if not root.is_dir() and card.access.kind == "generated":
        return get(card, root, GetOptions(workers=experiment.workers))
    return open_dataset(experiment.dataset, experiment.data, experiment.root)


def _drawn_from(dataset: Dataset) -> list[Case]:
    """What trains and validates: the training part, and the annotated cases of the dataset's own validation set."""
    return [case for case in dataset.cases if case.split == "train" or (case.split == "val" and case.annotated)]


def make_plan(experiment: Experiment, dataset: Dataset) -> Planned:
    """Look at every annotated case and plan.

    Raises:
        DataError: bad cases without ``skip_bad``, or no sound case.
        UsageError: nothing is annotated in this kind of dataset.
    """
    card = dataset.card
    if card.task == "unlabelled":
        raise UsageError("this dataset has no labels to learn from", where=card.name)
    device = pick_device(experiment.device)
    if not dataset.labelled:
        raise DataError(
            "no annotated case to train on",
            where=dataset.root,
            value=f"{len(dataset.cases)} images without label",
            remedy="put the labels where the card's layout expects them",
        )
    if dataset.left_out:
        say(f"{len(dataset.left_out)} cases are left out: {next(iter(dataset.left_out.values()))}")
    drawn_from = _drawn_from(dataset)
    looked = look_at(
        dataset, drawn_from, experiment.cache_folder, experiment.cache_folder / "arrays", experiment.workers
    )
    twins = [finding for finding in looked.findings if "same image" in finding.what]
    if twins:
        say(f"warning: {len(twins)} findings of images that stand in two parts, such as {twins[0].case}: segue check")
    left_out = require_sound(looked, experiment.skip_bad, card.name)
    facts = looked.fingerprint(card)
    _require_every_class(facts, experiment.skip_bad)
    made = plan(facts, machine(device), experiment.plan, experiment.network)
    return Planned(dataset, looked.digests, looked.findings, left_out, facts, made)


def _require_every_class(facts: Fingerprint, skip_bad: bool) -> None:
    empty = [facts.labels[number] for number, count in facts.class_counts.items() if not count]
    if empty and not skip_bad:
        raise DataError(
            "a class has no image to train on",
            where=facts.dataset,
            value=", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else ""),
            remedy="add images of it, take it out of 'labels' in the card, or train without it: --skip-bad",
        )


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
    planned = make_plan(experiment, dataset)
    finished("check and plan")
    # config.yaml is written last: a folder without it was not begun, whatever else lies there.
    made = run.plan() if run.config.exists() else planned.plan
    split = sound_split(planned, experiment.fold)
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
    trainer = Trainer(task, objective, run, device)
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
        return ClassObjective(made, experiment.seed, train, val, experiment.train.label_smoothing)
    ready = prepare_all(dataset, [*split.train, *split.val], made, cache, workers)
    return MaskObjective(
        made, experiment.seed, [ready[case.id] for case in split.train], [ready[case.id] for case in split.val]
    )


def sound_split(planned: Planned, fold: int) -> Split:
    """The fold drawn over all annotated patients, then without the bad cases: skipping one moves no other.

    Raises:
        DataError: one side is empty.
    """
    split = split_cases(planned.dataset, fold)
    sound = {case.id for case in planned.sound}
    kept = replace(
        split,
        train=tuple(case for case in split.train if case.id in sound),
        val=tuple(case for case in split.val if case.id in sound),
    )
    for name, cases in (("training", kept.train), ("validation", kept.val)):
        if not cases:
            raise DataError(
                f"no sound case is left for {name}",
                where=f"{planned.dataset.card.name}, fold {fold}",
                remedy="mend the bad cases, or take another fold",
            )
    return kept


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


def _say_how_to_get(card: Card, root: Path) -> None:
    if card.access.kind == "generated":
        result(f"data      not in {root} yet: train makes them there first")
    else:
        result(f"data      not in {root} yet. {not_there(card, root).remedy}")


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
    if made.task == "classification":
        del choices["foreground_share"], choices["spacing_mm"]
        choices["class_shift"] = " ".join(f"{shift:.2f}" for shift in made.class_shift or [])
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
