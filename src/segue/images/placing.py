"""Mending what a NIfTI header says of the place in space, without touching a voxel."""

from __future__ import annotations

from pathlib import Path

from isal import igzip

from segue.core.errors import DataError
from segue.core.files import atomic_path
from segue.images.header import NIFTI_SUFFIXES, suffix_of
from segue.images.nifti import read_header, read_parsed_header

_PLACE = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
          "srow_x", "srow_y", "srow_z")  # fmt: skip


def place_like(path: Path, reference: Path, target: Path) -> None:
    """Write ``path`` to ``target`` with the very bits of ``reference``'s place: code, quaternion, matrix, spacing.

    Raises:
        DataError: one of them is no single-file NIfTI, or their grids have other shapes.
    """
    given, wanted = read_header(path).geometry, read_header(reference).geometry
    if given.shape != wanted.shape:
        raise DataError("the grids have other shapes", where=path, value=given.difference(wanted))
    other = read_parsed_header(reference)
    header = read_parsed_header(path)
    for field in _PLACE:
        header[field] = other[field]
    header["pixdim"][:4] = other["pixdim"][:4]
    header.set_xyzt_units(other.get_xyzt_units()[0], header.get_xyzt_units()[1])
    _rewrite(path, header, target)


def place_as_read(path: Path, target: Path) -> None:
    """Write ``path`` to ``target`` with the grid that is read from it as qform and sform, and positive spacings.

    Raises:
        DataError: it is no single-file NIfTI.
    """
    affine = read_header(path).geometry.affine
    header = read_parsed_header(path)
    header["pixdim"][:4] = abs(header["pixdim"][:4])
    codes = [int(header[name]) for name in ("qform_code", "sform_code")]
    code = max(codes) if max(codes) > 0 else 1
    header.set_xyzt_units("mm", header.get_xyzt_units()[1])
    header.set_qform(affine, code)
    header.set_sform(affine, code)
    _rewrite(path, header, target)


def _rewrite(path: Path, header: object, target: Path) -> None:
    if suffix_of(path) not in NIFTI_SUFFIXES:
        raise DataError("only the headers of NIfTI files are mended", where=path)
    packed = path.name.lower().endswith(".gz")
    content = igzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    start: bytes = header.binaryblock  # type: ignore[attr-defined]
    content = start + content[len(start) :]
    with atomic_path(target) as temporary:
        temporary.write_bytes(igzip.compress(content, 1, mtime=0) if packed else content)
