"""Copies of real hippocampi, damaged on purpose: each damage is one that people report of their data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def copied(source: Path, target: Path, count: int = 12) -> list[str]:
    """The first annotated hippocampi in a folder of their own; returns their names."""
    listing = json.loads((source / "dataset.json").read_text())
    listing["training"] = listing["training"][:count]
    listing["test"] = []
    for entry in listing["training"]:
        for path in entry.values():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, target / path)
    (target / "dataset.json").write_text(json.dumps(listing))
    return [Path(entry["image"]).name.removesuffix(".nii.gz") for entry in listing["training"]]


def change(folder: Path, name: str, what: str, how: Change) -> None:
    """Rewrite ``imagesTr`` or ``labelsTr`` of one case: ``how`` gets voxels and affine."""
    path = folder / what / f"{name}.nii.gz"
    image = nib.load(path)
    array, affine = how(np.asanyarray(image.dataobj).copy(), image.affine.copy())
    made = nib.Nifti1Image(array, affine)
    made.set_qform(affine, 1)
    made.set_sform(affine, 1)
    made.to_filename(path)


def shifted(mm: float) -> Change:
    """The same voxels, ``mm`` millimetres to the right."""

    def how(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine[0, 3] += mm
        return array, affine

    return how


def voxels(how: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Other values on the same grid."""
    return lambda array, affine: (how(array), affine)
