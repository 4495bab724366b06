"""From the addresses on a card to its files: downloaded, checked, unpacked while they arrive."""

from __future__ import annotations

import collections
import shutil
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BufferedIOBase
from pathlib import Path

from segue.acquire.archives import (
    BROKEN,
    damaged,
    has_one_top,
    is_archive,
    is_junk,
    opened,
    require_space,
    tar_members,
    unpack,
    write_member,
)
from segue.acquire.arrive import settle
from segue.acquire.download import Received, Wanted, download
from segue.acquire.exchange import Staging, staging_of
from segue.acquire.picking import pick
from segue.acquire.receipt import Origin, Source
from segue.acquire.remote import remote_members
from segue.acquire.transport import RefusedError, Transport, TryAgainError
from segue.catalogue import Card, RemoteFile
from segue.core.console import Stage, byte_count, stage
from segue.core.errors import DataError
from segue.core.files import file_digest, parse_json, write_json

# The rate is that of the last ten seconds or so.
_MARK_S, _MARKS = 1.0, 10


def fetch(card: Card, root: Path, cases: int | None = None) -> Origin:
    """Download a dataset to ``root``; an interrupted one goes on. With ``cases`` only so many, picked out remotely.

    Raises:
        DataError: no address gives a file, a checksum is wrong, or an archive is damaged or unsafe.
        MachineError: the disk is full, too small or may not be written.
    """
    with Transport() as transport:
        if cases is not None:
            return _fetch_cases(card, root, transport, cases)
        files = card.own_files
        staging = staging_of(root, "download", card.release, [file.name for file in files])
        require_space(staging.folder, sum(_bytes_of(file) for file in files))
        hashes: dict[str, str] = {}
        sources = []
        with staging.or_nothing():
            for file in files:
                came = _one_file(transport, file, staging, several=len(files) > 1)
                sources.append(came.source)
                hashes.update(came.hashes)
            _drop_strangers(staging.files, hashes)
            return settle(card, staging, root, card.name, Origin("downloaded", sources, hashes))


def _bytes_of(file: RemoteFile) -> int:
    """What a file needs on the disk while it comes: itself and, of an archive, what is in it."""
    size = file.bytes or 0
    return size + (file.unpacked_bytes or size) if is_archive(file.name) else size


def _drop_strangers(folder: Path, names: dict[str, str]) -> None:
    """An earlier try may have left files that the archive, as it is now, does not have."""
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


@dataclass(frozen=True)
class _Came:
    """One file of a card: where it came from, and the SHA-256 of what it gave."""

    source: Source
    hashes: dict[str, str]


def _one_file(transport: Transport, file: RemoteFile, staging: Staging, several: bool) -> _Came:
    target = staging.downloads / file.name
    done = staging.downloads / f"{file.name}.done.json"
    if (earlier := _read_done(done)) is not None:
        return earlier
    hashes: dict[str, str] = {}

    def unpacked_on_the_way(stream: BufferedIOBase) -> None:
        hashes.clear()
        try:
            with tarfile.open(fileobj=stream, mode="r|") as content:
                for member in tar_members(content, file.name):
                    if not any(is_junk(part) for part in member.name.parts):
                        each = write_member(member, staging.files, lambda number: None)
                        hashes[each.name] = each.sha256
        except BROKEN as error:
            raise damaged(file.name, error) from error

    streams = file.name.lower().endswith(".tar")
    wanted = Wanted([file.url, *file.mirrors], file.bytes, file.md5, file.sha256)
    if target.exists():  # it came, and unpacking it was interrupted
        received = Received(target, file.url, target.stat().st_size, 0, file_digest(target), None)
        streams = False
    else:
        with stage("download", file.bytes) as shown:
            on_bytes = with_rate(shown, file.name)
            follow = unpacked_on_the_way if streams else None
            received = download(transport, wanted, target, on_bytes, follow, shown.expect)
            shown.note(f"{file.name}, {byte_count(received.bytes)}")
    if not is_archive(file.name):
        hashes = {file.name: received.sha256}
        staging.files.mkdir(parents=True, exist_ok=True)
        (staging.files / file.name).unlink(missing_ok=True)
        (staging.files / file.name).hardlink_to(target)
    elif not streams:
        with opened(target) as members, stage("unpack", sum(member.bytes for member in members)) as shown:
            require_space(staging.files, sum(member.bytes for member in members))
            apart = several and not has_one_top(members)
            stem = file.name.split(".")[0]
            for each in unpack(members, staging.files / stem if apart else staging.files, shown.advance):
                hashes[f"{stem}/{each.name}" if apart else each.name] = each.sha256
    came = _Came(Source(received.url, received.bytes, received.sha256), hashes)
    write_json(done, asdict(came))  # from here on the archive is not needed any more
    target.unlink()
    return came


def _read_done(path: Path) -> _Came | None:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        return _Came(Source(**content["source"]), content["hashes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def with_rate(shown: Stage, name: str) -> Callable[[int], None]:
    """Tells a stage of the bytes that come; its note says how many, and how fast."""
    marks = collections.deque([(time.monotonic(), 0)])
    came = 0

    def on_bytes(number: int) -> None:
        nonlocal came
        now = time.monotonic()
        if (shown.done or not shown.total) and number > 0:  # what was here before comes first: no news of the line
            came += number
        if now - marks[-1][0] > _MARK_S:
            marks.append((now, came))
        if len(marks) > _MARKS:
            marks.popleft()
        rate = (came - marks[0][1]) / max(0.1, now - marks[0][0])
        there = byte_count(round(shown.done) + number)
        whole = f" of {byte_count(round(shown.total))}" if shown.total else ""
        shown.advance(number, f"{there}{whole}, {byte_count(round(rate))}/s  {name}")

    return on_bytes


def _fetch_cases(card: Card, root: Path, transport: Transport, cases: int) -> Origin:
    files = [file for file in card.own_files if is_archive(file.name)]
    if len(files) != 1 or len(card.own_files) != 1:
        raise DataError(
            "single cases come out of datasets that are one .tar or .zip",
            where=card.name,
            value=f"{len(card.own_files)} files" if len(card.own_files) != 1 else card.own_files[0].name,
            remedy="leave --cases out",
        )
    file = files[0]
    reasons = []
    for url in [file.url, *file.mirrors]:
        try:
            with (
                stage("download", None) as shown,
                remote_members(transport, url, file.name, with_rate(shown, "looking for the cases")) as (members, raw),
            ):
                staging = staging_of(root, "cases", card.release, file.name, url, raw.validator)
                if raw.validator is None:
                    shutil.rmtree(staging.folder, ignore_errors=True)  # nobody knows whether it is of the same file
                hashes = pick(card, members, staging.files, cases)
                shown.note(f"{cases} cases, {byte_count(raw.fetched)} of {byte_count(raw.size)}")
                came = Source(url, raw.fetched)
            return settle(card, staging, root, url, Origin("downloaded", [came], hashes, partial=True))
        except (RefusedError, TryAgainError) as error:
            reasons.append(f"{url}: {error}")
        except BROKEN as error:
            raise damaged(url, error) from error
    raise DataError(
        "the cases could not be downloaded",
        where=card.name,
        value="; ".join(reasons),
        remedy="run the same command again later, or leave --cases out",
    )
