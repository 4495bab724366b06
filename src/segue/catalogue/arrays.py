"""Datasets in one ``.npz``: an item of each array is a case."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.catalogue.card import Card, NpzLayout
from segue.catalogue.dataset import Case, Recoded, Row, Subset
from segue.core.errors import DataError
from segue.images import array_headers, read_array

_SUBSETS: tuple[Subset, ...] = ("train", "val", "test")


def cases(path: Path, card: Card) -> list[Case]:
    """The cases of an ``.npz``; the class arrays are read, of images and masks only the headers.

    Raises:
        DataError: not an ``.npz``, an array is missing or has another length, or a class that the card does not name.
    """
    headers = array_headers(path)
    found: list[Case] = []
    for split in _SUBSETS:
        images = f"{split}_images"
        if images not in headers:
            continue
        count = headers[images].shape[0]
        answers = f"{split}_label" + ("s" if card.task == "classification" else "")
        if card.task != "unlabelled":
            _same_length(path, answers, headers[answers].shape if answers in headers else None, count)
        targets = _targets(path, answers, card) if card.task == "classification" else None
        for number in range(count):
            name = f"{split}_{number:06d}"
            found.append(
                Case(
                    name,
                    name,
                    (Row(path, images, number),),
                    _mask(path, answers, number, card) if card.task == "segmentation" else None,
                    split,
                    None if targets is None else targets[number],
                )
            )
    if not found:
        raise DataError(
            "this file does not hold the arrays of the card's layout",
            where=path,
            value=f"it holds {', '.join(list(headers)[:6]) or 'nothing'}",
            remedy="train_images, val_images and test_images are expected",
        )
    return found


def _mask(path: Path, key: str, number: int, card: Card) -> Row | Recoded:
    row = Row(path, key, number)
    instances = isinstance(card.layout, NpzLayout) and card.layout.nonzero_is_foreground
    return Recoded(row, nonzero=True) if instances else row


def _same_length(path: Path, key: str, shape: tuple[int, ...] | None, count: int) -> None:
    if shape is None:
        raise DataError(f"the array {key} is missing", where=path, remedy="fetch this file again")
    if not shape or shape[0] != count:
        raise DataError(
            f"the array {key} does not fit its images", where=path, value=f"{shape[0] if shape else 0} for {count}"
        )


def _targets(path: Path, key: str, card: Card) -> list[int] | list[tuple[int, ...]]:
    values = read_array(path, key)
    values = (
        values[:, None] if values.ndim == 1 else values
    )  # some copies have (n,) where the official ones have (n, 1)
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise DataError(
            "classes are whole numbers, one row per image",
            where=f"{path}:{key}",
            value=f"{values.dtype}, shape {values.shape}",
        )
    if card.classes == "multi-label":
        if values.shape[1] != len(card.labels) or values.min(initial=0) < 0 or values.max(initial=0) > 1:
            raise DataError(
                f"{len(card.labels)} columns of 0 and 1 are expected",
                where=f"{path}:{key}",
                value=f"{values.shape[1]} columns, values from {values.min()} to {values.max()}",
            )
        return [tuple(row) for row in values.tolist()]
    unknown = sorted(set(np.unique(values).tolist()) - set(card.labels))
    if values.shape[1] != 1 or unknown:
        raise DataError(
            "there are classes that the card does not name",
            where=f"{path}:{key}",
            value=f"{unknown[:5]} beside {min(card.labels)} to {max(card.labels)}" if unknown else "several columns",
            remedy="mend 'labels' in the card",
        )
    return values[:, 0].tolist()
