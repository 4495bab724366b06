"""A run: one folder with everything that a later command needs, and nothing outside it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from segue.catalogue import Card
from segue.core.config import Model, read_yaml, validate
from segue.core.display import Displayed
from segue.core.errors import DataError, UsageError
from segue.core.files import jsonable, parse_json
from segue.prepare import Plan

_FOLD = re.compile(r"fold_(\d+)")


@dataclass(frozen=True)
class Run(Displayed):
    """Paths inside a run folder.

    ``config.yaml`` (resolved experiment), ``card.json``, ``plan.json``, ``fingerprint.json`` (what was measured over
    the training data), ``split.json``, ``environment.json``, ``events.jsonl``, ``checkpoints/{last,best}.pt``,
    ``samples/{start,end}.npz`` (patches as the network saw them), ``predictions/{val,test}/CASE.nii.gz``,
    ``metrics.json``, ``metrics.csv``, ``report.html``.

    Folds that were trained into it lie in ``fold_0``, ``fold_1``, ..., each a run folder by itself. A cross-validation
    has all of them there, and beside them no checkpoint of its own; a run of one fold that others joined has both.
    """

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        return self.folder / "checkpoints" / "best.pt"

    @property
    def checkpoint(self) -> Path:
        """What predicts: the best state of the validation, or where nothing validates the last one."""
        return self.best if self.best.exists() else self.last

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        events = read_events(self.events)
        return bool(events) and events[-1].get("event") == "finished"

    @property
    def fold(self) -> int | str:
        """The fold that validates here, ``cv`` or ``none``.

        Raises:
            UsageError: not a run folder.
        """
        return self.settings().get("fold", 0)

    def fold_folder(self, fold: int) -> Run:
        return Run(self.folder / f"fold_{fold}")

    def members(self) -> list[Run]:
        """The trainings in this folder: itself, unless it only holds a cross-validation, and its folds in order."""
        numbered = [(_FOLD.fullmatch(path.parent.name), path.parent) for path in self.folder.glob("fold_*/config.yaml")]
        folds = sorted((int(match[1]), path) for match, path in numbered if match)
        own = [] if self.config.exists() and self.fold == "cv" else [self]
        return own + [Run(path) for _, path in folds]

    @property
    def coarse(self) -> Run:
        """The low-resolution stage, a run by itself."""
        return Run(self.folder / "coarse")

    @property
    def samples_at_start(self) -> Path:
        return self.folder / "samples" / "start.npz"

    @property
    def samples_at_end(self) -> Path:
        return self.folder / "samples" / "end.npz"

    @property
    def postprocessing(self) -> Path:
        return self.folder / "postprocessing.json"

    @property
    def fingerprint(self) -> Path:
        return self.folder / "fingerprint.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def predictions(self, part: str) -> Path:
        return self.folder / "predictions" / part

    def plan(self) -> Plan:
        """Raises:
        UsageError: the folder is not a run. DataError: the file is damaged, or of a later version.
        """
        return self._understood(Plan, "plan.json")

    def card(self) -> Card:
        """Raises:
        UsageError: the folder is not a run. DataError: the file is damaged, or of a later version.
        """
        return self._understood(Card, "card.json")

    def _understood(self, kind: type[Model], name: str) -> Model:
        content = self.json(name)
        try:
            return validate(kind, content, source=self.folder / name)
        except UsageError as error:
            # Nobody writes these files by hand.
            raise DataError(
                "this file of the run is of a later version of segue, or it was changed",
                where=self.folder / name,
                value=f"{error.what}{f': {error.value}' if error.value else ''}",
                remedy="update segue, then run again",
            ) from error

    def settings(self) -> dict[str, Any]:
        return read_yaml(self.config)[0]

    def json(self, name: str) -> Any:
        """The content of one of the run's JSON files.

        Raises:
            UsageError: the folder is not a run. DataError: the file is damaged.
        """
        path = self.folder / name
        try:
            return parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(
                f"this is not a run folder: it has no {name}",
                where=self.folder,
                remedy="give the folder that segue train wrote (-o), for example runs/NAME",
            ) from None
        except ValueError as error:
            raise DataError("this file of the run is damaged", where=path, value=error) from error


class EventLog:
    """Appends one JSON object per line to ``events.jsonl``, at once on disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._handle: TextIO = path.open("a", encoding="utf-8")
        if torn:
            self._handle.write("\n")

    def write(self, event: str, **facts: Any) -> None:
        self._handle.write(json.dumps(jsonable({"event": event, **facts}), allow_nan=False) + "\n")
        self._handle.flush()

    def close(self) -> None:
        self._handle.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a run in order; steps that were lost by an interruption and done again appear once."""
    events: list[dict[str, Any]] = []
    if not path.exists():
        return events
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = parse_json(line)
        except ValueError:
            continue  # the line that a killed process was writing
        if event.get("event") == "resumed":
            events = [e for e in events if e.get("step", 0) <= event["step"]]
        events.append(event)
    return events
