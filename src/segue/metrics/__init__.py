"""Pure functions of arrays: overlap, lesions, intervals."""

from segue.metrics.intervals import bootstrap_ci95
from segue.metrics.lesions import unmatched_voxels
from segue.metrics.overlap import Overlap, overlap

__all__ = ["Overlap", "bootstrap_ci95", "overlap", "unmatched_voxels"]
