"""Processes of this machine, each for itself: one that dies takes its case with it and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from typing import Any

from segue.core.memory import bound_memory, peak_memory_gb, reset_peak, used_memory_gb

_TRIES = 2
# What a case took is known of the largest one; others of the same size may take a little more.
_MARGIN = 1.2


class WorkerLostError(Exception):
    """The process that worked on a case died, and the one that tried again too."""


@dataclass
class Call:
    """A call on its way; ``tries``: how many processes have died of it, or beside it."""

    future: Future[Any]
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    tries: int = 0


class RetryingExecutor(Executor, ABC):
    """Runs so many calls at once, and one whose process died a second time before it fails.

    What may have killed a process runs one at a time then: a call that only was beside another one is soon done.
    """

    def __init__(self) -> None:
        self._waiting: deque[Call] = deque()
        self._running: list[Call] = []
        self._state = threading.Condition(threading.RLock())
        self._ended = False

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many calls run at once."""

    @property
    def width(self) -> int:
        """How many calls may usefully wait at a time."""
        return 4 * self.at_once

    @abstractmethod
    def _begin(self, call: Call) -> Future[Any]:
        """Have a worker do a call."""

    @abstractmethod
    def _end(self, call: Call, answer: Future[Any]) -> WorkerLostError | None:
        """Under the lock, when a call is over; the error where its process died."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        call = Call(Future(), partial(function, **keywords) if keywords else function, arguments)
        with self._state:
            if self._ended:
                raise RuntimeError("this pool has ended")
            self._waiting.append(call)
        self._dispatch()
        return call.future

    def _dispatch(self) -> None:
        while (call := self._next()) is not None:
            try:
                answer = self._begin(call)
            except BaseException as error:
                with self._state:
                    self._running.remove(call)
                call.future.set_exception(error)
                return
            answer.add_done_callback(partial(self._done, call))

    def _next(self) -> Call | None:
        with self._state:
            while self._waiting and len(self._running) < self.at_once:
                call = self._waiting[0]
                if call.tries and any(other.tries for other in self._running):
                    call = next((other for other in self._waiting if not other.tries), call)
                    if call.tries:
                        return None
                self._waiting.remove(call)
                if call.tries or call.future.set_running_or_notify_cancel():
                    self._running.append(call)
                    return call
            return None

    def _done(self, call: Call, answer: Future[Any]) -> None:
        with self._state:
            self._running.remove(call)
            lost = None if self._ended else self._end(call, answer)
            call.tries += lost is not None
            again = lost is not None and call.tries < _TRIES
            if again:
                self._waiting.appendleft(call)
        if not again:
            self._pass_on(call, lost, answer)
        self._dispatch()
        with self._state:
            self._state.notify_all()

    def _pass_on(self, call: Call, lost: WorkerLostError | None, answer: Future[Any]) -> None:
        if answer.cancelled():
            call.future.set_exception(CancelledError())
        elif (error := lost or answer.exception()) is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(answer.result())

    def forget(self) -> None:
        """Begin nothing any more, and try nothing again."""
        with self._state:
            self._ended = True
            for call in self._waiting:
                call.future.cancel()
            self._waiting.clear()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures or not wait:
            self.forget()
        with self._state:
            if wait:
                self._state.wait_for(lambda: not self._running and not self._waiting)
            self._ended = True


@dataclass
class _Worker:
    """One process, started with its first call; Python's own executor of one process brings calls and results."""

    pool: ProcessPoolExecutor | None = None
    call: Call | None = None
    processes: dict[int, Any] = field(default_factory=dict)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self.pool is not None:
            return self.pool.submit(function, *arguments)
        # "spawn", not "fork": torch and BLAS threads of the parent do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin_worker)
        with interrupts_held():
            future = self.pool.submit(function, *arguments)
        self.processes = dict(self.pool._processes or {})
        return future

    def fate(self) -> str:
        """How its process ended."""
        for process in self.processes.values():
            process.join(1.0)  # its pipe closes a moment before its parent is told
        codes = [process.exitcode for process in self.processes.values() if process.exitcode is not None]
        if not codes:
            return "it ended without a word"
        if codes[0] < 0:
            return f"killed by {signal.Signals(-codes[0]).name}"
        return f"it left with code {codes[0]}"


class LocalPool(RetryingExecutor):
    """Up to ``count`` processes, started when there is work for them and kept for the next case.

    A call whose process dies is made once more in a new process, then fails with :class:`WorkerLostError`; the others
    are not touched. (Of Python's own executor every call fails when one process dies.)

    Args:
        memory_gb: what all processes together may take. The first call runs alone and is measured; as many run at once
            as its need allows, each bound to its share.
    """

    def __init__(self, count: int, memory_gb: float | None = None) -> None:
        super().__init__()
        self._workers = [_Worker() for _ in range(count)]
        self._memory_gb = memory_gb
        self._need_gb: float | None = None

    @property
    def at_once(self) -> int:
        if self._memory_gb is None:
            return len(self._workers)
        if self._need_gb is None:
            return 1
        return max(1, min(len(self._workers), int(self._memory_gb / (_MARGIN * self._need_gb))))

    @property
    def width(self) -> int:
        return 4 * len(self._workers)

    def _begin(self, call: Call) -> Future[Any]:
        with self._state:
            free = [worker for worker in self._workers if worker.call is None]
            # One that runs already, before one that would have to start.
            worker = next((worker for worker in free if worker.pool is not None), free[0])
            worker.call = call
        function, arguments = call.function, call.arguments
        if self._memory_gb is not None:
            function, arguments = _within, (self._memory_gb / self.at_once, call.function, *arguments)
        try:
            return worker.submit(function, *arguments)
        except BrokenProcessPool:  # it died while it had nothing to do
            worker.pool = None
            return worker.submit(function, *arguments)

    def _end(self, call: Call, answer: Future[Any]) -> WorkerLostError | None:
        worker = next(worker for worker in self._workers if worker.call is call)
        worker.call = None
        error = answer.exception()
        if isinstance(error, BrokenProcessPool):
            worker.pool = None
            return WorkerLostError(worker.fate())
        if error is None and self._memory_gb is not None:
            self._need_gb = max(self._need_gb or 0.0, answer.result()[1])
        return None

    def _pass_on(self, call: Call, lost: WorkerLostError | None, answer: Future[Any]) -> None:
        if self._memory_gb is None or lost is not None or answer.exception() is not None:
            super()._pass_on(call, lost, answer)
        else:
            call.future.set_result(answer.result()[0])

    def end_workers(self) -> None:
        """Stop the processes: nobody waits for their cases any more."""
        self.forget()
        for worker in self._workers:
            for process in worker.processes.values():
                process.terminate()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        for worker in self._workers:
            if worker.pool is not None:
                worker.pool.shutdown(wait)


def _within(share_gb: float, function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """In a worker: call within a bound of memory, and measure what it took (the whole process, GB)."""
    reset_peak()
    with bound_memory(share_gb):
        result = function(*arguments)
    return result, max(peak_memory_gb(), used_memory_gb())


_CAN_HOLD_SIGNALS = hasattr(signal, "pthread_sigmask")


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C, which reaches every process of a terminal, from the workers that start in here.

    They inherit the blocked signal. Only the first process has something to say about it, and ends them.
    """
    if not _CAN_HOLD_SIGNALS:
        yield
        return
    resource_tracker.ensure_running()  # started with the first worker else, and it unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """Each worker uses one core (cases are parallel already), and ends when the process that started it is killed."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_quietly)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_quietly(*_: object) -> None:
    raise SystemExit(130)  # so that a case under way removes what it half wrote


def _end_with_parent() -> None:
    # Workers hold both ends of their queue: without this they would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
