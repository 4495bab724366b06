"""``segue view``: from the click to the picture of a CT of 512 x 512 x 400 with its mask, and a list of 10,000 cases.

    python benchmarks/view.py

Chromium without a graphics card draws (SwiftShader). The CT has noise in every voxel, so that its file is as large as
a real one, and a mask of 24 organs. "First" is the first time that a volume is opened: its coarser level is made then
and kept; "again" is after a restart of the command. A click is timed until the viewer tells the value at its crosshair
and a picture is on its canvas; then until all voxels are there. ``--large`` adds a volume of 4 GB.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-quic",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
PATIENCE_MS = 300_000
LISTED = 10_000


def make_ct(folder: Path, cases: int, shape: tuple[int, int, int] = (512, 512, 400)) -> int:
    """Noisy bodies with 24 organs in nnU-Net's layout; returns the bytes of the last image's file."""
    import numpy as np

    from segue.images import write
    from segue.volume import Geometry, Volume

    random = np.random.default_rng(0)
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    body = ((x / shape[0] - 0.5) / 0.45) ** 2 + ((y / shape[1] - 0.5) / 0.34) ** 2 < 1
    mask = np.zeros(shape, np.uint8)
    for organ in range(24):
        centre = (shape[0] * (0.29 + 0.08 * (organ % 6)), shape[1] * (0.35 + 0.09 * (organ // 6)), shape[2] / 2)
        across = ((x - centre[0]) / (18 + organ % 5)) ** 2 + ((y - centre[1]) / (18 + organ % 5)) ** 2
        mask[across + ((z - centre[2]) / 60) ** 2 < 1] = organ + 1
    geometry = Geometry(shape, np.diag([0.8, 0.8, 1.0, 1.0]))
    path = folder
    for number in range(cases):
        image = np.where(body, np.int16(40) + 4 * mask.astype(np.int16), np.int16(-1000))
        for k in range(shape[2]):
            image[:, :, k] += random.integers(-24, 25, shape[:2], np.int16)
        path = folder / "imagesTr" / f"ct{number}_0000.nii.gz"
        write(Volume(image[None], geometry), path)
        write(Volume(mask[None], geometry, "labels"), folder / "labelsTr" / f"ct{number}.nii.gz")
    labels = {"background": 0, **{f"organ {number}": number for number in range(1, 25)}}
    listing = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(listing))
    return path.stat().st_size


def make_list(folder: Path) -> None:
    """10,000 cases, each a link to one small image."""
    import numpy as np

    from segue.images import write
    from segue.volume import Geometry, Volume

    (folder / "imagesTr").mkdir(parents=True)
    small = folder / "small.nii.gz"
    write(Volume(np.arange(4096, dtype=np.int16).reshape(1, 16, 16, 16), Geometry((16, 16, 16), np.eye(4))), small)
    for number in range(LISTED):
        (folder / "imagesTr" / f"case{number:05d}_0000.nii.gz").symlink_to(small)
    listing = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "numTraining": LISTED,
               "file_ending": ".nii.gz"}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(listing))


@contextmanager
def viewed(what: list[str], cache: Path) -> Iterator[tuple[str, float]]:
    """``segue view`` running: its address, and the seconds until it printed it."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    environment.pop("SSH_CONNECTION", None)
    began = time.perf_counter()
    command = [sys.executable, "-m", "segue", "view", *what, "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    yield process.stdout.readline().strip(), time.perf_counter() - began
    process.terminate()
    process.wait()


def drawn(page: Any) -> None:
    """Wait until the viewer tells a value and two frames have passed since."""
    page.wait_for_function(
        "() => document.querySelector('.sv-readout')?.textContent.includes('voxel')"
        " && document.querySelector('.sv-status').hidden",
        timeout=PATIENCE_MS,
    )
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def is_blank(png: bytes) -> bool:
    import numpy as np
    from PIL import Image

    return bool(np.asarray(Image.open(io.BytesIO(png)).convert("L"), np.float32).std() < 3)


def click(page: Any, name: str) -> tuple[float, float, str]:
    """Seconds from the click to the first picture and to all of it, and what the page said of its resolution."""
    row = page.locator("#list [role=option]", has_text=name)
    row.wait_for(timeout=PATIENCE_MS)
    began = time.perf_counter()
    row.click()
    page.wait_for_function("(n) => document.querySelector('#case-title').textContent === n", arg=name)
    drawn(page)
    first = time.perf_counter() - began
    # The picture is looked at once the clock has been read.
    if is_blank(page.locator(".sv-stage").screenshot(timeout=PATIENCE_MS)):
        sys.exit("nothing was drawn")
    page.wait_for_function("() => !document.querySelector('#viewers').hasAttribute('aria-busy')", timeout=PATIENCE_MS)
    said = page.locator("#resolution").inner_text() if page.locator("#resolution").is_visible() else "all voxels"
    return first, time.perf_counter() - began, said


def measure_list(page: Any, address: str) -> tuple[float, float]:
    """Seconds to the first rows of the list, and from a search to what it finds."""
    began = time.perf_counter()
    page.goto(address)
    page.locator("#list [role=option]").first.wait_for(timeout=PATIENCE_MS)
    painted = time.perf_counter() - began
    drawn(page)
    took = page.evaluate(
        """() => new Promise((resolve) => {
          const [search, count] = ['#search', '#count'].map((id) => document.querySelector(id))
          const began = performance.now()
          new MutationObserver(() => requestAnimationFrame(() => resolve((performance.now() - began) / 1000)))
            .observe(count, { childList: true, characterData: true, subtree: true })
          search.value = '77'
          search.dispatchEvent(new Event('input'))
        })"""
    )
    return painted, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="also a volume of 4 GB")
    parser.add_argument("--folder", type=Path, help="keep the data here")
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as nowhere, sync_playwright() as playwright:
        folder = given.folder or Path(nowhere)
        cts, listed = folder / "cts", folder / "listed"
        cache = Path(nowhere) / "cache"
        if not cts.exists():
            print(f"CT of 512 x 512 x 400: a file of {make_ct(cts, 3) / 1e6:.0f} MB", flush=True)
        if not listed.exists():
            make_list(listed)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS, chromium_sandbox=False
        )
        for when in ("first", "again"):
            with viewed([str(cts)], cache) as (address, started):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                page.goto(address)
                drawn(page)
                page.wait_for_function(
                    "() => !document.querySelector('#viewers').hasAttribute('aria-busy')", timeout=PATIENCE_MS
                )
                # Of the next case in the list the first level is made ready ahead; this one nobody prepared.
                first, whole, said = click(page, "ct2")
                print(f"{when}: command {started:.1f} s, click to picture {first:.2f} s, to {said} {whole:.2f} s")
                page.close()
        with viewed([str(listed)], cache) as (address, started):
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            painted, filtered = measure_list(page, address)
            print(f"{LISTED} cases: command {started:.1f} s, list painted {painted:.2f} s, filtered {filtered:.3f} s")
            page.close()
        if given.large:
            large = folder / "large"
            if not large.exists():
                make_ct(large, 1, (1024, 1024, 2000))
            image = large / "imagesTr" / "ct0_0000.nii.gz"
            with viewed([str(image)], cache) as (address, _):
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                began = time.perf_counter()
                page.goto(address)
                drawn(page)
                said = page.locator("#resolution").inner_text()
                print(f"4 GB: picture {time.perf_counter() - began:.1f} s after opening; {said}")
        browser.close()


if __name__ == "__main__":
    main()
