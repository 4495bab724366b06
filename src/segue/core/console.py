"""What a person sees: a progress bar on a terminal, plain lines elsewhere. Results go to stdout, news to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_EVERY_S = 30.0
# Of several processes of one training (torchrun numbers them), the first speaks.
_SILENT = os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def say(text: str = "") -> None:
    """A line of news on stderr (progress, warnings, where files went)."""
    if _SILENT:
        return
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def result(text: str = "") -> None:
    """A line of the command's result on stdout."""
    if _SILENT:
        return
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 07 min``."""
    seconds = max(0, round(seconds))
    if seconds < 100:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def byte_count(number: int) -> str:
    """``850 kB``, ``28.9 GB``: powers of 1000, as disks and networks count."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


class Stage:
    """One stage of work under way; :meth:`advance` as it goes on, :meth:`note` for the figure of the moment."""

    def __init__(self, name: str, total: float | None, progress: Progress | None, task: TaskID | None) -> None:
        self.name, self.total, self.done = name, total, 0.0
        self._progress, self._task = progress, task
        self._started = self._last = time.monotonic()
        self._note = ""

    def advance(self, amount: float = 1.0, note: str | None = None) -> None:
        self.move_to(self.done + amount, note)

    def expect(self, total: float) -> None:
        """Set what was not known at the beginning: how much there is to do."""
        self.total = total
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)

    def note(self, text: str) -> None:
        """Set what the closing line says."""
        self._note = text

    def move_to(self, done: float, note: str | None = None) -> None:
        self.done = done
        if note is not None:
            self._note = note
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self.done, note=self._note)
        elif time.monotonic() - self._last >= PLAIN_EVERY_S:
            self._last = time.monotonic()
            say(f"{self.name}: {self._state()}")

    def _state(self) -> str:
        spent = time.monotonic() - self._started
        if not self.total:
            return f"{self._note or f'{self.done:.0f} done'} after {duration(spent)}"
        part = min(1.0, self.done / self.total)
        left = f", {duration(spent * (1 - part) / part)} left" if part > 0 else ""
        return f"{part:.0%} after {duration(spent)}{left} {self._note}".rstrip()

    def finish(self) -> None:
        spent = duration(time.monotonic() - self._started)
        say(f"{self.name}: {self._note + ', ' if self._note else ''}{spent}")


@contextlib.contextmanager
def stage(name: str, total: float | None = None) -> Iterator[Stage]:
    """Show a stage of work: a bar with time left on a terminal, one line per half minute elsewhere."""
    if _SILENT or not sys.stderr.isatty():
        current = Stage(name, total, None, None)
        yield current
        current.finish()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class State(ProgressColumn):
        """What part is done and the time left; the time spent where nobody knows how much there is."""

        def render(self, task: Task) -> Text:
            if not task.total:
                return Text(duration(task.elapsed or 0))
            left = "" if task.time_remaining is None else f"  {duration(task.time_remaining)} left"
            return Text(f"{task.percentage:>3.0f} %{left}")

    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)  # of a narrow terminal the notes get what is left
    columns = (
        TextColumn("{task.description:<10}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=16),
        State(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False, table_column=rest),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as progress:
        current = Stage(name, total, progress, progress.add_task(name, total=total, note=""))
        yield current
    current.finish()


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: Sequence[int] = (0,)) -> str:
    """A plain table: the columns ``left`` to the left, the others to the right, as wide as needed."""
    cells = [list(header), *[[_cell(value) for value in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for number, row in enumerate(cells):
        parts = [
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    return str(value)
