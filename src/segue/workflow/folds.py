"""The trainings of one run folder together: figures over all folds, post-processing, one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segue.catalogue import Card, Case, Dataset, dataset_at
from segue.core.alone import alone
from segue.core.console import say, stage
from segue.core.errors import DataError
from segue.core.executor import map_cases
from segue.core.files import write_json
from segue.core.work import current_work
from segue.evaluate import (
    CaseScores,
    ClassEvaluation,
    ClassScores,
    Evaluation,
    Lesionwise,
    Pair,
    Wanted,
    aggregate,
    aggregate_classes,
    choose_postprocessing,
    measure_components,
    names_of,
    pairs_of,
    write_metrics,
)
from segue.predict import mask_path
from segue.train import Run
from segue.view import write_report
from segue.workflow.measuring import evaluate_run, measure_run
from segue.workflow.scoring import forget_scores, score_pairs

Figures = Evaluation | ClassEvaluation


def measure_member(
    top: Run,
    member: Run,
    device: str,
    dataset: Dataset | None = None,
    workers: int | None = None,
    wanted: Wanted | None = None,
) -> list[Figures]:
    """Measure one training of a run folder, and write its figures and its report."""
    if member.folder != top.folder or top.members() == [top]:
        return evaluate_run(member, device, dataset, workers, wanted)
    # The folder's own metrics.json is that of all folds: what this training found goes in there, and renew() adds
    # the others. Its test set is measured by the mean of the folds.
    found = measure_run(top, device, dataset, workers, parts=("val",), wanted=wanted)
    with alone(top.metrics):
        write_metrics(top.metrics, found)
    return found


def evaluate_again(
    run: Run, device: str = "auto", workers: int | None = None, wanted: Wanted | None = None
) -> list[Figures]:
    """Measure a run folder, of one training or of several, and renew its report.

    A fold that cannot be measured (its checkpoint is damaged, say) is among the errors, and the others are measured.

    Raises:
        UsageError: not a run folder. DataError: the dataset or the checkpoint is gone.
    """
    card, members = run.card(), run.members()
    if members == [run]:
        return evaluate_run(run, device, workers=workers, wanted=wanted)
    dataset = dataset_at(card, Path(run.settings()["root"]))
    if current_work().shard is not None:
        return _part_measured(run, members, device, dataset, workers, wanted)
    failed = []
    for member in members:
        if not member.checkpoint.exists():
            say(f"warning: {member.folder} has no checkpoint yet and is not measured")
            continue
        try:
            measure_member(run, member, device, dataset, workers, wanted)
        except DataError as error:
            failed.append(error)
    if len(failed) == len(members):
        raise failed[0]
    # The test set is predicted by the mean of all folds: without one of them there is none.
    figures = renew(run, device, dataset, workers, with_test=not failed, wanted=wanted)
    if failed and not figures:
        raise failed[0]
    return [replace(one, errors=[*one.errors, *failed]) if place == 0 else one for place, one in enumerate(figures)]


def _part_measured(
    run: Run, members: Sequence[Run], device: str, dataset: Dataset, workers: int | None, wanted: Wanted | None
) -> list[Figures]:
    """A shard's part of every fold, and of the test set where all folds are trained; nothing is gathered here."""
    trained = [member for member in members if member.checkpoint.exists()]
    found = [one for m in trained for one in measure_run(m, device, dataset, workers, parts=("val",), wanted=wanted)]
    if len(trained) == len(members) and all(member.finished for member in members):
        found += measure_run(run, device, dataset, workers, parts=("test",), member_only=False, wanted=wanted)
    return found


def renew(
    top: Run,
    device: str,
    dataset: Dataset,
    workers: int | None = None,
    *,
    with_test: bool = True,
    wanted: Wanted | None = None,
) -> list[Figures]:
    """Write ``metrics.json``, ``postprocessing.json`` and the report over all trainings that are measured.

    Each case of ``val`` was predicted by the fold that had not seen it. ``test`` is predicted by the mean of all folds,
    once no fold that has begun is still training.

    Raises:
        DataError: a case validates in two folds.
    """
    card, cases = top.card(), {case.id: case for case in dataset.cases}
    shown = cases | {case.id: case for case in dataset.set_aside}
    # Two folds that end at once take turns: the second one finds the figures of the first.
    with alone(top.metrics):
        members = top.members()
        measured = [found for member in members if (found := _measured(member, card)) is not None]
        if not measured:
            return []
        evaluations: list[Figures] = [_together(top, card, cases, measured, workers, wanted or Wanted())]
        if with_test and len(measured) == len(members) and all(member.finished for member in members):
            tested = measure_run(top, device, dataset, workers, parts=("test",), member_only=False, wanted=wanted)
            evaluations += tested
        write_metrics(top.metrics, evaluations)
        for folder in (top, *members):
            forget_scores(folder.folder)
        write_report(top, shown)
    return evaluations


@dataclass(frozen=True)
class _Measured:
    """What ``metrics.json`` tells of the cases that one member validates on."""

    member: Run
    scores: list[CaseScores] | list[ClassScores]
    failed: list[DataError]
    lesionwise: Lesionwise | None = None


def is_measured(member: Run) -> bool:
    """Whether the cases that a training validates on are in its figures."""
    return _measured(member, member.card()) is not None


def _measured(member: Run, card: Card) -> _Measured | None:
    if not member.metrics.exists():
        return None
    own = {entry["id"] for entry in member.json("split.json")["val"]}
    part = member.json(member.metrics.name).get("val", {})
    told = {name: case for name, case in part.get("cases", {}).items() if name in own}
    failed = [
        DataError(entry["what"], where=entry["where"], value=entry["value"])
        for entry in part.get("failed", [])
        if str(entry["where"]).split(":")[0] in own
    ]
    if not told and not failed:
        return None  # the folder's figures are those of other folds, and this one is still training
    if card.task == "classification":
        return _Measured(member, [_class_scores(name, case, card) for name, case in told.items()], failed)
    # What an older segue measured lacks some of this.
    masks = [
        CaseScores(
            name,
            case["patient"],
            case["labels"],
            case.get("pixel_ml"),
            case.get("regions", {}),
            case.get("worst_mm"),
            part.get("tolerance_mm"),
        )
        for name, case in told.items()
    ]
    rules = part.get("lesionwise")
    return _Measured(member, masks, failed, Lesionwise(**rules) if rules else None)


def _class_scores(name: str, told: dict[str, Any], card: Card) -> ClassScores:
    numbers = {text: number for number, text in card.labels.items()}
    truth = told["truth"]
    return ClassScores(
        name,
        told["patient"],
        numbers[truth] if isinstance(truth, str) else tuple(int(text in truth) for text in numbers),
        tuple(told["probabilities"].values()),
    )


def _together(
    top: Run,
    card: Card,
    cases: dict[str, Case],
    measured: Sequence[_Measured],
    workers: int | None,
    wanted: Wanted,
) -> Figures:
    scores = [(one.member, score) for one in measured for score in one.scores]
    failed = [error for one in measured for error in one.failed]
    member_of: dict[str, Run] = {}
    for member, score in scores:
        if score.case in member_of:
            raise DataError(
                "this case validates in two folds: no figure over all folds could count it once",
                where=score.case,
                value=f"{member_of[score.case].folder} and {member.folder}",
                remedy="train one of the two into a run folder of its own",
            )
        member_of[score.case] = member
    if card.task == "classification":
        assert card.classes is not None, "a classification has a kind"
        answers = [score for _, score in scores if isinstance(score, ClassScores)]
        return aggregate_classes("val", answers, card.labels, card.classes, failed)
    masks = [score for _, score in scores if isinstance(score, CaseScores)]
    lesionwise = next((one.lesionwise for one in measured if one.lesionwise is not None), None)
    evaluation = aggregate("val", masks, failed, lesionwise)
    if len(measured) < 2:
        return evaluation
    plan = top.plan()
    predicted = [
        (cases[name], mask_path(member.predictions("val"), cases[name], card.dimension))
        for name, member in member_of.items()
        if name in cases
    ]
    pairs = pairs_of(predicted, card, names_of(plan.labels, card, plan.ignore_label), wanted)
    return _postprocessed(top, evaluation, pairs, [one.member.folder.name for one in measured], workers)


def _postprocessed(
    top: Run, evaluation: Evaluation, pairs: Sequence[Pair], members: Sequence[str], workers: int | None
) -> Evaluation:
    """Choose the post-processing on these predictions, and tell the figures with it beside those without."""
    components, failed = [], 0
    with stage("post-processing", len(pairs)) as shown:
        for pair, result in map_cases(measure_components, pairs, workers=workers or 1):
            if isinstance(result, DataError):
                failed += 1
                say(f"warning: {pair.case} is not looked at for post-processing: {result.what}")
            else:
                components.append(result)
            shown.advance(note=pair.case)
        chosen = choose_postprocessing(components, top.plan().labels, members)
        told = [f"{choice.name}: {choice.chosen}" for choice in chosen.labels if choice.chosen is not None]
        shown.note("; ".join(told) or "none helps")
    write_json(top.postprocessing, chosen)
    if not chosen.rules:
        return evaluation
    improved = score_pairs("val", [replace(pair, rules=chosen.rules) for pair in pairs], workers=workers)
    return replace(evaluation, postprocessed={**improved.aggregate, **improved.regions})
