"""nnU-Net's labels: consecutive numbers, and regions with the order in which they are painted."""

from __future__ import annotations

from dataclasses import dataclass

from segue.catalogue import Card
from segue.prepare import painting_order, with_missing

_RESERVED = ("background", "ignore")


@dataclass(frozen=True)
class NnunetLabels:
    """What ``dataset.json`` says about labels.

    Attributes:
        numbers: the card's number of each label (and of the ignore label), and nnU-Net's.
        labels: nnU-Net's ``labels``: a number, or the numbers of a region; its order matters for regions.
        order: ``regions_class_order``; None for plain labels.
        notes: what a person should know.
    """

    numbers: dict[int, int]
    labels: dict[str, int | list[int]]
    order: list[int] | None
    notes: tuple[str, ...]


def nnunet_labels(card: Card) -> NnunetLabels:
    """The labels of a segmentation card as nnU-Net's documentation wants them."""
    numbers = {old: new for new, old in enumerate(card.labels, start=1)}
    if card.ignore_label is not None:
        numbers[card.ignore_label] = len(card.labels) + 1
    notes = []
    changed = [f"{old} is {new}" for old, new in numbers.items() if old != new]
    if changed:
        notes.append(
            f"labels renumbered, because nnU-Net counts 0, 1, 2, ...: {', '.join(changed)} "
            "(dataset.json keeps the card's numbers under original_labels)"
        )
    plain: dict[str, int | list[int]] = {
        _free_name(name, number): numbers[number] for number, name in card.labels.items()
    }
    renamed = [name for name in card.labels.values() if name not in plain]
    if renamed:
        notes.append(f"labels renamed, because nnU-Net means something by the name: {', '.join(renamed)}")
    regions = {name: {numbers[member] for member in members} for name, members in card.regions.items()}
    labels, order = plain, None
    if any(len(members) > 1 for members in regions.values()):
        free = {_free_name(name, min(members)): members for name, members in regions.items()}
        completed = with_missing(free, {number: name for name, number in plain.items() if isinstance(number, int)})
        painted = painting_order(completed)
        if painted is None:
            notes.append(
                "regions left out: nnU-Net paints them over each other into one label map, and these "
                f"({', '.join(card.regions)}) cannot be told apart again in any order; it trains on the plain labels"
            )
        else:
            # One number for a region of one label: nnU-Net's count of outputs misses a list of length one.
            labels = {name: _number_or_list(completed[name]) for name, _ in painted}
            order = [number for _, number in painted]
            held = set().union(*regions.values())
            added = [name for name, number in plain.items() if number not in held]
            if added:
                notes.append(f"labels that no region holds are regions of their own: {', '.join(added)}")
    ignored = {"ignore": numbers[card.ignore_label]} if card.ignore_label is not None else {}
    return NnunetLabels(numbers, {"background": 0, **labels, **ignored}, order, tuple(notes))


def _free_name(name: str, number: int) -> str:
    return f"{name} {number}" if name.casefold() in _RESERVED else name


def _number_or_list(members: set[int]) -> int | list[int]:
    return min(members) if len(members) == 1 else sorted(members)
