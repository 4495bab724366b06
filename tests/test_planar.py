"""Two dimensions: pictures, and slices out of volumes; plan, preparation, training, masks as pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segue.core.errors import UsageError
from segue.images import read
from segue.model import Planar, UNet
from segue.predict import Predictor
from segue.prepare import Budget, Fingerprint, Machine, PlanOverrides, plan
from segue.prepare.fingerprint import Intensities
from segue.train import Batches, TrainSettings
from segue.workflow.experiment import Experiment
from segue.workflow.look import prepare_all
from segue.workflow.measuring import predict
from segue.workflow.planning import brought, make_plan
from segue.workflow.training import train

CPU = Machine("cpu", 2, 16.0)
TINY = {"channels": [8, 16], "strides": [[1, 1], [2, 2]], "stem_stride": [1, 1]}


def facts(shapes: list[tuple[int, int, int]], spacing: tuple[float, float, float], dimension: int = 3) -> Fingerprint:
    return Fingerprint.model_validate(
        {
            "dataset": "x",
            "dimension": dimension,
            "channels": [{"name": "a"}],
            "labels": {1: "x"},
            "ignore_label": None,
            "mirror_axes": [],
            "cases": len(shapes),
            "patients": len(shapes),
            "shapes": shapes,
            "spacings_mm": [spacing] * len(shapes),
            "intensities": [Intensities(mean=0, std=1, percentile_00_5=-1, percentile_99_5=1)],
            "foreground_part": 0.005,
        }
    )


def test_slices_are_cut_across_the_coarsest_axis() -> None:
    two = PlanOverrides(dimension=2)
    assert plan(facts([(64, 64, 64)], (1, 1, 1)), CPU, two).slice_axis == 2
    assert plan(facts([(20, 200, 200)], (5, 0.7, 0.7)), CPU, two).slice_axis == 0
    made = plan(facts([(200, 30, 200)], (0.7, 4, 0.7)), CPU, two)
    assert (made.slice_axis, made.patch[1]) == (1, 1)
    assert made.foreground_share == 0.5  # few voxels are foreground: slices that have some are sought
    assert plan(facts([(200, 30, 200)], (0.7, 4, 0.7)), CPU, PlanOverrides(dimension=2, slice_axis=0)).patch[0] == 1
    assert plan(facts([(64, 64, 64)], (1, 1, 1)), CPU).slice_axis is None


def test_pictures_are_two_dimensional_by_themselves() -> None:
    made = plan(facts([(300, 200, 1), (512, 640, 1)], (1, 1, 1), dimension=2), CPU)
    assert (made.dimension, made.slice_axis, made.patch[2]) == (2, 2, 1)
    assert made.patch[0] * made.patch[1] <= 1.3 * 256**2


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (PlanOverrides(slice_axis=1), "only a 2-D network"),
        (PlanOverrides(dimension=2, patch=(32, 32, 32)), "one voxel thick"),
        (PlanOverrides(dimension=2, patch=(31, 32, 1)), "halve this patch"),
    ],
)
def test_what_cannot_be_is_refused(overrides: PlanOverrides, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        plan(facts([(64, 64, 64)], (1, 1, 1)), CPU, overrides)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_planar_network_sees_each_slice_as_a_picture(axis: int) -> None:
    network = UNet(1, 2, channels=[4, 8], strides=[[1, 1], [2, 2]], dimension=2).eval()
    picture = torch.randn(3, 1, 8, 12)
    with torch.no_grad():
        assert torch.equal(Planar(network, axis)(picture.unsqueeze(2 + axis)).squeeze(2 + axis), network(picture))


def slices_of(blobs: Path, folder: Path, **changes: object) -> Experiment:
    settings = {
        "dataset": str(blobs),
        "data": folder / "data",
        "output": folder / "run",
        "budget": Budget(steps=4),
        "network": {"args": TINY},
        "plan": PlanOverrides(dimension=2),
        "train": TrainSettings(precision="float32", validations=2),
        **changes,
    }
    return Experiment.model_validate(settings)


def test_slices_of_volumes_are_prepared_drawn_and_stacked_back(blobs: Path, tmp_path: Path) -> None:
    wanted = slices_of(blobs, tmp_path, plan=PlanOverrides(dimension=2, foreground_share=1.0))
    planned = make_plan(wanted, brought(wanted))
    assert planned.plan.slice_axis == 2
    ready = list(prepare_all(planned.dataset, planned.sound, planned.plan, wanted.cache_folder).values())
    assert ready[0].image.flags.f_contiguous  # a slice is one piece of the memory map
    batches = Batches(ready, planned.plan, 0)
    for step in range(3):
        images, labels = batches(step)
        assert images.shape[-1] == 1
        assert all((row > 0).any() for row in labels)
    batches.close()
    run, evaluations = train(wanted)
    assert set(json.loads(run.metrics.read_text())["val"]["aggregate"]) == {"bright", "dim", "all"}
    for case in evaluations[0].cases:
        mask = read(run.predictions("val") / f"{case.case}.nii.gz", kind="labels")
        assert mask.geometry.difference(read(blobs / "imagesTr" / f"{case.case}.nii.gz").geometry) is None
    # Slice by slice, the volume's mask is that of each slice alone: nothing is mixed between neighbours.
    model = Predictor(run.folder, "cpu")
    image = read(blobs / "imagesTr" / f"{evaluations[0].cases[0].case}.nii.gz")
    whole = model.predict(image).array
    assert whole.shape == image.array.shape


@pytest.mark.slow
def test_two_and_three_dimensions_learn_the_same_thing(blobs: Path, tmp_path: Path) -> None:
    run, evaluations = train(
        slices_of(
            blobs,
            tmp_path,
            budget=Budget(steps=60),
            network={},
            train=TrainSettings(precision="float32", learning_rate=3e-3, ema_decay=0.9, validations=2),
        )
    )
    assert run.plan().dimension == 2
    assert evaluations[0].mean_dice is not None
    assert evaluations[0].mean_dice > 0.8


def test_masks_of_pictures_are_pictures(tmp_path: Path) -> None:
    """Sizes that differ, colour, grey of 8 and 16 bits: each mask has its picture's size, grey ones their depth."""
    random = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    sizes = [(40, 31), (56, 64), (33, 70), (48, 48), (50, 36), (64, 40)]
    for number, (width, height) in enumerate(sizes):
        mask = np.zeros((height, width), np.uint8)
        mask[8:24, 5:20] = 255
        image = (random.integers(0, 60, (height, width, 3)) + 150 * (mask[..., None] > 0)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "set" / "images" / f"p{number}.png")
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"p{number}.png")
    card = tmp_path / "set" / "card.yaml"
    card.write_text(
        "name: set\ntitle: squares\ndimension: 2\nchannels: [{name: red}, {name: green}, {name: blue}]\n"
        "labels: {1: square}\nlayout:\n  kind: files\n  images: images/{case}.png\n  labels: masks/{case}.png\n"
        "  values: {255: 1}\n"
    )
    run, evaluations = train(
        slices_of(card, tmp_path, dataset=str(card), plan=PlanOverrides(batch=4), budget=Budget(steps=40), network={})
    )
    assert run.plan().dimension == 2
    mean = evaluations[0].mean_dice
    assert mean is not None
    assert mean > 0.5
    for case in evaluations[0].cases:
        with Image.open(run.predictions("val") / f"{case.case}.png") as mask:
            assert mask.mode == "L"
            assert mask.size == sizes[int(case.case[1:])]
    grey = tmp_path / "new"
    grey.mkdir()
    Image.fromarray(random.integers(0, 60_000, (20, 30), dtype=np.uint16)).save(grey / "deep.png")
    Image.fromarray(random.integers(0, 255, (20, 30), dtype=np.uint8)).save(grey / "flat.jpg")
    assert not predict(run.folder, [str(grey)], tmp_path / "out").errors
    found = {path.name: Image.open(path) for path in (tmp_path / "out").glob("*.png")}
    assert {name: (mask.mode, mask.size) for name, mask in found.items()} == {
        "deep.png": ("I;16", (30, 20)),
        "flat.png": ("L", (30, 20)),
    }
