"""Looking at one case once: what is wrong with it (findings) and what was measured (for the fingerprint)."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Integer, Num
from pydantic import BaseModel, ConfigDict

from segue.catalogue import Card, Case, Label, Masks, Row, label_files, label_form, stored_mask
from segue.core.errors import DataError
from segue.core.files import content_key, known_digest, unchanged, write_text
from segue.core.seeds import generator
from segue.images import NIFTI_SUFFIXES, digest_of, read_forms, read_header, suffix_of
from segue.prepare.duplicates import signature
from segue.prepare.quality.finding import MEND, Finding
from segue.prepare.quality.geometry import look_at_axes, look_at_extent, look_at_header, look_at_noise
from segue.prepare.quality.intensities import LEVELS, look_at_unit, spread_sample
from segue.prepare.quality.labels import LabelFacts, look_for_emptiness, measure_labels
from segue.prepare.quality.likeness import look_for_bright_rim, thumbnail
from segue.prepare.quality.reporting import Found
from segue.prepare.reading import read_mask
from segue.prepare.unpacked import read_to_examine
from segue.prepare.voxels import counts_of, percentiles, where
from segue.volume import Volume

_VERSION = 6
_SAMPLED_VOXELS = 10_000
# Of all cases together, of each channel: 2,000 full samples, 40 to 160 MB.
_POOLED_VALUES = 2_000 * _SAMPLED_VOXELS
# The least types that hold the values of images as they are, little-endian.
_SampleType = Literal["<i2", "<f4", "<f8"]


class ChannelStatistics(BaseModel):
    """Of one channel: range, and a sample of the values inside the foreground (else inside the whole image).

    Attributes:
        kind, packed: the sample's values as numpy has them, in the least type that holds them exactly: as a list of
            Python's floats they would take 4 to 16 times the memory.
        whole: all values of the sample are whole numbers.
        levels: percentiles of the whole image (:data:`segue.prepare.quality.intensities.LEVELS`).
        at_high: part of the voxels that have the greatest value.
        thumbnail: the image, very small (:func:`segue.prepare.quality.likeness.thumbnail`).
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    low: float
    high: float
    kind: _SampleType
    packed: bytes
    whole: bool
    levels: list[float] = []
    at_high: float = 0.0
    thumbnail: list[float] = []

    @property
    def sample(self) -> Float64[np.ndarray, " n"]:
        return np.frombuffer(self.packed, self.kind).astype(np.float64)

    def thinned(self, share: float) -> ChannelStatistics:
        """The same with so large a part of the sample, from 0 to 1, evenly over it; one value at least."""
        values = np.frombuffer(self.packed, self.kind)
        count = math.ceil(share * len(values))
        if count >= len(values):
            return self
        return self.model_copy(update={"packed": values[np.arange(count) * len(values) // count].tobytes()})


def packed(sample: Float64[np.ndarray, " n"]) -> tuple[_SampleType, bytes]:
    """A sample as :class:`ChannelStatistics` keeps it."""
    with np.errstate(over="ignore", invalid="ignore"):
        stored = ((kind, sample.astype(kind)) for kind in get_args(_SampleType))
        return next((kind, values.tobytes()) for kind, values in stored if np.array_equal(values, sample))


class Examination(BaseModel):
    """Everything measured on one case, in canonical (RAS) axis order.

    ``channels`` has None for a channel that the case lacks; ``content`` and ``perceptual`` tell whether the same image
    is another case too (see :mod:`segue.prepare.duplicates`). ``stored`` is the type of the image's values and that of
    the mask's.
    """

    case: str
    patient: str
    findings: list[Finding]
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    axis_codes: str | None = None
    channels: list[ChannelStatistics | None] = []
    label_voxels: dict[int, int] = {}
    label_facts: dict[int, LabelFacts] = {}
    stored: tuple[str, str] = ("", "")
    digest: str = ""
    content: int | None = None
    perceptual: int | None = None

    @property
    def sound(self) -> bool:
        return all(finding.severity != "error" for finding in self.findings)


@dataclass(frozen=True)
class ExamineTask:
    """What a worker needs to examine one case.

    Attributes:
        needs_label: an image without one is an error.
        share: the part of the samples that the answer has (see :func:`sample_share`); the cache has all of them.
    """

    case: Case
    card: Card
    cache: Path | None = None
    needs_label: bool = False
    share: float = 1.0

    @property
    def id(self) -> str:
        return self.case.id


def sample_share(cases: int) -> float:
    """The part of each case's samples that so many cases keep: all of them up to 2,000 cases.

    Of more, each gives the same part, so that the pool of a channel stays at 20 million values and every case counts
    in it as it did. A percentile of so many is known to a few hundredths of a percent of the values (the deviation of
    its rank is at most 0.5 / sqrt(n)).
    """
    return min(1.0, _POOLED_VALUES / max(1, cases * _SAMPLED_VOXELS))


def case_digest(case: Case) -> str:
    """Of the bytes of all files of a case: the same content gives the same digest wherever it lies.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    stored = None if case.label is None else stored_mask(case.label)
    rows = [part for part in (*case.images, stored) if isinstance(part, Row)]
    try:
        if rows:
            # One file holds all cases: it is hashed once.
            return content_key(*[(digest_of(row.path), row.key, row.index) for row in rows], label_form(case.label))
        lacks = [case.absent] if case.absent else []
        return content_key(*[known_digest(path) for path in case.files], label_form(case.label), *lacks)
    except OSError as error:
        raise DataError(
            "this file cannot be read",
            where=f"{case.id}: {error.filename}",
            value=error.strerror,
            remedy="restore the file or leave the case out",
        ) from error


def examine(task: ExamineTask) -> Examination:
    """Read a case whole and say what is wrong with it; an unreadable case is a finding, not an exception.

    The result is kept under ``task.cache`` by the content of the files and by what the card declares.
    """
    case, card = task.case, task.card
    if task.needs_label and not case.annotated:
        classes = card.task == "classification"
        return unread(
            case,
            DataError(
                "this image has no class" if classes else "this image has no label",
                where=case.id,
                value=", ".join(path.name for path in case.files),
                remedy="give it a row with its class in the card's table, or leave the case out"
                if classes
                else "put its mask where the layout expects it, or leave the case out",
            ),
        )
    try:
        with unchanged(case.files, case.id):
            measured = _measured(task)
    except DataError as error:
        return unread(case, error)
    if task.share >= 1:
        return measured
    channels = [channel and channel.thinned(task.share) for channel in measured.channels]
    return measured.model_copy(update={"channels": channels})


def _measured(task: ExamineTask) -> Examination:
    case, card = task.case, task.card
    digest = case_digest(case)
    if task.cache is None:
        return _examined(task, digest)
    known = [card.task, card.dimension, card.channels, card.labels, card.ignore_label, case.unlabelled]
    declared = [case.id, case.patient, digest, *known, _VERSION]
    kept = task.cache / "examined" / f"{content_key(*declared)}.json"
    # What a power cut has torn is measured again (pydantic's error is a ValueError).
    with contextlib.suppress(FileNotFoundError, ValueError):
        return Examination.model_validate_json(kept.read_bytes())
    with unchanged(case.files, case.id):  # nothing is kept that is not of this content
        examination = _examined(task, digest)
    write_text(kept, examination.model_dump_json(), lasting=False)
    return examination


def unread(case: Case, error: DataError) -> Examination:
    """What is known of a case that could not be looked at: why."""
    value = ", ".join(part for part in (error.where, error.value) if part and part != case.id)
    remedy = error.remedy or MEND
    finding = Finding(case=case.id, severity="error", what=error.what, value=value, remedy=remedy)
    return Examination(case=case.id, patient=case.patient, findings=[finding])


def _examined(task: ExamineTask, digest: str) -> Examination:
    case, card = task.case, task.card
    found = Found(case.id)
    image = read_to_examine(case, card, digest, task.cache)
    there = case.present(len(card.channels))
    for number in case.absent:
        found(
            "note",
            f"channel {card.channels[number].name} is missing",
            "it is optional",
            "nothing: the network is told that it is missing",
        )
    ranges = [(array.min(), array.max()) for array in image.array]
    for number in there:
        _look_at_values(card.channels[number].name, image.array[number], ranges[number], found)
    _look_for_constants(card, ranges, there, found)
    look_at_axes(image.geometry, found)
    if card.dimension == 3 and any(card.channels[number].unit != "arbitrary" for number in there):
        look_at_extent(image.geometry, found)
    for path in dict.fromkeys(path for path in case.image_files if not any(isinstance(i, Row) for i in case.images)):
        look_at_header(path, read_forms(path), image.geometry, found)
    spread = {number: spread_sample(image.array[number]) for number in there}
    for number in there:
        low, high = ranges[number]
        look_at_unit(card.channels[number], spread[number], float(low), float(high), found)
        if card.dimension == 3:
            look_for_bright_rim(card.channels[number].name, image.array[number], found)
    labels = None
    facts: dict[int, LabelFacts] = {}
    voxels: dict[int, int] = {}
    if case.label is not None:
        labels, voxels = _look_at_labels(case, card, image, found)
    if labels is not None:
        facts = measure_labels(labels.array[0], labels.geometry, card.labels)
    canonical = image.oriented("RAS")
    known_by = signature(image.array[there] if case.absent else image.array)
    mask = None if labels is None else labels.oriented("RAS").array[0]
    places = _sampled(canonical.geometry.shape, mask, card.ignore_label, case.id)
    channels = [
        statistics(array, ranges[number], places, spread[number]) if number in there else None
        for number, array in enumerate(canonical.array)
    ]
    if facts and card.dimension == 3 and (first := channels[there[0]]) is not None and first.high > first.low:
        look_for_emptiness(first.sample, first.low, facts, found)
    return Examination(
        case=case.id,
        patient=case.patient,
        findings=found.findings,
        shape=canonical.geometry.shape,
        spacing_mm=canonical.geometry.spacing_mm,
        axis_codes=image.geometry.axis_codes,
        channels=channels,
        label_voxels=voxels,
        label_facts=facts,
        stored=(str(image.array.dtype), "" if case.label is None else _stored_type(case.label)),
        digest=digest,
        content=known_by.content,
        perceptual=known_by.perceptual,
    )


def _stored_type(label: Label) -> str:
    """The type that a mask's values are stored in, as far as its header tells."""
    source = stored_mask(label)
    if isinstance(source, Row) or (isinstance(source, Path) and suffix_of(source) not in NIFTI_SUFFIXES):
        return ""
    return str(read_header(label_files(label)[0]).dtype)


def _look_at_values(name: str, array: np.ndarray, extremes: tuple[Any, Any], found: Found) -> None:
    # One NaN makes the least value NaN.
    if not np.isfinite(extremes).all():
        wrong = int(array.size - np.isfinite(array).sum())
        found(
            "error",
            f"channel {name} holds NaN or infinite values",
            f"{wrong} of {array.size} voxels",
            "mend or mask these voxels, or leave the case out",
            size=wrong / array.size,
        )


def _look_for_constants(card: Card, ranges: list[tuple[Any, Any]], there: list[int], found: Found) -> None:
    constant = [(card.channels[number].name, ranges[number][0]) for number in there if np.equal(*ranges[number])]
    if card.dimension == 3 and card.task != "classification":
        for name, value in constant:
            found("error", f"channel {name} is constant", f"every voxel is {value:.6g}", "leave the case out")
    elif len(constant) == len(there):
        # Official sets of pictures have empty ones among thousands; they teach nothing, and do no harm.
        found("warning", "the image is constant", f"every pixel is {constant[0][1]}", "look at it, or leave it out")


def _look_at_labels(case: Case, card: Card, image: Volume, found: Found) -> tuple[Volume | None, dict[int, int]]:
    assert case.label is not None, "called for annotated cases"
    labels = read_mask(case.label)
    difference = image.geometry.difference(labels.geometry)
    if difference:
        found(
            "error",
            "image and label lie on different grids",
            f"{_mask_name(case)}: {difference}",
            "find the label that was drawn on this image, or resample it to the image's grid",
            size=image.geometry.shift_mm(labels.geometry),
        )
        return None, {}
    look_at_noise(image.geometry, labels.geometry, found)
    present = counts_of(labels.array)
    allowed = {0, *card.labels} | ({card.ignore_label} if card.ignore_label is not None else set())
    unknown = {number: count for number, count in present.items() if number not in allowed}
    if unknown:
        found(
            "error",
            "the label holds values that the card does not name",
            ", ".join(f"{number} in {count} voxels" for number, count in list(unknown.items())[:5])
            + f" of {_mask_name(case)}",
            f"the card names {', '.join(f'{n} ({name})' for n, name in card.labels.items())}: "
            "add the value to 'labels' in the card, or mend the mask",
            size=sum(unknown.values()),
        )
    voxels = {number: present.get(number, 0) for number in card.labels}
    if any(present.get(number) for number in case.unlabelled):
        found(
            "warning",
            "labels that nobody draws in this kind of image are there",
            ", ".join(f"{card.labels[n]} in {present[n]} voxels" for n in case.unlabelled if present.get(n)),
            "look at the mask: it may be of another kind of image, or 'groups' in the card is wrong about this one",
        )
    if not any(voxels.values()):
        found(
            "note",
            "nothing is labelled in this case",
            "0 foreground voxels",
            "nothing, if there is nothing to label: the case teaches and measures what is no label",
        )
    return labels, voxels


def _mask_name(case: Case) -> str:
    assert case.label is not None, "called for annotated cases"
    source = stored_mask(case.label)
    # Several masks that fit each other are wrong together: one of them stands for all.
    return label_files(source)[0].name if isinstance(source, Masks) else source.name


def _sampled(
    shape: tuple[int, int, int], mask: Integer[np.ndarray, "i j k"] | None, ignored: int | None, case: str
) -> tuple[np.ndarray, ...] | None:
    """Indices of up to 10,000 voxels of the foreground, or of the image where there is none; None for all of it."""

    def some(count: int) -> np.ndarray:
        return generator(0, "sample", case).integers(0, count, _SAMPLED_VOXELS)

    if mask is not None:
        ignored = 0 if ignored is None else ignored  # background is none of the foreground either
        flat = np.ascontiguousarray(mask).reshape(-1)
        found = where(flat, lambda labels: (labels != 0) & (labels != ignored), _SAMPLED_VOXELS, some)
        if len(found):
            return np.unravel_index(found, shape)
    size = math.prod(shape)
    return None if size <= _SAMPLED_VOXELS else np.unravel_index(some(size), shape)


def statistics(
    array: Num[np.ndarray, "i j k"],
    extremes: tuple[Any, Any],
    places: tuple[np.ndarray, ...] | None,
    spread: np.ndarray,
) -> ChannelStatistics:
    """Of one channel; its sample is taken at ``places``, all of it where they are None. See ``spread_sample``."""
    low, high = map(float, extremes)
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = array[np.isfinite(array)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    sample = (array.ravel() if places is None else array[places]).astype(np.float64)
    sample = sample[np.isfinite(sample)]
    kind, values = packed(sample)
    return ChannelStatistics(
        low=low,
        high=high,
        kind=kind,
        packed=values,
        whole=bool((sample == np.rint(sample)).all()),
        levels=list(percentiles(spread, LEVELS)) if spread.size else [],
        at_high=float(np.mean(spread >= high)) if spread.size else 0.0,
        thumbnail=thumbnail(array),
    )
