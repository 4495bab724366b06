"""Regions: named unions of labels that a network answers for, and how a label map comes back from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt16

from segue.core.config import Settings

if TYPE_CHECKING:
    from segue.prepare.choices import Plan


class Region(Settings):
    """A union of labels; ``label`` is painted where the network sees it, over the regions before."""

    name: str
    members: list[int]
    label: int


def painted_regions(regions: Mapping[str, list[int]], labels: Mapping[int, str]) -> list[Region]:
    """The regions in an order in which painting them gives every label back, each label that none of them holds
    added as its own; empty where no region is a union, or no order does it."""
    if not any(len(members) > 1 for members in regions.values()):
        return []
    completed = with_missing({name: set(members) for name, members in regions.items()}, labels)
    order = painting_order(completed)
    return (
        []
        if order is None
        else [Region(name=name, members=sorted(completed[name]), label=label) for name, label in order]
    )


def with_missing(regions: Mapping[str, set[int]], labels: Mapping[int, str]) -> dict[str, set[int]]:
    """The regions, and each label that none of them holds: a network would not know it otherwise."""
    held = set().union(*regions.values())
    completed = dict(regions)
    for number, name in labels.items():
        if number not in held:
            completed[name if name not in completed else f"{name} {number}"] = {number}
    return completed


def painting_order(regions: Mapping[str, set[int]]) -> list[tuple[str, int]] | None:
    """Regions in an order, each with a label, so that painting them one over the other gives every label back.

    Larger regions come first where there is a choice. None if no order does it.

    A region that is painted later wins; so a label comes back right if the last region that holds it carries it.
    Chosen from the last to the first, a region fits if it holds at most one label that no later region holds. Taking
    one that fits never spoils the chance of another, so if this finds no order, there is none.
    """
    left = dict(regions)
    open_labels = set().union(*regions.values())
    backwards = []
    while left:
        fitting = [name for name, members in left.items() if len(members & open_labels) <= 1]
        if not fitting:
            return None
        name = min(reversed(fitting), key=lambda name: len(left[name]))
        members = left.pop(name)
        backwards.append((name, min(members & open_labels or members)))
        open_labels -= members
    return backwards[::-1]


def labels_of(logits: Float[np.ndarray, " n *grid"], plan: Plan) -> UInt16[np.ndarray, "*grid"]:
    """The label map that a network's logits mean: the largest of the classes, or the regions painted in order."""
    if plan.regions:
        result = np.zeros(logits.shape[1:], np.uint16)
        for region, values in zip(plan.regions, logits, strict=True):
            result[values > 0] = region.label
        return result
    numbers = [0, *plan.labels]
    return np.array(numbers, np.uint16)[logits[numbers].argmax(0)]
