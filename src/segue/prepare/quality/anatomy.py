"""What the labels of all cases say together: absent and unusual ones, parts, borders, sides, patients in two sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from segue.catalogue import Card, Case
from segue.prepare.examine import Examination
from segue.prepare.quality.finding import Finding
from segue.prepare.quality.labels import LabelFacts, sided_pairs
from segue.prepare.quality.outliers import LEAST_CASES, robust_z

_NEARLY_ALL = 0.9
_Z = 5.0
_FACTOR = 3.0
_APART_MM = 10.0


def label_findings(examinations: Sequence[Examination], card: Card, cases: Sequence[Case]) -> list[Finding]:
    """Of masks; the cases tell which of them nobody annotated for a label."""
    unlabelled = {case.id: set(case.unlabelled) for case in cases}
    annotated = {case.id for case in cases if case.label is not None}
    read = [e for e in examinations if e.case in annotated and e.label_voxels]
    findings = _never_drawn(read, card, unlabelled) + _empty(read)
    for number, name in card.labels.items():
        drawn = [e for e in read if number not in unlabelled[e.case]]
        having = [(e, facts) for e in drawn if (facts := e.label_facts.get(number)) is not None]
        if not drawn:
            continue
        if not having:
            findings.append(
                Finding(
                    case="",
                    severity="warning",
                    what="a label is in no case",
                    value=f"{number} ({name}): 0 voxels in {len(drawn)} cases",
                    remedy="take it out of 'labels' in the card, or bring cases that have it: training stops there",
                )
            )
            continue
        findings += _absent(name, drawn, having)
        findings += _volumes(name, having)
        findings += _specks(name, having)
        findings += _borders(name, having)
    return findings + _sides(read, card)


def _never_drawn(read: Sequence[Examination], card: Card, unlabelled: dict[str, set[int]]) -> list[Finding]:
    kinds = Counter(tuple(sorted(unlabelled[e.case])) for e in read if unlabelled[e.case])
    return [
        Finding(
            case="",
            severity="note",
            what="labels that nobody drew in some cases",
            value=f"{', '.join(card.labels.get(number, str(number)) for number in numbers)} in {count} cases",
            remedy="nothing: there they are unknown, not absent; they are neither learnt nor measured",
        )
        for numbers, count in kinds.items()
    ]


def _empty(read: Sequence[Examination]) -> list[Finding]:
    """Masks without anything, where nearly all have something."""
    empty = [e for e in read if not any(e.label_voxels.values())]
    if not empty or len(read) < LEAST_CASES or len(empty) > (1 - _NEARLY_ALL) * len(read):
        return []
    return [
        Finding(
            case=e.case,
            severity="warning",
            what="the mask is empty, and nearly all cases have something",
            value=f"{len(read) - len(empty)} of {len(read)} have",
            remedy="look whether it was forgotten",
        )
        for e in empty
    ]


_Having = Sequence[tuple[Examination, LabelFacts]]


def _absent(name: str, drawn: Sequence[Examination], having: _Having) -> list[Finding]:
    there = {e.case for e, _ in having}
    drawn = [e for e in drawn if any(e.label_voxels.values())]  # an empty mask is a finding of its own
    absent = [e for e in drawn if e.case not in there]
    if len(drawn) < LEAST_CASES or len(there) < _NEARLY_ALL * len(drawn):
        return []
    return [
        Finding(
            case=e.case,
            severity="warning",
            what=f"label {name} is absent, and nearly all cases have it",
            value=f"{len(there)} of {len(drawn)} have it",
            remedy="look whether it was forgotten; where nobody drew it, say so with 'groups' in the card",
        )
        for e in absent
    ]


def _volumes(name: str, having: _Having) -> list[Finding]:
    if len(having) < LEAST_CASES:
        return []
    logs = np.log([facts.ml for _, facts in having])
    z, away = robust_z(logs, 0.05), logs - np.median(logs)
    return [
        Finding(
            case=having[place][0].case,
            severity="warning",
            what=f"the volume of {name} is unlike the other cases'",
            value=f"{having[place][1].ml:.3g} ml, median {np.exp(np.median(logs)):.3g} ml",
            remedy="look at it: a mask that was cut, doubled or drawn on another image looks like this",
            size=float(abs(away[place])),
            at_mm=having[place][1].centre_mm,
        )
        for place in np.flatnonzero((np.abs(z) > _Z) & (np.abs(away) > np.log(_FACTOR))).tolist()
    ]


def _specks(name: str, having: _Having) -> list[Finding]:
    """Specks beside a label that is mostly in one piece; lesions come in many."""
    single = sum(facts.parts == 1 for _, facts in having)
    if single < 0.5 * len(having):
        return []
    return [
        Finding(
            case=e.case,
            severity="note",
            what=f"label {name} has specks beside it",
            value=f"{facts.specks} components of at most 10 voxels, {facts.parts} in all",
            remedy="look at them: slips of the pen; evaluation counts them as lesions of their own",
            size=facts.specks,
            at_mm=facts.speck_mm,
        )
        for e, facts in having
        if facts.specks
    ]


def _borders(name: str, having: _Having) -> list[Finding]:
    """Labels that the image's border cuts, where it cuts few."""
    cut = [(e, facts) for e, facts in having if facts.border]
    if not cut:
        return []
    if len(cut) > 0.5 * len(having):
        return [
            Finding(
                case="",
                severity="note",
                what=f"label {name} reaches the border of the image in most cases",
                value=f"{len(cut)} of {len(having)}",
                remedy="nothing, if images were cropped so; its volume is that of the part which is seen",
            )
        ]
    return [
        Finding(
            case=e.case,
            severity="note",
            what=f"label {name} reaches the border of the image",
            value=f"at {', '.join(facts.border)}",
            remedy="look whether it is cut: its volume is then that of the part which is seen",
            size=len(facts.border),
            at_mm=facts.centre_mm,
        )
        for e, facts in cut
    ]


def _sides(read: Sequence[Examination], card: Card) -> list[Finding]:
    """Left and right swapped: in a patient, what is called right lies at larger RAS x."""
    findings = []
    for left, right in sided_pairs(card.labels):
        both = [
            (e, e.label_facts[left], e.label_facts[right])
            for e in read
            if left in e.label_facts and right in e.label_facts
        ]
        wrong = [one for one in both if one[1].centre_mm[0] - one[2].centre_mm[0] > _APART_MM]
        names = f"{card.labels[left]} and {card.labels[right]}"
        if card.dimension == 2 and len(wrong) > 0.5 * len(both):
            continue  # a picture does not say which way it was taken
        if len(wrong) > 0.5 * len(both) and len(both) >= 2:
            findings.append(
                Finding(
                    case="",
                    severity="error" if len(wrong) == len(both) >= 3 else "warning",
                    what=f"{names} lie on each other's side in most cases",
                    value=f"{len(wrong)} of {len(both)}",
                    remedy="the names are swapped, or the images are mirrored: compare one with its DICOM series",
                )
            )
            continue
        findings += [
            Finding(
                case=e.case,
                severity="warning",
                what=f"{names} lie on each other's side",
                value=f"by {one.centre_mm[0] - other.centre_mm[0]:.0f} mm"
                + (f", in {len(wrong)} of {len(both)} cases" if len(both) > 1 else ""),
                remedy="the labels are swapped, or the image is mirrored: compare it with its DICOM series",
                size=one.centre_mm[0] - other.centre_mm[0],
                at_mm=one.centre_mm,
            )
            for e, one, other in wrong
        ]
    return findings


def split_findings(cases: Sequence[Case]) -> list[Finding]:
    """Patients that stand in two of the dataset's own sets."""
    parts: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        if case.annotated:
            parts.setdefault(case.patient, {}).setdefault(case.split, []).append(case.id)
    return [
        Finding(
            case=next(iter(there.values()))[0],
            severity="error",
            what="the patient stands in two sets",
            value=f"{patient}: " + ", ".join(f"{names[0]} in {part}" for part, names in there.items()),
            remedy="take the patient's cases out of one of the two: what was learnt by heart is measured else",
            size=sum(map(len, there.values())),
        )
        for patient, there in parts.items()
        if len(there) > 1
    ]


def class_findings(card: Card, cases: Sequence[Case]) -> list[Finding]:
    """Classes without an image, or with next to none."""
    targets = [case.target for case in cases if case.target is not None and case.split == "train"]
    if card.task != "classification" or not targets:
        return []
    table = np.array(targets, dtype=np.int64).reshape(len(targets), -1)
    counts = {
        number: int(table[:, column].sum() if card.classes == "multi-label" else (table[:, 0] == number).sum())
        for column, number in enumerate(card.labels)
    }
    findings = []
    if empty := [card.labels[number] for number, count in counts.items() if not count]:
        findings.append(
            Finding(
                case="",
                severity="warning",
                what="a class has no image to train on",
                value=", ".join(empty),
                remedy="bring images of it, or take it out of 'labels' in the card: training stops there",
            )
        )
    least, most = min(counts.values()), max(counts.values())
    if least and most > 20 * least:
        rare = min(counts, key=lambda number: counts[number])
        findings.append(
            Finding(
                case="",
                severity="note",
                what="classes differ much in how many images they have",
                value=f"{card.labels[rare]} {least}, most {most}",
                remedy="read balanced accuracy and the figures per class, not accuracy",
            )
        )
    return findings
