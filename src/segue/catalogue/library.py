"""The catalogue's cards by name: what there is, what another name means, which datasets share patients."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path

from segue.catalogue.card import Card
from segue.core.config import load_settings
from segue.core.errors import UsageError


def _folder() -> Path:
    return Path(str(resources.files("segue.catalogue"))) / "cards"


@lru_cache(maxsize=1)
def card_names() -> tuple[str, ...]:
    """The names of the catalogue's cards, in alphabetical order."""
    folder = _folder()
    return tuple(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")))


@lru_cache(maxsize=256)
def _card(name: str) -> Card:
    return load_settings(Card, _folder() / f"{name}.yaml")


def all_cards() -> list[Card]:
    """Every card of the catalogue, by name."""
    return [_card(name) for name in card_names()]


def load_card(reference: str | Path, release: str | None = None) -> Card:
    """A card by its name in the catalogue or by the path of a YAML file.

    A name may carry the edge length of its images, as the official files do: ``medmnist/pathmnist_64``. The card's
    own size stays in the name then, so that two sizes lie in two folders.

    Raises:
        UsageError: an unknown name (with the nearest known one), release or size, or a file that is no valid card.
    """
    text = str(reference)
    if text.endswith((".yaml", ".yml")):
        card, size = load_settings(Card, Path(text)), None
    else:
        found = _named(text)
        if found is None:
            raise _unknown(text)
        card, size = found
    try:
        card = card.at(release, size)
    except ValueError as error:
        raise UsageError("there is no such release", where=card.name, value=release, remedy=str(error)) from None
    return card.model_copy(update={"name": f"{card.name}_{size}"}) if size else card


def is_known(text: str) -> bool:
    """Whether the catalogue has a card of this name."""
    return _named(text) is not None


def _named(text: str) -> tuple[Card, int | None] | None:
    """The card of a name or alias, and the size that the name carries."""
    if text in card_names():
        return _card(text), None
    stem, _, end = text.rpartition("_")
    if end.isdigit() and stem in card_names():
        card = _card(stem)
        if int(end) in card.sizes:
            return card, int(end) if int(end) != card.size else None
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", text):
        return None
    alias = next((card for card in all_cards() if text in card.aliases), None)
    return (alias, None) if alias else None


def _unknown(text: str) -> UsageError:
    names = card_names()
    family = [name for name in names if name.startswith(f"{text.strip('/')}/")]
    if family:
        advice = f"which one? {', '.join(family)}"
    else:
        ends = {name.rpartition("/")[2]: name for name in names}
        near = difflib.get_close_matches(text, [*names, *ends], n=1, cutoff=0.6)
        advice = f"did you mean '{ends.get(near[0], near[0])}'?" if near else "segue datasets lists what there is"
    return UsageError(
        "no dataset of this name, and no folder or card file either",
        where=text,
        remedy=f"{advice} (a card of your own, .yaml, does as well: segue card new FOLDER writes one)",
    )


def overlap(first: Card, second: Card) -> str | None:
    """What two datasets share, where one's card says so; the same dataset overlaps with itself."""
    if first.name == second.name:
        return "it is the same dataset"
    for one, other in ((first, second), (second, first)):
        for known in one.overlaps:
            if _is_meant(known.dataset, other):
                return known.what
    return None


def overlapping(card: Card) -> list[tuple[str, str]]:
    """The catalogue's datasets that share patients with this one, with what they share."""
    pairs = ((other.name, overlap(card, other)) for other in all_cards() if not _is_meant(other.name, card))
    return [(name, what) for name, what in pairs if what]


def _is_meant(pattern: str, card: Card) -> bool:
    names: Sequence[str] = [card.name, card.name.rpartition("_")[0] if card.size else card.name, *card.aliases]
    return any(fnmatchcase(name, pattern) for name in names)
