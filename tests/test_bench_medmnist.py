"""benchmarks/medmnist.py: scores out of a run's metrics.json, and the table; no training and no peers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from conftest import PROJECT


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    # Not under its own name, which is that of a package.
    spec = importlib.util.spec_from_file_location("bench_medmnist", PROJECT / "benchmarks" / "medmnist.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_metrics(folder: Path, auc: float, accuracy: float) -> Path:
    def part(auc: float, accuracy: float) -> dict[str, object]:
        values = {"auc": auc, "accuracy": accuracy, "balanced_accuracy": 0.8}
        scores = {name: {"value": value, "ci95": [0.7, 0.95], "n": 156} for name, value in values.items()}
        return {"aggregate": {"all": scores}, "cases": {}}

    path = folder / "metrics.json"
    path.write_text(json.dumps({"val": part(0.95, 0.9), "test": part(auc, accuracy)}))
    return path


def test_scores_are_those_of_the_test_images(bench: ModuleType, tmp_path: Path) -> None:
    assert bench.read_scores(write_metrics(tmp_path, 0.91, 0.87)) == {
        "auc": 0.91,
        "accuracy": 0.87,
        "balanced_accuracy": 0.8,
        "validation_auc": 0.95,
    }


def test_a_run_without_test_scores_is_named(bench: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"val": {"aggregate": {"all": {"auc": {"value": 0.9}}}}}))
    with pytest.raises(SystemExit, match=r"metrics\.json: no value of test, all, auc"):
        bench.read_scores(path)


def test_the_table_compares_means_with_what_was_published(bench: ModuleType, tmp_path: Path) -> None:
    outcomes = [
        bench.Outcome(seed, **bench.read_scores(write_metrics(tmp_path, auc, accuracy)), minutes=5.04, gigabytes=0.7)
        for seed, auc, accuracy in ((0, 0.90, 0.85), (1, 0.9012, 0.86), (2, 0.9006, 0.87))
    ]
    lines = bench.table("breastmnist", outcomes, bench.PUBLISHED["breastmnist"]).splitlines()
    assert [line.split()[0] for line in lines] == [
        *("breastmnist", "seed", "0", "1", "2", "mean", "deviation", "published", "mean"),
    ]
    assert lines[5].split() == ["mean", "0.901", "0.860", "0.800", "0.950", "5.0", "0.70"]
    assert lines[7].split()[:3] == ["published", "0.901", "0.863"]
    assert lines[-1] == "mean against published: AUC pass, ACC fail"


def test_a_child_that_fails_says_why(bench: ModuleType, tmp_path: Path) -> None:
    printed, minutes, gigabytes = bench.run([sys.executable, "-c", "print(1)"], tmp_path / "log")
    assert printed == "1\n"
    assert 0 < minutes < 1
    assert gigabytes > 0
    with pytest.raises(SystemExit, match="ValueError: no such set"):
        bench.run([sys.executable, "-c", "raise ValueError('no such set')"], tmp_path / "log")


def test_the_set_comes_as_the_command_line_brings_it(bench: ModuleType, test_data: Path, tmp_path: Path) -> None:
    folder = bench.bring("breastmnist", test_data, tmp_path / "data", tmp_path / "log")
    assert folder == tmp_path / "data" / "medmnist" / "breastmnist"
    assert (folder / "breastmnist.npz").is_file()
