"""Run folders that somebody sends: damaged ones end in one readable error, and nothing in them is executed."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from segue.core.errors import DataError, UsageError
from segue.train import load_checkpoint
from segue.train.network import _own_network

HERE = Path(__file__).parent


class Bomb:
    """What runs when a pickle of it is loaded."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("how", ["pickle", "torch", "legacy"])
def test_a_pickle_in_a_checkpoint_is_refused_and_not_executed(tmp_path: Path, how: str) -> None:
    proof, path = tmp_path / "executed", tmp_path / "best.pt"
    content = {"format": 1, "network": Bomb(proof)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(DataError, match="the checkpoint is damaged"):
        load_checkpoint(path)
    assert not proof.exists()


def test_a_plan_cannot_call_what_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not a torch\.nn\.Module"):
        _own_network("os:mkdir", 1, 2, {"path": str(tmp_path / "executed")})
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_a_damaged_run_folder_is_read_or_refused() -> None:
    """One wrong value, or wrong bytes, in any file of it: no traceback, no hang, no more than 4 GB."""
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzzing_runs.py"), "20261125", "30"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    codes = {int(code): count for code, count in json.loads(done.stdout).items()}
    assert sum(codes.values()) == 30
    assert set(codes) <= {0, 2, 3, 4}
    assert codes.get(3, 0) >= 3
