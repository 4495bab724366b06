"""A trained model for Python programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segue.predict.classes import Classifying
from segue.predict.predictor import Predictor
from segue.train import Run


def load(run: Path | str, device: str = "auto", *, others: Sequence[Path | str] = ()) -> Predictor | Classifying:
    """A trained model: its ``predict(volume)`` gives a label map on the volume's own grid, or of a model of classes
    the probability of each.

    Args:
        run: the folder that ``segue train`` wrote; of several folds the mean answers.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        others: further runs whose answers are averaged with this one's.

    Raises:
        UsageError: not a run folder, or runs of other channels or labels.
        DataError: no checkpoint, or a damaged one.
        MachineError: the device is not there.
    """
    kind = Classifying if Run(Path(run)).card().task == "classification" else Predictor
    return kind(run, device, others=others)
