"""Work over cases through one seam: ``concurrent.futures.Executor``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from segue.core.errors import DataError, MachineError

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    if executor is not None:
        yield from _stream(executor, function, todo, 4 * (workers or 16))
    elif count <= 1:
        for item in todo:
            yield item, _guarded(function, item)
    else:
        # "spawn", not "fork": torch and BLAS threads of the parent do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker) as pool:
            yield from _stream(pool, function, todo, 4 * count)


def _stream(
    pool: Executor, function: Callable[[Item], Result], todo: list[Item], waiting: int
) -> Iterator[tuple[Item, Result | DataError]]:
    pending: deque[tuple[Item, Future[Result | DataError]]] = deque()
    remaining = iter(todo)
    try:
        while True:
            while len(pending) < waiting and (item := next(remaining, _END)) is not _END:
                pending.append((item, pool.submit(_guarded, function, item)))  # type: ignore[arg-type]
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
    finally:
        for _, future in pending:
            future.cancel()


_END = object()


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
    signal.signal(signal.SIGINT, _end_quietly)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_quietly(*_: object) -> None:
    """Ctrl-C reaches every process of a terminal; only the first one has something to say about it."""
    raise SystemExit(130)


def _end_with_parent() -> None:
    # Workers hold both ends of their queue: without this they would wait for work for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
