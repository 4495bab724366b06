"""Many cases: what is kept of each is bounded, nothing takes the square of their number, the benchmark runs."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segue.catalogue import Case, Dataset, open_dataset
from segue.core.errors import DataError
from segue.prepare import Examination, ExamineTask, examine, fingerprint, sample_share
from segue.prepare.examine import ChannelStatistics, packed
from segue.workflow.leaks import parts_of
from segue.workflow.look import examine_all
from test_benchmarks import run


def statistics(values: np.ndarray) -> ChannelStatistics:
    kind, content = packed(values.astype(np.float64))
    whole = bool((values == np.rint(values)).all())
    return ChannelStatistics(
        low=float(values.min()), high=float(values.max()), kind=kind, packed=content, whole=whole, levels=[0.0]
    )


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([-1024.0, 3071.0, 0.0]), "<i2"),
        (np.array([0.5, -0.25, 1e6]), "<f4"),
        (np.array([40_000.0, 1.0]), "<f4"),
        (np.array([0.1, 1e300]), "<f8"),
        (np.array([]), "<i2"),
    ],
)
def test_a_sample_is_kept_exactly_in_the_least_type(values: np.ndarray, kind: str) -> None:
    found_kind, content = packed(values)
    one = ChannelStatistics(low=0, high=1, kind=found_kind, packed=content, whole=False)
    assert found_kind == kind
    assert one.sample.dtype == np.float64
    np.testing.assert_array_equal(one.sample, values)
    again = ChannelStatistics.model_validate_json(one.model_dump_json())
    np.testing.assert_array_equal(again.sample, values)


def test_up_to_two_thousand_cases_keep_every_value() -> None:
    assert sample_share(1) == sample_share(1_014) == sample_share(2_000) == 1.0
    for cases in (2_001, 10_000, 100_000, 1_000_000):
        assert cases * 10_000 * sample_share(cases) <= 20_000_000
    values = np.arange(10_000.0)
    assert statistics(values).thinned(1.0).sample.tolist() == values.tolist()


@pytest.mark.parametrize("length", [1, 7, 499, 10_000])
def test_a_thinned_sample_is_an_even_part_of_it(length: int) -> None:
    values = np.random.default_rng(length).normal(size=length).astype(np.float32)
    thin = statistics(values).thinned(0.02).sample
    assert len(thin) == -(-length // 50)
    places = [int(np.flatnonzero(values == value)[0]) for value in thin]
    assert places[0] == 0
    steps = np.diff(places)
    assert (
        length == 1
        or len(steps) == 0
        or (steps.min() >= length // len(thin) and steps.max() <= length // len(thin) + 1)
    )


def test_the_answer_is_thinned_and_the_cache_is_not(blobs: Path, tmp_path: Path) -> None:
    dataset = open_dataset(blobs)
    task = ExamineTask(dataset.cases[0], dataset.card, tmp_path)
    thin, whole = examine(replace(task, share=0.1)), examine(task)
    few, all_of_them = thin.channels[0], whole.channels[0]
    assert few is not None
    assert all_of_them is not None
    assert len(few.sample) == -(-len(all_of_them.sample) // 10)
    assert set(few.sample) <= set(all_of_them.sample)
    assert thin.findings == whole.findings
    assert (few.low, few.high, few.levels) == (all_of_them.low, all_of_them.high, all_of_them.levels)


def many(cases: int, share: float) -> list[Examination]:
    """Cases with full samples of CT-like values, each round a mean of its own."""
    random = np.random.default_rng(1)
    made = []
    for number in range(cases):
        values = np.rint(random.normal(random.normal(40, 20), 60, 10_000))
        made.append(
            Examination(
                case=f"c{number}",
                patient=f"c{number}",
                findings=[],
                shape=(64, 64, 64),
                spacing_mm=(1.0, 1.0, 1.0),
                channels=[statistics(values).thinned(share)],
                label_voxels={1: 10_000},
            )
        )
    return made


def test_figures_of_thinned_samples_are_close_to_those_of_whole_ones(blobs: Path) -> None:
    """A fiftieth of each sample, which is what 100,000 cases keep; here of 300."""
    card = open_dataset(blobs).card
    whole, thin = (fingerprint(card, many(300, share)).intensities[0] for share in (1.0, 0.02))
    assert abs(whole.mean - thin.mean) < 1
    assert abs(whole.std - thin.std) < 1
    assert abs(whole.percentile_00_5 - thin.percentile_00_5) < 5
    assert abs(whole.percentile_99_5 - thin.percentile_99_5) < 5
    assert whole != thin


def test_many_cases_share_one_pool(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(blobs)
    full = sum(len(e.channels[0].sample) for e in examine_all(dataset, dataset.cases, None) if e.channels[0])
    monkeypatch.setattr("segue.workflow.look.sample_share", lambda cases: 1_000 / (cases * 10_000))
    found = examine_all(dataset, dataset.cases, None)
    kept = [len(e.channels[0].sample) for e in found if e.channels[0]]
    assert len(kept) == len(dataset.cases)
    assert sum(kept) <= 1_000 + len(kept)
    assert full > 2 * sum(kept)


def test_a_case_among_a_hundred_thousand_takes_little_memory() -> None:
    """Under 2 GB for 100,000, with what else there is of each: under 10 kB here."""
    values = np.random.default_rng(0).normal(size=10_000)
    share = sample_share(100_000)
    levels = [float(n) for n in range(28)]
    tracemalloc.start()
    kept = []
    for number in range(200):
        one = statistics(values).thinned(share).model_copy(update={"levels": list(levels)})
        kept.append(Examination(case=f"{number}", patient=f"{number}", findings=[], channels=[one, one.model_copy()]))
    bytes_each = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    assert bytes_each < 10_000


def test_parts_are_asked_for_once(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(blobs)
    asked = []

    def own(self: Dataset) -> bool:
        asked.append(self)
        return False

    monkeypatch.setattr(Dataset, "has_own_split", property(own))
    cases = [Case(f"c{n}", f"p{n}", (blobs / "x.nii",)) for n in range(100)]
    assert parts_of(dataset, cases) == [f"train, patient p{n}" for n in range(100)]
    assert len(asked) == 1


def test_the_first_of_two_cases_of_one_name_is_told(tmp_path: Path) -> None:
    for name in ("a/a", "a_b/c", "a/b_c", "d/e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    (tmp_path / "card.yaml").write_text(
        "name: own/two\ntitle: Two\nmodalities: [MR]\nlabels: {1: a}\nchannels: [{name: MR}]\n"
        "layout: {kind: files, images: '{patient}/{case}.nii.gz'}\n"
    )
    with pytest.raises(DataError, match="two cases have the same name") as told:
        open_dataset(tmp_path)
    assert told.value.value == "a_b_c: a/b_c.nii.gz, a_b/c.nii.gz"


def test_the_benchmark_of_many_cases() -> None:
    lines = run("benchmarks/scale.py", "dataset", "--cases", 30, "--only", "index,check,prepare").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["30", name] for name in ("make", "index", "check", "prepare")]
    tasks = run("benchmarks/scale.py", "tasks", "--cases", "10,40", "--only", "none,pool").splitlines()
    assert [line.split()[:2] for line in tasks if re.match(r" +\d", line)] == [
        ["10", "none"], ["40", "none"], ["10", "pool"], ["40", "pool"]
    ]  # fmt: skip
    assert all(float(line.split()[-2]) < 2 for line in tasks if "peak" in line)
