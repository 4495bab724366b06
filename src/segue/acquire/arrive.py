"""What a person downloaded, in whatever shape it arrived, brought to where the dataset lies."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from segue.acquire.archives import has_one_top, is_archive, is_junk, opened, require_space, unpack
from segue.acquire.convert import ConvertOptions, convert, require_converted
from segue.acquire.exchange import BEFORE, Staging, arriving, staging_of
from segue.acquire.receipt import Origin, Source, write_receipt
from segue.catalogue import Card, NpzLayout, all_cards, dataset_at, index
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path, file_digest, link, remove_leftovers, storage_fault
from segue.dicom import looks_like_dicom
from segue.images import array_headers

_MOST_FOLDERS = 200
_LOOKED_AT = 200


def bring(card: Card, source: Path, root: Path, copy: bool = False, origin: Origin | None = None) -> Origin:
    """Import a folder, an archive, one ``.npz``, or a folder in which any of these lie about.

    Files are linked (or copied with ``copy``), archives unpacked; ``root`` appears whole, with its receipt, or not at
    all. ``origin`` is what the receipt says where it is not an import.

    Raises:
        UsageError: no such source. DataError: it does not hold this dataset; if it holds another one of its family,
            the error names it.
    """
    _refuse_itself(source, source, root)
    status = source.stat()
    staging = staging_of(root, source.resolve(), *((status.st_size, status.st_mtime_ns) if source.is_file() else ()))
    with staging.or_nothing():
        if source.is_file() and isinstance(card.layout, NpzLayout) and source.suffix == ".npz":
            _bring_npz(card, card.layout, source, staging.files, copy)
            came = Origin("imported", [Source(str(source.resolve()), status.st_size)])
        else:
            came = _gather(card, source, root, staging, copy)
        return settle(card, staging, root, source, origin or came)


def _refuse_itself(folder: Path, source: Path, root: Path) -> None:
    if root.resolve() in [folder.resolve(), *folder.resolve().parents]:
        raise UsageError("source and destination are the same folder", where=source, remedy="leave --from out")


def _gather(card: Card, source: Path, root: Path, staging: Staging, copy: bool) -> Origin:
    archives = [source] if source.is_file() else _archives_in(source, root)
    if source.is_dir():
        folder = _fitting(card, source, source)
        if folder is not None:
            _refuse_itself(folder, source, root)
            if not (archives and _lacks_files(card, folder)):
                for part in _parts(card, folder, source):
                    if part == folder or folder not in part.parents:  # those below come with it
                        _bring_folder(card, part, staging.files, copy)
                return Origin("imported", [Source(str(source.resolve()))])
    if not archives:
        if source.is_dir() and _is_made_by_conversion(card, source):
            return _convert(card, source, staging)
        raise wrong_data(card, source)
    if not all(is_archive(path) for path in archives):
        raise DataError(
            "this is no folder, no archive (.tar, .tar.gz, .zip) and no .npz of this dataset",
            where=source,
            value=source.suffix or "no suffix",
            remedy="unpack it first, then give the folder",
        )
    hashes = _unpack_all(archives, source if source.is_dir() else source.parent, staging.files)
    inner = _archives_in(staging.files, root)
    if inner and _layout_or_none(card, staging.files) is None:  # an archive of archives
        hashes |= _unpack_all(inner, staging.files, staging.files)
        for path in inner:
            path.unlink()
    if source.is_dir():
        _link_loose(source, root, staging.files, copy)
    sources = [_as_source(card, path) for path in archives]
    if _layout_or_none(card, staging.files) is None and _is_made_by_conversion(card, staging.files):
        dicom = staging.folder / "dicom"
        staging.files.rename(dicom)
        return replace(_convert(card, dicom, staging), sources=sources)
    return Origin("imported", sources, hashes)


def _is_made_by_conversion(card: Card, folder: Path) -> bool:
    """Whether these are the DICOM files from which the volumes of this dataset are made."""
    files = (path for path in _files_below(folder) if path.suffix not in (".csv", ".txt", ".json"))
    return card.layout.kind == "petct" and any(looks_like_dicom(path) for path in itertools.islice(files, _LOOKED_AT))


def _convert(card: Card, source: Path, staging: Staging) -> Origin:
    # The names of a public collection are those that its makers gave; a user's own may be patients' names.
    options = ConvertOptions(keep_ids=card.collection is not None)
    done = convert(source, staging.files, options)
    require_converted(done, staging.files)
    # The names of folders of DICOM are often those of patients.
    return Origin("converted from DICOM", [] if done.pseudonyms else [Source(str(source.resolve()))])


def _lacks_files(card: Card, folder: Path) -> bool:
    """Whether cases are listed whose files are not there: they may be in an archive beside."""
    return not all(path.exists() for case in index(folder, card) for path in case.files)


def settle(card: Card, staging: Staging, root: Path, source: Path | str, origin: Origin) -> Origin:
    """Move what was gathered to ``root`` with its receipt, if it is the dataset; else say what it is.

    Files that lie in ``root`` already and did not come now stay there.
    """
    remove_leftovers(staging.files)
    folder = _fitting(card, staging.files, source)
    if folder is None:
        raise wrong_data(card, staging.files, shown=source)
    dataset_at(card, folder)
    files: dict[str, str] = {}
    for part in reversed(_parts(card, folder, staging.files)):
        prefix = part.relative_to(staging.files).as_posix()
        start = "" if prefix == "." else f"{prefix}/"
        files |= {name[len(start) :]: digest for name, digest in origin.files.items() if name.startswith(start)}
        if part != folder:
            _keep_others(part, folder)
            shutil.rmtree(part)
    origin = replace(origin, files=files)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        if root.is_dir():
            _keep_others(root, folder)
        write_receipt(card, folder, origin)
        if root.is_dir() and any(root.iterdir()):
            root.rename(staging.folder / BEFORE)
        folder.rename(root)
    except OSError as error:
        raise storage_fault(error, root) from error
    shutil.rmtree(staging.folder if origin.partial else arriving(root), ignore_errors=True)
    with contextlib.suppress(OSError):
        arriving(root).rmdir()
    return origin


def _keep_others(root: Path, folder: Path) -> None:
    for path in sorted(root.rglob("*")):
        target = folder / path.relative_to(root)
        if not target.exists() and not (path.is_dir() and not path.is_symlink()):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target, follow_symlinks=False)


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


def _layout_or_none(card: Card, folder: Path) -> Path | None:
    try:
        return layout_root(card, folder)
    except DataError:
        return None  # it is told when everything is there


def _parts(card: Card, folder: Path, top: Path) -> list[Path]:
    """``folder``, and those with annotated cases that it has not: a dataset that came in parts."""
    if card.layout.kind not in ("files", "petct"):  # the others have one listing of everything
        return [folder]
    found, ids = [folder], {case.id for case in index(folder, card)}
    for other in _folders(top, depth=3):
        with contextlib.suppress(DataError):
            cases = index(other, card)
            if any(case.annotated for case in cases) and ids.isdisjoint(case.id for case in cases):
                found.append(other)
                ids.update(case.id for case in cases)
    return found


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
        error.value = error.value and error.value.replace(str(folder), str(shown))
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


def _bring_folder(card: Card, folder: Path, target: Path, copy: bool) -> None:
    found = dataset_at(card, folder)  # what is wrong with it is told before anything is linked
    if isinstance(card.layout, NpzLayout):
        _bring_npz(card, card.layout, found.cases[0].files[0], target, copy)
    else:
        _place_tree(folder, target, copy)


def _bring_npz(card: Card, layout: NpzLayout, source: Path, folder: Path, copy: bool) -> None:
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
    _place(source, folder / name, copy)


def _files_below(folder: Path, root: Path | None = None) -> list[Path]:
    """The files below a folder, through links to folders too; not the litter, and nothing of ``root`` or on its way."""
    found, seen = [], {root.resolve()} if root else set()
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        real = here.resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_junk(name) and not _is_on_its_way(name)]
        found += [here / name for name in names if not is_junk(name) and (here / name).is_file()]
    return sorted(found)


def _is_on_its_way(name: str) -> bool:
    return name.startswith(".") and name.endswith(".arriving")


def _archives_in(folder: Path, root: Path) -> list[Path]:
    return [path for path in _files_below(folder, root) if is_archive(path)]


def _unpack_all(archives: list[Path], top: Path, staging: Path) -> dict[str, str]:
    """Unpack each archive where it lies below ``top``, as a person would do it."""
    hashes: dict[str, str] = {}
    for archive in archives:
        with opened(archive) as members, stage("unpack", sum(member.bytes for member in members)) as shown:
            require_space(staging, sum(member.bytes for member in members))
            # Of several archives each keeps its own top folder, or gets one: their files must not mix.
            apart = len(archives) > 1 and not has_one_top(members)
            shown.note(archive.name)
            place = archive.parent.relative_to(top) / (_stem(archive) if apart else "")
            for each in unpack(members, staging / place, shown.advance):
                hashes[(place / each.name).as_posix()] = each.sha256
    return hashes


def _stem(archive: Path) -> str:
    return archive.name.split(".tar")[0].removesuffix(".zip").removesuffix(".tgz")


def _link_loose(source: Path, root: Path, target: Path, copy: bool) -> None:
    for path in _files_below(source, root):
        if not is_archive(path):
            _place(path, target / path.relative_to(source), copy)


def _place_tree(source: Path, target: Path, copy: bool) -> None:
    files = _files_below(source)
    symbolic = 0
    with stage("import", len(files)) as progress:
        for path in files:
            symbolic += _place(path, target / path.relative_to(source), copy)
            progress.advance()
    if symbolic:
        say(f"{symbolic} files are links to {source.resolve()}: keep that folder")


def _place(path: Path, target: Path, copy: bool) -> bool:
    """Bring one file to its place; True where it is a symbolic link now."""
    if not copy:
        return link(path, target)
    if not (target.exists() and _like(path) == _like(target)):  # it may be there from an interrupted call
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
            os.utime(temporary, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    return False


def _like(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


def _as_source(card: Card, archive: Path) -> Source:
    """The archive with its hash; one that differs from the official file of its name is told."""
    with stage("hash", archive.stat().st_size) as shown:
        sha256 = file_digest(archive, shown.advance)
        shown.note(archive.name)
    official = next((file for file in card.files if file.name == archive.name and file.sha256), None)
    if official is not None and official.sha256 != sha256:
        say(f"{archive.name} is not the official file: its SHA-256 is {sha256}, the official one's {official.sha256}")
    return Source(str(archive.resolve()), archive.stat().st_size, sha256)
