"""What quality control has to say of a case, or of a whole dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["error", "warning", "note"]
# Where an error that is reported as a finding names no remedy of its own.
MEND = "restore or mend the file, or leave the case out"
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Finding(BaseModel):
    """One result of quality control. An error keeps the case out of training; a warning does not.

    Attributes:
        case: empty where it is of the dataset as a whole.
        value: what was measured, in words.
        size: how bad it is: of findings of one kind, the largest is the worst.
        at_mm: where, in RAS millimetres.
        kind: what findings of this kind have in common, where ``what`` names cases.
    """

    model_config = ConfigDict(frozen=True)

    case: str
    severity: Severity
    what: str
    value: str | None = None
    remedy: str | None = None
    size: float = 0.0
    at_mm: tuple[float, float, float] | None = None
    kind: str = ""

    @property
    def measured(self) -> str:
        """What is the finding's own beside those of its kind."""
        return ", ".join(part for part in (self.what if self.kind else "", self.value or "") if part)

    def __str__(self) -> str:
        text = (f"{self.case}: " if self.case else "") + self.what + (f" ({self.value})" if self.value else "")
        return text + (f"\n  -> {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Group:
    """All findings of one kind, the worst first."""

    severity: Severity
    what: str
    findings: tuple[Finding, ...]

    @property
    def remedy(self) -> str | None:
        return self.findings[0].remedy

    @property
    def cases(self) -> int:
        """How many cases it was found in; 0 where it is of the dataset."""
        return len({finding.case for finding in self.findings} - {""})


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Findings by kind: errors first, then by how many cases have it; inside by size, then by case."""
    kinds: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.kind or finding.what), []).append(finding)
    groups = [
        Group(severity, what, tuple(sorted(found, key=lambda one: (-one.size, one.case))))
        for (severity, what), found in kinds.items()
    ]
    return sorted(groups, key=lambda group: (SEVERITIES.index(group.severity), -group.cases, group.what))
