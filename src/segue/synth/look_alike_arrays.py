"""Look-alikes of datasets in one ``.npz``: MedMNIST's and MedSegBench's keys, shapes and types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from segue.catalogue import Card
from segue.catalogue.card import NpzLayout
from segue.core.files import atomic_path
from segue.core.seeds import generator
from segue.synth.look_alike_files import inside
from segue.synth.phantom import coloured, phantom
from segue.volume import Geometry

# Drawn on at least and at most this many pixels a side, then enlarged: large images stay quick to make.
_LEAST, _MOST = 24, 64
_INSTANCES = 5
# Sets of MedSegBench with further arrays, one pair per part of the set: "train_images_C1", "train_label_C1".
_PARTS = {
    "brifiseg": 5,
    "busi": 2,
    "covid19radio": 4,
    "idrib": 4,
    "polypgen": 6,
    "uwaterlooskincancer": 2,
    "wbc": 4,
}
_SHARED_IMAGES = ("idrib",)


def npz(card: Card, folder: Path, number: int, seed: int) -> Path:
    """One compressed file with images and classes or masks of three parts; every class is in each part."""
    assert isinstance(card.layout, NpzLayout), "chosen by its type"
    named = next((file.name for file in card.files if file.size == card.size), None) if card.size else None
    path = inside(folder, named or card.layout.file)
    exclusive = card.task == "classification" and card.classes != "multi-label"
    count = max(number, len(card.labels)) if exclusive else number
    arrays: dict[str, np.ndarray] = {}
    stem = card.layout.file.removesuffix(".npz").partition("_")[0]
    for split in ("train", "val", "test"):
        shown = _shown(card, count, generator(seed, card.name, split, "shown"))
        images, masks = _images(card, shown, generator(seed, card.name, split))
        arrays[f"{split}_images"] = images
        if card.task == "classification":
            arrays[f"{split}_labels"] = _classes(card, shown)
        elif card.task == "segmentation":
            arrays[f"{split}_label"] = masks
            for part in range(1, _PARTS.get(stem, 0) + 1):
                if stem not in _SHARED_IMAGES:
                    arrays[f"{split}_images_C{part}"] = images[:1]
                arrays[f"{split}_label_C{part}"] = masks[:1]
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    return path


def _shown(card: Card, count: int, random: np.random.Generator) -> list[tuple[int, ...]]:
    """Which labels are to be seen in each image: one class, some of several, or all that is masked."""
    known = list(card.labels)
    if card.task != "classification":
        return [tuple(known)] * count
    if card.classes == "multi-label":
        lots = random.random((count, len(known))) < 0.2
        columns = np.arange(len(known))
        lots[(columns + 1) % count, columns] = False  # each of them is absent somewhere too
        lots[columns % count, columns] = True
        return [tuple(label for label, there in zip(known, row, strict=True) if there) for row in lots]
    order = random.permutation(count)
    return [(known[place % len(known)],) for place in order]


def _classes(card: Card, shown: list[tuple[int, ...]]) -> UInt8[np.ndarray, "n columns"]:
    if card.classes == "multi-label":
        return np.array([[label in labels for label in card.labels] for labels in shown], dtype=np.uint8)
    return np.array(shown, dtype=np.uint8)


def _images(
    card: Card, shown: list[tuple[int, ...]], random: np.random.Generator
) -> tuple[UInt8[np.ndarray, "n ..."], UInt8[np.ndarray, "n ..."]]:
    """Images ``(n, size, size[, size or 3])`` and the label map of each."""
    size = card.size or 28
    times = next((f for f in range(1, size) if size % f == 0 and _LEAST <= size // f <= _MOST), 1)
    side = size // times
    grid = Geometry((side, side, side if card.dimension == 3 else 1), np.eye(4))
    instances = isinstance(card.layout, NpzLayout) and card.layout.nonzero_is_foreground
    known = list(range(1, _INSTANCES + 1)) if instances else list(card.labels)
    # Class 0 is a class like any other, with a place and a grey value of its own: numbers shift by one here.
    numbered = [label + 1 for label in known]
    images, masks = [], []
    for labels in shown:
        there = numbered if instances else [label + 1 for label in labels]
        numbers, body = phantom(grid, numbered, there, random).painted(grid)
        every = range(len(card.channels))
        images.append(np.stack([coloured(numbers, body, numbered, "arbitrary", n, random) for n in every], axis=-1))
        masks.append(np.maximum(numbers.astype(int) - 1, 0))
    pixels, truth = np.stack(images), np.stack(masks)
    if card.dimension == 2:
        pixels, truth = pixels[:, :, :, 0], truth[:, :, :, 0]
    if len(card.channels) == 1:
        pixels = pixels[..., 0]
    return _enlarged(pixels, times, card.dimension), _enlarged(truth, times, card.dimension)


def _enlarged(stack: np.ndarray, times: int, axes: int) -> UInt8[np.ndarray, "n ..."]:
    for axis in range(1, axes + 1):
        stack = np.repeat(stack, times, axis=axis) if times > 1 else stack
    return stack.astype(np.uint8)
