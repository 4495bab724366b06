"""Several volumes in one DICOM series: echoes, time points, parts; and what then becomes of SUV and of studies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_studies import Study
from segue.acquire.convert import ConvertOptions, convert
from segue.dicom import DicomError, read_series, scan, suv, write_segments
from segue.volume import Volume
from test_dicom import PIXELS, made, multi_frame, place

# Two volumes of two slices: image n of PIXELS lies at place n // 2.
Mark = Callable[[Dataset, int], None]


def written(folder: Path, mark: Mark) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for number in range(4):
        dataset = made(number)
        place(dataset, 0, 0, 2.5 * (number // 2))
        mark(dataset, number)
        paths.append(folder / f"{number * 3 % 4}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def voxels(*numbers: int) -> np.ndarray:
    """``(i, j, k)`` of these images of ``PIXELS``, in Hounsfield units."""
    return PIXELS[list(numbers)].astype(int).transpose(2, 1, 0) - 1024


def echo(dataset: Dataset, number: int) -> None:
    dataset.EchoTime = 10.2 if number % 2 == 0 else 9.5  # as texts they would sort the other way round


def moment(dataset: Dataset, number: int) -> None:
    """Every slice has a time of its own; those of the second volume are later, place by place."""
    dataset.AcquisitionTime = ["120000.5", "120003", "120001", "120004"][number]


def part(dataset: Dataset, number: int) -> None:
    """Phase comes before magnitude in the numbers of the images."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "P" if number % 2 else "M"]
    dataset.InstanceNumber = [3, 1, 4, 2][number]


def weighting(dataset: Dataset, number: int) -> None:
    """An unweighted and a weighted image at each place, in no order."""
    dataset.DiffusionBValue = 1000.0 if number in (1, 2) else 0.0
    dataset.AcquisitionTime = "120000"
    dataset.InstanceNumber = [1, 3, 2, 4][number]


@pytest.mark.parametrize(
    ("mark", "volumes", "differ_in", "values"),
    [
        (echo, [(1, 3), (0, 2)], "EchoTime", ("9.5", "10.2")),
        (moment, [(0, 2), (1, 3)], "AcquisitionTime", ()),
        (part, [(1, 3), (0, 2)], "ImageType", ("ORIGINAL\\PRIMARY\\P", "ORIGINAL\\PRIMARY\\M")),
        (weighting, [(0, 3), (1, 2)], "DiffusionBValue", ("0.0", "1000.0")),
    ],
)
def test_volumes_are_channels_in_their_order(
    tmp_path: Path, mark: Mark, volumes: list[tuple[int, ...]], differ_in: str, values: tuple[str, ...]
) -> None:
    found = read_series(written(tmp_path, mark))
    assert (found.differ_in, found.values) == (differ_in, values)
    assert np.array_equal(found.volume.array, np.stack([voxels(*numbers) for numbers in volumes]))
    assert found.volume.geometry.shape == (5, 6, 2)
    assert len(found.headers) == 4


def test_volumes_beside_each_other_are_refused(tmp_path: Path) -> None:
    def moved(dataset: Dataset, number: int) -> None:
        echo(dataset, number)
        place(dataset, number % 2, 0, 2.5 * (number // 2))

    with pytest.raises(DicomError, match=r"beside each other.*volume 2 of 2 by up to 1\.000 mm") as caught:
        read_series(written(tmp_path, moved))
    assert caught.value.reason == "SHIFTED_SLICES"


def test_frames_of_two_echoes_in_one_file(tmp_path: Path) -> None:
    dataset = multi_frame([0, 0, 1, 1])
    dataset.PixelData = PIXELS.tobytes()
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PixelValueTransformationSequence[0].RescaleSlope = 1
        inner = Dataset()
        inner.TemporalPositionIndex = 2 - number % 2
        group.TemporalPositionSequence = [inner]
    dataset.save_as(tmp_path / "x", enforce_file_format=True)
    found = read_series([tmp_path / "x"])
    assert found.differ_in == "TemporalPositionIndex"
    assert np.array_equal(found.volume.array, np.stack([voxels(1, 3), voxels(0, 2)]))


def dynamic(folder: Path) -> Study:
    """A PET of two time points of one series."""
    study = Study(folder, "DYN", True)
    frames = [np.full((3, 8, 8), value) for value in (1000.0, 3000.0)]
    first = study.add("PT", frames[0], FrameReferenceTime=1000.0, AcquisitionTime="101500")
    study.add("PT", frames[1], FrameReferenceTime=2000.0, AcquisitionTime="102000", SeriesInstanceUID=first)
    return study


def test_a_dynamic_pet_is_read_and_has_no_suv(tmp_path: Path) -> None:
    dynamic(tmp_path / "in")
    (series,) = scan(tmp_path / "in")
    found = read_series(series)
    assert np.allclose(found.volume.array.mean(axis=(1, 2, 3)), [1000, 3000], rtol=1e-3)
    with pytest.raises(DicomError, match="FrameReferenceTime") as caught:
        suv(found)
    assert caught.value.reason == "SEVERAL_VOLUMES"
    labels = Volume(np.ones((1, *found.volume.geometry.shape), np.uint8), found.volume.geometry, "labels")
    with pytest.raises(DicomError) as caught:
        write_segments(labels, tmp_path / "x.dcm", series)
    assert caught.value.reason == "SEVERAL_VOLUMES"


def test_a_dynamic_pet_in_a_study(tmp_path: Path) -> None:
    dynamic(tmp_path / "in")
    done = convert(tmp_path / "in", tmp_path / "out", ConvertOptions())
    assert [row.reason for row in done.studies] == ["SEVERAL_VOLUMES"]
    (path,) = tmp_path.glob("out/*/*/PET.nii.gz")
    assert nibabel.load(path).shape == (8, 8, 3, 2)
    facts = json.loads(path.with_name("PET.json").read_text())
    assert facts["volumes"] == {"count": 2, "differ_in": "FrameReferenceTime", "values": ["1000.0", "2000.0"]}
    assert not list(tmp_path.glob("out/*/*/SUV.nii.gz"))
