"""What is measured of a mask, and by which rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from segue.catalogue import Card
from segue.core.errors import UsageError


@dataclass(frozen=True)
class Metric:
    """One figure of a case and label.

    Attributes:
        rises: whether more is better; None where neither is.
        over_labels: whether its mean over labels says something.
    """

    name: str
    rises: bool | None = None
    over_labels: bool = False


METRICS = (
    Metric("dice", True, True),
    Metric("iou", True, True),
    Metric("sensitivity", True, True),
    Metric("precision", True, True),
    Metric("volume_ml"),
    Metric("truth_volume_ml"),
    Metric("volume_difference_ml"),
    Metric("hd95_mm", False, True),
    Metric("assd_mm", False, True),
    Metric("nsd", True, True),
    Metric("lesions"),
    Metric("lesions_found"),
    Metric("lesion_sensitivity", True, True),
    Metric("false_positive_lesions", False, True),
    Metric("false_positive_ml", False),
    Metric("false_negative_ml", False),
    Metric("mtv_ml"),
    Metric("truth_mtv_ml"),
    Metric("tlg_ml"),
    Metric("truth_tlg_ml"),
    Metric("suv_max"),
    Metric("truth_suv_max"),
    Metric("brier", False, True),
    Metric("calibration_error", False, True),
    Metric("lesionwise_dice", True, True),
    Metric("lesionwise_hd95_mm", False, True),
    Metric("lesionwise_lesions"),
    Metric("lesionwise_missed"),
    Metric("lesionwise_false_positives", False),
)
BY_NAME = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True)
class Lesionwise:
    """BraTS's rules of 2023 and later: how often the truth is dilated, and which of its lesions are dropped.

    Attributes:
        dilation: times that the truth is dilated before its lesions are told apart.
        least_mm3: lesions of at most this volume count nowhere.
    """

    dilation: int
    least_mm3: float


PRESETS = {"brats": Lesionwise(3, 50.0), "brats-men": Lesionwise(1, 50.0), "brats-met": Lesionwise(1, 2.0)}


@dataclass(frozen=True)
class Measures:
    """The rules by which all cases of an evaluation are measured.

    Attributes:
        tolerance_mm: how far two surfaces may lie apart and still count as one in NSD.
        regions: named unions of labels, measured as labels are.
        lesionwise: rules of BraTS, where its figures are wanted too; a label that is absent in both masks then scores
            Dice 1 instead of being left out.
    """

    tolerance_mm: float = 1.0
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    lesionwise: Lesionwise | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance_mm) and self.tolerance_mm >= 0):
            raise UsageError(
                "a tolerance is a distance in millimetres, 0 or more",
                where=f"--tolerance {self.tolerance_mm}",
                remedy="take what two readers of the same image differ by, for example --tolerance 1",
            )


def measures_for(
    card: Card | None,
    tolerance_mm: float = 1.0,
    regions: Mapping[str, tuple[int, ...]] | None = None,
    preset: str | None = None,
) -> Measures:
    """The rules for a dataset: what a person asked for, else what its card says.

    Cards of BraTS have the lesion-wise figures of its evaluator, those of meningiomas and of metastases with the rules
    of these two tasks.

    Raises:
        UsageError: no such preset.
    """
    if preset is None and card is not None and card.name.startswith("brats/"):
        kind = next((name for name in ("men", "met") if f"-{name}" in card.name), None)
        preset = f"brats-{kind}" if kind else "brats"
    if preset is not None and preset not in PRESETS:
        raise UsageError(f"the presets are {', '.join(PRESETS)}", where=f"--preset {preset}")
    if regions is None:
        regions = {name: tuple(members) for name, members in card.regions.items()} if card else {}
    return Measures(tolerance_mm, regions, PRESETS[preset] if preset else None)
