"""From files by case to the patterns of a card: channels, masks, the fields that name a case."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from segue.catalogue import patterns
from segue.catalogue.recognise.names import (
    MASK_WORDS,
    RATER_WORDS,
    SITE_WORDS,
    ImageFile,
    is_modality,
    literal,
    shape_of,
    tokens,
    without_words,
    words,
)
from segue.catalogue.recognise.readings import (
    CHANNEL,
    FREE_FOLDER,
    FREE_NAME,
    INSTANCE,
    LABEL,
    Key,
    Template,
    is_free,
    placeholder,
)

_SHOWN_WORDS = frozenset(("color", "colour", "rgb", "overlay", "preview", "instance", "instances"))


@dataclass
class Channels:
    """One template per channel, by the channel's name, and the files per case."""

    templates: dict[str, Template]
    files: dict[Key, dict[Template, ImageFile]]
    left: list[ImageFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Masks:
    """The template of the masks; with LABEL in it there is one binary mask per name of ``labels``.

    Attributes:
        numbered: several masks per image whose names are no names of labels; ``template`` has INSTANCE where the
            names differ, and is None where they have nothing in common.
    """

    template: Template | None = None
    labels: list[str] = field(default_factory=list)
    files: dict[Key, list[ImageFile]] = field(default_factory=dict)
    left: list[ImageFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbered: bool = False


def _support(files: dict[Key, dict[Template, ImageFile]]) -> Counter[Template]:
    return Counter(template for there in files.values() for template in there)


def channels_of(images: dict[Key, dict[Template, ImageFile]]) -> Channels:
    """The images that nearly all cases have, as channels; the others are left over."""
    files = _merged(images)
    support = _support(files)
    most = max(support.values())
    chosen = [template for template in support if support[template] >= 0.8 * most]
    chosen.sort(key=lambda template: (-support[template], template))
    notes = []
    rare = {template: count for template, count in support.items() if template not in chosen}
    for template, count in sorted(rare.items(), key=lambda item: -item[1])[:5]:
        notes.append(f"{readable(template)} is there for {count} of {len(files)} cases: left out")
    left = [file for there in files.values() for template, file in there.items() if template in rare]
    chosen.sort()
    names = channel_names(chosen)
    return Channels(dict(zip(names, chosen, strict=True)), files, left, notes)


def _merged(images: dict[Key, dict[Template, ImageFile]]) -> dict[Key, dict[Template, ImageFile]]:
    """The same files with a folder, or the end of a name, set free that differs from case to case."""
    wanted = 0.8 * len(images)
    if max(_support(images).values()) >= wanted:
        return images
    depth = max(template.count("/") for template in _support(images))
    ways: list[tuple[set[int], bool]] = [({n}, False) for n in range(depth)]
    ways += [(set(range(depth)), False), (set(), True), (set(range(depth)), True)]
    best = images
    for places, name in ways:
        freed: dict[Key, dict[Template, ImageFile]] = {}
        for key, there in images.items():
            new = {_freed(template, places, name): file for template, file in there.items()}
            if len(new) == len(there):  # two images of a case may not become one
                freed[key] = new
        if freed and max(_support(freed).values()) > max(_support(best).values()):
            best = freed
            if max(_support(freed).values()) >= wanted:
                break
    return best


def _freed(template: Template, places: set[int], name: bool) -> Template:
    *folders, last = template.split("/")
    if sum(is_free(folder) for n, folder in enumerate(folders) if n in places) == 1:
        folders = [FREE_FOLDER if n in places and is_free(folder) else folder for n, folder in enumerate(folders)]
    if name:
        last = re.sub(
            "^(.*[\ue000-\ue002][_. -])([^\ue000-\ue002]+?)(\\.nii\\.gz|\\.[^.]+)$", rf"\1{FREE_NAME}\3", last
        )
    return "/".join([*folders, last])


def channel_names(chosen: Sequence[Template]) -> list[str]:
    """What tells the templates apart, in their own words; ``image`` where the name of a single one says nothing."""
    if len(chosen) == 1:
        bare = _bare(chosen[0].rpartition("/")[2])
        return ["_".join(piece for piece in bare.split("_") if is_modality(piece)) or "image"]
    names: list[str] = []
    for texts in ([template.rpartition("/")[2] for template in chosen], chosen):
        pieces = [[p for p in re.split(r"[/_. -]+", _without_suffix(text)) if p and is_free(p)] for text in texts]
        common = set.intersection(*map(set, pieces))
        names = ["_".join(p for p in there if p not in common) or "image" for there in pieces]
        plain = [without_words(name) or "image" for name in names]
        names = plain if len(set(plain)) == len(plain) else names
        if len(set(names)) == len(names):
            return names
    return [f"{name}_{number}" for number, name in enumerate(names)]


def _without_suffix(template: Template) -> Template:
    return re.sub(r"(\.nii)?\.\w+$", "", template)


def _bare(template: Template) -> str:
    """What is left of a name without fields, 'mask' and 'image'."""
    pieces = [p for p in re.split(r"[_. -]+", _without_suffix(template).replace("/", "_")) if p and is_free(p)]
    return without_words("_".join(pieces))


def masks_of(masks: dict[Key, dict[Template, ImageFile]], per_label: bool = True) -> Masks:
    """One mask per case, or one per label; of several kinds of masks the first is taken and the others told."""
    files = _merged(masks)
    support = _support(files)
    if max(len(there) for there in files.values()) == 1:
        return _one_of(files, max(support, key=lambda t: (support[t], t)), "")
    frequent = [t for t in support if support[t] >= max(1, 0.3 * max(support.values()))]
    forms = _forms(frequent)
    labels = {label for _, label in forms.values()}
    repeated = sum(support[t] for t in frequent if support[t] > 1 or len(files) == 1) >= 0.5 * sum(support.values())
    if (not repeated or all(name.isdigit() for name in labels)) and len(frequent) > 1:
        return _instances(files)
    if per_label and len({form for form, _ in forms.values()}) == 1 and _are_labels(labels):
        found = _per_label(files, support, next(iter(forms.values()))[0])
        if len(found.labels) > 1:
            return found
    template = min(frequent, key=lambda t: (*_unlikely(t), -support[t], t))
    others = [readable(t) for t in sorted(support, key=lambda t: (-support[t], t)) if t != template]
    more = f" and {len(others) - 4} more" if len(others) > 4 else ""
    return _one_of(files, template, f"there is more than one kind of mask; not used: {', '.join(others[:4])}{more}")


def _instances(files: dict[Key, dict[Template, ImageFile]]) -> Masks:
    """Any number of masks per case, in one folder, whose names agree but for one piece."""
    templates = list(_support(files))
    folders = {template.rpartition("/")[0] for template in templates}
    names = [template.rpartition("/")[2] for template in templates]
    suffixes = {name[len(_without_suffix(name)) :] for name in names}
    if len(folders) != 1 or len(suffixes) != 1:
        return Masks(numbered=True)
    stems = [_without_suffix(name) for name in names]
    before, after = _common_start(stems), ""
    if all(len(tokens(stem)) > 1 for stem in stems):
        rest = [stem[len(before) :][::-1] for stem in stems]
        after = _common_start(rest)[::-1]
    if any(len(stem) <= len(before) + len(after) or not is_free(stem[len(before) :]) for stem in stems):
        return Masks(numbered=True)
    folder = folders.pop()
    template = f"{folder}/" * bool(folder) + before + INSTANCE + after + suffixes.pop()
    return Masks(template, files={key: list(there.values()) for key, there in files.items()}, numbered=True)


def _common_start(texts: Sequence[str]) -> str:
    """What all the texts begin with, up to the end of its last separator (or of the case's name)."""
    first, last = min(texts), max(texts)
    same = [one == other for one, other in zip(first, last, strict=False)]
    match = re.match("(.*[\ue000-\ue002_. -])", first[: (*same, False).index(False)])
    return match[1] if match else ""


def _unlikely(template: Template) -> tuple[bool, bool, bool]:
    there = set(words(template))
    return "brain" in there, bool(_SHOWN_WORDS & there), "consensus" not in there


def _are_labels(names: set[str]) -> bool:
    """Whether names are those of organs or lesions rather than of modalities, raters, versions or numbers."""
    return (
        len(names) > 1
        and "" not in names
        and not any(is_modality(name) or set(words(name)) <= MASK_WORDS for name in names)
        and not any((RATER_WORDS | _SHOWN_WORDS | {"brain"}) & set(words(name)) for name in names)
        and all(re.search(r"[^\W\d]{3}", name) or not re.search(r"\d", name) for name in names)
    )


def _forms(templates: Sequence[Template]) -> dict[Template, tuple[Template, str]]:
    """Each template with LABEL instead of what may be a label's name, and that name.

    The name is the one folder that differs, where the files bear the same names; else what a file's name says beside
    the case and 'mask'.
    """
    pieces = [template.split("/") for template in templates]
    if len({there[-1] for there in pieces}) == 1 and len({len(there) for there in pieces}) == 1:
        differing = [n for n in range(len(pieces[0])) if len({there[n] for there in pieces}) > 1]
        if len(differing) == 1 and all(is_free(there[differing[0]]) for there in pieces):
            place = differing[0]
            return {
                template: ("/".join([*there[:place], LABEL, *there[place + 1 :]]), there[place])
                for template, there in zip(templates, pieces, strict=True)
            }
    found = {}
    for template in templates:
        folder, slash, name = template.rpartition("/")
        label = _label_name(name)
        before, _, after = name.rpartition(label) if label else ("", "", "")
        found[template] = (f"{folder}{slash}{before}{LABEL}{after}" if label else template, label)
    return found


def _label_name(name: str) -> str:
    """What a mask's name says beside the case: without fields at its ends and without 'mask'."""
    stem = _without_suffix(name)
    spans = [span for span in tokens(stem) if is_free(stem[slice(*span)])]
    return without_words(stem[spans[0][0] : spans[-1][1]], MASK_WORDS) if spans else ""


def _per_label(files: dict[Key, dict[Template, ImageFile]], support: Counter[Template], form: Template) -> Masks:
    before, _, after = form.partition(LABEL)
    labels = {t: t[len(before) : len(t) - len(after)] for t in support if t.startswith(before) and t.endswith(after)}
    labels = {t: label for t, label in labels.items() if label and is_free(label) and "/" not in label}
    there = {key: [file for t, file in of.items() if t in labels] for key, of in files.items()}
    left = [file for of in files.values() for t, file in of.items() if t not in labels]
    return Masks(form, sorted(set(labels.values())), {key: of for key, of in there.items() if of}, left)


def _one_of(files: dict[Key, dict[Template, ImageFile]], template: Template, note: str) -> Masks:
    left = [file for there in files.values() for t, file in there.items() if t != template]
    return Masks(
        template,
        files={key: [there[template]] for key, there in files.items() if template in there},
        left=left,
        notes=[note] if note else [],
    )


def field_names(keys: Iterable[Key]) -> list[str]:
    """What the values of a case are called: the case, its patient, and a group of patients.

    Raises:
        ValueError: patient and case together do not tell all cases apart.
    """
    keys = list(keys)
    if len(keys[0]) == 1:
        return ["case"]
    if len(keys[0]) == 2:
        return ["group" if _is_group([(key[0], key[1]) for key in keys]) else "patient", "case"]
    if len({key[1:] for key in keys}) == len(keys):
        return ["group", "patient", "case"]
    raise ValueError("cases of different folders bear the same names")


def _is_group(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether folders such as HGG and LGG, or the sites of a study, hold patients instead of being patients."""
    outer = {first for first, _ in pairs}
    if len({second for _, second in pairs}) < len(pairs):
        return False
    if all(SITE_WORDS & set(words(name)) for name in outer):
        return True
    return len(outer) <= 5 and len(pairs) >= 3 * len(outer) and not any(re.search(r"\d", name) for name in outer)


def as_pattern(template: Template, names: Sequence[str], free_folder: str = "patient", restricted: str = "") -> str:
    """The template in the card's words; ``restricted`` is what ``{case}`` may match."""
    text = template
    for number, name in enumerate(names):
        text = text.replace(placeholder(number), f"{{{name}}}")
    text = text.replace(FREE_FOLDER, f"{{{free_folder}}}").replace(FREE_NAME, "{rest}")
    text = text.replace(LABEL, "{label}").replace(CHANNEL, "{channel}").replace(INSTANCE, "{instance}")
    return text.replace("{case}", f"{{case:{restricted}}}", 1) if restricted else text


def readable(template: Template) -> str:
    """A template in a sentence."""
    marks = {FREE_FOLDER: "*", FREE_NAME: "*", LABEL: "{label}", CHANNEL: "{channel}"}
    return re.sub("[\ue000-\ue0ff]", lambda match: marks.get(match.group(), "*"), template)


def in_one_pattern(templates: dict[str, Template]) -> Template | None:
    """One template with CHANNEL for all channels, where their names are all that differs."""
    forms = set()
    for name, template in templates.items():
        folder, slash, last = template.rpartition("/")
        places = [a for a, _ in tokens(last) if last.startswith(name, a)]
        if len(places) != 1 or name in folder.split("/"):
            return None
        forms.add(folder + slash + last[: places[0]] + CHANNEL + last[places[0] + len(name) :])
    return forms.pop() if len(forms) == 1 and len(templates) > 1 else None


def restriction(pattern: str, cases: Sequence[str], unwanted: Iterable[str]) -> str:
    """What ``{case}`` must match so that ``pattern`` passes over ``unwanted`` paths; empty where nothing is needed.

    The form of all the cases' names (``frame[0-9]+``) where they have one, else anything but the endings or
    beginnings that the unwanted names add.
    """
    expression = patterns.compiled(pattern)
    caught = [match["case"] for path in unwanted if (match := expression.fullmatch(path))]
    if not caught:
        return ""
    shape = shape_of(cases)
    if shape and not any(re.fullmatch(shape, name) for name in caught):
        return shape
    known = sorted(cases, key=len, reverse=True)
    ends = {name[len(own) :] for name in caught if (own := _first(known, name.startswith))}
    starts = {name[: -len(own)] for name in caught if (own := _first(known, name.endswith)) and name != own}
    for before, after in ((set(), ends), (starts, set()), (starts, ends)):
        if len(before) + len(after) > 8 or "" in before | after or not before | after:
            continue
        ahead = "".join(f"(?!{literal(text)})" for text in sorted(before))
        behind = "".join(f"(?<!{literal(text)})" for text in sorted(after))
        found = f"{ahead}[^/]+{behind}"
        if not any(re.fullmatch(found, name) for name in caught) and all(re.fullmatch(found, name) for name in cases):
            return found
    return ""


def _first(names: Sequence[str], fits: Callable[[str], object]) -> str | None:
    return next((name for name in names if fits(name)), None)
