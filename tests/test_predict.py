"""From images on disk to masks in their own geometry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from segue.catalogue import Card, Channel, load_card
from segue.core.errors import DataError, UsageError
from segue.core.files import write_json
from segue.images import read, write
from segue.predict import Predictor, gather, predict_cases
from segue.prepare import Machine, Network, Plan, PlanOverrides, fingerprint, plan
from segue.prepare.examine import ChannelStatistics, Examination
from segue.train import save_checkpoint
from segue.train.network import build_network
from segue.volume import Geometry, Volume


class Threshold(torch.nn.Module):
    """Label 2 where the normalised image is above its mean, else background: truth is known without training."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.classes = out_channels
        self.scale = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = x.new_full((len(x), self.classes, *x.shape[2:]), -50.0)
        logits[:, 0] = 0.0
        logits[:, 2] = self.scale * x[:, -1]
        return logits


def make_run(folder: Path, channels: int = 1, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Path:
    card = Card.model_validate(
        {
            "name": "x",
            "title": "X",
            "channels": [{"name": f"c{n}"} for n in range(channels)],
            "labels": {2: "thing"},
            "layout": {"kind": "files", "images": "images/{case}.nii.gz"},
        }
    )
    seen = Examination(
        case="a",
        patient="a",
        findings=[],
        shape=(16, 16, 16),
        spacing_mm=spacing,
        channels=[ChannelStatistics(low=0, high=1, kind="<i2", packed=b"\0\0\1\0", whole=True)] * channels,
        label_voxels={2: 5},
    )
    made: Plan = plan(
        fingerprint(card, [seen]),
        Machine("cpu", 2, 8.0),
        PlanOverrides(patch=(16, 16, 16)),
        Network(target="test_predict:Threshold"),
    )
    write_json(folder / "card.json", card)
    write_json(folder / "plan.json", made)
    save_checkpoint(folder / "checkpoints" / "best.pt", {"network": build_network(made).state_dict()})
    return folder


def half_bright(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    """Bright on the patient's right half."""
    grid = Geometry(shape, affine)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    right = (index @ grid.affine[:3, :3].T + grid.affine[:3, 3])[..., 0] > 0
    return Volume(np.where(right, 100.0, 20.0).astype(np.float32)[None], grid)


def affine_of(codes: str, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    base = Geometry(shape, np.diag([*spacing, 1.0])).oriented(codes)
    affine = base.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(base.shape) - 1) / 2) + affine[:3, 3]
    return affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL", "IRA"])
@pytest.mark.parametrize("shape", [(20, 24, 12), (40, 9, 17), (12, 14, 1)])
def test_a_mask_lies_on_its_images_own_grid(tmp_path: Path, codes: str, shape: tuple[int, int, int]) -> None:
    image = half_bright(shape, affine_of("RAS", (1.0, 1.3, 2.0), shape)).oriented(codes)
    mask = Predictor(make_run(tmp_path)).predict(image)
    assert np.array_equal(mask.geometry.affine, image.geometry.affine)
    assert mask.array.shape == image.array.shape
    truth = np.where(image.array > 50, 2, 0)
    assert (mask.array != truth).mean() < (0.06 if shape[2] > 1 else 0.12)  # the border may move by half a voxel
    assert set(np.unique(mask.array)) == {0, 2}


def test_oblique_and_anisotropic_images_come_back_too(tmp_path: Path) -> None:
    turn = np.eye(4)
    turn[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    image = half_bright((30, 30, 8), turn @ affine_of("RAS", (1.0, 1.0, 5.0), (30, 30, 8)))
    mask = Predictor(make_run(tmp_path, spacing=(1.5, 1.5, 2.0))).predict(image)
    assert np.array_equal(mask.geometry.affine, image.geometry.affine)
    assert (mask.array != np.where(image.array > 50, 2, 0)).mean() < 0.06


def test_wrong_channels_and_nan_are_told(tmp_path: Path) -> None:
    predictor = Predictor(make_run(tmp_path, channels=2))
    image = half_bright((16, 16, 16), affine_of("RAS", (1, 1, 1), (16, 16, 16)))
    with pytest.raises(DataError, match=r"1, expected 2"):
        predictor.predict(image)
    bad = np.repeat(image.array, 2, 0)
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        predictor.predict(Volume(bad, image.geometry))


def test_bad_cases_are_reported_and_finished_ones_not_done_again(tmp_path: Path) -> None:
    predictor = Predictor(make_run(tmp_path / "run"))
    for name in ("a", "b", "c"):
        write(half_bright((16, 16, 16), affine_of("RAS", (1, 1, 1), (16, 16, 16))), tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"nothing")
    cases = gather([str(tmp_path / "in")], predictor.card)
    first = list(predict_cases(predictor, cases, tmp_path / "out"))
    assert [p.error is None for p in first] == [True, False, True]
    assert "b" in str(first[1].error)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nii.gz", "predictions.json"]
    stamp = (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns
    write(half_bright((16, 16, 20), affine_of("RAS", (1, 1, 1), (16, 16, 20))), tmp_path / "in" / "c.nii.gz")
    list(predict_cases(predictor, cases, tmp_path / "out"))
    assert (tmp_path / "out" / "a.nii.gz").stat().st_mtime_ns == stamp
    assert read(tmp_path / "out" / "c.nii.gz").array.shape == (1, 16, 16, 20)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["labels"] == {"2": "thing"}


def test_what_is_not_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        Predictor(tmp_path)
    run = make_run(tmp_path / "run")
    (run / "checkpoints" / "best.pt").write_bytes(b"half")
    with pytest.raises(DataError, match="damaged"):
        Predictor(run)
    (run / "checkpoints" / "best.pt").unlink()
    with pytest.raises(DataError, match="no checkpoint yet"):
        Predictor(run)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_inputs_are_files_folders_channels_and_studies(tmp_path: Path) -> None:
    one = load_card("msd/hippocampus")
    two = one.model_copy(update={"channels": [Channel(name="a"), Channel(name="b")]})
    petct = load_card("synthetic/petct")
    touch(tmp_path / "f" / "x_0000.nii.gz", tmp_path / "f" / "x_0001.nii.gz", tmp_path / "f" / "._y.nii.gz")
    touch(tmp_path / "p" / "P1" / "S1" / "SUV.nii.gz", tmp_path / "p" / "P1" / "S1" / "CTres.nii.gz")
    grouped = gather([str(tmp_path / "f")], two)
    assert [(c.id, len(c.images)) for c in grouped] == [("x", 2)]
    assert [c.id for c in gather([str(tmp_path / "f" / "x_0000.nii.gz")], one)] == ["x"]
    for folder in ("p", "p/P1", "p/P1/S1"):
        (case,) = gather([str(tmp_path / folder)], petct)
        assert case.id == "P1_S1"
        assert [path.name for path in case.images] == ["CTres.nii.gz", "SUV.nii.gz"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        gather([str(tmp_path / "empty")], one)
    with pytest.raises(UsageError, match="no such file"):
        gather(["nowhere"], one)
    touch(tmp_path / "g" / "x.nii.gz", tmp_path / "h" / "x.nii.gz")
    with pytest.raises(DataError, match="same name"):
        gather([str(tmp_path / "g"), str(tmp_path / "h")], one)
