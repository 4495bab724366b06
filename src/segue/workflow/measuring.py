"""``predict`` and ``evaluate``: they go on past a bad case and end with the list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.catalogue import Card, Case, Dataset, card_above, dataset_at, is_known, load_card, overlap
from segue.core.console import say, stage
from segue.core.errors import DataError
from segue.core.executor import map_cases
from segue.evaluate import (
    CaseScores,
    Evaluation,
    Pair,
    aggregate,
    pair_folders,
    read_dataset_name,
    score_pair,
    write_metrics,
)
from segue.predict import Prediction, Predictor, gather, predict_cases
from segue.train import Run
from segue.view import write_report


def predict(
    run: Path, inputs: Sequence[str], output: Path, device: str = "auto", data: Path = Path("data")
) -> list[Prediction]:
    """Predict every input into ``output``; bad cases are among the results with their error.

    Raises:
        UsageError: not a run, or an input that is not there. DataError: no checkpoint, no image.
    """
    predictor = Predictor(run, device)
    cases = gather(inputs, predictor.card, data)
    _warn_of_leaks(Run(run), predictor.card, inputs, cases)
    return _predict(predictor, cases, output)


def _warn_of_leaks(run: Run, trained_on: Card, inputs: Sequence[str], cases: Sequence[Case]) -> None:
    """Say which inputs the model may have seen already: figures on them say nothing about new patients."""
    for name in inputs:
        card = load_card(name) if is_known(name) and not Path(name).exists() else card_above(Path(name))
        if card is None:
            continue
        if card.name != trained_on.name:
            warn_of_overlap(trained_on, card)
            continue
        seen = {entry["id"] for entry in run.json("split.json")["train"]} & {case.id for case in cases}
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
) -> list[Evaluation]:
    """Predict what is not predicted yet of a run's validation and test cases, measure, and write the report.

    Raises:
        UsageError: not a run folder. DataError: the dataset or the checkpoint is gone.
    """
    predictor = Predictor(run.folder, device)
    if dataset is None:
        dataset = dataset_at(predictor.card, Path(run.settings()["root"]))
    cases = {case.id: case for case in dataset.cases}
    evaluations = []
    for part in ("val", "test"):
        names = [entry["id"] for entry in run.json("split.json")[part]]
        if not names:
            continue
        gone = [DataError("the case is not in the dataset any more", where=name) for name in names if name not in cases]
        wanted = [cases[name] for name in names if name in cases]
        predictions = _predict(predictor, wanted, run.predictions(part))
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
        evaluations.append(_score(part, pairs, [*gone, *failed], workers))
    write_metrics(run.metrics, evaluations)
    write_report(run, cases)
    return evaluations


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
