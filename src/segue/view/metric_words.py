"""What a metric of :mod:`segue.evaluate.measures` is called on a page, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricWords:
    """``share``: lies between 0 and 1. ``rises``: whether more is better, of what no evaluation lists."""

    name: str
    title: str
    unit: str = ""
    share: bool = False
    rises: bool | None = None


# Those that say most come first: of very many labels a page holds only a few.
METRIC_WORDS = (
    MetricWords("dice", "Dice", share=True),
    MetricWords("truth_volume_ml", "volume of the truth", "ml"),
    MetricWords("hd95_mm", "HD95", "mm"),
    MetricWords("nsd", "NSD", share=True),
    MetricWords("volume_ml", "predicted volume", "ml"),
    MetricWords("volume_difference_ml", "predicted minus true volume", "ml"),
    MetricWords("false_positive_ml", "false positive volume", "ml"),
    MetricWords("false_negative_ml", "false negative volume", "ml"),
    MetricWords("sensitivity", "sensitivity", share=True),
    MetricWords("precision", "precision", share=True),
    MetricWords("lesion_sensitivity", "lesions found, share", share=True),
    MetricWords("false_positive_lesions", "false positive lesions"),
    MetricWords("lesions", "lesions in the truth"),
    MetricWords("lesionwise_dice", "lesion-wise Dice", share=True),
    MetricWords("lesionwise_hd95_mm", "lesion-wise HD95", "mm"),
    MetricWords("suv_max", "SUVmax of the prediction"),
    MetricWords("truth_suv_max", "SUVmax of the truth"),
    MetricWords("mtv_ml", "predicted metabolic volume", "ml"),
    MetricWords("truth_mtv_ml", "true metabolic volume", "ml"),
    MetricWords("tlg_ml", "predicted TLG", "ml"),
    MetricWords("truth_tlg_ml", "true TLG", "ml"),
    MetricWords("assd_mm", "ASSD", "mm"),
    MetricWords("iou", "IoU", share=True),
)
