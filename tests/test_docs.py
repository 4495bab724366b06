"""The commands that README and docs show are commands that exist, and those that need no download run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from conftest import PROJECT, Segue
from segue.catalogue import Card
from segue.cli.commands import app
from segue.core.cluster import SlurmSettings
from segue.core.config import validate
from segue.workflow.experiment import Experiment

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for page in PAGES
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.strip()
    }
    | {text for page in PAGES for text in re.findall(r"`((?:segue |python scripts/)[^`\n]+)`", page.read_text())}
)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20
    assert {"docs/own-images.md", "docs/petct.md", "docs/decathlon.md", "docs/medmnist.md"} <= {
        str(page.relative_to(PROJECT)) for page in PAGES
    }


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("segue ")])
def test_a_command_is_understood(command: str) -> None:
    group = get_command(app)
    words = shlex.split(command)[1:]
    while hasattr(group, "commands"):
        verb, *words = words
        assert verb in group.commands, command
        group = group.commands[verb]
    if words:
        group.make_context(verb, words, resilient_parsing=False)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("segue ")])
def test_a_script_or_target_exists(command: str) -> None:
    program, first, *rest = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{first}:", (PROJECT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "python"
    assert (PROJECT / first).is_file()
    for word in rest:
        if word.startswith("configs/"):
            assert (PROJECT / word).is_file()


def test_the_cards_and_experiments_shown_are_valid() -> None:
    shown = [
        yaml.safe_load(block)
        for page in PAGES
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(shown) >= 3
    for content in shown:
        validate(SlurmSettings if "jobs" in content else Card if "layout" in content else Experiment, content)


def _with_steps(words: list[str], steps: int) -> list[str]:
    """The same command with a budget that does not depend on how busy the machine is."""
    if "--minutes" not in words:
        return words
    at = words.index("--minutes")
    return [*words[:at], "--steps", str(steps), *words[at + 2 :]]


def test_links_between_pages_hold() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


@pytest.mark.slow
def test_the_road_of_the_petct_page_runs(segue: Segue, tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "petct.md").read_text()
    block = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)[0]
    for line in block.strip().splitlines():
        words = shlex.split(line)[1:]
        if words[0] == "get":
            words = [*words, "--size", "small"]
        words = _with_steps(words, 4)
        done = segue(*words)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "runs" / "synthetic_petct" / "report.html").exists()


@pytest.mark.slow
def test_the_readmes_road_on_real_images(segue: Segue, tmp_path: Path, hippocampus: Path) -> None:
    (tmp_path / "Task04_Hippocampus.tar").symlink_to(hippocampus)  # a folder does as well as the archive
    block = next(
        b for b in re.findall(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL) if "get msd" in b
    )
    for line in block.strip().splitlines():
        words = shlex.split(line)[1:]
        words = _with_steps(words, 90)  # the mean Dice is 0.70 after 70 steps
        done = segue(*words)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 30
    # And the decathlon page's way to measure on masks of one's own.
    for case in [path.name for path in sorted((hippocampus / "imagesTr").glob("*.nii.gz"))[:5]]:
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / case).symlink_to(hippocampus / f"{kind}Tr" / case)
    assert segue("predict", "runs/hippo", "images", "-o", "own").returncode == 0
    done = segue("evaluate", "--pred", "own", "--truth", "labels")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "own" / "metrics.json").read_text())["test"]["aggregate"]
    assert figures["all"]["dice"]["n"] == 5
    assert figures["all"]["dice"]["value"] > 0.6
    assert segue("evaluate", "runs/hippo").returncode == 0
