"""Imports that cost no more than what is needed of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Any


def on_demand(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose names are imported when somebody first asks for them (PEP 562).

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


def import_without(name: str, extra: str) -> Any:
    """Import a module that takes an optional package along, without that package.

    Other threads import it as ever, and it stays where it was imported already.
    """
    if name in sys.modules or extra in sys.modules:
        return import_module(name)
    without = _Without(extra)
    sys.meta_path.insert(0, without)
    try:
        return import_module(name)
    finally:
        sys.meta_path.remove(without)


class _Without(MetaPathFinder):
    def __init__(self, extra: str) -> None:
        self.extra = extra
        self.thread = threading.get_ident()

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        if fullname == self.extra and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{fullname} is left out", name=fullname)
