"""Damaged images of every format end in a volume or in one readable error; never in a traceback, a crash or a hang."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing import KINDS

HERE = Path(__file__).parent
# What ITK prints of a file that it refuses is nobody's traceback; the count is.
_SAID = re.compile(r"(\d+) read, (\d+) refused")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_damaged_images_are_read_or_refused(kind: str) -> None:
    number, seed = 120, "20261124"
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzzing.py"), kind, seed, str(number)],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = _SAID.search(done.stdout)
    assert said is not None, done.stdout
    assert sum(map(int, said.groups())) == number
    assert int(said[2]) > number // 5
