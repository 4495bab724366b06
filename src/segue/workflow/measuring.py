"""``predict`` and ``evaluate``: they go on past a bad case and end with the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue import Card, Case, Dataset, card_above, dataset_at, is_known, load_card, overlap
from segue.core.console import say, stage
from segue.core.errors import DataError
from segue.core.executor import map_cases
from segue.evaluate import (
    CaseScores,
    ClassEvaluation,
    ClassScores,
    Evaluation,
    Pair,
    aggregate,
    aggregate_classes,
    pair_folders,
    read_dataset_name,
    score_pair,
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
from segue.view import write_report


@dataclass(frozen=True)
class Predicted:
    """What ``predict`` did: how many results lie where, and what could not be predicted."""

    made: int
    what: str
    where: Path
    errors: list[tuple[str, DataError]]


def predict(
    run: Path, inputs: Sequence[str], output: Path, device: str = "auto", data: Path = Path("data")
) -> Predicted:
    """Predict every input into ``output``: masks, or a table of the probabilities of classes (``output`` itself where
    it ends in ``.csv``, else ``predictions.csv`` in it). Bad cases are told and the rest goes on.

    Raises:
        UsageError: not a run, or an input that is not there. DataError: no checkpoint, no image.
    """
    card = Run(run).card()
    if card.task == "classification":
        model = Classifying(run, device)
        cases = gather(inputs, card, data)
        _warn_of_leaks(Run(run), card, inputs, cases)
        answers = _answer(model, cases)
        path = output if output.suffix == ".csv" else output / "predictions.csv"
        write_answers(path, answers, card)
        errors = [(answer.case.id, answer.error) for answer in answers if answer.error is not None]
        return Predicted(len(answers) - len(errors), "answers", path, errors)
    predictor = Predictor(run, device)
    cases = gather(inputs, card, data)
    _warn_of_leaks(Run(run), card, inputs, cases)
    predictions = _predict(predictor, cases, output)
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


def warn_of_overlap(trained_on: Card, measured_on: Card) -> None:
    """Say so where a model is tried on a dataset that shares patients with the one it was trained on."""
    shared = overlap(trained_on, measured_on) if trained_on.name != measured_on.name else None
    if shared:
        say(
            f"warning: trained on {trained_on.name}, tried on {measured_on.name}: {shared}. "
            "Figures on shared cases are too good; leave these cases out."
        )


def _predict(predictor: Predictor, cases: Sequence[Case], output: Path) -> list[Prediction]:
    results = []
    with stage("predict", len(cases)) as shown:
        for prediction in predict_cases(predictor, cases, output):
            results.append(prediction)
            shown.advance(note=prediction.case.id)
            if prediction.error is not None:
                say(f"error: {prediction.error}")
        bad = sum(prediction.error is not None for prediction in results)
        shown.note(f"{len(results) - bad} cases" + (f", {bad} failed" if bad else ""))
    return results


def evaluate_folders(
    predictions: Path,
    truth: str,
    labels: dict[int, str] | None,
    data: Path,
    output: Path | None,
    workers: int | None,
) -> Evaluation:
    """Compare a folder of masks with the truth and write ``metrics.json`` and ``metrics.csv``."""
    trained_on = read_dataset_name(predictions)
    measured_on = load_card(truth) if is_known(truth) and not Path(truth).exists() else card_above(Path(truth))
    if trained_on is not None and is_known(trained_on) and measured_on is not None:
        warn_of_overlap(load_card(trained_on), measured_on)
    pairs, missing, _ = pair_folders(predictions, truth, labels, data)
    evaluation = _score("test", pairs, missing, workers)
    write_metrics(output or predictions / "metrics.json", [evaluation])
    return evaluation


def evaluate_run(
    run: Run, device: str = "auto", dataset: Dataset | None = None, workers: int | None = None
) -> list[Evaluation | ClassEvaluation]:
    """Measure a run of one training (:func:`measure_run`), and write its figures and its report.

    Raises:
        UsageError: not a run folder. DataError: the dataset or the checkpoint is gone.
    """
    if dataset is None:
        dataset = dataset_at(run.card(), Path(run.settings()["root"]))
    evaluations = measure_run(run, device, dataset, workers)
    write_metrics(run.metrics, evaluations)
    write_report(run, {case.id: case for case in dataset.cases})
    return evaluations


def measure_run(
    run: Run,
    device: str,
    dataset: Dataset | None,
    workers: int | None,
    *,
    parts: Sequence[str] = ("val", "test"),
    member_only: bool = True,
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
    evaluations: list[Evaluation | ClassEvaluation] = []
    for part in parts:
        names = [entry["id"] for entry in split[part]]
        if not names:
            continue
        gone = [DataError("the case is not in the dataset any more", where=name) for name in names if name not in cases]
        wanted = [cases[name] for name in names if name in cases]
        if isinstance(model, Classifying):
            evaluations.append(_judge(part, model, wanted, run.folder / "predictions" / f"{part}.csv", gone))
        else:
            evaluations.append(_measure(part, model, wanted, run.predictions(part), gone, workers))
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


def _measure(
    part: str,
    predictor: Predictor,
    cases: Sequence[Case],
    folder: Path,
    gone: Sequence[DataError],
    workers: int | None,
) -> Evaluation:
    predictions = _predict(predictor, cases, folder)
    failed = [prediction.error for prediction in predictions if prediction.error is not None]
    pairs = [
        Pair(
            p.case.id,
            p.case.patient,
            p.path,
            p.case.label,
            predictor.plan.labels,
            predictor.plan.ignore_label,
            p.case.unlabelled,
        )
        for p in predictions
        if p.path is not None and p.case.label is not None
    ]
    return _score(part, pairs, [*gone, *failed], workers)


def _score(part: str, pairs: Sequence[Pair], errors: Sequence[DataError], workers: int | None) -> Evaluation:
    scores: list[CaseScores] = []
    failed = list(errors)
    with stage("evaluate", len(pairs)) as shown:
        for pair, result in map_cases(score_pair, pairs, workers=workers or 1):
            if isinstance(result, DataError):
                result.where = (
                    result.where if result.where and pair.case in result.where else f"{pair.case}: {result.where}"
                )
                failed.append(result)
            else:
                scores.append(result)
            shown.advance(note=pair.case)
        shown.note(f"{len(scores)} cases" + (f", {len(failed)} failed" if failed else ""))
    return aggregate(part, scores, failed)
