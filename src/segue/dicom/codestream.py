"""What a compressed image says about itself, to be compared with the header before it is decoded.

GDCM ends the whole process, not with an exception, where a damaged header asks for other sizes than the compressed
image has.
"""

from __future__ import annotations

_SIZE_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}  # SOF0 to SOF3 (ITU-T T.81 B.2.2), SOF55 (JPEG-LS, T.87 C.1.2)
_SCAN = 0xDA


def sizes(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, components and bits of a JPEG, JPEG-LS or JPEG 2000 image; None where it does not say.

    The segments before the first scan must follow each other without a break, else None too.
    """
    if frame[:4] == b"\xff\x4f\xff\x51":
        return _jpeg_2000(frame)
    return _jpeg(frame) if frame[:2] == b"\xff\xd8" else None


def _jpeg(frame: bytes) -> tuple[int, int, int, int] | None:
    found = None
    at = 2
    while at + 10 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        if marker in _SIZE_MARKERS:
            found = _short(frame, at + 5), _short(frame, at + 7), frame[at + 9], frame[at + 4]
        if marker == _SCAN:
            return found
        at += 2 + _short(frame, at + 2)
    return None


def _jpeg_2000(frame: bytes) -> tuple[int, int, int, int] | None:
    """The SIZ segment (ITU-T T.800 A.5.1)."""
    if len(frame) < 43:
        return None
    right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
    return bottom - top, right - left, _short(frame, 40), (frame[42] & 0x7F) + 1


def _short(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")
