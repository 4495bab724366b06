"""What a sidecar says of an acquisition: a list of harmless tags, never what is not on it.

Names, numbers of patients, dates, times, UIDs, institutions, persons, devices' serial numbers and free text
(descriptions, comments) are not on the list (PS3.15 E: the Basic Application Level Confidentiality Profile).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.dicom import tag_text

_ALL = (
    *("Modality", "ImageType", "Manufacturer", "ManufacturerModelName", "BodyPartExamined", "PatientPosition"),
    *("SliceThickness", "SpacingBetweenSlices", "PixelSpacing", "Rows", "Columns", "BitsStored", "RescaleType"),
    "LossyImageCompression",
)
_OF = {
    "CT": (
        *("KVP", "ConvolutionKernel", "ReconstructionDiameter", "ExposureTime", "XRayTubeCurrent", "Exposure"),
        *("FilterType", "SpiralPitchFactor", "GantryDetectorTilt", "DataCollectionDiameter", "FocalSpots"),
    ),
    "PT": (
        *("Units", "CorrectedImage", "DecayCorrection", "AttenuationCorrectionMethod", "ScatterCorrectionMethod"),
        *("RandomsCorrectionMethod", "ReconstructionMethod", "ConvolutionKernel", "ActualFrameDuration"),
        *("SeriesType", "CountsSource", "CollimatorType", "NumberOfSlices", "SUVType"),
    ),
    "MR": (
        *("MagneticFieldStrength", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType"),
        *("RepetitionTime", "EchoTime", "InversionTime", "FlipAngle", "EchoTrainLength", "NumberOfAverages"),
        *("PixelBandwidth", "InPlanePhaseEncodingDirection", "PercentPhaseFieldOfView", "ImagingFrequency"),
    ),
}
_MOST_LISTED = 5


def acquisition(headers: Sequence[Any]) -> dict[str, Any]:
    """The harmless tags of a series: one value where all slices agree, else the range or the distinct ones."""
    modality = tag_text(headers[0], "Modality")
    found = {}
    for keyword in (*_ALL, *_OF.get(modality, ())):
        values = list(dict.fromkeys(value for header in headers if (value := tag_text(header, keyword))))
        if values:
            found[keyword] = _number_or_text(values[0]) if len(values) == 1 else _several(values)
    return found


def _several(values: list[str]) -> Any:
    numbers = [_number_or_text(value) for value in values]
    if all(isinstance(number, int | float) for number in numbers):
        return {"min": min(numbers), "max": max(numbers), "distinct": len(numbers)}
    return values[:_MOST_LISTED]


def _number_or_text(value: str) -> Any:
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return [_number_or_text(part) for part in value.split("\\")] if "\\" in value else value
