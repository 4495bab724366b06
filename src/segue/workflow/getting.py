"""``get``: what would happen, what happened, and whether what is here is still what came."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from segue.acquire import GetOptions, Verified, get, verify
from segue.catalogue import Card, Dataset, card_names, in_words, is_look_alike, load_card, resolve
from segue.core.console import byte_count, duration, result, stage
from segue.core.errors import DataError, UsageError
from segue.workflow.browsing import Wanted, listing, selected

_USUAL_RATE = 10e6  # bytes per second: what a line of 100 Mbit/s gives


def forecast(card: Card, root: Path) -> list[str]:
    """What ``get`` would bring: bytes, disk, time, licence. Nothing is asked of any server."""
    download, disk = card.download_size, card.disk_size
    files = card.own_files
    hosts = ", ".join(dict.fromkeys(urlsplit(file.url).hostname or "" for file in files))
    lines = [f"{card.name} would come to {root}" if not root.is_dir() else f"{card.name} is in {root} already"]
    if card.access.kind == "generated":
        return [*lines, "made on this machine, nothing is downloaded"]
    if download is not None:
        time = f", about {duration(download / _USUAL_RATE)} at {byte_count(round(_USUAL_RATE))}/s"
        lines.append(f"download  {byte_count(download)}{f' from {hosts}' if hosts else ''}{time}")
    else:
        most = sum(file.unpacked_bytes or 0 for file in files)
        known = f"under {byte_count(most)}" if most else "size unknown"
        lines.append(f"download  {known}{f' from {hosts}' if hosts else ''}")
    free = shutil.disk_usage(_existing(root)).free
    least = disk or download  # of DICOM nobody knows how large its volumes will be
    needed = f"{'' if disk else 'more than '}{byte_count(least)}" if least else "unknown"
    lines.append(f"disk      {needed} needed, {byte_count(free)} free")
    if least is not None and least > free:
        lines.append("          too small: choose another folder with -o")
    if card.licence is not None:
        lines.append(f"licence   {card.licence.spdx}: {in_words(card.licence.spdx)}")
    if not card.downloadable:
        lines.append(f"access    {card.access.kind}: {card.access.homepage}")
        lines += [f"          {step}" for step in card.access.steps]
    return lines


def _existing(folder: Path) -> Path:
    return next(parent for parent in [folder, *folder.resolve().parents] if parent.is_dir())


def bring(card: Card, root: Path, options: GetOptions) -> list[str]:
    """Bring the dataset and say what a person should know about it.

    Raises:
        DataError, MachineError: see :func:`segue.acquire.get`.
    """
    dataset = get(card, root, options)
    return [f"{card.name}: {_counted(dataset)}, in {root}", *_remarks(dataset, options)]


def _counted(dataset: Dataset) -> str:
    """How many cases there are, part by part."""
    train = [case for case in dataset.cases if case.split == "train"]
    drawn = sum(case.annotated for case in train)
    parts = [f"{drawn} annotated cases"] if drawn or dataset.card.task != "unlabelled" else []
    if len(train) > drawn:
        parts.append(f"{len(train) - drawn} without label")
    for split, name in (("val", "validation"), ("test", "test")):
        cases = [case for case in dataset.cases if case.split == split]
        if cases:
            unlabelled = sum(not case.annotated for case in cases)
            parts.append(f"{len(cases)} {name} cases" + (f" ({unlabelled} without label)" if unlabelled else ""))
    return ", ".join(parts)


def _remarks(dataset: Dataset, options: GetOptions) -> list[str]:
    card = dataset.card
    lines = []
    if is_look_alike(dataset.root):
        lines.append("these are synthetic look-alikes: for trying the commands, never for results")
    elif options.cases is None:
        there = {split: sum(case.split == split for case in dataset.cases) for split in ("train", "val", "test")}
        there["train"] += len(dataset.left_out)
        expected = card.expect.model_dump()
        lines += [
            f"the full dataset has {expected[split]} {split} cases, {there[split]} are here"
            + (f"; the rest: {card.access.homepage}" if there[split] < expected[split] and card.access.homepage else "")
            for split in there
            if expected[split] is not None and expected[split] != there[split]
        ]
    lines += _gone(dataset) + _unexpected(dataset)
    lines += dataset.told_left_out
    repaired = [defect for defect in card.defects if defect.action == "repair"]
    ids = {case.id for case in dataset.cases}
    for defect in repaired:
        if whom := ids.intersection(defect.cases):
            lines.append(f"repaired: {', '.join(sorted(whom))}: {defect.what}")
    if card.licence and card.access.kind != "generated" and not is_look_alike(dataset.root):
        lines.append(f"licence {card.licence.spdx}: {in_words(card.licence.spdx)}")
    return lines


def _gone(dataset: Dataset) -> list[str]:
    """Files that cases should have and have not."""
    missing = [path for case in dataset.cases for path in case.files if not path.exists()]
    unlabelled = [c.id for c in dataset.cases if c.split == "train" and not c.annotated]
    lines = []
    if missing:
        names = ", ".join(path.relative_to(dataset.root).as_posix() for path in missing[:3])
        lines.append(f"missing: {len(missing)} files, such as {names}")
    if unlabelled and dataset.card.task != "unlabelled" and dataset.labelled:
        lines.append(f"missing: the masks of {len(unlabelled)} training cases, such as {', '.join(unlabelled[:3])}")
    return lines


def _unexpected(dataset: Dataset) -> list[str]:
    """Images that belong to no case."""
    ours = {path for case in dataset.cases for path in case.files}
    suffixes = {"".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix for path in ours}
    others = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(dataset.root)
        for name in names
        if name.endswith(tuple(suffixes)) and not name.startswith(".") and Path(folder, name) not in ours
    )
    if not others or dataset.left_out:
        return []
    names = ", ".join(path.relative_to(dataset.root).as_posix() for path in others[:3])
    return [f"unexpected: {len(others)} images that belong to no case, such as {names}"]


def check_receipt(root: Path) -> Verified:
    """Compare what lies in ``root`` with what came, offline.

    Raises:
        DataError: nothing is there, or it has no list of files.
    """
    if not root.is_dir():
        raise DataError("there is nothing to verify", where=root, remedy="segue get brings it")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    with stage("verify", size) as shown:
        return verify(root, shown.advance)


def download_data(dataset: str = "", task: str | None = None, output: Path = Path("data"), list: bool = False) -> None:
    """Download a dataset by its family and task: --dataset msd --task liver; --list shows a family's tasks."""
    if not dataset:
        raise UsageError("which dataset?", where="--dataset", remedy="for example --dataset msd --task liver")
    dataset, task = dataset.lower(), task.lower() if task else None
    family = [name for name in card_names() if name.startswith(f"{dataset}/")]
    if list:
        wanted = Wanted([dataset]) if not family else Wanted()
        cards = [load_card(name) for name in family] or selected(wanted)
        result(listing(cards, wanted))
        return
    name = f"{dataset}/{task}" if task else dataset
    card, root = resolve(name, output)
    result("\n".join(bring(card, root, GetOptions())))
