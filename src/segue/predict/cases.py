"""From images on disk to masks on disk: the next case is read and the last one written while the network works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from segue.catalogue import Case
from segue.core.errors import DataError
from segue.core.files import content_key, unchanged
from segue.images import write
from segue.predict.masks import MaskForm, as_stored, error_of, mask_path, series_of, write_file
from segue.predict.predictor import Predictor
from segue.predict.receipts import case_digests, done_before, gather_receipts, write_receipt
from segue.predict.requiring import naming_case
from segue.predict.slabs import Result, Wished
from segue.prepare import read_channels
from segue.volume import Volume

_RECEIPT_EVERY_S = 10.0
# Of a probability, the step in which it is stored; float16 has this one at 0.1.
_PROBABILITY_STEP = 2.0**-14
_NATS_STEP = 2.0**-12


@dataclass(frozen=True)
class Prediction:
    """What became of one case: the path of its mask, or the error; ``seconds`` 0.0 where it was there already.

    ``key`` names the model, the content and what was written.
    """

    case: Case
    path: Path | None
    error: DataError | None = None
    seconds: float = 0.0
    key: str = ""


@dataclass(frozen=True)
class Delivery:
    """What is written of each case, and what is done before.

    Attributes:
        form: ``"image"``: the mask in the format of its image; ``"dicom-seg"``: on the series that it came from.
        probabilities: also ``probabilities/CASE.nii.gz``, a channel per class (background first) or region.
        uncertainty: also ``uncertainty/CASE.nii.gz`` (:func:`segue.predict.slabs.uncertainty_of`).
        picture: what makes the PNG of ``previews/CASE.png`` out of image and mask.
        check: told of each image before it is predicted.
    """

    form: MaskForm = "image"
    probabilities: bool = False
    uncertainty: bool = False
    picture: Callable[[Volume, Volume], bytes] | None = None
    check: Callable[[Case, Volume], None] | None = None

    def targets(self, output: Path, case: Case, dimension: int) -> dict[str, Path]:
        """The files of a case."""
        targets = {"mask": mask_path(output, case, dimension, self.form)}
        if self.probabilities:
            targets["probabilities"] = output / "probabilities" / f"{case.id}.nii.gz"
        if self.uncertainty:
            targets["uncertainty"] = output / "uncertainty" / f"{case.id}.nii.gz"
        if self.picture is not None:
            targets["preview"] = output / "previews" / f"{case.id}.png"
        return targets

    @property
    def key(self) -> list[object]:
        """Of what is written, where it is more than masks."""
        chosen: list[object] = [self.form, self.probabilities, self.uncertainty, self.picture is not None]
        return [] if chosen == ["image", False, False, False] else chosen


def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output: Path,
    delivery: Delivery | None = None,
    known: dict[str, str] | None = None,
) -> Iterator[Prediction]:
    """Predict each case into ``output/CASE.nii.gz`` or the format of its image; a bad case is reported and the rest
    goes on.

    Cases that this very model has done already (``predictions.json``) are not done again.

    Args:
        known: the keys of these cases in the receipt, of whoever keeps it; nothing reads or writes one here then.

    Raises:
        MachineError: the disk is full or may not be written; what was written before stays known.
    """
    work = _Work(predictor, output, delivery or Delivery(), known)
    reader, writer = (ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("read", "write"))
    written: Future[Prediction] | None = None
    try:
        coming = reader.submit(work.load, cases[0]) if cases else None
        for number, case in enumerate(cases):
            assert coming is not None, "the case was asked for"
            loaded = coming.result()
            coming = reader.submit(work.load, cases[number + 1]) if number + 1 < len(cases) else None
            done: Prediction | Future[Prediction]
            if isinstance(loaded, Prediction):
                done = loaded
            else:
                done = work.answer(case, loaded, writer)
            del loaded
            if written is not None:
                yield work.finished(written)
                written = None
            if isinstance(done, Prediction):
                yield done
            else:
                written = done
        if written is not None:
            last, written = written, None
            yield work.finished(last)
    finally:
        # Ctrl-C too: what is just being written is finished, and known.
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
        work.close(written)


@dataclass(frozen=True)
class _Loaded:
    image: Volume
    key: str
    started: float


@dataclass
class _Work:
    """A folder of predictions while it is written."""

    predictor: Predictor
    output: Path
    delivery: Delivery
    known: dict[str, str] | None
    done: dict[str, str] = field(init=False)
    model: str = field(init=False)
    written: float = field(init=False)

    def __post_init__(self) -> None:
        self.done = done_before(self.output) if self.known is None else dict(self.known)
        self.model = self.predictor.key
        self.written = time.monotonic()

    def load(self, case: Case) -> _Loaded | Prediction:
        """In the thread that reads."""
        started = time.monotonic()
        try:
            if (error := error_of(case)) is not None:
                raise error
            if self.delivery.form == "dicom-seg":
                series_of(case)
            targets = self.delivery.targets(self.output, case, self.predictor.card.dimension)
            with unchanged(case.image_files, case.id):
                key = content_key(self.model, *case_digests(case), *self.delivery.key)
                if self.done.get(case.id) == key and all(path.exists() for path in targets.values()):
                    return Prediction(case, targets["mask"], key=key)
                return _Loaded(read_channels(case, self.predictor.card), key, started)
        except DataError as error:
            return Prediction(case, None, naming_case(error, case))

    def answer(self, case: Case, loaded: _Loaded, writer: ThreadPoolExecutor) -> Prediction | Future[Prediction]:
        wished = Wished(self.delivery.probabilities, self.delivery.uncertainty)
        try:
            self.predictor.require_fit(loaded.image, case.absent)
            if self.delivery.check is not None:
                self.delivery.check(case, loaded.image)
            result = self.predictor.answer(loaded.image, case.absent, wished)
        except DataError as error:
            return Prediction(case, None, naming_case(error, case))
        return writer.submit(self._write, case, loaded, result)

    def _write(self, case: Case, loaded: _Loaded, result: Result) -> Prediction:
        """In the thread that writes."""
        targets = self.delivery.targets(self.output, case, self.predictor.card.dimension)
        try:
            mask = targets["mask"]
            if self.delivery.form == "dicom-seg":
                write(result.labels, mask, series=series_of(case), names=self.predictor.plan.labels)
            else:
                write(as_stored(result.labels, loaded.image, mask), mask)
            if result.probabilities is not None:
                write(result.probabilities, targets["probabilities"], scale=_PROBABILITY_STEP)
            if result.uncertainty is not None:
                write(result.uncertainty, targets["uncertainty"], scale=_NATS_STEP)
            if self.delivery.picture is not None:
                write_file(targets["preview"], self.delivery.picture(loaded.image, result.labels))
        except DataError as error:
            return Prediction(case, None, naming_case(error, case))
        self.done[case.id] = loaded.key
        return Prediction(case, mask, seconds=time.monotonic() - loaded.started, key=loaded.key)

    def finished(self, written: Future[Prediction]) -> Prediction:
        prediction = written.result()
        if time.monotonic() - self.written > _RECEIPT_EVERY_S:
            self.written = time.monotonic()
            self._write_receipt()
        return prediction

    def close(self, written: Future[Prediction] | None) -> None:
        if self.done:
            self._write_receipt()
            if self.known is None:
                gather_receipts(self.output)
        if written is not None and not written.cancelled():
            written.result()  # an error that nobody has seen

    def _write_receipt(self) -> None:
        if self.known is None:
            write_receipt(self.output, about(self.predictor, self.delivery.probabilities), self.done)


def about(predictor: Predictor, probabilities: bool) -> dict[str, object]:
    """What the receipt tells of the model, and which labels each channel of probabilities is about."""
    content: dict[str, object] = {"run": str(predictor.run.folder)}
    if predictor.others:
        content["with"] = [str(other.run.folder) for other in predictor.others]
    plan = predictor.plan
    if probabilities:
        content["probabilities"] = [region.members for region in plan.regions] or [[0], *([n] for n in plan.labels)]
    return {**content, "dataset": predictor.card.name, "labels": plan.labels}
