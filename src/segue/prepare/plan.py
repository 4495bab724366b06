"""What follows from a fingerprint and a budget: ``plan`` is a pure function, and every choice has its reason."""

from __future__ import annotations

import math
from typing import Any

from segue.catalogue import Channel
from segue.core.config import validate
from segue.core.errors import UsageError
from segue.prepare.choices import Machine, Network, Normalisation, Plan, PlanOverrides
from segue.prepare.fingerprint import Fingerprint, Intensities
from segue.prepare.plan_classes import plan_classes
from segue.prepare.plan_masks import plan_masks
from segue.prepare.regions import Region, painted_regions
from segue.prepare.sizes import Size

# Often enough to be learnt, while four patches of five still show what the channel is good for.
_CHANNEL_DROPOUT = 0.2


def plan(
    facts: Fingerprint,
    machine: Machine,
    overrides: PlanOverrides | None = None,
    network: Network | None = None,
    size: Size | None = None,
) -> Plan:
    """Choose spacing, normalisation, patch, batch and network.

    Args:
        size: of a segmentation, what a step may cost; what such a machine usually manages, if not given.

    Raises:
        UsageError: an override that cannot be (a patch that the network cannot halve often enough, say).
    """
    mine = (overrides or PlanOverrides()).model_dump(exclude_none=True)
    wanted = network or Network()
    reasons: dict[str, str] = {}
    if facts.task == "classification":
        chosen = plan_classes(facts, machine, mine, wanted, reasons)
    else:
        chosen = plan_masks(facts, machine, mine, wanted, reasons, size)
    chosen |= {
        "dataset": facts.dataset,
        "task": facts.task,
        "classes": facts.classes,
        "channels": facts.channels,
        "labels": facts.labels,
        "ignore_label": facts.ignore_label,
        "regions": _regions(facts, mine, reasons),
        "mirror_axes": facts.mirror_axes,
        "normalisation": [
            _normalisation(channel, values, facts, reasons)
            for channel, values in zip(facts.channels, facts.intensities, strict=True)
        ],
        "channel_dropout": _channel_dropout(facts, reasons),
        "reasons": reasons,
    }
    chosen["look_alikes"] = _look_alikes(facts, chosen["normalisation"], chosen["foreground_share"], reasons)
    reasons["mirror_axes"] = (
        "the card names these axes as mirror-symmetric" if facts.mirror_axes else "the card names no symmetric axis"
    )
    for name in ("by_region", "low_resolution"):  # decisions, not fields of the plan
        mine.pop(name, None)
    for name, value in mine.items():
        chosen[name] = value
        reasons[name] = "set by you"
    if wanted.target or wanted.args or wanted.name:
        said = ", ".join([*([wanted.name] if wanted.name else []), *wanted.args])
        reasons["network"] = "set by you" + ("" if wanted.target else f" in part: {said}")
    return validate(Plan, chosen, source="plan")


def _regions(facts: Fingerprint, mine: dict[str, Any], reasons: dict[str, str]) -> list[Region]:
    wanted = mine.get("by_region")
    if facts.task == "classification" or wanted is False:
        return []
    found = painted_regions(facts.regions, facts.labels)
    if found:
        reasons["regions"] = (
            f"the card names unions of labels ({', '.join(facts.regions)}): the network answers for each of them, "
            "and they are painted over each other in this order"
        )
    elif wanted:
        raise UsageError(
            "there are no regions to learn",
            where="plan.by_region",
            value=", ".join(facts.regions) or "the card names none",
            remedy="name unions of labels under 'regions' in the card that can be painted over each other",
        )
    return found


def _channel_dropout(facts: Fingerprint, reasons: dict[str, str]) -> float:
    optional = [channel.name for channel in facts.channels if channel.optional]
    if not optional:
        return 0.0
    lacking = ", ".join(f"{facts.absent.get(name, 0)} of {facts.cases} cases lack {name}" for name in optional)
    reasons["channel_dropout"] = (
        f"the card calls {', '.join(optional)} optional ({lacking}): training hides each from "
        f"{_CHANNEL_DROPOUT:.0%} of the patches, never all channels, so that the network learns to do without"
    )
    return _CHANNEL_DROPOUT


def _look_alikes(
    facts: Fingerprint, rules: list[Normalisation], share: float, reasons: dict[str, str]
) -> list[tuple[float, float | None] | None]:
    """What foreground looks like in channels whose values mean the same in every image.

    Cases are prepared for it whatever the patch is, so that all patches share them.
    """
    if facts.task == "classification":
        return []
    ranges: list[tuple[float, float | None] | None] = []
    for rule, values in zip(rules, facts.intensities, strict=True):
        if rule.kind == "suv":
            # More uptake than most lesions is as suspicious as theirs.
            least = max(0.0, values.percentile_00_5, values.mean - values.std)
            ranges.append((math.log1p(least) - 1, None))
        elif rule.kind == "hu":
            ranges.append(((rule.low - rule.mean) / rule.std, (rule.high - rule.mean) / rule.std))
        else:
            ranges.append(None)
    if not any(ranges):
        return []
    if share:
        reasons["foreground_share"] += (
            "; half of the others on voxels with the values of foreground that are none, of each place about as many"
        )
    return ranges


def _normalisation(channel: Channel, values: Intensities, facts: Fingerprint, reasons: dict[str, str]) -> Normalisation:
    key = f"normalisation.{channel.name}"
    if channel.unit == "HU":
        reasons[key] = "Hounsfield units: percentiles, mean and deviation of the foreground of all cases"
        return Normalisation(
            kind="hu",
            low=values.percentile_00_5,
            high=values.percentile_99_5,
            mean=values.mean,
            std=max(values.std, 1e-6),
        )
    if channel.unit == "SUV":
        reasons[key] = "SUV: one fixed scale, so that a value means the same in every image"
        return Normalisation(kind="suv")
    if facts.task == "classification" and facts.eight_bit:
        reasons[key] = "8-bit pictures: mean and deviation over all training images, so that brightness tells something"
        return Normalisation(kind="dataset", mean=values.mean, std=max(values.std, 1e-6))
    reasons[key] = "arbitrary units: each image by its own percentiles, mean and deviation"
    return Normalisation(kind="image")
