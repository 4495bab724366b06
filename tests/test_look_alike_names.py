"""What look-alikes are called, how many there are, that they come back from their seed, and cards of one's own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from segue.acquire import GetOptions, get
from segue.catalogue import Card, load_card
from segue.core.config import validate
from segue.core.errors import UsageError
from segue.images import read_labels
from segue.prepare import ExamineTask, examine
from segue.synth import look_alike
from segue.synth.shipped_names import count_up, shipped_names


def own_card(layout: dict[str, object], **more: object) -> Card:
    content = {"name": "x", "title": "x", "channels": [{"name": "t1"}], "labels": {1: "a"}, "layout": layout, **more}
    return validate(Card, content)


def digests(folder: Path) -> dict[str, str]:
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.name + str(path.parent)[len(str(folder)) :]: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


@pytest.mark.parametrize(
    ("text", "following"),
    [
        ("hippocampus_009", "hippocampus_010"),
        ("liver_9", "liver_10"),
        ("PETCT_0143bab87a", "PETCT_0144bab87a"),
        ("Brats18_TCIA09_177_1", "Brats18_TCIA09_178_1"),
        ("case", "case2"),
    ],
)
def test_counting_up(text: str, following: str) -> None:
    assert count_up(text) == following


@pytest.mark.parametrize(
    "name", ["msd/liver", "fdg-pet-ct-lesions", "autopet/3", "brats/2023-gli", "acdc", "lits", "totalsegmentator/ct"]
)
def test_more_cases_than_examples(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    used, left_out = shipped_names(card, 11)
    assert len({case.id for case in used}) == len(used)
    assert sum(case.part == "train" for case in used) == 11
    assert left_out == []
    if name not in ("totalsegmentator/ct",):  # 117 masks a case
        dataset = get(card, tmp_path / "data", GetOptions(source=look_alike(card, tmp_path / "download", 11)))
        assert sorted(case.id for case in dataset.cases) == sorted(case.id for case in used)
        assert len({case.patient for case in dataset.labelled}) >= 9


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_cases(number: int) -> None:
    for name in ("autopet/3", "brats/2020", "acdc", "brats/2023-gli"):
        used, _ = shipped_names(load_card(name), number)
        assert sum(case.part == "train" for case in used) == number
        if name == "brats/2020":
            assert used[0].id == "BraTS20_Training_355"
    three, _ = shipped_names(load_card("brats/2023-gli"), 3)
    assert len({case.id[:15] for case in three}) == 2


@pytest.mark.parametrize(
    "name",
    [
        "msd/prostate",
        "psma-pet-ct-lesions",
        "autopet/4",
        "amos/2022",
        "isic2018",
        "medmnist/chestmnist",
        "synthetic/petct",
    ],
)
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    card = load_card(name)
    number = 2 if name == "synthetic/petct" else 3
    one, two, other = (
        digests(look_alike(card, tmp_path / place, number, seed)) for place, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert one == two
    assert len(set(one.values()) & set(other.values())) < len(one) / 2


def test_a_card_of_ones_own_without_examples(tmp_path: Path) -> None:
    layout = {
        "kind": "files",
        "images": "old/*/{patient}/{case:[0-9]+}_{channel}.nii.gz",
        "labels": "old/*/{patient}/{case:[0-9]+}_{label}.nii",
        "test": {"images": "new/{case}_{channel}.nii.gz"},
        "table": {"file": "list.tsv", "separator": "\t", "case": "name", "patient": "who"},
    }
    channels = [{"name": "t1"}, {"name": "ct", "unit": "HU"}]
    card = own_card(layout, channels=channels, labels={1: "a", 7: "b"}, ignore_label=9)
    dataset = get(card, tmp_path / "data", GetOptions(source=look_alike(card, tmp_path / "download", 3)))
    assert [case.id for case in dataset.labelled] == ["001_001", "001_002", "002_001"]
    assert [case.patient for case in dataset.labelled] == ["001", "001", "002"]
    assert all(examine(ExamineTask(case, card)).findings == [] for case in dataset.labelled)


def test_an_ignore_label_is_shown(tmp_path: Path) -> None:
    card = own_card({"kind": "decathlon"}, ignore_label=9)
    dataset = get(card, tmp_path / "data", GetOptions(source=look_alike(card, tmp_path / "download", 2)))
    for case in dataset.labelled:
        assert isinstance(case.label, Path)
        assert set(np.unique(read_labels(case.label).array).tolist()) == {0, 1, 9}
        assert examine(ExamineTask(case, card)).findings == []


@pytest.mark.parametrize(
    ("layout", "more", "message"),
    [
        ({"kind": "files", "images": "{case}.mha"}, {}, r"this format are not made \(\.mha\)"),
        ({"kind": "nnunet", "suffix": ".png"}, {}, "this format are not made"),
        ({"kind": "decathlon"}, {"patient": "^P([0-9]+)"}, "none can be guessed"),
        ({"kind": "files", "images": "{case}.nii", "examples": ["x/a.nii"]}, {}, "does not have the layout's pattern"),
        ({"kind": "files", "images": "**/{case}.nii", "examples": ["../a.nii"]}, {}, "leaves the dataset's folder"),
        ({"kind": "petct", "examples": ["../../a/b"]}, {}, "leaves the dataset's folder"),
        ({"kind": "decathlon", "folder": "../x"}, {}, "outside its own folder"),
        ({"kind": "npz", "file": "/tmp/x.npz"}, {}, "outside its own folder"),
    ],
)
def test_look_alikes_that_cannot_be_made(
    layout: dict[str, object], more: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        look_alike(own_card(layout, **more), tmp_path)
    with pytest.raises(UsageError, match="at least one case"):
        look_alike(load_card("msd/liver"), tmp_path, 0)
