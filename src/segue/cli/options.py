"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", help="Where datasets lie.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes over cases (default: one per core).")]
Dataset = Annotated[str, typer.Argument(help="A dataset's name, a card (.yaml), a folder, or an experiment (.yaml).")]
Minutes = Annotated[float | None, typer.Option(help="Budget: minutes of training.")]
Hours = Annotated[float | None, typer.Option(help="Budget: hours of training.")]
Epochs = Annotated[int | None, typer.Option(help="Budget: passes over the training cases.")]
Steps = Annotated[int | None, typer.Option(help="Budget: training steps.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting, for example train.learning_rate=1e-3.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave bad cases out instead of stopping.")]
