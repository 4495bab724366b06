"""Network, loss and sliding window, against MONAI and closed forms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from torch import nn

from segue.model import SegmentationLoss, UNet, sliding_window, with_quick_norms


@pytest.mark.parametrize("stem", [[1, 1, 1], [2, 2, 2], [2, 2, 1]])
@pytest.mark.parametrize("residual", [False, True])
def test_logits_have_the_images_grid(stem: list[int], residual: bool) -> None:
    network = UNet(2, 3, channels=[4, 8], strides=[[1, 1, 1], [2, 2, 2]], stem_stride=stem, residual=residual)
    image = torch.randn(2, 2, 16, 16, 8)
    assert network(image).shape == (2, 3, 16, 16, 8)
    network(image).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_two_dimensions_and_deep_supervision() -> None:
    network = UNet(1, 2, channels=[4, 8, 8], strides=[[1, 1], [2, 2], [2, 2]], dimension=2, deep_supervision=True)
    image = torch.randn(1, 1, 32, 32)
    assert [tuple(part.shape[2:]) for part in network(image)] == [(32, 32), (16, 16)]
    assert network.eval()(image).shape == (1, 2, 32, 32)


def test_a_grid_that_cannot_be_halved_is_a_clear_error() -> None:
    network = UNet(1, 2, channels=[4, 8], strides=[[1, 1, 1], [2, 2, 2]], stem_stride=[2, 2, 2])
    assert network.divisor == [4, 4, 4]
    with pytest.raises(ValueError, match=r"multiple of \(4, 4, 4\)"):
        network(torch.zeros(1, 1, 16, 16, 10))
    with pytest.raises(ValueError, match="one of each"):
        UNet(1, 2, channels=[4], strides=[[1, 1, 1], [2, 2, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_as_monai(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 6, 5, 7).to(dtype)
    target = torch.randint(0, 4, (3, 6, 5, 7))
    theirs = DiceCELoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    # MONAI's cross-entropy leaves the background's voxels out with its class; the two parts are compared apart.
    dice = theirs.dice(logits.float(), target[:, None])
    entropy = torch.nn.functional.cross_entropy(logits.float(), target)
    assert SegmentationLoss()(logits, target).item() == pytest.approx((dice + entropy).item(), abs=1e-5)


def test_ignored_voxels_change_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, 4)
    target = torch.randint(0, 3, (1, 4, 4, 4))
    target[:, :2] = 9
    loss = SegmentationLoss(ignore_label=9)
    assert loss(logits, target).item() == pytest.approx(
        SegmentationLoss()(logits[:, :, 2:], target[:, 2:]).item(), abs=1e-6
    )
    changed = logits.clone()
    changed[:, :, :2] += 5
    assert loss(changed, target).item() == pytest.approx(loss(logits, target).item(), abs=1e-6)


def test_deep_supervision_weights_halve() -> None:
    fine, coarse = torch.randn(1, 2, 8, 8, 8), torch.randn(1, 2, 4, 4, 4)
    target = torch.randint(0, 2, (1, 8, 8, 8))
    single = SegmentationLoss()
    expected = (single(fine, target) + 0.5 * single(coarse, target[:, ::2, ::2, ::2])) / 1.5
    assert single([fine, coarse], target).item() == pytest.approx(expected.item(), abs=1e-6)


class Pointwise(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, x.square(), -x], 1)


@pytest.mark.parametrize("shape", [(30, 25, 20), (9, 40, 12), (8, 8, 8), (12, 12, 12)])
def test_a_pointwise_network_sees_every_voxel_once(shape: tuple[int, int, int]) -> None:
    image = torch.randn(1, *shape)
    result = sliding_window(
        Pointwise(), image, patch=(12, 12, 12), overlap=0.5, batch=3, device=torch.device("cpu"), padding=torch.zeros(1)
    )
    assert result.shape == (3, *shape)
    assert torch.allclose(result, Pointwise()(image[None])[0], atol=1e-5)


def test_windows_are_blended_by_the_gaussian() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, channels=[4, 8], strides=[[1, 1, 1], [2, 2, 2]]).eval()
    image = torch.randn(1, 32, 16, 16)
    ours = sliding_window(
        network, image, patch=(16, 16, 16), overlap=0.5, batch=2, device=torch.device("cpu"), padding=torch.zeros(1)
    )
    # MONAI's windows and weights; it puts a floor under the weights, so only the blend along the centre line is equal.
    with torch.no_grad():
        theirs = sliding_window_inference(
            image[None], (16, 16, 16), 2, network, 0.5, mode="gaussian", sigma_scale=0.125
        )[0]
    assert (ours - theirs)[:, :, 5:11, 5:11].abs().max() < 1e-2
    total, weights = np.zeros((2, 32, 16, 16)), np.zeros((32, 16, 16))
    line = np.exp(-0.5 * ((np.arange(16) - 7.5) / 2) ** 2)
    weight = line[:, None, None] * line[None, :, None] * line[None, None, :]
    for start in (0, 8, 16):
        with torch.no_grad():
            logits = network(image[None, :, start : start + 16])[0].double().numpy()
        total[:, start : start + 16] += logits * weight
        weights[start : start + 16] += weight
    assert np.abs(ours.numpy() - total / weights).max() < 1e-4


def test_kernels_follow_the_strides() -> None:
    def kernels(strides: list[list[int]], stem: list[int]) -> list[tuple[int, ...]]:
        network = UNet(1, 2, channels=[4] * len(strides), strides=strides, stem_stride=stem)
        return [level.layers[0].kernel_size for level in network.encoder]

    coarse = kernels([[1, 1, 1], [2, 2, 1], [2, 2, 1]], [2, 2, 1])  # thick slices: one until the last level
    assert coarse == [(3, 3, 1), (3, 3, 1), (3, 3, 3)]
    late = kernels([[1, 1, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]], [1, 1, 1])  # three as soon as it is strided
    assert late == [(3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)]
    early = kernels([[1, 1, 1], [2, 2, 2], [2, 2, 1], [2, 2, 1]], [1, 1, 1])  # and three from then on
    assert early == [(3, 3, 3)] * 4


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("affine", [False, True])
def test_quick_norms_answer_as_torch_s_own(dimension: int, batch: int, affine: bool) -> None:
    """In double precision, of values whose mean is far from 0: a sum of squares would lose them."""
    kind = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimension]
    network = nn.Sequential(nn.Sequential(kind(5, affine=affine)), nn.LeakyReLU())
    if affine:
        nn.init.normal_(network[0][0].weight)
        nn.init.normal_(network[0][0].bias)
    images = 40 + torch.randn(batch, 5, *[9, 8, 7][:dimension])
    wanted = copy.deepcopy(network).double()(images.double())
    quick = with_quick_norms(copy.deepcopy(network))
    assert [*quick.state_dict()] == [*network.state_dict()]
    last = torch.channels_last if dimension == 2 else torch.channels_last_3d
    with torch.inference_mode():
        found = quick(images.contiguous(memory_format=last))
    assert (found - wanted).abs().max() < 1e-4
    assert found.is_contiguous(memory_format=last)
    assert torch.equal(quick(images), network(images))  # where gradients may come, torch's own


def test_norms_with_a_state_stay_as_they_are() -> None:
    norm = nn.InstanceNorm3d(2, track_running_stats=True)
    assert with_quick_norms(nn.Sequential(norm))[0] is norm
