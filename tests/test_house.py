"""The house keeps its shape."""

from __future__ import annotations

import importlib
import re
import subprocess

import pytest

from conftest import PROJECT

SOURCES = sorted((PROJECT / "src").rglob("*.py"))


def test_no_file_over_500_lines() -> None:
    assert {str(p): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 500} == {}


def test_what_is_imported_on_demand_is_the_public_surface() -> None:
    """What a type checker reads, what is there, and what is found are the same names."""
    for path in SOURCES:
        if path.name != "__init__.py" or "on_demand(" not in path.read_text():
            continue
        package = importlib.import_module(".".join(path.parent.relative_to(path.parents[2]).parts))
        read = re.findall(r"(?m)^    from \S+ import (.*)$", path.read_text())
        assert sorted(name for line in read for name in line.split(", ")) == sorted(package.__all__)
        assert all(getattr(package, name).__class__ is not type(package) for name in package.__all__)
        with pytest.raises(AttributeError, match="has no attribute"):
            package.nothing_of_this_name  # noqa: B018


def test_init_files_name_their_public_surface_and_nothing_else() -> None:
    for path in SOURCES:
        if path.name == "__init__.py" and path.parent.name != "segue":
            text = re.sub(r'^"""(.|\n)*?"""', "", path.read_text())
            # Where names are imported on demand, a type checker reads the imports.
            text = re.sub(r"(?m)^if TYPE_CHECKING:$|^__getattr__ = on_demand\((.|\n)*?^\)$", "", text)
            left = re.sub(r"(?m)^ *from [\w.]+ import (\((.|\n)*?\)|.*)$|__all__ = \[(.|\n)*?\]", "", text).strip()
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
