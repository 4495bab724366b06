"""Ways to read the names of a folder's files: what in them names the case, and which files belong to one case."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from segue.catalogue.recognise.names import ImageFile, is_modality, runs, tokens, without_words

# While names are taken apart, private-use characters stand for the fields: no file name holds them.
_FIRST_FIELD = 0xE000
FREE_FOLDER, FREE_NAME, LABEL, CHANNEL, INSTANCE = "\ue010", "\ue011", "\ue012", "\ue013", "\ue014"
_SEPARATORS = frozenset("_-. /")
_MOST_FIELDS = 3

Key = tuple[str, ...]
Template = str


def placeholder(number: int) -> str:
    """The character that stands for the value at this place of a key."""
    return chr(_FIRST_FIELD + number)


def is_free(text: str) -> bool:
    """Whether no field stands in this piece of a template."""
    return not any(0xE000 <= ord(character) <= 0xE0FF for character in text)


@dataclass
class Reading:
    """Files by case.

    Attributes:
        masks, images: per case the files, by their path with placeholders instead of the case's values.
        left: files that belong to no case.
        needs_masks: this reading is right only if some of the files turn out to be masks.
    """

    soft: bool = False
    masks: dict[Key, dict[Template, ImageFile]] = field(default_factory=dict)
    images: dict[Key, dict[Template, ImageFile]] = field(default_factory=dict)
    left: list[ImageFile] = field(default_factory=list)
    needs_masks: bool = False

    @property
    def paired(self) -> list[Key]:
        return [key for key in self.masks if key in self.images]


def best_reading(masks: Sequence[ImageFile], images: Sequence[ImageFile]) -> Reading | None:
    """The reading in which most cases have a mask and an image; None where fewer than half of the masks find one."""
    found = []
    for keys, soft in _ways(masks, images):
        reading = _assigned(keys, soft, masks, images)
        taken = sum(len(reading.masks[key]) for key in reading.paired)
        if 2 * taken >= len(masks):
            found.append(reading)
        if len(reading.paired) == len(masks):
            break  # every mask is a case: no other way finds more
    return max(found, key=lambda reading: len(reading.paired)) if found else None


def _ways(masks: Sequence[ImageFile], images: Sequence[ImageFile]) -> Iterable[tuple[set[Key], bool]]:
    yield _keys_of_folders(masks), False
    yield _keys_of_names(masks, images, soft=False), False
    yield _keys_of_folders(images), False
    yield _keys_of_names(images, masks, soft=False), False
    yield _keys_of_names(masks, images, soft=True), True


def readings_of_images(images: Sequence[ImageFile]) -> Iterable[Reading]:
    """Ways to read images without masks, those that find several files per case first; the last one always fits."""
    columns = _columns(images)
    outermost = {key[:1] for key in columns.values() if len(key) > 1}
    for keys in (_keys_of_folders(images), _keys_of_ends(images), _keys_of_twins(images), outermost):
        reading = _assigned(keys, False, [], images)
        if keys and any(len(files) > 1 for files in reading.images.values()):
            # Folders within a case may be visits: only a mask beside them says that they are not.
            reading.needs_masks = keys is outermost
            yield reading
    if keys := _keys_of_folders(images):
        yield _assigned(keys, False, [], images)
    able = [image for image in images if image in columns] or list(images)
    stems = [image.stem for image in able]
    for names in (without_common_end(stems), stems):
        named = [(*columns.get(image, ()), name) for image, name in zip(able, names, strict=True)]
        keys = _simplified(named) or set(named)
        reading = _assigned(keys, False, [], able)
        if len(keys) == len(able) == len(reading.images):
            break
    reading.left += sorted(set(images) - set(able), key=lambda image: image.path)
    yield reading


def _keys_of_folders(files: Sequence[ImageFile]) -> set[Key]:
    """Cases named by folders, where the files in them bear the same names in every case; else none."""
    columns = _columns(files)
    if not columns or not next(iter(columns.values())):
        return _key_of_one_folder(files)
    keys = set(columns.values())
    cases: dict[str, set[Key]] = {}
    for file, key in columns.items():
        cases.setdefault(with_fields(file, key).rpartition("/")[2], set()).add(key)
    roles = {name for name, where in cases.items() if len(where) >= max(2, 0.3 * len(keys))}
    covered = sum(with_fields(file, key).rpartition("/")[2] in roles for file, key in columns.items())
    return keys if covered >= 0.6 * len(files) else set()


def _key_of_one_folder(files: Sequence[ImageFile]) -> set[Key]:
    """A single case: the innermost folder that is no mere 'masks', where the file's own name says nothing."""
    folders = {file.folders for file in files}
    if len(folders) != 1 or any(without_words(file.stem) and not is_modality(file.stem) for file in files):
        return set()
    return {(name,) for name in [n for n in folders.pop() if without_words(n)][-1:]}


def _columns(files: Sequence[ImageFile]) -> dict[ImageFile, Key]:
    """Per file the names of the folders that differ from case to case (of files at the most frequent depth)."""
    if not files:
        return {}
    depth = Counter(len(file.folders) for file in files).most_common(1)[0][0]
    same = [file for file in files if len(file.folders) == depth]
    keys: list[Key] = [()] * len(same)
    for place in range(depth):
        names = [file.folders[place] for file in same]
        left = [_substituted(name, key, soft=False) for name, key in zip(names, keys, strict=True)]
        different = set(left)
        if len(different) == 1 or all(not without_words(name) or is_modality(name, whole=True) for name in different):
            continue
        number = len(keys[0]) - 1
        if number >= 0 and all(len(name) > 2 and name[0] == placeholder(number) and name[1] in "_-." for name in left):
            names = [name[2:] for name in left]  # p1/p1_v1: what the outer folder said already need not be repeated
        keys = [(*key, name) for key, name in zip(keys, without_common_end(names), strict=True)]
    return dict(zip(same, keys, strict=True)) if len(keys[0]) <= _MOST_FIELDS else {}


def _keys_of_names(some: Sequence[ImageFile], others: Sequence[ImageFile], soft: bool) -> set[Key]:
    """Cases named by the part of a mask's name that an image bears as well, or the other way round.

    Of all stretches of a name the one is taken that the fewest others bear, of these the longest. What more than half
    of the files in a folder bear is no name of a case.
    """
    in_others = Counter(run for other in others for run in {r for part in other.parts for r in runs(part, soft)})
    bearing = Counter((file.folders, run) for file in some for run in runs(file.stem, soft))
    in_folder = Counter(file.folders for file in some)
    found: dict[ImageFile, str] = {}
    for file in some:
        most = max(1, in_folder[file.folders] // 2)
        able = [
            run
            for run in runs(file.stem, soft)
            if in_others[run] and bearing[file.folders, run] <= most
            if without_words(run)
        ]
        if able:
            found[file] = min(able, key=lambda run: (in_others[run], -len(run), run))
    if all(is_modality(name, whole=True) for name in found.values()):
        return set()  # CT_mask and PET_mask are masks of one case
    columns = _columns(list(found))
    names = without_common_end(list(found.values()))
    return _simplified([(*columns.get(file, ()), name) for file, name in zip(found, names, strict=True)])


def _keys_of_ends(images: Sequence[ImageFile]) -> set[Key]:
    """Cases named by what precedes an ending (``_t1``, ``_0000``) that the images of most cases bear, or that some
    bear beside an image without it."""
    columns = _columns(images)
    stems = {(columns.get(image, ()), image.stem) for image in images}
    cases: dict[str, set[Key]] = {}
    for folders, stem in stems:
        spans = tokens(stem)
        for n in range(1, len(spans)):
            start, end = stem[: spans[n - 1][1]], stem[spans[n - 1][1] :]
            bears_base = (folders, start) in stems
            if bears_base or is_modality(stem[slice(*spans[n])]) or re.fullmatch(r"_\d{4}", end):
                cases.setdefault(end, set()).add((*folders, start))
                if bears_base:
                    cases.setdefault("", set()).add((*folders, start))
                break
    keys = set().union(*cases.values())
    common = [end for end, where in cases.items() if len(where) >= 0.8 * len(keys)]
    return _simplified(sorted(keys)) if len(common) > 1 and len(common) <= 12 else set()


def _keys_of_twins(images: Sequence[ImageFile]) -> set[Key]:
    """Cases that lie under the same name in several folders, one folder per channel (``ct/1.nii``, ``pet/1.nii``)."""
    names: dict[tuple[str, ...], set[str]] = {}
    for image in images:
        names.setdefault(image.folders, set()).add(image.stem)
    if not 2 <= len(names) <= 8 or any(re.search(r"\d", folders[-1]) for folders in names if folders):
        return set()
    everywhere = set.intersection(*names.values())
    return {(name,) for name in everywhere} if len(everywhere) >= 0.8 * max(map(len, names.values())) else set()


def without_common_end(names: Sequence[str]) -> list[str]:
    """The names without the last pieces that all of them share, unless these are numbers: ``p1_T1w`` is ``p1``."""
    kept = list(names)
    while len(set(kept)) > 1:
        spans = [tokens(name) for name in kept]
        ends = {name[slice(*pieces[-1])] if pieces else "" for name, pieces in zip(kept, spans, strict=True)}
        if len(ends) != 1 or min(map(len, spans)) < 2 or ends.pop().isdigit():
            break
        kept = [name[: pieces[-2][1]] for name, pieces in zip(kept, spans, strict=True)]
    return kept


def _simplified(keys: Sequence[Key]) -> set[Key]:
    """Keys whose name does not repeat the folder before it (``p1, p1_v1`` is ``p1, v1``; ``p1, p1`` is ``p1``)."""
    if not keys or len({len(key) for key in keys}) > 1 or len(keys[0]) < 2:
        return set(keys) if len({len(key) for key in keys}) == 1 else set()
    if all(key[-1] == key[-2] for key in keys):
        return {key[:-1] for key in keys}
    if all(key[-1].startswith(key[-2]) and key[-1][len(key[-2]) : len(key[-2]) + 1] in set("_-.") for key in keys):
        return {(*key[:-1], key[-1][len(key[-2]) + 1 :]) for key in keys if key[-1][len(key[-2]) + 1 :]}
    return set(keys) if len(keys[0]) <= _MOST_FIELDS else set()


def _assigned(keys: set[Key], soft: bool, masks: Sequence[ImageFile], images: Sequence[ImageFile]) -> Reading:
    reading = Reading(soft)
    if not keys:
        reading.left = [*masks, *images]
        return reading
    values = [{key[n] for key in keys} for n in range(len(next(iter(keys))))]
    for files, group in ((masks, reading.masks), (images, reading.images)):
        for file in files:
            key = _key_of(file, keys, values, soft)
            if key is None:
                reading.left.append(file)
            else:
                group.setdefault(key, {})[with_fields(file, key, soft)] = file
    return reading


def _key_of(file: ImageFile, keys: set[Key], values: list[set[str]], soft: bool) -> Key | None:
    """The case whose values stand in the path in their order; of several the one that explains most of it."""
    there = {run for part in file.parts for run in (runs(part, soft) | runs(part) if soft else runs(part))}
    able = [key for key in itertools.product(*(there & some for some in values)) if key in keys]
    text = "/".join(file.parts)
    if len(able) > 1:
        able = [key for key in able if _in_order(text, key, soft)]
    # A value that only stands inside another one (the 1 of p_1 in p_1/p_1_2) says nothing.
    able = [key for key in able if _all_placed(_substituted(text, key, soft), key)]
    longest = max((sum(map(len, key)) for key in able), default=0)
    able = [key for key in able if sum(map(len, key)) == longest]
    return able[0] if len(able) == 1 else None


def _all_placed(template: Template, key: Key) -> bool:
    return all(placeholder(number) in template for number in range(len(key)))


def _in_order(text: str, key: Key, soft: bool) -> bool:
    start = 0
    for value in key:
        place = _found(text, value, start, soft)
        if place < 0:
            return False
        start = place + len(value)
    return True


def _found(text: str, value: str, start: int, soft: bool) -> int:
    """Where a value stands as whole pieces of a name, or -1."""
    place = text.find(value, start)
    while place >= 0:
        end = place + len(value)
        if _ends_piece(text, place - 1, value[0], soft) and _ends_piece(text, end, value[-1], soft):
            return place
        place = text.find(value, place + 1)
    return -1


def _ends_piece(text: str, place: int, neighbour: str, soft: bool) -> bool:
    if not 0 <= place < len(text) or text[place] in _SEPARATORS:
        return True
    if not soft:
        return False
    return not (text[place].isdigit() and neighbour.isdigit()) and not (text[place].isalpha() and neighbour.isalpha())


def with_fields(file: ImageFile, key: Key, soft: bool = False) -> Template:
    """The path with placeholders instead of the case's values; ``.nii`` counts as ``.nii.gz``."""
    suffix = ".nii.gz" if file.suffix == ".nii" else file.suffix
    return _substituted("/".join(file.parts), key, soft) + suffix


def _substituted(text: str, key: Key, soft: bool) -> str:
    """Values become placeholders: folders that are a value first, in their order, then the longest values."""
    pieces = text.split("/")
    start = 0
    for number, value in enumerate(key):
        place = next((n for n in range(start, len(pieces)) if pieces[n] == value), None)
        if place is not None:
            pieces[place], start = placeholder(number), place + 1
    text = "/".join(pieces)
    for value in sorted(set(key), key=len, reverse=True):
        numbers = [number for number, other in enumerate(key) if other == value]
        near = soft and placeholder(numbers[0]) not in text and _found(text, value, 0, soft=False) < 0
        while (place := _found(text, value, 0, near)) >= 0:
            number = numbers.pop(0) if len(numbers) > 1 else numbers[0]
            text = text[:place] + placeholder(number) + text[place + len(value) :]
    return text
