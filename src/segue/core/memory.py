"""How much memory there is, and how much this process takes, in GB of 10^9 bytes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from segue.core.errors import UsageError

_STATUS, _RESET, _MACHINE = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_UNITS = {"": 1.0, "GB": 1.0, "MB": 1e-3, "TB": 1e3, "GIB": 1.073741824, "MIB": 1.048576e-3}


def memory_of(text: str | float, where: str) -> float:
    """``8GB``, ``500 MB``, ``8`` (GB) as a number of GB.

    Raises:
        UsageError: it is none of these.
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([A-Za-z]*)\s*", str(text))
    try:
        value = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    except (KeyError, ValueError):
        value = 0.0
    if not value > 0:
        raise UsageError("this is no amount of memory", where=f"{where} {text}", remedy="write for example 8GB")
    return value


def installed_memory_gb() -> float:
    """Of the machine, or of the container that this process runs in."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    try:
        return min(whole, int(_LIMIT.read_text(encoding="ascii")) / 1e9)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return whole


def free_memory_gb() -> float:
    """What this process can still get; all there is, where the system does not tell."""
    try:
        free = _field(_MACHINE, "MemAvailable")
    except (OSError, KeyError):
        return installed_memory_gb()
    return min(free, installed_memory_gb() - used_memory_gb())


def used_memory_gb() -> float:
    """Resident memory of this process now (where the system does not tell, its peak)."""
    try:
        return _field(_STATUS, "VmRSS")
    except (OSError, KeyError):
        return peak_memory_gb()


def peak_memory_gb() -> float:
    """The most resident memory of this process since :func:`reset_peak`, or since it began."""
    try:
        return _field(_STATUS, "VmHWM")
    except (OSError, KeyError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9


def reset_peak() -> bool:
    """Begin to count the peak anew; False where the system cannot."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def bound_memory(limit_gb: float) -> Iterator[None]:
    """Within, this process cannot take more than so much: an allocation beyond raises MemoryError.

    What a library has reserved and not touched (stacks of threads, arenas) does not count. Without effect where the
    system has no such limit.
    """
    try:
        import resource

        before = resource.getrlimit(resource.RLIMIT_DATA)
        untouched_gb = max(0.0, _field(_STATUS, "VmData") - used_memory_gb())
    except (ImportError, AttributeError, OSError, KeyError):
        yield
        return
    limit = int((limit_gb + untouched_gb) * 1e9)
    if before[1] != resource.RLIM_INFINITY:
        limit = min(limit, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _field(path: Path, name: str) -> float:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / 1e9
    raise KeyError(name)
