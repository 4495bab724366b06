"""A training that is still going, told to the page: new events as they are written, and how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segue.core.errors import SegueError
from segue.core.files import parse_json
from segue.prepare import Budget
from segue.train import Run, read_events

# A training says something every five seconds; one that is silent for so long validates, or is not running any more.
SILENT_S = 120.0


def trainings(run: Run) -> list[Run]:
    """The folders whose events tell of a run: its own, or those of its folds."""
    try:
        return run.members() or [run]
    except (SegueError, OSError):
        return [run]


class Tail:
    """The lines of one ``events.jsonl`` from where it was last read; one that a process is just writing waits."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def new(self) -> list[dict[str, Any]]:
        try:
            size = self._path.stat().st_size
            if size < self._at:
                self._at = 0  # another training was begun in this folder
            if size == self._at:
                return []
            with self._path.open("rb") as handle:
                handle.seek(self._at)
                content = handle.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._at += len(whole)
        return list(_understood(whole))


def _understood(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            event = parse_json(line)
        except ValueError:
            continue  # the line that a killed process was writing
        if isinstance(event, dict):
            yield event


def state_of(run: Run) -> dict[str, Any]:
    """Where a training stands: whether it is going, the part of its budget that is used, and the time that is left.

    ``going`` is None where nobody can tell: it has not ended, and has said nothing for two minutes.
    """
    events = read_events(run.events)
    if not events:
        return {"going": None, "part": 0.0, "left_s": None, "steps": 0}
    last = events[-1]
    steps = max((int(event["step"]) for event in events if isinstance(event.get("step"), int)), default=0)
    seconds = max((float(event["seconds"]) for event in events if _is_number(event.get("seconds"))), default=0.0)
    if last.get("event") == "finished":
        return {"going": False, "part": 1.0, "left_s": 0.0, "steps": steps, "seconds": seconds}
    silent = time.time() - run.events.stat().st_mtime
    part = _part_used(run, events, steps, seconds)
    left = seconds * (1 - part) / part if part else None
    going = True if silent < SILENT_S else None
    return {"going": going, "part": part, "left_s": left, "steps": steps, "seconds": seconds, "silent_s": silent}


def _part_used(run: Run, events: list[dict[str, Any]], steps: int, seconds: float) -> float | None:
    try:
        budget = Budget.model_validate(run.settings().get("budget") or {})
    except (SegueError, ValueError):
        return None
    if budget.seconds is not None:
        return min(1.0, seconds / budget.seconds)
    started = next((event for event in events if event.get("event") == "started"), {})
    total = budget.steps or (budget.epochs or 0) * int(started.get("steps_per_epoch") or 0)
    return min(1.0, steps / total) if total else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
