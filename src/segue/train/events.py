"""What happens in a training: ``events.jsonl``, and beside it TensorBoard's own files if asked for."""

from __future__ import annotations

from typing import Any

from segue.core.errors import MachineError
from segue.train.run import EventLog, Run


class Events:
    """Writes each event to ``events.jsonl``; numbers of steps and validations also for TensorBoard.

    Raises:
        MachineError: TensorBoard is wanted and not installed.
    """

    def __init__(self, run: Run, tensorboard: bool) -> None:
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MachineError(
                    "TensorBoard is not installed",
                    where="train.tensorboard",
                    remedy="pip install 'segue[tensorboard]', or leave it out",
                ) from error
            self._board = SummaryWriter(str(run.folder / "tensorboard"))
        self._log = EventLog(run.events)

    def write(self, event: str, **facts: Any) -> None:
        self._log.write(event, **facts)
        if self._board is not None and "step" in facts:
            for name, value in _numbers(event, facts):
                self._board.add_scalar(name, value, facts["step"])

    def close(self) -> None:
        self._log.close()
        if self._board is not None:
            self._board.close()


def _numbers(prefix: str, facts: dict[str, Any]) -> list[tuple[str, float]]:
    found = []
    for name, value in facts.items():
        if isinstance(value, dict):
            found += _numbers(f"{prefix}/{name}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
            found.append((f"{prefix}/{name}", float(value)))
    return found
