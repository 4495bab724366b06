"""Which series of a study is the PET, and which the CT that belongs to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from segue.dicom import DicomError, Series
from segue.volume import Geometry

_PROJECTIONS = {"MIP", "PROJECTION IMAGE", "PROJECTION", "MAX_IP", "MINIP", "SCREEN SAVE", "REFORMATTED"}
_NOT_SLICES = {"LOCALIZER", "SCREEN SAVE"}
_NO_SLICES = {
    "SEG",
    "RTSTRUCT",
    "RTPLAN",
    "RTDOSE",
    "REG",
    "SR",
    "KO",
    "PR",
    "OT",
    "SC",
    "SM",
    "ANN",
    "DOC",
}  # modalities
# Coverages of the PET by two CTs that differ by less are a tie: the border slices of one scan.
_TIE = 0.01


def studies(found: Sequence[Series]) -> list[list[Series]]:
    """Series by patient and study."""
    groups: dict[tuple[str, str], list[Series]] = defaultdict(list)
    for series in found:
        groups[series.patient_id, series.study_uid].append(series)
    return [groups[key] for key in sorted(groups)]


def is_volume(series: Series) -> bool:
    """Whether it is a series of slices rather than a scout, a screen save, a report or a set of masks."""
    kinds = {kind.strip().upper() for kind in series.image_type}
    return series.frames > 0 and series.modality not in _NO_SLICES and not kinds & _NOT_SLICES


def choose_pet(study: Sequence[Series], named: Collection[str] = ()) -> Series | None:
    """The attenuation-corrected PET of slices; None where the study has no PET of slices at all.

    Args:
        named: Series Instance UIDs that the user has decided for.

    Raises:
        DicomError: ``NOT_ATTENUATION_CORRECTED``, ``ENHANCED_PET``, or ``AMBIGUOUS_SERIES`` with the candidates.
    """
    slices = [series for series in study if series.modality == "PT" and is_volume(series)]
    slices = [series for series in slices if not _PROJECTIONS & {kind.strip().upper() for kind in series.image_type}]
    decided = [series for series in slices if series.uid in named]
    if len(decided) == 1:
        return decided[0]
    corrected = [series for series in decided or slices if "ATTN" in series.corrected]
    if slices and not corrected and any(series.frames > len(series.files) for series in slices):
        raise DicomError("an enhanced PET image", value="its tags are in functional groups", reason="ENHANCED_PET")
    if slices and not corrected:
        raise DicomError(
            "no PET of this study is corrected for attenuation",
            value=f"{len(slices)} PET series, CorrectedImage {', '.join(slices[0].corrected) or 'empty'}",
            reason="NOT_ATTENUATION_CORRECTED",
        )
    if len(corrected) > 1:
        raise _ambiguous("PET", corrected)
    return corrected[0] if corrected else None


def choose_ct(
    study: Sequence[Series], pet: Series, grids: Mapping[str, Geometry], named: Collection[str] = ()
) -> Series | None:
    """The CT in the frame of reference of the PET that covers most of it; None where there is none.

    Args:
        grids: where the series lie that could be read, by UID, the PET among them.

    Raises:
        DicomError: ``AMBIGUOUS_SERIES``: two cover the same part of it.
    """
    scans = [series for series in study if series.modality == "CT" and series.uid in grids]
    decided = [series for series in scans if series.uid in named]
    if len(decided) == 1:
        return decided[0]
    near = [
        series
        for series in decided or scans
        if series.frame_of_reference and series.frame_of_reference == pet.frame_of_reference
    ]
    parts = {series.uid: grids[series.uid].coverage_of(grids[pet.uid]) for series in near}
    near = [series for series in near if parts[series.uid] > 0]
    if not near:
        return None
    most = max(parts.values())
    best = [series for series in near if parts[series.uid] >= most - _TIE]
    if len(best) > 1:
        raise _ambiguous("CT", best)
    return best[0]


def _ambiguous(what: str, candidates: Sequence[Series]) -> DicomError:
    listed = "; ".join(
        f"series {series.number or '?'} of {series.frames} slices: --series {series.uid}" for series in candidates
    )
    return DicomError(
        f"{len(candidates)} series could be the {what} of this study", value=listed, reason="AMBIGUOUS_SERIES"
    )
