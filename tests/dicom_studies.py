"""PET/CT studies as DICOM files, written with pydicom from known values, with a patient whose identity is planted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from segue.dicom import read_series
from segue.images import write
from segue.volume import Volume

DOSE_BQ, WEIGHT_KG, HALF_LIFE_S = 350e6, 70.0, 6586.2
UPTAKE_S = 3600.0
# What must never be found in anything that is written for a patient who is not de-identified.
PLANTED = ("Mustermann", "MRN-4711", "19500607", "20240229", "1950", "2024", "Klinik Sonnental", "ACC-99", "Dr. Weiss")
_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
Box = tuple[tuple[int, int, int], tuple[int, int, int]]
_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
}


@dataclass
class Study:
    """A patient's study; its series share a frame of reference unless told otherwise."""

    folder: Path
    patient: str = "MRN-4711"
    deidentified: bool = False
    uid: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)
    number: int = 0

    def add(
        self,
        modality: str,
        array: np.ndarray,
        spacing_mm: tuple[float, float, float] = (4.0, 4.0, 5.0),
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        **tags: Any,
    ) -> str:
        """Write ``array`` ``(k, rows, columns)`` of real values as axial slices; returns the Series Instance UID.

        ``spacing_mm`` and ``origin_mm`` (centre of the first pixel, LPS) are of ``(column, row, slice)``.
        """
        self.number += 1
        series = generate_uid()
        slope = max(1e-6, float(array.max()) / 30_000) if modality == "PT" else 1.0
        for k, image in enumerate(array):
            header = self._header(modality, series)
            header.InstanceNumber = k + 1
            header.ImagePositionPatient = [*origin_mm[:2], origin_mm[2] + k * spacing_mm[2]]
            header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            header.PixelSpacing = [spacing_mm[1], spacing_mm[0]]
            header.SliceThickness = spacing_mm[2]
            header.Rows, header.Columns = image.shape
            header.RescaleSlope, header.RescaleIntercept = repr(slope)[:16], 0
            header.PixelData = np.rint(image / float(header.RescaleSlope)).astype("<i2").tobytes()
            for name, value in tags.items():
                if value is None:
                    delattr(header, name)
                else:
                    setattr(header, name, value)
            # As exports have it: no suffix, and folders that mean nothing.
            path = self.folder / f"{self.number % 3}" / f"IM{self.number:02d}{k:04d}"
            path.parent.mkdir(parents=True, exist_ok=True)
            header.save_as(path, enforce_file_format=True)
        return series

    def files(self, series: str) -> list[Path]:
        """The files of a series, in the order of their slices."""
        found = [(dcmread(path, stop_before_pixels=True), path) for path in self.folder.rglob("IM*")]
        mine = [(float(header.InstanceNumber), path) for header, path in found if header.SeriesInstanceUID == series]
        return [path for _, path in sorted(mine)]

    def add_segments(self, image: str, boxes: dict[str, Box]) -> str:
        """A DICOM-SEG on a series of the study, of one box of voxels per name; returns its Series Instance UID."""
        self.number += 1
        files = self.files(image)
        geometry = read_series(files).volume.geometry
        array = np.zeros((1, *geometry.shape), np.uint8)
        for label, (low, high) in enumerate(boxes.values(), start=1):
            array[0][tuple(slice(*ends) for ends in zip(low, high, strict=True))] = label
        path = self.folder / f"seg{self.number}.dcm"
        write(Volume(array, geometry, "labels", "labels"), path, series=files, names=dict(enumerate(boxes, start=1)))
        return str(dcmread(path).SeriesInstanceUID)

    def add_structures(self, image: str, boxes: dict[str, Box], series: str = "") -> str:
        """An RTSTRUCT on a series of the study: a rectangle round each box of voxels; returns its series' UID."""
        self.number += 1
        headers = [dcmread(path, stop_before_pixels=True) for path in self.files(image)]
        structures = self._header("CT", series or generate_uid())
        structures.file_meta.MediaStorageSOPClassUID = structures.SOPClassUID = _STRUCTURES
        structures.Modality = "RTSTRUCT"
        del structures.FrameOfReferenceUID, structures.BitsAllocated
        images = [_item(ReferencedSOPInstanceUID=header.SOPInstanceUID) for header in headers]
        one = _item(SeriesInstanceUID=image, ContourImageSequence=Sequence(images))
        study = _item(RTReferencedSeriesSequence=Sequence([one]))
        frame = _item(FrameOfReferenceUID=self.frame, RTReferencedStudySequence=Sequence([study]))
        structures.ReferencedFrameOfReferenceSequence = Sequence([frame])
        structures.StructureSetROISequence, structures.ROIContourSequence = Sequence(), Sequence()
        for number, (name, (low, high)) in enumerate(boxes.items(), start=1):
            structures.StructureSetROISequence.append(_item(ROINumber=number, ROIName=name))
            contours = [_rectangle(headers[k], low, high) for k in range(low[2], high[2])]
            structures.ROIContourSequence.append(_item(ReferencedROINumber=number, ContourSequence=Sequence(contours)))
        structures.save_as(self.folder / f"structures{self.number}.dcm", enforce_file_format=True)
        return str(structures.SeriesInstanceUID)

    def _header(self, modality: str, series: str) -> Dataset:
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = _CLASSES[modality]
        meta.MediaStorageSOPInstanceUID = generate_uid()
        header = Dataset()
        header.file_meta = meta
        header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        header.StudyInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID = self.uid, series, self.frame
        header.PatientName, header.PatientID, header.PatientBirthDate = "Mustermann^Erika", self.patient, "19500607"
        header.PatientSex, header.PatientWeight, header.PatientSize = "F", WEIGHT_KG, 1.7
        header.InstitutionName, header.AccessionNumber = "Klinik Sonnental", "ACC-99"
        header.ReferringPhysicianName = "Dr. Weiss"
        header.StudyDescription = "PET/CT Erika Mustermann" if not self.deidentified else "PET-CT whole body"
        header.SeriesDescription = f"{modality} of Mustermann" if not self.deidentified else f"{modality} axial"
        header.StudyDate = header.SeriesDate = header.AcquisitionDate = header.ContentDate = "20240229"
        header.StudyTime = header.SeriesTime = header.AcquisitionTime = header.ContentTime = "101500"
        header.StudyID = ""
        header.Modality, header.SeriesNumber = modality, self.number
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.PatientIdentityRemoved = "YES" if self.deidentified else "NO"
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
        if modality == "PT":
            _add_pet(header)
        if modality == "CT":
            header.RescaleType, header.KVP = "HU", 120
        return header


def _add_pet(header: Dataset) -> None:
    header.Units, header.DecayCorrection = "BQML", "START"
    header.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"]
    header.Manufacturer, header.ManufacturerModelName = "SIEMENS", "Biograph"
    header.ActualFrameDuration, header.FrameReferenceTime = 120_000, 59_800.0
    tracer = Dataset()
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = DOSE_BQ, HALF_LIFE_S
    tracer.RadiopharmaceuticalStartTime = "091500"
    header.RadiopharmaceuticalInformationSequence = Sequence([tracer])


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _rectangle(header: Dataset, low: tuple[int, int, int], high: tuple[int, int, int]) -> Dataset:
    x, y, z = (float(value) for value in header.ImagePositionPatient)
    dy, dx = (float(value) for value in header.PixelSpacing)
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    points = [value for i, j in corners for value in (x + (i - 0.5) * dx, y + (j - 0.5) * dy, z)]
    return _item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=points)


def suv_of(bq_per_ml: np.ndarray | float) -> Any:
    """The body-weight SUV of these studies: dose decayed from the injection to the series' time, an hour later."""
    dose = DOSE_BQ * 2 ** (-UPTAKE_S / HALF_LIFE_S)
    return np.asarray(bq_per_ml) * WEIGHT_KG * 1000 / dose


def everything_written(folder: Path) -> list[tuple[str, bytes]]:
    """Names below a folder, and contents (unpacked where they are gzip)."""
    import gzip

    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content)[:1000] if path.suffix == ".gz" else content
            found.append((path.relative_to(folder).as_posix(), content))
    return found
