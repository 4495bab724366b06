"""The page that compares runs: what differs between them, by how much, on which cases, and how sure that is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import segue
from segue.core.errors import SegueError
from segue.core.files import write_text
from segue.evaluate import RISES, Comparison, Versus, paired_figures
from segue.train import Run
from segue.view.colours import label_colours
from segue.view.metric_words import METRIC_WORDS, MetricWords
from segue.view.page import render_page
from segue.view.sections import Section
from segue.view.words import count, listed, sentence

ALL = "all"
_PARTS = {"val": "validation cases", "test": "test cases", "cases": "cases"}
_CLEAR = 0.05
_MOST_VALUES = 60_000
_MOST_ROWS = 200
_MOST_GROUPS = 12
_WORDS = {words.name: words for words in METRIC_WORDS} | {
    "accuracy": MetricWords("accuracy", "accuracy", share=True),
    "probability_of_truth": MetricWords("probability_of_truth", "probability of the truth", share=True),
}
_WITHOUT_LABELS = ("accuracy", "probability_of_truth")
_SHOWN = (
    "dice",
    "nsd",
    "hd95_mm",
    "lesion_sensitivity",
    "false_positive_lesions",
    "lesionwise_dice",
    "accuracy",
    "probability_of_truth",
)
# What tells one training from another; of the rest of the settings most are paths.
_NOT_SETTINGS = ("output", "runs", "root", "data", "cache", "workers", "device", "command", "finished")


@dataclass(frozen=True)
class ComparisonFacts:
    """A comparison, and what the dataset tells of its cases (site, tracer, age)."""

    comparison: Comparison
    facts: Mapping[str, Mapping[str, Any]]

    def letter(self, name: str) -> str:
        """A for the first run, B for the next, and so on."""
        place = [run.name for run in self.comparison.runs].index(name)
        return chr(ord("A") + place) if place < 26 else f"run {place + 1}"

    def pair(self, versus: Versus) -> str:
        return f"{self.letter(versus.other)} against {self.letter(versus.one)}"


def write_comparison_page(
    path: Path, comparison: Comparison, facts: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """Write the page, whole or not at all, and return its path.

    Args:
        path: an ``.html`` file.
        facts: what is known of each case beside its figures.

    Raises:
        MachineError: the disk is full or the folder may not be written.
    """
    told = ComparisonFacts(comparison, facts or {})
    names = [Path(run.name).name or run.name for run in comparison.runs]
    write_text(
        path,
        render_page(
            {
                "kicker": "Comparison of runs",
                "title": f"{listed(names, 4)} compared",
                "version": segue.__version__,
                "finished": None,
                "run": listed([run.name for run in comparison.runs], 20),
            },
            COMPARISON_SECTIONS,
            told,
            {"comparison": comparison_data(told), "reports": _reports(told, path.parent)},
        ),
    )
    return path


def _reports(told: ComparisonFacts, folder: Path) -> dict[str, str]:
    """Where the report of each run lies, as an address from the page's folder."""
    found = {}
    for run in told.comparison.runs:
        report = Run(Path(run.name)).report
        if report.exists():
            # A name cannot become another scheme: what is special in an address is escaped.
            found[told.letter(run.name)] = quote(os.path.relpath(report, folder).replace(os.sep, "/"))
    return found


def _summary(told: ComparisonFacts) -> dict[str, Any]:
    runs = [{"letter": told.letter(run.name), "name": run.name} for run in told.comparison.runs]
    verdicts = [_verdict(told, versus) for versus in told.comparison.pairs]
    remarks = [sentence(remark) for versus in told.comparison.pairs for remark in versus.remarks]
    few = [versus for versus in told.comparison.pairs if versus.patients < 10]
    if few:
        remarks.append(
            f"{count(few[0].patients, 'patient')} are few: another choice of patients could turn the result."
        )
    return {"runs": runs, "verdicts": verdicts, "remarks": list(dict.fromkeys(remarks))}


def _verdict(told: ComparisonFacts, versus: Versus) -> dict[str, Any]:
    one, other = told.letter(versus.one), told.letter(versus.other)
    rows = [row for row in versus.differences if row.metric in _SHOWN]
    first = next((row for row in rows if row.label == ALL), rows[0] if rows else None)
    whom = f" of {count(versus.patients, 'patient')}" if versus.patients != versus.cases else ""
    text = [f"{versus.cases} {_PARTS.get(versus.part, 'cases')}{whom} were measured in both {one} and {other}."]
    if versus.left_out:
        text[0] = f"{text[0][:-1]}; {count(versus.left_out, 'case')} that only one of them has stayed out."
    if first is not None:
        words = _WORDS[first.metric]
        better = other if (first.found.difference > 0) == bool(RISES[first.metric]) else one
        low_high = first.found.ci95
        clear = low_high is not None and (low_high[0] > 0 or low_high[1] < 0)
        within = f" (95 % interval {_signed(low_high[0], words)} to {_signed(low_high[1], words)})" if low_high else ""
        amount = f"{_signed(first.found.difference, words)}{within}"
        over = "averaged over the labels, " if first.label == ALL and first.metric not in _WITHOUT_LABELS else ""
        verdict = f"{better} is better" if clear else "neither is clearly better"
        text.append(
            sentence(
                f"{over}{words.title} goes from {_plain(first.one, words)} in {one} to {_plain(first.other, words)} in "
                f"{other}, a difference of {amount}: {verdict}"
            )
        )
        text.append(
            f"{one} is better in {first.one_better} cases, {other} in {first.other_better}, and in "
            f"{first.found.n - first.one_better - first.other_better} both are the same."
        )
        clearly = [row for row in rows if row.p_holm is not None and row.p_holm < _CLEAR and row.label != ALL]
        if clearly:
            named = [f"{_WORDS[row.metric].title} of {row.label}" for row in clearly]
            text.append(f"After correction for all labels and runs, these differ clearly: {listed(named, 8)}.")
    return {"title": f"{other} against {one}", "text": text}


def _plain(value: float, words: MetricWords) -> str:
    return f"{value:.3f}" if words.share else f"{value:.2f}" + (f" {words.unit}" if words.unit else "")


def _signed(value: float, words: MetricWords) -> str:
    return (f"{value:+.3f}" if words.share else f"{value:+.2f}").replace("-", "−")


def _settings(told: ComparisonFacts) -> dict[str, Any]:
    known = {run.name: _described(Path(run.name)) for run in told.comparison.runs}
    keys = list(dict.fromkeys(key for found in known.values() for key in found))
    rows = [
        {"name": key, "values": values}
        for key in keys
        if len(set(values := [found.get(key, "–") for found in known.values()])) > 1
    ]
    problem = (
        None if any(known.values()) else "None of these is a run folder, so nothing is known of how they came about."
    )
    return {"letters": [told.letter(name) for name in known], "rows": rows, "problem": problem}


def _described(folder: Path) -> dict[str, str]:
    """The settings, the plan and the machine of a run, flat; nothing of a folder of masks."""
    run, found = Run(folder), {}
    readers: tuple[Callable[[], Any], ...] = (run.settings, lambda: _of_plan(run), lambda: run.json("environment.json"))
    for read in readers:
        try:
            content = read()
        except (SegueError, OSError, ValueError):
            continue
        if isinstance(content, dict):
            found.update(_flat(content))
    return {key: value for key, value in found.items() if key.split(".")[0] not in _NOT_SETTINGS}


def _of_plan(run: Run) -> dict[str, Any]:
    plan = run.plan()
    return {
        "plan": {
            "patch": list(plan.patch),
            "batch": plan.batch,
            "spacing mm": list(plan.spacing_mm),
            "network": plan.network.target or plan.network.name or "U-Net",
        }
    }


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, str]:
    found = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{before}{key}."))
        else:
            found[f"{before}{key}"] = " × ".join(map(str, value)) if isinstance(value, list) else str(value)
    return found


def _differences(told: ComparisonFacts) -> dict[str, Any]:
    tables = []
    for number, versus in enumerate(told.comparison.pairs):
        rows = [
            {
                "label": _label_words(row.label, row.metric),
                "metric": words.title + (f" ({words.unit})" if words.unit else ""),
                "one": _plain(row.one, words),
                "other": _plain(row.other, words),
                "difference": _signed(row.found.difference, words),
                "interval": "–" if row.found.ci95 is None else " to ".join(_signed(x, words) for x in row.found.ci95),
                "p": "–" if row.p_holm is None else "<0.001" if row.p_holm < 0.001 else f"{row.p_holm:.3f}",
                "clear": row.p_holm is not None and row.p_holm < _CLEAR,
                "one_better": row.one_better,
                "other_better": row.other_better,
            }
            for row in versus.differences
            if row.metric in _SHOWN and (words := _WORDS[row.metric])
        ]
        tables.append(
            {
                "number": number,
                "one": told.letter(versus.one),
                "other": told.letter(versus.other),
                "rows": rows,
                "title": f"{told.pair(versus)}, {_PARTS.get(versus.part, 'cases')}",
            }
        )
    return {"tables": tables}


def _label_words(label: str, metric: str) -> str:
    if label != ALL:
        return label
    return "all" if metric in _WITHOUT_LABELS else "mean of labels"


def _cases(told: ComparisonFacts) -> dict[str, Any]:
    tables = []
    for number, versus in enumerate(told.comparison.pairs):
        rows, words = _main_figures(told, versus)
        rows.sort(key=lambda row: -abs(row["difference"]))
        tables.append(
            {
                "number": number,
                "one": told.letter(versus.one),
                "other": told.letter(versus.other),
                "title": f"{told.pair(versus)}, {_PARTS.get(versus.part, 'cases')}",
                "metric": words.title if words else "",
                "hidden": max(0, len(rows) - _MOST_ROWS),
                "rows": [
                    {
                        **row,
                        "one": _plain(row["one"], words),
                        "other": _plain(row["other"], words),
                        "difference": _signed(row["difference"], words),
                    }
                    for row in rows[:_MOST_ROWS]
                    if words
                ],
            }
        )
    return {"tables": tables}


def _main_figures(told: ComparisonFacts, versus: Versus) -> tuple[list[dict[str, Any]], MetricWords | None]:
    """Each case's first figure (the mean over labels, where there are several) in both runs."""
    figures = _figures(told, versus)
    metric = next((name for name in _SHOWN if any(row[1] == name for rows in figures.values() for row in rows)), None)
    found = []
    for case, rows in figures.items():
        chosen = [row for row in rows if row[1] == metric]
        row = next((row for row in chosen if row[0] == ALL), chosen[0] if chosen else None)
        if row is not None:
            rises = bool(RISES[row[1]])
            better = "" if row[2] == row[3] else versus.other if (row[3] > row[2]) == rises else versus.one
            found.append(
                {
                    "case": case,
                    "one": row[2],
                    "other": row[3],
                    "difference": row[3] - row[2],
                    "better": told.letter(better) if better else "same",
                }
            )
    return found, _WORDS[metric] if metric else None


def _figures(told: ComparisonFacts, versus: Versus) -> dict[str, list[tuple[str, str, float, float]]]:
    by_name = {run.name: run for run in told.comparison.runs}
    return paired_figures(by_name[versus.one], by_name[versus.other], versus.part)


def _groups(told: ComparisonFacts) -> dict[str, Any]:
    """Who wins where: by what the dataset tells of the cases, and by thirds of the first run's figure."""
    tables = []
    for versus in told.comparison.pairs:
        rows, words = _main_figures(told, versus)
        if words is None or len(rows) < 2:
            continue
        for name, groups in _grouped(rows, told.facts).items():
            tables.append(
                {
                    "title": f"{told.pair(versus)}, by {name}",
                    "one": told.letter(versus.one),
                    "other": told.letter(versus.other),
                    "metric": words.title,
                    "rows": [_group_row(group, members, words, told, versus) for group, members in groups.items()],
                }
            )
    return {"tables": tables}


def _grouped(
    rows: Sequence[dict[str, Any]], facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    ordered = sorted(rows, key=lambda row: row["one"])
    third = -(-len(ordered) // 3)
    thirds = {
        "its lowest third": ordered[:third],
        "its middle third": ordered[third : 2 * third],
        "its highest third": ordered[2 * third :],
    }
    found = {"how well the first run does": {name: members for name, members in thirds.items() if members}}
    for name in dict.fromkeys(key for row in rows for key in facts.get(row["case"], {})):
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            value = facts.get(row["case"], {}).get(name)
            if isinstance(value, str) and value:
                groups.setdefault(value, []).append(row)
        if 2 <= len(groups) <= _MOST_GROUPS and any(len(members) > 1 for members in groups.values()):
            found[name] = dict(sorted(groups.items()))
    return found


def _group_row(
    group: str, members: Sequence[dict[str, Any]], words: MetricWords, told: ComparisonFacts, versus: Versus
) -> dict[str, Any]:
    mean = {side: sum(row[side] for row in members) / len(members) for side in ("one", "other", "difference")}
    letters = told.letter(versus.one), told.letter(versus.other)
    return {
        "group": group,
        "cases": len(members),
        "one": _plain(mean["one"], words),
        "other": _plain(mean["other"], words),
        "difference": _signed(mean["difference"], words),
        "one_better": sum(row["better"] == letters[0] for row in members),
        "other_better": sum(row["better"] == letters[1] for row in members),
    }


def comparison_data(told: ComparisonFacts) -> list[dict[str, Any]]:
    """What the charts draw: of each pair of runs the figures of each case as ``values[metric][label]``, two lists."""
    found = []
    for versus in told.comparison.pairs:
        figures = _figures(told, versus)
        cases = list(figures)
        labels = list(dict.fromkeys(row[0] for rows in figures.values() for row in rows))
        labels.sort(key=lambda label: label != ALL)
        there = {row[1] for rows in figures.values() for row in rows}
        most = max(2, _MOST_VALUES // max(1, 2 * len(cases) * len(labels)))
        metrics = [name for name in (*_SHOWN, *(m for m in _WORDS if m not in _SHOWN)) if name in there][:most]
        place = {case: number for number, case in enumerate(cases)}
        values: dict[str, dict[str, list[list[float | None]]]] = {}
        for case, rows in figures.items():
            for label, metric, one, other in rows:
                if metric in metrics:
                    sides = values.setdefault(metric, {}).setdefault(label, [[None] * len(cases), [None] * len(cases)])
                    sides[0][place[case]], sides[1][place[case]] = float(f"{one:.5g}"), float(f"{other:.5g}")
        colours = label_colours([label for label in labels if label != ALL])
        found.append(
            {
                "one": told.letter(versus.one),
                "other": told.letter(versus.other),
                "cases": cases,
                "labels": [
                    {
                        "name": label,
                        "title": "mean of labels" if label == ALL and len(labels) > 1 else label,
                        "colour": colours.get(label, "var(--ink)"),
                    }
                    for label in labels
                ],
                "metrics": [
                    {
                        "name": name,
                        "title": _WORDS[name].title,
                        "unit": _WORDS[name].unit,
                        "rises": RISES[name],
                        "unit_interval": _WORDS[name].share,
                    }
                    for name in metrics
                ],
                "values": values,
                "differences": [
                    {
                        "label": row.label,
                        "metric": row.metric,
                        "difference": row.found.difference,
                        "low_high": row.found.ci95,
                    }
                    for row in versus.differences
                    if row.metric in metrics
                ],
            }
        )
    return found


COMPARISON_SECTIONS: tuple[Section[ComparisonFacts], ...] = (
    Section("summary", "In short", _summary, "compared_summary"),
    Section("differences", "Differences", _differences, "compared_differences"),
    Section("paired", "Case by case", _cases, "compared_cases"),
    Section("groups", "Who wins where", _groups, "compared_groups"),
    Section("settings", "What differs between the runs", _settings, "compared_settings"),
)
