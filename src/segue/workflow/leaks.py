"""Images that stand in two parts of a dataset: looked for once, and kept by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segue.catalogue import Card, Case, Dataset, Row
from segue.core.console import say
from segue.core.files import atomic_path, content_key
from segue.images import digest_of, map_array
from segue.prepare import (
    Examination,
    Finding,
    find_twins,
    in_axes,
    read_channels,
    signatures,
    thumbnail,
    twin_findings,
)

# Reading larger arrays through takes minutes: segue check does that, a training does not.
_QUICK_BYTES = 2_000_000_000
_SIGNATURES = 2  # version of what is kept


def parts_of(dataset: Dataset, cases: Sequence[Case]) -> list[str]:
    """Between which parts an image must not stand twice, for each case: the dataset's own splits, else the patients
    that folds are drawn from."""
    own = dataset.has_own_split
    return [case.split if own else f"{case.split}, patient {case.patient}" for case in cases]


def twins_in_arrays(dataset: Dataset, cases: Sequence[Case], arrays: Path, thorough: bool) -> list[Finding] | None:
    """Findings on the items of 8-bit arrays; None where the images are no such items.

    Args:
        arrays: where arrays are unpacked.
        thorough: whether arrays of any size are read through; if not, those beyond 2 GB are left, and that is said.
    """
    rows = [case.images[0] for case in cases if len(case.images) == 1]
    sources = sorted({(row.path, row.key) for row in rows if isinstance(row, Row)})
    if not sources or len(rows) != len(cases) or not all(isinstance(row, Row) for row in rows):
        return None
    mapped = {source: map_array(*source, arrays) for source in sources}
    if any(array.dtype != np.uint8 for array in mapped.values()):
        return None
    if not thorough and sum(array.nbytes for array in mapped.values()) > _QUICK_BYTES:
        say(f"not looked for images that stand in two parts (the arrays are large): segue check {dataset.card.name}")
        return []
    known = {source: _signatures(mapped[source], source, arrays, dataset.card) for source in sources}
    items = [row for row in rows if isinstance(row, Row)]
    content, perceptual, has = (
        np.array([known[row.path, row.key][column][row.index] for row in items]) for column in range(3)
    )

    def small(index: int) -> np.ndarray:
        row = items[index]
        return thumbnail(in_axes(mapped[row.path, row.key][row.index], dataset.card.dimension))

    return _findings(dataset, cases, content, perceptual, has, small)


def _signatures(
    array: np.ndarray, source: tuple[Path, str], folder: Path, card: Card
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path, key = source
    kept = folder / content_key(digest_of(path), key, _SIGNATURES) / "signatures.npz"
    if not kept.exists():
        colours = card.dimension == 2 and array.ndim == 4
        content, perceptual, has = signatures(array, colours)
        with atomic_path(kept) as temporary, temporary.open("wb") as handle:
            np.savez(handle, content=content, perceptual=perceptual, has=has, allow_pickle=False)
    with np.load(kept, allow_pickle=False) as content_of:
        return content_of["content"], content_of["perceptual"], content_of["has"]


def twins_in_files(dataset: Dataset, cases: Sequence[Case], examinations: Sequence[Examination]) -> list[Finding]:
    """Findings on images that lie in files, by what was measured when they were looked at."""
    by_id = {case.id: case for case in cases}
    known = [e for e in examinations if e.content is not None and e.case in by_id]
    if len(known) < 2:
        return []
    chosen = [by_id[e.case] for e in known]
    content = np.array([e.content for e in known], dtype=np.uint64)
    perceptual = np.array([e.perceptual or 0 for e in known], dtype=np.uint64)
    has = np.array([e.perceptual is not None for e in known])

    def small(index: int) -> np.ndarray:
        return thumbnail(read_channels(chosen[index], dataset.card).array)

    return _findings(dataset, chosen, content, perceptual, has, small)


def _findings(
    dataset: Dataset,
    cases: Sequence[Case],
    content: np.ndarray,
    perceptual: np.ndarray,
    has: np.ndarray,
    small: Callable[[int], np.ndarray],
) -> list[Finding]:
    parts = parts_of(dataset, cases)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(parts))}
    twins = find_twins(content, perceptual, has, np.array([numbers[part] for part in parts]), small)
    return twin_findings([case.id for case in cases], parts, twins)
