"""What the report holds beside its words: sample patches, small pictures, the data of its charts, the compared runs.

Samples are checked against the images that they were cut from, figures against ``metrics.json``, ROC curves and
calibration against scikit-learn, pictures by reading their pixels back.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve

from segue.catalogue import Channel
from segue.core.files import write_json
from segue.evaluate import compare, read_measured
from segue.prepare import Budget
from segue.train import Run, TrainSettings
from segue.view import write_comparison_page, write_report
from segue.view.case_gallery import MOST_PICTURES
from segue.view.colours import LABEL_COLOURS, label_colours
from segue.view.facts import read_facts
from segue.view.page_data import case_data, class_data, curve_data
from segue.view.scripts import in_script
from segue.view.thumbs import small_picture, worst_place
from segue.view.windows import BONE, BRAIN, LUNG, SOFT_TISSUE, window_for
from segue.volume import Volume
from segue.workflow.experiment import Experiment
from segue.workflow.training import train
from test_class_report import ClassRun, answers
from test_view import EVIL, MR, FakeRun, Page, block, grid, labels, near

ORANGE, BLUE = (230, 159, 0), (86, 180, 233)


def opened(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two steps on ten small cases, without augmentation, so that patches are cut-outs of the images."""
    from conftest import blob_case
    from segue.images import write
    from segue.volume import Geometry

    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(7)
    for number in range(6):
        image, mask = blob_case(random, (20, 18, 16))
        geometry = Geometry(image.shape, np.diag([1.0, 1.2, 1.5, 1.0]))
        write(Volume(image[None], geometry), folder / "Blobs" / "imagesTr" / f"b{number}.nii.gz")
        write(Volume(mask[None], geometry, "labels"), folder / "Blobs" / "labelsTr" / f"b{number}.nii.gz")
    names = [{"image": f"./imagesTr/b{n}.nii.gz", "label": f"./labelsTr/b{n}.nii.gz"} for n in range(6)]
    listing = {"name": "Blobs", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "bright", "2": "dim"}}
    (folder / "Blobs" / "dataset.json").write_text(json.dumps({**listing, "training": names, "test": []}))
    run, _ = train(
        Experiment(
            dataset=str(folder / "Blobs"),
            data=folder / "data",
            output=folder / "run",
            device="cpu",
            budget=Budget(steps=2),
            train=TrainSettings(precision="float32", augment=False, validations=1),
        )
    )
    return run


def test_samples_are_patches_of_the_images_and_answers_of_the_network(trained: Run) -> None:
    from segue.images import read, read_labels

    assert int(np.argmax(trained.plan().spacing_mm)) == 2  # cut across the thickest axis
    start, end = (dict(np.load(path)) for path in (trained.samples_at_start, trained.samples_at_end))
    assert int(start["step"]) == 0 and int(end["step"]) == 2
    assert start["names"].tolist() == end["names"].tolist() and len(start["names"]) == 4
    np.testing.assert_array_equal(start["images"], end["images"])  # the same patches at both times
    assert not np.array_equal(start["answer"], end["answer"])
    root = Path(trained.settings()["root"])
    for place, name in enumerate(start["names"].tolist()):
        truth = read_labels(root / "labelsTr" / f"{name}.nii.gz").oriented("RAS").array[0]
        image = read(root / "imagesTr" / f"{name}.nii.gz").oriented("RAS").array[0]
        # The patch is a cut-out of one slice: found in the mask, and as bright there as the image is.
        found = _where(truth, start["truth"][place])
        assert found is not None, name
        inside = image[found]
        shown = start["images"][place, 0].astype(float)
        ours = shown[_inner(truth.shape, start["truth"][place].shape)]
        assert np.corrcoef(ours.ravel(), inside.ravel())[0, 1] > 0.98
        assert set(np.unique(end["answer"][place]).tolist()) <= {0, 1, 2}
    assert sum(path.stat().st_size for path in (trained.folder / "samples").iterdir()) < 400_000


def _inner(shape: tuple[int, ...], patch: tuple[int, ...]) -> tuple[slice, ...]:
    """What of a patch lies in the image, which is padded evenly where it is smaller."""
    firsts = [max(0, (side - size) // 2) for size, side in zip(shape, patch, strict=False)]
    return tuple(slice(a, a + min(n, m)) for a, n, m in zip(firsts, shape, patch, strict=False))


def _where(truth: np.ndarray, patch: np.ndarray) -> Any:
    inner = patch[_inner(truth.shape, patch.shape)]
    rows, columns = inner.shape
    for k in range(truth.shape[2]):
        for i in range(truth.shape[0] - rows + 1):
            for j in range(truth.shape[1] - columns + 1):
                if np.array_equal(truth[i : i + rows, j : j + columns, k], inner):
                    return np.s_[i : i + rows, j : j + columns, k]
    return None


def test_samples_stand_in_the_report_and_a_damaged_file_is_told(trained: Run) -> None:
    report = Page(trained.report)
    assert "before the first step and after 2 steps" in report.text and "augmentation was switched off" in report.text
    assert sum("A training patch of" in alt for alt in report.alts) == 4
    kept = trained.samples_at_end.read_bytes()
    trained.samples_at_end.write_bytes(kept[: len(kept) // 2])
    try:
        text = Page(write_report(trained, {})).text
        assert "The sample patches are damaged: end.npz." in text and "after 2 steps" not in text
        assert "answers before the first step" in text
    finally:
        trained.samples_at_end.write_bytes(kept)


def test_a_small_picture_is_cut_where_the_error_is_and_colours_it() -> None:
    geometry = grid((60, 60, 60), (1.0, 1.0, 1.0), "LPS")
    truth = block(geometry, (-10.0, 0.0, 0.0), 20.0)
    missed = block(geometry, (20.0, 20.0, 20.0), 11.0)  # a second lesion, in front, high, on the patient's right
    values = np.zeros((1, 60, 60, 60), np.float32)
    values[0, 0, 0, 0] = 100.0  # so that the rest is black
    image = Volume(values, geometry)
    webp = small_picture(image, MR, {1: "a"}, labels(truth | missed, geometry), labels(truth, geometry))
    assert len(webp) <= 16_000
    picture = opened(webp)
    thirds = np.array_split(picture[:, : picture.shape[1] // 3], 2, axis=1)
    filled = [near(half, (97, 67, 0), 45).sum() for half in thirds]  # 42 % of orange on black
    assert filled[0] > 150 and filled[1] < 30  # the patient's right is on the left
    assert not near(picture, BLUE, 40).any()  # the other lesion, which was found, is not in these slices
    both = opened(small_picture(image, MR, {1: "a"}, labels(truth, geometry), labels(truth | missed, geometry)))
    assert near(both, (36, 76, 98), 40).sum() > 150 and not near(both, ORANGE, 40).any()
    nothing = small_picture(image, MR, {1: "a"}, labels(truth & ~truth, geometry), None)
    assert opened(nothing).shape[2] == 3


def test_the_worst_place_is_in_the_largest_disagreement() -> None:
    truth, prediction = np.zeros((40, 50, 60), np.uint8), np.zeros((40, 50, 60), np.uint8)
    truth[5:9, 5:9, 5:9] = 1
    truth[20:31, 20:27, 30:41] = 2
    prediction[20:31, 20:27, 30:41] = 1  # another label: wrong everywhere in it
    focus = worst_place(truth, prediction, truth.shape, (1.0, 1.0, 1.0))
    assert all(low <= v <= high for v, low, high in zip(focus.voxel, (20, 20, 30), (30, 26, 40), strict=True))
    same = worst_place(truth, truth, truth.shape, (1.0, 1.0, 1.0))
    assert truth[same.voxel] == 2


def test_pet_ct_has_its_ct_its_pet_and_a_projection() -> None:
    geometry = grid((40, 36, 60), (4.0, 4.0, 4.0), "RAS")
    suv = np.zeros(geometry.shape, np.float32)
    suv[10, 5, 30], suv[30, 30, 50] = 20.0, 20.0  # never on one coronal slice
    ct = np.full(geometry.shape, -1000.0, np.float32)
    channels = [Channel(name="CT", unit="HU"), Channel(name="PET", unit="SUV")]
    hot = labels(suv > 0, geometry)
    picture = opened(small_picture(Volume(np.stack([ct, suv]), geometry), channels, {1: "lesion"}, hot, hot))
    light = near(picture, (255, 255, 255), 60)
    columns = light.mean(axis=0) > 0.5
    assert columns.mean() > 0.5  # PET is dark on light; the CT of air, the first tile, is black
    assert picture[:, : picture.shape[1] // 8].mean() < 60


@pytest.mark.parametrize(
    ("names", "title", "window"),
    [
        (["lung nodule"], "", LUNG),
        (["left lung", "right lung", "trachea"], "", LUNG),
        (["vertebrae_L1", "sacrum", "hip_left"], "", BONE),
        (["intracranial haemorrhage"], "", BRAIN),
        (["liver", "spleen", "rib_left_1"], "", SOFT_TISSUE),
        (["lesion"], "Lung cancer in CT", LUNG),
        (["tumour"], "Whole-body PET/CT", SOFT_TISSUE),
    ],
)
def test_ct_is_shown_in_the_window_of_what_one_looks_at(names: list[str], title: str, window: object) -> None:
    assert window_for(names, title) == window


def test_colours_of_labels_can_be_told_from_white_and_from_the_dark_ground() -> None:
    def luminance(colour: str) -> float:  # WCAG 2.2, relative luminance
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in LABEL_COLOURS:
        for ground in ("#ffffff", "#15181d"):
            light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (colour, ground)
    found = label_colours([f"label {n}" for n in range(20)])
    assert len(found) == 20 and len(set(found.values())) == len(LABEL_COLOURS)


def test_data_of_the_charts_are_the_figures_that_were_measured(tmp_path: Path) -> None:
    made = FakeRun(tmp_path, names={1: "lesion"})
    for name, shift in (("good", 1.0), ("middling", 4.0), ("poor", 12.0)):
        made.add_blocks(name, 18.0, shift)
    made.add_blocks("tested", 18.0, 3.0, part="test")
    made.complete()
    for number, name in enumerate(made.truths):
        case = made.truths[name]
        made.truths[name] = replace(
            case, facts={"site": "AB"[number % 2], "age": 40 + number, "note": None, "nan": 1.0}
        )
    data = case_data(read_facts(made.run, made.truths))
    told = json.loads(made.run.metrics.read_text())
    for place, name in enumerate(data["cases"]):
        part = "test" if data["parts"][data["part"][place]] == "test" else "val"
        figures = told[part]["cases"][name]["labels"]["lesion"]
        for metric in data["metrics"]:
            value = data["values"][metric["name"]]["lesion"][place]
            expected = figures[metric["name"]]
            assert value == (None if expected is None else pytest.approx(expected, rel=1e-4, abs=1e-9)), metric
        site, age = data["facts"][0], data["facts"][1]
        assert site["categories"][site["values"][place]] == made.truths[name].facts["site"]
        assert age["numbers"][place] == made.truths[name].facts["age"]
    assert {metric["name"]: metric["rises"] for metric in data["metrics"]}["hd95_mm"] is False
    assert [fact["name"] for fact in data["facts"]] == ["site", "age", "nan"]


def test_many_labels_and_cases_leave_the_weightiest_figures(tmp_path: Path) -> None:
    labels_ = {
        f"label {n}": {"dice": 0.5, "truth_volume_ml": 1.0, "volume_ml": 1.0, "hd95_mm": 2.0} for n in range(117)
    }
    made = FakeRun(tmp_path)
    made.write_plan()
    means = {name: {"dice": {"value": 0.5, "n": 600}} for name in [*labels_, "all"]}
    cases = {f"case {n}": {"patient": f"p{n}", "labels": labels_} for n in range(600)}
    write_json(made.run.metrics, {"val": {"aggregate": means, "cases": cases}})
    facts = read_facts(made.run, {})
    data = case_data(facts)
    assert [metric["name"] for metric in data["metrics"]] == ["dice", "truth_volume_ml"] and len(data["cases"]) == 600
    page = write_report(made.run, {})
    assert page.stat().st_size < 5_000_000
    shown = Page(page)
    assert "worst label" in shown.text and "400 better cases are not listed" in shown.text
    assert f"The {MOST_PICTURES} worst cases have a picture here." in shown.text


def test_curves_hold_every_validation(tmp_path: Path) -> None:
    made = FakeRun(tmp_path, names={1: "lesion"})
    made.add_blocks("good", 18.0, 1.0)
    made.complete()
    data = curve_data(read_facts(made.run, {}))
    assert data is not None
    assert data["steps"]["step"] == list(range(1, 20)) and data["steps"]["loss"][3] == 0.25
    assert data["looks"]["labels"] == {"lesion": [0.8]} and data["looks"]["best"] == [True]
    assert data["resumed"] == [pytest.approx(133 / 60, rel=1e-4)]
    assert curve_data(read_facts(Run(tmp_path / "nothing"), {})) is None


def test_roc_and_calibration_are_those_of_scikit_learn(tmp_path: Path) -> None:
    made = ClassRun(tmp_path, {0: "no", 1: "yes"})
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, 300)
    scores = answers(truth, 2)
    for n in range(300):
        made.add(f"c{n}", np.full((4, 4), n % 255, np.uint8), int(truth[n]), scores[n])
    made.complete()
    data = class_data(read_facts(made.run, made.truths))["test"]
    (curve,) = data["roc"]
    assert curve["name"] == "yes" and curve["auc"] == pytest.approx(roc_auc_score(truth, scores[:, 1]))
    wrong, found, _ = roc_curve(truth, scores[:, 1], drop_intermediate=True)
    theirs = set(zip(wrong.round(4).tolist(), found.round(4).tolist(), strict=True))
    ours = set(zip(np.round(curve["false"], 4).tolist(), np.round(curve["found"], 4).tolist(), strict=True))
    assert ours <= theirs and len(ours) > 20  # the corners; of points on one line the ends are enough
    assert np.trapezoid(curve["found"], curve["false"]) == pytest.approx(roc_auc_score(truth, scores[:, 1]), abs=1e-4)
    bins = data["calibration"]
    confidence, right = scores.max(1), scores.argmax(1) == truth
    assert sum(bins["answers"]) == 300
    mean = np.average(bins["accuracy"], weights=bins["answers"])
    assert mean == pytest.approx(right.mean(), abs=1e-4)
    assert np.average(bins["confidence"], weights=bins["answers"]) == pytest.approx(confidence.mean(), abs=1e-4)


def test_json_in_a_page_cannot_leave_its_element() -> None:
    text = in_script({EVIL: ["</script><!--", "a & b", float("nan")]})
    assert not set("<>&") & set(text)
    assert json.loads(text) == {EVIL: ["</script><!--", "a & b", None]}


def measured(folder: Path, name: str, shift: float) -> Path:
    made = FakeRun(folder / name)
    for number in range(8):
        made.add_blocks(f"case {number}" if number else EVIL.replace("/", "_"), 18.0, 1.0 + shift + number % 4)
    made.complete()
    return made.run.folder


def test_the_page_of_two_runs_tells_who_wins_where(tmp_path: Path) -> None:
    one, other = measured(tmp_path, "one", 3.0), measured(tmp_path, "other", 0.0)
    comparison = compare([read_measured(one), read_measured(other)])
    sites = {name: {"site": f"<b>{'north' if n < 4 else 'south'}"} for n, name in enumerate(_cases(one))}
    path = write_comparison_page(tmp_path / "page" / "comparison.html", comparison, sites)
    page = Page(path)
    page.require_inert()
    difference = next(row for row in comparison.pairs[0].differences if row.metric == "dice")
    assert difference.found.difference > 0.05
    assert f"a difference of +{difference.found.difference:.3f}" in page.text and "B is better" in page.text
    assert "by site" in page.text and "<b>north 4" in page.text and "b" not in page.tags
    assert "8 patients are few" in page.text
    (pair,) = page.data["comparison"]
    first, second = pair["values"]["dice"]["lesion"]
    told = [json.loads((folder / "metrics.json").read_text())["val"]["cases"] for folder in (one, other)]
    for place, name in enumerate(pair["cases"]):
        assert first[place] == pytest.approx(told[0][name]["labels"]["lesion"]["dice"], rel=1e-4)
        assert second[place] == pytest.approx(told[1][name]["labels"]["lesion"]["dice"], rel=1e-4)
    assert page.data["reports"] == {}  # nobody wrote one yet
    write_report(Run(one), {})
    write_comparison_page(path, comparison)
    assert Page(path).data["reports"] == {"A": "../one/run/report.html"}


def test_runs_that_differ_in_their_settings_say_in_which(tmp_path: Path) -> None:
    one, other = measured(tmp_path, "one", 3.0), measured(tmp_path, "other", 0.0)
    settings = {"dataset": "test/lesions", "fold": 0, "seed": 3, "train": {"learning_rate": 0.01}}
    write_json(other / "config.yaml", settings)  # JSON is YAML
    page = Page(write_comparison_page(tmp_path / "c.html", compare([read_measured(one), read_measured(other)])))
    text = page.text[page.text.index("What differs between the runs setting") :]
    assert "seed – 3" in text and "train.learning_rate – 0.01" in text and "dataset" not in text.split("Written by")[0]


def _cases(folder: Path) -> list[str]:
    return list(json.loads((folder / "metrics.json").read_text())["val"]["cases"])


def test_the_summary_tells_the_lowest_case_and_how_far_volumes_are_off(tmp_path: Path) -> None:
    made = FakeRun(tmp_path)
    for number in range(5):
        made.add_blocks(f"case {number}", 18.0, 1.0 + 2 * number)
    made.complete()
    told = json.loads(made.run.metrics.read_text())["val"]["cases"]
    figures = {name: case["labels"]["lesion"] for name, case in told.items()}
    lowest = min(figures, key=lambda name: figures[name]["dice"])
    middle = np.median([one["dice"] for one in figures.values()])
    off = [abs(one["volume_ml"] / one["truth_volume_ml"] - 1) for one in figures.values()]
    text = Page(write_report(made.run, made.truths)).text
    assert f"Dice is {middle:.3f} or more; the lowest is {figures[lowest]['dice']:.3f} ({lowest})." in text
    assert f"off by {100 * np.median(off):.0f} % in the median case" in text
