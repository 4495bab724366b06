"""What a folder of images is: the layout that fits, and the card that follows from it."""

from segue.catalogue.recognise.folder import Recognised, recognise
from segue.catalogue.recognise.sidecars import MixedLabelsError

__all__ = ["MixedLabelsError", "Recognised", "recognise"]
