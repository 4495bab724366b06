"""File patterns with named fields: ``{patient}/{case:[0-9]+}_t1.nii.gz``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_FIELD = re.compile(r"\{(\w+)(?::([^{}]+))?\}")


def check_pattern(pattern: str) -> None:
    """Accept a pattern that stays in its folder and names its cases.

    Raises:
        ValueError: an absolute path or ``..``, unbalanced braces, an expression that cannot be compiled, no field.
    """
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise ValueError(f"the pattern '{pattern}' leaves the dataset's folder")
    if "{" in _FIELD.sub("", pattern) or "}" in _FIELD.sub("", pattern):
        raise ValueError(f"the pattern '{pattern}' has a brace that does not belong to a field such as {{case}}")
    if not {"case", "patient"} & {name for name, _ in _FIELD.findall(pattern)}:
        raise ValueError(f"the pattern '{pattern}' needs {{case}} or {{patient}} where the names differ")
    try:
        compiled(pattern)
    except re.error as error:
        raise ValueError(f"the pattern '{pattern}' is no regular expression: {error}") from None


@lru_cache(maxsize=512)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression over a relative path with ``/``.

    ``.nii.gz`` at the end also stands for ``.nii``: some copies are not compressed.
    """
    expression = ""
    seen: set[str] = set()
    text = pattern.removesuffix(".gz") if pattern.endswith(".nii.gz") else pattern
    position = 0
    for match in _FIELD.finditer(text):
        expression += _literal(text[position : match.start()])
        name, restriction = match.groups()
        expression += f"(?P={name})" if name in seen else f"(?P<{name}>{restriction or '[^/]+'})"
        seen.add(name)
        position = match.end()
    expression += _literal(text[position:])
    return re.compile(expression + (r"(?:\.gz)?" if text != pattern else ""))


def _literal(text: str) -> str:
    parts = re.split(r"(\*\*/|\*)", text)
    return "".join({"**/": "(?:[^/]+/)*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)


def filled(pattern: str, fields: dict[str, str]) -> str:
    """The path that the pattern gives for these fields; wildcard folders are left out, unknown fields stay."""
    text = _FIELD.sub(lambda match: fields.get(match.group(1), match.group(0)), pattern)
    return text.replace("**/", "").replace("*", "")


def field_names(pattern: str) -> list[str]:
    return list(dict.fromkeys(name for name, _ in _FIELD.findall(pattern)))


def found(root: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The files below ``root`` that match, sorted, with the values of the fields; hidden ones are passed over."""
    # Two fields in a row are one star, for two stars mean folders; brackets and question marks mean themselves.
    glob = re.sub(r"[*\0]*\0[*\0]*", "*", _FIELD.sub("\0", pattern))
    glob = re.sub(r"[\[?]", r"[\g<0>]", glob)
    globs = [glob, glob.removesuffix(".gz")] if glob.endswith(".nii.gz") else [glob]
    expression = compiled(pattern)
    for path in sorted(path for each in globs for path in root.glob(each)):
        relative = path.relative_to(root)
        if any(part.startswith(".") for part in relative.parts):
            continue
        match = expression.fullmatch(relative.as_posix())
        if match:
            yield path, match.groupdict()
