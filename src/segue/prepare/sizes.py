"""How much a network sees and computes in a step: a ladder of sizes, of which a device's measured speed and memory
choose one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from segue.prepare.choices import Machine

NetworkSize = Literal["stem", "narrow", "wide"]

# Voxels of a patch: cubes of 48, 64, 80, 96, 128 and 160 (nnU-Net's usual size is the fifth), and squares in 2-D.
PATCH_VOXELS = (112_000, 64**3, 80**3, 96**3, 128**3, 160**3)
PATCH_PIXELS = (64**2, 96**2, 128**2, 192**2, 256**2)
NETWORKS: tuple[NetworkSize, ...] = ("stem", "narrow", "wide")

# Fewer steps than these do not pay a larger patch, or a larger network: judgement, see benchmarks/ablation.md.
STEPS_FOR_PATCH = 1500
STEPS_FOR_NETWORK = 6000
# With more than these a larger batch learns more from the same time.
STEPS_FOR_BATCH = 40_000
# Of the time of a training, the part that steps have; the rest is validation.
STEPS_SHARE = 0.9


@dataclass(frozen=True)
class Size:
    """What a plan may spend on a step.

    Attributes:
        patch_voxels: of the largest patch.
        step_voxels: of all patches of a step, more or less.
        most_images: of a batch.
        network: ``stem`` looks at half the resolution, behind a convolution of stride 2; ``narrow`` begins with 16
            channels at full resolution, ``wide`` with 32 and is nnU-Net's.
        source: where the numbers come from, in words.
    """

    patch_voxels: int
    step_voxels: int
    most_images: int
    network: NetworkSize
    source: str

    @property
    def widths(self) -> list[int]:
        """Channels of each level in 3-D."""
        return [16, 32, 64, 128, 256, 256] if self.network == "narrow" else [32, 64, 128, 256, 320, 320]


def usual_size(machine: Machine, dimension: int) -> Size:
    """What a device of this kind usually manages: where nothing says how long a training may take."""
    cores = f"about what {machine.cores} cores learn from fastest"
    if dimension == 2:
        if machine.kind == "cpu":
            return Size(256**2, 6 * 256**2, 32, "stem", cores)
        return Size(512**2, 16 * 512**2, 32, "wide", f"{machine.memory_gb:.0f} GB of memory on {machine.kind}")
    if machine.kind == "cpu":
        return Size(PATCH_VOXELS[0], 360_000, 4, "stem", cores)
    if machine.kind == "cuda" and machine.memory_gb >= 10:
        return Size(128**3, 2 * 128**3, 16, "wide", f"{machine.memory_gb:.0f} GB of GPU memory")
    return Size(96**3, 2 * 96**3, 16, "wide", f"{machine.memory_gb:.0f} GB of memory on {machine.kind}")


def with_patch(size: Size, voxels: int, source: str) -> Size:
    """The same with another patch, two of which make a step."""
    return replace(size, patch_voxels=voxels, step_voxels=2 * voxels, most_images=2, source=source)
