"""The catalogue: every card, licences, names, copies and sizes, overlaps, and what ``segue datasets`` shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import Segue
from segue.catalogue import UNSTATED, all_cards, bibtex, card_names, in_words, load_card, overlap, overlapping, terms
from segue.catalogue.licences import check_licence, from_words
from segue.core.errors import UsageError
from segue.workflow.browsing import (
    Wanted,
    listing,
    page,
    selected,
    statistics,
)

MSD = ["brain", "heart", "liver", "hippocampus", "prostate", "lung", "pancreas", "hepatic", "spleen", "colon"]
MEDMNIST_2D = [
    "path",
    "chest",
    "derma",
    "oct",
    "pneumonia",
    "retina",
    "breast",
    "blood",
    "tissue",
    "organa",
    "organc",
    "organs",
]
MEDMNIST_3D = ["organ", "nodule", "adrenal", "fracture", "vessel", "synapse"]
PETCT = ["fdg-pet-ct-lesions", "psma-pet-ct-lesions", "acrin-nsclc-fdg-pet", *[f"autopet/{n}" for n in range(1, 5)]]
BRATS = [*map(str, range(2018, 2022)), *[f"2023-{name}" for name in ("gli", "men", "met", "ped", "ssa")]]


def test_the_names_that_others_call_are_there() -> None:
    wanted = {
        *(f"msd/{name}" for name in MSD),
        *(f"medmnist/{name}mnist" for name in MEDMNIST_2D),
        *(f"medmnist/{name}mnist3d" for name in MEDMNIST_3D),
        *PETCT,
        "amos/2022",
        *(f"brats/{name}" for name in BRATS),
        "synthetic/petct",
    }
    assert wanted <= set(card_names())
    assert sum(name.startswith("medsegbench/") for name in card_names()) == 35
    assert sum(name.startswith("medmnist/") for name in card_names()) == 18


@pytest.mark.parametrize("name", card_names())
def test_a_card_of_the_catalogue(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.licence is not None
    assert in_words(card.licence.spdx)
    assert card.citations or card.access.kind == "generated"
    assert card.difficulty
    assert card.hardware
    assert card.access.kind != "own"
    assert card.sources or card.access.kind == "generated"
    for file in card.files:
        assert file.url.startswith("https://")
        assert all(mirror.startswith("https://") for mirror in file.mirrors)
    if card.patient:
        assert re.compile(card.patient).groups == 1
    for group in card.groups:
        re.compile(group.cases)
        assert set(group.unlabelled) <= set(card.labels)
    for other in card.overlaps:
        assert any(other.dataset == name or "*" in other.dataset or "[" in other.dataset for name in card_names())
    for copy in card.copies:
        assert card.at(copy.release).release == copy.release
    assert name in page(card)


def test_unsafe_addresses_are_not_the_primary_ones() -> None:
    assert not [card.name for card in all_cards() for file in card.files if re.search(r"//\d+\.\d+\.", file.url)]


@pytest.mark.parametrize(
    ("name", "cases"),
    # The counts of the archives, as the facts have them; MedMNIST's by its package from 2.2.4 on.
    [
        ("msd/hippocampus", (260, None, 130)),
        ("msd/lung", (63, None, 32)),
        ("medmnist/organcmnist", (12975, 2392, 8216)),
        ("medmnist/breastmnist", (546, 78, 156)),
        ("amos/2022", (240, 120, 240)),
        ("brats/2021", (1251, None, None)),
        ("fdg-pet-ct-lesions", (1014, None, None)),
        ("medsegbench/drive", (18, 2, 20)),
        ("totalsegmentator/ct", (1082, 57, 89)),
    ],
)
def test_expected_counts(name: str, cases: tuple[int | None, ...]) -> None:
    expect = load_card(name).expect
    assert (expect.train, expect.val, expect.test) == cases


def test_sums_over_families() -> None:
    def total(family: str) -> int:
        return sum(card.expect.cases or 0 for card in all_cards() if card.name.startswith(f"{family}/"))

    assert total("msd") == 2628
    assert total("medmnist") == 707_962 + 9_996
    assert total("medsegbench") == 66_165


def test_three_label_conventions_of_brats() -> None:
    assert load_card("brats/2021").regions == {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}
    assert load_card("brats/2023-gli").regions == {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
    assert load_card("brats/2024-gli").regions["RC"] == [4]
    assert load_card("msd/brain").regions == {"WT": [1, 2, 3], "TC": [2, 3], "ET": [3]}
    assert [c.name for c in load_card("brats/2020").channels] == ["t1", "t1ce", "t2", "flair"]
    assert [c.name for c in load_card("brats/2023-men").channels] == ["t1n", "t1c", "t2w", "t2f"]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ("brats/2023", "brats/2023-gli"),
        ("brats/2024", "brats/2024-gli"),
        ("Task03_Liver", "msd/liver"),
        ("pathmnist", "medmnist/pathmnist"),
        ("amos", "amos/2022"),
    ],
)
def test_other_names(other: str, name: str) -> None:
    assert load_card(other).name == name


def test_a_family_is_answered_with_its_members() -> None:
    with pytest.raises(UsageError, match=r"which one\? msd/brain, msd/colon"):
        load_card("msd")
    with pytest.raises(UsageError, match="did you mean 'msd/liver'"):
        load_card("livr")
    with pytest.raises(UsageError, match="segue datasets lists"):
        load_card("zzzzzz")


def test_sizes_by_the_official_names() -> None:
    card = load_card("medmnist/pathmnist_64")
    assert (card.name, card.size) == ("medmnist/pathmnist_64", 64)
    assert load_card("medmnist/pathmnist").sizes == [28, 64, 128, 224]
    assert load_card("medmnist/vesselmnist3d").sizes == [28, 64]
    assert load_card("medmnist/pathmnist_28") == load_card("medmnist/pathmnist")
    assert load_card("medsegbench/drive").sizes == [256, 128, 512]
    with pytest.raises(UsageError, match="no dataset of this name"):
        load_card("medmnist/vesselmnist3d_128")


def test_two_releases_where_counts_changed() -> None:
    changed = {card.name for card in all_cards() if card.name.startswith("medmnist/") and card.copies}
    assert changed == {f"medmnist/{n}" for n in ("organamnist", "organcmnist", "organsmnist", "organmnist3d")} | {
        "medmnist/vesselmnist3d"
    }
    old = load_card("medmnist/vesselmnist3d", "2.2")
    assert (old.expect.val, old.release, old.sizes) == (192, "2.2", [28])
    assert old.files[0].md5 != load_card("medmnist/vesselmnist3d").files[0].md5
    with pytest.raises(UsageError, match=r"releases: 3\.0, 2\.2"):
        load_card("medmnist/vesselmnist3d", "1.0")


def test_every_copy_has_its_own_licence() -> None:
    card = load_card("fdg-pet-ct-lesions")
    assert card.licence and card.licence.spdx == "CC-BY-4.0"
    assert card.collection and card.collection.idc == "fdg_pet_ct_lesions"
    nifti = card.at("fdat")
    assert nifti.licence and nifti.licence.spdx == "CC-BY-NC-4.0"
    assert nifti.collection is None
    assert nifti.download_bytes is None  # what is known of one copy is not said of another


@pytest.mark.parametrize(
    ("spdx", "commercial", "words"),
    [
        ("CC-BY-4.0", True, "name the authors"),
        ("CC-BY-SA-4.0", True, "same licence"),
        ("CC-BY-NC-4.0", False, "no commercial use"),
        ("CC-BY-NC-ND-3.0", False, "no changed copies"),
        ("CC0-1.0", True, "no conditions"),
        (UNSTATED, None, "ask the authors"),
        ("LicenseRef-BraTS-data-use", False, "read them"),
    ],
)
def test_licences_in_words(spdx: str, commercial: bool | None, words: str) -> None:
    assert terms(spdx).commercial is commercial
    assert words in in_words(spdx)


@pytest.mark.parametrize("text", ["CC-BY-SA 4.0", "cc by-sa 4.0", "CC_BY_SA 4.0."])
def test_a_licence_as_people_write_it(text: str) -> None:
    assert from_words(text) == "CC-BY-SA-4.0"
    with pytest.raises(ValueError, match=r"did you mean CC-BY-SA-4\.0"):
        check_licence(text)


def test_overlaps_go_both_ways() -> None:
    liver, lits, organ = (load_card(name) for name in ("msd/liver", "lits", "medmnist/organamnist_64"))
    assert overlap(liver, lits)
    assert overlap(lits, liver)
    assert overlap(organ, liver)
    assert overlap(liver, load_card("msd/spleen")) is None
    assert {name for name, _ in overlapping(load_card("brats/2021"))} >= {"msd/brain", "brats/2023-gli"}
    assert "brats/2023-men" not in dict(overlapping(load_card("brats/2021")))
    assert "fdg-pet-ct-lesions" in dict(overlapping(load_card("autopet/3")))


def test_bibtex_invents_nothing() -> None:
    text = bibtex([*load_card("brats/2018").citations, *load_card("brats/2019").citations])
    assert text.count("@article{menze2015brats,") == 1
    entry = text.split("@article{bakas2017brats,")[1].split("\n}")[0]
    assert "title" not in entry  # nobody could look it up
    assert "None" not in text
    assert text.count("{") == text.count("}")


def test_filters() -> None:
    names = {card.name for card in selected(Wanted(modality="PET", task="segmentation", dimension=3))}
    assert names == {*PETCT, "synthetic/petct"} - {"acrin-nsclc-fdg-pet"}
    free = {card.name for card in selected(Wanted(modality="pet", licence="commercial"))}
    assert free == {"fdg-pet-ct-lesions", "acrin-nsclc-fdg-pet", "synthetic/petct"}
    assert {card.name for card in selected(Wanted(words=["liver", "LiTS"]))} >= {"msd/liver", "lits"}
    assert [card.name for card in selected(Wanted(words=["msd/spleen", "lits"]))] == ["msd/spleen", "lits"]
    for wrong in (Wanted(modality="PTE"), Wanted(task="detection"), Wanted(words=["unicorn"]), Wanted(licence="MITT")):
        with pytest.raises(UsageError):
            selected(wrong)


def test_unknown_is_shown_as_unknown() -> None:
    card = load_card("msd/colon")
    assert card.download_size is None
    assert "size unknown" in page(card)
    row = next(line for line in listing([card], Wanted()).splitlines() if line.startswith("msd/colon"))
    assert "?" in row
    assert load_card("msd/liver").download_size == 28_925_891_584
    assert load_card("msd/liver").disk_size == 2 * 28_925_891_584
    assert load_card("medmnist/pathmnist").disk_size == 205_615_438 + 252_087_360


def test_statistics_count_each_case_once() -> None:
    rows = {line.split()[0]: line for line in statistics(all_cards()).splitlines()[2:]}
    assert "2,628" in rows["msd"]
    assert "717,958" in rows["medmnist"]
    assert "to 1,650" in rows["brats"]  # editions repeat their cases: the largest one, not the sum


def test_the_command(segue: Segue) -> None:
    done = segue("datasets")
    assert done.returncode == 0, done.stderr
    assert f"{len(card_names())} datasets" in done.stdout
    done = segue("datasets", "--modality", "PET", "--licence", "commercial", "--dimension", "3", "--json")
    listed = json.loads(done.stdout)
    assert {entry["name"] for entry in listed} == {"fdg-pet-ct-lesions", "acrin-nsclc-fdg-pet", "synthetic/petct"}
    done = segue("datasets", "msd/liver")
    for word in ("28.9 GB", "57.9 GB", "SA:", "antonelli2022msd", "GPU", "known defects", "next: "):
        assert word in done.stdout
    done = segue("datasets", "msd/liver", "amos/2022", "--cite")
    assert re.findall(r"^@\w+\{(\w+),", done.stdout, re.MULTILINE) == [
        "antonelli2022msd",
        "simpson2019msd",
        "ji2022amos",
    ]
    assert segue("datasets", "--statistics").stdout.startswith("family")
    failed = segue("datasets", "nothing-like-this")
    assert failed.returncode == 2
    assert "segue datasets" in failed.stderr


def test_listing_needs_no_numpy(tmp_path: Path, segue: Segue) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from segue.workflow import browsing as b;"
        "b.listing(b.selected(b.Wanted()), b.Wanted()); b.page(b.selected(b.Wanted(words=['msd/liver']))[0]);"
        "print([name for name in ('numpy', 'torch', 'nibabel') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
