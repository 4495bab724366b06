"""Quality control: what is wrong with a case, or with one among all."""

from segue.prepare.quality.finding import SEVERITIES, Finding, Group, Severity, grouped

__all__ = ["SEVERITIES", "Finding", "Group", "Severity", "grouped"]
