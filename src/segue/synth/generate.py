"""Many synthetic patients on disk, in the layout of FDG-PET-CT-Lesions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from segue.core.errors import DataError, UsageError
from segue.core.executor import map_cases
from segue.core.files import content_key, write_json, write_text
from segue.core.seeds import generator
from segue.images import write
from segue.synth.petct import SUV_STEP, PetCtPatient, PetCtSettings, patient, patient_name

_VERSION = 1
_FACTS = "synthetic.json"
_FILES = ("CT.nii.gz", "CTres.nii.gz", "SUV.nii.gz", "SEG.nii.gz")


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
        return content_key(_VERSION, self.index, asdict(self.settings), self.lesions)


def generate(
    output: Path,
    number: int,
    settings: PetCtSettings,
    *,
    workers: int | None = None,
    on_done: Callable[[str], None] | None = None,
) -> None:
    """Write ``number`` patients to ``output/PATIENT/STUDY/{CT,CTres,SUV,SEG}.nii.gz`` and ``index.csv``.

    Patients that these very settings have made already are left as they are.

    Raises:
        UsageError: the folder holds synthetic patients of another seed.
        MachineError: the disk is full or may not be written.
    """
    order = generator(settings.seed, "negatives", number).permutation(number)
    negative = set(order[: round(number * settings.negatives)].tolist())
    tasks = [_Task(index, settings, index not in negative, output) for index in range(number)]
    _refuse_strangers(output, settings)
    rows = []
    for task, facts in map_cases(_make, tasks, workers=workers):
        if isinstance(facts, DataError):
            raise facts
        rows.append({"patient": task.id, "study": task.folder.name, **facts})
        if on_done is not None:
            on_done(task.id)
    text = io.StringIO()
    columns = ["patient", "study", "lesions", "lesion_ml", "prevalence"]
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(output / "index.csv", text.getvalue())


def write_patient(made: PetCtPatient, folder: Path) -> None:
    """The four files of a study, each whole or not at all; SUV as int16 in steps of 0.01."""
    write(made.ct, folder / "CT.nii.gz")
    write(made.ct_resampled, folder / "CTres.nii.gz")
    write(made.suv, folder / "SUV.nii.gz", scale=SUV_STEP)
    write(made.segmentation, folder / "SEG.nii.gz")


def _make(task: _Task) -> dict[str, object]:
    receipt = task.folder / _FACTS
    kept = _receipt(receipt)
    if kept.get("key") == task.key and all((task.folder / name).exists() for name in _FILES):
        return dict(kept["facts"])  # type: ignore[call-overload]
    made = patient(task.index, task.settings, lesions=task.lesions)
    receipt.unlink(missing_ok=True)
    write_patient(made, task.folder)
    write_json(receipt, {"key": task.key, "seed": task.settings.seed, "facts": made.facts})
    return made.facts


def _receipt(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _refuse_strangers(output: Path, settings: PetCtSettings) -> None:
    for path in sorted(output.glob(f"*/*/{_FACTS}")):
        seed = _receipt(path).get("seed", settings.seed)
        if seed != settings.seed:
            raise UsageError(
                "this folder holds synthetic patients of another seed",
                where=output,
                value=f"seed {seed}, now {settings.seed}",
                remedy="choose another folder, or remove that one",
            )
