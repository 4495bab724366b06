"""Downloads from real servers on loopback: resumed, checked, unpacked; and what they refuse."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from loopback import Habits, serving
from segue.acquire import GetOptions, get, verify
from segue.acquire import transport as transport_module
from segue.acquire.download import Received, Wanted, download
from segue.acquire.remote import remote_members
from segue.acquire.transport import Transport, _retry_after
from segue.catalogue import Card, RemoteFile, load_card, resolve
from segue.core.errors import DataError, MachineError

MIB = 1 << 20


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


def content_of(path: Path, size: int, seed: int = 0) -> bytes:
    content = np.random.default_rng(seed).bytes(size)
    path.write_bytes(content)
    return content


def fetch(target: Path, *urls: str, **known: object) -> Received:
    with Transport() as transport:
        return download(transport, Wanted(urls, **known), target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "habits",
    [
        Habits(),
        Habits(ranges=False),
        Habits(ranges=False, length=False),
        Habits(cut_after=700_000, cuts=4),
        Habits(busy=2, retry_after="0"),
        Habits(busy=1, retry_after=None),
        Habits(headers={"ETag": 'W/"weak"'}),
        Habits(headers={"Content-Encoding": "identity"}),
        Habits(cut_after=MIB, cuts=2, headers={"ETag": 'W/"weak"'}),
    ],
    ids=[
        *("ranges", "no ranges", "no length", "cut connections", "busy", "busy without saying how long"),
        *("weak tag", "no encoding", "weak tag, cut connections"),
    ],
)
def test_what_arrives_is_what_was_sent(served: Path, tmp_path: Path, habits: Habits) -> None:
    content = content_of(served / "a.bin", 5 * MIB + 17)
    with serving(served, habits) as (url, _):
        received = fetch(tmp_path / "out" / "a.bin", f"{url}/a.bin")
    assert (tmp_path / "out" / "a.bin").read_bytes() == content
    assert received.sha256 == hashlib.sha256(content).hexdigest()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.bin"]


def test_large_files_come_in_parallel_parts(served: Path, tmp_path: Path) -> None:
    content = content_of(served / "a.bin", 70 * MIB)
    with serving(served) as (url, habits):
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
        assert len(habits.requests) == 3
        assert habits.sent == len(content)
    assert (tmp_path / "a.bin").read_bytes() == content


def test_an_empty_file(served: Path, tmp_path: Path) -> None:
    (served / "a.bin").touch()
    with serving(served, Habits(ranges=False)) as (url, _):
        assert fetch(tmp_path / "a.bin", f"{url}/a.bin").bytes == 0


def test_a_changed_file_is_fetched_anew(served: Path, tmp_path: Path) -> None:
    content_of(served / "a.bin", 3 * MIB, seed=1)
    with serving(served, Habits(cut_after=MIB, cuts=100)) as (url, habits):
        partial = _interrupted_download(tmp_path, url, habits, 0.5)
        assert partial.exists()
        habits.cuts = 0
        new = content_of(served / "a.bin", 3 * MIB, seed=2)
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
    assert (tmp_path / "a.bin").read_bytes() == new


def test_a_server_that_gives_parts_of_whatever_lies_there_now(served: Path, tmp_path: Path) -> None:
    """It does not look at If-Range: only the tag of its answer says that the file is another one."""
    content_of(served / "a.bin", 3 * MIB, seed=1)
    with serving(served, Habits(cut_after=MIB, cuts=100, if_range=False)) as (url, habits):
        assert _interrupted_download(tmp_path, url, habits, 0.5).stat().st_size > 0
        habits.cuts = 0
        new = content_of(served / "a.bin", 3 * MIB, seed=2)
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
    assert (tmp_path / "a.bin").read_bytes() == new


def test_silence_is_told_and_asked_again(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transport_module, "_SILENCE_S", 1.0)
    monkeypatch.setattr("segue.acquire.download._WORTH_TELLING_S", 0.5)
    content = content_of(served / "a.bin", 3 * MIB)
    with serving(served, Habits(silent_after=MIB, silences=1)) as (url, habits):
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
        assert habits.sent < 4 * MIB
    assert (tmp_path / "a.bin").read_bytes() == content
    assert "nothing came for 1 s; again in" in capsys.readouterr().err


def test_control_c_does_not_wait_for_a_silent_server(served: Path, tmp_path: Path) -> None:
    content_of(served / "a.bin", 40 * MIB)
    card = (
        "name: mine/silent\ntitle: S\nchannels: [{name: MRI}]\nlabels: {1: a}\nlayout: {kind: decathlon}\n"
        "access: {kind: open}\nfiles: [{name: a.zip, url: '%s/a.bin'}]\n"
    )
    with serving(served, Habits(silent_after=MIB, silences=100)) as (url, habits):
        (tmp_path / "silent.yaml").write_text(card % url)
        command = [sys.executable, "-m", "segue", "get", "silent.yaml"]
        process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        while habits.silences > 98:
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert "the same command goes on" in process.communicate(timeout=10)[1]
        assert process.returncode == 130


@pytest.mark.parametrize(
    ("habits", "message"),
    [
        (Habits(headers={"Content-Encoding": "gzip"}), "compressed .gzip., which nobody asked for"),
        (Habits(promised=1000, ranges=False), "(?i)peer closed|incomplete|early"),
    ],
    ids=["compressed", "a length that is a lie"],
)
def test_servers_that_cannot_be_believed(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, habits: Habits, message: str
) -> None:
    monkeypatch.setattr("segue.acquire.download.backoff_s", lambda attempt: 0.01)
    content_of(served / "a.bin", 100_000)
    with serving(served, habits) as (url, _), pytest.raises(DataError, match=message):
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
    assert not (tmp_path / "a.bin").exists()


def test_a_gz_that_is_called_compressed_is_what_it_is(served: Path, tmp_path: Path) -> None:
    content = content_of(served / "a.nii.gz", 100_000)
    with serving(served, Habits(headers={"Content-Encoding": "x-gzip"})) as (url, _):
        fetch(tmp_path / "a.nii.gz", f"{url}/a.nii.gz")
    assert (tmp_path / "a.nii.gz").read_bytes() == content


DOWNLOADER = """\
import sys
from pathlib import Path
from segue.acquire.download import Wanted, download
from segue.acquire.transport import Transport
with Transport() as transport:
    download(transport, Wanted([sys.argv[1]]), Path(sys.argv[2]))
"""


def _start(url: str, target: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", DOWNLOADER, url, str(target)], stderr=subprocess.DEVNULL)


def _interrupted_download(folder: Path, url: str, habits: Habits, seconds: float) -> Path:
    process = _start(f"{url}/a.bin", folder / "a.bin")
    while not habits.sent:
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return folder / ".a.bin.part"


@pytest.mark.slow
def test_fifty_kills_lose_nothing(served: Path, tmp_path: Path) -> None:
    size = 60 * MIB
    content = content_of(served / "a.bin", size)
    kills, lots = 0, random.Random(5)
    with serving(served, Habits(rate=12e6)) as (url, habits):
        while kills < 50 and not (tmp_path / "a.bin").exists():
            before = habits.sent
            process = _start(f"{url}/a.bin", tmp_path / "a.bin")
            while habits.sent == before and process.poll() is None:
                time.sleep(0.005)
            try:
                process.wait(lots.uniform(0.0, 0.12))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        assert kills == 50
        habits.rate = None
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
    assert (tmp_path / "a.bin").read_bytes() == content
    assert not list(tmp_path.glob(".a.bin*"))


def test_a_resumed_download_asks_for_the_rest_only(served: Path, tmp_path: Path) -> None:
    content_of(served / "a.bin", 24 * MIB)
    with serving(served, Habits(rate=20e6)) as (url, habits):
        _interrupted_download(tmp_path, url, habits, 0.6)
        kept = sum(stop - start for start, stop in _journal(tmp_path / ".a.bin.part.journal"))
        assert kept > MIB
        habits.rate, habits.sent = None, 0
        received = fetch(tmp_path / "a.bin", f"{url}/a.bin")
        assert received.fetched == 24 * MIB - kept
        assert habits.requests[-1][1] is not None


def _journal(path: Path) -> list[list[int]]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:] if line.endswith("]")]


def test_a_wrong_checksum_is_kept_aside_and_the_mirror_tried(served: Path, tmp_path: Path) -> None:
    (served / "bad").mkdir()
    content_of(served / "bad" / "a.bin", MIB, seed=1)
    content = content_of(served / "a.bin", MIB, seed=2)
    right = hashlib.md5(content).hexdigest()
    with serving(served) as (url, _):
        received = fetch(tmp_path / "a.bin", f"{url}/bad/a.bin", f"{url}/a.bin", md5=right)
        assert received.url == f"{url}/a.bin"
        assert (tmp_path / "a.bin").read_bytes() == content
        aside = [path for path in tmp_path.iterdir() if "wrong" in path.name]
        assert len(aside) == 1
        with pytest.raises(DataError) as caught:
            fetch(tmp_path / "b.bin", f"{url}/bad/a.bin", md5=right)
        assert right in str(caught.value)
        assert hashlib.md5((served / "bad" / "a.bin").read_bytes()).hexdigest() in str(caught.value)


@pytest.mark.parametrize(
    ("habits", "message"),
    [
        (Habits(page=("text/html", b"<!DOCTYPE html><title>Log in</title>")), "login or a consent page"),
        (Habits(page=("application/octet-stream", b'{"error": "quota exceeded"}')), "quota exceeded"),
        (Habits(status=404), "not there"),
        (Habits(status=403), "a login or an agreement is needed"),
    ],
)
def test_what_is_no_data_is_told(served: Path, tmp_path: Path, habits: Habits, message: str) -> None:
    content_of(served / "a.bin", 1000)
    with serving(served, habits) as (url, _), pytest.raises(DataError, match=message):
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
    assert not (tmp_path / "a.bin").exists()


def test_a_file_of_another_length_than_the_card_says(served: Path, tmp_path: Path) -> None:
    content_of(served / "a.bin", 1000)
    with serving(served) as (url, _), pytest.raises(DataError, match="1000 bytes instead of 999"):
        fetch(tmp_path / "a.bin", f"{url}/a.bin", bytes=999)


def test_a_disk_that_is_too_small_is_said_first(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content_of(served / "a.bin", 5 * MIB)
    usage = shutil.disk_usage(tmp_path)._replace(free=MIB)
    monkeypatch.setattr("segue.acquire.download.shutil.disk_usage", lambda path: usage)
    with serving(served) as (url, habits), pytest.raises(MachineError, match=r"5\.24 MB to come, 1\.05 MB free"):
        fetch(tmp_path / "a.bin", f"{url}/a.bin")
    assert not (tmp_path / "a.bin").exists()
    assert habits.requests


def test_room_for_what_comes_out_is_asked_for_too(
    blobs: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(blobs, served, "tar")
    size = archive.stat().st_size
    usage = shutil.disk_usage(tmp_path)._replace(free=int(1.5 * size))
    monkeypatch.setattr("segue.acquire.archives.shutil.disk_usage", lambda path: usage)
    with serving(served) as (url, habits):
        card = remote_card(blobs, f"{url}/{archive.name}", archive=archive)
        known = card.files[0].model_copy(update={"bytes": size})
        with pytest.raises(MachineError, match="too small for this"):
            get(card.model_copy(update={"files": [known]}), tmp_path / "data" / "x", GetOptions())
        assert habits.requests == []
    assert not (tmp_path / "data").exists()


def test_retry_after_in_both_forms() -> None:
    assert _retry_after("7") == 7
    assert _retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert _retry_after("soon") is None
    assert _retry_after(None) is None


def test_proxies_of_the_environment(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(served / "a.bin", 1000)
    with serving(served) as (url, habits):
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        fetch(tmp_path / "a.bin", "http://nowhere.invalid/a.bin")
        assert habits.requests[0][0] == "http://nowhere.invalid/a.bin"
    assert (tmp_path / "a.bin").read_bytes() == content


def test_a_hosts_budget_is_kept(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content_of(served / "a.bin", 10)
    monkeypatch.setitem(transport_module._PER_MINUTE, "127.0.0.1", 300)
    with serving(served) as (url, habits), Transport() as transport:
        started = time.monotonic()
        for _ in range(4):
            with transport.get(f"{url}/a.bin") as (_, chunks):
                assert sum(map(len, chunks)) == 10
        assert time.monotonic() - started >= 3 * 60 / 300
        assert len(habits.requests) == 4


def test_who_we_are(served: Path, tmp_path: Path) -> None:
    with Transport() as transport:
        agent = transport._client.headers["User-Agent"]
    assert agent.startswith("segue/")


# Whole datasets


def packed(blobs: Path, folder: Path, kind: str) -> Path:
    """The decathlon folder as an archive, with its litter."""
    (blobs / "imagesTr" / "._blob_00.nii.gz").write_bytes(b"AppleDouble")
    archive = folder / f"Task99_Blobs.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as out:
            for path in sorted(blobs.rglob("*")):
                out.write(path, Path("Task99_Blobs") / path.relative_to(blobs))
    else:
        with tarfile.open(archive, "w:gz" if kind.endswith("gz") else "w") as tar:
            tar.add(blobs, arcname="./Task99_Blobs")
    return archive


def remote_card(blobs: Path, *urls: str, archive: Path) -> Card:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    file = RemoteFile(name=archive.name, url=urls[0], mirrors=list(urls[1:]), sha256=digest)
    card, _ = resolve(blobs)
    opened = load_card("msd/spleen").access
    return card.model_copy(update={"name": "test/blobs", "access": opened, "files": [file]})


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_dataset_is_downloaded_unpacked_and_remembered(blobs: Path, served: Path, tmp_path: Path, kind: str) -> None:
    archive = packed(blobs, served, kind)
    root = tmp_path / "data" / "test" / "blobs"
    with serving(served) as (url, habits):
        card = remote_card(blobs, f"{url}/gone.tar", f"{url}/{archive.name}", archive=archive)
        dataset = get(card, root, GetOptions())
        assert (len(dataset.labelled), len(dataset.cases)) == (10, 11)
        asked = len(habits.requests)
        get(card, root, GetOptions())
        assert len(habits.requests) == asked  # the second time nothing is asked for
    assert not list(root.rglob("._*"))
    assert [path.name for path in root.parent.iterdir()] == ["blobs"]
    receipt = json.loads((root / "segue.json").read_text())
    assert receipt["sources"][0]["sha256"] == card.files[0].sha256
    assert receipt["sources"][0]["origin"] == f"{url}/{archive.name}"
    checked = verify(root, lambda number: None)
    assert checked.sound
    assert checked.hashed == checked.files > 20
    # An image changed, one gone, one more.
    images = sorted((root / "imagesTr").iterdir())
    images[0].write_bytes(b"\0" * images[0].stat().st_size)
    images[1].unlink()
    (root / "imagesTr" / "more.nii.gz").touch()
    checked = verify(root, lambda number: None)
    assert (checked.changed, checked.missing, checked.unexpected) == (
        [f"imagesTr/{images[0].name}"],
        [f"imagesTr/{images[1].name}"],
        ["imagesTr/more.nii.gz"],
    )


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_some_cases_come_alone(blobs: Path, served: Path, tmp_path: Path, kind: str) -> None:
    big = np.random.default_rng(0).bytes(2_000_000)
    for path in sorted((blobs / "imagesTr").glob("blob_0[3-9]*")):
        path.write_bytes(path.read_bytes() + big)  # what is not wanted is large
    archive = packed(blobs, served, kind)
    root = tmp_path / "blobs"
    with serving(served) as (url, habits):
        card = remote_card(blobs, f"{url}/{archive.name}", archive=archive)
        dataset = get(card, root, GetOptions(cases=3))
        assert [case.id for case in dataset.cases] == ["blob_00", "blob_01", "blob_02"]
        assert all(case.annotated for case in dataset.cases)
        assert habits.sent < archive.stat().st_size / 4
        assert json.loads((root / "segue.json").read_text())["partial"] is True
        # And later the whole of it.
        assert len(get(card, root, GetOptions()).labelled) == 10
        assert json.loads((root / "segue.json").read_text())["partial"] is False


def test_cases_that_came_before_an_interruption_are_not_fetched_again(
    blobs: Path, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted((blobs / "imagesTr").glob("*")):
        path.write_bytes(path.read_bytes() + np.random.default_rng(0).bytes(2_000_000))
    archive = packed(blobs, served, "tar")
    root = tmp_path / "blobs"

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with serving(served) as (url, habits):
        card = remote_card(blobs, f"{url}/{archive.name}", archive=archive)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("segue.acquire.fetch.settle", killed)
            get(card, root, GetOptions(cases=3))
        assert habits.sent > 6_000_000
        habits.sent = 0
        assert len(get(card, root, GetOptions(cases=3)).cases) == 3
        assert habits.sent < 4_000_000  # the headers between
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_progress_counts_every_byte_once_whatever_address_gives_it(served: Path, tmp_path: Path) -> None:
    (served / "bad").mkdir()
    content_of(served / "bad" / "a.bin", 3 * MIB, seed=1)
    content = content_of(served / "a.bin", 3 * MIB, seed=2)
    counts: list[int] = []
    with serving(served) as (url, _), Transport() as transport:
        wanted = Wanted([f"{url}/bad/a.bin", f"{url}/a.bin"], sha256=hashlib.sha256(content).hexdigest())
        download(transport, wanted, tmp_path / "a.bin", counts.append)
    assert sum(counts) == 3 * MIB


def test_an_unsafe_archive_from_the_network_leaves_nothing(blobs: Path, served: Path, tmp_path: Path) -> None:
    archive = served / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(blobs, arcname="Task")
        link = tarfile.TarInfo("Task/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    root = tmp_path / "data" / "x"
    with serving(served) as (url, _):
        card = remote_card(blobs, f"{url}/x.tar", archive=archive)
        with pytest.raises(DataError, match="does not belong in a dataset"):
            get(card, root, GetOptions())
    assert not root.exists()


def test_a_killed_get_goes_on(blobs: Path, served: Path, tmp_path: Path) -> None:
    (blobs / "imagesTs" / "blob_99.nii.gz").write_bytes(np.random.default_rng(0).bytes(12 * MIB))
    archive = packed(blobs, served, "tar")
    root = tmp_path / "blobs"
    code = (
        "import sys, json; from pathlib import Path; from segue.acquire import GetOptions, get;"
        "from segue.catalogue import Card; get(Card.model_validate_json(sys.argv[1]), Path(sys.argv[2]), GetOptions())"
    )
    with serving(served, Habits(rate=15e6)) as (url, habits):
        card = remote_card(blobs, f"{url}/{archive.name}", archive=archive)
        process = subprocess.Popen([sys.executable, "-c", code, card.model_dump_json(), str(root)])
        while habits.sent < 4 * MIB:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert not root.exists()
        habits.rate, habits.sent = None, 0
        assert len(get(card, root, GetOptions()).labelled) == 10
        assert habits.sent < archive.stat().st_size - 3 * MIB


def test_two_at_once_do_not_harm_each_other(blobs: Path, served: Path, tmp_path: Path) -> None:
    archive = packed(blobs, served, "tar")
    root = tmp_path / "blobs"
    code = (
        "import sys; from pathlib import Path; from segue.acquire import GetOptions, get;"
        "from segue.catalogue import Card;"
        "print(len(get(Card.model_validate_json(sys.argv[1]), Path(sys.argv[2]), GetOptions()).cases))"
    )
    with serving(served, Habits(rate=2e6)) as (url, habits):
        card = remote_card(blobs, f"{url}/{archive.name}", archive=archive)
        command = [sys.executable, "-c", code, card.model_dump_json(), str(root)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=60)[0].strip() for process in both] == ["11", "11"]
        assert habits.sent < 1.5 * archive.stat().st_size


# What a person downloaded


def test_import_of_a_loose_mixture(blobs: Path, tmp_path: Path) -> None:
    """Images in an archive, masks and listing beside it."""
    mixture = tmp_path / "Downloads" / "Task99_Blobs"
    mixture.mkdir(parents=True)
    with zipfile.ZipFile(mixture / "imagesTr.zip", "w") as out:
        for path in sorted((blobs / "imagesTr").iterdir()):
            out.write(path, Path("imagesTr") / path.name)
    with tarfile.open(mixture / "imagesTs.tar.gz", "w:gz") as tar:
        tar.add(blobs / "imagesTs", arcname="imagesTs")
    shutil.copytree(blobs / "labelsTr", mixture / "labelsTr")
    os.link(blobs / "dataset.json", mixture / "dataset.json")
    card, _ = resolve(blobs)
    dataset = get(card, tmp_path / "data" / "blobs", GetOptions(source=mixture.parent))
    assert (len(dataset.labelled), len(dataset.cases)) == (10, 11)
    assert all(path.exists() for case in dataset.cases for path in case.files)


def _brats(folder: Path, *cases: str) -> None:
    from test_layouts import image_file

    for case in cases:
        for channel in ("t1", "t1ce", "t2", "flair"):
            image_file(folder / case / f"{case}_{channel}.nii.gz")
        image_file(folder / case / f"{case}_seg.nii.gz", labels=True)


@pytest.mark.parametrize("kind", ["folders", "archives", "an archive of archives"])
def test_a_dataset_in_parts_comes_together(tmp_path: Path, kind: str) -> None:
    down = tmp_path / "down"
    for part, cases in {"one": ["BraTS2021_00001", "BraTS2021_00002"], "two": ["BraTS2021_00003"]}.items():
        _brats(down / part, *cases)
    _brats(down / "again", "BraTS2021_00003")  # the same once more counts once
    if kind != "folders":
        for part in ("one", "two"):
            with tarfile.open(down / f"{part}.tar.gz", "w:gz") as tar:
                tar.add(down / part, arcname=".")
        for part in ("one", "two", "again"):
            shutil.rmtree(down / part)
    source = down
    if kind == "an archive of archives":
        source = tmp_path / "archive.zip"
        with zipfile.ZipFile(source, "w") as out:
            for path in down.iterdir():
                out.write(path, path.name)
    root = tmp_path / "data" / "x"
    dataset = get(load_card("brats/2021"), root, GetOptions(source=source))
    assert [case.id for case in dataset.cases] == ["BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"]
    assert len(list(root.rglob("*.nii.gz"))) == 15
    checked = verify(root, lambda number: None)
    assert checked.sound and checked.files == 15 and checked.hashed == (0 if kind == "folders" else 15)
    assert [path.name for path in root.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("channel", ["t1", "flair"])
def test_a_missing_image_is_counted_whichever_it_is(tmp_path: Path, channel: str) -> None:
    from segue.workflow.getting import bring

    _brats(tmp_path / "down", "BraTS2021_00001", "BraTS2021_00002")
    (tmp_path / "down" / "BraTS2021_00002" / f"BraTS2021_00002_{channel}.nii.gz").unlink()
    said = bring(load_card("brats/2021"), tmp_path / "x", GetOptions(source=tmp_path / "down"))
    assert f"missing: 1 files, such as BraTS2021_00002/BraTS2021_00002_{channel}.nii.gz" in said
    assert not any("unexpected" in line for line in said)


@pytest.mark.parametrize("moment", ["between the renamings", "after them"])
def test_killed_while_the_new_takes_the_place_of_the_old(blobs: Path, tmp_path: Path, moment: str) -> None:
    card, _ = resolve(blobs)
    root = tmp_path / "data" / "x"
    get(card, root, GetOptions(source=blobs, copy=True))
    (root / "notes.txt").write_text("mine")
    before = root.parent / ".x.arriving" / "0123abcd" / "before"
    before.parent.mkdir(parents=True)
    if moment == "after them":
        shutil.copytree(root, before)
    else:
        root.rename(before)
    dataset = get(card, root, GetOptions(source=blobs, copy=True))
    assert len(dataset.labelled) == 10
    assert (root / "notes.txt").read_text() == "mine"
    assert [path.name for path in root.parent.iterdir()] == ["x"]


def test_another_edition_is_recognised(tmp_path: Path) -> None:
    from test_layouts import image_file

    name = "BraTS20_Training_001"
    for channel in ("t1", "t1ce", "t2", "flair"):
        image_file(tmp_path / "down" / name / f"{name}_{channel}.nii.gz")
    image_file(tmp_path / "down" / name / f"{name}_seg.nii.gz", labels=True)
    with pytest.raises(DataError, match=r"not brats/2021, but brats/2020.*\n.*segue get brats/2020 --from"):
        get(load_card("brats/2021"), tmp_path / "data", GetOptions(source=tmp_path / "down"))


def test_copies_are_copies(blobs: Path, tmp_path: Path) -> None:
    card, _ = resolve(blobs)
    get(card, tmp_path / "copied", GetOptions(source=blobs, copy=True))
    image = "imagesTr/blob_00.nii.gz"
    assert not (tmp_path / "copied" / image).samefile(blobs / image)
    assert (tmp_path / "copied" / image).read_bytes() == (blobs / image).read_bytes()


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("x/zeros.nii", b"\0" * MIB)
        out.filelist[0].file_size = 5_000_000_000  # what the directory promises
    with pytest.raises(DataError, match="absurdly large"):
        get(load_card("msd/spleen"), tmp_path / "data", GetOptions(source=archive))
    assert not (tmp_path / "data").exists()


def test_a_bomb_in_a_tar_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Seven terabytes in ten kilobytes: what is promised is enough to know."""
    big = tarfile.TarInfo("x/zeros.nii")
    big.size = 7 << 40
    archive = tmp_path / "bomb.tar.gz"
    with gzip.open(archive, "wb") as out:
        out.write(big.tobuf(tarfile.GNU_FORMAT))
        for _ in range(10):
            out.write(b"\0" * MIB)
    with pytest.raises(DataError, match="absurdly large"):
        get(load_card("msd/spleen"), tmp_path / "data" / "x", GetOptions(source=archive))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", ".hidden", "a/b.tar", ""])
def test_a_card_cannot_name_a_file_elsewhere(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        RemoteFile(name=name, url="http://127.0.0.1/x")


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "C:/evil", "a/../../evil"])
def test_zips_that_leave_their_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("dataset.json", "{}")
        out.writestr(name, "x")
    with pytest.raises(DataError, match="nothing was unpacked"):
        get(load_card("msd/spleen"), tmp_path / "data", GetOptions(source=archive))
    assert not list(tmp_path.rglob("evil"))


def test_single_files_out_of_a_remote_archive(served: Path) -> None:
    contents = {f"top/{n}.bin": np.random.default_rng(n).bytes(1_000_000) for n in range(20)}
    with tarfile.open(served / "a.tar", "w") as tar, zipfile.ZipFile(served / "a.zip", "w") as out:
        for name, content in contents.items():
            path = served / "one.bin"
            path.write_bytes(content)
            tar.add(path, name)
            out.write(path, name)
    with serving(served) as (url, _), Transport() as transport:
        for name in ("a.tar", "a.zip"):
            with remote_members(transport, f"{url}/{name}", name) as (members, raw):
                found = {member.name.as_posix(): member for member in members}
                assert set(found) == set(contents)
                with found["top/13.bin"].open() as handle:
                    assert handle.read() == contents["top/13.bin"]
                assert raw.fetched < raw.size / 3
