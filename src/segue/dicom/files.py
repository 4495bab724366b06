"""One DICOM file: whether it is one, its header, its stored pixels."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.dicom import quick
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
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PIXEL_GROUP = 0x7FE00000
_PIXEL_TAGS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_NUMBERS_AS_TEXT = ("DS", "IS")
_PLAIN_TEXT = ("CS", "UI")  # ASCII whatever the character set
_UNDEFINED = 0xFFFFFFFF
_HEAD_BYTES = 32768  # most headers are shorter
_LONG_HEAD_BYTES = 1 << 20  # of those with private sequences of the maker
_BATCH = 64  # files open at the same time
_THREADS = 8  # they wait for the disk, not for each other: network folders answer late
# What a small file may unpack to. Deflate can make a thousand of one byte, images are far from that: an empty one of
# any size that exists is below the constant part, the factor is for large ones.
_UNPACKED_BYTES = 64_000_000
_UNPACKED_FACTOR = 100
_CODED_FACTOR = 1000


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A file whose header was read; its pixels stay on disk until they are asked for.

    Attributes:
        header: pydicom data set without pixels and what follows them.
        keyword: ``"PixelData"``, ``"FloatPixelData"``, ``"DoubleFloatPixelData"``; empty where there are none.
        offset: where the pixels begin in the file; None where they are packed (deflated or encapsulated).
        length: bytes of the pixels, as the header says.
    """

    path: Path
    header: Any
    keyword: str = ""
    offset: int | None = None
    length: int = 0

    def content(self) -> bytes:
        """The pixels as they are stored, packed or not; what tells copies of a file from files of the same name."""
        value = read_dataset(self.path).get(self.keyword)
        return value if isinstance(value, bytes) else repr(value).encode()

    def images(self) -> Iterator[np.ndarray]:
        """Stored pixels ``(rows, columns)``, frame after frame.

        Raises:
            DicomError: ``DAMAGED``.
        """
        kind = _plain_type(self)
        if kind is None:
            yield from _decoded(read_dataset(self.path), self.path)
            return
        count, rows, columns = _shape(self.header, self.path)
        frame = rows * columns * kind.itemsize
        there = max(0, min(self.length, self.path.stat().st_size - (self.offset or 0)))
        if there < count * frame:
            value = f"{there} of {count * frame} bytes of pixels"
            raise DicomError("the pixels cannot be decoded", where=self.path, value=value)
        spare = kind.itemsize * 8 - int(number(self.header, "BitsStored", self.path) or 0)
        with self.path.open("rb", buffering=0) as handle:
            handle.seek(self.offset or 0)
            for _ in range(count):
                image = np.empty((rows, columns), kind)
                read = _fill(handle, image.reshape(-1).view(np.uint8).data)
                if read < frame:
                    value = f"{read} of {frame} bytes of pixels"
                    raise DicomError("the pixels cannot be decoded", where=self.path, value=value)
                if not kind.isnative:
                    image = image.byteswap(inplace=True).view(kind.newbyteorder("="))
                if spare:  # bits beyond Bits Stored are not the image's (PS3.5 8.1.1): old overlays lie there
                    np.left_shift(image, spare, out=image)
                    np.right_shift(image, spare, out=image)
                yield image


def _shape(header: Any, path: Path) -> tuple[int, int, int]:
    """Frames, rows, columns."""
    count = number(header, "NumberOfFrames", path, 1) or 1
    shape = int(count), int(number(header, "Rows", path, 0) or 0), int(number(header, "Columns", path, 0) or 0)
    if min(shape) < 1:
        raise DicomError("the image does not say how many pixels it has", where=path, value=shape)
    return shape


def _fill(handle: Any, target: memoryview) -> int:
    done = 0
    while done < len(target):
        read = handle.readinto(target[done:])
        if not read:
            break
        done += read
    return done


def _plain_type(file: DicomFile) -> np.dtype[Any] | None:
    """The type of pixels that can be read as they lie in the file; None where they need a decoder."""
    if file.offset is None or file.keyword != "PixelData":
        return None
    bits, stored = number(file.header, "BitsAllocated", file.path), number(file.header, "BitsStored", file.path)
    sign = number(file.header, "PixelRepresentation", file.path)
    big = str(file.header.file_meta.TransferSyntaxUID) == _EXPLICIT_BIG
    # 8 bits in big endian may lie swapped in pairs (PS3.5 8.1.1): the decoder knows.
    if bits not in (8, 16, 32) or (big and bits == 8) or sign not in (0, 1) or not stored or not 1 <= stored <= bits:
        return None
    return np.dtype(f"{'>' if big else '<'}{'i' if sign else 'u'}{int(bits) // 8}")


def read_headers(
    paths: Iterable[Path], tags: list[int] | None = None
) -> Iterator[tuple[Path, DicomFile | DicomError | None]]:
    """The header of each file, in order: with ``tags`` only these, and nothing after the last of them.

    A file that is not DICOM comes as None, one that cannot be read as the error.

    Raises:
        MachineError: pydicom is not installed.
    """
    load_pydicom()
    paths = list(paths)
    for start in range(0, len(paths), _BATCH):
        # Whoever asks may stop in the middle: nothing may be open then. A generator that Python finds abandoned is
        # ended in whatever thread finds it, and one that would wait for threads there waits for itself.
        yield from _batch(paths[start : start + _BATCH], tags)


def _batch(paths: list[Path], tags: list[int] | None) -> list[tuple[Path, DicomFile | DicomError | None]]:
    # Threads open and read the beginnings, then one parses: parsing holds the interpreter, and threads that wait for
    # it only slow it down.
    if len(paths) == 1:
        handles = [_opened(paths[0])]
    else:
        with ThreadPoolExecutor(min(_THREADS, len(paths))) as pool:
            handles = list(pool.map(_opened, paths))
    return [(path, _parsed_header(handle, path, tags)) for path, handle in zip(paths, handles, strict=True)]


def _parsed_header(handle: Any, path: Path, tags: list[int] | None) -> DicomFile | DicomError | None:
    if isinstance(handle, DicomError):
        return handle
    with handle:
        try:
            return _header(handle, path, tags) if _begins_as_dicom(handle.peek(_PROLOGUE)) else None
        except DicomError as error:
            return error


def _opened(path: Path) -> Any:
    try:
        handle: Any = path.open("rb", buffering=_HEAD_BYTES)
        handle.peek(1)
    except FileNotFoundError:
        return DicomError("no such file", where=path, reason="NO_FILES")
    except OSError as error:
        return DicomError("the file cannot be read", where=path, value=error)
    return handle


def _header(handle: Any, path: Path, tags: list[int] | None) -> DicomFile:
    # Old files give each group its length first, that of the pixels too: it is read past.
    last = _PIXEL_GROUP + 1 if tags is None else max(tags) + 1
    try:
        found = _found(handle, last, tags)
        dataset = found.dataset
        _mend_syntax(dataset)
        if tags is not None:
            return DicomFile(path, dataset)
        for keyword in _PARSED_AT_ONCE:
            dataset.get(keyword)
    except Exception as error:
        # pydicom has no common class for what a damaged file makes it raise.
        raise DicomError("the file cannot be read", where=path, value=f"{type(error).__name__}: {error}") from error
    if found.stopped_at not in _PIXEL_TAGS:
        return DicomFile(path, dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    packed = found.length == _UNDEFINED or syntax not in (_IMPLICIT_LITTLE, _EXPLICIT_LITTLE, _EXPLICIT_BIG)
    return DicomFile(path, dataset, _PIXEL_TAGS[found.stopped_at], None if packed else found.offset, found.length)


def _found(handle: Any, last: int, tags: list[int] | None) -> quick.Found:
    """The elements before ``last``, by the quick reader where it can."""
    wanted = None if tags is None else frozenset(tags)
    content = handle.peek(_HEAD_BYTES)
    found = quick.found(content, last, wanted, whole=len(content) < _HEAD_BYTES)
    if found is None and len(content) >= _HEAD_BYTES:
        content = handle.read(_LONG_HEAD_BYTES)
        handle.seek(0)
        found = quick.found(content, last, wanted, whole=len(content) < _LONG_HEAD_BYTES)
    if found is not None:
        return found
    met = [0, 0]

    def stop(tag: int, _: str | None, length: int) -> bool:
        if tag >= last:
            met[:] = int(tag), length
            return True
        return False

    dataset = _parsed(handle, stop, tags)
    implicit, _ = dataset.original_encoding
    return quick.Found(dataset, met[0], handle.tell() + (8 if implicit else 12), met[1])


def _parsed(handle: Any, stop: Callable[[int, str | None, int], bool] | None, tags: list[int] | None) -> Any:
    from pydicom.filereader import read_partial

    if _DEFLATED in handle.peek(_HEAD_BYTES)[:4096]:
        handle = _Deflated(handle.read())
    return read_partial(handle, stop_when=stop, force=True, specific_tags=tags)


class _Deflated(io.BytesIO):
    """The content of a deflated file, whose packed part is handed out only if it unpacks to a sane size."""

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if size is None or size < 0:
            limit = _UNPACKED_BYTES + _UNPACKED_FACTOR * len(content)
            unpacked = len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, limit + 1))
            if unpacked > limit:
                raise ValueError(f"{len(content)} bytes unpack to more than {limit}")
        return content


def _begins_as_dicom(start: bytes) -> bool:
    start = start[:_PROLOGUE]
    if start[128:132] == b"DICM":
        return True
    return len(start) == _PROLOGUE and start[:2] in (b"\x02\0", b"\x08\0", b"\0\x08") and start[3:4] == b"\0"


def looks_like_dicom(path: Path) -> bool:
    """Whether a file begins as PS3.10 says, or, as old archives do, straight with a data set of group 2 or 8."""
    try:
        with path.open("rb") as file:
            start = file.read(_PROLOGUE)
    except OSError:
        return False
    return _begins_as_dicom(start)


def read_dataset(path: Path, *, tags: list[str] | None = None) -> Any:
    """The data set of a file; with ``tags`` only these, and no pixels.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    load_pydicom()
    if not path.is_file():
        raise DicomError("no such file", where=path, reason="NO_FILES")
    if not looks_like_dicom(path):
        raise DicomError("this is not a DICOM file", where=path, value=f"{path.stat().st_size} bytes")
    try:
        with path.open("rb", buffering=_HEAD_BYTES) as handle:
            if tags is not None:
                numbers_of = [load_pydicom().datadict.tag_for_keyword(tag) for tag in tags]
                return _parsed(handle, lambda tag, *_: tag >= _PIXEL_GROUP, numbers_of)
            dataset = _parsed(handle, None, None)
        _mend_syntax(dataset)
        for keyword in _PARSED_AT_ONCE:
            dataset.get(keyword)
    except Exception as error:
        # pydicom has no common class for what a damaged file makes it raise.
        raise DicomError("the file cannot be read", where=path, value=f"{type(error).__name__}: {error}") from error
    return dataset


def modality_of(path: Path) -> str:
    """What a file is: ``"CT"``, ``"SEG"``, ``"RTSTRUCT"``, ... (0008,0060); empty where it does not say.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``.
        MachineError: pydicom is not installed.
    """
    return text(read_dataset(path, tags=["Modality"]), "Modality")


def read_frames(path: Path) -> np.ndarray:
    """The stored pixels of one file, ``(frames, rows, columns)``, neither rescaled nor placed in the patient.

    Raises:
        DicomError: ``NO_FILES``, ``DAMAGED``, ``NO_PIXELS``, ``COLOUR``.
        MachineError: pydicom is not installed.
    """
    dataset = read_dataset(path)
    require_grey_pixels(dataset, path)
    return decode(dataset, path)


def require_grey_pixels(dataset: Any, path: Path, keyword: str | None = None) -> None:
    """Raise ``NO_PIXELS`` or ``COLOUR`` unless the data set holds a grey image (PS3.3 C.7.6.3).

    Args:
        keyword: of the pixels that were left on disk; by default they are looked for in the data set.
    """
    if not keyword and not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise DicomError("the file holds no pixels", where=path, value=dataset.get("Modality"), reason="NO_PIXELS")
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if number(dataset, "SamplesPerPixel", path, 1) != 1 or not kind.startswith("MONOCHROME"):
        raise DicomError("a colour image", where=path, value=kind, reason="COLOUR")


def decode(dataset: Any, path: Path) -> np.ndarray:
    """Stored pixels ``(frames, rows, columns)`` of any transfer syntax; the data set keeps no pixels afterwards."""
    frames = np.stack(list(_decoded(dataset, path)))
    for keyword in _PIXEL_KEYWORDS:
        if keyword in dataset:
            del dataset[keyword]
    return frames


def _decoded(dataset: Any, path: Path) -> Iterator[np.ndarray]:
    """Stored pixels ``(rows, columns)``, frame after frame, by pydicom's decoders."""
    pydicom = load_pydicom()
    count, rows, columns = _shape(dataset, path)
    done = 0
    try:
        _require_same_sizes(dataset, path)
        for image in pydicom.pixels.iter_pixels(dataset, raw=True):
            if image.shape != (rows, columns):
                value = f"{image.shape} in place of {(rows, columns)}"
                raise DicomError("the pixels are not those that the header names", where=path, value=value)
            done += 1
            yield image
            if done == count:
                return
    except DicomError:
        raise
    except Exception as error:
        # The decoders (pydicom, GDCM, OpenJPEG) have no common class for what they raise.
        raise DicomError("the pixels cannot be decoded", where=path, value=str(error).split("\n")[0]) from error
    raise DicomError("frames are missing", where=path, value=f"{done} of {count}")


def _stored(holder: Any, keyword: str) -> Any:
    """An element as it lies in the file, not made a value yet; None where it is not there or is a value already.

    pydicom makes an object of every value, which takes longer than all the rest of reading a header.
    """
    if not hasattr(holder, "get_item"):
        return None
    element = holder.get_item(_tag_of(keyword))
    return element if getattr(element, "is_raw", False) and isinstance(element.value, bytes) else None


@functools.cache
def _tag_of(keyword: str) -> Any:
    return load_pydicom().tag.Tag(keyword)


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
        stored = _stored(holder, keyword)
        if stored is not None and stored.VR in _NUMBERS_AS_TEXT:
            value = stored.value.strip(b" \0")
            values = np.array(value.split(b"\\") if value else [], dtype=np.float64)
        else:
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
        stored = _stored(holder, keyword)
        if stored is not None and (stored.VR in _PLAIN_TEXT or stored.VR in _NUMBERS_AS_TEXT):
            parts = stored.value.decode("ascii").rstrip(" \0").split("\\")
            return "\\".join(part.strip(" \0") for part in parts)
        value = holder.get(keyword)
    except Exception:
        # A damaged value of a tag that only describes is as good as none.
        return ""
    if value is None:
        return ""
    # pydicom's lists of values are MutableSequences; a person's name can be iterated too, letter by letter.
    return "\\".join(map(str, value)) if isinstance(value, MutableSequence) else str(value)


def _require_same_sizes(dataset: Any, path: Path) -> None:
    """Raise ``DAMAGED`` unless the pixels are as many as the header names: compressed frames say so themselves."""
    syntax = dataset.file_meta.TransferSyntaxUID
    count, rows, columns = _shape(dataset, path)
    allocated = int(number(dataset, "BitsAllocated", path, 0) or 0)
    frame = rows * columns * max(1, allocated // 8)
    content = next((dataset[keyword].value for keyword in _PIXEL_KEYWORDS if keyword in dataset), None)
    # Before anything is allocated; the decoders allocate first.
    limit = _UNPACKED_BYTES + _CODED_FACTOR * len(content or b"") if syntax.is_compressed else 8 * len(content or b"")
    if (frame if syntax.is_compressed else count * frame) > limit:
        value = f"{count} frames of {rows}x{columns} in {len(content or b'')} bytes"
        raise DicomError("the header names more pixels than the file can hold", where=path, value=value)
    if not str(syntax).startswith(_JPEG_FAMILY):
        return
    wanted = (rows, columns, 1)
    for packed in load_pydicom().encaps.generate_frames(dataset.PixelData, number_of_frames=count):
        found = sizes(packed)
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
