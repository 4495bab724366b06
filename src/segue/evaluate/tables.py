"""What a terminal shows of masks that were measured: within 100 columns, the first things first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from segue.core.console import table
from segue.evaluate.aggregation import Evaluation, distance_unit
from segue.evaluate.part import ALL

_WORST = 3
# Names of what comes in any number of separate pieces, each of which is to be found.
_LESIONS = re.compile(
    r"lesion|tumou?r|cancer|carcinom|sarcom|metasta|nodul|polyp|mass(es)?\b|cyst|infarct|stroke|h(a)?emorrh|plaque|"
    r"neoplas|malignan|myoma|adenoma|abscess|aneurysm|\bgtv",
    re.IGNORECASE,
)
_LONGEST_NAME = 24
_WIDTH = 100
_Figures = Mapping[str, dict[str, Any]]


def mask_table(evaluation: Evaluation) -> str:
    """Overlap and surfaces by label and region, then what else there is to know, and the worst cases."""
    lines = [_overview(evaluation)]
    named = {**evaluation.aggregate, **evaluation.regions}
    for name, figures in named.items():
        lines += _lesions(name, figures, evaluation.pixel_ml)
    if evaluation.lesionwise is not None:
        lines += ["", _lesionwise(evaluation, named), ""]
    for name, figures in named.items():
        lines += [*_empty(name, figures, evaluation.pixel_ml), *_pet(name, figures), *_calibration(name, figures)]
    for words, metric in (
        ("both masks empty, left out", "dice_both_empty"),
        ("in only one of the two masks (Dice 0, distances the grid's diagonal)", "dice_one_empty"),
    ):
        counts = {name: figures.get(metric, {}).get("value") for name, figures in named.items()}
        counted = [f"{name} in {number} case(s)" for name, number in counts.items() if number]
        if counted and not (metric == "dice_both_empty" and evaluation.lesionwise is not None):
            lines.append(listed(words, counted))
    if evaluation.postprocessed is not None:
        means = {name: metrics["dice"]["value"] for name, metrics in evaluation.postprocessed.items()}
        told = ", ".join(f"{name} {value:.3f}" for name, value in means.items() if value is not None)
        lines.append(f"with post-processing, which was chosen on these cases: Dice {told}")
    return "\n".join([*lines, *_worst(evaluation)])


def _overview(evaluation: Evaluation) -> str:
    pixel_ml = evaluation.pixel_ml
    extent = "ml" if pixel_ml is None else "pixels"

    def volume(figures: _Figures, metric: str) -> str:
        value = figures.get(metric, {}).get("value")
        return "" if value is None else _volume(value, pixel_ml).split()[0]

    tolerance = evaluation.tolerance_mm
    surfaces = any("hd95_mm" in figures for figures in evaluation.aggregate.values())
    header = ["label", "Dice", "95 % interval"]
    unit = distance_unit(pixel_ml)
    header += [f"HD95 {unit}", f"NSD {tolerance:g} {unit}" if tolerance is not None else "NSD"] if surfaces else []
    header += ["cases", f"truth {extent}", f"predicted {extent}"]
    rows = []
    labels = [item for item in evaluation.aggregate.items() if item[0] != ALL]
    regions = list(evaluation.regions.items())
    overall = evaluation.aggregate.get(ALL) if len(labels or regions) > 1 else None
    mean = [] if overall is None else [(f"mean of {'labels' if labels else 'regions'}", overall)]
    ordered = [*labels, *mean, *regions] if labels else [*regions, *mean]
    for name, figures in ordered:
        dice = figures["dice"]
        row = [shortened(name), dice["value"], interval(dice)]
        if surfaces:
            hd95 = figures.get("hd95_mm", {}).get("value")
            row += ["-" if hd95 is None else f"{hd95:.2f}", figures.get("nsd", {}).get("value")]
        rows.append([*row, dice["n"], volume(figures, "truth_volume_ml"), volume(figures, "volume_ml")])
    return table(header, rows)


def _lesions(name: str, figures: _Figures, pixel_ml: float | None) -> list[str]:
    lesions = figures.get("lesions")
    if name == ALL or not lesions or lesions["value"] is None or not names_lesions(name):
        return []
    cases = lesions["n"]
    number, found = (round(figures[metric]["value"] * cases) for metric in ("lesions", "lesions_found"))
    wrong = figures["false_positive_lesions"]["value"]
    each = figures["lesion_sensitivity"]
    text = f"{name}: {found} of {number} lesions found"
    if each["value"] is not None:
        within = f", {interval(each)}" if each["ci95"] else ""
        text += f" (mean of cases {each['value']:.3f}{within})"
    beside, missed = (
        _volume(figures[metric]["value"], pixel_ml) for metric in ("false_positive_ml", "false_negative_ml")
    )
    return [text, f"  per case: {wrong:.2f} false lesions ({beside}), {missed} of lesions missed"]


def _lesionwise(evaluation: Evaluation, named: Mapping[str, _Figures]) -> str:
    rules = evaluation.lesionwise
    assert rules is not None, "asked for"
    rows = []
    for name, figures in named.items():
        if name != ALL and "lesionwise_dice" in figures:
            dice, hd95 = figures["lesionwise_dice"], figures["lesionwise_hd95_mm"]
            counts = [
                round(figures[f"lesionwise_{metric}"]["value"] * dice["n"])
                for metric in ("lesions", "missed", "false_positives")
            ]
            rows.append([shortened(name), dice["value"], interval(dice), f"{hd95['value']:.2f}", dice["n"], *counts])
    dropped = f"lesions of at most {rules.least_mm3:g} mm3 dropped"
    title = f"lesion-wise as BraTS: truth dilated {rules.dilation} x, {dropped}"
    header = ["", "Dice", "95 % interval", "HD95 mm", "cases", "lesions", "missed", "false"]
    return f"{title}\n{table(header, rows)}"


def _empty(name: str, figures: _Figures, pixel_ml: float | None) -> list[str]:
    lines = []
    invented = figures.get("false_positive_ml_without_truth")
    if name != ALL and invented and invented["n"]:
        volume = _volume(invented["value"], pixel_ml)
        lines.append(f"{invented['n']} case(s) without {name}: {volume} false positive on average")
    return lines


def _pet(name: str, figures: _Figures) -> list[str]:
    if name == ALL or figures.get("mtv_ml", {}).get("value") is None:
        return []
    said = []
    for words, metric in (("MTV", "mtv_ml"), ("TLG", "tlg_ml"), ("SUVmax", "suv_max")):
        predicted, true = (figures[key]["value"] for key in (metric, f"truth_{metric}"))
        first, second = ("-" if value is None else f"{value:.4g}" for value in (predicted, true))
        said.append(f"{words} {first}{' ml' if metric == 'mtv_ml' else ''} (true {second})")
    return [f"{name}: {', '.join(said)}"]


def _calibration(name: str, figures: _Figures) -> list[str]:
    error, brier = (figures.get(metric, {}).get("value") for metric in ("calibration_error", "brier"))
    if error is None or brier is None:
        return []
    return [f"{name}: calibration error of the voxels within 10 mm {error:.3f}, Brier score {brier:.3f}"]


def _worst(evaluation: Evaluation) -> list[str]:
    scored = [(dice, case) for case in evaluation.cases if (dice := case.mean_dice) is not None]
    if len(scored) <= _WORST:
        return []
    told, unit = [], distance_unit(evaluation.pixel_ml)
    for dice, case in sorted(scored, key=lambda item: (item[0], item[1].case))[:_WORST]:
        values = [hd95 for figures in (case.labels or case.regions).values() if (hd95 := figures.get("hd95_mm"))]
        told.append(f"{case.case} {dice:.3f}" + (f" (HD95 {max(values):.1f} {unit})" if values else ""))
    return [listed("worst", told)]


def _volume(value_ml: float, pixel_ml: float | None) -> str:
    return f"{value_ml:.3f} ml" if pixel_ml is None else f"{value_ml / pixel_ml:.0f} pixels"


def interval(figure: Mapping[str, Any]) -> str:
    """``0.871 to 0.894``, nothing where there is none."""
    return "" if figure["ci95"] is None else f"{figure['ci95'][0]:.3f} to {figure['ci95'][1]:.3f}"


def listed(words: str, parts: Sequence[str]) -> str:
    """``words: one, two``, in as many lines as it needs."""
    lines = [f"{words}:"]
    for place, part in enumerate(parts):
        text = part + ("," if place < len(parts) - 1 else "")
        if len(lines[-1]) + 1 + len(text) > _WIDTH:
            lines.append(" ")
        lines[-1] += f" {text}"
    return "\n".join(lines)


def names_lesions(label: str) -> bool:
    """Whether a label is of what lies in separate pieces that are to be found one by one."""
    return _LESIONS.search(label) is not None


def shortened(name: str, width: int = _LONGEST_NAME) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."
