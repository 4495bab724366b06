"""Synthetic PET/CT: the promises of the data's description, checked on the arrays and files that come out."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from segue.core.errors import UsageError
from segue.core.seeds import generator
from segue.synth import PetCtPatient, PetCtSettings, generate, patient, write_patient
from segue.synth.anatomy import Tissue, draw_body
from segue.synth.canvas import paint
from segue.synth.lesions import HOT

FILES = ("CT.nii.gz", "CTres.nii.gz", "SUV.nii.gz", "SEG.nii.gz")
SMALL = PetCtSettings(size="small", seed=5)


@pytest.fixture(scope="module")
def full() -> PetCtPatient:
    return patient(0, PetCtSettings())


@pytest.fixture(scope="module")
def small() -> list[PetCtPatient]:
    return [patient(index, SMALL) for index in range(5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten small patients, a fifth of them without lesions."""
    output = tmp_path_factory.mktemp("synthetic")
    generate(output, 10, PetCtSettings(size="small", negatives=0.2, seed=1), workers=1)
    return output


def tissues(made: PetCtPatient, index: int, settings: PetCtSettings) -> np.ndarray:
    """The anatomy on the PET's grid, without the rim of each tissue that point spread mixes with its neighbours."""
    grid = made.suv.geometry
    body = draw_body(generator(settings.seed, "body", index))
    middle = np.array(grid.shape) * grid.spacing_mm / 2
    axes = [(np.arange(n) + 0.5) * s - m for n, s, m in zip(grid.shape, grid.spacing_mm, middle, strict=True)]
    axes[2] = axes[2] + middle[2]
    painted = paint(body, axes)
    rim = 5 if settings.size == "full" else 3
    same = ndimage.minimum_filter(painted, rim) == ndimage.maximum_filter(painted, rim)
    clear = ndimage.binary_dilation(made.segmentation.array[0] > 0, iterations=2 * rim)
    return np.where(same & ~clear, painted, 255)


def centre_distances_mm(made: PetCtPatient, centre_mm: list[float]) -> np.ndarray:
    """Distance of every voxel centre from a place, through the affine."""
    i, j, k = np.ogrid[tuple(slice(n) for n in made.segmentation.geometry.shape)]
    affine = made.segmentation.geometry.affine
    return np.sqrt(
        sum((row[0] * i + row[1] * j + row[2] * k + row[3] - c) ** 2 for row, c in zip(affine, centre_mm, strict=False))
    )


def snapshot(output: Path) -> dict[str, int]:
    return {str(path.relative_to(output)): path.stat().st_mtime_ns for path in output.glob("*/*/*")}


@pytest.mark.parametrize("seed", range(4))
def test_prevalence_number_and_peaks_of_lesions(seed: int) -> None:
    for index in range(3):
        made = patient(index, PetCtSettings(size="small", seed=seed))
        mask = made.segmentation.array
        assert 0.0002 <= mask.mean() <= 0.0010
        assert 2 <= made.facts["lesions"] <= 4
        assert all(5 <= peak <= 12 for peak in made.facts["peaks_suv"])
        # Separate lesions are separate components, and each one's volume is told.
        components, number = ndimage.label(mask[0], np.ones((3, 3, 3)))
        assert number == made.facts["lesions"]
        measured = np.bincount(components.ravel())[1:] * made.segmentation.geometry.voxel_ml
        assert np.allclose(sorted(measured), sorted(made.facts["volumes_ml"]), atol=1e-3)
        assert made.facts["lesion_ml"] == pytest.approx(measured.sum(), abs=1e-3)


def test_both_sizes_show_the_same_patient(full: PetCtPatient) -> None:
    little = patient(0, PetCtSettings(size="small"))
    for fact in ("sites", "peaks_suv", "radii_mm", "centres_mm"):
        assert little.facts[fact] == full.facts[fact]
    assert 0.0002 <= full.facts["prevalence"] <= 0.0010
    assert little.facts["lesion_ml"] == pytest.approx(full.facts["lesion_ml"], rel=0.1)
    blocks = full.suv.array[0].reshape(100, 2, 100, 2, 75, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(blocks.ravel(), little.suv.array[0].ravel())[0, 1] > 0.97


def test_mask_is_where_the_ideal_profile_is_above_half_its_peak(small: list[PetCtPatient], full: PetCtPatient) -> None:
    for made in (small[0], full):
        expected = np.zeros(made.segmentation.geometry.shape, dtype=bool)
        for centre, radius in zip(made.facts["centres_mm"], made.facts["radii_mm"], strict=True):
            sigma = radius / np.sqrt(2 * np.log(2))
            profile = np.exp(-0.5 * (centre_distances_mm(made, centre) / sigma) ** 2)
            expected |= profile > 0.5
        # A voxel centre exactly on the border may fall to either side by rounding.
        assert np.count_nonzero(expected != (made.segmentation.array[0] > 0)) <= 1


def test_lesions_stand_out_on_pet_and_ct(small: list[PetCtPatient], full: PetCtPatient) -> None:
    for made in (*small, full):
        suv, ct = made.suv.array[0], made.ct_resampled.array[0]
        mask = made.segmentation.array[0] > 0
        facts = made.facts
        for site, centre, radius, peak in zip(
            facts["sites"], facts["centres_mm"], facts["radii_mm"], facts["peaks_suv"], strict=True
        ):
            distance = centre_distances_mm(made, centre)
            inside, around = distance < radius, (distance > 1.6 * radius) & (distance < 2.2 * radius)
            assert suv[inside].mean() > suv[around & ~mask].mean() + 1.0
            # Beside the centre the profile has fallen by a few per cent; 13 % of noise at SUV 1 is 5 % at 7.
            assert suv[distance < 5].mean() == pytest.approx(peak, rel=0.15)
            if site == "lung":
                # The coarse grid mixes a little lung into the rim.
                assert ct[distance < 0.6 * radius].mean() == pytest.approx(38, abs=12)


def test_lesions_lie_in_the_body_clear_of_hot_organs(small: list[PetCtPatient]) -> None:
    for index, made in enumerate(small):
        bare = patient(index, SMALL, lesions=False)
        anatomy = tissues(bare, index, SMALL)
        mask = made.segmentation.array[0] > 0
        assert not np.isin(anatomy[mask], HOT).any()
        assert (bare.suv.array[0][mask] > 0.1).all()
        assert bare.facts["lesions"] == 0 and not bare.segmentation.array.any()
        assert np.array_equal(bare.ct.array == -1000, made.ct.array == -1000)


def test_organs_have_their_usual_values(full: PetCtPatient, small: list[PetCtPatient]) -> None:
    for index, made, settings in ((0, full, PetCtSettings()), (0, small[0], SMALL), (1, small[1], SMALL)):
        where = tissues(made, index, settings)
        suv, ct = made.suv.array[0], made.ct_resampled.array[0]
        brain = np.isin(where, [Tissue.GREY_MATTER, Tissue.WHITE_MATTER])
        assert 6 <= suv[brain].mean() <= 8
        assert 1.7 <= suv[where == Tissue.LIVER].mean() <= 2.5
        assert suv[where == Tissue.BLADDER].mean() >= 8
        for tissue in (Tissue.MUSCLE, Tissue.VISCERA):
            assert 1 <= suv[where == tissue].mean() <= 2
        for tissue in (Tissue.MUSCLE, Tissue.LIVER, Tissue.SPLEEN, Tissue.GREY_MATTER):
            assert 0 <= ct[where == tissue].mean() <= 62
        assert -880 <= ct[where == Tissue.LUNG].mean() <= -760
        assert ct[where == Tissue.MARROW].mean() >= 300
        assert (made.ct.array > 600).sum() > 1000
        assert made.ct.array[0, :5, -5:, :].max() == -1000
        assert made.ct.array.min() >= -1024 and made.ct.array.max() <= 3071
        assert suv.min() == 0.0 and suv[where == Tissue.AIR].max() < 0.3
        # About 9 % of noise in the liver, and neighbours share it.
        liver = where == Tissue.LIVER
        assert 0.05 < suv[liver].std() / suv[liver].mean() < 0.13
        both = liver[:-1] & liver[1:]
        assert np.corrcoef(suv[:-1][both], suv[1:][both])[0, 1] > 0.1


def test_a_threshold_alone_finds_the_wrong_things(small: list[PetCtPatient]) -> None:
    for made in small:
        mask = made.segmentation.array > 0
        for threshold in (2.5, 4.0, 6.0):
            hot = made.suv.array > threshold
            assert 2 * np.count_nonzero(hot & mask) / (hot.sum() + mask.sum()) < 0.4


@pytest.mark.parametrize("size", ["full", "small"])
def test_grids(size: str, full: PetCtPatient, small: list[PetCtPatient]) -> None:
    made, times = (full, 1) if size == "full" else (small[0], 2)
    pet, ct = made.suv.geometry, made.ct.geometry
    assert pet.shape == (200 // times, 200 // times, 150 // times)
    assert np.allclose(pet.spacing_mm, np.array([2, 2, 3]) * times)
    assert ct.shape == (364 // times, 364 // times, 150 // times)
    assert np.allclose(ct.spacing_mm, np.array([1.1, 1.1, 3]) * times)
    for grid in (made.segmentation.geometry, made.ct_resampled.geometry):
        assert grid.difference(pet) is None
    assert pet.axis_codes == ct.axis_codes == "RAS"
    assert abs(pet.affine[2, 3]) > 500
    # Same middle: the two fields of view differ by 0.2 mm on every side.
    assert np.allclose(pet.corners_mm().mean(axis=0), ct.corners_mm().mean(axis=0))
    assert small[0].suv.geometry.affine[2, 3] != small[1].suv.geometry.affine[2, 3]


def test_files_sizes_and_ctres_against_simpleitk(full: PetCtPatient, tmp_path: Path) -> None:
    write_patient(full, tmp_path)
    # Measured: 10.0 to 10.5 MB a patient.
    assert 8e6 < sum((tmp_path / name).stat().st_size for name in FILES) < 11e6
    ct, pet = (sitk.ReadImage(str(tmp_path / name), sitk.sitkFloat32) for name in ("CT.nii.gz", "SUV.nii.gz"))
    expected = sitk.GetArrayFromImage(sitk.Resample(ct, pet, sitk.Transform(), sitk.sitkLinear, -1024.0))
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "CTres.nii.gz"))).astype(np.float32)
    # Half a unit of rounding to whole HU; headers hold spacing as float32, which moves steep edges a little.
    assert np.abs(written - expected).max() < 0.5 + 0.3
    assert np.abs(written - expected).mean() < 0.26
    suv = nibabel.load(tmp_path / "SUV.nii.gz")
    assert suv.get_data_dtype() == np.int16 and suv.dataobj.slope == pytest.approx(0.01)
    assert np.allclose(suv.get_fdata(), full.suv.array[0], atol=1e-4)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "SEG.nii.gz").dataobj), full.segmentation.array[0])
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "CT.nii.gz").dataobj), full.ct.array[0])
    assert np.allclose(suv.affine, full.suv.geometry.affine, atol=1e-4)


def test_the_same_seed_gives_the_same_patient_and_another_seed_another(small: list[PetCtPatient]) -> None:
    again = patient(2, SMALL)
    assert again.facts == small[2].facts and (again.id, again.study) == (small[2].id, small[2].study)
    for name in ("ct", "ct_resampled", "suv", "segmentation"):
        assert np.array_equal(getattr(again, name).array, getattr(small[2], name).array)
    other = patient(2, PetCtSettings(size="small", seed=6))
    assert other.id != again.id and not np.array_equal(other.suv.array, again.suv.array)


def test_layout_index_and_exact_number_of_negatives(folder: Path) -> None:
    with (folder / "index.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 10
    assert sum(row["lesions"] == "0" for row in rows) == 2
    for row in rows:
        study = folder / row["patient"] / row["study"]
        assert len(row["patient"]) == len("PETCT_0123456789") and row["study"].startswith("01-01-2000-NA-PETCT-")
        mask = nibabel.load(study / "SEG.nii.gz")
        voxels = np.count_nonzero(np.asarray(mask.dataobj))
        assert float(row["lesion_ml"]) == pytest.approx(voxels * 0.096, abs=1e-3)
        assert (voxels == 0) == (row["lesions"] == "0")
        assert sum((study / name).stat().st_size for name in FILES) < 2e6
    assert len({row["patient"] for row in rows}) == 10


@pytest.mark.parametrize("workers", [1, 2])
def test_files_do_not_depend_on_number_or_workers(folder: Path, tmp_path: Path, workers: int) -> None:
    settings = PetCtSettings(size="small", seed=1)
    if workers == 1:
        with ThreadPoolExecutor(2) as pool:
            generate(tmp_path, 2, settings, executor=pool)
    else:
        generate(tmp_path, 2, settings, workers=2)
    with_lesions = 0
    for path in sorted(tmp_path.glob("*/*/*.nii.gz")):
        twin = folder / path.relative_to(tmp_path)
        if json.loads((twin.parent / "synthetic.json").read_text())["facts"]["lesions"]:
            with_lesions += 1
            assert path.read_bytes() == twin.read_bytes()
    assert with_lesions >= 4


def test_a_rerun_does_nothing_and_mends_only_what_is_missing(tmp_path: Path) -> None:
    settings = PetCtSettings(size="small", seed=2)
    done: list[str] = []
    generate(tmp_path, 2, settings, workers=1, on_done=done.append)
    index = (tmp_path / "index.csv").read_bytes()
    before = snapshot(tmp_path)
    generate(tmp_path, 2, settings, workers=1, on_done=done.append)
    assert snapshot(tmp_path) == before and (tmp_path / "index.csv").read_bytes() == index
    assert done[:2] == done[2:] and len(set(done)) == 2
    lost = next(tmp_path.glob(f"{done[0]}/*/SEG.nii.gz"))
    content = lost.read_bytes()
    lost.unlink()
    generate(tmp_path, 3, settings, workers=1)
    assert lost.read_bytes() == content
    after = snapshot(tmp_path)
    assert all(after[name] == time for name, time in before.items() if name.startswith(done[1]))
    assert len(list(tmp_path.glob("*/*/SUV.nii.gz"))) == 3
    # One patient less is wanted: the third stays, and the index still tells of it.
    generate(tmp_path, 2, settings, workers=1)
    assert len((tmp_path / "index.csv").read_text().splitlines()) == 1 + 3


def test_changed_settings_make_patients_anew_and_never_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path, 1, PetCtSettings(size="small", seed=3), workers=1)
    study = next(tmp_path.glob("*/*/SUV.nii.gz")).parent
    assert nibabel.load(study / "SEG.nii.gz").get_fdata().any()
    generate(tmp_path, 1, PetCtSettings(size="small", negatives=1.0, seed=3), workers=1)
    assert not nibabel.load(study / "SEG.nii.gz").get_fdata().any()
    generate(tmp_path, 1, PetCtSettings(size="full", seed=3), workers=1)
    assert nibabel.load(study / "SUV.nii.gz").shape == (200, 200, 150)
    with pytest.raises(UsageError, match="would mix"):
        generate(tmp_path, 1, PetCtSettings(size="small", seed=4), workers=1)
    assert [path.parent for path in tmp_path.glob("*/*/SUV.nii.gz")] == [study]


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="full or small"):
        # Past the type that the shape checks of the tests would refuse first.
        PetCtSettings.__post_init__(SimpleNamespace(size="medium"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0 to 1"):
        PetCtSettings(negatives=20)
    with pytest.raises(UsageError, match="at least one"):
        generate(tmp_path, 0, PetCtSettings())
