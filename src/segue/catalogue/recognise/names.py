"""File names taken apart: which files are images and which are masks, the words and numbers in a name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".mha", ".mhd", ".nrrd")
_PLANE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_MOST_FILES = 500_000
_JUNK_FOLDERS = {"__MACOSX", "@eaDir"}

Kind = Literal["image", "mask", "other"]
Part = Literal["train", "val", "test"]


def word_set(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


MASK_WORDS = word_set(
    "mask masks msk msks label labels lbl lbls seg segs segm segms segmentation segmentations segmented dseg "
    "annotation annotations annot annots anno gt gts groundtruth truth ground manual roi rois contour contours "
    "delineation delineations labelmap labelmaps structures"
)
IMAGE_WORDS = word_set("image images img imgs volume volumes vol scan scans imaging input inputs raw")
_RESULT_WORDS = word_set("prediction predictions pred preds predicted")
RATER_WORDS = word_set("rater reader observer expert annotator consensus staple ho")
SITE_WORDS = word_set("site center centre hospital scanner vendor fold batch group cohort set dataset part")
SERIES_WORDS = word_set(
    "slice frame visit ses session time timepoint tp scan view day week month year pre post left right l r "
    "baseline followup z"
)
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "validation", "valid", "va", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts", "tst"), "test"),
}
MR_WORDS = word_set(
    "t1 t2 t1w t2w t1c t1ce t1n t1gd t1post t1pre flair t2f adc dwi mr mri pd pdw swi dce t2star hbv ktrans"
)
_MODALITY_WORDS = MR_WORDS | word_set("ct ctres pet pt suv us cbct mra cta spect bold anat func fmap perf")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """The path of an image or mask below the folder that is looked at."""

    folders: tuple[str, ...]
    stem: str
    suffix: str

    @property
    def path(self) -> str:
        return "/".join((*self.folders, self.stem + self.suffix))

    @property
    def parts(self) -> tuple[str, ...]:
        return (*self.folders, self.stem)

    @property
    def is_plane(self) -> bool:
        """Whether files of this format hold one plane."""
        return self.suffix.lower() in _PLANE_SUFFIXES


def inventory(folder: Path) -> tuple[list[ImageFile], Counter[str]]:
    """The images and masks below ``folder`` in alphabetical order, and how many other files of each suffix lie there.

    Hidden files and folders, AppleDouble files and ``__MACOSX`` are passed over.
    """
    images: list[ImageFile] = []
    others: Counter[str] = Counter()
    for place, names in _walk(folder):
        for name in names:
            lower = name.lower()
            suffix = next((end for end in SUFFIXES if lower.endswith(end)), None)
            # A pattern gives braces and stars a meaning of their own, and YAML knows no bytes that are no letters.
            plain = "".join((*place, name)).isprintable() and not re.search(r"[{}*]", "".join((*place, name)))
            if suffix and len(name) > len(suffix) and plain:
                images.append(ImageFile(place, name[: -len(suffix)], name[-len(suffix) :]))
            else:
                others[Path(lower).suffix or "no suffix"] += 1
        if len(images) > _MOST_FILES:
            break
    return sorted(images, key=lambda image: image.path), others


def _walk(folder: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    seen = {folder.resolve()}
    for place, folders, names in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = Path(place, name)
            if name.startswith(".") or name in _JUNK_FOLDERS:
                continue
            if path.is_symlink():  # a link that leads back to where one came from has no end
                if path.resolve() in seen:
                    continue
                seen.add(path.resolve())
            kept.append(name)
        folders[:] = kept
        yield Path(place).relative_to(folder).parts, [name for name in names if not name.startswith(".")]


@lru_cache(maxsize=100_000)
def words(text: str) -> tuple[str, ...]:
    """The words in a name, in lower case: ``labelsTr_v2`` has labels, tr, v and 2."""
    found = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+", text)
    return tuple(word.lower() for word in found)


@lru_cache(maxsize=100_000)
def tokens(text: str, soft: bool = False) -> tuple[tuple[int, int], ...]:
    """Where the pieces of a name begin and end: between ``_ - .`` and spaces, or (soft) also between letters and
    digits."""
    pattern = r"[^\W\d_]+|\d+|[^\w\-. ]" if soft else r"[^_\-. ]+"
    return tuple(match.span() for match in re.finditer(pattern, text))


@lru_cache(maxsize=100_000)
def runs(text: str, soft: bool = False) -> frozenset[str]:
    """Every stretch of whole pieces of a name: ``p1_v2_ct`` has p1, p1_v2, p1_v2_ct, v2, v2_ct, ct."""
    spans = tokens(text, soft)[:14]
    found = {text[a:d] for n, (a, _) in enumerate(spans) for _, d in spans[n:]}
    return frozenset(found | {text})


def is_modality(text: str, whole: bool = False) -> bool:
    """Whether a name, or (whole) each piece of it, is that of a modality or an MR sequence (``t1ce``, ``CT``)."""
    there = [text[a:b].lower() in _MODALITY_WORDS for a, b in tokens(text)]
    return bool(there) and (all(there) if whole else any(there))


def without_words(text: str, some: frozenset[str] = MASK_WORDS | IMAGE_WORDS) -> str:
    """A name without the pieces that only say 'mask' or 'image' at its ends: ``lesion_mask`` is ``lesion``."""
    spans = list(tokens(text))
    while spans and set(words(text[slice(*spans[-1])])) <= some:
        spans.pop()
    while spans and set(words(text[slice(*spans[0])])) <= some:
        spans.pop(0)
    return text[spans[0][0] : spans[-1][1]] if spans else ""


def common_depth(files: Sequence[ImageFile]) -> int:
    """How many folders all files share: their names say nothing."""
    if not files:
        return 0
    first, last = min(file.folders for file in files), max(file.folders for file in files)
    same = [one == other for one, other in zip(first, last, strict=False)]
    return (*same, False).index(False)


def kinds(files: Sequence[ImageFile]) -> dict[ImageFile, Kind]:
    """Image, mask or neither, by the words in folders and names.

    The innermost folder that speaks of images or masks decides; where no folder holds masks, or says nothing, the
    file's own name does. Derivatives in a BIDS tree are masks or neither.
    """
    skip = common_depth(files)
    by_folder = {file: _folder_kind(file.folders[skip:]) for file in files}
    folders_speak = "mask" in by_folder.values() and set(by_folder.values()) != {"mask"}
    # A word that every name has, such as the seg in seg_001.png and seg_001_mask.png, tells nothing apart.
    everywhere = frozenset.intersection(*(frozenset(words(file.stem)) for file in files)) if files else frozenset()
    telling = MASK_WORDS - everywhere
    if not any(telling & set(words(file.stem)) for file in files):
        telling = MASK_WORDS
    found: dict[ImageFile, Kind] = {}
    for file in files:
        kind = by_folder[file] if folders_speak else None
        by_name: Kind = "mask" if telling & set(words(file.stem)) else "image"
        if _RESULT_WORDS & {word for part in file.parts[skip:] for word in words(part)}:
            found[file] = "other"
        elif kind is None or (kind == "mask" and "derivatives" in file.folders):
            found[file] = by_name
        else:
            found[file] = kind
    derived = [file for file in files if "derivatives" in file.folders]
    if len(derived) < len(files):
        named = any(found[file] == "mask" for file in derived)
        for file in derived:
            if found[file] == "image":
                found[file] = "mask" if not named and by_folder[file] == "mask" else "other"
    return found


def _folder_kind(folders: tuple[str, ...]) -> Kind | None:
    for name in reversed(folders):
        there = set(words(name))
        if there & MASK_WORDS:
            return "mask"
        if there & IMAGE_WORDS:
            return "image"
    return None


def parts(files: Sequence[ImageFile]) -> dict[Part, list[ImageFile]]:
    """The files by the part of the dataset that their folders name; all are for training where nothing else is."""
    found: dict[Part, list[ImageFile]] = {}
    for file in files:
        named = (PARTS[word] for name in file.folders for word in _part_words(name) if word in PARTS)
        found.setdefault(next(named, "train"), []).append(file)
    return found if "train" in found else {"train": list(files)}


def _part_words(name: str) -> tuple[str, ...]:
    # "tr" and the like mean a part only beside another such word (imagesTr).
    there = words(name)
    telling = (MASK_WORDS | IMAGE_WORDS) & set(there)
    return there if telling else tuple(word for word in there if len(word) > 2)


def shape_of(texts: Sequence[str]) -> str | None:
    """A regular expression of the form that all these names share (``frame[0-9]+``), or None."""
    pieces = [re.split(r"(\d+)", text) for text in texts]
    if len({tuple(there[::2]) for there in pieces}) != 1 or len(pieces[0]) == 1:
        return None
    found = [{there[n] for there in pieces} for n in range(len(pieces[0]))]
    return "".join(literal(some.pop()) if len(some) == 1 else "[0-9]+" for some in found)


def literal(text: str) -> str:
    """The text as a regular expression that reads well: only what has a meaning there is escaped."""
    return re.sub(r"([\\.^$*+?()\[\]|])", r"\\\1", text)
