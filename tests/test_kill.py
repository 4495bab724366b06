"""What a killed process leaves is known and removed, and a rerun gives what an undisturbed run gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT
from segue.core.files import atomic_path, write_text
from segue.core.leftovers import is_abandoned, is_part, part_beside


def killed_while_writing(target: Path) -> Path:
    """The temporary file of a process that wrote ``target`` when it was killed."""
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom segue.core.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], timeout=60, check=False)
    assert done.returncode == -9
    (left,) = [path for path in target.parent.iterdir() if is_part(path.name)]
    return left


def test_whoever_writes_next_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    left = killed_while_writing(tmp_path / "out" / "figures.json")
    assert left.read_text() == "half"
    assert is_abandoned(left)
    write_text(tmp_path / "out" / "other.json", "whole")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other.json"]


def test_what_somebody_writes_now_stays(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "mine.txt") as mine:
        mine.write_text("half")
        assert not is_abandoned(mine)
        code = "import sys\nfrom segue.core.files import write_text\nwrite_text(sys.argv[1], 'whole')\n"
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "theirs.txt")], timeout=60, check=True)
        assert mine.read_text() == "half"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.txt", "theirs.txt"]


def test_of_another_machine_only_what_is_a_day_old_is_abandoned(tmp_path: Path) -> None:
    name = part_beside(tmp_path / "x.txt").name
    other = tmp_path / f".ffffff{name[7:]}"
    other.write_text("half")
    assert is_part(other.name)
    assert not is_abandoned(other)
    os.utime(other, (1, 1))
    assert is_abandoned(other)
    assert not is_abandoned(tmp_path / ".hidden.part.txt")  # nobody's of ours


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")
def test_a_killed_command_goes_on_to_the_same_result(tmp_path: Path) -> None:
    stages = "get,convert,prepare,train,predict,evaluate"
    words = ("benchmarks/kill.py", "--kills", "6", "--stages", stages, "--seed", "5", "--work", str(tmp_path / "work"))
    done = subprocess.run(
        [sys.executable, *words], cwd=PROJECT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    together = next(line.split() for line in done.stdout.splitlines() if line.startswith("together"))
    assert together[1] == "6" and together[4] == "0"
