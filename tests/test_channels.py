"""Optional channels: cases without one of them, from the folder to the mask."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from conftest import Segue, blob_case
from segue.catalogue import Card, Case, dataset_at, load_card
from segue.core.config import validate
from segue.core.errors import DataError, SegueError
from segue.images import read, write
from segue.predict import Predictor, gather, predict_cases
from segue.prepare import (
    ExamineTask,
    Machine,
    Plan,
    PrepareTask,
    examine,
    fingerprint,
    plan,
    prepare_case,
    prepared_image,
    read_channels,
)
from segue.prepare.cache import normalised
from segue.train import Run, World, padding_values
from segue.train.masks import MaskObjective
from segue.train.variation import hidden_channels
from segue.volume import Geometry, Volume
from segue.workflow.estimating import describe_plan
from segue.workflow.experiment import Experiment
from segue.workflow.exporting import export_dataset
from segue.workflow.training import train

LACKING = (2, 5, 7)  # the cases without t2
GRID = Geometry((16, 16, 16), np.eye(4))


def content(**changes: object) -> dict[str, object]:
    return {
        "name": "two",
        "title": "Two channels",
        "channels": [{"name": "t1"}, {"name": "t2", "optional": True}],
        "labels": {1: "bright", 2: "dim"},
        "layout": {"kind": "files", "images": "{case}/{channel}.nii.gz", "labels": "{case}/mask.nii.gz"},
        **changes,
    }


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A card of ten cases with the channels t1 and t2; three lack t2."""
    root, random = tmp_path / "two", np.random.default_rng(3)
    for number in range(10):
        image, labels = blob_case(random, (16, 16, 16))
        case = root / f"c{number}"
        write(Volume(image[None], GRID), case / "t1.nii.gz")
        if number not in LACKING:
            write(Volume(500 - 100 * image[None], GRID), case / "t2.nii.gz")
        write(Volume(labels[None], GRID, "labels"), case / "mask.nii.gz")
    (root / "card.yaml").write_text(yaml.safe_dump(content()))
    return root / "card.yaml"


def planned(card: Card, root: Path) -> tuple[list[Case], Plan]:
    cases = list(dataset_at(card, root).cases)
    return cases, plan(fingerprint(card, [examine(ExamineTask(case, card)) for case in cases]), Machine("cpu", 2, 8.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": [{"name": "t1", "optional": True}]}, "only channel"),
        ({"layout": {"kind": "decathlon"}}, "file of its own"),
        ({"layout": {"kind": "files", "images": "{case}.nii.gz"}}, "file of its own"),
        ({"task": "classification", "classes": "binary", "layout": {"kind": "nnunet"}}, "only a segmentation"),
    ],
)
def test_where_no_channel_can_be_optional(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SegueError, match=message):
        validate(Card, content(**changes))


@pytest.mark.parametrize("images", ["{case}/{channel}.nii.gz", {n: f"{{case}}/{n}.nii.gz" for n in ("t1", "t2", "t3")}])
def test_a_case_remembers_what_it_lacks(tmp_path: Path, images: object) -> None:
    for name in ("a/t1", "a/t3", "b/t2", "b/t3", "c/t1", "c/t2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    channels = [{"name": "t1", "optional": True}, {"name": "t2", "optional": True}, {"name": "t3"}]
    card = validate(Card, content(channels=channels, layout={"kind": "files", "images": images}))
    found = {case.id: case for case in dataset_at(card, tmp_path).cases}
    assert {name: case.absent for name, case in found.items()} == {"a": (1,), "b": (0,), "c": ()}
    assert [path.name for path in found["b"].images] == ["t2.nii.gz", "t3.nii.gz"]  # type: ignore[union-attr]
    # A required one keeps its place: check says which file is missing, as before.
    assert [path.exists() for path in found["c"].files] == [True, True, False]
    finding = examine(ExamineTask(found["c"], card)).findings[0]
    assert (finding.severity, "t3.nii.gz" in str(finding.value)) == ("error", True)


def test_a_channel_that_no_case_has_is_told(two: Path) -> None:
    for path in two.parent.glob("*/t2.nii.gz"):
        path.unlink()
    with pytest.raises(DataError, match=r"no training case has this channel.*t2"):
        planned(load_card(str(two)), two.parent)


def test_the_first_channel_may_be_missing_everywhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "t2.nii.gz").touch()
    channels = [{"name": "t1", "optional": True}, {"name": "t2"}]
    (case,) = dataset_at(validate(Card, content(channels=channels)), tmp_path).cases
    assert (case.id, case.absent) == ("a", (0,))


def test_nnunets_numbers_and_a_study_without_ct(tmp_path: Path) -> None:
    for name in ("a_0000", "a_0001", "b_0000"):
        write(
            Volume(np.zeros((1, 4, 4, 4), np.uint8), Geometry((4, 4, 4), np.eye(4))),
            tmp_path / f"imagesTr/{name}.nii.gz",
        )
    card = validate(Card, content(layout={"kind": "nnunet"}))
    assert [case.absent for case in dataset_at(card, tmp_path).cases] == [(), (1,)]
    channels = [{"name": "t1"}, {"name": "t2"}]
    with pytest.raises(DataError, match=r"other channels.*0000 instead of 0000, 0001"):
        dataset_at(validate(Card, content(layout={"kind": "nnunet"}, channels=channels)), tmp_path)
    study = tmp_path / "P" / "S"
    study.mkdir(parents=True)
    (study / "SUV.nii.gz").touch()
    channels = [{"name": "CT", "unit": "HU", "optional": True}, {"name": "PET", "unit": "SUV"}]
    petct = validate(Card, content(layout={"kind": "petct"}, channels=channels))
    for (case,) in (
        dataset_at(petct, tmp_path).cases,
        gather([str(study)], petct),
        gather([str(tmp_path / "P")], petct),
    ):
        assert (case.id, case.absent, case.images) == ("P_S", (0,), (study.resolve() / "SUV.nii.gz",))


def test_statistics_are_over_the_cases_that_have_the_channel(two: Path) -> None:
    card = load_card(str(two))
    units = [{"name": "t1"}, {"name": "t2", "unit": "HU", "optional": True}]
    card = Card.model_validate({**card.model_dump(), "channels": units})
    cases, made = planned(card, two.parent)
    inside = []
    for case in cases:
        if not case.absent:
            assert isinstance(case.label, Path)
            inside.append(read(case.images[1]).array[read(case.label).array > 0])  # type: ignore[arg-type]
    values = np.concatenate(inside)
    assert made.normalisation[1].mean == pytest.approx(values.mean(), rel=1e-6)
    assert made.normalisation[1].std == pytest.approx(values.std(), rel=1e-6)
    assert made.channel_dropout == 0.2
    assert "3 of 10 cases lack t2" in describe_plan(made)
    assert "channel_dropout" not in describe_plan(made.model_copy(update={"channel_dropout": 0.0}))
    findings = [finding for case in cases for finding in examine(ExamineTask(case, card)).findings]
    assert [(f.case, f.severity) for f in findings if "t2 is missing" in f.what] == [(f"c{n}", "note") for n in LACKING]
    # The missing channel is air after normalisation, though air is not 0 there.
    assert normalised(np.zeros((2, 2, 2, 2)), made.normalisation, (1,))[1] == pytest.approx(padding_values(made)[1])
    assert padding_values(made)[1] < -1


def test_what_is_missing_looks_alike_in_the_cache_and_in_prediction(two: Path, tmp_path: Path) -> None:
    card = load_card(str(two))
    cases, made = planned(card, two.parent)
    made = made.model_copy(update={"spacing_mm": (1.5, 1.0, 1.0)})
    case = cases[LACKING[0]]
    image = read_channels(case, card)
    assert image.array.shape == (2, 16, 16, 16)
    assert not image.array[1].any()
    ready = prepare_case(PrepareTask(case, card, made, tmp_path / "cache"))
    fresh = prepared_image(image, made, case.absent)
    assert np.array_equal(ready.image, fresh.array.astype(np.float16))
    assert np.allclose(fresh.array[1], padding_values(made)[1], atol=1e-6)
    assert fresh.array[0].std() > 0.5


def objective(two: Path, cache: Path, world: World | None = None) -> tuple[MaskObjective, list[Case]]:
    card = load_card(str(two))
    cases, made = planned(card, two.parent)
    made = made.model_copy(update={"patch": (16, 16, 16), "batch": 4})
    ready = [prepare_case(PrepareTask(case, card, made, cache)) for case in cases]
    return MaskObjective(made, 5, ready, [], world=world), cases


def test_training_hides_optional_channels_alike_for_any_number_of_processes(two: Path, tmp_path: Path) -> None:
    alone, cases = objective(two, tmp_path / "cache")
    halves = [objective(two, tmp_path / "cache", World(rank, 2))[0] for rank in range(2)]
    lacking = {cases[number].id for number in LACKING}
    gone, cpu = 0, torch.device("cpu")
    for step in range(10):
        images, labels = alone.batch(step, cpu, vary=True)
        parts = [half.batch(step, cpu, vary=True) for half in halves]
        assert torch.equal(images, torch.cat([part[0] for part in parts]))
        assert torch.equal(labels, torch.cat([part[1] for part in parts]))
        hidden = (images == 0).flatten(2).all(2)  # a channel in arbitrary units is 0 outside of images
        assert not hidden[:, 0].any()  # required
        assert all(hidden[row, 1] for row, name in enumerate(alone.names(step)) if name in lacking)
        gone += int(hidden[:, 1].sum())
    assert 12 < gone < 40  # 3 of 10 lack it, and of the others a fifth is hidden: 17.6 of 40 on average
    images, _ = alone.batch(0, cpu, vary=False)
    present = [row for row, name in enumerate(alone.names(0)) if name not in lacking]
    assert images[present, 1].flatten(1).std(1).min() > 0
    for each in (alone, *halves):
        each.close()


def test_chance_never_hides_the_last_channel(two: Path) -> None:
    _, made = planned(load_card(str(two)), two.parent)
    channels = [channel.model_copy(update={"optional": True}) for channel in made.channels]
    made = made.model_copy(update={"channels": channels, "channel_dropout": 0.5})
    absent = torch.zeros(4000, 2, dtype=torch.bool)
    absent[2000:, 0] = True
    hidden = hidden_channels(made, absent, 0, 1)
    assert torch.equal(hidden, hidden_channels(made, absent, 0, 1))
    assert not torch.equal(hidden, hidden_channels(made, absent, 0, 2))
    assert not hidden.all(1).any()
    assert torch.equal(hidden[2000:], absent[2000:])  # only one is left: it stays
    # Of four equally likely outcomes the one without any channel is drawn back to nothing hidden.
    assert hidden[:2000].float().mean(0).tolist() == pytest.approx([0.25, 0.25], abs=0.03)


def test_predict_sorts_by_number_and_names_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a_0000", "a_0002", "b_0001", "c_0000"):
        (folder / f"{name}.nii.gz").touch()
    channels = [{"name": "t1"}, {"name": "t2", "optional": True}, {"name": "t3", "optional": True}]
    card = validate(Card, content(channels=channels))
    cases = {case.id: case for case in gather([str(folder)], card)}
    assert {name: case.absent for name, case in cases.items()} == {"a": (1,), "b": (0, 2), "c": (1, 2)}
    with pytest.raises(DataError, match=r"b: b_0001\.nii\.gz: a channel that the card requires is missing \(t1\)"):
        read_channels(cases["b"], card)


@pytest.mark.slow
def test_a_dataset_with_missing_channels_from_check_to_mask(two: Path, tmp_path: Path, segue: Segue) -> None:
    told = segue("check", two)
    assert told.returncode == 0, told.stderr
    assert "t2 is missing" in told.stdout
    assert all(f"c{number}" in told.stdout for number in LACKING)
    settings = {
        "dataset": str(two),
        "data": tmp_path / "data",
        "output": tmp_path / "run",
        "budget": {"steps": 150},
        "network": {"args": {"channels": [8, 16], "strides": [[1, 1, 1], [2, 2, 2]], "stem_stride": [1, 1, 1]}},
        "train": {"precision": "float32", "validations": 1, "learning_rate": 0.01},
    }
    train(Experiment.model_validate(settings))
    run = Run(tmp_path / "run")
    assert run.plan().channel_dropout == 0.2
    metrics = run.json("metrics.json")["val"]["aggregate"]["all"]["dice"]["value"]
    assert metrics > 0.6  # a ball and a dimmer one: a network that sees nothing stays at 0
    new = tmp_path / "new"
    image, labels = blob_case(np.random.default_rng(99), (16, 16, 16))
    write(Volume(image[None], GRID), new / "full_0000.nii.gz")
    write(Volume(500 - 100 * image[None], GRID), new / "full_0001.nii.gz")
    write(Volume(image[None], GRID), new / "part_0000.nii.gz")
    write(Volume(500 - 100 * image[None], GRID), new / "wrong_0001.nii.gz")
    predictor = Predictor(run.folder)
    found = list(predict_cases(predictor, gather([str(new)], predictor.card), tmp_path / "out"))
    assert [(p.case.id, p.error is None) for p in found] == [("full", True), ("part", True), ("wrong", False)]
    assert "requires" in str(found[2].error)
    for name in ("full", "part"):
        mask = read(tmp_path / "out" / f"{name}.nii.gz").array
        assert 2 * ((mask > 0) & (labels > 0)).sum() / ((mask > 0).sum() + (labels > 0).sum()) > 0.6
    with pytest.raises(DataError, match=r"(?s)lacks a channel that the model needs \(t1\).*optional are t2"):
        predictor.predict(Volume(np.zeros((2, 16, 16, 16)), GRID), absent=(0,))


@pytest.mark.parametrize("kind", ["nnunet", "monai"])
def test_exports_leave_out_what_they_cannot_say(two: Path, tmp_path: Path, kind: str) -> None:
    dataset = dataset_at(load_card(str(two)), two.parent)
    done = export_dataset(dataset, kind, tmp_path / "out")
    assert sorted(done.left_out) == [f"c{number}" for number in LACKING]
    assert "lacks a channel" in str(done.left_out["c2"])


def test_a_table_has_an_empty_cell(two: Path, tmp_path: Path) -> None:
    dataset = dataset_at(load_card(str(two)), two.parent)
    export_dataset(dataset, "csv", tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as lines:
        rows = {row["case"]: row for row in csv.DictReader(lines)}
    assert rows["c2"]["image_t1"].endswith("c2/t1.nii.gz")
    assert rows["c2"]["image_t2"] == ""
    assert rows["c1"]["image_t2"].endswith("c1/t2.nii.gz")
