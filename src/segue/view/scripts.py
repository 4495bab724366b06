"""Scripts and data inside a page: what a browser may run is named by its hash, and data cannot leave its element."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from segue.core.files import jsonable

ASSETS = Path(__file__).parent / "assets"


def read_script(name: str) -> str | None:
    """The bundled script of a page; None in a source tree whose scripts were never built."""
    try:
        return (ASSETS / f"{name}.js").read_text(encoding="utf-8")
    except OSError:
        return None


def script_hash(script: str) -> str:
    """The source expression of a Content-Security-Policy that allows this very script (CSP level 3, 2.3.1)."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def in_script(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or begin a comment."""
    text = json.dumps(jsonable(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
