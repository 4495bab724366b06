"""Archives: what is in them, whether it is safe, and out of them. Nothing is unpacked that could leave its folder."""

from __future__ import annotations

import functools
import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath

from segue.core.console import byte_count
from segue.core.errors import DataError
from segue.core.files import atomic_path

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
# Images compress to a half, masks to a hundredth; what promises more is made to fill the disk.
_MOST_RATIO, _RATIO_FROM_BYTES = 200, 2_000_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A file in an archive; ``open`` gives its content, in the archive's order for streams."""

    name: PurePosixPath
    bytes: int
    open: Callable[[], BufferedIOBase]


@dataclass(frozen=True)
class Unpacked:
    """One file as it was unpacked: relative path, size, SHA-256."""

    name: str
    bytes: int
    sha256: str


def is_archive(path: Path | str) -> bool:
    return str(path).lower().endswith(ARCHIVES)


def is_junk(name: str) -> bool:
    """Whether a file or folder is the litter of an operating system, or a receipt of ours."""
    return name.startswith("._") or name in (".DS_Store", "__MACOSX", "Thumbs.db", "segue.json", "segue-files.json")


@contextmanager
def opened(archive: Path) -> Iterator[list[Member]]:
    """The files of an archive on disk, every one checked before the first is read.

    Raises:
        DataError: damaged, or something in it does not belong in a dataset.
    """
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as content:
                yield zip_members(content, archive.name, archive.stat().st_size)
        else:
            with tarfile.open(archive) as content:
                members = list(tar_members(content, archive.name))
                _refuse_bombs(sum(member.bytes for member in members), archive.stat().st_size, archive.name)
                yield members
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise damaged(archive, error) from error


def damaged(archive: Path | str, error: Exception) -> DataError:
    return DataError(
        "the archive is damaged",
        where=archive,
        value=error,
        remedy="download it again; complete files are kept",
    )


def tar_members(content: tarfile.TarFile, archive: str) -> Iterator[Member]:
    """The files of a tar, also of one that is still arriving (``mode="r|"``): each is to be read before the next."""
    for info in content:
        name = _safe(info.name, archive, info.isfile() or info.isdir())
        if info.isfile():
            yield Member(name, info.size, functools.partial(_extracted, content, info))


def zip_members(content: zipfile.ZipFile, archive: str, archive_bytes: int) -> list[Member]:
    """The files of a zip.

    Raises:
        DataError: a path out of the folder, a link or a device, encryption, or an absurd ratio of compression.
    """
    members = []
    for info in content.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        name = _safe(info.filename, archive, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        if info.flag_bits & 1:
            raise DataError("the archive is locked by a password", where=archive, remedy="unpack it by hand first")
        if not info.is_dir():
            members.append(Member(name, info.file_size, functools.partial(_opened, content, info)))
    _refuse_bombs(sum(member.bytes for member in members), archive_bytes, archive)
    return members


def _extracted(content: tarfile.TarFile, info: tarfile.TarInfo) -> BufferedIOBase:
    handle = content.extractfile(info)
    assert isinstance(handle, BufferedIOBase), "isfile() members have content"
    return handle


def _opened(content: zipfile.ZipFile, info: zipfile.ZipInfo) -> BufferedIOBase:
    handle = content.open(info)
    assert isinstance(handle, BufferedIOBase), "zipfile reads through ZipExtFile"
    return handle


def _safe(name: str, archive: str, regular: bool) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = len(path.parts) > 0 and path.parts[0].endswith(":")
    if path.is_absolute() or ".." in path.parts or drive or not regular or "\0" in name:
        raise DataError(
            "the archive holds something that does not belong in a dataset (a link, a device or a path out of its "
            "folder); nothing was unpacked",
            where=archive,
            value=name,
            remedy="get the archive from its official source",
        )
    return path


def _refuse_bombs(unpacked: int, packed: int, archive: str) -> None:
    if unpacked > _RATIO_FROM_BYTES and unpacked > _MOST_RATIO * max(packed, 1):
        raise DataError(
            "the archive would become absurdly large; nothing was unpacked",
            where=archive,
            value=f"{byte_count(packed)} become {byte_count(unpacked)}",
            remedy="get the archive from its official source",
        )


def unpack(members: Iterable[Member], folder: Path, on_bytes: Callable[[int], None]) -> list[Unpacked]:
    """Write the files (junk aside) below ``folder``; those that are there in full are kept."""
    return [
        write_member(member, folder, on_bytes)
        for member in members
        if not any(is_junk(part) for part in member.name.parts)
    ]


def has_one_top(members: list[Member]) -> bool:
    """Whether everything (junk aside) lies in one top folder."""
    names = [member.name for member in members if not any(is_junk(part) for part in member.name.parts)]
    return len({name.parts[0] for name in names}) == 1 and all(len(name.parts) > 1 for name in names)


def write_member(member: Member, folder: Path, on_bytes: Callable[[int], None]) -> Unpacked:
    """One file, whole or not at all; its SHA-256 is taken on the way."""
    digest = hashlib.sha256()
    target, name = folder.joinpath(*member.name.parts), member.name.as_posix()
    if target.exists() and target.stat().st_size == member.bytes:
        with target.open("rb") as handle:
            on_bytes(member.bytes)
            return Unpacked(name, member.bytes, hashlib.file_digest(handle, "sha256").hexdigest())
    with atomic_path(target) as temporary, member.open() as source, temporary.open("wb") as out:
        while block := source.read(_BLOCK):
            digest.update(block)
            out.write(block)
            on_bytes(len(block))
    return Unpacked(name, member.bytes, digest.hexdigest())
