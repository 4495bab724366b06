"""RTSTRUCT: real structure sets against given masks, made ones against analytic truth and matplotlib's polygons."""

from __future__ import annotations

import itertools
import logging
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from segue.dicom.contours import Contour, drawing, filled
from segue.dicom.errors import REMEDIES, DicomError
from segue.dicom.masks import MaskSet, Segment
from segue.dicom.read import read_series
from segue.dicom.structures import read_structures, structure_reference
from segue.volume import Geometry

LPS = np.diag([-1.0, -1.0, 1.0])


def grid(shape: tuple[int, int, int], spacing: Sequence[float], origin: Sequence[float] = (0, 0, 0)) -> Geometry:
    """A grid whose indices grow along DICOM's axes (LPS), from an origin in LPS millimetres."""
    affine = np.eye(4)
    affine[:3, :3] = LPS @ np.diag(spacing)
    affine[:3, 3] = LPS @ np.array(origin, float)
    return Geometry(shape, affine)


def flat(corners: Sequence[Sequence[float]] | np.ndarray, z: float) -> np.ndarray:
    """LPS millimetres of a contour in an axial plane."""
    corners = np.asarray(corners, float)
    return np.column_stack([corners, np.full(len(corners), z)])


def square(low: float, high: float, z: float) -> np.ndarray:
    return flat([(low, low), (high, low), (high, high), (low, high)], z)


def circle(radius: float, centre: tuple[float, float] = (0, 0), count: int = 400) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)])


def item(**elements: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def contour(points: np.ndarray, kind: str = "CLOSED_PLANAR", **more: Any) -> Dataset:
    data = [f"{value:.10g}"[:16] for value in np.ravel(points)]
    return item(ContourGeometricType=kind, NumberOfContourPoints=len(data) // 3, ContourData=data, **more)


def structure_set(path: Path, *structures: tuple[str, list[Any]], syntax: str = ImplicitVRLittleEndian) -> Dataset:
    """Write an RTSTRUCT of named lists of contours (arrays of LPS millimetres, or items) and hand it back."""
    dataset = item(SOPClassUID=RTStructureSetStorage, SOPInstanceUID=generate_uid(), Modality="RTSTRUCT")
    dataset.SeriesInstanceUID = generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.StructureSetROISequence = [
        item(ROINumber=number, ROIName=name) for number, (name, _) in enumerate(structures, start=1)
    ]
    dataset.ROIContourSequence = [
        item(
            ReferencedROINumber=number,
            ContourSequence=[one if isinstance(one, Dataset) else contour(one) for one in contours],
        )
        for number, (_, contours) in enumerate(structures, start=1)
    ]
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def whole(masks: MaskSet, segment: Segment) -> np.ndarray:
    array = np.zeros(masks.geometry.shape, bool)
    array[tuple(slice(a, a + n) for a, n in zip(segment.start, segment.mask.shape, strict=True))] = segment.mask
    return array


def only(path: Path, reference: Geometry) -> np.ndarray:
    masks = read_structures(path, reference)
    assert masks.source == "RTSTRUCT"
    assert len(masks.segments) == 1
    segment = masks.segments[0]
    # The box is as small as it can be.
    for axis in range(3):
        there = segment.mask.any(axis=tuple({0, 1, 2} - {axis}))
        assert there[0]
        assert there[-1]
    return whole(masks, segment)


def drawn(tmp_path: Path, contours: list[Any], reference: Geometry) -> np.ndarray:
    structure_set(tmp_path / "rs.dcm", ("one", contours))
    return only(tmp_path / "rs.dcm", reference)


def refusal(path: Path, reference: Geometry | None = None) -> DicomError:
    with pytest.raises(DicomError) as caught:
        read_structures(path, reference or grid((8, 8, 8), (1, 1, 1)))
    assert caught.value.reason in REMEDIES
    assert caught.value.remedy
    assert caught.value.where == str(path)
    assert caught.value.value
    return caught.value


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def edge_distance_mm(centre: np.ndarray, contours: list[np.ndarray]) -> float:
    """From an LPS point to the nearest edge of an axial contour in its plane."""
    nearest = np.inf
    for a in contours:
        if abs(a[0, 2] - centre[2]) < 1:
            step = np.roll(a, -1, axis=0) - a
            along = ((centre - a) * step).sum(axis=1) / np.maximum((step**2).sum(axis=1), 1e-12)
            away = np.linalg.norm((a + np.clip(along, 0, 1)[:, None] * step - centre)[:, :2], axis=1)
            nearest = min(nearest, float(away.min()))
    return nearest


# Real structure sets


@pytest.mark.parametrize(("modality", "least"), [("CT", 0.98), ("PET", 0.95)])
def test_real_structures_equal_the_given_masks_up_to_centres_on_the_contour(
    test_data: Path, modality: str, least: float
) -> None:
    tried = 0
    for path in sorted((test_data / "sts-petct" / "dicom").glob(f"*/{modality}/mask/RS.dcm")):
        given_mask = test_data / "sts-petct" / "nifti" / path.parts[-4] / f"{modality}_mask.nii.gz"
        if not given_mask.is_file():
            continue
        tried += 1
        theirs = nibabel.load(given_mask)
        truth = np.asarray(theirs.dataobj) > 0
        series = read_series(sorted((path.parent.parent / "image").iterdir()))
        reference = series.volume.geometry
        assert Geometry(truth.shape, theirs.affine).oriented(reference.axis_codes).difference(reference) is None
        masks = read_structures(path, Geometry(truth.shape, theirs.affine))
        assert masks.series_uid == structure_reference(path) == series.headers[0].SeriesInstanceUID
        (segment,) = masks.segments
        assert (segment.number, segment.name) == (1, f"GTV_Mass_{modality}")
        assert segment.meaning == {"algorithm": "MANUAL", "type": "GTV"}
        ours = whole(masks, segment)
        assert dice(ours, truth) >= least, path
        contours = [np.array(one.ContourData, float).reshape(-1, 3) for one in _contours_of(path, 0)]
        for index in np.argwhere(ours != truth):
            centre = LPS @ (theirs.affine @ [*index, 1])[:3]
            # The contours are drawn along pixels, through their centres: what differs is on the edge.
            assert edge_distance_mm(centre, contours) < 0.01, (path, index)
        # The grid of the series and that of the NIfTI file are one: the masks are too.
        assert np.count_nonzero(only(path, reference)) == np.count_nonzero(ours)
    assert tried


def test_the_raw_pet_holds_the_masks_of_its_crop(test_data: Path) -> None:
    folder = test_data / "sts001-raw-pet"
    (path,) = (folder / "mask").iterdir()
    series = read_series(sorted((folder / "image").iterdir()))
    masks = read_structures(path, series.volume.geometry)
    assert [(one.number, one.name) for one in masks.segments] == [(1, "GTV_Mass"), (2, "GTV_Edema")]
    theirs = nibabel.load(test_data / "sts-petct" / "nifti" / "STS_001" / "PET_mask.nii.gz")
    truth = np.asarray(theirs.dataobj) > 0
    (mass, _) = masks.segments
    centres = np.argwhere(whole(masks, mass)) @ masks.geometry.affine[:3, :3].T + masks.geometry.affine[:3, 3]
    inverse = np.linalg.inv(theirs.affine)
    index = np.rint(centres @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    crop = np.zeros_like(truth)
    crop[tuple(index.T)] = True
    # Up to centres on the contour, which noise may decide otherwise.
    assert dice(crop, truth) > 0.99


def test_structures_drawn_on_the_pet_have_their_volume_on_the_ct(test_data: Path) -> None:
    case = test_data / "sts-petct" / "dicom" / "STS_001"
    ct = read_series(sorted((case / "CT" / "image").iterdir())).volume.geometry
    path = case / "PET" / "mask" / "RS.dcm"
    areas = [_signed_area(np.array(one.ContourData, float)) for one in _contours_of(path, 0)]
    volume_ml = np.count_nonzero(only(path, ct)) * ct.voxel_ml
    assert volume_ml == pytest.approx(sum(map(abs, areas)) * 3.27 / 1000, rel=0.01)


def _contours_of(path: Path, place: int) -> list[Any]:
    return list(pydicom.dcmread(path).ROIContourSequence[place].ContourSequence)


def _signed_area(data: np.ndarray) -> float:
    x, y, _ = data.reshape(-1, 3).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_the_structures_of_rt_utils(test_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = test_data / "dicom" / "rt-utils" / "mock_data"
    series = read_series(sorted(folder.glob("ct_*.dcm")))
    reference = series.volume.geometry
    # A square of 24 mm, in which a second contour is a hole.
    one = only(folder / "rt.dcm", reference)
    outer, inner = (abs(_signed_area(np.array(one.ContourData, float))) for one in _contours_of(folder / "rt.dcm", 0))
    slices = np.flatnonzero(one.any(axis=(0, 1)))
    in_plane_mm2 = reference.spacing_mm[0] * reference.spacing_mm[1]
    rim_mm = 4 * (24 + 15)
    assert len(slices) == 1
    assert abs(one.sum() * in_plane_mm2 - (outer - inner)) < rim_mm * max(reference.spacing_mm[:2]) / 2
    assert structure_reference(folder / "rt.dcm") == series.headers[0].SeriesInstanceUID
    assert structure_reference(folder / "non_existent_reference_rt.dcm") == ""
    # Drawn on five slices, of which two are here.
    masks = read_structures(folder / "invalid_reference_rt.dcm", reference)
    assert [segment.number for segment in masks.segments] == [1, 2, 3, 4]
    for place, segment in enumerate(masks.segments):
        path = folder / "invalid_reference_rt.dcm"
        heights = reference.affine[2, 3] + reference.affine[2, 2] * np.arange(reference.shape[2])
        for k, z in enumerate(heights):
            truth = _by_matplotlib(
                [c for c in _contours_of(path, place) if abs(float(c.ContourData[2]) - z) < 1], reference
            )
            assert dice(whole(masks, segment)[:, :, k], truth) > 0.99


def _by_matplotlib(contours: list[Any], reference: Geometry) -> np.ndarray:
    """Centres of an axial slice inside contours, exclusive or."""
    i, j = np.meshgrid(*map(np.arange, reference.shape[:2]), indexing="ij")
    centres = np.column_stack([i.ravel(), j.ravel(), np.zeros(i.size), np.ones(i.size)]) @ reference.affine.T
    inside = np.zeros(i.shape, bool)
    for one in contours:
        points = np.array(one.ContourData, float).reshape(-1, 3)[:, :2]
        inside ^= Polygon(points).contains_points(centres[:, :2] * [-1, -1]).reshape(i.shape)
    return inside


def test_an_oblique_series_is_filled_like_a_straight_one(test_data: Path, tmp_path: Path) -> None:
    series = read_series(sorted((test_data / "dicom" / "rt-utils" / "oriented_data").iterdir()))
    oblique = series.volume.geometry
    rings = [circle(11.3, (24.2, 20.1)), circle(8.7, (20.3, 24.4)), circle(14.1, (25.1, 25.2))]
    contours = []
    for k, ring in enumerate(rings):
        points = flat(ring, k) @ oblique.affine[:3, :3].T + oblique.affine[:3, 3]
        contours.append(np.round(points @ LPS, 3))
    mask = drawn(tmp_path, contours, oblique)
    i, j = np.meshgrid(*map(np.arange, oblique.shape[:2]), indexing="ij")
    centres = np.column_stack([i.ravel(), j.ravel()])
    for k, ring in enumerate(rings):
        assert np.array_equal(mask[:, :, k], Polygon(ring).contains_points(centres).reshape(i.shape))


# The rule


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-4, 24), st.floats(-4, 24)), min_size=3, max_size=12),
    st.sampled_from(["LPS", "RAS", "PIR", "SAL"]),
)
def test_polygons_hold_the_centres_that_matplotlib_finds_inside(
    corners: list[tuple[float, float]], axis_codes: str
) -> None:
    reference = grid((20, 18, 3), (1, 1, 2)).oriented(axis_codes)
    points = np.array(corners)
    i, j = np.meshgrid(np.arange(20), np.arange(18), indexing="ij")
    centres = np.column_stack([i.ravel(), j.ravel()])
    step = np.roll(points, -1, axis=0) - points
    along = ((centres[:, None] - points) * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12)
    away = np.linalg.norm(points + np.clip(along, 0, 1)[..., None] * step - centres[:, None], axis=-1).min(axis=1)
    clear = (away > 1e-3).reshape(i.shape)
    truth = np.zeros((20, 18, 3), bool)
    truth[:, :, 1] = Polygon(points).contains_points(centres).reshape(i.shape)
    found = filled(drawing([Contour(flat(points, 2) @ LPS)], reference, "here"), 2.0)
    mask = np.zeros(reference.shape, bool)
    if found:
        start, box = found
        mask[tuple(slice(a, a + n) for a, n in zip(start, box.shape, strict=True))] = box
    transform = reference.orientation_to("LPS")
    mask = nibabel.orientations.apply_orientation(mask, transform).astype(bool)
    assert np.array_equal(mask & clear[..., None], truth & clear[..., None])


def test_of_a_centre_on_a_shared_edge_one_structure_has_it(tmp_path: Path) -> None:
    reference = grid((13, 13, 1), (0.7, 0.7, 3), (-5.1, 7.7, 3))

    def at(*corners: tuple[int, int]) -> np.ndarray:
        return flat(np.array(corners) * 0.7 + [-5.1, 7.7], 3)

    # All edges run through centres, the diagonal ones too.
    parts = [
        [at((2, 2), (6, 2), (6, 6), (2, 6))],
        [at((6, 2), (10, 2), (10, 6), (6, 6))],
        [at((2, 6), (6, 6), (2, 10))],
        [at((2, 10), (6, 10), (6, 6))],
        [at((6, 10), (10, 10), (10, 6), (6, 6))],
    ]
    structure_set(tmp_path / "rs.dcm", *[(f"part {n}", part) for n, part in enumerate(parts)])
    masks = read_structures(tmp_path / "rs.dcm", reference)
    count = np.sum([whole(masks, segment) for segment in masks.segments], axis=0)
    truth = np.zeros((13, 13, 1), int)
    truth[2:10, 2:10] = 1  # lower edges belong, upper ones do not
    assert np.array_equal(count, truth)


@pytest.mark.parametrize("axis_codes", ["LPS", "RAS", "LPI", "PSR", "SRA"])
def test_volumes_are_those_of_the_polygons(tmp_path: Path, axis_codes: str) -> None:
    reference = grid((120, 110, 9), (0.5, 0.5, 3), (-29.8, -27.3, -12)).oriented(axis_codes)
    star = circle(20, count=10) * np.where(np.arange(10) % 2, 0.5, 1)[:, None]
    mask = drawn(tmp_path, [flat(star, z) for z in range(-6, 9, 3)], reference)
    assert mask.sum() * reference.voxel_ml * 1000 == pytest.approx(_signed_area(flat(star, 0)) * 5 * 3, rel=0.01)


# Several contours on a plane


def hole(kind: str, way: int = 1) -> list[Any]:
    """A square of 20 mm with a hole of 10 mm, 300 mm2."""
    outer, inner = square(-10, 10, 0), square(-5, 5, 0)[::way]
    if kind == "keyhole":
        # From the outer square to the inner one and back on the same line.
        return [np.vstack([outer[:1], square(-5, 5, 0)[[0, 3, 2, 1, 0]], outer[[0, 1, 2, 3]]])]
    if kind == "keyhole with a channel":
        inner = square(-5, 5, 0)[[3, 2, 1]]
        return [np.vstack([outer, flat([(-10, -9.99), (-5, -4.99)], 0), inner, flat([(-5, -5)], 0)])]
    return [contour(one, kind) for one in (outer, inner)]


@pytest.mark.parametrize("kind", ["keyhole", "keyhole with a channel", "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
@pytest.mark.parametrize("way", [1, -1])
def test_holes_are_empty_however_they_are_written(tmp_path: Path, kind: str, way: int) -> None:
    reference = grid((60, 60, 1), (0.4, 0.4, 1), (-11.83, -11.83, 0))
    mask = drawn(tmp_path, hole(kind, way), reference)[:, :, 0]
    centre = -11.83 + 0.4 * np.arange(60)
    outer, inner = np.abs(centre) < 10, np.abs(centre) < 5
    assert np.array_equal(mask, np.outer(outer, outer) & ~np.outer(inner, inner))


def test_an_island_in_a_hole_and_one_beside(tmp_path: Path) -> None:
    reference = grid((80, 50, 1), (0.5, 0.5, 1), (-12.2, -12.2, 0))
    contours = [flat(circle(2, (18, 0)), 0), flat(circle(3), 0), flat(circle(6), 0), flat(circle(10), 0)]
    for order in itertools.permutations(contours):
        mask = drawn(tmp_path, list(order), reference)
        assert mask.sum() * 0.25 == pytest.approx(np.pi * (100 - 36 + 9 + 4), rel=0.01)


def test_contours_that_cross_are_united_unless_declared_exclusive(tmp_path: Path) -> None:
    reference = grid((60, 50, 1), (0.5, 0.5, 1), (-12.2, -12.2, 0))
    one, other = flat([(-8, -8), (4, -8), (4, 8), (-8, 8)], 0), flat([(0, -8), (12, -8), (12, 8), (0, 8)], 0)
    united = drawn(tmp_path, [one, other], reference)
    exclusive = drawn(tmp_path, [contour(part, "CLOSEDPLANAR_XOR") for part in (one, other)], reference)
    assert united.sum() * 0.25 == pytest.approx(20 * 16, rel=0.02)
    assert exclusive.sum() * 0.25 == pytest.approx(16 * 16, rel=0.02)


def test_a_repeated_contour_counts_once(tmp_path: Path) -> None:
    reference = grid((30, 30, 1), (1, 1, 1), (-14.7, -14.7, 0))
    once = drawn(tmp_path, [square(-10, 10, 0)], reference)
    assert once.sum() == 400
    assert np.array_equal(once, drawn(tmp_path, [square(-10, 10, 0), square(-10, 10, 0)[[2, 1, 0, 3]]], reference))


def test_a_hole_may_touch_the_edge(tmp_path: Path) -> None:
    reference = grid((30, 30, 1), (1, 1, 1), (-14.7, -14.7, 0))
    bite = flat([(-10.001, -5), (0, -5), (0, 5), (-10.001, 5)], 0)
    assert drawn(tmp_path, [square(-10, 10, 0), bite], reference).sum() == 300


# Between planes


def heights(mask: np.ndarray) -> list[int]:
    return np.flatnonzero(mask.any(axis=(0, 1))).tolist()


def test_finer_slices_are_filled_and_coarser_ones_sampled(tmp_path: Path) -> None:
    contours = [square(-10, 10 + z, z) for z in range(0, 40, 4)]
    fine = drawn(tmp_path, contours, grid((70, 70, 60), (1, 1, 1), (-14.7, -14.7, -5.5)))
    coarse = drawn(tmp_path, contours, grid((70, 70, 6), (1, 1, 10), (-14.7, -14.7, -5)))
    # From 2 mm below the first plane to 2 mm above the last; the centre at z shows the nearest plane.
    assert heights(fine) == list(range(4, 44))
    areas = [int(np.count_nonzero(fine[:, :, k])) for k in heights(fine)]
    assert areas == [(20 + z) ** 2 for z in range(0, 40, 4) for _ in range(4)]
    assert heights(coarse) == [1, 2, 3, 4]
    # 5, 15, 25 and 35 mm are nearest to 4, 16, 24 and 36.
    assert [int(np.count_nonzero(coarse[:, :, k])) for k in heights(coarse)] == [(20 + z) ** 2 for z in (4, 16, 24, 36)]


def test_a_gap_is_not_bridged_but_a_sparse_drawing_is(tmp_path: Path) -> None:
    reference = grid((30, 30, 40), (1, 1, 1), (-14.7, -14.7, 0))
    # 1.4 times the usual spacing is a neighbour, 1.6 times is a gap.
    contours = [square(-10, 10, z) for z in (2, 4, 6, 8.8, 10.8, 12.8, 16, 18, 20)]
    assert heights(drawn(tmp_path, contours, reference)) == [*range(1, 14), *range(15, 21)]
    # On every third slice, all along.
    assert heights(drawn(tmp_path, [square(-10, 10, z) for z in range(3, 30, 3)], reference)) == list(range(2, 29))
    # Two islands of one plane each: further apart than slices ever are.
    assert heights(drawn(tmp_path, [square(-10, 10, z) for z in (5, 30)], reference)) == [5, 30]


def test_the_spacing_of_few_planes_is_that_of_the_set(tmp_path: Path) -> None:
    reference = grid((30, 30, 40), (1, 1, 1), (-14.7, -14.7, 0))
    tall = [square(-10, 10, z) for z in range(4, 36, 4)]
    structure_set(tmp_path / "rs.dcm", ("tall", tall), ("one plane", tall[2:3]), ("two islands", [tall[1], tall[3]]))
    masks = read_structures(tmp_path / "rs.dcm", reference)
    found = {segment.name: heights(whole(masks, segment)) for segment in masks.segments}
    assert found["one plane"] == [10, 11, 12, 13]
    assert found["two islands"] == [6, 7, 8, 9, 14, 15, 16, 17]


def test_one_plane_alone_is_one_slice(tmp_path: Path) -> None:
    reference = grid((30, 30, 9), (1, 1, 3), (-14.7, -14.7, -12))
    assert heights(drawn(tmp_path, [square(-10, 10, 0.3)], reference)) == [4]


def test_the_order_of_contours_and_slices_does_not_matter(tmp_path: Path) -> None:
    reference = grid((40, 40, 12), (1, 1, 3), (-14.7, -14.7, -6.1))
    contours = [square(-10, 10 + z, z + 0.004 * (-1) ** z) for z in range(0, 21, 3)]
    first = drawn(tmp_path, contours, reference)
    shuffled = [contours[n] for n in (3, 0, 6, 1, 5, 2, 4)]
    assert np.array_equal(first, drawn(tmp_path, shuffled, reference))
    turned = Geometry(
        reference.shape, reference.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 11], [0, 0, 0, 1]])
    )
    assert np.array_equal(first[:, :, ::-1], drawn(tmp_path, shuffled, turned))


# Directions


def test_sagittal_contours_fill_axial_slices(tmp_path: Path) -> None:
    reference = grid((40, 60, 50), (1.5, 1, 1.25), (-30.2, -29.6, -30.7))
    contours = [np.column_stack([np.full(400, x), circle(18)]) for x in np.arange(-12, 13, 3.0)]
    mask = drawn(tmp_path, contours, reference)
    i, j, k = np.nonzero(mask)
    y, z = -29.6 + j, -30.7 + 1.25 * k
    assert (np.hypot(y, z) < 18).all()
    assert mask.sum() * reference.voxel_ml * 1000 == pytest.approx(np.pi * 18**2 * 27, rel=0.02)
    assert -30.2 + 1.5 * i.min() >= -13.5
    assert -30.2 + 1.5 * i.max() < 13.5


@pytest.mark.parametrize("degrees", [3, 20, 45])
def test_contours_across_the_slices_fill_what_lies_in_their_slabs(tmp_path: Path, degrees: float) -> None:
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[:3, :3] = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    straight = grid((64, 60, 40), (1, 1.1, 2), (-31.2, -32.7, -38.9))
    reference = Geometry(straight.shape, turn @ straight.affine)
    # A cylinder with a hole along z, on planes 4 mm apart.
    contours = [flat(circle(radius), z) for z in range(-16, 17, 4) for radius in (18, 9)]
    mask = drawn(tmp_path, contours, reference)
    index = np.stack(np.meshgrid(*map(np.arange, reference.shape), indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(index @ reference.affine[:3, :3].T + reference.affine[:3, 3], -1, 0)
    radius = np.hypot(x, y)
    clear = (np.abs(radius - 18) > 0.01) & (np.abs(radius - 9) > 0.01) & (np.abs(np.abs(z) - 18) > 1e-6)
    truth = (radius < 18) & (radius > 9) & (np.abs(z) < 18)
    assert truth.sum() > 1000
    assert np.array_equal(mask & clear, truth & clear)


def test_contours_that_are_not_flat_are_refused(tmp_path: Path) -> None:
    bent = square(-3, 3, 4) + [0, 0, 4]
    bent[0, 2] -= 6
    structure_set(tmp_path / "rs.dcm", ("bent", [bent]))
    error = refusal(tmp_path / "rs.dcm")
    assert error.reason == "CONTOUR_ORIENTATION"
    assert "mm from a common plane" in str(error)
    crossed = [square(1, 6, 3), square(1, 6, 3)[:, [2, 0, 1]]]
    structure_set(tmp_path / "rs.dcm", ("crossed", crossed))
    assert refusal(tmp_path / "rs.dcm").reason == "CONTOUR_ORIENTATION"
    line = np.outer(np.linspace(0, 7, 9), [1, 1, 1])
    structure_set(tmp_path / "rs.dcm", ("line", [line]))
    assert "without an area" in str(refusal(tmp_path / "rs.dcm"))


# What is written beside the contours

BOX = [square(1.5, 5.5, z) for z in (2, 3, 4)]
SMALL = grid((8, 8, 8), (1, 1, 1))


def test_numbers_names_and_meaning(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"
    dataset = structure_set(path, ("tumour", BOX), ("tumour", BOX), ("", BOX))
    for structure, drawing_, number in zip(
        dataset.StructureSetROISequence, dataset.ROIContourSequence[::-1], (7, 300, 12), strict=True
    ):
        structure.ROINumber = number
        structure.ROIGenerationAlgorithm = "SEMIAUTOMATIC"
        structure.ROIDescription = "drawn by Dr. A. Person"
        drawing_.ReferencedROINumber = number
    code = item(CodeValue="4147007", CodingSchemeDesignator="SCT", CodeMeaning="Mass")
    observation = item(ReferencedROINumber=300, RTROIInterpretedType="GTV", ROIObservationLabel="A. Person")
    observation.ROIInterpreter = "Person^A"
    observation.RTROIIdentificationCodeSequence = [code]
    dataset.RTROIObservationsSequence = [observation]
    dataset.save_as(path, enforce_file_format=True)
    masks = read_structures(path, SMALL)
    assert [(one.number, one.name) for one in masks.segments] == [(7, "tumour"), (300, "tumour (2)"), (12, "ROI 12")]
    coded = {"type": "GTV", "code": "SCT:4147007", "code_meaning": "Mass"}
    assert [one.meaning for one in masks.segments] == [
        {"algorithm": "SEMIAUTOMATIC"},
        {"algorithm": "SEMIAUTOMATIC", **coded},
        {"algorithm": "SEMIAUTOMATIC"},
    ]


@pytest.mark.parametrize("numbers", [(1, 1), (0, 5), (-4, 5), (70000, 5), (None, 5), ("", 5)])
def test_numbers_that_are_no_labels_become_consecutive(tmp_path: Path, numbers: tuple[Any, Any]) -> None:
    path = tmp_path / "rs.dcm"
    dataset = structure_set(path, ("small", BOX[:1]), ("large", BOX))
    for structure, drawing_, number in zip(
        dataset.StructureSetROISequence, dataset.ROIContourSequence, numbers, strict=True
    ):
        structure.ROINumber = drawing_.ReferencedROINumber = number
        if number is None:
            del structure.ROINumber, drawing_.ReferencedROINumber
    dataset.save_as(path, enforce_file_format=True)
    masks = read_structures(path, SMALL)
    assert [(one.number, one.name, int(one.mask.sum())) for one in masks.segments] == [
        (1, "small", 16),
        (2, "large", 48),
    ]


def test_contours_of_no_structure_in_particular_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"
    dataset = structure_set(path, ("one", BOX), ("other", BOX))
    dataset.StructureSetROISequence[1].ROINumber = 1
    del dataset.ROIContourSequence[0]
    dataset.save_as(path, enforce_file_format=True)
    assert "not clear" in str(refusal(path))


def test_contours_without_an_entry_are_named_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"
    dataset = structure_set(path, ("one", BOX), ("other", BOX))
    del dataset.StructureSetROISequence[0]
    dataset.save_as(path, enforce_file_format=True)
    assert {(one.number, one.name) for one in read_structures(path, SMALL).segments} == {(1, "ROI 1"), (2, "other")}


def test_what_encloses_nothing_is_skipped_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rs.dcm"
    others = [contour(BOX[0][:1], "POINT"), contour(BOX[0], "OPEN_PLANAR"), contour(BOX[0][:2]), contour(BOX[0][:0])]
    structure_set(
        path, ("box", [*BOX, *others]), ("nothing", []), ("point", others[:1]), ("thin", [square(1.1, 1.2, 3)])
    )
    with caplog.at_level(logging.WARNING):
        (segment,) = read_structures(path, SMALL).segments
    skipped = "2 CLOSED_PLANAR with fewer than 3 points, 1 OPEN_PLANAR, 1 POINT"
    assert (segment.name, segment.meaning) == ("box", {"skipped_contours": skipped})
    assert segment.mask.sum() == 48
    for message in (skipped, "nothing is left out: it has no closed contour", "thin is left out: it holds the centre"):
        assert message in caplog.text


def test_a_structure_set_without_contours_is_refused(tmp_path: Path, test_data: Path) -> None:
    path = tmp_path / "rs.dcm"
    structure_set(path, ("point", [contour(BOX[0][:1], "POINT")]))
    assert refusal(path).reason == "NO_CONTOURS"
    assert "1 POINT" in str(refusal(path))
    structure_set(path)
    assert refusal(path).reason == "NO_CONTOURS"
    structure_set(path, ("thin", [square(1.1, 1.2, 3)]))
    assert "centre of a voxel" in str(refusal(path))
    slice_of_ct = test_data / "dicom" / "rt-utils" / "one_slice_data" / "0.dcm"
    assert "not a structure set" in str(refusal(slice_of_ct))


def test_contours_elsewhere_are_refused_with_their_distance(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"
    structure_set(path, ("box", [one + [0, 0, 100] for one in BOX]))
    error = refusal(path)
    assert (error.reason, error.value) == ("CONTOUR_OUTSIDE", "94.5 mm beyond it")
    structure_set(path, ("box", [one + [100, 0, 0] for one in BOX]))
    assert refusal(path).value == "94.0 mm beyond it"


def test_what_reaches_out_of_the_image_is_cut_off_at_no_cost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rs.dcm"
    structure_set(path, ("everything", [square(-9e5, 9e5, z) for z in (-8e5, *range(-3, 20), 7e5)]))
    tracemalloc.start()
    masks = read_structures(path, SMALL)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert whole(masks, masks.segments[0]).all()
    assert "out of the image, the furthest is everything, by 899999.5 mm" in caplog.text


def test_masks_beyond_any_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rs.dcm"
    everywhere = [square(-1, 9, z) for z in range(8)]
    structure_set(path, *[(f"all {n}", everywhere) for n in range(40)])
    assert len(read_structures(path, SMALL).segments) == 40
    monkeypatch.setattr("segue.dicom.structures._ALWAYS_BYTES", 0)
    assert "33 of 40 structures" in str(refusal(path, SMALL))


def test_points_that_are_not_there_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    short = contour(BOX[0])
    short.NumberOfContourPoints = 9
    assert drawn(tmp_path, [short, *BOX[1:]], SMALL).sum() == 48
    assert "1 contours have more or fewer points than they name" in caplog.text


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], "10 numbers"),
        (["1", "2", "3", "nan", "5", "6", "7", "8", "9"], "nan mm"),
        (["1", "2", "3", "inf", "5", "6", "7", "8", "9"], "inf mm"),
        (["1", "2", "3", "1e300", "5", "6", "7", "8", "9"], "1e+300 mm"),
        (["1", "2", "3", "7777", "5", "6", "7", "8", "9"], "four"),
        (["1", "2", "3", "", "5", "6", "7", "8", "9"], "not numbers"),
    ],
)
def test_damaged_coordinates_are_refused(tmp_path: Path, data: list[str], what: str) -> None:
    path = tmp_path / "rs.dcm"
    points = item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=3)
    points.add_new("ContourData", "UN", "\\".join(data).encode().ljust(60))
    structure_set(path, ("tumour", [*BOX, points]))
    path.write_bytes(path.read_bytes().replace(b"7777", b"four"))  # which pydicom does not write
    error = refusal(path)
    assert error.reason == "DAMAGED"
    assert "contour 4 of tumour" in str(error)
    assert what in str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6), st.booleans()
)
def test_changed_bytes_never_end_in_a_traceback(tmp_path: Path, changes: list[tuple[float, int]], plain: bool) -> None:
    path, broken = tmp_path / "rs.dcm", tmp_path / "broken.dcm"
    dataset = structure_set(path, ("tumour", BOX), ("other", hole("CLOSED_PLANAR")), syntax=ImplicitVRLittleEndian)
    dataset.ReferencedFrameOfReferenceSequence = _referenced({"1.2.3": ["1.2.3.4"], "1.2.5": ["1.2.5.4"]})
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if plain else ExplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=plain, little_endian=True, enforce_file_format=True)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[132 + int(place * (len(content) - 132))] = value
    broken.write_bytes(content)
    for read in (lambda: read_structures(broken, SMALL), lambda: structure_reference(broken)):
        try:
            read()
        except DicomError as error:
            assert error.reason in REMEDIES


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9, 0.99])
def test_a_torn_file_is_no_traceback(tmp_path: Path, test_data: Path, part: float) -> None:
    path, torn = test_data / "sts-petct" / "dicom" / "STS_001" / "PET" / "mask" / "RS.dcm", tmp_path / "rs.dcm"
    content = path.read_bytes()
    torn.write_bytes(content[: int(part * len(content))])
    with pytest.raises(DicomError):
        read_structures(torn, SMALL)


# The image on which they were drawn


def _referenced(images: dict[str, list[str]], frame: str = "1.9") -> list[Dataset]:
    series = [
        item(SeriesInstanceUID=uid, ContourImageSequence=[item(ReferencedSOPInstanceUID=one) for one in names])
        for uid, names in images.items()
    ]
    return [item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[item(RTReferencedSeriesSequence=series)])]


def test_of_several_series_the_one_that_the_contours_name(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"

    def on(*names: str) -> list[Dataset]:
        return [contour(BOX[0], ContourImageSequence=[item(ReferencedSOPInstanceUID=name)]) for name in names]

    def reference(images: dict[str, list[str]], *names: str) -> str:
        dataset = structure_set(path, ("box", on(*names) or BOX))
        dataset.ReferencedFrameOfReferenceSequence = _referenced(images)
        dataset.save_as(path, enforce_file_format=True)
        found = structure_reference(path)
        assert read_structures(path, SMALL).series_uid == found
        return found

    images = {"1.1": ["1.1.1", "1.1.2"], "1.2": ["1.2.1", "1.2.2", "1.2.3"]}
    assert reference({}) == ""
    assert reference({"1.1": []}) == "1.1"
    assert reference(images, "1.2.1", "1.1.2", "1.1.1") == "1.1"
    assert reference(images, "1.2.1") == "1.2"
    assert reference(images, "1.2.1", "1.1.1") == ""
    assert reference(images) == ""


def test_structures_of_another_frame_of_reference_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "rs.dcm"
    dataset = structure_set(path, ("here", BOX), ("there", BOX))
    for structure, frame in zip(dataset.StructureSetROISequence, ("1.9", "1.8"), strict=True):
        structure.ReferencedFrameOfReferenceUID = frame
    dataset.save_as(path, enforce_file_format=True)
    assert refusal(path).reason == "NO_REFERENCE"
    dataset.ReferencedFrameOfReferenceSequence = _referenced({"1.1": []}, "1.9")
    dataset.save_as(path, enforce_file_format=True)
    assert [one.name for one in read_structures(path, SMALL).segments] == ["here"]
    assert "there is left out" in caplog.text


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (lambda: read_structures(tmp_path / "no.dcm", SMALL), lambda: structure_reference(tmp_path / "no.dcm")):
        with pytest.raises(DicomError) as caught:
            read()
        assert caught.value.reason == "NO_FILES"
