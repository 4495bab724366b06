"""``segue doctor``: what is amiss is said with its remedy, and nobody is named."""

from __future__ import annotations

import errno
import importlib.metadata
import tempfile
from pathlib import Path

import pytest
import torch

from conftest import Segue
from segue.workflow import doctor
from segue.workflow.doctor import Symptom, anonymous, examine_machine, report


def test_a_report_that_may_be_shown_to_anybody(segue: Segue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "Mueller_Hans_19520411"
    (home / "work").mkdir(parents=True)
    for name, value in {"HOME": home, "USER": "hmueller", "LOGNAME": "hmueller", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, str(value))
    done = segue("doctor", "--data", home / "work" / "data")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert not [name for name in ("Mueller", "19520411", "hmueller", str(tmp_path)) if name in told]
    lines = dict(line.split("  ", 1) for line in done.stdout.split("\n\n")[0].splitlines())
    assert torch.__version__ in lines["torch"]
    assert "GFLOP/s in float32" in lines["convolution"]
    assert "written at" in lines["data"]
    assert not list(home.rglob("*segue*"))  # what was written to measure is gone


def test_names_are_taken_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "hmueller"))
    monkeypatch.setenv("USER", "hmueller")
    monkeypatch.chdir(tmp_path)
    assert anonymous(f"{tmp_path}/hmueller/x of hmueller in {tmp_path}/y") == "~/x of USER in ./y"


def test_libraries_that_are_missing_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["numpy>=2.4", "scipy>=1.17", "rich>=15.0", 'pydicom>=3.0; extra == "dicom"', 'x>=1; extra == "dev"']
    versions = {"numpy": "2.10.0", "scipy": "1.9.3+local"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: required)
    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {symptom.topic: symptom for symptom in doctor._libraries()}
    assert found["libraries"].value == "numpy 2.10.0"
    assert (found["scipy"].state, found["scipy"].remedy) == ("wrong", "pip install 'scipy>=1.17'")
    assert found["rich"].value == "not installed"
    assert "pydicom" not in found
    extras = {symptom.topic: symptom for symptom in doctor._extras()}
    assert extras["extra dicom"] == Symptom("extra dicom", "without pydicom", "note", "pip install 'segue[dicom]'")
    assert "extra dev" not in extras


def test_a_folder_that_cannot_be_written_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(**options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refused)
    (found,) = doctor._place("data", tmp_path)
    assert (found.state, "Read-only file system" in found.value) == ("wrong", True)
    assert report([found])[-1] == "1 wrong, 0 slow, 0 notes"
    assert "take another folder" in report([found])[-2]


@pytest.mark.parametrize(("mb_s", "state"), [(3.0, "slow"), (900.0, "ok")])
def test_a_slow_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mb_s: float, state: str) -> None:
    monkeypatch.setattr(doctor, "_written_mb_s", lambda folder, size: mb_s)
    monkeypatch.setattr(doctor, "_LITTLE_DISK", 0)
    (found,) = doctor._place("data", tmp_path / "not" / "there")
    assert found.state == state
    assert "not made yet" in found.value


def test_the_kind_of_a_disk(tmp_path: Path) -> None:
    assert doctor._disk_kind(Path("/proc/self")) == "proc"
    assert doctor._disk_kind(tmp_path) not in ("", "proc")


def test_a_gpu_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    (found,) = doctor._accelerators()
    assert (found.topic, found.state) == ("GPU", "wrong")


def test_everything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_WRITTEN", 1_000_000)
    topics = [symptom.topic for symptom in examine_machine(tmp_path)]
    assert {"segue", "Python", "libraries", "processor", "memory", "data", "runs", "torch"} <= set(topics)
    assert len(topics) == len(set(topics))
