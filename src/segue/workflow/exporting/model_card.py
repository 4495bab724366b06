"""The card of a model: what a person must know before using it, out of what its run folder says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segue.catalogue import UNSTATED, Card, bibtex, in_words, terms
from segue.predict import ExportedModel
from segue.prepare import Plan
from segue.train import Run
from segue.view.words import count

# A mean over fewer patients is told, but not to be leaned on.
_FEW_PATIENTS = 30
_PARTS = {"val": "Validation cases", "test": "Test cases"}
# Sizes and counts, which say nothing of how good a model is.
_BESIDE = ("truth_volume_ml", "volume_ml", "dice_both_empty")
_WORDS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "auc": "AUC",
    "f1": "F1",
}


def model_card(run: Run, members: Sequence[Run], exported: ExportedModel, file: str) -> str:
    """Markdown.

    Args:
        members: the trainings whose networks were exported.
        file: the network's, for the commands.

    Raises:
        UsageError, DataError: a file of the run is missing or damaged.
    """
    card, plan = exported.card, exported.plan
    splits = [member.json("split.json") for member in members]
    parts = [
        f"# {_title(card)}",
        _summary(card, plan, len(members)),
        "## Use\n\n" + _use(exported, file),
        "## Trained on\n\n" + _trained_on(card, splits),
        "## Licence\n\n" + _licence(card),
        "## Figures\n\n" + _figures(run, splits),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(card, plan, splits)),
        "## What it does with an image\n\n" + _numbered([*exported.preprocessing, *exported.postprocessing]),
        "## Plan\n\n" + _plan(plan),
    ]
    if card.citations:
        parts.append("## Cite\n\nThe data:\n\n```bibtex\n" + bibtex(card.citations) + "\n```")
    parts.append(f"Written by segue {exported.segue}; model {exported.id}.")
    return "\n\n".join(parts) + "\n"


def _title(card: Card) -> str:
    what = "Segmentation" if card.task == "segmentation" else "Classification"
    return f"{what} learnt from {_plain(card.title)}"


def _summary(card: Card, plan: Plan, members: int) -> str:
    channels = ", ".join(
        channel.name
        + (f" ({channel.unit})" if channel.unit != "arbitrary" else "")
        + (", optional" if channel.optional else "")
        for channel in plan.channels
    )
    labels = ", ".join(f"{number} {_plain(name)}" for number, name in plan.labels.items())
    lines = [
        f"- Takes: {plan.dimension}-D images; {channels}"
        + (f"; {', '.join(card.modalities)}" if card.modalities else ""),
        f"- Answers: {labels}" + (" (0 is everything else)" if card.task == "segmentation" else f" ({card.classes})"),
        f"- Network: {_network(plan)}" + (f", {members} folds whose probabilities are averaged" if members > 1 else ""),
    ]
    if plan.regions:
        regions = ", ".join(f"{_plain(r.name)} ({'+'.join(map(str, r.members))})" for r in plan.regions)
        lines.insert(2, f"- By regions: {regions}")
    return "\n".join(lines)


def _use(exported: ExportedModel, file: str) -> str:
    size = " x ".join(map(str, exported.input.shape))
    tensors = f"`{exported.input.name}`, 32-bit floats of {size}, becomes `{exported.output.name}` of " + (
        " x ".join(map(str, exported.output.shape)) + f": {', '.join(map(_plain, exported.output.means))}."
    )
    if exported.to == "onnx":
        return (
            f'```bash\npip install "segue[onnx]"\nsegue predict {file} IMAGES... -o OUT\n```\n\n'
            f"No torch is needed. In another program: {tensors} What comes before and after stands below, and with all "
            "numbers in the JSON, which is also in the ONNX file, as the metadata `segue`."
        )
    return (
        f'```python\nimport torch\n\nnetwork = torch.export.load("{file}").module()\n```\n\n'
        f"{tensors} What comes before and after stands below, and with all numbers in the JSON, which is also in the "
        "file, as `segue.json`. Load only files that you trust: torch unpickles them."
    )


def _trained_on(card: Card, splits: Sequence[dict[str, Any]]) -> str:
    cases = {entry["id"] for split in splits for entry in split["train"]}
    patients = {entry["patient"] for split in splits for entry in split["train"]}
    lines = [f"{_plain(card.title)} (`{card.name}`{f', {card.release}' if card.release else ''})."]
    if card.description:
        lines.append(_plain(card.description))
    lines.append(
        f"{count(len(cases), 'case')} of {count(len(patients), 'patient')}"
        + (f", over {len(splits)} folds." if len(splits) > 1 else ".")
    )
    if card.access.kind == "generated":
        lines.append("The images are synthetic.")
    if card.access.homepage:
        lines.append(f"Home: {card.access.homepage}")
    return "\n".join(lines)


def _licence(card: Card) -> str:
    if card.licence is None:
        return (
            "The card of the data names no licence. Whoever owns the images decides what may be done with what was "
            "learnt from them: ask before you pass this model on."
        )
    spdx = card.licence.spdx
    allowed = terms(spdx)
    lines = [
        f"The data: {'no licence stated' if spdx == UNSTATED else spdx} ({in_words(spdx)})."
        + (f" {_plain(card.licence.note)}" if card.licence.note else ""),
        "Whether learnt weights are a changed copy of the data is not settled. To be on the safe side take these terms "
        "as the model's own:",
    ]
    points = []
    if allowed.commercial is None:
        points.append("ask the authors of the data before any use beyond your own research")
    elif allowed.commercial is False:
        points.append(
            "no commercial use"
            if spdx.startswith("CC-")
            else "no use beyond what the data's own terms allow: read them"
        )
    else:
        points.append("commercial use is allowed")
    if allowed.derivatives is False:
        points.append("do not pass it on without asking the authors of the data")
    elif allowed.share_alike:
        points.append(f"pass it on under {spdx} only")
    if allowed.attribution:
        points.append("name the authors of the data" + (" (Cite, below)" if card.citations else ""))
    return "\n".join([*lines, "", *(f"- {point}" for point in points)])


def _figures(run: Run, splits: Sequence[dict[str, Any]]) -> str:
    if not run.metrics.exists():
        return "This model was not measured: `segue evaluate RUN` does it."
    content = run.json(run.metrics.name)
    told = []
    for part, title in _PARTS.items():
        aggregate = content.get(part, {}).get("aggregate", {})
        if not aggregate:
            continue
        rows = [
            f"| {_plain(label)} | {_WORDS.get(metric, metric.replace('_', ' '))} | {_number(mean.get('value'))} | "
            f"{_interval(mean.get('ci95'))} | {mean.get('n', 0)} |"
            for label, metrics in aggregate.items()
            for metric, mean in metrics.items()
            if metric not in _BESIDE and mean.get("value") is not None
        ]
        chosen = "the best state of the training" if len(splits) == 1 else "the best states and the post-processing"
        how = (
            "Nothing was chosen on these cases."
            if part == "test"
            else f"Each was predicted by a network that had not learnt from it. But these cases chose {chosen}: the "
            "figures are a little too good."
        )
        head = "| label | metric | value | 95 % interval | cases |\n|---|---|---|---|---|"
        told.append(f"### {title}\n\n{how}\n\n" + "\n".join([head, *rows]))
    if not told:
        return "No case was left to measure this model on."
    note = "Intervals: bootstrap over patients. They are of the run; the exported network computes in 32-bit floats."
    return "\n\n".join([*told, note])


def _limits(card: Card, plan: Plan, splits: Sequence[dict[str, Any]]) -> list[str]:
    patients = {entry["patient"] for split in splits for entry in split["train"]}
    lines = [
        "Research software, no medical device: no decision on a patient may rest on it alone.",
        "It always answers, also for images unlike those that it learnt from: another scanner, protocol, age or "
        "disease than theirs was not tried unless Figures say so.",
    ]
    units = {channel.name: channel.unit for channel in plan.channels if channel.unit != "arbitrary"}
    if units:
        named = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        lines.append(f"Values must be in their unit: {named}.")
    if plan.task == "segmentation":
        spacing = " x ".join(f"{value:.3g}" for value in plan.spacing_mm)
        lines.append(
            f"It works at {spacing} mm: what is much smaller than a voxel of that size is lost."
            if plan.slice_axis is None
            else f"It sees slices one by one, at {spacing} mm, and knows nothing of the slice beside."
        )
    else:
        lines.append(f"It sees images of {'x'.join(map(str, plan.patch))} voxels: finer detail is lost.")
    if len(patients) < _FEW_PATIENTS:
        lines.append(f"It learnt from {count(len(patients), 'patient')} only.")
    if card.title.startswith("Synthetic") or card.access.kind == "generated":
        lines.append("It learnt from synthetic images: for trying out, not for patients.")
    return lines


def _plan(plan: Plan) -> str:
    network = [_network(plan)]
    network += [f"{name}={value}" for name, value in plan.network.args.items()]
    choices: dict[str, str] = {
        "dimension": str(plan.dimension),
        "spacing_mm": " x ".join(f"{value:g}" for value in plan.spacing_mm),
        "patch": "x".join(map(str, plan.patch)),
        "batch": str(plan.batch),
        "network": " ".join(network),
        "mirror_axes": ", ".join("ijk"[axis] for axis in plan.mirror_axes) or "none",
        "overlap": f"{plan.overlap:.0%}",
    }
    if plan.task == "classification":
        del choices["spacing_mm"], choices["overlap"]
    rows = [f"| {name} | {_plain(value)} | {_plain(plan.reasons.get(name, ''))} |" for name, value in choices.items()]
    return "\n".join(["| choice | value | why |", "|---|---|---|", *rows])


def _network(plan: Plan) -> str:
    default = "resnet18" if plan.task == "classification" else "unet"
    return plan.network.target or plan.network.name or default


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"


def _interval(ci95: Any) -> str:
    return f"{_number(ci95[0])} to {_number(ci95[1])}" if ci95 else "–"


def _plain(text: str) -> str:
    """Text of others as text: no line breaks, and nothing that Markdown takes for a table or HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
