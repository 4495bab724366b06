"""A layout for a folder that nothing describes, guessed from the names of its files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segue.catalogue import patterns
from segue.catalogue.card import Channel, Classes, FilesLayout, Part, Task
from segue.catalogue.recognise import contents, pairs
from segue.catalogue.recognise import names as file_names
from segue.catalogue.recognise.names import ImageFile, is_modality
from segue.catalogue.recognise.pairs import Channels, Masks
from segue.catalogue.recognise.readings import Key, Reading, Template, best_reading, readings_of_images
from segue.core.errors import DataError

_LEAST_FITTING = 0.3  # share of the files that belong to some case
_LEAST_USED = 0.2  # share of the files that a card would use: two modalities with masks of their own leave half


@dataclass
class Draft:
    """What a card needs, as far as it could be guessed; a note begins with the key of the card that it concerns."""

    layout: FilesLayout
    channels: list[Channel]
    labels: dict[int, str] = field(default_factory=dict)
    ignore: int | None = None
    values: dict[int, int] | None = None
    task: Task = "segmentation"
    classes: Classes | None = None
    dimension: int | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sorted:
    """The folder's files by what they are, and by the part of the dataset they lie in.

    Attributes:
        by_content: the masks of the training part were known by what is in them, not by their names.
    """

    kinds: dict[ImageFile, file_names.Kind]
    parts: dict[file_names.Part, list[ImageFile]]
    by_content: bool


def guess(folder: Path, files: Sequence[ImageFile], others: Counter[str]) -> Draft:
    """The layout that fits the most masks and images.

    Raises:
        DataError: masks without images, masks whose names do not say to which image they belong, several masks per
            image that are no labels, or colour-coded masks.
    """
    kinds = file_names.kinds(files)
    by_part = file_names.parts(files)
    masks = [file for file in by_part["train"] if kinds[file] == "mask"]
    images = [file for file in by_part["train"] if kinds[file] == "image"]
    if masks and not images:
        raise DataError(
            "there are masks, but no images",
            where=folder,
            value=_some("masks", masks) + (f"; {others['.dcm']} DICOM files" if others[".dcm"] else ""),
            remedy="bring the images as NIfTI" if others[".dcm"] else "give the folder that holds the images too",
        )
    if not images:
        raise DataError("there are only results of a prediction", where=folder, value=_some("files", files))
    alone, by_content = None, False
    if not masks:
        alone, masks = _alone(folder, images)
        by_content = bool(masks)
        images = [file for file in images if file not in set(masks)]
        kinds |= dict.fromkeys(masks, "mask")
    if not masks:
        assert alone is not None
        found, chosen = pairs.channels_of(alone.images), None
        reading, keys = alone, list(alone.images)
    else:
        best = best_reading(masks, images)
        if best is None:
            raise _unrelated(folder, masks, images)
        reading, keys = best, best.paired
        chosen = pairs.masks_of({key: reading.masks[key] for key in keys})
        if chosen.labels and not _binary(folder, chosen):
            chosen = pairs.masks_of({key: reading.masks[key] for key in keys}, per_label=False)
        if chosen.template is None:
            raise _numbered(folder, reading, keys)
        found = pairs.channels_of({key: reading.images[key] for key in keys})
    _on_one_grid(folder, found, chosen)
    _refuse_medley(folder, [f for f in by_part["train"] if kinds[f] != "other"], reading, found, chosen)
    return _drafted(folder, _Sorted(kinds, by_part, by_content), found, chosen, keys)


def _alone(folder: Path, images: Sequence[ImageFile]) -> tuple[Reading, list[ImageFile]]:
    """How images without masks are read, and the files among them that look like masks inside."""
    reading = None
    for reading in readings_of_images(images):
        channels = pairs.channels_of(reading.images)
        if len(channels.templates) < 2:
            continue
        first = {t: f for there in channels.files.values() for t, f in there.items()}
        inside = {t: contents.looks_like_mask(folder / first[t].path) for t in list(channels.templates.values())[:8]}
        if any(inside.values()) and not all(inside.values()):
            masks = [f for there in channels.files.values() for t, f in there.items() if inside.get(t)]
            return reading, masks
        named = all(is_modality(name) or re.fullmatch(r"\d{4}", name) for name in channels.templates)
        if named and not reading.needs_masks:
            return reading, []
    assert reading is not None
    return reading, []


def _binary(folder: Path, chosen: Masks) -> bool:
    """Whether masks that seem to be of one label each hold no more than one (as far as they can be looked into)."""
    some = next(iter(chosen.files.values()))[:3]
    arrays = [array for file in some if (array := contents.values(folder / file.path)) is not None]
    return all(len(np.unique(array)) <= 2 for array in arrays)


def _on_one_grid(folder: Path, found: Channels, chosen: Masks | None) -> None:
    """Leave out channels that do not lie on the grid of the masks (or of the first channel), as long as one is left."""
    first = next(iter(found.templates.values()))
    wrong: dict[str, str] = {}
    for key, there in list(found.files.items())[:2]:
        beside = chosen.files[key][0] if chosen and key in chosen.files else there.get(first)
        for name, template in found.templates.items():
            image = there.get(template)
            if image is None or beside is None or name in wrong or len(found.templates) < 2:
                continue
            difference = contents.other_grid(folder / image.path, folder / beside.path)
            if difference:
                wrong[name] = f"{image.path} lies on another grid than {beside.path} ({difference})"
            elif contents.several_images(folder / image.path) > 1:
                wrong[name] = f"{image.path} is 4-D"
    if not wrong or len(wrong) == len(found.templates):
        return
    for name, why in wrong.items():
        template = found.templates.pop(name)
        found.left += [there[template] for there in found.files.values() if template in there]
        found.notes.append(f"{name} is left out: {why}; all channels of a case lie on one grid")
    found.templates = dict(
        zip(pairs.channel_names(list(found.templates.values())), found.templates.values(), strict=True)
    )


def _drafted(folder: Path, sorted_files: _Sorted, found: Channels, chosen: Masks | None, keys: Sequence[Key]) -> Draft:
    try:
        fields = pairs.field_names(keys)
    except ValueError as error:
        raise DataError(
            str(error), where=folder, value="/".join(keys[0]), remedy="rename the folders, or write a card for them"
        ) from error
    images = _image_patterns(sorted_files, found, fields, sorted({key[fields.index("case")] for key in keys}))
    notes = [f"channels: {note}" for note in found.notes]
    channels, told, dimension = _channels(folder, found)
    draft = Draft(FilesLayout(kind="files", images=images), channels, task="unlabelled", dimension=dimension)
    draft.notes = [*notes, *told]
    labels = None
    if chosen is not None and chosen.template is not None:
        masks = [file for of in chosen.files.values() for file in of]
        labels = pairs.as_pattern(_suffixed(chosen.template, masks), fields, _beside(fields))
        _with_labels(folder, draft, chosen)
    more: dict[str, Part | None] = {}
    subsets: tuple[file_names.Part, ...] = ("val", "test")
    for part in subsets:
        there = sorted_files.parts.get(part, [])
        more[part] = _part(there, sorted_files, images, labels) if there else None
        if there and more[part] is None:
            draft.notes.append(f"layout: {_some(f'files of the {part} part', there)} have other names: left out")
    draft.layout = FilesLayout(
        kind="files", images=images, labels=labels, values=draft.values, val=more["val"], test=more["test"]
    )
    return draft


def _beside(fields: Sequence[str]) -> str:
    """What a folder is called that differs beside the fields."""
    return "patient" if "patient" not in fields else "group"


def _image_patterns(
    sorted_files: _Sorted, found: Channels, fields: Sequence[str], cases: Sequence[str]
) -> str | dict[str, str]:
    """One pattern for all channels where their names are all that differs, else one per channel."""
    paths: dict[Template, dict[str, ImageFile]] = {}
    for there in found.files.values():
        for template, file in there.items():
            paths.setdefault(template, {})[file.path] = file
    # What is known to be something else must not match: masks, other channels, what was left out.
    foreign = {file.path for file, kind in sorted_files.kinds.items() if kind != "image"}
    foreign |= {file.path for file in found.left}
    templates: dict[str, Template] = {}
    limits: dict[str, str] = {}
    for name, template in found.templates.items():
        templates[name] = _suffixed(template, list(paths[template].values()))
        unwanted = foreign.union(*(there for other, there in paths.items() if other != template))
        pattern = pairs.as_pattern(templates[name], fields, _beside(fields))
        limits[name] = pairs.restriction(pattern, cases, unwanted - set(paths[template]))
    one = pairs.in_one_pattern(templates) if len(set(limits.values())) == 1 else None
    if len(templates) == 1:
        one = next(iter(templates.values()))
    if one:
        return pairs.as_pattern(one, fields, _beside(fields), next(iter(limits.values())))
    return {name: pairs.as_pattern(text, fields, _beside(fields), limits[name]) for name, text in templates.items()}


def _channels(folder: Path, found: Channels) -> tuple[list[Channel], list[str], int | None]:
    channels: list[Channel] = []
    notes: list[str] = []
    dimensions = []
    for name, template in found.templates.items():
        paths = [folder / there[template].path for there in found.files.values() if template in there]
        own, told, dimension = contents.channel(name, paths)
        # The pattern of a channel bears its name, which must not change; one channel may be renamed.
        channels += own if len(found.templates) == 1 else [own[0].model_copy(update={"name": name})]
        dimensions.append(dimension)
        notes += [f"channels: {note}" for note in told]
    known = [dimension for dimension in dimensions if dimension]
    if not known:
        notes.append("dimension: the format does not tell at once whether the images are 2-D or 3-D")
    return channels, notes, max(known, default=None)


def _suffixed(template: Template, files: Sequence[ImageFile]) -> Template:
    """The template with ``.nii`` instead of ``.nii.gz`` where no file is compressed."""
    return template.removesuffix(".gz") if all(file.suffix == ".nii" for file in files) else template


def _with_labels(folder: Path, draft: Draft, chosen: Masks) -> None:
    draft.task = "segmentation"
    draft.notes += [f"labels: {note}" for note in chosen.notes]
    if chosen.labels:
        draft.labels = dict(enumerate(chosen.labels, 1))
        draft.notes.append("labels: one binary mask per label, numbered by name; where two overlap the later one wins")
        return
    seen = contents.labels_in([folder / files[0].path for files in chosen.files.values()])
    if chosen.numbered:
        count = sum(len(files) for files in chosen.files.values())
        draft.labels = {1: "foreground"}
        draft.notes.append(
            f"labels: {count} masks for {len(chosen.files)} images, one per object: all objects together are one label"
        )
        return
    if seen.colours:
        raise DataError(
            "the masks are colour pictures: which colour is which label cannot be told",
            where=folder,
            value=next(iter(chosen.files.values()))[0].path,
            remedy="save them with one number per label (0 is the background)",
        )
    draft.labels, draft.ignore, draft.values = seen.names, seen.ignore, seen.values
    draft.notes += [note if note.startswith("layout: ") else f"labels: {note}" for note in seen.notes]


def _part(
    files: Sequence[ImageFile], sorted_files: _Sorted, images: str | dict[str, str], labels: str | None
) -> Part | None:
    """The training part's patterns in the folders of another part, where they fit there."""
    there = [file for file in files if sorted_files.kinds[file] == "image"]
    if isinstance(images, str):
        own: str | dict[str, str] | None = _moved(images, there)
    else:
        moved = {name: _moved(pattern, there) for name, pattern in images.items()}
        own = {name: text for name, text in moved.items() if text} if all(moved.values()) else None
    if not own:
        return None
    masks = there if sorted_files.by_content else [file for file in files if sorted_files.kinds[file] == "mask"]
    return Part(images=own, labels=_moved(labels, masks) if labels else None)


def _moved(pattern: str, files: Sequence[ImageFile]) -> str | None:
    """The end of a pattern, from its first field on, below the folder where it fits the most of these files."""
    pieces = pattern.split("/")
    first = next(n for n, piece in enumerate(pieces) if "{" in piece)
    ends = ["/".join(pieces[first:])]
    for word in file_names.PARTS:
        for other in {w for file in files for part in file.parts for w in file_names.words(part)} & set(
            file_names.PARTS
        ):
            changed = re.sub(rf"(?<![^\W_]){word}(?![^\W_])", other, ends[0])
            if changed not in ends and "{" in changed:
                ends.append(changed)
    best: Counter[str] = Counter()
    for end in ends:
        depth = end.count("/")
        for folders in {file.folders[: len(file.folders) - depth] for file in files if len(file.folders) >= depth}:
            text = "/".join((*folders, end))
            tried = re.sub(r"\{(?:channel|label|instance)\}", "{word}", text)
            expression = patterns.compiled(tried)
            best[text] = sum(expression.fullmatch(file.path) is not None for file in files)
    return max(best, key=lambda text: (best[text], -len(text))) if any(best.values()) else None


def _some(what: str, files: Sequence[ImageFile]) -> str:
    return f"{len(files)} {what} such as {', '.join(file.path for file in files[:2])}"


def _refuse_medley(
    folder: Path, files: Sequence[ImageFile], reading: Reading, found: Channels, chosen: Masks | None
) -> None:
    """A folder of several datasets is none: a card for a few of its files would pass over the others in silence."""
    fits = sum(len(of) for group in (reading.images, reading.masks) for of in group.values())
    wanted = set(found.templates.values())
    used = [file for of in found.files.values() for template, file in of.items() if template in wanted]
    used += [file for of in chosen.files.values() for file in of] if chosen else []
    if fits < _LEAST_FITTING * len(files) or len(used) < _LEAST_USED * len(files):
        other = next(file for file in files if file not in set(used))
        raise DataError(
            f"only {len(used)} of {len(files)} files follow one rule: is this more than one dataset?",
            where=folder,
            value=f"files such as {used[0].path}, but not {other.path}",
            remedy="give the folder of one dataset, or write a card for it (docs/own-images.md)",
        )


def _unrelated(folder: Path, masks: Sequence[ImageFile], images: Sequence[ImageFile]) -> DataError:
    return DataError(
        "the masks' names do not say to which images they belong",
        where=folder,
        value=f"{_some('images', images)}; {_some('masks', masks)}",
        remedy="give a mask its image's name (images/a.nii.gz and masks/a.nii.gz, or a.nii.gz and a_mask.nii.gz)",
    )


def _numbered(folder: Path, reading: Reading, keys: Sequence[Key]) -> DataError:
    files = [file for key in keys for file in reading.masks[key].values()]
    return DataError(
        "there are several masks for one image, and their names are not those of labels: one per object?",
        where=folder,
        value=f"{len(files)} masks for {len(keys)} images, such as {files[0].path}",
        remedy="put the masks of an image into a folder of their own (CASE/masks/*.png), or write them into one file",
    )
