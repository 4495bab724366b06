"""What goes wrong round a command has a defined outcome: other processes, clocks, disks, files that change."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from segue.images import read, write
from segue.prepare import Budget
from segue.train.run import read_events
from segue.train.schedule import Schedule
from segue.volume import Volume

SMALL = (
    *("--steps", "4", "--device", "cpu", "--workers", "1", "--set", "plan.patch=[8,8,8]"),
    *("--set", "train.precision=float32", "--set", "train.compile=false"),
)


def test_a_clock_that_jumps_uses_up_no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = Schedule(Budget(minutes=10), 5)
    for jump in (1e6, -1e6):
        now = time.time() + jump
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert 0 <= schedule.progress(3) < 0.1


def at_once(folder: Path, *commands: tuple[object, ...]) -> list[tuple[int, str]]:
    """Run commands at the same time."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "segue", *map(str, words)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in commands
    ]
    said = [process.communicate(timeout=500)[0] for process in begun]
    return [(process.returncode, text) for process, text in zip(begun, said, strict=True)]


@pytest.mark.slow
def test_two_commands_at_once_on_one_output(blobs: Path, tmp_path: Path) -> None:
    """The same as one: they take turns, or both write the same files, each of them whole."""
    for words in (
        ("get", "msd/hippocampus", "--look-alike", 5),
        ("train", blobs, "-o", "run", *SMALL),
        ("predict", "run", blobs / "imagesTr", "-o", "out", "--device", "cpu"),
    ):
        done = at_once(tmp_path, words, words)
        assert [code for code, _ in done] == [0, 0], done
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert [event["event"] for event in events].count("started") <= 2
    assert events[-1]["event"] == "finished" and events[-1]["step"] == 4
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]) == 10
    masks = list((tmp_path / "out").glob("*.nii.gz"))
    assert len(masks) == 10
    for path in masks:
        read(path)
    hidden = [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert hidden == [], "no lock, no temporary file stays"


def test_a_file_that_changes_after_it_was_prepared_is_prepared_anew(blobs: Path, tmp_path: Path) -> None:
    from segue.catalogue import open_dataset
    from segue.prepare.examine import case_digest

    case = open_dataset(str(blobs)).cases[0]
    before = case_digest(case)
    volume = read(case.image_files[0])
    write(Volume(volume.array + np.float32(1), volume.geometry), case.image_files[0])
    assert case_digest(case) != before
