"""Batches, the loop, checkpoints, resume."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from segue.core.errors import DataError, UsageError
from segue.images import read, write
from segue.prepare import Budget, PlanOverrides
from segue.train import Batches, Run, TrainSettings, load_checkpoint, read_events, save_checkpoint
from segue.train.schedule import learning_rate
from segue.volume import Volume
from segue.workflow.experiment import Experiment
from segue.workflow.look import prepare_all
from segue.workflow.planning import brought, make_plan
from segue.workflow.training import train

TINY = {"channels": [8, 16], "strides": [[1, 1, 1], [2, 2, 2]], "stem_stride": [2, 2, 2]}


def experiment(blobs: Path, folder: Path, **changes: object) -> Experiment:
    settings = {
        "dataset": str(blobs),
        "data": folder / "data",
        "output": folder / "run",
        "budget": Budget(steps=12),
        "network": {"args": TINY},
        "train": TrainSettings(precision="float32", validations=2),
        **changes,
    }
    return Experiment.model_validate(settings)


def test_batches_follow_from_seed_and_step_alone(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, plan=PlanOverrides(patch=(12, 12, 12), foreground_share=1.0))
    planned = make_plan(wanted, brought(wanted))
    ready = list(prepare_all(planned.dataset, planned.sound, planned.plan, wanted.cache_folder).values())
    one, two = Batches(ready, planned.plan, 3), Batches(ready, planned.plan, 3)
    in_order = [one(step) for step in range(4)]
    jumped = two(3)
    assert torch.equal(in_order[3][0], jumped[0])
    assert torch.equal(in_order[3][1], jumped[1])
    seen = [name for step in range(5) for name in one.names(step)]
    assert len(set(seen[:10])) == 10  # every case once in a pass
    for images, labels in in_order:
        assert images.shape[1:] == (1, 12, 12, 12)
        assert all((row > 0).any() for row in labels)  # each patch holds foreground
    one.close()
    two.close()


def test_a_small_image_is_padded_around_and_nothing_is_lost(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, plan=PlanOverrides(patch=(32, 32, 32)))
    planned = make_plan(wanted, brought(wanted))
    ready = list(prepare_all(planned.dataset, planned.sound, planned.plan, wanted.cache_folder).values())
    batches = Batches(ready, planned.plan, 0)
    _, labels = batches(0)
    counts = {case.case.id: int((np.asarray(case.labels) > 0).sum()) for case in ready}
    assert [int((row > 0).sum()) for row in labels] == [counts[name] for name in batches.names(0)]
    batches.close()


def test_the_schedule_warms_up_and_falls_to_a_hundredth() -> None:
    settings = TrainSettings(warm_up=0.1)
    rates = [learning_rate(p, 1.0, settings) for p in (0.0, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.05, 1.0, 0.01 + 0.99 / 2, 0.01])
    polynomial = [learning_rate(p, 1.0, TrainSettings(warm_up=0.0, schedule="poly")) for p in (0.0, 0.5, 1.0)]
    assert polynomial == pytest.approx([1.0, 0.01 + 0.99 * 0.5**0.9, 0.01])


@pytest.mark.slow
def test_a_run_holds_everything_and_learns(blobs: Path, tmp_path: Path) -> None:
    run, evaluations = train(
        experiment(
            blobs,
            tmp_path,
            budget=Budget(steps=80),
            network={},
            train=TrainSettings(precision="float32", learning_rate=3e-3, ema_decay=0.9, validations=2),
        )
    )
    assert evaluations[0].mean_dice is not None
    assert evaluations[0].mean_dice > 0.8
    names = "config.yaml plan.json card.json split.json environment.json events.jsonl checkpoints/last.pt"
    for name in [*names.split(), "checkpoints/best.pt", "metrics.json", "metrics.csv", "report.html"]:
        assert (run.folder / name).stat().st_size > 0
    metrics = json.loads(run.metrics.read_text())
    assert set(metrics) == {"val"}
    assert set(metrics["val"]["aggregate"]) == {"bright", "dim", "all"}
    assert metrics["val"]["aggregate"]["all"]["dice"]["n"] == 2
    for case in metrics["val"]["cases"]:
        mask, image = read(run.predictions("val") / f"{case}.nii.gz"), read(blobs / "imagesTr" / f"{case}.nii.gz")
        assert mask.geometry.difference(image.geometry) is None
    events = [event["event"] for event in read_events(run.events)]
    assert events[0] == "started"
    assert events[-1] == "finished"
    assert "validated" in events


@pytest.mark.slow
def test_an_interrupted_training_ends_in_the_very_same_model(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segue.train.loop import Trainer

    whole, _ = train(experiment(blobs, tmp_path, output=tmp_path / "whole"))
    original = Trainer._train_step

    def stopping(self: Trainer, rate: float) -> float:
        if self.state.step == 6:
            signal.raise_signal(signal.SIGINT)  # comes inside the step, and stops after it
        return original(self, rate)

    monkeypatch.setattr(Trainer, "_train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(blobs, tmp_path))
    monkeypatch.undo()
    parts, _ = train(experiment(blobs, tmp_path))
    resumed = [event for event in read_events(parts.events) if event["event"] == "resumed"]
    assert [event["step"] for event in resumed] == [7]
    one, two = load_checkpoint(whole.last), load_checkpoint(parts.last)
    for name, value in one["mean_network"].items():
        assert torch.equal(value, two["mean_network"][name])
    assert one["step"] == two["step"] == 12
    # With a third call there is nothing left to do, and the figures stay.
    before = parts.metrics.read_text()
    train(experiment(blobs, tmp_path))
    assert parts.metrics.read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_goes_on(blobs: Path, tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-m", "segue", "train", str(blobs), "--steps", "150", "-o", "run", "--data", "data",
               "--set", "train.save_every_s=0", "--set", "train.precision=float32",
               "--set", "network.args=" + json.dumps(TINY)]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    code = process.wait(60)
    assert code == (130 if how == signal.SIGTERM else -signal.SIGKILL)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    events = read_events(tmp_path / "run" / "events.jsonl")
    assert any(event["event"] == "resumed" and event["step"] > 0 for event in events)
    assert events[-1]["event"] == "finished"
    assert not list((tmp_path / "run").rglob("*.part*")) or how == signal.SIGKILL


def test_time_spent_before_an_interruption_counts(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, budget=Budget(minutes=0.05))
    run, _ = train(wanted)
    kept = load_checkpoint(run.last)
    assert kept["seconds"] == pytest.approx(3.0, abs=1.5)
    steps = kept["step"]
    train(wanted)
    assert load_checkpoint(run.last)["step"] == steps


def test_however_short_the_time_there_is_a_model(blobs: Path, tmp_path: Path) -> None:
    run, evaluations = train(experiment(blobs, tmp_path, budget=Budget(minutes=1e-6)))
    assert load_checkpoint(run.last)["step"] == 1
    assert len(evaluations[0].cases) == 2


def test_another_experiment_does_not_touch_the_run(blobs: Path, tmp_path: Path) -> None:
    train(experiment(blobs, tmp_path, budget=Budget(steps=2)))
    with pytest.raises(UsageError, match=r"budget.steps was 2, now 3"):
        train(experiment(blobs, tmp_path, budget=Budget(steps=3)))
    image = blobs / "imagesTr" / "blob_03.nii.gz"
    old = read(image)
    image.unlink()
    write(Volume(old.array + 1, old.geometry), image)
    with pytest.raises(DataError, match="the data changed since this run began"):
        train(experiment(blobs, tmp_path, budget=Budget(steps=2)))


def test_bad_cases_stop_a_training_unless_skipped(blobs: Path, tmp_path: Path) -> None:
    (blobs / "labelsTr" / "blob_04.nii.gz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        train(experiment(blobs, tmp_path))
    assert "1 of 10 cases" in str(caught.value)
    assert "blob_04" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    assert not (tmp_path / "run").exists()
    run, _ = train(experiment(blobs, tmp_path, skip_bad=True, budget=Budget(steps=2)))
    assert "1 case was left out" in run.report.read_text()
    parts = run.json("split.json")
    assert "blob_04" not in {case["id"] for part in parts.values() for case in part}


def test_a_loss_that_is_no_number_names_its_cases(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segue.model import SegmentationLoss

    monkeypatch.setattr(SegmentationLoss, "forward", lambda self, logits, target: logits.sum() * math.nan)
    with pytest.raises(DataError, match=r"blob_.*: the loss is not a number in 5 steps in a row"):
        train(experiment(blobs, tmp_path))


def test_checkpoints_are_never_executed(tmp_path: Path) -> None:
    torch.save({"evil": Run(tmp_path)}, tmp_path / "evil.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "evil.pt").read_bytes()[:100])
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("evil.pt", "cut.pt", "empty.pt"):
        with pytest.raises(DataError, match="damaged"):
            load_checkpoint(tmp_path / name)
    with pytest.raises(DataError, match="no checkpoint yet"):
        load_checkpoint(tmp_path / "none.pt")
    save_checkpoint(tmp_path / "x.pt", {"a": torch.ones(2)})
    assert torch.equal(load_checkpoint(tmp_path / "x.pt")["a"], torch.ones(2))
    torch.save({"format": 99}, tmp_path / "later.pt")
    with pytest.raises(DataError, match="later version"):
        load_checkpoint(tmp_path / "later.pt")


def test_events_tell_lost_steps_once(tmp_path: Path) -> None:
    lines = [{"event": "step", "step": n} for n in (1, 2, 3)]
    lines += [{"event": "resumed", "step": 2}, {"event": "step", "step": 3}]
    text = "\n".join(map(json.dumps, lines)) + '\n{"event": "st'
    (tmp_path / "events.jsonl").write_text(text)
    assert [(e["event"], e["step"]) for e in read_events(tmp_path / "events.jsonl")] == [
        ("step", 1), ("step", 2), ("resumed", 2), ("step", 3),
    ]  # fmt: skip
