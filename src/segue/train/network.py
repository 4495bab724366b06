"""From a plan to a network."""

from __future__ import annotations

import importlib

import torch
from torch import nn

from segue.core.errors import UsageError
from segue.model import UNet
from segue.prepare import Plan


def build_network(plan: Plan) -> nn.Module:
    """Our U-Net with the plan's arguments, or the class that ``network.target`` names on the import path.

    A class of one's own is called as ``Class(in_channels=, out_channels=, **args)`` and maps
    ``(b, c, i, j, k)`` to logits ``(b, classes, i, j, k)``.

    Raises:
        UsageError: the target cannot be imported or does not take the arguments.
    """
    inputs, outputs = len(plan.channels), max(plan.labels) + 1
    target = plan.network.target
    if target is None:
        try:
            return UNet(inputs, outputs, dimension=3, **plan.network.args)
        except (TypeError, ValueError) as error:
            raise UsageError("the network cannot be built", where="network.args", value=error) from error
    module_name, _, class_name = target.partition(":")
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            "the network cannot be imported",
            where=f"network.target: {target}",
            value=error,
            remedy='write it as "package.module:Class" and run where the package can be imported',
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UsageError("the network is not a torch.nn.Module", where=f"network.target: {target}", value=kind)
    try:
        return kind(in_channels=inputs, out_channels=outputs, **plan.network.args)
    except (TypeError, ValueError) as error:
        raise UsageError("the network cannot be built", where=f"network.target: {target}", value=error) from error


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def in_fast_layout(network: nn.Module, device: torch.device) -> nn.Module:
    """On the device, and on a CPU with channels last: narrow 3-D convolutions run up to 2.5 times faster so."""
    network = network.to(device)
    if device.type == "cpu":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network
