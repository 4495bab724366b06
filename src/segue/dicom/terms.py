"""Coded terms: what a segment is, in words that every reader of DICOM shares.

Codes are SNOMED CT's as PS3.16 lists them for segmentation (CID 7150 to 7169 and the anatomy of its annex L).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class CodedTerm:
    """A code, the scheme that defines it (``"SCT"``, ``"DCM"``, ``"99LOCAL"``), and its meaning in words."""

    value: str
    scheme: str
    meaning: str

    def __str__(self) -> str:
        """As PS3.16 writes it: ``(10200004, SCT, "Liver")``."""
        return f'({self.value}, {self.scheme}, "{self.meaning}")'


@dataclass(frozen=True)
class SegmentTerms:
    """What a segment is.

    Attributes:
        category: Segmented Property Category (0062,0003): anatomy, a morphological abnormality, tissue, ...
        type: Segmented Property Type (0062,000F): liver, neoplasm, ...
        side: of a paired organ, a modifier of the type.
        region: Anatomic Region (0008,2218), where the type does not say it.
    """

    category: CodedTerm
    type: CodedTerm
    side: CodedTerm | None = None
    region: CodedTerm | None = None


def _sct(value: str, meaning: str) -> CodedTerm:
    return CodedTerm(value, "SCT", meaning)


ANATOMY = _sct("91723000", "Anatomical Structure")
ABNORMAL = _sct("49755003", "Morphologically Altered Structure")
TISSUE = _sct("85756007", "Tissue")
LEFT, RIGHT = _sct("7771000", "Left"), _sct("24028007", "Right")

_ANATOMY = {
    "adrenal gland": "23451007",
    "aorta": "15825003",
    "brain": "12738006",
    "brain stem": "119238007",
    "breast": "76752008",
    "cerebellum": "113305005",
    "clavicle": "51299004",
    "colon": "71854001",
    "duodenum": "38848004",
    "esophagus": "32849002",
    "eye": "81745001",
    "femur": "71341001",
    "gallbladder": "28231008",
    "heart": "80891009",
    "hippocampus": "5366008",
    "humerus": "85050009",
    "inferior vena cava": "64131007",
    "kidney": "64033007",
    "liver": "10200004",
    "lung": "39607008",
    "lymph node": "59441001",
    "pancreas": "15776009",
    "parotid gland": "45289007",
    "portal vein": "32764006",
    "prostate": "41216001",
    "rib": "113197003",
    "sacrum": "54735007",
    "scapula": "79601000",
    "small intestine": "30315005",
    "spinal cord": "2748008",
    "spine": "421060004",
    "spleen": "78961009",
    "stomach": "69695003",
    "thyroid": "69748006",
    "trachea": "44567001",
    "urinary bladder": "89837001",
    "uterus": "35039007",
    "vertebra": "51282000",
}
_ABNORMAL = {
    "cyst": "367643001",
    "edema": "79654002",
    "hemorrhage": "50960005",
    "lesion": "52988006",
    "mass": "4147007",
    "necrosis": "6574001",
    "neoplasm": "108369006",
    "nodule": "27925004",
    "secondary neoplasm": "14799000",
}
_TISSUE = {
    "bone": "272673000",
    "fat": "256674009",
    "muscle": "71616004",
    "gray matter": "389081007",
    "white matter": "389080008",
}
# Other words for the same.
_SAME = {
    "adrenal": "adrenal gland",
    "bladder": "urinary bladder",
    "bowel": "small intestine",
    "brainstem": "brain stem",
    "cancer": "neoplasm",
    "gall bladder": "gallbladder",
    "grey matter": "gray matter",
    "gtv": "neoplasm",
    "haemorrhage": "hemorrhage",
    "metastases": "secondary neoplasm",
    "metastasis": "secondary neoplasm",
    "oedema": "edema",
    "oesophagus": "esophagus",
    "parotid": "parotid gland",
    "postcava": "inferior vena cava",
    "thyroid gland": "thyroid",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "vertebrae": "vertebra",
}
_KNOWN = {
    name: SegmentTerms(category, _sct(code, name.capitalize()))
    for category, codes in ((ANATOMY, _ANATOMY), (ABNORMAL, _ABNORMAL), (TISSUE, _TISSUE))
    for name, code in codes.items()
}
_SIDES = {"left": LEFT, "l": LEFT, "right": RIGHT, "r": RIGHT}
_SAYS_NOTHING = {
    *_SIDES,
    "and",
    "both",
    "in",
    "label",
    "mask",
    "of",
    "organ",
    "segment",
    "segmentation",
    "the",
    "whole",
}
# Nothing is known of it but that somebody marked it in a body.
_ANYTHING = SegmentTerms(TISSUE, TISSUE)


def terms_of(name: str) -> SegmentTerms:
    """The terms of a segment, from an English name: ``"left_kidney"``, ``"Liver tumour"``, ``"lungs"``.

    The organ in the name of a lesion becomes its region. A name with other words than known ones is tissue, for a
    "liver vessel" is not a liver; unless it is a lesion: an "enhancing tumour" is a tumour.
    """
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    found, unknown = _named([word for word in words if word not in _SAYS_NOTHING and not word.isdigit()])
    lesion = next((term for term in reversed(found) if term.category is ABNORMAL), None)
    organ = next((term for term in reversed(found) if term.category is ANATOMY), None)
    if lesion is not None:
        return replace(lesion, region=organ.type if organ else None)
    if len(found) != 1 or unknown:
        return _ANYTHING
    sides = {side for word, side in _SIDES.items() if word in words}
    return replace(found[0], side=sides.pop() if len(sides) == 1 else None)


def _named(words: list[str]) -> tuple[list[SegmentTerms], bool]:
    """The known terms in a name, in order, the longest first at each place; and whether words are left over."""
    found: list[SegmentTerms] = []
    unknown = False
    at = 0
    while at < len(words):
        for length in (3, 2, 1):
            name = " ".join(words[at : at + length])
            term = _KNOWN.get(_SAME.get(name, name)) or _KNOWN.get(_SAME.get(name[:-1], name[:-1]))
            if term is not None:
                found.append(term)
                break
        else:
            unknown = True
        at += length
    return found, unknown
