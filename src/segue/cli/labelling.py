"""Labels and regions as they are written on the command line."""

from __future__ import annotations

from segue.core.errors import UsageError


def label_names(text: str | None) -> dict[int, str] | None:
    """``1=liver,2=tumour`` as numbers and names; a number alone is its own name.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None
    names = {}
    for part in text.split(","):
        number, separator, name = part.partition("=")
        if not number.strip().isdigit() or (separator and not name.strip()):
            raise UsageError(
                "labels are numbers, with a name if you like",
                where=f"--labels {text}",
                remedy="1=liver,2=tumour",
            )
        names[int(number)] = name.strip() or number.strip()
    return names


def region_members(text: str | None) -> dict[str, tuple[int, ...]] | None:
    """``WT=1+2+3,TC=1+3`` as names and the labels that each unites.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None
    regions = {}
    for part in text.split(","):
        name, _, members = part.partition("=")
        numbers = [number.strip() for number in members.split("+")]
        if not name.strip() or not all(number.isdigit() and int(number) > 0 for number in numbers):
            raise UsageError(
                "regions are names, each with the labels that it unites",
                where=f"--regions {text}",
                remedy="WT=1+2+3,TC=1+3",
            )
        regions[name.strip()] = tuple(int(number) for number in numbers)
    return regions
