"""Classification: losses, networks, batches, and the road from an archive to probabilities."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from segue.catalogue import load_card, open_dataset, split_cases
from segue.core.errors import UsageError
from segue.model import Classifier, ClassLoss, probabilities
from segue.predict import Classifying
from segue.prepare import Budget, Machine, PlanOverrides, map_stack, measure_arrays, plan
from segue.train import ClassBatches, ClassImages, ClassObjective, TrainSettings, read_events
from segue.train.classes import truth_rows
from segue.workflow.experiment import Experiment, load_experiment
from segue.workflow.look import stack_all
from segue.workflow.measuring import predict
from segue.workflow.planning import brought, make_plan
from segue.workflow.training import train

CPU = Machine("cpu", 2, 16.0)
SMALL = {"args": {"width": 16, "members": 1}}


def look_alike(name: str, folder: Path, segue, number: int = 6) -> Path:
    made = segue("get", name, "--look-alike", number, "-o", folder / "data")
    assert made.returncode == 0, made.stderr
    return folder / "data"


def experiment(name: str, data: Path, output: Path, **changes: object) -> Experiment:
    settings = {
        "dataset": name,
        "data": data,
        "output": output,
        "budget": Budget(steps=3),
        "network": SMALL,
        "train": TrainSettings(precision="float32", validations=2),
        **changes,
    }
    return Experiment.model_validate(settings)


@pytest.fixture(scope="module")
def breast(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("breast") / "data"
    folder = data / "medmnist" / "breastmnist"
    folder.mkdir(parents=True)
    (folder / "breastmnist.npz").symlink_to(test_data / "medmnist" / "breastmnist.npz")
    return data


def test_the_loss_of_several_classes_is_torchs_cross_entropy() -> None:
    logits, truth = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, 0, 0, 1, 2, 2])
    rows = functional.one_hot(truth, 4).float()
    assert torch.allclose(
        ClassLoss("multi-class", torch.zeros(4))(logits, rows), functional.cross_entropy(logits, truth)
    )
    smooth = functional.cross_entropy(logits, truth, label_smoothing=0.1)
    assert torch.allclose(ClassLoss("multi-class", torch.zeros(4), 0.1)(logits, rows), smooth)


def test_a_shift_moves_the_answers_that_are_learnt_towards_rare_classes() -> None:
    """Nine of ten images are of class 0, and nothing tells them apart: the best constant answer, in closed form."""
    rows = torch.eye(2)[torch.tensor([0] * 9 + [1])]
    for strength in (0.0, 0.5, 1.0):
        logits = torch.zeros(1, 2, requires_grad=True)
        loss = ClassLoss("binary", strength * torch.log(torch.tensor([0.9, 0.1])))
        optimizer = torch.optim.SGD([logits], lr=2.0)
        for _ in range(200):
            optimizer.zero_grad()
            loss(logits.expand(10, 2), rows).backward()
            optimizer.step()
        share = np.array([0.9, 0.1]) ** (1 - strength)
        assert probabilities(logits.detach(), "binary")[0].numpy() == pytest.approx(share / share.sum(), abs=1e-3)


def test_the_loss_of_grades_grows_with_the_distance() -> None:
    loss = ClassLoss("ordinal", torch.zeros(5))
    truth = torch.eye(5)[2:3]
    costs = [float(loss(8 * torch.eye(5)[grade : grade + 1], truth)) for grade in range(5)]
    assert costs[2] < costs[1] < costs[0]
    assert costs[2] < costs[3] < costs[4]
    assert costs[1] == pytest.approx(costs[3], rel=1e-5)


def test_the_loss_of_several_labels_is_torchs() -> None:
    logits, truth = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    wanted = functional.binary_cross_entropy_with_logits(logits, truth)
    assert torch.allclose(ClassLoss("multi-label", torch.zeros(3))(logits, truth), wanted)
    assert torch.allclose(probabilities(logits, "multi-label"), torch.sigmoid(logits))
    assert torch.allclose(probabilities(logits, "ordinal").sum(1), torch.ones(5))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_networks_answer_for_small_and_large_images(name: str, dimension: int) -> None:
    small = Classifier(name, 2, 3, dimension=dimension, width=16).eval()
    large = Classifier(name, 2, 3, dimension=dimension, width=16, stem_stride=2, stem_pool=True).eval()
    shape = (28, 28, 1) if dimension == 2 else (16, 16, 16)
    assert small(torch.randn(2, 2, *shape)).shape == (2, 3)
    assert large(torch.randn(2, 2, *(64 if n > 1 else 1 for n in shape))).shape == (2, 3)


def test_members_learn_side_by_side_and_answer_together() -> None:
    network = Classifier("resnet18", 1, 2, dimension=2, width=16, members=3)
    images, truth = torch.randn(4, 1, 28, 28, 1), torch.eye(2)[torch.tensor([0, 1, 1, 0])]
    logits = network(images)
    assert len(logits) == 3
    assert not torch.equal(logits[0], logits[1])
    loss = ClassLoss("binary", torch.zeros(2))
    assert torch.allclose(loss(logits, truth), sum(loss(part, truth) for part in logits) / 3)
    network.eval()
    alone = torch.stack([member(images[..., 0]) for member in network.members])
    assert torch.allclose(network(images), alone.mean(0))


def test_a_network_that_would_crash_is_refused() -> None:
    with pytest.raises(ValueError, match="a width of 8: at least 16"):
        Classifier("resnet18", 1, 2, dimension=2, width=8)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UsageError, match="resnet81"):
        load_experiment("medmnist/breastmnist", {}, ["network.name=resnet81"])


def test_batches_are_gathered_from_the_archives_array(breast: Path, tmp_path: Path) -> None:
    """Against the arrays themselves: values, axes, classes, each image once in a pass."""
    dataset = open_dataset("medmnist/breastmnist", breast)
    split = split_cases(dataset, 0)
    assert [len(part) for part in (split.train, split.val, split.test)] == [546, 78, 156]
    facts = measure_arrays(dataset.card, split.train, tmp_path / "arrays")
    assert facts is not None
    made = plan(facts, CPU, PlanOverrides(batch=64))
    stack = map_stack(split.train, made, tmp_path / "arrays")
    assert stack is not None
    batches = ClassBatches(ClassImages(stack, made), truth_rows(stack, made), made.batch, seed=5)
    with np.load(breast / "medmnist" / "breastmnist" / "breastmnist.npz") as official:
        pixels, classes = official["train_images"], official["train_labels"][:, 0]
    seen: list[int] = []
    mean, deviation = pixels.mean(), pixels.std()
    for step in range(9):
        ready, truth = batches(step)
        members = batches.members(step)
        seen += members.tolist()
        assert ready.shape == (64, 1, 28, 28, 1)
        wanted = (pixels[members].transpose(0, 2, 1).astype(float) - mean) / deviation
        assert np.abs(ready[:, 0, :, :, 0].numpy() - wanted).max() < 1e-4
        assert np.array_equal(truth.argmax(1).numpy(), classes[members])
    assert sorted(seen[:546]) == list(range(546))
    assert facts.class_counts == {0: int((classes == 0).sum()), 1: int((classes == 1).sum())}
    assert made.class_shift is not None
    shares = np.bincount(classes) / len(classes)
    assert made.class_shift[1] - made.class_shift[0] == pytest.approx(0.5 * np.log(shares[1] / shares[0]), abs=1e-3)
    batches.close()


def test_a_batch_follows_from_seed_and_step_alone(breast: Path, tmp_path: Path) -> None:
    wanted = experiment("medmnist/breastmnist", breast, tmp_path / "run", cache=tmp_path / "cache")
    planned = make_plan(wanted, brought(wanted))
    split = split_cases(planned.dataset, 0)
    train_stack, val = (
        stack_all(planned.dataset.card, part, planned.plan, tmp_path / "cache") for part in (split.train, split.val)
    )
    one, two = (ClassObjective(planned.plan, 3, train_stack, val) for _ in range(2))
    device = torch.device("cpu")
    first = [one.batch(step, device, True) for step in range(20)]
    again = two.batch(19, device, True)
    assert torch.equal(first[19][0], again[0])
    assert torch.equal(first[19][1], again[1])
    assert not torch.equal(first[0][0], first[1][0])
    one.close()
    two.close()


def test_from_the_archive_to_probabilities(breast: Path, tmp_path: Path) -> None:
    """The run folder, the one form of metrics.json, and a picture that gets the probabilities of its array item."""
    run, evaluations = train(experiment("medmnist/breastmnist", breast, tmp_path / "run", cache=tmp_path / "cache"))
    for name in ["config.yaml", "plan.json", "card.json", "split.json", "environment.json", "report.html"]:
        assert (run.folder / name).stat().st_size > 0
    metrics = json.loads(run.metrics.read_text())
    assert set(metrics) == {"val", "test"}
    overall = metrics["test"]["aggregate"]["all"]
    assert overall["auc"]["n"] == overall["accuracy"]["n"] == 156
    assert len(metrics["test"]["cases"]) == 156
    low, high = overall["auc"]["ci95"]
    assert low <= overall["auc"]["value"] <= high
    assert [event["event"] for event in read_events(run.events)][-1] == "finished"
    with (run.folder / "predictions" / "test.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 156
    names = list(load_card("medmnist/breastmnist").labels.values())
    # Against the truth in the archive, and from the table alone.
    with np.load(breast / "medmnist" / "breastmnist" / "breastmnist.npz") as official:
        classes, pixels = official["test_labels"][:, 0], official["test_images"]
    scores = np.array([[float(row[name]) for name in names] for row in rows])
    assert np.mean((scores[:, 1] > 0.5) == (classes == 1)) == pytest.approx(overall["accuracy"]["value"])
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in (0, 5, 9):
        Image.fromarray(pixels[number]).save(pictures / f"{number}.png")
    (pictures / "no.png").write_bytes(b"not a picture")
    done = predict(run.folder, [str(pictures)], tmp_path / "out")
    assert [name for name, _ in done.errors] == ["no"]
    with (tmp_path / "out" / "predictions.csv").open() as handle:
        found = {row["case"]: [float(row[name]) for name in names] for row in csv.DictReader(handle)}
    for number in (0, 5, 9):
        assert found[str(number)] == pytest.approx(scores[number].tolist(), abs=1e-4)
    assert evaluations[1].part == "test"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("medmnist/chestmnist", (28, 28, 1)),
        ("medmnist/retinamnist", (28, 28, 1)),
        ("medmnist/bloodmnist_64", (64, 64, 1)),
        ("medmnist/organmnist3d", (28, 28, 28)),
    ],
)
def test_every_kind_of_answer_trains(name: str, shape: tuple[int, ...], tmp_path: Path, segue) -> None:
    data = look_alike(name, tmp_path, segue)
    run, evaluations = train(experiment(name, data, tmp_path / "run", budget=Budget(steps=2)))
    assert tuple(run.plan().patch) == shape
    assert {e.part for e in evaluations} == {"val", "test"}
    metrics = json.loads(run.metrics.read_text())["test"]
    card = load_card(name)
    assert set(metrics["aggregate"]) == {"all", *card.labels.values()}
    one = next(iter(metrics["cases"].values()))
    assert set(one["probabilities"]) == set(card.labels.values())
    if card.classes != "multi-label":
        assert sum(one["probabilities"].values()) == pytest.approx(1.0, abs=1e-4)


def test_an_interrupted_classification_goes_on(breast: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segue.train.loop import Trainer

    settings = {"train": TrainSettings(precision="float32", validations=2, save_every_s=0), "cache": tmp_path / "cache"}
    whole, _ = train(experiment("medmnist/breastmnist", breast, tmp_path / "whole", budget=Budget(steps=6), **settings))
    step = Trainer._train_step

    def dies(self: Trainer, rate: float) -> float:
        if self.state.step == 4:
            raise KeyboardInterrupt
        return step(self, rate)

    monkeypatch.setattr(Trainer, "_train_step", dies)
    broken = experiment("medmnist/breastmnist", breast, tmp_path / "broken", budget=Budget(steps=6), **settings)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    monkeypatch.setattr(Trainer, "_train_step", step)
    resumed, _ = train(broken)
    assert any(event["event"] == "resumed" for event in read_events(resumed.events))
    one, two = (Classifying(run.folder, "cpu").network.state_dict() for run in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_ct_and_suv_are_not_varied_in_brightness(tmp_path: Path, segue) -> None:
    data = look_alike("medmnist/organamnist", tmp_path, segue)
    wanted = experiment("medmnist/organamnist", data, tmp_path / "run")
    made = make_plan(wanted, brought(wanted)).plan
    assert not made.vary_intensities
    assert made.mirror_axes == []  # kidneys are left and right
