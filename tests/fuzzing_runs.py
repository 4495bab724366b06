"""A run folder that somebody sends, changed in one place: `python tests/fuzzing_runs.py SEED COUNT`.

A tiny run is trained. Then one value in one of its files (or its bytes, of a checkpoint) becomes something else, and a
command reads the folder. What may come is a result or one of segue's errors (exit codes 2, 3, 4), within a minute and
4 GB. Prints how often each exit code came; a bug or a hang ends it.
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from commands import _run

_MOST_BYTES = 4_000_000_000
_LONGEST_S = 60
_ODD: list[Any] = [None, [], {}, "x", -1, 0, 1e308, "../../../etc/passwd", [[]], 10**12, True, {"a": 1}, "<b>&"]
_FILES = (
    *("plan.json", "card.json", "split.json", "metrics.json", "events.jsonl", "config.yaml", "findings.json"),
    *("fingerprint.json", "environment.json", "predictions/val/predictions.json", "checkpoints/best.pt"),
)
_SMALL = (
    *("--steps", "1", "--device", "cpu", "--workers", "1", "--set", "plan.patch=[16,16,16]"),
    *("--set", "train.precision=float32", "--set", "train.compile=false"),
    *("--set", "network.args={channels: [4, 8], strides: [[1,1,1],[2,2,2]], stem_stride: [1,1,1]}"),
)
_COMMANDS = (
    ("predict", "run", "data/msd/hippocampus/imagesTs", "-o", "out", "--device", "cpu"),
    ("evaluate", "run", "--device", "cpu", "--workers", "1"),
    ("evaluate", "run", "run"),
)


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in below:
        yield from places_in(item, (*place, key))


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = odd
    return value


def damaged(path: Path, whole: bytes, chance: random.Random) -> bytes:
    """The file with one odd value in it, or (a checkpoint, and each fifth) with changed bytes."""
    if path.suffix == ".pt" or chance.random() < 0.2:
        content = bytearray(whole)
        at = chance.randrange(len(content))
        content[at : at + chance.randrange(1, 20)] = chance.randbytes(chance.randrange(20))
        return bytes(content[: chance.choice((len(content), at + 1))])
    text, odd = whole.decode(), chance.choice(_ODD)
    if path.suffix == ".yaml":
        content = yaml.safe_load(text)
        return yaml.safe_dump(changed(content, chance.choice(list(places_in(content))), odd)).encode()
    if path.suffix == ".jsonl":
        events = [json.loads(line) for line in text.splitlines()]
        place = chance.choice([place for place in places_in(events) if place])
        return "\n".join(map(json.dumps, changed(events, place, odd))).encode()
    content = json.loads(text)
    return json.dumps(changed(content, chance.choice(list(places_in(content))), odd)).encode()


def main(seed: int, count: int) -> None:
    chance, codes = random.Random(seed), Counter[int]()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for words in (
            ("get", "msd/hippocampus", "--look-alike", "5"),
            ("train", "msd/hippocampus", "-o", "run", *_SMALL),
            *_COMMANDS,
        ):
            code, said = _run(list(words))
            assert code == 0, said
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, resource.RLIM_INFINITY))
        for number in range(count):
            path = Path("run") / chance.choice(_FILES)
            whole, words = path.read_bytes(), chance.choice(_COMMANDS)
            content = damaged(path, whole, chance)
            path.write_bytes(content)
            signal.alarm(_LONGEST_S)
            code, said = _run(list(words))
            signal.alarm(0)
            if code not in (0, 2, 3, 4):
                kept = Path(tempfile.gettempdir()) / f"fuzz-run-{seed}-{number}-{path.name}"
                kept.write_bytes(content)
                sys.exit(f"number {number}, {path}, kept as {kept}: {' '.join(words)}\n{said[-1500:]}")
            codes[code] += 1
            path.write_bytes(whole)
    sys.stdout.write(json.dumps(codes) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
