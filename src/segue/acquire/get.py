"""``get``: after it the dataset lies under its root, with a receipt that says what it is."""

from __future__ import annotations

import datetime
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import segue
from segue.catalogue import RECEIPT, Card, Dataset, dataset_at, index, not_there
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path, link, write_json
from segue.synth import PetCtSettings, generate

_ARCHIVES = (".tar", ".tar.gz", ".tgz")


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
    if options.source is not None:
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
    dataset = dataset_at(card, root)
    write_json(
        root / RECEIPT,
        {
            "name": card.name,
            "release": card.release,
            "size": card.size,
            "card": card,
            "source": origin,
            "segue": segue.__version__,
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )
    return dataset


def _import(card: Card, source: Path, root: Path) -> str:
    if not source.exists():
        raise UsageError("no such file or folder", where=source, remedy="check what --from says")
    if source.resolve() == root.resolve():
        raise UsageError("source and destination are the same folder", where=source, remedy="leave --from out")
    if source.is_dir():
        folder = _layout_root(card, source)
        dataset_at(card, folder)  # what is not this dataset is told before anything is linked
        link_tree(folder, root)
    elif card.layout.kind == "npz" and source.suffix == ".npz":
        link_tree(source, root)
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
    for folder in _folders(source, depth=3):
        if card.layout.kind == "decathlon" and not (folder / "dataset.json").exists():
            continue
        if index(folder, card):
            return folder
    return source  # dataset_at says what is wrong with it


def _folders(top: Path, depth: int) -> Iterator[Path]:
    """``top``, then its folders level by level."""
    level = [top]
    for _ in range(depth + 1):
        yield from level
        below = (path for folder in level for path in folder.iterdir())
        level = sorted(path for path in below if path.is_dir() and not is_junk(path.name))


def is_junk(name: str) -> bool:
    """Whether a file or folder is the litter of an operating system, or a receipt of ours."""
    return name.startswith("._") or name in (".DS_Store", "__MACOSX", "Thumbs.db", RECEIPT)


def link_tree(source: Path, root: Path) -> None:
    """Every file of ``source`` (or that one file) under ``root``: hard links where possible, else symbolic ones."""
    top = source if source.is_dir() else source.parent
    files = [
        path
        for path in (sorted(source.rglob("*")) if source.is_dir() else [source])
        if path.is_file() and not any(is_junk(part) for part in path.relative_to(top).parts)
    ]
    symbolic = 0
    with stage("import", len(files)) as progress:
        for path in files:
            target = root / path.relative_to(top)
            if not (target.exists() and target.stat().st_size == path.stat().st_size):
                symbolic += link(path, target)
            progress.advance()
    if symbolic:
        say(f"{symbolic} files are links to {source.resolve()}: keep that folder")


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
