"""``doctor``: what this machine is, what is slow or wrong on it, and what to do. It names no person and no path."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import segue
from segue.core.console import byte_count
from segue.core.executor import cpu_count
from segue.core.memory import free_memory_gb, installed_memory_gb

State = Literal["ok", "note", "slow", "wrong"]

_WRITTEN = 64_000_000
_SLOW_DISK_MB_S = 50.0
_SLOW_UNPACKING_MB_S = 150.0
_SLOW_IMPORT_S = 10.0
_LITTLE_DISK = 5_000_000_000
_LITTLE_SHARED = 1_000_000_000
_LITTLE_MEMORY_GB = 4.0
_FEW_FILES = 1024
_NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "9p")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NUMBERED = ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "WORLD_SIZE", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Symptom:
    """One line of the report. ``remedy`` is what to do where the state is not ``ok``."""

    topic: str
    value: str
    state: State = "ok"
    remedy: str = ""


def examine_machine(data: Path, runs: Path = Path("runs")) -> Iterator[Symptom]:
    """Everything that is asked for when something does not work, the quick things first.

    Folders are called by what they are for, and what the system says of itself passes :func:`anonymous`, so that the
    report may be shown to anybody.

    Args:
        data: where datasets lie; it need not exist.
        runs: where run folders lie; it need not exist.
    """
    for part in (_software, _libraries, _extras, _processor, _memory, _settings):
        yield from part()
    places = {"data": data, "prepared cases": data / "prepared", "runs": runs, "temporary files": _temporary()}
    for role, place in places.items():
        yield from _place(role, place)
    yield from _shared_memory()
    yield from _unpacking()
    yield from _torch()


def anonymous(text: str) -> str:
    """Without the names of this person, this machine and these folders."""
    own = {str(Path.home()): "~", str(Path.cwd()): ".", platform.node(): "HOST"}
    own |= {os.environ.get(name, ""): "USER" for name in ("USER", "LOGNAME", "USERNAME")}
    for name in sorted((name for name in own if len(name) > 2 and name != "root"), key=len, reverse=True):
        text = text.replace(name, own[name])
    return text


def _software() -> Iterator[Symptom]:
    yield Symptom("segue", segue.__version__)
    yield Symptom("system", anonymous(platform.platform()))
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":
        yield Symptom("file names", encoding, "wrong", "set PYTHONUTF8=1: names with accents cannot be read otherwise")
    yield Symptom("Python", python + (", in an environment of its own" if sys.prefix != sys.base_prefix else ""))


def _libraries() -> Iterator[Symptom]:
    found = []
    for name, least in _required(None):
        version = _version(name)
        if version is None:
            yield Symptom(name, "not installed", "wrong", f"pip install '{name}>={least}'")
        elif _older(version, least):
            yield Symptom(name, f"{version}, tested from {least} on", "wrong", f"pip install '{name}>={least}'")
        else:
            found.append(f"{name} {version}")
    yield Symptom("libraries", ", ".join(found))


def _extras() -> Iterator[Symptom]:
    try:
        names = importlib.metadata.metadata("segue").get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        names = []
        yield Symptom("installation", "segue runs from its source, uninstalled", "note", "pip install -e .")
    for extra in sorted(set(names) - {"dev"}):
        wanted = _required(extra)
        missing = [name for name, least in wanted if (v := _version(name)) is None or _older(v, least)]
        if missing:
            yield Symptom(f"extra {extra}", f"without {', '.join(missing)}", "note", f"pip install 'segue[{extra}]'")
        else:
            yield Symptom(f"extra {extra}", ", ".join(f"{name} {_version(name)}" for name, _ in wanted))


def _required(extra: str | None) -> list[tuple[str, str]]:
    """Name and lower bound of each package that segue, or one of its extras, requires."""
    try:
        lines = importlib.metadata.requires("segue") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    result = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        told = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        match = re.match(r"\s*([\w.-]+)", requirement)
        if match and (told[1] if told else None) == extra:
            least = re.search(r">=\s*([\w.]+)", requirement)
            result.append((match[1], least[1] if least else "0"))
    return result


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _older(version: str, least: str) -> bool:
    def numbers(text: str) -> list[int]:
        found = [int(number) for number in re.findall(r"\d+", text.partition("+")[0])[:3]]
        return found + [0] * (3 - len(found))

    return numbers(version) < numbers(least)


def _processor() -> Iterator[Symptom]:
    installed, usable = os.cpu_count() or 1, cpu_count()
    cores = f"{usable} cores" + (f" of {installed} may be used" if usable < installed else "")
    yield Symptom("processor", f"{_processor_name()}, {cores}")
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > installed:
        yield Symptom("load", f"{load:.1f} on {installed} cores", "slow", "other work shares this machine: wait for it")


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> Iterator[Symptom]:
    installed, free = installed_memory_gb(), free_memory_gb()
    value = f"{installed:.1f} GB, {free:.1f} GB free"
    little = free < _LITTLE_MEMORY_GB
    yield Symptom("memory", value, "slow" if little else "ok", "close other programs, or train with --set memory=2GB")


def _settings() -> Iterator[Symptom]:
    for name in _THREADS:
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) < cpu_count():
            yield Symptom(name, value, "note", f"unset it to let segue use all {cpu_count()} cores")
    for name in _NUMBERED:
        if re.fullmatch(r"[\d,]+", value := os.environ.get(name, "")):
            yield Symptom(name, value)
    try:
        import resource
    except ImportError:  # not on Windows
        return
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < _FEW_FILES:
        yield Symptom("open files", str(files), "wrong", "ulimit -n 4096: datasets in many files need more at a time")


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # not one of its places may be written
        return None


def _place(role: str, place: Path | None) -> Iterator[Symptom]:
    """Whether a folder, or the nearest one above it that exists, can be written, how large and how fast it is."""
    here = place and next((folder for folder in (place, *place.absolute().parents) if folder.is_dir()), None)
    if here is None:
        yield Symptom(role, "no such folder", "wrong", "set TMPDIR to a folder that may be written")
        return
    kind, free = _disk_kind(here), shutil.disk_usage(here).free
    value = f"{byte_count(free)} free" + (f", {kind}" if kind else "")
    if here != place and not (place and place.exists()):
        value += ", not made yet"
    try:
        speed = _written_mb_s(here, min(_WRITTEN, free // 4))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room on this disk" if full else "take another folder, or have its rights changed"
        yield Symptom(role, f"{value}, cannot be written: {error.strerror}", "wrong", remedy)
        return
    value += f", written at {speed:.0f} MB/s"
    if free < _LITTLE_DISK:
        yield Symptom(role, value, "slow", "make room on this disk")
    elif speed < _SLOW_DISK_MB_S:
        remedy = (
            "prepare to a local disk: --set cache=/local/folder" if kind in _NETWORK_DISKS else "take a faster disk"
        )
        yield Symptom(role, value, "slow", remedy)
    else:
        yield Symptom(role, value)


def _written_mb_s(folder: Path, size: int) -> float:
    """How fast a file is written and has reached the disk. Raises OSError where it cannot be."""
    block = os.urandom(1_000_000)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".segue-doctor-") as file:
        started = time.perf_counter()
        for _ in range(max(1, size // len(block))):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return max(1, size // len(block)) / (time.perf_counter() - started)


def _disk_kind(folder: Path) -> str:
    """``ext4``, ``nfs4``, ``tmpfs``; nothing where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real, best, kind = folder.resolve(), -1, ""
    for line in mounts:
        words = line.split()
        point = Path(words[1].replace("\\040", " "))
        if len(point.parts) > best and (real == point or point in real.parents):
            best, kind = len(point.parts), words[2]
    return kind


def _shared_memory() -> Iterator[Symptom]:
    place = Path("/dev/shm")
    if not place.is_dir():
        return
    free = shutil.disk_usage(place).free
    little = free < _LITTLE_SHARED
    remedy = "of a container: --shm-size 8g; several GPUs exchange gradients through it"
    yield Symptom("shared memory", f"{byte_count(free)} free", "slow" if little else "ok", remedy if little else "")


def _unpacking() -> Iterator[Symptom]:
    """How fast .nii.gz comes in: what most of the time of reading is."""
    import numpy as np
    from isal import igzip

    values = np.random.default_rng(0).integers(0, 60, 16_000_000, dtype=np.int16)
    packed = igzip.compress(values.tobytes(), 1)
    speed = values.nbytes / 1e6 / min(_seconds(lambda: igzip.decompress(packed)) for _ in range(3))
    slow = speed < _SLOW_UNPACKING_MB_S
    remedy = "other work shares this core, or the processor saves power" if slow else ""
    yield Symptom("unpacking", f"{speed:.0f} MB/s of a core", "slow" if slow else "ok", remedy)


def _torch() -> Iterator[Symptom]:
    """Accelerators, and what a convolution takes in both formats."""
    started = time.perf_counter()
    try:
        import torch
    except Exception as error:  # a broken build raises anything
        yield Symptom("torch", anonymous(f"cannot be imported: {error}")[:300], "wrong", "install it again: see README")
        return
    took = time.perf_counter() - started
    slow = took > _SLOW_IMPORT_S
    remedy = "put the Python environment on a local disk" if slow else ""
    yield Symptom("torch", f"{torch.__version__}, imported in {took:.1f} s", "slow" if slow else "ok", remedy)
    yield from _accelerators()
    from segue.train.device import has_fast_bfloat16

    device = torch.device("cpu")
    formats = [torch.float32, torch.bfloat16] if has_fast_bfloat16(device) else [torch.float32]
    rates = {str(kind).removeprefix("torch."): _convolved_gflops(kind) for kind in formats}
    told = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in rates.items())
    yield Symptom("convolution", f"{told}, {torch.get_num_threads()} threads on the processor")


def _accelerators() -> Iterator[Symptom]:
    import torch

    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        free = torch.cuda.mem_get_info(number)[0]
        value = f"{facts.name}, {facts.total_memory / 1e9:.1f} GB, {free / 1e9:.1f} GB free, CUDA {torch.version.cuda}"
        yield Symptom(f"GPU {number}", value)
    if torch.backends.mps.is_available():
        yield Symptom("GPU", "Apple MPS")
    if not torch.cuda.is_available() and (Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi")):
        build = torch.version.cuda or "without CUDA"
        remedy = "install torch with CUDA for its driver (README, Installation)"
        yield Symptom("GPU", f"there is one that this torch ({build}) does not see", "wrong", remedy)


def _convolved_gflops(kind: object) -> float:
    import torch

    images = torch.ones(1, 32, 32, 32, 32).to(kind, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network = torch.nn.Conv3d(32, 32, 3, padding=1).to(kind, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with torch.inference_mode():
        best = min(_seconds(lambda: network(images)) for _ in range(5))
    return 2 * 32 * 32 * 27 * 32**3 / best / 1e9


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(symptoms: list[Symptom]) -> list[str]:
    """The lines that a person reads, and attaches: everything, then what to do."""
    width = max(len(symptom.topic) for symptom in symptoms)
    lines = [f"{symptom.topic:<{width}}  {symptom.value}" for symptom in symptoms]
    amiss = [symptom for symptom in symptoms if symptom.state in ("slow", "wrong")]
    counts: Mapping[str, int] = {state: sum(s.state == state for s in symptoms) for state in ("wrong", "slow", "note")}
    told = [f"{symptom.state}: {symptom.topic}, {symptom.value}\n  -> {symptom.remedy}" for symptom in amiss]
    told += [f"note: {s.topic}, {s.value}\n  -> {s.remedy}" for s in symptoms if s.state == "note"]
    return [*lines, "", *told, f"{counts['wrong']} wrong, {counts['slow']} slow, {counts['note']} notes"]
