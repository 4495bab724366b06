"""Prediction in slabs, of several runs, with probabilities and uncertainty; formats; what is told before any work."""

from __future__ import annotations

import itertools
import json
import os
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

import segue as package
from conftest import PROJECT, Segue
from segue.core.errors import DataError, UsageError
from segue.core.files import write_json
from segue.evaluate.naming import read_probability_channels
from segue.images import read, read_labels, write
from segue.model import UNet, mirrored, sliding_slabs, sliding_window, thinnest_axis
from segue.predict import Delivery, Predictor, Wished, gather, predict_cases
from segue.predict import cases as cases_module
from segue.prepare import Plan, prepared_image
from segue.train import save_checkpoint
from segue.volume import Geometry, Volume
from test_predict import affine_of, half_bright, make_run


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks of these tests, for commands too."""
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROJECT / "tests"), *filter(None, [before])]))


class Random3(torch.nn.Module):
    """A network of three classes whose answer depends on the place in the window: small, and not symmetric."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv3d(in_channels, 4, 3, padding=1)
        self.last = torch.nn.Conv3d(4, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


def random_run(folder: Path, seed: int, **changes: object) -> Path:
    """A run with random weights; ``changes`` are those of the plan."""
    make_run(folder)
    content = json.loads((folder / "plan.json").read_text())
    content["network"]["target"] = "test_predicting:Random3"
    content["patch"] = [12, 10, 8]
    content["batch"] = 3
    content.update(changes)
    write_json(folder / "plan.json", content)
    torch.manual_seed(seed)
    network = Random3(1, 3)
    for parameter in network.parameters():
        parameter.data *= 4  # probabilities far from a third
    save_checkpoint(folder / "checkpoints" / "best.pt", {"network": network.state_dict()})
    return folder


def noise(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], codes: str = "RAS", seed: int = 0
) -> Volume:
    random = np.random.default_rng(seed)
    grid = Geometry(shape, affine_of("RAS", spacing, shape))
    return Volume(random.normal(50, 20, (1, *shape)).astype(np.float32), grid).oriented(codes)


def plainly(network: torch.nn.Module, image: torch.Tensor, plan: Plan) -> np.ndarray:
    """All logits at once, window by window in float64: the sum of weighted answers over the sum of weights."""
    shape, patch = image.shape[1:], plan.patch
    assert all(n >= p for n, p in zip(shape, patch, strict=True))
    starts = []
    for size, side in zip(shape, patch, strict=True):
        count = int(np.ceil((size - side) / max(1, int(side * (1 - plan.overlap))))) + 1
        starts.append([round(x) for x in np.linspace(0, size - side, count)] if count > 1 else [0])
    lines = [np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 8)) ** 2) for side in patch]
    weight = lines[0][:, None, None] * lines[1][None, :, None] * lines[2][None, None, :]
    total, weights = np.zeros((3, *shape)), np.zeros(shape)
    for begin in itertools.product(*starts):
        place = tuple(slice(b, b + p) for b, p in zip(begin, patch, strict=True))
        with torch.no_grad():
            total[(slice(None), *place)] += network(image[(None, slice(None), *place)])[0].double().numpy() * weight
        weights[place] += weight
    return total / weights


def network_of(run: Path) -> Random3:
    network = Random3(1, 3)
    network.load_state_dict(torch.load(run / "checkpoints" / "best.pt", weights_only=True)["network"])
    return network.eval()


def on_grid(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation over the same field of view, by torch's own for the whole volume."""
    stretched = functional.interpolate(
        torch.from_numpy(values)[None], size=shape, mode="trilinear", align_corners=False
    )
    return stretched[0].numpy()


@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize("shape", [(31, 25, 20), (9, 40, 12), (8, 8, 8), (13, 11, 9)])
def test_slabs_follow_each_other_to_the_whole(shape: tuple[int, int, int], along: int) -> None:
    torch.manual_seed(1)
    network, image = Random3(2, 3).eval(), torch.randn(2, *shape)
    settings = {"patch": (12, 10, 8), "overlap": 0.5, "batch": 4, "device": torch.device("cpu")}
    whole = sliding_window(network, image, **settings, padding=torch.tensor([0.5, -1.0]))  # type: ignore[arg-type]
    slabs = [
        slab.clone()
        for slab in sliding_slabs(network, image, **settings, padding=torch.tensor([0.5, -1.0]), along=along)
    ]  # type: ignore[arg-type]
    if shape[along] > 2 * settings["patch"][along]:  # type: ignore[index]
        assert len(slabs) > 2
        assert max(slab.shape[along + 1] for slab in slabs) <= settings["patch"][along]  # type: ignore[index]
    assert torch.allclose(torch.cat(slabs, along + 1), whole, atol=1e-5)


@pytest.mark.parametrize(("codes", "at_once"), [("RAS", None), ("LPI", 20_000), ("SAR", 1)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.1)])
def test_labels_of_slabs_are_those_of_the_whole_volume(
    tmp_path: Path,
    codes: str,
    at_once: int | None,
    spacing: tuple[float, float, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many rows are made at a time: all, a few, one."""
    if at_once is not None:
        monkeypatch.setattr("segue.predict.slabs._AT_ONCE_BYTES", at_once)
    run = random_run(tmp_path / "run", 3)
    model, image = Predictor(run, "cpu"), noise((34, 23, 19), spacing, codes)
    made = model.answer(image, wished=Wished(probabilities=True, uncertainty=True))
    ready = prepared_image(image, model.plan)
    logits = on_grid(
        plainly(network_of(run), torch.from_numpy(ready.array), model.plan), image.oriented("RAS").geometry.shape
    )
    chances = np.exp(logits) / np.exp(logits).sum(0)
    wanted = np.array([0, 2])[logits[[0, 2]].argmax(0)]
    margin = np.abs(logits[0] - logits[2])
    mine = made.labels.oriented("RAS")
    assert made.labels.geometry is image.geometry
    assert np.array_equal(mine.array[0][margin > 1e-4], wanted[margin > 1e-4])
    assert (margin > 1e-4).mean() > 0.999
    assert {0, 2} == set(np.unique(wanted))
    assert made.probabilities is not None
    assert made.probabilities.array.dtype == np.float16
    assert np.abs(made.probabilities.oriented("RAS").array - chances[[0, 2]]).max() < 1e-3
    assert made.uncertainty is not None
    entropy = -(chances * np.log(chances)).sum(0)
    assert np.abs(made.uncertainty.oriented("RAS").array[0] - entropy).max() < 1e-4
    assert np.array_equal(model.predict(image).array, made.labels.array)


def test_the_logits_of_the_whole_never_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.predict.slabs._AT_ONCE_BYTES", 1)
    model, image = Predictor(random_run(tmp_path / "run", 3), "cpu"), noise((80, 20, 20), (1, 1, 1))
    ready = prepared_image(image, model.plan)
    assert thinnest_axis(ready.geometry.shape, model.plan.patch) == 0
    with torch.inference_mode():
        thick = [slab[0].shape[1] for slab in model.slabs(ready, image, alone=True)]
    assert sum(thick) == 80
    assert max(thick) <= 12
    rows = model.rows(image, (), 0, alone=True, wished=Wished())
    held = []
    with torch.inference_mode():
        for begin in range(80):
            rows(begin, begin + 1)
            held.append(sum(slab[0].shape[1] for slab in rows._held))
    assert max(held) <= 2 * 12


def test_large_slabs_are_summed_up_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the two best labels are further apart than float16's rounding, the labels are the same."""
    run = random_run(tmp_path / "run", 3)
    model, image = Predictor(run, "cpu"), noise((40, 24, 20), (1.0, 1.0, 1.0))
    plain = model.predict(image).array
    monkeypatch.setattr("segue.predict.predictor._SLAB_BYTES", 1000)
    ready = prepared_image(image, model.plan)
    with torch.inference_mode():
        assert {slab[0].dtype for slab in model.slabs(ready, image, alone=True)} == {torch.float16}
    logits = plainly(network_of(run), torch.from_numpy(ready.array), model.plan)
    close = np.abs(logits[0] - logits[2]) < 8 * 2.0**-11 * np.abs(logits).max(0)
    assert close.mean() < 0.02
    half = model.predict(image).array
    assert np.array_equal(half[0][~close], plain[0][~close])
    wished = model.answer(image, wished=Wished(probabilities=True))
    assert np.array_equal(wished.labels.array, plain)


def test_several_runs_of_other_plans_are_averaged(tmp_path: Path) -> None:
    """Against the mean of each run's probabilities, computed whole."""
    first = random_run(tmp_path / "first", 3)
    second = random_run(tmp_path / "second", 4, patch=[10, 8, 12], spacing_mm=[1.4, 1.0, 0.8])
    image = noise((26, 23, 20), (1.0, 1.1, 1.2), "LAS")
    model = Predictor(first, "cpu", others=[second])
    made = model.answer(image, wished=Wished(probabilities=True, uncertainty=True))
    each = []
    for run, patch in ((first, (12, 10, 8)), (second, (10, 8, 12))):
        plan = Predictor(run, "cpu").plan
        assert plan.patch == patch
        ready = prepared_image(image, plan)
        logits = torch.from_numpy(plainly(network_of(run), torch.from_numpy(ready.array), plan))
        each.append(on_grid(torch.softmax(logits, 0).numpy(), image.oriented("RAS").geometry.shape))
    mean = np.mean(each, 0)
    certain = np.abs(mean[0] - mean[2]) > 1e-4
    labels = made.labels.oriented("RAS").array[0]
    assert np.array_equal(labels[certain], np.where(mean[2] > mean[0], 2, 0)[certain])
    assert made.probabilities is not None
    assert made.uncertainty is not None
    assert np.abs(made.probabilities.oriented("RAS").array - mean[[0, 2]]).max() < 1e-3

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(p)).sum(0)

    between = entropy(mean) - np.mean([entropy(p) for p in each], 0)
    assert np.abs(made.uncertainty.oriented("RAS").array[0] - between).max() < 1e-4
    assert between.max() > 0.05
    # The same mean without the uncertainty, when each run's answer comes summed.
    assert np.array_equal(model.predict(image).array, made.labels.array)
    # A network counts once: with itself nothing changes, and nothing disagrees.
    twice = Predictor(first, "cpu", others=[first]).answer(image, wished=Wished(uncertainty=True))
    assert twice.uncertainty is not None
    assert twice.uncertainty.array.max() < 1e-6
    assert len({Predictor(first, "cpu").key, model.key, Predictor(second, "cpu", others=[first]).key}) == 3


def test_runs_of_other_labels_or_channels_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "one")
    other = make_run(tmp_path / "two", channels=2)
    with pytest.raises(UsageError, match=r"(?s)two.*their channels are the same.*'c0.*'c1"):
        Predictor(run, "cpu", others=[other])
    content = json.loads((other / "plan.json").read_text())
    content["channels"], content["normalisation"] = content["channels"][:1], content["normalisation"][:1]
    write_json(other / "plan.json", {**content, "labels": {"2": "another thing"}})
    save_checkpoint(other / "checkpoints" / "best.pt", torch.load(run / "checkpoints" / "best.pt", weights_only=True))
    with pytest.raises(UsageError, match="their labels are the same"):
        Predictor(run, "cpu", others=[other])


def test_what_is_empty_is_answered_once() -> None:
    torch.manual_seed(2)
    network, seen = Random3(1, 3).eval(), []

    def counted(windows: torch.Tensor) -> torch.Tensor:
        seen.extend(windows)
        return network(windows)

    image = torch.full((1, 60, 20, 20), -1.5)
    image[:, :14] = torch.randn(1, 14, 20, 20)
    image[:, 40, 3, 3] = -1.4999  # nearly empty is not empty
    settings = {"patch": (10, 10, 10), "overlap": 0.5, "device": torch.device("cpu"), "padding": torch.zeros(1)}
    found = sliding_window(counted, image, batch=4, **settings)  # type: ignore[arg-type]
    empty = [window for window in seen if bool((window == window[0, 0, 0, 0]).all())]
    assert len(empty) == 1
    assert len(seen) < 60
    plain = torch.zeros(3, 60, 20, 20, dtype=torch.float64)
    weights = torch.zeros(60, 20, 20, dtype=torch.float64)
    line = torch.exp(-0.5 * ((torch.arange(10) - 4.5) / 1.25) ** 2).double()
    weight = line[:, None, None] * line[None, :, None] * line[None, None, :]
    for i, j, k in itertools.product(range(0, 51, 5), (0, 5, 10), (0, 5, 10)):
        with torch.no_grad():
            plain[:, i : i + 10, j : j + 10, k : k + 10] += (
                network(image[None, :, i : i + 10, j : j + 10, k : k + 10])[0] * weight
            )
        weights[i : i + 10, j : j + 10, k : k + 10] += weight
    assert torch.allclose(found.double(), plain / weights, atol=1e-5)


def test_mirror_images_are_averaged() -> None:
    torch.manual_seed(5)
    network, image = Random3(1, 2).eval(), torch.randn(2, 1, 6, 7, 8)
    with torch.no_grad():
        found = mirrored(network, [0, 2])(image)
        views = [(), (2,), (4,), (2, 4)]
        wanted = torch.stack([network(image.flip(view)).flip(view) for view in views]).mean(0)
        # An even answer stays the same when its image is turned round.
        assert torch.allclose(mirrored(network, [0])(image.flip(2)), mirrored(network, [0])(image).flip(2), atol=1e-5)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_mirroring_is_another_answer_and_needs_an_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = random_run(tmp_path / "run", 3, mirror_axes=[0])
    plain, turned = Predictor(run, "cpu"), Predictor(run, "cpu", mirror=True)
    assert plain.key != turned.key
    image = noise((12, 10, 8), (1, 1, 1))
    assert not np.array_equal(plain.predict(image).array, turned.predict(image).array)
    flipped = Volume(image.array[:, ::-1].copy(), image.geometry)
    assert np.array_equal(turned.predict(flipped).array[:, ::-1], turned.predict(image).array)
    Predictor(random_run(tmp_path / "other", 3, mirror_axes=[]), "cpu", mirror=True)
    assert "no axis may be mirrored" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd", "a.tif", "a.png"])
def test_a_mask_has_the_format_of_its_image(tmp_path: Path, name: str) -> None:
    flat = name.endswith((".png", ".tif"))
    shape = (20, 24, 1) if flat else (20, 24, 12)
    image = half_bright(
        shape, affine_of("LPS", (1.0, 1.0, 1.0), shape) if flat else affine_of("LPS", (1, 1.2, 2), shape)
    )
    source = tmp_path / "in" / name
    if flat:
        source.parent.mkdir()
        Image.fromarray(image.array[0, :, :, 0].T.astype(np.uint8)).save(source)
    else:
        write(image, source)
    model = Predictor(make_run(tmp_path / "run"), "cpu")
    (done,) = predict_cases(model, gather([str(source)], model.card), tmp_path / "out")
    assert done.path is not None
    assert done.path.name == name.replace("a.nii", "a.nii").removesuffix(".gz") + (".gz" if "nii" in name else "")
    mask, stored = read_labels(done.path), read(source)
    assert mask.geometry.difference(stored.geometry) is None
    assert (mask.array != np.where(stored.array > 50, 2, 0)).mean() < 0.12
    assert mask.array.dtype == np.uint8


def test_probabilities_uncertainty_and_pictures_lie_beside_the_masks(tmp_path: Path) -> None:
    run = random_run(tmp_path / "run", 3)
    image = noise((26, 23, 20), (1.0, 1.1, 1.2), "LAS")
    write(image, tmp_path / "in" / "a.nii.gz")
    (tmp_path / "in" / "b.nii.gz").write_bytes(b"nothing")
    model = Predictor(run, "cpu")
    wanted = model.answer(read(tmp_path / "in" / "a.nii.gz"), wished=Wished(True, True))
    cases = gather([str(tmp_path / "in")], model.card)
    drawn: list[str] = []

    def picture(image: Volume, mask: Volume) -> bytes:
        drawn.append(threading.current_thread().name)
        return b"PNG"

    everything = Delivery(probabilities=True, uncertainty=True, picture=picture)
    out = tmp_path / "out"
    done = list(predict_cases(model, cases, out, everything))
    assert [p.error is None for p in done] == [True, False]
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["a.nii.gz", "predictions.json", "previews/a.png", "probabilities/a.nii.gz", "uncertainty/a.nii.gz"]
    assert drawn == ["write_0"]
    assert read_probability_channels(out) == [(0,), *((number,) for number in model.plan.labels)]
    # By another reader: four dimensions, classes last, on the grid of the image; background and label add up to less
    # than 1 by what the network gives to the number that is no label.
    stored = nibabel.load(out / "probabilities" / "a.nii.gz")
    assert stored.shape == (*image.geometry.shape, 2)
    assert np.allclose(stored.affine, image.geometry.affine, atol=1e-4)
    assert wanted.probabilities is not None
    assert wanted.uncertainty is not None
    assert np.abs(np.moveaxis(stored.get_fdata(), -1, 0) - wanted.probabilities.array).max() < 1e-4
    doubts = nibabel.load(out / "uncertainty" / "a.nii.gz").get_fdata()
    assert np.abs(doubts - wanted.uncertainty.array[0]).max() < 2.5e-4
    # The same again is not done again; without a file of it, or with other wishes, it is.
    assert [p.seconds > 0 for p in predict_cases(model, cases[:1], out, everything)] == [False]
    (out / "uncertainty" / "a.nii.gz").unlink()
    assert [p.seconds > 0 for p in predict_cases(model, cases[:1], out, everything)] == [True]
    assert [p.seconds > 0 for p in predict_cases(model, cases[:1], out)] == [True]
    assert [p.seconds > 0 for p in predict_cases(model, cases[:1], out)] == [False]


def test_the_next_case_is_read_and_the_last_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the network is at work on the second case, the third is read and the first is written."""
    for name in "abc":
        write(noise((16, 16, 16), (1, 1, 1)), tmp_path / "in" / f"{name}.nii.gz")
    model = Predictor(make_run(tmp_path / "run"), "cpu")
    cases = gather([str(tmp_path / "in")], model.card)
    read_third, at_second = threading.Event(), threading.Event()
    plain_read, plain_write, plain_answer = cases_module.read_channels, cases_module.write, model.answer
    order: list[str] = []

    def reading(case: object, card: object) -> Volume:
        image = plain_read(case, card)  # type: ignore[arg-type]
        if case.id == "c":  # type: ignore[attr-defined]
            read_third.set()
        return image

    def writing(volume: Volume, path: Path, **options: object) -> None:
        if path.name == "a.nii.gz":
            assert at_second.wait(20)
        order.append(f"written {path.name}")
        plain_write(volume, path, **options)  # type: ignore[arg-type]

    def answering(image: Volume, absent: tuple[int, ...] = (), wished: Wished | None = None) -> object:
        order.append("answer")
        if order.count("answer") == 2:
            at_second.set()
            assert read_third.wait(20)
        return plain_answer(image, absent, wished)

    monkeypatch.setattr(cases_module, "read_channels", reading)
    monkeypatch.setattr(cases_module, "write", writing)
    monkeypatch.setattr(model, "answer", answering)
    assert [p.case.id for p in predict_cases(model, cases, tmp_path / "out")] == ["a", "b", "c"]
    assert order[:2] == ["answer", "answer"]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3


def test_what_was_written_when_the_work_stops_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        write(noise((16, 16, 16), (1, 1, 1)), tmp_path / "in" / f"{name}.nii.gz")
    model = Predictor(make_run(tmp_path / "run"), "cpu")
    cases = gather([str(tmp_path / "in")], model.card)
    plain, asked = model.answer, []

    def stopped(*arguments: object) -> object:
        asked.append(arguments)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(predict_cases(model, cases, tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nii.gz", "predictions.json"]
    assert [p.seconds > 0 for p in predict_cases(model, cases, tmp_path / "out")] == [False, True, True]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("read_", "write_"))]


def trained_on(run: Path, unit: str, least: tuple[float, float], greatest: tuple[float, float]) -> None:
    """A fingerprint of two training images, of 1 to 1.5 mm and 60 to 90 mm."""
    card, plan = (json.loads((run / name).read_text()) for name in ("card.json", "plan.json"))
    for content, name in ((card, "card.json"), (plan, "plan.json")):
        content["channels"][0]["unit"] = unit
        write_json(run / name, content)
    write_json(
        run / "fingerprint.json",
        {
            "dataset": "x", "dimension": 3, "channels": card["channels"], "labels": {2: "thing"}, "ignore_label": None,
            "mirror_axes": [], "cases": 2, "patients": 2, "shapes": [[60, 60, 60], [60, 60, 60]],
            "spacings_mm": [[1, 1, 1], [1, 1, 1.5]], "foreground_part": 0.1,
            "intensities": [{"mean": 0, "std": 1, "percentile_00_5": 0, "percentile_99_5": 1}],
            "extremes": [{"least": least, "greatest": greatest}],
        },
    )  # fmt: skip


def test_images_unlike_the_training_ones_are_told_with_numbers(segue: Segue, tmp_path: Path, importable: None) -> None:
    run = make_run(tmp_path / "run")
    trained_on(run, "HU", (-1024, -990), (1000, 3000))
    far, near = half_bright((16, 16, 4), affine_of("RAS", (1, 1, 6), (16, 16, 4))), None
    grid = Geometry((64, 60, 50), affine_of("RAS", (1, 1, 1.4), (64, 60, 50)))
    near = Volume(np.full((1, *grid.shape), 40, np.int16), grid).oriented("PIL")
    near.array[0, 0, 0, :30] = -1000
    write(far, tmp_path / "in" / "far.nii.gz")
    write(near, tmp_path / "in" / "near.nii.gz")
    (tmp_path / "in" / "zz.nii.gz").write_bytes(b"nothing")
    done = segue("predict", run, "in", "-o", "out", "--device", "cpu")
    assert done.returncode == 3, done.stderr  # the broken one
    told = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert told == [
        "warning: far: voxels of 6 mm head-foot; those of the training images: 1 to 1.5 mm",
        "warning: far: a field of view of 16 mm left-right; those of the training images: 60 to 60 mm",
        "warning: far: a field of view of 16 mm front-back; those of the training images: 60 to 60 mm",
        "warning: far: a field of view of 24 mm head-foot; those of the training images: 60 to 90 mm",
        "warning: far: c0: no value below 20, where air is -1000 HU: not in Hounsfield units? "
        "(training images begin at -1024 to -990)",
    ]
    assert done.stdout.splitlines() == ["2 masks in out", "1 failed: zz"]


def test_pet_that_is_no_suv_is_told(tmp_path: Path) -> None:
    from segue.predict import read_fingerprint, unlike_values
    from segue.train import Run

    run = make_run(tmp_path / "run")
    trained_on(run, "SUV", (0, 0), (12.5, 31))
    seen = read_fingerprint(Run(run))
    assert seen is not None
    image = half_bright((16, 16, 16), affine_of("RAS", (1, 1, 1), (16, 16, 16)))
    assert unlike_values(image, seen) == []  # a bladder reaches 100
    activity = Volume(image.array * 350, image.geometry)
    (told,) = unlike_values(activity, seen)
    assert told == "c0: values up to 35000: Bq/ml rather than SUV? (training images reach 12.5 to 31)"
    (told,) = unlike_values(Volume(np.zeros_like(image.array), image.geometry), seen)
    assert told == "c0: every voxel is 0"
    # CT without air is nothing to tell where the training images have none either.
    trained_on(run, "HU", (-1000, 10), (1000, 3000))
    seen = read_fingerprint(Run(run))
    assert seen is not None
    assert unlike_values(image, seen) != []
    assert unlike_values(Volume(image.array - 15, image.geometry), seen) == []


def test_loaded_in_python(tmp_path: Path) -> None:
    image = half_bright((20, 24, 12), affine_of("LPS", (1.0, 1.3, 2.0), (20, 24, 12)))
    model = package.load(make_run(tmp_path / "run"), device="cpu")
    mask = model.predict(image)
    assert isinstance(mask, Volume)
    assert mask.geometry is image.geometry
    assert (mask.array != np.where(image.array > 50, 2, 0)).mean() < 0.06
    with pytest.raises(UsageError, match="not a run folder"):
        package.load(tmp_path)


def test_options_of_the_command_line(segue: Segue, tmp_path: Path, importable: None) -> None:
    first, second = random_run(tmp_path / "first", 3), random_run(tmp_path / "second", 4)
    write(noise((20, 20, 20), (1, 1, 1)), tmp_path / "a.nii.gz")
    words = ("predict", first, "a.nii.gz", "-o", "out", "--device", "cpu")
    done = segue(*words, "--with", second, "--probabilities", "--uncertainty", "--preview")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["with"] == [str(second)]
    picture = Image.open(tmp_path / "out" / "previews" / "a.png")
    assert picture.format == "PNG"
    assert min(picture.size) > 100
    assert read(tmp_path / "out" / "probabilities" / "a.nii.gz").array.shape == (2, 20, 20, 20)
    done = segue(*words, "--to", "dicom-rt")
    assert done.returncode == 2
    assert "--to dicom-rt: masks are not written in this form" in done.stderr
    done = segue(*words, "--to", "dicom-seg")
    assert done.returncode == 3
    assert "a.nii.gz: a DICOM segmentation is written of DICOM images only" in done.stderr.replace("a: a.nii", "a.nii")
    done = segue(*words, "--with", tmp_path)
    assert done.returncode == 2
    assert "not a run folder" in done.stderr


def test_a_mask_that_its_format_cannot_hold_is_an_error_of_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write(noise((16, 16, 16), (1, 1, 1)), tmp_path / "in" / f"{name}.nii.gz")
    model = Predictor(make_run(tmp_path / "run"), "cpu")
    plain = cases_module.write

    def writing(volume: Volume, path: Path, **options: object) -> None:
        if path.name == "a.nii.gz":
            raise DataError("this cannot be written", where=path)
        plain(volume, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(cases_module, "write", writing)
    done = list(predict_cases(model, gather([str(tmp_path / "in")], model.card), tmp_path / "out"))
    assert [p.error is None for p in done] == [False, True]
    assert list(json.loads((tmp_path / "out" / "predictions.json").read_text())["cases"]) == ["b"]


def test_a_unet_in_slabs_is_the_unet(tmp_path: Path) -> None:
    """With strides and norms, and in the layout that a CPU wants."""
    torch.manual_seed(0)
    network = UNet(1, 2, channels=[4, 8], strides=[[1, 1, 1], [2, 2, 2]]).eval()
    image = torch.randn(1, 20, 20, 44)
    slabs = sliding_slabs(
        network,
        image,
        patch=(16, 16, 16),
        overlap=0.5,
        batch=2,
        device=torch.device("cpu"),
        padding=torch.zeros(1),
        along=2,
    )
    whole = sliding_window(
        network, image, patch=(16, 16, 16), overlap=0.5, batch=2, device=torch.device("cpu"), padding=torch.zeros(1)
    )
    assert torch.allclose(torch.cat([slab.clone() for slab in slabs], 3), whole, atol=1e-4)


class Brightness(torch.nn.Module):
    """Two classes; the second one's logit is a multiple of the mean of the normalised picture."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.scale * x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), mean], 1)


def class_run(folder: Path, scale: float) -> Path:
    labels, channels = {"0": "dark", "1": "light"}, [{"name": "grey"}]
    card = {
        "name": "shades", "title": "Shades", "task": "classification", "classes": "multi-class", "dimension": 2,
        "channels": channels, "labels": labels, "layout": {"kind": "files", "images": "{class}/{case}.png"},
    }  # fmt: skip
    plan = {
        "dataset": "shades", "task": "classification", "classes": "multi-class", "dimension": 2, "slice_axis": 2,
        "channels": channels, "labels": labels, "ignore_label": None, "spacing_mm": [1, 1, 1],
        "normalisation": [{"kind": "dataset", "mean": 100, "std": 50}], "patch": [8, 8, 1], "batch": 4,
        "network": {"target": "test_predicting:Brightness"}, "mirror_axes": [], "foreground_share": 0, "overlap": 0,
        "reasons": {},
    }  # fmt: skip
    write_json(folder / "card.json", card)
    write_json(folder / "plan.json", plan)
    save_checkpoint(folder / "checkpoints" / "best.pt", {"network": {"network.scale": torch.tensor(scale)}})
    (folder / "config.yaml").write_text("fold: 0\n")
    return folder


def test_classes_in_python_and_of_several_runs(tmp_path: Path) -> None:
    from segue.predict import Classifying
    from segue.workflow.measuring import predict
    from segue.workflow.predicting import PredictOptions

    first, second = class_run(tmp_path / "first", 2.0), class_run(tmp_path / "second", -0.5)
    pixels = np.full((8, 8), 160, np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"nothing")
    value = (160 - 100) / 50
    light = [1 / (1 + np.exp(-scale * value)) for scale in (2.0, -0.5)]
    image = read(tmp_path / "in" / "a.png")
    model = package.load(first, device="cpu")
    assert isinstance(model, Classifying)
    assert model.predict(image) == pytest.approx({"dark": 1 - light[0], "light": light[0]}, abs=1e-5)
    both = package.load(first, device="cpu", others=[second])
    assert isinstance(both, Classifying)
    assert both.predict(image)["light"] == pytest.approx(np.mean(light), abs=1e-5)
    options = PredictOptions(others=(second,))
    done = predict(first, [str(tmp_path / "in")], tmp_path / "out", "cpu", options=options)
    assert [name for name, _ in done.errors] == ["b"]
    line = (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1].split(",")
    assert line[2] == "light"
    assert float(line[4]) == pytest.approx(np.mean(light), abs=1e-5)
    with pytest.raises(UsageError, match="--probabilities, --preview: this is an option for masks"):
        predict(
            first,
            [str(tmp_path / "in")],
            tmp_path / "out",
            "cpu",
            options=PredictOptions((), "image", True, False, True),
        )
    other = class_run(tmp_path / "third", 1.0)
    content = json.loads((other / "plan.json").read_text())
    write_json(other / "plan.json", {**content, "labels": {"0": "dark", "1": "grey"}})
    with pytest.raises(UsageError, match="their labels are the same"):
        package.load(first, device="cpu", others=[other])
