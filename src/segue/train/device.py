"""The device that trains or predicts, and the number format that it is fastest in."""

from __future__ import annotations

import os

import torch

from segue.core.errors import MachineError
from segue.core.executor import cpu_count
from segue.core.memory import installed_memory_gb
from segue.prepare import Machine


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        MachineError: the device asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if not there.get(name.partition(":")[0], False):
        raise MachineError(
            "this device is not available",
            where=name,
            value=f"torch {torch.__version__} sees {', '.join(kind for kind, yes in there.items() if yes)}",
            remedy="leave --device out, or install the build of torch for your GPU (README, Installation)",
        )
    # torchrun numbers the processes of a machine: each has its own GPU, and its part of the cores.
    number, processes = (
        int(os.environ.get(key, default)) for key, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    if name == "cuda" and processes > 1:
        name = f"cuda:{number}"
        if number >= torch.cuda.device_count():
            raise MachineError(
                "there are more processes on this machine than GPUs",
                where=f"local rank {number}",
                value=f"{processes} processes, {torch.cuda.device_count()} GPUs",
                remedy="start as many as there are GPUs: torchrun --nproc-per-node",
            )
        torch.cuda.set_device(number)
    device = torch.device(name)
    if device.type == "cpu":
        torch.set_num_threads(max(1, cpu_count() // processes))
    return device


def machine(device: torch.device) -> Machine:
    """The facts of the device that a plan depends on."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 1e9
        return Machine("cuda", cpu_count(), memory)
    return Machine("mps" if device.type == "mps" else "cpu", cpu_count(), installed_memory_gb())


def describe_device(device: torch.device) -> str:
    """``cpu, 2 threads``, or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 at all: without the units one step on a CPU takes minutes."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return False
