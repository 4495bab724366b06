"""segue: from the name of a medical-imaging dataset to a trained, evaluated, inspectable model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Geometry", "Volume", "load", "read", "read_labels", "read_masks", "write"]

if TYPE_CHECKING:
    from segue.images import read, read_labels, read_masks, write
    from segue.predict import load
    from segue.volume import Geometry, Volume

_HOMES = {"Geometry": "segue.volume", "Volume": "segue.volume", "load": "segue.predict"}


def __getattr__(name: str) -> Any:
    """The names of the Python interface are imported when they are first asked for: ``segue --help`` needs none."""
    if name not in __all__:
        raise AttributeError(f"module 'segue' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES.get(name, "segue.images")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
