"""Networks, losses, augmentation, sliding window: torch code that knows no files."""

from segue.model.augment import Augmentation, AugmentSettings, augment, draw_augmentation, thick_axis
from segue.model.classifier import Classifier, ClassLoss, probabilities
from segue.model.losses import SegmentationLoss
from segue.model.norm import with_quick_norms
from segue.model.planar import Planar
from segue.model.sliding_window import mirrored, sliding_slabs, sliding_window, thinnest_axis, window_count
from segue.model.unet import UNet

__all__ = [
    "AugmentSettings",
    "Augmentation",
    "ClassLoss",
    "Classifier",
    "Planar",
    "SegmentationLoss",
    "UNet",
    "augment",
    "draw_augmentation",
    "mirrored",
    "probabilities",
    "sliding_slabs",
    "sliding_window",
    "thick_axis",
    "thinnest_axis",
    "window_count",
    "with_quick_norms",
]
