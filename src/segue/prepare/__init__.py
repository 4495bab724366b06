"""Quality control, fingerprint, plan, and the prepared cases."""

from segue.prepare.cache import PreparedCase, PrepareTask, prepare_case, prepared_image
from segue.prepare.examine import Examination, ExamineTask, Finding, examine
from segue.prepare.fingerprint import Fingerprint, fingerprint
from segue.prepare.plan import Budget, Machine, Network, Plan, PlanOverrides, plan
from segue.prepare.reading import read_channels, read_mask

__all__ = [
    "Budget",
    "Examination",
    "ExamineTask",
    "Finding",
    "Fingerprint",
    "Machine",
    "Network",
    "Plan",
    "PlanOverrides",
    "PrepareTask",
    "PreparedCase",
    "examine",
    "fingerprint",
    "plan",
    "prepare_case",
    "prepared_image",
    "read_channels",
    "read_mask",
]
