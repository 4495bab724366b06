"""Networks, losses, augmentation, sliding window: torch code that knows no files."""

from segue.model.augment import Augmentation, AugmentSettings, augment, draw_augmentation
from segue.model.losses import DiceCrossEntropy
from segue.model.sliding_window import sliding_window
from segue.model.unet import UNet

__all__ = [
    "AugmentSettings",
    "Augmentation",
    "DiceCrossEntropy",
    "UNet",
    "augment",
    "draw_augmentation",
    "sliding_window",
]
