"""Are tumours of 0.02 to 0.10 % of a whole-body PET/CT found? Lesions and false positives on the synthetic patients.

    python benchmarks/synthetic_petct.py --patients 50 --minutes 30

Makes the patients (``segue get synthetic/petct``; at full size PET and CT of 200x200x150 voxels of 2x2x3 mm, 2 s and
10 MB each, 2 to 4 lesions), trains on four folds of them, and counts on the fifth, on the images' own grid. A lesion is
a 26-connected component of the truth; it is found where the prediction shares at least one voxel with it. A false
positive is a 26-connected component of the prediction that shares none with the truth.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np

from segue.acquire import GetOptions, get
from segue.catalogue import resolve
from segue.evaluate import metrics_table
from segue.images import read_labels
from segue.prepare import Budget, read_mask
from segue.synth import PetCtSettings
from segue.train import Run, read_events
from segue.workflow.experiment import Experiment
from segue.workflow.training import brought, train

SENSITIVITY, FALSE_POSITIVES = 0.95, 1.0


@dataclass(frozen=True)
class Counts:
    """Of one patient; ``share`` is the part of the voxels that is lesion."""

    case: str
    lesions: int
    found: int
    false_positives: int
    share: float


def count(case: str, truth: np.ndarray, prediction: np.ndarray) -> Counts:
    """Lesions, those found, and components of the prediction without any lesion; of two masks ``(i, j, k)``."""
    drawn, lesions = cc3d.connected_components(truth > 0, connectivity=26, return_N=True)
    answered, answers = cc3d.connected_components(prediction > 0, connectivity=26, return_N=True)
    both = (drawn > 0) & (answered > 0)
    found, touching = np.unique(drawn[both]), np.unique(answered[both])
    return Counts(case, lesions, len(found), answers - len(touching), float(np.mean(truth > 0)))


def wilson_ci95(hits: int, number: int) -> tuple[float, float]:
    """The interval of a proportion (Wilson, 1927); of nothing, everything."""
    if not number:
        return 0.0, 1.0
    z, share = 1.959964, hits / number
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return float(middle - half), float(middle + half)


def table(counts: Sequence[Counts]) -> str:
    """A line per patient, then sensitivity and false positives per patient, and whether both are as wanted."""
    lines = [f"{'patient':<20}{'lesions':>8}{'found':>7}{'false positives':>17}{'foreground':>12}"]
    lines += [
        f"{one.case:<20}{one.lesions:>8}{one.found:>7}{one.false_positives:>17}{one.share:>12.3%}" for one in counts
    ]
    lesions, found = sum(one.lesions for one in counts), sum(one.found for one in counts)
    wrong = sum(one.false_positives for one in counts)
    low, high = wilson_ci95(found, lesions)
    sensitivity, each = found / max(lesions, 1), wrong / len(counts)
    enough, few = ("pass" if fine else "fail" for fine in (sensitivity >= SENSITIVITY, each <= FALSE_POSITIVES))
    lines += [
        f"sensitivity {sensitivity:.3f} ({low:.3f} to {high:.3f}), {found} of {lesions} lesions; "
        f"wanted at least {SENSITIVITY}: {enough}",
        f"false positives {each:.2f} a patient, {wrong} in {len(counts)}; wanted at most {FALSE_POSITIVES:g}: {few}",
    ]
    return "\n".join(lines)


def count_run(run: Run, experiment: Experiment) -> list[Counts]:
    """Of every validation case of a run."""
    cases = {case.id: case for case in brought(experiment).cases}
    counts = []
    for entry in run.json("split.json")["val"]:
        case = cases[entry["id"]]
        assert case.label is not None, "validation cases are annotated"
        prediction = read_labels(run.predictions("val") / f"{case.id}.nii.gz")
        counts.append(count(case.id, read_mask(case.label).array[0], prediction.array[0]))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=50)
    parser.add_argument("--size", choices=["full", "small"], default="full")
    parser.add_argument("--negatives", type=float, default=0.0, help="part of the patients without lesions")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training; the rest is said beside it")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the training; the patients are always the same")
    parser.add_argument("--work", type=Path, help="keep patients and runs here (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        started = time.monotonic()
        settings = PetCtSettings(size=options.size, negatives=options.negatives)
        card, root = resolve("synthetic/petct", work / "data")
        get(card, root, GetOptions(number=options.patients, synthetic=settings))
        print(f"{options.patients} patients made in {time.monotonic() - started:.0f} s", flush=True)
        experiment = Experiment(
            dataset="synthetic/petct",
            data=work / "data",
            output=work / "runs" / f"{options.size}-{options.fold}-{options.seed}",
            fold=options.fold,
            seed=options.seed,
            budget=Budget(minutes=options.minutes),
        )
        started = time.monotonic()
        run, evaluations = train(experiment)
        whole = time.monotonic() - started
        events = read_events(run.events)
        begun = next(e for e in events if e["event"] == "started")
        ended = next(e for e in events if e["event"] == "finished")
        print(f"{begun['device']}, {begun['precision']}, {ended['step']} steps in {ended['seconds'] / 60:.1f} min")
        print(f"{whole / 60:.1f} min with check, preparation, prediction and report")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
        print(metrics_table(evaluations[0]))
        print(table(count_run(run, experiment)))


if __name__ == "__main__":
    main()
