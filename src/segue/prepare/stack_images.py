"""Images of a stack as a network of classes sees them: many at once, in numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from segue.prepare.choices import Plan
from segue.prepare.stacks import Stack

# Larger ones are read from the memory map.
_IN_MEMORY_BYTES = 2_000_000_000


class StackImages:
    """Images of a stack, normalised, without a loop over items."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self.stack, self.plan = stack, plan
        size = sum(array.nbytes for array in stack.arrays)
        if size <= _IN_MEMORY_BYTES:
            self.stack = Stack(
                stack.cases,
                tuple(np.array(array) for array in stack.arrays),
                stack.which,
                stack.row,
                stack.prepared,
                stack.normalised,
            )
        item = self.stack.arrays[0].shape[1:]
        colours = len(item) == 3 + (plan.slice_axis is None)
        self._channel_axis = 0 if stack.prepared else len(item) - 1 if colours else None
        # One number per value of an item: numpy is slow at repeating two or three along the last axis.
        shape = [len(plan.channels) if axis == self._channel_axis else 1 for axis in range(len(item))]
        self._mean, self._scale = (
            np.broadcast_to(np.array(numbers, np.float32).reshape(shape), item).ravel()
            for numbers in ([r.mean for r in plan.normalisation], [1 / r.std for r in plan.normalisation])
        )

    def arrays(self, numbers: np.ndarray) -> Float32[np.ndarray, "b c i j k"]:
        """These images in the network's axes, normalised."""
        stack = self.stack
        values = stack.take(numbers).astype(np.float32, copy=False)
        if not stack.normalised:
            self._normalise(values)
        if stack.prepared:
            return values
        if self.plan.slice_axis is None:
            return values[:, None] if self._channel_axis is None else np.moveaxis(values, -1, 1)
        # (b, rows, columns, colours) as (b, colours, columns, rows, 1): i runs along the rows of a picture.
        return (values[..., None] if self._channel_axis is None else values).transpose(0, 3, 2, 1)[..., None]

    def _normalise(self, values: Float32[np.ndarray, "b ..."]) -> None:
        for channel, rule in enumerate(self.plan.normalisation):
            part = values if self._channel_axis is None else np.moveaxis(values, self._channel_axis + 1, 0)[channel]
            if rule.kind == "hu":
                np.clip(part, rule.low, rule.high, out=part)
            elif rule.kind == "suv":
                np.log1p(np.maximum(part, 0, out=part), out=part)
                part -= 1
        flat = values.reshape(len(values), -1)
        flat -= self._mean
        flat *= self._scale
