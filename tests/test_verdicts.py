"""verdicts.csv: read, written by several at once, respected by every step that learns or measures."""

from __future__ import annotations

import csv
import json
import multiprocessing
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Segue
from segue.catalogue import Verdict, open_dataset, read_verdicts, split_cases, write_verdicts
from segue.core.errors import DataError, UsageError


def images(folder: Path, count: int = 6) -> Path:
    """An nnU-Net folder of bright boxes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((16, 16, 12), np.uint8)
        mask[4:10, 5:11, 3:8] = 1
        image = rng.normal(0, 1, mask.shape).astype(np.float32) + 5 * mask
        for name, array in ((f"imagesTr/c{number}_0000", image), (f"labelsTr/c{number}", mask)):
            path = folder / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(array, np.eye(4)).to_filename(path)
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "MR"},
                "labels": {"background": 0, "box": 1},
                "numTraining": count,
                "file_ending": ".nii.gz",
            }
        )
    )
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_verdicts(tmp_path) == {}
    write_verdicts(tmp_path, [Verdict("a", "flag", "motion", "eva"), Verdict("b", "accept")])
    held = write_verdicts(tmp_path, [Verdict("a", "exclude", "wrong\nside,\x00 really", "eva", "2026-01-01T00:00:00Z")])
    assert held == read_verdicts(tmp_path)
    assert held["a"] == Verdict("a", "exclude", "wrong side,  really", "eva", "2026-01-01T00:00:00Z")
    assert held["b"].when
    assert [held[name].leaves_out for name in "ab"] == [True, False]
    assert write_verdicts(tmp_path, [], forget=["a", "never there"]).keys() == {"b"}
    with pytest.raises(UsageError, match="accept, flag or exclude"):
        write_verdicts(tmp_path, [Verdict("", "flag")])


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1).filter(str.strip), reason=st.text())
def test_no_cell_is_a_formula_and_every_name_comes_back(
    name: str, reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("v")
    try:
        name.encode("utf-8", "surrogateescape")
        reason.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return
    assert write_verdicts(folder, [Verdict(name, "flag", reason, "=me")])[name].by == "=me"
    assert list(read_verdicts(folder)) == [name]
    with (folder / "verdicts.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as handle:
        cells = [cell for row in csv.reader(handle) for cell in row]
    assert not any(cell[:1] in tuple("=+-@|%\t\r\n") for cell in cells if cell)


def _flag(folder: Path, who: int) -> None:
    for number in range(25):
        write_verdicts(folder, [Verdict(f"{who}-{number}", "flag", by=str(who))])


def test_two_processes_lose_no_verdict(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_flag, args=(tmp_path, who)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(read_verdicts(tmp_path)) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.csv"]


def test_a_spreadsheet_programs_table_stays_its_own(tmp_path: Path) -> None:
    table = tmp_path / "verdicts.csv"
    table.write_bytes("\ufeffCase;site;VERDICT\r\na;Bern;Flag\r\n;;\r\n'=b;Köln;accept\r\n".encode())
    assert {name: v.verdict for name, v in read_verdicts(tmp_path).items()} == {"a": "flag", "=b": "accept"}
    write_verdicts(tmp_path, [Verdict("a", "accept", when="t"), Verdict("c", "flag", when="t")])
    assert table.read_text(encoding="utf-8").splitlines() == [
        "case;site;verdict;reason;by;when",
        "a;Bern;accept;;;t",
        "'=b;Köln;accept;;;",
        "c;;flag;;;t",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,verdict\na,exlude\n", r"line 2.*accept, flag or exclude.*exlude for a"),
        ("case,verdict\na,flag\n,flag\n", r"line 3.*without a case"),
        ("name,verdict\na,flag\n", "no column 'case'"),
        ("case,case,verdict\na,b,flag\n", "two columns"),
        ("case,verdict\na,flag,no, quotes\n", "more cells than the header"),
        ('case,verdict\n"a,flag\n', "no table of verdicts"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "verdicts.csv").write_text(text)
    with pytest.raises(DataError, match=rf"(?s){told}"):
        read_verdicts(tmp_path)
    with pytest.raises(DataError):
        write_verdicts(tmp_path, [Verdict("a", "accept")])
    assert (tmp_path / "verdicts.csv").read_text() == text


def test_a_verdict_moves_no_other_case_to_another_fold(tmp_path: Path) -> None:
    folder = images(tmp_path / "boxes")
    before = split_cases(open_dataset(folder), 0)
    write_verdicts(folder, [Verdict("c2", "flag", "blurred")])
    dataset = open_dataset(folder)
    assert [case.id for case in dataset.set_aside] == ["c2"]
    assert dataset.left_out == {"c2": "flagged in verdicts.csv: blurred"}
    after = split_cases(dataset, 0)
    for part in ("train", "val"):
        assert [c.id for c in getattr(after, part)] == [c.id for c in getattr(before, part) if c.id != "c2"]


def test_every_command_leaves_them_out_and_says_so(segue: Segue, tmp_path: Path) -> None:
    folder = images(tmp_path / "boxes")
    write_verdicts(
        folder, [Verdict("c2", "flag", "blurred", "eva"), Verdict("gone", "exclude"), Verdict("c1", "accept")]
    )
    told = "1 case left out by verdicts.csv: c2"
    for words in (("check", "boxes"), ("train", "boxes", "--dry-run", "--steps", "1")):
        done = segue(*words)
        assert done.returncode == 0, done.stderr
        assert told in done.stdout + done.stderr, words
        assert "verdicts.csv names 1 that are not here: gone" in done.stdout + done.stderr, words
    assert "3 train, 2 validate" in done.stdout  # of six, as if c2 were there: four and two
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for path in (folder / "labelsTr").iterdir():
        (predicted / path.name).symlink_to(path)
    done = segue("evaluate", "--pred", "predicted", "--truth", "boxes")
    assert done.returncode == 0, done.stderr
    assert "c2 left out by verdicts.csv" in done.stderr
    assert json.loads((predicted / "metrics.json").read_text())["test"]["aggregate"]["all"]["dice"]["n"] == 5


@pytest.mark.slow
def test_a_run_is_measured_without_what_was_flagged_since(segue: Segue, tmp_path: Path) -> None:
    folder = images(tmp_path / "boxes")
    done = segue("train", "boxes", "--steps", "2", "-o", "run", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    (case,) = [entry["id"] for entry in json.loads((tmp_path / "run" / "split.json").read_text())["val"]][:1]
    write_verdicts(folder, [Verdict(case, "exclude", "wrong patient")])
    done = segue("evaluate", "run")
    assert f"left out by verdicts.csv: {case}" in done.stderr, done.stderr
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert case not in figures.get("val", {}).get("cases", {})
    assert done.returncode == 0, done.stderr
