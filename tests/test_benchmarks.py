"""The benchmarks run: a small smoke version of each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT


def run(*words: object) -> str:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_hippocampus(hippocampus: Path) -> None:
    text = run("benchmarks/hippocampus.py", "--source", hippocampus, "--minutes", 0.1)
    assert "peak memory" in text
    lines = text.splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["anterior", "posterior", "all"]
    for line in lines:
        figures = re.findall(r"(NSD 1 mm|HD95 mm) (\S+) \((\S+) to (\S+)\)", line)
        assert [name for name, *_ in figures] == ["NSD 1 mm", "HD95 mm"]
        assert all(float(low) <= float(value) <= float(high) for _, value, low, high in figures)
        assert line.endswith("42 images")


@pytest.mark.slow
def test_ablation(hippocampus: Path) -> None:
    words = ("--minutes", 0.02, "--seeds", 0, "--variants", "recipe,sgd")
    text = run("benchmarks/ablation.py", "--source", hippocampus, *words)
    assert [line.split()[0] for line in text.splitlines()[-3:]] == ["variant", "recipe", "sgd"]


def test_download() -> None:
    text = run("benchmarks/download.py", "--megabytes", 4, "--rate", 10, "--rounds", 1)
    assert "ratio" in text
    assert "whole again: True" in text


def test_startup() -> None:
    text = run("benchmarks/startup.py", "--runs", 1)
    assert [line.split("  ")[0] for line in text.splitlines()[1:]] == [
        "python -c pass",
        "segue --help",
        "segue train --help",
        "segue --version",
        "segue datasets",
        "segue datasets NAME",
    ]


def test_read() -> None:
    text = run("benchmarks/read.py", "--slices", 6, "--rounds", 1)
    assert text.count("same voxels: True") == 3
    differences = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if "differs by" in line]
    assert len(differences) == 4
    assert max(differences) < 1e-3  # of values with a deviation of 100


def test_dicom(test_data: Path) -> None:
    source = test_data / "sts-petct" / "dicom" / "STS_001" / "CT" / "image"
    text = run("benchmarks/dicom.py", "--source", source, "--slices", 8, "--rounds", 1, "--syntax", "jpeg2000")
    assert "CT, uncompressed: 8 files" in text
    assert "CT, jpeg2000: 8 files" in text
    assert text.count("segue, read only") == 2


def test_loader() -> None:
    text = run("benchmarks/loader.py", "--shape", 40, 36, 30, "--patch", 16, "--seconds", 0.1, "--rounds", 1)
    rows = {line[:20].strip(): line[20:].split() for line in text.splitlines()[1:]}
    assert list(rows) == ["segue", "segue, as nnU-Net", "segue, cut only"]
    assert all(float(number) > 0 for row in rows.values() for number in row)


def test_metrics() -> None:
    text = run("benchmarks/metrics.py", "--size", 40, "--rounds", 1, "--whole-body", 60, 50, 40)
    assert "GB at the most" in text
    rows = [line[:22].strip() for line in text.splitlines() if line[22:23] == " "]
    assert rows.count("segue") == rows.count("MONAI") == rows.count("surface-distance") == 2
    values = {line[:22].strip(): line[48:].split() for line in text.splitlines() if line[22:23] == " "}
    # One Dice, HD95 and NSD of each label from MONAI and segue.
    assert len(values["segue"]) == 6
    assert [float(value) for value in values["segue"]] == pytest.approx(
        [float(value) for value in values["MONAI"]], abs=2e-3
    )


def test_predict() -> None:
    words = ("--patch", 16, 16, 16, "--widths", 4, 8, "--threads", 1)
    text = run("benchmarks/predict.py", "throughput", "--cases", 2, *words)
    assert "2 images, patch (16, 16, 16)" in text
    assert "start-up" in text
    text = run("benchmarks/predict.py", "memory", "--shape", 30, 24, 20, "--labels", 3, *words)
    assert "30x24x20, 3 labels" in text
    text = run("benchmarks/predict.py", "petct", "--shape", 30, 24, 20, *words)
    assert "two channels" in text
    assert text.count("peak") == 1
