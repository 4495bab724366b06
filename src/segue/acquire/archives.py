"""Archives: what is in them, whether it is safe, and out of them. Nothing is unpacked that could leave its folder."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import itertools
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath

from segue.core.console import byte_count
from segue.core.errors import DataError, MachineError
from segue.core.files import atomic_path, file_digest

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
# Images compress to a half, masks to a hundredth; what promises more is made to fill the disk.
_MOST_RATIO, _RATIO_FROM_BYTES = 200, 2_000_000_000
_BLOCK = 1 << 20
_LONGEST_NAME = 255  # bytes: what Linux, macOS and Windows allow for one name
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, IndexError, KeyError),
)


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


@contextlib.contextmanager
def opened(archive: Path) -> Iterator[list[Member]]:
    """The files of an archive on disk, every one checked before the first is read.

    Raises:
        DataError: damaged, or something in it does not belong in a dataset.
    """
    with contextlib.ExitStack() as stack:
        try:
            if archive.name.lower().endswith(".zip"):
                content = stack.enter_context(zipfile.ZipFile(archive))
                members = zip_members(content, archive.name, archive.stat().st_size)
            else:
                tar = stack.enter_context(tarfile.open(archive))
                members = list(tar_members(tar, archive.name, archive.stat().st_size))
        except BROKEN as error:
            raise damaged(archive, error) from error
        yield members


def damaged(archive: Path | str, error: Exception) -> DataError:
    return DataError(
        "the archive is damaged",
        where=archive,
        value=error,
        remedy="download it again",
    )


def tar_members(content: tarfile.TarFile, archive: str, archive_bytes: int | None = None) -> Iterator[Member]:
    """The files of a tar, also of one that is still arriving (``mode="r|"``): each is to be read before the next.

    Raises:
        DataError: as :func:`zip_members`; with ``archive_bytes`` an absurd ratio too, before what promises it is read.
    """
    promised = 0
    for info in content:
        promised += info.size
        if archive_bytes is not None:
            _refuse_bombs(promised, archive_bytes, archive)
        name = _safe(info.name, archive, (info.isfile() and not info.issparse()) or info.isdir())
        if info.isfile() and name.parts:
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
        if not info.is_dir() and name.parts:
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
    long = any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts)
    if path.is_absolute() or ".." in path.parts or drive or not regular or "\0" in name or long:
        raise DataError(
            "the archive holds something that does not belong in a dataset (a link, a device, a sparse file, a path "
            "out of its folder or an endless name); nothing was unpacked",
            where=archive,
            value=name[:200],
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
    """One file, whole or not at all; its SHA-256 is taken on the way. What is there already with this content stays.

    Raises:
        DataError: the archive is damaged here, or the name is a file's and a folder's at once.
        MachineError: the disk is full or may not be written.
    """
    digest = hashlib.sha256()
    target, name = folder.joinpath(*member.name.parts), member.name.as_posix()
    try:
        with member.open() as source:
            agreed, block = _agreed(source, target, member.bytes)
            if agreed == member.bytes > 0 and not block:
                on_bytes(agreed)
                return Unpacked(name, agreed, file_digest(target))
            with atomic_path(target) as temporary, temporary.open("wb") as out:
                for piece in itertools.chain(
                    _beginning(target, agreed), [block], iter(lambda: source.read(_BLOCK), b"")
                ):
                    digest.update(piece)
                    out.write(piece)
                    on_bytes(len(piece))
    except BROKEN as error:
        raise damaged(name, error) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DataError(
            "a file and a folder of the archive have the same name",
            where=name,
            remedy="get the archive from its official source",
        ) from error
    return Unpacked(name, member.bytes, digest.hexdigest())


def _agreed(source: BufferedIOBase, target: Path, size: int) -> tuple[int, bytes]:
    """How many bytes of ``target`` are those of ``source``, and the block of it that is not (a stream comes once)."""
    if not target.is_file() or target.stat().st_size != size:
        return 0, b""
    agreed = 0
    with target.open("rb") as old:
        while block := source.read(_BLOCK):
            if old.read(len(block)) != block:
                return agreed, block
            agreed += len(block)
    return agreed, b""


def _beginning(path: Path, size: int) -> Iterator[bytes]:
    if size:
        with path.open("rb") as handle:
            while size and (block := handle.read(min(_BLOCK, size))):
                size -= len(block)
                yield block


def require_space(folder: Path, size: int) -> None:
    """Look before the first byte is written whether ``size`` bytes have room, beside what ``folder`` holds already.

    Raises:
        MachineError: they have not.
    """
    # Blocks, not lengths: a part file has holes where nothing has come yet.
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    there = sum(path.stat().st_blocks * 512 for path in files)
    free = shutil.disk_usage(next(each for each in [folder, *folder.absolute().parents] if each.is_dir())).free
    if size - there > free:
        raise MachineError(
            "the disk is too small for this",
            where=folder,
            value=f"{byte_count(size - there)} to come, {byte_count(free)} free",
            remedy="free some space, or choose another folder with -o; what has come is kept",
        )
