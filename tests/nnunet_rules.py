"""The rules of nnU-Net's documentation (dataset_format, region_based_training, ignore_label, manual_data_splits) as
checks, and its way from predicted regions back to labels. Reads with SimpleITK, not with segue."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk


def listing(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "dataset.json").read_text(encoding="utf-8"))


def mask(path: Path) -> np.ndarray:
    """A mask's voxels as SimpleITK orders them."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def check(folder: Path) -> list[str]:
    """Assert every rule; the names of the training cases."""
    assert re.fullmatch(r"Dataset\d{3}_[A-Za-z0-9_]+", folder.name)
    told = listing(folder)
    assert {"channel_names", "labels", "numTraining", "file_ending"} <= set(told)
    ending = told["file_ending"]
    channels = list(told["channel_names"])
    assert channels == [str(n) for n in range(len(channels))]
    allowed = _check_labels(told)
    cases = sorted(path.name.removesuffix(ending) for path in _visible(folder / "labelsTr"))
    assert len(cases) == told["numTraining"] > 0
    assert len({case.casefold() for case in cases}) == len(cases)
    assert not [case for case in cases if re.search(r"_\d{4}$", case)]
    assert {path.name[: -len(ending) - 5] for path in _visible(folder / "imagesTr")} == set(cases)
    for case in cases:
        _check_case(folder, case, ending, len(channels), allowed, "Tr")
    for path in _visible(folder / "labelsTs"):
        _check_case(folder, path.name.removesuffix(ending), ending, len(channels), allowed, "Ts")
    for path in _visible(folder / "imagesTs"):
        assert re.fullmatch(rf".+_\d{{4}}{re.escape(ending)}", path.name)
    if (folder / "splits_final.json").exists():
        _check_splits(folder, cases, told["patients"])
    return cases


def painted(told: dict[str, Any], true: np.ndarray) -> np.ndarray:
    """The label map that nnU-Net would give back if it predicted every region perfectly."""
    regions = [members for name, members in told["labels"].items() if name not in ("background", "ignore")]
    result = np.zeros_like(true)
    for members, number in zip(regions, told["regions_class_order"], strict=True):
        result[np.isin(true, members)] = number
    return result


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if not path.name.startswith(".")] if folder.exists() else []


def _check_labels(told: dict[str, Any]) -> set[int]:
    labels = told["labels"]
    assert labels["background"] == 0
    others = {name: value for name, value in labels.items() if name != "ignore"}
    numbers = {n for value in others.values() for n in (value if isinstance(value, list) else [value])}
    assert numbers == set(range(len(numbers)))
    if any(isinstance(value, list) for value in others.values()):
        assert len(told["regions_class_order"]) == len(others) - 1
        assert all(len(value) > 1 for value in others.values() if isinstance(value, list))
    else:
        assert "regions_class_order" not in told
    if "ignore" in labels:
        assert labels["ignore"] == len(numbers)
        numbers.add(labels["ignore"])
    return numbers


def _check_case(folder: Path, case: str, ending: str, channels: int, allowed: set[int], part: str) -> None:
    images = sorted((folder / f"images{part}").glob(f"{case}_????{ending}"))
    read = [sitk.ReadImage(str(path)) for path in images]
    if ending == ".png":
        counted = sum(image.GetNumberOfComponentsPerPixel() for image in read)
        assert len(images) == 1 or counted == len(images)
    else:
        counted = len(read)
        assert [path.name for path in images] == [f"{case}_{n:04d}{ending}" for n in range(counted)]
    assert counted == channels
    true = sitk.ReadImage(str(folder / f"labels{part}" / f"{case}{ending}"))
    for image in read:
        assert image.GetSize() == true.GetSize()
        assert np.allclose(image.GetSpacing(), true.GetSpacing())
        assert np.allclose(image.GetOrigin(), true.GetOrigin(), atol=1e-3)
        assert np.allclose(image.GetDirection(), true.GetDirection(), atol=1e-5)
    if ending != ".png":
        affine = nibabel.load(folder / f"labels{part}" / f"{case}{ending}").affine
        assert all(np.allclose(nibabel.load(path).affine, affine, atol=1e-4) for path in images)
    values = sitk.GetArrayFromImage(true)
    assert values.dtype.kind == "u"
    assert set(np.unique(values).tolist()) <= allowed


def _check_splits(folder: Path, cases: list[str], patients: dict[str, str]) -> None:
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert set(fold) == {"train", "val"}
        assert fold["train"]
        assert fold["val"]
        assert sorted(fold["train"] + fold["val"]) == cases
        sides = [{patients.get(case, case) for case in fold[side]} for side in ("train", "val")]
        assert not sides[0] & sides[1]
