"""Finding the series in a folder."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.dicom.errors import DicomError, load_pydicom
from segue.dicom.files import DicomFile, number, read_headers, text

_TAGS = {
    "ImageType": 0x00080008,
    "StudyDate": 0x00080020,
    "Modality": 0x00080060,
    "StudyDescription": 0x00081030,
    "SeriesDescription": 0x0008103E,
    "PatientID": 0x00100020,
    "PatientIdentityRemoved": 0x00120062,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "StudyID": 0x00200010,
    "SeriesNumber": 0x00200011,
    "FrameOfReferenceUID": 0x00200052,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "CorrectedImage": 0x00280051,
}
_DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage
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
        number: Series Number (0020,0011), as text.
        corrected: Corrected Image (0028,0051) of the first file: ``"ATTN"``, ``"DECY"``, ... of PET.
        study_date, study_id, study_description: (0008,0020), (0020,0010), (0008,1030) of the first file.
        deidentified: every file says that the patient's identity was removed (0012,0062).
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
    number: str = ""
    corrected: tuple[str, ...] = ()
    study_date: str = ""
    study_id: str = ""
    study_description: str = ""
    deidentified: bool = False

    @property
    def called(self) -> str:
        """What messages call it: modality and number. A description that somebody typed may hold a patient's name, and
        is added only where the files say that the identity was removed."""
        return f"{self.modality} {self.description if self.deidentified else self.number}".strip()


def scan(folder: Path, on_damaged: Callable[[DicomError], None] | None = None) -> list[Series]:
    """All series below a folder, from headers alone; sorted by patient, study and series.

    Names do not matter, nor do folders: a series may be spread over several, and several may share one. Other
    files and DICOMDIR are passed over. Some writers give every slice of a series a study of its own: where each study
    holds one file, they are one series.

    Args:
        on_damaged: told of each DICOM file whose header cannot be read; by default that is logged as a warning.

    Raises:
        DicomError: ``NO_FILES``: there is no such folder.
        MachineError: pydicom is not installed.
    """
    folder = Path(folder)
    load_pydicom()
    if not folder.is_dir():
        raise DicomError("no such folder", where=folder, reason="NO_FILES")
    groups: dict[tuple[str, str, str], list[tuple[Path, Any]]] = defaultdict(list)
    for path, found in read_headers(_files(folder), list(_TAGS.values())):
        header = _header(found, on_damaged or _log_damaged)
        if header is not None:
            # UIDs should be unique in the world; a copy under another Patient ID is another patient's all the same.
            key = header["PatientID"].strip(), header["StudyInstanceUID"], header["SeriesInstanceUID"]
            groups[key].append((path, header))
    series = [_series(members) for members in _without_torn(groups)]
    return sorted(series, key=lambda one: (one.patient_id, one.study_uid, one.uid))


def _without_torn(groups: dict[tuple[str, str, str], list[tuple[Path, Any]]]) -> list[list[tuple[Path, Any]]]:
    """The groups, those put together that are single files of one series and patient, each in its own study."""
    whole: list[list[tuple[Path, Any]]] = []
    single: dict[tuple[str, str], list[tuple[Path, Any]]] = defaultdict(list)
    for (patient, _, uid), members in groups.items():
        if len(members) == 1:
            single[patient, uid] += members
        else:
            whole.append(members)
    return whole + list(single.values())


def _files(folder: Path) -> list[Path]:
    found = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]  # noqa: PTH118
    return [Path(path) for path in sorted(found) if os.path.isfile(path)]  # noqa: PTH113


def _log_damaged(error: DicomError) -> None:
    _log.warning("%s", error)


def _header(found: DicomFile | DicomError | None, on_damaged: Callable[[DicomError], None]) -> dict[str, str] | None:
    if found is None:
        return None
    try:
        if isinstance(found, DicomError):
            raise found
        header = {tag: text(found.header, tag) for tag in _TAGS}
        frames = number(found.header, "NumberOfFrames", found.path, 1) if header["Rows"] else 0
    except DicomError as error:
        on_damaged(error)
        return None
    header["NumberOfFrames"] = str(int(frames or 0))
    if header["SeriesInstanceUID"]:
        return header
    if found.header.preamble and not _is_directory(found):
        on_damaged(DicomError("a DICOM file that names no series", where=found.path))
    return None


def _is_directory(found: DicomFile) -> bool:
    """Whether it is a DICOMDIR: a list of the files beside it, which are looked at themselves."""
    kind = found.header.file_meta.get("MediaStorageSOPClassUID", "")
    return kind == _DIRECTORY or found.path.name.upper().startswith("DICOMDIR")


def _series(members: list[tuple[Path, Any]]) -> Series:
    first = members[0][1]
    return Series(
        uid=first["SeriesInstanceUID"],
        study_uid=first["StudyInstanceUID"],
        patient_id=first["PatientID"],
        modality=first["Modality"],
        description=first["SeriesDescription"],
        frame_of_reference=first["FrameOfReferenceUID"],
        image_type=_several(first["ImageType"]),
        files=tuple(path for path, _ in members),
        frames=sum(int(header["NumberOfFrames"]) for _, header in members),
        number=first["SeriesNumber"],
        corrected=_several(first["CorrectedImage"]),
        study_date=first["StudyDate"],
        study_id=first["StudyID"],
        study_description=first["StudyDescription"],
        deidentified=all(header["PatientIdentityRemoved"].strip().upper() == "YES" for _, header in members),
    )


def _several(value: str) -> tuple[str, ...]:
    return tuple(value.split("\\")) if value else ()
