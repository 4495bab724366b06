"""``get``: after it the dataset lies under its root, with a receipt that says what it is."""

from __future__ import annotations

import datetime
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import segue
from segue.catalogue import RECEIPT, Card, Dataset, dataset_at, not_there
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.files import atomic_path, storage_fault, write_json
from segue.synth import PetCtSettings, generate

_ARCHIVES = (".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class GetOptions:
    """What ``get`` may be told beside the name.

    Attributes:
        source: a folder or tar archive that a person downloaded.
        number: how many patients to generate (synthetic datasets).
        synthetic: how to generate them.
    """

    source: Path | None = None
    number: int = 10
    synthetic: PetCtSettings = field(default_factory=PetCtSettings)
    workers: int | None = None


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
        _link_tree(folder, root)
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
    """The folder itself, or the one below it that the archive's name or ``dataset.json`` gives away."""
    if card.layout.kind != "decathlon" or (source / "dataset.json").exists():
        return source
    below = sorted(path.parent for path in source.glob("*/dataset.json"))
    wanted = [path for path in below if path.name == card.layout.folder] or below
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(sorted(path.name for path in source.iterdir())[:5]) or "nothing"
    raise DataError(
        f"no dataset.json here: this is not {card.name} as the decathlon ships it",
        where=source,
        value=f"found {names}",
        remedy=f"give the folder {card.layout.folder or ''} that holds dataset.json, imagesTr and labelsTr",
    )


def _is_junk(name: str) -> bool:
    return name.startswith("._") or name in (".DS_Store", "__MACOSX", "Thumbs.db", RECEIPT)


def _link_tree(source: Path, root: Path) -> None:
    """Every file of ``source`` under ``root``: a hard link where the file system allows it, else a symbolic one."""
    files = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file() and not any(_is_junk(part) for part in path.relative_to(source).parts)
    ]
    symbolic = 0
    with stage("import", len(files)) as progress:
        for path in files:
            target = root / path.relative_to(source)
            if not (target.exists() and target.stat().st_size == path.stat().st_size):
                symbolic += _link(path, target)
            progress.advance()
    if symbolic:
        say(f"{symbolic} files are links to {source.resolve()}: keep that folder")


def _link(path: Path, target: Path) -> bool:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(path.resolve())
        except OSError:
            target.symlink_to(path.resolve())
            return True
    except OSError as error:
        raise storage_fault(error, target) from error
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
                if member.isfile() and not any(_is_junk(part) for part in name.parts)
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
    tops = {name.parts[0] for name in names if not any(_is_junk(part) for part in name.parts)}
    return 1 if len(tops) == 1 and all(len(name.parts) > 1 for name in names) else 0
