"""What was predicted already, by which model, of which files: ``predictions.json`` beside the masks."""

from __future__ import annotations

import json
from pathlib import Path

from segue.catalogue import Case, Row
from segue.core.errors import DataError
from segue.core.files import file_digest
from segue.images import digest_of

RECEIPT = "predictions.json"


def case_digests(case: Case) -> list[str]:
    """Of the content of each image of a case, and of which channels it lacks.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        digests = [
            f"{digest_of(image.path)}:{image.key}[{image.index}]" if isinstance(image, Row) else file_digest(image)
            for image in case.images
        ]
        return [*digests, *(f"without {number}" for number in case.absent)]
    except OSError as error:
        raise DataError(
            "this file cannot be read", where=f"{case.id}: {error.filename}", value=error.strerror
        ) from error


def done_before(receipt: Path) -> dict[str, str]:
    """The key of each case that is done; nothing where there is no receipt, or a damaged one."""
    try:
        return dict(json.loads(receipt.read_text(encoding="utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
