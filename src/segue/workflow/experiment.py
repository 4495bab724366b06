"""The experiment: everything that a person may decide about one training, as one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from segue.catalogue import Card
from segue.core.addresses import address, is_address
from segue.core.config import Settings, merged, parse_assignments, read_yaml, validate
from segue.core.errors import UsageError
from segue.prepare import Budget, Network, PlanOverrides
from segue.train import TrainSettings

# Small images learn quickly: what a person waits for on a laptop, enough for the accuracy in benchmarks/README.md.
CLASS_MINUTES = 8.0
# And no more passes over a small set than this: later ones only learn it by heart.
CLASS_EPOCHS = 30


def _fold(value: Any) -> Any:
    text = str(value).strip()
    if text in ("cv", "none"):
        return text
    if isinstance(value, bool | float) or not (text.isascii() and text.isdigit()):
        raise ValueError(f"{value!r} is no fold: give a number from 0, cv (every fold), or none (every case trains)")
    return int(text)


# The fold that validates; ``cv``: every fold in its turn; ``none``: every case trains, nothing validates.
Fold = Annotated[int | Literal["cv", "none"], BeforeValidator(_fold)]


class Experiment(Settings):
    """One training, from the dataset's name to the run folder.

    Attributes:
        dataset: a name of the catalogue, the path of a card (.yaml), a folder, or its address (``s3://...``).
        data: where datasets lie (``data/NAME``).
        root: where this dataset lies, if not there.
        output: the run folder (``runs/NAME`` if not given).
        memory: what a training may use at most, such as ``8GB`` (what is free, if not given); of a GPU, its memory.
        fold: the patient-grouped fold that validates; ``cv`` for all folds in one run folder, ``none`` to train on
            every case.
        splits: folds in place of the dataset's own: nnU-Net's ``splits_final.json``.
        cache: where prepared cases are kept (``DATA/prepared`` if not given).
        skip_bad: leave bad cases out instead of stopping.
    """

    dataset: str
    data: Path = Path("data")
    root: Path | None = None
    output: Path | None = None
    fold: Fold = 0
    splits: Path | None = None
    seed: int = Field(0, ge=0)
    budget: Budget = Budget()
    device: str = "auto"
    memory: str | float | None = None
    plan: PlanOverrides = PlanOverrides()
    network: Network = Network()
    train: TrainSettings = TrainSettings()
    skip_bad: bool = False
    workers: int | None = Field(None, ge=1)
    cache: Path | None = None

    @property
    def run_folder(self) -> Path:
        if self.output is not None:
            return self.output
        if is_address(self.dataset):
            place = address(self.dataset).place(Path())
            return Path("runs") / place.name
        path = Path(self.dataset)
        if path.suffix in (".yaml", ".yml"):
            return Path("runs") / path.stem
        return Path("runs") / (path.resolve().name if path.is_dir() else self.dataset.replace("/", "_"))

    def budget_for(self, task: str) -> Budget:
        """The budget, or the default of this kind of task."""
        return self.budget if self.budget.given or task != "classification" else Budget(minutes=CLASS_MINUTES)

    @property
    def cache_folder(self) -> Path:
        return self.cache or self.data / "prepared"


def load_experiment(
    reference: str, options: dict[str, Any] | None = None, assignments: Sequence[str] = ()
) -> Experiment:
    """An experiment from a dataset's name, a card, a folder, or an experiment's YAML.

    ``options`` (flags of the command line) and then ``assignments`` (``--set a.b=c``) win over the file.

    Raises:
        UsageError: a file that is neither an experiment nor a card, an unknown key, a value out of range.
    """
    over = merged(options or {}, parse_assignments(assignments))
    path = Path(reference)
    if reference.endswith((".yaml", ".yml")):
        content, lines = read_yaml(path)
        if "dataset" in content or not content.keys() & Card.model_fields.keys() - Experiment.model_fields.keys():
            if "budget" in over:
                # Another kind of budget on the command line replaces the file's, instead of standing beside it.
                content = {**content, "budget": {}}
            return validate(Experiment, merged(content, over), source=path, lines=lines)
    return validate(Experiment, merged({"dataset": reference}, over), source="command line")


def difference(old: dict[str, Any], new: Experiment) -> str | None:
    """The first setting that makes two experiments different trainings; None when one continues the other.

    ``old`` is the ``config.yaml`` of a run, in which the path of the split file is absolute.
    """
    now = new.model_dump(mode="json")
    now["splits"] = None if new.splits is None else str(new.splits.resolve())
    for name in ("dataset", "fold", "splits", "seed", "budget", "plan", "network", "train"):
        text = _first_difference(name, old.get(name), now[name])
        if text:
            return text
    return None


def _first_difference(name: str, old: Any, new: Any) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            text = _first_difference(f"{name}.{key}", old.get(key), new.get(key))
            if text:
                return text
        return None
    return None if old == new else f"{name} was {old}, now {new}"


def budget_options(minutes: float | None, hours: float | None, epochs: int | None, steps: int | None) -> dict[str, Any]:
    """The ``budget`` part of the options, empty when no flag was given."""
    given = {
        name: value
        for name, value in (("minutes", minutes), ("hours", hours), ("epochs", epochs), ("steps", steps))
        if value is not None
    }
    if len(given) > 1:
        raise UsageError("give one budget only", where=" ".join(f"--{name}" for name in given))
    return {"budget": given} if given else {}
