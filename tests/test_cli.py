"""The command line as a user meets it: help, exit codes, one readable error for every bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import PROJECT, Segue
from segue.images import read, write
from segue.volume import Volume

VERBS = {"demo", "datasets", "get", "card", "convert", "check", "plan", "prepare", "train", "predict", "evaluate",
         "export", "view", "doctor"}  # fmt: skip


@pytest.mark.parametrize("words", [["--help"], ["--version"], *[[v, "--help"] for v in ("train", "get", "evaluate")]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom segue.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as e:\n"
        "    print('code', e.code, sorted({'torch', 'numpy', 'scipy', 'monai', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "code 0 []"


@pytest.mark.parametrize("verb", ["prepare", "check"])
def test_preparing_and_checking_import_nothing_that_trains_or_draws(blobs: Path, tmp_path: Path, verb: str) -> None:
    code = (
        "import sys\nfrom segue.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as e:\n"
        "    print('code', e.code, sorted({'torch', 'matplotlib', 'monai'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, verb, str(blobs), "--data", str(tmp_path / "data")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] in ("code 0 []", "code None []"), done.stderr


def test_the_verbs_are_among_the_fourteen(segue: Segue) -> None:
    text = segue("--help").stdout
    verbs = set(re.findall(r"^  ([a-z]+)  ", text.split("Commands:")[1], re.MULTILINE))
    assert {"demo", "get", "check", "plan", "prepare", "train", "predict", "evaluate", "view"} <= verbs <= VERBS
    for verb in verbs:
        text = segue(verb, "--help").stdout
        assert f"Example: segue {verb}" in text
    assert "..." not in segue("--help").stdout.split("Commands:")[1]  # no sentence is cut off


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "msd/hipocampus"], 2, "did you mean 'msd/hippocampus'"),
        (["train", "msd/hippocampus"], 3, "segue get msd/hippocampus --from"),
        (["train", "nowhere.yaml"], 2, "no such file"),
        (["train", "msd/hippocampus", "--minutes", "5", "--steps", "4"], 2, "one budget only"),
        (["train", "msd/hippocampus", "--set", "trian.learning_rate=1"], 2, "did you mean 'train'"),
        (["train", "msd/hippocampus", "--set", "train.learning_rate=-1"], 2, "greater than 0"),
        (["train", "msd/hippocampus", "--device", "tpu"], 4, "not available"),
        (["check", "nowhere"], 2, "no folder or card file"),
        (["predict", "nowhere", "x", "-o", "out"], 2, "not a run folder"),
        (["evaluate"], 2, "give a run folder, or both"),
        (["evaluate", "--pred", "nowhere", "--truth", "x"], 2, "no such folder"),
        (["view", "nowhere"], 2, "not a run folder"),
        (["get", "brats/2021"], 3, "register at synapse.org"),
        (["get", "msd/hippocampus", "--from", "nowhere"], 2, "no such file or folder"),
        (["get", "synthetic/petct", "--size", "huge"], 2, "two sizes"),
        (["fly"], 2, "No such command"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_readable_error(
    segue: Segue, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    done = segue(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_the_traceback_is_there_for_who_wants_it(segue: Segue) -> None:
    assert "Traceback" in segue("train", "msd/hippocampus", "--traceback").stderr


def test_empty_folder_is_told(segue: Segue, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for verb in ("check", "train", "plan"):
        done = segue(verb, "empty")
        assert done.returncode == 3
        assert "it holds nothing" in done.stderr


def test_check_goes_on_past_bad_cases_and_ends_with_3(segue: Segue, blobs: Path) -> None:
    (blobs / "labelsTr" / "blob_02.nii.gz").unlink()
    cut = blobs / "imagesTr" / "blob_05.nii.gz"
    cut.write_bytes(cut.read_bytes()[:700])
    nan = blobs / "imagesTr" / "blob_07.nii.gz"
    volume = read(nan)
    values = volume.array.copy()
    values[0, 0, 0, 0] = np.nan
    nan.unlink()
    write(Volume(values, volume.geometry), nan)
    done = segue("check", blobs)
    assert done.returncode == 3
    for case, what in (("blob_02", "cannot be read"), ("blob_05", "cut short"), ("blob_07", "NaN")):
        assert re.search(f"error: {case}: .*{what}", done.stdout), done.stdout
    # The image without label is a copy of the last one that trains.
    assert re.search(r"warning: blob_09: the same image stands in .*, and as blob_99 in test", done.stdout)
    # The balls lie so near the sides of their images that some are cut: a note, per case.
    assert len(re.findall(r"note: \d cases: label (?:bright|dim) reaches the border", done.stdout)) == 2
    assert done.stdout.count("note: ") == 2
    assert done.stdout.splitlines()[-1] == "11 looked at: 3 errors, 1 warnings, 5 notes"
    train = segue("train", blobs, "--steps", "2", "-o", "run")
    assert train.returncode == 3
    assert "3 of 10 cases cannot be used" in train.stderr
    skipped = segue("train", blobs, "--steps", "2", "-o", "run", "--skip-bad")
    assert skipped.returncode == 0, skipped.stderr
    report = (blobs.parent / "run" / "report.html").read_text()
    assert "blob_05" in report
    assert "left out" in report


def test_check_shows_one_file_and_a_folder_without_card(segue: Segue, blobs: Path) -> None:
    done = segue("check", blobs / "imagesTr" / "blob_00.nii.gz")
    assert done.returncode == 0
    assert "20x18x16" in done.stdout
    assert "1 x 1.2 x 1.5" in done.stdout
    (blobs / "imagesTr" / "blob_01.nii.gz").write_bytes(b"")
    done = segue("check", blobs / "imagesTr")
    assert done.returncode == 3
    assert "10 looked at: 1 errors" in done.stdout


@pytest.mark.slow
def test_predict_and_evaluate_go_on_past_bad_cases(segue: Segue, blobs: Path, tmp_path: Path) -> None:
    assert segue("train", blobs, "--steps", "3", "-o", "run").returncode == 0
    shutil.copytree(blobs / "imagesTr", tmp_path / "in")
    (tmp_path / "in" / "blob_01.nii.gz").write_bytes(b"half")
    done = segue("predict", "run", "in", "-o", "out")
    assert done.returncode == 3
    assert "9 masks in out" in done.stdout
    assert "1 failed: blob_01" in done.stdout
    done = segue("evaluate", "--pred", "out", "--truth", blobs / "labelsTr")
    assert done.returncode == 3  # the truth of blob_01 has no prediction
    assert "blob_01: no prediction for this truth" in done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["test"]
    assert set(metrics["aggregate"]) == {"bright", "dim", "all"}
    assert len(metrics["cases"]) == 9
    assert segue("evaluate", "run").returncode == 0
    (tmp_path / "run" / "report.html").unlink()
    assert segue("view", "run", "--report", "--no-browser", cwd=tmp_path).returncode == 0
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_during_prepare_is_one_error_and_nothing_half_written(
    segue: Segue, blobs: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a small disk")
    try:
        done = segue("prepare", blobs, "--data", disk, timeout=100)
        assert done.returncode == 4, done.stderr
        assert "the disk is full" in done.stderr
        assert not [path for path in disk.rglob("*") if "part" in path.name]
        written = [path.parent for path in disk.rglob("image.npy")]
        assert all((folder / name).exists() for folder in written for name in ("labels.npy", "foreground.npz"))
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_scripts_are_doors_onto_the_same_functions(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    script = str(PROJECT / "scripts" / "create_synthetic_petct.py")
    done = run(script, "--output", "data/synthetic", "--num-patients", "3", "--size", "small")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "data" / "synthetic").glob("*/*/SUV.nii.gz"))) == 3
    for name in ("petct_synthetic", "msd_hippocampus", "msd_liver"):
        done = run(
            str(PROJECT / "scripts" / "train.py"), "--config", str(PROJECT / "configs" / f"{name}.yaml"), "--dry-run"
        )
        assert done.returncode == 0, done.stderr
        assert f"runs/{name}" in done.stdout
    assert not (tmp_path / "runs").exists()
    for path in (PROJECT / "scripts").glob("*.py"):
        code = [
            line for line in path.read_text().splitlines() if line and not line.startswith(("#", '"', "import", "from"))
        ]
        assert len(code) <= 5
