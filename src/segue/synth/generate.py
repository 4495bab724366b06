"""Many synthetic patients on disk, in the layout of FDG-PET-CT-Lesions."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue.core.errors import DataError, UsageError
from segue.core.executor import map_cases
from segue.core.files import content_key, parse_json, write_json, write_text
from segue.core.seeds import generator
from segue.images import write
from segue.synth.petct import SUV_STEP, PetCtPatient, PetCtSettings, patient, patient_name

# Part of every patient's key: a change of what the generator makes raises it, and old files are made anew.
_VERSION = 2
_RECEIPT = "synthetic.json"
_FILES = ("CT.nii.gz", "CTres.nii.gz", "SUV.nii.gz", "SEG.nii.gz")
_COLUMNS = ("patient", "study", "lesions", "lesion_ml", "prevalence", "sites", "peaks_suv")


@dataclass(frozen=True)
class _Task:
    index: int
    settings: PetCtSettings
    lesions: bool
    output: Path

    @property
    def id(self) -> str:
        return patient_name(self.index, self.settings.seed)[0]

    @property
    def folder(self) -> Path:
        name, study = patient_name(self.index, self.settings.seed)
        return self.output / name / study

    @property
    def key(self) -> str:
        return content_key(_VERSION, self.index, self.settings.size, self.settings.seed, self.lesions)


def generate(
    output: Path,
    number: int,
    settings: PetCtSettings,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    on_done: Callable[[str], None] | None = None,
) -> None:
    """Write ``number`` patients to ``output/PATIENT/STUDY/{CT,CTres,SUV,SEG}.nii.gz``, then ``index.csv``.

    Patients that these very settings have made already are left as they are, those of another size are made
    anew. Patients beyond ``number`` that an earlier call made stay, and stand in ``index.csv`` too.

    Args:
        workers: local processes (default: one per core).
        executor: where to run instead of local processes.
        on_done: called with each patient's id, in order.

    Raises:
        UsageError: no patient is wanted, or the folder holds synthetic patients that would stay beside these
            and have another seed or size.
        MachineError: the disk is full or may not be written.
    """
    if number < 1:
        raise UsageError("at least one patient is needed", value=number, remedy="ask for 1 or more")
    negative = _negatives(number, settings)
    tasks = [_Task(index, settings, index not in negative, output) for index in range(number)]
    rows = _patients_beside(tasks, settings, output)
    for task, facts in map_cases(_make, tasks, workers=workers, executor=executor):
        if isinstance(facts, DataError):
            raise facts
        rows[task.folder] = facts
        if on_done is not None:
            on_done(task.id)
    write_text(output / "index.csv", _table(rows))


def write_patient(patient: PetCtPatient, folder: Path) -> None:
    """Write CT, CTres, SUV and SEG, each whole or not at all; SUV as int16 in steps of 0.01."""
    write(patient.ct, folder / "CT.nii.gz")
    write(patient.ct_resampled, folder / "CTres.nii.gz")
    write(patient.suv, folder / "SUV.nii.gz", scale=SUV_STEP)
    write(patient.segmentation, folder / "SEG.nii.gz")


def _negatives(number: int, settings: PetCtSettings) -> set[int]:
    """The patients with the lowest lots: with another number nearly all keep what they are."""
    lots = [generator(settings.seed, "negative", index).random() for index in range(number)]
    order = sorted(range(number), key=lots.__getitem__)
    return set(order[: int(number * settings.negatives + 0.5)])


def _make(task: _Task) -> dict[str, Any]:
    receipt = task.folder / _RECEIPT
    kept = _read_receipt(receipt)
    if kept.get("key") == task.key and all((task.folder / name).exists() for name in _FILES):
        return kept["facts"]
    made = patient(task.index, task.settings, lesions=task.lesions)
    receipt.unlink(missing_ok=True)
    write_patient(made, task.folder)
    settings = {"size": task.settings.size, "seed": task.settings.seed}
    write_json(receipt, {"key": task.key, "settings": settings, "facts": made.facts})
    return made.facts


def _read_receipt(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("facts"), dict) else {}


def _patients_beside(tasks: list[_Task], settings: PetCtSettings, output: Path) -> dict[Path, dict[str, Any]]:
    """Facts of the synthetic patients that lie in the folder and are not among the tasks."""
    ours = {task.folder for task in tasks}
    wanted = {"size": settings.size, "seed": settings.seed}
    found = {}
    for path in sorted(output.glob(f"PETCT_*/*/{_RECEIPT}")):
        kept = _read_receipt(path)
        if path.parent in ours or not kept:
            continue
        there = kept.get("settings")
        if there != wanted:
            raise UsageError(
                "this folder holds synthetic patients of other settings, and they would mix",
                where=path.parent,
                value=f"{there}, now {wanted}",
                remedy="choose another folder, or remove that one",
            )
        found[path.parent] = kept["facts"]
    return found


def _table(rows: dict[Path, dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for folder, facts in rows.items():
        names = {"patient": folder.parent.name, "study": folder.name, "sites": " ".join(facts["sites"])}
        peaks = " ".join(f"{peak:.1f}" for peak in facts["peaks_suv"])
        table.writerow({**facts, **names, "prevalence": f"{facts['prevalence']:.6f}", "peaks_suv": peaks})
    return text.getvalue()
