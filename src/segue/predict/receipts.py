"""What was predicted already, by which model, of which files: ``predictions.json`` beside the masks.

A shard has a receipt of its own, ``predictions.3-of-8.json``, so that shards need not wait for each other; whoever
predicts without a shard takes them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.catalogue import Case, Row
from segue.core.errors import DataError
from segue.core.files import file_digest, parse_json, write_json
from segue.core.work import current_work
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


def done_before(output: Path) -> dict[str, str]:
    """The key of each case that is done in a folder; nothing where there is no receipt, or a damaged one."""
    done: dict[str, str] = {}
    for receipt in [*_of_shards(output), output / RECEIPT]:
        try:
            done |= parse_json(receipt.read_text(encoding="utf-8"))["cases"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return done


def write_receipt(output: Path, content: Mapping[str, Any], done: Mapping[str, str]) -> None:
    """Keep what is done, with what a reader of the masks wants to know of the model."""
    shard = current_work().shard
    name = RECEIPT if shard is None else f"{RECEIPT.removesuffix('.json')}.{shard.name}.json"
    write_json(output / name, {**content, "cases": dict(sorted(done.items()))})


def gather_receipts(output: Path) -> None:
    """Remove the receipts of shards, once one without a shard holds what is in them."""
    if current_work().shard is not None:
        return
    try:
        known = parse_json((output / RECEIPT).read_text(encoding="utf-8"))["cases"]
        for receipt in _of_shards(output):
            if parse_json(receipt.read_text(encoding="utf-8"))["cases"].items() <= known.items():
                receipt.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return


def _of_shards(output: Path) -> list[Path]:
    return sorted(output.glob(f"{RECEIPT.removesuffix('.json')}.*-of-*.json"))
