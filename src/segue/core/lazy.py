"""Names of a package that are imported when somebody first asks for them (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def on_demand(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        modules: of each module in the package, the names that it gives to the package. No name may be a module's:
            Python puts the module in its place once it is imported.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def named(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package} has no attribute {name}")
        found = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return named
