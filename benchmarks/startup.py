"""How long `segue --help` and `segue datasets` take, as whole processes, beside an empty Python.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "segue --help": ["-m", "segue", "--help"],
    "segue train --help": ["-m", "segue", "train", "--help"],
    "segue --version": ["-m", "segue", "--version"],
    "segue datasets": ["-m", "segue", "datasets"],
    "segue datasets NAME": ["-m", "segue", "datasets", "msd/liver"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs + 1):  # in turn, so that a slow moment of the machine meets all of them
        for name, words in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - started)
    print(f"{'command':<22}{'median s':>9}{'min s':>8}{'max s':>8}")
    for name, values in seconds.items():
        kept = values[1:]
        print(f"{name:<22}{statistics.median(kept):>9.3f}{min(kept):>8.3f}{max(kept):>8.3f}")


if __name__ == "__main__":
    main()
