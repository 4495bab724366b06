"""Whose image is it: a guess from the names of the cases, to be corrected by a person."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from segue.catalogue.recognise.names import SERIES_WORDS, SITE_WORDS, literal, tokens, words

_LARGEST_UNSAID = 20  # cases per patient where nothing in the names says what they are
_DATE = re.compile(r"(19|20)\d{2}[01]\d[0-3]\d")


def patient_pattern(cases: Sequence[str]) -> str | None:
    """A regular expression whose first group is the patient in a case's name; None where nothing suggests one.

    The shortest beginning of the names is taken that falls into at least two groups, fewer than there are cases:
    grouping too much costs a little data, grouping too little lets one patient train and validate.
    """
    for able in (r"^(sub-[^_]+)", *_beginnings(cases), r"^(.*[0-9])[A-Za-z]$"):
        groups = grouped(cases, able)
        if groups and 1 < len(groups) < len(cases):
            return able
    return None


def grouped(cases: Sequence[str], pattern: str) -> Counter[str]:
    """How many cases each patient has by this pattern; empty where it does not match every case."""
    found = [re.search(pattern, case) for case in cases]
    return Counter(match.group(1) for match in found if match) if all(found) else Counter()


def in_words(groups: Counter[str]) -> str:
    """``3 patients (p1: 2 cases, p2: 1, p3: 1)``."""
    shown = [f"{name}: {count}" for name, count in list(groups.items())[:6]]
    if shown:
        first, count = next(iter(groups.items()))
        shown[0] = f"{first}: {count} case{'s' if count > 1 else ''}"
    more = f", and {len(groups) - 6} more" if len(groups) > 6 else ""
    return f"{len(groups)} patient{'s' if len(groups) != 1 else ''} ({', '.join(shown)}{more})"


def _beginnings(cases: Sequence[str]) -> list[str]:
    spans = [tokens(case) for case in cases]
    fewest = min(map(len, spans), default=0)
    pieces = [[case[a:b] for a, b in places] for case, places in zip(cases, spans, strict=True)]
    skipped = 0
    if fewest > 1 and all(_DATE.fullmatch(there[0]) for there in pieces):
        skipped = 1  # 20190214_anna: the date of the study comes first
    found = []
    for count in range(skipped + 1, fewest + (1 if skipped or max(map(len, spans)) > fewest else 0)):
        if pieces[0][0] == "TCGA" and count < 3:
            continue  # a TCGA barcode is project, site and participant
        if _plausible(pieces, skipped, count):
            found.append(_expression(cases, spans, skipped, count))
    return found


def _plausible(pieces: Sequence[Sequence[str]], skipped: int, count: int) -> bool:
    groups = Counter(tuple(there[skipped:count]) for there in pieces)
    if not 1 < len(groups) < len(pieces):
        return False
    last = [there[count - 1] for there in pieces]
    if any(SITE_WORDS & set(words(name)) for name in last):
        return False
    rest = [there[count:] for there in pieces]
    largest = max(groups.values())
    if any(after and set(words(after[0])) & SERIES_WORDS for after in rest):
        return any(re.search(r"\d", name) for name in last) or largest <= _LARGEST_UNSAID
    if all(re.search(r"\d", name) for name in last):
        return len(groups) > 2 or largest <= _LARGEST_UNSAID
    # Names without numbers may be sites or grades: patients only where each has few images.
    return len(groups) > 2 and largest <= 6


def _expression(cases: Sequence[str], spans: Sequence[tuple[tuple[int, int], ...]], skipped: int, count: int) -> str:
    text = ""
    for place in range(count):
        names = {case[slice(*there[place])] for case, there in zip(cases, spans, strict=True)}
        gaps = {case[there[place - 1][1] : there[place][0]] for case, there in zip(cases, spans, strict=True) if place}
        gap = "" if not place else literal(gaps.pop()) if len(gaps) == 1 else "[-_. ]+"
        name = literal(names.pop()) if len(names) == 1 else "[^-_. ]+"
        text += (gap + "(" if place == skipped else gap) + name
    return f"^{text})"
