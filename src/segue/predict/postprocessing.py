"""What is done to a predicted mask before it is written: components that cost more than they bring are removed."""

from __future__ import annotations

from segue.core.config import Settings, validate
from segue.metrics import CONNECTIVITY, ComponentRule
from segue.train import Run


class Trial(Settings):
    """A rule tried on the cross-validated predictions of one label.

    Attributes:
        dice_before: mean Dice over patients; both masks empty counts as 1, so that a removed invention is a gain.
        dice_after: the same with the rule.
        gain: mean over patients of the difference.
        ci95: of the gain, paired bootstrap over patients.
    """

    rule: ComponentRule
    dice_before: float
    dice_after: float
    gain: float
    ci95: tuple[float, float] | None


class LabelChoice(Settings):
    """What was tried for one label, and what was chosen, if anything."""

    number: int
    name: str
    patients: int
    chosen: ComponentRule | None
    tried: list[Trial]


class PostProcessing(Settings):
    """``postprocessing.json``: chosen on the cross-validated predictions of ``members``."""

    chosen_when: str
    connectivity: int = CONNECTIVITY
    members: list[str]
    labels: list[LabelChoice]

    @property
    def rules(self) -> dict[int, ComponentRule]:
        """The rule of each label that has one."""
        return {choice.number: choice.chosen for choice in self.labels if choice.chosen is not None}


def read_postprocessing(run: Run) -> PostProcessing | None:
    """Raises:
    DataError, UsageError: the file is damaged.
    """
    if not run.postprocessing.exists():
        return None
    return validate(PostProcessing, run.json(run.postprocessing.name), source=run.postprocessing)
