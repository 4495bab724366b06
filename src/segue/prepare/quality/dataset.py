"""What only all cases together tell."""

from __future__ import annotations

from collections.abc import Sequence

from segue.catalogue import Card, Case
from segue.prepare.examine import Examination
from segue.prepare.quality.anatomy import class_findings, label_findings, split_findings
from segue.prepare.quality.finding import Finding
from segue.prepare.quality.outliers import grid_outliers, intensity_findings


def dataset_findings(card: Card, cases: Sequence[Case], examinations: Sequence[Examination]) -> list[Finding]:
    """Findings on how cases differ from the others, on labels over all cases, on sets and classes."""
    findings = split_findings(cases) + class_findings(card, cases)
    findings += grid_outliers(examinations, card) + intensity_findings(examinations, card)
    return findings + (label_findings(examinations, card, cases) if card.task == "segmentation" else [])
