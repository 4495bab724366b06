"""Cases on a Dask scheduler, in processes that Dask starts, and through a queue of SLURM."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_cases import Case, lives, slow
from conftest import PROJECT, Segue
from segue.core.cluster import Cluster, SlurmSettings, open_cluster
from segue.core.errors import DataError, MachineError, UsageError
from segue.core.executor import map_cases
from segue.core.work import at_work

pytest.importorskip("distributed")

_ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT / 'tests'}", "OMP_NUM_THREADS": "1"}
# Of a case that kills its worker, one death is enough: each new worker takes seconds to start.
_ENVIRONMENT["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "0"


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Running:
    """A scheduler with one worker, as a person starts them."""

    address: str
    scheduler: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]
    folder: Path


@contextmanager
def dask(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Running]:
    port = _port()
    address = f"tcp://127.0.0.1:{port}"
    quiet: dict[str, Any] = {
        "env": environment or _ENVIRONMENT,
        "cwd": folder,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    here = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(port), *here], **quiet
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", *here], **quiet
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as knocking:
            if knocking.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    try:
        yield Running(address, scheduler, worker, folder)
    finally:
        for process in (worker, scheduler):
            process.terminate()
        for process in (worker, scheduler):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with dask(tmp_path_factory.mktemp("dask")) as started:
        yield started


def test_a_lost_worker_costs_only_its_case(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nanny starts another one; the paths of the tasks are found although the worker stands in another folder."""
    (tmp_path / "here").touch()
    monkeypatch.chdir(tmp_path)
    cases = [Case(name, Path("here")) for name in ("a", "b", "killed", "c", "bad", "d", "e", "f")]
    with open_cluster(running.address) as cluster, at_work(executor=cluster):
        found = {case.id: result for case, result in map_cases(lives, cases)}
    assert list(found) == [case.id for case in cases]
    killed, bad = found.pop("killed"), found.pop("bad")
    assert isinstance(killed, DataError) and killed.where == "killed" and "tcp://127.0.0.1" in str(killed.value)
    assert isinstance(bad, DataError) and bad.what == "this one is bad"
    assert all(str(result).startswith(f"{name} True ") for name, result in found.items())
    assert str(os.getpid()) not in {str(result).split()[-1] for result in found.values()}


def test_a_lost_scheduler_is_told_and_what_is_finished_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segue.core.cluster as module

    monkeypatch.setattr(module, "_CONNECT_S", 3.0)
    with dask(tmp_path) as started:
        cases = [Case(str(number), tmp_path) for number in range(50)]
        done = []
        began = time.monotonic()
        with pytest.raises(MachineError) as raised, open_cluster(started.address) as cluster, at_work(executor=cluster):
            for _, result in map_cases(slow, cases):
                done.append(result)
                if len(done) == 3:
                    started.scheduler.kill()
                    began = time.monotonic()
        assert "scheduler is lost" in raised.value.what and raised.value.where == started.address
        assert "finished cases are kept" in str(raised.value.remedy) and raised.value.exit_code == 4
        assert 3 <= len(done) < 50 and time.monotonic() - began < 30


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import segue.core.cluster as module

    monkeypatch.setattr(module, "_CONNECT_S", 1.0)
    with pytest.raises(MachineError, match="does not answer"), open_cluster(f"tcp://127.0.0.1:{_port()}"):
        pass


def test_a_worker_of_another_version_or_without_the_data_is_told(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import segue as package
    import segue.core.cluster as module

    def opened() -> None:
        with open_cluster(running.address):
            pass

    with monkeypatch.context() as patched:
        patched.setattr(package, "__version__", "99.0")
        with pytest.raises(MachineError, match="another version") as raised:
            opened()
        assert "99.0 here" in str(raised.value.value) and raised.value.exit_code == 4
    ours = module._facts([])["versions"]
    here = module._facts
    with monkeypatch.context() as patched:
        patched.setattr(module, "_ALIKE", (*module._ALIKE, "pytest"))
        patched.setattr(
            Cluster, "_compare", lambda self, facts, kept=Cluster._compare: kept(self, _without(facts, "scipy"))
        )
        opened()
        assert (
            f"warning: workers have another version: scipy 0.1 there, {ours['scipy']} here" in capsys.readouterr().err
        )
    assert here([tmp_path / "nowhere"])["missing"] == [str(tmp_path / "nowhere")]
    only_here = tmp_path / "only here"
    only_here.mkdir()
    with open_cluster(running.address) as cluster, at_work(executor=cluster):
        monkeypatch.setattr(module, "_folders_of", lambda item: [Path("/nowhere/at/all")])
        with pytest.raises(MachineError, match="does not see the data") as raised:
            list(map_cases(lives, [Case("a", only_here)]))
        assert raised.value.value == "/nowhere/at/all" and "by the same path" in str(raised.value.remedy)


def _without(facts: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        worker: {**each, "versions": {**each["versions"], name: "0.1", "pytest": None}}
        for worker, each in facts.items()
    }


@pytest.mark.parametrize(
    "text", ["local", "local:0", "local:-1", "local:x", "pbs", "http://x:1", "tcp://x", "slurm:nowhere.yaml", ""]
)
def test_what_is_no_cluster(text: str) -> None:
    with pytest.raises(UsageError), open_cluster(text):
        pass


def test_without_dask_the_command_that_installs_it_is_told(
    segue: Segue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'distributed' else find(name, *rest)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hidden'}:{os.environ.get('PYTHONPATH', '')}")
    done = segue("check", "msd/hippocampus", "--cluster", "local:2")
    assert done.returncode == 4 and "pip install 'segue[dask]'" in done.stderr


# A queue


_SBATCH = """#!/bin/sh
# As sbatch does: take a script, run it somewhere else, say its number.
echo "$@" >> {folder}/asked
cp "$1" {folder}/job.sh
[ -e {folder}/refuse ] && {{ echo "sbatch: error: invalid partition specified: fast" >&2; exit 1; }}
setsid sh {folder}/job.sh > {folder}/job.log 2>&1 &
echo $! > {folder}/pid
echo "Submitted batch job 4711"
"""
_SCANCEL = """#!/bin/sh
echo "$@" >> {folder}/cancelled
kill -- -$(cat {folder}/pid)
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "queue"
    folder.mkdir()
    for name, text in (("sbatch", _SBATCH), ("scancel", _SCANCEL)):
        path = folder / name
        path.write_text(text.format(folder=folder))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", _ENVIRONMENT["PYTHONPATH"])
    (tmp_path / "queue.yaml").write_text(
        "jobs: 1\ncores: 1\nmemory: 1GB\nqueue: fast\naccount: lab\nwalltime: '01:00:00'\ninterface: lo\n"
        "directives: ['--gres=gpu:1']\nprologue: ['export MARK=1']\n"
    )
    return folder


def test_a_queue_of_slurm_runs_the_cases(queue: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    with open_cluster(f"slurm:{tmp_path / 'queue.yaml'}") as cluster, at_work(executor=cluster):
        found = [result for _, result in map_cases(lives, [Case(name, queue / "job.sh") for name in "abc"])]
    assert [str(result).split()[:2] for result in found] == [["a", "True"], ["b", "True"], ["c", "True"]]
    script = (queue / "job.sh").read_text()
    for line in ("-p fast", "-A lab", "--cpus-per-task=1", "--mem=954M", "-t 01:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
    assert "export MARK=1" in script
    assert (queue / "cancelled").read_text().strip() == "4711"  # the job does not outlive the command


def test_what_the_queue_says_is_told(queue: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    (queue / "refuse").touch()
    settings = f"slurm:{tmp_path / 'queue.yaml'}"
    with pytest.raises(MachineError, match="does not take the job") as raised, open_cluster(settings):
        pass
    assert "invalid partition" in str(raised.value.value)


def test_settings_of_a_queue_are_checked(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text("jobs: 2\ncores: 4\nmemory: 8GB\nqueu: fast\n")
    with pytest.raises(UsageError, match="unknown key 'queu'") as raised, open_cluster(f"slurm:{tmp_path / 'q.yaml'}"):
        pass
    assert "did you mean 'queue'" in str(raised.value.remedy)
    with pytest.raises(UsageError, match="their own bound"), open_cluster("tcp://host:1", 4.0):
        pass
    assert SlurmSettings(jobs=1, cores=1, memory="1GB").processes is None
