"""Geometry and volumes: the only place that touches an affine."""

from segue.volume.boxes import bounding_box
from segue.volume.geometry import SAME_GRID_VOXELS, Geometry
from segue.volume.resample import resample_intensity, resample_labels
from segue.volume.volume import Kind, Volume

__all__ = ["SAME_GRID_VOXELS", "Geometry", "Kind", "Volume", "bounding_box", "resample_intensity", "resample_labels"]
