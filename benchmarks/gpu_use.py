"""How busy a GPU is, and the work that both programs do; needs no library, for it runs in both environments."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import threading
from dataclasses import dataclass

EVERY_S = 0.5


@dataclass(frozen=True)
class Work:
    """A network and a batch as nnU-Net plans them for ``3d_fullres``: widths from 32 up, halved at every level.

    Attributes:
        patch: voxels, ``(i, j, k)``; nnU-Net's own axes run the other way.
    """

    name: str
    patch: tuple[int, int, int]
    batch: int
    levels: int

    @property
    def widths(self) -> list[int]:
        return [min(32 * 2**level, 320) for level in range(self.levels)]

    @property
    def strides(self) -> list[list[int]]:
        return [[1] * 3, *([2] * 3 for _ in range(self.levels - 1))]

    def cubes(self, side: int) -> Work:
        """The same with cubes, and no more levels than they can be halved to 4 voxels."""
        levels = sum(side % 2**level == 0 and side >> level >= 4 for level in range(self.levels))
        return Work(self.name, (side, side, side), self.batch, levels)


# What nnU-Net 2.8.1 plans of the decathlon's hippocampus (all 260 images; of fewer, a smaller batch), and of large
# volumes with voxels of equal sides.
HIPPOCAMPUS = Work("hippocampus", (40, 56, 40), 9, 4)
SYNTHETIC = Work("synthetic", (128, 128, 128), 2, 6)


class GpuUse:
    """While it is entered, asks ``nvidia-smi`` twice a second how busy the first GPU is."""

    def __init__(self) -> None:
        self.percent: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> GpuUse:
        if shutil.which("nvidia-smi"):
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def mean(self) -> float | None:
        """Percent; None where nothing could be asked."""
        return statistics.fmean(self.percent) if self.percent else None

    def _sample(self) -> None:
        query = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._ended.wait(EVERY_S):
            said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
            if (percent := percent_of(said)) is not None:
                self.percent.append(percent)


def percent_of(said: str) -> float | None:
    """The number in a line of ``nvidia-smi``; None for ``[N/A]``."""
    first = said.strip().splitlines()[:1]
    return float(first[0]) if first and first[0].strip().isdigit() else None
