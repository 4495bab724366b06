"""A card for a folder of one's own images: written as a person would write it, with what was guessed beside it."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from segue.catalogue import Card
from segue.catalogue.recognise import Recognised, recognise
from segue.core.config import validate
from segue.core.errors import UsageError
from segue.core.files import write_text

_WIDTH = 116
_ON_LINES_OF_THEIR_OWN = {"channels", "labels", "layout"}
_BEFORE = ("name", "title", "licence", "task", "classes", "dimension", "modalities", "channels", "labels", "regions")
_ORDER = (*_BEFORE, "ignore_label", "mirror_axes", "patient", "layout", "root", "split")


def write_card(folder: Path, output: Path | None = None) -> tuple[Path, Recognised]:
    """Look at ``folder`` and write its card to ``folder/card.yaml``, or to ``output`` (which then names the folder).

    Returns:
        Where the card is, and what was recognised, with the card as it was written.

    Raises:
        UsageError: no such folder, ``output`` is no YAML file, or there is a file already.
        DataError: what lies in the folder cannot be recognised.
        MachineError: the place may not be written.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", where=folder, remedy="give the folder that holds the images")
    target = output or folder / "card.yaml"
    if target.suffix not in (".yaml", ".yml"):
        raise UsageError("a card is a YAML file", where=target, remedy=f"for example -o {target / 'card.yaml'}")
    if target.exists():
        raise UsageError(
            "there is a file already, and it is not overwritten",
            where=target,
            remedy="move it away, or choose another place with -o CARD.yaml",
        )
    seen = recognise(folder)
    root = _root(folder, target)
    seen = replace(seen, card=seen.card.model_copy(update={"root": root}) if root else seen.card)
    text = card_text(seen)
    assert validate(Card, yaml.safe_load(text)) == seen.card, "the card does not say what was recognised"
    write_text(target, text)
    return target, seen


def _root(folder: Path, target: Path) -> str | None:
    """The folder as the card names it: nothing where the card lies in it, relative where it lies below the card."""
    place, images = target.parent.resolve(), folder.resolve()
    if place == images:
        return None
    return images.relative_to(place).as_posix() if images.is_relative_to(place) else str(folder.absolute())


def card_text(seen: Recognised) -> str:
    """The card as YAML; what was guessed stands as a comment above the line that it concerns."""
    card = seen.card
    content: dict[str, Any] = {"name": card.name, "title": card.title, "task": card.task, "dimension": card.dimension}
    content |= card.model_dump(exclude_defaults=True)
    content["layout"] = {"kind": card.layout.kind, **content["layout"]}
    rare = {"optional"}
    content["channels"] = [channel.model_dump(exclude=None if channel.optional else rare) for channel in card.channels]
    notes: dict[str, list[str]] = {}
    for guess in seen.guesses:
        key, _, text = guess.partition(": ")
        notes.setdefault(key if key in _ORDER else "layout", []).append(text)
    lines = _comment(f"Written by segue card new from what lies in the folder: {seen.counts}")
    lines += _comment("Look at every line below a comment and correct it; docs/own-images.md explains the keys.")
    for key in [*_ORDER, *(key for key in content if key not in _ORDER)]:
        lines += [line for note in notes.get(key, []) for line in _comment(note)]
        if key in content:
            lines += _entry(key, content[key])
        elif key == "licence":
            lines += _comment("licence: {spdx: CC-BY-4.0}  <- under which terms the images may be used")
        elif key == "mirror_axes" and card.dimension == 2:
            lines += _comment("mirror_axes: [left-right, front-back]  <- where a mirrored picture means the same")
        elif key == "patient" and notes.get(key) and not re.search(r"\{patient|patient: ", seen.layout_text):
            # A case in a folder of a class is called CLASS_NAME.
            hint = "^[^_]+_([^_]+)" if "{class" in seen.layout_text else "^([^_]+)"
            lines += _comment(f'patient: "{hint}"  <- where several cases are of one patient: its name in theirs')
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return [f"# {line}" for line in textwrap.wrap(plain, _WIDTH, break_long_words=False, break_on_hyphens=False)]


def _entry(key: str, value: Any) -> list[str]:
    if key not in _ON_LINES_OF_THEIR_OWN or not value:
        return [f"{key}: {_flow(value)}"]
    if isinstance(value, list):
        return [f"{key}:", *(f"  - {_flow(item)}" for item in value)]
    return [f"{key}:", *(f"  {_flow(name)}: {_flow(item)}" for name, item in value.items())]


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump([value], default_flow_style=True, width=100_000, sort_keys=False, allow_unicode=True)
    return text.strip()[1:-1]
