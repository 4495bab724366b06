"""check.html in a browser, from file:// with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import FRONT, require_assets
from segue.catalogue import Card, Case, Dataset, Verdict
from segue.images import write
from segue.prepare import ExamineTask, Finding, dataset_findings, examine
from segue.view.check_page import CheckFacts, write_check_page
from segue.view.check_pictures import shot
from segue.volume import Geometry, Volume

HOSTILE = '<script>window.bad = 1</script><img src=x onerror="window.bad = 2">'


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> CheckFacts:
    """Twelve cases with balls, one of them large; 450 findings, some of hostile names."""
    folder = tmp_path_factory.mktemp("balls")
    rng = np.random.default_rng(0)
    card = Card.model_validate(
        {
            "name": "balls",
            "title": f"Balls {HOSTILE}",
            "task": "segmentation",
            "dimension": 3,
            "modalities": ["MR"],
            "channels": [{"name": "MR", "unit": "arbitrary"}],
            "labels": {1: f"ball {HOSTILE}"},
            "layout": {"kind": "files", "images": "{case}.nii.gz"},
        }
    )
    cases = []
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (24, 20, 16)], indexing="ij"))
    for number in range(12):
        mask = np.linalg.norm(grid - np.array([8, 10, 8])[:, None, None, None], axis=0) < (7 if number == 3 else 3)
        image = rng.normal(0, 1, mask.shape) + 6 * mask
        geometry = Geometry((24, 20, 16), np.diag([1.0, 1.0, 2.0, 1.0]))
        write(Volume(image[None].astype(np.float32), geometry), folder / f"{number}.nii.gz")
        write(Volume(mask[None].astype(np.uint8), geometry, "labels"), folder / f"{number}m.nii.gz")
        cases.append(Case(f"c{number:02d}", f"p{number}", (folder / f"{number}.nii.gz",), folder / f"{number}m.nii.gz"))
    looked = [examine(ExamineTask(case, card)) for case in cases]
    findings = dataset_findings(card, cases, looked)
    assert [f.case for f in findings if "volume" in f.what] == ["c03"]
    findings += [
        Finding(case=f"c{n % 12:02d}", severity="note", what=f"kind {n % 3}", value=f"{n} mm", remedy="look")
        for n in range(446)
    ]
    findings.append(Finding(case=HOSTILE, severity="error", what=HOSTILE, value=HOSTILE, remedy=HOSTILE))
    verdicts = {"c03": Verdict("c03", "accept")}
    dataset = Dataset(card, folder, tuple(cases), verdicts=verdicts)
    return CheckFacts("balls", 12, findings, dataset, [(dataset, looked)])


@pytest.fixture
def opened(page: Any, facts: CheckFacts, tmp_path: Path) -> Any:
    require_assets()
    write_check_page(tmp_path / "check.html", facts)
    page.goto((tmp_path / "check.html").as_uri())
    return page


def rows(page: Any) -> list[list[str]]:
    return page.eval_on_selector_all("#findings tbody tr", "all => all.map(r => [...r.cells].map(c => c.textContent))")


def sorted_by(page: Any) -> dict[str, str]:
    """What the heads of the columns say of the order."""
    heads = page.eval_on_selector_all("#findings th", "all => all.map(th => [th.textContent.trim(), th.ariaSort])")
    return {name: order for name, order in heads if order}


def test_the_list_sorts_filters_and_goes_on(opened: Any, facts: CheckFacts) -> None:
    count = len(facts.findings)
    assert opened.get_by_role("status").inner_text() == f"{count} of {count} findings, 200 shown"
    assert [row[0] for row in rows(opened)[:3]] == ["error", "warning", "note"]
    opened.get_by_role("button", name="Show more").click()
    opened.get_by_role("button", name="Show more").click()
    assert len(rows(opened)) == count
    opened.get_by_label("Search").fill("C03")
    assert {row[1] for row in rows(opened)} == {"c03"}
    opened.get_by_label("Severity").select_option("warnings")
    ((severity, case, what, value, verdict),) = rows(opened)
    assert (severity, case, verdict) == ("warning", "c03", "accept")
    assert what.startswith("the volume of ball")
    assert "median" in value
    opened.get_by_label("Search").fill("")
    opened.get_by_label("Severity").select_option("all")
    opened.get_by_label("Finding", exact=True).select_option("kind 1")
    assert {row[2] for row in rows(opened)} == {"kind 1"}
    measured = opened.get_by_role("button", name="Measured")
    for direction, first in (("ascending", "1 mm"), ("descending", "445 mm")):
        measured.click()  # by number, not by letter
        assert rows(opened)[0][3] == first
        assert (
            opened.locator("#findings").get_by_role("columnheader", name="Measured").get_attribute("aria-sort")
            == direction
        )
    assert opened.locator("#findings").get_by_role("columnheader", name="Severity").get_attribute("aria-sort") is None


def test_it_is_usable_by_keyboard_alone(opened: Any) -> None:
    opened.get_by_label("Search").focus()
    opened.keyboard.type("c07")
    places = []
    for _ in range(5):
        opened.keyboard.press("Tab")
        places.append(opened.evaluate("document.activeElement.id || document.activeElement.textContent"))
    # The table itself may be scrolled by keyboard, so it has the focus before its buttons.
    assert [places[n] for n in (0, 1, 3, 4)] == ["filter-severity", "filter-kind", "Severity", "Case"]
    opened.keyboard.press("Enter")
    assert (
        opened.locator("#findings").get_by_role("columnheader", name="Case", exact=True).get_attribute("aria-sort")
        == "ascending"
    )
    assert {row[1] for row in rows(opened)} == {"c07"}


def test_hostile_names_are_shown_and_not_run(opened: Any) -> None:
    assert opened.evaluate("window.bad") is None
    assert rows(opened)[0][1] == HOSTILE
    assert HOSTILE in opened.locator("h1").inner_text()
    assert opened.locator("img[src=x]").count() == 0


def test_charts_mark_what_stands_out(opened: Any) -> None:
    chart = opened.get_by_role("img", name="standing out: c03")
    assert chart.count() == 1
    assert opened.locator("circle.odd title").all_inner_texts() or opened.locator("circle.odd").count() == 1
    heights = opened.eval_on_selector_all(".hists svg rect", "all => all.map(r => r.getBoundingClientRect().height)")
    assert len(heights) > 4
    assert min(heights) > 3


def test_the_worst_case_has_a_picture_of_its_slice(facts: CheckFacts) -> None:
    """Eleven millimetres of ball are on a picture of 24 x 20: the outline has its place and the label's colour."""
    assert facts.dataset is not None
    import io

    from PIL import Image, ImageColor

    from segue.view.colours import LABEL_COLOURS

    png, words = shot(facts.dataset.cases[3], facts.dataset.card, (8.0, 10.0, 16.0))
    assert words == "axial slice 9 of 16, labels outlined"
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    assert pixels.shape == (213, 256, 3)
    y, x = np.nonzero((pixels == ImageColor.getrgb(LABEL_COLOURS[0])).all(axis=2))
    scale = 256 / 24
    # The ball covers voxels 2 to 14 and 4 to 16; the patient's right is left of the middle, the front is up.
    assert np.allclose([x.min(), x.max()], [(24 - 15) * scale, (24 - 2) * scale], atol=2)
    assert np.allclose([y.min(), y.max()], [(20 - 17) * scale, (20 - 4) * scale], atol=2)
    inside = pixels[int((20 - 10.5) * scale), int((24 - 12) * scale)].mean()
    assert inside > 150 > pixels[3, 3].mean() + 40


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_page_is_accessible(opened: Any, theme: str, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    opened.emulate_media(color_scheme=theme)
    # Not as a script tag: the page's policy lets none in but its own.
    opened.evaluate((FRONT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = opened.evaluate("(tags) => axe.run(document, { runOnly: tags })", tags)["violations"]
    assert [(one["id"], node["html"][:200]) for one in found for node in one["nodes"]] == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_a_clean_dataset_and_a_page_without_scripts(page: Any, tmp_path: Path) -> None:
    write_check_page(tmp_path / "check.html", CheckFacts("clean", 3, [], None, []))
    page.goto((tmp_path / "check.html").as_uri())
    assert "Nothing was found" in page.locator("#summary").inner_text()
    assert page.locator("#findings").count() == 0
