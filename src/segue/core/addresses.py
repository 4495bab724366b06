"""Addresses of data elsewhere, ``s3://bucket/folder``, and their places on this disk. Nothing is fetched here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from segue.core.errors import UsageError

_SCHEMES = ("s3", "gs", "https", "http")
# A path makes one slash of two.
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>[^/].*)", re.DOTALL)
_LONGEST_NAME = 255  # bytes: what Linux, macOS and Windows allow for one name


@dataclass(frozen=True)
class Address:
    """Where data lie that are not on this disk.

    Attributes:
        store: the bucket, or the host with its port.
        key: the path in it; empty where the whole bucket is meant.
        full: everything that was given, as password and signature: not to be shown and not to be written down.
    """

    scheme: str
    store: str
    key: str
    full: str = field(repr=False)

    def __str__(self) -> str:
        """What may be shown: no user, no password, no query."""
        return f"{self.scheme}://{self.store}/{self.key}".rstrip("/")

    @property
    def web(self) -> bool:
        return self.scheme in ("https", "http")

    def shelf(self, data: Path) -> Path:
        """The folder on this disk for everything out of this store."""
        return data / "remote" / self.scheme / self.store.replace(":", "_")

    def place(self, data: Path) -> Path:
        """The file or folder on this disk that the address stands for."""
        return self.shelf(data).joinpath(self.within)

    @property
    def within(self) -> PurePosixPath:
        """The path below :meth:`shelf`."""
        return safe_path(unquote(self.key) if self.web else self.key) if self.key else PurePosixPath()


def is_address(text: object) -> bool:
    """Whether this names something elsewhere, and no file, folder or dataset."""
    return _ADDRESS.fullmatch(str(text)) is not None


def address(text: object) -> Address:
    """What a person wrote as an address.

    Raises:
        UsageError: another kind of address than those that are read, or one that leaves its bucket.
    """
    match = _ADDRESS.fullmatch(str(text))
    assert match is not None, "asked of is_address"
    scheme, rest = match["scheme"].lower(), match["rest"]
    shown = f"{scheme}://{rest.partition('?')[0].rpartition('@')[2] if scheme.startswith('http') else rest}"
    if scheme not in _SCHEMES:
        raise UsageError(
            "this kind of address is not read",
            where=f"{scheme}://",
            remedy=f"{', '.join(f'{each}://' for each in _SCHEMES)} are; or mount it and give its folder",
        )
    store, _, key = rest.partition("/")
    if scheme.startswith("http"):
        parts = urlsplit(f"{scheme}://{rest}")
        store, key = parts.netloc.rpartition("@")[2].lower(), parts.path.lstrip("/")
    found = Address(scheme, store, key.rstrip("/"), f"{scheme}://{rest}")
    try:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]*", store) or ".." in store:
            raise ValueError(store)
        _ = found.within
    except ValueError:
        raise UsageError(
            "this address names no file or folder", where=shown, remedy="write it like s3://BUCKET/FOLDER"
        ) from None
    return found


def safe_path(name: str) -> PurePosixPath:
    """A name out of a store as a path below a folder.

    Raises:
        ValueError: it would leave the folder, or is no name of files.
    """
    parts = name.split("/")
    bad = any(
        part in ("", ".", "..") or len(os.fsencode(part)) > _LONGEST_NAME or not part.isprintable() for part in parts
    )
    if bad or "\\" in name or re.match("[A-Za-z]:", name):
        raise ValueError(name)
    return PurePosixPath(*parts)
