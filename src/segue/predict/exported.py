"""What lies beside an exported network: one JSON with everything that turns an image into its mask or its classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from segue.catalogue import Card
from segue.core.config import Settings, validate
from segue.core.errors import DataError
from segue.core.files import content_key, parse_json
from segue.metrics import CONNECTIVITY, ComponentRule
from segue.prepare import Normalisation, Plan

ExportFormat = Literal["onnx", "torch-export"]

# What ``segue predict`` is given in place of a run folder; and under which name the JSON stands in a network's file.
EXPORTED_SUFFIXES = (".onnx", ".json", ".pt2")
EMBEDDED = "segue"
_FORMAT = 1


class TensorFacts(Settings):
    """A network's input or output: 32-bit floats.

    Attributes:
        shape: ``batch``, which is free, then numbers.
        means: what each place of the second axis is.
    """

    name: str
    shape: list[str | int]
    means: list[str]


class ExportedModel(Settings):
    """``model.json``, which stands in the metadata of each network's file too.

    Attributes:
        id: of all weights, the plan and the post-processing: files of one export have the same.
        networks: file names beside the JSON. Several are folds: their probabilities are averaged.
        preprocessing, postprocessing: the steps in words, for programs that are not segue.
        rules: which connected components of a label stay.
    """

    format: int = _FORMAT
    segue: str
    to: ExportFormat
    id: str
    # Without any folder: what a file from elsewhere names lies beside it.
    networks: list[Annotated[str, Field(pattern=r"^[^./\\\x00][^/\\\x00]*$")]] = Field(min_length=1)
    input: TensorFacts
    output: TensorFacts
    preprocessing: list[str]
    postprocessing: list[str]
    labels: dict[int, str]
    rules: dict[int, ComponentRule] = {}
    plan: Plan
    card: Card


def read_exported(text: str, source: Path) -> ExportedModel:
    """The JSON as written.

    Raises:
        DataError: damaged, of another program, or of a later version. UsageError: a key or a value is wrong.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise DataError("this JSON is damaged", where=source, value=error, remedy="export the model again") from error
    if not isinstance(content, dict) or not {"format", "plan", "networks"} <= content.keys():
        raise DataError(
            "this is not the JSON of an exported model",
            where=source,
            remedy="give the .onnx or .json that segue export model wrote",
        )
    if not isinstance(content["format"], int) or content["format"] > _FORMAT:
        raise DataError(
            "the model was exported by a later version of segue",
            where=source,
            value=f"format {content['format']}, this one reads {_FORMAT}; written by segue {content.get('segue')}",
            remedy="update segue, then run again",
        )
    return validate(ExportedModel, content, source=source)


def described(
    plan: Plan,
    card: Card,
    *,
    to: ExportFormat,
    key: str,
    networks: Sequence[str],
    rules: dict[int, ComponentRule],
    version: str,
) -> ExportedModel:
    """All that is known of an export. Where the data of the training lie stays out of it, and on what machine it ran.

    Args:
        key: of all weights and the plan.
        networks: file names.
    """
    # What tells of single cases, or of the way to the data, is no part of the model.
    gone: dict[str, Any] = {"root": None, "groups": [], "defects": [], "files": [], "copies": [], "collection": None}
    return ExportedModel(
        segue=version,
        to=to,
        id=content_key(key, {number: str(rule) for number, rule in rules.items()}),
        networks=list(networks),
        input=TensorFacts(
            name="image", shape=["batch", plan.inputs, *plan.patch], means=[channel.name for channel in plan.channels]
        ),
        output=_output(plan),
        preprocessing=_before(plan),
        postprocessing=_after(plan, len(networks), rules),
        labels=plan.labels if plan.task == "classification" else {0: "background", **plan.labels},
        rules=rules,
        plan=plan.model_copy(update={"measured": None}),
        card=card.model_copy(update=gone),
    )


def _output(plan: Plan) -> TensorFacts:
    if plan.task == "classification":
        return TensorFacts(name="logits", shape=["batch", len(plan.labels)], means=list(plan.labels.values()))
    if plan.regions:
        means = [region.name for region in plan.regions]
    else:
        means = ["background", *(plan.labels.get(number, "not used") for number in range(1, max(plan.labels) + 1))]
    return TensorFacts(name="logits", shape=["batch", len(means), *plan.patch], means=means)


def _before(plan: Plan) -> list[str]:
    normalising = [
        f"Channel {channel.name}{'' if channel.unit == 'arbitrary' else f' ({channel.unit})'}: {_rule(rule)}."
        + (f" Where it is missing it is {rule.outside:.6g} everywhere." if channel.optional else "")
        for channel, rule in zip(plan.channels, plan.normalisation, strict=True)
    ]
    size = "x".join(map(str, plan.patch))
    if plan.task == "classification":
        turned = "Turn the axes so that i grows to the left, j to the back, k to the head: (channel, i, j, k). "
        turned += "Of a picture i runs along its rows and j along its columns."
        resizing = (
            f"Bring it to {size} voxels, linearly, with a triangle as wide as the step where it shrinks (Pillow's "
            "BILINEAR)" + ("; round to 8 bits." if all(r.kind == "dataset" for r in plan.normalisation) else ".")
        )
        by_image = any(rule.kind == "image" for rule in plan.normalisation)
        return [turned, *(normalising + [resizing] if by_image else [resizing, *normalising])]
    spacing = " x ".join(
        "its own" if axis == plan.slice_axis else f"{value:.6g}" for axis, value in enumerate(plan.spacing_mm)
    )
    outside = ", ".join(f"{rule.outside:.6g}" for rule in plan.normalisation)
    return [
        "Turn the axes so that i grows to the right, j to the front, k to the head (RAS+): (channel, i, j, k).",
        *normalising,
        f"Resample by cubic B-splines to {spacing} mm over the same field of view; the number of voxels is rounded.",
        f"Cut windows of {size} voxels, evenly spread, that overlap by at least {plan.overlap:.0%}; what is smaller is "
        f"padded on both sides with {outside}.",
    ]


def _rule(rule: Normalisation) -> str:
    if rule.kind == "suv":
        return "the logarithm of 1 + SUV (what is below 0 counts as 0), minus 1"
    if rule.kind == "image":
        return (
            "clipped to the percentiles 0.5 and 99.5 of this image, minus the mean of what that gives, divided by its "
            "standard deviation"
        )
    clipped = f"clipped to {rule.low:.6g} and {rule.high:.6g}, " if rule.kind == "hu" else ""
    return f"{clipped}minus {rule.mean:.6g}, divided by {rule.std:.6g}"


def _after(plan: Plan, members: int, rules: dict[int, ComponentRule]) -> list[str]:
    mean = f"the mean of the {members} networks" if members > 1 else "of the network"
    if plan.task == "classification":
        share = "sigmoid" if plan.classes == "multi-label" else "softmax"
        axes = [axis for axis in plan.mirror_axes if plan.patch[axis] > 1]
        mirrored = (
            f" Average over the image mirrored along axes {', '.join('ijk'[axis] for axis in axes)}, in all "
            f"{2 ** len(axes)} combinations."
            if axes
            else ""
        )
        answer = {
            "multi-label": "Every class with a probability above 0.5 is answered, maybe none.",
            "binary": "The second class is answered where its probability is above 0.5.",
        }.get(plan.classes or "", "The class of the largest probability is answered.")
        return [f"Probabilities are the {share} of the logits, {mean}.{mirrored}", answer]
    weights = "Put windows together: mean logits, weighted by a Gaussian whose deviation is an eighth of the window."
    if plan.regions:
        share = "the mean sigmoid of the networks, less a half" if members > 1 else "the logits"
        order = ", ".join(f"{region.name} as {region.label}" for region in plan.regions)
        found = f"From nothing but 0, paint each region where its value is above 0, in this order: {order}."
    else:
        share = "the mean softmax of the networks" if members > 1 else "the logits"
        found = f"The largest value wins, among {', '.join(map(str, [0, *plan.labels]))}; its place is the label."
    steps = [
        weights,
        f"Interpolate {share} linearly at the voxels of the image, each channel by itself.",
        found,
    ]
    for number, rule in rules.items():
        steps.append(f"Of label {number}, {rule} stay(s), by {CONNECTIVITY}-connectivity; the rest becomes 0.")
    return [*steps, "Turn the axes back to those of the image."]
