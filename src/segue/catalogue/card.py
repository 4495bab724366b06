"""The card: one YAML file per dataset, the same form for the catalogue's and for a user's own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from segue.catalogue.citing import Citation
from segue.catalogue.licences import check_licence
from segue.catalogue.patterns import check_pattern, field_names
from segue.core.config import Settings

Unit = Literal["HU", "SUV", "arbitrary"]
Task = Literal["segmentation", "classification", "unlabelled"]
Classes = Literal["binary", "multi-class", "multi-label", "ordinal"]


class Channel(Settings):
    """One input channel and the unit of its values; the unit decides how it is normalised.

    Attributes:
        optional: a case may lack its file; training then teaches the network to do without it.
    """

    name: str
    unit: Unit = "arbitrary"
    optional: bool = False


class Licence(Settings):
    """Under which terms a copy of the data may be used: an SPDX identifier, ``LicenseRef-NAME`` with a note for
    terms of its own, or ``NOASSERTION`` where none is stated."""

    spdx: str
    note: str | None = None

    @field_validator("spdx")
    @classmethod
    def _known(cls, spdx: str) -> str:
        check_licence(spdx)
        return spdx


class Access(Settings):
    """How one gets the data: free, after registering, after signing, or made on the spot."""

    kind: Literal["open", "registration", "agreement", "generated", "own"] = "own"
    homepage: str | None = None
    steps: list[str] = []


class RemoteFile(Settings):
    """One file to download; what is not known stays null.

    Attributes:
        name: what it is called on disk, without any folder.
        size: edge length of the images in it, where a dataset is offered in several.
        unpacked_bytes: what it needs on disk once it is unpacked or decoded.
    """

    name: str = Field(pattern=r"^[^./\\\x00][^/\\\x00]*$")
    url: str
    mirrors: list[str] = []
    bytes: int | None = None
    unpacked_bytes: int | None = None
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    size: int | None = None


class Collection(Settings):
    """A collection of DICOM series: its name at The Cancer Imaging Archive and in the Imaging Data Commons."""

    tcia: str | None = None
    idc: str | None = None


class _Layout(Settings):
    examples: list[str] = Field([], description="names as the true data have them; look-alikes are named after them")


class DecathlonLayout(_Layout):
    """``dataset.json`` beside ``imagesTr``, ``labelsTr``, ``imagesTs``; several channels are 4-D files."""

    kind: Literal["decathlon"]
    folder: str | None = None


class PetCtLayout(_Layout):
    """``patient/study/{CT,CTres,SUV,SEG}.nii.gz`` as in FDG-PET-CT-Lesions; CTres and SUV are the channels."""

    kind: Literal["petct"]


class NnunetLayout(_Layout):
    """nnU-Net's raw folder: ``imagesTr/CASE_0000.nii.gz`` (one file per channel), ``labelsTr/CASE.nii.gz``,
    ``dataset.json``; images of ``imagesTs`` belong to the test set, with masks in ``labelsTs`` where there are any.
    """

    kind: Literal["nnunet"]
    suffix: str = ".nii.gz"


class NpzLayout(_Layout):
    """One ``.npz`` with ``{train,val,test}_images`` and ``_labels`` (classes) or ``_label`` (masks), as MedMNIST and
    MedSegBench have it. Of another ``size`` than the card's, the file is the one that ``files`` names. Where masks
    number instances, ``nonzero_is_foreground`` makes one label of them.
    """

    kind: Literal["npz"]
    file: str
    nonzero_is_foreground: bool = False


class Part(Settings):
    """File patterns of one part of a dataset.

    ``{patient}`` and ``{case}`` name a case, ``{channel}`` stands for the channel's name, any other ``{word}`` is a
    fact of the case; ``{case:[0-9]+}`` restricts what a field matches; ``*`` and ``**`` stand for any folder.
    ``images`` is one pattern or one per channel; ``{class}`` in it is the name of the image's class. ``labels`` is a
    mask with all labels, with ``{label}`` one binary mask per label's name, with ``{instance}`` any number of binary
    masks that are united. ``values`` says which label a stored value means (``{255: 1}``): 0 is the background unless
    it is named, any other value that is not named is an error. A ``val`` or ``test`` part without values of its own
    has those of the training part.
    """

    images: str | dict[str, str]
    labels: str | None = None
    values: dict[int, int] | None = None

    @field_validator("images")
    @classmethod
    def _images(cls, images: str | dict[str, str]) -> str | dict[str, str]:
        for pattern in images.values() if isinstance(images, dict) else [images]:
            check_pattern(pattern)
        return images

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: str | None) -> str | None:
        if labels:
            check_pattern(labels)
        return labels

    @field_validator("values")
    @classmethod
    def _values(cls, values: dict[int, int] | None) -> dict[int, int] | None:
        if values is not None and (not values or min(*values, *values.values()) < 0):
            raise ValueError("values names stored values and the labels they mean, whole numbers from 0 up: {255: 1}")
        return None if values is None else dict(sorted(values.items()))


class Table(Settings):
    """A table beside the images with a row per case.

    ``case`` is the column that holds the case's name (or the path of its first image, from the dataset's folder or
    the table's, with or without suffix), ``split`` the one that says train, val or test, ``patient`` the one that
    names the patient; all other columns become facts of the case.

    Attributes:
        target: the column with the name or number of the class. Where several may hold, the columns with 0 or 1, in
            the order of the labels, or one column with names between ``|`` or ``;``.
    """

    file: str
    separator: str = ","
    case: str
    split: str | None = None
    patient: str | None = None
    target: str | list[str] | None = None


class FilesLayout(Part, _Layout):
    """File patterns (see :class:`Part`); ``val`` and ``test`` are the dataset's own parts, where it has them."""

    kind: Literal["files"]
    val: Part | None = None
    test: Part | None = None
    table: Table | None = None

    @property
    def parts(self) -> list[tuple[Literal["train", "val", "test"], Part]]:
        """The parts that the dataset has, each with the values of its masks."""
        own: list[tuple[Literal["val", "test"], Part | None]] = [("val", self.val), ("test", self.test)]
        return [
            ("train", self),
            *((n, p.model_copy(update={"values": p.values or self.values})) for n, p in own if p is not None),
        ]

    def require_fit(self, task: Task, classes: Classes | None, labels: dict[int, str], ignore: int | None) -> None:
        """Accept a layout that can give the answers that the card speaks of.

        Raises:
            ValueError: a classification without classes or with two sources of them, columns that are not one per
                class, ``{instance}`` among several labels, a value that means no label.
        """
        for name, part in self.parts:
            of = field_names(part.labels or "")
            if "instance" in of and "label" not in of and len(labels) > 1:
                raise ValueError(
                    f"layout: {{instance}} alone is for one label, the card has {len(labels)}: add {{label}}"
                )
            unknown = sorted(set((part.values or {}).values()) - {0, *labels} - {ignore})
            if unknown and task == "segmentation":
                raise ValueError(
                    f"layout: values of the {name} part mean labels that the card does not name: {unknown}"
                )
            if "class" in of or ("class" in field_names(str(part.images)) and task == "segmentation"):
                raise ValueError("layout: {class} belongs into the images of a classification")
        target = self.table.target if self.table else None
        if task != "classification":
            if target is not None and task == "segmentation":
                raise ValueError("layout: a table's target is for classification; this card's task is segmentation")
            return
        by_folder = "class" in field_names(str(self.images))
        if by_folder == (target is not None):
            raise ValueError(
                "layout: a classification has its classes either from folders ({class} in images) or from a table "
                f"(target: COLUMN), and here from {'both' if by_folder else 'neither'}"
            )
        if by_folder and classes == "multi-label":
            raise ValueError("layout: an image lies in one folder, so several classes need a table with target")
        if isinstance(target, list) and len(target) != len(labels):
            raise ValueError(f"layout: target names {len(target)} columns for {len(labels)} classes")
        if isinstance(target, list) and classes not in ("multi-label", "multi-class"):
            raise ValueError("layout: one column is the target, unless the classes are multi-label or multi-class")


Layout = Annotated[DecathlonLayout | PetCtLayout | NnunetLayout | NpzLayout | FilesLayout, Field(discriminator="kind")]


def _file_per_channel(layout: Layout) -> bool:
    """Whether every channel of a case is a file of its own, so that one of them may be missing."""
    if isinstance(layout, FilesLayout):
        return all(isinstance(part.images, dict) or "{channel}" in part.images for _, part in layout.parts)
    return isinstance(layout, PetCtLayout | NnunetLayout)


class SplitPolicy(Settings):
    """Folds are drawn by patient from this seed; cases of an official validation or test set are never drawn.

    Attributes:
        file: folds that somebody else drew: nnU-Net's ``splits_final.json``, in the dataset's folder.
    """

    folds: int = Field(5, ge=2)
    seed: int = 0
    file: str | None = None


class Expectation(Settings):
    """What the full dataset has: cases to train on, of its own validation and test sets, in all, and patients."""

    train: int | None = None
    val: int | None = None
    test: int | None = None
    total: int | None = None
    patients: int | None = None

    @property
    def cases(self) -> int | None:
        known = [count for count in (self.train, self.val, self.test) if count is not None]
        return self.total or (sum(known) if known else None)


class Group(Settings):
    """Cases that differ from the others, found by a regular expression on the case's name.

    Attributes:
        unlabelled: labels that nobody drew in these cases: not absent, but unknown.
    """

    name: str
    cases: str
    modality: str | None = None
    unlabelled: list[int] = []


class Defect(Settings):
    """Something known to be wrong with the data, what is done about it, and where it is told.

    Attributes:
        cases: whom it concerns (names of cases); all where empty.
        rename: repair: the file as it is shipped, and the name that the layout expects.
    """

    what: str
    action: Literal["skip", "repair", "warn"] = "warn"
    cases: list[str] = []
    rename: dict[str, str] = {}
    source: str | None = None

    @model_validator(mode="after")
    def _done(self) -> Defect:
        if (self.action == "repair") != bool(self.rename):
            raise ValueError("a repair says which files it renames, and only a repair does")
        return self


class Overlap(Settings):
    """Another dataset of the catalogue that holds the same patients."""

    dataset: str
    what: str


class Copy(Settings):
    """Another copy or release of the data: what it does not say is as on the card."""

    release: str
    note: str | None = None
    licence: Licence | None = None
    access: Access | None = None
    files: list[RemoteFile] = []
    collection: Collection | None = None
    download_bytes: int | None = None
    disk_bytes: int | None = None
    layout: Layout | None = None
    patient: str | None = None
    expect: Expectation | None = None


class Card(Settings):
    """What the world knows of a dataset.

    Attributes:
        aliases: other names that it goes by.
        classes: what kind of answer a classification has.
        regions: named unions of labels, on which results are reported too.
        size: edge length of the images, where the dataset is offered in several.
        release: which copy of the data this is; ``copies`` are the others.
        collection: where the data are DICOM series of a public archive.
        download_bytes, disk_bytes: roughly, where the bytes of ``files`` are not known.
        sources: where the facts on the card were read.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
    title: str
    description: str = ""
    aliases: list[str] = []
    task: Task = "segmentation"
    classes: Classes | None = None
    dimension: Literal[2, 3] = 3
    modalities: list[str] = []
    channels: list[Channel] = Field(min_length=1)
    labels: dict[int, str] = {}
    regions: dict[str, list[int]] = {}
    ignore_label: int | None = None
    groups: list[Group] = []
    mirror_axes: list[Literal["left-right", "front-back", "head-foot"]] = []
    layout: Layout
    root: str | None = Field(None, description="the images' folder, where it is not the card's own")
    patient: str | None = Field(None, description="regular expression; its first group in a case id is the patient")
    split: SplitPolicy = SplitPolicy()
    size: int | None = None
    release: str | None = None
    licence: Licence | None = None
    citations: list[Citation] = []
    access: Access = Access()
    files: list[RemoteFile] = []
    collection: Collection | None = None
    download_bytes: int | None = None
    disk_bytes: int | None = None
    copies: list[Copy] = []
    expect: Expectation = Expectation()
    difficulty: Literal["beginner", "intermediate", "advanced"] | None = None
    hardware: str | None = None
    overlaps: list[Overlap] = []
    defects: list[Defect] = []
    sources: list[str] = []

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: dict[int, str]) -> dict[int, str]:
        if labels and min(labels) < 0:
            raise ValueError(f"labels are whole numbers from 0 up, not {min(labels)}")
        if len(set(labels.values())) != len(labels):
            double = next(name for name in labels.values() if list(labels.values()).count(name) > 1)
            raise ValueError(f"two labels have the same name: '{double}'")
        return dict(sorted(labels.items()))

    @field_validator("channels")
    @classmethod
    def _channels(cls, channels: list[Channel]) -> list[Channel]:
        names = [channel.name for channel in channels]
        if len(set(names)) != len(names):
            raise ValueError(f"two channels have the same name: {names}")
        if len(channels) == 1 and channels[0].optional:
            raise ValueError(f"'{names[0]}' is the only channel: it cannot be optional")
        return channels

    @model_validator(mode="before")
    @classmethod
    def _background(cls, content: object) -> object:
        # Masks: 0 is the background and needs no name. Classes are numbered from 0.
        if isinstance(content, dict) and content.get("task", "segmentation") == "segmentation":
            labels = content.get("labels")
            if isinstance(labels, dict):
                foreground = {number: name for number, name in labels.items() if number not in (0, "0")}
                content = {**content, "labels": foreground}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if self.task == "segmentation" and not self.labels:
            raise ValueError("labels: name at least one label above 0 (0 is the background)")
        if (self.task == "classification") != (self.classes is not None):
            raise ValueError("classes: a classification says of which kind it is, and only a classification does")
        if self.task == "classification" and len(self.labels) < 2:
            raise ValueError("labels: a classification has at least two classes")
        if isinstance(self.layout, FilesLayout):
            self.layout.require_fit(self.task, self.classes, self.labels, self.ignore_label)
        optional = ", ".join(channel.name for channel in self.channels if channel.optional)
        if optional and self.task == "classification":
            raise ValueError(f"channels: only a segmentation may have optional channels, not '{optional}'")
        if optional and not _file_per_channel(self.layout):
            raise ValueError(
                f"channels: '{optional}' can only be optional where every channel is a file of its own: "
                "layout petct, nnunet, or files with {channel} or one pattern per channel"
            )
        if self.ignore_label in self.labels:
            raise ValueError(f"ignore_label: {self.ignore_label} is a named label too")
        for name, members in self.regions.items():
            unknown = sorted(set(members) - set(self.labels))
            if unknown or not members:
                raise ValueError(f"regions: '{name}' names labels that the card does not: {unknown or 'none at all'}")
        return self

    @property
    def downloadable(self) -> bool:
        """Whether the data can be had without a person's account."""
        return self.access.kind == "open" and bool(self.files or self.collection)

    @property
    def own_files(self) -> list[RemoteFile]:
        """The files of the card's own image size."""
        return [file for file in self.files if file.size in (None, self.size)]

    @property
    def download_size(self) -> int | None:
        """Bytes to download; roughly, or None, where nobody wrote them down."""
        files = self.own_files
        if files and all(file.bytes is not None for file in files):
            return sum(file.bytes or 0 for file in files)
        return self.download_bytes

    @property
    def disk_size(self) -> int | None:
        """Bytes needed while the download is unpacked: what comes, and what comes out of it; None if unknown."""
        if self.disk_bytes is not None:
            return self.disk_bytes
        download = self.download_size
        unpacked = [file.unpacked_bytes for file in self.own_files]
        if unpacked and all(size is not None for size in unpacked):
            return sum(size or 0 for size in unpacked) + (download or 0)
        # Archives of compressed images come out as large as they went in; what DICOM becomes is not known beforehand.
        return None if download is None or self.collection else 2 * download

    @property
    def releases(self) -> list[str]:
        """The names of all copies, the card's own first."""
        return [*([self.release] if self.release else []), *[copy.release for copy in self.copies]]

    @property
    def sizes(self) -> list[int]:
        """The edge lengths in which the dataset is offered, the card's own first."""
        others = sorted({file.size for file in self.files if file.size} - {self.size})
        return [self.size, *others] if self.size else others

    def at(self, release: str | None = None, size: int | None = None) -> Card:
        """The card of another copy or image size.

        Raises:
            ValueError: there is no such release or size.
        """
        card = self
        if release is not None and release != self.release:
            copy = next((copy for copy in self.copies if copy.release == release), None)
            if copy is None:
                raise ValueError(f"releases: {', '.join(self.releases) or 'only one'}")
            said = copy.model_dump(exclude_unset=True, exclude={"note"})
            # Bytes and collections belong to the copy that says them.
            said = {"files": [], "collection": None, "download_bytes": None, "disk_bytes": None, **said}
            card = Card.model_validate({**self.model_dump(), **said, "copies": []})
        if size is not None and size != card.size:
            if size not in card.sizes:
                raise ValueError(f"sizes: {', '.join(map(str, card.sizes)) or 'only one'}")
            card = card.model_copy(update={"size": size})
        return card
