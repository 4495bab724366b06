"""Names of a package that are imported when somebody first asks for them (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package in which a name stays the name's: importing a module puts the module there, also where a function that
    the package gives is called the same."""

    _given: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self._given):
            super().__setattr__(name, value)


def on_demand(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        modules: of each module in the package, the names that it gives to the package.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    this = sys.modules[package]
    this.__class__ = _Package
    this._given = frozenset(module_of)  # type: ignore[attr-defined]

    def named(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package} has no attribute {name}")
        found = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(this, name, found)
        return found

    return named
