"""``demo``: the whole road on generated PET/CT, in minutes on a laptop."""

from __future__ import annotations

from pathlib import Path

from segue.acquire import GetOptions, get
from segue.catalogue import load_card
from segue.core.console import say
from segue.evaluate import ClassEvaluation, Evaluation
from segue.prepare import Budget
from segue.synth import PetCtSettings
from segue.train import Run
from segue.workflow.experiment import Experiment
from segue.workflow.training import train

PATIENTS = 25
NEGATIVES = 0.2


def demo(data: Path, runs: Path, minutes: float) -> tuple[Run, list[Evaluation | ClassEvaluation]]:
    """Generate small synthetic PET/CT, then everything that ``segue train`` does."""
    card = load_card("synthetic/petct")
    root = data / "demo"
    get(card, root, GetOptions(number=PATIENTS, synthetic=PetCtSettings(size="small", negatives=NEGATIVES)))
    say(f"{PATIENTS} synthetic patients lie in {root}")
    return train(
        Experiment(
            dataset="synthetic/petct",
            data=data,
            root=root,
            output=runs / "demo",
            budget=Budget(minutes=minutes),
        )
    )


def create_synthetic_petct(
    output: Path = Path("data/synthetic"),
    num_patients: int = 10,
    size: str = "full",
    negatives: float = 0.0,
    seed: int = 0,
) -> None:
    """Generate synthetic PET/CT: PATIENT/STUDY/{CT,CTres,SUV,SEG}.nii.gz under the output folder."""
    settings = PetCtSettings(size=size, negatives=negatives, seed=seed)  # type: ignore[arg-type]
    dataset = get(load_card("synthetic/petct"), output, GetOptions(number=num_patients, synthetic=settings))
    say(f"{len(dataset.cases)} patients in {output}. Next: segue check {output}")
