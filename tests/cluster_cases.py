"""What the workers of ``test_cluster.py`` do: in a file by itself, so that they need not import the tests."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from segue.core.errors import DataError


@dataclass(frozen=True)
class Case:
    id: str
    path: Path


def lives(case: Case) -> str:
    if case.id == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if case.id == "bad":
        raise DataError("this one is bad", where=case.id)
    return f"{case.id} {case.path.exists()} {os.getpid()}"


def slow(case: Case) -> str:
    (case.path / case.id).touch()
    time.sleep(0.4)
    return case.id
