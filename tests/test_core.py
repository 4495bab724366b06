"""Errors, configuration, files, executor."""

from __future__ import annotations

import errno
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segue.core.config import Settings, load_settings, merged, parse_assignments, read_yaml, validate
from segue.core.console import duration, table
from segue.core.errors import DataError, MachineError, SegueError, UsageError
from segue.core.executor import map_cases
from segue.core.files import atomic_path, content_key, jsonable, parse_json, write_json
from segue.core.seeds import generator, stream_seed
from segue.workflow.experiment import Experiment, load_experiment


def test_an_error_says_what_where_value_and_remedy() -> None:
    error = DataError("bad spacing", where="case_1", value="0 mm", remedy="mend the header")
    assert str(error) == "case_1: bad spacing (0 mm)\n  -> mend the header"
    assert (UsageError.exit_code, DataError.exit_code, MachineError.exit_code, SegueError.exit_code) == (2, 3, 4, 1)
    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(back) is DataError
    assert str(back) == str(error)


class Inner(Settings):
    learning_rate: float = 0.1


class Outer(Settings):
    train: Inner = Inner()
    name: str = "x"


def test_an_unknown_key_is_answered_with_the_nearest_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: y\n\ntrain:\n  learning_rat: 1\n")
    with pytest.raises(UsageError) as caught:
        load_settings(Outer, path)
    assert str(caught.value) == f"{path}:4: unknown key 'train.learning_rat'\n  -> did you mean 'learning_rate'?"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("train:\n  learning_rate: fast\n", ":2", "train.learning_rate"),
        ("name: a\nname: b\n", ":2", "stands here twice"),
        ("a: [1\nb: 2\n", ":2", "not valid YAML"),
        ("- 1\n", "", "a mapping"),
    ],
)
def test_a_bad_file_names_its_line(tmp_path: Path, text: str, where: str, what: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_settings(Outer, path)
    assert f"{path}{where}" in str(caught.value)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 3000 + "]" * 3000,
        "a: &a\n  b: *a\n",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(7)),
    ],
    ids=["deep", "itself", "a billion"],
)
def test_a_yaml_that_unfolds_without_end_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"nested too deeply|too much"):
        read_yaml(tmp_path / "x.yaml")


def test_a_key_of_yaml_is_a_word(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: 1\n? [b, c]\n: 2\n")
    with pytest.raises(UsageError, match="a key must be a word"):
        read_yaml(tmp_path / "x.yaml")


def test_json_that_is_nested_without_end_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    # Every reader is this one: a RecursionError of another would end in a traceback.
    source = Path(__file__).parent.parent / "src" / "segue"
    assert [path.name for path in source.rglob("*.py") if "json.loads(" in path.read_text(encoding="utf-8")] == [
        "files.py"
    ]


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_settings(Outer, tmp_path / "none.yaml")


def test_assignments_are_typed_and_nested() -> None:
    values = parse_assignments(["train.learning_rate=1e-3", "plan.patch=[8, 8, 8]", "name=liver"])
    assert values == {"train": {"learning_rate": 1e-3}, "plan": {"patch": [8, 8, 8]}, "name": "liver"}
    with pytest.raises(UsageError, match="key=value"):
        parse_assignments(["train.learning_rate"])
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert validate(Outer, {"name": "z"}).name == "z"


def test_a_budget_on_the_command_line_replaces_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("dataset: msd/hippocampus\nbudget: {minutes: 20}\n")
    assert load_experiment(str(path), {"budget": {"steps": 5}}).budget.steps == 5
    assert load_experiment(str(path)).budget.seconds == 1200
    with pytest.raises(UsageError, match="minutes and steps"):
        load_experiment("msd/hippocampus", {"budget": {"steps": 5, "minutes": 1}})


def test_a_card_is_told_from_an_experiment_even_with_a_typo(tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"
    card.write_text("name: mine\ntitle: x\nchannels: [{name: a}]\nlabels: {1: b}\nlayuot: {kind: petct}\n")
    assert load_experiment(str(card)).dataset == str(card)
    experiment = tmp_path / "e.yaml"
    experiment.write_text("datasett: msd/hippocampus\n")
    with pytest.raises(UsageError, match=r"e.yaml:1: unknown key 'datasett'"):
        load_experiment(str(experiment))


def test_the_run_folder_follows_from_the_dataset() -> None:
    assert Experiment(dataset="msd/hippocampus").run_folder == Path("runs/msd_hippocampus")
    assert Experiment(dataset="cards/mine.yaml").run_folder == Path("runs/mine")
    assert Experiment(dataset=".").run_folder == Path("runs") / Path.cwd().name


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert json.loads(target.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_told(tmp_path: Path, number: int) -> None:
    with pytest.raises(MachineError) as caught, atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("")
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "x") in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_json_is_strict_and_keys_follow_content() -> None:
    assert jsonable({"a": float("nan"), "b": np.float32(2), "c": (1, np.arange(2))}) == {
        "a": None,
        "b": 2.0,
        "c": [1, [0, 1]],
    }
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key([1, 2]) != content_key([2, 1])


def test_streams_are_independent_and_the_same_everywhere() -> None:
    # The value is written down: a change would silently give every user other folds and other data.
    assert stream_seed(0, "split") == 385159735380740702
    assert not np.array_equal(generator(0, "a").random(4), generator(0, "b").random(4))
    assert np.array_equal(generator(3, "a", 1).random(4), generator(3, "a", 1).random(4))


def _double_or_fail(number: int) -> int:
    if number == 3:
        raise DataError("three is bad", where="3")
    return 2 * number


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_case_does_not_stop_the_others(workers: int) -> None:
    results = dict(map_cases(_double_or_fail, range(6), workers=workers))
    assert isinstance(results.pop(3), DataError)
    assert results == {n: 2 * n for n in (0, 1, 2, 4, 5)}


def test_any_executor_will_do() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert [r for _, r in map_cases(_double_or_fail, [5, 4, 1], executor=pool)] == [10, 8, 2]


@pytest.mark.parametrize(("text", "cores"), [("50000 100000", 1), ("max 100000", None), ("900000 100000", None)])
def test_a_container_may_give_fewer_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int | None
) -> None:
    from segue.core import executor

    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(executor, "_CONTAINER_QUOTA", tmp_path / "cpu.max")
    assert executor.cpu_count() == (cores or min(9, len(os.sched_getaffinity(0))))


def test_words_for_people() -> None:
    assert [duration(s) for s in (4, 185, 7620)] == ["4 s", "3 min 05 s", "2 h 07 min"]
    assert table(["label", "Dice"], [["liver", 0.95], ["x", None]]).splitlines()[2:] == ["liver  0.950", "x          -"]
