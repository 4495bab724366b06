"""From the logits of windows to a result on the image's own grid, some slices at a time.

What the networks answer comes in slabs along one axis and leaves as labels: class by full resolution exists for as many
slices only as :data:`_AT_ONCE_BYTES` hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor
from torch.nn import functional

from segue.prepare import Plan
from segue.volume import Geometry, Volume

_AT_ONCE_BYTES = 64_000_000

Slab = list[Tensor]


@dataclass(frozen=True)
class Result:
    """What is known of one image, on its own grid.

    Attributes:
        labels: the label map.
        probabilities: float16, one channel for the background and one per label in the plan's order (of a model of
            regions one per region); None unless asked for.
        uncertainty: float32, in nats (:func:`uncertainty_of`); None unless asked for.
    """

    labels: Volume
    probabilities: Volume | None = None
    uncertainty: Volume | None = None


class Rows:
    """What comes in slabs on one grid, as rows of another over the same field of view, by linear interpolation.

    Args:
        slabs: of each, one tensor ``(n, rows, ...)`` or several that are handled alike; the slab axis comes second.
            What is in one is no longer looked at when the next one is asked for.
        source, target: voxels of both grids, the slab axis first.
    """

    def __init__(self, slabs: Iterator[Slab], source: Sequence[int], target: Sequence[int]) -> None:
        self._slabs, self._source, self._target = slabs, list(source), list(target)
        self._held: list[Slab] = []
        self._begin = self._end = 0  # the rows that are held

    def __call__(self, begin: int, end: int) -> list[Float32[Tensor, "n x y z"]]:
        """Rows ``begin`` to ``end`` of the target; they are asked for in ascending order, without gaps."""
        size, wanted = self._source[0], self._target[0]
        place = (torch.arange(begin, end, dtype=torch.float64) + 0.5) * (size / wanted) - 0.5
        place = place.clamp(0, size - 1)
        low = place.floor().long().clamp(max=max(size - 2, 0))
        first, last = int(low[0]), min(int(low[-1]) + 2, size) if size != wanted else int(low[-1]) + 1
        if size == wanted:
            first, last = begin, end
        self._reach(first, last)
        found = [self._cut(number, first, last).float() for number in range(len(self._held[0]))]
        if size != wanted and size > 1:
            share = (place - low).float()
            found = [_mixed(part, low - first, share) for part in found]
        elif size != wanted:
            found = [part.expand(-1, end - begin, -1, -1) for part in found]
        if self._source[1:] != self._target[1:]:
            found = [_stretched(part, self._target[1:]) for part in found]
        return found

    def _reach(self, first: int, last: int) -> None:
        while self._end < last:
            # What is still asked for is kept, of the newest slab as a copy; the rest goes before more comes.
            kept, start = [], self._begin
            for number, slab in enumerate(self._held):
                cut, start = max(first - start, 0), start + slab[0].shape[1]
                if cut < slab[0].shape[1]:
                    own = number < len(self._held) - 1 and not cut
                    kept.append(slab if own else [part[:, cut:].clone() for part in slab])
            self._held, self._begin = kept, max(self._begin, min(first, self._end))
            slab = next(self._slabs)
            self._held.append(slab)
            self._end += slab[0].shape[1]

    def _cut(self, number: int, first: int, last: int) -> Tensor:
        pieces, start = [], self._begin
        for slab in self._held:
            part = slab[number]
            low, high = max(first - start, 0), min(last - start, part.shape[1])
            if low < high:
                pieces.append(part[:, low:high])
            start += part.shape[1]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


def _mixed(part: Tensor, low: Tensor, share: Tensor) -> Tensor:
    low, share = low.to(part.device), share.to(part.device)[None, :, None, None]
    return torch.lerp(part[:, low], part[:, low + 1], share)


def _stretched(part: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(part, size=list(size), mode="bilinear", align_corners=False)


def shares_of(logits: Tensor, plan: Plan) -> Tensor:
    """The probabilities that logits mean: of classes that exclude each other, or of regions."""
    return logits.sigmoid() if plan.regions else logits.softmax(0)


def uncertainty_of(answers: Sequence[Tensor], plan: Plan) -> Tensor:
    """In nats, 0 where nothing is doubted: of one network's probabilities ``(n, ...)`` their entropy; of several
    networks' the mutual information (Houlsby et al., 2011), the entropy of the mean less the mean entropy, which is
    above 0 only where the networks disagree. Of regions, which may hold together, the sum over them."""

    def entropy(values: Tensor) -> Tensor:
        found = torch.special.entr(values)
        if plan.regions:
            found = found + torch.special.entr(1 - values)
        return found.sum(0)

    mean = torch.stack(list(answers)).mean(0)
    if len(answers) == 1:
        return entropy(mean)
    each = torch.stack([entropy(answer) for answer in answers]).mean(0)
    return (entropy(mean) - each).clamp_(min=0)


def label_map(scores: Tensor, plan: Plan, border: float) -> Integer[Tensor, "*grid"]:
    """The labels of logits or probabilities: the largest of the classes, or the regions above ``border`` painted in
    the plan's order."""
    kind = label_type(plan)
    if plan.regions:
        result = torch.zeros(scores.shape[1:], dtype=kind, device=scores.device)
        for region, values in zip(plan.regions, scores, strict=True):
            result[values > border] = region.label
        return result
    numbers = [0, *plan.labels]
    known = scores if numbers == list(range(len(scores))) else scores[numbers]
    return torch.tensor(numbers, dtype=kind, device=scores.device)[known.argmax(0)]


def label_type(plan: Plan) -> torch.dtype:
    highest = max([*plan.labels, *(region.label for region in plan.regions)])
    return torch.uint8 if highest < 256 else torch.int32


@dataclass(frozen=True)
class Wished:
    """What is made of an image besides its labels."""

    probabilities: bool = False
    uncertainty: bool = False


def collect(rows: Sequence[Rows], plan: Plan, networks: int, grid: Geometry, along: int, wished: Wished) -> Result:
    """The mean of all answers as a result on ``grid``.

    Args:
        rows: of each run; of one network alone logits, of several the sums of their probabilities, or each network's
            own where the uncertainty is wished for.
        grid: in any orientation; ``along`` is an axis in RAS order.
    """
    canonical = grid.oriented("RAS")
    sizes = [canonical.shape[along], *(n for axis, n in enumerate(canonical.shape) if axis != along)]
    kind = np.uint8 if label_type(plan) == torch.uint8 else np.uint16
    channels = len(plan.regions) or len(plan.labels) + 1
    labels = np.zeros((1, *grid.shape), kind, order="F")
    shares = np.zeros((channels, *grid.shape), np.float16) if wished.probabilities else None
    doubts = np.zeros((1, *grid.shape), np.float32) if wished.uncertainty else None

    def by_row(array: np.ndarray) -> np.ndarray:
        # A view: what is written into it lies in the image's own order of axes.
        return np.moveaxis(Volume(array, grid).oriented("RAS").array, along + 1, 1)

    outputs = len(plan.regions) or max(plan.labels) + 1
    few = max(1, _AT_ONCE_BYTES // (4 * outputs * sizes[1] * sizes[2] * max(1, len(rows))))
    numbers = list(range(channels)) if plan.regions else [0, *plan.labels]
    for begin in range(0, sizes[0], few):
        end = min(begin + few, sizes[0])
        found = [part for one in rows for part in one(begin, end)]
        if networks == 1:
            scores, border = found[0], 0.0
            found = [shares_of(scores, plan)] if wished.probabilities or wished.uncertainty else []
            mean = found[0] if found else scores
        else:
            scores = found[0]
            for part in found[1:]:
                scores = scores + part
            scores = mean = scores / networks
            border = 0.5
        by_row(labels)[0, begin:end] = label_map(scores, plan, border).cpu().numpy()
        if shares is not None:
            by_row(shares)[:, begin:end] = mean[numbers].half().cpu().numpy()
        if doubts is not None:
            by_row(doubts)[0, begin:end] = uncertainty_of(found, plan).cpu().numpy()
    return Result(
        Volume(labels, grid, "labels", "labels"),
        None if shares is None else Volume(shares, grid),
        None if doubts is None else Volume(doubts, grid),
    )
