"""The house keeps its shape."""

from __future__ import annotations

import re
import subprocess

from conftest import PROJECT

SOURCES = sorted((PROJECT / "src").rglob("*.py"))


def test_no_file_over_500_lines() -> None:
    assert {str(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 500} == {}


def test_init_files_name_their_public_surface_and_nothing_else() -> None:
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.name != "segue":
            text = re.sub(r'^"""(.|\n)*?"""', "", path.read_text())
            left = re.sub(r"(?m)^from [\w.]+ import (\((.|\n)*?\)|.*)$|__all__ = \[(.|\n)*?\]", "", text).strip()
            assert left == "", path


def test_data_is_never_executed() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert not re.search(
            r"allow_pickle=True|weights_only=False|pickle\.load|yaml\.load\([^)]*yaml\.Loader", text
        ), path


def test_nothing_large_and_no_data_is_kept() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False).stdout
    for name in filter(None, listed.split("\0")):
        assert not name.endswith((".nii", ".nii.gz", ".npz", ".dcm", ".pt"))
        assert (PROJECT / name).stat().st_size < 300_000, name
