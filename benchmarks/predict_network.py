"""nnU-Net's network for segue's side of ``benchmarks/predict.py``: a target on the import path.

It is imported out of nnU-Net's own environment, whose packages the variable :data:`PACKAGES` names; everything else
stays that of this environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from torch import nn

PACKAGES = "SEGUE_BENCH_PEER_PACKAGES"


class PlainUNet(nn.Module):
    """``PlainConvUNet`` with nnU-Net's norm and nonlinearity; ``arguments`` are those of its plans."""

    def __init__(self, in_channels: int, out_channels: int, **arguments: Any) -> None:
        super().__init__()
        if PACKAGES in os.environ and os.environ[PACKAGES] not in sys.path:
            sys.path.append(os.environ[PACKAGES])  # last: what is here already comes from here
        from dynamic_network_architectures.architectures.unet import PlainConvUNet

        self.network = PlainConvUNet(
            input_channels=in_channels,
            num_classes=out_channels,
            conv_op=nn.Conv3d,
            norm_op=nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            conv_bias=True,
            **arguments,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


def turned(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights for images whose axes are in the opposite order: nnU-Net's are (k, j, i), segue's (i, j, k)."""
    return {
        f"network.{name}": value.permute(0, 1, 4, 3, 2).contiguous() if value.ndim == 5 else value
        for name, value in weights.items()
    }
