"""When the tracer was injected, and for which instant the image's activity is stated.

All instants are seconds on the clock and calendar of the scanner; only differences ever leave this file's callers.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date

import numpy as np
from jaxtyping import Float64

from segue.dicom.errors import DicomError
from segue.dicom.suv_tags import GE, SIEMENS, PetTags

HALF_LIVES = 5  # a longer uptake is a wrong date: 9 h for F-18, 100 min for C-11
CROSS_CHECK_S = 60.0
_DAY_S = 86_400.0
_ROUNDING_S = 1.0  # many writers drop the fraction of a second of one of two equal times
# For longer-lived nuclides a clock time does not say the day: Zr-89 and I-124 are imaged days after the injection.
_DATED_HALF_LIFE_S = 86_400.0
_ONE_DAY_HALF_LIFE_S = 6 * 3600.0
_DECAY_TOLERANCE = 0.005
_DATE = re.compile(r"([0-9]{4})\.?([0-9]{2})\.?([0-9]{2})")
_CLOCK = re.compile(r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(\.[0-9]*)?)?)?")
_STAMP = re.compile(r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})([0-9]{2}[0-9.]*)?)?)?([+-][0-9]{4})?")


@dataclass(frozen=True)
class Stamp:
    """A date-time as far as it is known.

    Attributes:
        day: number of the day; None where only the clock is known.
        clock_s: since midnight; None where it is not known to the minute.
        zone_s: offset from UTC.
    """

    day: int | None = None
    clock_s: float | None = None
    zone_s: float | None = None

    @property
    def at_s(self) -> float | None:
        return None if self.day is None or self.clock_s is None else self.day * _DAY_S + self.clock_s

    def near(self, other_s: float) -> float | None:
        """This clock time on the day that brings it within twelve hours of another instant."""
        if self.clock_s is None:
            return None
        return self.clock_s + _DAY_S * round((other_s - self.clock_s) / _DAY_S)


@dataclass(frozen=True, eq=False)
class Candidate:
    """An instant that may be the one for which the image's activity is stated, of each slice.

    Attributes:
        usable: whether the series does not speak against it.
    """

    rule: str
    at_s: Float64[np.ndarray, " k"]
    usable: bool


@dataclass(frozen=True, eq=False)
class Acquisition:
    """When each slice was acquired; NaN where it is unknown.

    Attributes:
        begin_s: an instant.
        duration_s: Actual Frame Duration (0018,1242).
        reference_s: Frame Reference Time (0054,1300): from the reference time to the frame's average activity.
    """

    begin_s: Float64[np.ndarray, " k"]
    duration_s: Float64[np.ndarray, " k"]
    reference_s: Float64[np.ndarray, " k"]

    @property
    def earliest_s(self) -> float | None:
        return None if np.isnan(self.begin_s).all() else float(np.nanmin(self.begin_s))

    @property
    def complete(self) -> bool:
        return not np.isnan(self.begin_s).any()


def parse_date(value: str, keyword: str) -> int | None:
    """The number of the day of a DA value (PS3.5 6.2); None where it is empty.

    Raises:
        DicomError: ``DAMAGED``.
    """
    value = value.strip(" \0")
    if not value:
        return None
    found = _DATE.fullmatch(value)
    try:
        if found:
            return date(*map(int, found.groups())).toordinal()
    except ValueError:
        pass
    raise _unreadable(keyword)


def parse_clock(value: str, keyword: str) -> float | None:
    """Seconds since midnight of a TM value (PS3.5 6.2); None where it is empty or names only the hour.

    Raises:
        DicomError: ``DAMAGED``.
    """
    value = value.strip(" \0")
    if not value:
        return None
    found = _CLOCK.fullmatch(value)
    if not found:
        raise _unreadable(keyword)
    hours, minutes, seconds, fraction = found.groups()
    if int(hours) > 23 or int(minutes or 0) > 59 or int(seconds or 0) > 60:
        raise _unreadable(keyword)
    if minutes is None:
        return None
    return int(hours) * 3600.0 + int(minutes) * 60.0 + int(seconds or 0) + float(f"0{fraction or ''}")


def parse_stamp(value: str, keyword: str) -> Stamp:
    """A DT value (PS3.5 6.2) of any precision, with or without an offset from UTC.

    Raises:
        DicomError: ``DAMAGED``.
    """
    value = value.strip(" \0")
    if not value:
        return Stamp()
    found = _STAMP.fullmatch(value)
    if not found:
        raise _unreadable(keyword)
    year, month, day, clock, zone = found.groups()
    known = parse_date(f"{year}{month}{day}", keyword) if day else None
    return Stamp(known, parse_clock(clock or "", keyword), _zone(zone or "", keyword))


def read_acquisition(tags: PetTags) -> Acquisition:
    """Begin, duration and Frame Reference Time (0054,1300) of each slice.

    Raises:
        DicomError: ``DAMAGED``, ``MIXED_HEADERS``.
    """
    series = _series(tags)
    days, clocks = tags.each_text("AcquisitionDate"), tags.each_text("AcquisitionTime")
    whole = tags.each_text("AcquisitionDateTime")
    fallback = parse_date(tags.each_text("StudyDate")[0], "StudyDate")
    zone_s = _series_zone(tags)
    begin: list[float] = []
    for day, clock, other in zip(days, clocks, whole, strict=True):
        stamp = Stamp(parse_date(day, "AcquisitionDate"), parse_clock(clock, "AcquisitionTime"))
        if stamp.clock_s is None:
            stamp = _local(parse_stamp(other, "AcquisitionDateTime"), zone_s)
        at_s = stamp.at_s
        if at_s is None and stamp.clock_s is not None:
            # No date of its own: that of the series or the study, and the day after for what runs past midnight.
            known = [value for value in begin if not math.isnan(value)][:1]
            at_s = stamp.near(known[0] if known else _or_day(series, fallback, stamp.clock_s))
        begin.append(math.nan if at_s is None else at_s)
    milliseconds = [tags.each_number(keyword) / 1000 for keyword in ("ActualFrameDuration", "FrameReferenceTime")]
    return Acquisition(np.array(begin), milliseconds[0], milliseconds[1])


def candidates(tags: PetTags, acquired: Acquisition, half_life_s: float) -> list[Candidate]:
    """The instants to which the image may be decay-corrected where Decay Correction (0054,1102) is START.

    In the order in which they are to be believed:

    1. ``series``: Series Date and Time, if not later than the earliest acquisition of the whole series by more
       than a second: what is saved or processed again often gets a new Series Time.
    2. ``ge-scan-datetime``: GE (0009,100D). Its clock only: de-identification may miss or shift private dates.
    3. ``back-computed``, of each slice: t_acq + T_ave - Frame Reference Time, where T_ave = ln(λT/(1-exp(-λT)))/λ
       is when the decaying activity equals its average over the frame. Not usable where it lies after the slice's
       own acquisition: then Frame Reference Time follows another convention (CPS writes 0, GE the frame's start).
    4. ``earliest-acquisition``.

    ``siemens-decay-correction`` (0071,1022) is only told of: it repeats the Series Time.

    Sources: PS3.3 C.8.9.1; QIBA SUV pseudo-code 2018; IBSI draft manual of suv_computation 2026.
    """
    count = len(tags.headers)
    earliest_s = acquired.earliest_s
    found: list[Candidate] = []

    def add(rule: str, at_s: float | Float64[np.ndarray, " k"] | None, *, usable: bool = True) -> None:
        if at_s is not None:
            found.append(Candidate(rule, np.broadcast_to(np.asarray(at_s, dtype=np.float64), count).copy(), usable))

    if earliest_s is not None and not acquired.complete:
        tags.warn("some slices have no time of acquisition")
    _compare_decay_factor(tags, acquired, half_life_s)
    stamp = _series(tags)
    if stamp.clock_s is not None and earliest_s is not None:
        series_s = stamp.near(earliest_s) if stamp.at_s is None else stamp.at_s
        assert series_s is not None
        before = series_s <= earliest_s + _ROUNDING_S
        add("series", series_s, usable=before)
        if not before:
            tags.warn("the series time is later than the first acquisition: it was not used")
        elif earliest_s - series_s > _DAY_S / 2:
            tags.warn("contradictory dates: the series begins more than twelve hours before its first acquisition")
    add("ge-scan-datetime", _private_instant(tags, GE, 0x0D, "GE scan date-time", earliest_s))
    back_s = _back_computed(acquired, half_life_s)
    if back_s is not None:
        sound = bool((back_s <= acquired.begin_s + _ROUNDING_S).all())
        add("back-computed", back_s, usable=sound)
        if not sound:
            tags.warn("FrameReferenceTime is not the time of the average count rate: nothing is computed back from it")
    add("earliest-acquisition", earliest_s)
    siemens_s = _private_instant(tags, SIEMENS, 0x22, "Siemens decay-correction date-time", earliest_s)
    add("siemens-decay-correction", siemens_s, usable=False)
    return found


def choose_reference(tags: PetTags, found: list[Candidate]) -> Candidate:
    """The first usable candidate; what the others say against it becomes a warning.

    Raises:
        DicomError: ``NO_ACQUISITION_TIME``.
    """
    chosen = next((candidate for candidate in found if candidate.usable), None)
    if chosen is None:
        raise DicomError("no time of acquisition", reason="NO_ACQUISITION_TIME")
    for other in found:
        if other.rule not in ("ge-scan-datetime", "back-computed", "siemens-decay-correction") or other is chosen:
            continue
        differences = other.at_s - chosen.at_s
        worst = float(differences[np.abs(differences).argmax()])
        if abs(worst) > CROSS_CHECK_S:
            side = "later" if worst > 0 else "earlier"
            tags.warn(f"cross-check: {other.rule} lies up to {abs(worst):.0f} s {side} than {chosen.rule}")
    spread = float(np.ptp(chosen.at_s))
    if spread > CROSS_CHECK_S:
        tags.warn(f"the reference times of the slices differ by {spread:.0f} s")
    return chosen


def injected_at(tags: PetTags, reference_s: float, half_life_s: float) -> float:
    """When the tracer was given, on the clock of ``reference_s``, which is not before it.

    Radiopharmaceutical Start DateTime (0018,1078); else Start Time (0018,1072) on the day of the reference, or the
    day before where it would come after it (midnight); else GE (0009,103B). A date that gives a negative uptake, or
    one of more than five half-lives, is left aside (de-identification shifts them apart) and its clock time kept.

    Raises:
        DicomError: ``NO_INJECTION_TIME``, ``UPTAKE_TIME``, ``DAMAGED``, ``MIXED_HEADERS``.
    """
    stamp = _injection(tags)
    if stamp.clock_s is None:
        raise DicomError("no time of injection", reason="NO_INJECTION_TIME")
    longest_s = HALF_LIVES * half_life_s
    at_s = stamp.at_s
    if at_s is not None and -_ROUNDING_S <= reference_s - at_s <= longest_s:
        return min(at_s, reference_s)
    if half_life_s > _DATED_HALF_LIFE_S:
        if at_s is None:
            value = f"a clock time only, half-life {half_life_s / 3600:.0f} h"
            raise DicomError("no date of injection", value=value, reason="NO_INJECTION_TIME")
        raise _uptake(reference_s - at_s)
    if at_s is not None:
        tags.warn("contradictory dates: the date of the injection does not fit the scan; its clock time was kept")
    elif half_life_s > _ONE_DAY_HALF_LIFE_S:
        tags.warn("the injection has no date: it was taken to be less than a day before the scan")
    at_s = stamp.clock_s + _DAY_S * math.floor((reference_s + _ROUNDING_S - stamp.clock_s) / _DAY_S)
    if reference_s - at_s > longest_s:
        raise _uptake(reference_s - at_s)
    return min(at_s, reference_s)


def clock_difference_s(tags: PetTags, k: int) -> float:
    """Acquisition Time minus Radiopharmaceutical Start Time of one slice, dates left aside.

    Raises:
        DicomError: ``NO_INJECTION_TIME``, ``NO_ACQUISITION_TIME``, ``DAMAGED``.
    """
    start = parse_clock(tags.tracer_text("RadiopharmaceuticalStartTime"), "RadiopharmaceuticalStartTime")
    if start is None:
        raise DicomError("no RadiopharmaceuticalStartTime", reason="NO_INJECTION_TIME")
    begin = parse_clock(tags.each_text("AcquisitionTime")[k], "AcquisitionTime")
    if begin is None:
        raise DicomError("no AcquisitionTime", reason="NO_ACQUISITION_TIME")
    return begin - start


def begin_over_average(duration_s: Float64[np.ndarray, " k"], half_life_s: float) -> Float64[np.ndarray, " k"]:
    """Activity when a frame begins over its average during the frame: λT/(1-exp(-λT))."""
    x = math.log(2) / half_life_s * duration_s
    return x / -np.expm1(-x)


def _injection(tags: PetTags) -> Stamp:
    zone_s = _series_zone(tags)
    whole = parse_stamp(tags.tracer_text("RadiopharmaceuticalStartDateTime"), "RadiopharmaceuticalStartDateTime")
    clock = parse_clock(tags.tracer_text("RadiopharmaceuticalStartTime"), "RadiopharmaceuticalStartTime")
    if whole.clock_s is not None and whole.zone_s is not None and zone_s is None:
        if clock is None:
            tags.warn("the date-time of the injection names a time zone and the scan does not: taken to be the same")
        elif clock != whole.clock_s:  # it is in another zone; the time alone is on the clock of the scanner
            whole = Stamp(None, clock)
    if whole.clock_s is not None:
        whole = _local(whole, zone_s)
        if clock is not None and whole.clock_s is not None and abs(clock - whole.clock_s) > _ROUNDING_S:
            tags.warn("the two clock times of the injection differ: that with a date was used")
        return whole
    if clock is not None:
        return Stamp(whole.day, clock)
    value = _same_private(tags, GE, 0x3B, "GE injection date-time")
    stamp = _local(parse_stamp(value, "GE injection date-time"), zone_s)
    if stamp.clock_s is not None:
        tags.warn("the time of injection is that of GE's private tag")
    return stamp


def _series(tags: PetTags) -> Stamp:
    """Series Date (0008,0021) and Time (0008,0031)."""
    day = parse_date(tags.one_text("SeriesDate"), "SeriesDate")
    return Stamp(day, parse_clock(tags.one_text("SeriesTime"), "SeriesTime"))


def _or_day(series: Stamp, study: int | None, clock_s: float) -> float:
    """An instant near which a clock time without a date is to be looked for."""
    if series.at_s is not None:
        return series.at_s
    day = series.day if series.day is not None else study
    return (day or 0) * _DAY_S + clock_s


def _back_computed(acquired: Acquisition, half_life_s: float) -> Float64[np.ndarray, " k"] | None:
    duration_s, reference_s = acquired.duration_s, acquired.reference_s
    if not acquired.complete or np.isnan(duration_s + reference_s).any() or (duration_s <= 0).any():
        return None
    average_s = np.log(begin_over_average(duration_s, half_life_s)) * half_life_s / math.log(2)
    back_s = acquired.begin_s + average_s - reference_s
    return back_s if np.isfinite(back_s).all() else None


def _compare_decay_factor(tags: PetTags, acquired: Acquisition, half_life_s: float) -> None:
    """Decay Factor (0054,1321) should be that of the Frame Reference Time."""
    with np.errstate(all="ignore"):
        ratio = tags.each_number("DecayFactor") / np.exp2(acquired.reference_s / half_life_s)
    if (np.abs(ratio - 1) > _DECAY_TOLERANCE).any():  # NaN, where either is absent, is not
        tags.warn(
            "DecayFactor and FrameReferenceTime do not agree; neither was needed unless the rule is back-computed"
        )


def _private_instant(
    tags: PetTags, block: tuple[int, str, str], element: int, name: str, near_s: float | None
) -> float | None:
    value = _same_private(tags, block, element, name)
    stamp = _local(parse_stamp(value, name), _series_zone(tags))
    if near_s is None:
        return stamp.at_s
    at_s = stamp.near(near_s)
    if at_s is not None and stamp.at_s is not None and abs(stamp.at_s - at_s) > _ROUNDING_S:
        tags.warn(f"contradictory dates: {name} has another date than the scan; its clock time was kept")
    return at_s


def _same_private(tags: PetTags, block: tuple[int, str, str], element: int, name: str) -> str:
    values = set(tags.each_private(block, element, name))
    if len(values) > 1:
        tags.warn(f"{name} differs among the slices: it was not used")
        return ""
    return values.pop()


def _series_zone(tags: PetTags) -> float | None:
    return _zone(tags.one_text("TimezoneOffsetFromUTC"), "TimezoneOffsetFromUTC")


def _local(stamp: Stamp, zone_s: float | None) -> Stamp:
    """On the clock of the scanner, (0008,0201), where both say how far they are from UTC."""
    if stamp.zone_s is None or zone_s is None or stamp.clock_s is None:
        return stamp
    clock_s = stamp.clock_s + zone_s - stamp.zone_s
    days = math.floor(clock_s / _DAY_S)
    return Stamp(None if stamp.day is None else stamp.day + days, clock_s - days * _DAY_S, zone_s)


def _zone(value: str, keyword: str) -> float | None:
    value = value.strip(" \0")
    if not value:
        return None
    if not re.fullmatch(r"[+-][0-9]{4}", value) or int(value[1:3]) > 14 or int(value[3:]) > 59:
        raise _unreadable(keyword)
    return (-60.0 if value[0] == "-" else 60.0) * (int(value[1:3]) * 60 + int(value[3:]))


def _unreadable(keyword: str) -> DicomError:
    return DicomError(f"{keyword} is no date or time")  # without the value: it may be one


def _uptake(seconds: float) -> DicomError:
    value = f"{seconds / 60:.1f} minutes from injection to scan"
    return DicomError("the time of injection does not fit the scan", value=value, reason="UPTAKE_TIME")
