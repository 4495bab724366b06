"""Predicting in other processes: each has the model once and answers case by case."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from segue.catalogue import Case
from segue.core.errors import DataError
from segue.core.executor import map_cases
from segue.predict import Prediction, Predictor, about, done_before, gather_receipts, predict_cases, write_receipt
from segue.workflow.predicting import PredictOptions, delivery_of

_RECEIPT_EVERY_S = 10.0
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class _Model:
    """What to load in a worker; ``key`` tells a model whose checkpoint has changed from the one before."""

    run: Path
    others: tuple[Path, ...]
    device: str
    member_only: bool
    mirror: bool
    key: str


@dataclass(frozen=True)
class _Task:
    model: _Model
    case: Case
    output: Path
    options: PredictOptions | None
    known: dict[str, str]

    @property
    def id(self) -> str:
        return self.case.id


def predict_elsewhere(
    predictor: Predictor, cases: Sequence[Case], output: Path, options: PredictOptions | None
) -> Iterator[Prediction]:
    """:func:`segue.predict.predict_cases` with workers; a worker that dies costs its case."""
    model = _Model(
        predictor.run.folder,
        tuple(other.run.folder for other in predictor.others),
        predictor.asked_device,
        predictor.member_only,
        options is not None and options.mirror,
        predictor.key,
    )
    done = done_before(output)
    tasks = [_Task(model, case, output, options, {case.id: done[case.id]} if case.id in done else {}) for case in cases]
    told = about(predictor, options is not None and options.probabilities)
    written = time.monotonic()
    # One GPU has room for one network at work; processors each do a case.
    workers = None if predictor.device.type == "cpu" else 1
    try:
        for task, result in map_cases(_predicted, tasks, workers=workers):
            if isinstance(result, DataError):
                yield Prediction(task.case, None, result)
                continue
            if result.error is None:
                done[task.id] = result.key
            if time.monotonic() - written > _RECEIPT_EVERY_S:
                written = time.monotonic()
                write_receipt(output, told, done)
            yield result
    finally:
        if done:
            write_receipt(output, told, done)
            gather_receipts(output)


def _predicted(task: _Task) -> Prediction:
    """In a worker."""
    # Threads of one worker share the model, which answers one of them at a time.
    with _ONE_AT_A_TIME:
        predictor = _loaded(task.model)
        delivery = delivery_of(predictor, task.options) if task.options is not None else None
        (made,) = predict_cases(predictor, [task.case], task.output, delivery, known=task.known)
    return made


@lru_cache(maxsize=1)
def _loaded(model: _Model) -> Predictor:
    return Predictor(model.run, model.device, member_only=model.member_only, others=model.others, mirror=model.mirror)
