"""Threads that wait for servers. Nobody waits for them when a person gives up: a silent server holds nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait

_LOOK_EVERY_S = 0.2


class StoppedError(Exception):
    """No more will come: somebody has ended it."""


def spawned(work: Callable[[], None]) -> Future[None]:
    """Start the work in a thread of its own, which ends with the process at the latest."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    return future


def ended(jobs: Sequence[Future[None]], stopped: threading.Event | None = None) -> list[BaseException]:
    """Wait until all have ended or one has failed. Returns: why.

    Raises:
        StoppedError: ``stopped`` was set meanwhile.
    """
    while True:
        done, waiting = wait(jobs, None if stopped is None else _LOOK_EVERY_S, return_when=FIRST_EXCEPTION)
        errors = [error for job in done if (error := job.exception()) is not None]
        if not waiting or errors:
            return errors
        if stopped is not None and stopped.is_set():
            raise StoppedError
