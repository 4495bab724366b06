"""The benchmark on a GPU, as far as it goes without one: its words, its table, its plans, and a small trial."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from conftest import PROJECT
from test_bench_nnunet import load, run


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    for name in ("watched", "vs_nnunet", "loader", "gpu_use"):
        load(name)
    return load("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_says_so_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu.py"], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("no GPU to measure on: torch ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--patch", "10"], "multiple of 4"),
        (["--rounds", "0"], "at least 1"),
        (["--peer", "nowhere/python"], "vs_nnunet.py setup"),
        (["--device", "tpu"], "invalid choice"),
    ],
)
def test_wrong_words(bench: ModuleType, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.parse(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert bench.parse([]).iterations == 250


def test_the_work_is_nnunets(bench: ModuleType) -> None:
    # nnU-Net 2.8.1's plan of the hippocampus, and Isensee et al. 2021 for 128^3: widths capped at 320, down to 4^3.
    assert bench.HIPPOCAMPUS.widths == [32, 64, 128, 256]
    assert bench.SYNTHETIC.widths == [32, 64, 128, 256, 320, 320]
    assert 128 // 2 ** (bench.SYNTHETIC.levels - 1) == 4
    small = bench.SYNTHETIC.cubes(16)
    assert (small.patch, small.batch, small.levels) == ((16, 16, 16), 2, 3)
    arguments = bench.network_args(bench.HIPPOCAMPUS)
    assert len(arguments["strides"]) == len(arguments["channels"]) == 4


def test_nnunets_plans_get_the_work_and_keep_the_rest(bench: ModuleType) -> None:
    own = {"n_stages": 4, "conv_bias": True}
    before = {
        "plans_name": "nnUNetPlans",
        "configurations": {"3d_fullres": {"batch_size": 7, "spacing": [1, 1, 1], "architecture": {"arch_kwargs": own}}},
    }
    made = bench.plans_for(before, bench.Work("x", (40, 56, 48), 9, 3))
    chosen = made["configurations"]["3d_fullres"]
    assert (made["plans_name"], chosen["patch_size"], chosen["batch_size"]) == ("nnUNetPlans_x", [48, 56, 40], 9)
    assert chosen["spacing"] == [1, 1, 1]
    network = chosen["architecture"]["arch_kwargs"]
    assert (network["n_stages"], network["conv_bias"], len(network["n_conv_per_stage_decoder"])) == (3, True, 2)
    assert before["configurations"]["3d_fullres"]["batch_size"] == 7  # a copy was changed


def test_the_table_tells_times_only_where_both_did_the_work(bench: ModuleType) -> None:
    row = bench.Row
    told = {"seconds": [9.0, 5.0], "busy": 96.5, "memory_gb": 3.25}
    rows = [row.of(bench.HIPPOCAMPUS, True, "segue", told), row("hippocampus", "fixed", "nnU-Net", 10.0, None, None)]
    lines = bench.table([*rows, row("synthetic", "loaded", "segue", 4.0, 50.0, 1.0)], 250).splitlines()
    assert "s / 250 iterations" in lines[0]
    assert lines[2] == "| hippocampus | fixed | segue | 5.0 | 2.00 | 96 % | 3.25 |"
    assert lines[3] == "| hippocampus | fixed | nnU-Net | 10.0 | 1.00 |  |  |"
    assert lines[4] == "| synthetic | loaded | segue | 4.0 |  | 50 % | 1.00 |"


def test_what_nvidia_smi_says(bench: ModuleType) -> None:
    use = sys.modules["gpu_use"]
    assert [use.percent_of(said) for said in ("97\n", "[N/A]\n", "", "No devices were found\n")] == [
        97.0,
        None,
        None,
        None,
    ]
    with use.GpuUse() as nothing:
        pass
    assert nothing.mean is None or 0 <= nothing.mean <= 100


def test_rounds_are_counted_between_their_first_steps(bench: ModuleType) -> None:
    drawn: list[int] = []
    inner = SimpleNamespace(batch=lambda step, device, vary: drawn.append(step) or step, metric="dice")
    cpu = torch.device("cpu")
    paced = bench.Paced(inner, 3, fixed=False)
    assert [paced.batch(step, cpu, True) for step in range(7)] == list(range(7))
    assert len(paced.seconds) == 2
    assert paced.metric == "dice"
    drawn.clear()
    fixed = bench.Paced(inner, 3, fixed=True)
    assert [fixed.batch(step, cpu, True) for step in range(5)] == [0] * 5
    assert drawn == [0]


@pytest.mark.slow
def test_a_trial_on_a_cpu(hippocampus: Path) -> None:
    words = ["--device", "cpu", "--iterations", 1, "--rounds", 1, "--patch", 8, "--minutes", 0]
    text = run("gpu.py", *words, "--files", hippocampus.parent.parent)
    rows = [line.split(" | ")[:3] for line in text.splitlines() if "segue" in line]
    assert rows == [
        [f"| {work}", batches, "segue"] for work in ("hippocampus", "synthetic") for batches in ("loaded", "fixed")
    ]
