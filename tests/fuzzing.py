"""Damaged images, many of them, in a process of their own: `python tests/fuzzing.py KIND SEED COUNT`.

A file of each kind is written whole, then cut or changed (single bits, numbers at their limits, blocks) and read. What
may come is a volume or one of segue's errors. The process has little more memory than the largest whole file can
justify, so that one that is taken in by a header cannot end well; whoever starts it sets the time that it may take.
"""

from __future__ import annotations

import contextlib
import random
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import tifffile
from PIL import Image

from segue.core.errors import DataError
from segue.dicom import read_series
from segue.images import read, read_header, write
from segue.volume import Geometry, Volume

# Beyond what the libraries and their threads have mapped once every reader was used.
_MOST_BYTES = 1_500_000_000
_HEADER_BYTES = 1200
_NUMBERS = (b"\xff\xff\xff\x7f", b"\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"\x7f\xc0\0\0", b"99999999", b"-1", b"nan")
_SHAPE = (12, 10, 8)


def _volume(dtype: str = "i2") -> Volume:
    array = np.random.default_rng(0).integers(0, 900, (1, *_SHAPE)).astype(dtype)
    return Volume(array, Geometry(_SHAPE, np.diag([-0.8, -0.8, 2.0, 1.0])))


def _written(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(_volume(), folder / name)
        return folder / name

    return make


def _pair(folder: Path) -> Path:
    nibabel.save(nibabel.Nifti1Pair(_volume().array[0], np.eye(4)), folder / "x.img")
    return folder / "x.hdr"


def _detached(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(_volume().array[0].T), str(folder / name))
        return folder / name

    return make


def _picture(name: str, mode: str = "RGB") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / name)
        return folder / name

    return make


def _tiff(packing: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pixels = _volume("u2").array[0].T
        tifffile.imwrite(folder / "x.tif", pixels, compression=packing, photometric="minisblack")
        return folder / "x.tif"

    return make


def _dicom(syntax: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from dicom_studies import Study

        study = Study(folder / "study", "P", True)
        study.add("CT", _volume().array[0].transpose(2, 1, 0)[:1].astype(float))
        (path,) = [path for path in (folder / "study").rglob("*") if path.is_file()]
        if syntax:
            recode(path, syntax)
        return path

    return make


def recode(path: Path, syntax: str) -> None:
    """Code a DICOM file's pixels by GDCM, in place; ``syntax`` is GDCM's name of it."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


KINDS: dict[str, Callable[[Path], Path]] = {
    **{name: _written(f"x.{name}") for name in ("nii", "nii.gz", "mha", "nrrd", "npz")},
    "hdr": _pair,
    "mhd": _detached("x.mhd"),
    "nhdr": _detached("x.nhdr"),
    "png": _picture("x.png"),
    "palette": _picture("x.png", "P"),
    "jpg": _picture("x.jpg"),
    "bmp": _picture("x.bmp"),
    "tif": _tiff("zlib"),
    "tif-lzw": _tiff("lzw"),
    "dicom": _dicom(""),
    "rle": _dicom("RLELossless"),
    "jpeg": _dicom("JPEGLosslessProcess14_1"),
    "jpeg-ls": _dicom("JPEGLSLossless"),
    "jpeg-2000": _dicom("JPEG2000Lossless"),
}


def damaged(whole: bytes, chance: random.Random) -> bytes:
    content = bytearray(whole)
    most = chance.choice((len(content), _HEADER_BYTES))  # headers as often as everything
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(max(1, min(most, len(content) - 1)))
        kind = chance.randrange(5)
        if kind == 0:
            content[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            number = chance.choice(_NUMBERS)
            content[at : at + len(number)] = number
        elif kind == 2:
            content[at : at + chance.randrange(1, 30)] = chance.randbytes(chance.randrange(1, 30))
        elif kind == 3:
            del content[at : at + chance.randrange(1, 9)]
        else:
            del content[at:]
            break
    return bytes(content)


def try_all(kind: str, seed: int, count: int) -> tuple[int, int]:
    """How many were read, and how many refused."""
    chance = random.Random(seed)
    good = refused = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = KINDS[kind](Path(scratch))
        whole = path.read_bytes()
        _read(path)
        with Path("/proc/self/statm").open() as pages:
            mapped = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + _MOST_BYTES, resource.RLIM_INFINITY))
        for number in range(count):
            content = damaged(whole, chance)
            path.write_bytes(content)
            try:
                _read(path)
                good += 1
            except DataError as error:
                assert error.remedy, f"no remedy: {error}"
                refused += 1
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{kind}-{seed}-{number}{path.suffix}"
                kept.write_bytes(content)
                sys.stderr.write(f"number {number} of {kind} with seed {seed}, kept as {kept}\n")
                raise
    return good, refused


def _read(path: Path) -> None:
    if path.suffix:
        header = None
        with contextlib.suppress(DataError):
            header = read_header(path)
        volume = read(path)
        assert header is None or header.geometry.shape == volume.geometry.shape
    else:
        volume = read_series(path).volume
    assert volume.array.shape[1:] == volume.geometry.shape
    assert np.isfinite(volume.geometry.affine).all()


if __name__ == "__main__":
    read_or_refused = try_all(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.stdout.write("{} read, {} refused\n".format(*read_or_refused))
