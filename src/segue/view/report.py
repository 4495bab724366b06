"""``report.html``: a declared list of sections over what lies in the run folder; one file, no network, no scripts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from segue.catalogue import Card, Case
from segue.core.console import duration
from segue.core.errors import DataError
from segue.core.files import write_text
from segue.images import read_labels
from segue.prepare import Plan, read_channels
from segue.train import Run, read_events
from segue.view.pictures import case_picture, curves_picture


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption and what a screen reader says."""

    png: bytes
    caption: str
    alt: str

    @property
    def source(self) -> Markup:
        return Markup("data:image/png;base64,") + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Section:
    """What one section shows; whatever is absent is told in ``missing``."""

    title: str
    paragraphs: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    missing: str | None = None


class _Source:
    """The run's files, read once, each tolerated to be absent."""

    def __init__(self, run: Run, truths: Mapping[str, Case]) -> None:
        self.run, self.truths = run, truths
        self.card: Card = run.card()
        self.plan: Plan = run.plan()

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        return read_events(self.run.events)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return self.optional("metrics.json")

    def optional(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.run.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def scored(self) -> list[tuple[float | None, str, str, dict[str, Any]]]:
        """(mean Dice, part, case, scores per label), worst first; cases without any Dice last."""
        rows = []
        for part, content in self.metrics.items():
            for case, scores in content["cases"].items():
                values = [s["dice"] for s in scores["labels"].values() if s["dice"] is not None]
                rows.append((float(np.mean(values)) if values else None, part, case, scores["labels"]))
        return sorted(rows, key=lambda row: (row[0] is None, row[0] or 0.0, row[2]))


def write_report(run: Run, truths: Mapping[str, Case]) -> Path:
    """Write the report of a run; ``truths`` gives the images and masks of its cases by id.

    Raises:
        UsageError: the folder is not a run. Anything else that is missing is told in the report.
    """
    source = _Source(run, truths)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("segue.view"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    sections = [build(source) for build in SECTIONS]
    page = environment.get_template("report.html").render(
        title=source.card.title, name=run.folder.name, sections=sections
    )
    write_text(run.report, page)
    return run.report


def _summary(source: _Source) -> Section:
    card, split = source.card, source.optional("split.json")
    patients = {part: len({c["patient"] for c in split.get(part, [])}) for part in ("train", "val", "test")}
    labels = ", ".join(card.labels.values())
    text = [
        f"A network learned to outline {labels} from the annotated images of {patients['train']} patients "
        f"({', '.join(c.name for c in card.channels)}) and was measured on {patients['val'] + patients['test']} "
        "patients that it had not learned from."
    ]
    for part, content in source.metrics.items():
        for name, metrics in content["aggregate"].items():
            dice = metrics["dice"]
            if name != "all" and dice["value"] is not None:
                text.append(f"{name}: Dice {_figure(dice)} over {dice['n']} {_part(part)} cases.")
            invented = metrics.get("false_positive_ml_without_truth", {"n": 0})
            if invented["n"]:
                text.append(
                    f"Where there is no {name} ({invented['n']} of the {_part(part)} cases) the model marked "
                    f"{invented['value']:.2f} ml on average that it should not have."
                )
    if source.metrics:
        text.append(
            "Dice is twice the shared volume over the sum of both volumes: 1 is perfect agreement, 0 is none. "
            "The interval is where the mean would fall in 95 of 100 samples of patients."
        )
    if "val" in source.metrics:
        text.append(
            "The validation patients also chose the moment of training that is kept, so their figures are "
            "slightly optimistic."
        )
    finished = next((e for e in reversed(source.events) if e["event"] == "finished"), None)
    if finished:
        text.append(f"Training took {duration(finished['seconds'])} and {finished['step']} steps.")
    left_out = source.optional("findings.json").get("left_out", [])
    text += [f"Left out: {f['case']}: {f['what']} ({f['value']})." for f in left_out]
    failed = [f for content in source.metrics.values() for f in content.get("failed", [])]
    text += [f"Not measured: {f['where']}: {f['what']} ({f['value']})." for f in failed]
    return Section("In short", text, missing=None if source.metrics else "Nothing has been measured yet.")


def _part(part: str) -> str:
    return "validation" if part == "val" else part


def _figure(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "-"
    text = f"{metric['value']:.3f}"
    return text + (f" ({metric['ci95'][0]:.3f} to {metric['ci95'][1]:.3f})" if metric["ci95"] else "")


def _means(source: _Source) -> Section:
    columns = {
        "dice": "Dice (95 % interval)",
        "truth_volume_ml": "truth ml",
        "volume_ml": "predicted ml",
        "false_positive_ml": "false positive ml",
        "false_negative_ml": "false negative ml",
    }
    rows = []
    for part, content in source.metrics.items():
        for name, metrics in content["aggregate"].items():
            cells = [_figure(metrics[key]) if key in metrics else "" for key in columns]
            rows.append([_part(part), name, str(metrics["dice"]["n"]), *cells])
    note = (
        "False positive and negative volumes are whole connected components (18 neighbours) that the other mask does "
        "not touch. Cases where truth and prediction are both empty have no Dice and are left out of its mean."
    )
    return Section(
        "Figures",
        [note] if rows else [],
        ["part", "label", "cases", *columns.values()],
        rows,
        missing=None if rows else "Nothing has been measured yet.",
    )


def _curves(source: _Source) -> Section:
    steps = [e for e in source.events if e["event"] == "step" and e["loss"] is not None]
    validated = [e for e in source.events if e["event"] == "validated"]
    pictures = []
    if steps:
        loss = ([e["seconds"] / 60 for e in steps], [e["loss"] for e in steps])
        pictures.append(Picture(curves_picture({"loss": loss}, "loss"), "Training loss", "Training loss over time"))
    if validated:
        minutes = [e["seconds"] / 60 for e in validated]
        series = {"mean": (minutes, [e["mean_dice"] for e in validated])}
        for name in source.plan.labels.values():
            if len(source.plan.labels) > 1 and all(name in e["dice"] for e in validated):
                series[name] = (minutes, [e["dice"][name] for e in validated])
        picture = curves_picture(series, "Dice", (0, 1))
        pictures.append(Picture(picture, "Dice of the validation patients", "Validation Dice over time"))
    return Section("Learning", pictures=pictures, missing=None if pictures else "No training step is recorded yet.")


def _pictures(source: _Source) -> Section:
    measured = [row for row in source.scored if row[0] is not None]
    if not measured:
        return Section("Best, median and worst case", missing="No case has been measured yet.")
    chosen = {"Best": measured[-1], "Median": measured[len(measured) // 2], "Worst": measured[0]}
    pictures, problems = [], []
    for word, (dice, part, case, _) in chosen.items():
        try:
            png = _case_png(source, part, case)
        except DataError as error:
            problems.append(f"{word} case {case}: {error.what}.")
            continue
        caption = f"{word}: {case}, Dice {dice:.3f}"
        pictures.append(Picture(png, caption, f"{caption}. Truth in solid orange, prediction in dashed blue outlines"))
    text = [
        "Patient's right is on the left of the picture. Planes pass where the true label is largest.",
        *problems,
    ]
    return Section("Best, median and worst case", text, pictures=pictures)


def _case_png(source: _Source, part: str, name: str) -> bytes:
    case = source.truths.get(name)
    if case is None or case.label is None:
        raise DataError("its images are not where they were", where=name)
    image = read_channels(case, source.card)
    truth = read_labels(case.label)
    prediction = read_labels(source.run.predictions(part) / f"{name}.nii.gz")
    for mask in (truth, prediction):
        if mask.geometry.shape != image.geometry.shape:
            raise DataError("image and mask do not have the same shape", where=name)
    return case_picture(image, truth.array[0], prediction.array[0], source.card.channels)


def _cases(source: _Source) -> Section:
    rows = []
    for dice, part, case, labels in source.scored:
        for label, scores in labels.items():
            volumes = [f"{scores[key]:.2f}" for key in ("truth_volume_ml", "volume_ml", "false_positive_ml")]
            own = "both empty" if scores["dice"] is None else f"{scores['dice']:.3f}"
            rows.append([case, _part(part), label, own, "-" if dice is None else f"{dice:.3f}", *volumes])
    return Section(
        "Every case, worst first",
        [],
        ["case", "part", "label", "Dice", "mean of case", "truth ml", "predicted ml", "false positive ml"],
        rows,
        missing=None if rows else "No case has been measured yet.",
    )


def _plan(source: _Source) -> Section:
    plan = source.plan
    network = plan.network.target or ", ".join(f"{key} {value}" for key, value in plan.network.args.items())
    values = {
        "spacing_mm": " x ".join(f"{value:g}" for value in plan.spacing_mm) + " mm",
        "patch": "x".join(map(str, plan.patch)),
        "batch": str(plan.batch),
        "network": network,
        "foreground_share": f"{plan.foreground_share:.2f}",
        "mirror_axes": ", ".join(map(str, plan.mirror_axes)) or "none",
        "overlap": f"{plan.overlap:.2f}",
    }
    for channel, rule in zip(plan.channels, plan.normalisation, strict=True):
        values[f"normalisation.{channel.name}"] = rule.kind
    rows = [[name, value, plan.reasons.get(name, "")] for name, value in values.items()]
    return Section("The plan, and why", [], ["choice", "value", "reason"], rows)


def _dataset(source: _Source) -> Section:
    card = source.card
    text = [f"{card.title} ({card.name}). {card.description}".strip()]
    if card.licence:
        text.append(f"Licence: {card.licence.spdx}" + (f": {card.licence.note}." if card.licence.note else "."))
    for cited in card.citations:
        parts = [
            ", ".join(cited.authors),
            cited.title,
            cited.venue,
            str(cited.year),
            cited.doi and f"doi:{cited.doi}",
        ]
        text.append("Cite: " + ". ".join(part for part in parts if part) + ".")
    text += [f"Known: {defect.what}." for defect in card.defects]
    split = source.optional("split.json")
    counts = [f"{len(split[part])} {_part(part)}" for part in ("train", "val", "test") if split.get(part)]
    return Section("Data", [*text, f"Cases: {', '.join(counts)}." if counts else ""])


def _environment(source: _Source) -> Section:
    facts = source.optional("environment.json")
    rows = [[str(name), str(value)] for name, value in facts.items()]
    return Section(
        "Environment, and how to repeat it",
        [],
        ["what", "value"],
        rows,
        missing=None if rows else "The training has not ended yet.",
    )


SECTIONS: tuple[Callable[[_Source], Section], ...] = (
    _summary,
    _pictures,
    _means,
    _curves,
    _cases,
    _plan,
    _dataset,
    _environment,
)
