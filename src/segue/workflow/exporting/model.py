"""``export model``: a run as files that need no run folder: networks, their JSON, and a card on what they are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import segue
from segue.core.errors import UsageError
from segue.core.files import jsonable, write_json, write_text
from segue.predict import ExportedModel, ExportFormat, Model, described, read_postprocessing, write_networks
from segue.train import Run
from segue.workflow.exporting.model_card import model_card

CARD = "MODEL_CARD.md"
_SUFFIX: dict[ExportFormat, str] = {"onnx": ".onnx", "torch-export": ".pt2"}


@dataclass(frozen=True)
class ExportedRun:
    """What was written.

    Attributes:
        networks: one file per member of the run.
        json, card: beside them.
        difference: the largest one between the logits of a written network and of the run's own, as a part of the range
            of the logits.
    """

    networks: tuple[Path, ...]
    json: Path
    card: Path
    difference: float


def export_model(folder: Path, to: ExportFormat, output: Path | None = None) -> ExportedRun:
    """Write the networks of a run into ``output``, with their JSON and a model card.

    Args:
        folder: the run's. Of several folds, each becomes a file: ``model.onnx``, ``model.fold_1.onnx``, ...
        output: a folder (``RUN/onnx`` or ``RUN/torch-export`` if not given), or the name of the network's file.

    Raises:
        UsageError: not a run, a model of two stages, or a network that cannot be exported.
        DataError: no checkpoint, a damaged one, or one of a later version.
        MachineError: an extra is missing, or the disk is full.
    """
    run = Run(folder)
    plan = run.plan()
    if plan.coarse is not None:
        raise UsageError(
            "a model with a low-resolution stage cannot be exported",
            where=folder,
            value="two networks, the second sees what the first one answers",
            remedy="use the run folder, or train one stage: --set plan.low_resolution=false",
        )
    target = _target(run, to, output)
    model = Model(folder, "cpu")
    chosen = read_postprocessing(run)
    names = [target.name, *(f"{target.stem}.{name}{target.suffix}" for name in _names_of(model.members[1:]))]
    exported = described(
        model.plan,
        model.card,
        to=to,
        key=model.key,
        networks=names,
        rules=chosen.rules if chosen else {},
        version=segue.__version__,
    )
    text = _json(exported)
    # The JSON comes last: where it is, everything is.
    difference = write_networks(model, exported, target.parent, text)
    beside = target.with_suffix(".json")
    card = target.parent / CARD
    write_text(card, model_card(run, model.members, exported, target.name))
    write_json(beside, exported)
    return ExportedRun(tuple(target.parent / name for name in names), beside, card, difference)


def _target(run: Run, to: ExportFormat, output: Path | None) -> Path:
    wanted = _SUFFIX[to]
    if output is None:
        return run.folder / to / f"model{wanted}"
    if output.suffix == wanted and not output.is_dir():
        return output
    if output.suffix in (*_SUFFIX.values(), ".json", ".pt", ".pth") and not output.is_dir():
        raise UsageError(
            f"--to {to} writes {wanted}", where=f"-o {output}", remedy=f"-o {output.with_suffix(wanted)}, or a folder"
        )
    return output / f"model{wanted}"


def _names_of(members: Sequence[Run]) -> list[str]:
    return [member.folder.name for member in members]


def _json(exported: ExportedModel) -> str:
    return json.dumps(jsonable(exported), allow_nan=False)
