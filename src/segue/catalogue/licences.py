"""Licences as data: SPDX identifiers, what they allow, and how a person would say it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

UNSTATED = "NOASSERTION"  # SPDX for "nobody said"
_OWN_TERMS = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


@dataclass(frozen=True)
class Terms:
    """What a licence allows; None where that is not known.

    Attributes:
        commercial: commercial use is allowed.
        derivatives: changed copies may be passed on.
        share_alike: changed copies must carry the same licence.
        attribution: the authors must be named.
    """

    commercial: bool | None
    derivatives: bool | None = True
    share_alike: bool = False
    attribution: bool = True


def _creative_commons() -> dict[str, Terms]:
    known = {}
    for marks in ("BY", "BY-SA", "BY-NC", "BY-NC-SA", "BY-ND", "BY-NC-ND"):
        for version in ("2.0", "3.0", "4.0"):
            known[f"CC-{marks}-{version}"] = Terms("NC" not in marks, "ND" not in marks, "SA" in marks)
    return known


_TERMS: dict[str, Terms] = {
    **_creative_commons(),
    "CC0-1.0": Terms(True, attribution=False),
    "PDDL-1.0": Terms(True, attribution=False),
    "ODC-By-1.0": Terms(True),
    "ODbL-1.0": Terms(True, share_alike=True),
    "Apache-2.0": Terms(True),
    "MIT": Terms(True),
    "BSD-2-Clause": Terms(True),
    "BSD-3-Clause": Terms(True),
    "GPL-2.0-only": Terms(True, share_alike=True),
    "GPL-3.0-only": Terms(True, share_alike=True),
    UNSTATED: Terms(None, None, attribution=True),
}


def known_licences() -> list[str]:
    """The SPDX identifiers that a card may name, beside ``LicenseRef-...`` for terms of one's own."""
    return sorted(_TERMS)


def check_licence(spdx: str) -> None:
    """Accept what :func:`terms` knows.

    Raises:
        ValueError: with the nearest known identifier.
    """
    if spdx in _TERMS or _OWN_TERMS.fullmatch(spdx):
        return
    near = difflib.get_close_matches(from_words(spdx) or spdx, known_licences(), n=1, cutoff=0.6)
    advice = f"did you mean {near[0]}?" if near else f"known: {', '.join(known_licences())}"
    raise ValueError(
        f"nobody knows the licence '{spdx}'; {advice} For terms of its own write LicenseRef-NAME and a note, "
        f"where nothing is stated {UNSTATED}"
    )


def terms(spdx: str) -> Terms:
    """What the licence allows; terms of one's own (``LicenseRef-...``) are taken as restricted until read."""
    return _TERMS.get(spdx, Terms(False, None))


def in_words(spdx: str) -> str:
    """The licence as a person would tell a colleague."""
    if spdx == UNSTATED:
        return "no licence is stated: ask the authors before you use the data beyond your own research"
    if spdx not in _TERMS:
        return "terms of its own: read them before use"
    allowed = terms(spdx)
    parts = [
        "commercial use is allowed" if allowed.commercial else "NC: no commercial use",
        "" if allowed.derivatives else "ND: no changed copies may be passed on (masks or crops made from it count)",
        "SA: what you derive and pass on must carry the same licence" if allowed.share_alike else "",
        "name the authors" if allowed.attribution else "no conditions",
    ]
    return "; ".join(part for part in parts if part)


def from_words(text: str) -> str | None:
    """The SPDX identifier meant by ``CC-BY-SA 4.0``, ``cc by 4.0`` and the like; None where that is unclear."""
    if _OWN_TERMS.fullmatch(text.strip()):
        return text.strip()
    plain = re.sub(r"[\s_-]+", "-", text.strip().rstrip(".")).upper()
    plain = re.sub(r"^CREATIVE-COMMONS-", "CC-", plain)
    plain = re.sub(r"^(CC0)(-.*)?$", "CC0-1.0", plain)
    return next((spdx for spdx in _TERMS if spdx.upper() == plain), None)
