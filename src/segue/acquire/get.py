"""``get``: after it the dataset lies under its root, with a receipt that says what it is."""

from __future__ import annotations

import datetime
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import segue
from segue.catalogue import RECEIPT, Card, Dataset, NpzLayout, dataset_at, index, is_look_alike, not_there
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path, link, write_json
from segue.images import array_headers
from segue.synth import PetCtSettings, generate, look_alike

_ARCHIVES = (".tar", ".tar.gz", ".tgz")
_MOST_FOLDERS = 200


@dataclass(frozen=True)
class GetOptions:
    """What ``get`` may be told beside the name.

    Attributes:
        source: a folder or tar archive that a person downloaded.
        number: how many patients to generate (synthetic datasets).
        synthetic: how to generate them.
        look_alike: make this many tiny cases in the dataset's layout instead of bringing the true ones.
    """

    source: Path | None = None
    number: int = 10
    synthetic: PetCtSettings = field(default_factory=PetCtSettings)
    workers: int | None = None
    look_alike: int | None = None


def get(card: Card, root: Path, options: GetOptions) -> Dataset:
    """Bring the dataset to ``root`` and open it. Run again, it does only what is missing.

    Raises:
        DataError: the source does not hold this dataset, or an archive is damaged or unsafe.
        MachineError: the disk is full or may not be written.
    """
    _refuse_a_mixture(root, options.look_alike is not None, bringing=options.source is not None)
    if options.look_alike is not None:
        _make_look_alike(card, root, options.look_alike)
        origin = f"{options.look_alike} synthetic look-alikes"
    elif options.source is not None:
        origin = _import(card, options.source, root)
    elif card.access.kind == "generated":
        with stage("generate", options.number) as progress:
            generate(
                root,
                options.number,
                options.synthetic,
                workers=options.workers,
                on_done=lambda name: progress.advance(note=name),
            )
        origin = f"generated, seed {options.synthetic.seed}, size {options.synthetic.size}"
    elif root.is_dir():
        return dataset_at(card, root)
    else:
        raise not_there(card, root)
    dataset_at(card, root)  # what does not open gets no receipt
    write_json(
        root / RECEIPT,
        {
            "name": card.name,
            "release": card.release,
            "size": card.size,
            "card": card,
            "look_alike": options.look_alike is not None,
            "source": origin,
            "segue": segue.__version__,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )
    return dataset_at(card, root)


def _refuse_a_mixture(root: Path, look_alike: bool, bringing: bool) -> None:
    """Look-alikes and true data never lie in one folder."""
    if not root.is_dir() or not any(root.iterdir()):
        return
    if look_alike and not is_look_alike(root):
        raise UsageError(
            "other data lie here already; look-alikes would mix with them",
            where=root,
            remedy="choose another folder with -o",
        )
    if bringing and is_look_alike(root):
        raise UsageError(
            "synthetic look-alikes lie here; the true data would mix with them",
            where=root,
            remedy="remove this folder, then run the same command again",
        )


def _make_look_alike(card: Card, root: Path, number: int) -> None:
    """Make the dataset's download in small beside ``root``, and import it as a person's download is imported."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".look-alike-") as folder:
        made = look_alike(card, Path(folder), number)
        if root.is_dir():
            shutil.rmtree(root)  # the look-alikes of an earlier call
        _import(card, made, root, copy=True)


def _import(card: Card, source: Path, root: Path, copy: bool = False) -> str:
    if not source.exists():
        raise UsageError("no such file or folder", where=source, remedy="check what --from says")
    if source.resolve() == root.resolve():
        raise UsageError("source and destination are the same folder", where=source, remedy="leave --from out")
    if source.is_dir():
        folder = _layout_root(card, source)
        found = dataset_at(card, folder)  # what is not this dataset is told before anything is linked
        if isinstance(card.layout, NpzLayout):
            _import_npz(card, card.layout, found.cases[0].files[0], root, copy)
        else:
            link_tree(folder, root, copy)
    elif isinstance(card.layout, NpzLayout) and source.suffix == ".npz":
        _import_npz(card, card.layout, source, root, copy)
    elif source.name.endswith(_ARCHIVES):
        _unpack(source, root)
    else:
        raise DataError(
            "only a folder or a tar archive can be imported",
            where=source,
            value=source.suffix or "no suffix",
            remedy="unpack it first, then give the folder",
        )
    return str(source)


def _layout_root(card: Card, source: Path) -> Path:
    """The folder in which the card's layout finds cases: the source itself, or one of up to three levels below."""
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
    return source  # dataset_at says what is wrong with it


def _folders(top: Path, depth: int) -> Iterator[Path]:
    """``top``, then its folders level by level; a level of very many folders is one of cases and not entered."""
    level = [top]
    for _ in range(depth + 1):
        yield from level
        below = (path for folder in level for path in folder.iterdir())
        level = sorted(path for path in below if path.is_dir() and not is_junk(path.name))
        if len(level) > _MOST_FOLDERS:
            return


def _import_npz(card: Card, layout: NpzLayout, source: Path, root: Path, copy: bool) -> None:
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


def is_junk(name: str) -> bool:
    """Whether a file or folder is the litter of an operating system, or a receipt of ours."""
    return name.startswith("._") or name in (".DS_Store", "__MACOSX", "Thumbs.db", RECEIPT)


def link_tree(source: Path, root: Path, copy: bool = False) -> None:
    """Every file of ``source`` under ``root``: hard links where possible, else symbolic ones; or copies."""
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


def _unpack(archive: Path, root: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            wanted = [(member, _safe_name(member, archive)) for member in members]
            top = _common_folder([name for member, name in wanted if member.isfile()])
            files = [
                (member, PurePosixPath(*name.parts[top:]))
                for member, name in wanted
                if member.isfile() and not any(is_junk(part) for part in name.parts)
            ]
            with stage("unpack", sum(member.size for member, _ in files)) as progress:
                for member, name in files:
                    target = root / name
                    if not (target.exists() and target.stat().st_size == member.size):
                        handle = tar.extractfile(member)
                        assert handle is not None, "isfile() members have content"
                        with atomic_path(target) as temporary, temporary.open("wb") as out:
                            shutil.copyfileobj(handle, out, 1 << 20)
                    progress.advance(member.size)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            "the archive is damaged",
            where=archive,
            value=error,
            remedy="download it again; complete files are kept",
        ) from error


def _safe_name(member: tarfile.TarInfo, archive: Path) -> PurePosixPath:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise DataError(
            "the archive holds something that does not belong in a dataset (a link, a device or a path out of its "
            "folder); nothing was unpacked",
            where=archive,
            value=member.name,
            remedy="get the archive from its official source",
        )
    return name


def _common_folder(names: list[PurePosixPath]) -> int:
    """1 where everything (junk aside) lies in one top folder, as in the decathlon's archives; else 0."""
    names = [name for name in names if not any(is_junk(part) for part in name.parts)]
    tops = {name.parts[0] for name in names}
    return 1 if len(tops) == 1 and all(len(name.parts) > 1 for name in names) else 0
