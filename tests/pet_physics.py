"""A PET of known SUV, simulated from the decay law alone: what a scanner would store, under each convention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from scipy.integrate import quad
from scipy.optimize import brentq

from segue.dicom import DicomVolume
from segue.volume import Geometry, Volume

SUV = np.array([0.2, 1.0, 4.0])  # what every slice holds
Change = Callable[[list[Dataset]], None]
PET_CLASS = "1.2.840.10008.5.1.4.1.1.128"


@dataclass
class Scan:
    """Beds one after another, each of two slices; times in seconds after the injection.

    Attributes:
        reference_s: to which START corrects decay.
        bed_starts_s: when each bed's acquisition begins.
    """

    injected: datetime = datetime(2021, 6, 5, 10, 0)
    dose_bq: float = 350e6
    weight_kg: float = 70.0
    height_m: float | None = 1.75
    half_life_s: float = 6586.2
    reference_s: float = 3600.0
    bed_starts_s: tuple[float, ...] = (3600.0, 3780.0)
    frame_s: float = 180.0
    decay: str = "START"
    tags: dict[str, Any] = field(default_factory=dict)
    tracer: dict[str, Any] = field(default_factory=dict)

    def concentration(self, after_s: float) -> float:
        """Bq/ml of SUV 1 this long after the injection: dose over weight, decayed."""
        return self.dose_bq * 0.5 ** (after_s / self.half_life_s) / (self.weight_kg * 1000)

    def mean_concentration(self, start_s: float) -> float:
        return quad(self.concentration, start_s, start_s + self.frame_s)[0] / self.frame_s

    def average_time_s(self, start_s: float) -> float:
        """When the activity equals its mean over the frame, after the injection."""
        mean = self.mean_concentration(start_s)
        return float(brentq(lambda t: self.concentration(t) - mean, start_s, start_s + self.frame_s, xtol=1e-9))

    def stored(self, start_s: float) -> float:
        """Bq/ml of SUV 1 in an image of this scan."""
        if self.decay == "NONE":
            return self.mean_concentration(start_s)
        return self.concentration(0.0 if self.decay == "ADMIN" else self.reference_s)

    def volume(self, change: Callable[[list[Dataset]], None] | None = None, values: float | None = None) -> DicomVolume:
        """``(1, 3, 1, slices)``: the SUVs 0.2, 1 and 4; with ``values`` these per SUV in place of Bq/ml."""
        starts = [start for start in self.bed_starts_s for _ in range(2)]
        headers = [self._header(start, k) for k, start in enumerate(starts)]
        if change:
            change(headers)
        scale = np.array([self.stored(start) if values is None else values for start in starts])
        array = (SUV[:, None, None] * scale).astype(np.float32)[None]
        return DicomVolume(Volume(array, Geometry((3, 1, len(starts)), np.diag([4.0, 4.0, 5.0, 1.0]))), headers)

    def at(self, after_s: float) -> datetime:
        return self.injected + timedelta(seconds=after_s)

    def _header(self, start_s: float, k: int) -> Dataset:
        header = Dataset()
        header.Modality, header.SOPClassUID, header.InstanceNumber = "PT", PET_CLASS, k + 1
        header.ImageType = ["ORIGINAL", "PRIMARY"]
        header.PatientWeight, header.PatientSex = self.weight_kg, "M"
        if self.height_m:
            header.PatientSize = self.height_m
        header.SeriesDate, header.SeriesTime = date_and_time(self.at(self.reference_s))
        header.AcquisitionDate, header.AcquisitionTime = date_and_time(self.at(start_s))
        header.Units, header.DecayCorrection = "BQML", self.decay
        header.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "RAN"] + ["DECY"] * (self.decay != "NONE")
        header.RescaleSlope, header.RescaleIntercept = 1.0 + k / 8, 0
        header.ActualFrameDuration = round(self.frame_s * 1000)
        header.FrameReferenceTime = (self.average_time_s(start_s) - self.reference_s) * 1000
        tracer = Dataset()
        tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = self.dose_bq, self.half_life_s
        tracer.RadiopharmaceuticalStartDateTime = "".join(date_and_time(self.injected))
        tracer.RadiopharmaceuticalStartTime = date_and_time(self.injected)[1]
        header.RadiopharmaceuticalInformationSequence = Sequence([tracer])
        put(header, self.tags)
        put(tracer, self.tracer)
        return header


def put(dataset: Dataset, values: dict[str, Any]) -> None:
    """Set tags by keyword; None removes one."""
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            delattr(dataset, keyword)


def put_private(
    dataset: Dataset, group: int, creator: str, element: int, vr: str, value: Any, block: int = 0x10
) -> None:
    if creator:
        dataset.add_new((group, block), "LO", creator)
    dataset.add_new((group, block << 8 | element), vr, value)


def date_and_time(moment: datetime) -> tuple[str, str]:
    """DA and TM (PS3.5 6.2)."""
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")


def broken(dataset: Dataset, keyword: str, value: Any) -> None:
    """A value that pydicom would not let be set; bytes stay unparsed until they are asked for, as in a file."""
    tag = Tag(keyword)
    if tag in dataset:
        del dataset[tag]
    try:
        if value is not None and not isinstance(value, bytes):
            setattr(dataset, keyword, value)
            return
    except Exception:
        value = repr(value).encode()
    if value is not None:
        dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)


def each(change: Callable[[Dataset], None]) -> Change:
    def of_all(headers: list[Dataset]) -> None:
        for header in headers:
            change(header)

    return of_all


def tags(**values: Any) -> Change:
    return each(lambda header: put(header, values))


def tracer(**values: Any) -> Change:
    return each(lambda header: put(header.RadiopharmaceuticalInformationSequence[0], values))


def one(k: int, **values: Any) -> Change:
    return lambda headers: put(headers[k], values)


def private(block: tuple[int, str], element: int, vr: str, value: Any, at: int = 0x10) -> Change:
    return each(lambda header: put_private(header, *block, element, vr, value, at))


def every(*changes: Change) -> Change:
    def of_all(headers: list[Dataset]) -> None:
        for change in changes:
            change(headers)

    return of_all
