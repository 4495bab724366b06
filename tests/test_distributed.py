"""Training by several processes: the same batches, the same losses, and on after one was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from segue.train import World, load_checkpoint, read_events

TINY = "network.args={channels: [4, 8], strides: [[1, 1, 1], [2, 2, 2]], stem_stride: [2, 2, 2]}"


def command(blobs: Path, folder: Path, name: str, steps: int, more: Sequence[str] = ()) -> list[str]:
    settings = [TINY, "train.precision=float32", "train.validations=2", "plan.batch=3", *more]
    return [
        *("-m", "segue", "train", str(blobs), "--data", str(folder / "data"), "-o", str(folder / name)),
        *("--steps", str(steps), "--device", "cpu"),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def torchrun(processes: int, arguments: Sequence[str]) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, *arguments]


def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def losses(folder: Path) -> dict[int, float]:
    return {e["step"]: e["loss"] for e in read_events(folder / "events.jsonl") if e["event"] == "step"}


def summed(told: dict[int, float]) -> float:
    """The sum of the losses of all steps: what is told is a mean since it was last told, which the clock decides."""
    return sum(loss * (step - before) for (step, loss), before in zip(told.items(), [0, *told], strict=False))


@pytest.mark.parametrize(("total", "size"), [(4, 2), (3, 2), (2, 3), (9, 4), (1, 1)])
def test_processes_share_a_batch_without_gap_or_overlap(total: int, size: int) -> None:
    rows = [list(range(total))[World(rank, size).rows(total)] for rank in range(size)]
    assert [row for part in rows for row in part] == list(range(total))
    assert max(map(len, rows)) <= -(-total // size)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])  # of a batch of three: one has less, or nothing
def test_several_processes_train_as_one(blobs: Path, tmp_path: Path, processes: int) -> None:
    alone = run([sys.executable, *command(blobs, tmp_path, "alone", 6)], tmp_path)
    assert alone.returncode == 0, alone.stderr
    together = run(torchrun(processes, command(blobs, tmp_path, "together", 6)), tmp_path)
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("report: ") == 1  # the first process speaks for all
    one, several = losses(tmp_path / "alone"), losses(tmp_path / "together")
    assert max(several) == max(one) == 6
    assert summed(several) == pytest.approx(summed(one), abs=1e-5)
    started = next(e for e in read_events(tmp_path / "together" / "events.jsonl") if e["event"] == "started")
    assert started["processes"] == processes
    before, after = (load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("alone", "together"))
    for name, value in before["network"].items():
        assert torch.allclose(value, after["network"][name], atol=1e-4), name
    scores = [
        [e["score"] for e in read_events(tmp_path / name / "events.jsonl") if e["event"] == "validated"]
        for name in ("alone", "together")
    ]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(blobs: Path, tmp_path: Path) -> None:
    arguments = torchrun(2, command(blobs, tmp_path, "run", 150, ["train.save_every_s=0"]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        arguments, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode != 0
    reached = load_checkpoint(last)["step"]
    assert 0 < reached < 150, told
    again = run(arguments, tmp_path)
    assert again.returncode == 0, again.stderr
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert next(e["step"] for e in events if e["event"] == "resumed") == reached
    assert load_checkpoint(last)["step"] == 150


def test_each_process_of_a_machine_has_its_own_gpu_and_its_part_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from segue.core.errors import MachineError
    from segue.train import device as module

    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert module.pick_device("cuda") == torch.device("cuda:1")
    assert chosen == [1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(MachineError, match="more processes on this machine than GPUs"):
        module.pick_device("cuda")
    before = torch.get_num_threads()
    monkeypatch.setattr(module, "cpu_count", lambda: 8)
    assert module.pick_device("cpu").type == "cpu"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


LEAVING = """
import atexit, glob, sys, torch
from segue.train.distributed import world

def last():
    names = [open(path).read() for path in glob.glob("/proc/self/task/*/comm")]
    sys.stdout.write(f"threads of gloo left: {sum('gloo' in name for name in names)}\\n")  # one piece, of two processes

def train():
    place = world()
    network = place.shared(torch.nn.Linear(2, 1), torch.device("cpu"))
    place.total(network(torch.ones(1, 2)).sum()).backward()

atexit.register(last)
train()
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the threads of a process are told by Linux's /proc")
def test_no_thread_of_the_group_outlives_it(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    arguments = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "leaving.py"]
    done = run(arguments, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["threads of gloo left: 0"] * 2
