"""Applying a trained run to images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor, nn

from segue.catalogue import Card, Case, Row
from segue.core.console import say
from segue.core.errors import DataError
from segue.core.files import content_key, file_digest, write_json
from segue.images import digest_of, write
from segue.metrics import postprocessed
from segue.model import sliding_window
from segue.predict.masks import as_stored, mask_path
from segue.predict.postprocessing import read_postprocessing
from segue.prepare import Plan, labels_of, prepared_image, read_channels
from segue.train import (
    Run,
    answer_channels,
    build_network,
    coarse_answer,
    in_fast_layout,
    load_checkpoint,
    padding_values,
    pick_device,
)
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
    """What was trained in a run folder, with its plan and card: one network, or the folds of a cross-validation.

    Several networks answer with the mean of their probabilities. One network lies on the device and takes the weights
    of the folds in turn, which wait in main memory: to copy them costs milliseconds where a volume costs seconds, and
    the device needs no more memory for five folds than for one.

    Args:
        run: the folder that ``segue train`` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        member_only: only the network that this very folder trained, without its folds and without post-processing.

    Raises:
        UsageError: not a run folder. DataError: no checkpoint, a damaged one, or a fold with another plan.
    """

    def __init__(self, run: Path | str, device: str = "auto", *, member_only: bool = False) -> None:
        self.run = Run(Path(run))
        self.plan: Plan = self.run.plan()
        self.card: Card = self.run.card()
        self.device = pick_device(device)
        self.members = [self.run] if member_only else _trained(self.run, self.plan)
        self.network = in_fast_layout(build_network(self.plan), self.device).eval()
        # One alone needs no copy in main memory.
        alone = len(self.members) == 1
        self._states = [_State.read(member, self.device if alone else "cpu") for member in self.members]
        for number in reversed(range(len(self.members))):  # each must fit; the first stays
            self._take(number)
        if alone:
            self._states[0].weights.clear()

    def networks(self) -> Iterator[nn.Module]:
        """The network with the weights of each member in turn: one module, to be used before the next is asked for."""
        for number in range(len(self.members)):
            if number != self._taken:
                self._take(number)
            yield self.network

    def _take(self, number: int) -> None:
        try:
            self.network.load_state_dict(self._states[number].weights)
        except RuntimeError as error:
            raise DataError(
                "checkpoint and plan do not belong together",
                where=self.members[number].checkpoint,
                value=str(error)[:200],
            ) from error
        self._taken = number

    def autocast(self) -> Any:
        fast = self._states[self._taken].bfloat16 and has_fast_bfloat16(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=fast)

    def require_fit(self, image: Volume, absent: Sequence[int] = ()) -> None:
        """Raises:
        DataError: another number of channels, NaN in the image, or a channel is absent that the model needs.
        """
        if len(image.array) != len(self.plan.channels):
            raise DataError(
                "the image has another number of channels than the model",
                value=f"{len(image.array)}, expected {len(self.plan.channels)}",
                remedy=f"give {', '.join(channel.name for channel in self.plan.channels)}, in this order",
            )
        optional = [number for number, channel in enumerate(self.plan.channels) if channel.optional]
        if not set(absent) <= set(optional) or len(set(absent)) == len(self.plan.channels):
            raise DataError(
                "the image lacks a channel that the model needs",
                value=", ".join(self.plan.channels[number].name for number in absent),
                remedy="give it; optional are "
                + (", ".join(self.plan.channels[number].name for number in optional) or "none")
                + ", and one channel at least must be there",
            )
        if not np.isfinite(image.array).all():
            raise DataError("the image holds NaN or infinite values", remedy="mend it, or leave it out")

    @property
    def key(self) -> str:
        """Of all weights and the plan: the same model gives the same key."""
        weights = [file_digest(member.checkpoint) for member in self.members]
        return content_key(*weights, self.plan.model_dump(exclude={"reasons"}))


@dataclass(frozen=True)
class _State:
    """The weights of one member, and whether it was trained in bfloat16."""

    weights: dict[str, Tensor]
    bfloat16: bool

    @staticmethod
    def read(member: Run, device: torch.device | str) -> _State:
        content = load_checkpoint(member.checkpoint, device)
        return _State(dict(content.get("mean_network") or content["network"]), content.get("precision") == "bfloat16")


def _trained(run: Run, plan: Plan) -> list[Run]:
    """The members of a run folder that have weights; the others are told."""
    members = run.members() or [run]
    trained = [member for member in members if member.checkpoint.exists()]
    for member in members if len(members) > 1 else []:
        if not member.checkpoint.exists():
            say(f"warning: {member.folder} has no checkpoint yet and is left out of the mean")
        elif member.events.exists() and not member.finished:
            say(f"warning: {member.folder} is still training; its state of now takes part in the mean")
    for member in trained:
        if member.plan().model_dump(exclude={"reasons"}) != plan.model_dump(exclude={"reasons"}):
            raise DataError(
                "this fold was trained with another plan than its run folder has: their answers cannot be averaged",
                where=member.folder,
                remedy="move the fold out of the run folder, and train it into it again",
            )
    return trained or members[:1]


class Predictor(Model):
    """A :class:`Model` that segments; of a cross-validation with the post-processing that was chosen on it."""

    def __init__(self, run: Path | str, device: str = "auto", *, member_only: bool = False) -> None:
        super().__init__(run, device, member_only=member_only)
        chosen = None if member_only else read_postprocessing(self.run)
        self.rules = chosen.rules if chosen else {}
        coarse = self.plan.coarse is not None
        self._coarse = [Predictor(member.coarse.folder, device) for member in self.members] if coarse else []

    @property
    def key(self) -> str:
        """Of all weights, the plan and the post-processing."""
        rules = {number: asdict(rule) for number, rule in self.rules.items()}
        before = [stage.key for stage in self._coarse]
        return content_key(super().key, rules, before) if rules or before else super().key

    @torch.inference_mode()
    def predict(self, image: Volume, absent: Sequence[int] = ()) -> Volume:
        """Labels of an image with the plan's channels, on exactly the image's own grid.

        Args:
            absent: numbers of optional channels that the image lacks; what stands in their place is not looked at.

        Raises:
            DataError: another number of channels, NaN in the image, or a channel is absent that the model needs.
        """
        self.require_fit(image, absent)
        ready = prepared_image(image, self.plan, absent)
        canonical = image.geometry.oriented("RAS")
        labels = self._labels_on(self._scores(ready, image, absent), ready.geometry, canonical)
        labels = postprocessed(labels, self.rules, canonical.voxel_ml)
        back = Volume(labels[None], canonical, "labels").oriented(image.geometry.axis_codes)
        # The same grid, but without the rounding of two changes of orientation.
        return Volume(np.ascontiguousarray(back.array), image.geometry, "labels", "labels")

    def _input(self, number: int, ready: Volume, image: Volume, absent: Sequence[int]) -> Float32[Tensor, "c i j k"]:
        """What the network of a member sees: the prepared image, and what its low-resolution stage answers."""
        seen = torch.from_numpy(ready.array)
        if not self._coarse:
            return seen
        stage = self._coarse[number]
        coarse = prepared_image(image, stage.plan, absent).array
        answer = coarse_answer(
            next(stage.networks()), stage.autocast, coarse, stage.plan, ready.geometry.shape, self.device
        )
        channels = answer_channels(torch.from_numpy(answer.astype(np.int64))[None], self.plan)
        return torch.cat([seen, channels[0]])

    def _scores(self, ready: Volume, image: Volume, absent: Sequence[int] = ()) -> Float32[Tensor, "n i j k"]:
        """Logits of one network; of several the mean of their probabilities, of regions less a half."""
        total: Tensor | None = None
        padding = torch.from_numpy(padding_values(self.plan))
        padding = torch.cat([padding, torch.zeros(self.plan.inputs - len(padding))])
        for number, network in enumerate(self.networks()):
            seen = self._input(number, ready, image, absent)
            with self.autocast():
                logits = sliding_window(
                    network,
                    seen,
                    patch=self.plan.patch,
                    overlap=self.plan.overlap,
                    batch=self.plan.batch,
                    device=self.device,
                    padding=padding,
                ).float()
            if len(self.members) == 1:
                return logits
            # Regions are yes where the mean probability is above a half: a logit above 0.
            share = logits.sigmoid().sub_(0.5) if self.plan.regions else logits.softmax(0)
            share.div_(len(self.members))
            total = share if total is None else total.add_(share)
        assert total is not None, "there is at least one network"
        return total

    def _labels_on(
        self, scores: Float32[Tensor, "n i j k"], source: Geometry, target: Geometry
    ) -> Integer[np.ndarray, "x y z"]:
        """The label map on ``target``, one class at a time: never all at full resolution."""
        plan, grid = self.plan, target.shape
        values = scores.cpu().numpy()
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
                mask = predictor.predict(image, case.absent)
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
        digests = [
            f"{digest_of(image.path)}:{image.key}[{image.index}]" if isinstance(image, Row) else file_digest(image)
            for image in case.images
        ]
        return [*digests, *(f"without {number}" for number in case.absent)]
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
