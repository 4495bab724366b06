"""Work over cases through one seam: ``concurrent.futures.Executor``."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from segue.core.errors import DataError, MachineError
from segue.core.memory import used_memory_gb
from segue.core.pool import LocalPool, WorkerLostError
from segue.core.work import current_work

Item = TypeVar("Item")
Result = TypeVar("Result")
_Pending: TypeAlias = deque[tuple[Item, "Future[Result | DataError]"]]

_CONTAINER_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_LEAST_GB = 0.1


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

    A :class:`DataError` of one case is yielded in place of its result, so that the others go on; also where the process
    that worked on it died, and the one that tried it again. A full disk or a bug is raised.

    ``executor`` may be any ``concurrent.futures.Executor``; without it that of :func:`segue.core.work.at_work` is used;
    without that, local processes are started only when there is more than one worker and item, or a bound of memory.
    At most four cases per worker wait at a time, so memory does not grow with the number of cases.

    Raises:
        MachineError: an executor's processes are gone altogether, or a bound of memory leaves nothing for workers.
    """
    todo = list(items)
    work = current_work()
    count = min(workers or cpu_count(), len(todo))
    executor = executor or work.executor
    pending: _Pending[Item, Result] = deque()
    if executor is not None:
        try:
            width = getattr(executor, "width", 4 * (workers or 16))
            yield from _stream(executor, function, todo, width, pending)
        finally:
            _cancel(pending)
    elif not todo:
        return
    elif count <= 1 and work.memory_gb is None:
        for item in todo:
            yield item, _guarded(function, item)
    else:
        with LocalPool(max(1, count), _for_workers_gb(work.memory_gb)) as pool:
            first = None if work.memory_gb is None else max(range(len(todo)), key=lambda n: bytes_of(todo[n]))
            try:
                yield from _stream(pool, function, todo, pool.width, pending, first)
            except (KeyboardInterrupt, GeneratorExit):
                pool.end_workers()
                raise
            except BaseException:
                _cancel(pending)
                raise


def _for_workers_gb(bound_gb: float | None) -> float | None:
    if bound_gb is None:
        return None
    left_gb = bound_gb - used_memory_gb()
    if left_gb < _LEAST_GB:
        raise MachineError(
            "this bound of memory leaves nothing for workers",
            where=f"--memory {bound_gb:g}GB",
            value=f"this process alone takes {used_memory_gb():.2g} GB",
            remedy="allow more",
        )
    return left_gb


def paths_in(item: object) -> Iterator[Path]:
    """The paths in a task: in its fields, and in tuples, lists and mappings of these."""
    if isinstance(item, Path):
        yield item
    elif isinstance(item, list | tuple):
        for each in item:
            yield from paths_in(each)
    elif isinstance(item, dict):
        for each in item.values():
            yield from paths_in(each)
    elif fields := getattr(item, "__dataclass_fields__", None):
        for name in fields:
            yield from paths_in(getattr(item, name, None))


def bytes_of(item: object) -> int:
    """The bytes of the files that a task names: how large its case is, among others like it."""
    size = 0
    for path in set(paths_in(item)):
        try:
            size += path.stat().st_size
        except OSError:
            continue
    return size


def _stream(
    pool: Executor,
    function: Callable[[Item], Result],
    todo: list[Item],
    waiting: int,
    pending: _Pending[Item, Result],
    first: int | None = None,
) -> Iterator[tuple[Item, Result | DataError]]:
    """``first``: the item that begins, though its result comes in its turn."""
    begun: dict[int, Future[Result | DataError]] = {}
    if first is not None:
        begun[first] = pool.submit(_guarded, function, todo[first])
    remaining = iter(enumerate(todo))
    while True:
        for number, item in islice(remaining, waiting - len(pending)):
            pending.append((item, begun.pop(number) if number in begun else pool.submit(_guarded, function, item)))
        if not pending:
            return
        item, future = pending.popleft()
        yield item, _outcome(pool, item, future)


def _outcome(pool: Executor, item: Item, future: Future[Result | DataError]) -> Result | DataError:
    watched: Callable[[Future[Any]], Any] = getattr(pool, "result_of", Future.result)
    try:
        return watched(future)
    except (BrokenPipeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error).__name__ != "BrokenProcessPool":
            raise
        raise MachineError(
            "a worker process died, most often because memory ran out",
            where=getattr(item, "id", item),
            remedy="run the same command again with --workers 1: finished cases are kept",
        ) from error
    except CancelledError as error:
        raise MachineError(
            "the workers are gone", remedy="run the same command again: finished cases are kept"
        ) from error
    except WorkerLostError as error:
        return DataError(
            "the process that worked on this case died, and the one that tried again too, "
            "most often because memory ran out",
            where=getattr(item, "id", item),
            value=str(error),
            remedy="run the same command again with fewer workers, or a bound such as --memory 16GB: "
            "finished cases are kept",
        )


def _cancel(pending: _Pending[Item, Result]) -> None:
    for _, future in pending:
        future.cancel()


def _guarded(function: Callable[[Item], Result], item: Item) -> Result | DataError:
    try:
        return function(item)
    except DataError as error:
        return error
    except MemoryError:
        return DataError(
            "this case does not fit into memory",
            where=getattr(item, "id", item),
            remedy="use fewer workers (--workers 1), allow more (--memory), or take a machine with more memory",
        )
