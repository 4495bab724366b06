"""How objects show themselves in a notebook.

Lower layers know no pictures: the view, which makes them, is loaded by its name when a notebook asks, and an object
that cannot be drawn shows its plain text."""

from __future__ import annotations

import importlib

from segue.core.errors import SegueError

_MAKER = "segue.view.notebook"


class Displayed:
    """Gives a class a rich display; :func:`segue.view.notebook.as_html` says what each shows."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        try:
            made = importlib.import_module(_MAKER).as_html(self)
        except (SegueError, OSError, ValueError, MemoryError):
            return None
        return str(made) if made is not None else None
