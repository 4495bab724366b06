"""The card: one YAML file per dataset, the same form for the catalogue's and for a user's own."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from segue.core.config import Settings, load_settings
from segue.core.errors import UsageError

Unit = Literal["HU", "SUV", "arbitrary"]


class Channel(Settings):
    """One input channel and the unit of its values; the unit decides how it is normalised."""

    name: str
    unit: Unit = "arbitrary"


class Licence(Settings):
    """Under which terms the data may be used: an SPDX identifier, or ``other`` with a note."""

    spdx: str
    note: str | None = None


class Citation(Settings):
    """What to cite; the fields are those of BibTeX."""

    key: str
    type: Literal["article", "inproceedings", "misc", "dataset"] = "article"
    authors: list[str]
    title: str
    venue: str | None = None
    year: int
    volume: int | None = None
    number: int | None = None
    pages: str | None = None
    doi: str | None = None
    arxiv: str | None = None


class Access(Settings):
    """How one gets the data: free, after registering, after signing, or made on the spot."""

    kind: Literal["open", "registration", "agreement", "generated", "own"] = "own"
    homepage: str | None = None
    steps: list[str] = []


class RemoteFile(Settings):
    """One file to download; an unknown size or checksum stays null."""

    name: str
    url: str
    mirrors: list[str] = []
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None


class DecathlonLayout(Settings):
    """``dataset.json`` beside ``imagesTr``, ``labelsTr``, ``imagesTs``; several channels are 4-D files."""

    kind: Literal["decathlon"]
    folder: str | None = None


class PetCtLayout(Settings):
    """``patient/study/{CT,CTres,SUV,SEG}.nii.gz`` as in FDG-PET-CT-Lesions; CTres and SUV are the channels."""

    kind: Literal["petct"]


class FilesLayout(Settings):
    """File patterns: ``images/{case}_{channel}.nii.gz``, ``{patient}/{case}/t1.nii.gz``.

    ``images`` is one pattern with ``{channel}`` standing for the channel's name, or one pattern per channel.
    ``test_images`` are cases without labels that are predicted only.
    """

    kind: Literal["files"]
    images: str | dict[str, str]
    labels: str | None = None
    test_images: str | dict[str, str] | None = None


Layout = Annotated[DecathlonLayout | PetCtLayout | FilesLayout, Field(discriminator="kind")]


class SplitPolicy(Settings):
    """Folds are drawn by patient from this seed; cases of an official test set are never drawn."""

    folds: int = Field(5, ge=2)
    seed: int = 0


class Expectation(Settings):
    """How many cases the full dataset has."""

    train: int | None = None
    test: int | None = None


class Defect(Settings):
    """Something known to be wrong with the data, and where it is told."""

    what: str
    action: Literal["skip", "repair", "warn"] = "warn"
    cases: list[str] = []
    source: str | None = None


class Card(Settings):
    """What the world knows of a dataset."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")
    title: str
    description: str = ""
    task: Literal["segmentation"] = "segmentation"
    dimension: Literal[2, 3] = 3
    modalities: list[str] = []
    channels: list[Channel] = Field(min_length=1)
    labels: dict[int, str]
    ignore_label: int | None = None
    mirror_axes: list[Literal["left-right", "front-back", "head-foot"]] = []
    layout: Layout
    patient: str | None = Field(None, description="regular expression; its first group in a case id is the patient")
    split: SplitPolicy = SplitPolicy()
    licence: Licence | None = None
    citations: list[Citation] = []
    access: Access = Access()
    files: list[RemoteFile] = []
    release: str | None = None
    expect: Expectation = Expectation()
    defects: list[Defect] = []

    @field_validator("labels")
    @classmethod
    def _labels(cls, labels: dict[int, str]) -> dict[int, str]:
        foreground = {number: name for number, name in labels.items() if number != 0}
        if not foreground:
            raise ValueError("name at least one label above 0 (0 is the background)")
        if min(labels) < 0:
            raise ValueError(f"labels are whole numbers from 0 up, not {min(labels)}")
        if len(set(foreground.values())) != len(foreground):
            raise ValueError(f"two labels have the same name: {sorted(foreground.values())}")
        return dict(sorted(foreground.items()))

    @field_validator("channels")
    @classmethod
    def _channels(cls, channels: list[Channel]) -> list[Channel]:
        names = [channel.name for channel in channels]
        if len(set(names)) != len(names):
            raise ValueError(f"two channels have the same name: {names}")
        return channels

    @model_validator(mode="after")
    def _ignored(self) -> Card:
        if self.ignore_label in self.labels:
            raise ValueError(f"the ignore label {self.ignore_label} is a named label too")
        return self


def card_names() -> list[str]:
    """The names of the catalogue's cards, in alphabetical order."""
    folder = Path(str(resources.files("segue.catalogue"))) / "cards"
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def load_card(reference: str | Path) -> Card:
    """A card by its name in the catalogue (``msd/hippocampus``) or by the path of a YAML file.

    Raises:
        UsageError: an unknown name (with the nearest known one), or a file that is not a valid card.
    """
    text = str(reference)
    if text.endswith((".yaml", ".yml")):
        return load_settings(Card, Path(text))
    if text in card_names():
        return load_settings(Card, Path(str(resources.files("segue.catalogue"))) / "cards" / f"{text}.yaml")
    near = difflib.get_close_matches(text, card_names(), n=1, cutoff=0.5)
    raise UsageError(
        "no dataset of this name, and no folder or card file either",
        where=text,
        remedy=f"did you mean '{near[0]}'?"
        if near
        else f"known: {', '.join(card_names())}, or a card of your own (.yaml)",
    )


def decathlon_card(content: dict[str, Any], folder_name: str) -> Card:
    """A card for a folder in the decathlon's layout that no card describes, from its ``dataset.json``."""
    modality = {int(number): str(name) for number, name in content["modality"].items()}
    return Card(
        name="".join(c if c.isalnum() or c in "._-" else "-" for c in folder_name) or "dataset",
        title=str(content.get("name") or folder_name),
        channels=[
            Channel(
                name=f"{name}_{number}" if len(modality) > 1 else name,
                unit="HU" if name == "CT" else "arbitrary",
            )
            for number, name in sorted(modality.items())
        ],
        labels={int(number): str(name) for number, name in content["labels"].items()},
        layout=DecathlonLayout(kind="decathlon"),
        licence=Licence(spdx="other", note=str(content["licence"])) if content.get("licence") else None,
    )
