"""The quick reader of headers finds what pydicom finds, element for element."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from segue.dicom import looks_like_dicom, quick
from test_dicom import made

AFTER_GROUP_LENGTH = 0x7FE00001


def require_equal(content: bytes, theirs: Dataset) -> None:
    found = quick.found(content, AFTER_GROUP_LENGTH, whole=True)
    assert found is not None
    before = {element.tag: element for element in theirs if element.tag < AFTER_GROUP_LENGTH}
    assert {element.tag: element for element in found.dataset} == before
    assert found.dataset.file_meta == theirs.file_meta


@pytest.mark.filterwarnings("ignore")
def test_real_headers_as_pydicom(test_data: Path) -> None:
    """Every tenth file of the large series, and all of the small ones."""
    series: dict[Path, list[Path]] = {}
    for path in sorted(test_data.rglob("*")):
        if path.is_file() and path.suffix in ("", ".dcm") and looks_like_dicom(path):
            series.setdefault(path.parent, []).append(path)
    left_to_pydicom, looked_at = [], 0
    for paths in series.values():
        for path in paths[:: 1 if len(paths) < 20 else 10]:
            content = path.read_bytes()
            looked_at += 1
            if quick.found(content, AFTER_GROUP_LENGTH, whole=True) is None:
                left_to_pydicom.append(path.name)
            else:
                require_equal(content, pydicom.dcmread(path, stop_before_pixels=True))
    assert looked_at > 150
    assert left_to_pydicom == ["3.dcm"]  # big endian


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_nested_sequences(tmp_path: Path, syntax: str, undefined: bool) -> None:
    dataset = made(0)
    inner, item = Dataset(), Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "Größe"
    item.ConceptNameCodeSequence, item.TextValue = [inner, inner], "x" * 70_001
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ContentSequence = [item, Dataset()]
    dataset.AcquisitionContextSequence = []
    for holder, keyword in ((dataset, "ContentSequence"), (item, "ConceptNameCodeSequence")):
        holder[keyword].is_undefined_length = undefined
        for each in holder[keyword].value:
            each.is_undefined_length_sequence_item = undefined
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "x", enforce_file_format=True)
    content = (tmp_path / "x").read_bytes()
    require_equal(content, pydicom.dcmread(tmp_path / "x", stop_before_pixels=True))
    found = quick.found(content, AFTER_GROUP_LENGTH, whole=True)
    assert found is not None
    assert found.dataset.ContentSequence[0].ConceptNameCodeSequence[1].CodeMeaning == "Größe"
    assert content[found.offset : found.offset + found.length] == dataset.PixelData
    for length in (10, 140, 400, 5000, found.offset - 9):  # the rest has not been read yet
        assert quick.found(content[:length], AFTER_GROUP_LENGTH, whole=False) is None
