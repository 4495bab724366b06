"""The one error tree: what happened, where, the measured value, what to do."""

from __future__ import annotations


class SegueError(Exception):
    """Base of every error that a user can reach.

    Args:
        what: one sentence on what is wrong.
        where: the file, case, or line of a YAML that it concerns.
        value: the measured value, where there is one.
        remedy: what the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, value: object = None, remedy: str | None = None) -> None:
        super().__init__(what, where, value, remedy)
        self.what = what
        self.where = None if where is None else str(where)
        self.value = None if value is None else str(value)
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.value:
            text += f" ({self.value})"
        if self.remedy:
            text += f"\n  -> {self.remedy}"
        return text

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        # Worker processes send errors back by pickle; keyword-only arguments need their own way home.
        return _rebuild, (type(self), self.what, self.where, self.value, self.remedy)


def _rebuild(kind: type[SegueError], what: str, where: str | None, value: str | None, remedy: str | None) -> SegueError:
    return kind(what, where=where, value=value, remedy=remedy)


class UsageError(SegueError):
    """The command, a flag or a configuration is wrong."""

    exit_code = 2


class DataError(SegueError):
    """An image, a label, a table or a dataset is wrong."""

    exit_code = 3


class MachineError(SegueError):
    """The machine is in the way: disk, memory, permissions, a missing extra."""

    exit_code = 4
