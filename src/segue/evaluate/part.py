"""What the evaluations of both tasks have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from segue.core.errors import DataError

ALL = "all"


@dataclass(frozen=True)
class ScoredCase:
    """One case and whose it is; what it scored is the task's."""

    case: str
    patient: str


Case = TypeVar("Case", bound=ScoredCase)


@dataclass(frozen=True)
class PartEvaluation(ABC, Generic[Case]):
    """All cases of one part (``val`` or ``test``), their aggregate, and what could not be measured.

    ``aggregate`` is ``{label|"all": {metric: {value, ci95, n}}}``.
    """

    part: str
    cases: list[Case]
    aggregate: dict[str, dict[str, dict[str, Any]]]
    errors: list[DataError] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """``{"val"|"test": {"aggregate": {label|"all": {metric: {value, ci95, n}}}, "cases": {}}}``."""
        return {
            self.part: {
                "aggregate": self._aggregated(),
                **self._beside(),
                "cases": {case.case: told for case, told in zip(self.cases, self._told(), strict=True)},
                "failed": [{"what": e.what, "where": e.where, "value": e.value} for e in self.errors],
            }
        }

    @abstractmethod
    def columns(self) -> list[str]:
        """The columns of the per-case table, ``metrics.csv``, behind part, case and patient."""

    @abstractmethod
    def rows(self) -> Iterator[tuple[Case, list[str]]]:
        """What stands in these columns; a case may have several rows."""

    @abstractmethod
    def _told(self) -> Iterator[dict[str, Any]]:
        """What ``metrics.json`` holds of each case."""

    def _aggregated(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What it holds over all cases."""
        return self.aggregate

    def _beside(self) -> dict[str, Any]:
        """What it holds of the whole part besides the aggregate."""
        return {}
