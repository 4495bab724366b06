"""The report and the table of a segmentation of ordinary pictures.

How a picture lies is known from Pillow, which reads the PNG on its own; areas are counted in the
arrays that were drawn.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segue.catalogue import Card, Case, Channel, Row
from segue.core.files import write_json
from segue.evaluate import Pair, aggregate, metrics_table, score_pair
from segue.images import read, read_labels, write
from segue.prepare import Network, Normalisation, Plan
from segue.view import write_report
from segue.view.flat import flat_picture
from segue.view.words import volume
from segue.volume import Geometry, Volume
from test_view import BLUE, ORANGE, FakeRun, Page, near

RGB = [Channel(name=name) for name in ("red", "green", "blue")]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def colours(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def panel(png: bytes, wide: int, high: int) -> np.ndarray:
    """The picture within the margin of 10 pixels; a legend is below."""
    return colours(png)[10 : 10 + high, 10 : 10 + wide]


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def blocks(rows: int, columns: int, grey: bool = False) -> np.ndarray:
    """Four quarters of different colours: no turn or mirror image of it is itself."""
    pixels = np.zeros((rows, columns, 3), np.uint8)
    pixels[: rows // 2, : columns // 2] = (200, 30, 30)
    pixels[: rows // 2, columns // 2 :] = (30, 180, 60)
    pixels[rows // 2 :, : columns // 2] = (40, 60, 220)
    pixels[rows // 2 :, columns // 2 :] = (240, 240, 240)
    return pixels[..., 0] if grey else pixels


@pytest.mark.parametrize(("rows", "columns", "zoom"), [(40, 60, 15), (60, 40, 15), (300, 30, 4), (310, 400, 1)])
def test_a_picture_is_upright_whole_in_colour_and_enlarged_pixel_by_pixel(
    tmp_path: Path, rows: int, columns: int, zoom: int
) -> None:
    path = save(tmp_path / "a.png", blocks(rows, columns))
    png = flat_picture(read(path), RGB, {1: "a"}, None, None)
    wanted = np.asarray(Image.open(path)).astype(int).repeat(zoom, 0).repeat(zoom, 1)
    high, wide = wanted.shape[:2]
    shown = panel(png, wide, high)
    assert (np.abs(shown - wanted).max(axis=-1) < 4).mean() > 0.999  # every pixel of it
    assert Image.open(io.BytesIO(png)).height <= high + 10 + 34  # nothing above it: no title, no second panel
    around = np.concatenate([colours(png)[:10].reshape(-1, 3), colours(png)[10 + high :].reshape(-1, 3)])
    assert near(around, (20, 23, 28), 4).all()


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", blocks(1500, 3000))
    png = flat_picture(read(path), RGB, {1: "a"}, None, None, width_px=800)
    assert Image.open(io.BytesIO(png)).width <= 800
    shown = panel(png, 780, 390)
    for (row, column), colour in (((50, 50), (200, 30, 30)), ((50, 700), (30, 180, 60)), ((350, 50), (40, 60, 220))):
        assert near(shown[row, column], colour, 6)


def test_sixteen_bits_are_shown_up_to_their_own_maximum() -> None:
    array = blocks(40, 40).transpose(2, 1, 0)[..., None].astype(np.uint16) * 50
    shown = panel(flat_picture(Volume(array, Geometry((40, 40, 1), LPS)), RGB, {1: "a"}, None, None), 600, 600)
    assert near(shown[-20, -20], (255, 255, 255), 4) and near(shown[20, 20], (212, 32, 32), 4)


def test_outlines_lie_where_the_masks_are(tmp_path: Path) -> None:
    image = read(save(tmp_path / "a.png", np.full((40, 60, 3), 90, np.uint8)))
    truth, prediction = np.zeros((2, 40, 60), np.uint8)
    truth[4:10, 40:54] = 1  # rows and columns of the file: above, on the right
    prediction[25:35, 5:15] = 1
    masks = [read_labels(save(tmp_path / f"{n}.png", mask)) for n, mask in enumerate((truth, prediction))]
    shown = panel(flat_picture(image, RGB, {1: "a"}, *masks), 900, 600)
    for colour, (top, bottom, left, right) in ((ORANGE, (4, 10, 40, 54)), (BLUE, (25, 35, 5, 15))):
        rows, columns = np.nonzero(near(shown, colour))
        found = np.array([rows.min(), rows.max(), columns.min(), columns.max()]) / 15
        # a contour at half height runs between the centres of a pixel within and one without: on their border
        assert np.abs(found - (top, bottom, left, right)).max() < 0.35


def test_channels_that_are_no_colours_are_panels_of_their_own() -> None:
    array = np.stack([blocks(40, 40, grey=True).T, np.full((40, 40), 7, np.uint8)])[..., None]
    two = [Channel(name="near"), Channel(name="far")]
    labels = dict.fromkeys((1, 2, 3), "a label with a long name")
    mask = Volume(np.ones((1, 40, 40, 1), np.uint8), Geometry((40, 40, 1), LPS), "labels", "labels")
    png = flat_picture(Volume(array, Geometry((40, 40, 1), LPS)), two, labels, mask, None, width_px=700)
    assert Image.open(io.BytesIO(png)).width <= 700
    grey = panel(png, 680, 300)
    assert (np.ptp(grey[24:, :, :], axis=-1) < 4).mean() > 0.8


class Pictures(FakeRun):
    """A run on pictures: as FakeRun, but for the card, the plan, and the files."""

    patient = "{}"

    def add_picture(self, name: str, shift: int) -> None:
        image = save(self.folder / "data" / f"{name}.png", blocks(48, 64))
        truth, prediction = np.zeros((2, 48, 64), np.uint8)
        truth[10:20, 10:30] = prediction[10:20, 10 + shift : 30 + shift] = 1
        mask = save(self.folder / "data" / f"{name}_mask.png", truth)
        self._put(name, image, mask, save(self.run.predictions("val") / f"{name}.png", prediction))

    def _put(self, name: str, image: Path | Row, mask: Path | Row, predicted: Path) -> None:
        patient = self.patient.format(name)
        self.truths[name] = Case(name, patient, (image,), mask)
        self.pairs["val"].append(Pair(name, patient, predicted, mask, self.names))

    def write_plan(self) -> None:
        super().write_plan()
        card = json.loads((self.run.folder / "card.json").read_text())
        write_json(self.run.folder / "card.json", Card.model_validate({**card, "dimension": 2}))
        plan = Plan(
            dataset="test/lesions", dimension=2, channels=self.channels, labels=self.names, ignore_label=None,
            spacing_mm=(1.0, 1.0, 1.0), normalisation=[Normalisation(kind="image")] * len(self.channels),
            patch=(32, 32, 1), batch=2, network=Network(), mirror_axes=[], foreground_share=0.5, overlap=0.5,
            reasons={},
        )  # fmt: skip
        write_json(self.run.folder / "plan.json", plan)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    made = Pictures(tmp_path, channels=list(RGB))
    for name, shift in (("good", 1), ("middling", 5), ("poor", 15)):
        made.add_picture(name, shift)
    return made


def test_report_of_pictures_says_images_and_pixels(pictures: Pictures) -> None:
    pictures.complete()
    page = Page(write_report(pictures.run, pictures.truths))
    assert "Dice 0.950; truth 200 pixels, prediction 200 pixels" in page.text
    assert "truth pixels predicted pixels false pos. pixels" in page.text
    assert "3 validation images that it was not trained on" in page.text
    assert "Validation images, worst first" in page.text and "bootstrap over images" in page.text
    assert "shared area over the sum of the two areas" in page.text and "The dataset names no patients" in page.text
    for nonsense in (" ml", "radiologist", "axial", "percentile", "Volumes", "two volumes", "Slices"):
        assert nonsense not in page.text and not any(nonsense in alt for alt in page.alts)
    assert "patients" not in page.text.replace("names no patients", "").replace("patients not named", "").replace(
        "use on patients", ""
    )
    first = panel(page.pictures[0], 64 * 12, 48 * 12)
    assert near(first[-30, -30], (240, 240, 240), 6) and near(first[30, -30], (30, 180, 60), 6)
    # the figures in the files stay what they were
    case = json.loads(pictures.run.metrics.read_text())["val"]["cases"]["good"]
    assert case["labels"]["lesion"]["volume_ml"] == pytest.approx(0.2) and case["pixel_ml"] == pytest.approx(0.001)


def test_figures_of_an_older_run_are_told_in_pixels_too(pictures: Pictures) -> None:
    pictures.complete()
    metrics = json.loads(pictures.run.metrics.read_text())
    for case in metrics["val"]["cases"].values():
        del case["pixel_ml"]
    write_json(pictures.run.metrics, metrics)
    assert "truth 200 pixels, prediction" in Page(write_report(pictures.run, pictures.truths)).text


def test_named_patients_stay_patients(tmp_path: Path) -> None:
    made = Pictures(tmp_path, channels=list(RGB))
    made.patient = "patient of {}"
    made.add_picture("good", 1)
    made.complete()
    text = Page(write_report(made.run, made.truths)).text
    assert "1 validation patient that" in text and "truth 200 pixels" in text


def test_pictures_in_an_array(tmp_path: Path) -> None:
    made = Pictures(tmp_path, channels=list(RGB))
    mask = np.zeros((1, 48, 64), np.uint8)
    mask[0, 10:20, 10:30] = 1
    array = tmp_path / "data" / "all.npz"
    array.parent.mkdir()
    np.savez(array, images=blocks(48, 64)[None], masks=mask)
    predicted = save(made.run.predictions("val") / "row0.png", mask[0])
    made._put("row0", Row(array, "images", 0), Row(array, "masks", 0), predicted)
    made.complete()
    page = Page(write_report(made.run, made.truths))
    assert "Dice 1.000; truth 200 pixels" in page.text
    first = panel(page.pictures[0], 64 * 12, 48 * 12)
    assert near(first[-30, 30], (40, 60, 220), 6) and near(first[30, -30], (30, 180, 60), 6)


def test_table_of_pictures_is_in_pixels_and_that_of_volumes_in_ml(pictures: Pictures, tmp_path: Path) -> None:
    table = metrics_table(aggregate("val", [score_pair(pair) for pair in pictures.pairs["val"]]))
    assert "truth pixels" in table and " 200" in table and "ml" not in table
    solid = FakeRun(tmp_path / "solid")
    solid.add_blocks("cube", 18.0, 1.0)
    table = metrics_table(aggregate("val", [score_pair(pair) for pair in solid.pairs["val"]]))
    assert "truth ml" in table and "pixels" not in table


def test_pixels_have_the_size_that_is_stored(tmp_path: Path) -> None:
    mask = np.zeros((1, 20, 20, 1), np.uint8)
    mask[0, :5, :4] = 1
    scores = []
    for name, step in (("a", 0.5), ("b", 0.25)):
        path = tmp_path / f"{name}.tif"
        write(Volume(mask, Geometry((20, 20, 1), LPS @ np.diag([step, step, 1.0, 1.0])), "labels", "labels"), path)
        scores.append(score_pair(Pair(name, name, path, path, {1: "lesion"})))
    assert aggregate("val", scores[:1]).pixel_ml == pytest.approx(0.25e-3)
    assert " 20" in metrics_table(aggregate("val", scores[:1]))
    assert aggregate("val", scores).pixel_ml is None  # pixels of two sizes have no mean
    assert "truth ml" in metrics_table(aggregate("val", scores))


def test_pixels_in_words() -> None:
    assert [volume(value, 0.001) for value in (None, 0.0, 1e-5, 3e-4, 0.003, 12.871)] == [
        "–", "0", "<0.1", "0.3", "3", "12871",
    ]  # fmt: skip
    assert volume(12.871, None) == "12.9"
