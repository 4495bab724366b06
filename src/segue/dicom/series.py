"""Finding the series in a folder."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.dicom.errors import DicomError, load_pydicom
from segue.dicom.files import looks_like_dicom, number, read_dataset, text

_TAGS = [
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "Modality",
    "SeriesDescription",
    "FrameOfReferenceUID",
    "ImageType",
    "NumberOfFrames",
    "Rows",
]
_THREADS = 8  # they wait for the disk, not for each other: network folders answer late
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Series:
    """The files of one series of one study, as their headers name them.

    Attributes:
        uid: Series Instance UID (0020,000E).
        study_uid: Study Instance UID (0020,000D).
        patient_id: Patient ID (0010,0020).
        modality: Modality (0008,0060): ``"CT"``, ``"PT"``, ``"MR"``, ``"RTSTRUCT"``, ``"SEG"``, ...
        description: Series Description (0008,103E).
        frame_of_reference: Frame of Reference UID (0020,0052); equal ones share their coordinates.
        image_type: Image Type (0008,0008) of the first file.
        files: sorted by path, which is not the order of the slices.
        frames: images in all files; 0 where there are none (structure sets, reports).
    """

    uid: str
    study_uid: str
    patient_id: str
    modality: str
    description: str
    frame_of_reference: str
    image_type: tuple[str, ...]
    files: tuple[Path, ...]
    frames: int


def scan(folder: Path) -> list[Series]:
    """All series below a folder, from headers alone; sorted by patient, study and series.

    Names do not matter, nor do folders: a series may be spread over several, and several may share one. Other
    files and DICOMDIR are passed over; a DICOM file whose header cannot be read is logged as a warning. Some
    writers give every slice of a series a study of its own: where each study holds one file, they are one series.

    Raises:
        DicomError: ``NO_FILES``: there is no such folder.
        MachineError: pydicom is not installed.
    """
    load_pydicom()
    folder = Path(folder)
    if not folder.is_dir():
        raise DicomError("no such folder", where=folder, reason="NO_FILES")
    groups: dict[tuple[str, str], list[tuple[Path, Any]]] = defaultdict(list)
    with ThreadPoolExecutor(_THREADS) as pool:
        paths = sorted(_files(folder))
        for path, header in zip(paths, pool.map(_header, paths), strict=True):
            if header is not None:
                groups[header["StudyInstanceUID"], header["SeriesInstanceUID"]].append((path, header))
    found = [_series(members) for members in _without_torn(groups)]
    return sorted(found, key=lambda series: (series.patient_id, series.study_uid, series.uid))


def _without_torn(groups: dict[tuple[str, str], list[tuple[Path, Any]]]) -> list[list[tuple[Path, Any]]]:
    """The groups, those put together that are single files of one series and patient, each in its own study."""
    whole: list[list[tuple[Path, Any]]] = []
    single: dict[tuple[str, str], list[tuple[Path, Any]]] = defaultdict(list)
    for (_, uid), members in groups.items():
        if len(members) == 1:
            single[members[0][1]["PatientID"], uid] += members
        else:
            whole.append(members)
    return whole + list(single.values())


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _header(path: Path) -> dict[str, str] | None:
    if not looks_like_dicom(path):
        return None
    try:
        dataset = read_dataset(path, tags=_TAGS)
        header = {tag: text(dataset, tag) for tag in _TAGS}
        frames = number(dataset, "NumberOfFrames", path, 1) if header["Rows"] else 0
    except DicomError as error:
        _log.warning("%s", error)
        return None
    header["NumberOfFrames"] = str(int(frames or 0))
    return header if header["SeriesInstanceUID"] else None


def _series(members: list[tuple[Path, Any]]) -> Series:
    first = members[0][1]
    return Series(
        uid=first["SeriesInstanceUID"],
        study_uid=first["StudyInstanceUID"],
        patient_id=first["PatientID"],
        modality=first["Modality"],
        description=first["SeriesDescription"],
        frame_of_reference=first["FrameOfReferenceUID"],
        image_type=tuple(first["ImageType"].split("\\")) if first["ImageType"] else (),
        files=tuple(path for path, _ in members),
        frames=sum(int(header["NumberOfFrames"]) for _, header in members),
    )
