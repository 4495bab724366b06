"""``check FILE``: what one file is, in one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segue.core.files import parse_json
from segue.dicom import looks_like_dicom, read_segments, tag_text
from segue.dicom.files import read_dataset
from segue.images import array_headers, image_stem, read
from segue.prepare.examine_image import is_label_map
from segue.volume import Geometry, Volume

_MOST_DISTINCT = 20
_AIR_HU = -900
_HEADER = ["Modality", "Manufacturer", "ManufacturerModelName", "Units", "NumberOfFrames", "ImageType"]

Rows = list[tuple[str, str]]


def describe(path: Path) -> Rows:
    """What a file is: its kind, grid, orientation, spacing, unit and range; of masks, what they name.

    Raises:
        DataError: it cannot be read.
    """
    rows = [("file", str(path))]
    if path.suffix == ".npz":
        arrays = array_headers(path).items()
        return rows + [(name, f"{'x'.join(map(str, header.shape))} {header.dtype}") for name, header in arrays]
    header = _dicom_header(path)
    modality = tag_text(header, "Modality") if header is not None else ""
    if modality == "RTSTRUCT":
        return rows + _structures(path)
    if modality == "SEG":
        return rows + _segments(path)
    volume = read(path)
    rows += _what(path, volume, header) + _grid(volume.geometry, len(volume.array)) + _values(volume.array)
    return rows + _named(path, volume)


def _dicom_header(path: Path) -> Any:
    return read_dataset(path, tags=_HEADER) if looks_like_dicom(path) else None


def _structures(path: Path) -> Rows:
    dataset = read_dataset(path)
    names = [tag_text(item, "ROIName") for item in dataset.get("StructureSetROISequence") or []]
    return [("what", f"DICOM RTSTRUCT: contours of {len(names)} structures"), ("names", ", ".join(names))]


def _segments(path: Path) -> Rows:
    masks = read_segments(path)
    listed = [
        (
            f"label {segment.number}",
            f"{segment.name}, {np.count_nonzero(segment.mask) * masks.geometry.voxel_ml:.3g} ml",
        )
        for segment in masks.segments[:_MOST_DISTINCT]
    ]
    return [("what", f"DICOM-SEG: {len(masks.segments)} segments"), *_grid(masks.geometry, 1), *listed]


def _what(path: Path, volume: Volume, header: Any) -> Rows:
    if header is not None:
        device = " ".join(part for tag in _HEADER[1:3] if (part := tag_text(header, tag)))
        unit = tag_text(header, "Units") or volume.unit
        what = f"DICOM {tag_text(header, 'Modality')}, {tag_text(header, 'ImageType')}" + (
            f", {device}" if device else ""
        )
        return [("what", what), ("unit", unit)]
    told = _sidecar(path).get("unit")
    return [
        ("what", _kind(path, volume.array)),
        ("unit", f"{told} (its sidecar says so)" if told else _unit(volume.array)),
    ]


def _sidecar(path: Path) -> dict[str, Any]:
    """What ``segue convert`` wrote about an image."""
    try:
        told = parse_json((path.parent / f"{image_stem(path)}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _named(path: Path, volume: Volume) -> Rows:
    """The names of labels, and how much there is of each, where the sidecar has them."""
    labels = _sidecar(path).get("labels")
    if not isinstance(labels, dict) or volume.array.dtype.kind not in "iu":
        return []
    sizes = ((label, name, (volume.array == int(label)).sum()) for label, name in labels.items() if label.isdigit())
    return [(f"label {label}", f"{name}, {size * volume.geometry.voxel_ml:.3g} ml") for label, name, size in sizes][
        :_MOST_DISTINCT
    ]


def _kind(path: Path, array: np.ndarray) -> str:
    if len(array) in (3, 4) and array.dtype == np.uint8:
        return "colour image"
    if "labels" in _sidecar(path):
        return "label map"
    return "image or label map (few whole numbers from 0)" if is_label_map(array) else "image"


def _unit(array: np.ndarray) -> str:
    finite = array[np.isfinite(array)]
    if finite.size and _AIR_HU * 4 <= finite.min() <= _AIR_HU and finite.max() > 100:
        return "not told; the range is that of HU"
    return "not told"


def _grid(geometry: Geometry, channels: int) -> Rows:
    extent = [n * s for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True)]
    sheared = f", sheared by {geometry.shear_degrees:.1f} degrees" if geometry.is_sheared else ""
    return [
        ("voxels", "x".join(map(str, geometry.shape)) + (f", {channels} channels" if channels > 1 else "")),
        ("spacing mm", " x ".join(f"{value:.4g}" for value in geometry.spacing_mm)),
        ("extent mm", " x ".join(f"{value:.0f}" for value in extent)),
        ("orientation", geometry.axis_codes + sheared),
    ]


def _values(array: np.ndarray) -> Rows:
    rows = [("type", str(array.dtype))]
    finite = array[np.isfinite(array)]
    if finite.size:
        rows.append(("values", f"{finite.min():.6g} to {finite.max():.6g}, mean {finite.mean(dtype=np.float64):.6g}"))
    if array.dtype.kind in "iu":
        numbers = np.unique(array)
        if len(numbers) <= _MOST_DISTINCT:
            rows.append(("distinct", ", ".join(map(str, numbers.tolist()))))
    return rows
