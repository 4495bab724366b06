"""A large file from a loopback server of limited rate: wall time beside curl's, what a resume fetches, peak memory.

python benchmarks/download.py            # 1 GB at 100 MB/s
python benchmarks/download.py --megabytes 200
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from loopback import Habits, serving

OURS = """\
import resource, sys
from pathlib import Path
from segue.acquire.download import Wanted, download
from segue.acquire.transport import Transport
with Transport() as transport:
    received = download(transport, Wanted([sys.argv[1]], sha256=sys.argv[3]), Path(sys.argv[2]))
print(received.fetched, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(command: list[str]) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=100.0, help="MB/s that the server gives to all connections")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("curl") is None:
        sys.exit("this benchmark needs curl to compare with")
    size = arguments.megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "served").mkdir()
        digest = hashlib.sha256()
        with (folder / "served" / "a.bin").open("wb") as out:
            block = hashlib.shake_128(b"segue").digest(1_000_000)
            for number in range(arguments.megabytes):
                piece = number.to_bytes(8, "big") + block[8:]
                digest.update(piece)
                out.write(piece)
        with serving(folder / "served", Habits(rate=arguments.rate * 1e6)) as (address, habits):
            url = f"{address}/a.bin"
            seconds: dict[str, list[float]] = {"curl": [], "segue": []}
            memory = 0
            target = folder / "segue.bin"
            ours = [sys.executable, "-c", OURS, url, str(target), digest.hexdigest()]
            for _ in range(arguments.rounds):  # in turn, so that a slow moment of the machine meets both
                spent, _ = run(["curl", "-sS", "-o", str(folder / "curl.bin"), url])
                seconds["curl"].append(spent)
                target.unlink(missing_ok=True)
                spent, text = run(ours)
                seconds["segue"].append(spent)
                memory = max(memory, int(text.split()[1]))
            target.unlink()
            habits.sent = 0
            process = subprocess.Popen(ours)
            while habits.sent < size // 2 and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
            lines = (folder / ".segue.bin.part.journal").read_text().splitlines()[1:]
            kept = sum(stop - start for start, stop in map(json.loads, lines))
            run(ours)
            again = habits.sent - size
            with target.open("rb") as handle:
                intact = hashlib.file_digest(handle, "sha256").hexdigest() == digest.hexdigest()
    best = {name: min(values) for name, values in seconds.items()}
    print(f"{arguments.megabytes} MB at {arguments.rate:g} MB/s, best of {arguments.rounds}")
    print(f"curl   {best['curl']:.2f} s   segue {best['segue']:.2f} s   ratio {best['segue'] / best['curl']:.3f}")
    print(f"peak memory of segue {memory / 1000:.0f} MB")
    print(f"killed at {kept / size:.0%}: {again / size:.3%} of the file came twice; whole again: {intact}")


if __name__ == "__main__":
    main()
