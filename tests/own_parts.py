"""A loss and an augmentation of a user's own, as the tests name them: ``own_parts:Squares``."""

import torch


class Squares(torch.nn.Module):
    """The mean square of the difference to the truth."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        wanted = torch.nn.functional.one_hot(truth, logits.shape[1]).movedim(-1, 1)
        return self.weight * (torch.softmax(logits.float(), 1) - wanted).square().mean()


def shifted(
    images: torch.Tensor, labels: torch.Tensor | None, random: torch.Generator, most: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Another brightness."""
    return images + most * torch.rand(1, generator=random).item(), labels


def cropped(
    images: torch.Tensor, labels: torch.Tensor | None, random: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What an augmentation must not do."""
    return images[..., 1:], labels
