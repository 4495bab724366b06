"""Citations as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from segue.core.config import Settings


class Citation(Settings):
    """What to cite; the fields are those of BibTeX, and null is what nobody could look up."""

    key: str
    type: Literal["article", "inproceedings", "incollection", "misc", "dataset"] = "article"
    authors: list[str] | None = None
    title: str | None = None
    venue: str | None = None
    year: int | None = None
    volume: int | None = None
    number: int | None = None
    pages: str | None = None
    doi: str | None = None
    arxiv: str | None = None


_VENUE = {"article": "journal", "inproceedings": "booktitle", "incollection": "booktitle"}
_ESCAPED = {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_"}


def bibtex(citations: Iterable[Citation]) -> str:
    """One entry per key; what is not known is left out, not invented."""
    entries = {citation.key: _entry(citation) for citation in citations}
    return "\n\n".join(entries.values())


def _entry(citation: Citation) -> str:
    kind = "misc" if citation.type == "dataset" else citation.type
    fields: dict[str, object] = {
        "author": " and ".join(citation.authors) if citation.authors else None,
        # Braces keep the capitals of names such as PET/CT.
        "title": f"{{{_text(citation.title)}}}" if citation.title else None,
        _VENUE.get(kind, "howpublished"): _text(citation.venue) if citation.venue else None,
        "year": citation.year,
        "volume": citation.volume,
        "number": citation.number,
        "pages": citation.pages.replace("-", "--") if citation.pages else None,
        "doi": citation.doi,
        "eprint": citation.arxiv,
        "archiveprefix": "arXiv" if citation.arxiv else None,
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value is not None]
    return f"@{kind}{{{citation.key},\n" + ",\n".join(lines) + "\n}"


def _text(text: str) -> str:
    return "".join(_ESCAPED.get(character, character) for character in text)
