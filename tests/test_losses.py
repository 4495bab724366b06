"""Losses against MONAI's, and over several processes; regions and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, FocalLoss

from segue.images import read
from segue.model import SegmentationLoss
from segue.prepare import labels_of, painted_regions, painting_order


def logits_and_truth(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(3, classes, 6, 5, 7, generator=random)
    return logits, torch.randint(0, classes, (3, 6, 5, 7), generator=random)


def test_the_dice_of_each_image_as_monai() -> None:
    logits, truth = logits_and_truth()
    theirs = DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=False, smooth_nr=1e-5, smooth_dr=1e-5
    )
    entropy = torch.nn.functional.cross_entropy(logits, truth)
    ours = SegmentationLoss(batch_dice=False)(logits, truth)
    assert ours.item() == pytest.approx((theirs(logits, truth[:, None]) + entropy).item(), abs=1e-5)


def test_focal_as_monai() -> None:
    logits, truth = logits_and_truth()
    # MONAI's mean runs over the classes too, of which all but the true one are zero.
    theirs = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)
    dice = SegmentationLoss()(logits, truth) - torch.nn.functional.cross_entropy(logits, truth)
    focal = SegmentationLoss("focal")(logits, truth) - dice
    assert focal.item() == pytest.approx(3 * theirs(logits, truth[:, None]).item(), abs=1e-5)


def test_top_k_is_the_mean_of_the_worst_tenth() -> None:
    logits, truth = logits_and_truth()
    losses = torch.nn.functional.cross_entropy(logits, truth, reduction="none").numpy().reshape(3, -1)
    worst = np.sort(losses, axis=1)[:, -21:]  # a tenth of 210 voxels
    dice = SegmentationLoss()(logits, truth) - float(losses.mean())
    assert SegmentationLoss("top_k")(logits, truth).item() == pytest.approx(float(worst.mean()) + dice.item(), abs=1e-5)


@pytest.mark.parametrize("voxels", ["cross_entropy", "top_k", "focal"])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_images_without_labels_count_nowhere(voxels: str, batch_dice: bool) -> None:
    logits, truth = logits_and_truth()
    loss = SegmentationLoss(voxels, batch_dice=batch_dice)  # type: ignore[arg-type]
    filled = torch.cat([logits, torch.randn(2, 3, 6, 5, 7)])
    nowhere = torch.cat([truth, torch.full((2, 6, 5, 7), -1)])
    assert loss(filled, nowhere).item() == pytest.approx(loss(logits, truth).item(), abs=1e-6)


@pytest.mark.parametrize("voxels", ["cross_entropy", "top_k", "focal"])
@pytest.mark.parametrize("batch_dice", [True, False])
def test_parts_of_a_batch_add_up(voxels: str, batch_dice: bool) -> None:
    """What processes add over themselves is enough for the loss of the whole batch."""
    logits, truth = logits_and_truth()
    parts: list[torch.Tensor] = []

    def collect(sums: torch.Tensor) -> torch.Tensor:
        parts.append(sums)
        return sums

    whole = SegmentationLoss(voxels, batch_dice=batch_dice)(logits, truth)  # type: ignore[arg-type]
    each = SegmentationLoss(voxels, batch_dice=batch_dice, total=collect)  # type: ignore[arg-type]
    for row in range(3):
        each(logits[row : row + 1], truth[row : row + 1])
    together = SegmentationLoss(voxels, batch_dice=batch_dice, total=lambda _: torch.stack(parts[:3]).sum(0))  # type: ignore[arg-type]
    assert together(logits[:1], truth[:1]).item() == pytest.approx(whole.item(), abs=1e-6)


def test_regions_are_answered_by_sigmoids() -> None:
    logits, _ = logits_and_truth(2)
    truth = torch.randint(0, 4, (3, 6, 5, 7), generator=torch.Generator().manual_seed(1))
    masks = torch.stack([truth > 0, truth == 3], 1).float()
    theirs = DiceLoss(sigmoid=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, masks)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, masks)
    loss = SegmentationLoss(regions=[[1, 2, 3], [3]])
    assert loss(logits, truth).item() == pytest.approx((theirs + entropy).item(), abs=1e-5)


BRATS = {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
NAMES = {1: "necrosis", 2: "oedema", 3: "enhancing"}


def test_regions_are_painted_back_into_labels() -> None:
    from segue.prepare import plan
    from test_prepare import CPU, facts

    regions = painted_regions(BRATS, NAMES)
    assert [(region.name, region.label) for region in regions] == [("WT", 2), ("TC", 1), ("ET", 3)]
    made = plan(facts((32, 32, 32), (1, 1, 1)).model_copy(update={"labels": NAMES, "regions": BRATS}), CPU)
    assert made.regions == regions
    assert "unions of labels" in made.reasons["regions"]
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7))
    logits = np.stack([np.where(np.isin(labels, region.members), 3.0, -2.0) for region in regions])
    assert np.array_equal(labels_of(logits, made), labels)


def test_regions_that_cannot_be_told_apart_are_left_to_labels() -> None:
    assert painted_regions({"left": [1, 2, 3]}, {1: "a", 2: "b", 3: "c"}) == []
    assert painted_regions({"a": [1]}, {1: "a", 2: "b"}) == []
    # A label that no region holds becomes one.
    names = {r.name for r in painted_regions({"both": [1, 2], "one": [1]}, {1: "a", 2: "b", 3: "c"})}
    assert names == {"both", "one", "c"}
    order = painting_order({"all": {1, 2}, "inner": {2}})
    assert order == [("all", 1), ("inner", 2)]


@pytest.mark.slow
def test_a_network_of_regions_is_trained_and_its_masks_hold_labels(blobs: Path, tmp_path: Path) -> None:
    from segue.predict import Predictor
    from segue.train import TrainSettings
    from segue.workflow.training import train
    from test_train import experiment

    card = blobs / "card.yaml"
    card.write_text(
        "name: regional\ntitle: Balls\nchannels: [{name: MRI}]\nlabels: {1: bright, 2: dim}\n"
        "regions: {both: [1, 2], dim: [2]}\n"
        "layout: {kind: files, images: 'imagesTr/{case}.nii.gz', labels: 'labelsTr/{case}.nii.gz'}\n"
    )
    quick = TrainSettings(precision="float32", learning_rate=3e-3, ema_decay=0.9, validations=2)
    wanted = experiment(blobs, tmp_path, dataset=str(card), budget={"steps": 80}, network={}, train=quick)
    run, evaluations = train(wanted)
    assert [region.name for region in run.plan().regions] == ["both", "dim"]
    assert set(evaluations[0].aggregate) == {"bright", "dim", "all"}
    model = Predictor(run.folder, "cpu")
    assert model.network(torch.zeros(1, 1, *model.plan.patch)).shape[1] == 2
    image = read(blobs / "imagesTr" / "blob_00.nii.gz")
    assert set(np.unique(model.predict(image).array)) <= {0, 1, 2}
    assert evaluations[0].mean_dice is not None
    assert evaluations[0].mean_dice > 0.7
