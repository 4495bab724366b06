"""Instance normalisation that is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Quick(nn.Module):
    """Torch turns images with the channels last round and back to normalise them, which on a CPU takes a fifth of the
    time of a U-Net. Batch normalisation of one image is the same mean and deviation, and reads them as they lie. Its
    backward pass is slower in bfloat16, so that it stands in only where none will come.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        if len(x) == 1:
            return self._normalised(x)
        result = torch.empty_like(x)
        for number in range(len(x)):
            result[number : number + 1] = self._normalised(x[number : number + 1])
        return result

    def _normalised(self, image: Tensor) -> Tensor:
        mine: Any = self
        return functional.batch_norm(image, None, None, mine.weight, mine.bias, training=True, eps=mine.eps)


class _Quick2d(_Quick, nn.InstanceNorm2d):
    pass


class _Quick3d(_Quick, nn.InstanceNorm3d):
    pass


_QUICK: dict[type, Any] = {nn.InstanceNorm2d: _Quick2d, nn.InstanceNorm3d: _Quick3d}


def with_quick_norms(network: nn.Module) -> nn.Module:
    """The same network with the same weights; its instance norms are replaced by quick ones where none has a state."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            quick = _QUICK.get(type(norm))
            if quick is not None and isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d):
                if norm.track_running_stats:
                    continue
                made = quick(norm.num_features, eps=norm.eps, affine=norm.affine)
                made.weight, made.bias = norm.weight, norm.bias
                setattr(parent, name, made.train(norm.training))
    return network
