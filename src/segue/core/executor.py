"""Work over cases through one seam: ``concurrent.futures.Executor``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TypeAlias, TypeVar

from segue.core.errors import DataError, MachineError

Item = TypeVar("Item")
Result = TypeVar("Result")
_Pending: TypeAlias = deque[tuple[Item, "Future[Result | DataError]"]]

_CONTAINER_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cpu_count() -> int:
    """The cores that this process may use: a batch system or a container may give fewer than there are."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CONTAINER_QUOTA.read_text(encoding="ascii").split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or one without a quota ("max")
        return count


def map_cases(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Iterator[tuple[Item, Result | DataError]]:
    """Apply ``function`` to every item and yield ``(item, result)`` in the order of the items.

    A :class:`DataError` of one case is yielded in place of its result, so that the others go on; a full disk
    or a bug is raised. ``executor`` may be any ``concurrent.futures.Executor`` (a Dask client
    gives one); without it, local processes are started only when there is more than one worker and item.
    At most four cases per worker wait at a time, so memory does not grow with the number of cases.

    Raises:
        MachineError: a worker process died (out of memory, killed).
    """
    todo = list(items)
    count = min(workers or cpu_count(), len(todo))
    pending: _Pending[Item, Result] = deque()
    if executor is not None:
        try:
            yield from _stream(executor, function, todo, 4 * (workers or 16), pending)
        finally:
            _cancel(pending)
    elif count <= 1:
        for item in todo:
            yield item, _guarded(function, item)
    else:
        # "spawn", not "fork": torch and BLAS threads of the parent do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
            try:
                yield from _stream(pool, function, todo, 4 * count, pending)
            except (KeyboardInterrupt, GeneratorExit):
                _end_workers(pool)  # nobody waits for their cases any more
                raise
            except BaseException:
                _cancel(pending)
                raise


def _stream(
    pool: Executor,
    function: Callable[[Item], Result],
    todo: list[Item],
    waiting: int,
    pending: _Pending[Item, Result],
) -> Iterator[tuple[Item, Result | DataError]]:
    remaining = iter(todo)
    while True:
        for item in islice(remaining, waiting - len(pending)):
            with _interrupts_held():
                future = pool.submit(_guarded, function, item)
            pending.append((item, future))
        if not pending:
            return
        item, future = pending.popleft()
        try:
            yield item, future.result()
        except BrokenPipeError as error:
            raise _worker_died(item) from error
        except RuntimeError as error:  # BrokenProcessPool
            if type(error).__name__ != "BrokenProcessPool":
                raise
            raise _worker_died(item) from error


def _cancel(pending: _Pending[Item, Result]) -> None:
    for _, future in pending:
        future.cancel()


_CAN_HOLD_SIGNALS = hasattr(signal, "pthread_sigmask")


@contextmanager
def _interrupts_held() -> Iterator[None]:
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


def _end_workers(pool: ProcessPoolExecutor) -> None:
    # Python 3.14 has pool.terminate_workers(); cancelled futures would make the pool's own thread fail here.
    for process in list((pool._processes or {}).values()):
        process.terminate()


def _worker_died(item: object) -> MachineError:
    return MachineError(
        "a worker process died, most often because memory ran out",
        where=getattr(item, "id", item),
        remedy="run the same command again with --workers 1: finished cases are kept",
    )


def _guarded(function: Callable[[Item], Result], item: Item) -> Result | DataError:
    try:
        return function(item)
    except DataError as error:
        return error
    except MemoryError:
        return DataError(
            "this case does not fit into memory",
            where=getattr(item, "id", item),
            remedy="use fewer workers (--workers 1) or a machine with more memory",
        )


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
