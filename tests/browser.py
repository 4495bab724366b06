"""A browser for tests of pages: Debian's Chromium, driven by Playwright, with the network off.

A test takes the fixture ``page``. When it ends it fails if the page asked for anything that is not on this machine,
if a script raised, or if the console holds an error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_VIEW = Path(__file__).resolve().parent.parent / "src" / "segue" / "view"
FRONT, ASSETS = _VIEW / "front", _VIEW / "assets"
# WebGL is drawn by the processor, so that a machine without a graphics card tests the viewer too. No flag relaxes
# what a page on file:// may read.
_FLAGS = [
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
LOCAL = ("file", "data", "blob", "about")


def chromium_path() -> str | None:
    named = os.environ.get("SEGUE_TEST_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


# Not for the session: while Playwright's loop runs in this thread, no other test could call asyncio.run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium_path()
    if program is None:
        pytest.skip("no Chromium: install Debian's package chromium, or name one in SEGUE_TEST_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=_FLAGS, chromium_sandbox=False)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of 1280 by 800 with the network off but for 127.0.0.1.

    A test that provokes an error on purpose clears ``page.complaints``.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    watched = Watched(context)
    opened = context.new_page()
    opened.complaints = watched.complaints  # type: ignore[attr-defined]
    yield opened
    context.close()
    assert watched.left == [], f"the page asked for something that is not on this machine: {watched.left}"
    assert watched.complaints == [], f"the page has errors: {watched.complaints}"


class Watched:
    """What the pages of a context did that they should not."""

    def __init__(self, context: Any) -> None:
        self.left: list[str] = []
        self.complaints: list[str] = []
        context.on("request", self._requested)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("console", self._said)

    def _requested(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL and parts.hostname != "127.0.0.1":
            self.left.append(request.url)

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)


def require_assets() -> Path:
    """The folder of the built scripts."""
    if not (ASSETS / "viewer.js").exists():
        pytest.fail("the scripts of the pages are not built: make front")
    return ASSETS


def is_blank(png: bytes) -> bool:
    """Whether a picture is one colour, or nearly: a canvas that nothing was drawn on."""
    import io

    import numpy as np
    from PIL import Image

    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float32)
    return bool(grey.std() < 3)


def accessibility_problems(page: Any) -> list[str]:
    """What axe-core has against the page, by the rules of WCAG 2.2 A and AA."""
    # Evaluated from outside: the page's own policy lets no other script in.
    page.evaluate((FRONT / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("(tags) => axe.run(document, { runOnly: tags })", tags)
    return [f"{one['id']}: {one['help']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]]
