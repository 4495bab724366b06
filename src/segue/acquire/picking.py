"""A few cases out of an archive that has many, by the card's own layout."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from segue.acquire.archives import Member, is_junk, write_member
from segue.acquire.arrive import layout_root
from segue.catalogue import Card, Case, index
from segue.core.errors import DataError
from segue.core.files import file_digest, parse_json, write_json


def pick(card: Card, members: Iterator[Member], folder: Path, number: int) -> dict[str, str]:
    """Write the first ``number`` annotated cases below ``folder``; gives the SHA-256 of each file.

    What lies there already came out of the same archive and is whole: it is not fetched again.

    The layout is asked on a tree of empty files with the archive's names; only tables and listings are read for it.

    Raises:
        DataError: the archive does not have the card's layout.
    """
    known: dict[str, Member] = {}
    hashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        outline = Path(scratch)
        listing: tuple[PurePosixPath, list[dict[str, str]]] | None = None
        for member in members:
            if any(is_junk(part) for part in member.name.parts):
                continue
            known[member.name.as_posix()] = member
            _outline(card, member, outline)
            if card.layout.kind == "decathlon" and member.name.name == "dataset.json":
                listing = _first_entries(outline.joinpath(*member.name.parts), member.name.parent, number)
            if listing is not None and _wanted(*listing) <= known.keys():
                break  # a tar is walked header by header: no further than needed
        root = layout_root(card, outline)
        if root is None:
            raise DataError(
                f"the archive does not have the layout of {card.name}",
                where=next(iter(known), "it is empty"),
                value=f"{len(known)} files",
                remedy="leave --cases out, or give what you downloaded with --from",
            )
        top = root.relative_to(outline)
        cases = [case for case in index(root, card) if case.annotated and case.split == "train"][:number]
        for extra in _beside(card, top):
            if extra in known:
                hashes[extra] = _written(known[extra], folder)
        for case in cases:
            for path in case.files:
                name = path.relative_to(outline).as_posix()
                if name in known:
                    hashes[name] = _written(known[name], folder)
        if card.layout.kind == "decathlon":
            _shorten_listing(folder / top / "dataset.json", cases)
            hashes.pop((top / "dataset.json").as_posix(), None)
    return hashes


def _written(member: Member, folder: Path) -> str:
    path = folder.joinpath(*member.name.parts)
    if path.is_file() and path.stat().st_size == member.bytes:
        return file_digest(path)
    return write_member(member, folder, lambda number: None).sha256


def _outline(card: Card, member: Member, outline: Path) -> None:
    path = outline.joinpath(*member.name.parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == "dataset.json" or path.suffix == ".csv":
        with member.open() as handle:
            path.write_bytes(handle.read())
    else:
        path.touch()


def _first_entries(listing: Path, top: PurePosixPath, number: int) -> tuple[PurePosixPath, list[dict[str, str]]]:
    try:
        content: dict[str, Any] = parse_json(listing.read_text(encoding="utf-8-sig"))
        entries = sorted(content["training"], key=lambda entry: PurePosixPath(entry["image"]).name)[:number]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("dataset.json cannot be understood", where=top, value=error) from error
    return top, entries


def _wanted(top: PurePosixPath, entries: list[dict[str, str]]) -> set[str]:
    return {(top / entry[key]).as_posix() for entry in entries for key in ("image", "label")}


def _beside(card: Card, top: Path) -> list[str]:
    table = getattr(card.layout, "table", None)
    names = ["dataset.json", *([table.file] if table else [])]
    return [(top / name).as_posix() for name in names]


def _shorten_listing(path: Path, cases: list[Case]) -> None:
    """A listing of the picked cases only."""
    content = parse_json(path.read_text(encoding="utf-8-sig"))
    names = {image.name for case in cases for image in case.image_files}
    content["training"] = [entry for entry in content["training"] if PurePosixPath(entry["image"]).name in names]
    content["test"] = []
    content["numTraining"], content["numTest"] = len(content["training"]), 0
    write_json(path, content)
