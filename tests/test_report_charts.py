"""The charts of the report in a browser, from file:// with the network off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import accessibility_problems
from segue.evaluate import compare, read_measured
from segue.view import write_comparison_page, write_report
from test_class_report import ClassRun, answers
from test_view import FakeRun

HOSTILE = '</script><img src=x onerror="window.hurt=1">'
# Notes which case is opened; nothing else of the page is touched.
LISTEN = """window.opened = []
document.addEventListener("segue:open", (event) => window.opened.push(event.detail.case))"""


def start(page: Any, path: Path) -> None:
    page.add_init_script(LISTEN)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight cases of two sites and two labels, one of them with a hostile name."""
    made = FakeRun(tmp_path_factory.mktemp("charts"), names={1: HOSTILE, 2: "other"})
    names = ["</script><b>", *[f"case {n}" for n in range(7)]]
    for number, name in enumerate(names):
        made.add_blocks(name.replace("/", "∕"), 18.0, 1.0 + number, part="test" if number == 7 else "val")
    made.complete()
    for number, name in enumerate(made.truths):
        made.truths[name] = replace(made.truths[name], facts={"site": f"<i>{'AB'[number % 2]}", "age": 40 + number})
    return write_report(made.run, made.truths)


def rows(page: Any) -> list[str]:
    return page.locator("table.cases tbody th").all_inner_texts()


def pictures(page: Any) -> list[str]:
    # not what is drawn: a browser leaves out what nobody has scrolled to
    return page.locator("#gallery > li:visible .case").all_text_contents()


def dices(report: Path) -> dict[str, float]:
    found = json.loads((report.parent / "metrics.json").read_text())
    return {
        name: float(np.mean([f["dice"] for f in case["labels"].values() if f["dice"] is not None]))
        for part in found.values()
        for name, case in part["cases"].items()
    }


def test_a_click_on_a_point_opens_the_case_of_that_point(page: Any, report: Path) -> None:
    start(page, report)
    worst = min(dices(report).items(), key=lambda item: item[1])[0]
    circles = page.locator(".chart-strip .plot circle")
    assert circles.count() == 8
    heights = [float(circles.nth(n).get_attribute("cy")) for n in range(8)]
    lowest = circles.nth(int(np.argmax(heights)))
    lowest.hover()
    tip = page.locator(".chart-strip .tip")
    assert tip.locator("strong").inner_text() == worst and "site: <i>" in tip.inner_text()
    lowest.click()
    assert page.evaluate("opened") == [worst]
    assert page.locator("#one-case h3").first.inner_text() == worst
    assert page.locator("#one-case table").first.locator("tbody tr").count() > 5
    page.locator("table.cases tbody button").last.click()
    best = max(dices(report).items(), key=lambda item: item[1])[0]
    assert page.evaluate("opened") == [worst, best]
    page.locator("#gallery > li:visible img").nth(1).click()
    assert page.evaluate("opened.length") == 3 and page.evaluate("window.hurt") is None


def test_filters_sorting_and_labels_hold_for_charts_table_and_gallery(page: Any, report: Path) -> None:
    start(page, report)
    by_error = [name for name, _ in sorted(dices(report).items(), key=lambda item: item[1])]
    assert rows(page) == by_error and pictures(page) == by_error
    page.get_by_role("button", name="mean Dice").click()
    assert rows(page) == by_error[::-1] and pictures(page) == by_error[::-1]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.get_by_label("site").select_option("<i>A")
    assert page.locator(".status").first.inner_text().startswith("4 of 8 cases")
    assert len(rows(page)) == len(pictures(page)) == page.locator(".chart-strip .plot circle").count() == 4
    page.get_by_label("part").select_option("test")
    assert rows(page) == [] and page.locator(".status").first.inner_text().startswith("0 of 8")
    page.get_by_role("button", name="show all").click()
    page.get_by_label("age from").fill("44")
    assert len(rows(page)) == 4
    page.get_by_label("search").fill("case 6")
    assert rows(page) == ["case 6"]
    page.get_by_role("button", name="show all").click()
    assert len(rows(page)) == 8
    page.get_by_role("group", name="Labels").get_by_role("button").first.click()
    assert page.locator(".chart-strip .plot circle").count() == 0  # nobody drew the other label


def test_a_choice_in_one_chart_is_the_choice_everywhere(page: Any, report: Path) -> None:
    start(page, report)
    page.locator(".chart-strip .plot svg").scroll_into_view_if_needed()
    box = page.locator(".chart-strip .plot svg").bounding_box()
    middle = page.locator(".chart-strip .plot circle")
    heights = sorted(float(middle.nth(n).get_attribute("cy")) for n in range(8))
    lower = (heights[3] + heights[4]) / 2  # below it lie the four worst
    page.mouse.move(box["x"] + 46, box["y"] + lower)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] - 30, steps=4)
    page.mouse.up()
    assert page.locator(".status").first.inner_text().startswith("4 of 8 cases")
    by_error = [name for name, _ in sorted(dices(report).items(), key=lambda item: item[1])]
    assert rows(page) == pictures(page) == by_error[:4]
    page.keyboard.press("Escape")
    page.locator(".chart-strip .chart-frame").press("Escape")
    assert len(rows(page)) == 8


def test_the_keyboard_goes_from_point_to_point(page: Any, report: Path) -> None:
    start(page, report)
    frame = page.locator(".chart-strip .chart-frame")
    frame.press("ArrowRight")
    worst = min(dices(report).items(), key=lambda item: item[1])[0]
    assert frame.locator(".said").inner_text().startswith(worst)
    frame.press("Enter")
    assert page.evaluate("opened") == [worst]


def test_curves_and_samples_and_everybody(page: Any, report: Path) -> None:
    start(page, report)
    assert page.locator("#curves-live svg path").count() >= 2 and not page.locator("#curves-still").is_visible()
    assert accessibility_problems(page) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_without_scripts_every_table_and_picture_is_there(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#cases-table").is_visible() and page.locator("#curves-still").is_visible()
    assert page.locator("#gallery img").count() == 8 and not page.locator("#explorer").is_visible()
    assert page.locator("#curves summary").is_visible()
    context.close()


def test_a_cell_of_the_confusion_matrix_chooses_its_images(page: Any, tmp_path: Path) -> None:
    made = ClassRun(tmp_path, {0: "benign", 1: HOSTILE})
    truth = np.arange(40) % 2
    for n, scores in enumerate(answers(truth, 2, skill=0.8)):
        made.add(f"c{n}", np.full((8, 8), 5 * n, np.uint8), int(truth[n]), scores)
    made.complete()
    start(page, write_report(made.run, made.truths))
    told = json.loads(made.run.metrics.read_text())["test"]
    confused = told["confusion"][0][1]
    assert confused > 0
    page.locator("#confusion td[data-truth='0'][data-answer='1'] button").click()
    chosen = rows(page)
    assert len(chosen) == confused
    assert all(told["cases"][n]["truth"] == "benign" and told["cases"][n]["predicted"] == HOSTILE for n in chosen)
    assert page.locator("#roc svg").count() == 1 and page.locator("#calibration svg").count() == 2
    assert page.evaluate("window.hurt") is None and accessibility_problems(page) == []


def test_compared_runs_in_a_browser(page: Any, tmp_path: Path) -> None:
    folders = []
    for name, shift in (("one", 3.0), ("other", 0.0)):
        made = FakeRun(tmp_path / name)
        for number in range(6):
            made.add_blocks(f"case {number}", 18.0, 1.0 + shift + number % 3)
        made.complete()
        write_report(made.run, made.truths)
        folders.append(made.run.folder)
    path = write_comparison_page(tmp_path / "comparison.html", compare([read_measured(folder) for folder in folders]))
    start(page, path)
    assert page.locator("#paired-0 .status").inner_text() == "Of 6 points A is better in 0, B in 6."
    page.locator("#paired-0 .plot").last.locator("circle").first.click()
    name = page.locator(".chosen strong").inner_text()
    assert page.evaluate("opened") == [name] and accessibility_problems(page) == []
    page.get_by_role("link", name="in the report of B").click()
    page.wait_for_selector("#one-case:visible")
    assert page.locator("#one-case h3").first.inner_text() == name
