"""The header of an ordinary DICOM file in a tenth of the time that pydicom's reader takes.

Elements are found, not interpreted: pydicom turns each into a value when it is asked for, sequences too. A file that is
anything but ordinary (big endian, deflated, without preamble, elements out of order, a length that does not fit) is
left to pydicom, which knows what to make of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

_IMPLICIT = b"1.2.840.10008.1.2"
# Of these the elements are not in explicit little endian, or not to be read as they lie.
_LEFT_TO_PYDICOM = (b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99", b"1.2.840.113619.5.2")
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS")
    + (b"ST", b"TM", b"UI", b"UL", b"US")
)
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_TRANSFER_SYNTAX, _CHARACTER_SET = 0x00020010, 0x00080005
_AFTER_META = 0x00030000
_PREAMBLE = 128
_DEEPEST = 16
_tag_and_length = struct.Struct("<HHI").unpack_from
_explicit = struct.Struct("<HH2sH").unpack_from
_long = struct.Struct("<I").unpack_from
_encodings: dict[bytes, Any] = {}


@dataclass(frozen=True, eq=False)
class Found:
    """What lies before the pixels.

    Attributes:
        dataset: pydicom's, with its file meta information.
        stopped_at: the first element that was not taken, (0000,0000) at the end of the file.
        offset: where its value begins in the file.
        length: bytes of its value, as the header says.
    """

    dataset: Any
    stopped_at: int
    offset: int
    length: int


class _UnusualError(Exception):
    """Not an ordinary file, or more of it is needed."""


def found(content: bytes, last: int, tags: frozenset[int] | None = None, *, whole: bool) -> Found | None:
    """The elements up to ``last``, with ``tags`` only these; None where pydicom has to look at the file.

    Args:
        content: the beginning of the file.
        last: the first tag that is not read any more.
        whole: ``content`` is the whole file.
    """
    try:
        return _found(content, last, tags, whole)
    except (_UnusualError, struct.error, IndexError):
        return None


def _found(content: bytes, last: int, tags: frozenset[int] | None, whole: bool) -> Found:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.tag import BaseTag

    if content[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise _UnusualError
    meta: dict[Any, Any] = {}
    at, _, _, _ = _elements(content, _PREAMBLE + 4, _AFTER_META, None, False, whole, meta)
    if _TRANSFER_SYNTAX not in meta:
        raise _UnusualError
    syntax = meta[BaseTag(_TRANSFER_SYNTAX)].value.rstrip(b"\0 ")
    if syntax in _LEFT_TO_PYDICOM:
        raise _UnusualError
    implicit = syntax == _IMPLICIT
    elements: dict[Any, Any] = {}
    _, stopped_at, offset, length = _elements(content, at, last, tags, implicit, whole, elements)
    dataset = Dataset(elements)
    dataset.file_meta = FileMetaDataset(meta)
    dataset.file_meta.set_original_encoding(False, True)
    dataset.preamble = content[:_PREAMBLE]
    named = elements.get(_CHARACTER_SET)
    dataset.set_original_encoding(implicit, True, _encoding(dataset, named.value if named is not None else b""))
    return Found(dataset, stopped_at, offset, length)


def _elements(
    content: bytes,
    at: int,
    last: int,
    tags: frozenset[int] | None,
    implicit: bool,
    whole: bool,
    found: dict[Any, Any],
) -> tuple[int, int, int, int]:
    """Put the elements from ``at`` on into ``found``.

    Returns: where the first one that was not taken begins, its tag, where its value begins, and its length.
    """
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import BaseTag

    end, before = len(content), -1
    while True:
        if at + 8 > end:
            if at == end and whole:
                return at, 0, at, 0
            raise _UnusualError
        kind: bytes | None = None
        if implicit:
            group, number, length = _tag_and_length(content, at)
            value = at + 8
        else:
            group, number, kind, length = _explicit(content, at)
            value = at + 8
            if group > 2 and last == _AFTER_META:
                return at, group << 16 | number, value, 0  # from here on elements may be implicit
            if kind in _LONG:
                (length,) = _long(content, value)
                value += 4
            elif kind not in _SHORT:
                raise _UnusualError
        tag = group << 16 | number
        if tag >= last:
            return at, tag, value, length
        if tag <= before:
            raise _UnusualError
        before = tag
        after = value + length
        if length == _UNDEFINED:
            if kind not in (b"SQ", None):
                raise _UnusualError
            kind = b"SQ"
            after = _sequence_end(content, value, implicit, 0)
            stop = after - 8
        else:
            stop = after
        if after > end:
            raise _UnusualError
        if tags is None or tag in tags or tag == _CHARACTER_SET:
            base = BaseTag(tag)
            name = None if kind is None else kind.decode("ascii")
            found[base] = RawDataElement(base, name, stop - value, content[value:stop], value, implicit, True)
        at = after


def _sequence_end(content: bytes, at: int, implicit: bool, depth: int) -> int:
    """Where a sequence of undefined length, whose items begin at ``at``, has ended (PS3.5 7.5.1)."""
    if depth > _DEEPEST:
        raise _UnusualError
    while True:
        group, number, length = _tag_and_length(content, at)
        tag = group << 16 | number
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _UnusualError
        at = _item_end(content, at, implicit, depth) if length == _UNDEFINED else at + length


def _item_end(content: bytes, at: int, implicit: bool, depth: int) -> int:
    while True:
        group, number, length = _tag_and_length(content, at)
        tag = group << 16 | number
        value = at + 8
        if tag == _ITEM_END:
            return value
        if not implicit:
            kind = content[at + 4 : at + 6]
            if kind in _LONG:
                (length,) = _long(content, value)
                value += 4
            elif kind in _SHORT:
                (_, _, _, length) = _explicit(content, at)
            else:
                raise _UnusualError
            if length == _UNDEFINED and kind != b"SQ":
                raise _UnusualError
        at = _sequence_end(content, value, implicit, depth + 1) if length == _UNDEFINED else value + length


def _encoding(dataset: Any, named: bytes) -> Any:
    """pydicom's name of a character set; the same few names stand in all files."""
    if named not in _encodings:
        _encodings[named] = dataset._character_set
    return _encodings[named]
