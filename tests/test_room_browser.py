"""The reading room in a browser, on real data: read, judge, compare with the arrays, follow a training.

Values that the page shows are compared with nibabel's reading of the same file.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest

from browser import accessibility_problems, browser, is_blank, page, require_assets  # noqa: F401
from reading import Served, served
from real_runs import few_cases, run_segue
from segue.catalogue import read_verdicts
from segue.images import write
from segue.train import Run, read_events
from segue.view.room import Room, RoomCase, files_room
from segue.volume import Geometry, Volume
from segue.workflow.reading_room import open_room
from test_view import EVIL

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SLOW_MS = 60_000  # of a machine that does other things too


@pytest.fixture(scope="module")
def training(
    tmp_path_factory: pytest.TempPathFactory, hippocampus: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    """A training on a dozen real cases that has just begun; its run folder and its data."""
    require_assets()
    folder = tmp_path_factory.mktemp("followed")
    root = few_cases(folder, hippocampus)
    command = [sys.executable, "-m", "segue", "train", str(root), "--minutes", "1", "-o", "run"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process, folder / "run", root
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def trained(training: tuple[subprocess.Popen[bytes], Path, Path]) -> Path:
    process, run, _ = training
    assert process.wait(timeout=240) == 0
    return run


@contextlib.contextmanager
def reading(page: Page, made: Room, cache: Path) -> Iterator[Served]:  # noqa: F811
    """A room that is served until its pages are closed: they would complain that it is gone."""
    with served(made, cache) as room:
        yield room
        for shown in page.context.pages:
            shown.goto("about:blank")


def waited(page: Page, holds: str, argument: object = None) -> None:  # noqa: F811
    page.wait_for_function(holds, arg=argument, timeout=SLOW_MS)


def opened(page: Page, name: str | None = None) -> None:  # noqa: F811
    """Wait until a case is drawn and all of it is there."""
    told = "(name) => document.querySelector('.sv-readout')?.textContent.includes('voxel') && \
        !document.querySelector('#viewers[aria-busy]') && \
        (!name || document.querySelector('#case-title').textContent === name)"
    waited(page, told, name)


def stage(page: Page) -> bytes:  # noqa: F811
    return page.locator(".sv-stage").first.screenshot(timeout=SLOW_MS)


def test_a_training_is_followed_until_it_ends(
    training: tuple[subprocess.Popen[bytes], Path, Path],
    page: Page,  # noqa: F811
    tmp_path: Path,
) -> None:
    process, run, _ = training
    while not (run / "config.yaml").exists():
        assert process.poll() is None, "the training ended before it began"
        page.wait_for_timeout(100)
    with reading(page, open_room([str(run)]), tmp_path / "cache") as room:
        page.goto(room.address)
        # A run that is still going opens on its training.
        page.get_by_role("tab", name=re.compile("Training")).wait_for(timeout=SLOW_MS)
        assert page.get_by_role("tab", name=re.compile("Training")).get_attribute("aria-selected") == "true"
        page.get_by_text("going on", exact=True).wait_for(timeout=SLOW_MS)
        page.wait_for_function(
            "() => document.querySelector('.training')?.textContent.includes('ended')", timeout=4 * SLOW_MS
        )
        best = read_events(run / "events.jsonl")[-1]["best_score"]
        assert page.get_by_text(f"{best:.3f}", exact=True).count() == 1
        assert page.locator(".training svg[aria-label^='loss over steps']").count() == 1
        page.locator(".samples img").first.wait_for(timeout=SLOW_MS)
        assert accessibility_problems(page) == []


def test_cases_are_searched_sorted_and_paged_through_by_key(page: Page, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    made = open_room([str(trained)])
    with reading(page, made, tmp_path / "cache") as room:
        page.goto(room.address)
        opened(page)
        assert "token" not in page.url
        names = [page.locator("#case-title").inner_text()]
        assert not is_blank(stage(page))
        for _ in range(10):
            page.keyboard.press("j")
            waited(page, "(before) => document.querySelector('#case-title').textContent !== before", names[-1])
            names.append(page.locator("#case-title").inner_text())
        opened(page, names[-1])
        assert len(set(names)) == 11 and not is_blank(stage(page))
        page.keyboard.press("k")
        opened(page, names[-2])
        page.go_back()
        opened(page, names[-1])
        # Search, sort, filter
        page.keyboard.press("/")
        page.keyboard.type(names[4])
        waited(page, "() => document.querySelectorAll('#list [role=option]').length === 1")
        page.get_by_label("Search cases").fill("")
        page.get_by_label("Sort by").select_option("Dice, mean")
        figures = dict(zip(room.json("/api/room")["cases"]["id"], _dice(room), strict=True))
        measured = sorted((value, name) for name, value in figures.items() if value is not None)
        shown = page.locator("#list [role=option] .name").all_inner_texts()
        assert [figures[name] for name in shown[:3]] == [value for value, _ in measured]
        page.get_by_text("Filter", exact=True).click()
        page.locator("#split").select_option("validation")
        waited(page, "() => document.querySelector('#count').textContent === '3 of 12 cases'")


def _dice(room: Served) -> list[float | None]:
    return next(c["values"] for c in room.json("/api/room")["cases"]["columns"] if c["name"] == "Dice, mean")


def test_truth_is_shown_against_prediction_and_the_largest_error_is_gone_to(
    page: Page,  # noqa: F811
    trained: Path,
    tmp_path: Path,
) -> None:
    with reading(page, open_room([str(trained)]), tmp_path / "cache") as room:
        cases = room.json("/api/room")["cases"]
        number = cases["split"].index("validation")
        name = cases["id"][number]
        page.goto(f"{room.address}#case={name}")
        opened(page, name)
        with_all = stage(page)
        page.get_by_label("prediction: all labels").uncheck()
        page.get_by_label("truth: all labels").uncheck()
        page.wait_for_timeout(300)
        assert stage(page) != with_all
        errors = room.json(f"/api/cases/{number}/errors/0")["errors"]
        page.locator("#case-title").click()
        page.keyboard.press("e")
        place = f"{errors[0]['mm'][0]:.1f}".replace("-", "−")
        waited(page, "(x) => document.querySelector('.sv-readout').textContent.includes(`x ${x}`)", place)
        readout = page.locator(".sv-readout").inner_text()
        labels = re.search(r"truth: (\S+)\s+prediction: (\S+)", readout)
        assert labels is not None
        shown = labels[1] if errors[0]["kind"] == "missed" else labels[2]
        assert shown == errors[0]["name"] and labels[1] != labels[2]
        waited(page, "(x) => location.hash.includes(`at=${x}`)", place.replace("−", "-"))
        link = page.url
        page.goto("about:blank")
        page.goto(link)  # the cookie opens it: no token is in the link
        opened(page, name)
        waited(page, "(x) => document.querySelector('.sv-readout').textContent.includes(`x ${x}`)", place)


def test_a_flagged_case_is_in_the_table_and_left_out_by_train(page: Page, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    root = Path(Run(trained).settings()["root"])
    with reading(page, open_room([str(trained)]), tmp_path / "cache") as room:
        other = page.context.new_page()
        for one in (page, other):
            one.goto(room.address)
            opened(one)
        page.keyboard.press("r")
        page.keyboard.type("moved during the scan")
        page.keyboard.press("Enter")
        page.keyboard.press("f")
        first = page.locator("#case-title").inner_text()
        other.keyboard.press("j")
        waited(other, "(before) => document.querySelector('#case-title').textContent !== before", first)
        second = other.locator("#case-title").inner_text()
        other.keyboard.press("x")
        for one in (page, other):  # each browser shows what the other one wrote
            waited(one, "() => document.querySelectorAll('#list .mark').length === 2")
        assert page.locator("#flag").get_attribute("aria-pressed") == "true"
        # Only what was flagged, or what nobody has judged; and by verdict
        page.get_by_text("Filter", exact=True).click()
        page.locator("#verdict").select_option("flag")
        waited(page, "() => document.querySelector('#count').textContent === '1 of 12 cases'")
        assert page.locator("#list [role=option] .name").all_inner_texts() == [first]
        page.locator("#verdict").select_option("none")
        waited(page, "() => document.querySelector('#count').textContent === '10 of 12 cases'")
        page.locator("#verdict").select_option("")
        page.get_by_label("Sort by").select_option("verdict")
        waited(page, "() => document.querySelector('#list [role=option] .mark') !== null")
        assert set(page.locator("#list [role=option] .name").all_inner_texts()[:2]) == {first, second}
        labelled = room.json("/api/room")["cases"]["labels"]
        name = labelled[0][0]
        held = sum(name in labels for labels in labelled)
        page.get_by_label("Sort by").select_option("name")
        page.locator("#label").select_option(name)
        told = "12 cases" if held == 12 else f"{held} of 12 cases"
        waited(page, "(told) => document.querySelector('#count').textContent === told", told)
    verdicts = read_verdicts(root)
    assert {name: verdict.verdict for name, verdict in verdicts.items()} == {first: "flag", second: "exclude"}
    assert verdicts[first].reason == "moved during the scan"
    command = [sys.executable, "-m", "segue", "train", str(root), "--steps", "3", "--dry-run", "-o", "other"]
    done = subprocess.run(command, cwd=root.parent, capture_output=True, text=True, timeout=200, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "2 cases" in told and "verdicts.csv" in told and first in told and second in told
    (root / "verdicts.csv").unlink()


def test_pet_lies_over_ct_and_the_suv_at_the_crosshair_is_the_arrays(page: Page, tmp_path: Path) -> None:  # noqa: F811
    run_segue(tmp_path, "get", "synthetic/petct", "-n", 1, "--size", "small")
    root = tmp_path / "data" / "synthetic" / "petct"
    with reading(page, open_room([str(root)]), tmp_path / "cache") as room:
        page.goto(room.address)
        opened(page)
        study = next(path.parent for path in root.rglob("SUV.nii.gz"))
        arrays = {
            name: np.asanyarray(nibabel.load(study / f"{name}.nii.gz").dataobj) for name in ("SUV", "CTres", "SEG")
        }
        place = np.argwhere(arrays["SEG"] > 0)[3]
        affine = nibabel.load(study / "SUV.nii.gz").affine
        mm = affine[:3, :3] @ place + affine[:3, 3]
        page.get_by_placeholder("x y z").fill(" ".join(f"{value:.3f}" for value in mm))
        page.get_by_placeholder("x y z").press("Enter")
        voxel = ", ".join(map(str, place))
        waited(page, "(voxel) => document.querySelector('.sv-readout').textContent.includes(`voxel ${voxel}`)", voxel)
        readout = page.locator(".sv-readout").inner_text().replace("−", "-")
        suv, hu = (
            float(re.search(rf"{name} (-?[\d.]+) {unit}", readout)[1]) for name, unit in (("PET", "SUV"), ("CT", "HU"))
        )
        assert suv == pytest.approx(float(arrays["SUV"][tuple(place)]), rel=1e-3)
        assert hu == pytest.approx(float(arrays["CTres"][tuple(place)]), rel=1e-3, abs=1e-2)
        assert "truth: lesion" in readout
        fused = stage(page)
        page.get_by_label("over it").select_option(index=0)
        page.wait_for_timeout(300)
        alone = stage(page)
        assert fused != alone and not is_blank(alone)


def test_two_runs_stand_beside_each_other_with_linked_cursors(page: Page, trained: Path, tmp_path: Path) -> None:  # noqa: F811
    second = tmp_path / "second"
    second.mkdir()
    for path in trained.iterdir():
        (second / path.name).symlink_to(path)
    with reading(page, open_room([str(trained), str(second)]), tmp_path / "cache") as room:
        cases = room.json("/api/room")["cases"]
        page.goto(f"{room.address}#case={cases['id'][cases['split'].index('validation')]}")
        waited(
            page,
            "() => [...document.querySelectorAll('.sv-readout')].filter((r) => r.innerText.length > 20).length === 2",
        )
        page.get_by_placeholder("x y z").last.fill("12 20 11")
        page.get_by_placeholder("x y z").last.press("Enter")
        told = (
            "() => [...document.querySelectorAll('.sv-readout')].map((r) => r.textContent.match(/voxel [\\d, ]+/)[0])"
        )
        waited(page, f"() => new Set(({told})()).size === 1 && ({told})()[0].includes('1')")
        places = page.evaluate(told)
        assert len(places) == 2 and places[0] == places[1]
        assert page.locator("#facts thead th").last.inner_text() == "difference"


def test_names_with_scripts_in_them_are_text_and_the_page_is_accessible(page: Page, tmp_path: Path) -> None:  # noqa: F811
    grid = Geometry((20, 18, 16), np.diag([1.0, 1.0, 2.0, 1.0]))
    write(
        Volume(np.random.default_rng(0).normal(size=(1, *grid.shape)).astype(np.float32), grid), tmp_path / "a.nii.gz"
    )
    plain = files_room([tmp_path / "a.nii.gz"], EVIL).cases[0]
    finding = {"severity": "error", "what": EVIL, "value": EVIL, "remedy": EVIL}
    from segue.prepare import Finding

    cases = [
        RoomCase(f"{EVIL}{n}", plain.sheets, EVIL, EVIL, {EVIL: EVIL}, [Finding(case=EVIL, **finding)], labels=[EVIL])
        for n in range(3)
    ]
    with reading(page, Room(EVIL, "dataset", cases, {1: EVIL}, notes=[EVIL]), tmp_path / "cache") as room:
        page.goto(room.address)
        opened(page)
        assert page.locator("#case-title").inner_text() == f"{EVIL}0" and EVIL in page.locator("#facts").inner_text()
        assert page.locator("#list img, #facts img, h1 img").count() == 0
        for theme in ("dark", "light"):
            page.get_by_label("Theme").select_option(theme)
            assert accessibility_problems(page) == []
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
        assert accessibility_problems(page) == []
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert accessibility_problems(page) == []


def test_ten_thousand_cases_are_a_few_elements(page: Page, tmp_path: Path) -> None:  # noqa: F811
    def nothing() -> tuple[list, list]:
        return [], []

    figures: Callable[[int], dict] = lambda n: {0: {"tumour": {"dice": n / 10_000}}}  # noqa: E731
    cases = [RoomCase(f"case_{n:05d}", nothing, figures=figures(n)) for n in range(10_000)]
    made = Room("Many", "run", cases, {1: "tumour"}, runs=[Run(tmp_path)], names=["run"])
    with reading(page, made, tmp_path / "cache") as room:
        page.goto(room.address + "#tab=cases&case=case_00000")
        waited(page, "() => document.querySelector('#count').textContent === '10000 cases'")
        assert page.locator("#list [role=option]").count() < 60
        page.keyboard.press("l")
        page.keyboard.press("End")
        waited(page, "() => document.querySelector('#list').textContent.includes('case_09999')")
        page.get_by_label("Sort by").select_option("Dice tumour")
        page.locator("#down").click()
        assert page.locator("#list [role=option] .name").first.inner_text() == "case_09999"
        assert page.locator("#list").get_attribute("aria-activedescendant")


def test_when_the_command_ends_the_page_says_so(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    context = browser.new_context()
    shown = context.new_page()
    cases = [RoomCase("one", lambda: ([], []))]
    with served(Room("Ends", "dataset", cases), tmp_path / "cache") as room:
        shown.goto(room.address)
        waited(shown, "() => document.querySelector('#count').textContent === '1 case'")
    shown.get_by_text("it has ended, or the tunnel is closed").wait_for(timeout=SLOW_MS)
    context.close()
