"""Batches, the loop, checkpoints, and the run folder."""

from segue.train.batches import Batches, padding_values
from segue.train.checkpoint import load_checkpoint, save_checkpoint
from segue.train.classes import ClassBatches, ClassImages, ClassObjective, answered, truth_rows
from segue.train.device import machine, pick_device
from segue.train.loop import Trainer, TrainResult, TrainTask
from segue.train.masks import MaskObjective
from segue.train.network import build_network, in_fast_layout
from segue.train.objective import Objective
from segue.train.run import EventLog, Run, read_events
from segue.train.settings import TrainSettings

__all__ = [
    "Batches",
    "ClassBatches",
    "ClassImages",
    "ClassObjective",
    "EventLog",
    "MaskObjective",
    "Objective",
    "Run",
    "TrainResult",
    "TrainSettings",
    "TrainTask",
    "Trainer",
    "answered",
    "build_network",
    "in_fast_layout",
    "load_checkpoint",
    "machine",
    "padding_values",
    "pick_device",
    "read_events",
    "save_checkpoint",
    "truth_rows",
]
