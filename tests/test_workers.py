"""Processes over cases: what one that dies costs, what a bound of memory does, which part of the cases a shard is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.core.errors import DataError, MachineError, UsageError
from segue.core.executor import bytes_of, map_cases, paths_in
from segue.core.files import unchanged
from segue.core.memory import bound_memory, used_memory_gb
from segue.core.pool import LocalPool, WorkerLostError
from segue.core.work import at_work, current_work, mine, shard_of


@dataclass(frozen=True)
class Case:
    id: str
    path: Path | None = None


def _lives(case: Case) -> str:
    if case.id == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if case.id == "left":
        os._exit(9)
    return case.id.upper()


def test_a_dead_worker_costs_its_case_and_no_other() -> None:
    names = ["a", "killed", "b", "c", "left", "d", "e"]
    results = {case.id: found for case, found in map_cases(_lives, map(Case, names), workers=2)}
    assert list(results) == names
    for name, fate in (("killed", "SIGKILL"), ("left", "code 9")):
        error = results.pop(name)
        assert isinstance(error, DataError) and error.exit_code == 3
        assert error.where == name and fate in str(error.value) and error.remedy and "tried again too" in error.what
    assert results == {name: name.upper() for name in "abcde"}


def _dies_once(case: Case) -> int:
    assert case.path is not None
    if not case.path.exists():
        case.path.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSEGV)
    return os.getpid()


def test_a_case_whose_worker_died_is_done_by_another_one(tmp_path: Path) -> None:
    cases = [Case(str(n), tmp_path / str(n)) for n in range(4)]
    found = [result for _, result in map_cases(_dies_once, cases, workers=2)]
    died = [int(case.path.read_text()) for case in cases if case.path]
    assert all(isinstance(pid, int) and pid != before for pid, before in zip(found, died, strict=True))


def _pid(number: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def test_workers_start_when_there_is_work_and_are_kept() -> None:
    with LocalPool(3) as pool:
        assert not multiprocessing.active_children()
        first = pool.submit(_pid, 0).result()
        assert [child.pid for child in multiprocessing.active_children()] == [first]
        assert pool.submit(_pid, 1).result() == first
        assert len({future.result() for future in [pool.submit(_pid, n) for n in range(12)]}) <= 3
        os.kill(first, signal.SIGKILL)  # while nothing is asked of it
        time.sleep(0.2)
        assert all(future.result() != first for future in [pool.submit(_pid, n) for n in range(6)])
    assert not multiprocessing.active_children()


def _short(number: int) -> int:
    time.sleep(0.002)
    return number


def test_workers_killed_at_any_moment_break_nothing() -> None:
    """Fifty kills of workers that start, wait, work or answer: each costs its case at most, and none hangs."""
    stop, kills = threading.Event(), 0

    def killer() -> None:
        nonlocal kills
        while kills < 50 and not stop.is_set():
            time.sleep(0.03)
            children = multiprocessing.active_children()
            if children:
                os.kill(children[kills % len(children)].pid or 0, signal.SIGKILL)
                kills += 1

    with LocalPool(2) as pool:
        assert pool.submit(_short, 1).result() == 1
        thread = threading.Thread(target=killer)
        thread.start()
        done = lost = 0
        while thread.is_alive():
            for number, future in [(n, pool.submit(_short, n)) for n in range(8)]:
                try:
                    assert future.result(timeout=60) == number
                    done += 1
                except WorkerLostError:
                    lost += 1
        stop.set()
        thread.join()
        assert [pool.submit(_short, n).result(timeout=60) for n in range(8)] == list(range(8))
    assert kills == 50 and lost <= kills / 2 and done


def _wrong(number: int) -> int:
    raise ValueError("a bug")


def test_a_bug_in_a_worker_is_raised() -> None:
    with pytest.raises(ValueError, match="a bug"):
        list(map_cases(_wrong, [1, 2, 3], workers=2))


_SLOW = """
import sys, time
from pathlib import Path
from segue.core.executor import map_cases

def slow(path):
    (path / "begun").touch()
    try:
        time.sleep(60)
    finally:
        (path / "tidied").touch()

if __name__ == "__main__":
    list(map_cases(slow, [Path(sys.argv[1])] * 4, workers=2))
"""


def test_ctrl_c_ends_the_workers_and_lets_them_tidy_up(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(_SLOW)
    process = subprocess.Popen([sys.executable, tmp_path / "slow.py", tmp_path], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    assert (tmp_path / "tidied").exists()


# Memory


def _allocate(case: Case) -> float:
    """As many MB as its name says, touched."""
    return float(np.ones(int(case.id) * 125_000).sum())


def test_a_case_beyond_the_bound_is_told_by_name_and_the_others_go_on() -> None:
    with at_work(memory_gb=used_memory_gb() + 1.0):
        results = dict(map_cases(_allocate, [Case("10"), Case("1500"), Case("20")], workers=2))
    error = results[Case("1500")]
    assert isinstance(error, DataError) and error.where == "1500" and "--memory" in str(error.remedy)
    assert [results[Case(name)] for name in ("10", "20")] == [1_250_000.0, 2_500_000.0]


def _running(case: Case) -> int:
    """How many work at once, by the files that they put down meanwhile; it waits for another one, but not for ever."""
    assert case.path is not None
    np.ones(40_000_000).sum()  # 320 MB
    folder = case.path.parent
    mark = folder / f"{case.path.name}.running"
    mark.touch()
    until = time.monotonic() + float(case.path.suffix[1:])
    at_once = 1
    while at_once == 1 and time.monotonic() < until and not (folder / "met").exists():
        time.sleep(0.05)
        at_once = len(list(folder.glob("*.running")))
    if at_once > 1:
        (folder / "met").touch()
    mark.unlink()
    return at_once


# Long enough for a worker to start on a busy machine, where one is to come.
@pytest.mark.parametrize(("for_workers_gb", "most", "patience_s"), [(0.7, 1, 1), (8.0, 3, 60)])
def test_as_many_workers_as_the_largest_case_allows(
    tmp_path: Path, for_workers_gb: float, most: int, patience_s: int
) -> None:
    cases = []
    for number in range(4):
        largest = number == 2
        path = tmp_path / f"{number}.{1 if largest else patience_s}"
        path.write_bytes(bytes(1 + largest))
        cases.append(Case(str(number), path))
    with at_work(memory_gb=used_memory_gb() + for_workers_gb):
        found = [result for _, result in map_cases(_running, cases, workers=3)]
    assert found[2] == 1  # the largest one was measured alone, before the others
    assert max(found) <= most and (most == 1 or max(found) > 1)


def test_a_bound_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(MachineError, match="leaves nothing"), at_work(memory_gb=0.01):
        list(map_cases(_pid, [1, 2], workers=2))


def test_the_bound_holds_only_within() -> None:
    with bound_memory(0.2), pytest.raises(MemoryError):
        np.ones(100_000_000)
    assert np.ones(1000).sum() == 1000


# Shards


def test_shards_are_a_partition() -> None:
    items = list(range(23))
    parts = [shard_of(f"{n}/5").part(items) for n in range(1, 6)]
    assert sorted(item for part in parts for item in part) == items and {len(part) for part in parts} == {4, 5}
    with at_work(shard="2/5") as work:
        assert mine(items) == parts[1] and current_work() is work
    assert mine(items) == items


@pytest.mark.parametrize("text", ["0/8", "9/8", "8", "a/b", "-1/4", "1/0", "1/2/3", "", "1.5/3", "٣/٨"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        shard_of(text)
    assert "--shard" in str(raised.value) and raised.value.remedy and raised.value.exit_code == 2


# Any executor


class _Gone(Executor):
    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future


def test_an_executor_that_is_gone_is_told() -> None:
    with pytest.raises(MachineError, match="workers are gone"):
        list(map_cases(_pid, [1], executor=_Gone()))


def test_what_a_task_names() -> None:
    @dataclass(frozen=True)
    class Task:
        case: Case
        pairs: tuple[tuple[int, Path], ...]
        where: dict[str, Path]

    task = Task(Case("x", Path("a")), ((1, Path("b")),), {"c": Path(__file__)})
    assert list(paths_in(task)) == [Path("a"), Path("b"), Path(__file__)]
    assert bytes_of(task) == Path(__file__).stat().st_size


# A file that changes


def _changes(path: Path, how: str) -> Iterator[None]:
    if how == "grows":
        with path.open("ab") as handle:
            handle.write(b"more")
    elif how == "is replaced":
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        other.replace(path)
    elif how == "is removed":
        path.unlink()
    yield


@pytest.mark.parametrize("how", ["grows", "is replaced", "is removed"])
@pytest.mark.parametrize("error", [None, ValueError("half a header")])
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, how: str, error: Exception | None) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"1234")
    with pytest.raises(DataError, match="changed while it was read") as raised, unchanged([path], "case 7"):
        next(_changes(path, how))
        if error is not None:
            raise error
    assert str(raised.value.where) == f"case 7: {path}"
    with unchanged([path]):
        pass
