"""``predict`` with an exported model: no torch, and nothing of a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from segue.catalogue import Card, card_above, is_known, load_card
from segue.core.console import say, stage
from segue.core.errors import DataError
from segue.core.work import mine
from segue.predict import (
    EXPORTED_SUFFIXES,
    Answer,
    Made,
    OnnxClassifying,
    OnnxPredictor,
    gather,
    open_exported,
    predict_exported,
    write_answers,
)
from segue.workflow.scoring import require_at_once, warn_of_overlap

Result = TypeVar("Result", Answer, Made)


@dataclass(frozen=True)
class Applied:
    """What ``predict`` did: how many results lie where, and what could not be predicted."""

    made: int
    what: str
    where: Path
    errors: list[tuple[str, DataError]]


def is_exported(path: Path) -> bool:
    """Whether this is no run folder but the file of an exported model."""
    return path.suffix in EXPORTED_SUFFIXES and not path.is_dir()


def apply_exported(
    model: Path, inputs: Sequence[str], output: Path, device: str = "auto", data: Path = Path("data")
) -> Applied:
    """Predict every input into ``output``: masks, or a table of the probabilities of classes (``output`` itself where
    it ends in ``.csv``, else ``predictions.csv`` in it). Bad cases are told and the rest goes on.

    Raises:
        UsageError: not an exported model, or an input that is not there. DataError: it is damaged or of a later
            version, or there is no image. MachineError: onnxruntime or the device is not there.
    """
    exported = open_exported(model, device)
    card = exported.model.card
    cases = gather(inputs, card, data)
    for name in inputs:
        _warn_of_leaks(card, name)
    if card.task == "classification":
        require_at_once()
        answers = _told(OnnxClassifying(exported).answers(cases, data / "prepared" / "arrays"), len(cases), "images")
        path = output if output.suffix == ".csv" else output / "predictions.csv"
        write_answers(path, answers, card)
        return Applied(len(cases) - len(_errors(answers)), "answers", path, _errors(answers))
    cases = mine(cases)
    made = _told(predict_exported(OnnxPredictor(exported), model, cases, output), len(cases), "cases")
    return Applied(len(cases) - len(_errors(made)), "masks", output, _errors(made))


def _told(results: Iterable[Result], count: int, what: str) -> list[Result]:
    done = []
    with stage("predict", count) as shown:
        for found in results:
            done.append(found)
            shown.advance(note=found.case.id)
            if found.error is not None:
                say(f"error: {found.error}")
        bad = len(_errors(done))
        shown.note(f"{len(done) - bad} {what}" + (f", {bad} failed" if bad else ""))
    return done


def _errors(results: Sequence[Answer] | Sequence[Made]) -> list[tuple[str, DataError]]:
    return [(found.case.id, found.error) for found in results if found.error is not None]


def _warn_of_leaks(trained_on: Card, name: str) -> None:
    """Say where the model may have seen an input already: which cases it learnt from, only its run folder knows."""
    card = load_card(name) if is_known(name) and not Path(name).exists() else card_above(Path(name))
    if card is None:
        return
    if card.name == trained_on.name:
        say(f"warning: the model learnt from cases of {card.name}: figures on those say nothing about new patients")
    else:
        warn_of_overlap(trained_on, card)
