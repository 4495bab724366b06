"""Checkpoints: whole or not at all, loadable without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segue.core.errors import DataError
from segue.core.files import atomic_path

_FORMAT = 1
_OTHER = "take the other checkpoint (best.pt, last.pt) or train again"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Tensors, numbers and strings only.

    Raises:
        MachineError: the disk is full; the checkpoint before stays.
    """
    with atomic_path(path) as temporary:
        try:
            # Given a path, torch writes its name into the file: the same weights would be other bytes each time.
            with temporary.open("wb") as handle:
                torch.save({"format": _FORMAT, **content}, handle)
        except RuntimeError as error:
            # torch's writer hides a full disk behind a RuntimeError; the C library's reason is what counts.
            cause = error.__cause__ or error.__context__
            if isinstance(cause, OSError):
                raise cause from error
            raise OSError(28, "the checkpoint could not be written") from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Raises:
    DataError: missing, damaged, or of a later version.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise DataError(
            "this run has no checkpoint yet", where=path, remedy="run its training to the end first"
        ) from None
    except Exception as error:
        # torch has no common class for what damaged bytes make its readers raise.
        raise DataError(
            "the checkpoint is damaged",
            where=path,
            value=f"{path.stat().st_size} bytes, {str(error).splitlines()[0] if str(error) else type(error).__name__}"[
                :200
            ],
            remedy=_OTHER,
        ) from error
    form = content.get("format", 0) if isinstance(content, dict) else None
    if not isinstance(form, int):
        raise DataError(
            "the checkpoint is damaged",
            where=path,
            value=f"it holds {'format ' + repr(form) if isinstance(content, dict) else type(content).__name__}"[:200],
            remedy=_OTHER,
        )
    if form > _FORMAT:
        raise DataError(
            "the checkpoint is of a later version of segue",
            where=path,
            value=f"format {form}, known up to {_FORMAT}",
            remedy="update segue, then run again",
        )
    return content


def weights_of(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """What a checkpoint's network answers with: the mean of its last steps, where that was kept.

    Raises:
        DataError: there are no weights, or one that is not a number.
    """
    weights = content.get("mean_network") or content.get("network")
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise DataError("the checkpoint is damaged", where=path, value="it holds no network", remedy=_OTHER)
    for name, weight in weights.items():
        # A few bytes can be shown as any number of them: nothing is computed with such a tensor.
        if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
            shape = "x".join(str(side) for side in weight.shape)
            raise DataError("the checkpoint is damaged", where=path, value=f"{name} claims {shape}", remedy=_OTHER)
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise DataError("the checkpoint is damaged", where=path, value=f"NaN or infinite in {name}", remedy=_OTHER)
    return weights
