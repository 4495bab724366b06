"""``view``: what a person names becomes a reading room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.catalogue import Dataset, dataset_at, is_known, open_dataset
from segue.core.console import say
from segue.core.errors import DataError, UsageError
from segue.core.files import parse_json
from segue.dicom import scan
from segue.images import is_image
from segue.prepare import Finding
from segue.train import Run
from segue.view.room import NothingToShowError, Room, files_room, room_of_dataset, runs_room

CHECKS = Path("checks")


def open_room(what: Sequence[str], data: Path = Path("data")) -> Room:
    """A room of runs (one or several), of a dataset, of a folder of images, or of single files.

    Raises:
        UsageError: nothing of this name, or things that do not belong together. DataError: nothing to see in it.
    """
    paths = [Path(name) for name in what]
    if all((path / "config.yaml").is_file() and (path / "card.json").is_file() for path in paths):
        runs = [Run(path) for path in paths]
        return runs_room(runs, [_images_of(run) for run in runs])
    if len(what) == 1 and not _is_file(paths[0]):
        if not paths[0].exists() and not is_known(what[0]):
            raise UsageError(
                "nothing of this name: not a run folder, no image, and no dataset",
                where=what[0],
                remedy="check the path; segue datasets lists the datasets that have names",
            )
        return _of_one(what[0], data)
    if wrong := [name for name, path in zip(what, paths, strict=True) if not path.exists()]:
        raise UsageError("no such file", where=wrong[0], remedy="check the path")
    folders = [name for name, path in zip(what, paths, strict=True) if path.is_dir() and not scan(path)]
    if folders:
        raise UsageError(
            "several things that do not belong together",
            where=", ".join(what[:4]),
            value=f"{folders[0]} is a folder",
            remedy="open several runs, or several images or DICOM series, or one dataset or folder",
        )
    return files_room(paths, paths[0].name if len(paths) == 1 else f"{len(paths)} files")


def _is_file(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".yaml", ".yml")


def _of_one(reference: str, data: Path) -> Room:
    folder = Path(reference)
    try:
        dataset = open_dataset(reference, data)
        return room_of_dataset(dataset, _findings_of(dataset))
    except DataError as error:
        if is_known(reference) or not folder.is_dir():
            raise
        images = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
        try:
            room = files_room([*images, folder], folder.resolve().name)  # and the DICOM series in it
        except NothingToShowError:
            raise error from None
        if len(room.cases) > 1:
            say(f"{reference}: not a dataset with a card; its images are shown by themselves")
        return room


def _findings_of(dataset: Dataset) -> list[Finding]:
    """What the last ``segue check`` of this dataset found, where it wrote its tables here."""
    for path in sorted(CHECKS.glob("*/check.json"), key=lambda path: -path.stat().st_mtime):
        try:
            told = parse_json(path.read_text(encoding="utf-8"))
            if told["root"] is not None and Path(told["root"]).resolve() == dataset.root.resolve():
                say(f"with the findings of {path}")
                return [Finding.model_validate(finding) for finding in told["findings"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another version's, or somebody else's
    return []


def _images_of(run: Run) -> Dataset | None:
    """The dataset that a run was trained on, where it still is."""
    try:
        return dataset_at(run.card(), Path(run.settings()["root"]))
    except (DataError, KeyError) as error:
        say(f"{run.folder}: without images: {error}")
        return None
