"""Applying a trained run to images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor

from segue.catalogue import Card, Case, Row
from segue.core.errors import DataError
from segue.core.files import content_key, file_digest, write_json
from segue.images import digest_of, write
from segue.model import sliding_window
from segue.predict.masks import as_stored, mask_path
from segue.prepare import Plan, labels_of, prepared_image, read_channels
from segue.train import Run, build_network, in_fast_layout, load_checkpoint, padding_values, pick_device
from segue.train.device import has_fast_bfloat16
from segue.volume import Geometry, Volume, resample_intensity

RECEIPT = "predictions.json"
_RECEIPT_EVERY_S = 10.0


@dataclass(frozen=True)
class Prediction:
    """What became of one case: the path of its mask, or the error; ``seconds`` 0.0 where it was there already."""

    case: Case
    path: Path | None
    error: DataError | None = None
    seconds: float = 0.0


class Model:
    """A trained network with its plan and card.

    Args:
        run: the folder that ``segue train`` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        UsageError: not a run folder. DataError: no checkpoint, or a damaged one.
    """

    def __init__(self, run: Path | str, device: str = "auto") -> None:
        self.run = Run(Path(run))
        self.plan: Plan = self.run.plan()
        self.card: Card = self.run.card()
        self.device = pick_device(device)
        self.checkpoint = self.run.best if self.run.best.exists() else self.run.last
        content = load_checkpoint(self.checkpoint, self.device)
        self.network = in_fast_layout(build_network(self.plan), self.device)
        weights = content.get("mean_network") or content["network"]
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(
                "checkpoint and plan do not belong together", where=self.checkpoint, value=str(error)[:200]
            ) from error
        self.network.eval()
        self._bfloat16 = content.get("precision") == "bfloat16" and has_fast_bfloat16(self.device)

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16)

    def require_fit(self, image: Volume) -> None:
        """Raises:
        DataError: another number of channels, or NaN in the image.
        """
        if len(image.array) != len(self.plan.channels):
            raise DataError(
                "the image has another number of channels than the model",
                value=f"{len(image.array)}, expected {len(self.plan.channels)}",
                remedy=f"give {', '.join(channel.name for channel in self.plan.channels)}, in this order",
            )
        if not np.isfinite(image.array).all():
            raise DataError("the image holds NaN or infinite values", remedy="mend it, or leave it out")

    @property
    def key(self) -> str:
        """Of the weights and the plan: the same model gives the same key."""
        return content_key(file_digest(self.checkpoint), self.plan.model_dump(exclude={"reasons"}))


class Predictor(Model):
    """A :class:`Model` that segments."""

    @torch.inference_mode()
    def predict(self, image: Volume) -> Volume:
        """Labels of an image with the plan's channels, on exactly the image's own grid.

        Raises:
            DataError: another number of channels, or NaN in the image.
        """
        self.require_fit(image)
        ready = prepared_image(image, self.plan)
        with self.autocast():
            logits = sliding_window(
                self.network,
                torch.from_numpy(ready.array),
                patch=self.plan.patch,
                overlap=self.plan.overlap,
                batch=self.plan.batch,
                device=self.device,
                padding=torch.from_numpy(padding_values(self.plan)),
            )
        canonical = image.geometry.oriented("RAS")
        labels = self._labels_on(logits.float(), ready.geometry, canonical)
        back = Volume(labels[None], canonical, "labels").oriented(image.geometry.axis_codes)
        # The same grid, but without the rounding of two changes of orientation.
        return Volume(np.ascontiguousarray(back.array), image.geometry, "labels", "labels")

    def _labels_on(
        self, logits: Float32[Tensor, "n i j k"], source: Geometry, target: Geometry
    ) -> Integer[np.ndarray, "x y z"]:
        """The label map on ``target``, one class at a time: never all at full resolution."""
        plan, grid = self.plan, target.shape
        values = logits.cpu().numpy()
        if source.difference(target) is None:
            return labels_of(values, plan)
        if plan.regions:
            winner = np.zeros(grid, np.uint16)
            for region, part in zip(plan.regions, values, strict=True):
                winner[resample_intensity(part, source, target, order=1) > 0] = region.label
            return winner
        best = np.full(grid, -np.inf, dtype=np.float32)
        winner = np.zeros(grid, np.uint16)
        for number in (0, *plan.labels):
            score = resample_intensity(values[number], source, target, order=1)
            wins = score > best
            best[wins] = score[wins]
            winner[wins] = number
        return winner


def predict_cases(predictor: Predictor, cases: Sequence[Case], output: Path) -> Iterator[Prediction]:
    """Predict each case into ``output/CASE.nii.gz``, of a picture ``CASE.png``; a bad case is reported and the rest
    goes on.

    Cases that this very model has done already (``predictions.json``) are not done again.
    """
    receipt = output / RECEIPT
    done = _done_before(receipt)
    model = predictor.key
    written = time.monotonic()
    try:
        for case in cases:
            target = mask_path(output, case, predictor.card.dimension)
            started = time.monotonic()
            try:
                key = content_key(model, *_digests(case))
                if done.get(case.id) == key and target.exists():
                    yield Prediction(case, target)
                    continue
                image = read_channels(case, predictor.card)
                mask = predictor.predict(image)
            except DataError as error:
                where = error.where if error.where and case.id in error.where else f"{case.id}: {error.where or ''}"
                error.where = where.rstrip(": ")
                yield Prediction(case, None, error)
                continue
            write(as_stored(mask, image, target), target)
            done[case.id] = key
            if time.monotonic() - written > _RECEIPT_EVERY_S:
                written = time.monotonic()
                _write_receipt(receipt, predictor, done)
            yield Prediction(case, target, seconds=time.monotonic() - started)
    finally:
        if done:
            _write_receipt(receipt, predictor, done)


def _digests(case: Case) -> list[str]:
    try:
        return [
            f"{digest_of(image.path)}:{image.key}[{image.index}]" if isinstance(image, Row) else file_digest(image)
            for image in case.images
        ]
    except OSError as error:
        raise DataError(
            "this file cannot be read", where=f"{case.id}: {error.filename}", value=error.strerror
        ) from error


def _done_before(receipt: Path) -> dict[str, str]:
    try:
        return dict(json.loads(receipt.read_text(encoding="utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_receipt(receipt: Path, predictor: Predictor, done: dict[str, str]) -> None:
    write_json(
        receipt,
        {
            "run": str(predictor.run.folder),
            "dataset": predictor.card.name,
            "labels": predictor.plan.labels,
            "cases": done,
        },
    )
