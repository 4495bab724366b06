"""The low-resolution stage of a training: its network first, then what it answers for every case."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from segue.catalogue import Split
from segue.core.console import say, stage
from segue.core.files import atomic_path, write_json, write_text
from segue.predict import Predictor
from segue.prepare import Budget, Plan, PreparedCase
from segue.train import MaskObjective, Run, Trainer, TrainTask, World, coarse_answer
from segue.workflow.experiment import Experiment
from segue.workflow.look import prepare_all
from segue.workflow.planning import Planned

# Of the budget; the network that follows has the rest.
COARSE_SHARE = 1 / 3


def coarse_answers(
    experiment: Experiment,
    planned: Planned,
    made: Plan,
    split: Split,
    run: Run,
    ready: Mapping[str, PreparedCase],
    device: torch.device,
    place: World,
) -> dict[str, np.ndarray] | None:
    """Train the low-resolution network into ``coarse/`` of the run, and map what it answers for each case.

    Args:
        ready: the cases as the plan of full resolution has them, whose grids the answers get.

    Returns:
        Label maps ``(i, j, k)`` by case, memory-mapped; None where the plan has no such stage.
    """
    plan = made.coarse
    if plan is None:
        return None
    below, cases = run.coarse, [*split.train, *split.val]
    place.at_first(lambda: _begin(run, below, plan))
    coarse = place.at_first(
        lambda: prepare_all(planned.dataset, cases, plan, experiment.cache_folder, experiment.workers)
    )
    if not place.at_first(lambda: below.finished):
        say("low-resolution stage first")
        train, val = ([coarse[case.id] for case in part] for part in (split.train, split.val))
        settings = experiment.train.model_copy(update={"weights": None})
        budget = part_of(experiment.budget_for(made.task), COARSE_SHARE)
        objective = MaskObjective(plan, experiment.seed, train, val, settings, place)
        assert plan.measured is not None, "every plan of a run was measured"
        precision, compiled = plan.measured.precision, plan.measured.compiled
        task = TrainTask(plan, settings, budget, experiment.seed)
        Trainer(task, objective, below, device, precision=precision, compiled=compiled, world=place).fit()
    place.at_first(lambda: _answer_all(below, experiment.device, coarse, ready))
    return {case.id: np.load(_answer(below, case.id), mmap_mode="r", allow_pickle=False) for case in cases}


def part_of(budget: Budget, share: float) -> Budget:
    """So much of a budget; of steps and epochs at least one."""
    if budget.seconds is not None:
        return Budget(minutes=share * budget.seconds / 60)
    if budget.steps is not None:
        return Budget(steps=max(1, round(share * budget.steps)))
    return Budget(epochs=max(1, round(share * (budget.epochs or 1))))


def _begin(run: Run, below: Run, plan: Plan) -> None:
    """A run folder by itself, so that whatever reads one reads the stage too."""
    for name in ("card.json", "split.json", "findings.json"):
        write_json(below.folder / name, run.json(name))
    write_json(below.folder / "plan.json", plan)
    write_text(below.config, run.config.read_text(encoding="utf-8"))


def _answer(below: Run, case: str) -> Path:
    return below.folder / "answers" / f"{case}.npy"


def _answer_all(below: Run, device: str, coarse: Mapping[str, PreparedCase], ready: Mapping[str, PreparedCase]) -> None:
    missing = [name for name in ready if not _answer(below, name).exists()]
    if not missing:
        return
    model = Predictor(below.folder, device)
    with stage("low resolution", len(missing)) as shown:
        for name in missing:
            image = np.asarray(coarse[name].image, dtype=np.float32)
            network = next(model.networks())
            answer = coarse_answer(network, model.autocast, image, model.plan, ready[name].labels.shape, model.device)
            content = io.BytesIO()
            np.save(content, answer if answer.max(initial=0) > 255 else answer.astype(np.uint8), allow_pickle=False)
            with atomic_path(_answer(below, name)) as temporary:
                temporary.write_bytes(content.getvalue())
            shown.advance(note=name)
