"""What a folder of one's own images is taken for, and the card that is written for it."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segue.catalogue import Card, Case, Masks, index, load_card, open_dataset, patterns, split_cases
from segue.catalogue.card import DecathlonLayout, FilesLayout, NnunetLayout, PetCtLayout
from segue.catalogue.recognise import Recognised, recognise
from segue.catalogue.recognise.patients import grouped, patient_pattern
from segue.core.errors import DataError, UsageError
from segue.images import write
from segue.volume import Geometry, Volume
from segue.workflow.describing import write_card

BRATS = ("flair", "t1", "t1ce", "t2")
VISITS = [("p1", "v1"), ("p1", "v2"), ("p2", "v1"), ("p3", "v1"), ("p3", "v2"), ("p3", "v3")]


def image(path: Path, kind: str = "MR", shape: tuple[int, int, int] = (4, 4, 3), channels: int = 1) -> None:
    """A small image whose values are those of its kind: CT, MR, or PET in Bq/ml."""
    low, high = {"CT": (-1000, 1500), "MR": (0, 900), "PET": (0, 30_000)}[kind]
    array = np.linspace(low, high, channels * int(np.prod(shape)), dtype=np.float32).reshape(channels, *shape)
    write(Volume(array, Geometry(shape, np.eye(4))), path)


def mask(path: Path, labels: Sequence[int] = (1,), shape: tuple[int, int, int] = (4, 4, 3)) -> None:
    array = np.zeros((1, *shape), np.uint8)
    array[0].flat[: len(labels)] = labels
    write(Volume(array, Geometry(shape, np.eye(4)), "labels"), path)


def picture(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def photo(path: Path, colour: bool = False) -> None:
    picture(path, np.arange(192).reshape(8, 8, 3) if colour else np.arange(64).reshape(8, 8))


def drawn(path: Path, value: int = 255) -> None:
    values = np.zeros((8, 8))
    values[2:4] = value
    picture(path, values)


def files_layout(found: Recognised) -> FilesLayout:
    assert isinstance(found.card.layout, FilesLayout)
    return found.card.layout


def known(folder: Path) -> tuple[Recognised, dict[str, Case]]:
    """What a folder is taken for, and its cases by id, from the written and reloaded card."""
    found = recognise(folder)
    path, written = write_card(folder)
    assert load_card(path) == written.card == found.card
    return found, {case.id: case for case in open_dataset(path).cases}


def names(case: Case, folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in case.files]


# --- pairs of images and masks by name


@pytest.mark.parametrize(
    ("image_name", "mask_name", "ids"),
    [
        ("images/{}.nii.gz", "labels/{}.nii.gz", ["a", "b", "c-1", "d.x", "Ünal"]),
        ("images/{}.nii.gz", "labels/{}.nii.gz", ["t1", "t2", "t3"]),
        ("img/{}.nii.gz", "annotations/{}.nii.gz", ["1", "2", "10", "11"]),
        ("images/seg_{}.nii.gz", "labels/seg_{}.nii.gz", ["1", "2", "12"]),
        ("data/images/{}.nii", "data/masks/{}.nii", ["a", "b"]),
        ("images/{}_image.nii.gz", "masks/{}_mask.nii.gz", ["a", "b"]),
        ("volume-{}.nii", "segmentation-{}.nii", ["0", "1", "10", "100"]),
        ("volumes/volume-{}.nii.gz", "segmentations/segmentation-{}.nii.gz", ["0", "1", "10"]),
        ("img/img{}.nii.gz", "label/label{}.nii.gz", ["0001", "0002", "0011"]),
        ("images/PANCREAS_{}.nii.gz", "labels/label{}.nii.gz", ["0001", "0002"]),
        ("{0}.nii.gz", "{0}_mask.nii.gz", ["anna", "bob", "c_2"]),
        ("{0}.nii.gz", "mask_{0}.nii.gz", ["anna", "bob", "c_2"]),
        ("{0}.nii.gz", "{0}_gt.nii.gz", ["Case00", "Case01"]),
        ("{0}.nii.gz", "{0}-label.nii.gz", ["x.1", "x.2"]),
        ("{0}/{0}.nii.gz", "{0}/{0}_seg.nii.gz", ["s1", "s2", "s3"]),
        ("{}/imaging.nii.gz", "{}/segmentation.nii.gz", ["case_00000", "case_00001"]),
        ("{}/ct.nii.gz", "{}/mask.nii.gz", ["only"]),
        ("images/{}.nii.gz", "masks/{}.nii.gz", ["only"]),
        ("seg_data/{}/t1.nii.gz", "seg_data/{}/seg.nii.gz", ["p1", "p2", "p3"]),
        ("{0}_ct.nii.gz", "{0}_seg.nii.gz", ["volume-covid19-A-0003", "volume-covid19-A-0011"]),
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz", ["amos_0001", "amos_0004"]),
        ("images/{}.nii.gz", "masks/{}/mask.nii.gz", ["s1", "s2", "s3"]),
        ("images [1]/{}.nii.gz", "masks [1]/{}.nii.gz", ["a", "b"]),
    ],
)
def test_every_mask_finds_its_image(tmp_path: Path, image_name: str, mask_name: str, ids: list[str]) -> None:
    for name in ids:
        image(tmp_path / image_name.format(name), "CT")
        mask(tmp_path / mask_name.format(name), (1, 2))
    found, cases = known(tmp_path)
    assert sorted(names(case, tmp_path) for case in cases.values()) == sorted(
        [image_name.format(name), mask_name.format(name)] for name in ids
    )
    assert all(any(name in case for case in cases) for name in ids)
    assert found.card.labels == {1: "label_1", 2: "label_2"}
    assert [channel.unit for channel in found.card.channels] == ["HU"]
    assert found.card.task == "segmentation"
    assert found.card.dimension == 3
    assert found.counts.startswith(f"{len(ids)} image{'s' if len(ids) > 1 else ''}, {len(ids)} mask")
    assert not any("no mask" in guess or "no case" in guess for guess in found.guesses)


_ids = st.text(alphabet=string.ascii_letters + string.digits + "_-. éß日", min_size=1, max_size=12).filter(
    lambda text: text.strip("._- ") == text and ".." not in text and "  " not in text
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.sets(_ids, min_size=2, max_size=6), beside=st.booleans())
def test_any_names_are_paired(tmp_path_factory: pytest.TempPathFactory, ids: set[str], beside: bool) -> None:
    folder = tmp_path_factory.mktemp("random")
    pair = ("in/{}.nii.gz", "in/{}_mask.nii.gz") if beside else ("images/{}.nii.gz", "masks/{}.nii.gz")
    plain = {
        name
        for name in ids
        if not re.search(
            r"mask|msk|seg|gt|lab|lbl|pred|truth|ground|anno|roi|manual|contour|delin|struct", name, re.IGNORECASE
        )
        and name not in ("in", "images", "masks")  # a case called like its folder may be a folder's one case
    }
    if len({name.casefold() for name in plain}) < 2:
        return
    for name in plain:
        image(folder / pair[0].format(name))
        mask(folder / pair[1].format(name))
    found = recognise(folder)
    cases = index(folder, found.card)
    assert sorted(names(case, folder) for case in cases) == sorted([p.format(name) for p in pair] for name in plain)


def test_channels_by_their_ending(tmp_path: Path) -> None:
    for case in ("Brats18_A_1", "Brats18_B_2", "Brats18_C_3"):
        for channel in BRATS:
            image(tmp_path / case / f"{case}_{channel}.nii.gz")
        mask(tmp_path / case / f"{case}_seg.nii.gz", (1, 2, 4))
    found, cases = known(tmp_path)
    assert [channel.name for channel in found.card.channels] == list(BRATS)
    assert found.card.modalities == ["MRI"]
    assert found.card.labels == {1: "label_1", 2: "label_2", 4: "label_4"}
    assert files_layout(found).images == "{case}/{case}_{channel}.nii.gz"
    case = cases["Brats18_B_2"]
    assert [path.name for path in case.image_files] == [f"Brats18_B_2_{channel}.nii.gz" for channel in BRATS]
    assert isinstance(case.label, Path)
    assert case.label.name == "Brats18_B_2_seg.nii.gz"
    assert found.counts.startswith("3 cases: 12 images, 3 masks: Brats18_A_1/")


def test_brats_with_dashes_has_patients_and_time_points(tmp_path: Path) -> None:
    for case in ("00000-000", "00000-001", "00002-000", "00003-000"):
        for channel in ("t1c", "t1n", "t2f", "t2w"):
            image(tmp_path / f"BraTS-GLI-{case}" / f"BraTS-GLI-{case}-{channel}.nii.gz")
        mask(tmp_path / f"BraTS-GLI-{case}" / f"BraTS-GLI-{case}-seg.nii.gz")
    found, cases = known(tmp_path)
    assert len(found.card.channels) == 4
    assert {case.patient for case in cases.values()} == {"BraTS-GLI-00000", "BraTS-GLI-00002", "BraTS-GLI-00003"}
    assert "patient: guessed 3 patients (BraTS-GLI-00000: 2 cases, BraTS-GLI-00002: 1, BraTS-GLI-00003: 1)" in (
        found.guesses
    )


def test_channels_in_folders_of_their_own(tmp_path: Path) -> None:
    for case in ("1", "2", "3"):
        for channel in ("T1", "FLAIR"):
            image(tmp_path / case / channel / "img.nii.gz")
        mask(tmp_path / case / "Ground" / "gt.nii.gz")
    found, cases = known(tmp_path)
    assert files_layout(found).images == {"FLAIR": "{case}/FLAIR/img.nii.gz", "T1": "{case}/T1/img.nii.gz"}
    assert names(cases["2"], tmp_path) == ["2/FLAIR/img.nii.gz", "2/T1/img.nii.gz", "2/Ground/gt.nii.gz"]


def test_a_channel_that_few_cases_have_is_left_out(tmp_path: Path) -> None:
    for number in range(5):
        for channel in ("t1", "t2", "adc")[: 3 if number == 0 else 2]:
            image(tmp_path / f"c{number}" / f"{channel}.nii.gz")
        mask(tmp_path / f"c{number}" / "seg.nii.gz")
    found, _ = known(tmp_path)
    assert [channel.name for channel in found.card.channels] == ["t1", "t2"]
    assert any("adc.nii.gz is there for 1 of 5 cases" in guess for guess in found.guesses)
    assert any("1 of 16 files belong to no case: c0/adc.nii.gz" in guess for guess in found.guesses)


def test_unlabelled_images_on_two_grids_are_not_two_channels(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / case / "CT.nii.gz", "CT", (8, 8, 3))
        image(tmp_path / case / "PET.nii.gz", "MR")
    found, _ = known(tmp_path)
    assert [channel.name for channel in found.card.channels] == ["CT"]
    assert any("PET is left out" in guess for guess in found.guesses)


def test_pet_and_ct_on_two_grids_are_not_two_channels(tmp_path: Path) -> None:
    for case in ("STS_001", "STS_002"):
        for kind, shape in (("CT", (8, 8, 3)), ("PET", (4, 4, 3))):
            image(tmp_path / case / f"{kind}_image.nii.gz", kind, shape)
            mask(tmp_path / case / f"{kind}_mask.nii.gz", shape=shape)
    found, cases = known(tmp_path)
    assert [(channel.name, channel.unit) for channel in found.card.channels] == [("CT", "HU")]
    assert names(cases["STS_001"], tmp_path) == ["STS_001/CT_image.nii.gz", "STS_001/CT_mask.nii.gz"]
    assert any("PET is left out" in guess and "4x4x3 against 8x8x3" in guess for guess in found.guesses)
    assert any("not used: */PET_mask.nii.gz" in guess for guess in found.guesses)


def test_units_by_values_and_names(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / case / "CT.nii.gz", "CT")
        image(tmp_path / case / "SUV.nii.gz", "MR", (4, 4, 3))
        mask(tmp_path / case / "SEG.nii.gz")
    low = Volume(np.linspace(0, 12, 48, dtype=np.float32).reshape(1, 4, 4, 3), Geometry((4, 4, 3), np.eye(4)))
    write(low, tmp_path / "a" / "SUV.nii.gz")
    found, _ = known(tmp_path)
    assert {channel.name: channel.unit for channel in found.card.channels} == {"CT": "HU", "SUV": "SUV"}
    assert found.card.modalities == ["CT", "PET"]
    image(tmp_path / "a" / "SUV.nii.gz", "PET")
    again = recognise(tmp_path)
    assert {channel.name: channel.unit for channel in again.card.channels} == {"CT": "HU", "SUV": "arbitrary"}
    assert any("not SUV, perhaps Bq/ml" in guess for guess in again.guesses)


def test_a_ct_that_is_not_in_hu_is_told(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / case / "ct.nii.gz", "MR")
        mask(tmp_path / case / "seg.nii.gz")
    found, _ = known(tmp_path)
    assert found.card.channels[0].unit == "arbitrary"
    assert any("0 to 900" in guess and "not in HU" in guess for guess in found.guesses)


def test_four_dimensions_are_channels_and_one_slice_is_a_plane(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / "images" / f"{case}.nii.gz", shape=(6, 5, 1), channels=3)
        mask(tmp_path / "labels" / f"{case}.nii.gz", shape=(6, 5, 1))
    found, _ = known(tmp_path)
    assert len(found.card.channels) == 3
    assert found.card.dimension == 2


# --- masks


def test_one_binary_mask_per_label(tmp_path: Path) -> None:
    for case in ("s0000", "s0001", "s0002"):
        image(tmp_path / case / "ct.nii.gz", "CT")
        for organ in ("liver", "kidney_left", "kidney_right"):
            if (case, organ) != ("s0001", "liver"):
                mask(tmp_path / case / "segmentations" / f"{organ}.nii.gz")
    found, cases = known(tmp_path)
    assert found.card.labels == {1: "kidney_left", 2: "kidney_right", 3: "liver"}
    assert files_layout(found).labels == "{case}/segmentations/{label}.nii.gz"
    several = cases["s0002"].label
    assert isinstance(several, Masks)
    assert [(number, path.name) for number, path in several.files][2] == (3, "liver.nii.gz")
    fewer = cases["s0001"].label
    assert isinstance(fewer, Masks)
    assert len(fewer.files) == 2


@pytest.mark.parametrize("name", ["{c}/{o}_mask.nii.gz", "{c}_{o}_mask.nii.gz", "masks/{c}_{o}.nii.gz"])
def test_one_binary_mask_per_label_by_its_ending(tmp_path: Path, name: str) -> None:
    for case in ("c1", "c2", "c3"):
        image(tmp_path / (f"{case}/ct.nii.gz" if name.startswith("{c}/") else f"{case}_ct.nii.gz"), "CT")
        for organ in ("liver", "spleen"):
            mask(tmp_path / name.format(c=case, o=organ))
    found, cases = known(tmp_path)
    assert found.card.labels == {1: "liver", 2: "spleen"}
    assert sorted(cases) == ["c1", "c2", "c3"]
    assert len(cases["c3"].files) == 3


def test_one_binary_mask_per_label_by_its_folder(tmp_path: Path) -> None:
    for case in ("a", "b", "c"):
        image(tmp_path / "images" / f"{case}.nii.gz")
        for organ in ("liver", "spleen"):
            mask(tmp_path / "labels" / organ / f"{case}.nii.gz")
    found, cases = known(tmp_path)
    assert files_layout(found).labels == "labels/{label}/{case}.nii.gz"
    assert names(cases["b"], tmp_path) == ["images/b.nii.gz", "labels/liver/b.nii.gz", "labels/spleen/b.nii.gz"]


def test_masks_with_several_labels_are_not_taken_for_one_label_each(tmp_path: Path) -> None:
    for case in ("c1", "c2"):
        image(tmp_path / case / "ct.nii.gz", "CT")
        mask(tmp_path / case / "organs_seg.nii.gz", (1, 2, 3))
        mask(tmp_path / case / "vessels_seg.nii.gz", (1, 2))
    found, _ = known(tmp_path)
    assert files_layout(found).labels == "{case}/organs_seg.nii.gz"
    assert found.card.labels == {1: "label_1", 2: "label_2", 3: "label_3"}
    assert any("not used: */vessels_seg.nii.gz" in guess for guess in found.guesses)


def test_coloured_copies_of_masks_are_passed_over(tmp_path: Path) -> None:
    for case in ("a", "b"):
        photo(tmp_path / "images" / f"{case}.png")
        photo(tmp_path / "labels" / f"{case}_color.png", colour=True)
        drawn(tmp_path / "labels" / f"{case}_labelIds.png", 3)
    found, _ = known(tmp_path)
    assert files_layout(found).labels == "labels/{case}_labelIds.png"
    assert found.card.labels == {3: "label_3"}


def test_jpeg_masks_are_told(tmp_path: Path) -> None:
    for case in ("a", "b"):
        photo(tmp_path / "images" / f"{case}.jpg")
        drawn(tmp_path / "masks" / f"{case}.jpg")
    found, _ = known(tmp_path)
    assert found.card.labels == {1: "label_1"}
    assert files_layout(found).values == {255: 1}
    assert any("JPEG blurs masks" in guess for guess in found.guesses)


def test_masks_of_one_object_each_are_united(tmp_path: Path) -> None:
    for case in ("x", "y", "z"):
        photo(tmp_path / case / "images" / f"{case}.png")
        for number in range(3):
            drawn(tmp_path / case / "masks" / f"{number}.png")
    found, cases = known(tmp_path)
    assert files_layout(found).labels == "{case}/masks/{instance}.png"
    assert found.card.labels == {1: "foreground"}
    assert isinstance(cases["x"].label, Masks)
    assert [number for number, _ in cases["x"].label.files] == [1, 1, 1]
    assert any("9 masks for 3 images" in guess for guess in found.guesses)


def test_of_several_raters_the_consensus_is_taken(tmp_path: Path) -> None:
    for case in ("P_01", "P_02"):
        image(tmp_path / case / "FLAIR.nii.gz")
        for rater in ("Consensus", "ManualSegmentation_1", "ManualSegmentation_2"):
            mask(tmp_path / case / "Masks" / f"{rater}.nii.gz")
    found, _ = known(tmp_path)
    assert files_layout(found).labels == "{case}/Masks/Consensus.nii.gz"
    assert any("*/Masks/ManualSegmentation_1.nii.gz" in guess for guess in found.guesses)


def test_masks_are_also_known_by_what_is_in_them(tmp_path: Path) -> None:
    for case in ("0", "11", "17"):
        for channel in ("FLAIR", "T1"):
            image(tmp_path / case / "pre" / f"{channel}.nii.gz")
        mask(tmp_path / case / "wmh.nii.gz", (1, 2))
    found, cases = known(tmp_path)
    assert files_layout(found).labels == "{case}/wmh.nii.gz"
    assert names(cases["11"], tmp_path) == ["11/pre/FLAIR.nii.gz", "11/pre/T1.nii.gz", "11/wmh.nii.gz"]


def test_two_versions_of_the_images_beside_a_mask_are_no_visits(tmp_path: Path) -> None:
    for case in ("10001", "10002B", "10002F"):
        for version, shape in (("orig", (4, 4, 4)), ("pre", (4, 4, 3))):
            image(tmp_path / case / version / "TOF.nii.gz", shape=shape)
        mask(tmp_path / case / "aneurysms.nii.gz", (1, 2))
    found, cases = known(tmp_path)
    assert names(cases["10002B"], tmp_path) == ["10002B/pre/TOF.nii.gz", "10002B/aneurysms.nii.gz"]
    assert any("orig" in guess and "another grid" in guess for guess in found.guesses)


def test_a_test_part_gets_masks_that_were_known_by_what_is_in_them(tmp_path: Path) -> None:
    for part, case in (("train", "020"), ("train", "021"), ("train", "022"), ("test", "001")):
        for channel in ("adc", "t2"):
            image(tmp_path / part / case / f"{channel}.nii.gz")
        mask(tmp_path / part / case / "t2_tumor.nii.gz")
    _, cases = known(tmp_path)
    assert {name: case.split for name, case in cases.items() if case.annotated} == {
        "020": "train", "021": "train", "022": "train", "001": "test"
    }  # fmt: skip


def test_a_255_beside_small_labels_is_ignored(tmp_path: Path) -> None:
    for case in ("a", "b"):
        image(tmp_path / "images" / f"{case}.nii.gz")
        mask(tmp_path / "labels" / f"{case}.nii.gz", (1, 3, 255))
    found, _ = known(tmp_path)
    assert found.card.labels == {1: "label_1", 3: "label_3"}
    assert found.card.ignore_label == 255


def test_colour_coded_masks_are_refused(tmp_path: Path) -> None:
    for case in ("a", "b"):
        photo(tmp_path / "images" / f"{case}.png")
        photo(tmp_path / "masks" / f"{case}.png", colour=True)
    with pytest.raises(DataError, match="colour"):
        recognise(tmp_path)


# --- pictures


def test_pictures_with_masks_of_0_and_255(tmp_path: Path) -> None:
    for case in ("ISIC_001", "ISIC_002", "ISIC_003"):
        photo(tmp_path / "Input" / f"{case}.jpg", colour=True)
        drawn(tmp_path / "GroundTruth" / f"{case}_segmentation.png")
    found, cases = known(tmp_path)
    assert found.card.dimension == 2
    assert found.card.labels == {1: "label_1"}
    assert files_layout(found).values == {255: 1}
    assert [channel.name for channel in found.card.channels] == ["red", "green", "blue"]
    assert names(cases["ISIC_002"], tmp_path) == ["Input/ISIC_002.jpg", "GroundTruth/ISIC_002_segmentation.png"]


@pytest.mark.parametrize(("header", "dimension"), [("NDims = 3\nDimSize = 9 9 4\n", 3), ("DimSize = 9 9\n", 2)])
def test_other_formats_by_name_alone(tmp_path: Path, header: str, dimension: int) -> None:
    for case in ("brain1", "brain2"):
        for end in ("image", "label"):
            (tmp_path / f"{case}_{end}.mha").write_text(f"ObjectType = Image\n{header}")
    found, cases = known(tmp_path)
    assert found.card.dimension == dimension
    assert names(cases["brain1"], tmp_path) == ["brain1_image.mha", "brain1_label.mha"]
    assert any("could not be looked into" in guess for guess in found.guesses)


# --- patients


def test_folders_of_patients_and_visits(tmp_path: Path) -> None:
    for patient, visit in VISITS:
        image(tmp_path / patient / visit / "ct.nii.gz", "CT")
        mask(tmp_path / patient / visit / "mask.nii.gz")
    found, cases = known(tmp_path)
    assert {case.id: case.patient for case in cases.values()} == {f"{p}_{v}": p for p, v in VISITS}
    assert "patient: 3 patients (p1: 2 cases, p2: 1, p3: 3), by the folders" in found.guesses


def test_numbers_as_patients_and_visits_are_not_mixed_up(tmp_path: Path) -> None:
    visits = [("1", "1"), ("1", "2"), ("2", "1"), ("3", "1")]
    for patient, visit in visits:
        image(tmp_path / patient / visit / "ct.nii.gz", "CT")
        mask(tmp_path / patient / visit / "mask.nii.gz")
    _, cases = known(tmp_path)
    assert {case.id: names(case, tmp_path)[0] for case in cases.values()} == {
        f"{p}_{v}": f"{p}/{v}/ct.nii.gz" for p, v in visits
    }


def test_visits_as_files_in_folders_of_patients(tmp_path: Path) -> None:
    for patient, visit in VISITS:
        image(tmp_path / patient / f"{visit}.nii.gz")
        mask(tmp_path / patient / f"{visit}_mask.nii.gz")
    _, cases = known(tmp_path)
    assert {case.id: case.patient for case in cases.values()} == {f"{p}_{v}": p for p, v in VISITS}


def test_nested_images_with_flat_masks(tmp_path: Path) -> None:
    for patient, visit in VISITS:
        image(tmp_path / "images" / patient / visit / "ct.nii.gz", "CT")
        mask(tmp_path / "masks" / f"{patient}_{visit}.nii.gz")
    _, cases = known(tmp_path)
    assert names(cases["p3_v2"], tmp_path) == ["images/p3/v2/ct.nii.gz", "masks/p3_v2.nii.gz"]
    assert cases["p3_v2"].patient == "p3"


def test_frames_leave_the_film_outside(tmp_path: Path) -> None:
    for patient, frames in (("patient001", ("01", "12")), ("patient002", ("01", "08")), ("patient003", ("01", "15"))):
        image(tmp_path / patient / f"{patient}_4d.nii.gz", channels=2)
        for frame in frames:
            image(tmp_path / patient / f"{patient}_frame{frame}.nii.gz")
            mask(tmp_path / patient / f"{patient}_frame{frame}_gt.nii.gz", (1, 2, 3))
    found, cases = known(tmp_path)
    assert sorted(cases)[:2] == ["patient001_frame01", "patient001_frame12"]
    assert len(cases) == 6
    assert cases["patient002_frame08"].patient == "patient002"
    assert any("3 of 15 files belong to no case: patient001/patient001_4d" in guess for guess in found.guesses)


def test_slices_in_folders_of_patients(tmp_path: Path) -> None:
    slices = [("TCGA_CS_1_19", (1, 2)), ("TCGA_DU_2_20", (1, 2, 10))]
    for patient, numbers in slices:
        for number in numbers:
            photo(tmp_path / patient / f"{patient}_{number}.tif")
            drawn(tmp_path / patient / f"{patient}_{number}_mask.tif")
    _, cases = known(tmp_path)
    assert sorted(cases) == sorted(f"{p}_{n}" for p, numbers in slices for n in numbers)
    assert {case.patient for case in cases.values()} == {"TCGA_CS_1_19", "TCGA_DU_2_20"}


def test_grades_and_sites_are_no_patients(tmp_path: Path) -> None:
    for grade in ("HGG", "LGG"):
        for number in range(3):
            case = f"{grade[0]}{number}"
            image(tmp_path / grade / case / f"{case}_t1.nii.gz")
            mask(tmp_path / grade / case / f"{case}_seg.nii.gz")
    _, cases = known(tmp_path)
    assert {case.id: (case.patient, case.facts["group"]) for case in cases.values()}["L1"] == ("L1", "LGG")


def test_a_class_of_pictures_is_no_patient(tmp_path: Path) -> None:
    for group in ("benign", "malignant", "normal"):
        for number in (1, 2, 10):
            photo(tmp_path / group / f"{group} ({number}).png")
            drawn(tmp_path / group / f"{group} ({number})_mask.png")
    drawn(tmp_path / "benign" / "benign (1)_mask_1.png")
    found, cases = known(tmp_path)
    assert names(cases["benign (10)"], tmp_path) == ["benign/benign (10).png", "benign/benign (10)_mask.png"]
    assert len({case.patient for case in cases.values()}) == 9
    assert any("1 of 19 files belong to no case: benign/benign (1)_mask_1.png" in guess for guess in found.guesses)


def test_images_in_folders_of_patients_with_flat_masks(tmp_path: Path) -> None:
    for patient, visit in VISITS:
        photo(tmp_path / "images" / patient / f"{visit}.png")
        drawn(tmp_path / "masks" / f"{patient}_{visit}.png")
    _, cases = known(tmp_path)
    assert names(cases["p3_v2"], tmp_path) == ["images/p3/v2.png", "masks/p3_v2.png"]
    assert {case.patient for case in cases.values()} == {"p1", "p2", "p3"}


@pytest.mark.parametrize(
    ("cases", "sizes"),
    [
        (["p1_a", "p1_b", "p2_a", "p3_a"], {"p1": 2, "p2": 1, "p3": 1}),
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], {"sub-01": 2, "sub-02": 1}),
        (["UPENN-GBM-00001_11", "UPENN-GBM-00001_21", "UPENN-GBM-00002_11"], None),
        (["vol1_slice_1", "vol1_slice_2", "vol2_slice_1"], {"vol1": 2, "vol2": 1}),
        (["20190101_anna", "20200202_anna", "20190101_bob", "20210304_eve"], {"anna": 2, "bob": 1, "eve": 1}),
        (["s1_20190101", "s1_20200101", "s2_20190101", "s3_20180101"], {"s1": 2, "s2": 1, "s3": 1}),
        (["01L", "01R", "02L", "02R"], {"01": 2, "02": 2}),
        (["anna_1", "anna_2", "bob_1", "eve_1"], {"anna": 2, "bob": 1, "eve": 1}),
        (["TCGA-02-0003-1", "TCGA-02-0003-2", "TCGA-02-0006-1"], {"TCGA-02-0003": 2, "TCGA-02-0006": 1}),
    ],
)
def test_patients_are_guessed_from_the_names(cases: list[str], sizes: dict[str, int] | None) -> None:
    pattern = patient_pattern(cases)
    assert pattern is not None
    found = grouped(cases, pattern)
    assert dict(found) == (sizes or {"UPENN-GBM-00001": 2, "UPENN-GBM-00002": 1})


@pytest.mark.parametrize(
    "cases",
    [
        ["hippocampus_001", "hippocampus_003", "hippocampus_010"],
        ["case_1", "case_2"],
        ["a", "b", "c"],
        ["CHUM-001", "CHUM-002", "CHUS-001", "CHUS-002"],
        [f"HGG_{n}" for n in range(30)] + [f"LGG_{n}" for n in range(30)],
        [f"site{s}_{n:03d}" for s in range(3) for n in range(9)],
        ["p1_t0", "p2_t0", "p3_t0"],
        ["TCGA-02-0003", "TCGA-02-0006", "TCGA-06-0003"],
        ["only"],
    ],
)
def test_no_patients_are_made_up(cases: list[str]) -> None:
    assert patient_pattern(cases) is None


@settings(max_examples=100, deadline=None)
@given(st.sets(_ids, min_size=1, max_size=8))
def test_a_guessed_pattern_groups_all_cases_and_never_into_one(cases: set[str]) -> None:
    pattern = patient_pattern(sorted(cases))
    if pattern is not None:
        groups = grouped(sorted(cases), pattern)
        assert groups.total() == len(cases)
        assert 1 < len(groups) < len(cases)


# --- parts of a dataset


def test_parts_by_their_folders(tmp_path: Path) -> None:
    for part, ids in (("Tr", "abc"), ("Va", "d"), ("Ts", "ef")):
        for name in ids:
            image(tmp_path / f"images{part}" / f"{name}.nii.gz")
            if part != "Ts":
                mask(tmp_path / f"labels{part}" / f"{name}.nii.gz")
    _, cases = known(tmp_path)
    assert {name: (case.split, case.annotated) for name, case in cases.items()} == {
        **dict.fromkeys("abc", ("train", True)),
        "d": ("val", True),
        **dict.fromkeys("ef", ("test", False)),
    }


@pytest.mark.parametrize("place", ["{part}/images/{name}.png", "images/{part}/{name}.png"])
def test_parts_with_the_same_names(tmp_path: Path, place: str) -> None:
    for part in ("train", "val", "test"):
        for name in ("0", "1", "2"):
            photo(tmp_path / place.format(part=part, name=name))
            drawn(tmp_path / place.replace("images", "masks").format(part=part, name=name))
    found, cases = known(tmp_path)
    assert len(cases) == 9
    assert sorted(case.split for case in cases.values()) == ["test"] * 3 + ["train"] * 3 + ["val"] * 3
    assert all(case.annotated for case in cases.values())
    for case in cases.values():
        assert all(case.split in path.relative_to(tmp_path).parts for path in case.files)
    assert split_cases(open_dataset(tmp_path), 0).test
    assert any("same names" in guess for guess in found.guesses)


def test_parts_that_name_their_files_differently(tmp_path: Path) -> None:
    for part, numbers in (("training", ("21", "22", "23")), ("test", ("01", "02"))):
        for number in numbers:
            photo(tmp_path / part / "images" / f"{number}_{part}.tif")
            drawn(tmp_path / part / "1st_manual" / f"{number}_manual1.png")
    _, cases = known(tmp_path)
    assert {name: case.split for name, case in cases.items()} == {
        "01": "test", "02": "test", "21": "train", "22": "train", "23": "train"
    }  # fmt: skip
    assert all(case.annotated for case in cases.values())


def test_patients_who_would_cross_parts_are_not_guessed(tmp_path: Path) -> None:
    for part, ids in (("train", ("p1_a", "p1_b", "p2_a")), ("val", ("p1_c", "p3_a"))):
        for name in ids:
            image(tmp_path / part / "images" / f"{name}.nii.gz")
            mask(tmp_path / part / "masks" / f"{name}.nii.gz")
    found, _ = known(tmp_path)
    assert found.card.patient is None
    assert any("p1 would stand in several parts" in guess for guess in found.guesses)
    assert split_cases(open_dataset(tmp_path), 0).val


# --- layouts with a name


def test_bids_with_sessions(tmp_path: Path) -> None:
    for subject, session in (("sub-01", "ses-1"), ("sub-01", "ses-2"), ("sub-02", "ses-1")):
        stem = f"{subject}/{session}/anat/{subject}_{session}_T1w"
        image(tmp_path / f"{stem}.nii.gz")
        mask(tmp_path / "derivatives" / "labels" / f"{stem}_seg-manual_dseg.nii.gz", (1, 2))
    (tmp_path / "dataset_description.json").write_text("{}")
    found, cases = known(tmp_path)
    assert {name: case.patient for name, case in cases.items()} == {
        "sub-01_ses-1": "sub-01", "sub-01_ses-2": "sub-01", "sub-02_ses-1": "sub-02"
    }  # fmt: skip
    assert [channel.name for channel in found.card.channels] == ["T1w"]


def test_bids_without_sessions_passes_over_derived_images(tmp_path: Path) -> None:
    for subject in ("sub-01", "sub-02", "sub-03"):
        for channel in ("FLAIR", "T1w"):
            image(tmp_path / subject / "anat" / f"{subject}_{channel}.nii.gz")
        derived = tmp_path / "derivatives"
        mask(derived / "manual" / subject / "anat" / f"{subject}_label-lesion_mask.nii.gz")
        image(derived / "a_segmentation" / subject / "anat" / f"{subject}_desc-preproc_T1w.nii.gz")
    found, cases = known(tmp_path)
    assert names(cases["sub-02"], tmp_path) == [
        "sub-02/anat/sub-02_FLAIR.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "derivatives/manual/sub-02/anat/sub-02_label-lesion_mask.nii.gz",
    ]
    assert any("3 of 12 files belong to no case: derivatives/a_segmentation" in guess for guess in found.guesses)


def test_petct(tmp_path: Path) -> None:
    for study in ("P1/S1", "P1/S2", "P2/S1"):
        for name in ("CTres", "SUV"):
            image(tmp_path / study / f"{name}.nii.gz", "CT")
        mask(tmp_path / study / "SEG.nii.gz")
    found, cases = known(tmp_path)
    assert isinstance(found.card.layout, PetCtLayout)
    assert {case.patient for case in cases.values()} == {"P1", "P2"}
    assert len(cases) == 3


def nnunet(
    folder: Path, ids: Sequence[str] = ("p1_a", "p1_b", "p2_a"), channels: int = 2, end: str = ".nii.gz"
) -> None:
    for name in ids:
        for number in range(channels):
            image(folder / "imagesTr" / f"{name}_{number:04d}{end}")
        mask(folder / "labelsTr" / f"{name}{end}")
    for number in range(channels):
        image(folder / "imagesTs" / f"t_{number:04d}{end}")


def say(folder: Path, content: object, name: str = "dataset.json") -> None:
    (folder / name).write_text(json.dumps(content))


def test_nnunet_second_form(tmp_path: Path) -> None:
    nnunet(tmp_path, end=".nii")
    say(tmp_path, {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "liver": 1, "ignore": 4},
        "numTraining": 3, "file_ending": ".nii", "licence": "CC-BY-SA 4.0",
    })  # fmt: skip
    say(tmp_path, [{"train": ["p1_a", "p1_b"], "val": ["p2_a"]}], "splits_final.json")
    found, cases = known(tmp_path)
    card = found.card
    assert card.layout == NnunetLayout(kind="nnunet", suffix=".nii")
    assert [(channel.name, channel.unit) for channel in card.channels] == [("CT", "HU"), ("PET", "SUV")]
    assert card.labels == {1: "liver", 2: "label_2", 3: "label_3"}
    assert card.regions == {"whole": [1, 2, 3], "core": [2, 3]}
    assert card.ignore_label == 4
    assert card.licence is not None
    assert card.licence.spdx == "CC-BY-SA-4.0"
    assert card.split.file == "splits_final.json"
    assert cases["t"].split == "test"
    assert {case.patient for case in cases.values()} == {"p1", "p2", "t"}
    assert [case.id for case in split_cases(open_dataset(tmp_path), 0).val] == ["p2_a"]


def test_nnunet_folds_that_separate_a_guessed_patient_win(tmp_path: Path) -> None:
    nnunet(tmp_path)
    say(
        tmp_path, {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}
    )
    say(tmp_path, [{"train": ["p1_a", "p2_a"], "val": ["p1_b"]}], "splits_final.json")
    found, _ = known(tmp_path)
    assert found.card.patient is None
    assert any("p1 would stand in several parts" in guess for guess in found.guesses)
    say(tmp_path, [{"train": ["other"], "val": ["names"]}], "splits_final.json")
    again = recognise(tmp_path)
    assert again.card.split.file is None
    assert any("splits_final.json is not used" in guess for guess in again.guesses)


def test_nnunet_first_form_lists_names_without_their_channels(tmp_path: Path) -> None:
    ids = ("p1_a", "p1_b", "p2_a")
    nnunet(tmp_path, ids)
    say(tmp_path, {
        "modality": {"0": "MRI", "1": "MRI"}, "labels": {"0": "background", "1": "x"},
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ids],
        "test": ["./imagesTs/t.nii.gz"],
    })  # fmt: skip
    found, cases = known(tmp_path)
    assert found.card.layout.kind == "nnunet"
    assert [channel.name for channel in found.card.channels] == ["MRI_0", "MRI_1"]
    assert all(path.exists() for case in cases.values() for path in case.files)


def test_nnunet_without_its_json(tmp_path: Path) -> None:
    nnunet(tmp_path)
    image(tmp_path / "imagesTr" / "p1_a_0000.nii.gz", "CT")
    found, cases = known(tmp_path)
    assert found.card.layout.kind == "nnunet"
    assert [(channel.name, channel.unit) for channel in found.card.channels] == [
        ("CT", "HU"), ("channel_0001", "arbitrary")
    ]  # fmt: skip
    assert found.card.labels == {1: "label_1"}
    assert len(cases) == 4


def test_nnunet_with_colour_pictures_has_one_file_for_three_channels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / "imagesTr" / f"{name}_0000.png", colour=True)
        drawn(tmp_path / "labelsTr" / f"{name}.png", 1)
    say(tmp_path, {
        "channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}, "file_ending": ".png"
    })  # fmt: skip
    found, cases = known(tmp_path)
    assert [channel.name for channel in found.card.channels] == ["R", "G", "B"]
    assert found.card.labels == {1: "road"}
    assert names(cases["a"], tmp_path) == ["imagesTr/a_0000.png", "labelsTr/a.png"]


def test_a_missing_channel_is_told_with_its_case(tmp_path: Path) -> None:
    nnunet(tmp_path)
    (tmp_path / "imagesTr" / "p1_b_0001.nii.gz").unlink()
    with pytest.raises(DataError, match="other channels") as caught:
        recognise(tmp_path)
    assert "p1_b" in str(caught.value)


def test_numbers_of_cases_are_no_channels_and_a_validation_part_is_used(tmp_path: Path) -> None:
    for part, numbers in (("Tr", (1, 4)), ("Va", (13,)), ("Ts", (20,))):
        for number in numbers:
            image(tmp_path / f"images{part}" / f"amos_{number:04d}.nii.gz", "CT")
            if part != "Ts":
                mask(tmp_path / f"labels{part}" / f"amos_{number:04d}.nii.gz")
    say(tmp_path, {
        "name": "AMOS", "modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen", "2": "right kidney"},
        "training": [{"image": f"./imagesTr/amos_{n:04d}.nii.gz", "label": f"./labelsTr/amos_{n:04d}.nii.gz"}
                     for n in (1, 4)],
        "test": [], "licence": "CC BY 4.0",
    })  # fmt: skip
    found, cases = known(tmp_path)
    assert found.card.labels == {1: "spleen", 2: "right kidney"}
    assert {name: case.split for name, case in cases.items()} == {
        "amos_0001": "train", "amos_0004": "train", "amos_0013": "val", "amos_0020": "test"
    }  # fmt: skip


def test_decathlon(blobs: Path) -> None:
    found, cases = known(blobs)
    assert isinstance(found.card.layout, DecathlonLayout)
    assert found.card.labels == {1: "bright", 2: "dim"}
    assert len(cases) == 11
    assert found.counts.startswith("11 images, 10 masks: imagesTr/blob_00.nii.gz")


def test_listed_files_that_are_missing_are_counted(blobs: Path) -> None:
    (blobs / "labelsTr" / "blob_03.nii.gz").unlink()
    assert "layout: 1 files are missing: labelsTr/blob_03.nii.gz" in recognise(blobs).guesses


def test_a_damaged_json_is_told_and_a_foreign_one_is_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.nii.gz")
        mask(tmp_path / "labels" / f"{name}.nii.gz")
    say(tmp_path, {"labels": ["x"], "modality": "CT"})
    with pytest.raises(DataError, match="neither the decathlon's nor nnU-Net's"):
        recognise(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="cannot be understood"):
        recognise(tmp_path)
    say(tmp_path, {"authors": []})
    assert recognise(tmp_path).card.layout.kind == "files"


def test_patterns_take_signs_of_globs_as_they_are(tmp_path: Path) -> None:
    for name in ("[1]?/a1.nii.gz", "[1]?/b2.nii.gz", "1x/c3.nii.gz"):
        image(tmp_path / name)
    inside = patterns.found(tmp_path, "[1]?/{case:[a-z]}{number}.nii.gz")
    assert [fields for _, fields in inside] == [{"case": "a", "number": "1"}, {"case": "b", "number": "2"}]
    assert len(list(patterns.found(tmp_path, "**/{case}*.nii.gz"))) == 3


# --- images without masks


def test_images_alone_are_unlabelled(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / f"{name}.nii.gz", "CT")
    found, cases = known(tmp_path)
    assert found.card.task == "unlabelled"
    assert [channel.unit for channel in found.card.channels] == ["HU"]
    assert sorted(cases) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["{}_{}.nii.gz", "{}/{}.nii.gz", "{0}/{0}_{1}.nii.gz"])
@pytest.mark.parametrize("channels", [("0000", "0001"), ("FLAIR", "T1")])
def test_channels_of_unlabelled_images(tmp_path: Path, name: str, channels: tuple[str, str]) -> None:
    for case in ("p1_a", "p2_a", "p3_b"):
        for channel in channels:
            image(tmp_path / name.format(case, channel))
    found, cases = known(tmp_path)
    assert [channel.name for channel in found.card.channels] == list(channels)
    assert sorted(cases) == ["p1_a", "p2_a", "p3_b"]


def test_visits_of_unlabelled_patients_are_no_channels(tmp_path: Path) -> None:
    for patient, visit in VISITS:
        image(tmp_path / patient / f"{visit}.nii.gz")
    _, cases = known(tmp_path)
    assert {name: case.patient for name, case in cases.items()} == {f"{p}_{v}": p for p, v in VISITS}


def test_images_of_one_name_at_two_depths_are_not_one_case(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz", "old/x/a.nii.gz"):
        image(tmp_path / name)
    found, cases = known(tmp_path)
    assert sorted(cases) == ["a", "b", "c"]
    assert "layout: 1 of 4 files belong to no case: old/x/a.nii.gz" in found.guesses


# --- what stays outside, and errors


def test_junk_is_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.nii.gz")
        mask(tmp_path / "labels" / f"{name}.nii.gz")
    for junk in ("images/._a.nii.gz", "__MACOSX/images/a.nii.gz", ".cache/c.nii.gz", "labels/.DS_Store"):
        (tmp_path / junk).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / junk).write_bytes(b"junk")
    (tmp_path / "readme.txt").write_text("words")
    found, cases = known(tmp_path)
    assert sorted(cases) == ["a", "b"]
    assert not any("no case" in guess for guess in found.guesses)


def test_a_link_back_has_an_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.nii.gz")
    (tmp_path / "images" / "loop").symlink_to(tmp_path)
    found = recognise(tmp_path)
    assert len(index(tmp_path, found.card)) == 2
    assert files_layout(found).images == "images/{case}.nii.gz"
    assert not any("no case" in guess for guess in found.guesses)


def test_images_without_a_mask_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "x", "y"):
        image(tmp_path / "images" / f"{name}.nii.gz")
        if name not in "xy":
            mask(tmp_path / "labels" / f"{name}.nii.gz")
    found, cases = known(tmp_path)
    assert "layout: 2 of 5 images have no mask: x, y" in found.guesses
    assert len(cases) == 5


def test_masks_without_an_image_are_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "x"):
        mask(tmp_path / "labels" / f"{name}.nii.gz")
        if name != "x":
            image(tmp_path / "images" / f"{name}.nii.gz")
    found, _ = known(tmp_path)
    assert "layout: 1 of 7 files belong to no case: labels/x.nii.gz" in found.guesses


def test_damaged_files_do_not_hinder(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / "images" / f"{name}.nii.gz")
        mask(tmp_path / "labels" / f"{name}.nii.gz")
    (tmp_path / "images" / "a.nii.gz").write_bytes(b"")
    (tmp_path / "labels" / "a.nii.gz").write_bytes(b"half")
    found, cases = known(tmp_path)
    assert sorted(cases) == ["a", "b", "c"]
    assert found.card.labels == {1: "label_1"}


def test_masks_with_fractions_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.nii.gz")
        image(tmp_path / "labels" / f"{name}.nii.gz")
    found = recognise(tmp_path)
    assert any("a.nii.gz does not look like a mask: 48 values from 0 to 900" in guess for guess in found.guesses)


def test_an_empty_folder_and_one_with_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds nothing"):
        recognise(tmp_path)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(DataError, match=r"no images.*notes\.txt"):
        recognise(tmp_path)
    (tmp_path / "1.dcm").write_bytes(b"DICM")
    with pytest.raises(DataError, match="1 DICOM") as caught:
        recognise(tmp_path)
    assert "convert the DICOM" in str(caught.value)
    with pytest.raises(DataError, match="no such folder"):
        recognise(tmp_path / "nowhere")


def test_masks_with_other_names_are_told(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "images" / f"scan{number}.nii.gz")
        mask(tmp_path / "masks" / f"{'xyz'[number]}.nii.gz")
    with pytest.raises(DataError, match="do not say to which images they belong") as caught:
        recognise(tmp_path)
    assert "images/scan0.nii.gz" in str(caught.value)
    assert "masks/x.nii.gz" in str(caught.value)


def test_masks_alone_are_told(tmp_path: Path) -> None:
    for number in range(3):
        mask(tmp_path / f"c{number}_mask.nii.gz")
    with pytest.raises(DataError, match="masks, but no images"):
        recognise(tmp_path)


def test_a_layout_that_does_not_fit_is_answered_with_one_that_does(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "scans" / f"{name}.nii.gz")
        mask(tmp_path / "drawn" / f"{name}_seg.nii.gz")
    path, _ = write_card(tmp_path)
    path.write_text(path.read_text().replace("scans/", "images/"))
    with pytest.raises(DataError) as caught:
        open_dataset(path)
    text = str(caught.value).partition("would fit this layout: ")[2]
    assert yaml.safe_load(text) == {
        "kind": "files", "images": "scans/{case}.nii.gz", "labels": "drawn/{case}_seg.nii.gz"
    }  # fmt: skip


# --- the written card


def test_the_written_card_says_what_was_guessed_beside_its_lines(tmp_path: Path) -> None:
    folder = tmp_path / "Meine Bilder (ü)"
    for name in ("p1_a", "p1_b", "p2_a"):
        image(folder / "images" / f"{name}.nii.gz", "CT")
        mask(folder / "labels" / f"{name}.nii.gz", (1, 2))
    path, found = write_card(folder)
    assert path == folder / "card.yaml"
    assert found.card.name == "Meine-Bilder-u"
    lines = path.read_text().splitlines()
    above = {key: lines[lines.index(key) - 1] for key in ("labels:", "channels:")}
    assert above["labels:"] == "# seen in 3 of 3 masks: give them their names"
    assert above["channels:"].startswith("# values from -1000 to 1500 in one image: taken as CT in HU")
    patient = next(n for n, line in enumerate(lines) if line.startswith("patient: "))
    assert lines[patient - 1] == "# guessed 2 patients (p1: 2 cases, p2: 1)"
    assert any(line.startswith("# licence: {spdx: CC-BY-4.0}") for line in lines)
    assert isinstance(load_card(path), Card)


def test_a_card_is_never_overwritten(tmp_path: Path) -> None:
    image(tmp_path / "a.nii.gz")
    image(tmp_path / "b.nii.gz")
    path, _ = write_card(tmp_path)
    before = path.read_text()
    path.write_text(before + "# mine\n")
    with pytest.raises(UsageError, match="not overwritten"):
        write_card(tmp_path)
    assert path.read_text() == before + "# mine\n"


def test_a_card_elsewhere_names_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "scans"
    for name in ("a", "b"):
        image(folder / f"{name}.nii.gz")
    path, found = write_card(folder, tmp_path / "scans.yaml")
    assert found.card.root == "data/scans"
    assert len(open_dataset(path).cases) == 2
    other, found = write_card(folder, tmp_path / "cards" / "scans.yaml")
    assert found.card.root == str(folder)
    assert len(open_dataset(other).cases) == 2
    with pytest.raises(UsageError, match="YAML"):
        write_card(folder, tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        write_card(tmp_path / "nowhere")


# --- real folders


def test_the_real_hippocampus_is_a_decathlon(hippocampus: Path, tmp_path: Path) -> None:
    path, found = write_card(hippocampus, tmp_path / "card.yaml")
    assert isinstance(found.card.layout, DecathlonLayout)
    assert found.card.labels == {1: "Anterior", 2: "Posterior"}
    listed = json.loads((hippocampus / "dataset.json").read_text())
    dataset = open_dataset(path)
    assert len(dataset.labelled) == len(listed["training"])
    assert len({case.patient for case in dataset.cases}) == len(dataset.cases)


def test_the_real_membranes_have_a_test_part_with_the_same_names(test_data: Path, tmp_path: Path) -> None:
    path, found = write_card(test_data / "isbi-em", tmp_path / "card.yaml")
    assert found.card.dimension == 2
    assert found.card.labels == {1: "label_1"}
    assert files_layout(found).values == {255: 1}
    dataset = open_dataset(path)
    assert len(dataset.labelled) == 30
    assert [case.annotated for case in dataset.cases if case.split == "test"] == [False] * 30
    assert {case.files[-1].name for case in dataset.labelled} == {f"{n}.png" for n in range(30)}


def test_the_real_nuclei_have_one_mask_each(test_data: Path, tmp_path: Path) -> None:
    path, found = write_card(test_data / "dsb2018-nuclei", tmp_path / "card.yaml")
    cases = {case.id: case for case in open_dataset(path).cases}
    assert files_layout(found).labels == "stage1_train/{case}/masks/{instance}.png"
    assert [channel.name for channel in found.card.channels] == ["red", "green", "blue"]
    there = list((test_data / "dsb2018-nuclei").glob("stage1_train/*/masks/*.png"))
    assert sum(len(case.files) - 1 for case in cases.values()) == len(there)


def test_the_real_organs_are_refused_with_the_reason(test_data: Path) -> None:
    with pytest.raises(DataError, match="do not say to which images") as caught:
        recognise(test_data / "totalsegmentator")
    assert "3 images" in str(caught.value)
    assert "8 masks" in str(caught.value)


def test_the_real_sarcomas_give_one_modality(test_data: Path) -> None:
    folder = test_data / "sts-petct" / "nifti"
    found = recognise(folder)
    cases = index(folder, found.card)
    assert len(cases) == len(list(folder.glob("*/CT_image.nii.gz")))
    assert [(channel.name, channel.unit) for channel in found.card.channels] == [("CT", "HU")]
    assert any("PET is left out" in guess for guess in found.guesses)
