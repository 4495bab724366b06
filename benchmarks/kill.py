"""SIGKILL at random moments in whole commands: what a rerun gives is what an undisturbed run gives.

`python benchmarks/kill.py --kills 200` makes tiny data, runs each command once undisturbed, then again and again from
the same beginning: killed, begun anew, killed again, and at last run to its end and compared. A moment is drawn
uniformly over the time of an undisturbed run, or right before, or up to three milliseconds after, one of the places
where a file is opened to be written, renamed, linked or removed.

Each command is a process of its own (forked from this one, which has imported everything, so that moments fall into the
work), and is killed with all processes that it started. Compared is every file by name and content: bytes, or arrays
where a format holds a time; :data:`TIMES` lists what may differ. After each kill every file that has its name already
must be whole. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TIMES = {
    "segue.json": "time",
    "environment.json": "finished, seconds: ...",
    "plan.json": "measured (seconds and memory of a training step), and the words of it in reasons",
    "events.jsonl": "seconds, and which steps are told; a resumed run says so",
    "last.pt": "seconds, validation_s",
    "report.html": "what it shows of environment.json, plan.json and events.jsonl",
}
_TRAINING = (
    *("--steps", "6", "--device", "cpu", "--workers", "1", "--set", "plan.patch=[16,16,16]"),
    *("--set", "train.precision=float32", "--set", "train.compile=false", "--set", "train.save_every_s=0"),
    *("--set", "network.args={channels: [4, 8]}", "--set", "network.args.strides=[[1,1,1],[2,2,2]]"),
    *("--set", "network.args.stem_stride=[1,1,1]"),
)
_NAME = "msd/hippocampus"
_DATA = f"data/{_NAME}"
_MOST_IN_A_ROW = 4
_OF_TIME = re.compile(r"\d (s|min|h|ms|GB|MB|kB)\b|measured: |\d\dT\d\d:\d\d")
_DELAY_S = 0.003
_LONGEST_S = 600.0
_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree"}
_HEAVY = (
    *(
        "torch",
        "numpy",
        "scipy.ndimage",
        "monai.networks.blocks",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
    ),
    *("pydicom", "nibabel", "segue.cli.commands", "segue.acquire", "segue.synth", "segue.predict", "segue.view"),
    *("segue.workflow.training", "segue.workflow.converting", "segue.workflow.getting", "segue.workflow.measuring"),
)


@dataclass(frozen=True)
class Stage:
    """One command, in a folder that ``before`` (the names of stages) have filled; ``code`` it must end with."""

    name: str
    words: tuple[str, ...]
    before: tuple[str, ...] = ()
    code: int = 0


STAGES = (
    Stage("get", ("get", _NAME, "--look-alike", "5")),
    Stage("get again", ("get", _NAME, "--look-alike", "6"), ("get",)),
    Stage("get --from", ("get", _NAME, "--from", "Task04_Hippocampus.tar", "-o", "imported"), ("archive",)),
    Stage("convert", ("convert", "exports", "converted", "--workers", "1"), ("exports",)),
    Stage("prepare", ("prepare", _NAME, "--workers", "1"), ("get",)),
    Stage("train", ("train", _NAME, "-o", "run", *_TRAINING), ("get",)),
    Stage(
        "predict",
        ("predict", "run", f"{_DATA}/imagesTs", "-o", "out", "--probabilities", "--uncertainty", "--device", "cpu"),
        ("get", "train"),
    ),
    Stage("evaluate", ("evaluate", "run", "--device", "cpu", "--workers", "1"), ("get", "train", "unmeasured")),
    Stage(
        "evaluate --pred",
        ("evaluate", "--pred", f"{_DATA}/labelsTr", "--truth", f"{_DATA}/labelsTr", "-o", "figures", "--workers", "1"),
        ("get",),
    ),
)


@dataclass
class Outcome:
    """What a command did: its exit code (negative: killed), seconds, and how many writes it had begun."""

    code: int
    seconds: float
    writes: int


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the start, or ``after_s`` after write number ``write`` begins."""

    seconds: float | None = None
    write: int | None = None
    after_s: float = 0.0


def run(words: tuple[str, ...], folder: Path, log: Path, moment: Moment | None = None) -> Outcome:
    """Run ``segue WORDS`` in ``folder``; killed, with everything that it started, at the moment."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_segue(words, folder, log, moment, writing)
    os.close(writing)
    ended = _wait(child, None if moment is None or moment.seconds is None else started + moment.seconds)
    seconds = time.monotonic() - started
    with os.fdopen(reading, "rb") as told:
        count = told.read()
    code = -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)
    return Outcome(code, seconds, int(count or 0))


def _wait(child: int, until: float | None) -> int:
    latest = time.monotonic() + _LONGEST_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        now = time.monotonic()
        if done:
            _kill_group(child)  # whatever it started ends with it
            return status
        if (until is not None and now >= until) or now > latest:
            _kill_group(child)
            return os.waitpid(child, 0)[1]
        time.sleep(0.001 if until is not None else 0.01)


def _kill_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _be_segue(words: tuple[str, ...], folder: Path, log: Path, moment: Moment | None, pipe: int) -> None:
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        counted = _count_writes(folder, moment)
        from segue.cli import main

        try:
            main(words)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
        sys.stdout.flush()
        os.write(pipe, str(counted[0]).encode())
    finally:
        os._exit(code)


def _count_writes(folder: Path, moment: Moment | None) -> list[int]:
    """Count the writes below ``folder`` as Python tells of them, each before it happens; kill at the one meant."""
    counted, lock, place = [0], threading.Lock(), str(folder)
    wanted = None if moment is None else moment.write

    def end() -> None:
        os.killpg(os.getpid(), signal.SIGKILL)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in _WRITES:
            return
        path = arguments[0]
        if isinstance(path, int) or not str(Path(os.fsdecode(path)).absolute()).startswith(place):
            return
        with lock:
            counted[0] += 1
            if counted[0] != wanted:
                return
        assert moment is not None
        if moment.after_s:
            threading.Timer(moment.after_s, end).start()
        else:
            end()

    sys.addaudithook(heard)
    return counted


def fill(folder: Path, stage: Stage, kept: dict[str, Path]) -> None:
    """Make what a stage begins with: copies of what the stages before it have left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in stage.before:
        if name == "unmeasured":
            for path in ("run/metrics.json", "run/metrics.csv", "run/report.html"):
                (folder / path).unlink()
            shutil.rmtree(folder / "run" / "predictions")
        else:
            # Times of files too: keys are made of them where reading everything would cost too much.
            shutil.copytree(kept[name], folder, dirs_exist_ok=True, symlinks=True)


def make_sources(work: Path) -> dict[str, Path]:
    """A small archive and a folder of DICOM, which commands read."""
    from segue.catalogue import load_card
    from segue.synth import look_alike

    archive = work / "kept" / "archive"
    look_alike(load_card(_NAME), archive, 4)
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
    studies = importlib.import_module("dicom_studies")
    random_ = np.random.default_rng(1)
    exports = work / "kept" / "exports"
    for number in range(2):
        study = studies.Study(exports / "exports" / f"{number}", f"MRN-{number}")
        study.add("PT", np.abs(random_.normal(4000, 1500, (4, 12, 12))))
        study.add("CT", np.rint(random_.normal(0, 300, (5, 24, 24))), (2.0, 2.0, 5.0), (-8.0, -8.0, -5.0))
    return {"archive": archive, "exports": exports}


def files_of(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()}


def same(ours: Path, theirs: Path) -> bool:
    """Whether two files of one name hold the same, but for :data:`TIMES`."""
    if ours.read_bytes() == theirs.read_bytes():
        return True
    if ours.name not in TIMES and ours.suffix != ".pt":
        return False
    return _equal(content_of(ours), content_of(theirs))


def content_of(path: Path) -> Any:
    """What is compared of a file; reading it shows too that it is whole.

    Raises:
        Exception: of the library that reads it, where it is not.
    """
    if path.suffix == ".pt":
        import torch

        content = torch.load(path, weights_only=True)
        return {name: value for name, value in content.items() if name not in ("seconds", "validation_s")}
    if path.name == "events.jsonl":
        lines = path.read_text(encoding="utf-8").split("\n")
        events = [json.loads(line) for line in lines[:-1] if line and _is_json(line)]
        told = [event for event in events if event["event"] in ("validated", "finished")]
        return list({json.dumps({k: v for k, v in e.items() if k != "seconds"}): 0 for e in told})
    if path.suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.name in ("segue.json", "environment.json"):
            return {k: v for k, v in content.items() if k not in ("time", "finished") and not k.startswith("seconds")}
        return _without_measures(content) if path.name == "plan.json" else content
    if path.name == "report.html":
        # Numbers with a unit of time, and the pictures of curves over time.
        text = path.read_text(encoding="utf-8")
        assert text.rstrip().endswith("</html>"), "cut off"
        text = re.sub(r"<svg.*?</svg>|data:image/[^\"']+", "", text, flags=re.DOTALL)
        text = re.sub(r"The training was interrupted and resumed \d+ times?\.", "", text)
        text = re.sub(r"Curves of the loss \(\d+ points?\)", "", text)  # of the steps that are told
        text = re.sub(
            r'<tr><td class="n">[\d.]+(</td><td class="n">\d+</td><td class="n strong">)', r"\1", text
        )  # minutes
        held = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, flags=re.DOTALL)
        assert held is not None, "no data for the charts"
        lines = (text[: held.start(1)] + text[held.end(1) :]).splitlines()
        return [_without_minutes(json.loads(held[1])), *(line for line in lines if not _OF_TIME.search(line))]
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    if path.name.endswith(".nii.gz"):
        import gzip

        return gzip.decompress(path.read_bytes())
    if path.suffix == ".csv":
        return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    return path.read_bytes()


def _without_minutes(shown: dict[str, Any]) -> dict[str, Any]:
    """The data of a report's charts without when it was, and without the steps, of which events.jsonl tells some."""
    if not shown.get("curves"):
        return shown
    curves = {name: value for name, value in shown["curves"].items() if name not in ("steps", "resumed")}
    looks = {name: value for name, value in curves["looks"].items() if name != "minutes"}
    return {**shown, "curves": {**curves, "looks": looks}}


def _without_measures(plan: dict[str, Any]) -> dict[str, Any]:
    reasons = {name: re.sub(r" \(measured: .*\)", "", why) for name, why in plan["reasons"].items()}
    return {**plan, "measured": None, "reasons": reasons}


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:  # the line that a killed process was writing, closed by the next one
        return False
    return True


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if hasattr(one, "numpy"):
        one, other = one.numpy(), other.numpy()
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


def torn(folder: Path, is_temporary: Callable[[str], bool]) -> list[str]:
    """Files with a name of their own that cannot be read, after a kill."""
    found = []
    for name, path in files_of(folder).items():
        if any(is_temporary(part) for part in Path(name).parts) or path.is_symlink():
            continue
        try:
            content_of(path)
        except Exception as error:
            found.append(f"{name}: {type(error).__name__}: {error}")
    return found


def is_temporary(name: str) -> bool:
    return name.startswith(".")


@dataclass
class Tally:
    """What came of the kills of a stage."""

    kills: Counter[str] = field(default_factory=Counter)
    reruns: int = 0
    wrong: list[str] = field(default_factory=list)


def disturb(stage: Stage, kills: int, work: Path, kept: dict[str, Path], chance: random.Random) -> Tally:
    """Kill a stage so often, several times before each rerun to its end; the undisturbed run goes into ``kept``."""
    folder, log, tally = work / "place", work / "log.txt", Tally()
    log.unlink(missing_ok=True)
    fill(folder, stage, kept)
    undisturbed = run(stage.words, folder, log)
    if undisturbed.code != stage.code:
        raise SystemExit(f"{stage.name}: undisturbed it ends with {undisturbed.code}\n{log.read_text()[-3000:]}")
    kept[stage.name] = work / "kept" / stage.name.replace(" ", "_")
    shutil.rmtree(kept[stage.name], ignore_errors=True)
    folder.rename(kept[stage.name])
    wanted = files_of(kept[stage.name])
    while tally.kills.total() < kills:
        fill(folder, stage, kept)
        log.unlink(missing_ok=True)
        told = []
        for _ in range(min(kills - tally.kills.total(), chance.randint(1, _MOST_IN_A_ROW))):
            kind, moment = _draw(undisturbed, chance)
            outcome = run(stage.words, folder, log, moment)
            told.append(f"{moment}: {outcome.code}")
            if outcome.code != -signal.SIGKILL:
                if outcome.code != stage.code:
                    tally.wrong.append(
                        f"{stage.name}: ended with {outcome.code} after {told}\n{log.read_text()[-2000:]}"
                    )
                break  # it was done before the moment came
            tally.kills[kind] += 1
            tally.wrong += [f"{stage.name}: {text} (killed at {moment})" for text in torn(folder, is_temporary)]
        last = run(stage.words, folder, log)
        tally.reruns += 1
        if last.code != stage.code:
            tally.wrong.append(f"{stage.name}: the rerun ends with {last.code} after {told}\n{log.read_text()[-2000:]}")
            continue
        found = files_of(folder)
        differing = [name for name in sorted(found.keys() & wanted.keys()) if not same(found[name], wanted[name])]
        for what, names in (
            ("left over", sorted(found.keys() - wanted.keys())),
            ("missing", sorted(wanted.keys() - found.keys())),
            ("different", differing),
        ):
            if names:
                tally.wrong.append(f"{stage.name}: {what}: {', '.join(names[:8])} after {told}")
        if differing:
            aside = work / "wrong" / f"{stage.name.replace(' ', '_')}_{tally.reruns}"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(folder, aside, symlinks=True)
    return tally


def _draw(undisturbed: Outcome, chance: random.Random) -> tuple[str, Moment]:
    if chance.random() < 0.5:
        return "at any time", Moment(seconds=chance.uniform(0, undisturbed.seconds))
    after = chance.choice((0.0, chance.uniform(0, _DELAY_S)))
    return "at a write", Moment(write=chance.randint(1, max(1, undisturbed.writes)), after_s=after)


def main() -> None:
    """Kill, rerun, compare; a table of the kills, and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="over all stages")
    parser.add_argument("--stages", help=f"of {', '.join(stage.name for stage in STAGES)} (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("kill-work"), help="emptied, then filled")
    given = parser.parse_args()
    chosen = [stage for stage in STAGES if given.stages is None or stage.name in given.stages.split(",")]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    work = given.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.environ["XDG_CONFIG_HOME"] = str(work / "config")
    for name in _HEAVY:
        importlib.import_module(name)
    chance, kept = random.Random(given.seed), make_sources(work)
    needed = {name for stage in chosen for name in stage.before}
    started, wrong, reruns, total = time.monotonic(), [], 0, Counter[str]()
    print(f"{'stage':<16}{'kills':>6}{'at a write':>12}{'reruns':>8}{'wrong':>7}{'seconds':>9}", flush=True)
    for stage in STAGES:
        if stage not in chosen and stage.name not in needed:
            continue
        begun = time.monotonic()
        place = chosen.index(stage) if stage in chosen else 0
        kills = (given.kills + place) // len(chosen) if stage in chosen else 0  # together exactly so many
        tally = disturb(stage, kills, work, kept, chance)
        if stage in chosen:
            total += tally.kills
            reruns += tally.reruns
            wrong += tally.wrong
            counts = f"{tally.kills.total():>6}{tally.kills['at a write']:>12}{tally.reruns:>8}{len(tally.wrong):>7}"
            print(f"{stage.name:<16}{counts}{time.monotonic() - begun:>9.0f}", flush=True)
    counts = f"{total.total():>6}{total['at a write']:>12}{reruns:>8}{len(wrong):>7}"
    print(f"{'together':<16}{counts}{time.monotonic() - started:>9.0f}")
    for text in wrong:
        print(text)
    if wrong:
        raise SystemExit(1)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
