"""A command with its wall time and the peak memory of everything that it starts."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.2


@dataclass(frozen=True)
class Watched:
    """What a command printed (both streams), how long it took, and the most memory that its processes had together.

    ``cpu_seconds`` is what all of them had of the processors. ``gigabytes`` is proportional (PSS): pages that several
    processes share count once.
    """

    printed: str
    seconds: float
    cpu_seconds: float
    gigabytes: float


def session_of(stat: str) -> int:
    """The session out of a line of ``/proc/PID/stat``; the name in it may hold spaces and brackets."""
    return int(stat.rpartition(")")[2].split()[3])


def session_bytes(session: int) -> int:
    """The proportional memory of all processes of a session, in bytes."""
    total = 0
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            if session_of((place / "stat").read_text()) == session:
                total += 1024 * _pss_kilobytes((place / "smaps_rollup").read_text())
        except OSError:
            continue  # it has just ended
    return total


def _pss_kilobytes(rollup: str) -> int:
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def watch(
    command: Sequence[object],
    log: Path,
    environment: Mapping[str, str] | None = None,
    meanwhile: Callable[[float], None] | None = None,
) -> Watched:
    """Run a command in a session of its own, with both streams in ``log``.

    ``meanwhile`` is called with the seconds so far, several times a second.

    Raises:
        SystemExit: it failed, with the end of its log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    started = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(
            words,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        most, ended = [0], threading.Event()

        def sample() -> None:
            while not ended.wait(EVERY_S):
                most[0] = max(most[0], session_bytes(process.pid))

        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            while True:
                try:
                    process.wait(EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    if meanwhile is not None:
                        meanwhile(time.monotonic() - started)
            seconds = time.monotonic() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        finally:
            ended.set()
            sampler.join()
            if process.poll() is None:
                process.terminate()
                process.wait()
    printed = log.read_text(errors="replace")
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}\nended with {process.returncode}\n{printed[-4000:]}")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Watched(printed, seconds, cpu_seconds, most[0] / 1e9)
