"""What a ``dataset.json`` says: the decathlon's, nnU-Net's first and second form."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.catalogue.card import Channel, DecathlonLayout, Licence, NnunetLayout, SplitPolicy
from segue.catalogue.licences import from_words
from segue.catalogue.recognise.names import ImageFile
from segue.core.errors import DataError

_NUMBERED = re.compile(r"(.+)_(\d{4})")


@dataclass
class Told:
    """What a ``dataset.json`` says of a dataset, in the card's words."""

    title: str
    channels: list[Channel]
    labels: dict[int, str]
    regions: dict[str, list[int]] = field(default_factory=dict)
    ignore: int | None = None
    licence: Licence | None = None
    notes: list[str] = field(default_factory=list)


def told(content: dict[str, Any], folder: Path) -> Told | None:
    """The content in the card's words; None for a ``dataset.json`` of some other make.

    Raises:
        DataError: it names neither labels nor channels in a form that is known.
    """
    names = content.get("channel_names", content.get("modality"))
    if "labels" not in content and names is None:
        return None
    try:
        numbers = {int(number): str(name) for number, name in names.items()}  # type: ignore[union-attr]
        labels, regions, ignore = _labels(content["labels"])
        if not numbers or not labels:
            raise ValueError("no channel or no label above 0")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "this dataset.json is neither the decathlon's nor nnU-Net's: these have 'modality' or 'channel_names', "
            "and 'labels'",
            where=folder / "dataset.json",
            value=f"{type(error).__name__}: {error}"[:200],
            remedy="mend it, or take it away: the folder is then judged by its file names",
        ) from error
    stated = content.get("licence") or content.get("license")
    spdx = from_words(str(stated)) if stated else None
    unnamed = sorted(number for number, name in labels.items() if name == f"label_{number}")
    return Told(
        str(content.get("name") or folder.resolve().name),
        _channels(numbers),
        labels,
        regions,
        ignore,
        Licence(spdx=spdx or "LicenseRef-stated", note=str(stated)) if stated else None,
        [f"labels: dataset.json names regions, but not {', '.join(map(str, unnamed))} alone"] if unnamed else [],
    )


def _labels(content: dict[str, Any]) -> tuple[dict[int, str], dict[str, list[int]], int | None]:
    """Labels, regions and the ignore label of ``{"0": name}`` or ``{name: 0}`` or ``{name: [1, 2]}``."""
    pairs: list[tuple[str, Any]] = []
    for key, value in content.items():
        turned = str(key).strip().lstrip("-").isdigit() and isinstance(value, str) and not value.strip().isdigit()
        pairs.append((value, int(key)) if turned else (str(key), value))
    labels: dict[int, str] = {}
    regions: dict[str, list[int]] = {}
    ignore = None
    for name, value in pairs:
        if isinstance(value, list | tuple):
            regions[name] = [int(number) for number in value]
        elif name == "ignore":
            ignore = int(value)
        elif int(value) != 0:
            labels[int(value)] = name
    regions = {
        name: kept for name, numbers in regions.items() if (kept := [n for n in numbers if n not in (0, ignore)])
    }
    for number in sorted({number for numbers in regions.values() for number in numbers} - set(labels)):
        labels[number] = f"label_{number}"
    double = {name for name, count in Counter(labels.values()).items() if count > 1}
    return {n: f"{name}_{n}" if name in double else name for n, name in labels.items()}, regions, ignore


def _channels(names: dict[int, str]) -> list[Channel]:
    often = Counter(names.values())
    return [
        Channel(
            name=f"{name}_{number}" if often[name] > 1 else name,
            unit="HU" if name.upper() == "CT" else "SUV" if name.upper() in ("SUV", "PET", "PT") else "arbitrary",
        )
        for number, name in sorted(names.items())
    ]


def listed_layout(
    content: dict[str, Any], folder: Path, files: list[ImageFile]
) -> DecathlonLayout | NnunetLayout | None:
    """The layout in which the files lie beside their ``dataset.json``; None where it is neither of the two."""
    there = {file.path for file in files}
    entries = content.get("training")
    listed = [str(entry.get("image", "")) for entry in entries or [] if isinstance(entry, dict)]
    named = sum(name.removeprefix("./") in there for name in listed)
    numbered = nnunet_layout(files, content.get("file_ending"))
    if numbered and (not listed or 2 * named < len(listed)):
        return numbered
    if isinstance(entries, list) and "modality" in content:
        return DecathlonLayout(kind="decathlon")
    return numbered


def nnunet_layout(files: list[ImageFile], suffix: str | None = None) -> NnunetLayout | None:
    """nnU-Net's layout, if ``imagesTr`` holds ``CASE_0000`` and ``labelsTr`` (where there is one) ``CASE``.

    ``amos_0001.nii.gz`` in both folders is a case's number, not a channel's.
    """
    if any(file.folders[:1] in (("imagesVa",), ("imagesVal",)) for file in files):
        return None
    images = [file for file in files if file.folders == ("imagesTr",)]
    masks = {file.stem for file in files if file.folders == ("labelsTr",)}
    split = [_NUMBERED.fullmatch(file.stem) for file in images]
    found = [match for match in split if match]
    if not images or len(found) < len(images) or "0000" not in {match.group(2) for match in found}:
        return None
    if masks and not masks & {match.group(1) for match in found}:
        return None
    return NnunetLayout(kind="nnunet", suffix=suffix or _suffix(images))


def _suffix(files: list[ImageFile]) -> str:
    there = {file.suffix for file in files}
    return ".nii.gz" if ".nii.gz" in there else Counter(file.suffix for file in files).most_common(1)[0][0]


def channel_numbers(files: list[ImageFile]) -> list[str]:
    """The channels' numbers in ``imagesTr``: 0000, 0001."""
    found = (_NUMBERED.fullmatch(file.stem) for file in files if file.folders == ("imagesTr",))
    return sorted({match.group(2) for match in found if match})


def drawn_folds(folder: Path) -> SplitPolicy:
    """Folds that lie beside the images as ``splits_final.json``, else folds to be drawn."""
    name = "splits_final.json"
    return SplitPolicy(file=name) if (folder / name).is_file() else SplitPolicy()
