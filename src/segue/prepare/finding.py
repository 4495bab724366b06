"""What quality control has to say of a case."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["error", "warning", "note"]


class Finding(BaseModel):
    """One result of quality control. An error keeps the case out of training; a warning does not."""

    model_config = ConfigDict(frozen=True)

    case: str
    severity: Severity
    what: str
    value: str | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        text = f"{self.case}: {self.what}" + (f" ({self.value})" if self.value else "")
        return text + (f"\n  -> {self.remedy}" if self.remedy else "")
