"""``get`` against archives and disks that mean no good, and killed in every phase."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from conftest import Segue
from dicom_studies import Study
from segue.acquire import GetOptions, get
from segue.catalogue import load_card, resolve
from segue.core.errors import DataError, MachineError

# What is put into an archive beside a whole dataset, each by its own road out of the folder or into trouble.
MEMBERS: dict[str, Callable[[tarfile.TarInfo], None]] = {
    "a link to outside": lambda info: _become(info, "Task/link", tarfile.SYMTYPE, "/etc"),
    "a link inside, then a file through it": lambda info: _become(info, "Task/imagesTr/l", tarfile.SYMTYPE, "."),
    "a hard link": lambda info: _become(info, "Task/hard", tarfile.LNKTYPE, "../../outside"),
    "a device": lambda info: _become(info, "Task/null", tarfile.CHRTYPE),
    "a pipe": lambda info: _become(info, "Task/pipe", tarfile.FIFOTYPE),
    "the parent": lambda info: _become(info, "Task/../../outside"),
    "an absolute path": lambda info: _become(info, "/tmp/outside-of-segue"),
    "a path of Windows": lambda info: _become(info, "C:\\outside"),
    "backslashes": lambda info: _become(info, "Task\\..\\..\\outside"),
    "an endless name": lambda info: _become(info, "Task/" + "x" * 300),
}


def _become(info: tarfile.TarInfo, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
    info.name, info.type, info.linkname = name, kind, target


@pytest.mark.parametrize("what", MEMBERS)
def test_an_archive_with_such_a_member_is_refused_whole(blobs: Path, tmp_path: Path, what: str) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(blobs, arcname="Task")
        info = tarfile.TarInfo()
        MEMBERS[what](info)
        tar.addfile(info)
    before = set(tmp_path.rglob("*"))
    card, _ = resolve(blobs)
    with pytest.raises(DataError, match="does not belong in a dataset") as caught:
        get(card, tmp_path / "data" / "blobs", GetOptions(source=archive))
    assert caught.value.remedy
    assert set(tmp_path.rglob("*")) == before
    assert not Path("/tmp/outside-of-segue").exists()


@pytest.mark.parametrize("spoil", ["cut", "flipped", "empty", "text"])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_damaged_archive_is_an_error_and_nothing_else(blobs: Path, tmp_path: Path, kind: str, spoil: str) -> None:
    whole = _packed(blobs, tmp_path, kind).read_bytes()
    half = len(whole) // 2
    content = {
        "cut": whole[:half],
        "flipped": whole[:100] + bytes(byte ^ 0x5A for byte in whole[100:4000]) + whole[4000:],
        "empty": b"",
        "text": b"<html>Please log in</html>" * 100,
    }[spoil]
    archive = tmp_path / f"spoiled.{kind}"
    archive.write_bytes(content)
    card, _ = resolve(blobs)
    with pytest.raises(DataError):
        get(card, tmp_path / "data" / "blobs", GetOptions(source=archive))
    assert not (tmp_path / "data").exists()


def _packed(blobs: Path, folder: Path, kind: str) -> Path:
    archive = folder / f"Task.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
            for path in sorted(blobs.rglob("*")):
                out.write(path, Path("Task") / path.relative_to(blobs))
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as tar:
            tar.add(blobs, arcname="Task")
    return archive


def test_an_npz_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # type: ignore[return-value]

    arrays = {}
    for part in ("train", "val", "test"):
        arrays[f"{part}_images"] = np.array([Evil()] * 2, dtype=object)
        arrays[f"{part}_labels"] = np.zeros((2, 1), np.uint8)
    np.savez(tmp_path / "breastmnist.npz", **arrays)
    with pytest.raises(DataError):
        get(load_card("medmnist/breastmnist"), tmp_path / "data" / "b", GetOptions(source=tmp_path / "breastmnist.npz"))
    assert not marker.exists() and not (tmp_path / "data").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_while_importing_is_told_and_leaves_no_half(blobs: Path, small_disk: Path, tmp_path: Path) -> None:
    (blobs / "imagesTs" / "blob_98.nii.gz").write_bytes(np.random.default_rng(0).bytes(400_000))
    card, _ = resolve(blobs)
    for options in (
        GetOptions(source=blobs, copy=True),
        GetOptions(source=_packed(blobs, tmp_path, "tar")),
    ):
        with pytest.raises(MachineError, match=r"full|small|space"):
            get(card, small_disk / "blobs", options)
        assert not (small_disk / "blobs").exists()


def test_a_read_only_disk_is_told_and_what_lies_there_opens(blobs: Path, small_disk: Path, tmp_path: Path) -> None:
    card, _ = resolve(blobs)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    get(card, small_disk / "there", GetOptions(source=blobs, copy=True))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    before = _tree(small_disk)
    assert len(get(card, small_disk / "there", GetOptions()).labelled) == 10
    for root in ("there", "elsewhere"):
        with pytest.raises(MachineError, match="may not be written"):
            get(card, small_disk / root, GetOptions(source=blobs, copy=True))
    assert _tree(small_disk) == before


def test_a_read_only_disk_is_told_by_convert(small_disk: Path, tmp_path: Path, segue: Segue) -> None:
    Study(tmp_path / "dicom", "A", True).add("MR", np.ones((3, 8, 8)))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = segue("convert", tmp_path / "dicom", small_disk / "out")
    assert done.returncode == 4
    assert "may not be written" in done.stderr


def test_a_full_disk_while_converting_is_told(small_disk: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 30_000, (20, 128, 128)).astype(float)
    Study(tmp_path / "dicom", "A", True).add("PT", noise)
    with pytest.raises(MachineError, match="full"):
        get(load_card("fdg-pet-ct-lesions"), small_disk / "fdg", GetOptions(source=tmp_path / "dicom"))
    assert not (small_disk / "fdg").exists()


_IMPORT = (
    "import sys; from pathlib import Path;"
    "from segue.acquire import GetOptions, get; from segue.catalogue import resolve;"
    "card, _ = resolve(sys.argv[1]); print('begin', flush=True);"
    "get(card, Path(sys.argv[2]), GetOptions(source=Path(sys.argv[3]), copy=True))"
)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "archive", "dicom"])
def test_kills_at_any_moment_lose_nothing(blobs: Path, tmp_path: Path, source: str) -> None:
    """Killed at random moments until it ends; then the dataset is what an undisturbed call makes."""
    if source == "dicom":
        given, name = tmp_path / "dicom", "fdg-pet-ct-lesions"
        noise = np.random.default_rng(0).integers(0, 30_000, (12, 64, 64)).astype(float)
        for n in range(4):
            study = Study(given / f"{n}", f"PETCT_{n}", True)
            study.add("PT", noise), study.add("CT", noise)
    else:
        for n in range(3, 8):
            extra = io.BytesIO(np.random.default_rng(n).bytes(3_000_000))
            (blobs / f"extra_{n}.bin").write_bytes(extra.getvalue())
        given, name = (blobs if source == "folder" else _packed(blobs, tmp_path, "tar.gz")), str(blobs)
    expected = tmp_path / "expected"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", _IMPORT, name, str(expected), str(given)], check=True, capture_output=True)
    whole = time.monotonic() - began
    root, chance, kills = tmp_path / "data" / "x", random.Random(7), 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", _IMPORT, name, str(root), str(given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.random() * 0.5 * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 3
    subprocess.run([sys.executable, "-c", _IMPORT, name, str(root), str(given)], check=True, capture_output=True)
    assert _tree(root) == _tree(expected)
    assert [path.name for path in root.parent.iterdir()] == ["x"]


def _tree(root: Path) -> dict[str, bytes]:
    """Every file but the receipt, which tells the time."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.name != "segue.json"}
