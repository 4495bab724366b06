"""The stored frames of a segmentation, of one, eight or sixteen bits."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segue.dicom.codestream import sizes
from segue.dicom.errors import DicomError, load_pydicom
from segue.dicom.files import DicomFile, number, text

_JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
# PS3.5 A.4.13, younger than pydicom's list: each frame by itself, deflated.
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
# What a deflated frame may unpack to; see the limits of compressed images.
_INFLATED_BYTES = 64_000_000
_INFLATED_FACTOR = 100


def stored_frames(file: DicomFile, count: int) -> Iterator[np.ndarray]:
    """Frames ``(row, column)`` of whole numbers; of those of one bit, 0 and 1.

    Raises:
        DicomError: ``NO_PIXELS``, ``DAMAGED``.
    """
    header, path = file.header, file.path
    bits = int(number(header, "BitsAllocated", path, 0) or 0)
    syntax = str(header.file_meta.TransferSyntaxUID)
    if file.keyword != "PixelData":
        raise DicomError("the segmentation holds no pixels", where=path, reason="NO_PIXELS")
    if number(header, "SamplesPerPixel", path, 1) != 1:
        raise DicomError("a segment's pixel has several values", where=path, value=text(header, "SamplesPerPixel"))
    rows, columns = (int(number(header, keyword, path, 0) or 0) for keyword in ("Rows", "Columns"))
    if min(rows, columns) < 1 or bits not in (1, 8, 16):
        value = f"{rows}x{columns} of {bits} bits"
        raise DicomError("the segmentation does not say how many pixels it has", where=path, value=value)
    if syntax == _DEFLATED_FRAMES:
        yield from _inflated(file, (count, rows, columns), bits)
    elif bits == 1 and not load_pydicom().uid.UID(syntax).is_compressed:
        yield from _unpacked(file.content(), (count, rows, columns), path)
    elif bits == 1 and syntax in _JPEG_2000:
        yield from _single_bits(file, (count, rows, columns))
    else:
        yield from file.images()


def _unpacked(content: bytes, shape: tuple[int, int, int], path: Path) -> Iterator[np.ndarray]:
    """Frames of bits, the lowest of a byte first; frames follow each other without a gap (PS3.5 8.1.1 and annex D)."""
    count, rows, columns = shape
    size = rows * columns
    if len(content) * 8 < count * size:
        value = f"{len(content)} bytes for {count} frames of {rows}x{columns} bits"
        raise DicomError("the pixels cannot be decoded", where=path, value=value)
    packed = np.frombuffer(content, np.uint8)
    for frame in range(count):
        first, last = frame * size, (frame + 1) * size
        bits = np.unpackbits(packed[first // 8 : -(-last // 8)], bitorder="little")
        yield bits[first % 8 :][:size].reshape(rows, columns)


def _inflated(file: DicomFile, shape: tuple[int, int, int], bits: int) -> Iterator[np.ndarray]:
    count, rows, columns = shape
    needed = -(-rows * columns * bits // 8)
    packed = load_pydicom().encaps.generate_frames(file.content(), number_of_frames=count)
    done = 0
    if needed > _INFLATED_BYTES + _INFLATED_FACTOR * len(file.content()):
        value = f"{count} frames of {rows}x{columns}"
        raise DicomError("the header names more pixels than the file can hold", where=file.path, value=value)
    for frame in packed:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, needed + 1)
        if len(content) < needed:
            value = f"{len(content)} of {needed} bytes of frame {done + 1}"
            raise DicomError("the pixels cannot be decoded", where=file.path, value=value)
        if bits == 1:
            yield from _unpacked(content, (1, rows, columns), file.path)
        else:
            yield np.frombuffer(content, f"<u{bits // 8}", rows * columns).reshape(rows, columns)
        done += 1
    if done < count:
        raise DicomError("frames are missing", where=file.path, value=f"{done} of {count}")


def _single_bits(file: DicomFile, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Frames that JPEG 2000 holds as images of one bit, which pydicom's decoders do not know."""
    from openjpeg.utils import decode

    count, rows, columns = shape
    done = 0
    for packed in load_pydicom().encaps.generate_frames(file.content(), number_of_frames=count):
        if sizes(packed) != (rows, columns, 1, 1):
            value = f"{sizes(packed)} in place of {(rows, columns, 1, 1)}"
            raise DicomError("the compressed image is not the one that the header names", where=file.path, value=value)
        yield np.asarray(decode(packed)).reshape(rows, columns)
        done += 1
    if done < count:
        raise DicomError("frames are missing", where=file.path, value=f"{done} of {count}")
