"""Pictures of cases and the report of a run.

Where an outline must lie is known from the world coordinates of the voxels (nibabel's affine), never from our own
code; pixels are read back from the PNG.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

from segue.catalogue import Card, Case, Channel
from segue.core.errors import DataError
from segue.core.files import jsonable, write_json, write_text
from segue.evaluate import Pair, aggregate, score_pair, write_metrics
from segue.images import read_labels, write
from segue.prepare import Network, Normalisation, Plan
from segue.train import EventLog, Run
from segue.view import case_picture, write_report
from segue.view.curves import learning_curves
from segue.view.facts import Part
from segue.view.gallery import chosen_cases
from segue.view.planes import PLANES, cut, find_focus, project, window_mm
from segue.volume import Geometry, Volume

MR = [Channel(name="MR")]
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def grid(shape_ras: tuple[int, int, int], spacing_ras: tuple[float, float, float], codes: str) -> Geometry:
    """A grid over the same field of view, centred on the world's origin, stored in the order of ``codes``."""
    affine = np.diag([*spacing_ras, 1.0])
    affine[:3, 3] = -0.5 * (np.array(shape_ras) - 1) * np.array(spacing_ras)
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    shape = [0, 0, 0]
    for axis, (target, _) in enumerate(transform):
        shape[int(target)] = shape_ras[axis]
    return Geometry(tuple(shape), affine @ inv_ornt_aff(transform, shape_ras))


def block(geometry: Geometry, centre_mm: tuple[float, float, float], size_mm: float) -> np.ndarray:
    """Voxels whose centres lie in a cube of the world."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)
    world = nibabel.affines.apply_affine(geometry.affine, index)
    return (np.abs(world - np.array(centre_mm)) <= size_mm / 2).all(axis=-1)


def labels(mask: np.ndarray, geometry: Geometry) -> Volume:
    return Volume(mask.astype(np.uint8)[None], geometry, "labels", "labels")


def pixels(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(image: np.ndarray, colour: tuple[int, int, int], most: int = 60) -> np.ndarray:
    return np.abs(image - np.array(colour)).max(axis=-1) < most


ORANGE, BLUE = (230, 159, 0), (86, 180, 233)
VERMILLION, DARK_BLUE = (213, 94, 0), (0, 114, 178)


def panels(png: bytes) -> list[np.ndarray]:
    """The picture cut at the columns of bare ground, without title and legend."""
    image = pixels(png)[24:-36]
    bare = near(image, (20, 23, 28), 4).all(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], bare, [True]]).astype(int)))
    return [image[:, start:end] for start, end in edges.reshape(-1, 2) if end - start > 20]


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1], columns[0], columns[-1]


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_outline_lies_on_its_block_undistorted_and_on_the_right_side(codes: str) -> None:
    # 84 x 90 x 90 mm, voxels of 1 x 1.5 x 5 mm; a bright cube of 30 mm, high, in front, on the patient's right
    geometry = grid((84, 60, 18), (1.0, 1.5, 5.0), codes)
    cube = block(geometry, (20.0, 15.0, 15.0), 30.0)  # its faces lie on voxel faces
    image = Volume(cube.astype(np.float32)[None] * 100, geometry)
    png = case_picture(image, MR, {1: "thing"}, labels(cube, geometry), None)
    axial, coronal, sagittal = panels(png)
    for panel, across_mm, up_mm in ((axial, 84, 90), (coronal, 84, 90), (sagittal, 90, 90)):
        top, bottom, left, right = box(near(panel, ORANGE))
        assert (right - left) / (bottom - top) == pytest.approx(1.0, abs=0.05)  # a cube is a square everywhere
        assert panel.shape[1] / across_mm == pytest.approx(axial.shape[0] / up_mm, rel=0.02)  # one scale in mm
        scale = panel.shape[1] / across_mm
        assert right - left == pytest.approx(30 * scale, abs=8)
        bright = near(panel, (255, 255, 255), 40)
        inside = bright[top:bottom, left:right]
        assert inside.mean() > 0.8  # the bright block fills the outline
        # patient's right (or front) on the left of the picture; head and front are up
        assert (left + right) / 2 < panel.shape[1] / 2
        assert (top + bottom) / 2 < panel.shape[0] / 2
    # the middle of the cube, 20 mm to the right of the midline: (42 - 20) mm from the left edge of the axial slice
    _, _, left, right = box(near(axial, ORANGE))
    assert (left + right) / 2 / axial.shape[1] == pytest.approx((42 - 20) / 84, abs=0.02)
    _, _, left, right = box(near(sagittal, ORANGE))
    assert (left + right) / 2 / sagittal.shape[1] == pytest.approx((45 - 15) / 90, abs=0.02)


def test_every_orientation_gives_the_same_picture() -> None:
    def picture(codes: str) -> np.ndarray:
        geometry = grid((40, 44, 20), (1.5, 1.5, 3.0), codes)
        mask = block(geometry, (8.0, -6.0, 4.0), 20.0)
        shifted = block(geometry, (11.0, -6.0, 4.0), 20.0)
        image = Volume((10.0 * mask + block(geometry, (-15.0, 10.0, -10.0), 18.0)).astype(np.float32)[None], geometry)
        return pixels(case_picture(image, MR, {1: "a"}, labels(mask, geometry), labels(shifted, geometry)))

    reference = picture("RAS")
    for codes in ("LPI", "ASR", "IRP"):
        # an affine rounds differently by way of another orientation
        assert (np.abs(picture(codes) - reference).max(axis=-1) > 30).mean() < 1e-3


def test_prediction_and_truth_have_their_own_colours_and_both_show_where_they_agree() -> None:
    geometry = grid((60, 60, 60), (1.5, 1.5, 1.5), "RAS")
    mask = block(geometry, (0.0, 0.0, 0.0), 30.0)
    image = Volume(np.zeros((1, 60, 60, 60), np.float32), geometry)
    same = panels(case_picture(image, MR, {1: "a"}, labels(mask, geometry), labels(mask, geometry)))[0]
    assert near(same, ORANGE).sum() > 100 and near(same, BLUE).sum() > 100
    truth_only = panels(case_picture(image, MR, {1: "a"}, labels(mask, geometry), None))[0]
    assert near(truth_only, BLUE).sum() == 0
    shifted = block(geometry, (-15.0, 0.0, 0.0), 30.0)  # to the patient's left: to the right of the picture
    apart = panels(case_picture(image, MR, {1: "a"}, labels(mask, geometry), labels(shifted, geometry)))[0]
    assert box(near(apart, BLUE))[2] > box(near(apart, ORANGE))[2] + 20


def test_slices_go_through_the_largest_truth_then_the_prediction_then_the_middle() -> None:
    shape, spacing = (40, 50, 60), (1.0, 1.0, 1.0)
    truth = np.zeros(shape, bool)
    truth[2:5, 2:5, 2:5] = True
    truth[20:31, 20:27, 30:41] = True
    other = np.zeros(shape, bool)
    other[6:11, 40:45, 50:55] = True
    assert find_focus(truth, other, shape, spacing).voxel == (25, 23, 35)
    assert find_focus(truth & False, other, shape, spacing).voxel == (8, 42, 52)
    nothing = find_focus(truth & False, None, shape, spacing)
    assert nothing.voxel == (20, 25, 30) and not nothing.found
    ring = np.zeros(shape, bool)
    ring[10:31, 10:31, 30] = True
    ring[13:28, 13:28, 30] = False
    assert ring[find_focus(ring, None, shape, spacing).voxel]  # its centre of mass is a hole


def test_a_small_lesion_is_shown_in_a_window_that_stays_inside_the_image() -> None:
    shape, spacing = (200, 200, 300), (2.0, 2.0, 3.0)
    truth = np.zeros(shape, bool)
    truth[195:200, 100:105, 0:4] = True
    focus = find_focus(truth, None, shape, spacing)
    for (low, high), step, count, axis in zip(window_mm(focus, shape, spacing), spacing, shape, range(3), strict=True):
        assert high - low == pytest.approx(120.0)
        assert low >= -0.5 * step and high <= (count - 0.5) * step
        assert low <= focus.voxel[axis] * step <= high


def test_cut_and_project_take_the_plane_they_name() -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    axial, coronal, sagittal = PLANES
    np.testing.assert_array_equal(cut(array, axial, (0, 0, 3)), array[:, :, 3].T)
    np.testing.assert_array_equal(cut(array, coronal, (0, 2, 0)), array[:, 2, :].T)
    np.testing.assert_array_equal(cut(array, sagittal, (1, 0, 0)), array[1].T)
    np.testing.assert_array_equal(project(array, coronal), array.max(axis=1).T)


def test_pet_is_dark_for_high_and_its_projection_shows_every_lesion() -> None:
    geometry = grid((60, 40, 100), (4.0, 4.0, 4.0), "LPS")
    one, two = block(geometry, (60.0, 40.0, 120.0), 24.0), block(geometry, (-60.0, -40.0, -120.0), 40.0)
    suv = np.where(one | two, 12.0, 0.5)
    image = Volume(np.stack([np.where(one, 60.0, -900.0), suv]).astype(np.float32), geometry)
    channels = [Channel(name="CT", unit="HU"), Channel(name="PET", unit="SUV")]
    truth = labels(one | two, geometry)
    parts = panels(case_picture(image, channels, {1: "lesion"}, truth, labels(two, geometry)))
    assert len(parts) == 4
    axial, projection = parts[0], parts[3]
    ct, pet = axial[: axial.shape[0] // 2 - 20], axial[axial.shape[0] // 2 + 20 :]
    assert ct.mean() < 60 and pet.mean() > 150  # air is black on CT, background is white on PET
    lesion = near(projection, (0, 0, 0), 60)
    assert lesion.sum() > 100
    drawn = near(projection, VERMILLION)
    half = projection.shape[0] // 2
    assert drawn[:half].any() and drawn[half:].any()  # both lesions, though the slices meet one only
    # the upper lesion lies on the patient's right: on the left
    assert box(drawn[:half])[3] < projection.shape[1] / 2 < box(drawn[half:])[2]
    assert not near(projection[:half], DARK_BLUE, 30).any() and near(projection[half:], DARK_BLUE).any()


def test_nothing_outlined_is_a_picture_all_the_same() -> None:
    geometry = grid((30, 30, 10), (1.0, 1.0, 4.0), "RAS")
    image = Volume(np.random.default_rng(0).normal(size=(1, 30, 30, 10)).astype(np.float32), geometry)
    empty = labels(np.zeros((30, 30, 10)), geometry)
    for truth, prediction in ((empty, empty), (None, empty), (None, None)):
        parts = panels(case_picture(image, MR, {1: "a"}, truth, prediction))
        assert len(parts) == 3
        assert not any(near(part, ORANGE, 40).any() for part in parts)


@pytest.mark.parametrize("values", [np.zeros, lambda shape: np.full(shape, np.nan)])
def test_constant_and_undefined_images_are_drawn(values) -> None:
    geometry = grid((20, 20, 20), (1.0, 1.0, 1.0), "RAS")
    image = Volume(values((1, 20, 20, 20)).astype(np.float32), geometry)
    assert len(panels(case_picture(image, MR, {1: "a"}, labels(np.ones((20, 20, 20)), geometry), None))) == 3


def test_a_flat_image_has_one_panel_and_no_patient_sides() -> None:
    geometry = grid((60, 40, 1), (1.0, 1.0, 1.0), "RAS")
    mask = block(geometry, (15.0, 5.0, 0.0), 12.0)
    image = Volume(mask.astype(np.float32)[None], geometry)
    (only,) = panels(case_picture(image, MR, {1: "a"}, labels(mask, geometry), None))
    assert only.shape[1] / only.shape[0] == pytest.approx(60 / 40, rel=0.03)


def test_many_labels_and_odd_names_do_not_stop_the_picture() -> None:
    geometry = grid((40, 40, 40), (1.0, 1.0, 1.0), "RAS")
    mask = np.zeros((40, 40, 40), np.uint8)
    for number in range(1, 8):
        mask[5 * number - 3 : 5 * number, 10:30, 10:30] = number
    names = {number: f"_{number} $\\frac{{$ {EVIL}" for number in range(1, 8)}
    image = Volume(mask.astype(np.float32)[None], geometry)
    truth = Volume(mask[None], geometry, "labels", "labels")
    odd = [Channel(name="$\\alpha_{ " + EVIL)]
    few = {number: names[number] for number in (1, 2, 3)}
    for wanted in (names, few):
        axial = panels(case_picture(image, odd, wanted, truth, truth))[0]
        columns = np.flatnonzero(near(axial, ORANGE).sum(axis=0) > 60)
        assert np.count_nonzero(np.diff(columns) > 5) + 1 >= len(wanted)  # at least an upright line for each


def test_masks_on_another_grid_and_other_channels_are_refused() -> None:
    geometry = grid((20, 20, 20), (1.0, 1.0, 1.0), "RAS")
    image = Volume(np.zeros((1, 20, 20, 20), np.float32), geometry)
    moved = labels(np.zeros((20, 20, 20)), grid((20, 20, 20), (1.0, 1.0, 2.0), "RAS"))
    with pytest.raises(DataError, match="prediction lie on different grids"):
        case_picture(image, MR, {1: "a"}, None, moved)
    with pytest.raises(DataError, match="number of channels"):
        case_picture(image, MR * 2, {1: "a"}, None, None)


@dataclass
class FakeRun:
    """A run folder as the training leaves it, from synthetic cases."""

    folder: Path
    names: dict[int, str] = field(default_factory=lambda: {1: "lesion"})
    channels: list[Channel] = field(default_factory=lambda: list(MR))
    title: str = "Test lesions"
    truths: dict[str, Case] = field(default_factory=dict)
    pairs: dict[str, list[Pair]] = field(default_factory=lambda: {"val": [], "test": []})

    @property
    def run(self) -> Run:
        return Run(self.folder / "run")

    def add(self, name: str, volume: Volume, truth: Volume, prediction: Volume, part: str = "val") -> None:
        data = self.folder / "data"
        write(volume, data / f"{name}.nii.gz")
        write(truth, data / f"{name}_mask.nii.gz")
        predicted = self.run.predictions(part) / f"{name}.nii.gz"
        write(prediction, predicted)
        self.truths[name] = Case(name, f"patient of {name}", (data / f"{name}.nii.gz",), data / f"{name}_mask.nii.gz")
        self.pairs[part].append(Pair(name, f"patient of {name}", predicted, data / f"{name}_mask.nii.gz", self.names))

    def add_blocks(self, name: str, size_mm: float, shift_mm: float, part: str = "val", codes: str = "LPS") -> None:
        geometry = grid((48, 48, 16), (1.0, 1.0, 3.0), codes)
        truth = block(geometry, (6.0, 4.0, 0.0), size_mm) if size_mm else np.zeros(geometry.shape, bool)
        prediction = block(geometry, (6.0 - shift_mm, 4.0, 0.0), size_mm or shift_mm)
        noise = np.random.default_rng(len(name)).normal(size=geometry.shape)
        volume = Volume((noise + 4 * truth).astype(np.float32)[None].repeat(len(self.channels), 0), geometry)
        self.add(name, volume, labels(truth, geometry), labels(prediction, geometry), part)

    def write_plan(self) -> None:
        card = Card.model_validate(
            {
                "name": "test/lesions",
                "title": self.title,
                "channels": self.channels,
                "labels": self.names,
                "layout": {"kind": "decathlon"},
                "licence": {"spdx": "CC-BY-4.0", "note": "name the authors"},
                "citations": [
                    {"key": "a", "authors": ["Doe, J", "others"], "title": "Lesions", "year": 2020, "doi": "10.1/x"}
                ],
                "access": {"kind": "open", "homepage": "javascript:alert(1)"},
            }
        )
        plan = Plan(
            dataset=card.name,
            dimension=3,
            channels=card.channels,
            labels=card.labels,
            ignore_label=None,
            spacing_mm=(1.0, 1.0, 3.0),
            normalisation=[Normalisation(kind="image")] * len(card.channels),
            patch=(32, 32, 16),
            batch=2,
            network=Network(),
            mirror_axes=[],
            foreground_share=0.5,
            overlap=0.5,
            reasons={"patch": "the reason for the patch", "batch": "set by you"},
        )
        write_json(self.run.folder / "card.json", card)
        write_json(self.run.folder / "plan.json", plan)
        train = [{"id": f"t{n}", "patient": f"t{n}", "digest": ""} for n in range(7)]
        parts = {part: [{"id": p.case, "patient": p.patient} for p in pairs] for part, pairs in self.pairs.items()}
        write_json(self.run.folder / "split.json", {"train": train, **parts})

    def write_events(self) -> None:
        log = EventLog(self.run.events)
        log.write("started", device="cpu")
        for step in range(1, 20):
            log.write("step", step=step, seconds=7.0 * step, loss=1.0 / step, learning_rate=1e-3)
        dice = dict.fromkeys(self.names.values(), 0.8)
        log.write("validated", step=10, seconds=70.0, dice=dice, mean_dice=0.8, best=True)
        log.write("resumed", step=19, seconds=133.0)
        log.write("finished", step=19, seconds=133.0, best_dice=0.8)
        log.close()

    def write_rest(self) -> None:
        left = {
            "case": "broken_1",
            "severity": "error",
            "what": "the file is cut short",
            "value": "3 bytes",
            "remedy": "fetch it",
        }
        write_json(self.run.folder / "findings.json", {"left_out": [left], "findings": [left]})
        environment = {
            "python": "3.11",
            "device": "cpu",
            "command": "segue train test/lesions",
            "seconds: train": "133.0",
        }
        write_json(self.run.folder / "environment.json", environment)
        write_text(self.run.config, yaml.safe_dump(jsonable({"dataset": "test/lesions", "fold": 0})))

    def measure(self) -> None:
        evaluations = [
            aggregate(part, [score_pair(pair) for pair in pairs]) for part, pairs in self.pairs.items() if pairs
        ]
        write_metrics(self.run.metrics, evaluations)

    def complete(self) -> FakeRun:
        self.write_plan()
        self.write_events()
        self.write_rest()
        self.measure()
        return self


class Page(HTMLParser):
    """Tags, attributes and visible words of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.alts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self._words).split())

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts and self.cdata_elem == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = attributes, text + data
        else:
            self._words.append(data)

    @property
    def data(self) -> dict[str, Any]:
        """What the script of the page draws from."""
        return json.loads(next(text for attributes, text in self.scripts if attributes.get("id") == "page-data"))

    def require_inert(self) -> None:
        """Nothing is loaded, and nothing runs but the one script that the page's policy names by its hash."""
        assert not {"link", "iframe", "object", "embed", "base"} & set(self.tags)
        assert not any(name.startswith("on") for _, name, _ in self.attributes)
        policy = next(value for tag, name, value in self.attributes if tag == "meta" and "default-src" in value)
        assert "default-src 'none'" in policy and "form-action 'none'" in policy
        assert "script-src 'unsafe" not in policy
        for attributes, text in self.scripts:
            assert "src" not in attributes
            if attributes.get("type") == "application/json":
                assert "<" not in text and json.loads(text)
            else:
                assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
        assert len(self.scripts) == 3  # themes, data, charts

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")

    @property
    def pictures(self) -> list[bytes]:
        """Charts and the large pictures of cases."""
        return self._embedded("png")

    @property
    def small_pictures(self) -> list[bytes]:
        """Those of the gallery and of the samples."""
        return self._embedded("webp")

    def _embedded(self, kind: str) -> list[bytes]:
        start = f"data:image/{kind};base64,"
        sources = [value for tag, name, value in self.attributes if tag == "img" and name == "src"]
        assert all(value.startswith(("data:image/png;base64,", "data:image/webp;base64,")) for value in sources)
        return [base64.b64decode(v.removeprefix(start), validate=True) for v in sources if v.startswith(start)]


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    made = FakeRun(tmp_path)
    made.add_blocks("good", 18.0, 1.0)
    made.add_blocks("middling", 18.0, 4.0, codes="RAS")
    made.add_blocks("poor", 18.0, 12.0, codes="PIR")
    return made


def test_report_tells_what_the_metrics_hold(fake: FakeRun) -> None:
    fake.complete()
    path = write_report(fake.run, fake.truths)
    assert path == fake.run.report and path.stat().st_size < 3_000_000
    page = Page(path)
    metrics = json.loads(fake.run.metrics.read_text())["val"]
    mean = metrics["aggregate"]["all"]["dice"]
    assert (
        f"mean Dice of {mean['value']:.3f} (95 % interval {mean['ci95'][0]:.3f} to {mean['ci95'][1]:.3f})" in page.text
    )
    assert "7 patients" in page.text and "3 validation patients" in page.text
    assert "slightly optimistic" in page.text
    assert "1 case was left out: broken_1: the file is cut short (3 bytes)." in page.text
    assert "took 2 min 13 s on the CPU (19 steps)" in page.text
    assert "The reason for the patch." in page.text and "CC-BY-4.0: name the authors" in page.text
    assert "Doe, J et al. (2020)" in page.text and "segue train test/lesions" in page.text
    assert "interrupted and resumed 1 time" in page.text
    table = page.text[page.text.index("worst first") :]
    assert table.index("poor") < table.index("middling") < table.index("good")
    for part in ("best good", "median middling", "worst poor"):
        assert part in page.text
    assert len(page.pictures) == 4 and all(picture.startswith(b"\x89PNG") for picture in page.pictures)
    assert all(page.alts)
    assert not list(fake.run.folder.glob(".*.part.*"))


def test_page_loads_nothing_and_runs_only_its_own_script(fake: FakeRun) -> None:
    fake.complete()
    page = Page(write_report(fake.run, fake.truths))
    page.require_inert()
    for tag, name, value in page.attributes:
        if name in ("src", "srcset"):
            assert value.startswith(("data:image/png;base64,", "data:image/webp;base64,"))
        if name == "href":
            assert value.startswith(("#", "https://doi.org/")), (tag, value)
    without = re.sub(r"(?s)<script.*?</script>", "", fake.run.report.read_text())
    assert "url(" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", without)


def test_markup_in_names_is_inert(tmp_path: Path) -> None:
    made = FakeRun(tmp_path, names={1: EVIL}, channels=[Channel(name=EVIL)], title=EVIL)
    made.add_blocks("<script>alert(3)<b onclick=x>", 18.0, 3.0)
    made.complete()
    bad = {"case": EVIL, "severity": EVIL, "what": EVIL, "value": EVIL, "remedy": EVIL}
    write_json(made.run.folder / "findings.json", {"left_out": [bad], "findings": [bad]})
    write_json(
        made.run.folder / "environment.json", {EVIL: EVIL, "command": EVIL, "device": EVIL, "seconds: " + EVIL: EVIL}
    )
    write_text(made.run.config, yaml.safe_dump({"dataset": EVIL}))
    page = Page(write_report(made.run, made.truths))
    assert page.text.count(EVIL) > 8  # told as text
    assert page.tags.count("script") == 3 and "b" not in page.tags
    page.require_inert()
    assert page.data["cases"]["labels"][0]["name"] == EVIL and "<script>alert(3)" in page.data["cases"]["cases"][0]
    assert len(page.pictures) == 2


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    page = Page(write_report(Run(tmp_path / "run"), {}))
    for words in (
        "Nothing has been measured yet",
        "There is no plan yet",
        "The training has not begun",
        "What was trained on is not known",
        "Quality control left no record",
        "The environment was not recorded",
        "settings are not there",
    ):
        assert words in page.text
    for section in re.split(r"<h2>", (tmp_path / "run" / "report.html").read_text())[1:]:
        words = re.sub(r"<[^>]+>", " ", section.split("</section>")[0].split("</h2>")[1])
        assert len(words.split()) > 4  # no section is blank


def test_a_run_under_way_says_so(fake: FakeRun) -> None:
    fake.write_plan()
    log = EventLog(fake.run.events)
    log.write("started", device="cpu")
    log.write("step", step=5, seconds=30.0, loss=None, learning_rate=1e-3)
    log.write("step", step=9, seconds=60.0, loss=0.5, learning_rate=1e-3)
    log.close()
    page = Page(write_report(fake.run, fake.truths))
    assert "not finished: 60 s and 9 steps so far" in page.text
    assert "No validation yet: only the loss can be shown." in page.text
    assert "mean Dice not measured yet" in page.text


def test_cases_that_failed_are_named_even_if_all_did(fake: FakeRun) -> None:
    fake.complete()
    failed = [{"what": "the file is cut short", "where": "case_9", "value": "3 bytes"}]
    write_json(fake.run.metrics, {"val": {"aggregate": {}, "cases": {}, "failed": failed}})
    page = Page(write_report(fake.run, fake.truths))
    assert "No validation case could be measured." in page.text
    assert "1 case could not be predicted or measured and is in no figure: case_9: the file is cut short." in page.text
    assert "Before you quote" not in page.text


def test_damaged_files_are_told(fake: FakeRun) -> None:
    fake.complete()
    (fake.run.folder / "plan.json").write_text("{")
    write_json(fake.run.metrics, {"val": {"aggregate": {"lesion": {"dice": {"value": "high"}}}}})
    (fake.run.folder / "findings.json").write_bytes(b"\xff\xfe")
    page = Page(write_report(fake.run, fake.truths))
    assert "metrics.json cannot be read: val.aggregate.lesion.dice.value" in page.text
    assert "plan.json cannot be read" in page.text and "findings.json cannot be read" in page.text


def test_gone_images_truths_and_predictions_are_told_in_their_place(fake: FakeRun) -> None:
    fake.complete()
    fake.truths["good"].images[0].unlink()
    (fake.run.predictions("val") / "middling.nii.gz").unlink()
    del fake.truths["poor"]
    page = Page(write_report(fake.run, fake.truths))
    assert "no such image" in page.text
    assert "The prediction of this case is gone: only the truth is outlined." in page.text
    assert "This case is not in the dataset any more" in page.text
    assert len(page.pictures) == 2  # middling and the curves


def test_negative_cases_are_measured_in_ml_and_shown(tmp_path: Path) -> None:
    made = FakeRun(tmp_path)
    made.add_blocks("with", 18.0, 2.0)
    made.add_blocks("invented", 0.0, 9.0)  # no truth; a predicted cube of 9 mm: 9 x 9 x 3 slices of 3 mm
    made.add_blocks("clean", 0.0, 0.0)
    made.complete()
    # a cube of no size holds at most the voxel at its centre
    metrics = json.loads(made.run.metrics.read_text())["val"]
    volume = metrics["cases"]["invented"]["labels"]["lesion"]["volume_ml"]
    page = Page(write_report(made.run, made.truths))
    assert "2 images have no lesion in the reference; the network marked some in 1 of them" in page.text
    assert f"{volume:.2f} ml at most" in page.text
    assert "nothing to find, most marked invented" in page.text and "the only case with" in page.text
    assert "Dice of 0.000" not in page.text
    shown = next(png for png, alt in zip(page.pictures, page.alts, strict=True) if alt.startswith("invented"))
    axial = panels(shown)[0]
    assert near(axial, BLUE).any() and not near(axial, ORANGE, 40).any()


def test_only_empty_cases_have_no_dice(tmp_path: Path) -> None:
    made = FakeRun(tmp_path)
    made.add_blocks("clean", 0.0, 0.0)
    made.complete()
    page = Page(write_report(made.run, made.truths))
    assert "there is no Dice to tell" in page.text
    assert "nothing to find, nothing marked clean" in page.text
    assert len(page.pictures) == 2


def test_chosen_cases_are_distinct_and_ranked() -> None:
    def part(dices: list[float]) -> Part:
        cases = {
            f"c{n}": {"labels": {"a": {"dice": dice, "truth_volume_ml": 1.0, "volume_ml": 1.0}}}
            for n, dice in enumerate(dices)
        }
        return Part.model_validate({"cases": cases})

    assert chosen_cases(part([])) == []
    assert chosen_cases(part([0.5])) == [("c0", "the only case")]
    assert chosen_cases(part([0.5, 0.7])) == [("c1", "best"), ("c0", "worst")]
    assert chosen_cases(part([0.1, 0.9, 0.5, 0.7, 0.3])) == [("c1", "best"), ("c2", "median"), ("c0", "worst")]


def test_test_patients_and_large_pictures_stay_under_three_megabytes(tmp_path: Path) -> None:
    made = FakeRun(tmp_path, names={1: "a", 2: "b"}, channels=[Channel(name=f"m{n}") for n in range(5)])
    noise = np.random.default_rng(0).normal(size=(5, 96, 96, 96)).astype(np.float32)
    geometry = grid((96, 96, 96), (2.0, 2.0, 2.0), "RAS")
    mask = Volume(
        (block(geometry, (0, 0, 0), 60) * 1 + block(geometry, (0, 0, 0), 30))[None].astype(np.uint8), geometry, "labels"
    )
    for part in ("val", "test"):
        made.add(f"one of {part}", Volume(noise, geometry), mask, mask, part)
    made.complete()
    path = write_report(made.run, made.truths)
    assert path.stat().st_size < 3_000_000
    page = Page(path)
    assert sum(len(picture) for picture in page.pictures) > 1_000_000  # as large as it may be, not smaller
    assert "took part in no decision" in page.text
    assert "Not shown: 1 more channel (m4)." in page.text
    assert page.text.count("Dice tells how far") == 1


def test_curves_need_an_event() -> None:
    with pytest.raises(ValueError, match="no step"):
        learning_curves([{"event": "started"}])
    names = {f"_label $ {n}": 0.5 for n in range(20)}
    looks = [{"event": "validated", "seconds": 60 * n, "dice": names, "mean_dice": 0.5, "best": True} for n in range(3)]
    for theme in ("light", "dark"):
        assert learning_curves(looks, theme).startswith(b"\x89PNG")


def test_real_hippocampus_cases(tmp_path: Path, hippocampus: Path) -> None:
    folder = hippocampus
    made = FakeRun(tmp_path, names={1: "anterior", 2: "posterior"})
    masks = sorted(path for path in (folder / "labelsTr").glob("*.nii.gz") if not path.name.startswith("."))[:4]
    for shift, path in enumerate(masks):
        name = path.name.removesuffix(".nii.gz")
        truth = read_labels(path)
        moved = Volume(np.roll(truth.array, shift, axis=1), truth.geometry, "labels", "labels")
        predicted = made.run.predictions("val") / path.name
        write(moved, predicted)
        made.truths[name] = Case(name, name, (folder / "imagesTr" / path.name,), path)
        made.pairs["val"].append(Pair(name, name, predicted, path, made.names))
    made.complete()
    page = Page(write_report(made.run, made.truths))
    assert len(page.pictures) == 4
    assert "anterior 1.000; posterior" in page.text or "Dice anterior 1.000, posterior 1.000" in page.text
    assert made.run.report.stat().st_size < 3_000_000
