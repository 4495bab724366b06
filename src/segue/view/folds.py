"""The section on the folds of a run folder, and on the post-processing that was chosen on them."""

from __future__ import annotations

from typing import Any

from segue.core.console import duration
from segue.view.facts import FoldFacts, RunFacts
from segue.view.words import DASH, dice


def folds_section(facts: RunFacts) -> dict[str, Any]:
    """One row per fold, and one per label of the post-processing."""
    classified = facts.card is not None and facts.card.task == "classification"
    rows = [
        {
            "name": "this folder" if fold.run == facts.run else fold.run.folder.name.replace("_", " "),
            "link": None if fold.run == facts.run else f"{fold.run.folder.name}/{fold.run.report.name}",
            "cases": len(fold.cases),
            "score": dice(_right(facts, fold) if classified else _mean_dice(facts, fold)),
            "time": DASH if fold.seconds is None else duration(fold.seconds),
            "state": "ended" if fold.finished else "not finished",
        }
        for fold in facts.folds
    ]
    choices = facts.postprocessing.labels if facts.postprocessing else []
    part = facts.parts.get("val")
    after = part.postprocessed.aggregate if part and part.postprocessed else {}
    return {
        "rows": rows,
        "score": "share of right answers" if classified else "mean Dice of its cases",
        "rule": facts.postprocessing.chosen_when if facts.postprocessing else None,
        "choices": [
            {
                "label": choice.name,
                "rule": str(choice.chosen) if choice.chosen else "nothing: none of the rules that were tried helps",
                "tried": len(choice.tried),
                "before": dice(part.mean(choice.name, "dice").value) if part else DASH,
                "after": dice(after[choice.name]["dice"].value) if choice.name in after and choice.chosen else DASH,
            }
            for choice in choices
        ],
    }


def _mean_dice(facts: RunFacts, fold: FoldFacts) -> float | None:
    part = facts.parts.get("val")
    cases = [case.mean_dice for name, case in part.cases.items() if name in fold.cases] if part else []
    known = [value for value in cases if value is not None]
    return sum(known) / len(known) if known else None


def _right(facts: RunFacts, fold: FoldFacts) -> float | None:
    part = facts.class_parts.get("val")
    answers = [not case.wrong for name, case in part.cases.items() if name in fold.cases] if part else []
    return sum(answers) / len(answers) if answers else None
