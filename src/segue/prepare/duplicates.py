"""The leakage guard: the same image, or nearly the same, in two parts of a dataset (splits, or patients).

Exact twins share a hash of shape and values. Near twins exist for pictures only: their perceptual hashes differ in few
bits, and then their thumbnails must show the same detail. The hash is of the signs of 64 coefficients of the picture's
cosine series, so neither its size nor linear brightness and contrast matter.

Measured with the settings below. BreastMNIST: 113 pairs across its official split (1 exact), with 60 of the 156 test
images in one; of all near pairs in the set, the 24 least alike were looked at and each shows the same scan, cut or
marked anew. None among 60 nuclei images, 60 electron-microscopy sections (neighbours among them), and the middle slices
of 238 hippocampi. Where pictures hold little, it errs: of 1.8 million pairs of middle slices of VesselMNIST3D (white
spots on black), 15 to 21 along each axis count as near.

Found again in BreastMNIST (28 pixels) and among the 120 larger images: JPEG of quality 90 all and all, brightened by
10 % all and all, halved and enlarged 93 % and all, moved by one pixel 14 to 32 % and all. Of spots on black, halved
ones are found in 27 %. Mirrored and turned ones are not looked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from jaxtyping import Bool, Float, Float32, Int64, Integer, Num, UInt64

from segue.prepare.quality.finding import Finding

_SMALLEST = 8
_THUMBNAIL = 32
_CHUNK_BYTES = 1_000_000
_LUMA = np.array([299.0, 587.0, 114.0])
# The 64 longest waves that turn at least three times in all: what is slower is alike in all images of a kind. Long and
# short ones are dealt out evenly to the bands, so that no band is alike in all images either.
_WAVES = sorted(
    ((y, x) for y in range(12) for x in range(12) if y + x >= 3), key=lambda wave: (wave[0] ** 2 + wave[1] ** 2, wave)
)[:64]
_BANDS = 4
_WAVES = [wave for band in range(_BANDS) for wave in _WAVES[band::_BANDS]]
_MOST_WAVES = max(max(wave) for wave in _WAVES) + 1

_MOST_BITS = 7
_SAME_DETAIL, _SAME_OF_LITTLE = 0.6, 0.95
_LITTLE = 0.1
_COMMON_FROM, _COMMON_OF = 32, 256

_MOST_PAIRS_OF_GROUP = 2_000
_MOST_OF_HASH = 64
_MOST_OF_BUCKET = 2_048
_MOST_CANDIDATES = 20_000
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Signature:
    """What an image is known by.

    Attributes:
        content: 64-bit checksum of shape and values (CRC-32 and Adler-32: chance makes 107,180 pictures collide once in
            10^8 datasets, and nobody gains by making them); the same for equal images, whatever type or packing stores
            them.
        perceptual: 64-bit perceptual hash of a picture. None in 3-D, of constant or not finite images, and below 8
            pixels.
    """

    content: int
    perceptual: int | None


@dataclass(frozen=True)
class Twins:
    """Two images (indices into the list) of different parts; ``bits`` of 64 differ between their perceptual hashes."""

    first: int
    second: int
    exact: bool
    bits: int


def signature(image: Num[np.ndarray, "c i j k"]) -> Signature:
    """Of one image; with ``k == 1`` it is a picture."""
    content = _content(image)
    if image.shape[3] != 1:
        return Signature(content, None)
    hashes, has = _perceptual(image[..., 0].transpose(2, 1, 0)[None])
    return Signature(content, int(hashes[0]) if has[0] else None)


def row_image(row: np.ndarray, color_last: bool) -> Num[np.ndarray, "c i j k"]:
    """An item of an array of images, ``(h, w)``, ``(h, w, 3)`` or ``(i, j, k)``, as the array of a volume."""
    if color_last:
        return row.transpose(2, 1, 0)[..., None]
    return row.T[None, ..., None] if row.ndim == 2 else row[None]


def signatures(
    images: np.ndarray, color_last: bool
) -> tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Content hashes, perceptual hashes, and which of these there are (the others are 0).

    The same as :func:`signature` of every :func:`row_image`; a memory-mapped array is read in chunks. 107,180 colour
    pictures of 28 x 28 take 2 s on one core.

    Args:
        images: ``(n, h, w)``, ``(n, h, w, 3)`` with ``color_last``, or ``(n, i, j, k)``.

    Raises:
        ValueError: another number of axes.
    """
    if images.ndim not in ((4,) if color_last else (3, 4)):
        raise ValueError(f"images are (n, h, w), (n, h, w, 3) or (n, i, j, k), not {images.shape}")
    content = np.zeros(len(images), np.uint64)
    perceptual = np.zeros(len(images), np.uint64)
    has = np.zeros(len(images), np.bool_)
    step = max(1, _CHUNK_BYTES // max(1, images[:1].nbytes))
    for start in range(0, len(images), step):
        chunk = np.asarray(images[start : start + step])
        here = slice(start, start + len(chunk))
        content[here] = [_content(row_image(row, color_last)) for row in chunk]
        if color_last or images.ndim == 3:
            perceptual[here], has[here] = _perceptual(chunk if color_last else chunk[..., None])
    return content, perceptual, has


def thumbnail(image: Num[np.ndarray, "c i j 1"]) -> Float32[np.ndarray, "32 32"]:
    """What :func:`find_twins` compares: the picture's grey values, averaged to 32 x 32."""
    grey = _grey(image[..., 0].transpose(2, 1, 0)[None])[0]
    down, across = (_averaging(size) for size in grey.shape)
    return (down @ grey @ across.T).astype(np.float32)


def _content(image: Num[np.ndarray, "c i j k"]) -> int:
    values = image
    if values.dtype.kind == "b":
        values = values.view(np.uint8)
    elif values.dtype != np.uint8 and values.size:
        values = _smallest(values)
    # Channels last and rows outermost is how MedMNIST's pictures lie in memory, channel by channel how volumes do: no
    # copy is made of them.
    parts = [values.T] if image.shape[3] == 1 else [channel.T for channel in values]
    head = repr((image.shape, values.dtype.kind, values.dtype.itemsize)).encode()
    high, low = isal_zlib.crc32(head), isal_zlib.adler32(head)
    for part in parts:
        voxels = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
        high, low = isal_zlib.crc32(voxels, high), isal_zlib.adler32(voxels, low)
    return high << 32 | low


def _smallest(values: np.ndarray) -> np.ndarray:
    """The values in a type that depends on nothing but them."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)) or max(-low, high) >= 2**53 or not _are_whole(values):
            with np.errstate(over="ignore"):
                single = values.astype(np.float32)
            exact = values.dtype.itemsize <= 4 or np.array_equal(single.astype(values.dtype), values, equal_nan=True)
            return (single if exact else values.astype(np.float64)) + np.float32(0)  # -0 is 0
    elif values.dtype.kind == "c":
        return values.astype(np.complex128)
    kinds = (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
    return values.astype(next(k for k in kinds if np.iinfo(k).min <= int(low) and int(high) <= np.iinfo(k).max))


def _are_whole(values: np.ndarray) -> bool:
    # Slab by slab: mostly the first one tells.
    slabs = np.moveaxis(values, int(np.argmax(values.strides)), 0)
    return all(bool((slab == np.rint(slab)).all()) for slab in slabs)


def _grey(pictures: Num[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w"]:
    if pictures.shape[3] == 3:
        # Whole numbers stay whole: one picture and a stack of them give the same to the last bit.
        return (pictures.astype(np.float64) @ _LUMA) / 1000.0
    return pictures.sum(axis=3, dtype=np.float64) if pictures.shape[3] != 1 else pictures[..., 0].astype(np.float64)


def _perceptual(pictures: Num[np.ndarray, "n h w c"]) -> tuple[UInt64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    count, height, width, _ = pictures.shape
    if min(height, width) < _SMALLEST:
        return np.zeros(count, np.uint64), np.zeros(count, np.bool_)
    grey = _grey(pictures)
    spread = np.ptp(grey, axis=(1, 2))
    has = np.isfinite(spread) & (spread > 0)
    grey[~has] = 0
    series = np.matmul(np.matmul(_cosines(height), grey), _cosines(width).T)
    down, across = np.array(_WAVES).T
    # What is zero but for rounding must not fall on either side by chance.
    bits = series[:, down, across] > 1e-9 * np.where(has, spread, 1.0)[:, None]
    bits[~has] = False
    packed = np.ascontiguousarray(np.packbits(bits, axis=1))
    return packed.view(">u8")[:, 0].astype(np.uint64), has


@functools.lru_cache(maxsize=64)
def _cosines(size: int) -> Float[np.ndarray, "waves size"]:
    return np.cos(np.pi * np.arange(_MOST_WAVES)[:, None] * (np.arange(size) + 0.5) / size) / size


@functools.lru_cache(maxsize=64)
def _averaging(size: int) -> Float[np.ndarray, "32 size"]:
    edges, pixels = np.linspace(0, size, _THUMBNAIL + 1), np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return overlap.clip(0) * (_THUMBNAIL / size)


def find_twins(
    content: UInt64[np.ndarray, " n"],
    perceptual: UInt64[np.ndarray, " n"],
    has_perceptual: Bool[np.ndarray, " n"],
    part: Integer[np.ndarray, " n"],
    thumbnails: Callable[[int], np.ndarray] | None,
    most_bits: int = _MOST_BITS,
) -> list[Twins]:
    """All exact and near twins in different parts, exact ones first, then by bits and index.

    Near ones are found by hashing four bands of 16 bits each: of two hashes that differ in ``most_bits`` bits, one band
    differs in a quarter of them at most. They count if their thumbnails, less the mean of 5 x 5 pixels round each,
    correlate above 0.6 at the best shift of at most one pixel, or above 0.95 where it fills less than a tenth of either
    (unrelated ultrasound and microscopy images reach 0.48; of candidates among spots on black, 1 % are above 0.93).
    Among 32 pictures or more, so must what is left of them without the mean of the set, above 0.6: a field of view that
    all pictures share is no evidence.
    107,180 pictures take 1 s, 10 s where their hashes are very unlike chance; looking at 20,000 pairs of thumbnails
    takes some seconds.

    Some images are in thousands of pairs (black ones). The list is complete but for: among equal images with more than
    2,000 pairs, each is paired with one of another part; of pictures with one perceptual hash 64 are compared, of those
    with one band 2,048, with each part's first ones before any part's second; of more than 20,000 near pairs the ones
    that differ in fewest bits are looked at.

    Args:
        part: a small number for the part that each image stands in, e.g. its split or its patient.
        thumbnails: the thumbnail of an index (see :func:`thumbnail`), all of one size; None takes near hashes as proof,
            which among images of one kind they are not.
        most_bits: at most 11.

    Raises:
        ValueError: ``most_bits`` outside 0 to 11, or thumbnails of several sizes.
    """
    if not 0 <= most_bits <= 11:
        raise ValueError(f"most_bits is between 0 and 11, not {most_bits}")
    part = part.astype(np.int64)
    twins = [Twins(first, second, True, 0) for first, second in _exact_pairs(content, part)]
    pairs, bits = _near_pairs(perceptual, has_perceptual, content, part, most_bits)
    if thumbnails is not None and len(pairs):
        same = _show_the_same(pairs, np.flatnonzero(has_perceptual), thumbnails)
        pairs, bits = pairs[same], bits[same]
    return twins + [Twins(a, b, False, n) for (a, b), n in zip(pairs.tolist(), bits.tolist(), strict=True)]


def _exact_pairs(content: UInt64[np.ndarray, " n"], part: Int64[np.ndarray, " n"]) -> list[tuple[int, int]]:
    order = np.argsort(content, kind="stable")
    borders = np.flatnonzero(np.diff(content[order])) + 1
    found: list[tuple[int, int]] = []
    starts, ends = np.append(0, borders), np.append(borders, len(order))
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        group = order[start:end]
        elsewhere = group[part[group] != part[group[0]]]
        if not len(elsewhere):
            continue
        if len(group) * (len(group) - 1) // 2 <= _MOST_PAIRS_OF_GROUP:
            a, b = (group[side] for side in np.triu_indices(len(group), 1))
            found += zip(a[part[a] != part[b]].tolist(), b[part[a] != part[b]].tolist(), strict=True)
        else:
            here = group[part[group] == part[group[0]]]
            met = [(int(here[0]), int(one)) for one in elsewhere] + [(int(elsewhere[0]), int(one)) for one in here[1:]]
            found += [(min(pair), max(pair)) for pair in met]
    return sorted(found)


@dataclass(frozen=True)
class _Buckets:
    """``members[starts[key]:starts[key] + counts[key]]`` have this key; ``keys`` are those that occur, ascending."""

    members: Int64[np.ndarray, " m"]
    keys: np.ndarray
    starts: Int64[np.ndarray, " keys"]
    counts: Int64[np.ndarray, " keys"]


def _buckets(key: np.ndarray, part: Int64[np.ndarray, " n"], most: int) -> _Buckets:
    """At most ``most`` members each, every part's first before any part's second."""
    if not len(key):
        none = np.zeros(0, np.int64)
        return _Buckets(none, key, none, none)
    order = np.lexsort((part, key))
    rank = _ranks((np.diff(key[order]) != 0) | (np.diff(part[order]) != 0))
    order = order[np.lexsort((rank, key[order]))]
    order = order[_ranks(np.diff(key[order]) != 0) < most]
    keys, starts, counts = np.unique(key[order], return_index=True, return_counts=True)
    return _Buckets(order, keys, starts.astype(np.int64), counts.astype(np.int64))


def _ranks(borders: Bool[np.ndarray, " m"]) -> Int64[np.ndarray, " n"]:
    """0, 1, 2 and so on in every run of a list; ``borders``: whether a new run begins after each but the last."""
    starts = np.append(0, np.flatnonzero(borders) + 1)
    return np.arange(len(borders) + 1) - np.repeat(starts, np.diff(np.append(starts, len(borders) + 1)))


def _near_pairs(
    perceptual: UInt64[np.ndarray, " n"],
    has: Bool[np.ndarray, " n"],
    content: UInt64[np.ndarray, " n"],
    part: Int64[np.ndarray, " n"],
    most_bits: int,
) -> tuple[Int64[np.ndarray, "m 2"], Int64[np.ndarray, " m"]]:
    """Pairs of indices, the smaller one first, and the bits that differ; fewest bits first, then by index."""
    usable = np.flatnonzero(has)
    usable = np.sort(usable[_buckets(perceptual[usable], part[usable], _MOST_OF_HASH).members])
    hashes, parts, contents = perceptual[usable], part[usable], content[usable]
    count = len(usable)
    if count < 2:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    found = np.zeros(0, np.int64)  # each pair as one number that sorts by bits, then by index
    fresh: list[np.ndarray] = []
    limit = most_bits
    for band in range(_BANDS):
        key = (hashes >> np.uint64(16 * band)).astype(np.uint16)
        for a, b in _meetings(_buckets(key, parts, _MOST_OF_BUCKET), most_bits // _BANDS):
            bits = np.bitwise_count(hashes[a] ^ hashes[b]).astype(np.int64)
            near = np.flatnonzero(bits <= limit)
            a, b = (np.broadcast_to(side, bits.shape).ravel()[near] for side in (a, b))
            good = (parts[a] != parts[b]) & (contents[a] != contents[b])
            a, b, near = a[good], b[good], near[good]
            fresh.append((bits.ravel()[near] * count + np.minimum(a, b)) * count + np.maximum(a, b))
            if sum(map(len, fresh)) > 4 * _MOST_CANDIDATES:
                found, fresh = np.unique(np.concatenate([found, *fresh]))[:_MOST_CANDIDATES], []
                if len(found) == _MOST_CANDIDATES:
                    # Enough: from now on only what is nearer than the farthest kept.
                    limit = min(limit, int(found[-1]) // count**2 - 1)
    found = np.unique(np.concatenate([found, *fresh]))[:_MOST_CANDIDATES]
    rest, second = np.divmod(found, max(1, count))
    bits, first = np.divmod(rest, max(1, count))
    return np.stack([usable[first], usable[second]], axis=1), bits


def _meetings(buckets: _Buckets, radius: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Members to compare, of one bucket or of two whose keys differ in up to ``radius`` bits.

    As two lists, or, of large buckets, as a column and a row.
    """
    masks = [mask for mask in range(1 << 16) if mask.bit_count() <= radius]
    for mask in masks:
        other = np.searchsorted(buckets.keys, buckets.keys ^ np.uint16(mask)).clip(max=max(0, len(buckets.keys) - 1))
        one = np.flatnonzero(buckets.keys[other] == buckets.keys ^ np.uint16(mask))
        one = one[one <= other[one]]
        first, second = one, other[one]
        counts = buckets.counts[first] * buckets.counts[second]
        # Far fewer Python steps for small buckets, far less memory traffic for large ones.
        for n in np.flatnonzero(counts > 4096):
            column, row = (
                buckets.members[buckets.starts[side[n]] : buckets.starts[side[n]] + buckets.counts[side[n]]]
                for side in (first, second)
            )
            step = max(1, _PAIRS_AT_ONCE // len(row))
            for start in range(0, len(column), step):
                yield column[start : start + step, None], row[None]
        small = np.flatnonzero((counts <= 4096) & ((first != second) | (counts > 1)))
        total = np.cumsum(counts[small])
        at = 0
        while at < len(small):
            end = int(np.searchsorted(total, total[at] + _PAIRS_AT_ONCE, side="right"))
            block = small[at:end]
            step_of = np.repeat(np.arange(len(block)), counts[block])
            place = _ranks(np.diff(step_of) != 0)
            width = buckets.counts[second[block]][step_of]
            a = buckets.starts[first[block]][step_of] + place // width
            b = buckets.starts[second[block]][step_of] + place % width
            keep = a < b if mask == 0 else np.ones(len(a), np.bool_)
            yield buckets.members[a[keep]], buckets.members[b[keep]]
            at = end


def _show_the_same(
    pairs: Int64[np.ndarray, "m 2"], pictures: Int64[np.ndarray, " n"], thumbnails: Callable[[int], np.ndarray]
) -> Bool[np.ndarray, " m"]:
    sizes: set[tuple[int, ...]] = set()

    @functools.lru_cache(maxsize=4096)
    def detail(index: int) -> Float32[np.ndarray, "h w"]:
        picture = np.asarray(thumbnails(index), np.float32)
        sizes.add(picture.shape)
        if len(sizes) > 1:
            raise ValueError(f"thumbnails are of one size, not {' and '.join(map(str, sorted(sizes)))}")
        return picture - _smooth(picture)

    common: np.ndarray | None = None
    if len(pictures) >= _COMMON_FROM:
        chosen = pictures[np.linspace(0, len(pictures) - 1, min(len(pictures), _COMMON_OF)).astype(int)]
        common = np.stack([_unit(detail(int(index))) for index in chosen]).mean(axis=0)
    same = np.zeros(len(pairs), np.bool_)
    # In the order of the first of each pair, so that the thumbnails kept are those needed next.
    for number in np.lexsort((pairs[:, 1], pairs[:, 0])):
        one, other = (detail(int(index)) for index in pairs[number])
        needed = _SAME_OF_LITTLE if min(_filled(one), _filled(other)) < _LITTLE else _SAME_DETAIL
        same[number] = _likeness(one, other) >= needed
        if same[number] and common is not None:
            same[number] = _likeness(_unit(one) - common, _unit(other) - common) >= _SAME_DETAIL
    return same


def _smooth(picture: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The mean of 5 x 5 pixels round each."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, 2, mode="edge"), (5, 5))
    return windows.mean(axis=(2, 3), dtype=np.float32)


def _filled(detail: Float32[np.ndarray, "h w"]) -> float:
    """The share of the pixels that the detail is spread over (the participation ratio of its energy)."""
    energy = np.square(detail.astype(np.float64))
    quartic = float(np.square(energy).sum())
    return float(energy.sum() ** 2 / quartic / energy.size) if quartic > 0 else 0.0


def _unit(detail: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    spread = detail.std()
    return detail / spread if spread > 0 else detail


def _likeness(one: Float32[np.ndarray, "h w"], other: Float32[np.ndarray, "h w"]) -> float:
    """Normalised cross-correlation at the best shift of at most one pixel; 0 where there is nothing to correlate."""
    inner = one[1:-1, 1:-1]
    moved = np.lib.stride_tricks.sliding_window_view(other, inner.shape).reshape(9, -1)
    moved = moved - moved.mean(axis=1, keepdims=True)
    inner = (inner - inner.mean()).ravel()
    spread = np.sqrt(np.einsum("sp,sp->s", moved, moved) * (inner @ inner))
    return float(np.divide(moved @ inner, spread, out=np.zeros_like(spread), where=spread > 0).max())


_MOST_NAMED = 20


def twin_findings(names: Sequence[str], parts: Sequence[str], twins: Sequence[Twins]) -> list[Finding]:
    """Warnings that name both cases and their parts: 20 of exact twins, 20 of near ones, and how many more there are.

    Args:
        names, parts: of every image, by the index that the twins carry.
    """
    remedy = "keep both in one part, or leave one out"
    findings = []
    for exact in (True, False):
        of_kind = [pair for pair in twins if pair.exact == exact]
        what = "the same image" if exact else "nearly the same image"
        for pair in of_kind[:_MOST_NAMED]:
            where = f"stands in {parts[pair.first]}, and as {names[pair.second]} in {parts[pair.second]}"
            value = None if exact else f"{pair.bits} of 64 bits of their perceptual hashes differ"
            findings.append(
                Finding(
                    case=names[pair.first],
                    severity="warning",
                    what=f"{what} {where}",
                    value=value,
                    remedy=remedy,
                    kind=f"{what} stands in two parts",
                )
            )
        left = of_kind[_MOST_NAMED:]
        if left:
            findings.append(
                Finding(
                    case=names[left[0].first],
                    severity="warning",
                    what=f"{what} stands in two parts, here and in other cases",
                    value=f"{len(left)} more pairs",
                    remedy=remedy,
                    kind=f"{what} stands in two parts",
                    size=-1.0,
                )
            )
    return findings
