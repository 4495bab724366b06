"""Reports of real runs in a browser, from file:// with the network off: a case is opened and drawn, its values are
those of its files, and the pages can be used by everybody."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import accessibility_problems, is_blank
from real_runs import breast_run, hippocampus_run, petct_run  # noqa: F401
from segue.catalogue import Case, dataset_at
from segue.images import read_labels
from segue.prepare import read_channels, read_mask
from segue.train import Run
from segue.view import write_report


def cases_of(run: Run) -> dict[str, Case]:
    dataset = dataset_at(run.card(), Path(run.settings()["root"]))
    return {case.id: case for case in (*dataset.cases, *dataset.set_aside)}


def open_report(page: Any, run: Path) -> None:
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-ready]")


def opened(page: Any) -> tuple[str, Any]:
    """The name of the case that is open, and its viewer."""
    mount = page.wait_for_selector("[data-open]")
    return mount.get_attribute("data-open"), mount.evaluate_handle("(mount) => mount.viewer")


def check_values(viewer: Any, case: Case, run: Run, labelled: bool) -> None:
    """At random voxels the viewer tells what the files hold, read independently of the page."""
    image = read_channels(case, run.card())
    truth = read_mask(case.label) if labelled and case.label else None
    random = np.random.default_rng(1)
    for _ in range(6):
        voxel = tuple(int(n) for n in random.integers(0, image.geometry.shape))
        mm = (image.geometry.affine @ [*voxel, 1])[:3]
        told = viewer.evaluate("(viewer, mm) => (viewer.at(mm), viewer.value())", mm.tolist())
        assert tuple(told["voxel"]) == voxel
        np.testing.assert_allclose(told["mm"], mm, atol=1e-3)
        values = [one["value"] for one in told["values"]]
        np.testing.assert_allclose(np.ravel(values), image.array[(slice(None), *voxel)], rtol=1e-6)
        if truth is not None:
            assert told["labels"][0]["number"] == truth.array[0][voxel]


def test_a_click_on_a_point_opens_its_case(page: Any, hippocampus_run: Path) -> None:  # noqa: F811
    run = Run(hippocampus_run)
    open_report(page, hippocampus_run)
    assert page.locator("canvas").count() == 0  # nothing is loaded before somebody asks
    points = page.locator("#explorer .chart-strip svg circle")
    points.nth(1).click(force=True)
    name, viewer = opened(page)
    assert page.locator("#one-case h3").first.inner_text() == name
    assert not is_blank(page.locator(".sv-stage").screenshot())
    check_values(viewer, cases_of(run)[name], run, labelled=True)
    # It begins in the middle of what was to be found; a label goes and comes.
    viewer.evaluate("(viewer) => viewer.home()")
    assert viewer.evaluate("(viewer) => viewer.value().labels[0].number") > 0
    with_label = page.locator(".sv-stage").screenshot()
    box = page.get_by_role("checkbox", name="truth: all labels")
    box.uncheck()
    assert page.locator(".sv-stage").screenshot() != with_label
    # Another case takes its place, and the close button ends it.
    other = next(case for case in page.locator("#viewer option").all_inner_texts() if case != name)
    page.evaluate("(name) => document.dispatchEvent(new CustomEvent('segue:open', {detail: {case: name}}))", other)
    page.wait_for_selector(f"[data-open='{other}']")
    assert page.locator("canvas").count() == 2  # the picture and the marks of one viewer
    page.locator("#one-case").get_by_role("button", name="close").click()
    assert page.locator("canvas").count() == 0


def test_the_last_of_several_clicks_wins(page: Any, hippocampus_run: Path) -> None:  # noqa: F811
    run = Run(hippocampus_run)
    open_report(page, hippocampus_run)
    names = page.locator("#viewer option").all_inner_texts()[:2]
    clicks = [*names, *names, names[0], names[0]]  # faster than anything loads
    page.evaluate(
        "(names) => names.forEach((name) =>"
        " document.dispatchEvent(new CustomEvent('segue:open', {detail: {case: name}})))",
        clicks,
    )
    name, viewer = opened(page)
    assert name == names[0]
    check_values(viewer, cases_of(run)[name], run, labelled=True)
    assert page.locator("[data-open]").count() == 1 and page.locator("canvas").count() == 2


def test_pet_lies_over_ct_in_the_report(page: Any, petct_run: Path) -> None:  # noqa: F811
    run = Run(petct_run)
    open_report(page, petct_run)
    page.locator("#viewer").get_by_role("button", name="open").click()
    name, viewer = opened(page)
    check_values(viewer, cases_of(run)[name], run, labelled=True)
    told = viewer.evaluate("(viewer) => viewer.images.map((image) => [image.unit, image.min, image.max])")
    assert told == [["HU", -160, 240], ["SUV", 0, 10]]
    assert viewer.evaluate("(viewer) => viewer.over") == 1
    names = page.get_by_label("Preset of the window").locator("option").all_inner_texts()
    assert names[:4] == ["soft tissue", "lung", "bone", "brain"]
    predicted = read_labels(next((petct_run / "predictions").glob(f"*/{name}.nii.gz")))
    voxel = np.argwhere(predicted.array[0])
    if len(voxel):
        mm = (predicted.geometry.affine @ [*voxel[0], 1])[:3].tolist()
        there = viewer.evaluate("(viewer, mm) => (viewer.at(mm), viewer.value().labels[1].number)", mm)
        assert there == predicted.array[0][tuple(voxel[0])]


def test_a_picture_is_one_plane(page: Any, breast_run: Path) -> None:  # noqa: F811
    run = Run(breast_run)
    open_report(page, breast_run)
    page.locator("#viewer").get_by_role("button", name="open").click()
    name, viewer = opened(page)
    assert not is_blank(page.locator(".sv-stage").screenshot())
    check_values(viewer, cases_of(run)[name], run, labelled=False)
    assert page.get_by_role("group", name="Layout").count() == 0


@pytest.mark.parametrize("kind", ["hippocampus_run", "breast_run"])
def test_pages_are_for_everybody(page: Any, kind: str, request: pytest.FixtureRequest) -> None:
    """axe-core finds nothing in either theme; a phone shows no page wider than itself; the theme is kept."""
    folder = request.getfixturevalue(kind)
    open_report(page, folder)
    page.locator("#viewer").get_by_role("button", name="open").click()
    opened(page)
    for theme in ("dark", "light"):
        page.get_by_label("Theme").select_option(theme)
        assert accessibility_problems(page) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.reload()
    assert page.get_by_label("Theme").input_value() == "light"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_is_gone_or_hostile_is_told(page: Any, hippocampus_run: Path, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "run"
    shutil.copytree(hippocampus_run, folder)
    run, truths = Run(folder), cases_of(Run(hippocampus_run))
    measured = list(json.loads(run.metrics.read_text())["val"]["cases"])
    # One whose image has gone, and one whose prediction has.
    gone = truths[measured[0]]
    truths[gone.id] = replace(gone, images=(tmp_path / "gone.nii.gz",))
    next((folder / "predictions").glob(f"val/{measured[1]}.nii.gz")).unlink()
    write_report(run, truths)
    open_report(page, folder)
    form = page.locator("#viewer form")
    assert gone.id not in form.locator("option").all_inner_texts()
    form.locator("select").select_option(measured[1])
    form.get_by_role("button").click()
    opened(page)
    assert page.get_by_text("There is no prediction of this case.").is_visible()
    page.evaluate("(name) => document.dispatchEvent(new CustomEvent('segue:open', {detail: {case: name}}))", gone.id)
    assert "cannot be opened" in page.get_by_role("alert").inner_text()
    # The folder beside the page was left behind; Chromium says in its console that a file is not there.
    shutil.rmtree(folder / "report" / "volumes")
    page.locator("#viewer form").get_by_role("button").click()
    page.locator("#viewer [role=alert]", has_text="is not there").wait_for()
    page.complaints.clear()
