"""Masks against the truth, case by case; nothing here needs a network, so that a folder is measured at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from segue.catalogue import Card, card_above, is_known, load_card, overlap
from segue.core.console import say, stage
from segue.core.errors import DataError, UsageError
from segue.core.executor import map_cases
from segue.core.work import current_work, mine
from segue.evaluate import (
    CaseScores,
    Evaluation,
    Pair,
    ScoreTask,
    Wanted,
    aggregate,
    pair_folders,
    read_dataset_name,
    score_task,
    write_metrics,
)

# Worker processes take a second to start: so long, cases are measured here.
_ALONE_S = 2.0
SCORES = ".scores"


def evaluate_folders(
    predictions: Path,
    truth: str,
    wanted: Wanted,
    data: Path,
    output: Path | None = None,
    workers: int | None = None,
) -> Evaluation:
    """Compare a folder of masks with the truth and write ``metrics.json`` and ``metrics.csv``."""
    trained_on = read_dataset_name(predictions)
    measured_on = load_card(truth) if is_known(truth) and not Path(truth).exists() else card_above(Path(truth))
    if trained_on is not None and is_known(trained_on) and measured_on is not None:
        warn_of_overlap(load_card(trained_on), measured_on)
    pairs, missing, _ = pair_folders(predictions, truth, wanted.labels, data, wanted)
    place = predictions if output is None else output
    path = place if place.suffix == ".json" else place / "metrics.json"
    evaluation = score_pairs("test", mine(pairs), missing, workers, path.parent)
    if current_work().shard is None:
        write_metrics(path, [evaluation])
        forget_scores(path.parent)
    return evaluation


def warn_of_overlap(trained_on: Card, measured_on: Card) -> None:
    """Say so where a model is tried on a dataset that shares patients with the one it was trained on."""
    shared = overlap(trained_on, measured_on) if trained_on.name != measured_on.name else None
    if shared:
        say(
            f"warning: trained on {trained_on.name}, tried on {measured_on.name}: {shared}. "
            "Figures on shared cases are too good; leave these cases out."
        )


def score_pairs(
    part: str,
    pairs: Sequence[Pair],
    errors: Sequence[DataError] = (),
    workers: int | None = None,
    place: Path | None = None,
) -> Evaluation:
    """Score every pair, and what that comes to over all; a case that cannot be measured is among the errors.

    Args:
        place: the folder where shards keep their scores for the run that gathers.
    """
    scores: list[CaseScores] = []
    failed = list(errors)
    with stage("evaluate", len(pairs)) as shown:
        for pair, result in _scored(pairs, workers, place):
            if isinstance(result, DataError):
                if result.where is None or not result.where.startswith(pair.case):
                    result.where = f"{pair.case}: {result.where}" if result.where else pair.case
                failed.append(result)
            else:
                scores.append(result)
            shown.advance(note=pair.case)
        shown.note(f"{len(scores)} cases" + (f", {len(failed)} failed" if failed else ""))
    lesionwise = next((pair.measures.lesionwise for pair in pairs), None)
    return aggregate(part, scores, failed, lesionwise)


def _scored(
    pairs: Sequence[Pair], workers: int | None, place: Path | None
) -> Iterator[tuple[Pair, CaseScores | DataError]]:
    """Each pair and its scores; where nobody says by how many processes, by one until that proves slow."""
    kept = None if place is None else place / SCORES
    sharded = current_work().shard is not None
    tasks = [ScoreTask(pair, kept if kept is not None and (sharded or kept.is_dir()) else None) for pair in pairs]
    alone = 0
    if workers is None and current_work().executor is None:
        begun = time.monotonic()
        while alone < len(tasks) and time.monotonic() - begun < _ALONE_S:
            yield from _pairs_of(map_cases(score_task, tasks[alone : alone + 1], workers=1))
            alone += 1
    yield from _pairs_of(map_cases(score_task, tasks[alone:], workers=workers))


def _pairs_of(
    scored: Iterator[tuple[ScoreTask, CaseScores | DataError]],
) -> Iterator[tuple[Pair, CaseScores | DataError]]:
    return ((task.pair, result) for task, result in scored)


def forget_scores(place: Path) -> None:
    """Remove what shards kept, once the figures over all cases are written."""
    shutil.rmtree(place / SCORES, ignore_errors=True)


def require_at_once() -> None:
    """Raises:
    UsageError: part of the cases, or other machines, were asked for, of a model of classes.
    """
    work = current_work()
    if work.executor is not None or work.shard is not None:
        raise UsageError(
            "a model of classes answers for all images at once",
            where="--cluster" if work.executor is not None else f"--shard {work.shard}",
            remedy="leave it out; small images take milliseconds each",
        )
