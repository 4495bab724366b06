"""Applying a trained run to images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from segue.catalogue import Card
from segue.core.console import say
from segue.core.errors import DataError, UsageError
from segue.core.files import content_key, file_digest
from segue.metrics import postprocessed
from segue.model import mirrored, sliding_slabs, thinnest_axis
from segue.predict.postprocessing import read_postprocessing
from segue.predict.requiring import require_fit
from segue.predict.slabs import Result, Rows, Slab, Wished, collect, shares_of
from segue.prepare import Plan, prepared_image
from segue.train import (
    Run,
    answer_channels,
    build_network,
    coarse_answer,
    in_fast_layout,
    load_checkpoint,
    padding_values,
    pick_device,
    weights_of,
)
from segue.train.device import has_fast_bfloat16
from segue.volume import Volume

# Voxels of all windows at a time: with large patches what the network keeps of several grows beyond the image itself.
_WINDOW_VOXELS = 1 << 21
# Of a slab of logits in float32. A larger one is summed up in float16, unless probabilities are asked for.
_SLAB_BYTES = 400_000_000


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
        self.asked_device, self.member_only = device, member_only
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
            self.use(number)
            yield self.network

    def use(self, number: int) -> None:
        """Give the network the weights of a member, unless it has them."""
        if number != self._taken:
            self._take(number)

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
        """See :func:`segue.predict.requiring.require_fit`."""
        require_fit(image, self.plan, absent)

    @property
    def key(self) -> str:
        """Of all weights and the plan: the same model gives the same key."""
        weights = [file_digest(member.checkpoint) for member in self.members]
        return content_key(*weights, _what_answers(self.plan))


@dataclass(frozen=True)
class _State:
    """The weights of one member, and whether it was trained in bfloat16."""

    weights: dict[str, Tensor]
    bfloat16: bool

    @staticmethod
    def read(member: Run, device: torch.device | str) -> _State:
        content = load_checkpoint(member.checkpoint, device)
        weights = dict(weights_of(content, member.checkpoint))
        return _State(weights, content.get("precision") == "bfloat16")


def _what_answers(plan: Plan) -> dict[str, Any]:
    """What of a plan an answer depends on: not why it was made so, nor how fast the machine was that trained."""
    told = {"reasons", "measured"}
    found = plan.model_dump(exclude=told)
    return {**found, "coarse": plan.coarse and plan.coarse.model_dump(exclude=told)}


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
        if _what_answers(member.plan()) != _what_answers(plan):
            raise DataError(
                "this fold was trained with another plan than its run folder has: their answers cannot be averaged",
                where=member.folder,
                remedy="move the fold out of the run folder, and train it into it again",
            )
    return trained or members[:1]


class Predictor(Model):
    """A :class:`Model` that segments; of a cross-validation with the post-processing that was chosen on it.

    Args:
        others: further models whose answers are averaged with this one's, every network counting once. Each prepares
            the image by its own plan; channels, labels and regions must be the same. Post-processing is left out then:
            it was chosen on other answers.
        mirror: average over the image mirrored along the plan's axes, in all combinations.

    Raises:
        UsageError: another run has other channels, labels or regions.
    """

    def __init__(
        self,
        run: Path | str,
        device: str = "auto",
        *,
        member_only: bool = False,
        others: Sequence[Path | str] = (),
        mirror: bool = False,
    ) -> None:
        super().__init__(run, device, member_only=member_only)
        self.others = [Predictor(other, device, mirror=mirror) for other in others]
        for other in self.others:
            require_same_answers(self, other)
        chosen = None if member_only or others else read_postprocessing(self.run)
        self.rules = chosen.rules if chosen else {}
        self.mirror_axes = [axis for axis in self.plan.mirror_axes if self.plan.patch[axis] > 1] if mirror else []
        if mirror and not self.mirror_axes:
            say(f"warning: {self.run.folder}: no axis may be mirrored ({self.plan.reasons.get('mirror_axes', '')})")
        coarse = self.plan.coarse is not None
        self._coarse = [Predictor(member.coarse.folder, device) for member in self.members] if coarse else []

    @property
    def key(self) -> str:
        """Of all weights, the plan, the post-processing, and what else changes an answer."""
        rules = {number: asdict(rule) for number, rule in self.rules.items()}
        before = [stage.key for stage in self._coarse]
        key = content_key(super().key, rules, before) if rules or before else super().key
        further = [*(other.key for other in self.others), *self.mirror_axes]
        return content_key(key, further) if further else key

    @property
    def network_count(self) -> int:
        """How many networks answer."""
        return len(self.members) + sum(other.network_count for other in self.others)

    def predict(self, image: Volume, absent: Sequence[int] = ()) -> Volume:
        """Labels of an image with the plan's channels, on exactly the image's own grid.

        Args:
            absent: numbers of optional channels that the image lacks; what stands in their place is not looked at.

        Raises:
            DataError: another number of channels, NaN in the image, or a channel is absent that the model needs.
        """
        return self.answer(image, absent).labels

    @torch.inference_mode()
    def answer(self, image: Volume, absent: Sequence[int] = (), wished: Wished | None = None) -> Result:
        """As :meth:`predict`, and what else is wished for. The logits of all classes exist for a slab only."""
        self.require_fit(image, absent)
        wished = wished or Wished()
        count, canonical = self.network_count, image.geometry.oriented("RAS")
        along = thinnest_axis(canonical.shape, self.plan.patch)
        rows = [model.rows(image, absent, along, alone=count == 1, wished=wished) for model in (self, *self.others)]
        made = collect(rows, self.plan, count, image.geometry, along, wished)
        if not self.rules:
            return made
        # In one order of axes: of components of one size the first is the same whatever the image's own order is.
        labels = postprocessed(made.labels.oriented("RAS").array[0], self.rules, canonical.voxel_ml)
        back = Volume(labels[None], canonical, "labels").oriented(image.geometry.axis_codes)
        return replace(made, labels=replace(made.labels, array=back.array))

    def rows(self, image: Volume, absent: Sequence[int], along: int, *, alone: bool, wished: Wished) -> Rows:
        """What this run's networks answer, on the image's grid in RAS order (:meth:`slabs`)."""
        ready = prepared_image(image, self.plan, absent)
        slabs = self.slabs(ready, image, absent, along, alone=alone, wished=wished)
        grids = (ready.geometry.shape, image.geometry.oriented("RAS").shape)
        source, target = ([grid[along], *(n for axis, n in enumerate(grid) if axis != along)] for grid in grids)
        return Rows(slabs, source, target)

    @torch.inference_mode()
    def slabs(
        self,
        ready: Volume,
        image: Volume,
        absent: Sequence[int] = (),
        along: int = 0,
        *,
        alone: bool = False,
        wished: Wished | None = None,
    ) -> Iterator[Slab]:
        """What the networks answer on the grid of the prepared image, slab after slab; ``along`` is the second axis.

        Each slab is the sum of the networks' probabilities, or where their uncertainty is wished for each network's.

        Args:
            alone: there is one network in all, and its logits are wanted.
        """
        wished = wished or Wished()
        precision = self._precision(ready, along, wished)
        each = [
            self._network_slabs(number, self._input(number, ready, image, absent), along, precision)
            for number in range(len(self.members))
        ]
        while True:
            slab: Slab = []
            for one in each:
                # In turn, so that a slab of each network exists at a time.
                logits = next(one, None)
                if logits is None:
                    return
                answer = logits.movedim(along + 1, 1)
                del logits
                if not alone:
                    answer = shares_of(answer.float(), self.plan)
                if slab and not wished.uncertainty:
                    slab[0] += answer
                else:
                    slab.append(answer)
            yield slab

    def _precision(self, ready: Volume, along: int, wished: Wished) -> torch.dtype:
        outputs = len(self.plan.regions) or max(self.plan.labels) + 1
        sides = [self.plan.patch[axis] if axis == along else size for axis, size in enumerate(ready.geometry.shape)]
        small = 4 * outputs * int(np.prod(sides)) <= _SLAB_BYTES
        return torch.float32 if small or wished.probabilities or wished.uncertainty else torch.float16

    def _network_slabs(
        self, number: int, seen: Tensor, along: int, precision: torch.dtype
    ) -> Iterator[Float[Tensor, "n i j k"]]:
        padding = torch.from_numpy(padding_values(self.plan))
        return sliding_slabs(
            self._network(number),
            seen,
            patch=self.plan.patch,
            overlap=self.plan.overlap,
            batch=max(1, min(self.plan.batch, _WINDOW_VOXELS // int(np.prod(self.plan.patch)))),
            device=self.device,
            padding=torch.cat([padding, torch.zeros(self.plan.inputs - len(padding))]),
            along=along,
            precision=precision,
        )

    def _network(self, number: int) -> Callable[[Tensor], Tensor]:
        def answer(windows: Tensor) -> Tensor:
            self.use(number)
            with self.autocast():
                return self.network(windows)

        return mirrored(answer, self.mirror_axes) if self.mirror_axes else answer

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


def require_same_answers(first: Model, other: Model) -> None:
    """Raises:
    UsageError: the two models see other channels, or answer for other labels, regions or classes.
    """

    def facts(model: Model) -> dict[str, object]:
        plan = model.plan
        channels = [f"{channel.name} ({channel.unit})" for channel in plan.channels]
        regions = [(region.name, region.members, region.label) for region in plan.regions]
        named = {"channels": channels, "labels": plan.labels, "regions": regions}
        return {**named, "task": plan.task, "classes": plan.classes}

    mine, theirs = facts(first), facts(other)
    for name, value in mine.items():
        if theirs[name] != value:
            raise UsageError(
                f"the answers of two runs are averaged only if their {name} are the same",
                where=f"--with {other.run.folder}",
                value=f"{theirs[name]}, and {value} in {first.run.folder}",
                remedy="predict with each of them into a folder of its own",
            )
