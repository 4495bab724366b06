"""Collections of DICOM series from servers on loopback that answer as the true ones do."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_archives import Archives, Held, serving, zip_of
from dicom_studies import Study, suv_of
from segue.acquire import GetOptions, get, verify
from segue.acquire.idc import Mirror, _listed
from segue.acquire.series import Series, folder_name, is_uid
from segue.acquire.tcia import Archive
from segue.acquire.transport import RefusedError, Transport
from segue.catalogue import load_card
from segue.core.errors import DataError
from segue.images import read

NAME = "acrin-nsclc-fdg-pet"


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archives]:
    """Three patients: 2, 1 and 1 series."""
    archives = Archives()
    archives.add("ACRIN-NSCLC-FDG-PET-001", 11, 1)
    archives.add("ACRIN-NSCLC-FDG-PET-001", 11, 2, "PT", 5)
    archives.add("ACRIN-NSCLC-FDG-PET-002", 12, 1)
    archives.add("ACRIN-NSCLC-FDG-PET-003", 13, 1, "PT")
    for module in ("tcia", "idc", "download"):
        monkeypatch.setattr(f"segue.acquire.{module}.backoff_s", lambda attempt: 0.01)
    monkeypatch.setattr("segue.acquire.transport._USUAL_PER_MINUTE", 60_000)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(archives) as addresses:
        for name, value in addresses.items():
            monkeypatch.setenv(name, value)
        yield archives


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / NAME


def bring(root: Path, cases: int | None = None) -> str:
    """What ``get`` says at its end: that nothing can be converted, for these files hold no images."""
    with pytest.raises(DataError) as caught:
        get(load_card(NAME), root, GetOptions(cases=cases))
    return str(caught.value)


def folder_of(root: Path, held: Held) -> Path:
    row = held.row
    return root / "dicom" / row["PatientID"] / row["StudyInstanceUID"] / row["SeriesInstanceUID"]


def contents(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.glob("[!.]*"))


def is_there(root: Path, held: Held) -> bool:
    folder = folder_of(root, held)
    return folder.is_dir() and contents(folder) == sorted(held.files.values())


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.rglob(".*") if path.name != ".segue-series.json"]


def rows_of(root: Path) -> list[dict[str, str]]:
    with (root / "series.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


# What NBIA says


def test_what_is_asked_of_nbia_and_what_is_read_from_it(held: Archives) -> None:
    with Transport() as transport:
        archive = Archive(transport)
        everything = archive.series("ACRIN-NSCLC-FDG-PET")
        assert [(each.patient[-3:], each.modality, each.files) for each in everything] == [
            ("001", "CT", 3),
            ("001", "PT", 5),
            ("002", "CT", 3),
            ("003", "PT", 3),
        ]
        assert everything[1].bytes == sum(map(len, held.series[1].files.values()))
        assert everything[0].licence_url == "http://creativecommons.org/licenses/by/3.0/"
        pet = archive.series("ACRIN-NSCLC-FDG-PET", modality="PT")
        assert {each.uid for each in pet} == {held.series[n].row["SeriesInstanceUID"] for n in (1, 3)}
        second = archive.series("ACRIN-NSCLC-FDG-PET", patient="ACRIN-NSCLC-FDG-PET-002")
        assert [each.uid for each in second] == [held.series[2].row["SeriesInstanceUID"]]
        one = archive.series("ACRIN-NSCLC-FDG-PET", uid=everything[1].uid)
        assert one == [everything[1]]


def test_an_unknown_collection_is_said_at_once(held: Archives) -> None:
    with Transport() as transport, pytest.raises(DataError, match=r"NOWHERE.*knows no such series"):
        Archive(transport).series("NOWHERE")
    assert len(held.requests) == 1  # "No data found." has status 500 and is no fault


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {}, b""), "knows no such series"),
        ((200, {"Content-Type": "text/html"}, b"<html>maintenance</html>"), r"no JSON came back.*maintenance"),
        ((200, {}, b'[{"PatientID": "x"}]'), "cannot be understood"),
        ((200, {}, b'{"error": "x"}'), "knows no such series"),
        ((403, {}, b""), "access is not allowed"),
    ],
)
def test_answers_that_are_none(held: Archives, answer: tuple[int, dict[str, str], bytes], said: str) -> None:
    held.faults["getSeries"] = [answer]
    with Transport() as transport, pytest.raises(DataError, match=said):
        Archive(transport).series("ACRIN-NSCLC-FDG-PET")
    assert len(held.requests) == 1


def test_faults_that_pass(held: Archives) -> None:
    held.faults["getSeries"] = [(500, {}, b"Internal"), (429, {"Retry-After": "1"}, b"")]
    began = time.monotonic()
    with Transport() as transport:
        assert len(Archive(transport).series("ACRIN-NSCLC-FDG-PET")) == 4
    assert time.monotonic() - began >= 1
    held.faults["getSeries"] = [(500, {}, b"Internal")] * 9
    with Transport() as transport, pytest.raises(DataError, match=r"500 Internal Server Error: Internal"):
        Archive(transport).series("ACRIN-NSCLC-FDG-PET")
    assert len(held.faults["getSeries"]) == 4


# A whole collection


def test_a_collection_from_nbia(held: Archives, root: Path) -> None:
    assert "all 4 DICOM series are there, but no study could be converted" in bring(root)
    assert all(is_there(root, each) for each in held.series)
    assert not leftovers(root)
    rows = rows_of(root)
    assert [row["modality"] for row in rows] == ["CT", "PT", "CT", "PT"]
    assert {row["licence"] for row in rows} == {"Creative Commons Attribution 3.0 Unported License"}
    assert {row["source"] for row in rows} == {"nbia"}
    assert int(rows[1]["bytes"]) == sum(map(len, held.series[1].files.values()))
    receipt = json.loads((root / "segue.json").read_text())
    assert receipt["unconverted"] and not receipt["partial"]
    assert receipt["licences"] == ["Creative Commons Attribution 3.0 Unported License"]


def test_a_collection_ends_in_volumes(held: Archives, root: Path, tmp_path: Path) -> None:
    held.series.clear()
    for n in (1, 2):
        folder = tmp_path / f"{n}"
        study = Study(folder, f"ACRIN-NSCLC-FDG-PET-00{n}", True)
        for number, modality in enumerate(("PT", "CT"), start=1):
            study.add(modality, np.full((4, 8, 8), 1000.0 * n))
            files = {path.name + ".dcm": path.read_bytes() for path in sorted(folder.rglob(f"IM{number:02d}*"))}
            size = sum(map(len, files.values()))
            held.add(study.patient, n, number, modality, FileSize=size, ImageCount=len(files)).files = files
    first = get(load_card(NAME), root, GetOptions(cases=1))
    assert [case.patient for case in first.cases] == ["ACRIN-NSCLC-FDG-PET-001"]
    dataset = get(load_card(NAME), root, GetOptions())
    assert [case.patient for case in dataset.cases] == ["ACRIN-NSCLC-FDG-PET-001", "ACRIN-NSCLC-FDG-PET-002"]
    assert read(dataset.cases[1].image_files[1]).array.mean() == pytest.approx(suv_of(2000.0), rel=1e-4)
    receipt = json.loads((root / "segue.json").read_text())
    assert not receipt["unconverted"] and not receipt["partial"]
    assert receipt["licences"] == ["Creative Commons Attribution 3.0 Unported License"]
    held.requests.clear()
    began = time.monotonic()
    assert len(get(load_card(NAME), root, GetOptions()).cases) == 2
    assert time.monotonic() - began < 1 and not held.requests
    assert verify(root, lambda size: None).sound


def test_a_second_run_asks_nothing(held: Archives, root: Path) -> None:
    first = bring(root)
    held.requests.clear()
    began = time.monotonic()
    assert bring(root) == first
    assert bring(root, cases=1).startswith(str(root))
    assert time.monotonic() - began < 1
    assert held.requests == []


def test_verify_looks_at_every_byte_offline(held: Archives, root: Path) -> None:
    bring(root)
    held.requests.clear()
    verified = verify(root, lambda size: None)
    assert verified.sound and not verified.unexpected
    assert verified.hashed == 14
    path = next(folder_of(root, held.series[1]).glob("*.dcm"))
    path.write_bytes(bytes(reversed(path.read_bytes())))
    next(folder_of(root, held.series[2]).glob("*.dcm")).unlink()
    again = verify(root, lambda size: None)
    assert (len(again.changed), len(again.missing)) == (1, 1)
    assert held.requests == []
    for name in again.changed + again.missing:  # what --verify says mends it
        shutil.rmtree((root / name).parent, ignore_errors=True)
    bring(root)
    assert len(held.asked("getImage")) == 2
    assert verify(root, lambda size: None).sound


def test_the_first_patients_and_then_more(held: Archives, root: Path) -> None:
    assert "all 2 DICOM series" in bring(root, cases=1)
    assert [is_there(root, each) for each in held.series] == [True, True, False, False]
    assert len(rows_of(root)) == 4
    assert json.loads((root / "segue.json").read_text())["partial"]
    held.requests.clear()
    assert "all 3 DICOM series" in bring(root, cases=2)
    assert len(held.asked("getImage")) == 1
    assert "all 4 DICOM series" in bring(root)
    assert len(held.asked("getImage")) == 2
    assert not json.loads((root / "segue.json").read_text())["partial"]


WRONG = {"00000001.dcm": "0" * 32}
FILES = {"00000001.dcm": b"\0" * 128 + b"DICM"}
THREE = {f"0000000{n}.dcm": b"\0" * 128 + b"DICM%d" % n for n in (1, 2, 3)}


@pytest.mark.parametrize(
    ("zipped", "said"),
    [
        (zip_of(THREE, dict.fromkeys(THREE, "0" * 32)), "3 of 3 files differ, such as 00000001.dcm"),
        (zip_of(THREE)[:200], "damaged"),
        (b"\0" * 3000, "damaged"),
        (zip_of(THREE, table=False), "sent no MD5 sums"),
        (zip_of(dict(list(THREE.items())[:2])), "2 files; the archive lists 3"),
        (zip_of(THREE, {**dict.fromkeys(THREE, ""), "00000004.dcm": ""}), "1 of 4 files missing, such as 00000004"),
        (zip_of({**THREE, "../evil.dcm": b"x"}), "path out of its folder"),
        (zip_of({**THREE, "/tmp/evil.dcm": b"x"}), "path out of its folder"),
        (b"<html><title>Sign in</title>", "a web page"),
    ],
    ids=["md5", "cut", "no zip", "no sums", "fewer", "listed", "upwards", "absolute", "page"],
)
def test_a_series_that_is_wrong_is_left_out_and_the_others_come(
    held: Archives, root: Path, zipped: bytes, said: str
) -> None:
    held.series[2].zipped = zipped
    told = bring(root)
    assert "1 of 4 series did not come; the others are there" in told
    assert said in told
    assert [is_there(root, each) for each in held.series] == [True, True, False, True]
    assert not folder_of(root, held.series[2]).exists()
    assert not leftovers(root)
    assert not list(root.parent.rglob("evil*"))
    assert [row["source"] for row in rows_of(root)] == ["nbia", "nbia", "", "nbia"]
    held.series[2].zipped = None
    held.requests.clear()
    assert "all 4 DICOM series" in bring(root)
    assert len(held.asked("getImage")) == 1
    assert is_there(root, held.series[2])


def test_files_without_a_sum_in_the_list_are_taken(held: Archives, root: Path) -> None:
    held.series[0].zipped = zip_of(held.series[0].files, dict.fromkeys(held.series[0].files, ""))
    assert "all 4" in bring(root)
    assert is_there(root, held.series[0])


HOSTILE = ["../../x", "/etc/x", "a\\..\\b", "..", ".hidden", "x" * 3000, "Jörg ‮", "a\0b", "", " "]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_never_leave_the_folder(held: Archives, root: Path, name: str) -> None:
    held.series[0].row["SeriesInstanceUID"] = name
    held.series[1].row["StudyInstanceUID"] = name
    held.series[2].row["PatientID"] = name
    told = bring(root)
    lacks = 2 if name.strip() else 3  # a PatientID may be any text, but not none
    assert f"{lacks} of 4 series did not come" in told
    assert "names that DICOM does not allow" in told
    assert is_there(root, held.series[3])
    series = list(root.joinpath("dicom").rglob("*.dcm"))
    assert len(series) == (6 if lacks == 2 else 3)
    assert all(path.resolve().is_relative_to(root.resolve()) for path in series)
    assert {path.name for path in root.parent.iterdir()} == {NAME}


def test_names_of_folders() -> None:
    assert folder_name("ACRIN-NSCLC-FDG-PET-001") == "ACRIN-NSCLC-FDG-PET-001"
    assert folder_name("1.3.6.1.4.1") == "1.3.6.1.4.1"
    made = [folder_name(name) for name in [*HOSTILE, "a/b", "a_b", "a b ", "con.", "../../X"]]
    assert len({each.lower() for each in made}) == len(made)
    assert all(each and len(each) < 80 and "/" not in each and not each.startswith(".") for each in made)
    assert is_uid("1.2.840.10008") and not is_uid("1..2") and not is_uid("1.2\n") and not is_uid("1" * 65)


def test_a_series_that_is_listed_twice_comes_once(held: Archives, root: Path) -> None:
    held.series.append(held.series[0])
    assert "all 4" in bring(root)
    assert len(held.asked("getImage")) == 4


def test_a_killed_process_goes_on_where_it_was(held: Archives, root: Path) -> None:
    for number in range(8):
        made = held.add("ACRIN-NSCLC-FDG-PET-009", 20, number, files=6)
        # What does not compress, so that it takes its time.
        made.files = {name: os.urandom(20_000) for name in made.files}
        made.row["FileSize"] = 120_000
    held.rate = 200_000
    code = (
        "import sys\nfrom pathlib import Path\nfrom segue.acquire import GetOptions, get\n"
        "from segue.catalogue import load_card\nget(load_card(sys.argv[1]), Path(sys.argv[2]), GetOptions())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, NAME, str(root)], stderr=subprocess.DEVNULL)
    while sum(is_there(root, each) for each in held.series) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [each for each in held.series if folder_of(root, each).is_dir()]
    assert 5 <= len(done) < len(held.series)
    assert all(is_there(root, each) for each in done)  # a folder is there whole or not at all
    assert leftovers(root)
    held.rate = None
    held.requests.clear()
    assert f"all {len(held.series)} DICOM series" in bring(root)
    fetched = {request.rpartition("=")[2] for request in held.asked("getImage")}
    assert fetched == {each.row["SeriesInstanceUID"] for each in held.series} - {
        each.row["SeriesInstanceUID"] for each in done
    }
    assert all(is_there(root, each) for each in held.series)
    assert not leftovers(root)
    assert verify(root, lambda size: None).sound


def test_control_c_ends_soon_and_leaves_nothing_half(held: Archives, root: Path) -> None:
    made = held.add("ACRIN-NSCLC-FDG-PET-009", 20, 1, files=6)
    made.files = {name: os.urandom(200_000) for name in made.files}
    held.rate = 40_000  # this series would take half a minute
    command = [sys.executable, "-m", "segue", "get", NAME, "-o", str(root.parent)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (all(is_there(root, each) for each in held.series[:4]) and held.sent > 100_000):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "Traceback" not in told
    assert not folder_of(root, made).exists()
    assert not leftovers(root)
    assert [row["source"] for row in rows_of(root)] == ["nbia"] * 4 + [""]
    assert verify(root, lambda size: None).sound


# The Imaging Data Commons


def test_the_bytes_come_from_the_mirror(held: Archives, root: Path) -> None:
    held.idc, held.page = True, 2
    held.clinical = {
        "acrin_nsclc_fdg_pet_A0": [{"dicom_patient_id": "ACRIN-NSCLC-FDG-PET-001", "age": 61}],
        "acrin_nsclc_fdg_pet_E1": [{"dicom_patient_id": "ACRIN-NSCLC-FDG-PET-002", "note": 'says "x", twice'}],
    }
    assert "all 4 DICOM series" in bring(root)
    assert not held.asked("getImage")
    assert all(is_there(root, each) for each in held.series)
    assert {row["source"] for row in rows_of(root)} == {"idc"}
    # What TCIA says of the licence goes before the mirror's short name of it.
    assert rows_of(root)[0]["licence"] == "Creative Commons Attribution 3.0 Unported License"
    assert verify(root, lambda size: None).hashed == 14
    with (root / "clinical" / "acrin_nsclc_fdg_pet_E1.csv").open(newline="") as handle:
        assert list(csv.DictReader(handle)) == held.clinical["acrin_nsclc_fdg_pet_E1"]
    assert "age,VARCHAR,what age is" in (root / "clinical" / "acrin_nsclc_fdg_pet_A0.columns.csv").read_text()
    held.requests.clear()
    bring(root)
    assert held.requests == []


def object_name(held: Held, number: int) -> str:
    return f"{uuid.uuid5(uuid.NAMESPACE_URL, list(held.files)[number])}.dcm"


def test_a_wrong_object_of_the_mirror_comes_from_nbia(held: Archives, root: Path) -> None:
    held.idc = True
    wrong = bytearray(held.series[1].files["00000005.dcm"])
    wrong[200] ^= 1
    held.spoiled[object_name(held.series[1], 4)] = bytes(wrong)  # the only series with five files
    assert "all 4" in bring(root)
    assert [row["source"] for row in rows_of(root)] == ["idc", "nbia", "idc", "idc"]
    assert is_there(root, held.series[1])
    assert not leftovers(root)


def test_objects_without_an_md5_are_compared_by_size(held: Archives, root: Path) -> None:
    held.idc = held.several_parts = True
    held.spoiled[object_name(held.series[1], 4)] = b"\0" * 100
    assert "all 4" in bring(root)
    assert [row["source"] for row in rows_of(root)] == ["idc", "nbia", "idc", "idc"]


def test_another_number_of_files_is_another_version(held: Archives, root: Path) -> None:
    held.idc = True
    held.series[0].row["ImageCount"] = "4"
    assert "1 of 4 series did not come" in bring(root)
    assert [row["source"] for row in rows_of(root)] == ["", "idc", "idc", "idc"]


def test_a_busy_mirror_is_asked_again_and_its_files_are_kept(held: Archives, root: Path) -> None:
    held.idc = True
    one = held.series[1].folder
    held.faults[f"/bucket/idc-open-data/{one}/"] = [(503, {}, b"SlowDown"), (500, {}, b"")]
    assert "all 4" in bring(root)
    assert not held.asked("getImage")
    assert len(held.asked(f"/{one}/")) == 5 + 2


def test_files_of_an_interrupted_series_are_not_asked_again(held: Archives, root: Path) -> None:
    held.idc = True
    series, folder = held.series[1], folder_of(root, held.series[1])
    arriving = folder.with_name(f".{folder.name}.arriving")
    arriving.mkdir(parents=True)
    names = list(series.files)
    (arriving / object_name(series, 0)).write_bytes(series.files[names[0]])
    (arriving / object_name(series, 1)).write_bytes(b"\1" * len(series.files[names[1]]))  # of the right length
    (arriving / ".3f.part.x.dcm").write_bytes(b"half")
    (root / "series.csv").touch()  # written first: the process was killed before it wrote a receipt
    bring(root)
    assert len(held.asked(f"/{series.folder}/")) == 4
    assert is_there(root, series) and not leftovers(root)


def test_without_nbia_the_mirror_lists_the_collection(held: Archives, root: Path) -> None:
    held.idc, held.nbia = True, False
    held.series[3].analysis = "BAMF-AIMI-Annotations"
    assert "all 3 DICOM series" in bring(root)
    assert {row["licence"] for row in rows_of(root)} == {"CC BY 3.0"}


def test_without_the_mirror_nbia_does(held: Archives, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held.faults["/idc/"] = [(404, {}, b"gone")] * 9
    assert "all 4 DICOM series" in bring(root)
    told = capsys.readouterr().err
    assert "the series come from TCIA itself" in told
    assert "the clinical tables are not there" in told
    assert not (root / "clinical").exists()


def test_places_that_are_none_of_the_mirror_are_not_gone_to(held: Archives) -> None:
    held.idc = True
    held.series[0].bucket = "evil.example/#"
    held.series[1].folder = "../../other"
    held.series[2].row["SeriesInstanceUID"] = "../x"
    with Transport() as transport:
        found = Mirror(transport).series("acrin_nsclc_fdg_pet")
        assert list(found) == [held.series[3].row["SeriesInstanceUID"]]
        with pytest.raises(DataError, match="no name of an IDC collection"):
            Mirror(transport).series("x' OR '1'='1")


LISTING = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}</ListBucketResult>'
ENTRY = "<Contents><Key>{}</Key><Size>{}</Size><ETag>&quot;" + "a" * 32 + "&quot;</ETag></Contents>"


@pytest.mark.parametrize(
    "content",
    [
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + LISTING.format(ENTRY.format("u/&x;", 1)),
        '<!DOCTYPE a [<!ENTITY x "y.dcm">]>' + LISTING.format(ENTRY.format("u/&x;", 1)),
        LISTING.format(ENTRY.format("u/../../x", 1)),
        LISTING.format(ENTRY.format("v/x.dcm", 1)),
        LISTING.format(ENTRY.format("u/.segue-series.json", 1)),
        LISTING.format(ENTRY.format("u/x.dcm", -1)),
        "<Error><Code>AccessDenied</Code></Error>",
        "<html>",
        " " * 17_000_000,
    ],
)
def test_listings_that_are_not_trusted(content: str) -> None:
    with pytest.raises(RefusedError):
        _listed(content.encode(), "u/")


def test_a_listing_of_a_bucket() -> None:
    found, following = _listed(LISTING.format(ENTRY.format("u/x.dcm", 7)).encode(), "u/")
    assert [(each.name, each.bytes, each.md5) for each in found] == [("x.dcm", 7, "a" * 32)]
    assert following is None


def test_a_series_alone(held: Archives, tmp_path: Path) -> None:
    row = held.series[0].row
    series = Series(row["SeriesInstanceUID"], "p", row["StudyInstanceUID"], "CT", 3)
    held.faults["getImage"] = [(500, {}, b""), (429, {"Retry-After": "0"}, b"")]
    sizes: list[int] = []
    with Transport() as transport:
        came = Archive(transport).download(series, tmp_path / "series", sizes.append)
    expected = {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in held.series[0].files.items()}
    assert came.files == expected
    assert sum(sizes) == len(zip_of(held.series[0].files))
    assert zipfile.is_zipfile(io.BytesIO(zip_of(held.series[0].files)))
