"""Where the voxels of a case are said to lie: float noise told apart from shifts, shear, headers that contradict."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.images import Forms, read_forms
from segue.prepare.quality.reporting import Found
from segue.volume import SAME_GRID_VOXELS, Geometry

_MOST_MM = 3000.0  # no scanner's field of view is longer
_LEAST_MM = 10.0


def look_at_noise(image: Geometry, mask: Geometry, found: Found) -> None:
    """A note where a mask's grid is the image's but for rounding: called where the two count as the same."""
    if np.array_equal(image.affine, mask.affine):
        return
    shift = image.shift_mm(mask)
    if shift > 0:
        found(
            "note",
            "the grids of image and label differ by rounding only",
            f"positions differ by up to {shift:.1g} mm",
            "nothing: they are taken for the same; segue check --fix OUT makes them equal",
            size=shift,
        )


def look_at_axes(geometry: Geometry, found: Found) -> None:
    """A warning where the axes are not at right angles."""
    if geometry.is_sheared:
        found(
            "warning",
            "the voxel axes are not at right angles",
            f"{geometry.shear_degrees:.1f} degrees of shear",
            "distances and volumes are right, shapes are trained as stored; resample to an orthogonal grid if "
            "that matters",
            size=geometry.shear_degrees,
        )


def look_at_extent(geometry: Geometry, found: Found) -> None:
    """A warning where a patient would be metres long, or millimetres: for images in HU or SUV."""
    extent = [n * step for n, step in zip(geometry.shape, geometry.spacing_mm, strict=True)]
    text = " x ".join(f"{value:.4g}" for value in extent) + " mm"
    if max(extent) > _MOST_MM or max(extent) < _LEAST_MM:
        found(
            "warning",
            "the image is too large or too small for a patient",
            text,
            "look at the spacing in the header: micrometres or metres that were taken for millimetres look like this",
            size=max(extent),
        )


def look_at_header(path: Path, forms: Forms | None, geometry: Geometry, found: Found) -> None:
    """What a NIfTI header leaves open or contradicts itself in; ``geometry`` is the grid as it is read."""
    if forms is None:
        return
    if forms.qform is None and forms.sform is None:
        found(
            "warning",
            "the header does not say where left and right are: its qform and sform codes are 0",
            path.name,
            "convert the image again from its DICOM series, or make sure that all cases lie the same way",
        )
    if forms.disagree_mm > SAME_GRID_VOXELS * min(geometry.spacing_mm):
        found(
            "warning",
            "qform and sform of the header name different places",
            f"{path.name}: by up to {forms.disagree_mm:.3g} mm",
            "segue reads the sform, others may read the qform: find out which is right and write it into both",
            size=forms.disagree_mm,
        )
    if repairable_header(forms):
        found(
            "note",
            "fields of the header that every program reads in its own way",
            f"{path.name}: {', '.join(repairable_header(forms))}",
            "segue check --fix OUT writes them as the standard has them; the grid stays as it is read",
        )


def repairable_header(forms: Forms) -> list[str]:
    """Fields whose only sensible value is known: spacings are positive, the sign of a qform's third axis is 1 or -1."""
    wrong = []
    if any(zoom < 0 for zoom in forms.zooms):
        wrong.append("negative spacing " + " x ".join(f"{zoom:g}" for zoom in forms.zooms))
    if forms.qform is not None and forms.qfac not in (1.0, -1.0) and forms.qfac != 0.0:
        wrong.append(f"pixdim[0] is {forms.qfac:g}")
    return wrong


def headers_of(paths: tuple[Path, ...]) -> list[tuple[Path, Forms]]:
    """The forms of those that are NIfTI."""
    return [(path, forms) for path in paths if (forms := read_forms(path)) is not None]
