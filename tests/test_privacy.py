"""Names planted in every identity tag, and in names of files and folders, are in nothing that any command gives out."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.datadict import keyword_dict

from commands import run_commands
from dicom_studies import Study

# What de-identification has to remove (DICOM PS3.15, table E.1-1), as far as it holds words: names, numbers, addresses.
IDENTITY = [
    *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientNames", "OtherPatientIDs", "PatientBirthName"),
    *("PatientMotherBirthName", "PatientAddress", "PatientTelephoneNumbers", "PatientComments"),
    *("AdditionalPatientHistory",),
    *("MedicalRecordLocator", "EthnicGroup", "Occupation", "PatientReligiousPreference", "MilitaryRank"),
    *("AccessionNumber", "StudyID", "AdmissionID", "InstitutionName", "InstitutionAddress"),
    *("InstitutionalDepartmentName",),
    *("ReferringPhysicianName", "ReferringPhysicianAddress", "PerformingPhysicianName", "NameOfPhysiciansReadingStudy"),
    *("PhysiciansOfRecord", "OperatorsName", "RequestingPhysician", "ScheduledPerformingPhysicianName"),
    *("StudyDescription", "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription", "StationName"),
    *("RequestedProcedureDescription", "DeviceSerialNumber", "ImageComments", "StudyComments", "DerivationDescription"),
    *("CurrentPatientLocation", "ContentCreatorName", "PersonName", "VerifyingObserverName"),
]  # fmt: skip
DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
FOLDER = "Zweistein_Ada"  # as people call the folders that they export
NUMBERS = ("4711000815", "19480229", "20230417")
WORDS = ("Zweistein", "Quastenflosser")
PLANTED = (*WORDS, *NUMBERS)


def plant(folder: Path) -> None:
    """A name, a number or a date in every tag that identifies, in private tags and in texts that contain a name."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        header = dcmread(path)
        for keyword in IDENTITY:
            vr = next((entry[0] for entry in _entries(keyword)), None)
            if vr is None or vr == "SQ":
                continue
            value = {"PN": "Zweistein^Ada", "SH": "4711000815", "LO": "4711000815 Zweistein"}.get(vr, "of Zweistein")
            setattr(header, keyword, value)
        header.PatientID = f"4711000815-{folder.name}"
        header.PatientName = "Zweistein^Ada^Quastenflosser"
        header.StudyDescription = "PET-CT Zweistein, Ada"
        for keyword in DATES:
            setattr(header, keyword, "19480229" if keyword == "PatientBirthDate" else "20230417")
        block = header.private_block(0x0011, "QUASTENFLOSSER AG", create=True)
        block.add_new(0x01, "LO", "Zweistein^Ada")
        block.add_new(0x02, "OB", b"Zweistein 4711000815")
        header.PatientIdentityRemoved = "NO"
        header.save_as(path.with_name(f"Zweistein-{path.name}"), enforce_file_format=True)
        path.unlink()


def _entries(keyword: str) -> Iterator[tuple[str]]:
    from pydicom.datadict import dictionary_VR

    if keyword in keyword_dict:
        yield (dictionary_VR(keyword_dict[keyword]),)


def contents(path: Path) -> Iterator[bytes]:
    """Everything that the bytes of a file say: as they are, and unpacked (gzip, zip, texts and profiles of PNG)."""
    whole = path.read_bytes()
    yield path.name.encode()
    yield whole
    if whole[:2] == b"\x1f\x8b":
        yield gzip.decompress(whole)
    if whole[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            for name in archive.namelist():
                yield name.encode() + b"\0" + archive.read(name)
    for chunk in re.finditer(
        rb"(?:zTXt|iTXt|iCCP)[^\0]{1,79}\0.{0,6}?(\x78[\x01\x5e\x9c\xda].+?)(?=IEND|$)", whole, re.DOTALL
    ):
        try:
            yield zlib.decompressobj().decompress(chunk[1])
        except zlib.error:
            continue


def told(*places: Path, but: Callable[[Path], bool] = lambda path: False) -> list[str]:
    """Which files below these places say something that was planted, in any spelling and as UTF-16 too."""
    found = []
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.is_file() and not but(path):
                text = b"\n".join(contents(path)).lower()
                found += [
                    f"{path.relative_to(place)}: {word}"
                    for word in PLANTED
                    if word.lower().encode() in text or word.lower().encode("utf-16-le") in text
                ]
    return found


Command = Callable[..., list[tuple[int, str]]]


@pytest.fixture
def run(tmp_path: Path) -> Command:
    """Commands, one after the other; their exit codes and what they say on both streams."""

    def run_all(*commands: tuple[object, ...], config: str = "config") -> list[tuple[int, str]]:
        return run_commands(commands, tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / config)})

    return run_all


def export(folder: Path, patients: int) -> None:
    """Folders of DICOM as a clinic exports them: PET, CT and what somebody drew, of patients with names."""
    random = np.random.default_rng(2)
    for number in range(patients):
        study = Study(folder / f"{FOLDER}_{number}", f"MRN-{number}")
        pet = np.abs(random.normal(4000, 1500, (8, 16, 16)))
        pet[2:5, 4:9, 4:9] += 20_000
        uid = study.add("PT", pet)
        study.add("CT", np.rint(random.normal(0, 300, (10, 40, 40))), (2.0, 2.0, 5.0), (-8.0, -8.0, -5.0))
        study.add_segments(uid, {"Lesion Zweistein": ((4, 4, 2), (9, 9, 5))})
        plant(study.folder)


@pytest.mark.slow
def test_nothing_tells_whose_images_these_are(run: Command, tmp_path: Path) -> None:
    export(tmp_path / "exports", 3)
    assert told(tmp_path / "exports"), "the names are planted"
    one = tmp_path / "exports" / f"{FOLDER}_0"
    cpu = ("--device", "cpu")
    small = ("--set", "plan.patch=[8,8,8]", "--set", "train.precision=float32", "--set", "train.compile=false")
    done = run(
        ("check", "exports"),  # of masks it says that they are no slices of a patient
        ("convert", "exports", "clinic", "--workers", 1),
        ("check", "clinic", "--data", "data"),
        ("train", "clinic", "--steps", 2, "--data", "data", "-o", "run", *cpu, *small),
        ("predict", "run", one, "-o", "out", "--preview", "--probabilities", *cpu),
        ("predict", "run", "exports", "-o", "all", *cpu),
        ("predict", "run", one, "-o", "seg", "--to", "dicom-seg", *cpu),
        ("evaluate", "run", *cpu),
        ("export", "dataset", "clinic", "-o", "nnunet", "--to", "nnunet"),
        ("doctor", "--data", "data"),
    )
    assert [code for code, _ in done] == [3, *[0] * (len(done) - 1)], "\n".join(map(str, done))
    assert len(list((tmp_path / "clinic").glob("P-*/*/SUV.nii.gz"))) == 3
    text = "\n".join(text for _, text in done).lower()
    assert [word for word in PLANTED if word.lower() in text] == []
    given_out = [tmp_path / name for name in ("clinic", "run", "out", "all", "seg", "nnunet", "data", "config")]
    assert told(*given_out, but=lambda path: path.suffix == ".dcm") == []
    # A segmentation in DICOM belongs to its patient: it carries the tags of its series, and only the file does.
    (segmentation,) = (tmp_path / "seg").glob("*.dcm")
    assert "Zweistein" in str(dcmread(segmentation).PatientName)
    assert not any(word.lower() in segmentation.name.lower() for word in PLANTED)
    images = list((tmp_path / "clinic").rglob("*.nii.gz"))
    assert len(images) == 3 * 5  # CT, CTres, PET, SEG, SUV
    for path in images:
        header = nibabel.load(path).header
        texts = [bytes(header[name]).strip(b"\0") for name in ("descrip", "aux_file", "intent_name", "db_name")]
        assert texts == [b""] * 4
        assert len(header.extensions) == 0


def test_names_and_pseudonyms(run: Command, tmp_path: Path) -> None:
    """Names for who wants them; else the same pseudonym every time, another one under another key, which lies apart."""
    export(tmp_path / "exports", 1)

    def named(output: str) -> str:
        (patient,) = [path.name for path in (tmp_path / output).iterdir() if path.is_dir()]
        return patient

    convert = ("convert", "exports")
    assert run((*convert, "named", "--keep-ids"))[0][0] == 0
    assert named("named").startswith("4711000815")
    assert not (tmp_path / "config").exists(), "no pseudonym, no key"
    assert [code for code, _ in run((*convert, "one"), (*convert, "two"))] == [0, 0]
    assert run((*convert, "three"), config="elsewhere")[0][0] == 0
    assert named("one") == named("two") != named("three")
    (key,) = (tmp_path / "config").rglob("*.key")
    assert key.stat().st_mode & 0o077 == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert key.read_bytes().strip() not in written


def test_what_cannot_be_converted_is_told_without_names_in_files(run: Command, tmp_path: Path) -> None:
    export(tmp_path / "exports", 1)
    for path in (tmp_path / "exports").rglob("Zweistein-IM01*"):
        path.write_bytes(path.read_bytes()[:700])
    ((code, text),) = run(("convert", "exports", "clinic"))
    assert code == 3
    assert "Zweistein-IM01" in text  # whoever sits there must know which file it is
    assert told(tmp_path / "clinic") == []
