"""Collecting the findings of one case."""

from __future__ import annotations

from segue.prepare.quality.finding import Finding, Severity

Place = tuple[float, float, float]


class Found:
    """The findings of one case, in the order in which they were made; call it with one (see :class:`Finding`)."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.findings: list[Finding] = []

    def __call__(
        self,
        severity: Severity,
        what: str,
        value: object = None,
        remedy: str | None = None,
        *,
        size: float = 0.0,
        at_mm: Place | None = None,
    ) -> None:
        text = None if value is None else str(value)
        self.findings.append(
            Finding(case=self.case, severity=severity, what=what, value=text, remedy=remedy, size=size, at_mm=at_mm)
        )
