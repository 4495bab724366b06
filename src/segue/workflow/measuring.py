"""``predict`` and ``evaluate``: they go on past a bad case and end with the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue import VERDICTS, Card, Case, Dataset, card_above, dataset_at, is_known, load_card, some
from segue.core.console import say, stage
from segue.core.errors import DataError
from segue.core.work import current_work, mine
from segue.evaluate import (
    ClassEvaluation,
    ClassScores,
    Evaluation,
    Wanted,
    aggregate_classes,
    names_of,
    pairs_of,
    write_metrics,
)
from segue.predict import (
    Answer,
    Classifying,
    Prediction,
    Predictor,
    gather,
    predict_cases,
    write_answers,
)
from segue.train import Run
from segue.workflow.elsewhere import predict_elsewhere
from segue.workflow.predicting import CONVERTED, PredictOptions, delivery_of, require_masks, tell_unlike
from segue.workflow.scoring import forget_scores, require_at_once, score_pairs, warn_of_overlap


@dataclass(frozen=True)
class Predicted:
    """What ``predict`` did: how many results lie where, and what could not be predicted."""

    made: int
    what: str
    where: Path
    errors: list[tuple[str, DataError]]


def predict(
    run: Path,
    inputs: Sequence[str],
    output: Path,
    device: str = "auto",
    data: Path = Path("data"),
    options: PredictOptions | None = None,
) -> Predicted:
    """Predict every input into ``output``: masks, or a table of the probabilities of classes (``output`` itself where
    it ends in ``.csv``, else ``predictions.csv`` in it). Bad cases are told and the rest goes on.

    Raises:
        UsageError: not a run, or an input that is not there. DataError: no checkpoint, no image.
    """
    options = options or PredictOptions()
    card = Run(run).card()
    if card.task == "classification":
        require_masks(options)
        require_at_once()
        model = Classifying(run, device, others=options.others)
        cases = gather(inputs, card, data)
        _warn_of_leaks(Run(run), card, inputs, cases)
        answers = _answer(model, cases)
        path = output if output.suffix == ".csv" else output / "predictions.csv"
        write_answers(path, answers, card)
        errors = [(answer.case.id, answer.error) for answer in answers if answer.error is not None]
        return Predicted(len(answers) - len(errors), "answers", path, errors)
    predictor = Predictor(run, device, others=options.others, mirror=options.mirror)
    cases = gather(inputs, card, data, output / CONVERTED)
    _warn_of_leaks(Run(run), card, inputs, cases)
    tell_unlike(Run(run), cases)
    predictions = _predict(predictor, cases, output, options)
    errors = [(p.case.id, p.error) for p in predictions if p.error is not None]
    return Predicted(len(predictions) - len(errors), "masks", output, errors)


def _answer(model: Classifying, cases: Sequence[Case]) -> list[Answer]:
    answers = []
    settings = model.run.settings()
    cache = settings.get("cache") or Path(settings.get("data") or "data") / "prepared"
    with stage("predict", len(cases)) as shown:
        for answer in model.answers(cases, Path(cache) / "arrays"):
            answers.append(answer)
            shown.advance(note=answer.case.id)
            if answer.error is not None:
                say(f"error: {answer.error}")
        bad = sum(answer.error is not None for answer in answers)
        shown.note(f"{len(answers) - bad} images" + (f", {bad} failed" if bad else ""))
    return answers


def _warn_of_leaks(run: Run, trained_on: Card, inputs: Sequence[str], cases: Sequence[Case]) -> None:
    """Say which inputs the model may have seen already: figures on them say nothing about new patients."""
    for name in inputs:
        card = load_card(name) if is_known(name) and not Path(name).exists() else card_above(Path(name))
        if card is None:
            continue
        if card.name != trained_on.name:
            warn_of_overlap(trained_on, card)
            continue
        splits = [run.json("split.json"), *(member.json("split.json") for member in run.members())]
        seen = {entry["id"] for split in splits for entry in split["train"]} & {case.id for case in cases}
        if seen:
            say(f"warning: {len(seen)} of {len(cases)} cases are among those that the model was trained on")


def _predict(
    predictor: Predictor, cases: Sequence[Case], output: Path, options: PredictOptions | None = None
) -> list[Prediction]:
    """Of a shard, its part of the cases."""
    results, cases = [], mine(cases)
    if current_work().executor is not None or current_work().memory_gb is not None:
        made = predict_elsewhere(predictor, cases, output, options)
    else:
        made = predict_cases(predictor, cases, output, delivery_of(predictor, options) if options else None)
    with stage("predict", len(cases)) as shown:
        for prediction in made:
            results.append(prediction)
            shown.advance(note=prediction.case.id)
            if prediction.error is not None:
                say(f"error: {prediction.error}")
        bad = sum(prediction.error is not None for prediction in results)
        shown.note(f"{len(results) - bad} cases" + (f", {bad} failed" if bad else ""))
    return results


def evaluate_run(
    run: Run,
    device: str = "auto",
    dataset: Dataset | None = None,
    workers: int | None = None,
    wanted: Wanted | None = None,
) -> list[Evaluation | ClassEvaluation]:
    """Measure a run of one training (:func:`measure_run`), and write its figures and its report.

    Raises:
        UsageError: not a run folder. DataError: the dataset or the checkpoint is gone.
    """
    from segue.view import write_report  # matplotlib, which predicting does without

    if dataset is None:
        dataset = dataset_at(run.card(), Path(run.settings()["root"]))
    evaluations = measure_run(run, device, dataset, workers, wanted=wanted)
    if current_work().shard is not None:
        return evaluations
    write_metrics(run.metrics, evaluations)
    forget_scores(run.folder)
    write_report(run, {case.id: case for case in (*dataset.cases, *dataset.set_aside)})
    return evaluations


def measure_run(
    run: Run,
    device: str,
    dataset: Dataset | None,
    workers: int | None,
    *,
    parts: Sequence[str] = ("val", "test"),
    member_only: bool = True,
    wanted: Wanted | None = None,
) -> list[Evaluation | ClassEvaluation]:
    """Predict what is not predicted yet of a run's validation and test cases, and measure.

    ``member_only``: by the network that this very folder trained; else by the mean of all its folds.
    """
    card = run.card()
    split = run.json("split.json")
    if not any(split[part] for part in parts):
        return []
    kind = Classifying if card.task == "classification" else Predictor
    model: Predictor | Classifying = kind(run.folder, device, member_only=member_only)
    if dataset is None:
        dataset = dataset_at(card, Path(run.settings()["root"]))
    cases = {case.id: case for case in dataset.cases}
    aside = {case.id for case in dataset.set_aside}
    evaluations: list[Evaluation | ClassEvaluation] = []
    for part in parts:
        listed = [entry["id"] for entry in split[part]]
        if not listed:
            continue
        if apart := [name for name in listed if name in aside]:
            say(f"{part}: {len(apart)} of {len(listed)} cases left out by {VERDICTS}: {some(apart)}")
        listed = [name for name in listed if name not in aside]
        missing = [name for name in listed if name not in cases]
        gone = [DataError("the case is not in the dataset any more", where=name) for name in missing]
        there = mine([cases[name] for name in listed if name in cases])
        if isinstance(model, Classifying):
            require_at_once()
            evaluations.append(_judge(part, model, there, run.folder / "predictions" / f"{part}.csv", gone))
        else:
            predictions = _predict(model, there, run.predictions(part))
            failed = [prediction.error for prediction in predictions if prediction.error is not None]
            names = names_of(model.plan.labels, card, model.plan.ignore_label)
            made = [(prediction.case, prediction.path) for prediction in predictions if prediction.path is not None]
            pairs = pairs_of(made, card, names, wanted or Wanted())
            evaluations.append(score_pairs(part, pairs, [*gone, *failed], workers, run.folder))
    return evaluations


def _judge(
    part: str, model: Classifying, cases: Sequence[Case], table: Path, gone: Sequence[DataError]
) -> ClassEvaluation:
    answers = _answer(model, cases)
    write_answers(table, answers, model.card)
    place = {number: column for column, number in enumerate(model.card.labels)}
    scores = [
        ClassScores(
            a.case.id,
            a.case.patient,
            a.case.target if isinstance(a.case.target, tuple) else place[a.case.target],
            a.probabilities,
        )
        for a in answers
        if a.probabilities is not None and a.case.target is not None
    ]
    failed = [answer.error for answer in answers if answer.error is not None]
    assert model.card.classes is not None, "a classification has a kind"
    return aggregate_classes(part, scores, model.card.labels, model.card.classes, [*gone, *failed])
