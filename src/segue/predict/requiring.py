"""What an image must have for a model to answer, and errors that name their case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segue.catalogue import Case
from segue.core.errors import DataError
from segue.prepare import Plan
from segue.volume import Volume


def require_fit(image: Volume, plan: Plan, absent: Sequence[int] = ()) -> None:
    """Raises:
    DataError: another number of channels, NaN in the image, or a channel is absent that the model needs.
    """
    if len(image.array) != len(plan.channels):
        raise DataError(
            "the image has another number of channels than the model",
            value=f"{len(image.array)}, expected {len(plan.channels)}",
            remedy=f"give {', '.join(channel.name for channel in plan.channels)}, in this order",
        )
    optional = [number for number, channel in enumerate(plan.channels) if channel.optional]
    if not set(absent) <= set(optional) or len(set(absent)) == len(plan.channels):
        raise DataError(
            "the image lacks a channel that the model needs",
            value=", ".join(plan.channels[number].name for number in absent),
            remedy="give it; optional are "
            + (", ".join(plan.channels[number].name for number in optional) or "none")
            + ", and one channel at least must be there",
        )
    # Least and greatest tell: one NaN makes both NaN.
    if not np.isfinite([(channel.min(), channel.max()) for channel in image.array]).all():
        raise DataError("the image holds NaN or infinite values", remedy="mend it, or leave it out")


def naming_case(error: DataError, case: Case) -> DataError:
    """The error, with the case in what it says of the place."""
    if not error.where or case.id not in error.where:
        error.where = f"{case.id}: {error.where}" if error.where else case.id
    return error
