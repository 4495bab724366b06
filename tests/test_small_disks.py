"""A disk that is full, or may not be written: each command says so, and goes on when there is room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segue.core.errors import MachineError
from segue.core.files import storage_fault
from small_disks import COMMANDS, in_own_namespace

HERE = Path(__file__).parent


def test_what_numpy_says_of_a_full_disk(tmp_path: Path) -> None:
    assert isinstance(storage_fault(OSError("22475 requested and 12224 written"), tmp_path), MachineError)
    other = OSError("something else")
    assert storage_fault(other, tmp_path) is other


@pytest.mark.slow
def test_every_command_on_a_full_and_on_a_read_only_disk(tmp_path: Path) -> None:
    """Where no disk can be mounted, files may not grow instead, and the read-only disk is told of as skipped."""
    done = subprocess.run(
        [*in_own_namespace(), sys.executable, str(HERE / "small_disks.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    outcomes = found["outcomes"]
    for outcome in outcomes:
        words = "the disk is full", "the disk is too small", "the file may not be as large"
        if outcome["free_kb"] is None:
            assert outcome["code"] == 0, outcome
        elif found["how"] == "a small disk" or outcome["code"]:  # a limit is not met where files are small
            expected = ("may not be written",) if outcome["free_kb"] == -1 else words
            assert outcome["code"] == 4 and any(word in outcome["said"] for word in expected), outcome
        assert outcome["halves"] == [] and not outcome["changed"], outcome
    assert sum(outcome["free_kb"] is None for outcome in outcomes) == len(COMMANDS)
    if found["how"] != "a small disk":
        pytest.skip("no disk can be mounted here: commands met a limit on the size of files, and no read-only disk")
    assert sum(outcome["free_kb"] == -1 for outcome in outcomes) == len(COMMANDS)
