"""What converted folders are called, without telling who the patients are.

Files that say that the identity was removed (0012,0062 = YES) keep their Patient ID. Others get a pseudonym: a keyed
hash (HMAC, RFC 2104), the same for the same patient every time, that nobody without the key can turn back or guess.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from segue.core.errors import DataError, UsageError
from segue.core.files import storage_fault
from segue.dicom import DicomError, Series
from segue.dicom.files import read_dataset

_KEY_BYTES = 32
_UNSAFE = re.compile(r"[^\w .+()=-]+")
_LONGEST = 80
_LONGEST_BYTES = 200  # file systems allow 255
# What names a person or a document in a header, and so may not stand in a name that somebody typed.
_TELLING = [
    *("PatientName", "PatientID", "OtherPatientNames", "PatientBirthDate", "AccessionNumber"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"),
]
_SHORTEST_WORD = 3
_NUMBERS = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{6,}")  # dates, and numbers of patients and cases


@dataclass(frozen=True)
class Naming:
    """How folders are named.

    Attributes:
        key: of the hash; empty where every name may be kept.
        keep_ids: names are kept whatever the files say.
    """

    key: bytes = b""
    keep_ids: bool = False

    def reveals(self, study: Sequence[Series]) -> bool:
        """Whether names of this study may be shown as they are."""
        return self.keep_ids or all(series.deidentified for series in study)

    def patient(self, study: Sequence[Series]) -> str:
        """The folder of the patient: the Patient ID, or ``"P-"`` and 12 letters of its keyed hash."""
        name = study[0].patient_id.strip()
        if self.reveals(study) and name:
            # Two patients stay two where their IDs differ only in what a folder's name cannot hold.
            changed = safe_name(name) != name
            return safe_name(name, hashlib.sha256(name.encode()).hexdigest()[:6] if changed else "")
        # Without an ID nobody can say which studies are of one patient: each is one of its own.
        return f"P-{self._pseudonym('patient', name or study[0].study_uid)}"

    def study(self, study: Sequence[Series]) -> str:
        """The folder of the study.

        With known names as The Cancer Imaging Archive writes it: ``MM-DD-YYYY-StudyID-Description-12345``, the last
        five digits of the Study Instance UID; otherwise its modalities and a keyed hash.
        """
        first = study[0]
        if self.reveals(study):
            date = first.study_date.strip()
            shown = f"{date[4:6]}-{date[6:8]}-{date[:4]}" if re.fullmatch(r"\d{8}", date) else "NA"
            description = first.study_description.strip() or "NA"
            return safe_name(f"{shown}-{first.study_id.strip() or 'NA'}-{description}", first.study_uid[-5:])
        kinds = [kind for kind in ("PT", "CT", "MR") if any(series.modality == kind for series in study)]
        return "-".join([*kinds, self._pseudonym("study", first.study_uid)])

    def case(self, name: str) -> str:
        """A pseudonym of a file or folder whose name tells who the patient is."""
        return f"P-{self._pseudonym('case', name)}"

    def _pseudonym(self, purpose: str, name: str) -> str:
        if not self.key:
            return secrets.token_hex(6)
        return hmac.new(self.key, f"{purpose}:{name}".encode(), hashlib.sha256).hexdigest()[:12]


def safe_name(text: str, ending: str = "") -> str:
    """A text from a header as a folder's name: no separators, no leading dot, at most 80 characters."""
    kept = re.sub(r"\s+", " ", _UNSAFE.sub("_", text)).strip(" ._")
    name = (
        kept[: _LONGEST - len(ending) - 1].encode()[:_LONGEST_BYTES].decode(errors="ignore").rstrip(" .") or "unnamed"
    )
    return f"{name}-{_UNSAFE.sub('_', ending)}" if ending else name


def telling_words(path: Path) -> set[str]:
    """The words of a file's header that tell whose it is: names, numbers, the day of birth."""
    header = read_dataset(path, tags=_TELLING)
    try:
        texts = [str(header.get(tag, "")) for tag in _TELLING]
    except Exception as error:
        # Values are parsed when they are asked for, with whatever pydicom raises on a damaged one.
        raise DicomError("the names in the header cannot be read", where=path) from error
    words = (word for text in texts for word in re.split(r"[\s^=\\,;'\[\]]+", text.lower()))
    return {word for word in words if len(word) >= _SHORTEST_WORD}


def without_words(text: str, words: Collection[str]) -> str:
    """A text without those words, however they are written."""
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", " ", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", text).strip(" _-.,;/")


def without_identity(text: str, words: Collection[str]) -> str:
    """A name that a person typed, without those words, dates, and numbers of six digits and more."""
    return without_words(_NUMBERS.sub(" ", without_words(text, words)), ())


def case_name(name: str, header: Path, output: Path) -> str:
    """The name of a file or folder of DICOM, for a case; where it tells whose images these are, a pseudonym.

    Args:
        header: one of the files.
        output: where the case's results go (:func:`read_key`).
    """
    try:
        removed = str(read_dataset(header, tags=["PatientIdentityRemoved"]).get("PatientIdentityRemoved", ""))
        told = removed.strip().upper() != "YES" and without_identity(name, telling_words(header)) != name.strip(
            " _-.,;/"
        )
    except DataError:
        return name  # whoever reads the file says what is wrong with it
    if not told:
        return name
    return Naming(read_key(output)).case(name)


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens of a description, for the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")


def key_path() -> Path:
    """Where the key lies: ``segue/pseudonyms.key`` in the user's configuration folder."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "segue" / "pseudonyms.key"


def read_key(output: Path) -> bytes:
    """The key of the pseudonyms, made at the first call; readable by its owner alone.

    Raises:
        UsageError: the key would lie inside ``output`` and travel with the data.
        DataError: the file is not a key. MachineError: it cannot be written.
    """
    path = key_path()
    if output.resolve() in path.resolve().parents:
        raise UsageError(
            "the key of the pseudonyms lies inside the output, and would be given away with it",
            where=path,
            remedy="choose a folder of its own for the output",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        else:
            text = secrets.token_hex(_KEY_BYTES)
            with os.fdopen(descriptor, "w", encoding="ascii") as handle:
                handle.write(text + "\n")
    except OSError as error:
        raise storage_fault(error, path) from error
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise DataError(
            "this is not a key of pseudonyms",
            where=path,
            value=f"{len(text)} characters",
            remedy="put the right one back, or remove it (pseudonyms will then differ from earlier ones)",
        )
    return bytes.fromhex(text)
