"""MetaImage files (``.mha``, ``.mhd``): a few lines of text, then voxels, packed by zlib or not.

Read here and not by ITK, which ends the whole process (an abort in its allocator) on files cut short in a certain way.
The format: ITK's MetaIO, "MetaImage" documentation; where the text is silent, what ITK does with it.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from jaxtyping import Num

from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.images.header import ImageHeader
from segue.volume import Geometry, Volume

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {kind: name for name, kind in _TYPES.items() if "LONG" not in name or kind in ("i8", "u8")}
_LAST = "ElementDataFile"  # the voxels follow this line, or lie in the file that it names
_HEADER_BYTES = 65_536
_MOST_UNPACKED = 1040  # bytes that deflate can make of one
_FAULTS: Any = (isal_zlib.error, zlib.error, EOFError)  # isal's stubs call its error an instance
_GZIP = b"\x1f\x8b"


class _Fields:
    """The lines of a header, by name.

    Attributes:
        end: where the text ends in the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as handle:
                start = handle.read(_HEADER_BYTES)
        except OSError as error:
            raise _wrong(path, error) from error
        self._found: dict[str, str] = {}
        self.end = 0
        for line in start.splitlines(keepends=True):
            self.end += len(line)
            name, _, value = line.decode("latin-1").partition("=")
            self._found[name.strip()] = value.strip()
            if name.strip() == _LAST:
                return
        raise _wrong(path, f"no line {_LAST} in it" if start else "it is empty")

    def text(self, *names: str, default: str = "") -> str:
        return next((self._found[name] for name in names if self._found.get(name)), default)

    def flag(self, *names: str) -> bool:
        return self.text(*names).lower().startswith(("t", "1"))

    def numbers(self, count: int, *names: str, default: Any = None) -> np.ndarray:
        """``count`` finite numbers, under the first of the names that is there."""
        text = self.text(*names)
        if not text and default is not None:
            return np.array(default, dtype=np.float64)
        try:
            values = np.array([float(part) for part in text.split()])
        except ValueError as error:
            raise _wrong(self._path, f"{names[0]} = {text[:60]}") from error
        if values.shape != (count,) or not np.isfinite(values).all():
            raise _wrong(self._path, f"{names[0]} = {text[:60]}, where {count} numbers should be")
        return values


def read_header(path: Path) -> ImageHeader:
    """Geometry, channels and type of a file, without reading its voxels.

    Raises:
        DataError: damaged, of a type that is not read, or with other than two to four axes.
    """
    return _described(_Fields(path), path)


def read_voxels(path: Path) -> tuple[Num[np.ndarray, "c i j k"], Geometry]:
    """Voxels in the file's own orientation; components, or a fourth axis, are the channels.

    Raises:
        DataError: as :func:`read_header`; cut short; its voxels as text or in several files.
    """
    fields = _Fields(path)
    header = _described(fields, path)
    i, j, k = header.geometry.shape
    components = int(fields.numbers(1, "ElementNumberOfChannels", default=[1])[0])
    stored = header.dtype.newbyteorder(">" if fields.flag("BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<")
    content = _content(fields, path, math.prod((i, j, k)) * header.channels * header.dtype.itemsize)
    array = np.frombuffer(content, stored).reshape(header.channels // components, k, j, i, components)
    array = array.transpose(0, 4, 3, 2, 1).reshape(header.channels, i, j, k)
    return np.ascontiguousarray(array, dtype=header.dtype), header.geometry


def write(volume: Volume, path: Path) -> None:
    """Write ``.mha``, packed; several channels become the components of each voxel.

    The axes are at right angles: :func:`segue.images.write` sees to that.

    Raises:
        MachineError: the disk is full or may not be written.
    """
    array, geometry = volume.array, volume.geometry
    placed, spacing = _TO_RAS @ geometry.affine, np.array(geometry.spacing_mm)
    packed = isal_zlib.compress(np.ascontiguousarray(array.transpose(3, 2, 1, 0)), 1)
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(packed),
        "TransformMatrix": _joined((placed[:3, :3] / spacing).T.ravel()),
        "Offset": _joined(placed[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _joined(spacing),
        "DimSize": _joined(geometry.shape),
        **({"ElementNumberOfChannels": len(array)} if len(array) > 1 else {}),
        "ElementType": _NAMES[array.dtype.str[1:]],
        _LAST: "LOCAL",
    }
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write("".join(f"{name} = {value}\n" for name, value in fields.items()).encode())
        handle.write(packed)


def _joined(numbers: Any) -> str:
    return " ".join(repr(number.item()) if hasattr(number, "item") else str(number) for number in numbers)


def _described(fields: _Fields, path: Path) -> ImageHeader:
    axes = int(fields.numbers(1, "NDims")[0])
    if axes not in (2, 3, 4):
        raise DataError(
            "an image has two or three axes and channels",
            where=path,
            value=f"{axes} axes",
            remedy="save its parts as images of their own",
        )
    name = fields.text("ElementType")
    kind = _TYPES.get(name.removesuffix("_ARRAY"))
    if kind is None:
        raise DataError(
            "an image of a type that is not read", where=path, value=name, remedy="save it as whole numbers or float32"
        )
    size = fields.numbers(axes, "DimSize")
    components = fields.numbers(1, "ElementNumberOfChannels", default=[1])[0]
    if (size != np.rint(size)).any() or size.min() < 1 or components < 1 or components != np.rint(components):
        raise _wrong(path, f"DimSize = {fields.text('DimSize')[:60]}, {components:g} channels")
    solid = min(axes, 3)
    spacing = fields.numbers(axes, "ElementSpacing", "ElementSize", default=np.ones(axes))[:solid]
    if spacing.min() <= 0:
        raise _wrong(path, f"ElementSpacing = {spacing}")
    # A row of the matrix is the direction of an axis.
    rows = fields.numbers(axes * axes, "TransformMatrix", "Rotation", "Orientation", default=np.eye(axes).ravel())
    affine = np.eye(4)
    affine[:solid, :solid] = rows.reshape(axes, axes).T[:solid, :solid] * spacing
    affine[:solid, 3] = fields.numbers(axes, "Offset", "Position", "Origin", default=np.zeros(axes))[:solid]
    channels = int(components) * (int(size[3]) if axes == 4 else 1)
    try:
        shape = int(size[0]), int(size[1]), int(size[2]) if axes > 2 else 1
        return ImageHeader(Geometry(shape, _TO_RAS @ affine), channels, np.dtype(kind), False, axes=axes)
    except ValueError as error:
        raise _wrong(path, error) from error


def _content(fields: _Fields, path: Path, wanted: int) -> bytes | bytearray:
    """The bytes of the voxels, as many as ``wanted``."""
    name = fields.text(_LAST)
    if name.upper() == "LIST" or "%" in name or fields.text("BinaryData", default="True").lower().startswith("f"):
        raise DataError(
            "voxels as text or in several files are not read",
            where=path,
            value=f"{_LAST} = {name}, BinaryData = {fields.text('BinaryData')}",
            remedy="save it as one .mha file with the program that wrote it",
        )
    local = name.upper() == "LOCAL"
    if "\0" in name:
        raise _wrong(path, f"{_LAST} = {name!r}")
    place = path if local else path.parent / name
    if not local and path.parent.resolve() not in place.resolve().parents:
        raise DataError(
            "the voxels lie outside the folder of the header",
            where=path,
            value=name,
            remedy=f"put them beside it, and their name on the line {_LAST}",
        )
    packed = fields.flag("CompressedData")
    try:
        stored = place.stat().st_size - (fields.end if local else 0)
        if wanted > (stored * _MOST_UNPACKED if packed else stored):
            raise _cut(path, stored, wanted)
        skipped = int(fields.numbers(1, "HeaderSize", default=[0])[0])
        with place.open("rb") as handle:
            handle.seek(fields.end if local else max(0, stored - wanted if skipped == -1 else skipped))
            content = handle.read() if packed else handle.read(wanted)
    except OSError as error:
        raise _wrong(path, error) from error
    if packed:
        try:
            unpacker = isal_zlib.decompressobj(31 if content[:2] == _GZIP else 15)
            content = unpacker.decompress(content, wanted)
        except _FAULTS as error:
            raise _wrong(path, error) from error
    if len(content) < wanted:
        raise _cut(path, len(content), wanted)
    return content


def _wrong(path: Path, value: object) -> DataError:
    return DataError(
        "the file cannot be read",
        where=path,
        value=value,
        remedy="fetch this file again or leave the case out",
    )


def _cut(path: Path, there: int, wanted: int) -> DataError:
    return _wrong(path, f"{there} of {wanted} bytes of voxels")
