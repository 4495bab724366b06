"""A network of a user's own, as the tests name it: ``own_network:Tiny``."""

import torch

NUMBER = 3


class Tiny(torch.nn.Module):
    """One convolution."""

    def __init__(self, in_channels: int, out_channels: int, width: int = 1) -> None:
        super().__init__()
        self.width = width
        self.layer = torch.nn.Conv3d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)
