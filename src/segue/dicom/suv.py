"""Standardised uptake values of a PET series."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from segue.dicom.errors import DicomError
from segue.dicom.read import DicomVolume
from segue.dicom.suv_gate import require_decay, require_pet
from segue.dicom.suv_tags import PetTags, rounded, span
from segue.dicom.suv_time import (
    HALF_LIVES,
    Candidate,
    begin_over_average,
    candidates,
    choose_reference,
    clock_difference_s,
    injected_at,
    read_acquisition,
)
from segue.dicom.suv_units import SuvType, dose_bq, half_life_s, read_scale, size_of
from segue.volume import Volume

SuvMode = Literal["standard", "autopet-compat"]

_TYPED_IN_S = 3600.0
_SHORT_UPTAKE_S = 300.0
_TELLABLE = 1e6  # a ratio beyond it says only that the dates are years apart


@dataclass(frozen=True, eq=False)
class Suv:
    """A PET in SUV.

    Attributes:
        volume: float32 on the grid of the PET, unit ``"SUV"``: g/ml, for the type ``"bsa"`` cm2/ml.
        receipt: how it came about, in plain JSON types; no dates, no clock times, nothing that tells who it is.

            ``mode``, ``kind``, ``units``: what was asked for, and Units (0054,1001).
            ``rule``: which instant the activity was taken to be of (``"series"``, ``"ge-scan-datetime"``,
            ``"back-computed"``, ``"earliest-acquisition"``, ``"injection"`` for Decay Correction ADMIN,
            ``"acquisition-of-each-slice"`` for NONE, ``"autopet-compat"``), or that the image or the maker's factor
            are SUV already (``"as-stored"``, ``"philips-suv-factor"``).
            ``factor``: SUV over the image's value: one number, or ``min`` and ``max``.
            ``tags``: quantities and defined terms that were read.
            ``uptake_minutes``: from injection to the reference, or to the beginning of the scan where the
            reference is the injection or no time was needed; None where it is not known.
            ``reference_s_after_injection``: the earliest of the slices; None where no time was needed.
            ``alternatives``: every instant that could be the reference: ``rule``, ``s_after_injection``, and
            ``suv_ratio``, the SUV that it would give over the one that was made.
            ``warnings``: what is odd.
    """

    volume: Volume
    receipt: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Instant:
    """A possible reference and the factor that it gives."""

    rule: str
    after_s: float
    factor: Float64[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class _Made:
    factor: Float64[np.ndarray, " k"]
    rule: str
    units: str
    uptake_s: float | None = None
    reference_s: float | None = None
    alternatives: list[_Instant] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


def suv(pet: DicomVolume, *, mode: SuvMode = "standard", kind: SuvType = "bw") -> Suv:
    """SUV = C * size / D: activity concentration, size of the patient, dose at the instant of the concentration.

    ``"standard"`` follows the attributes of PS3.3 C.8.9 in the order that the QIBA pseudo-code (2018) and the
    reference objects of the IBSI (2026) call for: see :func:`segue.dicom.suv_time.candidates`. What is not said is
    not guessed.

    ``"autopet-compat"`` is the formula with which the images of the autoPET challenge were made
    (lab-midas/TCIA_processing), for models that were trained on them: the dose decays from Radiopharmaceutical
    Start Time to the Acquisition Time of one file, whatever Decay Correction says. The original takes the file that
    the file system lists first; here it is the one with the lowest Instance Number, whose name sorts first in a
    download from TCIA. Its receipt adds ``ratio_to_standard`` (None, and the reason as ``standard_refused``, where
    the standard refuses) and ``ratio_over_files``, what other files would have given.

    Args:
        pet: the slices of one series, real values and headers.
        kind: what the activity is normalised by: body weight, lean body mass (QIBA, James, Janmahasatian), ideal
            body weight, body surface.

    Raises:
        DicomError: with a ``reason`` out of :data:`segue.dicom.REMEDIES`.
    """
    tags = PetTags(pet.headers)
    array = pet.volume.array
    if len(array) > 1:
        value = f"{len(array)}, they differ in {pet.differ_in}"
        raise DicomError("a PET of several volumes has no one SUV", value=value, reason="SEVERAL_VOLUMES")
    if len(tags.headers) != array.shape[3]:
        raise DicomError("headers and slices differ in number", value=f"{len(tags.headers)} and {array.shape[3]}")
    require_pet(tags)
    with np.errstate(all="ignore"):  # what becomes of damaged numbers is looked at below
        made = _standard(tags, kind) if mode == "standard" else _as_autopet(tags, kind)
        if not (np.isfinite(made.factor) & (made.factor > 0)).all():
            raise DicomError("dose, weight and times give no factor")
        values = array.astype(np.float32, copy=False) * made.factor.astype(np.float32)
    if not np.isfinite(values).all():
        raise DicomError("the image has values that are not finite")
    return Suv(Volume(values, pet.volume.geometry, unit="SUV"), _receipt(tags, made, mode, kind))


def _standard(tags: PetTags, kind: SuvType) -> _Made:
    units = tags.one_text("Units")
    decay = require_decay(tags)
    scale = read_scale(tags, units)
    tags.used["Units"] = units
    if scale.source is not None:
        ratio = 1.0 if kind == scale.source else size_of(tags, kind) / size_of(tags, scale.source)
        return _Made(scale.factor * ratio, scale.rule, units, _told_uptake_s(tags))
    undecayed = scale.factor * size_of(tags, kind) / dose_bq(tags)
    if decay == "START":
        return _from_start(tags, units, undecayed)
    if decay == "ADMIN":
        return _from_injection(tags, units, undecayed)
    if decay == "NONE":
        return _uncorrected(tags, units, undecayed)
    raise DicomError("to which instant decay was corrected is not said", reason="DECAY_CORRECTION")


def _from_start(tags: PetTags, units: str, undecayed: Float64[np.ndarray, " k"]) -> _Made:
    half_life = half_life_s(tags)
    found = candidates(tags, read_acquisition(tags), half_life)
    chosen = choose_reference(tags, found)
    injected_s = injected_at(tags, float(chosen.at_s.min()), half_life)
    instants = _instants(found, injected_s, half_life, undecayed)
    after_s = chosen.at_s - injected_s
    _require_same_day(after_s, half_life)
    reference_s = float(after_s.min())
    factor = undecayed * _growth(after_s, half_life)
    return _Made(factor, chosen.rule, units, reference_s, reference_s, instants)


def _from_injection(tags: PetTags, units: str, undecayed: Float64[np.ndarray, " k"]) -> _Made:
    """Decay was corrected to the injection: no time is needed; what START would have given is told."""
    instants = [_Instant("injection", 0.0, undecayed)]
    try:
        half_life = half_life_s(tags)
        # What speaks against one reference time or another does not matter here.
        apart = PetTags(tags.headers)
        found = candidates(apart, read_acquisition(apart), half_life)
        reference_s = float(choose_reference(apart, found).at_s.min())
        injected_s = injected_at(tags, reference_s, half_life)
    except DicomError as error:
        tags.warn(f"the uptake time is not known: {error.reason}")
        return _Made(undecayed, "injection", units, None, 0.0, instants)
    instants += _instants(found, injected_s, half_life, undecayed)
    return _Made(undecayed, "injection", units, reference_s - injected_s, 0.0, instants)


def _uncorrected(tags: PetTags, units: str, undecayed: Float64[np.ndarray, " k"]) -> _Made:
    """No decay correction: within each slice's frame, and from its beginning back to the injection."""
    half_life = half_life_s(tags)
    acquired = read_acquisition(tags)
    if acquired.earliest_s is None or not acquired.complete:
        raise DicomError("a slice has no time of acquisition", reason="NO_ACQUISITION_TIME")
    if not (acquired.duration_s > 0).all():
        raise DicomError("a slice does not say how long it was acquired", reason="NO_FRAME_DURATION")
    injected_s = injected_at(tags, acquired.earliest_s, half_life)
    after_s = acquired.begin_s - injected_s
    _require_same_day(after_s, half_life)
    factor = undecayed * begin_over_average(acquired.duration_s, half_life) * _growth(after_s, half_life)
    first_s = float(after_s.min())
    instants = [_Instant("acquisition-of-each-slice", first_s, factor)]
    return _Made(factor, "acquisition-of-each-slice", units, first_s, first_s, instants)


def _as_autopet(tags: PetTags, kind: SuvType) -> _Made:
    units = tags.one_text("Units")
    decay = require_decay(tags)
    if units != "BQML":
        scale = read_scale(tags, units)
        raise DicomError("autopet-compat is for images in Bq/ml", value=scale.rule, reason="UNITS")
    tags.used["Units"] = units
    if decay != "START":
        tags.warn("DecayCorrection is not START: autopet-compat takes no notice")
    half_life = half_life_s(tags)
    undecayed = np.full(len(tags.headers), size_of(tags, kind) / dose_bq(tags))
    number = np.nan_to_num(tags.each_number("InstanceNumber"), nan=np.inf)
    tags.used.pop("InstanceNumber", None)
    after_s = clock_difference_s(tags, int(number.argmin()))
    _require_same_day(np.array([after_s]), half_life)
    factor = undecayed * _growth(np.array([after_s]), half_life)
    more: dict[str, Any] = {"ratio_to_standard": None}
    alternatives: list[_Instant] = []
    try:
        others = np.array([clock_difference_s(tags, k) for k in range(len(tags.headers))])
        more["ratio_over_files"] = span(_growth(others - after_s, half_life))
    except DicomError:
        tags.warn("not every file has an AcquisitionTime")
    try:
        standard = _standard(PetTags(tags.headers), kind)
        more["ratio_to_standard"] = span(factor / standard.factor)
        alternatives = standard.alternatives
    except DicomError as error:
        more["standard_refused"] = error.reason
    return _Made(factor, "autopet-compat", units, after_s, after_s, alternatives, more)


def _told_uptake_s(tags: PetTags) -> float | None:
    """From injection to scan where no SUV hangs on it."""
    try:
        acquired = read_acquisition(tags)
        if acquired.earliest_s is None:
            raise DicomError("no time of acquisition", reason="NO_ACQUISITION_TIME")
        return acquired.earliest_s - injected_at(tags, acquired.earliest_s, half_life_s(tags))
    except DicomError as error:
        tags.warn(f"the uptake time is not known: {error.reason}")
        return None


def _instants(
    found: list[Candidate], injected_s: float, half_life: float, undecayed: Float64[np.ndarray, " k"]
) -> list[_Instant]:
    after = [(one.rule, one.at_s - injected_s) for one in found]
    return [_Instant(rule, float(at_s.min()), undecayed * _growth(at_s, half_life)) for rule, at_s in after]


def _growth(after_s: Float64[np.ndarray, " k"], half_life: float) -> Float64[np.ndarray, " k"]:
    """By how much a dose decays in this time: 2^(t/half-life)."""
    return np.exp2(after_s / half_life)


def _require_same_day(after_s: Float64[np.ndarray, " k"], half_life: float) -> None:
    """Raise ``UPTAKE_TIME`` where a slice lies before the injection, or many half-lives after it."""
    if after_s.min() < 0 or after_s.max() > HALF_LIVES * half_life:
        value = f"{after_s.min() / 60:.1f} to {after_s.max() / 60:.1f} minutes from injection to scan"
        raise DicomError("the time of injection does not fit the scan", value=value, reason="UPTAKE_TIME")


def _receipt(tags: PetTags, made: _Made, mode: SuvMode, kind: SuvType) -> dict[str, Any]:
    uptake_s = made.uptake_s
    if uptake_s is not None and abs(uptake_s - _TYPED_IN_S) < 0.5:
        tags.warn("an uptake of exactly 60.0 minutes: the time may be typed in from a protocol")
    if uptake_s is not None and uptake_s < _SHORT_UPTAKE_S:
        tags.warn(f"an uptake of {uptake_s:.0f} s")
    return {
        "mode": mode,
        "kind": kind,
        "rule": made.rule,
        "units": made.units,
        "factor": span(made.factor),
        "tags": dict(sorted(tags.used.items())),
        "uptake_minutes": None if uptake_s is None else rounded(uptake_s / 60),
        "reference_s_after_injection": None if made.reference_s is None else rounded(made.reference_s),
        "alternatives": [
            {
                "rule": one.rule,
                "s_after_injection": rounded(one.after_s),
                "suv_ratio": _ratio(one.factor / made.factor),
            }
            for one in made.alternatives
        ],
        **made.more,
        "warnings": tags.warnings,
    }


def _ratio(ratios: Float64[np.ndarray, " k"]) -> float | dict[str, float] | None:
    good = np.isfinite(ratios).all() and ratios.min() > 1 / _TELLABLE and ratios.max() < _TELLABLE
    return span(ratios) if good else None
