"""The receipt beside a dataset: what it is, where it came from, and every file of it."""

from __future__ import annotations

import datetime
import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segue.acquire.archives import is_junk
from segue.catalogue import RECEIPT, Card
from segue.core.errors import DataError
from segue.core.files import parse_json, write_json

FILES = "segue-files.json"
_VERSION: str = sys.modules["segue"].__version__  # to import it by name would be to import the layers above


@dataclass(frozen=True)
class Source:
    """Where something came from: an address or a path, its bytes and SHA-256 where it was one file."""

    origin: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Origin:
    """Everything that the receipt says of a dataset's coming.

    Attributes:
        files: SHA-256 of the files that were hashed when they came, by relative path.
        unconverted: DICOM series lie there, and no volumes have been made of them yet.
        licences: what the archive says of its series, where it says it of each.
    """

    how: str
    sources: list[Source] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    look_alike: bool = False
    partial: bool = False
    unconverted: bool = False
    licences: list[str] = field(default_factory=list)


def write_receipt(card: Card, root: Path, origin: Origin) -> None:
    """``segue.json`` (small, read by every command) and ``segue-files.json`` (every file, for ``--verify``)."""
    files = {}
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": origin.files.get(name)}
    write_json(root / FILES, files)
    write_json(
        root / RECEIPT,
        {
            "name": card.name,
            "release": card.release,
            "size": card.size,
            "licence": card.licence,
            "how": origin.how,
            "sources": [asdict(source) for source in origin.sources],
            "look_alike": origin.look_alike,
            "partial": origin.partial,
            "unconverted": origin.unconverted,
            "licences": origin.licences,
            "files": len(files),
            "segue": _VERSION,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "card": card,
        },
    )


def read_receipt(root: Path) -> dict[str, Any]:
    """What ``segue.json`` says; empty where there is none that can be read."""
    try:
        content = parse_json((root / RECEIPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Verified:
    """What a comparison with the receipt found.

    Attributes:
        hashed: files whose content was compared; of the others only the size is known.
    """

    files: int
    hashed: int
    missing: list[str]
    changed: list[str]
    unexpected: list[str]

    @property
    def sound(self) -> bool:
        return not self.missing and not self.changed


def verify(root: Path, on_bytes: Callable[[int], None]) -> Verified:
    """Compare the files with the receipt, without any network.

    Raises:
        DataError: there is no receipt to compare with.
    """
    try:
        expected: dict[str, dict[str, Any]] = parse_json((root / FILES).read_text(encoding="utf-8"))
        known = {name: (int(entry["bytes"]), entry["sha256"]) for name, entry in expected.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "there is no list of files to compare with",
            where=root / FILES,
            remedy="run segue get again: it writes one",
        ) from error
    missing, changed, hashed = [], [], 0
    for name, (size, sha256) in known.items():
        path = root / name
        if not path.is_file():
            missing.append(name)
        elif path.stat().st_size != size:
            changed.append(name)
        elif sha256 is not None:
            hashed += 1
            with path.open("rb") as handle:
                if hashlib.file_digest(handle, "sha256").hexdigest() != sha256:
                    changed.append(name)
        on_bytes(size)
    unexpected = [name for path in _files(root) if (name := path.relative_to(root).as_posix()) not in known]
    return Verified(len(known), hashed, missing, changed, unexpected)


def _files(root: Path) -> list[Path]:
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not any(is_junk(part) or part.startswith(".") for part in path.relative_to(root).parts)
    ]
