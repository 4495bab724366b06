"""What a person can change about a training: optimiser, loss, augmentation, start weights, accumulation, end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segue.core.errors import MachineError, SegueError, UsageError
from segue.model import UNet
from segue.prepare import PlanOverrides
from segue.train import Run, TrainSettings, load_checkpoint, read_events
from segue.train.optimise import follow, make_optimizer, peak_rate
from segue.workflow.experiment import Experiment
from segue.workflow.training import train
from test_train import experiment


def settings(**changes: object) -> TrainSettings:
    return TrainSettings.model_validate({"precision": "float32", "validations": 2, **changes})


def trained(blobs: Path, folder: Path, steps: int = 4, **changes: object) -> Run:
    wanted = experiment(blobs, folder, output=folder / "other", train=settings(**changes), budget={"steps": steps})
    return train(wanted)[0]


def test_optimisers_as_published() -> None:
    network, cpu = torch.nn.Linear(2, 2), torch.device("cpu")
    sgd = make_optimizer(network, TrainSettings(optimizer="sgd"), 0.01, cpu)
    assert isinstance(sgd, torch.optim.SGD)
    assert {name: sgd.defaults[name] for name in ("momentum", "nesterov", "weight_decay")} == {
        "momentum": 0.99,
        "nesterov": True,
        "weight_decay": 3e-5,
    }
    assert make_optimizer(network, TrainSettings(), 0.01, cpu).defaults["weight_decay"] == 0.01
    assert make_optimizer(network, TrainSettings(weight_decay=0.0), 0.01, cpu).defaults["weight_decay"] == 0.0


def test_the_rate_is_the_plans_unless_told(blobs: Path, tmp_path: Path) -> None:
    from segue.workflow.planning import brought, make_plan

    wanted = experiment(blobs, tmp_path)
    plan = make_plan(wanted, brought(wanted), fit=False).plan
    assert peak_rate(TrainSettings(), plan) == plan.learning_rate
    assert peak_rate(TrainSettings(optimizer="sgd"), plan) == 0.01
    assert peak_rate(TrainSettings(optimizer="sgd", learning_rate=0.5), plan) == 0.5


def test_the_running_mean_is_a_mean() -> None:
    network, mean = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    expected = mean.weight.item()
    for step in range(50):
        with torch.no_grad():
            network.weight.fill_(float(step))
        follow(mean, network, 0.9, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert mean.weight.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "schedule": "poly"},
        {"loss": {"voxels": "top_k"}},
        {"loss": {"voxels": "focal", "batch_dice": False}},
        {"loss": {"target": "own_parts:Squares", "args": {"weight": 2.0}}},
        {"augmentation": {"target": "own_parts:shifted", "args": {"most": 0.5}}},
    ],
)
def test_every_option_trains(blobs: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    losses = [e["loss"] for e in read_events(trained(blobs, tmp_path, **changes).events) if e["event"] == "step"]
    assert losses
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"loss": {"target": "own_parts:Nothing"}}, "the loss cannot be imported"),
        ({"loss": {"target": "own_parts:Squares", "args": {"size": 2}}}, "the loss cannot be made"),
        ({"loss": {"target": "own_parts:shifted", "args": {}}}, "the loss"),
        ({"augmentation": {"target": "no_such_module:f"}}, "the augmentation cannot be imported"),
        ({"augmentation": {"target": "own_parts:cropped"}}, "gives back something else"),
        ({"weights": "nowhere.pt"}, "no checkpoint"),
    ],
)
def test_own_parts_that_do_not_fit_are_told(blobs: Path, tmp_path: Path, changes: dict[str, object], what: str) -> None:
    with pytest.raises(SegueError, match=what):
        trained(blobs, tmp_path, **changes)


@pytest.mark.slow
def test_a_batch_in_parts_has_the_gradient_of_the_whole(blobs: Path, tmp_path: Path) -> None:
    """With a loss that is a mean over images, parts change nothing but rounding."""
    weights = []
    for parts in (1, 2, 4):
        wanted = experiment(
            blobs,
            tmp_path,
            output=tmp_path / str(parts),
            plan=PlanOverrides(batch=4),
            budget={"steps": 3},
            train=settings(accumulate=parts, loss={"target": "own_parts:Squares"}, optimizer="sgd"),
        )
        weights.append(load_checkpoint(train(wanted)[0].last)["network"])
    for other in weights[1:]:
        for name, value in weights[0].items():
            assert torch.allclose(value, other[name], atol=2e-4), name


@pytest.mark.slow
def test_a_training_starts_from_weights(blobs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = train(experiment(blobs, tmp_path))
    capsys.readouterr()
    started = trained(blobs, tmp_path, steps=1, weights=str(first.folder), learning_rate=1e-9, warm_up=0.0)
    assert f"weights from {first.best}" in capsys.readouterr().err
    before, after = load_checkpoint(first.best)["network"], load_checkpoint(started.last)["network"]
    for name, value in before.items():
        assert torch.allclose(value, after[name], atol=1e-6)


def test_weights_of_another_network_are_refused(blobs: Path, tmp_path: Path) -> None:
    torch.save({"format": 1, "network": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "other.pt")
    with pytest.raises(SegueError, match="nothing in these weights fits the network"):
        trained(blobs, tmp_path, weights=str(tmp_path / "other.pt"))


@pytest.mark.slow
def test_a_training_ends_when_validation_gets_no_better(blobs: Path, tmp_path: Path) -> None:
    # A learning rate that changes nothing: the second validation is as good as the first, and not better by much.
    run = trained(blobs, tmp_path, steps=400, patience=1, validations=100, learning_rate=1e-12, ema_decay=0.0)
    events = read_events(run.events)
    assert events[-1]["event"] == "finished"
    assert events[-1]["step"] < 100


@pytest.mark.slow
def test_any_network_finds_a_patch_that_it_can_halve(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(
        blobs,
        tmp_path,
        network={
            "target": "monai.networks.nets:UNet",
            "args": {"spatial_dims": 3, "channels": [4, 8, 16, 32], "strides": [2, 2, 2]},
        },
        budget={"steps": 2},
    )
    run, _ = train(wanted)
    plan = json.loads((run.folder / "plan.json").read_text())
    assert plan["network"]["target"] == "monai.networks.nets:UNet"
    assert plan["patch"] == [24, 24, 16]  # the images have 22 x 18 x 16 voxels, the network halves three times
    assert "which the network cannot take" in plan["reasons"]["patch"]


def test_tensorboard_is_an_extra(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MachineError, match=r"pip install 'segue\[tensorboard\]'"):
        trained(blobs, tmp_path, tensorboard=True)


def test_a_loss_of_ones_own_needs_its_target() -> None:
    with pytest.raises(UsageError, match=r"give loss\.target too"):
        from segue.core.config import validate

        validate(TrainSettings, {"loss": {"args": {"x": 1}}}, source="test")


def test_deep_supervision_halves_per_level() -> None:
    network = UNet(1, 2, channels=[4, 8, 16], strides=[[1] * 3, [2] * 3, [2] * 3], deep_supervision=True).train()
    logits = network(torch.zeros(1, 1, 8, 8, 8))
    assert [tuple(part.shape[2:]) for part in logits] == [(8, 8, 8), (4, 4, 4)]


def test_memory_is_read_as_people_write_it() -> None:
    from segue.core.memory import memory_of

    assert memory_of("8GB", "--memory") == 8.0
    assert memory_of("500 MB", "--memory") == 0.5
    assert memory_of(4, "--memory") == 4.0
    for wrong in ("much", "-3GB", "0", "8 apples"):
        with pytest.raises(UsageError, match="no amount of memory"):
            memory_of(wrong, "--memory")


def test_a_plan_that_does_not_fit_the_memory_is_refused_before_it_is_tried(blobs: Path, tmp_path: Path) -> None:
    huge = experiment(blobs, tmp_path, plan=PlanOverrides(patch=(512, 512, 512), batch=8), budget={"steps": 1})
    with pytest.raises(MachineError, match=r"512x512x512 voxels.*the plan does not fit the memory"):
        train(huge)
    small = Experiment.model_validate({**huge.model_dump(), "plan": {}, "memory": "10MB"})
    with pytest.raises(MachineError, match="GB"):
        train(small)
    assert not (tmp_path / "run" / "config.yaml").exists()
