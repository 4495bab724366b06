"""The leakage guard: exact and near duplicates in different parts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage

from segue.images import read
from segue.prepare.duplicates import (
    Twins,
    find_twins,
    row_image,
    signature,
    signatures,
    thumbnail,
    twin_findings,
)


def textures(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """``(n, h, w)`` of smooth noise, uint8: no two alike."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((count, size, size)), (0, 2, 2))
    return np.clip(100 + 35 * noise / noise.std(), 0, 230).astype(np.uint8)


def twins_of(images: list[np.ndarray], part: list[int] | np.ndarray) -> list[Twins]:
    found = [signature(image) for image in images]
    return find_twins(
        np.array([one.content for one in found], np.uint64),
        np.array([one.perceptual or 0 for one in found], np.uint64),
        np.array([one.perceptual is not None for one in found]),
        np.asarray(part),
        lambda index: thumbnail(images[index]),
    )


def pictures(rows: np.ndarray) -> list[np.ndarray]:
    return [row_image(row, False) for row in rows]


def jpeg(row: np.ndarray) -> np.ndarray:
    packed = io.BytesIO()
    Image.fromarray(row).save(packed, "JPEG", quality=90)
    return np.asarray(Image.open(packed))


def brighter(row: np.ndarray) -> np.ndarray:
    return (row * 1.1).clip(0, 255).round().astype(np.uint8)


def half(row: np.ndarray) -> np.ndarray:
    height, width = row.shape
    return np.asarray(Image.fromarray(row).resize((width // 2, height // 2)))


@pytest.mark.parametrize("shape", [(7, 28, 21), (3, 9, 8), (3, 7, 30)])
def test_a_picture_and_its_row_have_one_signature(shape: tuple[int, ...]) -> None:
    grey = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    grey[0] = 9
    for rows, last in ((grey, False), (np.stack([grey, grey[:, ::-1], grey // 2], axis=3), True)):
        content, perceptual, has = signatures(rows, last)
        single = [signature(row_image(row, last)) for row in rows]
        assert [one.content for one in single] == content.tolist()
        assert [one.perceptual for one in single] == [
            int(p) if h else None for p, h in zip(perceptual, has, strict=True)
        ]
        assert has.tolist() == [False] + [min(shape[1:]) >= 8] * (len(rows) - 1)


def test_a_row_lies_as_a_picture_file_does(tmp_path: Path) -> None:
    for row in (textures(1, 20)[0, :15], np.stack([*textures(3, 20)[:, :15]], axis=2)):
        Image.fromarray(row).save(tmp_path / "one.png")
        assert np.array_equal(read(tmp_path / "one.png").array, row_image(row, row.ndim == 3))


def test_volumes_have_a_content_hash_only() -> None:
    volumes = np.random.default_rng(2).integers(0, 9, (4, 10, 11, 12), dtype=np.uint8)
    content, _, has = signatures(volumes, False)
    assert not has.any() and len(set(content.tolist())) == 4
    assert [signature(row_image(one, False)).content for one in volumes] == content.tolist()


def test_content_is_of_values_and_shape_not_of_their_packing() -> None:
    image = np.random.default_rng(3).integers(0, 200, (1, 6, 5, 4), dtype=np.uint8)
    same = [image.astype(kind) for kind in (">i2", np.uint32, np.int64, np.float32, np.float64)]
    same += [np.asfortranarray(image), image[:, ::-1][:, ::-1]]
    assert len({signature(one).content for one in [image, *same]}) == 1
    changed = image.copy()
    changed[0, 0, 0, 0] += 1
    other = [image.reshape(1, 5, 6, 4), changed, image - 0.5, image + 1e-9, -image.astype(np.int16)]
    assert len({signature(one).content for one in [image, *other]}) == 6
    assert signature(image - 0.5).content == signature((image - 0.5).astype(np.float32)).content


def test_a_memory_mapped_array_is_read_in_chunks(tmp_path: Path) -> None:
    rows = np.random.default_rng(4).integers(0, 256, (3000, 28, 28), dtype=np.uint8)
    np.save(tmp_path / "rows.npy", rows)
    mapped = signatures(np.load(tmp_path / "rows.npy", mmap_mode="r"), False)
    assert all(np.array_equal(one, other) for one, other in zip(mapped, signatures(rows, False), strict=True))


def test_constant_small_and_not_finite_pictures_have_no_perceptual_hash() -> None:
    wrong = np.full((1, 20, 20, 1), np.nan, np.float32)
    for image in (np.full((1, 20, 20, 1), 7, np.uint8), textures(1, 7)[:, :, :, None], wrong):
        assert signature(image).perceptual is None
    black = [np.zeros((1, 20, 20, 1), np.uint8)] * 3
    assert [(one.first, one.second, one.exact) for one in twins_of(black, [0, 0, 1])] == [(0, 2, True), (1, 2, True)]


@pytest.mark.parametrize("change", [jpeg, brighter, half])
def test_near_twins_are_found_and_nothing_else(change: object) -> None:
    rows = textures(40)
    changed = [row_image(change(row), False) for row in rows]  # type: ignore[operator]
    found = twins_of(pictures(rows) + changed, np.repeat([0, 1], 40))
    assert {(one.first, one.second) for one in found} == {(n, n + 40) for n in range(40)}
    assert not any(one.exact for one in found)


def test_twins_in_one_part_are_no_leak() -> None:
    rows = textures(6)
    images = pictures(rows) + [row_image(brighter(row), False) for row in rows] + pictures(rows)
    assert twins_of(images, [5] * 18) == []
    assert twins_of(pictures(textures(300, 28)), np.arange(300)) == []


def test_a_field_of_view_that_all_share_is_no_evidence() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(y, x) < 29
    eyes = [row_image(np.where(inside, 90 + row // 4, 0).astype(np.uint8), False) for row in textures(80)]
    assert twins_of(eyes, np.arange(80)) == []


def test_small_shapes_on_black_are_no_evidence() -> None:
    y, x = np.mgrid[:28, :28]
    random = np.random.default_rng(5)
    blobs = [np.hypot(y - 14, (x - 14) * random.uniform(0.6, 1.6)) < random.uniform(1.5, 4.5) for _ in range(60)]
    found = twins_of([row_image(255 * blob.astype(np.uint8), False) for blob in blobs], np.arange(60))
    assert sum(not one.exact for one in found) <= 0.02 * 60 * 59 / 2


@settings(max_examples=60, deadline=None)
@given(
    hashes=arrays.arrays(np.uint64, st.integers(0, 14), elements=st.sampled_from([0, 2**63, 2**64 - 1])),
    data=st.data(),
    most_bits=st.integers(0, 11),
)
def test_it_finds_what_comparing_all_finds(hashes: np.ndarray, data: st.DataObject, most_bits: int) -> None:
    count = len(hashes)
    flips = st.lists(st.integers(0, 63), max_size=9)
    for index in range(count):
        for bit in data.draw(flips):
            hashes[index] ^= np.uint64(1 << bit)
    small = st.integers(0, 2)
    part, content = (np.array(data.draw(st.lists(small, min_size=count, max_size=count)), int) for _ in range(2))
    has = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    expected = set()
    for a in range(count):
        for b in range(a + 1, count):
            bits = int(hashes[a] ^ hashes[b]).bit_count()
            if part[a] != part[b] and content[a] == content[b]:
                expected.add(Twins(a, b, True, 0))
            elif part[a] != part[b] and has[a] and has[b] and bits <= most_bits:
                expected.add(Twins(a, b, False, bits))
    found = find_twins(content.astype(np.uint64), hashes, has, part, None, most_bits)
    assert len(found) == len(set(found)) and set(found) == expected


def test_it_finds_what_comparing_all_finds_among_thousands() -> None:
    random = np.random.default_rng(6)
    hashes = random.integers(0, 2**64, 1500, dtype=np.uint64) & np.uint64(0xFF000F00F0000FF)
    part, index = np.arange(1500) % 3, np.arange(1500)
    found = find_twins(index.astype(np.uint64), hashes, np.ones(1500, bool), part, None, 5)
    bits = np.bitwise_count(hashes[:, None] ^ hashes)
    a, b = np.nonzero((bits <= 5) & (part[:, None] != part) & (index[:, None] < index))
    assert len(a) > 1000
    assert {(one.first, one.second) for one in found} == set(zip(a.tolist(), b.tolist(), strict=True))


def test_thousands_of_equal_images_do_not_explode() -> None:
    part = np.arange(9000) // 3000
    same, own = np.zeros(9000, np.uint64), np.arange(9000, dtype=np.uint64)
    exact = find_twins(same, same, np.zeros(9000, bool), part, None)
    assert len(exact) < 9000
    assert {n for one in exact for n in (one.first, one.second)} == set(range(9000))
    assert all(part[one.first] != part[one.second] and one.first < one.second for one in exact)
    near = find_twins(own, same, np.ones(9000, bool), part, None)
    assert 0 < len(near) <= 64 * 63 / 2
    assert {part[one.second] for one in near} == {1, 2}


def test_wrong_settings() -> None:
    none = np.zeros(0, np.uint64)
    with pytest.raises(ValueError, match="between 0 and 11"):
        find_twins(none, none, none.astype(bool), none.astype(int), None, 12)
    with pytest.raises(ValueError, match="not \\(5, 28\\)"):
        signatures(np.zeros((5, 28), np.uint8), False)
    same = np.zeros(2, np.uint64)
    with pytest.raises(ValueError, match="one size"):
        shapes = [np.zeros((16, 16)), np.zeros((16, 17))]
        find_twins(np.arange(2, dtype=np.uint64), same, same == 0, np.arange(2), lambda index: shapes[index])


def test_findings_name_both_and_count_the_rest() -> None:
    names, parts = [f"case_{n}" for n in range(60)], ["train"] * 30 + ["test"] * 30
    twins = [Twins(n, n + 30, True, 0) for n in range(25)] + [Twins(29, 59, False, 3)]
    findings = twin_findings(names, parts, twins)
    assert len(findings) == 22 and {one.severity for one in findings} == {"warning"}
    assert str(findings[0]).startswith("case_0: the same image stands in train, and as case_30 in test")
    assert findings[20].value == "5 more pairs"
    assert findings[21].value is not None and "3 of 64 bits" in findings[21].value
    assert all(one.remedy for one in findings) and twin_findings(names, parts, []) == []


def test_breast_ultrasound_has_many_near_duplicates(test_data: Path) -> None:
    """Looked at: the pairs with least in common show the same lesion in the same scan, cropped or marked anew."""
    path = test_data / "medmnist" / "breastmnist.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with np.load(path) as file:
        images = [file[f"{part}_images"] for part in ("train", "val", "test")]
    rows = np.concatenate(images)
    part = np.repeat([0, 1, 2], [len(one) for one in images])
    found = find_twins(*signatures(rows, False), part, lambda index: thumbnail(row_image(rows[index], False)))
    assert sum(one.exact for one in found) == 1
    assert 100 < len(found) < 130


@pytest.mark.parametrize("pattern", ["dsb2018-nuclei/stage1_train/*/images/*.png", "isbi-em/test/*.png"])
def test_no_false_alarm_among_real_pictures(test_data: Path, pattern: str) -> None:
    """Different fields of view, and neighbouring sections of one block, which look alike."""
    paths = sorted(test_data.glob(pattern))
    if not paths:
        pytest.skip(f"{test_data / pattern} is not there")
    assert twins_of([read(path).array for path in paths], np.arange(len(paths))) == []
