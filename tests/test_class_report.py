"""The report of a classification, from real images and known answers."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from segue.catalogue import Card, Case, Channel
from segue.core.files import jsonable, write_json, write_text
from segue.evaluate import ClassScores, aggregate_classes, write_metrics
from segue.images import write
from segue.metrics import Reliability
from segue.prepare import Network, Plan
from segue.prepare.plan import Normalisation
from segue.train import EventLog, Run
from segue.view import write_report
from segue.view.class_charts import reliability_chart, roc_chart
from segue.view.class_pictures import class_picture
from segue.view.curves import learning_curves
from segue.volume import Geometry, Volume
from test_view import EVIL, Page, near

GREY = [Channel(name="grey")]
COLOUR = [Channel(name=name) for name in ("red", "green", "blue")]
BREAST = {0: "malignant", 1: "normal, benign"}


@dataclass
class ClassRun:
    """A run folder as the training of a classification leaves it."""

    folder: Path
    labels: dict[int, str] = field(default_factory=lambda: dict(BREAST))
    classes: str = "binary"
    channels: list[Channel] = field(default_factory=lambda: list(GREY))
    dimension: int = 2
    title: str = "Breast ultrasound"
    truths: dict[str, Case] = field(default_factory=dict)
    scores: dict[str, list[ClassScores]] = field(default_factory=lambda: {"val": [], "test": []})

    @property
    def run(self) -> Run:
        return Run(self.folder / "run")

    def add(
        self,
        name: str,
        pixels: np.ndarray,
        truth: Any,
        probabilities: Any,
        part: str = "test",
        patient: str | None = None,
    ) -> None:
        path = self.folder / "data" / (f"{name}.png" if self.dimension == 2 else f"{name}.nii.gz")
        if self.dimension == 2:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
        else:
            write(Volume(pixels[None], Geometry(pixels.shape, np.eye(4))), path)
        case = Case(name, patient or name, (path,), target=truth)
        self.truths[name] = case
        self.scores[part].append(ClassScores(name, case.patient, truth, tuple(map(float, probabilities))))

    def complete(self) -> ClassRun:
        card = Card.model_validate(
            {
                "name": "test/classes",
                "title": self.title,
                "task": "classification",
                "classes": self.classes,
                "dimension": self.dimension,
                "modalities": ["ultrasound"],
                "channels": self.channels,
                "labels": self.labels,
                "layout": {"kind": "npz", "file": "x.npz"},
            }
        )
        plan = Plan(
            dataset=card.name,
            dimension=card.dimension,
            channels=card.channels,
            labels=card.labels,
            ignore_label=None,
            spacing_mm=(1.0, 1.0, 1.0),
            normalisation=[Normalisation(kind="image")] * len(card.channels),
            patch=(28, 28, 1),
            batch=64,
            network=Network(),
            mirror_axes=[],
            foreground_share=0.5,
            overlap=0.5,
            reasons={"patch": "the whole image", "overlap": "unseen reason"},
        )
        folder = self.run.folder
        write_json(folder / "card.json", card)
        write_json(folder / "plan.json", plan)
        split = {part: [{"id": s.case, "patient": s.patient} for s in cases] for part, cases in self.scores.items()}
        write_json(folder / "split.json", {"train": [{"id": f"t{n}", "patient": f"t{n}"} for n in range(546)], **split})
        log = EventLog(self.run.events)
        log.write("started", device="cpu")
        for step in range(1, 20):
            log.write("step", step=step, seconds=7.0 * step, loss=1.0 / step, learning_rate=1e-3)
        for step, auc in ((5, 0.7), (10, 0.91), (15, 0.88)):
            figures = {"auc": auc, "accuracy": auc - 0.1}
            log.write(
                "validated", step=step, seconds=7.0 * step, score=auc, metric="auc", scores=figures, best=auc != 0.88
            )
        log.write("finished", step=19, seconds=133.0)
        log.close()
        write_json(folder / "findings.json", {"left_out": [], "findings": []})
        write_json(folder / "environment.json", {"python": "3.11", "device": "cpu"})
        write_text(self.run.config, yaml.safe_dump(jsonable({"dataset": card.name})))
        self.measure(card)
        return self

    def measure(self, card: Card) -> None:
        assert card.classes is not None
        write_metrics(
            self.run.metrics,
            [aggregate_classes(part, cases, card.labels, card.classes) for part, cases in self.scores.items() if cases],
        )

    def page(self) -> Page:
        path = write_report(self.run, self.truths)
        assert path.stat().st_size < 3_000_000
        page = Page(path)
        assert all(page.alts)
        page.require_inert()
        scoped = sum(name == "scope" for tag, name, _ in page.attributes if tag == "th")
        assert scoped == page.tags.count("th")
        return page


def answers(truth: np.ndarray, classes: int, seed: int = 0, skill: float = 1.6) -> np.ndarray:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(truth), classes)) + skill * (truth[:, None] == np.arange(classes))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


@pytest.fixture
def breast(tmp_path: Path, test_data: Path) -> ClassRun:
    made = ClassRun(tmp_path)
    with np.load(test_data / "medmnist" / "breastmnist.npz", allow_pickle=False) as arrays:
        for part in ("val", "test"):
            images, truth = arrays[f"{part}_images"], arrays[f"{part}_labels"][:, 0].astype(int)
            for n, scores in enumerate(answers(truth, 2)):
                made.add(f"{part}_{n:06d}", images[n], int(truth[n]), scores, part)
    return made.complete()


def test_report_of_real_images(breast: ClassRun) -> None:
    page = breast.page()
    told = json.loads(breast.run.metrics.read_text())["test"]
    overall = told["aggregate"]["all"]
    accuracy, auc = overall["accuracy"], overall["auc"]
    low, high = (f"{100 * value:.1f} %" for value in accuracy["ci95"])
    within = f"{100 * accuracy['value']:.1f} % of the answers were right (95 % interval {low} to {high})"
    assert f"On 156 test images that it was not trained on, {within}" in page.text
    assert f"the AUC is {auc['value']:.3f} (95 % interval {auc['ci95'][0]:.3f} to {auc['ci95'][1]:.3f})" in page.text
    assert "to tell “malignant” from “normal, benign” in ultrasound images" in page.text
    # 114 of the 156 test images are of class 1
    assert "Always answering “normal, benign”, the largest class here, would be right in 73.1 %" in page.text
    assert "The dataset names no patients" in page.text and "patients not named" in page.text
    assert "slightly optimistic; the test figures are not" in page.text
    assert "input size 28 × 28 pixels The whole image." in page.text and "64 images a step" in page.text
    for words in ("overlap", "unseen reason", "foreground", "Dice", "outlines"):
        assert words not in page.text
    assert "Kept: the state after step 10, validation AUC 0.910." in page.text
    wrong = [(max(c["probabilities"].values()), n) for n, c in told["cases"].items() if c["truth"] != c["predicted"]]
    shown = [alt.split(",")[0] for alt in page.alts if "an image of the test set" in alt]
    assert shown == [name for _, name in sorted(wrong, key=lambda item: (-item[0], item[1]))][:24]
    table = page.text[page.text.index("least probable truth first") :]
    probability = {name: case["probabilities"][case["truth"]] for name, case in told["cases"].items()}
    first = sorted(probability, key=lambda name: (probability[name], name))[:3]
    assert [table.index(name) for name in first] == sorted(table.index(name) for name in first)
    assert table.index(first[0]) < table.index(max(probability, key=probability.__getitem__))
    for row in told["confusion"]:
        for number in row:
            assert f"{100 * number / sum(row):.1f} % {number}" in page.text


def test_a_small_picture_is_enlarged_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 14, 3), dtype=np.uint8)  # 28 rows, 14 columns
    volume = Volume(pixels.transpose(2, 1, 0)[..., None], Geometry((14, 28, 1), np.diag([-1.0, -1.0, 1.0, 1.0])))
    shown = np.asarray(Image.open(io.BytesIO(class_picture(volume, COLOUR, 168))))
    np.testing.assert_array_equal(shown, pixels.repeat(6, axis=0).repeat(6, axis=1))
    grey = Volume(volume.array[:1], volume.geometry)
    shown = np.asarray(Image.open(io.BytesIO(class_picture(grey, GREY, 168))))
    low, high = np.percentile(pixels[..., 0], [1, 99])
    expected = np.clip(np.rint((pixels[..., 0] - low) * 255 / (high - low)), 0, 255)
    np.testing.assert_allclose(shown, expected.repeat(6, axis=0).repeat(6, axis=1), atol=1)
    large = Volume(np.zeros((1, 500, 400, 1), np.float32), Geometry((500, 400, 1), np.eye(4)))
    assert Image.open(io.BytesIO(class_picture(large, GREY, 168))).size == (168, 134)


def test_a_volume_is_cut_in_the_middle_three_times() -> None:
    array = np.zeros((20, 30, 40), np.float32)
    array[10, 15, 20] = 1.0  # the middle voxel is on all three
    array[2, 15, 20] = 0.5  # 2 of 20 from the left in RAS: on the right of a radiologist's picture
    volume = Volume(array[None] * 100, Geometry((20, 30, 40), np.eye(4)))
    ct = [Channel(name="CT", unit="HU")]
    shown = np.asarray(Image.open(io.BytesIO(class_picture(volume, ct, 160)))).astype(int)
    assert shown.shape == (160, 80 + 80 + 120 + 8)
    middle = shown == shown.max()
    tiles = [middle[:, :80], middle[:, 84:164], middle[:, 168:]]
    assert all(tile.sum() == 16 for tile in tiles)  # one voxel, four by four pixels
    assert all(shown[:, x].max() == 20 for x in (80, 83, 164, 167))
    beside = np.argwhere((shown > 110) & (shown < shown.max() - 20))
    assert (beside[:, 1] < 80).any() and beside[beside[:, 1] < 80][:, 1].min() >= 68


def test_a_speck_on_an_empty_ground_is_white_on_black() -> None:
    array = np.zeros((1, 28, 28, 1), np.float32)
    array[0, 14, 14, 0] = 1.0
    shown = np.asarray(Image.open(io.BytesIO(class_picture(Volume(array, Geometry((28, 28, 1), np.eye(4))), GREY, 28))))
    assert sorted(np.unique(shown).tolist()) == [0, 255] and (shown == 255).sum() == 1


@pytest.mark.parametrize("classes", ["multi-class", "ordinal"])
def test_several_classes(tmp_path: Path, classes: str) -> None:
    labels = {3: "none", 5: "mild", 8: "severe", 11: "never seen"}
    made = ClassRun(tmp_path, labels, classes, COLOUR)
    random = np.random.default_rng(1)
    truth = random.choice(3, 40, p=[0.8, 0.15, 0.05])
    for n, scores in enumerate(answers(truth, 4, skill=0.5)):
        picture = random.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        made.add(f"c{n}", picture, list(labels)[truth[n]], scores, patient=f"patient {n // 4}")
    page = made.complete().page()
    assert "40 test images of 10 patients" in page.text and "names no patients" not in page.text
    assert "No test image has “never seen”" in page.text and "Few test images have" in page.text
    assert "not clearly better than that of always answering “none”" in page.text
    assert ("weighted kappa" in page.text) == (classes == "ordinal")
    assert "on a scale of 4 steps, in this order" in page.text or "tell 4 classes apart" in page.text


def test_several_labels_of_one_image(tmp_path: Path) -> None:
    labels = {n: f"finding {n}" for n in range(14)}
    made = ClassRun(tmp_path, labels, "multi-label")
    random = np.random.default_rng(2)
    truth = random.random((60, 14)) < 0.15
    scores = np.clip(random.normal(0.2 + 0.4 * truth, 0.15), 0, 1)
    for n in range(60):
        made.add(f"c{n}", np.full((28, 28), n, np.uint8), tuple(truth[n].astype(int).tolist()), scores[n])
    page = made.complete().page()
    assert "which of 14 findings they show" in page.text and "of the labels were answered rightly" in page.text
    assert "answered though absent" in page.text and "Most certain mistake: finding" in page.text
    assert f"Always answering that nothing is there would be right for {100 * (1 - truth.mean()):.1f} %" in page.text
    assert "Answer: nothing" in page.text


def test_volumes_and_gone_images(tmp_path: Path) -> None:
    made = ClassRun(tmp_path, {0: "vessel", 1: "aneurysm"}, dimension=3)
    random = np.random.default_rng(3)
    for n in range(6):
        made.add(f"c{n}", random.normal(size=(28, 28, 28)).astype(np.float32), n % 2, (0.8 - 0.1 * n, 0.2 + 0.1 * n))
    made.complete()
    made.truths["c1"].images[0].unlink()  # type: ignore[union-attr]
    del made.truths["c4"]
    page = made.page()
    assert "no such image" in page.text and "Volumes are cut in the middle" in page.text
    assert "This case is not in the dataset any more" in page.text
    assert "6 test images are few" in page.text


def test_markup_in_names_is_inert(tmp_path: Path) -> None:
    made = ClassRun(tmp_path, {0: EVIL, 1: "_$\\frac{$ <b onclick=x>"}, title=EVIL)
    for n in range(4):
        made.add(f"<i>{n}", np.full((28, 28), n, np.uint8), n % 2, (0.6, 0.4))
    page = made.complete().page()
    assert page.text.count(EVIL) > 8 and "b" not in page.tags and "i" not in page.tags


def test_one_image_none_and_nothing_measured(tmp_path: Path) -> None:
    made = ClassRun(tmp_path)
    made.add("only", np.zeros((28, 28), np.uint8), 1, (0.8, 0.2))
    page = made.complete().page()
    assert "One test image tells nothing about others" in page.text
    assert "There is no AUC: all these images are of one class" in page.text
    assert "No curve: no class both occurs and is absent" in page.text
    write_json(made.run.metrics, {"test": {"aggregate": {}, "cases": {}, "failed": [{"what": "gone", "where": "x"}]}})
    page = made.page()
    assert "No test case could be measured." in page.text and "x: gone" in page.text
    made.run.metrics.unlink()
    page = made.page()
    assert "Nothing has been measured yet" in page.text and "not measured yet" in page.text
    made.run.metrics.write_text('{"test": {"cases": {"a": {"probabilities": {"x": "high"}}}}}')
    assert "metrics.json cannot be read: test.cases.a.probabilities.x" in made.page().text
    for section in re.split(r"<h2>", made.run.report.read_text())[1:]:
        words = re.sub(r"<[^>]+>", " ", section.split("</section>")[0].split("</h2>")[1])
        assert len(words.split()) > 4  # no section is blank


def test_large_colour_pictures_stay_under_three_megabytes(tmp_path: Path) -> None:
    made = ClassRun(tmp_path, channels=COLOUR)
    random = np.random.default_rng(4)
    for part in ("val", "test"):
        for n in range(260):
            noise = random.integers(0, 256, (200, 200, 3) if n < 30 else (2, 2, 3), dtype=np.uint8)
            made.add(f"{part}{n}", noise, n % 2, (0.5 - 0.4 * (n < 30), 0.5 + 0.4 * (n < 30)), part)
    page = made.complete().page()
    assert sum(len(picture) for picture in page.pictures) > 500_000
    assert "60 more cases are not listed here" in page.text
    assert "most confident mistakes are shown" in page.text


def test_charts_in_both_themes() -> None:
    truth = np.array([[True, False], [False, True], [True, False], [False, True]])
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    for theme, ground in (("light", (255, 255, 255)), ("dark", (27, 31, 38))):
        for png in (
            roc_chart(["_a $\\frac{$", "b" * 80], truth, scores, [1.0, None], theme),
            reliability_chart(Reliability(np.array([0.6]), np.array([0.9]), np.array([4])), 0.5, theme),
        ):
            assert png is not None
            image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
            assert near(image, ground, 3).mean() > 0.5
    assert roc_chart(["a"], np.ones((3, 1), bool), np.ones((3, 1)), [None]) is None
    nothing = np.zeros(0)
    assert reliability_chart(Reliability(nothing, nothing, nothing.astype(int)), 0.5) is None
    events = [{"event": "validated", "seconds": 60 * n, "score": 0.5, "metric": "auc", "scores": {}} for n in range(3)]
    assert learning_curves(events).startswith(b"\x89PNG")
