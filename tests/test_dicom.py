"""DICOM series: real ones against NIfTI references and SimpleITK, made ones for every refusal."""

from __future__ import annotations

import io
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from segue.core.errors import DataError, MachineError
from segue.dicom import REMEDIES, DicomError, DicomVolume, Series, read_frames, read_series, scan, tag_text

READ = [
    "anatomical/001",
    "anatomical/001_implicit",
    "failing/slicecount/001",
    "ge/anatomical/001",
    "ge/anatomical/001_implicit",
    "ge/anatomical/001_single_slice",
    "generic/anatomical/001",
    "generic/anatomical/001_implicit",
    "generic/anatomical/002_non_isotropic",
    "generic/compressed/001",
    "generic/compressed_j2k/001",
    "generic/compressed_jpeg/001",
    "generic/compressed_jpegls/001",
    "generic/compressed_rle/001",
    "siemens/anatomical/001",
    "siemens/anatomical/001_implicit",
    "siemens/fmri_classic/001",
    "siemens/fmri_classic/001_implicit",
]
# What the numbers in the messages are comes from the headers: positions and orientation of each slice.
REFUSED = {
    "failing/gantrytilting/001": ("GANTRY_TILT", "14.00 degrees"),
    "failing/sliceincrement/001": ("MISSING_SLICE", "10.000 mm"),
    "failing/sliceincrement/002": ("MISSING_SLICE", "1.499 mm"),
    "generic/rgb/001": ("COLOUR", "RGB"),
    "siemens/fmri/001": ("MOSAIC", "MOSAIC"),
    "siemens/fmri/001_implicit": ("MOSAIC", "MOSAIC"),
}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def refusal(series: Any) -> DicomError:
    with pytest.raises(DicomError) as caught:
        read_series(series)
    assert caught.value.reason in REMEDIES
    assert caught.value.remedy
    return caught.value


# Real series


@pytest.mark.parametrize("name", READ)
def test_real_series_equal_their_reference(test_data: Path, name: str) -> None:
    folder = test_data / "dicom" / "dicom2nifti" / name
    theirs = nibabel.as_closest_canonical(nibabel.load(f"{folder}_ground_truth.nii.gz"))
    ours = read_series(files(folder)).volume.oriented("RAS")
    # The references hold float64 where slopes are fractions; ours are their float32.
    voxels = np.asarray(theirs.dataobj).astype(ours.array.dtype)
    assert np.array_equal(ours.array, np.moveaxis(voxels, -1, 0) if voxels.ndim == 4 else voxels[None])
    assert np.abs(ours.geometry.affine - theirs.affine).max() < 1e-3


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_real_series_that_are_no_volume_are_refused(test_data: Path, name: str) -> None:
    error = refusal(files(test_data / "dicom" / "dicom2nifti" / name))
    assert (error.reason, REFUSED[name][1] in str(error)) == (REFUSED[name][0], True)


def test_every_series_of_the_folder_is_read_or_refused_here(test_data: Path) -> None:
    root = test_data / "dicom" / "dicom2nifti"
    assert {str(path.parent.relative_to(root)) for path in root.rglob("*.dcm")} == {*READ, *REFUSED}


def test_one_of_several_volumes_is_read_by_its_files(test_data: Path) -> None:
    root = test_data / "dicom" / "dicom2nifti" / "siemens" / "fmri_classic"
    chosen = [path for path in files(root / "001") if pydicom.dcmread(path).AcquisitionNumber == 1]
    theirs = nibabel.as_closest_canonical(nibabel.load(root / "001_ground_truth.nii.gz"))
    ours = read_series(chosen).volume.oriented("RAS")
    assert np.array_equal(ours.array[0], np.asarray(theirs.dataobj)[..., 0])


def test_nine_encodings_are_the_same_pixels(test_data: Path) -> None:
    paths = files(test_data / "dicom" / "dcm_qa_ts" / "In")
    syntaxes = {str(pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID) for path in paths}
    first = read_frames(paths[0])
    assert len(paths) == 9
    assert len(syntaxes) >= 7
    assert first.shape == (1, 384, 384)
    assert first.max() > 100
    for path in paths[1:]:
        assert np.array_equal(read_frames(path), first), path


def itk(folder: Path, uid: str) -> tuple[np.ndarray, np.ndarray]:
    """SimpleITK's array ``(i, j, k)`` and its affine in RAS."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), np.diag([-1, -1, 1, 1]) @ affine


def assert_as_itk(series: Series) -> DicomVolume:
    ours = read_series(series)
    values, affine = itk(series.files[0].parent, series.uid)
    assert ours.volume.array.shape[1:] == values.shape
    # ITK computes in float64.
    assert np.allclose(ours.volume.array[0], values, rtol=1e-6, atol=1e-4)
    assert np.abs(ours.volume.geometry.affine - affine)[:3, :2].max() < 1e-5
    last = [0, 0, values.shape[2] - 1, 1]
    assert np.abs(ours.volume.geometry.affine @ last - affine @ last).max() < 0.05
    return ours


def test_raw_ge_pet(test_data: Path) -> None:
    (series,) = (s for s in scan(test_data / "sts001-raw-pet") if s.modality == "PT")
    assert (series.frames, len(series.files)) == (267, 267)
    ours = assert_as_itk(series)
    assert ours.volume.geometry.shape == (128, 128, 267)
    assert ours.volume.array.dtype == np.float32
    assert len({float(header.RescaleSlope) for header in ours.headers}) > 100
    heights = np.array([float(header.ImagePositionPatient[2]) for header in ours.headers])
    assert (np.diff(heights) > 3.18).all()
    assert heights[0] == pytest.approx(ours.volume.geometry.affine[2, 3])
    # The affine's mean spacing puts the last slice exactly where its header says.
    assert (ours.volume.geometry.affine @ [0, 0, 266, 1])[2] == pytest.approx(heights[-1], abs=1e-6)
    assert all("PixelData" not in header for header in ours.headers)


def test_a_slice_taken_out_of_the_raw_ge_pet_is_missed(test_data: Path) -> None:
    (series,) = (s for s in scan(test_data / "sts001-raw-pet") if s.modality == "PT")
    middle = read_series(series).headers[133].SOPInstanceUID
    left = [
        path
        for path in series.files
        if pydicom.dcmread(path, specific_tags=["SOPInstanceUID"])[0x80018].value != middle
    ]
    error = refusal(left)
    assert error.reason == "MISSING_SLICE"
    assert "1 not there" in str(error.value)
    assert "after slice 133 of 266" in str(error.value)


def test_ct_and_pet_as_simpleitk(test_data: Path) -> None:
    series = [s for s in scan(test_data / "sts-petct" / "dicom") if s.modality in {"CT", "PT"}]
    assert sorted(s.modality for s in series) == ["CT", "CT", "PT", "PT", "PT", "PT"]
    for one in series:
        volume = assert_as_itk(one).volume
        assert volume.unit == ("HU" if one.modality == "CT" else "arbitrary")


@pytest.mark.parametrize("name", ["mock_data", "oriented_data", "one_slice_data"])
def test_rt_utils_as_simpleitk(test_data: Path, name: str) -> None:
    # In oriented_data every slice names a study of its own.
    (series,) = (s for s in scan(test_data / "dicom" / "rt-utils" / name) if s.modality == "CT")
    assert len(series.files) == {"mock_data": 2, "oriented_data": 3, "one_slice_data": 1}[name]
    assert_as_itk(series)


def test_several_frames_equal_the_same_slices_as_files(test_data: Path) -> None:
    folder = test_data / "dicom" / "dcmqi" / "segmentations" / "24x38x3"
    single = read_series(files(folder / "image"))
    several = read_series(files(folder / "multiframe"))
    assert np.array_equal(single.volume.array, several.volume.array)
    assert several.volume.geometry.difference(single.volume.geometry) is None
    assert len(several.headers) == 3
    assert several.headers[0] is several.headers[2]


def test_files_without_group_length(test_data: Path) -> None:
    series = [s for s in scan(test_data / "suv-dro") if s.modality == "PT"]
    assert [s.frames for s in series] == [20] * 9
    assert read_series(series[0]).volume.geometry.shape == (256, 256, 20)


# Made series

Change = Callable[[Dataset, int], None]
SHAPE = (4, 6, 5)  # slices, rows, columns
PIXELS = np.random.default_rng(5).integers(0, 4000, SHAPE).astype(np.uint16)


def made(number: int, study: str = "1.2.3", series: str = "1.2.3.4") -> Dataset:
    """An axial CT slice of 5 columns and 6 rows, 0.7 x 0.9 mm, gaps of 2.5 mm."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.FrameOfReferenceUID = "1.2.3.5"
    dataset.PatientID, dataset.Modality, dataset.SeriesDescription = "P1", "CT", "made"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber = 100 - number
    dataset.Rows, dataset.Columns = SHAPE[1:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.ImagePositionPatient = [-10, 20, 2.5 * number]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.9, 0.7], 2.5
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelData = PIXELS[number].tobytes()
    return dataset


def save(folder: Path, change: Change | None = None, count: int = SHAPE[0]) -> list[Path]:
    """Slices under names whose order is not theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        dataset = made(number)
        if change is not None:
            change(dataset, number)
        path = folder / f"{(number * 3 + 1) % count}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def test_slices_are_sorted_by_position(tmp_path: Path) -> None:
    volume = read_series(sorted(save(tmp_path))).volume
    assert np.array_equal(volume.array[0], PIXELS.transpose(2, 1, 0).astype(np.int16) - 1024)
    assert volume.array.dtype == np.int16
    expected = [[-0.7, 0, 0, 10], [0, -0.9, 0, -20], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    assert np.allclose(volume.geometry.affine, expected)


def test_an_oblique_series_keeps_its_directions(tmp_path: Path) -> None:
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, -0.8])
    normal = np.cross(row, column)

    def oblique(dataset: Dataset, number: int) -> None:
        dataset.ImageOrientationPatient = [*row, *column]
        dataset.ImagePositionPatient = [round(float(x), 6) for x in np.array([5, 6, 7]) + normal * 2.5 * number]

    volume = read_series(save(tmp_path, oblique)).volume
    point = np.array([5, 6, 7]) + row * 0.7 * 4 + column * 0.9 * 3 + normal * 2.5 * 2
    assert np.allclose((volume.geometry.affine @ [4, 3, 2, 1])[:3], point * [-1, -1, 1], atol=1e-5)
    assert volume.array[0, 4, 3, 2] == int(PIXELS[2, 3, 4]) - 1024


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    def slopes(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 * (number + 1), 3

    volume = read_series(save(tmp_path, slopes)).volume
    expected = PIXELS * np.array([0.5, 1, 1.5, 2])[:, None, None] + 3
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], expected.transpose(2, 1, 0).astype(np.float32))


def test_whole_numbers_that_do_not_fit_int16_are_float32(tmp_path: Path) -> None:
    def steep(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope = 100

    volume = read_series(save(tmp_path, steep)).volume
    assert volume.array.dtype == np.float32
    assert volume.array.max() == int(PIXELS.max()) * 100 - 1024


def test_monochrome1_keeps_its_values(tmp_path: Path) -> None:
    def inverse(dataset: Dataset, number: int) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    volume = read_series(save(tmp_path, inverse)).volume
    assert np.array_equal(volume.array, read_series(save(tmp_path / "plain")).volume.array)


def test_one_slice_has_its_thickness(tmp_path: Path) -> None:
    volume = read_series(save(tmp_path, count=1)[0]).volume
    assert volume.geometry.shape == (5, 6, 1)
    assert volume.geometry.spacing_mm == pytest.approx((0.7, 0.9, 2.5))


def test_a_copy_of_a_file_counts_once(tmp_path: Path) -> None:
    paths = save(tmp_path)
    shutil.copy(paths[1], tmp_path / "copy")
    assert read_series(files(tmp_path)).volume.geometry.shape == (5, 6, 4)


@pytest.mark.parametrize("syntax", ["implicit", "big", "deflated", "rle", "bare"])
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    dataset = made(0)
    path = tmp_path / "x"
    if syntax == "big":
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        dataset.PixelData = PIXELS[0].astype(">u2").tobytes()
    elif syntax == "deflated":
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    elif syntax == "rle":
        dataset.compress(pydicom.uid.RLELossless)
    else:
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    if syntax == "bare":  # as files were before PS3.10: no preamble, no File Meta Information
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    else:
        dataset.save_as(path, enforce_file_format=True)
    volume = read_series([path]).volume
    assert np.array_equal(volume.array[0, :, :, 0], PIXELS[0].T.astype(np.int16) - 1024)
    assert [series.files for series in scan(tmp_path)] == [(path,)]


def test_jpeg_baseline(tmp_path: Path) -> None:
    grey = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))
    packed = io.BytesIO()
    Image.fromarray(grey).save(packed, "JPEG", quality=95)
    dataset = made(0)
    dataset.Rows, dataset.Columns = grey.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.RescaleIntercept = 0
    dataset.PixelData = encapsulate([packed.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    dataset.save_as(tmp_path / "x", enforce_file_format=True)
    assert np.abs(read_series([tmp_path / "x"]).volume.array[0, :, :, 0].T - grey.astype(int)).max() <= 3


def multi_frame(order: list[int]) -> Dataset:
    """An enhanced CT whose frames lie in ``order``; the second rescale is per frame (PS3.3 C.7.6.16)."""
    dataset = made(0)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, keyword)
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.9, 0.7], 2.5
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in order:
        group, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-10, 20, 2.5 * number]
        values.RescaleSlope, values.RescaleIntercept = number + 1, -1024
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [values]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = PIXELS[order].tobytes()
    return dataset


def test_an_enhanced_image_is_sorted_and_rescaled_by_frame(tmp_path: Path) -> None:
    multi_frame([2, 0, 3, 1]).save_as(tmp_path / "x", enforce_file_format=True)
    (series,) = scan(tmp_path)
    assert series.frames == 4
    ours = read_series(series)
    expected = PIXELS.astype(np.int32) * np.arange(1, 5)[:, None, None] - 1024
    assert np.array_equal(ours.volume.array[0], expected.transpose(2, 1, 0))
    assert ours.volume.geometry.spacing_mm == pytest.approx((0.7, 0.9, 2.5))


def test_a_missing_frame_is_missed(tmp_path: Path) -> None:
    multi_frame([0, 1, 3]).save_as(tmp_path / "x", enforce_file_format=True)
    # Two gaps, 2.5 and 5 mm: the smaller is taken for the usual one.
    assert refusal([tmp_path / "x"]).reason == "MISSING_SLICE"


def place(dataset: Dataset, x: float, y: float, z: float) -> None:
    dataset.ImagePositionPatient = [x, y, z]


def put(**values: Any) -> Change:
    def change(dataset: Dataset, number: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def second(**values: Any) -> Change:
    return lambda dataset, number: put(**values)(dataset, number) if number == 1 else None


def without(keyword: str) -> Change:
    return lambda dataset, number: delattr(dataset, keyword) if number == 1 else None


def small(dataset: Dataset, number: int) -> None:
    if number == 1:
        dataset.Rows, dataset.Columns, dataset.PixelData = 2, 2, bytes(8)


def uneven(dataset: Dataset, number: int) -> None:
    """Two echoes at the first place, one at each of the others."""
    dataset.EchoTime = 4.6 if number else 2.3
    place(dataset, 0, 0, max(0, number - 1))


def unordered(dataset: Dataset, number: int) -> None:
    """Two echoes at each place, but not the same ones, and no numbers of the images."""
    dataset.EchoTime = [2.3, 4.6, 2.3, 9.9][number]
    dataset.InstanceNumber = None
    place(dataset, 0, 0, number // 2)


WRONG: list[tuple[str, Change, str]] = [
    ("COLOUR", put(PhotometricInterpretation="PALETTE COLOR"), "PALETTE"),
    ("DAMAGED", second(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "right angles"),
    ("DAMAGED", second(PixelData=bytes(10)), "decoded"),
    ("DAMAGED", second(PixelSpacing=[0.9]), "2 finite"),
    ("DUPLICATE_POSITION", second(ImagePositionPatient=[-10, 20, 0]), "1 of 3 positions"),
    ("GANTRY_TILT", lambda d, n: place(d, 0, n * 2.5 * np.tan(np.radians(12)), n * 2.5), "12.00 degrees"),
    ("LOCALIZER", put(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "LOCALIZER"),
    ("MISSING_SLICE", lambda d, n: place(d, 0, 0, 2.5 * (n + (n > 2))), "5.000 mm after slice 3 of 4"),
    ("MIXED_ORIENTATION", second(ImageOrientationPatient=[0, 1, 0, 0, 0, 1]), "90"),
    ("MIXED_SIZE", small, "2x2, 6x5"),
    ("MIXED_SIZE", second(PixelSpacing=[0.8, 0.7]), "0.7 to 0.9 mm"),
    ("MODALITY_LUT", put(ModalityLUTSequence=[Dataset()]), "lookup"),
    ("MOSAIC", put(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "MOSAIC"),
    ("NO_PIXELS", without("PixelData"), "no pixels"),
    ("NO_POSITION", without("ImagePositionPatient"), "ImagePositionPatient"),
    ("NO_POSITION", without("ImageOrientationPatient"), "ImageOrientationPatient"),
    ("NO_SPACING", without("PixelSpacing"), "PixelSpacing"),
    ("NOT_AN_IMAGE", put(Modality="SEG"), "SEG"),
    ("SEVERAL_SERIES", second(SeriesInstanceUID="1.2.3.9"), "2 series"),
    ("SEVERAL_VOLUMES", uneven, "up to 2 images at each of 3 positions, they differ in EchoTime"),
    ("SEVERAL_VOLUMES", unordered, "they differ in EchoTime"),
    ("SHIFTED_SLICES", second(ImagePositionPatient=[-10, 21, 2.5]), "slice 2"),
    ("UNEVEN_GAPS", second(ImagePositionPatient=[-10, 20, 3.5]), "1.500 to 3.500 mm"),
]


@pytest.mark.parametrize(("reason", "change", "value"), WRONG, ids=[f"{n}-{w[0]}" for n, w in enumerate(WRONG)])
def test_what_is_no_volume_is_refused(tmp_path: Path, reason: str, change: Change, value: str) -> None:
    error = refusal(save(tmp_path, change))
    assert (error.reason, value in str(error)) == (reason, True), str(error)


def test_every_reason_is_tried() -> None:
    """Here or in the tests of SUV, masks and conversion; and none is raised that has no remedy."""
    here = Path(__file__).parent
    tried = "".join(path.read_text() for path in here.glob("test_*.py"))
    assert [reason for reason in REMEDIES if f'"{reason}"' not in tried] == []
    source = "".join(path.read_text() for path in (here.parent / "src" / "segue").rglob("*.py"))
    assert set(re.findall(r'reason="(\w+)"', source)) <= set(REMEDIES)


def test_nothing_to_read(tmp_path: Path) -> None:
    assert refusal([]).reason == "NO_FILES"
    assert refusal(tmp_path / "none").reason == "NO_FILES"
    (tmp_path / "page.dcm").write_text("<html>login</html>" * 20)
    assert refusal(tmp_path / "page.dcm").reason == "DAMAGED"
    with pytest.raises(DicomError, match="no such folder"):
        scan(tmp_path / "none")


def test_values_as_text() -> None:
    dataset = Dataset()
    dataset.PatientName, dataset.ImageType, dataset.EchoTime = "Doe^Jane", ["ORIGINAL", "PRIMARY"], 2.5
    dataset.PixelSpacing, dataset.Rows, dataset.StudyDate = [0.5, 0.25], 7, "20240229"
    found = {tag: tag_text(dataset, tag) for tag in ("PatientName", "ImageType", "EchoTime", "PixelSpacing", "Rows")}
    assert list(found.values()) == ["Doe^Jane", "ORIGINAL\\PRIMARY", "2.5", "0.5\\0.25", "7"]
    assert (tag_text(dataset, "StudyDate"), tag_text(dataset, "PatientID")) == ("20240229", "")


def test_a_radiograph_is_a_picture(test_data: Path, tmp_path: Path) -> None:
    path = test_data / "dicom" / "highdicom" / "dx_image.dcm"
    header = pydicom.dcmread(path)
    found = read_series(path).volume
    assert np.array_equal(found.array[0, :, :, 0].T, header.pixel_array)
    assert found.geometry.spacing_mm[:2] == pytest.approx(header.ImagerPixelSpacing[::-1])
    assert found.geometry.axis_codes == "LPS"

    def radiograph(dataset: Dataset, number: int) -> None:
        put(Modality="DX")(dataset, number)
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            delattr(dataset, keyword)

    paths = save(tmp_path, radiograph)
    assert read_series(paths[0]).volume.geometry.spacing_mm[:2] == (1.0, 1.0)
    error = refusal(paths)
    assert (error.reason, error.value) == ("NO_POSITION", "4 files")


def test_a_gap_within_the_tolerance_passes_and_beyond_is_refused(tmp_path: Path) -> None:
    def moved(millimetres: float) -> Change:
        return lambda dataset, number: place(dataset, 0, 0, 2.5 * number + (millimetres if number == 3 else 0))

    # GAP_TOLERANCE is 5 %: 0.125 mm of 2.5 mm.
    volume = read_series(save(tmp_path / "a", moved(0.12))).volume
    assert volume.geometry.spacing_mm[2] == pytest.approx((7.5 + 0.12) / 3)
    assert refusal(save(tmp_path / "b", moved(0.13))).reason == "UNEVEN_GAPS"


def test_the_reason_survives_a_worker_process() -> None:
    error = DicomError("x", where="y", value=3, reason="UNEVEN_GAPS")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(copy), copy.reason, str(copy)) == (DicomError, "UNEVEN_GAPS", str(error))
    assert isinstance(copy, DataError)


def test_without_pydicom_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = save(tmp_path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for call in (lambda: scan(tmp_path), lambda: read_series(paths)):
        with pytest.raises(MachineError, match="not installed") as caught:
            call()
        assert caught.value.remedy == 'pip install "segue[dicom]"'


# Finding series


def test_scan_tells_series_apart_wherever_they_lie(tmp_path: Path) -> None:
    save(tmp_path / "a")
    save(tmp_path / "b" / "c", put(SeriesInstanceUID="1.2.3.7", Modality="MR"))
    save(tmp_path / "a" / "deep", put(SeriesInstanceUID="1.2.3.7", Modality="MR"), count=2)
    save(tmp_path / "other", put(StudyInstanceUID="1.2.9", PatientID="P0"), count=1)
    (tmp_path / "a" / "notes.txt").write_text("x" * 500)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(300))
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID = "X"
    directory.save_as(tmp_path / "DICOMDIR", enforce_file_format=True)
    found = scan(tmp_path)
    assert [(s.patient_id, s.study_uid, s.uid, s.modality, s.frames) for s in found] == [
        ("P0", "1.2.9", "1.2.3.4", "CT", 1),
        ("P1", "1.2.3", "1.2.3.4", "CT", 4),
        ("P1", "1.2.3", "1.2.3.7", "MR", 6),
    ]
    first = found[1]
    assert (first.description, first.frame_of_reference, first.image_type) == (
        "made",
        "1.2.3.5",
        ("ORIGINAL", "PRIMARY", "AXIAL"),
    )
    assert {path.parent for path in found[2].files} == {tmp_path / "b" / "c", tmp_path / "a" / "deep"}


# Damage


@pytest.mark.parametrize(
    "name", ["generic/anatomical/001", "generic/compressed_jpegls/001", "generic/compressed_rle/001"]
)
def test_a_file_cut_short_is_refused_or_reads_the_same(
    test_data: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    path = files(test_data / "dicom" / "dicom2nifti" / name)[0]
    whole, content = read_series(path).volume.array, path.read_bytes()
    target = tmp_path_factory.mktemp("cut") / "x.dcm"

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(content) - 1))
    @example(len(content) // 2)
    @example(200)
    def cut(length: int) -> None:
        target.write_bytes(content[:length])
        scan(target.parent)
        try:
            volume = read_series(target).volume
        except DicomError as error:
            assert error.remedy
        else:
            assert np.array_equal(volume.array, whole)

    cut()
    target.write_bytes(content[: len(content) // 2])
    assert refusal(target).reason in {"DAMAGED", "NO_PIXELS"}


@pytest.mark.parametrize("name", ["compressed", "compressed_jpeg", "compressed_jpegls"])
@pytest.mark.parametrize("change", [put(Rows=300), put(Columns=128), put(BitsAllocated=8, BitsStored=8, HighBit=7)])
def test_a_header_that_names_other_sizes_than_the_compressed_image(
    test_data: Path, tmp_path: Path, name: str, change: Change
) -> None:
    # GDCM alone ends the process on some of these.
    dataset = pydicom.dcmread(files(test_data / "dicom" / "dicom2nifti" / "generic" / name / "001")[0])
    change(dataset, 0)
    dataset.save_as(tmp_path / "x")
    error = refusal([tmp_path / "x"])
    assert (error.reason, error.what) == ("DAMAGED", "the compressed image is not the one that the header names")


@pytest.mark.parametrize("name", ["compressed_jpeg", "compressed"])
def test_a_broken_start_of_a_compressed_image(test_data: Path, tmp_path: Path, name: str) -> None:
    # A marker of the Huffman table, and the bits per pixel of JPEG 2000: GDCM ends the process on both.
    dataset = pydicom.dcmread(files(test_data / "dicom" / "dicom2nifti" / "generic" / name / "001")[0])
    frame = bytearray(next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)))
    frame[42 if name == "compressed" else frame.index(b"\xff\xc4")] = 0x50
    dataset.PixelData = encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "x")
    assert refusal([tmp_path / "x"]).reason == "DAMAGED"


def test_changed_bytes_of_a_header_never_end_in_a_traceback(tmp_path: Path) -> None:
    multi_frame([0, 1, 2]).save_as(tmp_path / "x", enforce_file_format=True)
    content = (tmp_path / "x").read_bytes()
    whole = read_series(tmp_path / "x").volume.array

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(st.tuples(st.integers(128, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=4))
    def change(changes: list[tuple[int, int]]) -> None:
        changed = bytearray(content)
        for at, value in changes:
            changed[at] = value
        (tmp_path / "x").write_bytes(changed)
        scan(tmp_path)
        try:
            volume = read_series(tmp_path / "x").volume
        except DicomError as error:
            assert error.remedy
        else:
            assert volume.array.size <= whole.size

    change()


def test_a_folder_of_one_series_is_an_image(test_data: Path) -> None:
    from segue.images import read
    from segue.workflow.checking import check
    from segue.workflow.checking_images import look_at_series

    folder = test_data / "sts001-raw-pet" / "image"
    assert read(folder).geometry.shape == (128, 128, 267)
    with pytest.raises(DataError, match="holds one DICOM series"):
        read(test_data / "suv-dro")
    checked = check(str(test_data / "sts-petct" / "dicom"))
    assert checked.looked_at > 2
    assert not checked.errors  # the structure sets beside the images are noted
    failing = test_data / "dicom" / "dicom2nifti" / "failing"
    findings, _ = look_at_series(scan(failing), failing)
    assert any("14.00" in str(finding) for finding in findings if finding.severity == "error")
    twice, _ = look_at_series(scan(failing) * 2, failing)
    assert {finding.case for finding in twice}.isdisjoint(finding.case for finding in findings)  # the place is added
