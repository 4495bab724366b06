"""Numbers and lists as a reader wants them."""

from __future__ import annotations

from collections.abc import Sequence

from segue.view.facts import Mean

DASH = "–"


def dice(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def ml(value: float | None) -> str:
    """Millilitres with about three digits: ``0``, ``<0.01``, ``1.78``, ``23.4``, ``1480``."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if value < 0.005:
        return "<0.01"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def volume(value_ml: float | None, pixel_ml: float | None) -> str:
    """As :func:`ml`, or as the number of pixels that it is: ``0``, ``0.3``, ``3``, ``12871``."""
    if value_ml is None or pixel_ml is None:
        return ml(value_ml)
    pixels = value_ml / pixel_ml
    if 0 < pixels < 0.05:
        return "<0.1"
    return f"{round(pixels, 1):g}" if pixels < 10 else f"{pixels:.0f}"


def unit(pixel_ml: float | None) -> str:
    """The unit of :func:`volume`."""
    return "ml" if pixel_ml is None else "pixels"


def percent(value: float | None) -> str:
    """``84.6 %``; a dash where there is none."""
    return DASH if value is None else f"{100 * value:.1f} %"


def interval(mean: Mean) -> str:
    """``0.866 to 0.889``, a dash where there is none."""
    return DASH if mean.ci95 is None else f"{dice(mean.ci95[0])} to {dice(mean.ci95[1])}"


def count(number: int, thing: str, several: str | None = None) -> str:
    """``1 patient``, ``5 patients``."""
    return f"{number} {thing if number == 1 else several or thing + 's'}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """``a, b and c``; beyond ``most``, how many more."""
    if len(names) > most:
        return ", ".join(names[:most]) + f" and {len(names) - most} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def sentence(text: str) -> str:
    """First letter large, one full stop at the end."""
    text = text.strip()
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else ""
