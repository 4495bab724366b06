"""Many cases through an exported model: what is done already is not done again, and a bad case stops nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue import Case
from segue.core.errors import DataError
from segue.core.files import content_key, unchanged
from segue.images import write
from segue.predict.masks import as_stored, mask_path
from segue.predict.onnx import OnnxPredictor
from segue.predict.receipts import case_digests, done_before, gather_receipts, write_receipt
from segue.predict.requiring import naming_case
from segue.prepare import read_channels
from segue.volume import Volume

_RECEIPT_EVERY_S = 10.0


@dataclass(frozen=True)
class Made:
    """What became of one case: the path of its mask, or the error; ``seconds`` 0.0 where it was there already."""

    case: Case
    path: Path | None
    error: DataError | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class _Read:
    """A case's image, or None where its mask is there already."""

    key: str
    image: Volume | None


def predict_exported(predictor: OnnxPredictor, model: Path, cases: Sequence[Case], output: Path) -> Iterator[Made]:
    """Predict each case into ``output`` (see :func:`segue.predict.mask_path`); the next one is read meanwhile.

    Cases that this very model has done already (``predictions.json``) are not done again.

    Args:
        model: the file that was given, for the receipt.
    """
    done = done_before(output)
    written = time.monotonic()

    def read(case: Case) -> _Read:
        with unchanged(case.image_files, case.id):
            key = content_key(predictor.key, *case_digests(case))
            there = done.get(case.id) == key and mask_path(output, case, predictor.card.dimension).exists()
            return _Read(key, None if there else read_channels(case, predictor.card))

    try:
        for case, reading in _one_ahead(read, cases):
            started = time.monotonic()
            target = mask_path(output, case, predictor.card.dimension)
            try:
                found = reading.result()
                if found.image is None:
                    yield Made(case, target)
                    continue
                mask = predictor.predict(found.image, case.absent)
            except DataError as error:
                yield Made(case, None, naming_case(error, case))
                continue
            write(as_stored(mask, found.image, target), target)
            done[case.id] = found.key
            if time.monotonic() - written > _RECEIPT_EVERY_S:
                written = time.monotonic()
                _write_receipt(output, model, predictor, done)
            yield Made(case, target, seconds=time.monotonic() - started)
    finally:
        if done:
            _write_receipt(output, model, predictor, done)
            gather_receipts(output)


def _one_ahead(read: Callable[[Case], _Read], cases: Sequence[Case]) -> Iterator[tuple[Case, Future[_Read]]]:
    waiting: deque[tuple[Case, Future[_Read]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as pool:
        for case in cases:
            waiting.append((case, pool.submit(read, case)))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting


def _write_receipt(output: Path, model: Path, predictor: OnnxPredictor, done: dict[str, str]) -> None:
    content = {"run": str(model), "dataset": predictor.card.name, "labels": predictor.plan.labels}
    write_receipt(output, content, done)
