"""What ``predict`` is asked for besides masks, and what is told before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from segue.catalogue import Card, Case
from segue.core.console import say
from segue.core.errors import UsageError
from segue.predict import Delivery, MaskForm, Predictor, read_fingerprint, unlike_headers, unlike_values
from segue.prepare import Fingerprint
from segue.train import Run
from segue.volume import Volume

FORMS = tuple(form for form in get_args(MaskForm) if form != "image")
_MOST_TOLD = 20
CONVERTED = "converted"


@dataclass(frozen=True)
class PredictOptions:
    """The options of ``segue predict``.

    Attributes:
        others: run folders whose answers are averaged with those of the first one.
        form: see :class:`segue.predict.Delivery`, and for probabilities and uncertainty too.
        preview: a picture of each case.
        mirror: average over mirror images.
    """

    others: tuple[Path, ...] = ()
    form: MaskForm = "image"
    probabilities: bool = False
    uncertainty: bool = False
    preview: bool = False
    mirror: bool = False


def mask_form(name: str | None) -> MaskForm:
    """Raises:
    UsageError: masks are not written in this form.
    """
    if name is None:
        return "image"
    if name not in FORMS:
        raise UsageError(
            "masks are not written in this form",
            where=f"--to {name}",
            remedy=f"{', '.join(FORMS)}; without --to each mask has the format of its image",
        )
    return name  # type: ignore[return-value]


def require_masks(options: PredictOptions) -> None:
    """Raises:
    UsageError: something was asked for that a model of classes does not have.
    """
    asked = {
        "--to": options.form != "image",
        "--probabilities": options.probabilities,
        "--uncertainty": options.uncertainty,
        "--preview": options.preview,
        "--mirror": options.mirror,
    }
    if any(asked.values()):
        raise UsageError(
            "this is an option for masks, and the model answers with classes",
            where=", ".join(name for name, given in asked.items() if given),
            remedy="leave it out: the table holds the probability of every class, averaged over mirror images",
        )


def delivery_of(predictor: Predictor, options: PredictOptions) -> Delivery:
    """What is written of each case, and the look at its values before."""
    seen = read_fingerprint(predictor.run)

    def check(case: Case, image: Volume) -> None:
        if seen is not None:
            for text in unlike_values(image, seen, case.absent):
                say(f"warning: {case.id}: {text}")

    def picture(image: Volume, mask: Volume) -> bytes:
        return preview(predictor.card, image, mask)

    return Delivery(
        options.form, options.probabilities, options.uncertainty, picture if options.preview else None, check
    )


def preview(card: Card, image: Volume, mask: Volume) -> bytes:
    """The PNG of an image with the outlines of its mask."""
    from segue.view.flat import flat_picture, is_picture
    from segue.view.picture import case_picture

    draw = flat_picture if is_picture(image, card.dimension) else case_picture
    return draw(image, card.channels, card.labels, None, mask)


def tell_unlike(run: Run, cases: Sequence[Case]) -> None:
    """Say which inputs are unlike the training images by their headers, before any work."""
    seen: Fingerprint | None = read_fingerprint(run)
    told = [] if seen is None else [(case.id, text) for case in cases for text in unlike_headers(case, seen)]
    for name, text in told[:_MOST_TOLD]:
        say(f"warning: {name}: {text}")
    if len(told) > _MOST_TOLD:
        say(f"and {len(told) - _MOST_TOLD} more such warnings, the last of {told[-1][0]}")
