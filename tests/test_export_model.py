"""Exported models: the masks and classes of the run folder, without torch, and a card that says what they are."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from segue.catalogue import Card
from segue.core.errors import DataError, MachineError, UsageError
from segue.core.files import write_json, write_text
from segue.images import read, write
from segue.model import sliding_window as torch_window
from segue.predict import Classifying, OnnxClassifying, OnnxPredictor, Predictor, gather, open_exported
from segue.predict.exported import read_exported
from segue.predict.windows import sliding_slabs, streamed_labels
from segue.prepare import Budget, Plan
from segue.train import Run, TrainSettings, load_checkpoint, save_checkpoint
from segue.train.network import build_network
from segue.volume import Geometry, Volume
from segue.workflow.experiment import Experiment
from segue.workflow.exporting.model import export_model
from segue.workflow.training import train

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

# All that a U-Net has; and the least, where something else is looked at: tracing a network takes seconds.
WHOLE: dict[str, Any] = {"channels": [8, 16], "strides": [[1, 1, 1], [2, 2, 2]], "stem_stride": [2, 2, 1]}
LEAST: dict[str, Any] = {"channels": [8], "strides": [[1, 1, 1]], "blocks": 1}

# The command line where every import of torch fails, and what of it was imported all the same.
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from segue.cli import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    print("code", leaving.code, [name for name in sys.modules if name.split(".")[0] in ("torch", "onnx")][1:])
"""


def without_torch(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def make_run(folder: Path, seed: int = 0, card: dict[str, Any] | None = None, **plan: Any) -> Path:
    """A run folder with random weights: masks of noise, which no other network makes by chance."""
    said = {
        "name": "x",
        "title": "X",
        "channels": [{"name": "MRI"}],
        "labels": {1: "one", 3: "three"},
        "layout": {"kind": "files", "images": "images/{case}.nii.gz"},
        **(card or {}),
    }
    known = Card.model_validate(said)
    made = Plan.model_validate(
        {
            "dataset": "x",
            "task": known.task,
            "classes": known.classes,
            "dimension": known.dimension,
            "channels": [channel.model_dump() for channel in known.channels],
            "labels": known.labels,
            "ignore_label": None,
            "spacing_mm": (1.0, 1.0, 1.5),
            "normalisation": [{"kind": "image"}] * len(known.channels),
            "patch": (16, 12, 8),
            "batch": 3,
            "network": {"name": "unet", "args": LEAST},
            "mirror_axes": [],
            "foreground_share": 0.5,
            "overlap": 0.5,
            "reasons": {},
            **plan,
        }
    )
    write_json(folder / "card.json", known)
    write_json(folder / "plan.json", made)
    write_json(folder / "split.json", {"train": [{"id": "a", "patient": "a"}], "val": [], "test": []})
    write_text(folder / "config.yaml", f"fold: {seed}\n")
    torch.manual_seed(seed)
    network = build_network(made)
    save_checkpoint(folder / "checkpoints" / "best.pt", {"network": network.state_dict(), "precision": "float32"})
    return folder


def noise(
    seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float] = (1, 1, 1.5), c: int = 1
) -> Volume:
    random = np.random.default_rng(seed)
    values = random.normal(100, 30, (c, *shape)).astype(np.float32)
    return Volume(values, Geometry(shape, np.diag([*spacing, 1.0])))


def differing(one: np.ndarray, other: np.ndarray) -> float:
    assert len(np.unique(one)) > 1  # an empty mask equals any other
    return float((one != other).mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on a small decathlon folder, measured, with everything that a run folder has."""
    folder = tmp_path_factory.mktemp("trained")
    root = folder / "Blobs"
    for number in range(6):
        image = noise(number, (20, 18, 16))
        labels = np.zeros(image.geometry.shape, np.uint8)
        labels[4:9, 5:12, 4:12], labels[12:17, 5:12, 4:12] = 1, 2
        image.array[0] += 60.0 * labels
        write(image, root / "images" / f"blob_{number}.nii.gz")
        write(Volume(labels[None], image.geometry, "labels"), root / "labels" / f"blob_{number}.nii.gz")
    card = {
        "name": "blobs",
        "title": "Blobs | and <boxes>",
        "licence": {"spdx": "CC-BY-NC-SA-4.0"},
        "citations": [{"key": "blob2026", "authors": ["Blob, Bob"], "title": "On blobs", "year": 2026}],
        "channels": [{"name": "MRI"}],
        "labels": {1: "bright", 2: "dim"},
        "layout": {"kind": "files", "images": "images/{case}.nii.gz", "labels": "labels/{case}.nii.gz"},
    }
    write_text(root / "card.yaml", json.dumps(card))
    settings = {
        "dataset": str(root),
        "data": folder / "data",
        "output": folder / "run",
        "budget": Budget(steps=2),
        "device": "cpu",
        "network": {"args": WHOLE},
        "plan": {"patch": (16, 16, 8), "spacing_mm": (1.0, 1.1, 1.4)},
        "train": TrainSettings(precision="float32", validations=1),
    }
    train(Experiment.model_validate(settings))
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    """What the command makes of it."""
    command = [sys.executable, "-m", "segue", "export", "model", str(trained / "run"), "--to", "onnx"]
    done = subprocess.run(command, cwd=trained, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    folder = trained / "run" / "onnx"
    assert {str(path) for path in folder.iterdir()} == set(done.stdout.splitlines()[:-1])
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "model.json", "MODEL_CARD.md"}
    return folder


def test_the_command_predicts_without_torch_what_the_run_does(trained: Path, exported: Path, tmp_path: Path) -> None:
    images = tmp_path / "in"
    write(noise(50, (20, 18, 16)), images / "same.nii.gz")
    write(noise(51, (31, 40, 9), (0.8, 1.3, 2.5)).oriented("PIL"), images / "turned.nii.gz")
    write(noise(52, (10, 9, 5)), images / "small.mha")
    (images / "bad.nii.gz").write_bytes(b"nothing")
    done = without_torch("predict", exported / "model.onnx", images, "-o", tmp_path / "out")
    assert done.stdout.splitlines()[-1] == "code 3 []", done.stderr
    assert "3 masks in" in done.stdout
    assert "1 failed: bad" in done.stdout
    predictor = Predictor(trained / "run", "cpu")
    for name in ("same.nii.gz", "turned.nii.gz", "small.mha"):
        image = read(images / name)
        found = read(tmp_path / "out" / name)
        assert found.geometry.difference(image.geometry) is None
        assert differing(predictor.predict(image).array, found.array) <= 1e-4
    refused = without_torch("predict", exported / "model.onnx", images, "-o", tmp_path / "more", "--probabilities")
    assert refused.stdout.splitlines()[-1] == "code 2 []", refused.stderr
    assert "an exported model writes masks alone" in refused.stderr
    assert not (tmp_path / "more").exists()
    # What is done is not done again, and another model's masks are not taken for this one's.
    stamp = (tmp_path / "out" / "same.nii.gz").stat().st_mtime_ns
    assert (
        without_torch("predict", exported / "model.json", images / "same.nii.gz", "-o", tmp_path / "out").returncode
        == 0
    )
    assert (tmp_path / "out" / "same.nii.gz").stat().st_mtime_ns == stamp


def test_the_file_of_the_network_says_all_that_its_json_says(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "model.onnx", tmp_path / "renamed.onnx")  # alone, and under another name
    alone = open_exported(tmp_path / "renamed.onnx")
    assert alone.model == open_exported(exported / "model.json").model
    assert alone.key == open_exported(exported / "model.json").key
    content = json.loads((exported / "model.json").read_text())
    assert content["labels"] == {"0": "background", "1": "bright", "2": "dim"}
    assert content["input"] == {"name": "image", "shape": ["batch", 1, 16, 16, 8], "means": ["MRI"]}
    assert content["output"]["means"] == ["background", "bright", "dim"]
    assert content["plan"]["spacing_mm"] == [1.0, 1.1, 1.4]
    proto = onnx.load(exported / "model.onnx")
    onnx.checker.check_model(proto)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any batch


def test_nothing_of_this_machine_and_of_no_case_is_in_the_files(trained: Path, exported: Path, tmp_path: Path) -> None:
    export_model(trained / "run", "torch-export", tmp_path / "own.pt2")
    assert {path.name for path in tmp_path.iterdir()} == {"own.pt2", "own.json", "MODEL_CARD.md"}
    for path in (*exported.iterdir(), *tmp_path.iterdir()):
        content = path.read_bytes()
        for secret in (str(trained), str(Path.home()), str(Path(__file__).parent), "site-packages", "blob_0"):
            assert secret.encode() not in content, (path.name, secret)


def test_the_card_says_what_follows_from_the_data_and_the_figures(trained: Path, exported: Path) -> None:
    text = (exported / "MODEL_CARD.md").read_text()
    run = Run(trained / "run")
    mean = run.json("metrics.json")["val"]["aggregate"]["bright"]["dice"]
    low, high = mean["ci95"] or (None, None)
    told = f"{low:.3f} to {high:.3f}" if low is not None else "–"
    assert f"| bright | Dice | {mean['value']:.3f} | {told} | {mean['n']} |" in text
    assert f"{len(run.json('split.json')['train'])} cases of" in text
    assert "CC-BY-NC-SA-4.0" in text
    assert "- no commercial use" in text
    assert "- pass it on under CC-BY-NC-SA-4.0 only" in text
    assert "@article{blob2026" in text
    assert "Blobs \\| and &lt;boxes>" in text
    assert "segue predict model.onnx" in text
    assert "no medical device" in text
    assert "1 x 1.1 x 1.4 mm" in text


def test_torchs_export_answers_with_the_runs_logits(trained: Path, tmp_path: Path) -> None:
    done = export_model(trained / "run", "torch-export", tmp_path)
    assert [path.name for path in (*done.networks, done.json, done.card)] == [
        "model.pt2",
        "model.json",
        "MODEL_CARD.md",
    ]
    extra = {"segue.json": ""}
    loaded = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    assert json.loads(extra["segue.json"]) == json.loads(done.json.read_text())
    plan = Run(trained / "run").plan()
    network = build_network(plan).eval()
    content = load_checkpoint(Run(trained / "run").checkpoint)
    network.load_state_dict(content.get("mean_network") or content["network"])
    images = torch.randn(3, 1, *plan.patch)
    with torch.no_grad():
        assert torch.allclose(loaded(images), network(images), atol=1e-5)
    with pytest.raises(UsageError, match=r"torch\.export\.load"):
        open_exported(tmp_path / "model.pt2")
    with pytest.raises(UsageError, match="belongs to an export for torch"):
        open_exported(tmp_path / "model.json")


@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize(
    ("shape", "patch", "overlap", "batch"),
    [
        ((20, 9, 30), (16, 12, 8), 0.5, 4),
        ((7, 5, 3), (8, 8, 8), 0.5, 2),
        ((40, 33, 1), (16, 16, 1), 0.25, 5),
        ((17, 17, 17), (8, 9, 10), 0.75, 7),
        ((12, 24, 6), (6, 8, 2), 0.0, 3),
        ((16, 16, 16), (16, 16, 16), 0.5, 1),
    ],
)
def test_slabs_are_parts_of_torchs_answer(shape: Any, patch: Any, overlap: float, batch: int, along: int) -> None:
    """A network that answers by place and value: any window or weight that differs shows."""
    random = np.random.default_rng(1)
    image, padding = random.normal(size=(2, *shape)).astype(np.float32), np.array([-1.5, 0.25], np.float32)
    place = random.normal(size=patch).astype(np.float32)

    def network(images: Any) -> Any:
        return images * (place if isinstance(images, np.ndarray) else torch.from_numpy(place))

    wanted = torch_window(
        network,
        torch.from_numpy(image),
        patch=patch,
        overlap=overlap,
        batch=batch,
        device=torch.device("cpu"),
        padding=torch.from_numpy(padding),
    )
    slabs = list(sliding_slabs(network, image, patch=patch, overlap=overlap, batch=batch, padding=padding, along=along))
    assert all(slab.shape[along + 1] <= patch[along] for slab in slabs)
    assert np.allclose(np.concatenate(slabs, along + 1), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.5), (2.1, 0.7, 1.1), (0.4, 3.0, 2.9)])
def test_labels_come_in_slabs_as_they_do_at_once(spacing: Any, along: int) -> None:
    """Against each class interpolated whole by SimpleITK, and the largest taken."""
    import SimpleITK as sitk

    random = np.random.default_rng(2)
    target = Geometry((20, 17, 15), np.diag([1.0, 1.0, 1.5, 1.0]))
    source = target.with_spacing(spacing)
    scores = random.normal(size=(4, *source.shape)).astype(np.float32)
    plan = Plan.model_construct(regions=[], labels={1: "one", 3: "three"})
    cuts = [0, 1, 4, 5, *range(7, source.shape[along], 3), source.shape[along]]
    cuts = sorted({min(cut, source.shape[along]) for cut in cuts})
    slabs = (np.take(scores, range(a, b), along + 1) for a, b in itertools.pairwise(cuts))
    found = streamed_labels(slabs, plan, source, target, along)

    def whole(values: np.ndarray) -> np.ndarray:
        # ITK gives nothing outside the outermost centres: there the nearest value stands, as at the border of an image.
        image = sitk.GetImageFromArray(np.pad(values, 1, mode="edge").transpose(2, 1, 0))
        image.SetSpacing(source.spacing_mm)
        image.SetOrigin((source.affine[:3, 3] - source.spacing_mm).tolist())
        on = sitk.Image(*target.shape, sitk.sitkFloat32)
        on.SetSpacing(target.spacing_mm)
        return sitk.GetArrayFromImage(sitk.Resample(image, on, sitk.Transform(), sitk.sitkLinear)).transpose(2, 1, 0)

    wanted = np.array([0, 1, 3])[np.stack([whole(scores[n]) for n in (0, 1, 3)]).argmax(0)]
    assert (found != wanted).mean() <= 1e-4


def same_masks(run: Path, output: Path, *images: Volume) -> None:
    export_model(run, "onnx", output)
    here, there = Predictor(run, "cpu"), OnnxPredictor(open_exported(output / "model.onnx", "cpu"))
    for image in images:
        assert differing(here.predict(image).array, there.predict(image).array) <= 1e-4


def test_slices_of_a_network_in_two_dimensions(tmp_path: Path) -> None:
    network = {"name": "unet", "args": {**LEAST, "strides": [[1, 1]]}}
    run = make_run(tmp_path / "run", dimension=2, slice_axis=2, patch=(16, 12, 1), network=network)
    same_masks(run, tmp_path / "out", noise(1, (30, 20, 6), (0.9, 0.9, 4.0)), noise(2, (9, 9, 1)))


def test_regions_of_two_folds_units_and_a_channel_that_may_be_absent(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "card": {
            "channels": [{"name": "CT", "unit": "HU"}, {"name": "PET", "unit": "SUV", "optional": True}],
            "layout": {"kind": "files", "images": "{case}_{channel}.nii.gz"},
        },
        "regions": [
            {"name": "whole", "members": [1, 3], "label": 1},
            {"name": "core", "members": [3], "label": 3},
        ],
        "normalisation": [{"kind": "hu", "low": 50, "high": 150, "mean": 100, "std": 30}, {"kind": "suv"}],
    }
    run = make_run(tmp_path / "run", **facts)
    image = noise(3, (25, 14, 11), (1.2, 1.0, 1.4), c=2)
    make_run(run / "fold_1", seed=1, **facts)
    same_masks(run, tmp_path / "out", image)
    here, there = Predictor(run, "cpu"), OnnxPredictor(open_exported(tmp_path / "out" / "model.onnx", "cpu"))
    assert differing(here.predict(image, (1,)).array, there.predict(image, (1,)).array) <= 1e-4
    with pytest.raises(DataError, match="lacks a channel"):
        OnnxPredictor(open_exported(tmp_path / "out" / "model.onnx")).predict(image, absent=(0,))
    steps = " ".join(json.loads((tmp_path / "out" / "model.json").read_text())["preprocessing"])
    assert "CT (HU): clipped to 50 and 150, minus 100, divided by 30" in steps
    assert "PET (SUV)" in steps
    assert "missing it is -1 everywhere" in steps


def test_folds_are_averaged_and_belong_together(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    make_run(run / "fold_1", seed=1)
    rule = {"largest": True, "minimum_ml": 0.0}
    tried = {"rule": rule, "dice_before": 0.5, "dice_after": 0.6, "gain": 0.1, "ci95": None}
    label = {"number": 1, "name": "one", "patients": 2, "chosen": rule, "tried": [tried]}
    write_json(run / "postprocessing.json", {"chosen_when": "x", "members": [".", "fold_1"], "labels": [label]})
    image, out = noise(4, (20, 18, 12)), tmp_path / "out"
    same_masks(run, out, image)
    assert sorted(path.name for path in out.iterdir()) == [
        "MODEL_CARD.md",
        "model.fold_1.onnx",
        "model.json",
        "model.onnx",
    ]
    for member in (tmp_path / "run" / "fold_1", make_run(tmp_path / "one")):  # both take part
        assert (Predictor(run, "cpu").predict(image).array != Predictor(member, "cpu").predict(image).array).any()
    assert "only the largest component" in (out / "MODEL_CARD.md").read_text()
    # A fold of another export beside it, and none.
    proto = onnx.load(out / "model.fold_1.onnx")
    content = json.loads(proto.metadata_props[0].value)
    proto.metadata_props[0].value = json.dumps({**content, "id": "another"})
    onnx.save(proto, out / "model.fold_1.onnx")
    with pytest.raises(DataError, match="of another export"):
        open_exported(out / "model.onnx")
    (out / "model.fold_1.onnx").unlink()
    with pytest.raises(DataError, match=r"missing \(model\.fold_1\.onnx\)"):
        open_exported(out / "model.json")


class Pooled(torch.nn.Module):
    """A small network of classes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(in_channels, 4, 3)
        self.last = torch.nn.Linear(4, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.conv(x).relu().amax((2, 3)))


def class_card(classes: str, dimension: int, channels: int) -> dict[str, Any]:
    layout: dict[str, Any] = {"kind": "files", "images": "{class}/{case}.png"}
    if classes == "multi-label":
        table = {"file": "t.csv", "case": "case", "target": ["no", "maybe", "yes"]}
        layout = {"kind": "files", "images": "{case}.png", "table": table}
    return {
        "task": "classification",
        "classes": classes,
        "dimension": dimension,
        "labels": {0: "no", 1: "maybe", 2: "yes"},
        "channels": [{"name": f"c{number}"} for number in range(channels)],
        "layout": layout,
    }


@pytest.mark.parametrize("classes", ["multi-class", "multi-label"])
def test_classes_of_pictures_without_torch(tmp_path: Path, classes: str) -> None:
    run = make_run(
        tmp_path / "run",
        card=class_card(classes, 2, 3),
        slice_axis=2,
        patch=(28, 24, 1),
        mirror_axes=[0, 1],
        class_shift=[0.0, 0.0, 0.0],
        normalisation=[{"kind": "dataset", "mean": 120, "std": 60}] * 3,
        network={"target": "test_export_model:Pooled"},
    )
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(28, 24), (60, 41), (28, 24)]):
        pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    export_model(run, "onnx", tmp_path / "out")
    done = without_torch("predict", tmp_path / "out" / "model.onnx", tmp_path / "in", "-o", tmp_path / "answers.csv")
    assert done.stdout.splitlines()[-1] == "code 0 []", done.stderr
    model = Classifying(run, "cpu")
    wanted = list(model.answers(gather([str(tmp_path / "in")], model.card), tmp_path / "arrays"))
    with (tmp_path / "answers.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["case"] for row in rows] == ["0", "1", "2"]
    found = [[float(row[name]) for name in ("no", "maybe", "yes")] for row in rows]
    assert np.allclose(found, [answer.probabilities for answer in wanted], atol=1e-4)
    assert np.ptp(found, axis=0).min() > 1e-3  # images are told apart


@pytest.mark.slow
def test_classes_of_volumes_by_a_residual_network(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        card=class_card("ordinal", 3, 1),
        patch=(16, 16, 16),
        class_shift=[0.0, 0.0, 0.0],
        network={"name": "resnet18", "args": {"width": 16, "stem_stride": 2}},
    )
    export_model(run, "onnx", tmp_path / "out")
    for number in range(3):
        write(noise(number, (16 + number, 16, 16)), tmp_path / "in" / f"{number}.nii.gz")
    (tmp_path / "in" / "3.nii.gz").write_bytes(b"nothing")
    model, there = Classifying(run, "cpu"), OnnxClassifying(open_exported(tmp_path / "out" / "model.onnx"))
    cases = gather([str(tmp_path / "in")], model.card)
    for one, other in zip(model.answers(cases, tmp_path), there.answers(cases, tmp_path), strict=True):
        assert (one.error is None) == (other.error is None) == (one.case.id != "3")
        if one.probabilities is not None and other.probabilities is not None:
            assert np.allclose(one.probabilities, other.probabilities, atol=1e-4)


def test_what_cannot_be_exported_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        export_model(tmp_path / "nowhere", "onnx")
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"--to onnx writes \.onnx"):
        export_model(run, "onnx", tmp_path / "x.pt2")
    plan = Run(run).json("plan.json")
    two_stages = make_run(tmp_path / "two", coarse=plan)
    with pytest.raises(UsageError, match="low-resolution stage cannot be exported"):
        export_model(two_stages, "onnx")
    torch.save({"format": 99}, run / "checkpoints" / "best.pt")
    with pytest.raises(DataError, match="later version of segue"):
        export_model(run, "onnx")
    (run / "checkpoints" / "best.pt").unlink()
    with pytest.raises(DataError, match="no checkpoint yet"):
        export_model(run, "onnx")
    assert not (run / "onnx").exists()


class ByBatch(torch.nn.Module):
    """Decides by its values: what is traced on one side of the question is wrong on the other."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1, out_channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale if x.sum() > 0 else x * self.scale * 2


def test_a_network_that_decides_by_its_input_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", network={"target": "test_export_model:ByBatch"})
    with pytest.raises(UsageError, match="torch cannot export this network"):
        export_model(run, "onnx")


def test_bad_files_are_told(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        open_exported(tmp_path / "nothing.onnx")
    (tmp_path / "bad.onnx").write_bytes((exported / "model.onnx").read_bytes()[:3000])
    with pytest.raises(DataError, match="no network that onnxruntime can run"):
        open_exported(tmp_path / "bad.onnx")
    proto = onnx.load(exported / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    with pytest.raises(DataError, match="not written by segue"):
        open_exported(tmp_path / "foreign.onnx")
    content = json.loads((exported / "model.json").read_text())
    with pytest.raises(DataError, match="later version of segue"):
        read_exported(json.dumps({**content, "format": 2, "new": 1}), tmp_path)
    for damaged in ("{", "[]", '{"format": 1}'):
        with pytest.raises(DataError, match="JSON"):
            read_exported(damaged, tmp_path)
    for outside in ("../model.onnx", "/model.onnx", "a/b.onnx", ""):
        with pytest.raises(UsageError, match="networks"):
            read_exported(json.dumps({**content, "networks": [outside]}), tmp_path)
    with pytest.raises(MachineError, match="does not run on this device"):
        open_exported(exported / "model.onnx", "mps")


def test_without_onnxruntime_the_command_says_how_to_get_it(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MachineError, match=r'pip install "segue\[onnx\]"'):
        open_exported(exported / "model.onnx")


def test_help_on_exporting_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom segue.cli import main\ntry:\n    main(['export', 'model', '--help'])\n"
        "except SystemExit as e:\n"
        "    print('code', e.code, sorted({'torch', 'numpy', 'scipy', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "code 0 []"
