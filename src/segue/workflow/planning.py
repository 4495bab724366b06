"""From a dataset and an experiment to a plan, and to the cases that train and validate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from segue.acquire import GetOptions, bring_reference, get
from segue.catalogue import Case, Dataset, Split, open_dataset, resolve, split_cases, whole, with_folds
from segue.core.console import say
from segue.core.errors import DataError, UsageError
from segue.core.executor import cpu_count
from segue.core.memory import installed_memory_gb
from segue.prepare import Finding, Fingerprint, Machine, Plan, plan
from segue.workflow.experiment import Experiment
from segue.workflow.look import look_at, require_sound

if TYPE_CHECKING:
    from segue.workflow.fitting import Fitting


@dataclass(frozen=True)
class Planned:
    """A dataset that was looked at, and the plan that follows.

    Attributes:
        voxels: of each label, per case.
        grids: shape and spacing (mm) of each case in RAS order.
        fitting: what was tried; None where the plan is an earlier one.
    """

    dataset: Dataset
    digests: dict[str, str]
    findings: list[Finding]
    left_out: list[Finding]
    facts: Fingerprint
    plan: Plan
    voxels: dict[str, dict[int, int]]
    grids: dict[str, tuple[tuple[int, int, int], tuple[float, float, float]]]
    fitting: Fitting | None

    @property
    def sound(self) -> list[Case]:
        bad = {finding.case for finding in self.left_out}
        return [case for case in _drawn_from(self.dataset) if case.annotated and case.id not in bad]


def brought(experiment: Experiment) -> Dataset:
    """The dataset; one that is generated, or lies at an address, is brought first.

    Raises:
        DataError: it is not there, and how to get it.
    """
    bring_reference(experiment.dataset, experiment.data)
    card, root = resolve(experiment.dataset, experiment.data, experiment.root)
    if not root.is_dir() and card.access.kind == "generated":
        get(card, root, GetOptions(workers=experiment.workers))
    dataset = open_dataset(experiment.dataset, experiment.data, experiment.root)
    return dataset if experiment.splits is None else with_folds(dataset, experiment.splits)


def _drawn_from(dataset: Dataset) -> list[Case]:
    """What trains and validates: the training part, and the annotated cases of the dataset's own validation set."""
    return [case for case in dataset.cases if case.split == "train" or (case.split == "val" and case.annotated)]


def make_plan(experiment: Experiment, dataset: Dataset, kept: Plan | None = None, *, fit: bool = True) -> Planned:
    """Look at every annotated case and plan.

    Args:
        kept: the plan of the run that goes on: nothing is planned or measured again.
        fit: measure what this device can do. What is prepared does not depend on it.

    Raises:
        DataError: bad cases without ``skip_bad``, or no sound case.
        UsageError: nothing is annotated in this kind of dataset.
    """
    card = dataset.card
    if card.task == "unlabelled":
        raise UsageError("this dataset has no labels to learn from", where=card.name)
    if not dataset.labelled:
        raise DataError(
            "no annotated case to train on",
            where=dataset.root,
            value="; ".join([f"{len(dataset.cases)} images without label", *dataset.told_left_out]),
            remedy="put the labels where the card's layout expects them",
        )
    for line in dataset.told_left_out:
        say(line)
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
    fitting = None
    if kept is None and not fit:
        processor = Machine("cpu", cpu_count(), installed_memory_gb())
        kept = plan(facts, processor, experiment.plan, experiment.network)
    if kept is None:
        from segue.train import pick_device
        from segue.workflow.fitting import Fitting  # torch, which takes 1.2 s to import: preparing does without

        fitting = Fitting(facts, pick_device(experiment.device), experiment)
        kept = fitting.plan(experiment.budget_for(card.task).seconds)
    voxels = {e.case: e.label_voxels for e in looked.examinations}
    grids = {e.case: (e.shape, e.spacing_mm) for e in looked.examinations if e.shape and e.spacing_mm}
    return Planned(dataset, looked.digests, looked.findings, left_out, facts, kept, voxels, grids, fitting)


def _require_every_class(facts: Fingerprint, skip_bad: bool) -> None:
    empty = [facts.labels[number] for number, count in facts.class_counts.items() if not count]
    if empty and not skip_bad:
        raise DataError(
            "a class has no image to train on",
            where=facts.dataset,
            value=", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else ""),
            remedy="add images of it, take it out of 'labels' in the card, or train without it: --skip-bad",
        )


def sound_split(planned: Planned, fold: int | str) -> Split:
    """The fold drawn over all annotated patients, then without the bad cases: skipping one moves no other.

    Of ``none``, all of them train.

    Raises:
        DataError: one side is empty.
    """
    split = split_cases(planned.dataset, fold) if isinstance(fold, int) else whole(planned.dataset)
    sound = {case.id for case in planned.sound}
    kept = replace(
        split,
        train=tuple(case for case in split.train if case.id in sound),
        val=tuple(case for case in split.val if case.id in sound),
    )
    for name, cases in (("training", kept.train), ("validation", kept.val)):
        if not cases and (name == "training" or fold != "none"):
            raise DataError(
                f"no sound case is left for {name}",
                where=f"{planned.dataset.card.name}, fold {fold}",
                remedy="mend the bad cases, or take another fold",
            )
    return kept


def require_every_label(planned: Planned, split: Split, where: str, skip_bad: bool) -> None:
    """Every label must be there to learn, and should be there to measure.

    Raises:
        DataError: a label is in no training case.
    """
    if planned.plan.task == "classification":
        return
    for cases, part in ((split.train, "training"), (split.val, "validation")):
        absent = [
            name
            for number, name in planned.plan.labels.items()
            if cases and not any(planned.voxels.get(case.id, {}).get(number) for case in cases)
        ]
        if not absent:
            continue
        names = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
        if part == "training" and not skip_bad:
            raise DataError(
                "a label is in no training case, so that nothing can learn it",
                where=where,
                value=f"{names}: 0 voxels in {len(cases)} cases",
                remedy="take another fold, take it out of 'labels' in the card, or train without it: --skip-bad",
            )
        say(f"warning: {where}: no {part} case has {names}")
