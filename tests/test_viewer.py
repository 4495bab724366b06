"""The volume viewer in a browser, on file:// with the network off."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from browser import is_blank, require_assets


def nifti(array: np.ndarray, affine: np.ndarray) -> str:
    """A gzipped NIfTI, as base64."""
    return base64.b64encode(gzip.compress(nib.Nifti1Image(array, affine).to_bytes())).decode()


def write_page(folder: Path, options: dict[str, Any]) -> str:
    """A page on file:// that opens the viewer; ``bytes`` in the options are base64."""
    script = require_assets() / "viewer.js"
    data = json.dumps(options)
    (folder / "page.html").write_text(f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>viewer</title>
<body style="margin:0"><div id="here"></div><script src="{script.as_uri()}"></script><script>
const options = {data}
const unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
for (const one of [...options.volumes, ...(options.overlays ?? [])]) one.bytes = unpack(one.bytes)
window.opened = segueViewer.open(document.querySelector("#here"), options).then((viewer) => (window.viewer = viewer))
</script></body></html>""")
    return (folder / "page.html").as_uri()


def ball() -> tuple[np.ndarray, np.ndarray]:
    grid = np.indices((40, 32, 24))
    radius = np.sqrt(((grid - np.array([20, 16, 12])[:, None, None, None]) ** 2).sum(0))
    return (1000 * np.exp(-((radius / 12) ** 2))).astype(np.int16), (radius < 6).astype(np.uint8)


def test_a_volume_with_an_overlay_is_drawn(page: Any, tmp_path: Path) -> None:
    image, mask = ball()
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    options = {
        "volumes": [{"name": "CT", "bytes": nifti(image, affine)}],
        "overlays": [{"name": "truth", "bytes": nifti(mask, affine)}],
    }
    page.goto(write_page(tmp_path, options))
    page.evaluate("opened.then(() => true)")
    assert not is_blank(page.locator("canvas").screenshot())
