"""DICOM folders predicted: converted, masks on the grid of their series, and back as DICOM-SEG."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from dicom_studies import Study, suv_of
from segue.catalogue import Channel
from segue.core.errors import DataError, UsageError
from segue.core.files import write_json
from segue.images import read, read_labels
from segue.predict import Delivery, Prediction, Predictor, gather, predict_cases
from segue.prepare import Normalisation
from test_predict import make_run

RNG = np.random.default_rng(5)
PET = np.abs(RNG.normal(4000, 1500, (8, 16, 16)))  # Bq/ml
CT = np.rint(RNG.normal(0, 300, (9, 40, 40)))
BODY = Channel(name="CT", unit="HU")
UPTAKE = Channel(name="PET", unit="SUV")
HU = Normalisation(kind="hu", low=-1000, high=1000, mean=50, std=100)  # above 50 HU is label 2
SUV = Normalisation(kind="suv")  # log(1 + SUV) - 1: above 1.718 is label 2
SUV_BORDER = float(np.e - 1)


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the pseudonyms lies in a configuration folder of the test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def model_of(
    folder: Path, channels: dict[Channel, Normalisation], spacing: tuple[float, ...], **card: object
) -> Predictor:
    """A model that finds what is above a value in its last channel, at a spacing that changes nothing."""
    run = make_run(folder, channels=len(channels))
    for name, further in (("card.json", card), ("plan.json", {})):
        content = json.loads((run / name).read_text())
        content["channels"] = [channel.model_dump() for channel in channels]
        write_json(run / name, {**content, **further})
    plan = json.loads((run / "plan.json").read_text())
    rules = [rule.model_dump() for rule in channels.values()]
    write_json(run / "plan.json", {**plan, "normalisation": rules, "spacing_mm": spacing, "patch": [32, 32, 8]})
    return Predictor(run, "cpu")


def predicted(model: Predictor, output: Path, *inputs: Path, **delivery: object) -> list[Prediction]:
    cases = gather([str(one) for one in inputs], model.card, converted=output / "converted")
    return list(predict_cases(model, cases, output, Delivery(**delivery)))  # type: ignore[arg-type]


def petct(folder: Path, **given: object) -> tuple[Study, str, str]:
    """A study with a PET of 64x64x40 mm and a CT that covers it."""
    study = Study(folder, deidentified=True, **given)  # type: ignore[arg-type]
    return study, study.add("PT", PET), study.add("CT", CT, (2.0, 2.0, 4.0), (-8.0, -8.0, -2.0))


def test_a_petct_study_is_converted_predicted_and_returned(tmp_path: Path) -> None:
    study, pet, _ = petct(tmp_path / "exports" / "case one", patient="P1")
    model = model_of(tmp_path / "run", {BODY: HU, UPTAKE: SUV}, (4.0, 4.0, 5.0))
    (done,) = predicted(model, tmp_path / "out", study.folder)
    assert done.error is None
    assert done.path == tmp_path / "out" / "case one.nii.gz"
    mask = read_labels(done.path)
    # What was written as Bq/ml, by hand as SUV; arrays of pydicom are (k, row, column) in LPS.
    truth = np.where(suv_of(PET) > SUV_BORDER, 2, 0).transpose(2, 1, 0)
    sure = np.abs(suv_of(PET).transpose(2, 1, 0) - SUV_BORDER) > 1e-2
    flat = mask.oriented("LPS").array[0]
    assert np.array_equal(flat[sure], truth[sure])
    assert sure.mean() > 0.98
    assert {0, 2} == set(np.unique(flat))
    # Once more: nothing is done again.
    assert [p.seconds for p in predicted(model, tmp_path / "out", study.folder)] == [0.0]
    # And on the series of the PET, in its frame of reference, with its instances.
    (done,) = predicted(model, tmp_path / "seg", study.folder, form="dicom-seg")
    assert done.path == tmp_path / "seg" / "case one.dcm"
    segmentation = highdicom.seg.segread(done.path)
    headers = [pydicom.dcmread(path) for path in study.files(pet)]
    assert segmentation.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert segmentation.StudyInstanceUID == headers[0].StudyInstanceUID
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == pet
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == ["thing"]
    pixels = segmentation.get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(pixels[..., 0].transpose(2, 1, 0), flat == 2)


def test_several_studies_and_one_that_fails(tmp_path: Path) -> None:
    petct(tmp_path / "in" / "a", patient="P1")
    petct(tmp_path / "in" / "b", patient="P2")
    Study(tmp_path / "in" / "c", patient="P3", deidentified=True).add("PT", PET, PatientWeight=None)
    Study(tmp_path / "in" / "d", patient="P4", deidentified=True).add("CT", CT, (2.0, 2.0, 4.0))
    model = model_of(tmp_path / "run", {BODY: HU, UPTAKE: SUV}, (4.0, 4.0, 5.0))
    done = {p.case.id.split("_")[0]: p for p in predicted(model, tmp_path / "out", tmp_path / "in")}
    assert [done[name].error is None for name in ("P1", "P2", "P3", "P4")] == [True, True, False, False]
    assert "weight" in str(done["P3"].error).lower()
    assert "the study lacks a channel that the model needs (CT (CTres.nii.gz))" in str(done["P4"].error)
    assert "give the folder of the whole study, PET and CT; here is CT" in str(done["P4"].error)
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2
    # Where the CT may lack, a study without one is predicted.
    channels = {Channel(name="CT", unit="HU", optional=True): HU, UPTAKE: SUV}
    may = model_of(tmp_path / "may", channels, (4.0, 4.0, 5.0), layout={"kind": "petct"})
    Study(tmp_path / "e", patient="P5", deidentified=True).add("PT", PET)
    (alone,) = predicted(may, tmp_path / "out5", tmp_path / "e")
    assert alone.error is None
    assert alone.case.absent == (0,)


def test_a_model_of_one_channel_takes_every_series_of_its_modality(tmp_path: Path) -> None:
    study, _, _ = petct(tmp_path / "in", patient="P1")
    model = model_of(tmp_path / "run", {BODY: HU}, (2.0, 2.0, 4.0), modalities=["CT"])
    (done,) = predicted(model, tmp_path / "out", study.folder)
    assert done.path == tmp_path / "out" / "in.nii.gz"
    truth = np.where(CT > 50, 2, 0).transpose(2, 1, 0)
    found = read_labels(done.path).oriented("LPS").array[0]
    assert np.array_equal(found[CT.transpose(2, 1, 0) != 50], truth[CT.transpose(2, 1, 0) != 50])
    study.add("CT", CT, (2.0, 2.0, 4.0), (40.0, -8.0, -2.0))
    done_both = predicted(model, tmp_path / "both", study.folder)
    assert all(p.error is None for p in done_both)
    assert len({p.case.id for p in done_both}) == 2
    mri = model_of(
        tmp_path / "mri", {Channel(name="T1"): Normalisation(kind="image")}, (2.0, 2.0, 4.0), modalities=["MRI"]
    )
    (wrong,) = predicted(mri, tmp_path / "mr", study.folder)
    assert "no series of this study is what the model takes (CT, PT)" in str(wrong.error)
    two = model_of(tmp_path / "two", {Channel(name="T1"): HU, Channel(name="T2"): HU}, (2.0, 2.0, 4.0))
    with pytest.raises(DataError, match="which DICOM series is which channel"):
        predicted(two, tmp_path / "x", study.folder)
    with pytest.raises(UsageError, match="lies inside the DICOM folder"):
        predicted(model, study.folder, study.folder)
    first, second = study.files(study.add("CT", CT))[:2]
    with pytest.raises(UsageError, match=r"(?s)slices of a series belong together.*give their folder"):
        predicted(model, tmp_path / "x", first, second)


def test_a_real_ct_comes_back_as_dicom_seg(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "sts-petct" / "dicom" / "STS_001" / "CT" / "image"
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source)))
    image = reader.Execute()
    values = SimpleITK.GetArrayFromImage(image)  # (k, row, column) in LPS
    model = model_of(tmp_path / "run", {BODY: HU}, image.GetSpacing(), modalities=["CT"])
    shutil.copytree(source, tmp_path / "series")
    (done,) = predicted(model, tmp_path / "out", tmp_path / "series", form="dicom-seg")
    assert done.error is None, done.error
    assert done.path is not None
    segmentation = highdicom.seg.segread(done.path)
    uids = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in reader.GetFileNames()]
    assert {
        item.ReferencedSOPInstanceUID for item in segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    } == set(uids)
    pixels = segmentation.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )[..., 0]
    certain = np.abs(values - 50) > 0.5
    assert np.array_equal(pixels[certain] == 1, values[certain] > 50)
    # The same as NIfTI lies where another reader has the image.
    (plain,) = predicted(model, tmp_path / "out", tmp_path / "series")
    stored = SimpleITK.ReadImage(str(plain.path))
    assert np.allclose(
        stored.TransformIndexToPhysicalPoint((3, 5, 7)), image.TransformIndexToPhysicalPoint((3, 5, 7)), atol=1e-2
    )
    found = SimpleITK.GetArrayFromImage(stored)
    assert np.array_equal(found[certain] == 2, values[certain] > 50)


def test_a_real_whole_body_pet_is_predicted_in_suv(test_data: Path, tmp_path: Path) -> None:
    """Against the published SUV of the same patient: a crop of the same grid."""
    crop = read(test_data / "sts-petct" / "nifti" / "STS_001" / "PET_image.nii.gz").oriented("RAS")
    folder = test_data / "sts001-raw-pet"
    model = model_of(tmp_path / "run", {UPTAKE: SUV}, (3.27, 5.47, 5.47))
    cases = gather([str(folder)], model.card, converted=tmp_path / "converted")
    image = read(cases[0].images[0])
    spacing = image.oriented("RAS").geometry.spacing_mm
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    write_json(tmp_path / "run" / "plan.json", {**plan, "spacing_mm": spacing, "patch": [64, 64, 64]})
    (done,) = predict_cases(Predictor(tmp_path / "run", "cpu"), cases, tmp_path / "out")
    assert done.error is None, done.error
    mask = read_labels(tmp_path / "out" / "sts001-raw-pet.nii.gz").oriented("RAS")
    to_mask = np.linalg.inv(mask.geometry.affine) @ crop.geometry.affine
    index = np.rint(to_mask[:3, :3] @ np.argwhere(crop.array[0] > -np.inf).T + to_mask[:3, 3:]).astype(int)
    inside = ((index >= 0) & (index < np.array(mask.geometry.shape)[:, None])).all(0)
    assert inside.mean() > 0.99
    suv = crop.array[0].reshape(-1)[inside]
    found = mask.array[0][tuple(index[:, inside])]
    certain = np.abs(suv - SUV_BORDER) > 0.02
    assert (suv > SUV_BORDER).any()
    assert ((found[certain] == 2) == (suv[certain] > SUV_BORDER)).mean() > 0.999
