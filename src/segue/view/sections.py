"""The sections of the report: each turns the facts of a run into what its template shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import yaml

from segue.catalogue.citing import Citation
from segue.core.console import duration
from segue.evaluate import distance_unit
from segue.prepare import Plan
from segue.view.case_gallery import case_gallery
from segue.view.colours import is_colour
from segue.view.curves import learning_curves
from segue.view.facts import CaseFigures, Part, Remark, RunFacts
from segue.view.folds import folds_section
from segue.view.gallery import gallery
from segue.view.page import Section, data_uri
from segue.view.page_data import cases_in_order
from segue.view.samples import samples_section
from segue.view.summary import PART_NAMES, summarise
from segue.view.tiles import webp_size, webp_uri
from segue.view.volumes import viewer_section
from segue.view.windows import window_for
from segue.view.words import DASH, count, dice, interval, listed, sentence, unit, volume

MOST_ROWS = 200
# With more labels than so, a case is one row, and its worst label is named.
_MOST_LABEL_ROWS = 1200
_MOST_COLUMNS = 12
_MOST_EXAMPLES = 3
_SECONDS = "seconds: "


def _summary(facts: RunFacts) -> dict[str, Any]:
    return asdict(summarise(facts))


def _measures(facts: RunFacts) -> dict[str, Any]:
    tables = [
        {
            "title": PART_NAMES[name],
            "unit": unit(pixel_ml := facts.pixel_ml(name)),
            "distance": distance_unit(pixel_ml),
            **_aggregate(part, pixel_ml),
        }
        for name, part in facts.parts.items()
    ]
    extent = "area" if tables and all(table["unit"] == "pixels" for table in tables) else "volume"
    return {"tables": tables, "whom": facts.whom, "extent": extent, "problem": facts.missing.get("metrics.json")}


def _aggregate(part: Part, pixel_ml: float | None) -> dict[str, Any]:
    rows = []
    for label in part.labels:
        negative = part.mean(label, "false_positive_ml_without_truth")
        overlap = part.mean(label, "dice")
        rows.append(
            {
                "label": label,
                "dice": overlap.value,
                "interval": interval(overlap),
                "low_high": overlap.ci95,
                "n": overlap.n,
                "surfaces": _surfaces(part, label),
                "volumes": [
                    volume(part.mean(label, metric).value, pixel_ml)
                    for metric in ("truth_volume_ml", "volume_ml", "false_positive_ml", "false_negative_ml")
                ],
                "negative": f"{volume(negative.value, pixel_ml)} ({negative.n})" if negative.n else DASH,
                "empty": round(part.mean(label, "dice_both_empty").value or 0),
            }
        )
    overall = part.mean("all", "dice")
    return {
        "rows": rows,
        "tolerance": None if part.tolerance_mm is None else f"{part.tolerance_mm:g}",
        "negatives": any(row["negative"] != DASH for row in rows),
        "all": {
            "dice": overall.value,
            "interval": interval(overall),
            "low_high": overall.ci95,
            "n": overall.n,
            "surfaces": _surfaces(part, "all"),
        }
        if len(rows) > 1
        else None,
    }


def _surfaces(part: Part, label: str) -> list[str]:
    """HD95 in mm and NSD; nothing where an older segue measured no surfaces."""
    if part.tolerance_mm is None:
        return []
    distance = part.mean(label, "hd95_mm").value
    return [DASH if distance is None else f"{distance:.2f}", dice(part.mean(label, "nsd").value)]


def _pictures(facts: RunFacts) -> dict[str, Any]:
    shown = gallery(facts)
    channels = facts.card.channels if facts.card else []
    units = {channel.unit for channel in channels}
    windows = [
        text
        for kind, text in (
            ("HU", "CT from −160 to 240 HU"),
            ("SUV", "PET from SUV 0 to 10, dark is high, with the maximum projected from front to back"),
            ("arbitrary", "images in arbitrary units from their 1st to their 99th percentile"),
        )
        if kind in units
    ]
    drawn = [case for cases in shown.values() for case in cases if case.png]
    volumes, flat = any(not case.flat for case in drawn), any(case.flat for case in drawn)
    if flat and not volumes and is_colour(channels):
        windows = ["colours are as stored (of other than 8 bits: up to the picture's own maximum)"]
    groups = [
        {
            "title": PART_NAMES[name],
            "cases": [{**asdict(case), "src": data_uri(case.png) if case.png else None} for case in cases],
        }
        for name, cases in shown.items()
    ]
    problem = None if groups else facts.missing.get("metrics.json", "No case was measured, so there is none to show.")
    return {"groups": groups, "problem": problem, "windows": sentence("; ".join(windows)),
            "whom": facts.whom, "flat": flat, "volumes": volumes or not flat}  # fmt: skip


def _cases(facts: RunFacts) -> dict[str, Any]:
    tables = []
    for name, part in facts.parts.items():
        several, pixel_ml = len(part.labels) > 1, facts.pixel_ml(name)
        listed_cases = part.worst_first[:MOST_ROWS]
        short = sum(len(case.labels) for _, case in listed_cases) > _MOST_LABEL_ROWS
        rows = [_case_row(case_name, case, pixel_ml, short) for case_name, case in listed_cases]
        tables.append(
            {
                "title": PART_NAMES[name],
                "unit": unit(pixel_ml),
                "several": several,
                "short": short,
                "patients": any(row["patient"] for row in rows),
                "rows": rows,
                "hidden": max(0, len(part.cases) - MOST_ROWS),
                "failed": [failure.model_dump() for failure in part.failed],
            }
        )
    pictures = case_gallery(facts)
    return {
        "tables": tables,
        "whom": facts.whom,
        "problem": facts.missing.get("metrics.json"),
        "pictures": [
            {
                **asdict(picture),
                "src": webp_uri(picture.webp) if picture.webp else None,
                "size": webp_size(picture.webp) if picture.webp else None,
                "alt": f"{picture.case}: outlines of truth and prediction where they disagree most. {picture.figures}",
            }
            for picture in pictures
        ],
        "unpictured": len(cases_in_order(facts)) > len(pictures),
        "windows": _window_words(facts),
    }


def _case_row(name: str, case: CaseFigures, pixel_ml: float | None, short: bool) -> dict[str, Any]:
    measured = [(value, label) for label in case.labels if (value := case.of(label, "dice")) is not None]
    worst = min(measured, default=(None, DASH))
    return {
        "case": name,
        "patient": case.patient if case.patient != name else "",
        "mean": case.mean_dice,
        "worst": worst[1],
        "worst_dice": worst[0],
        "measured": len(measured),
        "labels": []
        if short
        else [
            {
                "name": label,
                "dice": case.of(label, "dice"),
                "volumes": [
                    volume(case.of(label, metric), pixel_ml)
                    for metric in ("truth_volume_ml", "volume_ml", "false_positive_ml", "false_negative_ml")
                ],
            }
            for label in case.labels
        ],
    }


def _window_words(facts: RunFacts) -> str:
    if facts.card is None or "HU" not in {channel.unit for channel in facts.card.channels}:
        return ""
    window = window_for(list((facts.plan.labels if facts.plan else facts.card.labels).values()))
    return f"CT is shown in the {window.name} window ({window.low:.0f} to {window.high:.0f} HU).".replace("-", "−")


def _curves(facts: RunFacts) -> dict[str, Any]:
    steps, looks = facts.of("step"), facts.of("validated")
    if not steps and not looks:
        return {"problem": facts.missing.get("events.jsonl", "The training has not written a step yet.")}
    kept = [look for look in looks if look.get("best")]
    told = "No validation yet: only the loss can be shown."
    if facts.settings.get("fold") == "none":
        told = "Every case was trained on, so only the loss can be shown; kept is the running mean of the weights."
    if kept:
        best = kept[-1]
        name, value = ("Dice", best.get("mean_dice")) if "dice" in best else (metric_name(best), best.get("score"))
        told = f"Kept: the state after step {best.get('step')}, validation {name} {dice(value)}."
    resumed = len(facts.of("resumed"))
    score, names, rows = _validations(looks)
    return {
        "score": score,
        "names": names,
        "looks": rows,
        "light": data_uri(learning_curves(facts.events, "light")),
        "dark": data_uri(learning_curves(facts.events, "dark")),
        "told": told if kept or not looks else "",
        "resumed": f"The training was interrupted and resumed {count(resumed, 'time')}." if resumed else "",
        "alt": f"Curves of the loss ({count(len(steps), 'point')}) and of the scores on the validation cases "
        f"({count(len(looks), 'point')}) over the minutes of training.",
    }


def _validations(looks: list[dict[str, Any]]) -> tuple[str, list[str], list[dict[str, Any]]]:
    """What the score is called, the first labels, and a row of figures for each validation."""
    masks = not any("scores" in look for look in looks)
    each = [look.get("dice" if masks else "scores") or {} for look in looks]
    names = list(dict.fromkeys(name for scores in each for name in scores))[:_MOST_COLUMNS]
    shown = names if len(names) > 1 or not masks else []
    kept = max((place for place, look in enumerate(looks) if look.get("best")), default=None)
    rows = [
        {
            "minutes": f"{float(look.get('seconds') or 0) / 60:.1f}",
            "step": look.get("step"),
            "score": look.get("mean_dice", look.get("score")),
            "labels": [scores.get(name) for name in shown],
            "kept": place == kept,
        }
        for place, (look, scores) in enumerate(zip(looks, each, strict=True))
    ]
    return "mean Dice" if masks else metric_name(looks[-1]), shown, rows


def metric_name(event: dict[str, Any]) -> str:
    """What the score of an event is called: ``AUC``, ``accuracy``."""
    name = str(event.get("metric", "score"))
    return "AUC" if name == "auc" else name.replace("_", " ")


def _plan(facts: RunFacts) -> dict[str, Any]:
    if facts.plan is None:
        return {"problem": facts.missing.get("plan.json")}
    return {"choices": _choices(facts.plan, facts.card is not None and facts.card.task == "classification")}


def _choices(plan: Plan, classified: bool) -> list[tuple[str, str, str]]:
    """(what, choice, reason); a reason whose choice has no row of its own gets one."""
    rules = {"hu": "clipped to {0.low:.0f} to {0.high:.0f} HU, minus {0.mean:.0f}, over {0.std:.0f}",
             "suv": "log(1 + SUV) − 1", "image": "minus the image's mean, over its deviation",
             "dataset": "minus {0.mean:.1f}, over {0.std:.1f}"}  # fmt: skip
    network = plan.network.target or plan.network.name or "U-Net"
    size, item = ("input size", ("image", "images")) if classified else ("patch", ("patch", "patches"))
    arguments = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in plan.network.args.items())
    rows = [
        ("spacing_mm", "voxel spacing", " × ".join(f"{value:g}" for value in plan.spacing_mm) + " mm"),
        *[
            (
                f"normalisation.{channel.name}",
                f"intensities of {channel.name}",
                rules.get(rule.kind, rule.kind).format(rule),
            )
            for channel, rule in zip(plan.channels, plan.normalisation, strict=False)
        ],
        ("patch", size, _extent(plan)),
        ("batch", "batch", count(plan.batch, *item) + " a step"),
        ("network", "network", network + (f" ({arguments})" if arguments else "")),
        ("mirror_axes", "mirrored in training", _axes(plan.mirror_axes)),
        ("foreground_share", "patches centred on foreground", f"{100 * plan.foreground_share:.0f} %"),
        ("overlap", "overlap of the sliding window", f"{100 * plan.overlap:.0f} %"),
    ]
    known = {key for key, _, _ in rows}
    if classified:  # an image is seen whole, and nothing in it is outlined
        rows = [row for row in rows if row[0] not in ("foreground_share", "overlap")]
    unnamed = "fixed: the same for every dataset"
    return [(name, value, sentence(plan.reasons.get(key, unnamed))) for key, name, value in rows] + [
        (key.replace("_", " "), "", sentence(why)) for key, why in plan.reasons.items() if key not in known
    ]


def _extent(plan: Plan) -> str:
    flat = plan.dimension == 2 and plan.patch[2] == 1
    return " × ".join(map(str, plan.patch[:2] if flat else plan.patch)) + (" pixels" if flat else " voxels")


def _axes(axes: list[int]) -> str:
    names = {0: "left–right", 1: "front–back", 2: "head–foot"}
    return listed([names.get(axis, str(axis)) for axis in axes]) if axes else "no axis"


def _data(facts: RunFacts) -> dict[str, Any]:
    card = facts.card
    content: dict[str, Any] = {"card": card, "problem": facts.missing.get("card.json")}
    if card is not None:
        content["citations"] = [_citation(citation) for citation in card.citations]
        content["homepage"] = _link(card.access.homepage)
        content["named"] = "classes" if card.task == "classification" else "labels"
        content["labels"] = ", ".join(f"{number} {name}" for number, name in card.labels.items())
        content["channels"] = ", ".join(
            channel.name + (f" ({channel.unit})" if channel.unit != "arbitrary" else "") for channel in card.channels
        )
    content["split"] = [
        (
            PART_NAMES.get(name, "training"),
            count(facts.patients(name), "patient") if facts.patients_known else "patients not named",
            count(len(members), "image"),
        )
        for name in ("train", "val", "test")
        if (members := facts.split.get(name))
    ]
    content["split_problem"] = facts.missing.get("split.json")
    content["remarks"] = _remarks(facts.remarks.left_out + facts.remarks.findings) if facts.remarks else []
    content["remarks_problem"] = facts.missing.get("findings.json")
    return content


def _citation(citation: Citation) -> dict[str, str | None]:
    authors = [author.strip() for author in citation.authors or []]
    names = "; ".join(author for author in authors if author != "others") + (" et al." if "others" in authors else "")
    number = f"({citation.number})" if citation.number else ""
    where = " ".join(part for part in (citation.venue, str(citation.volume or ""), number) if part)
    where += f", {citation.pages}" if citation.pages else ""
    link = f"https://arxiv.org/abs/{citation.arxiv}" if citation.arxiv else None
    if citation.doi:
        link = f"https://doi.org/{citation.doi}"
    title = (citation.title or "").rstrip(".")
    return {"names": names, "title": title, "where": where, "year": str(citation.year or ""), "link": link}


def _link(address: str | None) -> str | None:
    """Only what a browser opens as a page; a card is a file that anybody may have written."""
    return address if address and address.startswith(("https://", "http://")) else None


def _remarks(remarks: list[Remark]) -> list[dict[str, Any]]:
    """Grouped by what was found, the gravest and most frequent first."""
    groups: dict[tuple[str, str], list[Remark]] = {}
    for remark in dict.fromkeys(remarks):
        groups.setdefault((remark.severity, remark.what), []).append(remark)
    order = {"error": 0, "warning": 1, "note": 2}
    table = []
    for (severity, what), found in sorted(groups.items(), key=lambda item: (order.get(item[0][0], 3), -len(item[1]))):
        examples = [remark.case + (f": {remark.value}" if remark.value else "") for remark in found]
        remedy = next((remark.remedy for remark in found if remark.remedy), "")
        table.append(
            {
                "severity": "left out" if severity == "error" else severity,
                "what": what,
                "number": len({remark.case for remark in found}),
                "examples": "; ".join(examples[:_MOST_EXAMPLES])
                + (f"; and {len(examples) - _MOST_EXAMPLES} more" if len(examples) > _MOST_EXAMPLES else ""),
                "remedy": remedy,
            }
        )
    return table


def _environment(facts: RunFacts) -> dict[str, Any]:
    plain = {k: v for k, v in facts.environment.items() if not k.startswith(_SECONDS) and k != "command"}
    stages = []
    for name, value in facts.environment.items():
        if name.startswith(_SECONDS):
            try:
                stages.append((name.removeprefix(_SECONDS), duration(float(value))))
            except ValueError:
                stages.append((name.removeprefix(_SECONDS), value))
    return {
        "command": facts.environment.get("command") or f"segue train {facts.run.config}",
        "rows": list(plain.items()),
        "stages": stages,
        "problem": facts.missing.get("environment.json"),
        "settings": yaml.safe_dump(facts.settings, sort_keys=False, allow_unicode=True) if facts.settings else None,
        "settings_problem": facts.missing.get("config.yaml"),
    }


SECTIONS: tuple[Section[RunFacts], ...] = (
    Section("summary", "In short", _summary),
    Section("measures", "How well", _measures),
    Section("folds", "Folds", folds_section, applies=lambda facts: bool(facts.folds)),
    Section("pictures", "Best, median and worst", _pictures),
    Section("cases", "Every case", _cases),
    Section("viewer", "Images", viewer_section),
    Section("curves", "Learning curves", _curves),
    Section("samples", "What the network saw", samples_section),
    Section("plan", "Plan", _plan),
    Section("data", "Data", _data),
    Section("environment", "Environment", _environment),
)
