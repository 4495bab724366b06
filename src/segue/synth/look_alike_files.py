"""Look-alikes of datasets whose layout is file patterns: parts, tables, masks per label, renamed and stray files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from segue.catalogue import Card
from segue.catalogue.card import FilesLayout, Part, Table
from segue.catalogue.files import channel_patterns
from segue.core.errors import UsageError
from segue.core.files import atomic_path, write_text
from segue.core.seeds import generator
from segue.images import NIFTI_SUFFIXES, write
from segue.synth.scene import Sample, Scene
from segue.volume import Volume

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
# What lies beside the images and is no case of its own: in the folder of each case, and at the top.
_BESIDE_CASES = {
    "acdc": ("{patient}_4d.nii.gz", "Info.cfg"),
    "kits23": ("instances/kidney_instance-1_annotation-1.nii.gz",),
}
_AT_THE_TOP = {
    "amos/2022": ("dataset.json", "readme.md"),
    "brats/2020": ("name_mapping.csv", "survival_info.csv"),
    "kits23": ("kits23.json",),
}


def files(card: Card, folder: Path, made: Sequence[Sample], seed: int) -> Path:
    """Write the samples; see :func:`segue.synth.look_alike`.

    Raises:
        UsageError: an image format that is not made here.
    """
    assert isinstance(card.layout, FilesLayout), "chosen by its type"
    layout = card.layout
    # Unpacked as archives are: a folder of the archive's name, in it the archive's own top folder.
    name = PurePosixPath(card.files[0].name).stem if len(card.files) == 1 else card.name.replace("/", "-")
    download = folder / name
    writer = _Writer(card, download / name)
    # Cases that a table puts in another part have names of the training pattern, as all have.
    parts: dict[str, Part] = {"train": layout, "val": layout.val or layout, "test": layout.test or layout}
    for sample in made:
        writer.case(sample, parts[sample.name.part], seed)
    if layout.table:
        _table(card, layout.table, inside(writer.top, layout.table.file), made, seed)
    for beside in _AT_THE_TOP.get(card.name, ()):
        write_text(writer.top / beside, "{}\n" if beside.endswith(".json") else "\n")
    first = PurePosixPath(writer.first)
    for litter in (writer.top / ".DS_Store", download / ".DS_Store"):
        with atomic_path(litter) as temporary:
            temporary.write_bytes(b"\0\0\0\1Bud1" + bytes(32))
    apple_double(writer.top / first.parent / f"._{first.name}")
    apple_double(download / "__MACOSX" / name / first.parent / f"._{first.name}")
    apple_double(writer.top / "__MACOSX" / first.parent / f"._{first.name}")
    return download


def inside(top: Path, name: str) -> Path:
    """A file below ``top``.

    Raises:
        UsageError: the card names one that lies elsewhere.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UsageError("the card names a file outside its own folder", value=name, remedy="mend the card")
    return top / path


def apple_double(path: Path) -> None:
    """What a Mac writes beside a file on a foreign disk and into archives: a file's name, and nothing of a file."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(bytes.fromhex("00051607 00020000") + b"Mac OS X        " + bytes(40))


class _Writer:
    """Writes the files of one case after the other, under the names by which they are shipped."""

    def __init__(self, card: Card, top: Path) -> None:
        self.card, self.top, self.first = card, top, ""
        # A repair in the card leads from the shipped name to the right one; here it goes back.
        self._shipped = {right: found for defect in card.defects for found, right in defect.rename.items()}

    def case(self, sample: Sample, part: Part, seed: int) -> None:
        scene = Scene(self.card, sample, seed)
        patterns = channel_patterns(self.card, part)
        paths = [sample.name.path(pattern) for pattern in patterns]
        self.first = self.first or paths[0]
        every = range(len(self.card.channels))
        for channel, path in enumerate(paths):
            here = [channel] if len(paths) > 1 else every
            if path.lower().endswith(_PICTURES):
                self._image(path, scene.pixels(here))
            else:
                self._image(path, scene.channels(here))
        if part.labels and self.card.task == "segmentation":
            self._masks(sample, part.labels, scene)
        for beside in _BESIDE_CASES.get(self.card.name, ()):
            path = f"{PurePosixPath(paths[0]).parent}/{beside.format(**sample.name.fields)}"
            if beside.endswith("_4d.nii.gz"):
                film = scene.channels([0])
                self._image(path, Volume(np.concatenate([film.array] * 3), film.geometry))
            elif beside.endswith(".nii.gz"):
                self._image(path, scene.labels)
            else:
                write_text(self.top / path, "ED: 1\nES: 12\n")

    def _masks(self, sample: Sample, pattern: str, scene: Scene) -> None:
        labels = scene.labels
        if "{label}" not in pattern:
            self._image(sample.name.path(pattern), labels)
            return
        for label in sorted({*sample.drawn} & {*self.card.labels}):  # what is not in the image has an empty mask
            mask = Volume((labels.array == label).astype(np.uint8), labels.geometry, "labels", "labels")
            self._image(sample.name.path(pattern.replace("{label}", self.card.labels[label])), mask)

    def _image(self, path: str, volume: Volume) -> None:
        target = inside(self.top, self._shipped.get(path, path))
        if path.endswith(NIFTI_SUFFIXES):
            write(volume, target)
        elif path.lower().endswith(_PICTURES):
            _picture(volume, target)
        else:
            raise not_made(self.card, PurePosixPath(path).suffix)


def not_made(card: Card, suffix: str) -> UsageError:
    """The error for an image format of which no look-alikes are made."""
    return UsageError(
        "look-alikes of this format are not made",
        where=card.name,
        value=suffix or "no suffix",
        remedy=f"there are {', '.join((*NIFTI_SUFFIXES, *_PICTURES))}",
    )


def _picture(volume: Volume, target: Path) -> None:
    """The first slice as a picture: rows run from front to back, columns from right to left of the array."""
    from PIL import Image

    pixels = np.moveaxis(volume.oriented("RAS").array[:, :, :, 0], 0, -1).swapaxes(0, 1)
    pixels = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels)
    kind = np.uint8 if volume.kind == "intensity" or pixels.max() < 256 else np.uint16
    with atomic_path(target) as temporary:
        Image.fromarray(pixels.astype(kind)).save(temporary, quality=95)  # of JPEG; the others lose nothing


def _table(card: Card, table: Table, path: Path, made: Sequence[Sample], seed: int) -> None:
    """The card's table with a row per case, and the facts that such tables have."""
    text = io.StringIO()
    columns = [table.case, *filter(None, (table.patient, table.split)), "age", "gender", "institute", "study_type"]
    rows = csv.DictWriter(text, list(dict.fromkeys(columns)), delimiter=table.separator, lineterminator="\n")
    rows.writeheader()
    for sample in made:
        random = generator(seed, card.name, sample.name.id, "table")
        row = {
            "age": int(random.integers(18, 95)),
            "gender": str(random.choice(["f", "m"])),
            "institute": str(random.choice(["A", "B"])),
            "study_type": str(random.choice(["ct abdomen", "ct thorax"])),
            table.case: sample.name.id,
        }
        if table.patient:
            row[table.patient] = sample.patient
        if table.split:
            row[table.split] = sample.name.part
        rows.writerow(row)
    write_text(path, text.getvalue())
