"""The page of the reading room: a frame that scripts fill; where they were never built it says how to build them."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

import segue
from segue.view.room.shelf import Room

SCRIPTS = ("room.js", "theme.js", "viewer.js")


def room_page(room: Room, assets: Path) -> str:
    """The HTML of the page. Names of cases and runs are not in it: they come as data and are shown as text."""
    environment = Environment(
        loader=PackageLoader("segue.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    missing = [name for name in SCRIPTS if not (assets / name).exists()]
    return environment.get_template("room.html").render(
        title=room.title, kind=room.kind, version=segue.__version__, missing=missing
    )
