"""A 2-D network where volumes come in: patches that are one voxel thick."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


class Planar(nn.Module):
    """Takes ``(b, c, i, j, k)`` with one voxel along ``axis`` (0, 1 or 2), and gives logits of voxels that axis back.

    Args:
        network: maps ``(b, c, x, y)`` to logits ``(b, n, x, y)``, or in training mode to a list of them.
    """

    def __init__(self, network: nn.Module, axis: int) -> None:
        super().__init__()
        self.network, self.axis = network, axis

    def forward(self, image: Float[Tensor, "b c i j k"]) -> Any:
        logits = self.network(image.squeeze(2 + self.axis))
        if isinstance(logits, list | tuple):
            return [self._thick(part) for part in logits]
        return self._thick(logits)

    def _thick(self, logits: Tensor) -> Tensor:
        return logits.unsqueeze(2 + self.axis) if logits.ndim == 4 else logits
