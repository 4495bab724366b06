"""Every set of MedMNIST and MedSegBench: from an archive of its layout to a plan and a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segue.acquire import GetOptions, get
from segue.catalogue import card_names, resolve, split_cases
from segue.prepare import Measured, Plan
from segue.train import measure
from segue.workflow import fitting
from segue.workflow.experiment import Experiment
from segue.workflow.planning import brought, make_plan

NAMES = [name for name in card_names() if name.startswith(("medmnist/", "medsegbench/"))]


_MEASURED: dict[str, Measured] = {}


@pytest.fixture(autouse=True)
def measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of other sets that are the same to the last number have been tried before: one measurement for all."""

    def once(made: Plan, *settings: Any) -> Measured:
        key = made.model_dump_json(exclude={"dataset", "labels", "classes", "reasons", "channels"})
        key += f"{settings} {len(made.labels)} {len(made.classes or ())} {len(made.channels)}"
        if key not in _MEASURED:
            _MEASURED[key] = measure(made, *settings)
        return _MEASURED[key]

    monkeypatch.setattr(fitting, "measure", once)


def test_there_are_so_many() -> None:
    assert len(NAMES) == 18 + 35


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_looked_at_and_planned(name: str, tmp_path: Path) -> None:
    card, root = resolve(name, tmp_path)
    get(card, root, GetOptions(look_alike=3))
    wanted = Experiment(dataset=name, data=tmp_path)
    planned = make_plan(wanted, brought(wanted))
    split = split_cases(planned.dataset, 0)
    assert not planned.left_out
    assert planned.plan.task == card.task
    assert planned.plan.dimension == card.dimension
    assert planned.plan.patch[:2] == (card.size, card.size)
    assert min(len(split.train), len(split.val), len(split.test)) >= 3
    if card.task == "classification":
        assert sum(planned.facts.class_counts.values()) >= 3
    else:
        assert 0 < planned.facts.foreground_part < 1
