"""Cards, layouts, locating, splits."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from segue.acquire import GetOptions, get
from segue.catalogue import Card, load_card, open_dataset, resolve, split_cases
from segue.core.errors import DataError, UsageError
from segue.images import write
from segue.volume import Geometry, Volume

CARD = """\
name: mine
title: My images
channels: [{name: t1}, {name: t2}]
labels: {1: tumour}
layout:
  kind: files
  images: "images/{case}_{channel}.nii.gz"
  labels: "labels/{case}.nii.gz"
patient: "^(p\\\\d+)"
"""


def image_file(path: Path, labels: bool = False) -> None:
    array = np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3) % (2 if labels else 27)
    write(Volume(array, Geometry((3, 3, 3), np.eye(4)), "labels" if labels else "intensity"), path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for case in ("p1_a", "p1_b", "p2_a", "p3_a"):
        for channel in ("t1", "t2"):
            image_file(tmp_path / "images" / f"{case}_{channel}.nii.gz")
        image_file(tmp_path / "labels" / f"{case}.nii.gz", labels=True)
    (tmp_path / "images" / "._p1_a_t1.nii.gz").write_bytes(b"AppleDouble")
    (tmp_path / "mine.yaml").write_text(CARD)
    return tmp_path / "mine.yaml"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'msd/hippocampus'"):
        load_card("msd/hipocampus")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("labels: {1: a, 2: a}", "same name"),
        ("labels: {0: background}", "above 0"),
        ("labels: {-1: a}", "from 0 up"),
        ("channels: [{name: t1}, {name: t1}]", "same name"),
        ("channels: []", "at least 1"),
        ("layout: {kind: folders}", "layout"),
        ("licens: MIT", "did you mean 'licence'"),
    ],
)
def test_a_bad_card_names_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    key = line.split(":")[0]
    kept = [text for text in CARD.splitlines() if not text.startswith(key)]
    if key == "layout":
        kept = [text for text in kept if not text.startswith("  ")]
    path = tmp_path / "bad.yaml"
    path.write_text("\n".join([*kept, line]) + "\n")
    with pytest.raises(UsageError) as caught:
        load_card(path)
    assert message in str(caught.value)
    assert f"{path}:{len(kept) + 1}" in str(caught.value)


def test_a_card_of_ones_own_groups_channels_and_patients(own: Path) -> None:
    dataset = open_dataset(own)
    assert [case.id for case in dataset.cases] == ["p1_a", "p1_b", "p2_a", "p3_a"]
    assert [path.name for path in dataset.cases[0].images] == ["p1_a_t1.nii.gz", "p1_a_t2.nii.gz"]
    assert [case.patient for case in dataset.cases] == ["p1", "p1", "p2", "p3"]
    assert len(dataset.labelled) == 4
    assert open_dataset(own.parent).card == dataset.card  # the only card in a folder speaks for it


def test_patients_never_cross_a_split(own: Path) -> None:
    dataset = open_dataset(own)
    held_out = []
    for fold in range(3):
        split = split_cases(dataset, fold)
        assert not {c.patient for c in split.train} & {c.patient for c in split.val}
        assert len(split.train) + len(split.val) == 4
        held_out += [case.id for case in split.val]
    assert sorted(held_out) == ["p1_a", "p1_b", "p2_a", "p3_a"]
    with pytest.raises(DataError, match="no fold 3"):
        split_cases(dataset, 3)


def test_decathlon_folder_without_a_card(blobs: Path) -> None:
    dataset = open_dataset(blobs)
    assert dataset.card.labels == {1: "bright", 2: "dim"}
    assert (len(dataset.labelled), len(dataset.cases)) == (10, 11)
    assert dataset.cases[-1].split == "test"


def test_a_listed_path_out_of_the_folder_is_refused(blobs: Path) -> None:
    listing = json.loads((blobs / "dataset.json").read_text())
    listing["training"][0]["image"] = "../../etc/passwd"
    (blobs / "dataset.json").write_text(json.dumps(listing))
    with pytest.raises(DataError, match="outside"):
        open_dataset(blobs)


def test_folders_that_hold_nothing_are_told(tmp_path: Path, blobs: Path) -> None:
    with pytest.raises(DataError, match="it holds nothing"):
        open_dataset((tmp_path / "empty").mkdir() or tmp_path / "empty")
    with pytest.raises(DataError, match=r"segue get msd/hippocampus --from"):
        open_dataset("msd/hippocampus", tmp_path)
    card, _ = resolve("msd/hippocampus")
    with pytest.raises(DataError, match="other labels"):
        get(card.model_copy(update={"labels": {1: "a", 2: "b", 3: "c"}}), tmp_path / "x", GetOptions(source=blobs))
    assert not (tmp_path / "x").exists()


def test_import_links_a_folder_and_says_what_it_is(blobs: Path, tmp_path: Path) -> None:
    (blobs / "imagesTr" / "._blob_00.nii.gz").write_bytes(b"AppleDouble")
    card, root = resolve(blobs)
    root = tmp_path / "data" / "Blobs"
    dataset = get(card, root, GetOptions(source=blobs))
    assert len(dataset.labelled) == 10
    assert not list(root.rglob("._*"))
    assert (root / "imagesTr" / "blob_00.nii.gz").samefile(blobs / "imagesTr" / "blob_00.nii.gz")
    assert open_dataset(root).card == card


def test_import_of_a_tar_with_its_junk(blobs: Path, tmp_path: Path) -> None:
    (blobs / "imagesTr" / "._blob_00.nii.gz").write_bytes(b"AppleDouble")
    archive = tmp_path / "Task99_Blobs.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(blobs, arcname="./Task99_Blobs")
    card, _ = resolve(blobs)
    for _ in range(2):  # the second time there is nothing to do
        dataset = get(card, tmp_path / "out", GetOptions(source=archive))
        assert len(dataset.labelled) == 10
    assert not list((tmp_path / "out").rglob("._*"))


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil"])
def test_an_archive_that_leaves_its_folder_is_refused_whole(blobs: Path, tmp_path: Path, name: str) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(blobs / "dataset.json", arcname="Task/dataset.json")
        tar.add(blobs / "dataset.json", arcname=name, filter=lambda info: _named(info, name))
    with pytest.raises(DataError, match="nothing was unpacked"):
        get(resolve(blobs)[0], tmp_path / "out", GetOptions(source=archive))
    assert not (tmp_path / "out").exists()


def _named(info: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    info.name = name
    return info


def test_links_in_an_archive_are_refused(blobs: Path, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        link = tarfile.TarInfo("Task/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match="nothing was unpacked"):
        get(resolve(blobs)[0], tmp_path / "out", GetOptions(source=archive))


def test_a_cut_archive_is_told(blobs: Path, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(blobs, arcname="Task")
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(DataError, match="damaged"):
        get(resolve(blobs)[0], tmp_path / "out", GetOptions(source=archive))


def test_the_real_hippocampus_folder(hippocampus: Path, tmp_path: Path) -> None:
    card, root = resolve("msd/hippocampus", tmp_path)
    dataset = get(card, root, GetOptions(source=hippocampus))
    listed = json.loads((hippocampus / "dataset.json").read_text())
    assert len(dataset.labelled) == len(listed["training"])
    assert isinstance(dataset.card, Card)
    split = split_cases(dataset, 0)
    assert len(split.val) == -(-len(listed["training"]) // 5)
