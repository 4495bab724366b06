"""One DICOM file: whether it is one, its header, its stored pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segue.dicom.codestream import sizes
from segue.dicom.errors import DicomError, load_pydicom

_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Elements are parsed, and damaged ones raise, when they are first asked for: these here, where it is caught.
_PARSED_AT_ONCE = ("Modality", "PhotometricInterpretation", "ModalityLUTSequence", *_PIXEL_KEYWORDS)
_JPEG_FAMILY = "1.2.840.10008.1.2.4."
_PROLOGUE = 132  # PS3.10 7.1: a preamble of 128 bytes, then "DICM"


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins as PS3.10 says, or, as old archives do, straight with a data set of group 2 or 8."""
    try:
        with path.open("rb") as handle:
            start = handle.read(_PROLOGUE)
    except OSError:
        return False
    if start[128:132] == b"DICM":
        return True
    return len(start) == _PROLOGUE and start[:2] in (b"\x02\0", b"\x08\0", b"\0\x08") and start[3:4] == b"\0"


def read_dataset(path: Path, *, tags: list[str] | None = None) -> Any:
    """The data set of a file; with ``tags`` only these, and no pixels.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    pydicom = load_pydicom()
    if not path.is_file():
        raise DicomError("no such file", where=path, reason="NO_FILES")
    if not looks_like_dicom(path):
        raise DicomError("this is not a DICOM file", where=path, value=f"{path.stat().st_size} bytes")
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=tags is not None, specific_tags=tags)
        if tags is None:
            _mend_syntax(dataset)
            for keyword in _PARSED_AT_ONCE:
                dataset.get(keyword)
    except Exception as error:
        # pydicom has no common class for what a damaged file makes it raise.
        raise DicomError("the file cannot be read", where=path, value=f"{type(error).__name__}: {error}") from error
    return dataset


def read_frames(path: Path) -> np.ndarray:
    """The stored pixels of one file, ``(frames, rows, columns)``, neither rescaled nor placed in the patient.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``, ``NO_PIXELS``, ``COLOUR``.
        MachineError: pydicom is not installed.
    """
    dataset = read_dataset(path)
    require_grey_pixels(dataset, path)
    return decode(dataset, path)


def require_grey_pixels(dataset: Any, path: Path) -> None:
    """Raise ``NO_PIXELS`` or ``COLOUR`` unless the data set holds a grey image (PS3.3 C.7.6.3)."""
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise DicomError("the file holds no pixels", where=path, value=dataset.get("Modality"), reason="NO_PIXELS")
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if number(dataset, "SamplesPerPixel", path, 1) != 1 or not kind.startswith("MONOCHROME"):
        raise DicomError("a colour image", where=path, value=kind, reason="COLOUR")


def decode(dataset: Any, path: Path) -> np.ndarray:
    """Stored pixels ``(frames, rows, columns)`` of any transfer syntax; the data set keeps no pixels afterwards."""
    pydicom = load_pydicom()
    frames: np.ndarray
    try:
        _require_same_sizes(dataset, path)
        frames = pydicom.pixels.pixel_array(dataset, raw=True)
    except DicomError:
        raise
    except Exception as error:
        # The decoders (pydicom, GDCM, OpenJPEG) have no common class for what they raise.
        raise DicomError("the pixels cannot be decoded", where=path, value=str(error).split("\n")[0]) from error
    for keyword in _PIXEL_KEYWORDS:
        if keyword in dataset:
            del dataset[keyword]
    frames = frames if frames.ndim == 3 else frames[None]
    wanted = (number(dataset, "Rows", path), number(dataset, "Columns", path))
    if frames.shape[1:] != wanted or frames.size == 0:
        value = f"{frames.shape[1:]} in place of {wanted}"
        raise DicomError("the pixels are not those that the header names", where=path, value=value)
    return frames


def number(holder: Any, keyword: str, path: Path, default: float | None = None) -> float | None:
    """One finite number of a data set; ``default`` where it is absent or empty."""
    found = numbers(holder, keyword, path)
    return default if found is None else float(found[0])


def numbers(holder: Any, keyword: str, path: Path, count: int = 1) -> np.ndarray | None:
    """``count`` finite numbers of a data set, float64; None where they are absent or empty.

    Raises:
        DicomError: ``DAMAGED``: another count, no numbers, or not finite.
    """
    try:
        value = holder.get(keyword)
        if value is None or value == "":
            return None
        values = np.atleast_1d(np.array(value, dtype=np.float64))
    except Exception as error:
        # Values are parsed when they are asked for, with whatever pydicom raises on a damaged one.
        raise DicomError(f"{keyword} cannot be read", where=path, value=error) from error
    if values.size == 0:
        return None
    if values.shape != (count,) or not np.isfinite(values).all():
        raise DicomError(f"{keyword} is not {count} finite numbers", where=path, value=values.tolist())
    return values


def text(holder: Any, keyword: str) -> str:
    """A value as text, several joined with backslashes as DICOM writes them; empty where absent or unreadable."""
    try:
        value = holder.get(keyword)
    except Exception:
        # A damaged value of a tag that only describes is as good as none.
        return ""
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    return "\\".join(map(str, value)) if hasattr(value, "__iter__") else str(value)


def _require_same_sizes(dataset: Any, path: Path) -> None:
    """Raise ``DAMAGED`` unless every compressed frame has the sizes that the header names."""
    if not str(dataset.file_meta.TransferSyntaxUID).startswith(_JPEG_FAMILY):
        return
    count = int(number(dataset, "NumberOfFrames", path, 1) or 1)
    allocated = int(number(dataset, "BitsAllocated", path, 0) or 0)
    wanted = (number(dataset, "Rows", path), number(dataset, "Columns", path), 1)
    for frame in load_pydicom().encaps.generate_frames(dataset.PixelData, number_of_frames=count):
        found = sizes(frame)
        # More than eight bits take two bytes: a decoder's buffer follows the one, its output the other.
        if found is None or found[:3] != wanted or allocated != (8 if found[3] <= 8 else 16) or found[3] > 16:
            value = f"{found} in place of {wanted} and {allocated} bits"
            raise DicomError("the compressed image is not the one that the header names", where=path, value=value)


def _mend_syntax(dataset: Any) -> None:
    """Name the transfer syntax of a file without File Meta Information: the one in which it was parsed."""
    if dataset.file_meta.get("TransferSyntaxUID"):
        return
    implicit, little = dataset.original_encoding
    syntax = _IMPLICIT_LITTLE if implicit else _EXPLICIT_LITTLE if little else _EXPLICIT_BIG
    dataset.file_meta.TransferSyntaxUID = load_pydicom().uid.UID(syntax)
