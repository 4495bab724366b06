"""Synthetic PET/CT: what the brief and the card promise of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk import as_sitk
from segue.catalogue import open_dataset
from segue.core.errors import UsageError
from segue.images import read
from segue.synth import PetCtPatient, PetCtSettings, generate, patient, write_patient

SMALL = PetCtSettings(size="small")


@pytest.fixture(scope="module")
def full() -> PetCtPatient:
    return patient(0, PetCtSettings())


def test_grids_of_the_full_size(full: PetCtPatient) -> None:
    assert full.suv.geometry.shape == (200, 200, 150)
    assert full.suv.geometry.spacing_mm == pytest.approx((2.0, 2.0, 3.0))
    assert full.ct.geometry.spacing_mm[0] < full.suv.geometry.spacing_mm[0]
    for other in (full.ct_resampled, full.segmentation):
        assert other.geometry.difference(full.suv.geometry) is None
    # CT and PET cover the same field of view.
    for grid in (full.ct.geometry, full.suv.geometry):
        assert grid.affine[:3, 3] - np.diag(grid.affine)[:3] / 2 == pytest.approx([-200, -200, 0])


def test_hounsfield_units_and_uptake(full: PetCtPatient) -> None:
    ct, suv = full.ct.array[0], full.suv.array[0]
    assert np.median(ct[:20]) == -1000
    body = ct > -300
    assert 0 <= np.median(ct[body]) <= 60
    assert (ct > 300).sum() > 10_000
    assert 1.0 <= np.median(suv[full.ct_resampled.array[0] > -300]) <= 2.0
    brain = suv[95:105, 95:105, 132:140]
    assert 6.0 <= brain.mean() <= 8.0
    assert suv.min() == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_tumours_are_as_rare_as_the_brief_says(seed: int) -> None:
    for index in range(4):
        made = patient(index, PetCtSettings(size="small", seed=seed))
        assert 2 <= made.facts["lesions"] <= 4
        assert 0.0002 <= made.segmentation.array.mean() <= 0.0010
        assert all(5 <= peak <= 12 for peak in made.facts["peaks_suv"])


def test_tumours_of_the_full_size_are_as_rare(full: PetCtPatient) -> None:
    assert 0.0002 <= full.segmentation.array.mean() <= 0.0010


def test_the_mask_is_where_the_profile_is_above_half_its_peak() -> None:
    made = patient(3, SMALL)
    grid = made.segmentation.geometry
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    places = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    expected = np.zeros(grid.shape, dtype=bool)
    for centre, radius in zip(made.facts["centres_mm"], made.facts["radii_mm"], strict=True):
        sigma = radius / np.sqrt(2 * np.log(2))
        expected |= np.exp(-((places - centre) ** 2).sum(-1) / (2 * sigma**2)) > 0.5
    assert (expected != (made.segmentation.array[0] > 0)).sum() <= 2  # float32 at the border


def test_lesions_are_hot_and_clear_of_each_other() -> None:
    from scipy import ndimage

    for index in range(5):
        made = patient(index, SMALL)
        components, number = ndimage.label(made.segmentation.array[0])
        assert number == made.facts["lesions"]
        for part in range(1, number + 1):
            assert made.suv.array[0][components == part].max() > 3.5


def test_the_same_seed_gives_the_same_patient_and_another_another() -> None:
    one, two, other = patient(2, SMALL), patient(2, SMALL), patient(2, PetCtSettings(size="small", seed=1))
    assert np.array_equal(one.suv.array, two.suv.array)
    assert np.array_equal(one.ct.array, two.ct.array)
    assert not np.array_equal(one.suv.array, other.suv.array)
    assert one.id == two.id != other.id


def test_ct_on_the_pet_grid_as_simpleitk() -> None:
    made = patient(1, SMALL)
    reference = as_sitk(made.suv.array[0], made.suv.geometry)
    ct = as_sitk(made.ct.array[0].astype(np.float32), made.ct.geometry)
    theirs = sitk.GetArrayFromImage(sitk.Resample(ct, reference, sitk.Transform(), sitk.sitkLinear, -1024.0)).T
    assert np.abs(made.ct_resampled.array[0] - theirs).max() <= 0.51  # whole HU


def test_controls_have_no_lesion_and_are_as_many_as_asked(tmp_path: Path) -> None:
    generate(tmp_path, 5, PetCtSettings(size="small", negatives=0.4), workers=1)
    dataset = open_dataset(tmp_path)
    assert len(dataset.cases) == 5
    empty = [case for case in dataset.cases if not read(case.label or "").array.any()]
    assert len(empty) == 2
    rows = (tmp_path / "index.csv").read_text().splitlines()
    assert rows[0] == "patient,study,lesions,lesion_ml,prevalence"
    assert sum(row.split(",")[2] == "0" for row in rows[1:]) == 2


def test_a_rerun_does_only_what_is_missing_and_a_change_does_all(tmp_path: Path) -> None:
    generate(tmp_path, 2, SMALL, workers=1)
    files = sorted(tmp_path.rglob("*.nii.gz"))
    times = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    generate(tmp_path, 2, SMALL, workers=1)
    changed = [file for file in files if file.stat().st_mtime_ns != times[file]]
    assert {file.parent for file in changed} == {files[0].parent}
    generate(tmp_path, 2, PetCtSettings(size="small", negatives=1.0), workers=1)
    assert not any(read(file).array.any() for file in files if file.name == "SEG.nii.gz")
    with pytest.raises(UsageError, match="another seed"):
        generate(tmp_path, 2, PetCtSettings(size="small", seed=5), workers=1)


def test_a_patient_is_about_ten_megabytes(full: PetCtPatient, tmp_path: Path) -> None:
    write_patient(full, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 11_000_000
    stored = read(tmp_path / "SUV.nii.gz")
    assert np.abs(stored.array - full.suv.array).max() < 1e-4
