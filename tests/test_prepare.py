"""Quality control, fingerprint, plan, prepared cases."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from segue.catalogue import Card, Case, Channel, open_dataset
from segue.core.errors import DataError, UsageError
from segue.images import read, read_labels, write
from segue.model import Planar
from segue.prepare import (
    Budget,
    ExamineTask,
    Machine,
    Network,
    Normalisation,
    PlanOverrides,
    PrepareTask,
    examine,
    fingerprint,
    plan,
    prepare_case,
    prepared_image,
)
from segue.prepare.cache import normalised
from segue.prepare.fingerprint import Fingerprint, Intensities
from segue.prepare.voxels import counts_of, percentiles, where
from segue.train import build_network
from segue.volume import Geometry, Volume

CPU = Machine("cpu", 2, 16.0)


def replaced(path: Path, array: np.ndarray, grid: Geometry | None = None, kind: str = "intensity") -> None:
    old = read(path)
    path.unlink()
    write(Volume(array[None], grid or old.geometry, kind), path)  # type: ignore[arg-type]


def first_finding(root: Path, name: str = "blob_00") -> str:
    dataset = open_dataset(root)
    case = next(c for c in dataset.cases if c.id == name)
    found = examine(ExamineTask(case, dataset.card)).findings
    assert len(found) == 1
    assert found[0].case == name
    return f"{found[0].severity}: {found[0].what} ({found[0].value})"


def test_a_sound_case_has_no_findings(blobs: Path) -> None:
    dataset = open_dataset(blobs)
    for case in dataset.cases:
        assert examine(ExamineTask(case, dataset.card)).findings == []


@pytest.mark.parametrize("what", ["nan", "constant", "grid", "shape", "label", "fraction", "cut", "gone", "empty"])
def test_what_is_wrong_is_found(blobs: Path, what: str) -> None:
    image, label = blobs / "imagesTr" / "blob_00.nii.gz", blobs / "labelsTr" / "blob_00.nii.gz"
    values, numbers = read(image).array[0].copy(), read_labels(label).array[0].copy()
    grid = read(label).geometry
    if what == "nan":
        values[3, 3, 3] = np.nan
        replaced(image, values)
        assert first_finding(blobs) == f"error: channel MRI holds NaN or infinite values (1 of {values.size} voxels)"
    elif what == "constant":
        replaced(image, np.full_like(values, 7))
        assert first_finding(blobs) == "error: channel MRI is constant (every voxel is 7)"
    elif what == "grid":
        moved = grid.affine.copy()
        moved[0, 3] += 2
        replaced(label, numbers, Geometry(grid.shape, moved), "labels")
        assert "different grids (blob_00.nii.gz: positions differ by up to 2 mm)" in first_finding(blobs)
    elif what == "shape":
        replaced(label, numbers[1:], grid.cropped((0, 0, 0), numbers[1:].shape), "labels")
        assert "different grids (blob_00.nii.gz: shape 20x18x16 against 19x18x16)" in first_finding(blobs)
    elif what == "label":
        numbers[0, 0, :3] = 7
        replaced(label, numbers, kind="labels")
        told = "error: the label holds values that the card does not name (7 in 3 voxels of blob_00.nii.gz)"
        assert first_finding(blobs) == told
    elif what == "fraction":
        replaced(label, numbers + 0.5)
        assert "error: the mask holds values that are no whole numbers" in first_finding(blobs)
    elif what == "cut":
        image.write_bytes(image.read_bytes()[:1000])
        assert "error: the file is cut short" in first_finding(blobs) or "unpacked" in first_finding(blobs)
    elif what == "gone":
        image.unlink()
        assert "error: this file cannot be read" in first_finding(blobs)
    else:
        replaced(label, np.zeros_like(numbers), kind="labels")
        assert first_finding(blobs) == "note: nothing is labelled in this case (0 foreground voxels)"


def test_an_image_without_label_is_named_where_others_have_one(tmp_path: Path) -> None:
    from segue.workflow.look import examine_all

    card = tmp_path / "mine.yaml"
    card.write_text(
        "name: mine\ntitle: Mine\nchannels: [{name: a}]\nlabels: {1: x}\n"
        "layout: {kind: files, images: 'i/{case}.nii.gz', labels: 'l/{case}.nii.gz'}\n"
    )
    image = np.random.default_rng(0).random((1, 4, 4, 4)).astype(np.float32)
    for name in ("a", "b"):
        write(Volume(image, Geometry((4, 4, 4), np.eye(4))), tmp_path / "i" / f"{name}.nii.gz")
    dataset = open_dataset(card)
    assert [e.sound for e in examine_all(dataset, dataset.cases, None)] == [True, True]
    write(Volume((image > 0.5).astype(np.uint8), Geometry((4, 4, 4), np.eye(4)), "labels"), tmp_path / "l" / "a.nii.gz")
    dataset = open_dataset(card)
    (finding,) = [f for e in examine_all(dataset, dataset.cases, None) for f in e.findings]
    assert str(finding).startswith("b: this image has no label")


def test_a_patch_that_cannot_be_halved_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="multiples of 4x8x8"):
        plan(facts((64, 64, 64), (1, 1, 1)), CPU, PlanOverrides(patch=(30, 32, 32)))


def test_a_changed_file_is_looked_at_again(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    task = ExamineTask(dataset.labelled[0], dataset.card, tmp_path / "cache")
    assert examine(task).sound
    assert examine(task) == examine(task)
    image = dataset.labelled[0].images[0]
    values = read(image).array[0].copy()
    values[0, 0, 0] = np.inf
    replaced(image, values)
    assert not examine(task).sound


def test_a_torn_file_of_the_cache_is_measured_again(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    task = ExamineTask(dataset.labelled[0], dataset.card, tmp_path / "cache")
    found = examine(task)
    (kept,) = (tmp_path / "cache" / "examined").iterdir()
    whole = kept.read_bytes()
    for torn in (whole[:100], b"", b"\0" * len(whole), b"\xff\xfe"):
        kept.write_bytes(torn)
        assert examine(task) == found
        assert kept.read_bytes() == whole


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_percentiles_and_counts_are_numpys(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.prepare.voxels._AT_ONCE", 1000)
    random = np.random.default_rng(0)
    for shape in ((1,), (7,), (30, 20, 11)):
        for spread in (0.5, 40):
            values = (100 + spread * random.normal(size=shape)).astype(kind)[::-1]
            wanted = (0, 0.5, 31, 50, 99.5, 100)
            assert percentiles(values, wanted) == pytest.approx(np.percentile(values.astype(float), wanted), rel=1e-6)
            if values.dtype.kind != "f":
                numbers, counts = np.unique(values, return_counts=True)
                assert counts_of(values) == dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    # Whole numbers in other types, and what only looks like them.
    for values in (
        random.integers(-3, 3, 5500).astype(np.float32),
        random.integers(-3, 3, 5500) + np.float64(0.25),
        np.append(random.integers(0, 9, 5500).astype(np.float64), 4.5),
        np.array([-(2**31), 0, 2**31 - 1], np.int32),
        np.array([2**62, 2**62 + 4]),
        np.array([1e30, 2e30]),
    ):
        wanted = (0, 30, 50, 99.9, 100)
        assert percentiles(values, wanted) == pytest.approx(np.percentile(values, wanted), rel=1e-12)
    assert np.isnan(percentiles(np.array([1.0, np.nan, 3.0]), (50,))[0])
    flat = random.integers(0, 3, 5500)
    places = np.flatnonzero(flat == 2)
    assert np.array_equal(where(flat, lambda some: some == 2, 10_000, lambda count: np.zeros(0, int)), places)
    picks = np.array([5, 1700, 0, 5])
    assert np.array_equal(where(flat, lambda some: some == 2, 10, lambda count: picks), places[picks])


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from segue.catalogue import Card, Case
from segue.core.memory import peak_memory_gb, reset_peak, used_memory_gb
from segue.images import write
from segue.prepare import Network, Plan, PrepareTask, prepare_case
from segue.volume import Geometry, Volume

folder = Path(sys.argv[1])
card = Card(
    name="x", title="x", channels=[{"name": "CT", "unit": "HU"}, {"name": "MR"}], labels={1: "a", 2: "b"},
    layout={"kind": "files", "images": "{case}.nii.gz", "labels": "{case}_mask.nii.gz"},
)

def prepared(name, shape, spacing):
    grid = Geometry(shape, np.diag([-0.8, -0.8, 1.5, 1.0]))
    if not (folder / f"{name}.nii.gz").exists():
        noise = np.random.default_rng(0).normal(scale=200, size=(2, *shape)).astype(np.int16)
        write(Volume(noise, grid), folder / f"{name}.nii.gz")
        mask = np.ones((1, *shape), np.uint8)
        mask[0, 2:-2, 2:-2, 2:-2] = 2
        write(Volume(mask, grid, "labels"), folder / f"{name}_mask.nii.gz")
        del noise, mask
    rules = [{"kind": "hu", "low": -300, "high": 300, "mean": 0, "std": 100}, {"kind": "image"}]
    plan = Plan(dataset="x", dimension=3, channels=card.channels, labels=card.labels, ignore_label=None,
                spacing_mm=spacing, normalisation=rules, patch=(64, 64, 64), batch=2, network=Network(),
                mirror_axes=[], foreground_share=0.3, overlap=0.5, reasons={})
    case = Case(name, name, (folder / f"{name}.nii.gz",), folder / f"{name}_mask.nii.gz")
    there = reset_peak()
    before = used_memory_gb()
    ready = prepare_case(PrepareTask(case, card, plan, folder / "cache"))
    size = max(np.prod(shape), np.prod(ready.labels.shape)) * (2 * 4 + 1) / 1e9
    return (peak_memory_gb() - before) / size if there else 0.0

prepared("small", (20, 20, 20), (1.5, 1.5, 1.5))  # imports
for spacing in ((1.5, 1.5, 1.5), (0.8, 0.8, 1.5), (0.8, 0.8, 0.8)):
    print(prepared("large", (224, 224, 120), spacing))
"""


def test_preparing_takes_less_than_twice_the_case(tmp_path: Path) -> None:
    """The case: its image in float32 and its mask, before or after resampling, whichever is larger."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
    assert max(map(float, done.stdout.split())) < 2, done.stdout


def facts(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], unit: str = "arbitrary", part: float = 0.05
) -> Fingerprint:
    return Fingerprint(
        dataset="x",
        dimension=3,
        channels=[{"name": "a", "unit": unit}],  # type: ignore[list-item]
        labels={1: "a", 2: "b"},
        ignore_label=None,
        mirror_axes=[],
        cases=5,
        patients=5,
        shapes=[shape] * 5,
        spacings_mm=[spacing] * 5,
        intensities=[Intensities(mean=80, std=20, percentile_00_5=-50, percentile_99_5=180)],
        foreground_part=part,
    )


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((36, 50, 35), (1, 1, 1)),
        ((512, 512, 120), (0.75, 0.75, 2.5)),
        ((512, 512, 20), (0.5, 0.5, 6.0)),
        ((320, 320, 15), (0.6, 0.6, 4.0)),
        ((200, 200, 150), (2, 2, 3)),
        ((256, 256, 1), (1, 1, 1)),
        ((5, 5, 5), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("machine", [CPU, Machine("cuda", 8, 80.0), Machine("mps", 8, 16.0)])
def test_every_plan_can_be_built_and_run(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], machine: Machine
) -> None:
    import torch

    made = plan(facts(shape, spacing), machine)
    network = build_network(made)
    divisor: list[int] = network.network.divisor + [1] if isinstance(network, Planar) else network.divisor  # type: ignore[assignment, operator, union-attr]
    assert all(side % step == 0 for side, step in zip(made.patch, divisor, strict=True))
    if np.prod(made.patch) < 200_000:
        with torch.no_grad():
            assert network(torch.zeros(1, 1, *made.patch)).shape == (1, 3, *made.patch)
    for name in ("spacing_mm", "patch", "batch", "network", "foreground_share", "mirror_axes", "normalisation.a"):
        assert made.reasons[name]


def test_the_plan_is_a_function_of_its_input_and_thick_slices_are_not_strided() -> None:
    one, two = (plan(facts((320, 320, 15), (0.6, 0.6, 4.0)), CPU) for _ in range(2))
    assert one == two
    assert one.network.args["stem_stride"] == [2, 2, 1]
    assert one.preparation_key == plan(facts((320, 320, 15), (0.6, 0.6, 4.0)), Machine("cuda", 8, 80.0)).preparation_key


def test_what_a_person_sets_wins_and_is_said() -> None:
    made = plan(
        facts((64, 64, 64), (1, 1, 1)), CPU, PlanOverrides(batch=3, patch=(32, 32, 32)), Network(args={"blocks": 1})
    )
    assert (made.batch, made.patch, made.network.args["blocks"]) == (3, (32, 32, 32), 1)
    assert made.reasons["batch"] == "set by you"


def test_units_decide_the_normalisation() -> None:
    assert plan(facts((64,) * 3, (1, 1, 1), "HU"), CPU).normalisation[0] == Normalisation(
        kind="hu", low=-50, high=180, mean=80, std=20
    )
    assert plan(facts((64,) * 3, (1, 1, 1), "SUV"), CPU).normalisation[0].kind == "suv"
    image = np.random.default_rng(0).normal(50, 10, (3, 8, 8, 8)).astype(np.float32)
    rules = [
        Normalisation(kind="hu", low=40, high=60, mean=50, std=5),
        Normalisation(kind="suv"),
        Normalisation(kind="image"),
    ]
    ours = normalised(image, rules)
    assert np.allclose(ours[0], (np.clip(image[0], 40, 60) - 50) / 5, atol=1e-5)
    assert np.allclose(ours[1], np.log1p(image[1]) - 1, atol=1e-5)
    assert np.allclose(ours[2], normalised(image * 1000, rules)[2], atol=1e-3)  # the scale of the unit does not matter
    assert ours[2].mean() == pytest.approx(0, abs=1e-5)


def test_budgets() -> None:
    assert Budget(hours=1).seconds == 3600
    assert Budget(steps=5).seconds is None
    assert Budget().seconds == 1800
    with pytest.raises(ValueError, match="one of"):
        Budget(minutes=1, steps=1)


def test_a_prepared_case_is_the_image_turned_normalised_and_resampled(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    case = dataset.labelled[0]
    turned = read(case.images[0]).oriented("LIP")
    write(turned, tmp_path / "i.nii.gz")
    write(read_labels(case.label or "").oriented("LIP"), tmp_path / "l.nii.gz")
    other = Case("turned", "turned", (tmp_path / "i.nii.gz",), tmp_path / "l.nii.gz")
    examinations = [examine(ExamineTask(c, dataset.card)) for c in dataset.labelled]
    made = plan(fingerprint(dataset.card, examinations), CPU, PlanOverrides(spacing_mm=(1.0, 1.0, 1.0)))
    ready, again = (prepare_case(PrepareTask(c, dataset.card, made, tmp_path / "cache")) for c in (case, other))
    assert ready.image.dtype == np.float16
    assert np.array_equal(ready.image, again.image)  # the file's orientation does not matter
    assert np.array_equal(ready.labels, again.labels)
    source = read(case.images[0])
    values = source.array[0].astype(float)
    low, high = np.percentile(values, [0.5, 99.5])
    values = values.clip(low, high)
    values = (values - values.mean()) / values.std()
    assert ready.image.shape[1:] == (20, 22, 24)
    zoom = np.array(ready.image.shape[1:]) / source.array.shape[1:]
    theirs = ndimage.zoom(values, zoom, order=3, mode="mirror", grid_mode=True)
    inner = tuple(slice(3, -3) for _ in range(3))
    assert np.abs(ready.image[0].astype(float) - theirs)[inner].max() < 0.02
    for label, voxels in ready.foreground.items():
        assert (np.asarray(ready.labels).ravel()[voxels] == label).all()


def test_prepared_cases_are_kept_by_content(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    examinations = [examine(ExamineTask(c, dataset.card)) for c in dataset.labelled]
    made = plan(fingerprint(dataset.card, examinations), CPU)
    task = PrepareTask(dataset.labelled[0], dataset.card, made, tmp_path)
    first = prepare_case(task)
    stamp = (first.folder / "image.npy").stat().st_mtime_ns
    assert prepare_case(task).folder == first.folder
    assert (first.folder / "image.npy").stat().st_mtime_ns == stamp
    coarser = made.model_copy(update={"spacing_mm": (2.0, 2.0, 2.0)})
    assert prepare_case(PrepareTask(task.case, task.card, coarser, tmp_path)).folder != first.folder
    replaced(task.case.images[0], read(task.case.images[0]).array[0] + 1)
    assert prepare_case(task).folder != first.folder
    assert not list(tmp_path.rglob("*.part"))


def test_nan_never_reaches_the_cache(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    made = plan(fingerprint(dataset.card, [examine(ExamineTask(c, dataset.card)) for c in dataset.labelled]), CPU)
    values = read(dataset.labelled[0].images[0]).array[0].copy()
    values[0] = np.nan
    replaced(dataset.labelled[0].images[0], values)
    with pytest.raises(DataError, match="blob_00: the image holds NaN"):
        prepare_case(PrepareTask(dataset.labelled[0], dataset.card, made, tmp_path))
    assert not list(tmp_path.rglob("image.npy"))


def test_a_network_of_ones_own_is_named_by_path() -> None:
    made = plan(facts((16, 16, 16), (1, 1, 1)), CPU, network=Network(target="own_network:Tiny", args={"width": 3}))
    assert build_network(made).width == 3  # type: ignore[comparison-overlap]
    for target in ("own_network:Missing", "nowhere.at_all:Tiny", "own_network", "own_network:NUMBER"):
        with pytest.raises(UsageError, match="network"):
            build_network(made.model_copy(update={"network": Network(target=target)}))


def test_preparing_an_image_keeps_its_field_of_view() -> None:
    grid = Geometry((20, 30, 10), np.diag([-1.0, -1.0, 4.0, 1.0]))
    made = plan(facts((20, 30, 10), (1, 1, 4)), CPU, PlanOverrides(spacing_mm=(2.0, 2.0, 2.0)))
    image = Volume(np.random.default_rng(0).random((1, 20, 30, 10)).astype(np.float32), grid)
    ready = prepared_image(image, made)
    assert ready.geometry.shape == (10, 15, 20)
    assert ready.geometry.axis_codes == "RAS"


def test_voxels_that_look_like_foreground_are_known_where_values_mean_something(tmp_path: Path) -> None:
    """Uptake as that of the lesion, in tissue: not the same uptake in air, not tissue without uptake."""
    from segue.prepare import PrepareTask, prepare_case

    about = facts((64, 64, 64), (1, 1, 1), "SUV", 0.001).model_copy(
        update={
            "channels": [Channel(name="CT", unit="HU"), Channel(name="PET", unit="SUV")],
            "labels": {1: "lesion"},
            "intensities": [
                Intensities(mean=40, std=30, percentile_00_5=-60, percentile_99_5=150),
                Intensities(mean=6, std=2, percentile_00_5=2, percentile_99_5=12),
            ],
        }
    )
    made = plan(about, CPU)
    assert made.foreground_share > 0
    assert "values of foreground that are none" in made.reasons["foreground_share"]
    (low, high), (least, most) = made.look_alikes  # type: ignore[misc]
    assert (low, high) == pytest.approx(((-60 - 40) / 30, (150 - 40) / 30))
    assert least == pytest.approx(np.log1p(4.0) - 1)
    assert most is None
    shape = (16, 12, 10)
    ct, pet, mask = np.full(shape, -1000.0), np.zeros(shape), np.zeros(shape, np.uint8)
    ct[4:] = 40
    pet[1], pet[6, 2:4], pet[9] = 8, 8, 20
    mask[6, 2:4] = 1
    grid = Geometry(shape, np.eye(4))
    for name, values in (("ct", ct), ("pet", pet)):
        write(Volume(values[None].astype(np.float32), grid), tmp_path / f"{name}.nii.gz")
    write(Volume(mask[None], grid, "labels"), tmp_path / "mask.nii.gz")
    card = Card.model_validate(
        {
            "name": "x",
            "title": "x",
            "channels": [{"name": "CT", "unit": "HU"}, {"name": "PET", "unit": "SUV"}],
            "labels": {1: "lesion"},
            "layout": {"kind": "files", "images": "{case}.nii.gz", "labels": "{case}.nii.gz"},
        }
    )
    case = Case("a", "a", (tmp_path / "ct.nii.gz", tmp_path / "pet.nii.gz"), tmp_path / "mask.nii.gz")
    ready = prepare_case(PrepareTask(case, card, made, tmp_path / "cache"))
    found = np.zeros(shape, bool)
    found[np.unravel_index(ready.look_alikes, ready.labels.shape)] = True
    expected = np.zeros(shape, bool)
    expected[9] = True
    assert np.array_equal(found, expected)
    assert set(ready.foreground) == {1}
    # A large place (a brain) does not outnumber smaller ones (kidneys), and specks are no place.
    many = np.zeros((64, 36, 30), np.float64)
    many[:48, :, :], many[52:60, 2:12, 2:12], many[52:60, 20:30, 20:30] = 9, 9, 9
    many[62, ::4, ::4] = 9
    ct, mask = np.full(many.shape, 40.0), np.zeros(many.shape, np.uint8)
    mask[55, 16, 16] = 1
    grid = Geometry(many.shape, np.eye(4))
    for name, values in (("ct", ct), ("pet", many)):
        write(Volume(values[None].astype(np.float32), grid), tmp_path / f"{name}.nii.gz")
    write(Volume(mask[None], grid, "labels"), tmp_path / "mask.nii.gz")
    ready = prepare_case(PrepareTask(case, card, made, tmp_path / "cache"))
    place = np.unravel_index(ready.look_alikes, many.shape)
    brain, specks = (place[0] < 48).sum(), (place[0] == 62).sum()
    kidneys = [((place[0] >= 52) & (place[0] < 60) & side).sum() for side in (place[1] < 12, place[1] >= 20)]
    assert specks == 20 - 3
    assert brain + sum(kidneys) + specks == len(place[0])
    assert max(brain, *kidneys) - min(brain, *kidneys) <= 1
    assert 990 <= len(place[0]) <= 1003
    arbitrary = plan(facts((64, 64, 64), (1, 1, 1)), CPU)
    assert arbitrary.look_alikes == []
    # What is prepared does not depend on the patch.
    whole = plan(about, CPU, PlanOverrides(patch=(64, 64, 64)))
    assert whole.preparation_key == made.preparation_key
