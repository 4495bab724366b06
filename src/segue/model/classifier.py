"""Networks that answer with classes: MONAI's residual and dense ones, with a stem for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

# With fewer channels and an odd batch, torch 2.13's convolutions with channels last write beyond their memory (oneDNN,
# AVX-512): the process dies.
_LEAST_WIDTH = 16


class Classifier(nn.Module):
    """Maps ``(b, c, i, j, k)`` to logits ``(b, classes)``; in 2-D, ``k`` is 1.

    Args:
        name: ``resnet18``, ``resnet50`` (He et al., 2016) or ``densenet121`` (Huang et al., 2017).
        width: channels of the first level, at least 16 (a published ResNet has 64, a DenseNet 64).
        stem_stride: 1 for images of about 28 pixels, 2 for larger ones.
        stem_pool: pool after the stem too, as the published networks for 224 pixels do.
        dropout: before the last layer.
        members: networks of different beginnings that learn side by side and whose logits are averaged
            (Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation, 2017).

    Raises:
        ValueError: no network of this name, or one so narrow that torch's kernels crash.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        out_channels: int,
        *,
        dimension: int,
        width: int = 64,
        stem_stride: int = 1,
        stem_pool: bool = False,
        dropout: float = 0.0,
        members: int = 1,
    ) -> None:
        super().__init__()
        if width < _LEAST_WIDTH:
            raise ValueError(f"a width of {width}: at least {_LEAST_WIDTH} channels")
        self.dimension = dimension
        self.members = nn.ModuleList()
        for _ in range(members):
            features, size = _features(name, in_channels, dimension, width, stem_stride, stem_pool)
            self.members.append(
                nn.Sequential(features, nn.Flatten(), nn.Dropout(dropout), _InFloat32(nn.Linear(size, out_channels)))
            )

    def forward(self, image: Float[Tensor, "b c i j k"]) -> Any:
        """Logits ``(b, classes)``; in training mode a list of them, one per member."""
        x = image[..., 0] if self.dimension == 2 else image
        logits = [member(x) for member in self.members]
        return logits if self.training else torch.stack(logits).mean(0)


class _InFloat32(nn.Module):
    """A part that is not computed in bfloat16: logits need their digits, and on CPUs torch 2.13's gradient of 3-D
    convolutions on maps of 2 x 2 x 2 voxels is not finite in it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self.part(x.float())


def _features(name: str, inputs: int, dimension: int, width: int, stride: int, pool: bool) -> tuple[nn.Module, int]:
    # Half a second, and only who classifies needs it.
    from monai.networks.nets.densenet import DenseNet
    from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetBottleneck

    if name in ("resnet18", "resnet50"):
        block: Any = ResNetBlock if name == "resnet18" else ResNetBottleneck
        network: Any = ResNet(
            block,
            [2, 2, 2, 2] if name == "resnet18" else [3, 4, 6, 3],
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=dimension,
            n_input_channels=inputs,
            conv1_t_size=7 if pool else 3,
            conv1_t_stride=stride,
            no_max_pool=not pool,
            feed_forward=False,
            bias_downsample=False,
        )
        if dimension == 3:
            network.layer4 = _InFloat32(network.layer4)
        return network, 8 * width * block.expansion
    if name == "densenet121":
        network = DenseNet(
            dimension, inputs, 1, init_features=width, growth_rate=width // 2, block_config=(6, 12, 24, 16)
        )
        if stride == 1:
            network.features.conv0.stride = (1,) * dimension
        if not pool:
            network.features.pool0 = nn.Identity()
        size = network.class_layers.out.in_features
        network.class_layers.out = nn.Identity()
        if dimension == 3:
            network.features.denseblock4 = _InFloat32(network.features.denseblock4)
        return network, size
    raise ValueError(f"there is no network '{name}': resnet18, resnet50, densenet121")


class ClassLoss:
    """The loss by what kind of answer is asked for, in float32.

    ``binary``, ``multi-class``: cross-entropy. ``ordinal``: cross-entropy against targets that fall off with the
    squared distance of the grades (Diaz and Marathe, Soft Labels for Ordinal Regression, CVPR 2019).
    ``multi-label``: binary cross-entropy per label.

    Args:
        classes: the kind.
        shift: one per class, added to the logits here and not when the network answers: the logarithm of how much more
            often than others a class is met (Menon et al., Long-tail learning via logit adjustment, ICLR 2021).
        smoothing: part of each target that is spread over all classes.
    """

    def __init__(self, classes: str, shift: Float[Tensor, " n"], smoothing: float = 0.0) -> None:
        self.classes, self.smoothing = classes, smoothing
        self.shift = shift.float()
        grades = torch.arange(len(shift)).float()
        soft = torch.softmax(-((grades[:, None] - grades[None]) ** 2) / 0.5, 1)
        self.targets = soft if classes == "ordinal" else torch.eye(len(shift))

    def __call__(
        self, logits: Float[Tensor, "b n"] | Sequence[Tensor], truth: Float[Tensor, "b n"]
    ) -> Float[Tensor, ""]:
        """``truth`` is one 0 or 1 per class; of several members' logits it is the mean loss."""
        if not isinstance(logits, Tensor):
            return torch.stack([self(part, truth) for part in logits]).mean()
        logits = logits.float() + self.shift.to(logits.device)
        if self.classes == "multi-label":
            smooth = truth * (1 - self.smoothing) + 0.5 * self.smoothing
            return nn.functional.binary_cross_entropy_with_logits(logits, smooth)
        smooth = (truth @ self.targets.to(logits.device)) * (1 - self.smoothing) + self.smoothing / truth.shape[1]
        return -(smooth * torch.log_softmax(logits, 1)).sum(1).mean()


def probabilities(logits: Float[Tensor, "b n"], classes: str) -> Float[Tensor, "b n"]:
    """Of each class: they add up to 1 unless several may hold."""
    logits = logits.float()
    return torch.sigmoid(logits) if classes == "multi-label" else torch.softmax(logits, 1)
