"""Soft-tissue sarcoma: does PET beside CT help? Cross-validated Dice of PET+CT, PET alone and CT alone.

    python benchmarks/sts_petct.py --source PATH/sts-petct/nifti --minutes 6

27 patients with PET and CT on different grids, cropped 5 cm round the tumour (which tells something about where it
is; whole bodies are harder). Both are brought to the CT's grid: it is the finer one (1 mm in the plane where the PET
has 4 to 5.5), so neither the mask's outline nor the CT is blurred, and the PET covers 91 % or more of it, while the CT
covers as little as 74 % of the PET's. Outside the PET's field of view the SUV is 0.

Every patient is predicted by the fold that did not train on it. Dice per patient on the CT's grid; the intervals are
95 % bootstrap intervals over patients, those of differences over the patients' own differences.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from segue.images import read, read_labels, write
from segue.metrics import bootstrap_ci95
from segue.volume import Volume

SOURCE = Path("../shared/data/sts-petct/nifti")
UNITS = {"CT": "HU", "PET": "SUV"}
CHANNELS = {"petct": ("CT", "PET"), "pet": ("PET",), "ct": ("CT",)}


def card_text(name: str) -> str:
    """The card of one set of channels; all of them lie in one folder and share images, masks and folds."""
    channels = ", ".join(f"{{name: {channel}, unit: {UNITS[channel]}}}" for channel in CHANNELS[name])
    images = ", ".join(f'{channel}: "images/{{case}}_{channel}.nii.gz"' for channel in CHANNELS[name])
    return (
        f"name: sts_{name}\n"
        f"title: Soft-tissue sarcoma, {' and '.join(CHANNELS[name])}\n"
        f"modalities: [{', '.join(CHANNELS[name])}]\n"
        f"channels: [{channels}]\n"
        "labels: {1: tumour}\n"
        "mirror_axes: [left-right]\n"
        "licence: {spdx: CC-BY-3.0}\n"
        f'layout: {{kind: files, images: {{{images}}}, labels: "labels/{{case}}.nii.gz"}}\n'
    )


def on_one_grid(folder: Path) -> dict[str, Volume]:
    """CT, PET on the CT's grid, and the CT's mask, of one patient's folder."""
    ct = read(folder / "CT_image.nii.gz")
    pet = read(folder / "PET_image.nii.gz").resampled_to(ct.geometry, order=1)
    mask = read_labels(folder / "CT_mask.nii.gz")
    return {"CT": ct, "PET": pet, "mask": mask}


def write_dataset(source: Path, output: Path, patients: int | None = None) -> dict[str, Path]:
    """Images, masks and a card per set of channels in ``output``; returns the cards."""
    folders = sorted(path.parent for path in source.glob("*/CT_image.nii.gz"))[:patients]
    if not folders:
        raise SystemExit(f"{source}: no PATIENT/CT_image.nii.gz there; give its folder by --source")
    for folder in folders:
        found = on_one_grid(folder)
        for channel in UNITS:
            write(found[channel], output / "images" / f"{folder.name}_{channel}.nii.gz")
        write(found["mask"], output / "labels" / f"{folder.name}.nii.gz")
    cards = {name: output / f"{name}.yaml" for name in CHANNELS}
    for name, path in cards.items():
        path.write_text(card_text(name))
    return cards


def case_dice(metrics: Path, label: str = "tumour") -> dict[str, float]:
    """The Dice of each validation case out of a run's ``metrics.json``."""
    cases = json.loads(metrics.read_text())["val"]["cases"]
    return {name: case["labels"][label]["dice"] for name, case in cases.items()}


def interval(values: Mapping[str, float]) -> str:
    """``0.812 (0.790 to 0.833)``: the mean over patients and its bootstrap interval."""
    numbers = np.array(list(values.values()))
    found = bootstrap_ci95(numbers, list(values))
    return f"{numbers.mean():.3f}" + ("" if found is None else f" ({found[0]:.3f} to {found[1]:.3f})")


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Patient by patient; both must have measured the same ones."""
    if set(one) != set(other):
        raise SystemExit(f"not the same patients: {sorted(set(one) ^ set(other))}")
    return {name: one[name] - other[name] for name in one}


def summary(dice: Mapping[str, Mapping[str, float]]) -> str:
    """A line per set of channels, then PET+CT minus each of the others."""
    lines = [f"{'channels':<16}{'patients':>9}{'median':>8}  mean Dice (95 % interval)"]
    for name, values in dice.items():
        lines.append(f"{name:<16}{len(values):>9}{np.median(list(values.values())):>8.3f}  {interval(values)}")
    for name in dice:
        if name != "petct" and "petct" in dice:
            differences = difference(dice["petct"], dice[name])
            better = sum(value > 0 for value in differences.values())
            lines.append(
                f"{'petct - ' + name:<16}{len(differences):>9}{'':>8}  {interval(differences)}; better in {better}"
            )
    return "\n".join(lines)


def cross_validate(card: Path, folds: Sequence[int], minutes: float, seed: int, work: Path) -> dict[str, float]:
    """Train each fold and return the Dice of all patients that some fold held out."""
    from segue.prepare import Budget
    from segue.train import read_events
    from segue.workflow.experiment import Experiment
    from segue.workflow.training import train

    dice: dict[str, float] = {}
    for fold in folds:
        run, _ = train(
            Experiment(
                dataset=str(card),
                data=work / "data",
                output=work / "runs" / f"{card.stem}-{fold}-{seed}",
                fold=fold,
                seed=seed,
                budget=Budget(minutes=minutes),
            )
        )
        found = case_dice(run.metrics)
        ended = read_events(run.events)[-1]
        print(f"{card.stem}, fold {fold}: {ended['step']} steps, {len(found)} patients, {interval(found)}", flush=True)
        dice |= found
    return dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE)
    parser.add_argument("--minutes", type=float, default=6.0, help="of training, each fold of each set of channels")
    parser.add_argument("--channels", default="petct,pet,ct", help="any of petct, pet, ct")
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patients", type=int, help="only the first so many")
    parser.add_argument("--work", type=Path, help="keep images and runs here; a run that is there goes on")
    parser.add_argument("--only-images", type=Path, help="write the images and their cards there, and stop")
    options = parser.parse_args()
    names = options.channels.split(",")
    if unknown := sorted(set(names) - set(CHANNELS)):
        parser.error(f"--channels: {', '.join(unknown)}; there are {', '.join(CHANNELS)}")
    if options.only_images:
        write_dataset(options.source, options.only_images, options.patients)
        return
    folds = [int(word) for word in options.folds.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        started = time.monotonic()
        cards = write_dataset(options.source, work / "images", options.patients)
        print(f"images on one grid in {time.monotonic() - started:.1f} s", flush=True)
        dice = {name: cross_validate(cards[name], folds, options.minutes, options.seed, work) for name in names}
        print(f"{options.minutes:g} minutes a fold, folds {options.folds}, seed {options.seed}")
        print(summary(dice))
        print(f"{(time.monotonic() - started) / 60:.1f} minutes in all")


if __name__ == "__main__":
    main()
