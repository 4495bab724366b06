"""The command line around getting data: forecast, verification, copies, and the script of the same work."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from conftest import PROJECT, Segue


def test_a_forecast_brings_nothing(segue: Segue, tmp_path: Path) -> None:
    done = segue("get", "msd/liver", "--dry-run")
    assert done.returncode == 0, done.stderr
    for word in ("28.9 GB", "57.9 GB needed", "48 min", "CC-BY-SA-4.0", "msd-for-monai"):
        assert word in done.stdout
    assert list(tmp_path.iterdir()) == []
    done = segue("get", "brats/2021", "--dry-run")
    assert "register at synapse.org" in done.stdout
    done = segue("get", "fdg-pet-ct-lesions", "--dry-run")
    assert "more than 419 GB needed" in done.stdout
    done = segue("get", "medmnist/organcmnist", "--release", "2.2", "--dry-run")
    assert done.returncode == 0, done.stderr


def test_a_terminal_shows_the_time_left_before_anything_else_is_cut(tmp_path: Path) -> None:
    code = (
        "import time; from segue.core.console import stage\n"
        "with stage('download', 100) as shown:\n"
        "    for _ in range(20): shown.advance(4, 'x' * 90); time.sleep(0.05)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment):
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes any more
            while piece := os.read(ours, 65536):
                text += piece
    os.close(ours)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode()).replace("\r", "\n").splitlines()
    bars = [line for line in lines if " s left " in line]
    assert bars and all(len(line) <= 80 for line in bars)
    assert all(re.search(r"\d+ %  \d+ s left x{10,}", line) for line in bars)


def test_verification_and_its_exit_codes(segue: Segue, tmp_path: Path, blobs: Path) -> None:
    assert segue("get", "msd/hippocampus", "--verify").returncode == 3
    (tmp_path / "blobs.yaml").write_text(
        "name: mine/blobs\ntitle: Blobs\nchannels: [{name: MRI}]\nlabels: {1: bright, 2: dim}\n"
        "layout: {kind: decathlon}\n"
    )
    done = segue("get", "blobs.yaml", "--from", blobs, "--copy")
    assert done.returncode == 0, done.stderr
    root = tmp_path / "data" / "mine" / "blobs"
    assert f"next: segue check {Path('data/mine/blobs')}" in done.stdout
    again = segue("check", "data/mine/blobs")
    assert again.returncode == 0, again.stderr
    assert segue("get", "blobs.yaml", "--verify").returncode == 0
    image = root / "imagesTr" / "blob_00.nii.gz"
    assert not image.samefile(blobs / "imagesTr" / "blob_00.nii.gz")
    image.write_bytes(image.read_bytes()[:-1])
    done = segue("get", "blobs.yaml", "--verify")
    assert done.returncode == 3
    assert "changed: imagesTr/blob_00.nii.gz" in done.stdout


def test_the_brief_scripts(tmp_path: Path) -> None:
    def script(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "scripts" / "download_data.py"), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    done = script("--dataset", "msd", "--list")
    assert done.returncode == 0, done.stderr
    assert "msd/liver" in done.stdout
    assert "10 datasets" in done.stdout
    assert "medmnist/pathmnist" in script("--dataset", "medmnist", "--list").stdout
    done = script("--dataset", "msd", "--task", "livr", "--output", "data/")
    assert done.returncode == 2
    assert "did you mean 'msd/liver'? (a card" in done.stderr
    assert script("--list").returncode == 2
    done = script("--dataset", "brats", "--task", "2021")
    assert done.returncode == 3
    assert "synapse" in done.stderr
