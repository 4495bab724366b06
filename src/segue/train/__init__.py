"""Batches, the loop, checkpoints, and the run folder.

Each name is imported when it is first asked for: preparing and checking need :class:`TrainSettings` and :class:`Run`
only, and torch, which most of the others need, takes 1.2 s to import.
"""

from typing import TYPE_CHECKING

from segue.core.lazy import on_demand

if TYPE_CHECKING:
    from segue.train.batches import IN_MEMORY_BYTES, Batches, padding_values
    from segue.train.checkpoint import load_checkpoint, save_checkpoint, weights_of
    from segue.train.classes import ClassBatches, ClassImages, ClassObjective, answered, truth_rows
    from segue.train.coarse import answer_channels, coarse_answer
    from segue.train.device import machine, pick_device
    from segue.train.distributed import World, world
    from segue.train.loop import Trainer, TrainResult, TrainTask
    from segue.train.masks import MaskObjective
    from segue.train.network import build_network, in_fast_layout
    from segue.train.objective import Objective
    from segue.train.probe import measure, step_bytes, step_flops, with_patch_for_network
    from segue.train.run import EventLog, Run, read_events
    from segue.train.settings import TrainSettings

__getattr__ = on_demand(
    __name__,
    {
        "batches": ("IN_MEMORY_BYTES", "Batches", "padding_values"),
        "checkpoint": ("load_checkpoint", "save_checkpoint", "weights_of"),
        "classes": ("ClassBatches", "ClassImages", "ClassObjective", "answered", "truth_rows"),
        "coarse": ("answer_channels", "coarse_answer"),
        "device": ("machine", "pick_device"),
        "loop": ("TrainResult", "TrainTask", "Trainer"),
        "masks": ("MaskObjective",),
        "network": ("build_network", "in_fast_layout"),
        "objective": ("Objective",),
        "probe": ("measure", "step_bytes", "step_flops", "with_patch_for_network"),
        "run": ("EventLog", "Run", "read_events"),
        "settings": ("TrainSettings",),
        "distributed": ("World", "world"),
    },
)

__all__ = [
    "IN_MEMORY_BYTES",
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
    "World",
    "answer_channels",
    "answered",
    "build_network",
    "coarse_answer",
    "in_fast_layout",
    "load_checkpoint",
    "machine",
    "measure",
    "padding_values",
    "pick_device",
    "read_events",
    "save_checkpoint",
    "step_bytes",
    "step_flops",
    "truth_rows",
    "weights_of",
    "with_patch_for_network",
    "world",
]
