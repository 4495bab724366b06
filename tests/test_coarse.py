"""The low-resolution stage: planned, trained first, its answer seen by the network that follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segue.core.errors import UsageError
from segue.images import read
from segue.predict import Predictor
from segue.prepare import Plan, PlanOverrides, prepared_image
from segue.train import MaskObjective, answer_channels, coarse_answer, read_events
from segue.train.coarse import weakened
from segue.volume import Geometry, Volume
from segue.workflow.experiment import Experiment
from segue.workflow.fitting import ENOUGH_SEEN, Fitting
from segue.workflow.look import prepare_all
from segue.workflow.planning import brought, make_plan
from segue.workflow.training import train
from test_prepare import facts
from test_train import experiment

SETTINGS = {"patch": (8, 8, 8), "low_resolution": True}


def planned(about: object, **overrides: object) -> Plan:
    wanted = Experiment.model_validate({"dataset": "x", "plan": overrides})
    return Fitting(about, torch.device("cpu"), wanted).plan(None)  # type: ignore[arg-type]


def test_a_patch_that_sees_little_is_said_and_the_stage_before_sees_a_quarter() -> None:
    about = facts((150, 150, 90), (1, 1, 3))
    plain = planned(about, patch=(48, 48, 16))
    assert plain.coarse is None
    assert "of the median image: where that is too little" in plain.reasons["patch"]
    made = planned(about, patch=(48, 48, 16), low_resolution=True)
    assert made.coarse is not None
    sees = np.prod(np.minimum(made.coarse.patch, np.array([150, 150, 270]) / made.coarse.spacing_mm))
    assert sees / (np.prod([150, 150, 270]) / np.prod(made.coarse.spacing_mm)) >= ENOUGH_SEEN
    # The fine axes give way first.
    assert max(made.coarse.spacing_mm) / min(made.coarse.spacing_mm) < 2.1
    assert made.inputs == len(made.channels) + len(made.labels)
    assert made.preparation_key == plain.preparation_key
    with pytest.raises(UsageError, match="slices have no low-resolution stage"):
        planned(facts((32, 32, 8), (1, 1, 3)), low_resolution=True, dimension=2)


def test_a_patch_that_sees_enough_needs_no_stage() -> None:
    made = planned(facts((20, 20, 20), (1, 1, 1)), patch=(16, 16, 16), low_resolution=True)
    assert made.coarse is None
    assert made.inputs == len(made.channels)
    assert "enough, so that no low-resolution stage" in made.reasons["patch"]


def test_an_answer_lies_where_the_image_does() -> None:
    """A coarse network that answers from brightness alone; on the fine grid its answer covers what is bright."""

    class Bright(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.zeros_like(x), x - 1, torch.full_like(x, -99.0)], 1)

    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    array = np.zeros((1, 48, 32, 16), np.float32)
    array[:, 8:24, 12:24, 4:10] = 1
    image = Volume(array, Geometry((48, 32, 16), affine))
    fine = planned(facts((48, 32, 16), (1, 1.5, 3)), patch=(16, 16, 8))
    coarse = fine.model_copy(update={"spacing_mm": (2.0, 3.0, 3.0), "patch": (8, 8, 8)})
    seen = prepared_image(image, coarse).array
    answer = coarse_answer(
        Bright(), lambda: torch.autocast("cpu", enabled=False), seen, coarse, (48, 32, 16), torch.device("cpu")
    )
    assert answer.shape == (48, 32, 16)
    # Voxels of 2 x 3 x 3 mm blur its faces, but move it nowhere.
    centres = [np.argwhere(mask).mean(0) for mask in (answer == 1, array[0] > 0)]
    assert np.abs(centres[0] - centres[1]).max() < 0.25
    both = ((answer == 1) & (array[0] > 0)).sum()
    assert 2 * both / ((answer == 1).sum() + (array[0] > 0).sum()) > 0.9
    assert not (answer == 2).any()


def test_an_answer_becomes_a_channel_per_label_and_is_weakened_by_seed_and_row() -> None:
    made = planned(facts((16, 16, 16), (1, 1, 1)), patch=(16, 16, 16))
    answer = torch.zeros(40, 8, 8, 1, dtype=torch.int64)
    answer[:, 2:5, 2:5] = 1
    answer[:, 5:7, 2:5] = 2
    channels = answer_channels(answer, made)
    assert channels.shape == (40, 2, 8, 8, 1)
    assert torch.equal(channels[:, 1], (answer == 2).float())
    whole = weakened(channels, 3, 7, 0)
    assert torch.equal(whole[10:], weakened(channels[10:], 3, 7, 10))
    missing = (whole.flatten(1).sum(1) == 0).float().mean()
    same = (whole == channels).flatten(1).all(1).float().mean()
    assert 0.05 < missing < 0.4
    assert 0.25 < same < 0.75


def test_an_answer_moves_with_its_image(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, plan=PlanOverrides(**SETTINGS))  # type: ignore[arg-type]
    found = make_plan(wanted, brought(wanted))
    ready = prepare_all(found.dataset, found.sound, found.plan, wanted.cache_folder)
    answers = {name: np.asarray(case.labels) for name, case in ready.items()}  # as good as the truth
    objective = MaskObjective(found.plan, 0, list(ready.values()), [], wanted.train, None, answers)
    for vary in (False, True):
        images, labels = objective.batch(4, torch.device("cpu"), vary)
        assert images.shape == objective.batch_shape
        truth = answer_channels(labels, found.plan)
        if not vary:
            assert torch.equal(images[:, 1:], truth)
        # Grown, shrunk or missing, but in its place.
        assert not ((images[:, 1:] > 0) & (torch.nn.functional.max_pool3d(truth, 7, 1, 3) == 0)).any()
    objective.close()


@pytest.mark.slow
def test_a_training_in_two_stages(blobs: Path, tmp_path: Path) -> None:
    wanted = experiment(blobs, tmp_path, plan=PlanOverrides(**SETTINGS), budget={"steps": 12})  # type: ignore[arg-type]
    run, evaluations = train(wanted)
    steps = [next(e["step"] for e in read_events(r.events) if e["event"] == "finished") for r in (run.coarse, run)]
    assert steps == [4, 8]
    assert not evaluations[0].errors
    answers = sorted(path.stem for path in (run.coarse.folder / "answers").iterdir())
    assert len(answers) == 10
    before = run.metrics.read_text()
    train(wanted)  # nothing is left to do
    assert run.metrics.read_text() == before
    image = read(blobs / "imagesTs" / "blob_99.nii.gz")
    model = Predictor(run.folder, "cpu")
    assert model.predict(image).geometry.difference(image.geometry) is None
    key = model.key
    run.coarse.best.write_bytes(run.coarse.last.read_bytes())
    assert Predictor(run.folder, "cpu").key != key  # the stage is a part of the model
