"""What a person names on the command line may lie elsewhere: it is brought before anything else looks at it."""

from __future__ import annotations

from pathlib import Path

from segue.core.addresses import address, is_address
from segue.core.config import read_yaml


def bring_reference(reference: str, data: Path) -> str:
    """What a reference means here: of an address the place where it was brought to, all else as it is.

    A card or an experiment (.yaml) on this disk may name an address as its ``root`` or ``dataset``; that is brought.

    Raises:
        UsageError, DataError, MachineError: see :func:`segue.acquire.mirror.bring`.
    """
    if is_address(reference):
        from segue.acquire.mirror import bring

        return str(bring(address(reference), data))
    if reference.endswith((".yaml", ".yml")) and Path(reference).is_file():
        content, _ = read_yaml(Path(reference))
        for each in (content.get("root"), content.get("dataset")):
            if is_address(each):
                bring_reference(str(each), data)
    return reference
