"""From the folder of one DICOM series to a .nii.gz, beside dcm2niix and dicom2nifti: whole commands.

    python -m venv peers && peers/bin/pip install dcm2niix dicom2nifti python-gdcm
    python benchmarks/dicom.py --peers peers/bin --source ../shared/data/sts-petct/dicom/STS_001/CT/image

The series: a CT of 512 x 512 pixels made from a small real one (its headers, its pixels enlarged, noise added),
uncompressed and as lossless JPEG 2000 or JPEG-LS; any other folder by ``--folder``. Programs take turns, so that a
slow moment of the machine meets all of them; times are of whole commands. ``start`` is what of it the program takes to
say its help or to import itself. dcm2niix packs with pigz (``-z y``, where it is installed) or by itself (``-z i``);
what it writes unpacked (``-z n``) is compared with our unpacked file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

OURS = """
import sys
from pathlib import Path
from segue.dicom import read_series, scan
from segue.images import write
(series,) = (one for one in scan(Path(sys.argv[1])) if one.frames > 1)
write(read_series(series).volume, sys.argv[2])
"""
READ_ONLY = OURS.replace("write(read_series(series).volume, sys.argv[2])", "read_series(series)")
THEIRS = """
import sys, dicom2nifti
dicom2nifti.dicom_series_to_nifti(sys.argv[1], sys.argv[2], reorient_nifti=False)
"""


def make(source: Path, folder: Path, slices: int, syntax: str | None) -> None:
    """A CT series with the headers of a real one."""
    import numpy as np
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    from segue.dicom import read_series

    paths = sorted(path for path in source.iterdir() if path.is_file())
    small = read_series(paths).volume.array[0]
    random = np.random.default_rng(0)
    header = pydicom.dcmread(paths[0])
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.Rows = header.Columns = 512
    header.PixelSpacing, header.SliceThickness = [0.8, 0.8], 1.0
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.RescaleSlope, header.RescaleIntercept = 1, -1024
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.SeriesInstanceUID = generate_uid()
    rows = np.arange(512) * small.shape[1] // 512
    columns = np.arange(512) * small.shape[0] // 512
    y, x = np.mgrid[:512, :512]
    body = ((x - 256) / 230) ** 2 + ((y - 256) / 170) ** 2 < 1
    folder.mkdir(parents=True)
    for number in range(slices):
        plane = small[:, :, number * small.shape[2] // slices].T[rows][:, columns]
        plane = plane + random.normal(0, 12, plane.shape)
        stored = np.clip(np.rint(np.where(body, plane, -1000 + random.normal(0, 4, plane.shape))) + 1024, 0, 4095)
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        header.InstanceNumber = number + 1
        header.ImagePositionPatient = [-200.0, -200.0, float(number)]
        header.SliceLocation = float(number)
        header.PixelData = stored.astype("<u2").tobytes()
        header["PixelData"].VR = "OW"
        header.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)
    if syntax:
        _recode(folder, syntax)


def _recode(folder: Path, syntax: str) -> None:
    import gdcm

    kinds = {"jpeg2000": "JPEG2000Lossless", "jpegls": "JPEGLSLossless", "jpeg": "JPEGLosslessProcess14_1"}
    for path in folder.iterdir():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kinds[syntax])))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError(f"GDCM does not code {syntax}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()


def timed(command: list[object]) -> tuple[float, float]:
    """Seconds and peak megabytes of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{command[0]}: {told.decode()[-800:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1000


def programs(peers: Path | None, folder: Path, out: Path) -> dict[str, tuple[list[object], list[object]]]:
    """By name: the whole command, and the one that only starts."""
    python = sys.executable
    target = out / "segue.nii.gz"
    found: dict[str, tuple[list[object], list[object]]] = {
        "segue": ([python, "-c", OURS, folder, target], [python, "-c", "import segue.images, pydicom.pixels"]),
        "segue to .nii": ([python, "-c", OURS, folder, out / "segue.nii"], [python, "-c", "pass"]),
        "segue, read only": ([python, "-c", READ_ONLY, folder], [python, "-c", "import segue.images, pydicom.pixels"]),
    }
    dcm2niix = shutil.which("dcm2niix", path=None if peers is None else str(peers))
    if dcm2niix:
        for name, kind in (("dcm2niix -z y", "y"), ("dcm2niix -z i", "i"), ("dcm2niix -z n", "n")):
            words = [dcm2niix, "-z", kind, "-b", "n", "-f", f"dcm2niix-{kind}", "-w", "1", "-o", out, folder]
            found[name] = (words, [dcm2niix, "-h"])
    if peers is not None and (peers / "python").exists():
        start = [peers / "python", "-c", "import dicom2nifti"]
        found["dicom2nifti"] = ([peers / "python", "-c", THEIRS, folder, out / "dicom2nifti.nii.gz"], start)
    return found


def compare(name: str, folder: Path, peers: Path | None, rounds: int, out: Path) -> None:
    """Run all programs in turn; print what each took and whether the voxels are the same."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    found = programs(peers, folder, out)
    seconds: dict[str, list[float]] = {key: [] for key in found}
    memory: dict[str, float] = {}
    starts = {key: statistics.median(timed(start)[0] for _ in range(3)) for key, (_, start) in found.items()}
    for _ in range(rounds):
        for key, (command, _) in found.items():
            took, peak = timed(command)
            seconds[key].append(took)
            memory[key] = max(peak, memory.get(key, 0.0))
    ours = statistics.median(seconds["segue"])
    print(f"\n{name}: {sum(1 for _ in folder.iterdir())} files")
    print(f"{'':<18}{'median s':>9}{'min s':>8}{'start s':>9}{'peak MB':>9}{'segue takes':>13}")
    for key, values in seconds.items():
        middle = statistics.median(values)
        row = f"{key:<18}{middle:>9.2f}{min(values):>8.2f}{starts[key]:>9.2f}{memory[key]:>9.0f}"
        mine = statistics.median(seconds["segue to .nii"]) if key.endswith("-z n") else ours
        print(f"{row}{mine / middle:>12.2f}x" if not key.startswith("segue") else row)
    _apart(_same_voxels, out)


def _apart(function: Callable[..., None], *arguments: object) -> None:
    # A child's peak memory counts from its parent's: this process stays small.
    child = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(child.exitcode)


def _same_voxels(out: Path) -> None:
    import nibabel
    import numpy as np

    ours = nibabel.as_closest_canonical(nibabel.load(out / "segue.nii.gz"))
    for path in sorted(out.glob("d*.nii.gz")):
        theirs = nibabel.as_closest_canonical(nibabel.load(path))
        same = ours.shape == theirs.shape
        apart = np.abs(np.asarray(ours.dataobj) - np.asarray(theirs.dataobj)).max() if same else np.inf
        moved = np.abs(ours.affine - theirs.affine).max() if same else np.inf
        print(f"{path.name}: voxels differ by up to {apart:.3g}, affine by {moved:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/data/sts-petct/dicom/STS_001/CT/image"))
    parser.add_argument("--peers", type=Path, help="folder of the peers' programs (a virtual environment's bin)")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="a further series; may repeat")
    parser.add_argument("--slices", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--syntax", nargs="*", choices=["jpeg", "jpegls", "jpeg2000"], default=["jpeg", "jpeg2000"])
    parser.add_argument("--keep", type=Path, help="where the made series stay, to be used again")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        for syntax in [None, *options.syntax]:
            folder = root / f"{syntax or 'plain'}-{options.slices}"
            if not folder.is_dir():
                _apart(make, options.source, folder, options.slices, syntax)
            compare(f"CT, {syntax or 'uncompressed'}", folder, options.peers, options.rounds, Path(temporary) / "out")
        for folder in options.folder:
            compare(str(folder), folder, options.peers, options.rounds, Path(temporary) / "out")


if __name__ == "__main__":
    main()
