"""Quality control, fingerprint, plan, and the prepared cases."""

from segue.prepare.cache import PreparedCase, PrepareTask, prepare_case, prepared_folder, prepared_image
from segue.prepare.choices import Budget, Machine, Measured, Network, Normalisation, Plan, PlanOverrides
from segue.prepare.duplicates import find_twins, signatures, thumbnail, twin_findings
from segue.prepare.examine import Examination, ExamineTask, examine, sample_share, unread
from segue.prepare.fingerprint import Extremes, Fingerprint, fingerprint
from segue.prepare.measure import array_digests, measure_arrays
from segue.prepare.plan import plan
from segue.prepare.quality import SEVERITIES, Finding, Group, Severity, grouped
from segue.prepare.quality.dataset import dataset_findings
from segue.prepare.reading import in_axes, read_channels, read_mask
from segue.prepare.regions import Region, labels_of, painted_regions, painting_order, with_missing
from segue.prepare.stack_images import StackImages
from segue.prepare.stacks import (
    Stack,
    StackTask,
    map_stack,
    open_stack,
    sized_case,
    sized_image,
    stack_file,
    write_stack,
)
from segue.prepare.unpacked import unpacked_once

__all__ = [
    "SEVERITIES",
    "Budget",
    "Examination",
    "ExamineTask",
    "Extremes",
    "Finding",
    "Fingerprint",
    "Group",
    "Machine",
    "Measured",
    "Network",
    "Normalisation",
    "Plan",
    "PlanOverrides",
    "PrepareTask",
    "PreparedCase",
    "Region",
    "Severity",
    "Stack",
    "StackImages",
    "StackTask",
    "array_digests",
    "dataset_findings",
    "examine",
    "find_twins",
    "fingerprint",
    "grouped",
    "in_axes",
    "labels_of",
    "map_stack",
    "measure_arrays",
    "open_stack",
    "painted_regions",
    "painting_order",
    "plan",
    "prepare_case",
    "prepared_folder",
    "prepared_image",
    "read_channels",
    "read_mask",
    "sample_share",
    "signatures",
    "sized_case",
    "sized_image",
    "stack_file",
    "thumbnail",
    "twin_findings",
    "unpacked_once",
    "unread",
    "with_missing",
    "write_stack",
]
