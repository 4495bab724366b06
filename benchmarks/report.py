"""The report of a run: how long it takes to write, how large it is, how long a browser takes to show and to filter it.

    python benchmarks/report.py --root Task04_Hippocampus --cases 200 1000

The images are those of the decathlon's hippocampus, each case as often as it takes to come to the number; predictions
are the reference outlines moved by up to four voxels, so that every case has errors to draw. The browser is Chromium
without a network (``--chromium``); its times are from the call to the moment the page says that it is ready, and from a
filter to the next frame that is drawn. Beside the first stands the processor time of the page, which other work on the
machine does not stretch.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"]  # fmt: skip
ROUNDS = 5
# The second frame begins when the first one has been drawn.
DRAWN = """(begin) => new Promise((done) =>
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begin))))"""


def make_run(folder: Path, root: Path, number: int) -> tuple[Any, dict[str, Any]]:
    """A run folder with so many validation cases, measured by segue itself."""
    from segue.catalogue import dataset_at, load_card
    from segue.core.files import write_json, write_text
    from segue.evaluate import Wanted, aggregate, names_of, pairs_of, score_pair, write_metrics
    from segue.images import read_labels, write
    from segue.predict import mask_path
    from segue.train import EventLog, Run
    from segue.volume import Volume

    card, run = load_card("msd/hippocampus"), Run(folder)
    source = dataset_at(card, root).labelled
    predicted, truths = [], {}
    for place in range(number):
        case = replace(source[place % len(source)], id=f"{source[place % len(source)].id}_{place // len(source)}")
        case = replace(case, patient=case.id, facts={"site": "ABC"[place % 3], "age": 30 + place % 50})
        truths[case.id] = case
        truth = read_labels(case.label)
        moved = np.roll(truth.array, (place % 5, place % 3), axis=(2, 3))
        path = mask_path(run.predictions("val"), case, card.dimension)
        write(Volume(moved, truth.geometry, "labels"), path)
        predicted.append((case, path))
    pairs = pairs_of(predicted, card, names_of(card.labels, card, card.ignore_label), Wanted())
    write_metrics(run.metrics, [aggregate("val", [score_pair(pair) for pair in pairs])])
    write_json(folder / "card.json", card)
    split = {"train": [], "val": [{"id": name, "patient": name} for name in truths], "test": []}
    write_json(folder / "split.json", split)
    write_text(run.config, "dataset: msd/hippocampus\nfold: 0\n")
    log = EventLog(run.events)
    for step in range(1, 2001):
        log.write("step", step=step, seconds=5.0 * step, loss=1 / step, learning_rate=1e-3)
        if step % 40 == 0:
            dice = {"anterior": 1 - 1 / step, "posterior": 1 - 2 / step}
            log.write("validated", step=step, seconds=5.0 * step, dice=dice, mean_dice=1 - 1.5 / step, best=True)
    log.close()
    return run, truths


def browse(path: Path, chromium: str) -> list[float]:
    """Median seconds until the page is ready, of its processor time until then, until a filter is drawn, and until a
    click has opened a case."""
    from playwright.sync_api import sync_playwright

    opened, worked, filtered, clicked = [], [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, chromium_sandbox=False)
        for _ in range(ROUNDS):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            begun = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-ready]")
            opened.append(time.perf_counter() - begun)
            metrics = session.send("Performance.getMetrics")["metrics"]
            worked.append(next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime"))
            begin = page.evaluate("performance.now()")
            page.get_by_label("site").select_option("B")
            filtered.append(page.evaluate(DRAWN, begin) / 1000)
            begin = page.evaluate("performance.now()")
            page.locator("table.cases tbody button").first.click()
            page.wait_for_selector("#one-case:visible")
            clicked.append(page.evaluate(DRAWN, begin) / 1000)
            page.context.close()
        browser.close()
    return [statistics.median(times) for times in (opened, worked, filtered, clicked)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="the folder Task04_Hippocampus")
    parser.add_argument("--cases", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    wanted = parser.parse_args()

    from segue.view import write_report

    heads = ["cases", "written in s", "again in s", "report.html MB", "volumes beside it MB", "opens in s", "processor s",
             "filter s", "click s"]  # fmt: skip
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for number in wanted.cases:
        with tempfile.TemporaryDirectory() as folder:
            run, truths = make_run(Path(folder), wanted.root, number)
            times = []
            for _ in range(2):
                begun = time.perf_counter()
                path = write_report(run, truths)
                times.append(time.perf_counter() - begun)
            beside = sum(file.stat().st_size for file in (Path(folder) / "report").rglob("*") if file.is_file())
            seen = browse(path, wanted.chromium)
            figures = [*times, path.stat().st_size / 1e6, beside / 1e6, *seen]
            print(f"| {number} | " + " | ".join(f"{value:.2f}" for value in figures) + " |", flush=True)
    print(f"peak memory of writing: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
