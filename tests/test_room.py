"""The reading room's server: who may ask, what is served, verdicts, news.

Volumes are read back from what the server sent by nibabel or SimpleITK and compared with the files by other readers;
coarser levels with SimpleITK's BinShrink; error components with scipy's labelling.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from reading import TOKEN, Served, served
from segue.catalogue import Dataset, dataset_at, load_card, read_verdicts
from segue.core.errors import DataError, UsageError
from segue.images import read, write
from segue.train import EventLog, Run
from segue.view.levels import coarser, factors_for
from segue.view.room import Room, RoomCase, VolumeCache, files_room, room_of_dataset, runs_room
from segue.view.room.errors import largest_errors
from segue.view.room.following import Tail, state_of
from segue.view.room.shelf import Sheet
from segue.volume import Geometry, Volume
from segue.workflow.reading_room import open_room
from test_view import EVIL, FakeRun, fake  # noqa: F401

DOOR = "/api/room"


@pytest.fixture
def room(blobs: Path, tmp_path: Path) -> Iterator[Served]:
    with served(open_room([str(blobs)]), tmp_path / "cache") as opened:
        yield opened


def nifti(content: bytes) -> nibabel.Nifti1Image:
    import gzip

    return nibabel.Nifti1Image.from_bytes(gzip.decompress(content))


# Who may ask


def asked(port: int, host: str | None, path: str = DOOR, extra: str = "", method: str = "GET") -> int:
    """The status of a request written by hand: no client of ours mends its Host."""
    lines = [f"{method} {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), "Connection: close"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
        link.sendall(("\r\n".join(lines) + f"\r\n{extra}\r\n").encode())
        answer = b""
        while part := link.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1])


def cookie(room: Served) -> str:
    return "Cookie: " + "; ".join(f"{name}={value}" for name, value in room.client.cookies.items()) + "\r\n"


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "localhost:9", "LOCALHOST", "[::1]:8000"])
def test_this_machines_names_are_answered_whatever_the_port(room: Served, host: str) -> None:
    """Through a tunnel the port is another one."""
    assert asked(room.port, host.format(port=room.port), extra=cookie(room)) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1:80@evil.example", "0.0.0.0",
     "127.0.0.1:", "127.0.0.1:x", "", "evil.example\r\nHost: 127.0.0.1"],
)  # fmt: skip
def test_a_foreign_host_is_refused_even_with_the_cookie(room: Served, host: str) -> None:
    assert asked(room.port, host, extra=cookie(room)) in (400, 421)
    assert asked(room.port, host, f"/?token={TOKEN.replace(' ', '%20')}") in (400, 421)


@pytest.mark.parametrize("path", ["/", DOOR, "/api/cases/0", "/api/news", "/assets/room.js", "/nowhere"])
def test_without_the_token_nothing_is_told(room: Served, path: str) -> None:
    for given in ({}, {"token": "wrong"}, {"token": ""}, {"token": TOKEN[:-1]}):
        answer = httpx.get(room.base + path, params=given)
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
        assert "blob_" not in answer.text
    wrong = dict.fromkeys(room.client.cookies, "wrong")
    assert httpx.get(room.base + path, cookies=wrong).status_code == 403


def test_the_address_gives_a_cookie_that_scripts_and_other_sites_do_not_get(room: Served) -> None:
    answer = httpx.get(room.address)
    assert answer.status_code == 200
    told = answer.headers["set-cookie"]
    assert "HttpOnly" in told and "SameSite=Strict" in told and "Path=/" in told
    for name, value in (
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ):
        assert answer.headers[name] == value
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:{port}", 200), ("http://evil.example", 403), ("http://127.0.0.1:1", 403), ("null", 403),
     ("https://127.0.0.1:{port}", 403), (None, 403)],
)  # fmt: skip
def test_only_its_own_page_writes(room: Served, blobs: Path, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin.format(port=room.port)}
    answer = room.client.post("/api/cases/0/verdict", json={"verdict": "flag"}, headers=headers)
    assert answer.status_code == status
    assert (blobs / "verdicts.csv").exists() == (status == 200)


def test_another_pages_requests_are_refused_by_what_the_browser_says_of_them(room: Served) -> None:
    for site in ("cross-site", "same-site"):
        answer = room.client.get(DOOR, headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"})
        assert answer.status_code == 403
    assert room.client.get(DOOR, headers={"sec-fetch-site": "same-origin"}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_nothing_else_is_written(room: Served, method: str) -> None:
    own = {"origin": room.base}
    for path in ("/", DOOR, "/api/cases/0", "/assets/room.js"):
        assert room.client.request(method, path, headers=own).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../room/app.py", "/assets/..%2froom%2fapp.py", "/assets/%2e%2e/room/app.py", "/assets//etc/passwd",
        "/assets/built-from.txt/../../room/app.py", "/..%2f..%2fetc%2fpasswd", "/api/cases/-1", "/api/cases/10_0",
        "/api/cases/999999999999999999999", "/api/cases/0/../../../etc/passwd", "/api/cases/blob_00",
        "/api/cases/0/images/0/full/..%2f..%2fx.nii.gz", "/api/cases/0/images/7/full/0.nii.gz",
        "/api/cases/0/nothing/0/full/0.nii.gz", "/api/cases/0/images/0/first/0.nii.gz", "/api/cases/99/errors/0",
    ],
)  # fmt: skip
def test_no_path_leads_out(room: Served, path: str) -> None:
    with socket.create_connection(("127.0.0.1", room.port), timeout=10) as link:
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie(room)}Connection: close\r\n\r\n".encode())
        answer = b""
        while part := link.recv(65536):
            answer += part
    assert int(answer.split(b" ", 2)[1]) in (404, 410)
    assert b"root:" not in answer and b"def " not in answer


def test_a_script_in_a_name_is_inert(fake: FakeRun, tmp_path: Path) -> None:  # noqa: F811
    fake.title = EVIL
    fake.names = {1: EVIL}
    fake.complete()
    hostile = RoomCase(f"{EVIL}/../..", lambda: ([], []), patient=EVIL, facts={EVIL: EVIL})
    made = runs_room([fake.run], [None])
    hostile_room = Room(made.title, "run", [*made.cases, hostile], made.labels, runs=[fake.run], names=[EVIL])
    with served(hostile_room, tmp_path / "cache") as opened:
        page = opened.client.get("/").text
        assert "<script>alert" not in page and "<img" not in page and "&lt;script&gt;" in page
        answer = opened.client.get(DOOR)
        assert answer.headers["content-type"] == "application/json"
        assert EVIL in answer.json()["cases"]["patient"]


# What is served


def sheet_bytes(room: Served, number: int, kind: str, place: int, level: str = "full") -> bytes:
    told = room.json(f"/api/cases/{number}")[kind][place]
    answer = room.client.get(told["levels"][level])
    assert answer.status_code == 200
    return answer.content


def test_a_nifti_file_is_sent_as_it_is_and_may_be_kept_for_ever(room: Served, blobs: Path) -> None:
    told = room.json("/api/cases/0")
    assert told["id"] == "blob_00" and told["images"][0]["shape"] == [20, 18, 16]
    address = told["images"][0]["levels"]["full"]
    answer = room.client.get(address)
    assert answer.content == (blobs / "imagesTr" / "blob_00.nii.gz").read_bytes()
    assert "immutable" in answer.headers["cache-control"] and "private" in answer.headers["cache-control"]
    again = room.client.get(address, headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304 and again.content == b""
    mask = nifti(sheet_bytes(room, 0, "masks", 0))
    np.testing.assert_array_equal(
        np.asarray(mask.dataobj), np.asarray(nibabel.load(blobs / "labelsTr" / "blob_00.nii.gz").dataobj)
    )
    assert set(told["masks"][0]["labels"]) == {"1", "2"}


def test_a_file_that_changes_is_never_taken_for_the_old_one(room: Served, blobs: Path) -> None:
    path = blobs / "imagesTr" / "blob_00.nii.gz"
    address = room.json("/api/cases/0")["images"][0]["levels"]["full"]
    volume = read(path)
    write(Volume(volume.array + 1, volume.geometry), path)
    assert room.client.get(address).status_code == 410
    fresh = nifti(sheet_bytes(room, 0, "images", 0))
    np.testing.assert_allclose(np.asarray(fresh.dataobj), volume.array[0] + 1, rtol=1e-6)
    path.unlink()
    told = room.json("/api/cases/0")
    assert "not there any more" in told["images"][0]["problem"] and told["masks"][0]["levels"]


def test_damaged_and_missing_files_say_so_and_the_rest_is_shown(room: Served, blobs: Path) -> None:
    (blobs / "labelsTr" / "blob_01.nii.gz").write_bytes(b"no image")
    told = room.json("/api/cases/1")
    assert told["images"][0]["levels"] and "problem" in told["masks"][0]


def same(sent: bytes, source: Path) -> None:
    """Voxels and their places, by SimpleITK, which reads both."""
    path = source.parent / "sent.nii.gz"
    path.write_bytes(sent)
    ours, theirs = sitk.ReadImage(str(path)), sitk.ReadImage(str(source))
    np.testing.assert_allclose(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs), rtol=1e-6)
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, get)(), getattr(theirs, get)(), atol=1e-4)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii"])
@pytest.mark.parametrize("kind", [sitk.sitkInt16, sitk.sitkFloat64, sitk.sitkUInt16, sitk.sitkInt8])
def test_other_formats_are_converted_with_their_places(tmp_path: Path, suffix: str, kind: int) -> None:
    values = np.random.default_rng(3).integers(-90, 90, (7, 9, 11)).clip(0 if kind == sitk.sitkUInt16 else -90)
    image = sitk.Cast(sitk.GetImageFromArray(values), kind)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-30.0, 12.0, 5.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / f"some{suffix}"))
    with served(open_room([str(tmp_path / f"some{suffix}")]), tmp_path / "cache") as opened:
        same(sheet_bytes(opened, 0, "images", 0), tmp_path / f"some{suffix}")


def test_a_dicom_series_is_shown(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "sts-petct" / "dicom" / "STS_001"
    series = next(path for path in sorted(folder.rglob("*")) if path.is_dir() and len(list(path.glob("*.dcm"))) > 20)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    theirs = reader.Execute()
    with served(open_room([str(series)]), tmp_path / "cache") as opened:
        sent = nifti(sheet_bytes(opened, 0, "images", 0))
    array = sitk.GetArrayFromImage(theirs)  # (k, j, i), LPS
    found = nibabel.as_closest_canonical(sent).get_fdata()
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(array.T.astype(float), np.diag([-1.0, -1, 1, 1])))
    np.testing.assert_allclose(found, expected.get_fdata(), atol=1e-3)


def test_pictures_in_colour_and_rows_of_arrays_are_shown(tmp_path: Path, test_data: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (12, 17, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    with served(open_room([str(tmp_path / "colour.png")]), tmp_path / "cache") as opened:
        told = opened.json("/api/cases/0")["images"][0]
        sent = np.asarray(nifti(sheet_bytes(opened, 0, "images", 0)).dataobj)
    assert told["colour"] and sent.shape == (17, 12, 1)
    np.testing.assert_array_equal(np.stack([sent[..., 0][c] for c in "RGB"], -1).transpose(1, 0, 2), pixels)
    dataset = dataset_at(load_card("medmnist/breastmnist"), test_data / "medmnist")
    with served(room_of_dataset(dataset), tmp_path / "cache") as opened:
        number = opened.json(DOOR)["cases"]["split"].index("test")
        told = opened.json(f"/api/cases/{number}")
        assert told["facts"]["class"] in dataset.card.labels.values()
        sent = np.asarray(nifti(sheet_bytes(opened, number, "images", 0)).dataobj)
    arrays = np.load(test_data / "medmnist" / "breastmnist.npz")
    np.testing.assert_array_equal(sent[..., 0].T, arrays["test_images"][0])


def test_a_label_map_beside_its_image_is_laid_over_it(hippocampus: Path) -> None:
    names = [path.name for path in sorted((hippocampus / "labelsTr").glob("*.nii.gz"))[:3]]
    paths = [hippocampus / folder / name for folder in ("labelsTr", "imagesTr") for name in names]
    made = files_room(paths, "six files")
    assert len(made.cases) == 3
    for case in made.cases:
        images, masks = case.sheets()
        assert len(images) == len(masks) == 1
        assert images[0].files[0].name == masks[0].files[0].name
        assert images[0].files[0].parent.name == "imagesTr"


def test_ct_and_pet_on_one_grid_are_one_case_and_two_patients_are_two(tmp_path: Path) -> None:
    grid = Geometry((30, 30, 8), np.diag([2.0, 2, 3, 1]))
    noise = np.random.default_rng(0).normal(size=(1, 30, 30, 8)).astype(np.float32)
    for name in ("CT", "SUV"):
        write(Volume(noise, grid), tmp_path / "one" / f"{name}.nii.gz")
    for name in ("scan_1", "scan_2"):
        write(Volume(noise, grid), tmp_path / "two" / f"{name}.nii.gz")
    assert len(files_room(sorted((tmp_path / "one").iterdir()), "").cases) == 1
    assert len(files_room(sorted((tmp_path / "two").iterdir()), "").cases) == 2


def test_a_study_of_dicom_is_pet_over_ct_with_its_structures(test_data: Path, tmp_path: Path) -> None:
    """SUV and HU are those of the NIfTI files that others made of the same series."""
    study, theirs = test_data / "sts-petct" / "dicom" / "STS_001", test_data / "sts-petct" / "nifti" / "STS_001"
    with served(open_room([str(study)]), tmp_path / "cache") as opened:
        told = opened.json("/api/cases/0")
        assert [(image["name"], image["unit"]) for image in told["images"]] == [("CT", "HU"), ("PET", "SUV")]
        names = [label["name"] for mask in told["masks"] for label in mask["labels"].values()]
        assert sorted(names) == ["GTV_Mass_CT", "GTV_Mass_PET"] and len({mask["name"] for mask in told["masks"]}) == 2
        colours = {label["colour"] for mask in told["masks"] for label in mask["labels"].values()}
        assert len(colours) == 2
        for place, name in enumerate(("CT", "PET")):
            sent = nibabel.as_closest_canonical(nifti(sheet_bytes(opened, 0, "images", place)))
            known = nibabel.as_closest_canonical(nibabel.load(theirs / f"{name}_image.nii.gz"))
            np.testing.assert_allclose(sent.affine, known.affine, atol=1e-3)
            np.testing.assert_allclose(sent.get_fdata(), known.get_fdata(), atol=1e-3)
        place = names.index("GTV_Mass_CT")
        drawn = nibabel.as_closest_canonical(nifti(sheet_bytes(opened, 0, "masks", place))).get_fdata() > 0
        known_mask = nibabel.as_closest_canonical(nibabel.load(theirs / "CT_mask.nii.gz")).get_fdata() > 0
        assert 2 * (drawn & known_mask).sum() / (drawn.sum() + known_mask.sum()) > 0.99


def test_structures_given_as_a_file_lie_over_the_series_they_name(test_data: Path) -> None:
    study = test_data / "sts-petct" / "dicom" / "STS_001"
    structures = str(study / "CT" / "mask" / "RS.dcm")
    (case,) = open_room([str(study / "CT" / "image"), structures]).cases
    images, masks = case.sheets()
    assert [mask.labels for mask in masks] == [{1: "GTV_Mass_CT"}]
    assert masks[0].read().geometry.difference(images[0].read().geometry) is None
    with pytest.raises(DataError, match="nothing here can be shown by itself"):
        open_room([structures])


def test_segments_that_overlap_are_layers_and_none_is_hidden(test_data: Path) -> None:
    import highdicom

    path = test_data / "dicom" / "highdicom" / "seg_image_ct_binary_overlap.dcm"
    (case,) = open_room([str(path)]).cases
    masks = case.sheets()[1]
    assert sorted(name for mask in masks for name in mask.labels.values()) == ["first segment", "second segment"]
    theirs = highdicom.seg.segread(path)
    found = {next(iter(mask.labels)): int((mask.read().array > 0).sum()) for mask in masks}
    assert found == {
        number: int(theirs.get_volume(segment_numbers=[number], combine_segments=False).array.sum())
        for number in theirs.segment_numbers
    }


def test_a_file_that_cannot_be_read_does_not_close_the_room(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(1, 9, 8, 7)).astype(np.float32)
    write(Volume(noise, Geometry((9, 8, 7), np.eye(4))), tmp_path / "some" / "a.nii.gz")
    (tmp_path / "some" / "b.nrrd").write_bytes(b"no image")
    with served(files_room(sorted((tmp_path / "some").iterdir()), ""), tmp_path / "cache") as opened:
        assert opened.json(DOOR)["cases"]["id"] == ["a", "b"]
        assert opened.json("/api/cases/0")["images"][0]["levels"]
        answer = opened.client.get("/api/cases/1")
        assert answer.status_code == 422 and "b.nrrd" in answer.json()["error"]
    with pytest.raises(DataError):
        open_room([str(tmp_path / "some" / "b.nrrd")])


def test_twenty_images_whose_names_differ_in_words_are_no_study(tmp_path: Path) -> None:
    names = [f"{a}{b}" for a in "abcd" for b in "vwxyz"]
    for name in names:
        noise = np.random.default_rng(0).normal(size=(1, 6, 6, 6)).astype(np.float32)
        write(Volume(noise, Geometry((6, 6, 6), np.eye(4))), tmp_path / f"{name}.nii.gz")
    assert [case.id for case in files_room(sorted(tmp_path.iterdir()), "").cases] == names


# Levels


@pytest.mark.parametrize("factors", [(2, 2, 2), (2, 2, 1), (4, 1, 2)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_a_coarser_level_is_what_simpleitk_makes_of_it(factors: tuple[int, int, int], dtype: type) -> None:
    shape = (16, 24, 8)
    random = np.random.default_rng(0)
    values = (random.normal(size=shape) * 40 + 100).astype(dtype)
    affine = np.array([[0.0, -1.5, 0, 7], [0.8, 0, 0, -3], [0, 0, 2.0, 11], [0, 0, 0, 1]])
    made = coarser(Volume(values[None], Geometry(shape, affine)), factors)
    itk = sitk.GetImageFromArray(values.T.astype(np.float64))
    rotation = np.diag([-1.0, -1, 1]) @ affine[:3, :3]
    spacing = np.linalg.norm(rotation, axis=0)
    itk.SetSpacing(spacing.tolist())
    itk.SetDirection((rotation / spacing).ravel().tolist())
    itk.SetOrigin((np.diag([-1.0, -1, 1]) @ affine[:3, 3]).tolist())
    shrunk = sitk.BinShrink(itk, factors)
    np.testing.assert_allclose(
        made.array[0], sitk.GetArrayFromImage(shrunk).T, atol=1e-4 if dtype == np.float32 else 0.5
    )
    np.testing.assert_allclose(np.diag([-1.0, -1, 1]) @ made.geometry.affine[:3, 3], shrunk.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(made.geometry.spacing_mm, shrunk.GetSpacing(), atol=1e-9)


def test_a_level_of_odd_sizes_loses_no_voxel_and_no_lesion() -> None:
    shape = (11, 7, 5)
    mask = np.zeros((1, *shape), np.uint8)
    mask[0, 10, 6, 4] = 3
    made = coarser(Volume(mask, Geometry(shape, np.eye(4)), "labels"), (2, 2, 2))
    assert made.geometry.shape == (6, 4, 3) and made.array[0, 5, 3, 2] == 3 and made.array.sum() == 3
    ones = coarser(Volume(np.ones((1, *shape), np.float32), Geometry(shape, np.eye(4))), (2, 4, 2))
    np.testing.assert_allclose(ones.array, 1.0)


def test_thick_slices_keep_their_number_and_a_large_volume_fits() -> None:
    assert factors_for((512, 512, 400), (0.8, 0.8, 1.0), 1 << 24) == (2, 2, 2)
    assert factors_for((512, 512, 100), (0.8, 0.8, 5.0), 1 << 24) == (2, 2, 1)
    assert factors_for((100, 100, 100), (1.0, 1.0, 1.0), 1 << 24) == (1, 1, 1)
    factors = factors_for((1600, 1600, 800), (0.3, 0.3, 0.6), 1 << 27)  # 4 GB of int16
    assert np.prod(np.ceil(np.array((1600, 1600, 800)) / factors)) <= 1 << 27


def test_large_volumes_come_coarse_first_and_what_no_browser_holds_only_coarse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segue.view.room import volumes

    monkeypatch.setattr(volumes, "LEVELS", {"first": 4_000, "middle": 41_000, "full": 41_000})
    grid = Geometry((64, 64, 40), np.diag([1.0, 1, 1, 1]))
    array = np.random.default_rng(0).integers(-1000, 1000, (1, *grid.shape), np.int16)
    write(Volume(array, grid), tmp_path / "big.nii.gz")
    write(Volume(array[:, :32, :32], grid.cropped((0, 0, 0), (32, 32, 40))), tmp_path / "middle.nii.gz")
    with served(open_room([str(tmp_path / "big.nii.gz"), str(tmp_path / "middle.nii.gz")]), tmp_path / "c") as opened:
        big, middle = (opened.json(f"/api/cases/{n}")["images"][0] for n in (0, 1))
        assert (
            big["coarse"] == {"first": True, "middle": True, "full": True}
            and "middle" not in big["levels"]
            and big["shown"]["full"] == [32, 32, 20]
        )
        assert middle["coarse"] == {"first": True, "middle": False, "full": False}
        full, first = (nifti(sheet_bytes(opened, 0, "images", 0, level)) for level in ("full", "first"))
        assert full.shape == (32, 32, 20) and np.prod(first.shape) <= 4_000
        assert sheet_bytes(opened, 1, "images", 0) == (tmp_path / "middle.nii.gz").read_bytes()


def test_what_was_made_once_is_found_again_by_content(tmp_path: Path) -> None:
    grid = Geometry((9, 8, 7), np.eye(4))
    write(Volume(np.arange(504, dtype=np.int16).reshape(1, 9, 8, 7), grid), tmp_path / "a.mha")
    reads: list[int] = []

    def counted(path: Path) -> Sheet:
        def read_it() -> Volume:
            reads.append(1)
            return read(path)

        return Sheet("a", (path,), read_it, "image", path)

    cache = VolumeCache(tmp_path / "cache")
    first = cache.ready(counted(tmp_path / "a.mha"), labels=False)
    (tmp_path / "a.mha").rename(tmp_path / "moved.mha")
    again = VolumeCache(tmp_path / "cache").ready(counted(tmp_path / "moved.mha"), labels=False)
    assert again.key == first.key and len(reads) == 1
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0
    again.files["full"].unlink()
    assert VolumeCache(tmp_path / "cache").ready(counted(tmp_path / "moved.mha"), labels=False).files["full"].exists()
    assert len(reads) == 2


def test_one_volume_asked_for_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    write(Volume(np.ones((1, 30, 30, 30), np.float64), Geometry((30, 30, 30), np.eye(4))), tmp_path / "a.mha")
    reads: list[int] = []

    def read_it() -> Volume:
        reads.append(1)
        time.sleep(0.1)
        return read(tmp_path / "a.mha")

    sheet, cache = Sheet("a", (tmp_path / "a.mha",), read_it), VolumeCache(tmp_path / "cache")
    threads = [threading.Thread(target=cache.ready, args=(sheet,), kwargs={"labels": False}) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


# Runs


def test_the_list_of_a_run_has_its_figures_and_of_two_the_differences(fake: FakeRun, tmp_path: Path) -> None:  # noqa: F811
    fake.complete()
    dataset = Dataset(fake.run.card(), tmp_path / "data", tuple(fake.truths.values()))
    metrics = json.loads(fake.run.metrics.read_text())["val"]["cases"]
    second = tmp_path / "second" / "run"
    second.mkdir(parents=True)
    for path in fake.run.folder.iterdir():
        if path.is_file():
            (second / path.name).write_bytes(path.read_bytes())
    changed = json.loads(fake.run.metrics.read_text())
    changed["val"]["cases"]["poor"]["labels"]["lesion"]["dice"] += 0.25
    (second / "metrics.json").write_text(json.dumps(changed))
    room = runs_room([fake.run, Run(second)], [dataset, None])
    with served(room, tmp_path / "cache") as opened:
        told = opened.json(DOOR)
        cases, columns = told["cases"], {column["name"]: column["values"] for column in told["cases"]["columns"]}
        place = cases["id"].index("poor")
        dice = metrics["poor"]["labels"]["lesion"]["dice"]
        assert columns["run/run: Dice lesion" if "run/run: Dice lesion" in columns else next(iter(columns))][place]
        first, other = (next(v for n, v in columns.items() if n.startswith(f"{name}: Dice")) for name in room.names)
        assert first[place] == pytest.approx(dice) and other[place] == pytest.approx(dice + 0.25)
        assert columns["difference: Dice lesion"][place] == pytest.approx(0.25)
        assert cases["split"][place] == "validation" and cases["labels"][place] == ["lesion"]
        assert "broken_1" not in cases["id"] or cases["findings"][cases["id"].index("broken_1")]
        case = opened.json(f"/api/cases/{place}")
        assert [(m["name"], m["run"]) for m in case["masks"]] == [("truth", None), ("prediction", 0)]
        gone = cases["id"].index("t0")  # trained on, but not in this dataset any more
        answer = opened.client.get(f"/api/cases/{gone}")
        assert answer.status_code == 422 and "not there any more" in answer.json()["error"]


def test_the_largest_error_is_where_scipy_finds_it(fake: FakeRun, tmp_path: Path) -> None:  # noqa: F811
    fake.complete()
    room = runs_room([fake.run], [Dataset(fake.run.card(), tmp_path / "data", tuple(fake.truths.values()))])
    with served(room, tmp_path / "cache") as opened:
        place = opened.json(DOOR)["cases"]["id"].index("poor")
        errors = opened.json(f"/api/cases/{place}/errors/0")["errors"]
    truth = nibabel.load(tmp_path / "data" / "poor_mask.nii.gz")
    prediction = np.asarray(nibabel.load(fake.run.predictions("val") / "poor.nii.gz").dataobj) > 0
    true = np.asarray(truth.dataobj) > 0
    voxel_ml = abs(np.linalg.det(truth.affine[:3, :3])) / 1000
    for kind, wrong in (("missed", true & ~prediction), ("invented", prediction & ~true)):
        parts, _ = ndimage.label(wrong, np.ones((3, 3, 3)))
        largest = np.bincount(parts.ravel())[1:].max()
        found = next(error for error in errors if error["kind"] == kind)
        assert found["ml"] == pytest.approx(largest * voxel_ml)
        voxel = np.rint(np.linalg.inv(truth.affine) @ [*found["mm"], 1])[:3].astype(int)
        assert wrong[tuple(voxel)] and (parts == parts[tuple(voxel)]).sum() == largest
    assert [error["ml"] for error in errors] == sorted((error["ml"] for error in errors), reverse=True)


def test_errors_know_labels_ignored_voxels_and_other_grids() -> None:
    grid = Geometry((12, 10, 8), np.diag([1.0, 1, 2, 1]))
    truth, found = np.zeros((2, 1, 12, 10, 8), np.uint8)
    truth[0, 1:5, 1:5, 1:5], found[0, 1:5, 1:5, 1:5] = 1, 2  # one label taken for another
    truth[0, 8:, :, :], found[0, 8:, :, :] = 9, 1  # nobody knows what is there

    def volume(array: np.ndarray) -> Volume:
        return Volume(array, grid, "labels")

    errors = largest_errors(volume(truth), volume(found), {1: "a", 2: "b"}, ignored=9)
    assert [(e.kind, e.name, round(e.ml, 3)) for e in errors] == [("missed", "a", 0.128), ("invented", "b", 0.128)]
    assert largest_errors(volume(truth), volume(truth), {1: "a"}) == []
    turned = volume(found).oriented("LPS")
    assert largest_errors(volume(truth), turned, {1: "a", 2: "b"}, ignored=9) == errors
    with pytest.raises(DataError, match="different grids"):
        largest_errors(volume(truth), Volume(found[..., :4], grid.cropped((0, 0, 0), (12, 10, 4)), "labels"), {1: "a"})


# Verdicts


def test_a_verdict_is_written_changed_and_taken_back(room: Served, blobs: Path) -> None:
    assert room.json(DOOR)["writable"]
    assert room.judge(3, verdict="flag", reason="two heads").json()["verdicts"]["blob_03"]["reason"] == "two heads"
    assert read_verdicts(blobs)["blob_03"].verdict == "flag"
    assert room.judge(3, verdict="accept").status_code == 200
    assert read_verdicts(blobs)["blob_03"].verdict == "accept"
    assert room.judge(3, verdict=None).json()["verdicts"] == {}
    assert read_verdicts(blobs) == {}


@pytest.mark.parametrize(
    "body", [{"verdict": "burn"}, {"verdict": ["flag"]}, {"verdict": "flag", "reason": 3}, {"reason": "x" * 20_000}]
)
def test_what_is_no_verdict_is_refused(room: Served, blobs: Path, body: dict) -> None:
    if body == {"reason": "x" * 20_000}:
        body["verdict"] = "flag"
    assert room.judge(0, **body).status_code in (413, 422)
    own = {"origin": room.base}
    assert room.client.post("/api/cases/0/verdict", content=b"{", headers=own).status_code == 415
    for text in (b"{", b"[]", b"\xff", b"[" * 10_000):
        sent = {**own, "content-type": "application/json"}
        assert room.client.post("/api/cases/0/verdict", content=text, headers=sent).status_code == 400
    assert not (blobs / "verdicts.csv").exists()


def test_a_table_that_nobody_understands_is_left_alone_and_told(room: Served, blobs: Path) -> None:
    (blobs / "verdicts.csv").write_text("case,verdict\nblob_00,perhaps\n")
    told = room.json(DOOR)
    assert not told["writable"] and "perhaps" in " ".join(told["notes"])
    answer = room.judge(1, verdict="flag")
    assert answer.status_code == 422 and "line 2" in answer.json()["error"]
    assert "blob_01" not in (blobs / "verdicts.csv").read_text()


def test_flagged_cases_stay_in_the_room(blobs: Path, tmp_path: Path) -> None:
    (blobs / "verdicts.csv").write_text("case,verdict\nblob_03,flag\n")
    made = open_room([str(blobs)])
    assert [case.id for case in made.cases].index("blob_03") == 3 and made.notes == []


def test_a_long_list_of_cases_is_gone_through_once(blobs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a dataset has its own split takes a look at every case: asked once per case, ten thousand take 9 s."""
    asked_of: list[int] = []
    told = Dataset.has_own_split.fget
    assert told is not None

    def counted(dataset: Dataset) -> bool:
        asked_of.append(1)
        return bool(told(dataset))

    monkeypatch.setattr(Dataset, "has_own_split", property(counted))
    assert len(open_room([str(blobs)]).cases) > 5 and len(asked_of) == 1


def begun(*arguments: str, cwd: Path, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """``segue view`` in a process of its own, and the address that it printed."""
    told = {**os.environ, "XDG_CACHE_HOME": str(cwd / "own-cache"), **environment}
    told = {name: value for name, value in told.items() if value}
    process = subprocess.Popen(
        [sys.executable, "-m", "segue", "view", *arguments], cwd=cwd, env=told, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    return process.returncode, errors


# News


def news_of(room: Served, wanted: int, do: list) -> list[tuple[str, dict]]:
    """The first events of the stream; ``do`` is what happens after each of them."""
    found: list[tuple[str, dict]] = []
    with room.client.stream("GET", "/api/news", timeout=20) as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                found.append((kind, json.loads(line[6:])))
                if do:
                    do.pop(0)()
                if len(found) == wanted:
                    return found
    return found


def test_a_training_is_followed_as_it_writes(fake: FakeRun, tmp_path: Path) -> None:  # noqa: F811
    fake.write_plan()
    fake.write_rest()
    fake.run.config.write_text("dataset: x\nfold: 0\nbudget: {steps: 40}\n")
    log = EventLog(fake.run.events)
    log.write("started", device="cpu", steps_per_epoch=10)
    log.write("step", step=10, seconds=5.0, loss=1.0)

    def more() -> None:
        log.write("step", step=20, seconds=10.0, loss=0.5)

    def last() -> None:
        log.write("finished", step=40, seconds=20.0)

    with served(runs_room([fake.run], [None]), tmp_path / "cache") as opened:
        told = news_of(opened, 3, [more, last])
    assert [kind for kind, _ in told] == ["training"] * 3
    first, second, third = (news for _, news in told)
    assert [e["event"] for e in first["events"]] == ["started", "step"]
    assert first["state"]["going"] and first["state"]["part"] == 0.25 and first["state"]["left_s"] == 15.0
    assert [e["step"] for e in second["events"]] == [20] and second["state"]["left_s"] == 10.0
    assert third["state"]["going"] is False


def test_another_rooms_verdict_is_told(room: Served, blobs: Path) -> None:
    def write_one() -> None:
        time.sleep(0.3)
        (blobs / "verdicts.csv").write_text("case,verdict\nblob_05,exclude\n")

    thread = threading.Thread(target=write_one)
    thread.start()
    told = news_of(room, 1, [])
    thread.join()
    assert told == [
        ("verdicts", {"verdicts": {"blob_05": {"verdict": "exclude", "reason": "", "by": ""}}, "problem": None})
    ]


def test_half_a_line_waits_and_a_new_training_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = Tail(path)
    assert tail.new() == []
    path.write_bytes(b'{"event": "started"}\n{"event": "st')
    assert [e["event"] for e in tail.new()] == ["started"]
    with path.open("ab") as handle:
        handle.write(b'ep", "step": 3}\nrubbish\n[1]\n')
    assert tail.new() == [{"event": "step", "step": 3}] and tail.new() == []
    path.write_bytes(b'{"event": "x"}\n')
    assert tail.new() == [{"event": "x"}]


def test_the_state_of_a_training(fake: FakeRun) -> None:  # noqa: F811
    run = fake.run
    run.folder.mkdir(parents=True, exist_ok=True)
    assert state_of(run)["going"] is None
    run.config.write_text("budget: {minutes: 10}\n")
    log = EventLog(run.events)
    log.write("step", step=100, seconds=150.0, loss=1.0)
    told = state_of(run)
    assert told["going"] and told["part"] == pytest.approx(0.25) and told["left_s"] == pytest.approx(450.0)
    os.utime(run.events, (time.time() - 600, time.time() - 600))
    assert state_of(run)["going"] is None


# The command


def test_two_rooms_at_once_one_of_them_behind_a_tunnel_lose_no_verdict_and_end_cleanly(
    blobs: Path, tmp_path: Path
) -> None:
    here, address = begun(str(blobs), "--no-browser", cwd=tmp_path, SSH_CONNECTION="")
    far, other = begun(str(blobs), cwd=tmp_path, SSH_CONNECTION="10.0.0.9 50000 10.0.0.5 2222", DISPLAY=":9")
    forwarded = socket.create_server(("127.0.0.1", 0))  # this end of the tunnel: another port
    try:
        for told in (address, other):
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{20,}", told)
        port = int(other.split(":")[2].split("/")[0])
        threading.Thread(target=_forward, args=(forwarded, port), daemon=True).start()
        tunnelled = f"http://localhost:{forwarded.getsockname()[1]}/?" + other.split("?")[1]
        threads = [
            threading.Thread(target=judge_all, args=(told, range(start, 10, 2)))
            for start, told in enumerate((address, tunnelled))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = read_verdicts(blobs)
        assert sorted(found) == [f"blob_{n:02d}" for n in range(10)]
        assert all(verdict.reason == f"by {int(name[-2:])}" for name, verdict in found.items())
        with httpx.Client(timeout=30) as client:
            client.get(address)
            with client.stream("GET", address.split("?")[0] + "api/news") as stream:  # an open page holds nothing up
                assert stream.status_code == 200
                code, said = ended(here)
        assert code == 0 and "Traceback" not in said and said.rstrip().endswith("closed")
        code, said = ended(far)
        assert code == 0 and "browser could be opened" not in said
        assert re.search(rf"ssh -N -L {port}:127\.0\.0\.1:{port} -p 2222 \S+@10\.0\.0\.5", said)
    finally:
        forwarded.close()
        here.kill()
        far.kill()


def judge_all(address: str, numbers: range) -> None:
    base = address.split("/?")[0]
    with httpx.Client(base_url=base, timeout=60) as client:
        assert client.get(address).status_code == 200
        assert client.get(DOOR).status_code == 200
        for number in numbers:
            body = {"verdict": "flag", "reason": f"by {number}"}
            sent = client.post(f"/api/cases/{number}/verdict", json=body, headers={"origin": base})
            assert sent.status_code == 200


def _forward(listening: socket.socket, port: int) -> None:
    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    while True:
        try:
            near, _ = listening.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", port))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def test_what_cannot_be_opened_is_told(tmp_path: Path, blobs: Path) -> None:
    with pytest.raises(UsageError, match="nothing of this name"):
        open_room([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="no such file"):
        open_room([str(tmp_path / "nowhere"), str(tmp_path / "either")])
    with pytest.raises(UsageError, match="do not belong together"):
        open_room([str(blobs), str(blobs / "imagesTs" / "blob_99.nii.gz")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        open_room([str(tmp_path / "empty")])


def test_scripts_that_were_never_built_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blobs: Path) -> None:
    from segue.view.room import app

    monkeypatch.setattr(app, "ASSETS", tmp_path)
    with served(open_room([str(blobs)]), tmp_path / "cache") as opened:
        page = opened.client.get("/").text
    assert "make front" in page and "<script" not in page
