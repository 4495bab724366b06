"""A stylised body as ellipsoids, in RAS millimetres with the origin at the feet end of the scan's axis.

The scan covers 450 mm along the axis, as the PET grid of 150 slices of 3 mm gives: from the pelvis to the top of the
head the anatomy is compressed to about half its length. In plane it has the size of an adult.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32

FIELD_MM = (400.0, 400.0, 450.0)

AIR_HU = -1000.0

# Height (mm), half width left-right, half depth front-back of the body's outline.
_OUTLINE = np.array(
    [
        [0, 160, 100],
        [50, 165, 105],
        [120, 148, 98],
        [190, 150, 102],
        [270, 162, 108],
        [325, 170, 92],
        [348, 95, 72],
        [360, 58, 60],
        [372, 68, 84],
        [405, 78, 98],
        [430, 66, 84],
        [446, 20, 26],
        [450, 2, 2],
    ],
    dtype=float,
)


@dataclass(frozen=True)
class Ellipsoid:
    """A region with one density and one uptake; ``hollow`` (0 to 1) is the part of the radii left out inside."""

    name: str
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    hu: float | None
    suv: float | None
    hollow: float = 0.0


@dataclass(frozen=True)
class Body:
    """One patient's outline scale, and organs in the order in which they are laid down."""

    scale: tuple[float, float, float]
    shift_mm: tuple[float, float]
    organs: tuple[Ellipsoid, ...]
    rib_tilt: float
    vertebra_mm: float

    def outline_mm(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half width and half depth at heights ``z`` (mm)."""
        width = np.interp(z, _OUTLINE[:, 0], _OUTLINE[:, 1], left=160, right=0.01)
        depth = np.interp(z, _OUTLINE[:, 0], _OUTLINE[:, 2], left=100, right=0.01)
        return width * self.scale[0], depth * self.scale[1]

    def holds(self, centre_mm: np.ndarray, radius_mm: float) -> bool:
        """Whether a ball lies inside the outline."""
        heights = np.linspace(centre_mm[2] - radius_mm, centre_mm[2] + radius_mm, 5)
        if heights[0] < 6 or heights[-1] > 345:
            return False
        width, depth = self.outline_mm(heights)
        width, depth = width - radius_mm - 4, depth - radius_mm - 4
        x, y = centre_mm[0] - self.shift_mm[0], centre_mm[1] - self.shift_mm[1]
        return bool(((x / width) ** 2 + (y / depth) ** 2 < 1).all())


# name, centre, radii, HU, SUV, hollow. Left is negative x, front is positive y.
_ORGANS = (
    Ellipsoid("lung right", (76, 2, 265), (50, 72, 72), -800, 0.5),
    Ellipsoid("lung left", (-76, 2, 268), (48, 72, 70), -800, 0.5),
    Ellipsoid("mediastinum", (0, 5, 275), (34, 60, 70), 40, 1.5),
    Ellipsoid("heart", (-22, 28, 240), (46, 40, 40), 45, 1.8),
    Ellipsoid("myocardium", (-36, 24, 236), (31, 31, 34), 50, 5.0, 0.62),
    Ellipsoid("liver", (66, 12, 165), (80, 64, 48), 58, 2.0),
    Ellipsoid("spleen", (-98, -22, 172), (28, 38, 30), 50, 1.7),
    Ellipsoid("stomach", (-55, 35, 165), (38, 30, 28), 20, 1.8),
    Ellipsoid("kidney right", (62, -42, 118), (24, 27, 36), 35, 4.5),
    Ellipsoid("kidney left", (-62, -42, 122), (24, 27, 36), 35, 4.5),
    Ellipsoid("bowel 1", (-30, 40, 95), (45, 18, 16), 25, 2.3),
    Ellipsoid("bowel 2", (45, 35, 85), (20, 22, 34), 25, 2.6),
    Ellipsoid("bladder", (0, 30, 32), (36, 32, 26), 5, 18.0),
    Ellipsoid("ilium right", (98, -12, 58), (24, 46, 44), 420, 1.4, 0.6),
    Ellipsoid("ilium left", (-98, -12, 58), (24, 46, 44), 420, 1.4, 0.6),
    Ellipsoid("femoral head right", (98, 8, 10), (23, 23, 20), 500, 1.0),
    Ellipsoid("femoral head left", (-98, 8, 10), (23, 23, 20), 500, 1.0),
    Ellipsoid("skull", (0, 2, 408), (72, 91, 36), 700, 1.2, 0.9),
    Ellipsoid("brain", (0, 2, 408), (63, 80, 31), 38, 7.0),
)
_HOT = ("brain", "bladder", "myocardium", "kidney right", "kidney left")


def draw_body(random: np.random.Generator) -> Body:
    """A patient: size, position, organ places and sizes, and uptakes within their usual ranges."""
    scale = tuple(random.uniform(0.94, 1.06, 3))
    shift = tuple(random.uniform(-8, 8, 2))
    uptake = {
        "brain": random.uniform(6.2, 7.8),
        "bladder": random.uniform(10, 30),
        "myocardium": random.uniform(2.5, 8),
        "liver": random.uniform(1.8, 2.3),
        "kidney": random.uniform(3, 6),
    }
    organs = []
    for organ in _ORGANS:
        place = np.array(organ.centre_mm) * [scale[0], scale[1], 1.0] + [*shift, 0.0]
        # Skull and brain, heart and its muscle move together: only loose organs have a place of their own.
        if organ.name not in ("skull", "brain", "myocardium"):
            place += random.uniform(-5, 5, 3)
        radii = np.array(organ.radii_mm) * [scale[0], scale[1], scale[2]]
        if organ.name not in ("skull", "brain"):
            radii *= random.uniform(0.93, 1.07)
        suv = next((value for name, value in uptake.items() if organ.name.startswith(name)), organ.suv)
        organs.append(replace(organ, centre_mm=tuple(place), radii_mm=tuple(radii), suv=suv))
    return Body(scale, shift, tuple(organs), random.uniform(0.15, 0.35), random.uniform(22, 26))


def near_hot_organ(body: Body, centre_mm: np.ndarray, margin_mm: float) -> bool:
    """Whether a ball of radius ``margin_mm`` touches an organ of high uptake."""
    for organ in body.organs:
        if organ.name in _HOT:
            distance = (centre_mm - organ.centre_mm) / (np.array(organ.radii_mm) + margin_mm)
            if (distance**2).sum() < 1:
                return True
    return False


class Canvas:
    """Paints a body on a grid given by the millimetres of its voxel centres along each axis."""

    def __init__(self, axes_mm: tuple[np.ndarray, np.ndarray, np.ndarray], background: float) -> None:
        self.axes = tuple(axis.astype(np.float32) for axis in axes_mm)
        self.values = np.full([len(axis) for axis in self.axes], background, dtype=np.float32)

    def outline(self, body: Body) -> Bool[np.ndarray, "i j k"]:
        """Which voxels belong to the body."""
        x, y, z = self.axes
        width, depth = (side.astype(np.float32) for side in body.outline_mm(z))
        across = ((x - body.shift_mm[0])[:, None] / width) ** 2
        deep = ((y - body.shift_mm[1])[:, None] / depth) ** 2
        return across[:, None, :] + deep[None, :, :] < 1

    def box(self, centre_mm: np.ndarray, radii_mm: np.ndarray) -> tuple[slice, slice, slice]:
        """The voxels inside a box around a place."""
        parts = []
        for axis, centre, radius in zip(self.axes, centre_mm, radii_mm, strict=True):
            first, last = np.searchsorted(axis, [centre - radius, centre + radius])
            parts.append(slice(int(first), int(last)))
        return parts[0], parts[1], parts[2]

    def distance2(
        self, box: tuple[slice, slice, slice], centre_mm: np.ndarray, radii_mm: np.ndarray
    ) -> Float32[np.ndarray, "x y z"]:
        """Squared distance from the centre in units of the radii, over the voxels of ``box``."""
        lines = [
            ((axis[part] - np.float32(c)) / np.float32(r)) ** 2
            for axis, part, c, r in zip(self.axes, box, centre_mm, radii_mm, strict=True)
        ]
        return lines[0][:, None, None] + lines[1][None, :, None] + lines[2][None, None, :]

    def ellipsoid(self, organ: Ellipsoid, value: float) -> None:
        centre, radii = np.array(organ.centre_mm), np.array(organ.radii_mm)
        box = self.box(centre, radii)
        distance = self.distance2(box, centre, radii)
        inside = distance < 1
        if organ.hollow:
            inside &= distance > organ.hollow**2
        self.values[box][inside] = value

    def spine(self, body: Body, bone: float, disc: float) -> None:
        """Vertebrae and discs in turn, from the pelvis to the neck."""
        x, y, z = self.axes
        centre = (body.shift_mm[0], -56 * body.scale[1] + body.shift_mm[1])
        box = self.box(np.array([*centre, 185.0]), np.array([19.0, 19.0, 185.0]))
        round_ = ((x[box[0]] - centre[0]) / 19)[:, None] ** 2 + ((y[box[1]] - centre[1]) / 18)[None, :] ** 2 < 1
        along = np.where((z[box[2]] % body.vertebra_mm) < 0.75 * body.vertebra_mm, bone, disc).astype(np.float32)
        part = self.values[box]
        part[round_] = along

    def ribs(self, body: Body, value: float) -> None:
        """Ten pairs of rings around the chest, lower in front than at the spine."""
        x, y, z = self.axes
        box = self.box(np.array([*body.shift_mm, 272.0]), np.array([150.0, 105.0, 95.0]))
        width, depth = (side.astype(np.float32) for side in body.outline_mm(z[box[2]]))
        xs, ys, zs = x[box[0]] - body.shift_mm[0], y[box[1]] - body.shift_mm[1], z[box[2]]
        across = (xs[:, None] / (0.87 * width)) ** 2
        deep = (ys[:, None] / (0.87 * depth)) ** 2
        ring = across[:, None, :] + deep[None, :, :]
        height = zs[None, :] + body.rib_tilt * ys[:, None]
        rib = (height % 16 < 5.5) & (height > 195) & (height < 345)
        inside = (ring < 1) & (ring > 0.85) & rib[None, :, :]
        self.values[box][inside] = value
