"""A stylised body: tissues, and the shapes that they fill, in millimetres.

Field coordinates have x to the right, y to the front, z to the head; the middle of the field of view lies at x = y = 0
and its lower end at z = 0. The field is 450 mm long, as 150 slices of 3 mm give, and holds a body from the
thighs to the crown: the anatomy is compressed along the axis to about half of an adult's length, while across it is
nearly of adult size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from jaxtyping import Float64

FIELD_MM = (400.0, 400.0, 450.0)
_MIDDLE_MM = 225.0


class Tissue(IntEnum):
    """What fills a voxel."""

    AIR = 0
    TABLE = 1
    FAT = 2
    MUSCLE = 3
    VISCERA = 4
    LUNG = 5
    VESSEL = 6
    AIRWAY = 7
    MEDIASTINUM = 8
    BLOOD = 9
    MYOCARDIUM = 10
    LIVER = 11
    SPLEEN = 12
    STOMACH = 13
    BOWEL = 14
    COLON = 15
    KIDNEY = 16
    RENAL_PELVIS = 17
    URETER = 18
    BLADDER = 19
    MARROW = 20
    CORTEX = 21
    DISC = 22
    GREY_MATTER = 23
    WHITE_MATTER = 24
    GLAND = 25


# Hounsfield units and standardised uptake; every tissue of the body takes up at least 0.5.
_TYPICAL: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (-1000, 0.0),
    Tissue.TABLE: (-350, 0.0),
    Tissue.FAT: (-100, 0.6),
    Tissue.MUSCLE: (50, 1.2),
    Tissue.VISCERA: (-70, 1.1),
    Tissue.LUNG: (-820, 0.5),
    Tissue.VESSEL: (20, 0.8),
    Tissue.AIRWAY: (-980, 0.5),
    Tissue.MEDIASTINUM: (15, 1.4),
    Tissue.BLOOD: (42, 1.7),
    Tissue.MYOCARDIUM: (55, 5.0),
    Tissue.LIVER: (58, 2.1),
    Tissue.SPLEEN: (50, 1.8),
    Tissue.STOMACH: (25, 1.9),
    Tissue.BOWEL: (30, 2.0),
    Tissue.COLON: (10, 2.4),
    Tissue.KIDNEY: (36, 3.2),
    Tissue.RENAL_PELVIS: (12, 8.0),
    Tissue.URETER: (15, 5.0),
    Tissue.BLADDER: (6, 18.0),
    Tissue.MARROW: (330, 1.7),
    Tissue.CORTEX: (850, 1.1),
    Tissue.DISC: (75, 1.3),
    Tissue.GREY_MATTER: (38, 7.4),
    Tissue.WHITE_MATTER: (30, 6.3),
    Tissue.GLAND: (45, 2.6),
}

_CAVITY = frozenset({Tissue.LUNG, Tissue.VISCERA})
_CHEST = _CAVITY | {Tissue.MEDIASTINUM}
_BELLY = _CAVITY | {Tissue.BOWEL, Tissue.COLON, Tissue.MUSCLE}

# Height; half width, half depth and middle (front to back) of the trunk and neck.
_TRUNK = np.array(
    [
        [12, 84, 44, -10],
        [22, 134, 78, -8],
        [38, 150, 96, -4],
        [70, 152, 100, 0],
        [105, 141, 98, 2],
        [140, 136, 98, 3],
        [180, 141, 100, 3],
        [225, 149, 103, 2],
        [270, 156, 99, 0],
        [298, 160, 90, -4],
        [314, 146, 78, -8],
        [325, 104, 64, -10],
        [334, 66, 56, -9],
        [344, 53, 54, -6],
        [372, 50, 54, -2],
    ],
    dtype=np.float64,
)
# Height, and the part of the room inside the wall that is cavity: it narrows into the pelvis and to the lungs' tips.
_CAVITY_PART = np.array(
    [[30, 0.0], [40, 0.55], [60, 0.78], [95, 1.0], [262, 1.0], [285, 0.86], [303, 0.66], [316, 0.4], [322, 0.0]]
)
DIAPHRAGM_MM = 166.0


@dataclass(frozen=True)
class Ellipsoid:
    """A solid in the body's own frame: ``|turn (b - centre) / radii| < 1``.

    Attributes:
        tissue: what fills it.
        turn: rotation from the body's frame to the ellipsoid's axes.
        within: tissues that it may replace; empty for all.
        open_above: cut off beyond this part of the third axis (a cup, such as the left ventricle's wall).
        hollow: part of the radii left out inside.
    """

    tissue: Tissue
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    turn: Float64[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    within: frozenset[Tissue] = frozenset()
    open_above: float = 1.0
    hollow: float = 0.0


@dataclass(frozen=True)
class Body:
    """One patient: how the body lies in the field, its layers, its organs in the order of painting, its tissues.

    Attributes:
        to_body: ``(3, 4)``, field coordinates (x, y, z, 1) to the body's own frame; heights stay heights, so
            that each slice of the field is a slice of the body.
        fat_mm: thickness under the skin.
        covers: solids painted before the trunk (limbs, head).
        organs: solids painted after it.
        hu, suv: per tissue, indexed by :class:`Tissue`.
    """

    to_body: Float64[np.ndarray, "3 4"]
    fat_mm: float
    wall_mm: float
    rib_slope: float
    vertebra_mm: float
    covers: tuple[Ellipsoid, ...]
    organs: tuple[Ellipsoid, ...]
    hu: Float64[np.ndarray, " tissues"]
    suv: Float64[np.ndarray, " tissues"]

    def trunk(self, height_mm: float) -> tuple[float, float, float] | None:
        """Half width, half depth and middle of the trunk at a height; None above and below it."""
        z = _TRUNK[:, 0]
        if not z[0] <= height_mm <= z[-1]:
            return None
        # A slight blend of neighbours rounds the corners of the table.
        around = [np.interp(height_mm + d, z, _TRUNK[:, n]) for n in (1, 2, 3) for d in (-5.0, 0.0, 5.0)]
        width, depth, middle = np.reshape(around, (3, 3)).mean(axis=1)
        return float(width), float(depth), float(middle)

    def cavity_part(self, height_mm: float) -> float:
        """Part of the room inside the trunk's wall that lungs or viscera fill."""
        return float(np.interp(height_mm, _CAVITY_PART[:, 0], _CAVITY_PART[:, 1], left=0.0, right=0.0))

    @staticmethod
    def spine(height_mm: float) -> tuple[float, float]:
        """Front-to-back position and radius of the vertebral column: forward in the loin, back in the chest."""
        position = np.interp(height_mm, [30, 70, 125, 250, 310, 350], [-66, -60, -46, -62, -52, -22])
        radius = np.interp(height_mm, [30, 130, 250, 320], [20, 20, 16, 11])
        return float(position), float(radius)


class _Builder:
    """Collects solids; each group of them moves and grows together, by its own random amount."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.solids: list[Ellipsoid] = []
        self.group()

    def group(self, shift_mm: float = 0.0, growth: float = 0.0) -> None:
        self.shift = self.random.uniform(-shift_mm, shift_mm, 3) * [1.0, 1.0, 0.7]
        self.growth = 1.0 + self.random.uniform(-growth, growth, 3)

    def add(
        self,
        tissue: Tissue,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        *,
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        within: frozenset[Tissue] = frozenset(),
        open_above: float = 1.0,
        hollow: float = 0.0,
    ) -> None:
        x, y, z = (float(value) for value in np.array(centre) + self.shift)
        a, b, c = (float(value) for value in np.array(radii) * self.growth)
        self.solids.append(Ellipsoid(tissue, (x, y, z), (a, b, c), _rotation(*turn), within, open_above, hollow))

    def pair(
        self,
        tissue: Tissue,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        *,
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        within: frozenset[Tissue] = frozenset(),
    ) -> None:
        """The solid on the right, and its mirror image on the left."""
        x, y, z = centre
        about_x, about_y, about_z = turn
        self.add(tissue, centre, radii, turn=turn, within=within)
        self.add(tissue, (-x, y, z), radii, turn=(about_x, -about_y, -about_z), within=within)

    def bone(
        self,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        *,
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        cortex_mm: float = 3.0,
    ) -> None:
        """A pair of bones: marrow in a shell."""
        inner = tuple(max(radius - cortex_mm, 0.4 * radius) for radius in radii)
        self.pair(Tissue.CORTEX, centre, radii, turn=turn)
        self.pair(Tissue.MARROW, centre, inner, turn=turn)  # type: ignore[arg-type]


def _rotation(about_x: float, about_y: float, about_z: float) -> Float64[np.ndarray, "3 3"]:
    """Turns the solid by these degrees about x, then y, then z; the matrix takes the body's frame to its axes."""
    matrix = np.eye(3)
    for axis, degrees in enumerate((about_x, about_y, about_z)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[first, second], [first, second]] = c
        turn[first, second], turn[second, first] = -s, s
        matrix = turn @ matrix
    return matrix.T


def draw_body(random: np.random.Generator) -> Body:
    """A patient: size, position, tilt, fat, arms, organ places and sizes, and uptakes within their usual ranges."""
    fat = float(random.uniform(5.0, 16.0))
    arms_up = bool(random.random() < 0.65)
    covers = _Builder(random)
    _limbs_and_head(covers, fat, arms_up, bool(random.random() < 0.5))
    organs = _Builder(random)
    _head(organs)
    _bones(organs, arms_up)
    _chest(organs)
    _abdomen(organs)
    _pelvis(organs)
    hu, suv = _tissues(random)
    return Body(
        to_body=_pose(random),
        fat_mm=fat,
        wall_mm=float(random.uniform(11.0, 15.0)),
        rib_slope=float(random.uniform(0.22, 0.38)),
        vertebra_mm=float(random.uniform(20.0, 24.0)),
        covers=tuple(covers.solids),
        organs=tuple(organs.solids),
        hu=hu,
        suv=suv,
    )


def _pose(random: np.random.Generator) -> Float64[np.ndarray, "3 4"]:
    across, deep = random.uniform(0.92, 1.04, 2)
    along = random.uniform(0.96, 1.015)
    x, y = random.uniform(-7, 7), random.uniform(-10, 10)
    roll = np.radians(random.normal(0, 1.5))
    lean_x, lean_y = random.normal(0, 0.02, 2)
    c, s = np.cos(roll), np.sin(roll)
    linear = np.array(
        [
            [c / across, s / across, -np.clip(lean_x, -0.04, 0.04) / along],
            [-s / deep, c / deep, -np.clip(lean_y, -0.04, 0.04) / along],
            [0, 0, 1 / along],
        ]
    )
    middle = np.array([x, y, _MIDDLE_MM + random.uniform(-3, 3)])
    return np.column_stack([linear, np.array([0, 0, _MIDDLE_MM]) - linear @ middle])


def _tissues(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    hu, suv = np.array([_TYPICAL[tissue] for tissue in Tissue], dtype=np.float64).T
    for tissue in (Tissue.MUSCLE, Tissue.LIVER, Tissue.SPLEEN, Tissue.KIDNEY):
        hu[tissue] += random.uniform(-8, 8) if tissue is not Tissue.LIVER else random.uniform(-12, 2)
    hu[Tissue.LUNG] += random.uniform(-40, 40)
    brain = random.uniform(-0.3, 0.4)
    suv[[Tissue.GREY_MATTER, Tissue.WHITE_MATTER]] += brain
    for tissue, low, high in (
        (Tissue.MUSCLE, 1.05, 1.4),
        (Tissue.VISCERA, 1.0, 1.3),
        (Tissue.LIVER, 1.85, 2.35),
        (Tissue.MYOCARDIUM, 2.5, 8.5),
        (Tissue.KIDNEY, 2.6, 4.5),
        (Tissue.RENAL_PELVIS, 5.0, 12.0),
        (Tissue.URETER, 1.5, 8.0),
        (Tissue.BLADDER, 9.0, 28.0),
        (Tissue.BOWEL, 1.4, 2.6),
        (Tissue.COLON, 1.5, 3.8),
        (Tissue.STOMACH, 1.5, 2.6),
        (Tissue.MARROW, 1.4, 2.0),
        (Tissue.GLAND, 1.8, 3.2),
    ):
        suv[tissue] = random.uniform(low, high)
    return hu, suv


def _limbs_and_head(make: _Builder, fat: float, arms_up: bool, breasts: bool) -> None:
    skin = min(fat, 9.0)
    for tissue, less in ((Tissue.FAT, 0.0), (Tissue.MUSCLE, 1.0)):
        make.pair(tissue, (76, -2, 30), (73 - less * fat, 82 - less * fat, 105))
        make.add(tissue, (0, 4, 392), (61 - 4 * less, 75 - 4 * less, 51 - 4 * less))
        make.add(tissue, (0, 38, 366), (40 - 4 * less, 42 - 4 * less, 31 - 4 * less), turn=(-12, 0, 0))
        if arms_up:
            make.pair(tissue, (121, -2, 388), (29 - less * skin, 31 - less * skin, 112), turn=(0, -11, 0))
        else:
            make.pair(tissue, (165, -8, 178), (27 - less * skin, 29 - less * skin, 138), turn=(0, -3, 0))
    if breasts:
        make.group(6, 0.15)
        make.pair(Tissue.FAT, (62, 86, 250), (48, 36, 28), turn=(10, 0, 0))
        make.pair(Tissue.GLAND, (62, 96, 248), (20, 12, 12))


def _head(make: _Builder) -> None:
    make.group(0, 0.02)
    # The face comes first: where skull and brain meet it, they win.
    make.add(Tissue.CORTEX, (0, 42, 364), (33, 33, 22), turn=(-12, 0, 0), hollow=0.84)
    make.add(Tissue.AIRWAY, (0, 58, 364), (11, 15, 9))
    make.pair(Tissue.DISC, (24, 66, 374), (11, 10, 8))
    make.add(Tissue.AIRWAY, (0, 20, 346), (10, 8, 20))
    make.pair(Tissue.GLAND, (34, 14, 350), (8, 10, 9))
    make.add(Tissue.CORTEX, (0, 4, 392), (56, 70, 46.5))
    make.add(Tissue.GREY_MATTER, (0, 4, 392), (50.5, 64, 41.5))
    make.add(Tissue.WHITE_MATTER, (0, 4, 393), (33, 46, 27))
    make.add(Tissue.GREY_MATTER, (0, 8, 391), (19, 20, 12))
    make.add(Tissue.DISC, (0, 0, 397), (7, 22, 6))


def _bones(make: _Builder, arms_up: bool) -> None:
    make.group(2, 0.04)
    make.bone((84, 0, 36), (22, 21, 14))
    make.bone((97, -2, 8), (15, 15, 40), cortex_mm=5)
    make.bone((72, -26, 74), (13, 46, 34), turn=(0, 14, 38))
    make.add(Tissue.CORTEX, (0, -66, 60), (40, 17, 28), turn=(-14, 0, 0))
    make.add(Tissue.MARROW, (0, -66, 60), (37, 14, 25), turn=(-14, 0, 0))
    make.bone((34, 42, 26), (32, 9, 9), turn=(0, -8, -24))
    make.bone((52, -34, 20), (13, 14, 14))
    make.group(2, 0.04)
    make.bone((66, 44, 310), (52, 7, 6), turn=(0, -4, -14))
    make.bone((94, -66, 284), (34, 6, 26), turn=(0, 0, 26), cortex_mm=2)
    make.add(Tissue.MARROW, (0, 80, 258), (15, 6, 36), turn=(-8, 0, 0))
    if arms_up:
        make.bone((132, -4, 306), (19, 19, 13))
        make.bone((121, -2, 386), (11, 11, 90), turn=(0, -11, 0), cortex_mm=4)
    else:
        make.bone((142, -8, 298), (18, 18, 13))
        make.bone((164, -8, 190), (10, 10, 112), turn=(0, -3, 0), cortex_mm=4)


def _chest(make: _Builder) -> None:
    random = make.random
    make.group(3, 0.05)
    make.add(Tissue.VISCERA, (0, 5, 164), (124, 104, 38), within=_CAVITY)
    make.add(Tissue.MEDIASTINUM, (0, 4, 262), (33, 74, 68), within=_CAVITY)
    for side in (1, -1):
        for _ in range(9):
            reach = random.uniform(16, 32)
            up, out = random.uniform(-70, 70), random.uniform(-60, 60)
            centre = (side * (24 + 0.8 * reach), -6 + 0.5 * out * reach / 32, 252 + 0.45 * up * reach / 32)
            make.add(Tissue.VESSEL, centre, (reach, 3.2, 2.8), turn=(0, -side * up * 0.6, side * out), within=_CAVITY)
    make.group(3, 0.05)
    make.add(Tissue.BLOOD, (-16, 30, 228), (56, 46, 36), turn=(0, -14, -20), within=_CHEST)
    make.add(Tissue.BLOOD, (8, 14, 268), (15, 15, 28), within=_CHEST)
    make.add(Tissue.BLOOD, (-6, -4, 288), (14, 34, 11), turn=(0, 0, -22), within=_CHEST)
    make.add(Tissue.BLOOD, (-22, -36, 228), (11, 11, 76), within=_CHEST)
    # The left ventricle: a cup whose tip points to the left, front and feet, open towards the base.
    make.add(Tissue.MYOCARDIUM, (-36, 26, 225), (29, 29, 36), turn=(52, 30, 0), open_above=0.55, hollow=0.63)
    make.group()
    make.add(Tissue.AIRWAY, (0, -12, 306), (9, 8, 46))
    make.pair(Tissue.AIRWAY, (18, -16, 261), (22, 6, 5), turn=(0, 24, 0), within=_CHEST)
    make.pair(Tissue.GLAND, (15, 2, 328), (9, 8, 11))


def _abdomen(make: _Builder) -> None:
    random = make.random
    make.group(4, 0.05)
    make.add(Tissue.MUSCLE, (40, -52, 104), (22, 20, 44), within=_CAVITY)
    make.add(Tissue.MUSCLE, (-40, -52, 104), (22, 20, 44), within=_CAVITY)
    make.group(4, 0.06)
    make.add(Tissue.SPLEEN, (-92, -34, 174), (27, 40, 25), turn=(0, 12, 16), within=_CAVITY)
    make.group(4, 0.08)
    make.add(Tissue.STOMACH, (-58, 30, 176), (42, 34, 22), turn=(0, 18, -18), within=_CAVITY)
    make.add(Tissue.AIRWAY, (-60, 48, 184), (18, 10, 8), within=_CAVITY | {Tissue.STOMACH})
    make.group(4, 0.05)
    make.add(Tissue.LIVER, (66, 2, 176), (72, 78, 38), turn=(0, 10, 0), within=_CAVITY)
    make.add(Tissue.LIVER, (4, 44, 184), (62, 36, 20), turn=(0, 10, 8), within=_CAVITY)
    make.add(Tissue.STOMACH, (48, 52, 152), (12, 16, 10), within=_CAVITY | {Tissue.LIVER})
    make.group(2, 0.05)
    make.add(Tissue.BLOOD, (-8, -22, 130), (9, 9, 62), within=_BELLY)
    make.add(Tissue.BLOOD, (14, -20, 136), (10, 9, 60), within=_BELLY)
    make.group(3, 0.06)
    make.add(Tissue.COLON, (92, 4, 102), (19, 20, 32), within=_BELLY)
    make.add(Tissue.COLON, (-96, -2, 106), (16, 17, 38), within=_BELLY)
    make.add(Tissue.COLON, (0, 62, 132), (86, 15, 11), turn=(0, 6, 0), within=_BELLY)
    make.add(Tissue.AIRWAY, (86, 12, 106), (9, 8, 10), within=_BELLY)
    for _ in range(14):
        centre = (random.uniform(-72, 72), random.uniform(0, 62), random.uniform(74, 120))
        turn = (random.uniform(-40, 40), random.uniform(-40, 40), random.uniform(0, 180))
        length = random.uniform(18, 34)
        make.add(Tissue.BOWEL, centre, (length, 10.5, 8.5), turn=turn, within=_CAVITY)
    for side in (1, -1):
        make.group(5, 0.08)
        x, z = side * 60, 134 - 4 * side
        make.add(Tissue.KIDNEY, (x, -42, z), (25, 23, 29), turn=(0, -8 * side, 30 * side), within=_BELLY)
        pelvis = frozenset({Tissue.KIDNEY})
        make.add(Tissue.RENAL_PELVIS, (x - 9 * side, -38, z), (10, 9, 13), within=pelvis | _BELLY)
        make.add(Tissue.URETER, (x - 24 * side, -34, z - 34), (3.6, 3.6, 20), turn=(0, -6 * side, 0), within=_BELLY)


def _pelvis(make: _Builder) -> None:
    make.group(4, 0.05)
    make.add(Tissue.COLON, (0, -32, 44), (15, 14, 20))
    make.group(5, 0.14)
    make.add(Tissue.BLADDER, (0, 30, 46), (33, 27, 17))
