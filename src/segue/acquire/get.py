"""``get``: after it the dataset lies under its root, with a receipt that says what it is."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segue.acquire.exchange import BEFORE, end_exchange
from segue.acquire.receipt import FILES, Origin, read_receipt, write_receipt
from segue.acquire.series import has_begun
from segue.catalogue import Card, Dataset, dataset_at, is_look_alike, not_there
from segue.core.alone import alone
from segue.core.console import stage
from segue.core.errors import MachineError, UsageError
from segue.core.leftovers import part_folder

if TYPE_CHECKING:
    from segue.synth import PetCtSettings


@dataclass(frozen=True)
class GetOptions:
    """What ``get`` may be told beside the name.

    Attributes:
        source: what a person downloaded: a folder, an archive, an ``.npz``, or a folder where these lie about.
        copy: copy files instead of linking them.
        cases: bring only so many cases.
        look_alike: make so many tiny cases in the dataset's layout instead of bringing the true ones.
        number: how many patients to generate (synthetic datasets).
        synthetic: how to generate them, where it is not as usual.
    """

    source: Path | None = None
    copy: bool = False
    cases: int | None = None
    look_alike: int | None = None
    number: int = 10
    synthetic: PetCtSettings | None = None
    workers: int | None = None


def get(card: Card, root: Path, options: GetOptions) -> Dataset:
    """Bring the dataset to ``root`` and open it. Run again, it does only what is missing.

    Raises:
        DataError: the source does not hold this dataset, or what comes is damaged or unsafe, or a person has to
            register first.
        MachineError: the disk is full or may not be written.
    """
    if options.source is not None and not options.source.exists():
        raise UsageError("no such file or folder", where=options.source, remedy="check what --from says")
    made_here = options.look_alike is not None or card.access.kind == "generated"
    if not (made_here or options.source is not None or _is_there(root) or card.downloadable):
        raise not_there(card, root)
    if root.is_symlink():
        root = root.resolve()  # a folder on a larger disk: it is filled, not replaced
    with alone(root):
        end_exchange(root)
        return _got(card, root, options)


def _got(card: Card, root: Path, options: GetOptions) -> Dataset:
    # What is not needed is not imported: a dataset that is there is opened in a moment.
    _refuse_a_mixture(root, options)
    if options.look_alike is not None:
        _make_look_alike(card, root, options.look_alike)
    elif options.source is not None:
        from segue.acquire.arrive import bring

        bring(card, options.source, root, options.copy)
    elif card.access.kind == "generated":
        _remember(card, root, _generate(root, options))
    elif _is_there(root) and not _has_more_to_do(card, root, options.cases):
        dataset = dataset_at(card, root)
        if not (root / FILES).exists():
            with contextlib.suppress(MachineError):  # a read-only disk
                write_receipt(card, root, Origin("found here"))
        return dataset
    elif card.collection is not None and not card.files:
        from segue.acquire import collection

        _remember(card, root, collection.fetch(card, root, options.cases))
    elif card.downloadable:
        from segue.acquire.fetch import fetch

        fetch(card, root, options.cases)
    else:
        raise not_there(card, root)
    return dataset_at(card, root)


def _remember(card: Card, root: Path, origin: Origin) -> None:
    dataset_at(card, root)  # what does not open gets no receipt
    write_receipt(card, root, origin)


def _is_there(root: Path) -> bool:
    return root.is_dir() and any(root.iterdir())


def _has_more_to_do(card: Card, root: Path, cases: int | None) -> bool:
    """Whether what lies there is only a part of what is asked for, or waits for its conversion."""
    receipt = read_receipt(root)
    if not card.downloadable:
        return False
    if not receipt and card.collection is not None and not card.files:
        return has_begun(root)
    if receipt.get("unconverted") is True:
        return True
    if receipt.get("partial") is not True:
        return False
    here = dataset_at(card, root)
    # Of a collection of DICOM series, parts are counted in patients.
    count = len({case.patient for case in here.cases}) if card.collection is not None else len(here.labelled)
    return cases is None or cases > count


def _generate(root: Path, options: GetOptions) -> Origin:
    from segue.synth import PetCtSettings, generate

    settings = options.synthetic or PetCtSettings()
    with stage("generate", options.number) as progress:
        generate(
            root,
            options.number,
            settings,
            workers=options.workers,
            on_done=lambda name: progress.advance(note=name),
        )
    return Origin(f"generated, seed {settings.seed}, size {settings.size}")


def _refuse_a_mixture(root: Path, options: GetOptions) -> None:
    """Look-alikes and true data never lie in one folder."""
    if not root.is_dir() or not any(root.iterdir()):
        return
    if options.look_alike is not None and not is_look_alike(root):
        raise UsageError(
            "other data lie here already; look-alikes would mix with them",
            where=root,
            remedy="choose another folder with -o",
        )
    if options.source is not None and is_look_alike(root):
        raise UsageError(
            "synthetic look-alikes lie here; the true data would mix with them",
            where=root,
            remedy="remove this folder, then run the same command again",
        )


def _make_look_alike(card: Card, root: Path, number: int) -> None:
    """Make the dataset's download in small beside ``root``, and import it as a person's download is imported."""
    from segue.acquire.arrive import bring
    from segue.synth import look_alike

    with part_folder(root) as folder:
        made = look_alike(card, folder / "made", number)
        if root.is_dir():  # the look-alikes of an earlier call; a kill must not leave a part of them
            root.rename(folder / BEFORE)
        bring(card, made, root, copy=True, origin=Origin(f"{number} synthetic look-alikes", look_alike=True))
