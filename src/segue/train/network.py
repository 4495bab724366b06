"""From a plan to a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from segue.core.errors import UsageError
from segue.model import Classifier, Planar, UNet, with_quick_norms
from segue.prepare import Plan
from segue.train.importing import imported


def build_network(plan: Plan) -> nn.Module:
    """Our U-Net with the plan's arguments, or the class that ``network.target`` names on the import path.

    A class of one's own is called as ``Class(in_channels=, out_channels=, **args)`` and maps
    ``(b, c, i, j, k)`` to logits ``(b, classes, i, j, k)``, in 2-D without ``k``; of a classification to logits
    ``(b, classes)``.

    Raises:
        UsageError: the target cannot be imported or does not take the arguments.
    """
    classifies = plan.task == "classification"
    inputs = plan.inputs
    outputs = len(plan.labels) if classifies else len(plan.regions) or max(plan.labels) + 1
    target = plan.network.target
    if target is None:
        try:
            if classifies:
                name = plan.network.name or "resnet18"
                return Classifier(name, inputs, outputs, dimension=plan.dimension, **plan.network.args)
            return _flattened(UNet(inputs, outputs, dimension=plan.dimension, **plan.network.args), plan)
        except (TypeError, ValueError) as error:
            raise UsageError("the network cannot be built", where="network.args", value=error) from error
    network = _own_network(target, inputs, outputs, plan.network.args)
    return network if classifies and plan.dimension == 3 else _flattened(network, plan)


def _flattened(network: nn.Module, plan: Plan) -> nn.Module:
    return network if plan.slice_axis is None else Planar(network, plan.slice_axis)


def _own_network(target: str, inputs: int, outputs: int, args: dict[str, Any]) -> nn.Module:
    kind = imported(target, "network", "network.target")
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError("the network is not a torch.nn.Module", where=f"network.target: {target}", value=kind)
    try:
        return kind(in_channels=inputs, out_channels=outputs, **args)
    except (TypeError, ValueError) as error:
        raise UsageError("the network cannot be built", where=f"network.target: {target}", value=error) from error


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def in_fast_layout(network: nn.Module, device: torch.device) -> nn.Module:
    """On the device, and on a CPU with channels last: narrow 3-D convolutions run up to 2.5 times faster so, and
    instance norms that read them in this order four times."""
    network = network.to(device)
    if device.type == "cpu":
        with_quick_norms(network)
        for parameter in network.parameters():
            layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(parameter.ndim)
            if layout is not None:
                parameter.data = parameter.data.contiguous(memory_format=layout)
    return network


def in_layout(images: Tensor) -> Tensor:
    """On a CPU with the channels last, as :func:`in_fast_layout` lays the weights."""
    return images.contiguous(memory_format=torch.channels_last_3d) if images.device.type == "cpu" else images
