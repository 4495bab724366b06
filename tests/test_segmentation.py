"""DICOM segmentations, read and written, against the masks that they encode and against highdicom."""

from __future__ import annotations

import io
import itertools
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segue
from dicom_studies import Study
from segue.core.errors import DataError, MachineError, UsageError
from segue.dicom import (
    CodedTerm,
    DicomError,
    MaskSet,
    Segment,
    SegmentTerms,
    Series,
    read_segments,
    read_series,
    referenced_series,
    scan,
    write_segments,
)
from segue.dicom.read import arrange
from segue.dicom.terms import LEFT, TISSUE, terms_of
from segue.volume import Geometry, Volume

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def label_map(masks: MaskSet) -> np.ndarray:
    """Segments that do not overlap as labels ``(i, j, k)``."""
    labels = np.zeros(masks.geometry.shape, np.uint16)
    for segment in masks.segments:
        labels[segment.box][segment.mask] = segment.number
    return labels


def nrrd(path: Path) -> Volume:
    """A label map by ITK, not by the package's own readers."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return Volume(array[None].astype(np.uint16), Geometry(image.GetSize(), np.diag([-1, -1, 1, 1]) @ affine), "labels")


@pytest.fixture(scope="session")
def dcmqi(test_data: Path) -> Path:
    return test_data / "dicom" / "dcmqi" / "segmentations"


@pytest.fixture(scope="session")
def seg_files(test_data: Path) -> Path:
    return test_data / "dicom" / "highdicom"


# What is read


@pytest.mark.parametrize(
    ("name", "references", "names"),
    [
        ("liver", ["liver_seg"], {1: "Liver"}),
        (
            "partial_overlaps",
            ["partial_overlaps-1", "partial_overlaps-2", "partial_overlaps-3"],
            {1: "GREEN", 2: "ORANGE", 3: "PURPLE", 4: "LIGHT_BLUE", 5: "DARK_BLUE"},
        ),
        ("sparse-labelmap-noppv", ["sparse_labelmap_noppv_seg"], {1: "Liver"}),
        ("sparse-labelmap-ppv5", ["sparse_labelmap_ppv5_seg"], {1: "Liver"}),
    ],
)
def test_dcmqi_segmentations_are_the_masks_from_which_they_were_made(
    dcmqi: Path, name: str, references: list[str], names: dict[int, str]
) -> None:
    masks = read_segments(dcmqi / f"{name}.dcm")
    truth = [nrrd(dcmqi / f"{reference}.nrrd") for reference in references]
    assert {segment.number: segment.name for segment in masks.segments} == names
    assert masks.geometry.difference(truth[0].geometry) is None
    for segment in masks.segments:
        (holder,) = [volume for volume in truth if (volume.array == segment.number).any()]
        assert np.array_equal(masks.mask_of(segment).array, holder.array == segment.number)
    assert masks.source == "SEG"


def test_overlaps_are_named(dcmqi: Path) -> None:
    volumes = [nrrd(dcmqi / f"partial_overlaps-{n}.nrrd").array for n in (1, 2, 3)]
    masks = {n: volume == n for n in range(1, 6) for volume in volumes if (volume == n).any()}
    named = dict(enumerate(["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"], start=1))
    truth = [(named[a], named[b]) for a, b in itertools.combinations(masks, 2) if (masks[a] & masks[b]).any()]
    assert read_segments(dcmqi / "partial_overlaps.dcm").overlaps() == truth != []


def test_a_segmentation_lies_on_the_slices_of_its_image(dcmqi: Path) -> None:
    image = read_series(sorted((dcmqi / "ct-3slice").iterdir())).volume.geometry
    truth = nrrd(dcmqi / "liver_seg.nrrd")
    for codes_of_axes in ("LPS", "RAS", "SRA"):
        grid = image.oriented(codes_of_axes)
        masks = read_segments(dcmqi / "liver.dcm", grid)
        assert masks.geometry is grid
        assert np.array_equal(label_map(masks), truth.oriented(codes_of_axes).array[0])


def test_highdicom_reads_the_same(seg_files: Path) -> None:
    files = sorted(seg_files.glob("seg_image_ct*.dcm"))
    assert len(files) >= 5
    for path in files:
        masks = read_segments(path)
        theirs = hd.seg.segread(path)
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        most = getattr(dataset, "MaximumFractionalValue", 1)
        for segment in masks.segments:
            assert theirs.get_segment_description(segment.number).segment_label == segment.name
            volume = masks.mask_of(segment).array[0]
            found = np.zeros_like(volume)
            for frame, group in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
                if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber != segment.number:
                    continue
                lps = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
                index = np.linalg.inv(masks.geometry.affine) @ [-lps[0], -lps[1], lps[2], 1]
                assert np.allclose(index, np.rint(index), atol=1e-3)
                found[:, :, int(np.rint(index[2]))] = frame.T.astype(int) * 2 >= most
            assert np.array_equal(found, volume)


def test_a_fractional_segment_counts_from_one_half(seg_files: Path) -> None:
    (segment,) = read_segments(seg_files / "seg_image_ct_true_fractional.dcm").segments
    # The file holds 0, 64 and 128 of 255.
    assert (
        np.count_nonzero(segment.mask)
        == (pydicom.dcmread(seg_files / "seg_image_ct_true_fractional.dcm").pixel_array == 128).sum()
    )
    assert segment.meaning["threshold"] == "probability of at least 127.5 of 255"


def test_coded_terms_are_kept(dcmqi: Path) -> None:
    (segment,) = read_segments(dcmqi / "sparse-labelmap-noppv.dcm").segments
    assert segment.meaning == {
        "category": '(85756007, SCT, "Tissue")',
        "type": '(10200004, SCT, "Liver")',
        "algorithm_type": "SEMIAUTOMATIC",
    }


def test_the_series_of_a_segmentation_is_named(dcmqi: Path, seg_files: Path) -> None:
    image = pydicom.dcmread(dcmqi / "ct-3slice" / "01.dcm", stop_before_pixels=True)
    assert referenced_series(dcmqi / "liver.dcm") == image.SeriesInstanceUID
    assert read_segments(dcmqi / "liver.dcm").series_uid == image.SeriesInstanceUID
    assert referenced_series(seg_files / "ct_image.dcm") == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("seg_image_sm_control", "WHOLE_SLIDE"),
        ("seg_image_sm_control_labelmap", "WHOLE_SLIDE"),
        ("seg_image_sm_dots_tiled_full", "WHOLE_SLIDE"),
        ("seg_image_cr_binary", "NO_POSITION"),
        ("ct_image", "NOT_A_SEGMENTATION"),
        ("sr_document", "NOT_A_SEGMENTATION"),
    ],
)
def test_what_is_no_mask_in_a_patient_is_refused(seg_files: Path, name: str, reason: str) -> None:
    with pytest.raises(DicomError) as error:
        read_segments(seg_files / f"{name}.dcm")
    assert error.value.reason == reason and error.value.remedy


# Forms that no real file here has


def stack(shape: tuple[int, int, int] = (5, 37, 43), segments: int = 3, seed: int = 0) -> np.ndarray:
    """Labels ``(k, row, column)``; 37 x 43 pixels are no whole bytes."""
    return np.random.default_rng(seed).integers(0, segments + 1, shape).astype(np.uint8)


@pytest.fixture
def ct(tmp_path: Path) -> Series:
    """A CT of five slices, 37 rows and 43 columns."""
    Study(tmp_path / "ct").add("CT", np.zeros((5, 37, 43)), (0.8, 0.7, 2.5), (-20.0, 30.0, 100.0))
    return scan(tmp_path / "ct")[0]


def made(ct: Series, pixels: np.ndarray, kind: str = "BINARY", syntax: str = uid.ExplicitVRLittleEndian) -> Any:
    """A segmentation by highdicom of the CT's slices, from feet to head."""
    sources = sorted(
        (pydicom.dcmread(path, stop_before_pixels=True) for path in ct.files),
        key=lambda header: float(header.ImagePositionPatient[2]),
    )
    described = [
        hd.seg.SegmentDescription(n, f"part {n}", codes.SCT.Tissue, codes.SCT.Liver, "MANUAL")
        for n in range(1, int(pixels.max()) + 1)
    ]
    return hd.seg.Segmentation(
        sources, pixels, kind, described, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1", transfer_syntax_uid=syntax
    )


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("BINARY", uid.ImplicitVRLittleEndian),
        ("BINARY", uid.JPEG2000Lossless),
        ("FRACTIONAL", uid.RLELossless),
        ("FRACTIONAL", uid.JPEGLSLossless),
        ("LABELMAP", uid.ExplicitVRLittleEndian),
        ("LABELMAP", uid.RLELossless),
        ("LABELMAP", uid.JPEGLSLossless),
    ],
)
def test_every_encoding_gives_the_same_masks(ct: Series, tmp_path: Path, kind: str, syntax: str) -> None:
    pixels = stack()
    if syntax == uid.RLELossless:  # GDCM's encoder, which comes first, ends the process at an odd number of pixels
        file = made(ct, pixels, kind)
        file.compress(syntax, encoding_plugin="pydicom")
    else:
        file = made(ct, pixels, kind, syntax)
    file.save_as(tmp_path / "seg.dcm")
    assert np.array_equal(label_map(read_segments(tmp_path / "seg.dcm")).transpose(2, 1, 0), pixels)


def test_a_label_map_of_sixteen_bits(ct: Series, tmp_path: Path) -> None:
    pixels = stack(segments=300).astype(np.uint16)
    pixels = np.random.default_rng(0).integers(0, 301, pixels.shape).astype(np.uint16)
    made(ct, pixels, "LABELMAP").save_as(tmp_path / "seg.dcm")
    masks = read_segments(tmp_path / "seg.dcm", read_series(ct).volume.geometry)
    assert np.array_equal(label_map(masks).transpose(2, 1, 0), pixels)


def test_label_maps_whose_number_0_stands_for_something(ct: Series, tmp_path: Path) -> None:
    pixels = stack()
    file = made(ct, pixels, "LABELMAP")
    file.SegmentSequence[0].SegmentLabel = "Liver"
    file.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "10200004"
    file.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator = "SCT"
    file.PixelPaddingValue = 3
    file.save_as(tmp_path / "seg.dcm")
    masks = read_segments(tmp_path / "seg.dcm")
    assert [(one.number, one.name) for one in masks.segments] == [(1, "part 1"), (2, "part 2"), (3, "Liver")]
    assert np.array_equal(label_map(masks).transpose(2, 1, 0), np.array([3, 1, 2, 0])[pixels])


@pytest.mark.parametrize("bits", [1, 8])
def test_deflated_files_and_deflated_frames(ct: Series, tmp_path: Path, bits: int) -> None:
    pixels = stack()
    file = made(ct, pixels, "BINARY" if bits == 1 else "LABELMAP")
    file.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    file.save_as(tmp_path / "whole.dcm")
    assert np.array_equal(label_map(read_segments(tmp_path / "whole.dcm")).transpose(2, 1, 0), pixels)

    def deflated(frame: np.ndarray) -> bytes:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = np.packbits(frame, bitorder="little").tobytes() if bits == 1 else frame.tobytes()
        return packer.compress(content) + packer.flush()

    frames = file.pixel_array.reshape(-1, 37, 43)
    file.file_meta.TransferSyntaxUID = uid.UID("1.2.840.10008.1.2.8.1")
    file.PixelData = encapsulate([deflated(frame) for frame in frames])
    file["PixelData"].is_undefined_length = True
    # pydicom does not know this syntax, so it is told what is in the file.
    pydicom.dcmwrite(
        tmp_path / "frames.dcm", Dataset(file), implicit_vr=False, little_endian=True, enforce_file_format=False
    )
    content = (tmp_path / "frames.dcm").read_bytes()
    meta = io.BytesIO()
    header = file.file_meta
    pydicom.filewriter.write_file_meta_info(meta, header)
    start = 132 if content[128:132] == b"DICM" else 0
    (tmp_path / "frames.dcm").write_bytes(b"\0" * 128 + b"DICM" + meta.getvalue() + content[start:])
    assert np.array_equal(label_map(read_segments(tmp_path / "frames.dcm")).transpose(2, 1, 0), pixels)


def rearranged(file: Any, order: list[int]) -> Any:
    """The file with its frames, counted from feet to head, in another order, or fewer of them."""
    upwards = sorted(range(int(file.NumberOfFrames)), key=lambda at: _height(file.PerFrameFunctionalGroupsSequence[at]))
    frames = file.pixel_array.reshape(-1, file.Rows, file.Columns)[upwards]
    groups = [file.PerFrameFunctionalGroupsSequence[at] for at in upwards]
    changed = pydicom.dcmread(_saved(file))
    changed.PerFrameFunctionalGroupsSequence = [groups[at] for at in order]
    changed.NumberOfFrames = len(order)
    packed = np.packbits(np.concatenate([frames[at].ravel() for at in order]), bitorder="little").tobytes()
    changed.PixelData = packed + b"\0" * (len(packed) % 2)
    return changed


def _height(group: Any) -> float:
    return float(group.PlanePositionSequence[0].ImagePositionPatient[2])


def _saved(file: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def test_frames_in_any_order(ct: Series, tmp_path: Path) -> None:
    pixels = stack()
    file = made(ct, pixels)
    order = np.random.default_rng(1).permutation(file.NumberOfFrames).tolist()
    rearranged(file, order).save_as(tmp_path / "seg.dcm")
    assert np.array_equal(label_map(read_segments(tmp_path / "seg.dcm")).transpose(2, 1, 0), pixels)


@pytest.mark.parametrize("stated", [True, False])
def test_slices_without_frames(ct: Series, tmp_path: Path, stated: bool) -> None:
    pixels = stack(segments=1)
    kept = [0, 1, 4] if not stated else [0, 2, 4]  # a gap of one step shows the step where nothing states it
    file = rearranged(made(ct, pixels), kept)
    if not stated:
        del file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    file.save_as(tmp_path / "seg.dcm")
    pixels[[k for k in range(5) if k not in kept]] = 0
    image = read_series(ct).volume.geometry
    for masks in (read_segments(tmp_path / "seg.dcm"), read_segments(tmp_path / "seg.dcm", image)):
        assert masks.geometry.difference(image) is None
        assert np.array_equal(label_map(masks).transpose(2, 1, 0), pixels)


def test_one_slice_of_an_image_lies_where_it_was_drawn(ct: Series, tmp_path: Path) -> None:
    pixels = stack(segments=1)
    rearranged(made(ct, pixels), [3]).save_as(tmp_path / "seg.dcm")
    pixels[[0, 1, 2, 4]] = 0
    masks = read_segments(tmp_path / "seg.dcm", read_series(ct).volume.geometry)
    assert np.array_equal(label_map(masks).transpose(2, 1, 0), pixels)
    alone = read_segments(tmp_path / "seg.dcm")
    assert alone.geometry.shape == (43, 37, 1) and alone.geometry.spacing_mm == pytest.approx((0.8, 0.7, 2.5))


def test_a_segment_without_frames_is_there(ct: Series, tmp_path: Path) -> None:
    pixels = stack()
    pixels[pixels == 2] = 0
    made(ct, pixels).save_as(tmp_path / "seg.dcm")
    masks = read_segments(tmp_path / "seg.dcm")
    assert [np.count_nonzero(one.mask) > 0 for one in masks.segments] == [True, False, True]
    assert not masks.mask_of(masks.segments[1]).array.any() and masks.overlaps() == []


def test_orientation_and_measures_of_each_frame(ct: Series, tmp_path: Path) -> None:
    pixels = stack()
    file = made(ct, pixels)
    shared = file.SharedFunctionalGroupsSequence[0]
    for group in file.PerFrameFunctionalGroupsSequence:
        group.PlaneOrientationSequence = shared.PlaneOrientationSequence
        group.PixelMeasuresSequence = shared.PixelMeasuresSequence
    del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence
    file.save_as(tmp_path / "seg.dcm")
    masks = read_segments(tmp_path / "seg.dcm")
    assert masks.geometry.difference(read_series(ct).volume.geometry) is None
    assert np.array_equal(label_map(masks).transpose(2, 1, 0), pixels)


def test_frames_beside_each_other_by_whole_pixels(ct: Series, tmp_path: Path) -> None:
    pixels = stack(segments=1)
    file = rearranged(made(ct, pixels), [0, 1, 2, 3, 4])
    position = file.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    position.ImagePositionPatient[0] += 2 * 0.8
    file.save_as(tmp_path / "seg.dcm")
    masks = read_segments(tmp_path / "seg.dcm")
    wide = np.zeros((5, 37, 45), np.uint8)
    wide[:, :, :43] = pixels
    wide[1, :, :2], wide[1, :, 2:] = 0, pixels[1]
    assert np.array_equal(label_map(masks).transpose(2, 1, 0), wide)
    inside = read_segments(tmp_path / "seg.dcm", read_series(ct).volume.geometry)
    assert np.array_equal(label_map(inside).transpose(2, 1, 0), wide[:, :, :43])
    position.ImagePositionPatient[0] += 0.4
    file.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DicomError) as error:
        read_segments(tmp_path / "seg.dcm")
    assert error.value.reason == "SHIFTED_SLICES"


def test_two_frames_of_a_segment_at_one_place(ct: Series, tmp_path: Path) -> None:
    file = made(ct, stack(segments=1))
    rearranged(file, [0, 1, 1, 2]).save_as(tmp_path / "same.dcm")
    assert read_segments(tmp_path / "same.dcm").geometry.shape[2] == 3
    changed = rearranged(file, [0, 1, 2, 3])
    groups = changed.PerFrameFunctionalGroupsSequence
    groups[3].PlanePositionSequence[0].ImagePositionPatient = groups[2].PlanePositionSequence[0].ImagePositionPatient
    changed.save_as(tmp_path / "other.dcm")
    with pytest.raises(DicomError) as error:
        read_segments(tmp_path / "other.dcm")
    assert error.value.reason == "DUPLICATE_POSITION"


def test_another_grid_is_resampled(ct: Series, tmp_path: Path) -> None:
    pixels = np.zeros((5, 37, 43), np.uint8)
    pixels[1:4, 8:30, 10:33] = 1
    made(ct, pixels).save_as(tmp_path / "seg.dcm")
    own = read_segments(tmp_path / "seg.dcm")
    fine = own.geometry.with_spacing((0.5, 0.5, 1.25))
    expected = own.mask_of(own.segments[0]).resampled_to(fine).array[0]
    assert np.array_equal(label_map(read_segments(tmp_path / "seg.dcm", fine)), expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Rows": 60000}, "DAMAGED"),
        ({"NumberOfFrames": 2_000_000_000}, "NO_POSITION"),
        ({"BitsAllocated": 32}, "DAMAGED"),
        ({"SegmentSequence": []}, "DAMAGED"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.5"}, "NOT_A_SEGMENTATION"),
    ],
)
def test_headers_that_do_not_fit(ct: Series, tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    file = made(ct, stack())
    for keyword, value in change.items():
        setattr(file, keyword, value)
    file.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DicomError) as error:
        read_segments(tmp_path / "seg.dcm")
    assert error.value.reason == reason


def test_a_frame_far_away_is_refused(ct: Series, tmp_path: Path) -> None:
    file = made(ct, stack())
    file.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [-20, 30, 1e8]
    file.save_as(tmp_path / "seg.dcm")
    with pytest.raises(DicomError) as error:
        read_segments(tmp_path / "seg.dcm")
    assert error.value.reason == "UNEVEN_GAPS"


# Damage


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hurt") / "seg.dcm"


@pytest.mark.parametrize("name", ["seg_image_ct_binary_overlap", "seg_image_ct_binary_fractional", "labelmap", "liver"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_files_end_in_a_data_error(
    seg_files: Path, dcmqi: Path, hurt: Path, name: str, data: st.DataObject
) -> None:
    path = {"labelmap": dcmqi / "sparse-labelmap-ppv5.dcm", "liver": dcmqi / "liver.dcm"}.get(name)
    content = bytearray((path or seg_files / f"{name}.dcm").read_bytes())
    reach = min(len(content), 6000)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    hurt.write_bytes(content[:end])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            masks = read_segments(hurt)
        except DataError:
            return
    assert sum(segment.mask.size for segment in masks.segments) < 1e9


# The common form


def blob(shape: tuple[int, int, int], affine: np.ndarray) -> MaskSet:
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    inside = [((grid - np.array(centre)[:, None, None, None]) ** 2).sum(0) < 30 for centre in ((9, 9, 8), (14, 12, 9))]
    segments = tuple(Segment(n, f"blob {n}", (2, 1, 1), mask[2:, 1:, 1:], {}) for n, mask in enumerate(inside, start=1))
    return MaskSet(Geometry(shape, affine), segments, "labels", "1.2.3")


AFFINE = np.array([[-0.9, 0, 0, 40], [0, -1.1, 0, 30], [0, 0, 2.0, -50], [0, 0, 0, 1.0]])


def test_masks_on_turned_cut_and_enlarged_grids_keep_every_voxel() -> None:
    masks = blob((24, 22, 18), AFFINE)
    for axes in ("RAS", "SPL", "AIR"):
        turned = masks.on(masks.geometry.oriented(axes))
        for before, after in zip(masks.segments, turned.segments, strict=True):
            expected = masks.mask_of(before).oriented(axes).array
            assert np.array_equal(turned.mask_of(after).array, expected)
            assert after.mask.size < expected.size
    larger = masks.on(masks.geometry.cropped((-3, -2, -5), (40, 30, 30)))
    assert [one.mask.sum() for one in larger.segments] == [one.mask.sum() for one in masks.segments]
    smaller = masks.on(masks.geometry.cropped((8, 5, 6), (10, 9, 7)))
    for before, after in zip(masks.segments, smaller.segments, strict=True):
        expected = masks.mask_of(before).array[:, 8:18, 5:14, 6:13]
        assert np.array_equal(smaller.mask_of(after).array, expected)
    nowhere = masks.on(masks.geometry.cropped((500, 0, 0), (5, 5, 5)))
    assert [one.mask.size for one in nowhere.segments] == [0, 0] and nowhere.overlaps() == []
    assert masks.overlaps() == [("blob 1", "blob 2")]


def test_masks_on_other_grids_are_those_of_a_linear_vote() -> None:
    masks = blob((24, 22, 18), AFFINE)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    grids = [
        masks.geometry.with_spacing((0.6, 0.7, 1.3)),
        masks.geometry.cropped((3, 2, 4), (12, 12, 9)).with_spacing((1.3, 0.8, 3.0)),
        Geometry((30, 30, 20), turn @ AFFINE),
    ]
    for grid in grids:
        moved = masks.on(grid)
        for before, after in zip(masks.segments, moved.segments, strict=True):
            expected = masks.mask_of(before).resampled_to(grid).array
            assert expected.any()
            assert np.array_equal(moved.mask_of(after).array, expected)


# What is written

NAMES = {1: "liver", 2: "Läsion", 3: "left kidney", 4: "spleen"}


def labels_on(geometry: Geometry, seed: int = 0) -> Volume:
    random = np.random.default_rng(seed)
    array = random.integers(1, 4, geometry.shape) * (random.random(geometry.shape) < 0.3)
    return Volume(array[None].astype(np.uint8), geometry, "labels")


@pytest.mark.parametrize(
    ("place", "fewest"),
    [
        ("dicom/highdicom/ct_image.dcm", 1),
        ("dicom/dcmqi/segmentations/ct-3slice", 1),
        ("dicom/dcmqi/segmentations/23x38x3/image", 1),
        ("dicom/dcmqi/segmentations/24x38x3/image", 1),
        ("dicom/dcmqi/segmentations/24x38x3/multiframe", 1),
        ("dicom/rt-utils/oriented_data", 1),
        ("dicom/rt-utils/one_slice_data", 1),
        ("dicom/rt-utils/mock_data", 1),
        ("sts-petct/dicom", 3),
        ("suv-dro", 5),
    ],
)
def test_what_is_written_reads_back_here_and_by_highdicom(
    test_data: Path, tmp_path: Path, place: str, fewest: int
) -> None:
    path = tmp_path / "seg.dcm"
    found = scan(test_data / place) if (test_data / place).is_dir() else [test_data / place]
    images = [one for one in found if isinstance(one, Path) or one.modality in ("CT", "MR", "PT")]
    assert len(images) >= fewest
    for number, series in enumerate(images[:5]):
        labels = labels_on(arrange(series).geometry, seed=number).oriented(("RAS", "LPS", "SPL", "AIR")[number % 4])
        segue.write(labels, path, series=series, names=NAMES)
        first = series if isinstance(series, Path) else series.files[0]
        source = pydicom.dcmread(first, stop_before_pixels=True)
        for masks in (read_segments(path, labels.geometry), read_segments(path).on(labels.geometry)):
            assert [(one.number, one.name) for one in masks.segments] == list(NAMES.items())
            assert np.array_equal(label_map(masks), labels.array[0])
            assert masks.series_uid == source.SeriesInstanceUID
        _require_same_by_highdicom(path, labels, source)


def _require_same_by_highdicom(path: Path, labels: Volume, source: Any) -> None:
    theirs = hd.seg.segread(path)
    assert [theirs.get_segment_description(n).segment_label for n in NAMES] == list(NAMES.values())
    for keyword in ("PatientID", "PatientName", "StudyDate"):
        assert theirs.get(keyword) == source.get(keyword, ""), keyword
    volume = theirs.get_volume(combine_segments=True)
    grid = Geometry(volume.array.shape, np.diag([-1, -1, 1, 1]) @ volume.affine)
    turned = Volume(volume.array[None].astype(np.uint8), grid, "labels").oriented(labels.geometry.axis_codes)
    assert turned.geometry.difference(labels.geometry) is None
    assert np.array_equal(turned.array, labels.array)


def test_uneven_slices_of_a_real_pet(test_data: Path, tmp_path: Path) -> None:
    (series,) = [one for one in scan(test_data / "sts001-raw-pet") if one.modality == "PT"]
    grid = arrange(series).geometry
    labels = Volume(np.zeros((1, *grid.shape), np.uint8), grid, "labels")
    labels.array[0, 40:60, 50:70, 90:200] = labels_on(grid.cropped((40, 50, 90), (20, 20, 110))).array[0]
    write_segments(labels, tmp_path / "seg.dcm", series)
    # Gaps are 3.19 to 3.29 mm: a part of the slices has another mean gap than all of them.
    assert np.array_equal(label_map(read_segments(tmp_path / "seg.dcm", grid)), labels.array[0])


def test_frames_of_an_enhanced_image_in_any_order(dcmqi: Path, tmp_path: Path) -> None:
    file = pydicom.dcmread(dcmqi / "24x38x3" / "multiframe" / "mf.dcm")
    file.PerFrameFunctionalGroupsSequence = [file.PerFrameFunctionalGroupsSequence[at] for at in (2, 0, 1)]
    file.save_as(tmp_path / "mf.dcm")
    labels = labels_on(read_series(tmp_path / "mf.dcm").volume.geometry)
    segue.write(labels, tmp_path / "seg.dcm", series=tmp_path / "mf.dcm")
    assert np.array_equal(label_map(read_segments(tmp_path / "seg.dcm")), labels.array[0])
    assert [one.name for one in read_segments(tmp_path / "seg.dcm").segments] == ["1", "2", "3"]


def test_frame_of_reference_and_who_drew_it(ct: Series, tmp_path: Path) -> None:
    labels = labels_on(read_series(ct).volume.geometry)
    write_segments(labels, tmp_path / "seg.dcm", ct, names={1: "left kidney", 2: "liver tumour", 3: "stuff"})
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    assert file.FrameOfReferenceUID == ct.frame_of_reference
    assert file.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert file.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "segue"
    meanings = [one.meaning for one in read_segments(tmp_path / "seg.dcm").segments]
    assert meanings[0]["type"] == '(64033007, SCT, "Kidney")' and meanings[0]["side"] == '(7771000, SCT, "Left")'
    assert meanings[1]["type"] == '(108369006, SCT, "Neoplasm")' and "Liver" in meanings[1]["region"]
    assert "Tissue" in meanings[2]["type"]
    own = SegmentTerms(TISSUE, CodedTerm("1234", "99LOCAL", "Stuff"))
    write_segments(labels, tmp_path / "seg.dcm", ct, terms={3: own}, algorithm=None)
    last = read_segments(tmp_path / "seg.dcm").segments[2].meaning
    assert last["type"] == '(1234, 99LOCAL, "Stuff")' and last["algorithm_type"] == "MANUAL"


def test_what_is_written_holds_what_the_standard_demands(ct: Series, tmp_path: Path) -> None:
    """Attributes of types 1 and 2 of the mandatory modules of PS3.3 A.51, by the tables that highdicom carries."""
    standard = pytest.importorskip("highdicom._standard_utils")
    write_segments(labels_on(read_series(ct).volume.geometry), tmp_path / "seg.dcm", ct, names=NAMES)
    file = pydicom.dcmread(tmp_path / "seg.dcm")
    modules = [one["key"] for one in standard.get_iod_module_map()["segmentation"] if one["usage"] == "M"]
    modules.remove("segmentation-multi-frame-functional-groups")  # each group may be shared or of each frame
    missing = []
    for attribute in itertools.chain(*(standard.get_module_attribute_map()[module] for module in modules)):
        holders = [file]
        for step in attribute["path"]:
            holders = [item for holder in holders for item in holder.get(step) or []]
        for holder in holders:
            keyword, demand = attribute["keyword"], attribute["type"]
            if demand in ("1", "2") and (keyword not in holder or (demand == "1" and holder[keyword].is_empty)):
                missing.append((keyword, demand))
    assert len(modules) > 10 and missing == []


def test_names_of_patients_in_other_alphabets(tmp_path: Path) -> None:
    Study(tmp_path / "ct").add(
        "CT", np.zeros((2, 8, 9)), SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen", PatientSex="O"
    )
    (series,) = scan(tmp_path / "ct")
    labels = labels_on(read_series(series).volume.geometry)
    segue.write(labels, tmp_path / "seg.dcm", series=tmp_path / "ct", names={1: "肝臓", 2: "печень"})
    assert str(pydicom.dcmread(tmp_path / "seg.dcm").PatientName) == "Müller^Jürgen"
    assert [one.name for one in read_segments(tmp_path / "seg.dcm").segments] == ["肝臓", "печень", "3"]


def test_labels_with_gaps_are_numbered_anew(ct: Series, tmp_path: Path) -> None:
    labels = labels_on(read_series(ct).volume.geometry)
    array = np.array([0, 7, 300, 41], np.uint16)[labels.array]
    segue.write(Volume(array, labels.geometry, "labels"), tmp_path / "seg.dcm", series=ct, names={7: "a", 41: "b"})
    masks = read_segments(tmp_path / "seg.dcm")
    assert [(one.number, one.name) for one in masks.segments] == [(1, "a"), (2, "b"), (3, "300")]
    assert np.array_equal(np.array([0, 7, 41, 300])[label_map(masks)], array[0])
    described = [item.get("SegmentDescription") for item in pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence]
    assert described == ["label 7", "label 41", "label 300"]


def test_a_map_of_nothing(ct: Series, tmp_path: Path) -> None:
    grid = read_series(ct).volume.geometry
    empty = Volume(np.zeros((1, *grid.shape), np.uint8), grid, "labels")
    with pytest.raises(DataError, match="all background"):
        segue.write(empty, tmp_path / "seg.dcm", series=ct)
    assert not (tmp_path / "seg.dcm").exists()
    segue.write(empty, tmp_path / "seg.dcm", series=ct, names=NAMES)
    masks = read_segments(tmp_path / "seg.dcm", grid)
    assert [one.name for one in masks.segments] == list(NAMES.values())
    assert not label_map(masks).any()
    assert referenced_series(tmp_path / "seg.dcm") == ct.uid
    assert hd.seg.segread(tmp_path / "seg.dcm").number_of_segments == 4


def test_another_grid_is_refused(ct: Series, tmp_path: Path) -> None:
    grid = read_series(ct).volume.geometry
    for other in (grid.cropped((0, 0, 0), (43, 37, 4)), grid.cropped((1, 0, 0), grid.shape)):
        with pytest.raises(DataError, match=r"shape|positions differ") as error:
            segue.write(labels_on(other), tmp_path / "seg.dcm", series=ct)
        assert "resampled_to" in str(error.value.remedy)
    assert not (tmp_path / "seg.dcm").exists()


def test_what_cannot_be_written_says_why(ct: Series, tmp_path: Path) -> None:
    grid = read_series(ct).volume.geometry
    labels = labels_on(grid)
    with pytest.raises(UsageError, match="series=FOLDER"):
        segue.write(labels, tmp_path / "seg.dcm")
    with pytest.raises(UsageError, match="only labels"):
        segue.write(Volume(labels.array, grid), tmp_path / "seg.dcm", series=ct)
    with pytest.raises(ValueError, match="only DICOM-SEG"):
        segue.write(labels, tmp_path / "seg.nii.gz", series=ct)
    for name in ("x" * 65, "a\\b", "two\nlines", " "):
        with pytest.raises(UsageError, match="64 printable"):
            segue.write(labels, tmp_path / "seg.dcm", series=ct, names={1: name})
    assert list(tmp_path.iterdir()) == [tmp_path / "ct"]


def test_a_folder_of_one_image_and_its_segmentation(ct: Series, tmp_path: Path) -> None:
    labels = labels_on(read_series(ct).volume.geometry)
    for _ in range(2):  # the second time the folder holds the first result
        segue.write(labels, tmp_path / "ct" / "seg.dcm", series=str(tmp_path / "ct"))
    Study(tmp_path / "ct" / "more").add("MR", np.zeros((5, 37, 43)))
    with pytest.raises(DicomError) as error:
        segue.write(labels, tmp_path / "seg.dcm", series=tmp_path / "ct")
    assert error.value.reason == "SEVERAL_SERIES"


def test_without_highdicom(ct: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_on(read_series(ct).volume.geometry)
    segue.write(labels, tmp_path / "seg.dcm", series=ct)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MachineError) as error:
        segue.write(labels, tmp_path / "other.dcm", series=ct)
    assert error.value.remedy == 'pip install "segue[dicom]"'
    assert np.array_equal(label_map(read_segments(tmp_path / "seg.dcm")), labels.array[0])


# Terms


def test_codes_are_those_of_the_standard() -> None:
    from pydicom.sr._snomed_dict import mapping  # noqa: F401  (the dictionary is there)

    from segue.dicom import terms

    listed = {code.value for code in (getattr(codes.SCT, name) for name in codes.SCT.dir(""))}
    for known in terms._KNOWN.values():
        assert {known.category.value, known.type.value} <= listed, known
    assert {LEFT.value, terms.RIGHT.value} <= listed


@pytest.mark.parametrize(
    ("name", "type_", "side", "region"),
    [
        ("liver", "Liver", None, None),
        ("kidney_left", "Kidney", "Left", None),
        ("Right Lung", "Lung", "Right", None),
        ("lungs", "Lung", None, None),
        ("liver tumor", "Neoplasm", None, "Liver"),
        ("enhancing tumour", "Neoplasm", None, None),
        ("Hippocampus", "Hippocampus", None, None),
        ("vertebrae_L1", "Tissue", None, None),
        ("hepatic vessel", "Tissue", None, None),
        ("liver vessel", "Tissue", None, None),
        ("1", "Tissue", None, None),
        ("", "Tissue", None, None),
    ],
)
def test_terms_follow_from_names(name: str, type_: str, side: str | None, region: str | None) -> None:
    found = terms_of(name)
    assert found.type.meaning == type_
    assert (found.side.meaning if found.side else None) == side
    assert (found.region.meaning if found.region else None) == region
