"""What a person downloaded, in whatever shape it arrived, brought to where the dataset lies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from segue.acquire.archives import has_one_top, is_archive, is_junk, opened, unpack
from segue.acquire.receipt import Origin, Source
from segue.catalogue import Card, NpzLayout, all_cards, dataset_at, index
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path, file_digest, link
from segue.images import array_headers

_MOST_FOLDERS = 200


def bring(card: Card, source: Path, root: Path, copy: bool = False) -> Origin:
    """Import a folder, an archive, one ``.npz``, or a folder in which any of these lie about.

    Files are linked (or copied with ``copy``), archives unpacked; ``root`` appears whole or not at all.

    Raises:
        UsageError: no such source. DataError: it does not hold this dataset; if it holds another one of its family,
            the error names it.
    """
    if source.resolve() == root.resolve():
        raise UsageError("source and destination are the same folder", where=source, remedy="leave --from out")
    if source.is_file() and isinstance(card.layout, NpzLayout) and source.suffix == ".npz":
        _bring_npz(card, card.layout, source, root, copy)
        return Origin("imported", [Source(str(source.resolve()), source.stat().st_size)])
    archives = [source] if source.is_file() else _archives_in(source)
    if source.is_dir():
        folder = _fitting(card, source, source)
        if folder is not None and not (archives and _lacks_files(card, folder)):
            return _bring_folder(card, folder, source, root, copy)
    if not archives:
        raise wrong_data(card, source)
    if not all(is_archive(path) for path in archives):
        raise DataError(
            "this is no folder, no archive (.tar, .tar.gz, .zip) and no .npz of this dataset",
            where=source,
            value=source.suffix or "no suffix",
            remedy="unpack it first, then give the folder",
        )
    staging = staging_of(root)
    files = _unpack_all(archives, source if source.is_dir() else source.parent, staging)
    if source.is_dir():
        _link_loose(source, staging, copy)
    return settle(card, staging, root, source, Origin("imported", [_as_source(card, path) for path in archives], files))


def _lacks_files(card: Card, folder: Path) -> bool:
    """Whether cases are listed whose files are not there: they may be in an archive beside."""
    return not all(path.exists() for case in index(folder, card) for path in case.files)


def staging_of(root: Path) -> Path:
    """Where a dataset gathers before it appears at ``root``; kept when interrupted, so that the rest goes on."""
    return root.parent / f".{root.name}.arriving"


def settle(card: Card, staging: Path, root: Path, source: Path | str, origin: Origin) -> Origin:
    """Move what was gathered to ``root``, if it is the dataset; else say what it is and leave nothing."""
    try:
        folder = _fitting(card, staging, source)
        if folder is None:
            raise wrong_data(card, staging, shown=source)
        dataset_at(card, folder)
    except DataError:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    prefix = folder.relative_to(staging).as_posix()
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(root)
    else:
        for path in sorted(folder.rglob("*")):
            if path.is_file() or path.is_symlink():
                target = root / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
    shutil.rmtree(staging, ignore_errors=True)
    start = "" if prefix == "." else f"{prefix}/"
    files = {name[len(start) :]: digest for name, digest in origin.files.items() if name.startswith(start)}
    return Origin(origin.how, origin.sources, files, partial=origin.partial)


def _fitting(card: Card, folder: Path, shown: Path | str) -> Path | None:
    """:func:`layout_root`, with the dataset named that lies there instead, if it is one of the same family."""
    try:
        return layout_root(card, folder)
    except DataError as error:
        other = _other_dataset(card, folder, shown)
        raise other or error from None


def layout_root(card: Card, source: Path) -> Path | None:
    """The folder in which the card's layout finds cases: the source, or one of up to three levels below it.

    Raises:
        DataError: no folder fits, and one of them looks like the layout but is wrong.
    """
    wrong: DataError | None = None
    for folder in _folders(source, depth=3):
        if card.layout.kind == "decathlon" and not (folder / "dataset.json").exists():
            continue
        try:
            if index(folder, card):
                return folder
        except DataError as error:
            wrong = wrong or error  # perhaps another task of the same family; the right one may lie beside it
    if wrong is not None:
        raise wrong
    return None


def _folders(top: Path, depth: int) -> Iterator[Path]:
    """``top``, then its folders level by level; a level of very many folders is one of cases and not entered."""
    level = [top]
    for _ in range(depth + 1):
        yield from level
        below = (path for folder in level for path in folder.iterdir())
        level = sorted(path for path in below if path.is_dir() and not is_junk(path.name))
        if len(level) > _MOST_FOLDERS:
            return


def wrong_data(card: Card, folder: Path, shown: Path | str | None = None) -> DataError:
    """The error for data that are not the card's, with the dataset of its family that they are."""
    shown = shown or folder
    other = _other_dataset(card, folder, shown)
    if other is not None:
        return other
    try:
        dataset_at(card, folder)
    except DataError as error:
        error.where = str(shown)
        return error
    return DataError(f"this is not {card.name}", where=shown, remedy="give what you downloaded for this dataset")


def _other_dataset(card: Card, folder: Path, shown: Path | str) -> DataError | None:
    family = card.name.partition("/")[0]
    for other in all_cards():
        if other.name == card.name or other.name.partition("/")[0] != family:
            continue
        try:
            fits = layout_root(other, folder) if folder.is_dir() else None
        except DataError:
            continue
        if fits is not None:
            return DataError(
                f"this is not {card.name}, but {other.name}",
                where=shown,
                value=f"{len(index(fits, other))} of its cases are there",
                remedy=f"segue get {other.name} --from {shown}",
            )
    return None


def _bring_folder(card: Card, folder: Path, source: Path, root: Path, copy: bool) -> Origin:
    found = dataset_at(card, folder)  # what is wrong with it is told before anything is linked
    if isinstance(card.layout, NpzLayout):
        _bring_npz(card, card.layout, found.cases[0].files[0], root, copy)
    else:
        _place_tree(folder, root, copy)
    return Origin("imported", [Source(str(source.resolve()))])


def _bring_npz(card: Card, layout: NpzLayout, source: Path, root: Path, copy: bool) -> None:
    """One ``.npz``, whatever it is called: the size of its images says which one it is."""
    headers = array_headers(source)
    edge = next((header.shape[1] for key, header in headers.items() if key.endswith("_images")), None)
    if card.size is not None and edge != card.size:
        stem = card.name.removesuffix(f"_{card.size}")
        raise DataError(
            f"these images are not of size {card.size}",
            where=source,
            value=f"{edge} pixels" if edge else f"it holds {', '.join(list(headers)[:5]) or 'nothing'}",
            remedy=f"segue get {stem}_{edge} --from {source}" if edge in card.sizes else "give the official file",
        )
    name = next((file.name for file in card.files if file.size == card.size), layout.file)
    _place(source, root / name, copy)


def _archives_in(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.rglob("*")) if path.is_file() and is_archive(path) and not is_junk(path.name)
    ]


def _unpack_all(archives: list[Path], top: Path, staging: Path) -> dict[str, str]:
    """Unpack each archive where it lies below ``top``, as a person would do it."""
    hashes: dict[str, str] = {}
    for archive in archives:
        with opened(archive) as members, stage("unpack", sum(member.bytes for member in members)) as shown:
            # Of several archives each keeps its own top folder, or gets one: their files must not mix.
            apart = len(archives) > 1 and not has_one_top(members)
            shown.note(archive.name)
            place = archive.parent.relative_to(top) / (_stem(archive) if apart else "")
            for each in unpack(members, staging / place, shown.advance):
                hashes[(place / each.name).as_posix()] = each.sha256
    return hashes


def _stem(archive: Path) -> str:
    return archive.name.split(".tar")[0].removesuffix(".zip").removesuffix(".tgz")


def _link_loose(source: Path, staging: Path, copy: bool) -> None:
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if path.is_file() and not is_archive(path) and not any(is_junk(part) for part in relative.parts):
            _place(path, staging / relative, copy)


def _place_tree(source: Path, root: Path, copy: bool) -> None:
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and not any(is_junk(part) for part in path.relative_to(source).parts)
    ]
    symbolic = 0
    with stage("import", len(files)) as progress:
        for path in files:
            symbolic += _place(path, root / path.relative_to(source), copy)
            progress.advance()
    if symbolic:
        say(f"{symbolic} files are links to {source.resolve()}: keep that folder")


def _place(path: Path, target: Path, copy: bool) -> bool:
    """Bring one file to its place; True where it is a symbolic link now."""
    if target.exists() and target.stat().st_size == path.stat().st_size:
        return False
    if not copy:
        return link(path, target)
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
    return False


def _as_source(card: Card, archive: Path) -> Source:
    """The archive with its hash; one that differs from the official file of its name is told."""
    with stage("hash", archive.stat().st_size) as shown:
        sha256 = file_digest(archive)
        shown.note(archive.name)
    official = next((file for file in card.files if file.name == archive.name and file.sha256), None)
    if official is not None and official.sha256 != sha256:
        say(f"{archive.name} is not the official file: its SHA-256 is {sha256}, the official one's {official.sha256}")
    return Source(str(archive.resolve()), archive.stat().st_size, sha256)
