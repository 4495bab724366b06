"""Folds: one run folder for a cross-validation, folds as jobs of their own, every case, folds of a file."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import ndimage

from conftest import Segue
from segue.catalogue import open_dataset, whole, with_folds
from segue.core.errors import DataError, UsageError
from segue.evaluate import Pair, choose_postprocessing, measure_components, score_pair
from segue.images import read, write
from segue.metrics import ComponentRule, postprocessed
from segue.model import sliding_window
from segue.predict import Classifying, Predictor, gather
from segue.prepare import Budget, prepared_image
from segue.train import Run, Trainer, TrainSettings, load_checkpoint, padding_values, read_events
from segue.train.network import build_network
from segue.volume import Geometry, Volume
from segue.workflow.experiment import Experiment, load_experiment
from segue.workflow.folds import evaluate_again
from segue.workflow.training import train

TINY = {"channels": [8, 16], "strides": [[1, 1, 1], [2, 2, 2]], "stem_stride": [2, 2, 2]}
NAMES = [f"blob_{n:02d}" for n in range(10)]


def experiment(blobs: Path, folder: Path, **changes: object) -> Experiment:
    settings = {
        "dataset": str(blobs),
        "data": folder / "data",
        "output": folder / "run",
        "budget": Budget(steps=2),
        "network": {"args": TINY},
        "train": TrainSettings(precision="float32", validations=1),
        **changes,
    }
    return Experiment.model_validate(settings)


def folds_file(path: Path, *vals: list[str], names: list[str] = NAMES) -> Path:
    path.write_text(json.dumps([{"train": [n for n in names if n not in val], "val": val} for val in vals]))
    return path


def halves(folder: Path) -> Path:
    return folds_file(folder / "splits_final.json", NAMES[:5], NAMES[5:])


def with_test_set(blobs: Path) -> Path:
    """The same folder with a card that knows masks of the test set."""
    (blobs / "labelsTs").mkdir()
    (blobs / "labelsTs" / "blob_99.nii.gz").write_bytes((blobs / "labelsTr" / "blob_09.nii.gz").read_bytes())
    test = {"images": "imagesTs/{case}.nii.gz", "labels": "labelsTs/{case}.nii.gz"}
    layout = {"images": "imagesTr/{case}.nii.gz", "labels": "labelsTr/{case}.nii.gz", "test": test}
    card = {
        "name": "blobs",
        "title": "Blobs",
        "channels": [{"name": "MRI"}],
        "labels": {1: "bright", 2: "dim"},
        "layout": {"kind": "files", **layout},
    }
    (blobs / "card.yaml").write_text(yaml.safe_dump(card))
    return blobs


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("checkpoints/*.pt"))}


@pytest.mark.parametrize("value", [0, 4, "3", "cv", "none"])
def test_a_fold_is_a_number_or_all_or_none(value: object) -> None:
    known = load_experiment("x", {"fold": value}).fold
    assert known == (int(value) if str(value).isdigit() else value)


@pytest.mark.parametrize("value", [-1, 1.5, True, "all", None, "²"])
def test_another_fold_is_refused_in_one_sentence(value: object) -> None:
    with pytest.raises(UsageError, match=r"fold: .* is no fold: give a number from 0, cv"):
        load_experiment("x", {"fold": value})


def test_a_bad_fold_on_the_command_line_is_a_usage_error(segue: Segue) -> None:
    done = segue("train", "msd/hippocampus", "--fold", "last")
    assert done.returncode == 2
    assert "'last' is no fold" in done.stderr


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "no such split file"),
        ("{", "no list of folds"),
        ([], "the list of folds is empty"),
        ([{"train": ["a"], "val": ["b"]}], "names no case that is here"),
        ([{"train": NAMES[:8], "val": [*NAMES[8:], "blob_77"]}], "not among the annotated training cases"),
        ([{"train": NAMES[:8], "val": [*NAMES[8:], "blob_99"]}], "not among the annotated training cases"),
        ([{"train": NAMES[:9], "val": NAMES[8:]}], "cases stand in 'train' and in 'val'"),
    ],
)
def test_a_bad_split_file_is_told(blobs: Path, tmp_path: Path, content: object, what: str) -> None:
    path = tmp_path / "splits_final.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=what):
        with_folds(open_dataset(blobs), path)


def test_a_patient_is_never_on_both_sides_of_a_split_file(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    twins = tuple(replace(case, patient="P") if case.id in NAMES[4:6] else case for case in dataset.cases)
    with pytest.raises(DataError, match=r"patients stand in 'train' and in 'val' \(P\)"):
        with_folds(replace(dataset, cases=twins), halves(tmp_path))


def test_folds_that_validate_a_patient_twice_are_no_cross_validation(blobs: Path, tmp_path: Path) -> None:
    twice = folds_file(tmp_path / "twice.json", NAMES[:4], NAMES[3:6])
    with pytest.raises(DataError, match=r"validates in two folds.*blob_03 in folds 0 and 1"):
        train(experiment(blobs, tmp_path, fold="cv", splits=twice))
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="there is one fold only"):
        train(experiment(blobs, tmp_path, fold="cv", splits=folds_file(tmp_path / "one.json", NAMES[:4])))


def test_a_cross_validation_measures_every_case_once_and_predicts_as_one(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_test_set(blobs)
    wanted = experiment(blobs, tmp_path, fold="cv", splits=halves(tmp_path))
    top = Run(tmp_path / "run")
    # Stopped in the second fold, the first one is measured already.
    fit, begun = Trainer.fit, []

    def fit_once(self: Trainer) -> object:
        begun.append(self.run.folder.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return fit(self)

    monkeypatch.setattr(Trainer, "fit", fit_once)
    with pytest.raises(KeyboardInterrupt):
        train(wanted)
    assert set(json.loads(top.metrics.read_text())["val"]["cases"]) == set(NAMES[:5])
    first = stamps(top.folder)
    run, evaluations = train(wanted)
    assert begun == ["fold_0", "fold_1", "fold_1"]
    assert "fold 2 of 2: 2 steps of training" in capsys.readouterr().err
    assert run == top
    # The folder, its folds and one plan.
    for name in [
        "config.yaml",
        "card.json",
        "plan.json",
        "metrics.json",
        "metrics.csv",
        "postprocessing.json",
        "report.html",
    ]:
        assert (top.folder / name).stat().st_size > 0
    assert top.fold == "cv"
    assert [member.folder.name for member in top.members()] == ["fold_0", "fold_1"]
    for number, member in enumerate(top.members()):
        assert member.plan() == top.plan()
        assert member.fold == number
        assert [case["id"] for case in member.json("split.json")["val"]] == NAMES[5 * number : 5 * number + 5]
        assert member.report.exists()
    # Each case as its own fold measured it.
    figures = json.loads(top.metrics.read_text())
    assert list(figures["val"]["cases"]) == NAMES
    assert evaluations[0].aggregate["all"]["dice"]["n"] == 10
    assert list(figures["test"]["cases"]) == ["blob_99"]
    for member in top.members():
        own = json.loads(member.metrics.read_text())["val"]["cases"]
        assert {name: figures["val"]["cases"][name] for name in own} == own
    each = [case["labels"]["bright"]["dice"] for case in figures["val"]["cases"].values()]
    assert figures["val"]["aggregate"]["bright"]["dice"]["value"] == pytest.approx(np.mean(each))
    page = top.report.read_text()
    assert 'href="fold_0/report.html"' in page
    assert "each by the fold that was not trained on it" in page
    assert "is gone" not in page  # pictures find the predictions in the folds
    # Once more: nothing is trained.
    done = stamps(top.folder)
    assert {path: done[path] for path in first} == first
    train(wanted)
    assert stamps(top.folder) == done
    assert len(begun) == 3
    assert [len(evaluation.cases) for evaluation in evaluate_again(top, "cpu")] == [10, 1]
    # The answer of the folder is the mean of its folds' probabilities.
    model = Predictor(top.folder, "cpu")
    image = read(blobs / "imagesTs" / "blob_99.nii.gz")
    plan = top.plan()
    prepared = prepared_image(image, plan)
    ready = torch.from_numpy(prepared.array)
    each_fold = []
    for member in top.members():
        network = build_network(plan).eval()
        network.load_state_dict(load_checkpoint(member.best)["network"])
        logits = sliding_window(
            network, ready, patch=plan.patch, overlap=plan.overlap, batch=plan.batch, device=torch.device("cpu"),
            padding=torch.from_numpy(padding_values(plan)),
        )  # fmt: skip
        each_fold.append(torch.softmax(logits.double(), 0))
    mean = torch.stack(each_fold).mean(0)
    with torch.inference_mode():
        answered = torch.cat([sums for (sums,) in model.slabs(prepared, image)], 1) / len(each_fold)
        assert torch.allclose(answered.double(), mean, atol=1e-6)
    assert not torch.allclose(each_fold[0], mean, atol=1e-6)
    model.rules = {}
    assert (model.predict(image).array[0] == mean.argmax(0).numpy()).mean() > 0.999
    # The receipt's key is that of all weights and of the post-processing.
    chosen = json.loads(top.postprocessing.read_text())
    chosen["labels"][0]["chosen"] = {"largest": True, "minimum_ml": 0.0}
    top.postprocessing.write_text(json.dumps(chosen))
    changed = Predictor(top.folder, "cpu")
    assert changed.rules[1] == ComponentRule(largest=True)
    assert ndimage.label(changed.predict(image).array[0] == 1, np.ones((3, 3, 3)))[1] <= 1
    keys = {model.key, changed.key, *(Predictor(member.folder, "cpu").key for member in top.members())}
    assert len(keys) == 4
    # A fold without weights is left out and named; one of another plan is an error.
    (top.folder / "fold_1" / "checkpoints").rename(tmp_path / "kept")
    capsys.readouterr()
    assert [member.folder.name for member in Predictor(top.folder, "cpu").members] == ["fold_0"]
    assert "fold_1 has no checkpoint yet" in capsys.readouterr().err
    (tmp_path / "kept").rename(top.folder / "fold_1" / "checkpoints")
    other = json.loads((top.folder / "fold_1" / "plan.json").read_text())
    (top.folder / "fold_1" / "plan.json").write_text(json.dumps({**other, "batch": other["batch"] + 1}))
    with pytest.raises(DataError, match=r"fold_1: this fold was trained with another plan"):
        Predictor(top.folder, "cpu")


def test_changed_folds_are_another_experiment(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, fold=1, splits=halves(tmp_path))
    run, _ = train(wanted)
    assert [case["id"] for case in run.json("split.json")["val"]] == NAMES[5:]
    assert yaml.safe_load(run.config.read_text())["splits"] == str((tmp_path / "splits_final.json").resolve())
    folds_file(tmp_path / "splits_final.json", NAMES[:5], NAMES[6:])
    with pytest.raises(DataError, match=r"the data changed since this run began \(blob_05\)"):
        train(wanted)
    with pytest.raises(UsageError, match=r"splits was .*splits_final\.json, now None"):
        train(experiment(blobs, tmp_path, fold=1))


@pytest.mark.slow
def test_folds_may_be_jobs_of_their_own(blobs: Path, tmp_path: Path, segue: Segue) -> None:
    wanted = experiment(blobs, tmp_path, splits=halves(tmp_path))
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(json.loads(wanted.model_dump_json())))
    command = [sys.executable, "-m", "segue", "train", str(config), "--fold"]
    jobs = [subprocess.Popen([*command, fold], cwd=tmp_path, stderr=subprocess.PIPE) for fold in ("0", "1")]
    assert [(job.communicate(timeout=300)[1], job.returncode)[1] for job in jobs] == [0, 0]
    top = Run(tmp_path / "run")
    owner = top.fold
    joined = top.fold_folder(1 - int(owner))
    assert [member.folder for member in top.members()] == [top.folder, joined.folder]
    assert joined.plan() == top.plan()
    assert set(json.loads(top.metrics.read_text())["val"]["cases"]) == set(NAMES)
    assert top.postprocessing.exists()
    done = stamps(top.folder)
    assert len(done) == 4
    # Again, and all folds at once: everything is there already.
    train(wanted.model_copy(update={"fold": "cv"}))
    assert stamps(top.folder) == done
    assert not (top.folder / f"fold_{owner}").exists()
    events = len(read_events(joined.events))
    assert train(wanted.model_copy(update={"fold": joined.fold}))[0] == joined
    assert len(read_events(joined.events)) > events  # the same place again
    assert set(json.loads(top.metrics.read_text())["val"]["cases"]) == set(NAMES)
    assert {case.id for case in gather([str(blobs)], top.card())} >= set(NAMES)
    for other in ({"budget": Budget(steps=3)}, {"fold": "none"}, {"fold": 0, "seed": 1}):
        with pytest.raises(UsageError, match="this run folder holds another experiment"):
            train(wanted.model_copy(update=other))


def test_every_case_may_train(blobs: Path, tmp_path: Path) -> None:
    run, evaluations = train(experiment(blobs, tmp_path, fold="none"))
    assert evaluations == []
    assert json.loads(run.metrics.read_text()) == {}
    split = run.json("split.json")
    assert [case["id"] for case in split["train"]] == NAMES
    assert split["val"] == []
    assert not run.best.exists()
    weights = load_checkpoint(run.last)["mean_network"]
    model = Predictor(run.folder, "cpu")
    assert all(torch.equal(value, weights[name]) for name, value in model.network.state_dict().items())
    page = run.report.read_text()
    assert "none was held out" in page
    assert "nothing was held out" in page
    with_test_set(blobs)
    assert [case.id for case in whole(open_dataset(blobs)).test] == ["blob_99"]
    run, (tested,) = train(experiment(blobs, tmp_path, fold="none", output=tmp_path / "tested"))
    assert tested.part == "test"
    assert set(json.loads(run.metrics.read_text())) == {"test"}


def test_classes_are_averaged_too(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    for number in range(12):
        kind = ("dark", "light")[number % 2]
        pixels = random.integers(0, 120, (16, 16)) + 120 * (number % 2)
        path = tmp_path / "Shades" / kind / f"{kind}_{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    names = [case.id for case in open_dataset(tmp_path / "Shades").cases]
    vals = [name for place, name in enumerate(names) if place % 6 < 3]
    splits = folds_file(tmp_path / "s.json", vals, [name for name in names if name not in vals], names=names)
    wanted = experiment(
        tmp_path / "Shades", tmp_path, fold="cv", splits=splits, network={"args": {"width": 16, "members": 1}}
    )
    run, (together,) = train(wanted)
    assert together.aggregate["all"]["auc"]["n"] == 12
    own = {case.case: case.probabilities for member in run.members() for case in evaluate_again(member, "cpu")[0].cases}
    assert {case.case for case in together.cases} == set(own) == set(names)
    for case in together.cases:
        assert case.probabilities == pytest.approx(own[case.case], abs=1e-6)
    cases = gather([str(tmp_path / "Shades")], run.card())
    answers = [
        [answer.probabilities for answer in Classifying(folder, "cpu").answers(cases, tmp_path / "arrays")]
        for folder in (run.folder, *(member.folder for member in run.members()))
    ]
    assert np.allclose(answers[0], np.mean(answers[1:], axis=0), atol=1e-6)
    assert not np.allclose(answers[1], answers[2], atol=1e-4)
    assert "share of right answers" in run.report.read_text()


def pairs_with(folder: Path, *, noisy: int, hurt: bool = False) -> list[Pair]:
    """Eight patients whose prediction is the truth; ``noisy`` of them with a speck beside it, which is true if
    ``hurt``."""
    grid = Geometry((20, 20, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    pairs = []
    for number in range(8):
        truth = np.zeros(grid.shape, np.uint8)
        truth[4:10, 4:10, 4:10] = 1
        prediction = truth.copy()
        if number < noisy:
            prediction[15:17, 15:17, 15 : 16 + number % 2] = 1
        if hurt:
            truth[15:17, 15:17, 15:17] = 1
        paths = [folder / f"{kind}{number}.nii.gz" for kind in "tp"]
        for path, array in zip(paths, (truth, prediction), strict=True):
            write(Volume(array[None], grid, "labels"), path)
        pairs.append(Pair(f"c{number}", f"p{number}", paths[1], paths[0], {1: "thing"}))
    return pairs


def test_post_processing_is_chosen_where_it_helps_several_patients(tmp_path: Path) -> None:
    pairs = pairs_with(tmp_path, noisy=6)
    chosen = choose_postprocessing([measure_components(pair) for pair in pairs], {1: "thing"}, ["fold_0"])
    (label,) = chosen.labels
    # The largest specks have 8 voxels of 1 mm: what removes them all, and no more, is what is chosen.
    assert chosen.rules == {1: ComponentRule(minimum_ml=0.00801)}
    best = next(trial for trial in label.tried if trial.rule == label.chosen)
    assert best.dice_after == 1.0
    before = np.mean([2 * 216 / (432 + extra) for extra in (4, 8, 4, 8, 4, 8, 0, 0)])
    assert best.dice_before == pytest.approx(before)
    assert best.gain == pytest.approx(1 - before)
    # And applied, it gives just these figures.
    for pair in pairs:
        assert score_pair(replace(pair, rules=chosen.rules)).labels["thing"]["dice"] == 1.0


@pytest.mark.parametrize(("noisy", "hurt"), [(0, False), (1, False), (6, True)])
def test_post_processing_is_refused_where_it_does_not(tmp_path: Path, noisy: int, hurt: bool) -> None:
    """Nothing to remove; one patient alone; and specks that are true."""
    found = [measure_components(pair) for pair in pairs_with(tmp_path, noisy=noisy, hurt=hurt)]
    chosen = choose_postprocessing(found, {1: "thing"}, [])
    assert chosen.rules == {}
    assert all(trial.ci95 is None or trial.ci95[0] <= 0 for label in chosen.labels for trial in label.tried)


def test_components_are_scipys() -> None:
    labels = (np.random.default_rng(5).random((17, 13, 11)) < 0.12).astype(np.uint8) * 2
    labels[labels == 0] = np.random.default_rng(6).random(int((labels == 0).sum())) < 0.05
    faces_and_edges = ndimage.generate_binary_structure(3, 2)
    found, number = ndimage.label(labels == 2, faces_and_edges)
    sizes = ndimage.sum_labels(np.ones_like(found), found, range(1, number + 1))
    kept = np.isin(found, 1 + np.flatnonzero(sizes * 0.5 >= 2.0))
    assert np.array_equal(postprocessed(labels, {2: ComponentRule(minimum_ml=2.0)}, 0.5) == 2, kept)
    largest = postprocessed(labels, {2: ComponentRule(largest=True)}, 0.5)
    assert np.array_equal(largest == 2, found == 1 + sizes.argmax())
    assert np.array_equal(largest == 1, labels == 1)
