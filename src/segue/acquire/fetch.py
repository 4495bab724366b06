"""From the addresses on a card to its files: downloaded, checked, unpacked while they arrive."""

from __future__ import annotations

import shutil
import tarfile
import time
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path

from segue.acquire.archives import damaged, has_one_top, is_archive, is_junk, opened, tar_members, unpack, write_member
from segue.acquire.arrive import settle, staging_of
from segue.acquire.download import Received, Wanted, download
from segue.acquire.picking import pick
from segue.acquire.receipt import Origin, Source
from segue.acquire.remote import remote_members
from segue.acquire.transport import RefusedError, Transport, TryAgainError
from segue.catalogue import Card, RemoteFile
from segue.core.console import Stage, byte_count, stage
from segue.core.errors import DataError, MachineError
from segue.core.files import file_digest


def fetch(card: Card, root: Path, cases: int | None = None) -> Origin:
    """Download a dataset to ``root``; an interrupted one goes on. With ``cases`` only so many, picked out remotely.

    Raises:
        DataError: no address gives a file, a checksum is wrong, or an archive is damaged or unsafe.
        MachineError: the disk is full, too small or may not be written.
    """
    staging = staging_of(root)
    if cases is None:
        _require_space(card, staging)
    with Transport() as transport:
        if cases is not None:
            return _fetch_cases(card, root, staging, transport, cases)
        hashes: dict[str, str] = {}
        sources = []
        for file in card.own_files:
            source, files = _one_file(transport, file, staging, several=len(card.own_files) > 1)
            sources.append(source)
            hashes.update(files)
        return settle(card, staging, root, card.name, Origin("downloaded", sources, hashes))


def _require_space(card: Card, staging: Path) -> None:
    """Say before the first byte that the disk is too small for the download and what comes out of it."""
    if card.disk_size is None:
        return
    here = sum(path.stat().st_blocks * 512 for path in staging.rglob("*") if path.is_file())
    place = next(folder for folder in staging.resolve().parents if folder.is_dir())
    free = shutil.disk_usage(place).free
    if card.disk_size - here > free:
        raise MachineError(
            "the disk is too small for this dataset; nothing was begun",
            where=staging.parent,
            value=f"{byte_count(card.disk_size - here)} needed while it is unpacked, {byte_count(free)} free",
            remedy="free some space, choose another folder with -o, or bring some cases only with --cases",
        )


def _one_file(transport: Transport, file: RemoteFile, staging: Path, several: bool) -> tuple[Source, dict[str, str]]:
    target = staging / file.name
    hashes: dict[str, str] = {}

    def unpacked_on_the_way(stream: BufferedIOBase) -> None:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as content:
                for member in tar_members(content, file.name):
                    if not any(is_junk(part) for part in member.name.parts):
                        each = write_member(member, staging, lambda number: None)
                        hashes[each.name] = each.sha256
        except tarfile.TarError as error:
            raise damaged(file.name, error) from error

    streams = file.name.lower().endswith(".tar")
    wanted = Wanted([file.url, *file.mirrors], file.bytes, file.md5, file.sha256)
    if target.exists():  # it came, and unpacking it was interrupted
        received = Received(target, file.url, target.stat().st_size, 0, file_digest(target), None)
        streams = False
    else:
        with stage("download", file.bytes) as shown:
            on_bytes = _with_rate(shown, file.name)
            follow = unpacked_on_the_way if streams else None
            received = download(transport, wanted, target, on_bytes, follow, shown.expect)
            shown.note(f"{file.name}, {byte_count(received.bytes)}")
    source = Source(received.url, received.bytes, received.sha256)
    if not is_archive(file.name):
        return source, {file.name: received.sha256}
    if not streams:
        with opened(target) as members, stage("unpack", sum(member.bytes for member in members)) as shown:
            apart = several and not has_one_top(members)
            stem = file.name.split(".")[0]
            for each in unpack(members, staging / stem if apart else staging, shown.advance):
                hashes[f"{stem}/{each.name}" if apart else each.name] = each.sha256
    target.unlink()
    return source, hashes


def _with_rate(shown: Stage, name: str) -> Callable[[int], None]:
    began = 0.0
    came = 0

    def on_bytes(number: int) -> None:
        nonlocal began, came
        if not began:  # what was here before comes first and says nothing about the line
            began = time.monotonic()
            shown.advance(number)
            return
        came += number
        rate = came / max(0.001, time.monotonic() - began)
        shown.advance(number, f"{name}, {byte_count(round(rate))}/s")

    return on_bytes


def _fetch_cases(card: Card, root: Path, staging: Path, transport: Transport, cases: int) -> Origin:
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
            with remote_members(transport, url, file.name) as (members, raw), stage("download", None) as shown:
                hashes = pick(card, members, staging, cases, on_case=lambda name: shown.advance(note=name))
                shown.note(f"{cases} cases, {byte_count(raw.fetched)} of {byte_count(raw.size)}")
                came = Source(url, raw.fetched)
            return settle(card, staging, root, url, Origin("downloaded", [came], hashes, partial=True))
        except (RefusedError, TryAgainError) as error:
            reasons.append(f"{url}: {error}")
    raise DataError(
        "the cases could not be downloaded",
        where=card.name,
        value="; ".join(reasons),
        remedy="run the same command again later, or leave --cases out",
    )
