"""Beginning a run: which folder a fold is trained into, and what is written there before the first step.

The first training of a run folder lies in the folder itself; folds that join it lie in ``fold_N`` and follow its plan.
Jobs that start at once take turns here, so that one of them owns the folder and the others find it begun.
"""

from __future__ import annotations

import datetime
import platform
from typing import TYPE_CHECKING, Any

import torch
import yaml

import segue
from segue.catalogue import Split
from segue.core.alone import alone
from segue.core.errors import DataError, UsageError
from segue.core.files import jsonable, write_json, write_text
from segue.prepare import Plan
from segue.train import Run
from segue.workflow.experiment import Experiment, difference
from segue.workflow.look import findings_of_verdicts

if TYPE_CHECKING:
    from segue.workflow.planning import Planned


def require_same_experiment(run: Run, experiment: Experiment) -> None:
    """Whatever lies in the folder already must be this experiment, or another fold of it.

    Raises:
        UsageError: it is another one.
    """
    if not run.config.exists():
        return
    settings = run.settings()
    if "none" not in (settings.get("fold", 0), experiment.fold):
        settings["fold"] = experiment.fold  # any fold may join a folder of folds
    text = difference(settings, experiment)
    if text:
        raise UsageError(
            "this run folder holds another experiment",
            where=run.folder,
            value=text,
            remedy="choose another folder with -o, or repeat the command that began this one to continue it",
        )


def folder_of(top: Run, experiment: Experiment) -> Run:
    """Where the experiment's fold is trained: in the folder itself if it is the first there, else in ``fold_N``."""
    if not top.config.exists() or top.fold == experiment.fold or not isinstance(experiment.fold, int):
        return top
    return top.fold_folder(experiment.fold)


def begin(top: Run, experiment: Experiment, planned: Planned, split: Split) -> tuple[Run, Plan]:
    """Write what is known before the training, and return the folder that is trained into and the plan to follow.

    Raises:
        UsageError: another experiment came first. DataError: the data changed since the run began.
    """
    with alone(top.folder):
        require_same_experiment(top, experiment)
        run = folder_of(top, experiment)
        # config.yaml is written last: a folder without it was not begun, whatever else lies there.
        made = top.plan() if top.config.exists() else planned.plan
        if experiment.fold != "cv" or not run.config.exists() or run.fold == "cv":
            _write_run(run, experiment, planned, made, split)
    return run, made


def _write_run(run: Run, experiment: Experiment, planned: Planned, made: Plan, split: Split) -> None:
    parts: dict[str, Any] = {
        part: [{"id": c.id, "patient": c.patient, "digest": planned.digests.get(c.id, "")} for c in cases]
        for part, cases in (("train", split.train), ("val", split.val), ("test", split.test))
    }
    if run.config.exists():
        before = run.json("split.json")
        changed = [
            name
            for part in ("train", "val")
            for name in {_identity(c) for c in before[part]} ^ {_identity(c) for c in parts[part]}
        ]
        if changed:
            names = sorted({name for name, _ in changed})
            raise DataError(
                "the data changed since this run began",
                where=run.folder,
                value=", ".join(names[:5]) + (" ..." if len(names) > 5 else ""),
                remedy="put the old data (and verdicts) back, or begin a new run with -o",
            )
    write_json(run.folder / "card.json", planned.dataset.card)
    write_json(run.folder / "plan.json", made)
    write_json(run.fingerprint, planned.facts)
    write_json(run.folder / "split.json", parts)
    left_out = [*planned.left_out, *findings_of_verdicts(planned.dataset)]
    write_json(run.folder / "findings.json", {"left_out": left_out, "findings": planned.findings})
    places = {"root": planned.dataset.root.resolve(), "splits": experiment.splits and experiment.splits.resolve()}
    write_text(run.config, yaml.safe_dump(jsonable(experiment.model_copy(update=places)), sort_keys=False))


def _identity(entry: dict[str, str]) -> tuple[str, str]:
    return entry["id"], entry["digest"]


def write_environment(run: Run, device: torch.device, seconds: dict[str, float]) -> None:
    """``environment.json``: what the training ran on, and how long its stages took."""
    write_json(
        run.folder / "environment.json",
        {
            "segue": segue.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "system": f"{platform.system()} {platform.machine()}",
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "threads": str(torch.get_num_threads()),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": f"segue train {run.config} -o ANOTHER_FOLDER",
            **{f"seconds: {name}": str(value) for name, value in seconds.items()},
        },
    )
