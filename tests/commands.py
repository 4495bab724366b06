"""Several commands in one process, so that their imports are paid once: `python tests/commands.py '[["check", "x"]]'`.

Prints a list of ``[exit code, what it said on both streams]``. Commands that end in an error end nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_commands(
    commands: Sequence[Sequence[object]], folder: Path, environment: Mapping[str, str] | None = None
) -> list[tuple[int, str]]:
    """Run ``segue WORDS`` for each of the commands, in a new process in ``folder``."""
    words = json.dumps([[str(word) for word in words] for words in commands])
    done = subprocess.run(
        [sys.executable, __file__, words],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr
    return [(code, text) for code, text in json.loads(done.stdout)]


def _run(words: list[str]) -> tuple[int, str]:
    from segue.cli import main

    said = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
    return code, said.getvalue()


if __name__ == "__main__":
    sys.stdout.write(json.dumps([_run(words) for words in json.loads(sys.argv[1])]))
