"""NRRD (``.nrrd``, ``.nhdr``) by SimpleITK."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from segue.core.errors import DataError, MachineError
from segue.core.files import atomic_path
from segue.images.header import ImageHeader
from segue.volume import Geometry, Volume

_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MOST_UNPACKED = 1040  # bytes that deflate can make of one; ITK reads no other compression in these formats
_TYPES = {
    "8-bit unsigned integer": "u1",
    "8-bit signed integer": "i1",
    "16-bit unsigned integer": "u2",
    "16-bit signed integer": "i2",
    "32-bit unsigned integer": "u4",
    "32-bit signed integer": "i4",
    "64-bit unsigned integer": "u8",
    "64-bit signed integer": "i8",
    "32-bit float": "f4",
    "64-bit float": "f8",
}


def read_header(path: Path) -> ImageHeader:
    """Geometry, channels and type of a file, without reading its voxels.

    Raises:
        DataError: damaged, complex, or with other than two to four axes.
        MachineError: SimpleITK is not installed.
    """
    itk = _itk()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    size, channels = list(reader.GetSize()), reader.GetNumberOfComponents()
    if len(size) == 4:
        channels *= size[3]
    dtype = _dtype(itk.GetPixelIDValueAsString(reader.GetPixelID()), path)
    return ImageHeader(_geometry(reader, size, path), channels, dtype, False, axes=len(size))


def read_voxels(path: Path) -> tuple[Num[np.ndarray, "c i j k"], Geometry]:
    """Voxels in the file's own orientation; components, or a fourth axis, are the channels.

    Raises:
        DataError, MachineError: as :func:`read_header`.
    """
    itk = _itk()
    header = read_header(path)
    _require_possible(header, path)
    try:
        image = itk.ReadImage(str(path))
    except RuntimeError as error:
        raise _damaged(path, error) from error
    array = itk.GetArrayFromImage(image)  # (t, k, j, i, components) in whatever of these axes there are
    components = image.GetNumberOfComponentsPerPixel()
    i, j, k = header.geometry.shape
    array = array.reshape(header.channels // components, k, j, i, components)
    return np.ascontiguousarray(array.transpose(0, 4, 3, 2, 1).reshape(header.channels, i, j, k)), header.geometry


def write(volume: Volume, path: Path) -> None:
    """Write ``.nrrd``, compressed; several channels become the components of each voxel.

    The axes are at right angles: :func:`segue.images.write` sees to that.

    Raises:
        MachineError: SimpleITK is not installed, or the disk is full.
    """
    itk = _itk()
    geometry = volume.geometry
    array = volume.array.transpose(3, 2, 1, 0)
    image = itk.GetImageFromArray(
        np.ascontiguousarray(array if len(volume.array) > 1 else array[..., 0]), isVector=len(volume.array) > 1
    )
    placed = _TO_RAS @ geometry.affine
    spacing = np.array(geometry.spacing_mm)
    image.SetSpacing(spacing)
    image.SetDirection((placed[:3, :3] / spacing).ravel())
    image.SetOrigin(placed[:3, 3])
    with atomic_path(path) as temporary:
        itk.WriteImage(image, str(temporary), useCompression=True)


def _require_possible(header: ImageHeader, path: Path) -> None:
    """Raise before ITK allocates what the file cannot hold."""
    if path.suffix.lower() == ".nhdr":
        return  # the voxels lie in files of any name, anywhere
    stored = path.stat().st_size
    wanted = math.prod(header.geometry.shape) * header.channels * header.dtype.itemsize
    if wanted > stored * _MOST_UNPACKED:
        raise DataError(
            "the header names more voxels than the file can hold",
            where=path,
            value=f"{wanted} bytes of voxels in {stored} bytes",
            remedy="fetch this file again or leave the case out",
        )


def _itk() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise MachineError("reading and writing .nrrd needs SimpleITK", remedy='pip install "segue[itk]"') from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK


def _dtype(name: str, path: Path) -> np.dtype[Any]:
    stored = _TYPES.get(name.removeprefix("vector of "))
    if stored is None:
        what = "a complex image" if name.startswith("complex") else "an image of a type that is not read"
        raise DataError(what, where=path, value=name, remedy="save its magnitude, or one of its channels")
    return np.dtype(stored)


def _geometry(reader: Any, size: list[int], path: Path) -> Geometry:
    axes = len(size)
    if axes not in (2, 3, 4):
        raise DataError(
            "an image has two or three axes and channels",
            where=path,
            value=f"{axes} axes",
            remedy="save its parts as images of their own",
        )
    direction = np.array(reader.GetDirection()).reshape(axes, axes)
    affine = np.eye(4)
    solid = min(axes, 3)
    affine[:solid, :solid] = direction[:solid, :solid] * np.array(reader.GetSpacing()[:solid])
    affine[:solid, 3] = reader.GetOrigin()[:solid]
    try:
        return Geometry((size[0], size[1], size[2] if axes > 2 else 1), _TO_RAS @ affine)
    except ValueError as error:
        raise DataError(str(error), where=path, remedy="mend the header or leave the case out") from error


def _damaged(path: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())
    return DataError(
        "the file cannot be read",
        where=path,
        value=f"{path.stat().st_size} bytes, ...{text[-150:]}",
        remedy="fetch this file again or leave the case out",
    )
