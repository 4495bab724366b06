"""The volume viewer in a browser, on file:// with the network off."""

from __future__ import annotations

import base64
import gzip
import io
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from browser import accessibility_problems, is_blank, require_assets
from conftest import blob_case

LABELS = {"1": {"name": "bright", "colour": "#e69f00"}, "2": {"name": "dim", "colour": "#56b4e9"}}
Array = np.ndarray
# Without a graphics card every pixel costs.
SMALL = {"width": 640, "height": 480}


def nifti(array: Array, affine: Array, slope: float | None = None, inter: float = 0.0) -> str:
    """A gzipped NIfTI, as base64; with a slope the array is what is stored."""
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
    return base64.b64encode(gzip.compress(image.to_bytes(), 1)).decode()


def write_page(folder: Path, options: dict[str, Any] | None = None) -> str:
    """A page on file:// on which ``open(options)`` opens the viewer; ``bytes`` in the options are base64."""
    script = require_assets() / "viewer.js"
    opened = "" if options is None else f"window.opened = show({json.dumps(options)})"
    (folder / "page.html").write_text(f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>viewer</title>
<body style="margin:0"><main><h1>viewer</h1><div id="here"></div></main><script src="{script.as_uri()}"></script>
<script>
const unpack = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
async function show(options) {{
  window.viewer?.close()
  for (const one of [...options.volumes, ...(options.overlays ?? [])]) one.bytes = unpack(one.bytes)
  window.viewer = await segueViewer.open(document.querySelector("#here"), options)
  return true
}}
{opened}
</script></body></html>""")
    return (folder / "page.html").as_uri()


def show(page: Any, options: dict[str, Any]) -> None:
    page.evaluate("(options) => show(options)", options)


def picture(page: Any, hide_marks: bool = True) -> Array:
    """What the stage shows, as grey values 0 to 255; without crosshair, letters and outlines."""
    if hide_marks:
        page.add_style_tag(content=".sv-marks { display: none }")
    return np.asarray(Image.open(io.BytesIO(page.locator(".sv-stage").screenshot())).convert("L"), np.float32)


def blobs() -> tuple[Array, Array]:
    image, labels = blob_case(np.random.default_rng(3), (30, 26, 22))
    return (100 * image).astype(np.int16), labels


OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.3, -0.2, 0.4) @ np.diag([0.9, 1.4, 2.5]), [-31.5, 12.25, -80]
)
SHEARED = OBLIQUE.copy()
SHEARED[:3, 1] += 0.35 * SHEARED[:3, 0]
# Stored from left to right, front to back, feet to head, with the axes in another order.
TURNED = nib.affines.from_matvec(np.array([[0, 0, -2.0], [-1.5, 0, 0], [0, 1.2, 0]]), [40, 30, -20])


def stored_kinds(random: np.random.Generator) -> list[tuple[str, Array, Array, float | None, float]]:
    shape = (11, 9, 7)
    float64 = random.normal(0, 1e5, shape)
    return [
        ("int16 with slope, oblique", random.integers(-1024, 3000, shape).astype(np.int16), OBLIQUE, 0.5, -1024.0),
        ("float32, sheared", random.normal(0, 5, shape).astype(np.float32), SHEARED, None, 0),
        ("uint8, turned", random.integers(0, 255, shape).astype(np.uint8), TURNED, None, 0),
        ("uint16", random.integers(0, 65535, shape).astype(np.uint16), np.diag([-1.0, -1.0, 3.0, 1.0]), None, 0),
        ("int32", random.integers(-(2**31), 2**31 - 1, shape).astype(np.int32), OBLIQUE, None, 0),
        ("float64 with NaN", np.where(float64 > 1e5, np.nan, float64), TURNED, None, 0),
        ("four frames", random.integers(0, 99, (*shape, 4)).astype(np.int16), TURNED, None, 0),
        ("one slice", random.integers(0, 255, (16, 12, 1)).astype(np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]), None, 0),
    ]


def test_the_value_at_the_crosshair_is_that_of_the_array(page: Any, tmp_path: Path) -> None:
    """Where nibabel says that a voxel lies in mm, the viewer tells that voxel, its middle and its value."""
    random = np.random.default_rng(11)
    page.set_viewport_size(SMALL)
    page.goto(write_page(tmp_path))
    for name, stored, affine, slope, inter in stored_kinds(random):
        show(page, {"volumes": [{"name": "image", "bytes": nifti(stored, affine, slope, inter)}]})
        kept = nib.Nifti1Image(stored, affine).affine.astype(np.float32).astype(np.float64)
        frames = stored.shape[3] if stored.ndim == 4 else 1
        shape = stored.shape[:3]
        voxels = [tuple(n - 1 for n in shape), *(tuple(random.integers(0, shape)) for _ in range(4))]
        for voxel in voxels:
            frame = int(random.integers(frames))
            # Anywhere within the voxel.
            mm = nib.affines.apply_affine(kept, np.array(voxel) + random.uniform(-0.45, 0.45, 3))
            chosen = f"viewer.setFrame({frame})," if frames > 1 else ""
            told = page.evaluate(f"({chosen} viewer.at({mm.tolist()}), viewer.value())")
            assert tuple(told["voxel"]) == voxel, name
            np.testing.assert_allclose(told["mm"], nib.affines.apply_affine(kept, voxel), atol=1e-4, err_msg=name)
            value = (stored[(*voxel, frame)] if stored.ndim == 4 else stored[voxel]) * (slope or 1.0) + inter
            np.testing.assert_equal(told["values"][0]["value"], float(value), err_msg=name)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, -1.0, 1.0]), TURNED])
def test_the_picture_shows_the_patient_as_a_radiologist_sees_it(page: Any, tmp_path: Path, affine: Array) -> None:
    """A bright block in the patient's left, front, head corner: each plane has it on its side, of its size in mm."""
    shape = np.array([40, 40, 40]) if affine is not TURNED else np.array([32, 40, 24])
    centres = nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    low, high = centres.min((0, 1, 2)), centres.max((0, 1, 2))
    share = (centres - low) / (high - low)
    # x grows to the right: the left is where its share is small.
    block = (share[..., 0] < 0.25) & (share[..., 1] > 0.75) & (share[..., 2] > 0.75)
    image = np.where(block, 1000, 0).astype(np.int16)
    page.goto(write_page(tmp_path))
    show(page, {"volumes": [{"name": "image", "bytes": nifti(image, affine), "min": 0, "max": 1000}]})
    middle = centres[block].mean(0).tolist()
    size = np.ptp(centres[block], axis=0) + np.abs(affine[:3, :3]).sum(1)
    extent = high - low + np.abs(affine[:3, :3]).sum(1)
    for plane, across, up, right in (("axial", 0, 1, True), ("coronal", 0, 2, True), ("sagittal", 1, 2, False)):
        page.evaluate(f"(viewer.setLayout('{plane}'), viewer.at({middle}))")
        grey = picture(page)
        rows, columns = np.nonzero(grey > 127)
        assert (columns.mean() > grey.shape[1] / 2) == right, plane
        assert rows.mean() < grey.shape[0] / 2, plane
        wide, high_px = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert wide / high_px == pytest.approx(size[across] / size[up], rel=0.06), plane
        # As large as the stage allows.
        px_per_mm = min(grey.shape[1] / extent[across], grey.shape[0] / extent[up])
        assert wide == pytest.approx(size[across] * px_per_mm, rel=0.06), plane


def test_a_click_goes_to_the_voxel_under_it(page: Any, tmp_path: Path) -> None:
    """Where the screen shows the one bright voxel, a click tells its value; in every plane, enlarged too."""
    image = np.zeros((21, 17, 13), np.int16)
    image[4, 12, 9] = 700
    page.goto(write_page(tmp_path))
    show(page, {"volumes": [{"name": "image", "bytes": nifti(image, OBLIQUE), "min": 0, "max": 700}]})
    mm = nib.affines.apply_affine(OBLIQUE, (4, 12, 9)).tolist()
    for plane, normal in (("axial", 2), ("coronal", 1), ("sagittal", 0)):
        for zoom in (1, 1.7):
            page.evaluate(f"(viewer.setLayout('{plane}'), viewer.whole(), viewer.at({mm}), viewer.zoom({zoom}))")
            rows, columns = np.nonzero(picture(page) > 150)
            page.evaluate(f"viewer.moveTo(viewer.cross.map((n, axis) => (axis === {normal} ? n : 0)))")
            assert page.evaluate("viewer.value().values[0].value") == 0
            page.locator(".sv-stage").click(position={"x": float(columns.mean()), "y": float(rows.mean())})
            assert page.evaluate("viewer.value().values[0].value") == 700, plane


def test_labels_windows_layouts_and_keys(page: Any, tmp_path: Path) -> None:
    page.set_viewport_size(SMALL)
    image, labels = blobs()
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    overlays = [
        {"name": "truth", "bytes": nifti(labels, affine), "labels": LABELS, "outline": True},
        {"name": "prediction", "bytes": nifti(labels, affine), "labels": LABELS},
    ]
    volumes = [{"name": "CT", "unit": "HU", "bytes": nifti(image, affine)}]
    page.goto(write_page(tmp_path, {"name": "one", "volumes": volumes, "overlays": overlays}))
    page.evaluate("opened")
    stage = page.locator(".sv-stage")
    with_both = picture(page, hide_marks=False)
    assert not is_blank(stage.screenshot())
    # A filling goes and comes with its box, and so does an outline.
    page.get_by_role("checkbox", name="prediction: bright").uncheck()
    without = picture(page, hide_marks=False)
    assert np.abs(without - with_both).max() > 30
    page.get_by_role("checkbox", name="truth: bright").uncheck()
    assert np.abs(picture(page, hide_marks=False) - without).max() > 30
    page.evaluate("(viewer.toggle('prediction', 1, true), viewer.toggle('truth', 1, true))")
    assert page.get_by_role("checkbox", name="prediction: bright").is_checked()
    assert np.abs(picture(page, hide_marks=False) - with_both).max() < 2
    # A button goes to the middle of a label.
    page.get_by_role("button", name="dim").click()
    assert [one["label"] for one in page.evaluate("viewer.value().labels")] == ["dim", "dim"]
    # Presets and numbers of the window.
    page.get_by_label("Preset of the window").select_option("lung")
    assert page.get_by_label("Window from").input_value() == "-1350"
    page.get_by_label("Window to").fill("0")
    page.get_by_label("Window to").press("Enter")
    assert page.evaluate("[viewer.current.min, viewer.current.max]") == [-1350, 0]
    # To a point in mm; a mistake is told.
    page.get_by_label("to mm").fill("3, 6 4.5")
    page.get_by_label("to mm").press("Enter")
    assert page.evaluate("viewer.value().voxel") == [3, 5, 3]
    page.get_by_label("to mm").fill("left")
    page.get_by_label("to mm").press("Enter")
    assert "three numbers" in page.get_by_role("alert").inner_text()
    # Keys, once the stage has the focus.
    stage.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("PageUp")
    assert page.evaluate("viewer.value().voxel") == [4, 4, 4]
    page.keyboard.press("s")
    page.keyboard.press("Shift+ArrowUp")
    assert page.evaluate("viewer.value().voxel") == [4, 4, 14]
    page.keyboard.press("o")
    assert page.evaluate("viewer.hidden")
    page.keyboard.press("?")
    assert page.get_by_text("next and previous slice").is_visible()
    page.keyboard.press("3")
    assert page.get_by_role("button", name="3-D").get_attribute("aria-pressed") == "true"
    page.keyboard.press("o")
    assert picture(page).max() > 60


def test_pet_lies_over_ct_and_channels_can_be_chosen(page: Any, tmp_path: Path) -> None:
    page.set_viewport_size(SMALL)
    image, _ = blobs()
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    # The PET's own grid is coarser and shifted: its value is of the voxel that the point lies in.
    coarse = nib.affines.from_matvec(np.diag([2.0, 2.4, 3.0]), [0.5, 0.6, 0.75])
    pet = np.zeros((14, 12, 10), np.float32)
    pet[7, 6, 5] = 8.25
    volumes = [
        {"name": "CT", "unit": "HU", "bytes": nifti(image, affine)},
        {"name": "PET", "unit": "SUV", "bytes": nifti(pet, coarse)},
    ]
    page.goto(write_page(tmp_path, {"volumes": volumes}))
    page.evaluate("opened")
    mm = nib.affines.apply_affine(coarse, (7, 6, 5)).tolist()
    page.evaluate(f"viewer.at({mm})")
    told = page.evaluate("viewer.value()")
    assert [one["unit"] for one in told["values"]] == ["HU", "SUV"]
    assert told["values"][1]["value"] == 8.25
    assert told["values"][0]["value"] == image[tuple(told["voxel"])]
    fused = picture(page)
    page.get_by_label("over it").select_option("none")
    assert np.abs(picture(page) - fused).max() > 30
    page.get_by_label("shown").select_option("PET")
    page.get_by_label("Preset of the window").select_option("SUV 0–20")
    assert page.evaluate("[viewer.current.min, viewer.current.max]") == [0, 20]
    assert picture(page).max() > 250  # dark is high: what is empty is white


def test_thirty_volumes_in_turn_need_one_context(page: Any, tmp_path: Path) -> None:
    page.set_viewport_size(SMALL)
    warned: list[str] = []
    page.on("console", lambda message: warned.append(message.text))
    image, labels = blobs()
    image = image[::2, ::2, ::2]
    page.goto(write_page(tmp_path))
    page.evaluate("""() => {
        window.contexts = []
        const made = HTMLCanvasElement.prototype.getContext
        HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
            const context = made.call(this, kind, ...rest)
            if (kind === "webgl2" && !window.contexts.includes(context)) window.contexts.push(context)
            return context
        }
    }""")
    options = {
        "volumes": [{"name": "image", "bytes": nifti(image, np.eye(4))}],
        "overlays": [{"name": "truth", "bytes": nifti(labels[::2, ::2, ::2], np.eye(4)), "labels": LABELS}],
    }
    page.evaluate(
        "async (text) => { for (let n = 0; n < 30; n++) await show(JSON.parse(text)) }",
        json.dumps(options),
    )
    assert page.evaluate("window.contexts.length") == 1
    assert not is_blank(page.locator(".sv-stage").screenshot())
    # Two at a time have a context each; when both are closed, one is given back and one waits for the next.
    page.evaluate(
        """async (text) => {
            const options = JSON.parse(text)
            for (const one of [...options.volumes, ...options.overlays]) one.bytes = unpack(one.bytes)
            const second = await segueViewer.open(document.body.appendChild(document.createElement("div")), options)
            second.close(); viewer.close()
        }""",
        json.dumps(options),
    )
    assert page.evaluate("contexts.map((context) => context.isContextLost()).sort()") == [False, True]
    assert page.locator(".sv").count() == 0
    assert not [text for text in warned if "context" in text.lower()]


def test_many_labels_hostile_names_colours_and_what_cannot_be_shown(page: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    shape = (24, 20, 16)
    many = random.integers(0, 118, shape).astype(np.int16)
    many[0, 0, 0] = 4000  # no label that was declared
    hostile = "<img src=x onerror=\"document.title='run'\">"
    named = {str(n): {"name": f"organ {n}", "colour": "#009e73"} for n in range(1, 118)}
    named["5"]["name"] = hostile
    colour = np.zeros((9, 7, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["R"], colour["G"] = 250, 130
    page.goto(write_page(tmp_path))
    image = random.normal(0, 1, shape).astype(np.float32)
    show(page, {
        "name": hostile, "volumes": [{"name": hostile, "bytes": nifti(image, np.eye(4))}],
        "overlays": [{"name": hostile, "bytes": nifti(many, np.eye(4)), "labels": named}],
    })  # fmt: skip
    assert page.locator(".sv tbody tr").count() == 119  # all of them, "all", and the undeclared one
    assert page.get_by_role("button", name="label 4000").is_visible()
    assert page.get_by_text(hostile).first.is_visible()
    assert page.title() == "viewer"
    page.evaluate("viewer.at([0, 0, 0])")
    assert page.evaluate("viewer.value().labels[0].number") == 4000
    # A photograph is one plane, in its colours.
    photo = nifti(colour, np.diag([-1.0, -1.0, 1.0, 1.0]))
    show(page, {"volumes": [{"name": "photo", "bytes": photo}], "marks": False})
    assert page.evaluate("viewer.value().values[0].value") == [250, 130, 0]
    assert page.evaluate("viewer.layout") == "axial"
    assert picture(page).max() == pytest.approx(0.299 * 250 + 0.587 * 130, abs=4)
    # A file that is none is told in words.
    broken = base64.b64encode(b"no image at all" * 40).decode()
    page.evaluate("(options) => show(options).catch(() => {})", {"volumes": [{"name": "image", "bytes": broken}]})
    assert "no NIfTI file" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_viewer_is_accessible(page: Any, tmp_path: Path, theme: str) -> None:
    """axe-core finds nothing against WCAG 2.2 A and AA."""
    image, labels = blobs()
    page.emulate_media(color_scheme=theme)
    volumes = [
        {"name": "CT", "unit": "HU", "bytes": nifti(image, np.eye(4))},
        {"name": "PET", "unit": "SUV", "bytes": nifti(image.astype(np.float32), np.eye(4))},
    ]
    overlays = [{"name": "truth", "bytes": nifti(labels, np.eye(4)), "labels": LABELS}]
    page.goto(write_page(tmp_path, {"name": "one", "volumes": volumes, "overlays": overlays}))
    page.evaluate("opened")
    page.get_by_role("button", name="Keys").click()
    assert accessibility_problems(page) == []
