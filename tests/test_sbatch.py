"""The batch scripts of docs/cluster.md: shell without faults, directives that sbatch knows, commands that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from conftest import PROJECT
from segue.cli.commands import app

SCRIPTS = re.findall(r"```sbatch\n(.*?)```", (PROJECT / "docs" / "cluster.md").read_text(), re.DOTALL)
# Of sbatch's manual (SLURM 24.05), options with a value and those without.
_VALUED = {
    "account",
    "array",
    "batch",
    "bb",
    "begin",
    "chdir",
    "clusters",
    "comment",
    "constraint",
    "container",
    "cpu-freq",
    "cpus-per-gpu",
    "cpus-per-task",
    "deadline",
    "delay-boot",
    "dependency",
    "distribution",
    "error",
    "exclude",
    "export",
    "extra-node-info",
    "gpu-bind",
    "gpu-freq",
    "gpus",
    "gpus-per-node",
    "gpus-per-socket",
    "gpus-per-task",
    "gres",
    "hint",
    "input",
    "job-name",
    "kill-on-invalid-dep",
    "licenses",
    "mail-type",
    "mail-user",
    "mem",
    "mem-bind",
    "mem-per-cpu",
    "mem-per-gpu",
    "mincpus",
    "network",
    "nodefile",
    "nodelist",
    "nodes",
    "ntasks",
    "ntasks-per-core",
    "ntasks-per-gpu",
    "ntasks-per-node",
    "ntasks-per-socket",
    "open-mode",
    "output",
    "partition",
    "prefer",
    "priority",
    "profile",
    "qos",
    "reservation",
    "signal",
    "sockets-per-node",
    "switches",
    "thread-spec",
    "threads-per-core",
    "time",
    "time-min",
    "tmp",
    "wckey",
}
_FLAGS = {
    "contiguous",
    "exclusive",
    "hold",
    "ignore-pbs",
    "no-kill",
    "no-requeue",
    "overcommit",
    "requeue",
    "spread-job",
}
_FORMS = {
    "time": r"(\d+-)?\d{2}:\d{2}:\d{2}",
    "mem": r"\d+[KMGT]",
    "array": r"\d+-\d+(%\d+)?",
    "gres": r"[a-z]+(:[a-z0-9]+)?:\d+",
    "signal": r"(B:)?[A-Z]+[0-9]*(@\d+)?",
    "output": r"\S+",
}


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 5
    text = "\n".join(SCRIPTS)
    assert "--array=" in text and "--fold" in text and "srun torchrun" in text and "--shard" in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_shell_is_sound(script: str, tmp_path: Path) -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
        pytest.skip("shellcheck is not installed: only the grammar was looked at")
    path = tmp_path / "job.sh"
    path.write_text(script)
    done = subprocess.run([program, "--severity=style", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def directives(script: str) -> list[tuple[str, str | None]]:
    """Of the lines of ``#SBATCH``, which sbatch reads until the first command."""
    found, begun = [], False
    for line in script.splitlines()[1:]:
        if line.startswith("#SBATCH"):
            assert not begun, f"sbatch does not read this any more: {line}"
            (option,) = shlex.split(line.removeprefix("#SBATCH"))
            name, equals, value = option.removeprefix("--").partition("=")
            assert option.startswith("--")
            found.append((name, value if equals else None))
        elif line.strip() and not line.startswith("#"):
            begun = True
    return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_sbatch_knows_the_directives(script: str) -> None:
    assert script.startswith("#!/bin/bash\n")
    found = directives(script)
    assert len({name for name, _ in found}) == len(found) >= 4
    for name, value in found:
        assert (name in _VALUED and value) or (name in _FLAGS and value is None), name
        if name in _FORMS:
            assert re.fullmatch(_FORMS[name], value or ""), (name, value)


def test_what_sbatch_does_not_know_is_found() -> None:
    assert directives("#!/bin/bash\n#SBATCH --foo=1\n") == [("foo", "1")] and "foo" not in _VALUED | _FLAGS
    with pytest.raises(AssertionError, match="not read this"):
        directives("#!/bin/bash\necho\n#SBATCH --mem=1G\n")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_commands_are_understood(script: str) -> None:
    text = re.sub(r"\$\{?SLURM_(ARRAY_TASK_ID|CPUS_PER_TASK)\}?", "3", script.replace("\\\n", " "))
    text = text.replace("$SLURM_ARRAY_TASK_COUNT", "8")
    commands = re.findall(r"(?m)^(?:exec |.*-m )?segue (.*)$", text)
    assert commands
    for command in commands:
        verb, *words = shlex.split(command)
        get_command(app).commands[verb].make_context(verb, words, resilient_parsing=False)
