"""Which cases differ from the others of their dataset: grids and intensities.

An outlier is far from the median in units of the median distance (robust z, Iglewicz and Hoaglin 1993: 0.6745 times
the distance over the median absolute deviation) and by a factor that matters by itself: where all but a few cases are
equal, the deviation is next to nothing and alone would make outliers of trifles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from segue.catalogue import Card
from segue.prepare.examine import ChannelStatistics, Examination
from segue.prepare.quality.finding import Finding
from segue.prepare.quality.intensities import LEVELS
from segue.prepare.quality.likeness import inverted, told_inverted

LEAST_CASES = 8  # fewer say little of what is usual
_Z = 6.0
_FACTOR = 2.0
_USUAL = 0.8
_SCALE = 20.0
_SHAPE_DISTANCE = 0.15
_GROUP = 0.1  # more than this part of a dataset are no outliers but a kind of their own


def robust_z(values: Float64[np.ndarray, " n"], floor: float = 1e-9) -> Float64[np.ndarray, " n"]:
    """How many deviations each value is from the median; ``floor``: the least median deviation."""
    middle = np.median(values)
    return 0.6745 * (values - middle) / max(float(np.median(np.abs(values - middle))), floor)


def grid_outliers(examinations: Sequence[Examination], card: Card) -> list[Finding]:
    """Orientation, spacing and extent unlike the others'."""
    known = [e for e in examinations if e.shape and e.spacing_mm and e.axis_codes]
    if len(known) < LEAST_CASES:
        return []
    findings = _orientations(known)
    if card.dimension == 2:
        return findings
    spacing = np.log([e.spacing_mm or () for e in known])
    extent = np.log([np.multiply(e.shape or (), e.spacing_mm or ()) for e in known])
    flat = np.array([min(e.shape or (0,)) == 1 for e in known])
    for e, one in zip(known, flat, strict=True):
        if one and flat.mean() < 1 - _USUAL:
            findings.append(
                Finding(
                    case=e.case,
                    severity="warning",
                    what="a single slice among volumes",
                    value=_times(e.shape or ()),
                    remedy="bring the whole volume, or leave the case out",
                )
            )
    for table, what, remedy in (
        (spacing, "spacing unlike the other cases'", "look at the header: a lost or swapped spacing looks like this"),
        (extent, "field of view unlike the other cases'", "look at it: a cropped or a wrong image looks like this"),
    ):
        z = np.stack([robust_z(column, 0.05) for column in table.T], axis=1)
        away = np.abs(table - np.median(table, axis=0))
        for place in np.flatnonzero(((np.abs(z) > _Z) & (away > np.log(_FACTOR))).any(axis=1)).tolist():
            if flat[place]:
                continue
            axis = int(np.abs(z[place]).argmax())
            findings.append(
                Finding(
                    case=known[place].case,
                    severity="warning",
                    what=what,
                    value=f"{_times(np.exp(table[place]))} mm, median {_times(np.exp(np.median(table, axis=0)))}",
                    remedy=remedy,
                    size=float(away[place, axis]),
                )
            )
    return findings


def _times(values: Sequence[float] | np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _orientations(known: Sequence[Examination]) -> list[Finding]:
    counts = Counter(e.axis_codes for e in known)
    usual, most = counts.most_common(1)[0]
    if len(counts) == 1:
        return []
    if most < _USUAL * len(known):
        return [
            Finding(
                case="",
                severity="note",
                what="images are stored in several orientations",
                value=", ".join(f"{count} {codes}" for codes, count in counts.most_common()),
                remedy="nothing: segue turns them all the same way; other programs may not",
            )
        ]
    return [
        Finding(
            case=e.case,
            severity="note",
            what=f"stored in another orientation than most ({usual})",
            value=f"{e.axis_codes}, while {most} of {len(known)} are {usual}",
            remedy="nothing, if the header is right (look at it once): segue turns them all the same way",
        )
        for e in known
        if e.axis_codes != usual
    ]


def intensity_findings(examinations: Sequence[Examination], card: Card) -> list[Finding]:
    """Per channel: distributions unlike the others', scales that differ, clipping, stored types."""
    findings, unlike = _stored(examinations), list[Finding]()
    for number, channel in enumerate(card.channels):
        having = [
            (e.case, there)
            for e in examinations
            if number < len(e.channels)
            and (there := e.channels[number]) is not None
            and len(there.levels) == len(LEVELS)
        ]
        having = [(case, there) for case, there in having if there.high > there.low]
        if not having:
            continue
        findings += _clipped(channel.name, having, card)
        if channel.unit == "arbitrary":
            findings += _scales(channel.name, having)
            findings += _looks_like_hu(channel.name, having)
        if len(having) >= LEAST_CASES:
            known = {e.case for e in examinations for f in e.findings if f.what == told_inverted(channel.name)}
            unlike += inverted(channel.name, [(case, one.thumbnail) for case, one in having if case not in known])
            unlike += _unlike(channel.name, having, absolute=channel.unit != "arbitrary")
    if card.dimension == 2:  # red, green and blue tell the same
        unlike = list({finding.case: finding for finding in reversed(unlike)}.values())
    return findings + unlike


_Having = Sequence[tuple[str, ChannelStatistics]]


def _stored(examinations: Sequence[Examination]) -> list[Finding]:
    findings = []
    images = Counter(e.stored[0] for e in examinations if e.stored[0])
    if len(images) > 1:
        findings.append(
            Finding(
                case="",
                severity="note",
                what="images are stored in several types",
                value=", ".join(f"{count} {kind}" for kind, count in images.most_common()),
                remedy="nothing: all are read as they are meant; sets put together from several look like this",
            )
        )
    findings += [
        Finding(
            case=e.case,
            severity="note",
            what="the mask is stored in floating point",
            value=e.stored[1],
            remedy="nothing: its values are whole numbers; segue check --fix OUT stores them as such",
        )
        for e in examinations
        if e.stored[1].startswith("float")
    ]
    return findings


def _clipped(name: str, having: _Having, card: Card) -> list[Finding]:
    """Many voxels at the greatest value: clipped, or saturated. Photographs have white grounds."""
    bound = 0.5 if card.dimension == 2 else 0.02
    clipped = [(case, there) for case, there in having if there.at_high > bound]
    if not clipped:
        return []
    if len(clipped) > 0.5 * len(having) and len(having) >= 3:
        heights = {there.high for _, there in clipped}
        return [
            Finding(
                case="",
                severity="note",
                what=f"channel {name} was clipped: many voxels have an image's greatest value",
                value=f"{len(clipped)} of {len(having)} cases"
                + (f", at {next(iter(heights)):.4g}" if len(heights) == 1 else ""),
                remedy="nothing, if it was meant; what is brighter cannot be told apart any more",
                size=max(there.at_high for _, there in clipped),
            )
        ]
    return [
        Finding(
            case=case,
            severity="warning" if card.dimension == 3 else "note",
            what=f"channel {name} is saturated",
            value=f"{there.at_high:.0%} of the voxels have the greatest value, {there.high:.4g}",
            remedy="look at it: an overflow, or a window that was too narrow",
            size=there.at_high,
        )
        for case, there in clipped
    ]


def _scales(name: str, having: _Having) -> list[Finding]:
    tops = [(there.levels[LEVELS.index(99.0)], case) for case, there in having]
    positive = sorted((top, case) for top, case in tops if top > 0)
    if len(positive) < 2 or positive[-1][0] < _SCALE * positive[0][0]:
        return []
    (least, one), (most, other) = positive[0], positive[-1]
    return [
        Finding(
            case="",
            severity="note",
            what=f"the intensity scale of channel {name} differs between cases",
            value=f"99th percentile from {least:.4g} ({one}) to {most:.4g} ({other})",
            remedy="nothing: values in arbitrary units are normalised image by image",
            size=most / least,
        )
    ]


def _looks_like_hu(name: str, having: _Having) -> list[Finding]:
    alike = [case for case, there in having if -3100 <= there.low <= -900 and 100 < there.high < 33_000
             and -1100 < there.levels[LEVELS.index(5.0)] < 300]  # fmt: skip
    if len(alike) < 0.9 * len(having):
        return []
    return [
        Finding(
            case="",
            severity="note",
            what=f"the values of channel {name} are those of CT in HU, the card says arbitrary",
            value=f"{len(alike)} of {len(having)} cases",
            remedy="declare the channel's unit HU in the card: values then mean the same in every image",
        )
    ]


def _unlike(name: str, having: _Having, absolute: bool) -> list[Finding]:
    """Distributions far from the median distribution; of arbitrary units each between its own percentiles."""
    tables = np.array([there.levels for _, there in having])
    low, high = LEVELS.index(1.0), LEVELS.index(99.0)
    inner = tables[:, low : high + 1]
    if not absolute:
        width = inner[:, -1:] - inner[:, :1]
        inner = (inner - inner[:, :1]) / np.where(width > 0, width, 1)
    usual = np.median(inner, axis=0)
    distance = np.abs(inner - usual).mean(axis=1)
    least = _SHAPE_DISTANCE * (float(usual[-1] - usual[0]) or 1.0)
    places = np.flatnonzero((robust_z(distance) > _Z) & (distance > least)).tolist()
    if len(places) > _GROUP * len(having):
        farthest = sorted(places, key=lambda place: -distance[place])[:3]
        return [
            Finding(
                case="",
                severity="note",
                what=f"images are of several kinds by the intensities of channel {name}",
                value=f"{len(places)} of {len(having)} unlike the others, such as "
                + ", ".join(having[place][0] for place in farthest),
                remedy="nothing, if it was meant; see that every fold and set has each kind",
                size=len(places),
            )
        ]
    return [
        Finding(
            case=having[place][0],
            severity="warning",
            what=f"intensities of channel {name} are distributed unlike the other cases'",
            value=f"5 %, 50 %, 95 % at {_three(tables[place])}; median of all {_three(np.median(tables, axis=0))}",
            remedy="look at it: another sequence, contrast, inverted or wrongly scaled values look like this",
            size=float(distance[place]),
        )
        for place in places
    ]


def _three(levels: np.ndarray) -> str:
    return ", ".join(f"{levels[LEVELS.index(level)]:.4g}" for level in (5.0, 50.0, 95.0))
