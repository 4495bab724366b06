"""Folders of classes: ``benign/1.png``, ``malignant/1.png``, also below or above ``train`` and ``test``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segue.catalogue import patterns
from segue.catalogue.card import Card, Classes, FilesLayout, Part
from segue.catalogue.dataset import Case
from segue.catalogue.recognise import contents, patients
from segue.catalogue.recognise import names as file_names
from segue.catalogue.recognise.guess import Draft
from segue.catalogue.recognise.names import (
    IMAGE_WORDS,
    MASK_WORDS,
    PARTS,
    SITE_WORDS,
    ImageFile,
    is_modality,
    word_set,
    words,
)

_LEAST_IMAGES = 3  # of a class, in the mean: folders with fewer are cases
_MOST_CLASSES = 100
_LEAST_FITTING = 0.8  # share of the images that must lie at one depth
_GRADE_WORDS = word_set("class grade stage level type score cat category kl birads pirads group isup")
_ABSENT = word_set("no not non normal negative healthy control benign absent none without neg noncancer")


@dataclass(frozen=True)
class _Levels:
    """Which of the folders above an image says what."""

    depth: int
    of_class: int
    of_patient: int | None


def class_folders(folder: Path, files: Sequence[ImageFile]) -> Draft | None:
    """A classification by folders; None where the folders do not look like classes."""
    kinds = file_names.kinds(files)
    if not files or "mask" in kinds.values():
        return None
    by_part = file_names.parts([file for file in files if kinds[file] == "image"])
    train = by_part["train"]
    levels = _levels(train)
    if levels is None:
        return None
    used = [file for file in train if len(file.folders) == levels.depth]
    counts = Counter(file.folders[levels.of_class] for file in used)
    names = in_order(counts)
    pattern = _pattern(used, levels, sorted(counts), [file for file in files if file not in set(used)])
    notes = [
        "task: folders were taken for classes; if they are patients or sites, write task: unlabelled and {patient} "
        "instead of {class}",
        f"labels: the folders' names: {', '.join(f'{name} ({counts[name]} images)' for name in names[:12])}",
    ]
    more: dict[str, Part | None] = {}
    subsets: tuple[file_names.Part, ...] = ("val", "test")
    for part in subsets:
        there = by_part.get(part, [])
        more[part] = _part(there, levels, set(names), part) if there else None
        if there and more[part] is None:
            told = f"{len(there)} images of the {part} part such as {there[0].path} do not lie in the same classes"
            notes.append(f"layout: {told}: left out")
    channels, told_of, dimension = contents.channel("image", [folder / file.path for file in used])
    return Draft(
        FilesLayout(kind="files", images=pattern, val=more["val"], test=more["test"]),
        channels,
        dict(enumerate(names)),
        task="classification",
        classes=kind_of(names),
        dimension=dimension,
        notes=[*notes, *about_classes(names), *(f"channels: {note}" for note in told_of)],
    )


def in_order(names: Sequence[str] | Counter[str]) -> list[str]:
    """The names of classes as they are numbered: numbers by value, else what is absent first, then by the alphabet."""
    there = list(names)
    if all(name.isdigit() for name in there):
        return sorted(there, key=int)
    return sorted(there, key=lambda name: (not _ABSENT & set(words(name)), name.casefold(), name))


def kind_of(names: Sequence[str]) -> Classes:
    """``binary`` for two classes; what is in order only a person knows."""
    return "binary" if len(names) == 2 else "multi-class"


def about_classes(names: Sequence[str]) -> list[str]:
    """What to tell of classes whose names are numbers."""
    if len(names) > 2 and all(re.fullmatch(r"[0-9]+|[^\W\d]+[ _-]?[0-9]+", name) for name in names):
        return ["classes: the classes are numbers: are they grades, one above the other? Then write classes: ordinal"]
    return []


def _levels(files: Sequence[ImageFile]) -> _Levels | None:
    depth, fitting = Counter(len(file.folders) for file in files).most_common(1)[0]
    if not depth or fitting < _LEAST_FITTING * len(files):
        return None
    same = [file for file in files if len(file.folders) == depth]
    varying = [n for n in range(depth) if len({file.folders[n] for file in same}) > 1]
    if not 1 <= len(varying) <= 2:
        return None
    of_class = next((n for n in varying if _are_classes(Counter(file.folders[n] for file in same))), None)
    if of_class is None:
        return None
    others = [n for n in varying if n != of_class]
    # Names without numbers that come again in other folders are channels of a case (t1, flair), not images of a class.
    leaves: dict[str, set[tuple[str, ...]]] = {}
    for file in same:
        leaves.setdefault(file.stem, set()).add(file.folders)
    roles = sum(len(where) for stem, where in leaves.items() if len(where) > 1 and not re.search(r"\d", stem))
    if 2 * roles > len(same):
        return None
    return _Levels(depth, of_class, others[0] if others else None)


def _are_classes(counts: Counter[str]) -> bool:
    names = list(counts)
    if not 2 <= len(names) <= _MOST_CLASSES or counts.total() < _LEAST_IMAGES * len(names):
        return False
    if any(is_modality(name) or PARTS.get(name.lower()) for name in names):
        return False
    if any(SITE_WORDS & set(words(name)) or set(words(name)) <= MASK_WORDS | IMAGE_WORDS for name in names):
        return False
    if all(name.isdigit() for name in names):
        numbers = sorted(int(name) for name in names)
        plain = all(str(int(name)) == name for name in names)
        return plain and numbers in (list(range(len(names))), list(range(1, len(names) + 1))) and len(names) <= 20
    numbered = [name for name in names if re.search(r"\d", name)]
    graded = all(_GRADE_WORDS & set(words(name)) for name in numbered)
    return graded or (2 * len(numbered) < len(names) and not all(re.search(r"\d{3}", name) for name in numbered))


def _pattern(used: Sequence[ImageFile], levels: _Levels, names: Sequence[str], others: Sequence[ImageFile]) -> str:
    folders = []
    for n in range(levels.depth):
        own = used[0].folders[n]
        folders.append("{class}" if n == levels.of_class else "{patient}" if n == levels.of_patient else own)
    text = "/".join([*folders, "{case}" + ending(used)])
    expression = patterns.compiled(text)
    if any(expression.fullmatch(file.path) for file in others):
        limit = "|".join(file_names.literal(name) for name in names)
        text = text.replace("{class}", f"{{class:{limit}}}", 1)
    return text


def ending(files: Sequence[ImageFile]) -> str:
    """The suffix of the files in a pattern; where there are several, a field that takes any of them."""
    suffixes = sorted({".nii.gz" if file.suffix == ".nii" else file.suffix for file in files})
    if len(suffixes) == 1:
        only_plain = all(file.suffix == ".nii" for file in files)
        return ".nii" if only_plain else suffixes[0]
    return f".{{suffix:{'|'.join(file_names.literal(suffix[1:]) for suffix in suffixes)}}}"


def _part(files: Sequence[ImageFile], levels: _Levels, names: set[str], part: file_names.Part) -> Part | None:
    """The pattern of another part: in the same classes, or (of a test part) in one folder without classes."""
    same = [file for file in files if len(file.folders) == levels.depth]
    fixed = [n for n in range(levels.depth) if n not in (levels.of_class, levels.of_patient)]
    if len(same) >= _LEAST_FITTING * len(files) and {file.folders[levels.of_class] for file in same} <= names:
        if all(len({file.folders[n] for file in same}) == 1 for n in fixed):
            return Part(images=_pattern(same, levels, sorted(names), []))
        return None
    folders = {file.folders for file in files}
    if part == "test" and len(folders) == 1:
        return Part(images="/".join([*folders.pop(), "{case}" + ending(files)]))
    return None


def patient_of_classes(card: Card, cases: Sequence[Case]) -> str | None:
    """The patients that the names of the images suggest, as an expression over cases named ``CLASS_NAME``."""
    starts = [f"{case.split}_" if case.split != "train" else "" for case in cases]
    classes = [f"{card.labels[case.target]}_" if isinstance(case.target, int) else "" for case in cases]
    stems = [case.id[len(a) + len(b) :] for case, a, b in zip(cases, starts, classes, strict=True)]
    found = patients.patient_pattern(stems)
    if found is None or not any(classes):
        return None
    able = "|".join(file_names.literal(name) for name in sorted({name for name in classes if name}))
    return f"^(?:val_|test_)?(?:{able})?{found.removeprefix('^')}"
