"""What a person names by import path: a network, a loss, an augmentation."""

from __future__ import annotations

import importlib
from typing import Any

from segue.core.errors import UsageError


def imported(target: str, what: str, where: str) -> Any:
    """The object that ``package.module:name`` names.

    Args:
        what: for the error, such as ``network``.
        where: the setting that names it.

    Raises:
        UsageError: it cannot be imported.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"the {what} cannot be imported",
            where=f"{where}: {target}",
            value=error,
            remedy='write it as "package.module:Name" and run where the package can be imported',
        ) from error
