"""Volumes as NIfTI files for the browser: from disk as they are where that will do, else converted once and kept.

What was made is kept in a folder by the content of the files that it was made of, so that a changed file is made anew
and a file that only moved is not. Only the user may read it: it holds what the images hold.
"""

from __future__ import annotations

import gzip
import os
import shutil
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.errors import DataError, MachineError
from segue.core.files import atomic_path, content_key, known_digest, parse_json, write_json
from segue.images import read_header, suffix_of, write
from segue.view.colours import colour_bytes
from segue.view.levels import MOST_VOXELS, ONCE, Factors, coarser, factors_for
from segue.view.room.shelf import Sheet
from segue.volume import Volume

# Most voxels of each. The first is drawn in a second even where no graphics card is, the middle one in ten; there the
# full one would take minutes, and is drawn when asked for.
LEVELS = {"first": 1 << 21, "middle": 1 << 24, "full": MOST_VOXELS}

_VERSION = 3
_MOST_BYTES = 10_000_000_000
_PERCENTILES = (1.0, 99.0)
_SAMPLE = 500_000
_SAME_PLACE_MM = 1e-3
_IN_TWO_FILES = (".hdr", ".img", ".mhd", ".nhdr")
_SHOWN_TYPES = ("uint8", "int16", "uint16", "int32", "float32")


@dataclass(frozen=True)
class Ready:
    """A sheet as the browser gets it.

    Attributes:
        key: changes with the content; stands in the address, which may be kept for ever.
        files: per level of :data:`LEVELS` the file; one that would be the same as the next finer one is missing.
        coarse: how many voxels along each axis are one in each of them.
        low, high: the 1st and 99th percentile of an image's values; of labels the least and the largest number.
        shape, spacing_mm: of the volume as it is stored.
        unit: of its values, as its reader found it.
    """

    key: str
    files: dict[str, Path]
    coarse: dict[str, Factors]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    low: float
    high: float
    unit: str


class VolumeCache:
    """Makes and keeps the levels of volumes under ``folder`` (default: the user's cache folder).

    Two requests for one volume wait for each other; two volumes are made at a time at most, since each may be large.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or _own_folder()
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._at_work = threading.Semaphore(2)

    def ready(self, sheet: Sheet, *, labels: bool) -> Ready:
        """The sheet in every level that the browser may ask for, made now if it was not yet.

        Raises:
            DataError: a file is gone, unreadable or damaged. MachineError: the disk is full or may not be written.
        """
        key = self._key(sheet, labels)
        with self._guard:
            lock = self._locks[key]
        with lock:
            kept = self.folder / key / "volume.json"
            if kept.exists():
                found = self._found(sheet, key, parse_json(kept.read_text(encoding="utf-8")))
                if found is not None:
                    os.utime(kept)  # what is looked at stays longest
                    return found
            with self._at_work:
                return self._make(sheet, key, labels)

    def tidy(self) -> None:
        """Remove what was not looked at for longest, while all of it is more than 10 GB."""
        try:
            entries = [(path.stat().st_mtime, path.parent) for path in self.folder.glob("*/volume.json")]
            sizes = {folder: sum(f.stat().st_size for f in folder.iterdir()) for _, folder in entries}
        except OSError:
            return
        total = sum(sizes.values())
        for _, folder in sorted(entries):
            if total <= _MOST_BYTES:
                return
            shutil.rmtree(folder, ignore_errors=True)
            total -= sizes[folder]

    def _key(self, sheet: Sheet, labels: bool) -> str:
        try:
            digests = [known_digest(path) for file in sheet.files for path in _plain_files(file)]
        except OSError as error:
            raise DataError(
                "this file is not there any more"
                if isinstance(error, FileNotFoundError)
                else "this file cannot be read",
                where=error.filename,
                value=error.strerror,
                remedy="bring it back, or open the place where the data lie now",
            ) from error
        return content_key(_VERSION, digests, sheet.form, labels, sheet.colour, str(sheet.stored is None))

    def _found(self, sheet: Sheet, key: str, told: dict[str, Any]) -> Ready | None:
        files = {
            level: sheet.stored if name is None else self.folder / key / name for level, name in told["files"].items()
        }
        if any(path is None or not path.exists() for path in files.values()):
            return None
        return Ready(
            key, {level: path for level, path in files.items() if path is not None},
            {level: tuple(factors) for level, factors in told["coarse"].items()},
            tuple(told["shape"]), tuple(told["spacing_mm"]), told["low"], told["high"],
            told["unit"],
        )  # fmt: skip

    def _make(self, sheet: Sheet, key: str, labels: bool) -> Ready:
        volume = sheet.read()
        grid = volume.geometry
        factors = {level: factors_for(grid.shape, grid.spacing_mm, most) for level, most in LEVELS.items()}
        full = factors["full"]
        names: dict[str, str | None] = {"full": None if full == ONCE and is_servable(sheet.stored) else "full.nii.gz"}
        for level, finer in (("middle", "full"), ("first", "middle")):
            if factors[level] != factors[finer]:
                names[level] = f"{level}.nii.gz"
        folder = self.folder / key
        self._own(folder)
        for level, name in names.items():
            if name is not None:
                _write(coarser(volume, factors[level]), folder / name, sheet.colour)
        low, high = _range(volume, labels)
        told = {
            "files": names,
            "coarse": factors,
            "shape": grid.shape,
            "spacing_mm": grid.spacing_mm,
            "low": low,
            "high": high,
            "unit": volume.unit,
        }
        write_json(folder / "volume.json", told)
        found = self._found(sheet, key, parse_json((folder / "volume.json").read_text(encoding="utf-8")))
        if found is None:
            raise DataError("this volume vanished while it was read", where=sheet.name, remedy="open the case again")
        return found

    def _own(self, folder: Path) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise MachineError(
                "this place may not be written",
                where=self.folder,
                value=error.strerror,
                remedy="set XDG_CACHE_HOME to a folder that you may write to",
            ) from error


def is_servable(path: Path | None) -> bool:
    """Whether the browser reads this very file as we do: gzipped NIfTI-1 with one channel, of a plain type and byte
    order, its place told by the same affine whichever of the two it takes."""
    if path is None or not path.name.lower().endswith(".nii.gz"):
        return False
    from nibabel.nifti1 import Nifti1Header

    try:
        told = read_header(path)
        with gzip.open(path) as handle:
            header = Nifti1Header(handle.read(348), check=False)
        dtype, units = header.get_data_dtype(), header.get_xyzt_units()[0]
        placed = [affine for affine, code in (header.get_qform(coded=True), header.get_sform(coded=True)) if code]
    except Exception:
        return False  # nibabel has no common class for what a strange header makes it raise; such a file is converted
    slope = float(header["scl_slope"])
    return bool(
        told.channels == 1
        and dtype.name in _SHOWN_TYPES
        and dtype.isnative
        and header["magic"] == b"n+1"
        and units in ("mm", "unknown")
        and np.isfinite(slope)
        and placed
        and all(np.allclose(affine, told.geometry.affine, atol=_SAME_PLACE_MM) for affine in placed)
    )


def _range(volume: Volume, labels: bool) -> tuple[float, float]:
    if labels:
        return 0.0, float(volume.array.max(initial=0))
    flat = volume.array.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLE)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = np.percentile(sample, _PERCENTILES)
    # Most of a PET or of a stained nucleus's picture is one value.
    high = high if high > low else float(sample.max())
    return float(low), float(high) if high > low else float(low) + 1.0


def _write(volume: Volume, path: Path, colour: bool) -> None:
    if colour:
        _write_colour(volume, path)
        return
    array = volume.array
    if array.dtype.name not in _SHOWN_TYPES and volume.kind != "labels":
        array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        array = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    write(Volume(array, volume.geometry, volume.kind, volume.unit), path)


def _write_colour(volume: Volume, path: Path) -> None:
    """Red, green and blue as NIfTI's RGB24, which ``segue.images`` does not write: nothing trains on it."""
    from nibabel.nifti1 import Nifti1Image

    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    values = np.ascontiguousarray(np.moveaxis(colour_bytes(volume.array), 0, -1)).view(kind)[..., 0]
    content = Nifti1Image(values, volume.geometry.affine).to_bytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(content, 1, mtime=0))


def _plain_files(path: Path) -> list[Path]:
    """What an image lies in: a file, with the other half where it has two, or the files of a DICOM series' folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if suffix_of(path) in _IN_TWO_FILES and path.parent.is_dir():
        return sorted(file for file in path.parent.iterdir() if file.stem == path.stem and file.is_file())
    return [path]


def _own_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "segue" / "volumes"
