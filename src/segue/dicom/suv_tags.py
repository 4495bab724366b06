"""What an SUV needs of the headers of a PET series: read once, remembered for the receipt, refused where damaged.

Nothing that says who or when is remembered: of texts only defined terms, of numbers only quantities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from segue.dicom.errors import DicomError
from segue.dicom.files import numbers, text

PHILIPS = (0x7053, "Philips PET Private Group", "PHILIPS")
GE = (0x0009, "GEMS_PETD_01", "GE ")
SIEMENS = (0x0071, "SIEMENS MED PT", "SIEMENS")


class PetTags:
    """The headers of one PET series, one per slice.

    Attributes:
        used: quantities and defined terms that were asked for, by keyword; a range where slices differ.
        warnings: what is odd but does not prevent an SUV.
    """

    def __init__(self, headers: Sequence[Any]) -> None:
        if not headers:
            raise DicomError("no headers", reason="NO_FILES")
        self.headers = list(headers)
        self.used: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._tracers: list[Any] | None = None

    def warn(self, what: str) -> None:
        if what not in self.warnings:
            self.warnings.append(what)

    def each_number(self, keyword: str) -> Float64[np.ndarray, " k"]:
        """A quantity of each slice; NaN where it is absent.

        Raises:
            DicomError: ``DAMAGED``.
        """
        return self._remembered(keyword, [_number(header, keyword, k) for k, header in enumerate(self.headers)])

    def one_number(self, keyword: str) -> float | None:
        """A quantity that is one for the series; None where it is absent.

        Raises:
            DicomError: ``DAMAGED``, ``MIXED_HEADERS``.
        """
        values = self.each_number(keyword)
        return None if np.isnan(_same(values.tolist(), keyword)) else float(values[0])

    def tracer_number(self, keyword: str) -> float | None:
        """As :meth:`one_number`, of the Radiopharmaceutical Information Sequence (0054,0016)."""
        values = self._remembered(keyword, [_number(item, keyword, k) for k, item in enumerate(self.tracers)])
        return None if np.isnan(_same(values.tolist(), keyword)) else float(values[0])

    def one_text(self, keyword: str) -> str:
        """A text that is one for the series, empty where absent; not remembered.

        Raises:
            DicomError: ``MIXED_HEADERS``.
        """
        return _same(self.each_text(keyword), keyword)

    def tracer_text(self, keyword: str) -> str:
        """As :meth:`one_text`, of the Radiopharmaceutical Information Sequence (0054,0016)."""
        return _same([text(item, keyword).strip() for item in self.tracers], keyword)

    def each_text(self, keyword: str) -> list[str]:
        return [text(header, keyword).strip() for header in self.headers]

    @property
    def tracers(self) -> list[Any]:
        """The item of the Radiopharmaceutical Information Sequence of each slice; an empty one where there is none.

        Raises:
            DicomError: ``DAMAGED``, ``SEVERAL_TRACERS``.
        """
        if self._tracers is None:
            self._tracers = [_item(header, k) for k, header in enumerate(self.headers)]
        return self._tracers

    def nuclide_codes(self) -> set[str]:
        """Code values of the Radionuclide Code Sequence (0054,0300); empty where it is absent or damaged."""
        codes = set()
        for item in self.tracers:
            try:
                inner = item.get("RadionuclideCodeSequence") or []
                codes |= {text(code, "CodeValue").strip() for code in inner}
            except Exception:
                # Parsed when it is asked for, with whatever pydicom raises; it only stands in for the half-life.
                return set()
        return codes - {""}

    def each_private(self, block: tuple[int, str, str], element: int, name: str) -> list[str]:
        """A private value of each slice as text, empty where absent; not remembered.

        Args:
            block: group, its private creator, and how its manufacturer's name begins.
            element: the last two digits: 0x0D for (0009,100D).
            name: for the warning.

        A block without any creator (PS3.5 7.8.1 forbids it) is read only in files of its own manufacturer. A block
        of another creator never is: the same number means something else there.
        """
        found = [_private(header, block, element) for header in self.headers]
        if any(value and not named for value, named in found):
            self.warn(f"{name} has no private creator; it was read as the manufacturer says")
        return [value for value, _ in found]

    def private_numbers(self, block: tuple[int, str, str], element: int, name: str) -> Float64[np.ndarray, " k"]:
        """As :meth:`each_private`, numbers; NaN where absent.

        Raises:
            DicomError: ``DAMAGED``.
        """
        values = self.each_private(block, element, name)
        found = [_number({name: value}, name, k) for k, value in enumerate(values)]
        return np.full(len(found), np.nan) if np.isnan(found).all() else self._remembered(name, found)

    def _remembered(self, keyword: str, values: list[float]) -> Float64[np.ndarray, " k"]:
        array = np.array(values, dtype=np.float64)
        if not np.isnan(array).all():
            self.used[keyword] = span(array[~np.isnan(array)])
        return array


def rounded(value: float) -> float:
    """To seven digits: more would be noise, and a long tail of digits can look like a date."""
    return float(f"{value:.7g}")


def span(values: Float64[np.ndarray, " k"]) -> float | dict[str, float]:
    """One number where all are equal to seven digits, else the least and the greatest."""
    least, most = rounded(float(np.min(values))), rounded(float(np.max(values)))
    return least if least == most else {"min": least, "max": most}


def _same(values: list[Any], keyword: str) -> Any:
    distinct = set(map(str, values))
    if len(distinct) > 1:
        raise DicomError(
            f"the slices differ in {keyword}", value=f"{len(distinct)} values", reason="MIXED_HEADERS"
        )  # the values themselves may tell whose they are
    return values[0]


def _number(holder: Any, keyword: str, k: int) -> float:
    found = numbers(holder, keyword, Path(f"slice {k + 1}"))
    return float("nan") if found is None else float(found[0])


def _item(header: Any, k: int) -> Any:
    try:
        items = list(header.get("RadiopharmaceuticalInformationSequence") or [])
        readable: list[Callable[..., Any]] = [item.get for item in items]
    except Exception as error:
        # A sequence is parsed when it is asked for, with whatever pydicom raises on a damaged one.
        raise DicomError("RadiopharmaceuticalInformationSequence cannot be read", where=f"slice {k + 1}") from error
    if len(readable) > 1:
        raise DicomError(
            "several radiopharmaceuticals", where=f"slice {k + 1}", value=len(items), reason="SEVERAL_TRACERS"
        )
    return items[0] if items else {}


def _private(header: Any, block: tuple[int, str, str], element: int) -> tuple[str, bool]:
    """The value, and whether the block has the right creator."""
    group, creator, maker = block
    try:
        owners = {n: str(header[group, n].value).strip() for n in _creators(header, group)}
        mine = [n for n, owner in owners.items() if owner == creator]
        unowned = 0x10 not in owners and text(header, "Manufacturer").strip().upper().startswith(maker)
        for n in mine or ([0x10] if unowned else []):
            if (group, n << 8 | element) in header:
                value = header[group, n << 8 | element].value
                value = value.decode("ascii") if isinstance(value, bytes) else str(value if value is not None else "")
                return value.strip(" \0"), bool(mine)
    except Exception:
        # Damaged private values, whatever pydicom raises on them, are as good as none: another rule follows.
        return "", True
    return "", True


def _creators(header: Any, group: int) -> list[int]:
    return [tag & 0xFFFF for tag in map(int, header.keys()) if tag >> 16 == group and 0x10 <= tag & 0xFFFF <= 0xFF]
