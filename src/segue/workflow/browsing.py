"""``datasets``: the catalogue as a list, as a table of families, or one dataset as a person wants to read it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.catalogue import (
    RECEIPT,
    UNSTATED,
    Card,
    Licence,
    all_cards,
    check_licence,
    in_words,
    is_known,
    load_card,
    overlapping,
    terms,
)
from segue.catalogue.card import Group
from segue.core.console import byte_count, table
from segue.core.errors import UsageError

UNKNOWN = "?"
_MODALITY = {"mr": "mri", "xray": "x-ray", "us": "ultrasound"}


@dataclass(frozen=True)
class Wanted:
    """Which datasets a person asks for: names, or words to look for, and filters."""

    words: Sequence[str] = ()
    modality: str | None = None
    task: str | None = None
    licence: str | None = None
    dimension: int | None = None

    @property
    def by_name(self) -> bool:
        return bool(self.words) and all(is_known(word) for word in self.words)


def selected(wanted: Wanted) -> list[Card]:
    """The cards meant, by name.

    Raises:
        UsageError: nothing fits, or a filter has a value that no card can have.
    """
    cards = [load_card(word) for word in wanted.words] if wanted.by_name else _found(all_cards(), wanted.words)
    _refuse_unknown_values(wanted)
    cards = [card for card in cards if _fits(card, wanted)]
    if not cards:
        asked = [*wanted.words, *[f"{k} {v}" for k, v in vars(wanted).items() if k != "words" and v is not None]]
        raise UsageError(
            "no dataset of the catalogue fits", value=", ".join(map(str, asked)), remedy="segue datasets lists them all"
        )
    return cards


def _found(cards: Sequence[Card], words: Sequence[str]) -> list[Card]:
    def text(card: Card) -> str:
        parts = [card.name, card.title, card.description, *card.aliases, *card.labels.values(), *card.modalities]
        return " ".join(parts).lower()

    return [card for card in cards if all(word.lower() in text(card) for word in words)]


def _refuse_unknown_values(wanted: Wanted) -> None:
    tasks = sorted({card.task for card in all_cards()})
    if wanted.task is not None and wanted.task not in tasks:
        raise UsageError("no such task", where=f"--task {wanted.task}", remedy=f"one of {', '.join(tasks)}")
    known = sorted({name for card in all_cards() for name in card.modalities})
    if wanted.modality is not None and _plain(wanted.modality) not in {_plain(name) for name in known}:
        raise UsageError("no such modality", where=f"--modality {wanted.modality}", remedy=f"one of {', '.join(known)}")
    if wanted.licence not in (None, "commercial"):
        try:
            check_licence(wanted.licence)
        except ValueError as error:
            raise UsageError(
                str(error), where=f"--licence {wanted.licence}", remedy="commercial, or an SPDX identifier"
            ) from None


def _plain(modality: str) -> str:
    return _MODALITY.get(modality.lower(), modality.lower())


def _fits(card: Card, wanted: Wanted) -> bool:
    return (
        (wanted.modality is None or _plain(wanted.modality) in map(_plain, card.modalities))
        and wanted.task in (None, card.task)
        and wanted.dimension in (None, card.dimension)
        and (wanted.licence is None or _licence_that_fits(card, wanted.licence) is not None)
    )


def _licences(card: Card) -> list[tuple[str | None, Licence]]:
    """The licence of each copy of the data, the card's own first, with the copy's release."""
    own = [(card.release, card.licence)] if card.licence else []
    return own + [(copy.release, copy.licence) for copy in card.copies if copy.licence]


def _licence_that_fits(card: Card, asked: str) -> Licence | None:
    for _, licence in _licences(card):
        if licence.spdx == asked or (asked == "commercial" and terms(licence.spdx).commercial):
            return licence
    return None


def as_json(card: Card) -> dict[str, Any]:
    """What a program wants to know of a dataset."""
    return {
        "name": card.name,
        "title": card.title,
        "task": card.task,
        "classes": card.classes,
        "modalities": card.modalities,
        "dimension": card.dimension,
        "cases": card.expect.model_dump() | {"cases": card.expect.cases},
        "labels": card.labels,
        "regions": card.regions,
        "download_bytes": card.download_size,
        "disk_bytes": card.disk_size,
        "licences": [
            {"release": release, "spdx": licence.spdx, "commercial": terms(licence.spdx).commercial}
            for release, licence in _licences(card)
        ],
        "access": card.access.kind,
        "homepage": card.access.homepage,
        "difficulty": card.difficulty,
        "sizes": card.sizes,
        "releases": card.releases,
        "overlaps": dict(overlapping(card)),
    }


def listing(cards: Sequence[Card], wanted: Wanted) -> str:
    """One row per dataset, and how many there are."""
    header = ("name", "task", "modality", "", "cases", "size", "licence", "access", "difficulty")
    rows = [
        (
            card.name,
            card.task,
            ", ".join(card.modalities),
            f"{card.dimension}-D",
            "any" if card.access.kind == "generated" else _number(card.expect.cases),
            "-" if card.access.kind == "generated" else _size(card),
            _short((_licence_that_fits(card, wanted.licence) if wanted.licence else None) or card.licence),
            card.access.kind,
            card.difficulty or UNKNOWN,
        )
        for card in cards
    ]
    return table(header, rows, left=(0, 1, 2, 6, 7, 8)) + f"\n{len(cards)} dataset{'s' if len(cards) != 1 else ''}"


def _number(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def _size(card: Card) -> str:
    known = card.download_size
    if known is not None:
        return ("about " if card.download_bytes else "") + byte_count(known)
    most = _most_bytes(card)
    return UNKNOWN if most is None else "under " + byte_count(most)


def _most_bytes(card: Card) -> int | None:
    """What a download is at most: a compressed file is hardly ever larger than what comes out of it."""
    known = card.download_size
    if known is not None:
        return known
    sizes = [file.unpacked_bytes for file in card.own_files if file.unpacked_bytes is not None]
    return sum(sizes) if sizes and len(sizes) == len(card.own_files) else None


def _short(licence: Licence | None) -> str:
    if licence is None or licence.spdx == UNSTATED:
        return "not stated"
    return "own terms" if licence.spdx.startswith("LicenseRef-") else licence.spdx


def statistics(cards: Sequence[Card]) -> str:
    """The families side by side. Editions of one challenge repeat their cases: there, the largest one counts."""
    families: dict[str, list[Card]] = {}
    for card in cards:
        families.setdefault(card.name.partition("/")[0], []).append(card)
    rows = []
    for family, members in families.items():
        editions = all(card.name.partition("/")[2][:1].isdigit() for card in members) and len(members) > 1
        counts = [card.expect.cases for card in members if card.expect.cases]
        sizes = [size for card in members if (size := _most_bytes(card)) is not None]
        exact = all(card.download_size is not None for card in members if _most_bytes(card) is not None)
        images = (f"to {max(counts):,}" if editions else f"{sum(counts):,}") if counts else UNKNOWN
        total = (max(sizes) if editions else sum(sizes)) if sizes else None
        open_sizes = 0 if editions else len(members) - len(sizes)
        download = UNKNOWN if total is None else ("" if exact else "under ") + byte_count(total)
        download += f" + {open_sizes} unknown" if open_sizes and total is not None else ""
        rows.append(
            (
                family,
                len(members),
                images,
                _few(sorted({name for card in members for name in card.modalities})),
                "/".join(f"{n}-D" for n in sorted({card.dimension for card in members})),
                download,
                _few(sorted({_short(card.licence) for card in members})),
                _few(list(dict.fromkeys(card.difficulty or UNKNOWN for card in members))),
            )
        )
    header = ("family", "sets", "images", "modalities", "", "download", "licences", "difficulty")
    return table(header, rows, left=(0, 3, 4, 6, 7))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def page(card: Card, data: Path = Path("data")) -> str:
    """One dataset as a person wants to read it."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    lines = [card.name, card.title, ""]
    lines += [*textwrap.wrap(card.description, width), ""] if card.description else []
    for name, text in _facts(card):
        for number, paragraph in enumerate(text.split("\n")):
            first = f"{name:<12} " if number == 0 else " " * 13
            lines += textwrap.wrap(
                paragraph, width, initial_indent=first, subsequent_indent=" " * 13, break_on_hyphens=False
            ) or [first]
    if card.defects:
        lines += ["", "known defects"]
        done = {"skip": "left out", "repair": "repaired", "warn": "be warned"}
        for defect in card.defects:
            whom = f" ({_few(defect.cases)})" if defect.cases else ""
            text = f"{done[defect.action]}{whom}: {defect.what}"
            lines += textwrap.wrap(text, width, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join([*lines, "", f"next: {_next(card, data)}"])


def _facts(card: Card) -> list[tuple[str, str]]:
    names = ", ".join(f"{number} {name}" for number, name in list(card.labels.items())[:20])
    names += f" and {len(card.labels) - 20} more" if len(card.labels) > 20 else ""
    regions = "; ".join(f"{name} = {' + '.join(map(str, members))}" for name, members in card.regions.items())
    own_kind = f" ({card.classes})" if card.classes else ""
    facts = [
        ("task", f"{card.task}{own_kind}, {card.dimension}-D, {', '.join(card.modalities)}"),
        ("channels", ", ".join(f"{c.name} ({c.unit})" if c.unit != "arbitrary" else c.name for c in card.channels)),
        ("classes" if card.classes else "labels", names),
        ("regions", regions),
        ("groups", "\n".join(_group(card, group) for group in card.groups)),
        ("cases", _cases(card)),
        ("download", _size(card).replace(UNKNOWN, "size unknown") + _first_files(card)),
        ("disk needed", _disk(card)),
        ("licence", _licence_text(card)),
        ("access", "\n".join([_access(card), *card.access.steps])),
        ("releases", "\n".join(_releases(card))),
        ("sizes", _sizes(card)),
        ("hardware", card.hardware or "unknown"),
        ("difficulty", card.difficulty or "unknown"),
        ("overlaps", "\n".join(_overlaps(card))),
        ("cite", f"{', '.join(c.key for c in card.citations)} (segue datasets {card.name} --cite)"),
        ("sources", "\n".join(card.sources)),
    ]
    return [(name, text) for name, text in facts if text and (name != "cite" or card.citations)]


def _overlaps(card: Card) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for name, what in overlapping(card):
        by_reason.setdefault(what, []).append(name)
    return [f"{', '.join(names)}: {what}" for what, names in by_reason.items()]


def _group(card: Card, group: Group) -> str:
    unknown = ", ".join(card.labels[number] for number in group.unlabelled)
    return group.name + (f": nobody drew {unknown}" if unknown else "")


def _cases(card: Card) -> str:
    parts = [
        f"{_number(count)} {what}"
        for count, what in (
            (card.expect.train, "to train on"),
            (card.expect.val, "in its validation set"),
            (card.expect.test, "in its test set"),
            (card.expect.total, "in all"),
            (card.expect.patients, "patients"),
        )
        if count is not None
    ]
    return ", ".join(parts) or "unknown"


def _disk(card: Card) -> str:
    needed, download = card.disk_size, card.download_size
    if needed is not None:
        return byte_count(needed)
    return f"more than {byte_count(download)}" if download is not None else "unknown"


def _first_files(card: Card) -> str:
    names = [file.name for file in card.own_files]
    if card.collection:
        return f", DICOM series of the collection {card.collection.tcia or card.collection.idc}"
    return f" ({_few(names)})" if names else ""


def _licence_text(card: Card) -> str:
    if card.licence is None:
        return "not stated"
    note = f"\n{card.licence.note}" if card.licence.note else ""
    return f"{card.licence.spdx}: {in_words(card.licence.spdx)}{note}"


def _access(card: Card) -> str:
    kinds = {
        "open": "open, no account needed",
        "registration": "after registering",
        "agreement": "after signing an agreement",
        "generated": "made on this machine",
        "own": "your own",
    }
    return kinds[card.access.kind] + (f", {card.access.homepage}" if card.access.homepage else "")


def _releases(card: Card) -> list[str]:
    if not card.copies:
        return []
    others = [
        f"{copy.release}: {', '.join(p for p in (copy.note, copy.licence.spdx if copy.licence else None) if p)}"
        for copy in card.copies
    ]
    return [f"{card.release} (this one)", *others]


def _sizes(card: Card) -> str:
    if len(card.sizes) < 2:
        return ""
    stem = card.name.removesuffix(f"_{card.size}")
    plain = load_card(stem).size
    others = ", ".join(stem if size == plain else f"{stem}_{size}" for size in card.sizes if size != card.size)
    return f"{card.size} (this one); other sizes by name: {others}"


def _next(card: Card, data: Path) -> str:
    if (data / card.name / RECEIPT).exists():
        return f"segue check {card.name}" + (f" --data {data}" if data != Path("data") else "")
    if card.access.kind == "generated" or card.downloadable:
        return f"segue get {card.name}"
    return f"download it, then: segue get {card.name} --from THE_DOWNLOAD"
