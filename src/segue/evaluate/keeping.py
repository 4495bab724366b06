"""Scores of single cases, kept by the content of both masks: what shards measured, the run that gathers reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from segue.catalogue import label_files, label_form
from segue.core.errors import DataError
from segue.core.files import content_key, known_digest, parse_json, unchanged, write_json
from segue.evaluate.pairs import Pair
from segue.evaluate.scores import CaseScores, score_pair

_VERSION = 1


@dataclass(frozen=True)
class ScoreTask:
    """What a worker needs to score one case; ``kept``: the folder of scores, None to keep none."""

    pair: Pair
    kept: Path | None = None

    @property
    def id(self) -> str:
        return self.pair.case


def score_task(task: ScoreTask) -> CaseScores:
    """Score one case, or find its scores.

    Raises:
        DataError: see :func:`score_pair`; or a file changes meanwhile.
    """
    pair = task.pair
    if task.kept is None:
        return score_pair(pair)
    files = [pair.prediction, *label_files(pair.truth), *([pair.suv.path] if pair.suv is not None else [])]
    try:
        with unchanged(files, pair.case):
            rules = {number: asdict(rule) for number, rule in pair.rules.items()}
            how = [
                pair.labels,
                pair.ignore_label,
                pair.unlabelled,
                rules,
                asdict(pair.measures),
                label_form(pair.truth),
            ]
            suv = None if pair.suv is None else pair.suv.channel
            form = label_form(pair.truth)
            key = content_key(pair.case, pair.patient, *map(known_digest, files), *how, form, suv, _VERSION)
            path = task.kept / f"{key}.json"
            try:
                return CaseScores(**parse_json(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, TypeError):
                scores = score_pair(pair)
    except OSError as error:
        raise DataError(
            "this file cannot be read", where=f"{pair.case}: {error.filename}", value=error.strerror
        ) from error
    write_json(path, asdict(scores))
    return scores
