"""Dice, HD95 and NSD beside MONAI and surface-distance, and the memory that whole-body masks take.

    python benchmarks/metrics.py

The case is made: two organs in 256^3 voxels of 1 mm, and a prediction whose surface mostly lies within two voxels of
the truth; then the same with the prediction shifted by 15 voxels, where surfaces are far apart. All start from the
label maps, use one thread and take turns; the median of each one's seconds counts. surface-distance has another HD95:
its rows say what it gives. Peak memory is that of a process that measures a body and its lesions, also by lesion and by
BraTS's rules; Python and the masks are included.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LABELS = (1, 2)
SPACING_MM = (1.0, 1.0, 1.0)
TOLERANCE_MM = 1.0
# Label, centre and radii of each, as shares of the grid.
BODIES = ((1, (0.4, 0.45, 0.5), (0.2, 0.16, 0.22)), (2, (0.68, 0.6, 0.55), (0.09, 0.1, 0.08)))
PEAK_ENDING = "GB at the most"

Scores = list[tuple[float, float, float]]


def organs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth: two bodies with uneven surfaces."""
    import numpy as np
    from scipy import ndimage

    random = np.random.default_rng(0)
    uneven, wrong = (
        ndimage.zoom(random.normal(size=(12, 12, 12)).astype(np.float32), size / 12, order=1) for _ in range(2)
    )
    place = np.mgrid[:size, :size, :size].astype(np.float32) / size
    maps = np.zeros((2, size, size, size), np.uint8)
    for number, surface in enumerate((uneven + 0.3 * wrong, uneven)):
        for label, centre, radii in (
            (1, (0.4, 0.45, 0.5), (0.2, 0.16, 0.22)),
            (2, (0.68, 0.6, 0.55), (0.09, 0.1, 0.08)),
        ):
            away = sum(((place[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(3))
            maps[number][np.sqrt(away) + 0.08 * surface < 1] = label
    return maps[0], maps[1]


def by_segue(prediction: np.ndarray, truth: np.ndarray) -> Scores:
    from segue.metrics import overlap, surface_scores

    counts = overlap(prediction, truth, LABELS)
    found = []
    for label in LABELS:
        surfaces = surface_scores(prediction == label, truth == label, SPACING_MM, TOLERANCE_MM)
        found.append((counts[label].dice, surfaces.hd95_mm, surfaces.nsd))
    return found


def by_monai(prediction: np.ndarray, truth: np.ndarray, sub_voxels: bool = True) -> Scores:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice

    batches = [
        torch.stack([torch.from_numpy(labels) == label for label in LABELS])[None].float()
        for labels in (prediction, truth)
    ]
    dice = compute_dice(*batches)
    hd95 = compute_hausdorff_distance(*batches, include_background=True, percentile=95, spacing=SPACING_MM)
    thresholds = [TOLERANCE_MM] * len(LABELS)
    nsd = compute_surface_dice(
        *batches, thresholds, include_background=True, spacing=SPACING_MM, use_subvoxels=sub_voxels
    )
    return list(zip(*(scores[0].tolist() for scores in (dice, hd95, nsd)), strict=True))


def by_surface_distance(prediction: np.ndarray, truth: np.ndarray) -> Scores:
    import surface_distance

    found = []
    for label in LABELS:
        masks = truth == label, prediction == label
        surfaces = surface_distance.compute_surface_distances(*masks, SPACING_MM)
        dice = surface_distance.compute_dice_coefficient(*masks)
        hd95 = surface_distance.compute_robust_hausdorff(surfaces, 95)
        nsd = surface_distance.compute_surface_dice_at_tolerance(surfaces, TOLERANCE_MM)
        found.append((float(dice), float(hd95), float(nsd)))
    return found


def compare(name: str, prediction: np.ndarray, truth: np.ndarray, rounds: int) -> None:
    tasks: dict[str, Callable[[], Scores]] = {
        "segue": lambda: by_segue(prediction, truth),
        "MONAI": lambda: by_monai(prediction, truth),
        "MONAI, whole voxels": lambda: by_monai(prediction, truth, sub_voxels=False),
        "surface-distance": lambda: by_surface_distance(prediction, truth),
    }
    results = {task: call() for task, call in tasks.items()}  # imports, and whatever is made once
    seconds: dict[str, list[float]] = {task: [] for task in tasks}
    for _ in range(rounds):
        for task, call in tasks.items():
            started = time.perf_counter()
            call()
            seconds[task].append(time.perf_counter() - started)
    print(f"\n{name}, median of {rounds}")
    print(f"{'':<22}{'s':>8}{'min s':>8}{'times':>7}   Dice, HD95, NSD of each label")
    ours = statistics.median(seconds["segue"])
    for task, took in seconds.items():
        values = "   ".join(f"{dice:.4f} {hd95:.3f} {nsd:.4f}" for dice, hd95, nsd in results[task])
        median = statistics.median(took)
        print(f"{task:<22}{median:>8.3f}{min(took):>8.3f}{median / ours:>7.1f}   {values}")


def whole_body(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth of a body (label 1) with 60 lesions (label 2), made slice by slice."""
    import numpy as np

    random = np.random.default_rng(0)
    x, y = np.ogrid[: shape[0], : shape[1]]
    maps = np.zeros((2, *shape), np.uint8)
    for k in range(shape[2]):
        for number in range(2):
            wide = 0.42 + 0.03 * np.sin(k / 17 + number / 3)
            inside = ((x / shape[0] - 0.5) / wide) ** 2 + ((y / shape[1] - 0.5) / (0.7 * wide)) ** 2 < 1
            maps[number, ..., k] = inside & (random.random((shape[0], shape[1])) > 1e-3)
    for _ in range(60):
        centre = [random.integers(int(0.3 * size), int(0.7 * size)) for size in shape]
        for number in range(2):
            radius = int(random.integers(1, 7))
            box = tuple(slice(middle - radius, middle + radius + 1) for middle in centre)
            maps[number][box] = 2
    return maps[0], maps[1]


def measure_peak(shape: tuple[int, int, int]) -> None:
    from segue.metrics import brats_lesionwise, lesion_counts, overlap, surface_scores, unmatched_voxels

    prediction, truth = whole_body(shape)
    started = time.perf_counter()
    overlap(prediction, truth, LABELS)
    for label in LABELS:
        masks = prediction == label, truth == label
        surface_scores(*masks, SPACING_MM, TOLERANCE_MM)
        lesion_counts(*masks)
        unmatched_voxels(*masks)
        if label == 2:
            brats_lesionwise(*masks, SPACING_MM)
    took = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"whole-body masks of {shape}: {took:.1f} s, {peak:.2f} {PEAK_ENDING}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="voxels along each axis")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--whole-body", type=int, nargs=3, default=[400, 400, 300], metavar="VOXELS")
    parser.add_argument("--only-memory", action="store_true")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy comes
    if given.only_memory:
        measure_peak(tuple(given.whole_body))
        return
    # A child's peak memory counts from its parent's: this process is still small.
    words = ["--only-memory", "--whole-body", *map(str, given.whole_body)]
    print(subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True).stdout, end="")
    warnings.simplefilter("ignore")  # both peers use what their own dependencies deprecate
    import numpy as np

    prediction, truth = organs(given.size)
    compare("surfaces close together", prediction, truth, given.rounds)
    compare("prediction shifted by 15 voxels", np.roll(prediction, 15, axis=0), truth, given.rounds)


if __name__ == "__main__":
    main()
