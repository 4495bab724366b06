"""One case as a small picture of a few kilobytes: where the error is largest, with what is wrong coloured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from segue.catalogue import Channel
from segue.core.errors import DataError
from segue.view.colours import colour_bytes, is_colour, to_bytes
from segue.view.picture import Display, display_of
from segue.view.planes import CORONAL, PLANES, Focus, Plane, cut, find_focus, project, window_mm
from segue.view.tiles import Tile, as_webp, draw_tile, side_by_side
from segue.view.windows import window_for
from segue.volume import Volume

HEIGHT_PX = 152
_WIDEST = 2.2  # of a tile, in heights
_AXIAL = PLANES[0]


def small_picture(
    image: Volume,
    channels: Sequence[Channel],
    labels: Mapping[int, str],
    truth: Volume | None,
    prediction: Volume | None,
    *,
    most_bytes: int = 16_000,
    height_px: int = HEIGHT_PX,
) -> bytes:
    """A WebP of one case: the slices with most voxels that truth and prediction disagree on, outlined and coloured.

    Of a picture all of it; of a PET the axial slice (of its CT too) and the coronal maximum-intensity projection; of
    other images an axial, coronal and sagittal slice of the first channel. CT is shown in the window of its labels
    (:func:`segue.view.windows.window_for`), SUV from 0 to 10 with dark for high, others from their 1st to their 99th
    percentile. Colours and outlines: :func:`segue.view.tiles.draw_tile`. Radiological convention, true proportions.

    Args:
        image: ``(c, i, j, k)`` in any orientation.
        labels: number to name of what is outlined; other numbers in the masks are not.
        truth, prediction: masks on the image's grid, or None.

    Raises:
        DataError: a mask on another grid than the image.
    """
    for name, mask in (("truth", truth), ("prediction", prediction)):
        difference = image.geometry.difference(mask.geometry) if mask is not None else None
        if difference:
            raise DataError(f"image and {name} lie on different grids", value=difference)
    canonical = image.oriented("RAS")
    shown = [
        None if mask is None else _named_only(mask.oriented("RAS").array[0], labels) for mask in (truth, prediction)
    ]
    scene = _Scene(canonical, channels, labels, shown[0], shown[1], height_px)
    return as_webp(side_by_side([draw_tile(tile) for tile in scene.tiles()]), most_bytes)


def _named_only(mask: Shaped[np.ndarray, "i j k"], labels: Mapping[int, str]) -> Shaped[np.ndarray, "i j k"]:
    unnamed = [number for number in np.unique(mask).tolist() if number and number not in labels]
    return np.where(np.isin(mask, unnamed), 0, mask) if unnamed else mask


class _Scene:
    """Which slices of which channels, and how large."""

    def __init__(
        self,
        image: Volume,
        channels: Sequence[Channel],
        labels: Mapping[int, str],
        truth: Shaped[np.ndarray, "i j k"] | None,
        prediction: Shaped[np.ndarray, "i j k"] | None,
        height_px: int,
    ) -> None:
        self.image, self.channels, self.labels = image, channels, labels
        self.truth, self.prediction, self.height_px = truth, prediction, height_px
        self.shape, self.step = image.geometry.shape, image.geometry.spacing_mm
        self.focus = worst_place(truth, prediction, self.shape, self.step)
        self.window = window_mm(self.focus, self.shape, self.step)

    def tiles(self) -> list[Tile]:
        flat = [plane for plane in PLANES if self.shape[plane.across] > 1 and self.shape[plane.up] > 1]
        if len(flat) < 3:
            return [self._whole_picture((flat or [_AXIAL])[0])]
        units = [channel.unit for channel in self.channels]
        if "SUV" not in units:
            return [self._slice(0, plane) for plane in PLANES]
        pet = units.index("SUV")
        first = [self._slice(units.index("HU"), _AXIAL)] if "HU" in units else []
        return [*first, self._slice(pet, _AXIAL), self._slice(pet, CORONAL), self._projection(pet)]

    def _slice(self, channel: int, plane: Plane) -> Tile:
        first, last = zip(*(self._range(axis) for axis in (plane.across, plane.up)), strict=True)
        box = np.s_[first[1] : last[1], first[0] : last[0]]
        values = cut(self.image.array[channel], plane, self.focus.voxel)[box]
        # All slices in one scale.
        highest = max(self._extent(one.up) for one in PLANES)
        scale = self.height_px / highest
        size = self._size(scale * self._extent(plane.across), scale * self._extent(plane.up))
        masks = [
            None if mask is None else _upright(cut(mask, plane, self.focus.voxel)[box])
            for mask in (self.truth, self.prediction)
        ]
        name = self.channels[channel].name if len(self.channels) > 1 and plane is _AXIAL else ""
        return self._tile(channel, values, size, masks, plane, name)

    def _projection(self, channel: int) -> Tile:
        plane = CORONAL
        values = project(self.image.array[channel], plane)
        masks = [
            None if mask is None else _upright(project(mask, plane).astype(mask.dtype))
            for mask in (self.truth, self.prediction)
        ]
        across, up = (self.shape[axis] * self.step[axis] for axis in (plane.across, plane.up))
        size = self._size(self.height_px * across / up, self.height_px)
        return self._tile(channel, values, size, masks, plane, "MIP")

    def _tile(
        self,
        channel: int,
        values: Shaped[np.ndarray, "up across"],
        size: tuple[int, int],
        masks: list[np.ndarray | None],
        plane: Plane,
        title: str,
    ) -> Tile:
        display = self._display(channel)
        grey = to_bytes(np.nan_to_num(values.astype(np.float32), nan=display.low), display.low, display.high)
        pixels = _upright(255 - grey if display.inverted else grey)
        return Tile(pixels, size, masks[0], masks[1], display.inverted, (plane.left, plane.right), title[:12])

    def _display(self, channel: int) -> Display:
        display = display_of(self.channels[channel], self.image.array[channel])
        if self.channels[channel].unit == "HU":
            window = window_for(list(self.labels.values()))
            display = replace(display, low=window.low, high=window.high)
        return display

    def _whole_picture(self, plane: Plane) -> Tile:
        across, up = (self.shape[axis] * self.step[axis] for axis in (plane.across, plane.up))
        size = self._size(self.height_px * across / up, self.height_px)
        masks = [
            None if mask is None else _upright(cut(mask, plane, self.focus.voxel))
            for mask in (self.truth, self.prediction)
        ]
        if is_colour(self.channels):
            colours: list[UInt8[np.ndarray, "up across"]] = [
                cut(channel, plane, self.focus.voxel) for channel in colour_bytes(self.image.array)
            ]
            return Tile(_upright(np.stack(colours, axis=-1)), size, masks[0], masks[1])
        tile = self._tile(0, cut(self.image.array[0], plane, self.focus.voxel), size, masks, plane, "")
        return replace(tile, marks=("", ""))  # a picture has no patient axes that one could trust

    def _range(self, axis: int) -> tuple[int, int]:
        low, high = self.window[axis]
        step = self.step[axis]
        return max(0, round(low / step + 0.5)), min(self.shape[axis], max(1, round(high / step + 0.5)))

    def _extent(self, axis: int) -> float:
        low, high = self._range(axis)
        return (high - low) * self.step[axis]

    def _size(self, wide: float, high: float) -> tuple[int, int]:
        most = _WIDEST * self.height_px
        scale = min(1.0, most / wide)
        return max(8, round(scale * wide)), max(8, round(scale * high))


def _upright(section: np.ndarray) -> np.ndarray:
    """As a picture has it: what grows upwards and to the left in a plane comes first."""
    return section[::-1, ::-1]


def worst_place(
    truth: Shaped[np.ndarray, "i j k"] | None,
    prediction: Shaped[np.ndarray, "i j k"] | None,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> Focus:
    """The largest connected disagreement, cut in each axis where it has most voxels; without any, where
    :func:`segue.view.planes.find_focus` looks."""
    if truth is None or prediction is None:
        return find_focus(_there(truth), _there(prediction), shape, spacing_mm)
    wrong = truth != prediction
    if not wrong.any():
        return find_focus(_there(truth), None, shape, spacing_mm)
    focus = find_focus(wrong, None, shape, spacing_mm)
    box = tuple(slice(low, high + 1) for low, high in zip(focus.low, focus.high, strict=True))
    inside = wrong[box]
    voxel = [
        focus.low[axis] + int(inside.sum(axis=tuple(other for other in range(3) if other != axis)).argmax())
        for axis in range(3)
    ]
    return replace(focus, voxel=(voxel[0], voxel[1], voxel[2]))


def _there(mask: Shaped[np.ndarray, "i j k"] | None) -> Bool[np.ndarray, "i j k"] | None:
    return None if mask is None else mask > 0
